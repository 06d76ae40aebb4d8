//! Files: [`File`], [`OpenOptions`], and what else servers do with paths.
//!
//! [`File`] reads and writes through the runtime's transport for files: buffers at offsets, without a copy,
//! or bytes at a position through `AsyncRead`, `AsyncWrite` and `AsyncSeek`. The functions of this module
//! are those of [`std::fs`] of the same names, run on a thread of their own so that the runtime goes on
//! meanwhile; they need no transport.
//!
//! ```
//! use demikernel_runtime::fs;
//! use futures_util::{AsyncReadExt, AsyncWriteExt};
//!
//! # let runtime = demikernel_runtime::Runtime::new()?;
//! # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
//! # let directory = std::env::temp_dir().join(format!("demikernel-fs-{}", std::process::id()));
//! # runtime.block_on(async {
//! fs::create_dir_all(&directory).await?;
//! let mut file = fs::File::create(directory.join("notes")).await?;
//! file.write_all(b"all's well").await?;
//! file.sync_all().await?;
//!
//! let mut text = String::new();
//! fs::File::open(directory.join("notes")).await?.read_to_string(&mut text).await?;
//! assert_eq!(text, "all's well");
//! # fs::remove_dir_all(&directory).await?;
//! # std::io::Result::Ok(())
//! # })?;
//! # std::io::Result::Ok(())
//! ```

// The map.
mod file; // `File`
mod open; // `OpenOptions`

mod cursor; // reading and writing at a position
mod handle; // a file of a transport, closed when dropped
mod paths; // functions that run on threads

pub use file::File;
pub use open::OpenOptions;

pub(crate) use handle::{Handle, Opening};
pub use paths::{
    copy, create_dir, create_dir_all, metadata, read, read_to_string, remove_dir, remove_dir_all,
    remove_file, rename, write,
};
