//! Memory for the arguments of system calls that take more than a pointer and a length: headers of messages,
//! lists of pieces, addresses. It has to stay in place while the kernel has the operation, and is reused.

use socket2::{SockAddr, SockAddrStorage};
use std::mem::MaybeUninit;

/// The most pieces that one send has.
pub(super) const PIECES: usize = 64;

/// Arguments of one sendmsg, recvmsg or connect.
pub(super) struct Message {
    header: libc::msghdr,
    pub(super) pieces: [libc::iovec; PIECES],
    name: libc::sockaddr_storage,
    name_length: libc::socklen_t,
}

impl Message {
    fn new() -> Box<Message> {
        // SAFETY: plain data of C, for which all zeros are valid: null pointers and lengths of 0.
        unsafe { Box::new(MaybeUninit::zeroed().assume_init()) }
    }

    /// Sets the address.
    pub(super) fn set_name(&mut self, name: &SockAddr) {
        let length = name.len();
        // SAFETY: an address is never longer than the storage, and both are plain bytes.
        unsafe {
            let from = name.as_ptr().cast::<u8>();
            std::ptr::copy_nonoverlapping(from, (&raw mut self.name).cast::<u8>(), length as usize);
        }
        self.name_length = length;
    }

    /// The address and its length, for connect.
    pub(super) fn name(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        ((&raw const self.name).cast(), self.name_length)
    }

    /// The header for sending `pieces` pieces, to the address if `named`.
    pub(super) fn outgoing(&mut self, pieces: usize, named: bool) -> *const libc::msghdr {
        self.prepare(pieces, if named { self.name_length } else { 0 });
        &raw const self.header
    }

    /// The header for receiving into the first piece, with the sender's address.
    pub(super) fn incoming(&mut self) -> *mut libc::msghdr {
        self.prepare(1, size_of::<libc::sockaddr_storage>() as libc::socklen_t);
        &raw mut self.header
    }

    fn prepare(&mut self, pieces: usize, name_length: libc::socklen_t) {
        debug_assert!(pieces <= PIECES);
        self.header.msg_name = match name_length {
            0 => std::ptr::null_mut(),
            _ => (&raw mut self.name).cast(),
        };
        self.header.msg_namelen = name_length;
        self.header.msg_iov = self.pieces.as_mut_ptr();
        self.header.msg_iovlen = pieces as _;
        self.header.msg_flags = 0;
    }

    /// The address from which the kernel received.
    pub(super) fn sender(&self) -> SockAddr {
        let mut storage = SockAddrStorage::zeroed();
        let length = self.header.msg_namelen.min(size_of::<libc::sockaddr_storage>() as libc::socklen_t);
        // SAFETY: both are plain bytes at least `length` long, and the kernel wrote an address of that
        // length.
        unsafe {
            let to = (&raw mut storage).cast::<u8>();
            std::ptr::copy_nonoverlapping((&raw const self.name).cast::<u8>(), to, length as usize);
            SockAddr::new(storage, length)
        }
    }
}

/// Messages that are not in use.
#[derive(Default)]
pub(super) struct Messages(#[expect(clippy::vec_box, reason = "they may not move")] Vec<Box<Message>>);

impl Messages {
    pub(super) fn take(&mut self) -> Box<Message> {
        self.0.pop().unwrap_or_else(Message::new)
    }

    pub(super) fn put(&mut self, message: Box<Message>) {
        self.0.push(message);
    }
}
