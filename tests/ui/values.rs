//! A wrong value is reported where it stands, with what is right.

#[demikernel::main(
    transport = "uring",
    storage = 7,
    cores = 0,
    idle = "adaptive(50)",
    time = "simulated",
    seed = -1,
    crate = "not a path"
)]
async fn main() {}

mod more {
    #[demikernel::test(
        transport = TRANSPORT,
        cores = "some",
        idle = "sometimes",
        time = true,
        seed = 18_446_744_073_709_551_616,
    )]
    async fn test() {}
}

#[demikernel::main(idle = "adaptive(us)", cores = 4u8, seed = 1.5)]
async fn units() {}

#[demikernel::main(idle = "adaptive(600years)", cores = (), transport = ["epoll"])]
async fn more_units() {}

#[demikernel::test(time = "virtual", cores = 2)]
async fn clocks() {}

#[demikernel::test(seeds = 0)]
async fn no_seeds() {}

#[demikernel::test(seeds = 0..20)]
async fn a_range_of_seeds() {}

#[demikernel::main(seeds = 20)]
async fn seeds_of_a_program() {}

#[demikernel::main(storage = "orders")]
async fn a_word_is_no_path() {}

#[demikernel::main(storage = "memory:64M")]
async fn sizes_have_units() {}

#[demikernel::test(storage = PATH)]
async fn a_constant() {}
