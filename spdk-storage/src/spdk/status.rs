//! What a controller's status, or a code of SPDK's, means as an error.

use std::io;

/// Status code types (NVM Express Base Specification 2.0, section 3.3.3.2).
const GENERIC: u16 = 0;
const COMMAND_SPECIFIC: u16 = 1;
const MEDIA: u16 = 2;

/// What a completion's status says, which is not success: the code, its type above it, and flags.
pub(super) fn error(status: u16, address: &str) -> io::Error {
    let (code, kind) = (status & 0xff, status >> 8 & 7);
    let (error, text) = match (kind, code) {
        (GENERIC, 0x01) => (io::ErrorKind::Unsupported, "the controller does not know the command"),
        (GENERIC, 0x02) => (io::ErrorKind::InvalidInput, "a field of the command is not valid"),
        (GENERIC, 0x04) => (io::ErrorKind::Other, "data could not be transferred"),
        (GENERIC, 0x05) => (io::ErrorKind::ConnectionAborted, "the controller loses its power"),
        (GENERIC, 0x07) => (io::ErrorKind::TimedOut, "it took too long and was aborted"),
        (GENERIC, 0x08) => (io::ErrorKind::ConnectionAborted, "its queue pair is gone"),
        (GENERIC, 0x0b) => (io::ErrorKind::NotFound, "the namespace is gone"),
        (GENERIC, 0x20) | (COMMAND_SPECIFIC, 0x82) => {
            (io::ErrorKind::ReadOnlyFilesystem, "the namespace is write-protected")
        }
        (GENERIC, 0x80) => (io::ErrorKind::InvalidInput, "the range ends behind the namespace"),
        (GENERIC, 0x81) => (io::ErrorKind::StorageFull, "the namespace holds no more"),
        (GENERIC, 0x82) => (io::ErrorKind::ResourceBusy, "the namespace is not ready"),
        (GENERIC, 0x83) => (io::ErrorKind::PermissionDenied, "another host has reserved the namespace"),
        (MEDIA, 0x80) => (io::ErrorKind::Other, "a write failed on the medium"),
        (MEDIA, 0x81) => (io::ErrorKind::InvalidData, "data could not be read from the medium"),
        (MEDIA, 0x86) => (io::ErrorKind::PermissionDenied, "access is denied"),
        (MEDIA, _) => (io::ErrorKind::Other, "the medium has an error"),
        _ => (io::ErrorKind::Other, "the controller refuses"),
    };
    io::Error::new(error, format!("{address}: {text} (status code type {kind:#x}, code {code:#x})"))
}

/// What SPDK said instead of taking a command.
pub(super) fn refused(code: i32, address: &str) -> io::Error {
    match -code {
        libc::ENXIO | libc::ENODEV => {
            let text =
                format!("{address}: the controller is lost: it was removed, reset, or does not answer");
            io::Error::new(io::ErrorKind::NotConnected, text)
        }
        libc::EOPNOTSUPP => io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{address}: the controller has no such command"),
        ),
        errno => io::Error::new(
            io::Error::from_raw_os_error(errno).kind(),
            format!("{address}: SPDK refuses the command: {}", io::Error::from_raw_os_error(errno)),
        ),
    }
}
