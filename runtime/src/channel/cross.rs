//! Channels between cores, and between a core and any other thread or runtime.
//!
//! These are those of the crate `async-channel`, which fit: our wakers make a wake from another thread
//! cheap, and end a core's blocking.
//!
//! ```
//! use demikernel_runtime::channel::cross;
//!
//! let (sender, receiver) = cross::bounded(8);
//! let other = std::thread::spawn(move || {
//!     demikernel_runtime::Runtime::new().unwrap().block_on(async move { sender.send(42).await })
//! });
//! let runtime = demikernel_runtime::Runtime::new().unwrap();
//! assert_eq!(runtime.block_on(async { receiver.recv().await }), Ok(42));
//! other.join().unwrap().unwrap();
//! ```

pub use async_channel::{
    Receiver, Recv, RecvError, Send, SendError, Sender, TryRecvError, TrySendError, WeakReceiver, WeakSender,
    bounded, unbounded,
};
