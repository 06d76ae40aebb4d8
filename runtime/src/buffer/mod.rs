//! One heap that every device can reach.
//!
//! A [`Buffer`] is shared, immutable and sliceable; a [`BufferMut`] is the only handle to its bytes
//! and may write them. Both are 16 bytes: a pointer to the header of a *chunk*, an offset and a
//! length. Chunks come from the [`pool`] of the thread, in large aligned regions which each device
//! registers once, so that bytes which one device received go out of another without a copy. A
//! [`Sga`] is a short list of buffers, sent or received as one.
//!
//! Ownership takes the place of the rules which other interfaces write down for their users: a
//! buffer that was pushed is moved or shared, and what is shared cannot be written.
//!
//! ```
//! use demikernel_runtime::buffer::{Buffer, BufferMut};
//!
//! # fn main() -> Result<(), demikernel_runtime::buffer::PoolExhausted> {
//! let mut request = BufferMut::with_capacity(512)?;
//! request.extend_from_slice(b"GET key\r\n");
//! let request: Buffer = request.freeze();
//!
//! let key = request.slice(4..7); // the same bytes, not a copy
//! drop(request);
//! assert_eq!(key, b"key");
//!
//! // The last handle may write again.
//! let mut key = key.try_into_mut().expect("nobody else holds it");
//! key.make_ascii_uppercase();
//! assert_eq!(key, b"KEY");
//! # Ok(())
//! # }
//! ```
//!
//! # Threads
//!
//! Counts are not atomic, therefore buffers stay on the thread that made them (`!Send`). Bytes
//! travel between threads as [`bytes::Bytes`] ([`Buffer::into_bytes`]), which borrows nothing from
//! the thread: it may be dropped anywhere and at any time, also after the thread has ended.

// The map, in the order in which memory flows through it.
pub mod pool; // regions, size classes, free lists, back-pressure, what happens when a thread ends

mod chunk; // the header of a chunk: its count, where its bytes are, who owns it

mod shared; // `Buffer`
mod unique; // `BufferMut`

mod compare; // equality, order, hash and debug output of both, as bytes
mod interop; // to and from `bytes::Bytes`, `Vec<u8>` and `&'static` data

mod sga; // `Sga`

#[cfg(all(test, not(demikernel_loom)))]
mod tests;

pub use pool::error::PoolExhausted;
pub use pool::waiters::Allocate;
pub(crate) use pool::waiters::Reservation;
pub use sga::Sga;
pub use shared::Buffer;
pub use unique::BufferMut;

// Results of operations are stored inline in the operation's slot, so these sizes are part of the
// interface. The null pointer that a handle never holds is what `io::Result` uses as its tag.
const _: () = {
    use std::io;
    use std::net::SocketAddr;
    assert!(size_of::<Buffer>() == 16);
    assert!(size_of::<BufferMut>() == 16);
    assert!(size_of::<Option<Buffer>>() == 16);
    assert!(size_of::<Result<BufferMut, PoolExhausted>>() == 16);
    assert!(size_of::<io::Result<Buffer>>() == 16);
    assert!(size_of::<io::Result<(Buffer, SocketAddr)>>() == 48);
};
