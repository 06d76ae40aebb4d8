//! A mistake in the body is the compiler's own message about it.

#[demikernel::main]
async fn main() -> Result<(), std::fmt::Error> {
    missing()
}
