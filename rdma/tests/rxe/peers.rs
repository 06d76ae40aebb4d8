//! Other programs at the far end: rping, and one that is killed.

use std::process::{Child, Command, Stdio};

use demikernel_rdma::OneSided;
use demikernel_runtime::Runtime;

use super::*;

/// A program, ended with the test.
pub(crate) struct Program(pub(crate) Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An id and a queue pair that have asked for a connection, as soon as somebody listens, and what the answer was.
fn ask(client: &Side, config: &QueuePairConfig, there: SocketAddr) -> (ConnectionId, QueuePair) {
    let deadline = std::time::Instant::now() + LIMIT;
    loop {
        let pair = client.pair(config);
        let id = client.routed(PortSpace::Reliable, 1, there);
        let parameters = Parameters { acknowledgement: Some(14), ..Parameters::default() };
        id.prepare(&pair).unwrap();
        for _ in 0..2 {
            pair.receive(space(256), 0).unwrap();
        }
        id.connect(&pair, &parameters).unwrap();
        match client.event().kind {
            EventKind::Response { .. } => {
                id.establish(&pair, &parameters).unwrap();
                return (id, pair);
            }
            EventKind::Failed { error: ConnectError::NobodyListens, .. }
                if std::time::Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Where memory is, as rping tells it its peer.
fn advertise(memory: &RemoteMemory) -> Sga {
    message(&[&memory.address.to_be_bytes(), &memory.key.to_be_bytes(), &(memory.len as u32).to_be_bytes()])
}

#[test]
fn rping_reads_our_memory_and_writes_it_back() {
    let Some(here) = address() else { return };
    const ROUNDS: usize = 5;
    let there = SocketAddr::new(here, 7174);
    let mut command = Command::new("rping");
    command.args(["-s", "-a", "10.9.0.1", "-C", "5", "-p", "7174", "-S", "64"]).stdout(Stdio::null());
    let mut server = Program(command.spawn().unwrap());
    let client = Side::new();
    let config = QueuePairConfig { access: Access::READ | Access::WRITE, segments: 4, ..tagged(1) };
    let (id, pair) = ask(&client, &config, there);
    let source = bytes(64, 0).try_into_mut().unwrap();
    let mut source = MemoryRegion::new(&client.domain, source, Access::READ).unwrap();
    let sink = bytes(64, 0).try_into_mut().unwrap();
    let sink = MemoryRegion::new(&client.domain, sink, Access::WRITE).unwrap();
    for round in 0..ROUNDS {
        let mut text = [b'a' + round as u8; 64];
        // It takes it for a string, and writes back as much as is one.
        text[63] = 0;
        source.copy_from(0, &text);
        // It reads what is advertised first, says so, writes to what is advertised then, and says so again.
        for region in [&source, &sink] {
            pair.send(advertise(&region.describe()), Flags::default(), 0).unwrap();
            let (_, word) = received(receive(&client));
            assert_eq!(word.len(), 16);
            pair.receive(space(256), 0).unwrap();
        }
        let mut back = [0; 64];
        sink.copy_to(0, &mut back);
        assert_eq!(back, text, "round {round}");
    }
    id.disconnect().unwrap();
    assert!(server.0.wait().unwrap().success());
}

/// Where memory is, as rping has told it.
fn advertised(word: &[u8]) -> RemoteMemory {
    let number = |at: usize| u32::from_be_bytes(word[at..at + 4].try_into().unwrap());
    let address = u64::from_be_bytes(word[..8].try_into().unwrap());
    RemoteMemory { address, key: number(8), len: number(12).into() }
}

/// What rping's client has in its memory in a round, and is to find written.
fn ping(round: usize, len: usize) -> Vec<u8> {
    let mut text = format!("rdma-ping-{round}: ").into_bytes();
    text.extend((0..).map(|at| b'A' + ((round + at) % 58) as u8).take(len - 1 - text.len()));
    text.push(0);
    text
}

#[test]
fn memory_of_rping_is_read_and_written() {
    const LEN: usize = 3000;
    let Some(here) = address() else { return };
    let server = Side::new();
    let (_listener, there) = server.listener(PortSpace::Reliable, SocketAddr::new(here, 7176));
    let mut command = Command::new("rping");
    command.args(["-c", "-a", "10.9.0.1", "-C", "5", "-p", "7176", "-V", "-S", &LEN.to_string()]);
    let mut client = Program(command.stdout(Stdio::null()).spawn().unwrap());
    assert_eq!(there.port(), 7176);
    let request = server.request();
    let pair = server.pair(&tagged(1));
    request.id.prepare(&pair).unwrap();
    for _ in 0..2 {
        pair.receive(space(256), 0).unwrap();
    }
    request.id.accept(&pair, &Parameters::default()).unwrap();
    Runtime::new().unwrap().block_on(async {
        let one_sided = OneSided::new();
        for round in 0..5 {
            let (_, word) = received(receive(&server));
            pair.receive(space(256), 0).unwrap();
            let read = one_sided.read(&pair, advertised(&word), 0, LEN);
            assert!(one_sided.complete(receive(&server)).is_none());
            let text = read.await.unwrap();
            assert_eq!(text, ping(round, LEN), "round {round}");
            // Any word says that it has been read, and the next one that it has been written.
            pair.send(message(&[&[0; 16]]), Flags::default(), 0).unwrap();
            let (_, word) = received(receive(&server));
            pair.receive(space(256), 0).unwrap();
            let write = one_sided.write(&pair, text.into(), advertised(&word), 0);
            assert!(one_sided.complete(written(&server)).is_none());
            write.await.unwrap();
            pair.send(message(&[&[0; 16]]), Flags::default(), 0).unwrap();
        }
    });
    assert!(client.0.wait().unwrap().success(), "it finds what it had");
}

/// The completion of a one-sided operation.
fn written(side: &Side) -> Completion {
    loop {
        let completion = side.completion();
        if completion.token & OneSided::MARK != 0 {
            return completion;
        }
    }
}

/// The next receive.
fn receive(client: &Side) -> Completion {
    loop {
        let completion = client.completion();
        if !matches!(completion.outcome, Outcome::Sent(_)) {
            return completion;
        }
    }
}

const KILLED_PORT: u16 = 7175;

#[test]
fn a_peer_that_is_killed_is_noticed() {
    if std::env::var_os("RXE_TEST_VICTIM").is_some() {
        return be_killed();
    }
    let Some(here) = address() else { return };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "peers::a_peer_that_is_killed_is_noticed", "--nocapture"]);
    let mut victim = Program(command.env("RXE_TEST_VICTIM", "1").spawn().unwrap());
    let client = Side::new();
    let (id, pair) = ask(&client, &tagged(1), SocketAddr::new(here, KILLED_PORT));
    pair.send(message(&[b"hello"]), Flags::SIGNALLED, 0).unwrap();
    assert!(matches!(client.completion().outcome, Outcome::Sent(_)));
    victim.0.kill().unwrap();
    victim.0.wait().unwrap();
    // Its kernel says goodbye for it.
    match client.event() {
        Event { tag: 1, kind: EventKind::Disconnected } => {}
        other => panic!("{other:?}"),
    }
    pair.send(bytes(1000, 1).into(), Flags::SIGNALLED, 4).unwrap();
    loop {
        let completion = client.completion();
        if completion.token == 4 {
            let status = failure(completion);
            assert!(matches!(status, Status::RetryExceeded | Status::Flushed), "{status}");
            break;
        }
    }
    drop((id, pair));
}

/// Accepts whoever comes, until it is killed.
fn be_killed() {
    let server = Side::new();
    let here = address().unwrap();
    let (_listener, _) = server.listener(PortSpace::Reliable, SocketAddr::new(here, KILLED_PORT));
    let pair = server.pair(&tagged(2));
    let request = server.request();
    request.id.prepare(&pair).unwrap();
    for _ in 0..8 {
        pair.receive(space(4096), 0).unwrap();
    }
    request.id.accept(&pair, &Parameters::default()).unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}
