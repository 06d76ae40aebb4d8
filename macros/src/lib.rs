//! `#[demikernel::main]` and `#[demikernel::test]`.
//!
//! Use them through the facade crate `demikernel`, which re-exports both; what they expand to calls
//! functions of its hidden module `demikernel::macros`. The documentation of [`main`](macro@main) and [`test`](macro@test) says
//! which keys they have, and shows the code that each stands for. The crate has no features.
//!
//! ```ignore
//! #[demikernel::main(cores = 2)]
//! async fn main() {
//!     println!("this is core {}", demikernel::core_index());
//! }
//!
//! #[demikernel::test(transport = "sim", seeds = 20)]
//! async fn survives_a_partition() {}
//! ```
//!
//! # For those who change it
//!
//! Data flows through the modules in this order:
//!
//! - `keys`: the arguments of the attribute, a closed list of `key = value`
//! - `value`: what may stand after `=`
//! - `function`: the annotated `async fn`, checked but not rewritten
//! - `expand`: the function around it, which is what the compiler sees
//!
//! All mistakes in one use of a macro are reported together, each at its own place. The function is
//! emitted in any case, so a mistake in a key does not hide or cause errors elsewhere.

mod expand;
mod function;
mod keys;
mod value;

use expand::Kind;
use proc_macro::TokenStream;

/// Runs an `async fn main` on a demikernel runtime.
///
/// ```ignore
/// #[demikernel::main]
/// async fn main() -> std::io::Result<()> {
///     let listener = demikernel::net::TcpListener::bind("127.0.0.1:7000").await?;
///     let (stream, peer) = listener.accept().await?;
///     println!("{peer} is here");
///     Ok(())
/// }
/// ```
///
/// # Keys
///
/// | key | value | default | stands for |
/// |---|---|---|---|
/// | `transport` | `"auto"`, `"io_uring"`, `"epoll"`, `"memory"`, `"sim"`, `"tap"`, `"packet"`, `"dpdk"`, `"xdp"`, `"rdma"` | the environment variable `DEMIKERNEL_TRANSPORT`, else automatic | `.transport("io_uring")` |
/// | `storage` | of files `"auto"`, `"io_uring"`, `"epoll"` (a pool of threads), of both `"memory"`, `"sim"` (the same), of logs `"nvme"`, `"spdk"`, or a device: `"./orders"`, `"/dev/nvme1n1"`, `"0000:5e:00.0/1"`, `"spdk:ADDRESS"`, `"memory:64MiB"` | the environment variable `DEMIKERNEL_STORAGE`, else automatic for files, and for logs what `[storage]` of the configuration says | `.storage("io_uring")` |
/// | `cores` | an integer from 1, `"all"`, or an expression of type `usize` in parentheses | this thread only | `.cores(4)` and `run` instead of `block_on` |
/// | `idle` | `"spin"`, `"block"`, `"adaptive"`, `"adaptive(50us)"` (units `ns`, `us`, `ms`, `s`) | `"adaptive"` | `.idle(Idle::Adaptive(Duration::from_micros(50)))` |
/// | `time` | `"real"`, `"virtual"` | `"real"` | `.time(Time::Virtual)` |
/// | `seed` | an integer of 64 bits | 0 | `.seed(7)` |
/// | `crate` | the path of `demikernel`, as a string | `"::demikernel"` | |
///
/// A transport that the macro knows but that is not compiled in or comes with a later version, or
/// that cannot start on this machine, is an error when the program starts, which says what is missing.
///
/// `time = "virtual"` makes the clock jump to the next timer whenever the runtime has nothing to do.
/// It is meant for simulations on `transport = "memory"` or `"sim"`; a kernel socket knows nothing of such a clock.
/// It cannot be combined with more than one core, as each core would have a time of its own.
///
/// # Signature
///
/// The function is an `async fn` without generics, `unsafe` or `extern`. It takes no argument, and
/// returns what a plain `main` may return: `()`, `Result<(), E>`, `ExitCode`, anything that is
/// [`Termination`](std::process::Termination). Attributes and visibility are kept.
///
/// With `cores` it runs once on each core, on a runtime of its own, pinned to that core. It may then
/// take one argument, the index of its core, from 0:
///
/// ```ignore
/// #[demikernel::main(cores = 4, transport = "io_uring")]
/// async fn main(core: usize) -> std::io::Result<()> {
///     println!("this is core {core}");
///     Ok(())
/// }
/// ```
///
/// A panic or an error of one core stops all of them, and the process fails.
///
/// # The builder code that it stands for
///
/// The first example above is the same as
///
/// ```ignore
/// fn main() -> std::io::Result<()> {
///     // The macro prints an error of `build` and exits with status 1, whatever `main` returns.
///     let runtime = demikernel::Builder::new().build()?;
///     runtime.block_on(async {
///         let listener = demikernel::net::TcpListener::bind("127.0.0.1:7000").await?;
///         let (stream, peer) = listener.accept().await?;
///         println!("{peer} is here");
///         Ok(())
///     })
/// }
/// ```
///
/// and the second one is the same as
///
/// ```ignore
/// fn main() -> std::process::ExitCode {
///     demikernel::Builder::new().transport("io_uring").cores(4).run(|| async {
///         println!("this is core {}", demikernel::core_index());
///         std::io::Result::Ok(())
///     })
/// }
/// ```
///
/// `cores = "all"` stands for `.cores(n)` with the `n` of
/// [`available_parallelism`](std::thread::available_parallelism), which respects `taskset` and the
/// limits of a container.
///
/// # When the facade has another name
///
/// The expansion names `::demikernel`. If Cargo.toml renames it (`dk = { package = "demikernel" }`),
/// or the crate reaches it through another one, say so with `crate`:
///
/// ```ignore
/// #[dk::main(crate = "dk")]
/// async fn main() {}
/// ```
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Kind::Main, args.into(), item.into()).into()
}

/// Makes an `async fn` a test, run once on each transport that can run here.
///
/// ```ignore
/// #[demikernel::test]
/// async fn echoes() -> std::io::Result<()> {
///     let listener = demikernel::net::TcpListener::bind("127.0.0.1:0").await?;
///     let client = demikernel::net::TcpStream::connect(listener.local_addr()?).await?;
///     let (server, _) = listener.accept().await?;
///     client.push(demikernel::Buffer::from_static(b"hello")).await?;
///     assert_eq!(&server.pop().await?[..], b"hello");
///     Ok(())
/// }
/// ```
///
/// Each run has a new runtime. When one fails, its transport and its seed are printed; the
/// environment variables `DEMIKERNEL_TRANSPORT` and `DEMIKERNEL_SEED` repeat that one run alone.
///
/// # Keys
///
/// Those of [`macro@main`], with these differences:
///
/// - `transport`: the test runs on that transport only, and fails if it cannot start. Without it the
///   transports are those that are compiled in and can start on this machine, and the simulated one;
///   the others are skipped with a line that says why, or fail if `DEMIKERNEL_REQUIRE_ALL` is set.
///   `"auto"` runs once, on the transport that a program would get.
/// - `transport = "sim"`: the test is the program of a machine named `test` in a simulated network, in virtual
///   time, on the userspace TCP/IP stack. It adds further machines, and breaks links, through
///   `demikernel::sim::current()`; the documentation of `demikernel::sim` shows how. That is so with the feature
///   `sim`; without it, and with `"memory"` always, sockets are simulated within one runtime, without packets.
/// - `time = "virtual"`: timers cost no time, as the clock jumps to the next one when there is nothing
///   to do. Unless `transport` says otherwise such a test runs on the simulated transports only, since
///   the kernel's sockets do not follow that clock.
/// - `seed`: what the simulated transports draw their delays and errors from. The default is
///   `DEMIKERNEL_SEED`, else 0 in every run, so a test that passed passes again.
/// - `seeds`: with how many seeds the test runs on the simulated transports, from `seed` on. `DEMIKERNEL_SEEDS`
///   overrides the number, and `DEMIKERNEL_SEED` chooses a single one, such as the one that has failed.
/// - `cores`: the test runs on that many cores at once and fails if one of them does. A simulated network
///   belongs to one core, so a simulated transport has to be asked for.
///
/// # Signature
///
/// As for [`macro@main`]; a test usually returns `()` or a `Result`. `#[should_panic]`, `#[ignore]` and
/// other attributes work as they do with `#[test]`, which the macro adds itself. With
/// `#[should_panic]` the test has to panic on each transport; with `cores` the panic happened on
/// another thread, so `expected` sees the message that a core panicked instead of its own.
///
/// # The builder code that it stands for
///
/// ```ignore
/// #[demikernel::test(transport = "memory", time = "virtual", seed = 7)]
/// async fn naps() {
///     demikernel::time::sleep(std::time::Duration::from_secs(3600)).await;
/// }
/// ```
///
/// is the same as
///
/// ```ignore
/// #[test]
/// fn naps() {
///     let runtime = demikernel::Builder::new()
///         .transport("memory")
///         .time(demikernel::Time::Virtual)
///         .seed(7)
///         .build()
///         .unwrap();
///     runtime.block_on(async {
///         demikernel::time::sleep(std::time::Duration::from_secs(3600)).await;
///     })
/// }
/// ```
///
/// and with `transport = "sim"`, where `naps` is the function as it is written,
///
/// ```ignore
/// #[test]
/// fn test() {
///     let simulation = demikernel::sim::Builder::new().seed(7).build().unwrap();
///     simulation.block_on("test", naps());
/// }
/// ```
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Kind::Test, args.into(), item.into()).into()
}
