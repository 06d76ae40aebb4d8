//! Captures in the pcapng format (draft-ietf-opsawg-pcapng), for tshark and Wireshark: traffic that the kernel does
//! not see is invisible to tcpdump.
//!
//! Of the format only what is written here is needed: one section, one interface, packets. The crate `pcap-file` has
//! all of it, but brings a second `syn` along for that.

use super::{Frame, Medium};
use std::io::{self, Write};
use std::time::Duration;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

/// LINKTYPE_ETHERNET and LINKTYPE_RAW.
const LINK_ETHERNET: u16 = 1;
const LINK_RAW: u16 = 101;

/// Options of an interface: its name, and the resolution of its timestamps as a negative power of ten.
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
/// Option of a packet: flags, of which the lowest two bits are the direction.
const EPB_FLAGS: u16 = 2;

/// Which way a packet went.
///
/// ```
/// use demikernel_net::device::pcapng::{Direction, Writer};
/// use demikernel_net::device::{Frame, Medium};
/// use demikernel_runtime::buffer::Buffer;
/// use std::time::Duration;
///
/// let mut file = Vec::new();
/// let mut writer = Writer::new(&mut file, "sim", Medium::Ip, 65_536)?;
/// writer.packet(Duration::ZERO, Direction::Out, &Frame::new(Buffer::from("sent")))?;
/// // An option of the last block: "flags", of four bytes, then the end of options, and the block's length.
/// let flags = &file[file.len() - 16..][..8];
/// assert_eq!(flags, [2, 0, 4, 0, Direction::Out as u8, 0, 0, 0]);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Received.
    In = 1,
    /// Sent.
    Out = 2,
}

/// Writes a capture.
///
/// ```
/// use demikernel_net::device::Medium;
/// use demikernel_net::device::pcapng::Writer;
///
/// let mut file = Vec::new();
/// Writer::new(&mut file, "sim", Medium::Ip, 65536)?;
/// assert_eq!(file[..4], [0x0a, 0x0d, 0x0d, 0x0a], "a capture begins with its section header");
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Writer<W: Write> {
    output: W,
    /// Of each packet no more than this many bytes are kept.
    limit: usize,
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a capture of one interface; of each packet at most `limit` bytes are kept.
    ///
    /// # Errors
    /// Those of the output.
    pub fn new(output: W, interface: &str, medium: Medium, limit: usize) -> io::Result<Writer<W>> {
        let mut writer = Writer { output, limit, block: Vec::new() };
        writer.section()?;
        writer.interface(interface, medium)?;
        Ok(writer)
    }

    /// Writes one packet with the time since the Unix epoch.
    ///
    /// ```
    /// use demikernel_net::device::pcapng::{Direction, Writer};
    /// use demikernel_net::device::{Frame, Medium};
    /// use demikernel_runtime::buffer::Buffer;
    /// use std::time::Duration;
    ///
    /// let mut file = Vec::new();
    /// let mut writer = Writer::new(&mut file, "sim", Medium::Ip, 8)?;
    /// let frame = Frame::new(Buffer::from("headers and payload"));
    /// writer.packet(Duration::from_secs(1), Direction::In, &frame)?;
    /// assert!(file.windows(8).any(|bytes| bytes == b"headers "));
    /// assert!(!file.windows(7).any(|bytes| bytes == b"payload"), "eight bytes of each packet are kept");
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Those of the output.
    pub fn packet(&mut self, time: Duration, direction: Direction, frame: &Frame) -> io::Result<()> {
        self.begin(ENHANCED_PACKET);
        let nanos = time.as_nanos() as u64;
        let kept = frame.len().min(self.limit);
        self.word(0);
        self.word((nanos >> 32) as u32);
        self.word(nanos as u32);
        self.word(kept as u32);
        self.word(frame.len() as u32);
        let from = self.block.len();
        frame.copy_to(&mut self.block);
        self.block.truncate(from + kept);
        self.pad();
        self.option(EPB_FLAGS, &(direction as u32).to_le_bytes());
        self.end()
    }

    /// Hands everything to the output.
    ///
    /// # Errors
    /// Those of the output.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    fn section(&mut self) -> io::Result<()> {
        self.begin(SECTION_HEADER);
        self.word(BYTE_ORDER_MAGIC);
        // Version 1.0, and a length that is not known yet.
        self.word(1);
        self.block.extend_from_slice(&u64::MAX.to_le_bytes());
        self.end()
    }

    fn interface(&mut self, name: &str, medium: Medium) -> io::Result<()> {
        self.begin(INTERFACE_DESCRIPTION);
        let link = match medium {
            Medium::Ethernet(_) => LINK_ETHERNET,
            Medium::Ip => LINK_RAW,
        };
        self.word(u32::from(link));
        self.word(self.limit.min(u32::MAX as usize) as u32);
        self.option(IF_NAME, name.as_bytes());
        self.option(IF_TSRESOL, &[9]);
        self.end()
    }

    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.word(kind);
        // The length, when it is known.
        self.word(0);
    }

    fn word(&mut self, word: u32) {
        self.block.extend_from_slice(&word.to_le_bytes());
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let length = value.len().min(usize::from(u16::MAX));
        self.word(u32::from(code) | (length as u32) << 16);
        self.block.extend_from_slice(&value[..length]);
        self.pad();
    }

    fn pad(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    fn end(&mut self) -> io::Result<()> {
        if !self.block.starts_with(&SECTION_HEADER.to_le_bytes()) {
            // The end of the options.
            self.word(0);
        }
        let length = self.block.len() as u32 + 4;
        self.word(length);
        self.block[4..8].copy_from_slice(&length.to_le_bytes());
        self.output.write_all(&self.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::MacAddress;
    use demikernel_runtime::buffer::Buffer;

    /// The blocks of a capture: kind and body.
    fn blocks(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut blocks = Vec::new();
        while !bytes.is_empty() {
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let length = word(4) as usize;
            assert_eq!((length % 4, word(length - 4) as usize), (0, length));
            blocks.push((word(0), bytes[8..length - 4].to_vec()));
            bytes = &bytes[length..];
        }
        blocks
    }

    #[test]
    fn blocks_are_framed_by_their_length_and_packets_keep_time_and_direction() {
        let mut output = Vec::new();
        let medium = Medium::Ethernet(MacAddress::default());
        let mut writer = Writer::new(&mut output, "tap0", medium, 5).unwrap();
        let mut frame = Frame::new(Buffer::from_static(b"abcd"));
        frame.rest.push(Buffer::from_static(b"efg"));
        writer.packet(Duration::new(5, 7), Direction::Out, &frame).unwrap();
        let blocks = blocks(&output);
        assert_eq!(
            blocks.iter().map(|block| block.0).collect::<Vec<_>>(),
            [SECTION_HEADER, INTERFACE_DESCRIPTION, ENHANCED_PACKET]
        );
        let packet = &blocks[2].1;
        let word = |at: usize| u32::from_le_bytes(packet[at..at + 4].try_into().unwrap());
        assert_eq!(u64::from(word(4)) << 32 | u64::from(word(8)), 5_000_000_007);
        assert_eq!((word(12), word(16)), (5, 7), "kept, and as it was");
        assert_eq!(&packet[20..28], b"abcde\0\0\0");
        assert_eq!((word(28), word(32)), (0x0004_0002, 2));
    }
}
