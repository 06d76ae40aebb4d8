//! The control socket, with clients of all kinds.

use demikernel_inspect::protocol::{Answer, Command, LONGEST};
use demikernel_inspect::{Client, Server};
use demikernel_runtime::{Builder, Idle, spawn, spawn_blocking, time, yield_now};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("inspect-{name}-{}", std::process::id()))
}

/// What a client that writes these bytes gets after the greeting.
fn answer_to(path: &PathBuf, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = String::new();
    BufReader::new(stream).read_to_string(&mut all).unwrap();
    let (greeting, rest) = all.split_once('\n').unwrap();
    assert!(greeting.starts_with("{\"demikernel\":1,"), "{greeting}");
    rest.to_owned()
}

#[test]
fn a_running_program_tells_what_it_does() {
    let path = path("tells");
    let server = Server::bind(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let runtime = Builder::new().idle(Idle::Block).core_index(7).build().unwrap();
    runtime.block_on(async {
        spawn(time::sleep(Duration::from_secs(60))).named("sleeper").detach();
        yield_now().await;
        let socket = path.clone();
        spawn_blocking(move || {
            let mut client = Client::connect(socket).unwrap();
            // Tests run at the same time, with runtimes of their own.
            let metrics = client.metrics().unwrap().runtimes;
            let metrics = metrics.iter().find(|metrics| metrics.core == 7).unwrap();
            assert_eq!((metrics.spawned > 0, metrics.timers), (true, 1));
            let dumps = client.dump(10).unwrap().runtimes;
            let dump = dumps.iter().find(|dump| dump.core == 7).unwrap();
            assert!(dump.tasks.iter().any(|task| task.name.as_deref() == Some("sleeper")), "{dump}");
            assert!(client.connections(10).is_ok());
            let Answer::Prometheus(text) = client.ask(&Command::Prometheus).unwrap() else { panic!() };
            assert!(text.contains("demikernel_timers{core=\"7\","), "{text}");
            let error = client.capture(Some("/nowhere/at/all".into())).unwrap_err().to_string();
            assert!(error.contains("No such file"), "{error}");
        })
        .await
        .unwrap();
    });
    drop(server);
    assert!(!path.exists());
}

#[test]
fn bytes_that_make_no_sense_are_answered_and_the_server_goes_on() {
    let path = path("bytes");
    let _server = Server::bind(&path).unwrap();
    let long = [b'x'; 2 * LONGEST];
    let cases: [(&[u8], &str); 7] = [
        (b"", ""),
        (b"\n", "\\\"\\\" is no command"),
        (b"dump 0\n", "is no number"),
        (b"dump 99999999999999999999\n", "is no number"),
        (b"capture on \0\n", "expected `capture on PATH`"),
        (b"\xff\xfe\n", "a line that is no UTF-8"),
        (&long, "a line without an end"),
    ];
    for (bytes, wanted) in cases {
        // What was not read may reset the connection before the answer is.
        if bytes.len() > LONGEST {
            let mut stream = UnixStream::connect(&path).unwrap();
            let _ = stream.write_all(bytes);
            continue;
        }
        let answer = answer_to(&path, bytes);
        assert!(answer.contains(wanted), "{answer}, {wanted}");
    }
    let two = answer_to(&path, b"nothing\nmetrics\n");
    assert!(two.lines().next().unwrap().starts_with("{\"error\":"), "{two}");
    assert!(two.lines().nth(1).unwrap().starts_with("{\"metrics\":"), "{two}");
}

#[test]
fn clients_that_stall_or_are_too_many_hold_up_nobody() {
    let path = path("stall");
    let server = Server::bind(&path).unwrap();
    let mut stalled: Vec<_> = (0..8).map(|_| UnixStream::connect(&path).unwrap()).collect();
    for stream in &stalled {
        BufReader::new(stream).read_line(&mut String::new()).unwrap();
    }
    let error = Client::connect(&path).unwrap_err().to_string();
    assert!(error.contains("8 clients already"), "{error}");
    // A line that never ends does not hold up the others.
    stalled[0].write_all(b"metr").unwrap();
    drop(stalled.pop());
    let end = Instant::now() + Duration::from_secs(10);
    let mut client = loop {
        match Client::connect(&path) {
            Ok(client) => break client,
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => panic!("{error}"),
        }
    };
    assert!(client.metrics().is_ok());
    // Nor the end of the program.
    drop(server);
}

#[test]
fn a_runtime_that_is_stuck_is_said_to_be_silent() {
    let path = path("stuck");
    let _server = Server::bind(&path).unwrap();
    // Nobody runs it.
    let _runtime = Builder::new().build().unwrap();
    let silent = Client::connect(&path).unwrap().metrics().unwrap().silent;
    assert!(silent[0].starts_with("the runtime has not come to it within"), "{silent:?}");
}

#[test]
fn a_socket_that_was_left_is_replaced_and_nothing_else() {
    let path = path("left");
    drop(UnixListener::bind(&path).unwrap());
    let server = Server::bind(&path).unwrap();
    let error = Server::bind(&path).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}");
    drop(server);
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(Server::bind(&path).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
}
