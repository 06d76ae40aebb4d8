//! What programs may return.

use std::fmt::Display;

/// What a machine's program may return: nothing, also by never returning, or a `Result` whose error can be printed.
///
/// It cannot be implemented by others.
pub trait Outcome: sealed::Sealed {
    /// The error, as text.
    #[doc(hidden)]
    fn into_result(self) -> Result<(), String>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl Sealed for super::Never {}
    impl<T, E> Sealed for Result<T, E> {}

    pub trait Function {
        type Output;
    }

    impl<T> Function for fn() -> T {
        type Output = T;
    }
}

impl Outcome for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl Outcome for Never {
    fn into_result(self) -> Result<(), String> {
        self
    }
}

/// `!`, which stable Rust writes nowhere else than as the output of a function.
type Never = <fn() -> ! as sealed::Function>::Output;

impl<T, E: Display> Outcome for Result<T, E> {
    fn into_result(self) -> Result<(), String> {
        self.map(drop).map_err(|error| error.to_string())
    }
}
