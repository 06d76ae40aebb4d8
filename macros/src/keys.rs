//! The arguments of an attribute: `key = value, ...`, from a closed list of keys.

use crate::expand::Kind;
use crate::value::{Cores, Idle, Time, Value, default_facade};
use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use syn::{Error, LitStr, Path, Result};

const KEYS: &str = "`transport`, `storage`, `cores`, `idle`, `time`, `seed`, `seeds` and `crate`";

/// The keys that were given, with their values checked.
pub(crate) struct Keys {
    pub(crate) transport: Option<LitStr>,
    pub(crate) storage: Option<LitStr>,
    pub(crate) cores: Option<Cores>,
    pub(crate) idle: Option<Idle>,
    pub(crate) time: Option<Time>,
    pub(crate) seed: Option<u64>,
    pub(crate) seeds: Option<u64>,
    pub(crate) facade: Path,
    /// Whether `cores` was given at all, also with a wrong value: it decides which arguments the
    /// function may take, and one mistake is to be one error.
    pub(crate) has_cores: bool,
}

/// Errors found so far, to be reported together.
#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    pub(crate) fn push(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }

    pub(crate) fn at(&mut self, span: Span, message: impl std::fmt::Display) {
        self.push(Error::new(span, message));
    }

    pub(crate) fn into_compile_errors(self) -> Option<TokenStream> {
        self.0.map(Error::into_compile_error)
    }

    #[cfg(test)]
    pub(crate) fn messages(self) -> Vec<String> {
        self.0.into_iter().flatten().map(|error| error.to_string()).collect()
    }

    fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }
}

impl Keys {
    /// Reads all arguments; what is wrong goes to `errors` and is left out of the result.
    pub(crate) fn parse(kind: Kind, args: TokenStream, errors: &mut Errors) -> Keys {
        let mut keys = Keys {
            transport: None,
            storage: None,
            cores: None,
            idle: None,
            time: None,
            seed: None,
            seeds: None,
            facade: default_facade(),
            has_cores: false,
        };
        let mut seen = Vec::new();
        for argument in split_at_commas(args) {
            keys.argument(argument, &mut seen, errors);
        }
        keys.check_clock(&seen, errors);
        if let Some(seeds) = seen.iter().find(|key| kind == Kind::Main && *key == "seeds") {
            errors.at(seeds.span(), "`seeds` is for tests, as a program runs once: write `seed`");
        }
        keys
    }

    /// Runtimes of several cores share nothing, so each would have a virtual time of its own: one
    /// that waits for another would jump ahead of it.
    fn check_clock(&self, seen: &[Ident], errors: &mut Errors) {
        let one_core = match &self.cores {
            None => true,
            Some(Cores::Count(count)) => count.base10_digits() == "1",
            Some(Cores::All | Cores::Expression(_)) => false,
        };
        if self.time == Some(Time::Virtual) && !one_core {
            let time = seen.iter().find(|key| *key == "time").expect("it has a value, so it was given");
            errors.at(time.span(), "virtual time is of one core: leave out `cores` or `time`");
        }
    }

    fn argument(&mut self, argument: Argument, seen: &mut Vec<Ident>, errors: &mut Errors) {
        let mut tokens = argument.tokens.into_iter();
        let key = match tokens.next() {
            Some(TokenTree::Ident(key)) => key,
            Some(other) => {
                return errors
                    .push(Error::new_spanned(other, format!("expected a key; the keys are {KEYS}")));
            }
            None => {
                return argument
                    .comma
                    .into_iter()
                    .for_each(|comma| errors.at(comma, "expected a key before this comma"));
            }
        };
        let name = key.to_string();
        if !is_key(&name) {
            return errors.at(key.span(), format!("unknown key `{name}`; the keys are {KEYS}"));
        }
        self.has_cores |= name == "cores";
        if seen.contains(&key) {
            return errors.at(key.span(), format!("the key `{name}` is given twice"));
        }
        match tokens.next() {
            Some(TokenTree::Punct(punct)) if punct.as_char() == '=' => {}
            _ => return errors.at(key.span(), format!("expected a value: `{name} = ...`")),
        }
        let value: Vec<TokenTree> = tokens.collect();
        if value.is_empty() {
            return errors.at(key.span(), format!("expected a value after `{name} =`"));
        }
        self.set(&name, Value::new(value), errors);
        seen.push(key);
    }

    fn set(&mut self, name: &str, value: Value, errors: &mut Errors) {
        match name {
            "transport" => self.transport = errors.keep(value.transport()),
            "storage" => self.storage = errors.keep(value.storage()),
            "cores" => self.cores = errors.keep(value.cores()),
            "idle" => self.idle = errors.keep(value.idle()),
            "time" => self.time = errors.keep(value.time()),
            "seed" => self.seed = errors.keep(value.seed()),
            "seeds" => self.seeds = errors.keep(value.seeds()),
            _ => self.facade = errors.keep(value.facade()).unwrap_or_else(default_facade),
        }
    }
}

fn is_key(name: &str) -> bool {
    matches!(name, "transport" | "storage" | "cores" | "idle" | "time" | "seed" | "seeds" | "crate")
}

/// The tokens of one argument, and the comma after it.
#[derive(Default)]
struct Argument {
    tokens: Vec<TokenTree>,
    comma: Option<Span>,
}

/// Splits at the commas that are not inside of delimiters, so that a mistake in one argument leaves
/// the others readable. What follows the last comma may be empty, as everywhere in Rust.
fn split_at_commas(args: TokenStream) -> Vec<Argument> {
    let mut arguments = Vec::new();
    let mut argument = Argument::default();
    for token in args {
        match &token {
            TokenTree::Punct(punct) if punct.as_char() == ',' => {
                argument.comma = Some(punct.span());
                arguments.push(std::mem::take(&mut argument));
            }
            _ => argument.tokens.push(token),
        }
    }
    arguments.push(argument);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    fn parse(args: TokenStream) -> (Keys, Vec<String>) {
        let mut errors = Errors::default();
        let keys = Keys::parse(Kind::Test, args, &mut errors);
        (keys, errors.messages())
    }

    #[test]
    fn every_key_is_read() {
        let (keys, errors) = parse(quote! {
            transport = "epoll", storage = "epoll", cores = 2, idle = "adaptive(50us)", time = "real",
            seed = 7, seeds = 20, crate = "dk",
        });
        assert_eq!(errors, [""; 0]);
        assert_eq!(keys.transport.unwrap().value(), "epoll");
        assert_eq!(keys.storage.unwrap().value(), "epoll");
        assert!(matches!(keys.cores, Some(Cores::Count(_))));
        assert_eq!(keys.idle, Some(Idle::AdaptiveFor { nanoseconds: 50_000 }));
        assert_eq!(keys.time, Some(Time::Real));
        assert_eq!((keys.seed, keys.seeds), (Some(7), Some(20)));
        assert!(keys.facade.is_ident("dk"));
    }

    #[test]
    fn no_key_is_required() {
        let (keys, errors) = parse(quote!());
        assert_eq!(errors, [""; 0]);
        assert!(keys.transport.is_none() && keys.cores.is_none() && !keys.has_cores);
        assert!(keys.facade.leading_colon.is_some());
        assert_eq!(keys.facade.segments.len(), 1);
    }

    #[test]
    fn all_mistakes_are_reported_and_the_rest_is_read() {
        let (keys, errors) = parse(quote! {
            transprot = "epoll", seed = 7, seed = 8, "sim", idle, time =, storage("sim"), cores = none, , 7 = 7
        });
        assert_eq!(
            errors,
            [
                "unknown key `transprot`; the keys are `transport`, `storage`, `cores`, `idle`, `time`, `seed`, \
                 `seeds` and `crate`",
                "the key `seed` is given twice",
                "expected a key; the keys are `transport`, `storage`, `cores`, `idle`, `time`, `seed`, `seeds` and `crate`",
                "expected a value: `idle = ...`",
                "expected a value after `time =`",
                "expected a value: `storage = ...`",
                "`cores` takes a number such as `cores = 4`, `cores = \"all\"`, or an expression in parentheses \
                 such as `cores = (CORES)`",
                "expected a key before this comma",
                "expected a key; the keys are `transport`, `storage`, `cores`, `idle`, `time`, `seed`, `seeds` and `crate`",
            ]
        );
        assert_eq!(keys.seed, Some(7), "the first one");
        assert!(keys.has_cores && keys.cores.is_none());
    }

    #[test]
    fn virtual_time_is_of_one_core() {
        for (args, count) in [
            (quote!(time = "virtual"), 0),
            (quote!(time = "virtual", cores = 1), 0),
            (quote!(time = "real", cores = 2), 0),
            (quote!(time = "virtual", cores = 2), 1),
            (quote!(cores = "all", time = "virtual"), 1),
            (quote!(cores = (N), time = "virtual"), 1),
        ] {
            assert_eq!(parse(args).1.len(), count);
        }
    }

    #[test]
    fn a_program_runs_with_one_seed() {
        let mut errors = Errors::default();
        Keys::parse(Kind::Main, quote!(seeds = 20), &mut errors);
        assert_eq!(errors.messages(), ["`seeds` is for tests, as a program runs once: write `seed`"]);
    }

    #[test]
    fn commas_inside_of_an_expression_do_not_split() {
        let (keys, errors) = parse(quote!(cores = (usize::max(1, N)), seed = 1));
        assert_eq!(errors, [""; 0]);
        assert!(matches!(keys.cores, Some(Cores::Expression(_))));
        assert_eq!(keys.seed, Some(1));
    }
}
