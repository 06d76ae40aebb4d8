//! What calls say to descriptors that they are not for.

use crate::sockets::{listener, text};
use demikernel_runtime::pdpix::{
    Qd, accept, bind, close, connect, getsockname, listen, lseek, pop, push, pushto, queue, socket, truncate,
};
use demikernel_runtime::transport::{Domain, SocketKind};
use std::fmt::Debug;
use std::io::{self, SeekFrom};
use std::net::SocketAddr;

#[track_caller]
fn refused<T: Debug>(result: io::Result<T>, number: i32) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(number));
}

pub(crate) async fn calls_on_what_they_are_not_for() -> io::Result<()> {
    let address: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let memory = queue()?;
    refused(bind(memory, address), libc::ENOTSOCK);
    refused(listen(memory, 1), libc::ENOTSOCK);
    refused(accept(memory), libc::ENOTSOCK);
    refused(connect(memory, address), libc::ENOTSOCK);
    refused(getsockname(memory), libc::ENOTSOCK);
    refused(pushto(memory, text("a"), address), libc::ENOTSOCK);
    refused(lseek(memory, SeekFrom::Start(0)), libc::ESPIPE);
    refused(truncate(memory, 0), libc::EINVAL);
    refused(pop(memory, Some(0)), libc::EINVAL);

    let (stream, _) = listener()?;
    let datagrams = socket(Domain::V4, SocketKind::Datagram)?;
    refused(pushto(stream, text("a"), address), libc::EISCONN);
    refused(accept(datagrams), libc::EOPNOTSUPP);

    let nobody = Qd::from_raw(12345);
    refused(push(nobody, text("a")), libc::EBADF);
    refused(pop(nobody, None), libc::EBADF);
    refused(close(nobody), libc::EBADF);
    [memory, stream, datagrams].into_iter().try_for_each(close)
}

pub(crate) async fn descriptors_are_used_again_with_another_number() -> io::Result<()> {
    let first = queue()?;
    assert_eq!(first.as_raw(), 0);
    close(first)?;
    refused(close(first), libc::EBADF);
    let second = queue()?;
    assert_ne!(first, second);
    refused(push(first, text("a")), libc::EBADF);
    close(second)
}
