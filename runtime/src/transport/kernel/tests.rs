use super::*;
use crate::transport::{OpenMode, OptionName, SocketOption};
use std::error::Error;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

fn stream(domain: Domain) -> Socket {
    socket(domain, SocketKind::Stream, Mode::NonBlocking).unwrap()
}

fn loopback() -> Endpoint {
    Endpoint::Inet("127.0.0.1:0".parse().unwrap())
}

/// The kernel's code, which an error with an explanation has as its source.
fn code(error: &io::Error) -> Option<i32> {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    error.raw_os_error().or_else(|| source.and_then(io::Error::raw_os_error))
}

/// A directory of its own that goes away with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("demikernel-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn sockets_wait_as_asked_and_close_on_exec() {
    for mode in [Mode::Blocking, Mode::NonBlocking] {
        let made = socket(Domain::V4, SocketKind::Datagram, mode).unwrap();
        assert_eq!(made.nonblocking().unwrap(), mode == Mode::NonBlocking);
        // SAFETY: no pointers are passed.
        let flags = unsafe { libc::fcntl(made.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }
    let refused = socket(Domain::Unix, SocketKind::Datagram, Mode::Blocking).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
}

#[test]
fn addresses_come_back_as_they_went() {
    for text in ["127.0.0.1:80", "[::1]:443", "[fe80::1%3]:5", "255.255.255.255:65535"] {
        let endpoint = Endpoint::Inet(text.parse().unwrap());
        assert_eq!(to_endpoint(&to_sockaddr(&endpoint).unwrap()).unwrap(), endpoint);
    }
    for path in [Some("/run/a socket"), Some("relative"), Some("\0abstract\0name"), None] {
        let endpoint = Endpoint::Unix(path.map(PathBuf::from));
        assert_eq!(to_endpoint(&to_sockaddr(&endpoint).unwrap()).unwrap(), endpoint);
    }
}

#[test]
fn impossible_paths_are_refused() {
    for path in ["x".repeat(108), "/run/a\0b".to_owned()] {
        let error = to_sockaddr(&Endpoint::Unix(Some(path.into()))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    assert!(to_sockaddr(&Endpoint::Unix(Some("x".repeat(107).into()))).is_ok());
}

#[test]
fn a_used_address_is_named_with_what_to_do() {
    let first = stream(Domain::V4);
    bind(&first, &loopback()).unwrap();
    listen(&first, 8).unwrap();
    let taken = local(&first).unwrap();
    let error = bind(&stream(Domain::V4), &taken).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(code(&error), Some(libc::EADDRINUSE));
    let message = error.to_string();
    assert!(message.contains(&taken.to_string()) && message.contains("choose another port"), "{message}");
}

#[test]
fn a_left_socket_file_is_refused_and_kept() {
    let directory = Directory::new("stale");
    let path = directory.0.join("socket");
    let name = Endpoint::Unix(Some(path.clone()));
    bind(&stream(Domain::Unix), &name).unwrap();
    let error = bind(&stream(Domain::Unix), &name).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains("remove it"), "{error}");
    assert!(path.exists());

    let nowhere = Endpoint::Unix(Some(directory.0.join("none/socket")));
    let error = bind(&stream(Domain::Unix), &nowhere).unwrap_err();
    assert_eq!((error.kind(), code(&error)), (io::ErrorKind::NotFound, Some(libc::ENOENT)));
}

#[test]
fn explanations_keep_kind_and_code() {
    let os = io::Error::from_raw_os_error;
    let low = Endpoint::Inet("0.0.0.0:80".parse().unwrap());
    let cases = [
        (bind_error(os(libc::EACCES), &low), libc::EACCES, "CAP_NET_BIND_SERVICE"),
        (bind_error(os(libc::EADDRNOTAVAIL), &low), libc::EADDRNOTAVAIL, "no interface"),
        (bind_error(os(libc::ENODEV), &low), libc::ENODEV, "cannot bind to 0.0.0.0:80"),
        (accept_error(os(libc::EMFILE)), libc::EMFILE, "ulimit -n"),
        (errors::socket_error(os(libc::EMFILE)), libc::EMFILE, "ulimit -n"),
        (errors::socket_error(os(libc::EAFNOSUPPORT)), libc::EAFNOSUPPORT, "IPv6"),
        (connect_error(os(libc::EADDRNOTAVAIL), &low), libc::EADDRNOTAVAIL, "ip_local_port_range"),
        (connect_error(os(libc::ECONNREFUSED), &low), libc::ECONNREFUSED, "refused"),
        (open_error(os(libc::ENOENT), Path::new("/a/b"), false), libc::ENOENT, "/a/b"),
        (open_error(os(libc::EINVAL), Path::new("/a/b"), true), libc::EINVAL, "O_DIRECT"),
    ];
    for (error, expected, hint) in cases {
        assert_eq!(code(&error), Some(expected));
        assert_eq!(error.kind(), os(expected).kind());
        assert!(error.to_string().contains(hint), "{error}");
        assert!(error.to_string().contains("os error"), "{error}");
    }
}

#[test]
fn options_of_a_tcp_socket_read_back() {
    for domain in [Domain::V4, Domain::V6] {
        let socket = stream(domain);
        let keep = SocketOption::KeepAlive {
            enabled: true,
            idle: Some(Duration::from_millis(1500)),
            interval: Some(Duration::from_secs(3)),
            count: Some(4),
        };
        let kept = SocketOption::KeepAlive {
            enabled: true,
            idle: Some(Duration::from_secs(2)),
            interval: Some(Duration::from_secs(3)),
            count: Some(4),
        };
        let cases = [
            (SocketOption::NoDelay(true), SocketOption::NoDelay(true)),
            (keep, kept),
            (SocketOption::Linger(None), SocketOption::Linger(None)),
            (SocketOption::Linger(Some(Duration::ZERO)), SocketOption::Linger(Some(Duration::ZERO))),
            (
                SocketOption::Linger(Some(Duration::from_millis(1))),
                SocketOption::Linger(Some(Duration::from_secs(1))),
            ),
            (SocketOption::TimeToLive(17), SocketOption::TimeToLive(17)),
            (SocketOption::ReceiveBuffer(16384), SocketOption::ReceiveBuffer(32768)),
            (SocketOption::SendBuffer(16384), SocketOption::SendBuffer(32768)),
            (SocketOption::ReuseAddress(true), SocketOption::ReuseAddress(true)),
            (SocketOption::ReusePort(true), SocketOption::ReusePort(true)),
            (SocketOption::Broadcast(false), SocketOption::Broadcast(false)),
        ];
        for (set, expected) in cases {
            set_option(&socket, set).unwrap();
            assert_eq!(option(&socket, set.name()).unwrap(), expected);
        }
    }
}

#[test]
fn options_of_other_sockets_are_unsupported() {
    let udp = socket(Domain::V4, SocketKind::Datagram, Mode::NonBlocking).unwrap();
    let cases = [
        (&udp, SocketOption::NoDelay(true)),
        (&udp, SocketOption::V6Only(true)),
        (&stream(Domain::Unix), SocketOption::NoDelay(true)),
        (&stream(Domain::Unix), SocketOption::TimeToLive(3)),
        (&stream(Domain::V4), SocketOption::V6Only(false)),
    ];
    for (socket, set) in cases {
        for error in [set_option(socket, set).unwrap_err(), option(socket, set.name()).unwrap_err()] {
            assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
        }
    }
    assert_eq!(option(&stream(Domain::V6), OptionName::V6Only).unwrap().name(), OptionName::V6Only);
    set_option(&udp, SocketOption::Broadcast(true)).unwrap();
    assert_eq!(option(&udp, OptionName::Broadcast).unwrap(), SocketOption::Broadcast(true));
}

#[test]
fn a_closed_socket_gets_a_bound_that_the_program_did_not_choose() {
    let socket = stream(Domain::V4);
    finish_in_background(&socket);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(BACKGROUND));
    socket.set_tcp_user_timeout(Some(Duration::from_secs(5))).unwrap();
    finish_in_background(&socket);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(5)));
    finish_in_background(&stream(Domain::Unix));
}

#[test]
fn open_modes_are_those_of_the_standard_library() {
    let none = OpenMode::default();
    let read = OpenMode { read: true, ..none };
    let write = OpenMode { write: true, ..none };
    let append = OpenMode { append: true, ..none };
    let cases = [
        (read, libc::O_RDONLY),
        (OpenMode { read: true, ..write }, libc::O_RDWR),
        (OpenMode { create: true, truncate: true, ..write }, libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC),
        (
            OpenMode { create_new: true, ..append },
            libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_EXCL,
        ),
        (OpenMode { direct: true, ..read }, libc::O_DIRECT),
        (OpenMode { custom_flags: libc::O_NOFOLLOW | libc::O_RDWR, ..read }, libc::O_NOFOLLOW),
    ];
    for (mode, flags) in cases {
        assert_eq!(open_flags(mode).unwrap(), flags | libc::O_CLOEXEC, "{mode:?}");
    }
    let refused = [
        none,
        OpenMode { truncate: true, ..read },
        OpenMode { create: true, ..read },
        OpenMode { create_new: true, ..read },
        OpenMode { truncate: true, ..append },
    ];
    for mode in refused {
        assert_eq!(open_flags(mode).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{mode:?}");
    }
    assert!(c_path(Path::new("a\0b")).is_err());
}
