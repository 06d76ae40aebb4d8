//! What is sent and received into: memory of the runtime's heap, with which the device is registered.

use crate::link::{DATAGRAM_HEADER, HEADER};
use crate::verbs::{ProtectionDomain, SharedReceiveQueue};
use demikernel_runtime::buffer::pool::PoolExhausted;
use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};
use std::io;

const _: () = assert!(DATAGRAM_HEADER >= HEADER);

/// Payload up to here is copied behind its header when it is sent, into a chunk of the smallest size; and out of its receive
/// buffer when it has come, so that few bytes that nobody reads do not keep a whole buffer.
pub(super) const SMALL: usize = 256 - DATAGRAM_HEADER;

/// The buffers of a device, and counts.
pub(super) struct Memory {
    domain: ProtectionDomain,
    receives: SharedReceiveQueue,
    buffer_size: usize,
    /// Receive buffers to be posted again.
    spare: Vec<BufferMut>,
    /// Pieces of data copied because the device does not reach them.
    pub(super) copied: u64,
    /// Times that the heap had nothing.
    pub(super) exhausted: u64,
}

impl Memory {
    pub(super) fn new(domain: &ProtectionDomain, receives: &SharedReceiveQueue, buffer_size: u32) -> Memory {
        Memory {
            domain: domain.clone(),
            receives: receives.clone(),
            buffer_size: buffer_size as usize,
            spare: Vec::new(),
            copied: 0,
            exhausted: 0,
        }
    }

    /// Whether the device takes the payload of a frame from where it is, so many pieces at most, or along with the
    /// request.
    #[inline]
    pub(super) fn goes_as_it_is(&self, payload: &Sga, inline: usize, pieces: u32) -> bool {
        let (length, count) = (payload.len(), payload.segments());
        let is_reached = |piece: &Buffer| self.domain.reaches(piece.region());
        match payload.first() {
            _ if count > pieces as usize => false,
            _ if HEADER + length <= inline => true,
            _ if length <= SMALL => false,
            Some(only) if count == 1 => is_reached(only),
            _ => payload.iter().all(is_reached),
        }
    }

    /// The frame as the device takes it. The payload stays with the caller.
    #[inline]
    pub(super) fn assemble(&mut self, header: &[u8], payload: &Sga) -> Result<Sga, PoolExhausted> {
        let length = payload.len();
        if length <= SMALL {
            let mut frame = BufferMut::with_capacity(header.len() + length)?;
            frame.extend_from_slice(header);
            payload.iter().for_each(|piece| frame.extend_from_slice(piece));
            return Ok(frame.into());
        }
        let mut frame = Sga::from(Buffer::copy_from_slice(header)?);
        for piece in payload.iter() {
            frame.push(self.reachable(piece)?);
        }
        Ok(frame)
    }

    /// A piece where the device reaches it.
    #[inline]
    pub(super) fn reachable(&mut self, piece: &Buffer) -> Result<Buffer, PoolExhausted> {
        if self.domain.reaches(piece.region()) {
            return Ok(piece.clone());
        }
        self.copied += 1;
        Buffer::copy_from_slice(piece)
    }

    /// A frame as the program gets it: where it is, unless it is small.
    #[inline]
    pub(super) fn received(&mut self, data: BufferMut) -> Buffer {
        if data.len() <= HEADER + SMALL
            && let Ok(copy) = Buffer::copy_from_slice(&data)
        {
            self.spare.push(data);
            return copy;
        }
        data.freeze()
    }

    /// A receive buffer in which nothing came.
    pub(super) fn reuse(&mut self, buffer: BufferMut) {
        self.spare.push(buffer);
    }

    /// Gives the device up to `missing` receive buffers; returns how many.
    pub(super) fn refill(&mut self, missing: u32) -> io::Result<u32> {
        let mut is_exhausted = false;
        let (spare, size) = (&mut self.spare, self.buffer_size);
        let buffers = (0..missing).map_while(|_| {
            let buffer = match spare.pop() {
                Some(mut buffer) => {
                    buffer.clear();
                    Ok(buffer)
                }
                None => BufferMut::with_capacity(size),
            };
            is_exhausted = buffer.is_err();
            buffer.ok()
        });
        let posted = self.receives.post_many(buffers)?;
        self.exhausted += u64::from(is_exhausted);
        Ok(posted as u32)
    }
}
