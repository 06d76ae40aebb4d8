//! Each test shows one expansion in full.

use super::*;

#[track_caller]
fn check(kind: Kind, args: TokenStream, item: TokenStream, expected: TokenStream) {
    assert_eq!(expand(kind, args, item).to_string(), expected.to_string());
}

#[test]
fn main_on_one_core() {
    check(
        Kind::Main,
        quote!(),
        quote! {
            /// Runs.
            pub async fn main() -> std::io::Result<()> { work().await }
        },
        quote! {
            /// Runs.
            pub fn main() -> std::io::Result<()> {
                #[allow(clippy::unused_async)]
                async fn main() -> std::io::Result<()> { work().await }
                ::demikernel::macros::main_one(::demikernel::Builder::new(), main)
            }
        },
    );
}

#[test]
fn main_on_many_cores() {
    check(
        Kind::Main,
        quote!(cores = 4),
        quote!(
            async fn main() {}
        ),
        quote! {
            fn main() -> ::std::process::ExitCode {
                #[allow(clippy::unused_async)]
                async fn main() {}
                ::demikernel::macros::main_many(::demikernel::Builder::new().cores(4), |_: usize| main())
            }
        },
    );
}

#[test]
fn main_on_many_cores_with_its_index() {
    check(
        Kind::Main,
        quote!(cores = "all"),
        quote!(
            async fn main(core: usize) -> Result<(), Error> {
                serve(core).await
            }
        ),
        quote! {
            fn main() -> ::std::process::ExitCode {
                #[allow(clippy::unused_async)]
                async fn main(core: usize) -> Result<(), Error> { serve(core).await }
                ::demikernel::macros::main_many(
                    ::demikernel::Builder::new().cores(::demikernel::macros::all_cores()),
                    main
                )
            }
        },
    );
}

#[test]
fn every_key_becomes_a_call() {
    check(
        Kind::Main,
        quote! {
            seed = 7, time = "real", idle = "adaptive(50us)", cores = (N), storage = "sim", transport = "epoll",
            crate = "crate::dk"
        },
        quote!(
            async fn main() {}
        ),
        quote! {
            fn main() -> ::std::process::ExitCode {
                #[allow(clippy::unused_async)]
                async fn main() {}
                crate::dk::macros::main_many(
                    crate::dk::Builder::new()
                        .transport("epoll")
                        .storage("sim")
                        .cores(N)
                        .idle(crate::dk::Idle::Adaptive(::core::time::Duration::from_nanos(50000u64)))
                        .time(crate::dk::Time::Real)
                        .seed(7u64),
                    |_: usize| main()
                )
            }
        },
    );
}

#[test]
fn a_test_with_many_seeds() {
    check(
        Kind::Test,
        quote!(transport = "sim", seeds = 20),
        quote!(
            async fn works() {}
        ),
        quote! {
            #[::core::prelude::v1::test]
            fn works() {
                #[allow(clippy::unused_async)]
                async fn works() {}
                ::demikernel::macros::test(
                    ::demikernel::macros::TestConfig::new().transport("sim").seeds(20u64),
                    works
                );
            }
        },
    );
}

#[test]
fn idle_by_name() {
    for (name, expected) in [
        ("spin", quote!(.idle(::demikernel::Idle::Spin))),
        ("block", quote!(.idle(::demikernel::Idle::Block))),
        ("adaptive", quote!(.idle(<::demikernel::Idle as ::core::default::Default>::default()))),
    ] {
        let expanded = expand(
            Kind::Main,
            quote!(idle = #name),
            quote!(
                async fn main() {}
            ),
        )
        .to_string();
        assert!(expanded.contains(&expected.to_string()), "{expanded}");
    }
}

#[test]
fn a_test_without_output() {
    check(
        Kind::Test,
        quote!(time = "virtual", seed = 7),
        quote! {
            #[ignore]
            async fn naps() { nap().await }
        },
        quote! {
            #[::core::prelude::v1::test]
            #[ignore]
            fn naps() {
                #[allow(clippy::unused_async)]
                async fn naps() { nap().await }
                ::demikernel::macros::test(
                    ::demikernel::macros::TestConfig::new().time(::demikernel::Time::Virtual).seed(7u64),
                    naps
                );
            }
        },
    );
}

#[test]
fn a_test_with_output() {
    check(
        Kind::Test,
        quote!(),
        quote!(
            async fn works() -> Result<(), Error> {
                Ok(())
            }
        ),
        quote! {
            #[::core::prelude::v1::test]
            fn works() -> ::std::process::ExitCode {
                #[allow(clippy::unused_async)]
                async fn works() -> Result<(), Error> { Ok(()) }
                ::demikernel::macros::test(::demikernel::macros::TestConfig::new(), works)
            }
        },
    );
}

#[test]
fn a_test_that_panics_on_many_cores() {
    check(
        Kind::Test,
        quote!(cores = 2),
        quote! {
            #[should_panic(expected = "no")]
            async fn fails(core: usize) { panic!("no") }
        },
        quote! {
            #[::core::prelude::v1::test]
            #[should_panic(expected = "no")]
            fn fails() {
                #[allow(clippy::unused_async)]
                async fn fails(core: usize) { panic!("no") }
                ::demikernel::macros::test_many(
                    ::demikernel::macros::TestConfig::new().cores(2).should_panic("no"),
                    fails
                )
            }
        },
    );
}

#[test]
fn after_an_error_the_function_is_still_there() {
    check(
        Kind::Test,
        quote!(sede = 7),
        quote!(
            #[test]
            async fn works(x: u8) -> Result<(), Error> {
                Ok(())
            }
        ),
        quote! {
            ::core::compile_error! {
                "unknown key `sede`; the keys are `transport`, `storage`, `cores`, `idle`, `time`, `seed`, `seeds` and `crate`"
            }
            ::core::compile_error! {
                "`works` takes no argument; with the key `cores` it may take the index of its core: `core: usize`"
            }
            ::core::compile_error! { "a second attribute that makes this a test; `#[demikernel::test]` alone does" }
            #[::core::prelude::v1::test]
            #[allow(dead_code)]
            fn works() {
                #[allow(clippy::unused_async)]
                async fn works(x: u8) -> Result<(), Error> { Ok(()) }
            }
        },
    );
}

#[test]
fn what_is_no_function_is_emitted_unchanged() {
    check(
        Kind::Main,
        quote!(cores = 0),
        quote!(
            struct Main;
        ),
        quote! {
            ::core::compile_error! { "`cores` is at least 1" }
            ::core::compile_error! { "expected `fn`" }
            struct Main;
        },
    );
}
