//! Functions of [`std::fs`], each on a thread of the pool for what blocks.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

async fn off<T: Send + 'static>(
    path: impl AsRef<Path>,
    call: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = path.as_ref().to_path_buf();
    crate::blocking::unblock_and_wait(move || call(path)).await
}

/// All bytes of a file; see [`std::fs::read`].
///
/// # Errors
/// As [`std::fs::read`].
pub async fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    off(path, std::fs::read).await
}

/// All of a file that is text; see [`std::fs::read_to_string`].
///
/// # Errors
/// As [`std::fs::read_to_string`]: `InvalidData` if it is not UTF-8.
pub async fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    off(path, std::fs::read_to_string).await
}

/// Makes a file, or replaces what is in it; see [`std::fs::write`]. The contents are copied.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::fs;
/// let path = std::env::temp_dir().join(format!("demikernel-write-{}", std::process::id()));
/// fs::write(&path, "hello").await?;
/// assert_eq!(fs::read(&path).await?, b"hello");
/// fs::remove_file(&path).await?;
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// As [`std::fs::write`].
pub async fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let contents = contents.as_ref().to_vec();
    off(path, move |path| std::fs::write(path, contents)).await
}

/// Copies a file and its permissions; gives the number of bytes. See [`std::fs::copy`].
///
/// # Errors
/// As [`std::fs::copy`].
pub async fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let to = to.as_ref().to_path_buf();
    off(from, move |from| std::fs::copy(from, to)).await
}

/// Gives a file another name, at once and whole; see [`std::fs::rename`].
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::fs;
/// let [old, new] = ["old", "new"].map(|name| std::env::temp_dir().join(format!("{name}-{}", std::process::id())));
/// fs::write(&old, "kept").await?;
/// fs::rename(&old, &new).await?;
/// assert_eq!(fs::read_to_string(&new).await?, "kept");
/// fs::remove_file(&new).await?;
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// As [`std::fs::rename`].
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let to = to.as_ref().to_path_buf();
    off(from, move |from| std::fs::rename(from, to)).await
}

/// Removes a file; see [`std::fs::remove_file`].
///
/// # Errors
/// As [`std::fs::remove_file`].
pub async fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    off(path, std::fs::remove_file).await
}

/// What the file system says of a file; see [`std::fs::metadata`].
///
/// # Errors
/// As [`std::fs::metadata`].
pub async fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    off(path, std::fs::metadata).await
}

/// Makes a directory; see [`std::fs::create_dir`].
///
/// # Errors
/// As [`std::fs::create_dir`].
pub async fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    off(path, std::fs::create_dir).await
}

/// Makes a directory and those above it; see [`std::fs::create_dir_all`].
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::fs;
/// let top = std::env::temp_dir().join(format!("demikernel-dirs-{}", std::process::id()));
/// fs::create_dir_all(top.join("a/b")).await?;
/// assert!(fs::metadata(top.join("a/b")).await?.is_dir());
/// fs::remove_dir_all(&top).await?;
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// As [`std::fs::create_dir_all`].
pub async fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    off(path, std::fs::create_dir_all).await
}

/// Removes an empty directory; see [`std::fs::remove_dir`].
///
/// # Errors
/// As [`std::fs::remove_dir`].
pub async fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    off(path, std::fs::remove_dir).await
}

/// Removes a directory and all that is in it; see [`std::fs::remove_dir_all`].
///
/// # Errors
/// As [`std::fs::remove_dir_all`].
pub async fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    off(path, std::fs::remove_dir_all).await
}
