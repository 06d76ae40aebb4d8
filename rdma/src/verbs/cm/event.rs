//! What happens to connections, and what goes wrong with them.

use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Deref;
use std::slice;

use super::super::address::AddressHandle;
use super::super::domain::ProtectionDomain;
use super::super::raw::*;
use super::EventChannel;
use super::id::ConnectionId;

/// Something that has happened.
#[derive(Debug)]
pub struct Event {
    /// The tag of the id that it has happened to; of the listener, if it is a request.
    pub tag: u64,
    /// What it is.
    pub kind: EventKind,
}

/// What has happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// The address is known, and the device: next is [`resolve_route`](ConnectionId::resolve_route).
    AddressResolved,
    /// The way is known: next is [`connect`](ConnectionId::connect).
    RouteResolved,
    /// Somebody wants to connect to a listener.
    Request(Request),
    /// The peer has accepted: next is [`establish`](ConnectionId::establish).
    Response {
        /// What the peer had to say.
        data: PrivateData,
        /// Reads and atomic operations of the peer that this side is to answer at once.
        responder_resources: u8,
        /// Those of this side that the peer answers at once.
        initiator_depth: u8,
    },
    /// The connection is there, on the side that has accepted.
    Established,
    /// Where datagrams are to be sent, for who has asked.
    Datagrams(Destination, PrivateData),
    /// It has not come to a connection.
    Failed {
        /// Why.
        error: ConnectError,
        /// What the peer had to say, if it has refused.
        data: PrivateData,
    },
    /// The peer has ended the connection, or does not answer any more.
    Disconnected,
    /// The device is being removed. Ids and queue pairs on it are to be dropped.
    DeviceRemoved,
    /// The address of this side has moved to another interface.
    AddressChanged,
    /// The number of the queue pair may be used again.
    TimewaitEnded,
    /// Another one.
    Other(u32),
}

/// A connection that somebody wants.
#[derive(Debug)]
pub struct Request {
    /// This end of it, to [accept](ConnectionId::accept) or [reject](ConnectionId::reject). Dropped, it is rejected. Its
    /// tag is the listener's until it is given another.
    pub id: ConnectionId,
    /// What the peer had to say.
    pub data: PrivateData,
    /// Reads and atomic operations of the peer that it wants to have answered at once.
    pub responder_resources: u8,
    /// Those of this side that the peer answers at once. Whoever accepts asks for no more, and answers no more than that.
    pub initiator_depth: u8,
}

/// Where datagrams go.
#[derive(Clone, Copy)]
pub struct Destination {
    attributes: ibv_ah_attr,
    /// The number of the queue pair.
    pub number: u32,
    /// Its key.
    pub key: u32,
}

impl Destination {
    /// The way there.
    ///
    /// # Errors
    /// If the device knows none.
    pub fn address(&self, domain: &ProtectionDomain) -> io::Result<AddressHandle> {
        AddressHandle::of(domain, &mut self.attributes.clone())
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destination").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Bytes that came along with an event. They may be followed by zeroes: packets of the connection manager have a fixed
/// size, so only what is in them can say how many there are.
#[derive(Clone, Copy)]
pub struct PrivateData {
    bytes: [u8; 255],
    len: u8,
}

impl PrivateData {
    /// # Safety
    /// There are as many bytes, or the pointer is null.
    unsafe fn of(bytes: *const std::ffi::c_void, len: u8) -> PrivateData {
        let mut data = PrivateData { bytes: [0; 255], len: 0 };
        if !bytes.is_null() {
            // SAFETY: as the caller promises.
            let from = unsafe { slice::from_raw_parts(bytes.cast::<u8>(), len.into()) };
            data.bytes[..from.len()].copy_from_slice(from);
            data.len = len;
        }
        data
    }
}

impl Deref for PrivateData {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len.into()]
    }
}

impl fmt::Debug for PrivateData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without what may be padding.
        let len = self.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self[..len].fmt(f)
    }
}

/// Why there is no connection. As an [`io::Error`] it has the kind that TCP's would have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no device or no way to the address; with the errno.
    Address(i32),
    /// There is no way to the port; with the errno.
    Route(i32),
    /// The peer does not answer; with the errno.
    Unreachable(i32),
    /// Nobody listens.
    NobodyListens,
    /// The peer's program does not want it.
    Rejected,
    /// Its connection manager does not want it, for a reason that has this number.
    Refused(i32),
    /// It has failed in between; with the errno.
    Failed(i32),
}

/// Reasons of a rejection: the number by which a peer's manager says that nobody listens, and that its program has said so.
const INVALID_SERVICE: i32 = 8;
const CONSUMER: i32 = 28;

impl ConnectError {
    fn of(event: &rdma_cm_event) -> ConnectError {
        let errno = event.status.abs();
        match event.event {
            event::ADDR_ERROR => ConnectError::Address(errno),
            event::ROUTE_ERROR => ConnectError::Route(errno),
            event::REJECTED if event.status == INVALID_SERVICE => ConnectError::NobodyListens,
            event::REJECTED if event.status == CONSUMER => ConnectError::Rejected,
            event::REJECTED => ConnectError::Refused(event.status),
            // So a request for datagrams is refused, and says the reason as a positive number.
            event::UNREACHABLE if event.status > 0 => ConnectError::Refused(event.status),
            event::UNREACHABLE => ConnectError::Unreachable(errno),
            _ => ConnectError::Failed(errno),
        }
    }

    /// What a socket's error would be.
    pub fn kind(self) -> ErrorKind {
        let of_errno = |errno, otherwise| match io::Error::from_raw_os_error(errno).kind() {
            kind @ (ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::AddrNotAvailable
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset) => kind,
            _ => otherwise,
        };
        match self {
            ConnectError::Address(errno) | ConnectError::Route(errno) | ConnectError::Unreachable(errno) => {
                of_errno(errno, ErrorKind::HostUnreachable)
            }
            ConnectError::NobodyListens | ConnectError::Rejected | ConnectError::Refused(_) => {
                ErrorKind::ConnectionRefused
            }
            ConnectError::Failed(errno) => of_errno(errno, ErrorKind::ConnectionAborted),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, errno) = match *self {
            ConnectError::Address(errno) => ("no RDMA device leads to the address", errno),
            ConnectError::Route(errno) => ("no route leads to the address", errno),
            ConnectError::Unreachable(errno) => ("the peer does not answer", errno),
            ConnectError::NobodyListens => return f.write_str("nobody listens there"),
            ConnectError::Rejected => return f.write_str("the peer does not want the connection"),
            ConnectError::Refused(reason) => {
                return write!(f, "the peer's connection manager refuses, reason {reason}");
            }
            ConnectError::Failed(errno) => ("the connection failed before it was there", errno),
        };
        match errno {
            0 => f.write_str(text),
            errno => write!(f, "{text}: {}", io::Error::from_raw_os_error(errno)),
        }
    }
}

impl std::error::Error for ConnectError {}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

impl Event {
    /// # Safety
    /// The event was got from the channel and is not acknowledged; a new id in it is given away.
    pub(super) unsafe fn of(raw: &rdma_cm_event, channel: &EventChannel) -> Event {
        let is_request = raw.event == event::CONNECT_REQUEST;
        let whose = if is_request { raw.listen_id } else { raw.id };
        // SAFETY: as the caller promises.
        let (tag, datagrams) = unsafe { ((*whose).context as u64, (*raw.id).port_space == RDMA_PS_UDP) };
        // SAFETY: the event has the parameters that belong to it, or zeroes.
        let kind = unsafe { kind(raw, channel, datagrams) };
        Event { tag, kind }
    }
}

/// # Safety
/// As [`Event::of`]; and the event is of an id for datagrams, or not.
unsafe fn kind(raw: &rdma_cm_event, channel: &EventChannel, datagrams: bool) -> EventKind {
    // SAFETY: which of them it is depends on the id, as the caller says; both begin alike.
    let (parameters, data) = unsafe {
        let parameters = raw.param.conn;
        (parameters, PrivateData::of(parameters.private_data, parameters.private_data_len))
    };
    match raw.event {
        event::ADDR_RESOLVED => EventKind::AddressResolved,
        event::ROUTE_RESOLVED => EventKind::RouteResolved,
        event::CONNECT_REQUEST => {
            // SAFETY: the id is new, and given away.
            let id = unsafe { ConnectionId::of(raw.id, channel) };
            let (responder_resources, initiator_depth) = match datagrams {
                true => (0, 0),
                false => (parameters.responder_resources, parameters.initiator_depth),
            };
            EventKind::Request(Request { id, data, responder_resources, initiator_depth })
        }
        event::CONNECT_RESPONSE => EventKind::Response {
            data,
            responder_resources: parameters.responder_resources,
            initiator_depth: parameters.initiator_depth,
        },
        event::ESTABLISHED if datagrams => {
            // SAFETY: an id for datagrams has these.
            let ud = unsafe { raw.param.ud };
            EventKind::Datagrams(
                Destination { attributes: ud.ah_attr, number: ud.qp_num, key: ud.qkey },
                data,
            )
        }
        event::ESTABLISHED => EventKind::Established,
        event::ADDR_ERROR
        | event::ROUTE_ERROR
        | event::CONNECT_ERROR
        | event::UNREACHABLE
        | event::REJECTED => EventKind::Failed { error: ConnectError::of(raw), data },
        event::DISCONNECTED => EventKind::Disconnected,
        event::DEVICE_REMOVAL => EventKind::DeviceRemoved,
        event::ADDR_CHANGE => EventKind::AddressChanged,
        event::TIMEWAIT_EXIT => EventKind::TimewaitEnded,
        other => EventKind::Other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_fails_has_the_error_that_tcp_would_have() {
        let failed = |event, status| {
            let conn = rdma_conn_param {
                private_data: std::ptr::null(),
                private_data_len: 0,
                responder_resources: 0,
                initiator_depth: 0,
                flow_control: 0,
                retry_count: 0,
                rnr_retry_count: 0,
                srq: 0,
                qp_num: 0,
            };
            let (id, listen_id) = (std::ptr::null_mut(), std::ptr::null_mut());
            let event = rdma_cm_event { id, listen_id, event, status, param: rdma_event_param { conn } };
            io::Error::from(ConnectError::of(&event)).kind()
        };
        for (event, status, kind) in [
            (event::REJECTED, INVALID_SERVICE, ErrorKind::ConnectionRefused),
            (event::REJECTED, CONSUMER, ErrorKind::ConnectionRefused),
            (event::UNREACHABLE, -libc::ETIMEDOUT, ErrorKind::TimedOut),
            (event::UNREACHABLE, -libc::ENETDOWN, ErrorKind::HostUnreachable),
            (event::UNREACHABLE, 1, ErrorKind::ConnectionRefused),
            (event::ADDR_ERROR, -libc::ENETUNREACH, ErrorKind::NetworkUnreachable),
            (event::ADDR_ERROR, -libc::ENODEV, ErrorKind::HostUnreachable),
            (event::ROUTE_ERROR, 0, ErrorKind::HostUnreachable),
            (event::CONNECT_ERROR, -libc::EIO, ErrorKind::ConnectionAborted),
        ] {
            assert_eq!(failed(event, status), kind, "event {event} status {status}");
        }
    }
}
