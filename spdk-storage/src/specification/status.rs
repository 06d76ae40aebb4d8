//! How commands end: status codes, and the errors that they are.

use std::fmt;
use std::io;

/// The upper half of the last double word of a completion: the phase, the status code and its type, and what follows
/// from it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub(crate) struct Status(pub(crate) u16);

/// Codes that something depends on: type and code.
pub(crate) const ABORT_REQUESTED: (u8, u8) = (0, 0x07);
pub(crate) const INVALID_QUEUE: (u8, u8) = (1, 0x01);
#[cfg(test)]
pub(crate) const INVALID_OPCODE: (u8, u8) = (0, 0x01);
#[cfg(test)]
pub(crate) const INVALID_FIELD: (u8, u8) = (0, 0x02);
#[cfg(test)]
pub(crate) const OUT_OF_RANGE: (u8, u8) = (0, 0x80);
#[cfg(test)]
pub(crate) const UNRECOVERED_READ: (u8, u8) = (2, 0x81);

impl Status {
    /// As the kernel tells it: without the phase.
    #[cfg(feature = "io-uring")]
    pub(crate) fn from_kernel(number: u16) -> Status {
        Status(number << 1)
    }

    #[cfg(test)]
    pub(crate) fn new((kind, code): (u8, u8)) -> Status {
        Status(u16::from(kind) << 9 | u16::from(code) << 1)
    }

    #[inline]
    pub(crate) fn phase(self) -> bool {
        self.0 & 1 == 1
    }

    #[inline]
    pub(crate) fn is_success(self) -> bool {
        self.0 & 0x0ffe == 0
    }

    /// Type and code.
    pub(crate) fn code(self) -> (u8, u8) {
        ((self.0 >> 9 & 7) as u8, (self.0 >> 1) as u8)
    }

    /// The same command would fail again.
    fn is_final(self) -> bool {
        self.0 >> 15 == 1
    }

    /// The error that it is. `what` was asked for.
    #[cold]
    pub(crate) fn error(self, what: impl fmt::Display) -> io::Error {
        io::Error::new(self.kind(), format!("NVMe: {what} failed: {self}"))
    }

    fn kind(self) -> io::ErrorKind {
        match self.code() {
            (0, 0x01) => io::ErrorKind::Unsupported,
            (0, 0x02 | 0x0b | 0x80) => io::ErrorKind::InvalidInput,
            (0, 0x81) => io::ErrorKind::StorageFull,
            (0, 0x20) | (1, 0x82) => io::ErrorKind::ReadOnlyFilesystem,
            (0, 0x82 | 0x84) | (3, 0x02 | 0x03) => io::ErrorKind::ResourceBusy,
            (3, 0x70) => io::ErrorKind::NotConnected,
            (0, 0x05 | 0x07 | 0x08) | (3, 0x71) => io::ErrorKind::ConnectionAborted,
            (0, 0x1c) | (2, 0x86) => io::ErrorKind::PermissionDenied,
            (2, 0x80..=0x85 | 0x87) => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        }
    }
}

/// What a code means, for those that a block device meets.
fn name((kind, code): (u8, u8)) -> &'static str {
    match (kind, code) {
        (0, 0x00) => "success",
        (0, 0x01) => "invalid command opcode",
        (0, 0x02) => "invalid field in command",
        (0, 0x03) => "command ID conflict",
        (0, 0x04) => "data transfer error",
        (0, 0x05) => "aborted due to power loss",
        (0, 0x06) => "internal device error",
        (0, 0x07) => "abort requested",
        (0, 0x08) => "aborted as the submission queue was deleted",
        (0, 0x0b) => "invalid namespace or format",
        (0, 0x0d) => "invalid SGL segment descriptor",
        (0, 0x0e) => "invalid number of SGL descriptors",
        (0, 0x0f) => "data SGL length invalid",
        (0, 0x11) => "SGL descriptor type invalid",
        (0, 0x13) => "PRP offset invalid",
        (0, 0x14) => "atomic write unit exceeded",
        (0, 0x15) => "operation denied",
        (0, 0x1c) => "sanitize failed",
        (0, 0x1d) => "sanitize in progress",
        (0, 0x20) => "namespace is write protected",
        (0, 0x80) => "LBA out of range",
        (0, 0x81) => "capacity exceeded",
        (0, 0x82) => "namespace not ready",
        (0, 0x83) => "reservation conflict",
        (0, 0x84) => "format in progress",
        (1, 0x00) => "completion queue invalid",
        (1, 0x01) => "invalid queue identifier",
        (1, 0x02) => "invalid queue size",
        (1, 0x03) => "abort command limit exceeded",
        (1, 0x05) => "asynchronous event request limit exceeded",
        (1, 0x82) => "attempted write to read-only range",
        (2, 0x80) => "write fault",
        (2, 0x81) => "unrecovered read error",
        (2, 0x82) => "end-to-end guard check error",
        (2, 0x83) => "end-to-end application tag check error",
        (2, 0x84) => "end-to-end reference tag check error",
        (2, 0x85) => "compare failure",
        (2, 0x86) => "access denied",
        (2, 0x87) => "deallocated or unwritten block",
        (3, 0x01) => "asymmetric access persistent loss",
        (3, 0x02) => "asymmetric access inaccessible",
        (3, 0x03) => "asymmetric access transition",
        (3, 0x70) => "host pathing error",
        (3, 0x71) => "command aborted by host",
        _ => "a status without a name here",
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, code) = self.code();
        let kind_name = match kind {
            0 => "generic",
            1 => "command specific",
            2 => "media and data integrity",
            3 => "path related",
            7 => "vendor specific",
            _ => "reserved",
        };
        write!(f, "{} (status code type {kind}h, {kind_name}; status code {code:02x}h", name((kind, code)))?;
        f.write_str(if self.is_final() { "; do not retry)" } else { ")" })
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_type_code_and_name() {
        let error = Status(1 << 15 | 2 << 9 | 0x81 << 1 | 1).error("read of 4096 bytes at 512");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(
            error.to_string(),
            "NVMe: read of 4096 bytes at 512 failed: unrecovered read error (status code type 2h, media and data \
             integrity; status code 81h; do not retry)"
        );
        let kinds = [
            (INVALID_OPCODE, io::ErrorKind::Unsupported),
            (OUT_OF_RANGE, io::ErrorKind::InvalidInput),
            ((0, 0x81), io::ErrorKind::StorageFull),
            ((0, 0x20), io::ErrorKind::ReadOnlyFilesystem),
            ((6, 0xff), io::ErrorKind::Other),
        ];
        for (code, kind) in kinds {
            let status = Status::new(code);
            assert_eq!((status.code(), status.error("it").kind(), status.is_success()), (code, kind, false));
        }
        assert!(Status(1).is_success() && Status(1).phase() && !Status(0).phase());
    }
}
