//! Functions that the runtime cannot call.

#[demikernel::main]
fn main() {
    works()
}

#[demikernel::main]
const async unsafe extern "C" fn qualified<T>(argument: T)
where
    T: Copy,
{
    drop(argument)
}

#[demikernel::main]
async fn one_argument(core: usize) {
    let _: usize = core;
}

#[demikernel::main(cores = 2)]
async fn two_arguments(core: usize, cores: usize) {
    let _ = core + cores;
}

#[demikernel::main(cores = 2)]
async fn wrong_argument(core: u8) {
    let _: u8 = core;
}

#[demikernel::test]
async fn works(fixture: u8) {
    let _: u8 = fixture;
}

#[demikernel::test]
#[test]
async fn twice() {}

#[demikernel::test]
#[demikernel::test]
async fn twice_ours() {}
