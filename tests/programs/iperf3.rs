//! iperf3, as far as tests need it: a server that iperf3 measures, one test at a time, with enough of its protocol for
//! `-c`, `-R`, `-P`, `-u`, `-n` and `-t`; and a client of one stream that measures iperf3.
//!
//! ```text
//! cargo run --release --features tap --example iperf3 -- 127.0.0.1:5201
//! iperf3 -c 127.0.0.1
//!
//! iperf3 -s
//! cargo run --release --features tap --example iperf3 -- connect 127.0.0.1:5201 100000000 [reverse]
//! ```
//!
//! Besides the streams that carry data there is a connection for control, which is there first. Each begins with a cookie
//! of the client's. What to do next is one byte; parameters and results are JSON behind their length.

use demikernel::net::{TcpListener, TcpStream, UdpSocket};
use demikernel::{Buffer, JoinHandle, spawn};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use serde_json::{Value, json};
use std::cell::Cell;
use std::io;
use std::rc::Rc;

const COOKIE: usize = 37;

/// What the client says in answer to its own greeting, as an integer of its machine.
const UDP_GREETING: u32 = 0x3938_3736;

/// The longest JSON that is taken.
const LONGEST: u32 = 1 << 16;

/// States of a test, as both sides tell each other.
mod state {
    pub(super) const TEST_START: u8 = 1;
    pub(super) const TEST_RUNNING: u8 = 2;
    pub(super) const TEST_END: u8 = 4;
    pub(super) const PARAM_EXCHANGE: u8 = 9;
    pub(super) const CREATE_STREAMS: u8 = 10;
    pub(super) const EXCHANGE_RESULTS: u8 = 13;
    pub(super) const DISPLAY_RESULTS: u8 = 14;
    pub(super) const IPERF_DONE: u8 = 16;
    pub(super) const ACCESS_DENIED: u8 = 255;
}

#[demikernel::main]
async fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["connect", address, bytes, ref more @ ..] => {
            measure(address, bytes.parse().map_err(io::Error::other)?, more == ["reverse"]).await
        }
        [address] => listen(address).await,
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "ADDRESS, or connect ADDRESS BYTES [reverse]")),
    }
}

async fn listen(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listens on {}", listener.local_addr()?);
    loop {
        let (control, _) = listener.accept().await?;
        if let Err(error) = serve(&listener, control).await {
            eprintln!("a test has failed: {error}");
        }
    }
}

/// Measures a server: so many bytes one way.
async fn measure(server: &str, bytes: u64, reverse: bool) -> io::Result<()> {
    const SIZE: usize = 128 << 10;
    let mut cookie = [b'c'; COOKIE];
    cookie[COOKIE - 1] = 0;
    let mut control = TcpStream::connect(server).await?;
    control.write_all(&cookie).await?;
    expect(&mut control, state::PARAM_EXCHANGE).await?;
    let mut wanted = json!({
        "tcp": true, "omit": 0, "time": 0, "num": bytes, "blockcount": 0, "parallel": 1, "len": SIZE,
        "pacing_timer": 1000, "client_version": "3.12",
    });
    if reverse {
        wanted["reverse"] = true.into();
    }
    write_json(&mut control, &wanted).await?;
    expect(&mut control, state::CREATE_STREAMS).await?;
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&cookie).await?;
    stream.flush().await?;
    expect(&mut control, state::TEST_START).await?;
    expect(&mut control, state::TEST_RUNNING).await?;
    let count = Count::default();
    let data = Buffer::from(vec![0x55; SIZE]);
    while count.bytes.get() < bytes {
        if reverse {
            count.add(stream.pop().await?.len());
        } else {
            stream.push(data.clone()).await?;
            count.add(SIZE);
        }
    }
    tell(&mut control, state::TEST_END).await?;
    expect(&mut control, state::EXCHANGE_RESULTS).await?;
    write_json(&mut control, &results([&count])).await?;
    let theirs = read_json(&mut control).await?;
    expect(&mut control, state::DISPLAY_RESULTS).await?;
    tell(&mut control, state::IPERF_DONE).await?;
    println!("{} here, {} there", count.bytes.get(), theirs["streams"][0]["bytes"]);
    Ok(())
}

/// One test.
async fn serve(listener: &TcpListener, mut control: TcpStream) -> io::Result<()> {
    let cookie = read_cookie(&mut control).await?;
    tell(&mut control, state::PARAM_EXCHANGE).await?;
    let wanted = read_json(&mut control).await?;
    let is = |name: &str| wanted[name] == true;
    if is("bidirectional") || is("udp") && is("reverse") {
        return tell(&mut control, state::ACCESS_DENIED).await;
    }
    let number = wanted["parallel"].as_u64().unwrap_or(1).clamp(1, 128) as usize;
    let size = wanted["len"].as_u64().unwrap_or(128 << 10).clamp(1, 1 << 20) as usize;
    let counts: Vec<Rc<Count>> = (0..number).map(|_| Rc::default()).collect();
    let mut streams = Vec::new();
    if is("udp") {
        let local = listener.local_addr()?;
        let socket = UdpSocket::bind(local).await?;
        tell(&mut control, state::CREATE_STREAMS).await?;
        streams.push(spawn(take_datagrams(socket, counts[0].clone())));
    } else {
        tell(&mut control, state::CREATE_STREAMS).await?;
        for count in &counts {
            let (mut stream, _) = listener.accept().await?;
            if read_cookie(&mut stream).await? != cookie {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a stream of another client"));
            }
            let count = count.clone();
            streams.push(if is("reverse") {
                spawn(give(stream, size, count))
            } else {
                spawn(take(stream, count))
            });
        }
    }
    tell(&mut control, state::TEST_START).await?;
    tell(&mut control, state::TEST_RUNNING).await?;
    expect(&mut control, state::TEST_END).await?;
    finish(control, streams, &counts, is("reverse")).await
}

/// The end of a test: what it came to.
async fn finish(
    mut control: TcpStream,
    streams: Vec<JoinHandle<io::Result<()>>>,
    counts: &[Rc<Count>],
    reverse: bool,
) -> io::Result<()> {
    if reverse {
        streams.iter().for_each(JoinHandle::abort);
    }
    tell(&mut control, state::EXCHANGE_RESULTS).await?;
    read_json(&mut control).await?;
    write_json(&mut control, &results(counts.iter().map(Rc::as_ref))).await?;
    tell(&mut control, state::DISPLAY_RESULTS).await?;
    let done = expect(&mut control, state::IPERF_DONE).await;
    streams.iter().for_each(JoinHandle::abort);
    done
}

/// What streams have come to.
fn results<'a>(counts: impl IntoIterator<Item = &'a Count>) -> Value {
    // iperf3 leaves out the second number.
    let ids = std::iter::once(1).chain(3..);
    let streams: Vec<Value> = ids.zip(counts).map(|(id, count)| count.result(id)).collect();
    json!({
        "cpu_util_total": 0.0, "cpu_util_user": 0.0, "cpu_util_system": 0.0,
        "sender_has_retransmits": 0, "streams": streams,
    })
}

/// What has gone through a stream.
#[derive(Default)]
struct Count {
    bytes: Cell<u64>,
    /// Datagrams that have come, and the highest number of one.
    packets: Cell<u64>,
    highest: Cell<u64>,
}

impl Count {
    fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    fn result(&self, id: u32) -> Value {
        json!({
            "id": id, "bytes": self.bytes.get(), "retransmits": 0, "jitter": 0.0,
            "errors": self.highest.get().saturating_sub(self.packets.get()), "packets": self.highest.get(),
            "start_time": 0.0, "end_time": 0.0,
        })
    }
}

async fn take(stream: TcpStream, count: Rc<Count>) -> io::Result<()> {
    loop {
        let data = stream.pop().await?;
        if data.is_empty() {
            return Ok(());
        }
        count.add(data.len());
    }
}

async fn give(stream: TcpStream, size: usize, count: Rc<Count>) -> io::Result<()> {
    let data = Buffer::from(vec![0x55; size]);
    loop {
        stream.push(data.clone()).await?;
        count.add(size);
    }
}

/// Each begins with the time, and its number from 1 on.
async fn take_datagrams(socket: UdpSocket, count: Rc<Count>) -> io::Result<()> {
    let (_, client) = socket.pop_from().await?;
    socket.push_to(Buffer::copy_from_slice(&UDP_GREETING.to_ne_bytes())?, client).await?;
    loop {
        let (datagram, from) = socket.pop_from().await?;
        let number = datagram.get(8..12).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        if let (Some(number), true) = (number, from == client) {
            count.add(datagram.len());
            count.packets.set(count.packets.get() + 1);
            count.highest.set(count.highest.get().max(number.into()));
        }
    }
}

async fn read_cookie(stream: &mut TcpStream) -> io::Result<[u8; COOKIE]> {
    let mut cookie = [0; COOKIE];
    stream.read_exact(&mut cookie).await?;
    Ok(cookie)
}

async fn tell(control: &mut TcpStream, state: u8) -> io::Result<()> {
    control.write_all(&[state]).await?;
    control.flush().await
}

async fn expect(control: &mut TcpStream, state: u8) -> io::Result<()> {
    let mut found = [0];
    control.read_exact(&mut found).await?;
    if found == [state] {
        return Ok(());
    }
    let text = format!("found state {}, expected {state}", found[0] as i8);
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

async fn read_json(control: &mut TcpStream) -> io::Result<Value> {
    let mut length = [0; 4];
    control.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length);
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes of JSON")));
    }
    let mut text = vec![0; length as usize];
    control.read_exact(&mut text).await?;
    Ok(serde_json::from_slice(&text)?)
}

async fn write_json(control: &mut TcpStream, value: &Value) -> io::Result<()> {
    let text = value.to_string();
    control.write_all(&(text.len() as u32).to_be_bytes()).await?;
    control.write_all(text.as_bytes()).await?;
    control.flush().await
}
