//! What is to be done when no state is borrowed.

use super::Memory;
use crate::buffer::{Buffer, BufferMut, Sga};
use crate::executor::Completion;
use crate::transport::{Accepted, Network, Qd, Storage};
use std::io;
use std::net::SocketAddr;

/// A promise that is kept, or something that is dropped.
pub(super) enum Effect {
    Done(Completion<io::Result<()>>, io::Result<()>),
    Accepted(Completion<io::Result<Accepted>>, io::Result<Accepted>),
    Popped(Completion<io::Result<Buffer>>, io::Result<Buffer>),
    PoppedFrom(Completion<io::Result<(Buffer, SocketAddr)>>, io::Result<(Buffer, SocketAddr)>),
    Opened(Completion<io::Result<Qd>>, io::Result<Qd>),
    Read(Completion<io::Result<BufferMut>>, io::Result<BufferMut>),
    /// Data may be of foreign memory, with a destructor of its own.
    Drop(Sga),
}

impl Effect {
    pub(super) fn run(self, memory: &Memory) {
        match self {
            Effect::Done(done, result) => done.complete(result),
            Effect::Accepted(done, Ok(accepted)) if done.is_cancelled() => {
                // Dropped by an effect before this one: nobody else would close it.
                memory.close(accepted.qd);
                done.complete(Ok(accepted));
            }
            Effect::Accepted(done, result) => done.complete(result),
            Effect::Popped(done, result) => done.complete(result),
            Effect::PoppedFrom(done, result) => done.complete(result),
            Effect::Opened(done, Ok(qd)) if done.is_cancelled() => {
                memory.close_file(qd);
                done.complete(Ok(qd));
            }
            Effect::Opened(done, result) => done.complete(result),
            Effect::Read(done, result) => done.complete(result),
            Effect::Drop(data) => drop(data),
        }
    }
}
