//! The examples, unchanged: only the environment says that they are on RDMA.

use crate::in_lab;
use demikernel::net::TcpStream;
use demikernel::{Builder, Idle};
use futures::{AsyncReadExt, AsyncWriteExt};
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server of ours, ended when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    fn start(example: &str, command: Option<&str>, address: IpAddr) -> Server {
        Server::start_with(example, command.as_slice(), address, None)
    }

    /// The same with a configuration.
    pub(crate) fn start_with(
        example: &str,
        arguments: &[&str],
        address: IpAddr,
        configuration: Option<&Path>,
    ) -> Server {
        let mut server = Command::new(example_path(example));
        server.envs(configuration.map(|path| ("DEMIKERNEL_CONFIG", path)));
        server.args(arguments).args([
            "--listen",
            &SocketAddr::new(address, 0).to_string(),
            "--idle",
            "block",
        ]);
        server.env("DEMIKERNEL_TRANSPORT", "rdma").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = server.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().expect("the server says where it listens").unwrap();
        let address = line.split_whitespace().find_map(|word| word.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}"));
        std::thread::spawn(move || lines.for_each(drop));
        Server { child, address }
    }

    /// Kills it, and waits until it has let go of what it had.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example's program, built beside this test.
fn example_path(example: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(Path::parent).unwrap().join("examples").join(example)
}

/// Sends a request to a server, and reads until the answer ends like that.
fn ask(server: &Server, request: &str, end: &str) -> String {
    let runtime = Builder::new().transport("rdma").idle(Idle::Block).build().unwrap();
    runtime.block_on(async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with(end) {
            let mut room = [0; 1000];
            let count = stream.read(&mut room).await.unwrap();
            assert_ne!(count, 0, "{answer:?} is not all");
            answer.push_str(std::str::from_utf8(&room[..count]).unwrap());
        }
        answer
    })
}

#[test]
fn echo_is_measured_on_rdma() {
    in_lab(|address| {
        let server = Server::start("echo", Some("serve"), address);
        let mut bench = Command::new(example_path("echo"));
        bench.args(["bench", "--connect", &server.address.to_string(), "--idle", "block", "--seconds", "1"]);
        let output = bench.args(["--transport", "rdma", "--connections", "4"]).output().unwrap();
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{table}{errors}");
        let row = table.lines().find(|line| line.starts_with("rdma")).expect(&table);
        eprintln!("{row}");
        let rate: f64 = row.split_whitespace().nth(2).unwrap().parse().unwrap();
        assert!(rate > 0.0);
    });
}

#[test]
fn the_echo_table_has_a_row_for_rdma() {
    in_lab(|_| {
        let output = Command::new(example_path("echo")).args(["--transport", "rdma"]).output().unwrap();
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(table.lines().filter(|line| line.starts_with("rdma")).count(), 2, "{table}");
    });
}

#[test]
fn key_value_answers_on_rdma() {
    in_lab(|address| {
        let server = Server::start("key-value", None, address);
        let request = "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n";
        assert_eq!(ask(&server, request, "value\r\n"), "+OK\r\n$5\r\nvalue\r\n");
    });
}

#[test]
fn http_answers_on_rdma() {
    in_lab(|address| {
        let server = Server::start("http", None, address);
        let request = "POST /echo HTTP/1.1\r\nHost: there\r\nContent-Length: 10\r\n\r\nto and fro";
        let answer = ask(&server, request, "to and fro");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    });
}

#[test]
fn a_server_that_is_killed_ends_its_connections() {
    in_lab(|address| {
        let server = Server::start("echo", Some("serve"), address);
        let runtime = Builder::new().transport("rdma").idle(Idle::Block).build().unwrap();
        runtime.block_on(async {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(&[7; 10_000]).await.unwrap();
            stream.read_exact(&mut [0; 5000]).await.unwrap();
            server.signal("KILL");
            // What had come is read, then comes the error.
            let error = loop {
                match stream.read(&mut [0; 4096]).await {
                    Ok(0) => panic!("a connection that was cut off does not end in order"),
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            assert!([ErrorKind::ConnectionReset, ErrorKind::TimedOut].contains(&error.kind()), "{error:?}");
        });
    });
}
