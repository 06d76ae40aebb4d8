//! What can be chosen when an io_uring is made.

use std::time::Duration;

/// How streams receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum ReceiveMode {
    /// One receive per pop, into memory that the kernel picks from a ring of buffers when there is data,
    /// so that idle connections hold none. On kernels before 5.19, as [`Own`](Self::Own).
    #[default]
    Provided,
    /// One receive per pop, into memory that is set aside when the pop starts.
    Own,
    /// One receive that goes on by itself, into the ring of buffers, as long as a socket has less than
    /// [`Config::unread`] bytes that nobody has popped. Before 6.0, as [`Provided`](Self::Provided).
    Multishot,
}

/// Settings of [`Uring::new`](super::Uring::new). The defaults are what measured best; what the kernel does
/// not have is not used, whatever is set here.
///
/// ```
/// use demikernel_runtime::transport::uring::Config;
/// let mut config = Config::default();
/// config.entries = 64;
/// assert!(config.sqpoll.is_none());
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Length of the submission queue; the completion queue is four times as long.
    pub entries: u32,
    /// How streams receive.
    pub receive: ReceiveMode,
    /// The most that one receive brings, in bytes.
    pub receive_buffer: usize,
    /// The most buffers that wait in the kernel's ring for data at a time (rounded up to a power of two,
    /// at most 32,768). How many do follows the number of connections that receive at once.
    pub posted_buffers: u16,
    /// What a socket may have received before anybody asked for it, with [`ReceiveMode::Multishot`].
    pub unread: usize,
    /// One accept that goes on by itself, instead of one for each connection.
    pub multishot_accept: bool,
    /// A push is done as soon as it is queued while a connection has no more than so many bytes queued, and
    /// otherwise when the kernel has taken it. An error of a push that was done already is given to the
    /// next one.
    pub early_push: usize,
    /// Pushes of at least so many bytes are sent from where they are, without a copy into the kernel.
    pub zero_copy_send: Option<usize>,
    /// A thread of the kernel takes submissions, and sleeps after so long without any.
    pub sqpoll: Option<Duration>,
    /// Sockets and files, at most this many, are also kept in a table of the ring, which spares the kernel
    /// a look-up and a count per operation.
    pub fixed_files: u32,
    /// The memory of the buffer pool is registered with the ring, so that reads and writes of files need
    /// not map it each time. It then counts as locked memory (`ulimit -l`).
    pub fixed_buffers: bool,
    /// The kernel does its part of the work only when asked (DEFER_TASKRUN, COOP_TASKRUN), instead of
    /// interrupting the thread for it.
    pub deferred_work: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            entries: 1024,
            receive: ReceiveMode::default(),
            receive_buffer: 16 * 1024,
            posted_buffers: 1024,
            unread: 256 * 1024,
            multishot_accept: true,
            early_push: 0,
            zero_copy_send: None,
            sqpoll: None,
            fixed_files: 0,
            fixed_buffers: false,
            deferred_work: true,
        }
    }
}
