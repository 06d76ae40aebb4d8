//! The annotated function: taken apart as far as the macros need it, and checked.

use crate::keys::Errors;
use proc_macro2::{Delimiter, Group, TokenStream};
use quote::{ToTokens, quote};
use syn::parse::{Parse, ParseStream};
use syn::{
    AttrStyle, Attribute, Expr, ExprLit, FnArg, Lit, LitStr, Meta, ReturnType, Signature, Type, TypeGroup,
    TypeParen, Visibility,
};

/// An `async fn`. The body stays unparsed: the compiler reads it anyway, and its messages about a
/// mistake in there are better than syn's.
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) body: Group,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Function> {
        let mut attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let signature = input.parse()?;
        let body: Group = input.parse()?;
        if body.delimiter() != Delimiter::Brace {
            return Err(syn::Error::new(body.span(), "expected the body of the function in braces"));
        }
        if !input.is_empty() {
            return Err(input.error("expected nothing after the function"));
        }
        let body = lift_inner_attributes(body, &mut attributes)?;
        Ok(Function { attributes, visibility, signature, body })
    }
}

/// `#![allow(...)]` at the head of the body becomes `#[allow(...)]` on the function, as it would lose
/// its place when the function is wrapped.
fn lift_inner_attributes(body: Group, attributes: &mut Vec<Attribute>) -> syn::Result<Group> {
    let split = |input: ParseStream<'_>| Ok((input.call(Attribute::parse_inner)?, input.parse()?));
    let (inner, rest): (Vec<Attribute>, TokenStream) = syn::parse::Parser::parse2(split, body.stream())?;
    attributes.extend(inner.into_iter().map(|attribute| Attribute { style: AttrStyle::Outer, ..attribute }));
    let mut stripped = Group::new(Delimiter::Brace, rest);
    stripped.set_span(body.span());
    Ok(stripped)
}

impl Function {
    /// Whether the function returns `()`, said or unsaid.
    pub(crate) fn returns_unit(&self) -> bool {
        match &self.signature.output {
            ReturnType::Default => true,
            ReturnType::Type(_, output) => matches!(&**output, Type::Tuple(tuple) if tuple.elems.is_empty()),
        }
    }

    /// What `#[should_panic]` asks for: the outer `Some` says that it is there, the inner one holds
    /// its `expected` text.
    pub(crate) fn should_panic(&self) -> Option<Option<LitStr>> {
        let attribute = self.attributes.iter().find(|attribute| attribute.path().is_ident("should_panic"))?;
        Some(match &attribute.meta {
            Meta::Path(_) => None,
            Meta::NameValue(pair) => text(&pair.value).cloned(),
            Meta::List(list) => {
                let pair: syn::Result<syn::MetaNameValue> = list.parse_args();
                pair.ok().and_then(|pair| text(&pair.value).cloned())
            }
        })
    }

    /// Checks the signature. `has_cores` allows one argument.
    pub(crate) fn check(&self, has_cores: bool, errors: &mut Errors) {
        let signature = &self.signature;
        let name = &signature.ident;
        if signature.asyncness.is_none() {
            errors.at(signature.fn_token.span, format!("expected an `async fn`: write `async fn {name}`"));
        }
        let mut refuse = |what: &str, found: Option<&dyn ToTokens>| {
            if let Some(found) = found {
                let message = format!("`{name}` cannot be {what}, as the runtime calls it");
                errors.push(syn::Error::new_spanned(found.to_token_stream(), message));
            }
        };
        let generics = &signature.generics;
        refuse("`const`", signature.constness.as_ref().map(|found| found as _));
        refuse("`unsafe`", signature.unsafety.as_ref().map(|found| found as _));
        refuse("`extern`", signature.abi.as_ref().map(|found| found as _));
        refuse("generic", (!generics.params.is_empty()).then_some(generics as _));
        refuse("bounded with `where`", generics.where_clause.as_ref().map(|found| found as _));
        refuse("variadic", signature.variadic.as_ref().map(|found| found as _));
        self.check_arguments(has_cores, errors);
    }

    fn check_arguments(&self, has_cores: bool, errors: &mut Errors) {
        let name = &self.signature.ident;
        if let Some(first) = self.signature.inputs.first().filter(|first| has_cores && !is_usize(first)) {
            let message = format!("the argument of `{name}` is the index of its core: write `core: usize`");
            errors.push(syn::Error::new_spanned(first, message));
        }
        let surplus: Vec<_> = self.signature.inputs.iter().skip(usize::from(has_cores)).collect();
        if surplus.is_empty() {
            return;
        }
        let rule = if has_cores {
            format!("`{name}` takes at most one argument, the index of its core: `core: usize`")
        } else {
            format!(
                "`{name}` takes no argument; with the key `cores` it may take the index of its core: `core: usize`"
            )
        };
        errors.push(syn::Error::new_spanned(quote!(#(#surplus),*), rule));
    }

    /// Finds and removes attributes that make a test already. Two of them would run it twice, or
    /// expand the function a second time.
    pub(crate) fn remove_test_attributes(&mut self, errors: &mut Errors) {
        self.attributes.retain(|attribute| {
            let is_test = attribute.path().segments.last().is_some_and(|last| last.ident == "test");
            if is_test {
                errors.push(syn::Error::new_spanned(
                    attribute,
                    "a second attribute that makes this a test; `#[demikernel::test]` alone does",
                ));
            }
            !is_test
        });
    }
}

fn is_usize(argument: &FnArg) -> bool {
    let FnArg::Typed(argument) = argument else { return false };
    let mut ty = &*argument.ty;
    // The type may come through a `macro_rules!` macro, in invisible delimiters.
    while let Type::Group(TypeGroup { elem, .. }) | Type::Paren(TypeParen { elem, .. }) = ty {
        ty = elem;
    }
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "usize"))
}

fn text(value: &Expr) -> Option<&LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(item: TokenStream) -> Function {
        syn::parse2(item).unwrap()
    }

    fn check(item: TokenStream, has_cores: bool) -> Vec<String> {
        let mut errors = Errors::default();
        parse(item).check(has_cores, &mut errors);
        errors.messages()
    }

    #[test]
    fn a_plain_async_function_passes() {
        for item in [
            quote!(
                async fn main() {}
            ),
            quote!(
                pub(crate) async fn main() -> Result<(), Error> {
                    Ok(())
                }
            ),
            quote!(
                #[allow(unused)]
                /** Text. */
                async fn main() -> impl Termination {}
            ),
        ] {
            assert_eq!(check(item, false), [""; 0]);
        }
    }

    #[test]
    fn what_the_runtime_cannot_call_is_refused() {
        for (item, message) in [
            (
                quote!(
                    fn main() {}
                ),
                "expected an `async fn`: write `async fn main`",
            ),
            (
                quote!(
                    const async fn main() {}
                ),
                "`main` cannot be `const`, as the runtime calls it",
            ),
            (
                quote!(
                    async unsafe fn main() {}
                ),
                "`main` cannot be `unsafe`, as the runtime calls it",
            ),
            (
                quote!(
                    async extern "C" fn main() {}
                ),
                "`main` cannot be `extern`, as the runtime calls it",
            ),
            (
                quote!(
                    async fn main<T>() {}
                ),
                "`main` cannot be generic, as the runtime calls it",
            ),
            (
                quote!(
                    async fn main()
                    where
                        u8: Copy,
                    {
                    }
                ),
                "`main` cannot be bounded with `where`, as the runtime calls it",
            ),
        ] {
            assert_eq!(check(item, false), [message]);
        }
        assert_eq!(
            check(
                quote!(
                    unsafe extern "C" fn main<T>(x: T)
                    where
                        T: Copy,
                    {
                    }
                ),
                false
            )
            .len(),
            6
        );
    }

    #[test]
    fn an_argument_needs_cores() {
        let one = quote!(
            async fn main(core: usize) {}
        );
        let two = quote!(
            async fn main(core: usize, cores: usize) {}
        );
        assert_eq!(check(one.clone(), true), [""; 0]);
        assert!(check(one, false)[0].starts_with("`main` takes no argument; with the key `cores`"));
        assert!(check(two.clone(), true)[0].starts_with("`main` takes at most one argument"));
        assert_eq!(check(two, false).len(), 1);
        assert_eq!(
            check(
                quote!(
                    async fn main(mut core: std::primitive::usize) {}
                ),
                true
            ),
            [""; 0]
        );
        for wrong in [quote!(core: u8), quote!(core: &usize), quote!(core: impl Into<usize>), quote!(self)] {
            let message = "the argument of `main` is the index of its core: write `core: usize`";
            assert_eq!(check(quote!(async fn main(#wrong) {}), true), [message]);
        }
    }

    #[test]
    fn only_a_function_with_a_body_parses() {
        for item in [
            quote!(
                struct Main;
            ),
            quote!(
                async fn main();
            ),
            quote!(async fn main() [ 1 ]),
            quote!(
                async fn main() {}
                struct More;
            ),
            quote!(),
        ] {
            assert!(syn::parse2::<Function>(item).is_err());
        }
    }

    #[test]
    fn a_body_that_does_not_parse_is_left_to_the_compiler() {
        assert_eq!(
            parse(quote!(async fn main() { let = ; })).body.to_string(),
            quote!({ let = ; }).to_string()
        );
    }

    #[test]
    fn inner_attributes_move_to_the_function() {
        let function = parse(quote!(
            #[a]
            async fn main() {
                #![b]
                #![c]
                work()
            }
        ));
        let attributes = &function.attributes;
        assert_eq!(quote!(#(#attributes)*).to_string(), quote!(#[a] #[b] #[c]).to_string());
        assert_eq!(function.body.to_string(), quote!({ work() }).to_string());
    }

    #[test]
    fn should_panic_is_seen_in_its_three_forms() {
        let expected = |attribute: TokenStream| {
            let found = parse(quote!(#attribute async fn t() {})).should_panic();
            found.map(|text| text.map(|text| text.value()))
        };
        assert_eq!(expected(quote!()), None);
        assert_eq!(expected(quote!(#[ignore])), None);
        assert_eq!(expected(quote!(#[should_panic])), Some(None));
        assert_eq!(expected(quote!(#[should_panic = "x"])), Some(Some("x".into())));
        assert_eq!(expected(quote!(#[should_panic(expected = "x")])), Some(Some("x".into())));
    }

    #[test]
    fn the_unit_type_is_recognized() {
        assert!(
            parse(quote!(
                async fn t() {}
            ))
            .returns_unit()
        );
        assert!(
            parse(quote!(
                async fn t() -> () {}
            ))
            .returns_unit()
        );
        assert!(
            !parse(quote!(
                async fn t() -> Result<(), E> {}
            ))
            .returns_unit()
        );
    }
}
