//! Items that are no functions are left as they are.

#[demikernel::main]
struct Main {
    core: usize,
}

#[demikernel::test]
mod tests {}

fn main() {
    let _ = Main { core: 0 }.core;
}
