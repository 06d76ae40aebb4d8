//! A file of a transport, closed when dropped: where every operation of `fs` meets its device.

use crate::buffer::{BufferMut, Sga};
use crate::executor::{QToken, operation};
use crate::transport::{OpenMode, Qd, Storage};
use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// A file and the transport that it is on. Each operation is one virtual call.
pub(crate) struct Handle {
    storage: Rc<dyn Storage>,
    qd: Qd,
}

impl Handle {
    pub(crate) fn open(storage: &Rc<dyn Storage>, path: &Path, mode: OpenMode) -> Opening {
        let (token, done) = operation();
        storage.open(path, mode, done);
        Opening { storage: storage.clone(), token }
    }

    #[inline]
    pub(crate) fn read_at(&self, buffer: BufferMut, offset: u64) -> QToken<io::Result<BufferMut>> {
        let (token, done) = operation();
        self.storage.read_at(self.qd, offset, buffer, done);
        token
    }

    #[inline]
    pub(crate) fn write_at(&self, data: Sga, offset: u64) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        self.storage.write_at(self.qd, offset, data, done);
        token
    }

    pub(crate) fn sync(&self, data_only: bool) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        self.storage.sync(self.qd, data_only, done);
        token
    }

    pub(crate) fn truncate(&self, length: u64) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        self.storage.truncate(self.qd, length, done);
        token
    }

    pub(crate) fn length(&self) -> io::Result<u64> {
        self.storage.length(self.qd)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.storage.close_file(self.qd);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("transport", &self.storage.name())
            .field("qd", &self.qd.0)
            .field("length", &self.length())
            .finish()
    }
}

/// Waits for a file to be opened. One that nobody takes, its transport closes.
pub(crate) struct Opening {
    storage: Rc<dyn Storage>,
    token: QToken<io::Result<Qd>>,
}

impl Future for Opening {
    type Output = io::Result<Handle>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let qd = ready!(Pin::new(&mut self.token).poll(cx))?;
        Poll::Ready(Ok(Handle { storage: self.storage.clone(), qd }))
    }
}
