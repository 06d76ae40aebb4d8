//! What the kernel knows of a connection.

use crate::inspect::Connection;
use crate::transport::Qd;
use socket2::Socket;
use std::io;
use std::os::fd::AsRawFd;

/// The states of TCP by their numbers in the kernel, which begin with 1.
const STATES: [&str; 12] = [
    "established",
    "syn-sent",
    "syn-received",
    "fin-wait-1",
    "fin-wait-2",
    "time-wait",
    "closed",
    "close-wait",
    "last-ack",
    "listen",
    "closing",
    "new-syn-received",
];

/// A socket with its addresses, and with the figures of TCP if it is one of that.
pub(crate) fn connection(device: &'static str, qd: Qd, socket: &Socket) -> Connection {
    let mut connection = Connection::new(device, qd.0);
    connection.local = super::local(socket).ok().map(|local| local.to_string());
    connection.peer = super::peer(socket).ok().map(|peer| peer.to_string());
    let Ok(info) = tcp_info(socket) else { return connection };
    let state = usize::from(info.tcpi_state).checked_sub(1).and_then(|state| STATES.get(state));
    connection.state = state.map(|&state| state.into());
    let figures = [
        ("retransmits", info.tcpi_retransmits.into()),
        ("backoff", info.tcpi_backoff.into()),
        ("rto", info.tcpi_rto.into()),
        ("rtt", info.tcpi_rtt.into()),
        ("rttvar", info.tcpi_rttvar.into()),
        ("snd_mss", info.tcpi_snd_mss.into()),
        ("rcv_mss", info.tcpi_rcv_mss.into()),
        ("advmss", info.tcpi_advmss.into()),
        ("pmtu", info.tcpi_pmtu.into()),
        ("snd_cwnd", info.tcpi_snd_cwnd.into()),
        ("snd_ssthresh", info.tcpi_snd_ssthresh.into()),
        ("unacked", info.tcpi_unacked.into()),
        ("sacked", info.tcpi_sacked.into()),
        ("lost", info.tcpi_lost.into()),
        ("retrans", info.tcpi_retrans.into()),
        ("total_retrans", info.tcpi_total_retrans.into()),
        ("rcv_space", info.tcpi_rcv_space.into()),
        ("last_data_recv", u64::from(info.tcpi_last_data_recv) * 1000),
    ];
    connection.figures = figures.into_iter().map(|(name, value): (_, u64)| (name.into(), value)).collect();
    connection
}

/// # Errors
/// As getsockopt(2): for what is no TCP, that it has no such option.
fn tcp_info(socket: &Socket) -> io::Result<libc::tcp_info> {
    // SAFETY: plain numbers, all of which may be 0.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    let info_ptr = (&raw mut info).cast::<libc::c_void>();
    // SAFETY: the kernel writes at most as many bytes as it is told that there are.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info_ptr, &raw mut length)
    };
    if result == 0 { Ok(info) } else { Err(io::Error::last_os_error()) }
}
