//! All mistakes in the keys are reported at once, and nothing else.

#[demikernel::main(transprot = "epoll", seed = 7, seed = 8, "sim", idle, time =, storage("sim"), cores = none, ,)]
async fn main() {
    helper().await
}

async fn helper() {}

#[demikernel::test(timeout = "1s", crate = demikernel)]
async fn works() {}
