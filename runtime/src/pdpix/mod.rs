//! The PDPIX calls by name, for those who port programs of Demikernel.
//!
//! Queues have descriptors ([`Qd`]) and operations have tokens ([`Qt`]), both of them integers. Calls return
//! at once: those that start an operation give its token, and [`wait`], [`wait_any`], [`wait_all`] and
//! [`wait_next_n`] give its [`QResult`]. They differ from Demikernel's in what async Rust does better:
//!
//! - The wait calls are futures. Other tasks run while one waits.
//! - Memory is owned: what is pushed is moved or shared, and cannot be written any more; what was popped is
//!   freed when it is dropped ([`sgafree`] does that, too).
//! - Errors are [`std::io::Error`]s: of a call when it could not start, and in the result
//!   ([`Opcode::Failed`]) when the operation failed.
//! - A token that is used up, or another runtime's, is an error (`EINVAL`), and never another operation's.
//!   So is a descriptor that was closed (`EBADF`), until its place in the table was used 4,096 times.
//!
//! Descriptors and tokens are the runtime's: they end with it. An operation goes on until its result is
//! waited for, or its queue closed; tokens that nobody waits for stay until the runtime ends. Sockets and
//! files are on the transports that the runtime has as its defaults, logs ([`open`] with `log:NAME`) on its storage.
//!
//! # Demikernel's calls
//!
//! | Demikernel                              | here                                                                     |
//! |-----------------------------------------|--------------------------------------------------------------------------|
//! | `demi_init`, `LibOS::new`               | `#[demikernel::main]` or `Builder`, and `DEMIKERNEL_TRANSPORT`           |
//! | `demi_socket`                           | [`socket`], without a protocol; also IPv6 and Unix sockets               |
//! | `demi_bind`, `_listen`, `_accept`, `_connect`, `_close` | of the same names                                        |
//! | `async_close`                           | [`async_close`]                                                          |
//! | `demi_getsockname`, `_getpeername`      | [`getsockname`], [`getpeername`]                                         |
//! | `demi_setsockopt`, `_getsockopt`        | [`setsockopt`], [`getsockopt`]: options are values with types            |
//! | `demi_push`, `_pushto`, `_pop`          | [`push`], [`pushto`], [`pop`]; every pop takes a size if it is to        |
//! | `demi_wait`, `_wait_any`, `_wait_next_n` | [`wait`], [`wait_any`], [`wait_next_n`], and [`wait_all`] of the paper  |
//! | `demi_sgaalloc`, `_sgafree`             | [`sgaalloc`], [`sgafree`], or drop                                       |
//! | `demi_create_pipe`, `_open_pipe` (catmem) | [`create_pipe`], [`open_pipe`], between tasks of one runtime           |
//! | `queue` of the paper                    | [`queue`](fn@queue); `merge`, `filter`, `sort`, `map`: in [`queue`](mod@crate::queue) |
//! | `open`, `creat`, `lseek`, `truncate` of the paper | of the same names                                              |
//! | `qr_ret` and what calls return          | [`QResult::errno`], [`error_number`]                                     |
//!
//! What there is not, and why:
//!
//! - `poll` of a libOS: devices are polled whenever a task waits.
//! - The callback of `demi_args`: `inspect` and `metrics` tell more.
//! - The list in the result of a push: it has been moved. Who wants to keep it pushes a clone, which shares the memory.
//! - The sender's address within a list: it stands beside it ([`Value::Popped`]).
//! - A limit for waits that were given none: theirs is 256 seconds, here they wait as long as it takes.
//! - The C interface: a call that waits is a future, and gives the thread to other tasks, which C has no form for.
//!
//! [`shutdown`] has no counterpart there, nor have more than one segment in a list, IPv6, and Unix sockets.
//!
//! Where numbers of errors differ: a socket call on another kind of queue is `ENOTSOCK` rather than `EBADF` or `EINVAL`;
//! operations that wait when their queue is closed end with `ECANCELED` in memory, and with `ECONNABORTED` on sockets.
//! To push nothing is an error into a pipe alone; a datagram may be empty.
//!
//! All calls panic outside of a runtime.
//!
//! ```
//! use demikernel_runtime::pdpix::{self, Opcode, Value};
//! use demikernel_runtime::transport::{Domain, SocketKind};
//!
//! # let runtime = demikernel_runtime::Runtime::new()?;
//! # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
//! # runtime.block_on(async {
//! let listener = pdpix::socket(Domain::V4, SocketKind::Stream)?;
//! pdpix::bind(listener, "127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap())?;
//! pdpix::listen(listener, 16)?;
//! let address = pdpix::getsockname(listener)?;
//!
//! let client = pdpix::socket(Domain::V4, SocketKind::Stream)?;
//! let tokens = [pdpix::accept(listener)?, pdpix::connect(client, address)?];
//! let results = pdpix::wait_all(&tokens, None).await?;
//! let Value::Accepted { qd: server, .. } = &results[0].value else { panic!("{results:?}") };
//!
//! let mut request = pdpix::sgaalloc(5)?;
//! request.copy_from_slice(b"hello");
//! pdpix::wait(pdpix::push(client, request)?, None).await?;
//! let popped = pdpix::wait(pdpix::pop(*server, None)?, None).await?;
//! assert_eq!(popped.opcode, Opcode::Pop);
//! assert_eq!(popped.value.sga().unwrap().to_vec(), b"hello");
//! # std::io::Result::Ok(())
//! # })?;
//! # std::io::Result::Ok(())
//! ```

// The map.
mod closing; // close, async_close, shutdown
mod files; // open, creat, lseek, truncate: files and logs
mod io; // push, pushto, pop: on every kind of queue
mod memory; // sgaalloc, sgafree, queue
mod pipes; // create_pipe, open_pipe
mod sockets; // socket, bind, listen, accept, connect, and what there is to ask of a socket
mod wait; // waiting for operations

mod next; // which operations are done, for those who wait for any of all
mod operation; // one operation, and what comes of it
mod table; // the runtime's descriptors and tokens
mod types; // what programs see of them

pub use closing::{async_close, close, shutdown};
pub use files::{creat, lseek, open, truncate};
pub use io::{pop, push, pushto};
pub use memory::{queue, sgaalloc, sgafree};
pub use pipes::{create_pipe, open_pipe};
pub use sockets::{accept, bind, connect, getpeername, getsockname, getsockopt, listen, setsockopt, socket};
pub use types::{Opcode, QResult, Qd, Qt, Value, error_number};
pub use wait::{wait, wait_all, wait_any, wait_next_n};
