//! What the annotated function becomes.
//!
//! The function itself is kept word for word, nested in a plain one of the same name:
//!
//! ```text
//! fn main() -> R {
//!     async fn main() -> R { body }
//!     ::demikernel::macros::main_one(::demikernel::Builder::new(), main)
//! }
//! ```
//!
//! With an async block instead, the compiler would have to infer its output through `block_on`, and
//! `?` or a wrong return type would be reported in terms of code that nobody wrote. This way every
//! message about body and return type is the one of an ordinary `async fn`.

use crate::function::Function;
use crate::keys::{Errors, Keys};
use crate::value::{Cores, Idle, Time};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::spanned::Spanned;
use syn::{ReturnType, Signature};

/// Which macro is expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Main,
    Test,
}

/// Expands one use of a macro. Never fails: errors are part of the result.
pub(crate) fn expand(kind: Kind, args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let keys = Keys::parse(kind, args, &mut errors);
    let mut function: Function = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            errors.push(error);
            return [errors.into_compile_errors(), Some(item)].into_iter().flatten().collect();
        }
    };
    function.check(keys.has_cores, &mut errors);
    if kind == Kind::Test {
        function.remove_test_attributes(&mut errors);
    }
    match errors.into_compile_errors() {
        Some(errors) => {
            let inert = inert(kind, function);
            quote!(#errors #inert)
        }
        None => match kind {
            Kind::Main => main(&keys, &function),
            Kind::Test => test(&keys, &function),
        },
    }
}

fn main(keys: &Keys, function: &Function) -> TokenStream {
    let facade = &keys.facade;
    let calls = calls(keys);
    let builder = quote!(#facade::Builder::new() #calls);
    if keys.has_cores {
        let each_core = each_core(function);
        let run = call(keys, function, "main_many", quote!(#builder, #each_core));
        wrap(function, quote!(), quote!(-> ::std::process::ExitCode), run)
    } else {
        let Signature { ident, output, .. } = &function.signature;
        let run = call(keys, function, "main_one", quote!(#builder, #ident));
        wrap(function, quote!(), quote!(#output), run)
    }
}

/// A test that returns `()` has to stay one, as `#[should_panic]` accepts no other. Any other type
/// becomes an `ExitCode`, into which the support code turns what the runs returned.
fn test(keys: &Keys, function: &Function) -> TokenStream {
    let facade = &keys.facade;
    let calls = calls(keys);
    let should_panic = match function.should_panic() {
        Some(Some(expected)) => quote!(.should_panic(#expected)),
        Some(None) => quote!(.should_panic("")),
        None => quote!(),
    };
    let config = quote!(#facade::macros::TestConfig::new() #calls #should_panic);
    let attribute = test_attribute();
    if keys.has_cores {
        let each_core = each_core(function);
        let run = call(keys, function, "test_many", quote!(#config, #each_core));
        return wrap(function, attribute, quote!(), run);
    }
    let name = &function.signature.ident;
    let run = call(keys, function, "test", quote!(#config, #name));
    if function.returns_unit() {
        wrap(function, attribute, quote!(), quote!(#run;))
    } else {
        wrap(function, attribute, quote!(-> ::std::process::ExitCode), run)
    }
}

/// What is left of the function after an error: its body is still checked, it counts as used, and
/// nothing refers to the facade or to the keys, so that no second error follows from the first.
fn inert(kind: Kind, mut function: Function) -> TokenStream {
    // With `async` it would be refused by the compiler as well.
    function.signature.constness = None;
    let attribute = if kind == Kind::Test { test_attribute() } else { quote!() };
    wrap(&function, quote!(#attribute #[allow(dead_code)]), quote!(), quote!())
}

fn wrap(function: &Function, attribute: TokenStream, output: TokenStream, run: TokenStream) -> TokenStream {
    let Function { attributes, visibility, signature, body } = function;
    let name = &signature.ident;
    // `unused_async`: that a test awaits nothing is no mistake, the macro wants it `async`.
    quote! {
        #attribute
        #(#attributes)*
        #visibility fn #name() #output {
            #[allow(clippy::unused_async)]
            #signature #body
            #run
        }
    }
}

/// By its full path: in a module with `use demikernel::test` a plain `#[test]` would be this macro.
fn test_attribute() -> TokenStream {
    quote!(#[::core::prelude::v1::test])
}

/// A call of the support code, reported at the return type: that is to blame if it is no `Termination`.
fn call(keys: &Keys, function: &Function, name: &str, arguments: TokenStream) -> TokenStream {
    let facade = &keys.facade;
    let name = Ident::new(name, Span::call_site());
    let call = quote!(#facade::macros::#name(#arguments));
    match &function.signature.output {
        ReturnType::Default => call,
        ReturnType::Type(_, output) => locate(call, output.span()),
    }
}

/// Lets messages about a call point at `place`, while its names still mean what they did and its
/// arguments are where they were.
fn locate(call: TokenStream, place: Span) -> TokenStream {
    let relocated = call.into_iter().map(|mut token| {
        token.set_span(token.span().located_at(place));
        token
    });
    relocated.collect()
}

/// The function that runs on each core, as one of the core's index.
fn each_core(function: &Function) -> TokenStream {
    let name = &function.signature.ident;
    if function.signature.inputs.is_empty() { quote!(|_: usize| #name()) } else { quote!(#name) }
}

/// The keys as calls of the methods of `Builder`, which `TestConfig` has as well.
fn calls(keys: &Keys) -> TokenStream {
    let facade = &keys.facade;
    let transport = keys.transport.as_ref().map(|name| quote!(.transport(#name)));
    let storage = keys.storage.as_ref().map(|name| quote!(.storage(#name)));
    let cores = keys.cores.as_ref().map(|cores| match cores {
        Cores::Count(count) => quote!(.cores(#count)),
        Cores::All => quote!(.cores(#facade::macros::all_cores())),
        Cores::Expression(expression) => quote!(.cores(#expression)),
    });
    let idle = keys.idle.as_ref().map(|idle| match idle {
        Idle::Spin => quote!(.idle(#facade::Idle::Spin)),
        Idle::Block => quote!(.idle(#facade::Idle::Block)),
        Idle::Adaptive => quote!(.idle(<#facade::Idle as ::core::default::Default>::default())),
        Idle::AdaptiveFor { nanoseconds } => {
            quote!(.idle(#facade::Idle::Adaptive(::core::time::Duration::from_nanos(#nanoseconds))))
        }
    });
    let time = keys.time.as_ref().map(|time| match time {
        Time::Real => quote!(.time(#facade::Time::Real)),
        Time::Virtual => quote!(.time(#facade::Time::Virtual)),
    });
    let seed = keys.seed.map(|seed| quote!(.seed(#seed)));
    let seeds = keys.seeds.map(|count| quote!(.seeds(#count)));
    quote!(#transport #storage #cores #idle #time #seed #seeds)
}

#[cfg(test)]
mod tests;
