//! Urgent data (RFC 9293 section 3.8.5): received in line, as all others, and as many as there are. What the user learns
//! is that there are such, and where they end. [rfc9293 MUST-30] [rfc9293 MUST-31]
//!
//! New protocols do without them, as RFC 6093 advises. [rfc9293 SHLD-13]

use super::{Connection, Events, Marks};
use crate::wire::tcp::{Flags, Segment, SequenceNumber};

impl Connection {
    /// What was [sent](Connection::send) last ends urgent data.
    pub fn mark_urgent(&mut self) {
        self.rare().urgent_sent = Some(self.send.queue.end());
        self.marks.insert(Marks::URGENT);
    }

    /// How many octets there are from the next that is received up to the end of urgent data: `None` if no such data have
    /// been announced, or if all have been received. [rfc9293 MUST-33]
    #[must_use]
    pub fn urgent(&self) -> Option<u32> {
        let end = self.rare.as_ref()?.urgent_received?;
        let left = end.distance_from(self.receive.next - self.receive.queued());
        u32::try_from(left).ok().filter(|left| *left > 0)
    }

    /// Step 6: the user is told, if the pointer is ahead of the one before. It points behind the last urgent octet.
    /// [rfc9293 MUST-32] [rfc9293 MUST-62]
    #[cold]
    pub(crate) fn process_urgent(&mut self, sequence: SequenceNumber, pointer: u16) {
        let end = sequence + u32::from(pointer);
        let known = self.rare().urgent_received;
        let unread = self.receive.next - self.receive.queued();
        if end.is_after(unread) && known.is_none_or(|known| end.is_after(known)) {
            self.rare().urgent_received = Some(end);
            self.events |= Events::URGENT;
        }
    }

    /// Has a segment say where our urgent data end, until they are acknowledged. [rfc9293 MUST-62]
    #[cold]
    pub(crate) fn point_at_urgent(&mut self, segment: &mut Segment) {
        let Some(end) = self.rare().urgent_sent else { return };
        if !end.is_after(self.send.unacknowledged) {
            self.rare().urgent_sent = None;
            return self.marks.remove(Marks::URGENT);
        }
        // What is too far away is told by a later segment.
        if let Ok(pointer @ 1..) = u16::try_from(end.distance_from(segment.sequence)) {
            segment.urgent = pointer;
            segment.flags |= Flags::URG;
        }
    }
}
