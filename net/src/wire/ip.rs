//! What both versions of IP have in common.

use super::Malformed;

/// Numbers of protocols above IP; IPv6's next headers are of the same registry.
pub mod protocol {
    /// ICMP of IPv4.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP of IPv6.
    pub const ICMPV6: u8 = 58;
}

/// The ECN field (RFC 3168 section 5).
///
/// ```
/// use demikernel_net::wire::ip::Ecn;
///
/// assert_eq!(Ecn::from_bits(0b10), Ecn::Ect0);
/// assert!(Ecn::Ect0.is_capable() && !Ecn::NotEct.is_capable());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Ecn {
    /// The transport does not know ECN.
    #[default]
    NotEct = 0b00,
    /// ECT(1): capable; L4S, where that is spoken.
    Ect1 = 0b01,
    /// ECT(0): capable.
    Ect0 = 0b10,
    /// A router has met congestion.
    Ce = 0b11,
}

impl Ecn {
    /// From the low two bits of a traffic class; others are ignored.
    ///
    /// ```
    /// use demikernel_net::wire::ip::Ecn;
    ///
    /// assert_eq!(Ecn::from_bits(0b1011_1011), Ecn::Ce, "the DSCP above is ignored");
    /// ```
    #[inline]
    pub const fn from_bits(bits: u8) -> Ecn {
        match bits & 0b11 {
            0b00 => Ecn::NotEct,
            0b01 => Ecn::Ect1,
            0b10 => Ecn::Ect0,
            _ => Ecn::Ce,
        }
    }

    /// Whether a router may mark the packet instead of dropping it, or has done so.
    #[inline]
    pub const fn is_capable(self) -> bool {
        !matches!(self, Ecn::NotEct)
    }
}

/// IPv4's type of service and IPv6's traffic class: DSCP (RFC 2474) and ECN.
///
/// ```
/// use demikernel_net::wire::ip::{Ecn, TrafficClass};
///
/// // Expedited forwarding (RFC 3246), and a mark of congestion.
/// let class = TrafficClass { dscp: 46, ecn: Ecn::Ce };
/// assert_eq!(class.bits(), 0xbb);
/// assert_eq!(TrafficClass::from_bits(0xbb), class);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TrafficClass {
    /// Differentiated services code point: 6 bits.
    pub dscp: u8,
    /// Explicit congestion notification.
    pub ecn: Ecn,
}

impl TrafficClass {
    /// From the octet in the header.
    #[inline]
    pub const fn from_bits(bits: u8) -> TrafficClass {
        TrafficClass { dscp: bits >> 2, ecn: Ecn::from_bits(bits) }
    }

    /// The octet in the header.
    #[inline]
    pub const fn bits(self) -> u8 {
        self.dscp << 2 | self.ecn as u8
    }
}

/// A version of IP.
///
/// ```
/// use demikernel_net::wire::ip::Version;
/// use demikernel_net::wire::{ipv4, ipv6};
///
/// let mut packet = [0; 40];
/// ipv6::Header::default().emit(&mut packet);
/// assert_eq!(Version::of(&packet), Ok(Version::V6));
/// ipv4::Header::default().emit(&mut packet);
/// assert_eq!(Version::of(&packet), Ok(Version::V4));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Version {
    /// By a packet's first four bits, for media that have no other sign.
    ///
    /// ```
    /// use demikernel_net::wire::{Malformed, ip::Version};
    ///
    /// assert_eq!(Version::of(&[0x45, 0, 0, 20]), Ok(Version::V4));
    /// assert_eq!(Version::of(&[0x50]), Err(Malformed::Version));
    /// assert_eq!(Version::of(&[]), Err(Malformed::Truncated));
    /// ```
    ///
    /// # Errors
    /// If there is no byte, or it is of another version.
    #[inline]
    pub fn of(packet: &[u8]) -> Result<Version, Malformed> {
        match packet.first().ok_or(Malformed::Truncated)? >> 4 {
            4 => Ok(Version::V4),
            6 => Ok(Version::V6),
            _ => Err(Malformed::Version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_classes_keep_every_bit() {
        for bits in 0..=255 {
            assert_eq!(TrafficClass::from_bits(bits).bits(), bits);
        }
        assert_eq!(TrafficClass::from_bits(0xb9), TrafficClass { dscp: 46, ecn: Ecn::Ect1 });
    }

    #[test]
    fn versions_are_the_first_four_bits() {
        assert_eq!(Version::of(&[0x4f]), Ok(Version::V4));
        assert_eq!(Version::of(&[0x60, 0]), Ok(Version::V6));
        assert_eq!(Version::of(&[0x50]), Err(Malformed::Version));
        assert_eq!(Version::of(&[]), Err(Malformed::Truncated));
    }
}
