//! One connection: its state. How it receives is in `receive.rs`, how it sends in `send.rs`.

use super::connect::Connect;
use super::device::{Io, Updated};
use super::key::{Key, Kind};
use super::message::Message;
use super::socket::Head;
use crate::buffer::{Buffer, BufferMut, Sga};
use crate::executor::Completion;
use crate::transport::stream::{Cancelled, Inbound, Outbound};
use std::io;

pub(super) type PopDone = Completion<io::Result<Buffer>>;
/// Without a completion, the push was done as soon as it was queued.
pub(super) type PushDone = Option<Completion<io::Result<()>>>;

/// The receive that the kernel has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receive {
    None,
    /// Into the connection's own buffer.
    Own,
    /// Into one of the ring of buffers.
    Provided,
    /// Into those of the ring, until it ends.
    Multishot,
    /// None, as there was no memory for it.
    Starved,
}

/// The send that the kernel has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Send {
    None,
    /// Of one piece.
    Plain,
    /// Of several, which the connection's message describes.
    Message,
    /// From memory that the kernel keeps using after it has said that it has sent.
    InPlace,
}

/// A stream socket.
pub(super) struct Connection {
    pub(super) inbound: Inbound<PopDone>,
    pub(super) receive: Receive,
    /// What the kernel writes to, with [`Receive::Own`].
    pub(super) own: Option<BufferMut>,
    /// The receive was asked to end early.
    pub(super) cancelling_receive: bool,
    /// A token was dropped: the receive is to end early if it is for nobody.
    pub(super) unwanted_receive: bool,
    pub(super) outbound: Outbound<PushDone>,
    pub(super) send: Send,
    /// What the kernel may read, with [`Send::Message`].
    pub(super) message: Option<Box<Message>>,
    pub(super) cancelling_send: bool,
    pub(super) unwanted_send: bool,
    /// It cannot send from where the data is.
    pub(super) copies: bool,
    /// The sending half is to be shut down when everything is sent.
    pub(super) finishing: bool,
    pub(super) connect: Option<Box<Connect>>,
    /// It is connected, as far as is known.
    pub(super) connected: bool,
    /// The error of a push that was done already.
    pub(super) failed: Option<i32>,
}

/// What became of a push.
pub(super) enum Pushed {
    Queued,
    /// It is queued, and counts as done.
    Early(Completion<io::Result<()>>),
    /// There was nothing to queue.
    Done(Completion<io::Result<()>>, io::Result<()>),
}

impl Connection {
    pub(super) fn new(connected: bool) -> Connection {
        Connection {
            inbound: Inbound::new(),
            receive: Receive::None,
            own: None,
            cancelling_receive: false,
            unwanted_receive: false,
            outbound: Outbound::new(),
            send: Send::None,
            message: None,
            cancelling_send: false,
            unwanted_send: false,
            copies: false,
            finishing: false,
            connect: None,
            connected,
            failed: None,
        }
    }

    /// Whether nothing of it has been asked for yet.
    pub(super) fn is_fresh(&self) -> bool {
        !self.connected && self.connect.is_none() && self.outbound.is_empty() && !self.inbound.is_awaited()
    }

    /// Brings the kernel up to date.
    #[inline]
    pub(super) fn update(&mut self, head: &mut Head, io: &mut Io) -> Updated {
        if self.connect.is_some() {
            self.update_connect(head, io);
        } else {
            self.update_send(head, io);
        }
        if self.receive != Receive::None || self.inbound.is_awaited() {
            let behind_send = self.send != Send::None && self.receive == Receive::None;
            if !(behind_send && !head.closing && io.put_off(head)) {
                self.update_receive(head, io);
            }
        }
        match head.closing && head.in_kernel == 0 && self.outbound.is_empty() {
            true => Updated::Over,
            false => Updated::InUse,
        }
    }

    /// Queues data. It counts as done when the connection has little enough queued then.
    #[inline]
    pub(super) fn push(
        &mut self,
        data: &mut Sga,
        done: Completion<io::Result<()>>,
        head: &mut Head,
        io: &mut Io,
    ) -> Pushed {
        if let Some(error) = self.failed.take() {
            return Pushed::Done(done, Err(io::Error::from_raw_os_error(error)));
        }
        if self.finishing {
            return Pushed::Done(done, Err(io::Error::from_raw_os_error(libc::EPIPE)));
        }
        if data.is_empty() && self.outbound.is_empty() {
            return Pushed::Done(done, Ok(()));
        }
        head.mark(io);
        if self.connected && self.outbound.bytes() + data.len() <= io.config.early_push {
            self.outbound.push(data, None);
            return Pushed::Early(done);
        }
        let number = self.outbound.next_number();
        done.on_cancel(io.id, Key::new(Kind::Send, number, head.index()).bits());
        self.outbound.push(data, Some(done));
        Pushed::Queued
    }

    /// The token of a push was dropped. There may be something that has [ended](Outbound::ended).
    pub(super) fn cancel_push(&mut self, number: u32, head: &mut Head, io: &mut Io) {
        if self.outbound.cancel(number) == Cancelled::WithDevice {
            self.unwanted_send = true;
        }
        head.mark(io);
    }
}
