//! `demikernel-top` on a program that runs: this test.

use demikernel_inspect::Server;
use demikernel_runtime::net::{TcpListener, TcpStream};
use demikernel_runtime::transport::epoll::Epoll;
use demikernel_runtime::{Runtime, spawn, spawn_blocking, yield_now};
use std::path::Path;
use std::process::Command;

fn top(socket: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demikernel-top"));
    let output = command.args(arguments).arg(socket).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_running_program_is_printed() {
    let socket = std::env::temp_dir().join(format!("top-once-{}", std::process::id()));
    let _server = Server::bind(&socket).unwrap();
    let runtime = Runtime::new().unwrap();
    runtime.attach(Epoll::transport().unwrap());
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        spawn(async move { server.pop().await }).named("reader").detach();
        let busy = spawn(async {
            loop {
                yield_now().await
            }
        });
        let path = socket.clone();
        let [once, tasks, connections] = spawn_blocking(move || {
            [&["--once", "--interval", "0.1"][..], &["--tasks"], &["--connections"]]
                .map(|arguments| top(&path, arguments))
        })
        .await
        .unwrap();
        busy.abort();
        let row: Vec<_> = once.lines().nth(3).unwrap().split_whitespace().collect();
        assert_eq!((row[0], row[3]), ("0", "2"), "{once}");
        let share: f64 = row[1].trim_end_matches('%').parse().unwrap();
        assert!(share > 50.0, "it is never idle: {once}");
        assert_ne!(row[7], "0", "polls: {once}");
        assert!(once.contains("epoll        sockets and files open                          3"), "{once}");
        assert!(once.contains("turns of the loop"), "{once}");
        assert!(tasks.contains("\"reader\" waits, spawned at top/tests/once.rs:"), "{tasks}");
        assert!(tasks.contains("epoll: receive of socket"), "{tasks}");
        assert!(connections.contains(&client.local_addr().unwrap().to_string()), "{connections}");
        assert!(connections.contains("established"), "{connections}");
    });
}

#[test]
fn what_is_no_program_is_said_to_be_none() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demikernel-top"));
    let output = command.args(["--once", "/nowhere/to/be/found"]).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("cannot look into /nowhere/to/be/found"), "{text}");
}
