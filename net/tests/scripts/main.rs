//! Scripts in a true subset of packetdrill's language, run on one connection in virtual time.
//!
//! What can be written, with comments of both kinds:
//! - times: `+.1` after the line before, `0.5` from the beginning;
//! - `<`, what the peer sends, and `>`, what must leave then, at most 4 ms off: flags, `sequence:end(length)`, `ack`,
//!   `win`, and options `mss`, `sackOK`, `TS val V ecr E`, `wscale`, `sack L:R`, `nop`, `eol`; numbers are relative to
//!   the SYNs. A `>` without `win` or with options `<...>` takes any;
//! - calls that return at once, as on non-blocking sockets: `socket`, `bind`, `listen`, `connect`, `accept`, `write`,
//!   `read`, `shutdown`, `close`, with what they return, and the name of an error; `setsockopt` of `TCP_NODELAY`, `TCP_CORK`,
//!   `TCP_USER_TIMEOUT`, `SO_KEEPALIVE`, `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`, and of `SO_RCVBUF` before a connection.
//!
//! A SYN that finds the connection in TIME-WAIT begins another, and numbers are relative to its SYNs from then on.
//!
//! Unlike in packetdrill, what nobody expects fails a script as soon as it leaves, and the clock of timestamps begins
//! at 1000.

mod host;
mod parse;

use host::Host;

macro_rules! scripts {
    ($($name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                let name = concat!(stringify!($name), ".pkt");
                if let Err(error) = run(include_str!(concat!(stringify!($name), ".pkt"))) {
                    panic!("{name}:{error}");
                }
            }
        )*
    };
}

scripts! {
    handshake,
    connect,
    refused,
    retransmission,
    fast_retransmit_sack,
    zero_window_probe,
    close,
    close_passive,
    half_close,
    simultaneous_open,
    simultaneous_close,
    challenge_ack,
    out_of_order,
    ack_of_nothing,
    nagle,
    paws,
    silly_window_sender,
    silly_window_receiver,
    dsack,
    keepalive,
    user_timeout,
    time_wait_reuse,
}

/// Runs a script; what is wrong, with the line.
fn run(script: &str) -> Result<(), String> {
    let mut host = Host::new();
    for line in parse::script(script)? {
        host.step(&line).map_err(|error| format!("{}: {error}", line.number))?;
    }
    host.finish().map_err(|error| format!("end: {error}"))
}

/// Scripts that must fail, and how.
#[test]
fn what_is_not_so_fails_with_the_line() {
    const OPEN: &str = "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n\
                        0 connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)\n";
    let cases = [
        ("+0 > S 0:0(0) <mss 1460,nop,nop,sackOK>\n", "3: expected S 0:0(0)"),
        ("+0 > S. 0:0(0) ack 1 <...>\n", "3: expected S. 0:0(0)"),
        ("+1 < . 1:1(0) ack 1 win 9\n", "3: unexpected, 1.000000 s before: S 0:0(0)"),
        ("+.2 > S 0:0(0) <...>\n", "3: expected S 0:0(0) <...> at 0.200000, it left at 0.000000"),
        ("+0 read(3, ..., 10) = 10\n", "3: unexpected, 0.000000 s before: S 0:0(0)"),
        ("+0 > S 0:0(0) <...>\n+0 read(3, ..., 10) = 10\n", "4: it returns -1 EAGAIN, expected 10"),
        ("+0 > S 0:0(0) <...>\n+0 > S 0:0(0) <...>\n", "4: expected S 0:0(0) <...>, nothing left"),
        ("+0 > S 0:0(1) <...>\n", "3: 0:0(1) does not add up"),
        ("+0 >> S 0:0(0)\n", "3: \">>\" is not a direction nor a call"),
        ("+x > S 0:0(0)\n", "3: \"+x\" is not a time"),
        ("+0 > S 0:0(0) <mss>\n", "3: \"mss\" is not an option"),
        ("+0 > S 0:0(0) <...>\n+0 shutdown(3, SHUT_RD) = 0\n", "4: no shutdown of such arguments here"),
        ("", "end: unexpected, 0.000000 s before: S 0:0(0)"),
    ];
    for (text, expected) in cases {
        let error = run(&format!("{OPEN}{text}")).expect_err(text);
        assert!(error.starts_with(expected), "{text}{error}");
    }
}
