//! Sockets and logs of one runtime, by the same calls.

use demikernel::net::TcpStream;
use demikernel::pdpix::{self, Opcode, Qd, Qt, Value};
use demikernel::transport::{Domain, SocketKind};
use demikernel::{Buffer, Builder, spawn, storage};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

const CLIENTS: usize = 4;
const MESSAGES: usize = 50;

/// What is pushed to the log, with the connection that waits for it.
struct Server {
    log: Qd,
    tokens: Vec<Qt>,
    /// The connection whose message a push to the log is, and the message.
    logging: HashMap<Qt, (Qd, Buffer)>,
}

impl Server {
    /// Sends what comes back when it is in the log, as long as there are connections: one loop over the tokens of all.
    async fn serve(&mut self, listener: Qd) -> io::Result<()> {
        self.tokens.push(pdpix::accept(listener)?);
        let (mut accepted, mut ended) = (0, 0);
        while ended < CLIENTS {
            let (index, result) = pdpix::wait_any(&self.tokens, None).await?;
            self.tokens.swap_remove(index);
            let opcode = result.opcode;
            match (opcode, result.value) {
                (Opcode::Accept, Value::Accepted { qd, .. }) => {
                    accepted += 1;
                    self.tokens.push(pdpix::pop(qd, None)?);
                    if accepted < CLIENTS {
                        self.tokens.push(pdpix::accept(listener)?);
                    }
                }
                (Opcode::Pop, Value::Popped { sga, .. }) if sga.is_empty() => {
                    pdpix::close(result.qd)?;
                    ended += 1;
                }
                (Opcode::Pop, Value::Popped { sga, .. }) => {
                    let message = Buffer::from(sga.to_vec());
                    let record = [format!("{}:", result.qd).as_bytes(), &message].concat();
                    let logging = pdpix::push(self.log, Buffer::from(record))?;
                    self.logging.insert(logging, (result.qd, message));
                    self.tokens.push(logging);
                }
                (Opcode::Push, Value::None) => {
                    if let Some((client, message)) = self.logging.remove(&result.qt) {
                        assert_eq!(result.qd, self.log);
                        self.tokens.push(pdpix::push(client, message)?);
                        self.tokens.push(pdpix::pop(client, None)?);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        Ok(())
    }
}

/// All that a client sends. Streams may cut it anywhere.
fn messages(number: usize) -> Vec<String> {
    (0..MESSAGES).map(|count| format!("client {number} message {count};")).collect()
}

async fn client(number: usize, address: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    for message in messages(number) {
        stream.push(Buffer::from(message.clone())).await?;
        let mut answer = Vec::new();
        while answer.len() < message.len() {
            let part = stream.pop().await?;
            assert!(!part.is_empty());
            answer.extend_from_slice(&part);
        }
        assert_eq!(answer, message.as_bytes());
    }
    Ok(())
}

async fn run() -> io::Result<()> {
    let (log, opening) = pdpix::open("log:messages", libc::O_RDWR | libc::O_CREAT, 0)?;
    let listener = pdpix::socket(Domain::V4, SocketKind::Stream)?;
    pdpix::bind(listener, "127.0.0.1:0".parse::<SocketAddr>().unwrap())?;
    pdpix::listen(listener, 16)?;
    let address = pdpix::getsockname(listener)?.inet().unwrap();
    pdpix::wait(opening, None).await?.ok()?;
    let clients: Vec<_> = (0..CLIENTS).map(|number| spawn(client(number, address))).collect();
    let mut server = Server { log, tokens: Vec::new(), logging: HashMap::new() };
    server.serve(listener).await?;
    for client in clients {
        client.await.unwrap()?;
    }
    // What was sent back is there, in the order of each connection.
    let mut connections: HashMap<String, String> = HashMap::new();
    loop {
        let popped = pdpix::wait(pdpix::pop(log, None)?, None).await?.ok()?;
        let text = String::from_utf8(popped.sga().unwrap().to_vec()).unwrap();
        let Some((connection, part)) = text.split_once(':') else { break };
        connections.entry(connection.to_owned()).or_default().push_str(part);
    }
    let mut logged: Vec<String> = connections.into_values().collect();
    logged.sort_unstable();
    assert_eq!(logged, (0..CLIENTS).map(|number| messages(number).concat()).collect::<Vec<_>>());
    let info = storage::store().await?.info();
    eprintln!("{} records, {} flushes", info.records, info.flushes);
    Ok(())
}

#[test]
fn sockets_and_a_log_in_memory_in_one_wait() {
    for transport in ["epoll", "memory"] {
        let runtime = Builder::new().transport(transport).storage("memory:4MiB").build().unwrap();
        runtime.block_on(run()).unwrap();
    }
}

#[cfg(feature = "io-uring")]
#[test]
fn sockets_and_a_log_in_a_file_through_io_uring() {
    let scratch = crate::Scratch::new();
    let builder = Builder::new().transport("io_uring").storage(scratch.text());
    match builder.configuration("[storage]\nsize = \"4MiB\"\n").build() {
        Ok(runtime) => runtime.block_on(run()).unwrap(),
        // A container may forbid it.
        Err(error) => assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "{error}"),
    }
}
