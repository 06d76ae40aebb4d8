//! What may stand after `=`, and what it means.

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use syn::{Error, Lit, LitInt, LitStr, Path, Result};

/// Transports that some build of demikernel has. Which of them this build has is known at run time
/// only, since features are the facade's.
const TRANSPORTS: &[&str] =
    &["auto", "io_uring", "epoll", "memory", "sim", "tap", "packet", "dpdk", "xdp", "rdma"];

/// The same for storage.
const STORAGES: &[&str] = &["auto", "io_uring", "epoll", "memory", "sim", "nvme", "spdk"];

/// What else storage can be. A word alone is a name, so that a mistake in one is no path.
const DEVICES: &str = "a path with a slash or a dot such as \"./orders\", the address of an NVMe drive such as \
                       \"0000:5e:00.0/1\", \"spdk:ADDRESS\", or \"memory:64MiB\"";

/// The value of one key, before its type is known.
pub(crate) struct Value {
    tokens: TokenStream,
    kind: ValueKind,
}

enum ValueKind {
    Literal(Lit),
    Parenthesized(TokenStream),
    Other,
}

/// How many cores a program uses.
pub(crate) enum Cores {
    Count(LitInt),
    All,
    Expression(TokenStream),
}

/// What a core does when it has nothing to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    Spin,
    Block,
    Adaptive,
    AdaptiveFor { nanoseconds: u64 },
}

/// Which clock timers follow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Time {
    Real,
    Virtual,
}

impl Value {
    pub(crate) fn new(tokens: Vec<TokenTree>) -> Value {
        let kind = match &tokens[..] {
            [only] => ValueKind::of(only),
            _ => ValueKind::Other,
        };
        Value { tokens: tokens.into_iter().collect(), kind }
    }

    pub(crate) fn transport(self) -> Result<LitStr> {
        self.one_of("transport", TRANSPORTS)
    }

    pub(crate) fn storage(self) -> Result<LitStr> {
        let ValueKind::Literal(Lit::Str(text)) = &self.kind else {
            return Err(
                self.error(format!("`storage` takes a string, one of {}, or {DEVICES}", list(STORAGES)))
            );
        };
        let value = text.value();
        if let Some(size) = value.strip_prefix("memory:") {
            return match is_size(size) {
                true => Ok(text.clone()),
                false => {
                    Err(self.error(format!("\"{size}\" is no size; write for example \"memory:64MiB\"")))
                }
            };
        }
        if STORAGES.contains(&value.as_str()) || value.contains(['/', ':', '.']) {
            return Ok(text.clone());
        }
        Err(self.error(format!("unknown storage \"{value}\"; known are {}, and {DEVICES}", list(STORAGES))))
    }

    pub(crate) fn cores(self) -> Result<Cores> {
        let expected = "`cores` takes a number such as `cores = 4`, `cores = \"all\"`, or an expression in \
                        parentheses such as `cores = (CORES)`";
        match &self.kind {
            ValueKind::Parenthesized(inner) if !inner.is_empty() => Ok(Cores::Expression(inner.clone())),
            ValueKind::Literal(Lit::Str(text)) if text.value() == "all" => Ok(Cores::All),
            ValueKind::Literal(Lit::Int(number)) => {
                let count: usize = parse_int(number, "usize")?;
                match count {
                    0 => Err(Error::new(number.span(), "`cores` is at least 1")),
                    _ => Ok(Cores::Count(number.clone())),
                }
            }
            _ => Err(self.error(expected)),
        }
    }

    pub(crate) fn idle(self) -> Result<Idle> {
        let expected = "`idle` takes \"spin\", \"block\", \"adaptive\", or \"adaptive(50us)\" with a time in ns, us, ms or s";
        let ValueKind::Literal(Lit::Str(text)) = &self.kind else { return Err(self.error(expected)) };
        match text.value().as_str() {
            "spin" => Ok(Idle::Spin),
            "block" => Ok(Idle::Block),
            "adaptive" => Ok(Idle::Adaptive),
            other => match other.strip_prefix("adaptive(").and_then(|rest| rest.strip_suffix(')')) {
                Some(duration) => match nanoseconds(duration) {
                    Ok(nanoseconds) => Ok(Idle::AdaptiveFor { nanoseconds }),
                    Err(wrong) => Err(self.error(wrong)),
                },
                None => Err(self.error(expected)),
            },
        }
    }

    pub(crate) fn time(self) -> Result<Time> {
        let text = self.one_of("time", &["real", "virtual"])?;
        Ok(if text.value() == "virtual" { Time::Virtual } else { Time::Real })
    }

    pub(crate) fn seed(self) -> Result<u64> {
        match &self.kind {
            ValueKind::Literal(Lit::Int(number)) => parse_int(number, "u64"),
            _ => Err(self.error("`seed` takes an integer from 0 to 2^64 - 1, such as `seed = 7`")),
        }
    }

    pub(crate) fn seeds(self) -> Result<u64> {
        match &self.kind {
            ValueKind::Literal(Lit::Int(number)) => match parse_int(number, "u64")? {
                0 => Err(Error::new(number.span(), "`seeds` is at least 1")),
                count => Ok(count),
            },
            _ => Err(self.error("`seeds` takes how many seeds to run with, such as `seeds = 20`")),
        }
    }

    pub(crate) fn facade(self) -> Result<Path> {
        let expected =
            "`crate` takes the path of the crate demikernel as a string, such as `crate = \"::demikernel\"`";
        match &self.kind {
            ValueKind::Literal(Lit::Str(text)) => {
                text.parse_with(Path::parse_mod_style).map_err(|_| self.error(expected))
            }
            _ => Err(self.error(expected)),
        }
    }

    fn one_of(self, key: &str, known: &[&str]) -> Result<LitStr> {
        match &self.kind {
            ValueKind::Literal(Lit::Str(text)) if known.contains(&text.value().as_str()) => Ok(text.clone()),
            ValueKind::Literal(Lit::Str(text)) => {
                Err(self.error(format!("unknown {key} \"{}\"; known are {}", text.value(), list(known))))
            }
            _ => Err(self.error(format!("`{key}` takes a string, one of {}", list(known)))),
        }
    }

    fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::new_spanned(&self.tokens, message)
    }
}

impl ValueKind {
    fn of(token: &TokenTree) -> ValueKind {
        match token {
            TokenTree::Literal(literal) => ValueKind::Literal(Lit::new(literal.clone())),
            TokenTree::Group(group) => match group.delimiter() {
                Delimiter::Parenthesis => ValueKind::Parenthesized(group.stream()),
                Delimiter::None => ValueKind::of_fragment(group.stream()),
                Delimiter::Brace | Delimiter::Bracket => ValueKind::Other,
            },
            TokenTree::Ident(_) | TokenTree::Punct(_) => ValueKind::Other,
        }
    }

    /// `$value` of a `macro_rules!` macro arrives in invisible delimiters. If it is one token it is
    /// that token, else it is an expression as if in parentheses.
    fn of_fragment(stream: TokenStream) -> ValueKind {
        let mut tokens = stream.clone().into_iter();
        match (tokens.next(), tokens.next()) {
            (Some(TokenTree::Ident(_)), None) | (Some(_), Some(_)) => ValueKind::Parenthesized(stream),
            (Some(only), None) => ValueKind::of(&only),
            (None, _) => ValueKind::Other,
        }
    }
}

/// `` `a`, `b` or `c` `` for messages, quoted as the user has to write them.
fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn parse_int<T>(number: &LitInt, suffix: &str) -> Result<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    if number.suffix().is_empty() || number.suffix() == suffix {
        number
            .base10_parse()
            .map_err(|error| Error::new(number.span(), format!("expected a `{suffix}`: {error}")))
    } else {
        Err(Error::new(number.span(), format!("expected a `{suffix}`, found a `{}`", number.suffix())))
    }
}

/// Parses `50us`. The runtime's own parser of `Idle` accepts the same texts.
fn nanoseconds(text: &str) -> std::result::Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => {
            return Err(format!(
                "\"{text}\" is no time; write a whole number and ns, us, ms or s, as in \"50us\""
            ));
        }
    };
    if number.is_empty() {
        return Err(format!("\"{text}\" has a unit but no number; write for example \"50{unit}\""));
    }
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(scale))
        .ok_or_else(|| format!("\"{text}\" is longer than 584 years"))
}

/// Whether this is an amount of bytes. The configuration's own parser accepts the same texts.
fn is_size(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    number.parse::<u64>().is_ok() && ["", "B", "KiB", "MiB", "GiB", "TiB"].contains(&unit.trim_start())
}

/// The default of `crate`.
pub(crate) fn default_facade() -> Path {
    let demikernel = proc_macro2::Ident::new("demikernel", Span::call_site());
    syn::parse_quote!(::#demikernel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    fn value(tokens: TokenStream) -> Value {
        Value::new(tokens.into_iter().collect())
    }

    fn message<T>(result: Result<T>) -> String {
        result.err().expect("an error").to_string()
    }

    #[test]
    fn idle_is_a_name_or_a_time() {
        let idle = |text: &str| value(quote!(#text)).idle();
        assert_eq!(idle("spin").unwrap(), Idle::Spin);
        assert_eq!(idle("block").unwrap(), Idle::Block);
        assert_eq!(idle("adaptive").unwrap(), Idle::Adaptive);
        for (text, nanoseconds) in [
            ("adaptive(0ns)", 0),
            ("adaptive(7ns)", 7),
            ("adaptive(50us)", 50_000),
            ("adaptive(3ms)", 3_000_000),
            ("adaptive(2s)", 2_000_000_000),
            ("adaptive(18446744073709551615ns)", u64::MAX),
        ] {
            assert_eq!(idle(text).unwrap(), Idle::AdaptiveFor { nanoseconds }, "{text}");
        }
    }

    #[test]
    fn wrong_times_say_what_is_wrong() {
        let idle = |text: &str| message(value(quote!(#text)).idle());
        for text in [
            "adaptive()",
            "adaptive(5)",
            "adaptive(5 us)",
            "adaptive(-5us)",
            "adaptive(1.5ms)",
            "adaptive(5m)",
        ] {
            assert!(idle(text).contains("ns, us, ms or s"), "{text}: {}", idle(text));
        }
        assert!(idle("adaptive(us)").contains("no number"));
        assert!(idle("adaptive(18446744073709551616ns)").contains("longer than"));
        assert!(idle("adaptive(18446744074s)").contains("longer than"));
        for text in ["", "Spin", "adaptive(5us", "adaptive 5us", "blocking"] {
            assert!(idle(text).starts_with("`idle` takes"), "{text}: {}", idle(text));
        }
    }

    #[test]
    fn cores_is_a_number_all_or_an_expression() {
        assert!(matches!(value(quote!(4)).cores(), Ok(Cores::Count(n)) if n.base10_digits() == "4"));
        assert!(matches!(value(quote!(4usize)).cores(), Ok(Cores::Count(_))));
        assert!(matches!(value(quote!("all")).cores(), Ok(Cores::All)));
        assert!(
            matches!(value(quote!((N / 2))).cores(), Ok(Cores::Expression(e)) if e.to_string() == "N / 2")
        );
        assert!(message(value(quote!(0)).cores()).contains("at least 1"));
        assert!(message(value(quote!(4u8)).cores()).contains("found a `u8`"));
        for wrong in
            [quote!(-1), quote!("four"), quote!(N), quote!(()), quote!(1.5), quote!([1]), quote!(true)]
        {
            assert!(message(value(wrong).cores()).starts_with("`cores` takes"));
        }
    }

    #[test]
    fn fragments_of_macro_rules_are_seen_through() {
        let fragment = |stream| vec![TokenTree::from(proc_macro2::Group::new(Delimiter::None, stream))];
        assert_eq!(Value::new(fragment(quote!(7))).seed().unwrap(), 7);
        assert_eq!(Value::new(fragment(quote!("sim"))).transport().unwrap().value(), "sim");
        for expression in [quote!(CORES), quote!(a + b)] {
            assert!(matches!(Value::new(fragment(expression)).cores(), Ok(Cores::Expression(_))));
        }
        assert!(Value::new(fragment(quote!())).cores().is_err());
    }

    #[test]
    fn names_are_checked_against_the_list() {
        for name in TRANSPORTS {
            assert_eq!(value(quote!(#name)).transport().unwrap().value(), *name);
        }
        assert_eq!(
            message(value(quote!("uring")).transport()),
            "unknown transport \"uring\"; known are \"auto\", \"io_uring\", \"epoll\", \"memory\", \"sim\", \"tap\", \
             \"packet\", \"dpdk\", \"xdp\" and \"rdma\""
        );
        assert!(message(value(quote!(epoll)).transport()).starts_with("`transport` takes a string"));
        assert!(message(value(quote!("disk")).storage()).starts_with("unknown storage \"disk\""));
        assert_eq!(
            message(value(quote!("simulated")).time()),
            "unknown time \"simulated\"; known are \"real\" and \"virtual\""
        );
    }

    #[test]
    fn storage_is_a_name_or_a_device() {
        let storage = |text: &str| value(quote!(#text)).storage();
        let devices =
            ["./orders", "orders.log", "/dev/nvme0n1", "0000:5e:00.0/1", "spdk:5e:00.0", "memory:64MiB"];
        for text in STORAGES.iter().copied().chain(devices).chain(["memory:65536", "memory:1 GiB"]) {
            assert_eq!(storage(text).unwrap().value(), text);
        }
        let unknown = message(storage("orders"));
        assert!(
            unknown.starts_with("unknown storage \"orders\"; known are \"auto\", ")
                && unknown.contains("./orders")
        );
        for text in ["memory:", "memory:64M", "memory:-1", "memory:18446744073709551616"] {
            assert!(
                message(storage(text)).contains("is no size; write for example \"memory:64MiB\""),
                "{text}"
            );
        }
    }

    #[test]
    fn a_seed_has_64_bits() {
        assert_eq!(value(quote!(0xff)).seed().unwrap(), 255);
        assert_eq!(value(quote!(18446744073709551615)).seed().unwrap(), u64::MAX);
        let too_large = message(value(quote!(18446744073709551616)).seed());
        assert_eq!(too_large, "expected a `u64`: number too large to fit in target type");
        assert!(message(value(quote!(-1)).seed()).contains("from 0 to 2^64 - 1"));
        assert!(message(value(quote!("7")).seed()).contains("such as `seed = 7`"));
        assert!(message(value(quote!(7i32)).seed()).contains("found a `i32`"));
    }

    #[test]
    fn seeds_are_a_number_of_them() {
        assert_eq!(value(quote!(20)).seeds().unwrap(), 20);
        assert_eq!(message(value(quote!(0)).seeds()), "`seeds` is at least 1");
        assert!(message(value(quote!(0..20)).seeds()).contains("such as `seeds = 20`"));
        assert!(message(value(quote!("20")).seeds()).contains("such as `seeds = 20`"));
    }

    #[test]
    fn the_facade_is_a_path() {
        for path in ["dk", "::dk", "crate", "crate::inner::dk"] {
            assert!(value(quote!(#path)).facade().is_ok(), "{path}");
        }
        for wrong in [quote!(dk), quote!(""), quote!("dk::"), quote!("dk<u8>"), quote!(7)] {
            assert!(message(value(wrong).facade()).starts_with("`crate` takes the path"));
        }
    }
}
