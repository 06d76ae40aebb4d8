//! One-sided operations on streams: between two threads of this process, and between two processes.

use crate::in_lab;
use crate::streams::{runtime, serve};
use demikernel::net::{TcpListener, TcpStream};
use demikernel::rdma::verbs::{Status, WorkError};
use demikernel::rdma::{Access, MemoryWindow, Remote, RemoteMemory};
use demikernel::time::{Duration, timeout};
use demikernel::{Buffer, BufferMut, spawn};
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};

const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn all() -> Access {
    Access::READ | Access::WRITE | Access::ATOMIC
}

fn memory(len: usize) -> BufferMut {
    let mut memory = BufferMut::with_capacity(len).unwrap();
    memory.resize(len, 0);
    memory
}

fn heap(bytes: &[u8]) -> Buffer {
    Buffer::copy_from_slice(bytes).unwrap()
}

fn pattern(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(7) ^ (at >> 8) ^ seed.wrapping_mul(31)) as u8).collect()
}

/// Exports memory to the peer of a stream, and tells it where that is.
pub(crate) async fn export(stream: &TcpStream, len: usize, access: Access) -> io::Result<MemoryWindow> {
    let window = Remote::of(stream)?.export(memory(len), access)?;
    stream.push(heap(&window.describe().to_bytes())).await?;
    Ok(window)
}

/// What the peer has told.
pub(crate) async fn told(stream: &TcpStream) -> io::Result<RemoteMemory> {
    let told = timeout(LIMIT, stream.pop()).await.expect("it comes")?;
    Ok(RemoteMemory::from_bytes(told.first_chunk().expect("all of it")))
}

/// Exports 64 KiB, keeps what was asked for there, and answers whatever is said on the stream.
async fn keep(stream: TcpStream) -> io::Result<()> {
    let _window = export(&stream, 65_536, all()).await?;
    loop {
        match stream.pop().await {
            Ok(data) if !data.is_empty() => stream.push(data).await?,
            _ => return Ok(()),
        }
    }
}

/// A process that keeps memory for others, ended when this is dropped.
struct Keeper {
    child: Child,
    address: SocketAddr,
}

/// Where a keeper listens.
const KEEPER: &str = "RDMA_TEST_KEEPER";

impl Keeper {
    fn start(address: IpAddr) -> Keeper {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "one_sided::memory_of_another_process_is_used", "--nocapture"]);
        command.env(KEEPER, address.to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the keeper says where it listens").unwrap();
            if let Some(address) = line.split_whitespace().find_map(|word| word.parse().ok()) {
                break address;
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Keeper { child, address }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps memory for whoever connects, until it is killed.
fn be_a_keeper(address: &str) {
    runtime("").block_on(async {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        println!("\nat {} ", listener.local_addr().unwrap());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            spawn(keep(stream)).detach();
        }
    });
}

/// Writes, reads and counts, with words on the stream at the same time.
pub(crate) async fn use_memory(stream: &TcpStream, rounds: u32) {
    let there = told(stream).await.unwrap();
    let remote = Remote::of(stream).unwrap();
    for round in 0..rounds {
        let data = pattern(30_000, round);
        let writes: Vec<_> = (0..3)
            .map(|part| {
                let piece = heap(&data[part * 10_000..][..10_000]);
                remote.write(there, part as u64 * 10_000, piece.into())
            })
            .collect();
        let short = remote.write(there, 40_000, heap(&round.to_be_bytes()).into());
        let word = heap(&pattern(3000, round));
        stream.push(word.clone()).await.unwrap();
        // Behind the writes, as all are carried out in order.
        let read = remote.read(there, 0, 30_000);
        let back = remote.read(there, 40_000, 4);
        let counts: Vec<_> = (0..4).map(|_| remote.fetch_add(there, 65_528, 3)).collect();
        let mut answer = Vec::new();
        while answer.len() < word.len() {
            answer.extend_from_slice(&timeout(LIMIT, stream.pop()).await.unwrap().unwrap());
        }
        assert!(answer == word, "round {round}");
        for write in writes {
            write.await.unwrap();
        }
        short.await.unwrap();
        assert!(read.await.unwrap() == data, "round {round}");
        assert_eq!(back.await.unwrap(), round.to_be_bytes());
        let mut before = u64::from(round) * 12;
        for count in counts {
            assert_eq!(count.await.unwrap(), before);
            before += 3;
        }
    }
    let last = u64::from(rounds) * 12;
    assert_eq!(remote.compare_swap(there, 65_528, last + 1, 0).await.unwrap(), last, "not as expected");
    assert_eq!(remote.compare_swap(there, 65_528, last, 1 << 50).await.unwrap(), last);
    assert_eq!(remote.fetch_add(there, 65_528, 0).await.unwrap(), 1 << 50);
}

#[test]
fn memory_of_another_process_is_used() {
    if let Ok(address) = std::env::var(KEEPER) {
        return be_a_keeper(&address);
    }
    in_lab(|address| {
        let keeper = Keeper::start(address);
        runtime("").block_on(async {
            let stream = TcpStream::connect(keeper.address).await.unwrap();
            use_memory(&stream, 20).await;
        });
    });
}

#[test]
fn several_connections_count_in_one_place() {
    in_lab(|address| {
        let server = serve(address, "", 3, |stream| async move {
            // All have one window, that of the first.
            thread_local! {
                static WINDOW: std::cell::RefCell<Option<MemoryWindow>> = const { std::cell::RefCell::new(None) };
            }
            let remote = Remote::of(&stream)?;
            let there = WINDOW.with_borrow_mut(|window| match window {
                Some(window) => remote.grant(all()).map(|()| window.describe()),
                None => Ok(window.insert(remote.export(memory(64), all())?).describe()),
            })?;
            stream.push(heap(&there.to_bytes())).await?;
            let last = stream.pop().await?;
            if last.is_empty() {
                return Ok(());
            }
            let count = WINDOW.with_borrow(|window| window.as_ref().unwrap().load(0));
            stream.push(heap(&count.to_be_bytes())).await
        });
        runtime("").block_on(async {
            let mut streams = Vec::new();
            for _ in 0..3 {
                streams.push(TcpStream::connect(server.address).await.unwrap());
            }
            let mut places = Vec::new();
            for stream in &streams {
                places.push(told(stream).await.unwrap());
            }
            let adds: Vec<_> = streams
                .iter()
                .zip(places)
                .flat_map(|(stream, there)| {
                    (0..50).map(move |_| Remote::of(stream).unwrap().fetch_add(there, 0, 1))
                })
                .collect();
            let mut seen = Vec::new();
            for add in adds {
                seen.push(add.await.unwrap());
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..150).collect::<Vec<u64>>(), "each saw another");
            streams[0].push(heap(b"how many?")).await.unwrap();
            assert_eq!(streams[0].pop().await.unwrap(), 150u64.to_be_bytes());
        });
        server.thread.join().unwrap();
    });
}

#[test]
fn numbers_follow_what_was_written_beside_a_stream() {
    in_lab(|address| {
        const COUNT: u32 = 200;
        let server = serve(address, "", 1, |stream| async move {
            // A place for each: that a write is done says that it is here, not that anybody has looked at it.
            let window = export(&stream, COUNT as usize * 100, Access::WRITE).await?;
            let mut words = 0;
            for number in 0..COUNT {
                let notice = Remote::of(&stream)?.notice().await?.expect("it has not ended");
                assert_eq!((notice.immediate, notice.len), (number, 100));
                let mut written = [0; 100];
                window.copy_to(number as usize * 100, &mut written);
                assert_eq!(written[..], pattern(100, number), "number {number}");
            }
            loop {
                let word = stream.pop().await?;
                if word.is_empty() {
                    break;
                }
                words += word.len();
            }
            assert_eq!(Remote::of(&stream)?.notice().await?, None);
            stream.push(heap(&(words as u64).to_be_bytes())).await
        });
        runtime("").block_on(async {
            let stream = TcpStream::connect(server.address).await.unwrap();
            let there = told(&stream).await.unwrap();
            let remote = Remote::of(&stream).unwrap();
            let mut writes = std::collections::VecDeque::new();
            for number in 0..COUNT {
                if writes.len() == 40 {
                    let first: demikernel::QToken<io::Result<()>> = writes.pop_front().unwrap();
                    timeout(LIMIT, first).await.unwrap().unwrap();
                }
                let data = heap(&pattern(100, number));
                writes.push_back(remote.write_imm(there, u64::from(number) * 100, data.into(), number));
                if number % 10 == 0 {
                    stream.push(heap(&pattern(500, number))).detach();
                }
            }
            for write in writes {
                timeout(LIMIT, write).await.unwrap().unwrap();
            }
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let words = timeout(LIMIT, stream.pop()).await.unwrap().unwrap();
            assert_eq!(words, 10_000u64.to_be_bytes());
        });
        server.thread.join().unwrap();
    });
}

#[test]
fn who_goes_where_it_may_not_loses_its_connection_and_nobody_else_does() {
    in_lab(|address| {
        let keeper = Keeper::start(address);
        runtime("").block_on(async {
            let bystander = TcpStream::connect(keeper.address).await.unwrap();
            let its = told(&bystander).await.unwrap();
            for attempt in 0..5 {
                let stream = TcpStream::connect(keeper.address).await.unwrap();
                let there = told(&stream).await.unwrap();
                let remote = Remote::of(&stream).unwrap();
                let lie = RemoteMemory { len: 1 << 20, ..there };
                let stale = RemoteMemory { key: there.key ^ 0x1_0000, ..there };
                let result = match attempt {
                    0 => remote.read(lie, 65_530, 100).await.map(drop),
                    1 => remote.write(lie, 65_530, heap(&[9; 100]).into()).await,
                    2 => remote.write_imm(lie, 1 << 17, heap(&[9; 8]).into(), 1).await,
                    3 => remote.fetch_add(lie, 65_536, 1).await.map(drop),
                    _ => remote.read(stale, 0, 8).await.map(drop),
                };
                let error = result.unwrap_err();
                let status = WorkError::of(&error).map(|error| error.status);
                assert_eq!(status, Some(Status::RemoteAccess), "attempt {attempt}: {error}");
                assert_eq!(error.kind(), ErrorKind::PermissionDenied);
                let after = timeout(LIMIT, stream.pop()).await.unwrap().unwrap_err();
                assert_eq!(after.kind(), ErrorKind::ConnectionReset, "attempt {attempt}: {after}");
                // Those of its own that lie outside are not even asked for.
                let outside = Remote::of(&bystander).unwrap().read(its, 65_530, 100).await.unwrap_err();
                assert_eq!(outside.kind(), ErrorKind::InvalidInput);
                bystander.push(heap(b"alive?")).await.unwrap();
                assert_eq!(timeout(LIMIT, bystander.pop()).await.unwrap().unwrap(), b"alive?");
                assert_eq!(Remote::of(&bystander).unwrap().read(its, 65_000, 3).await.unwrap(), [0; 3]);
            }
        });
    });
}

#[test]
fn a_window_that_was_revoked_or_never_granted_is_out_of_reach() {
    in_lab(|address| {
        let server = serve(address, "", 2, |stream| async move {
            let window = export(&stream, 4096, Access::READ).await?;
            let word = stream.pop().await;
            if matches!(&word, Ok(word) if word == b"revoke") {
                let memory = window.revoke()?;
                assert_eq!(memory.len(), 4096);
                stream.push(heap(b"revoked")).await?;
            }
            // The stream ends with the peer's trespass.
            while let Ok(data) = stream.pop().await {
                assert!(!data.is_empty(), "a trespass does not end in order");
            }
            Ok(())
        });
        runtime("").block_on(async {
            let stream = TcpStream::connect(server.address).await.unwrap();
            let there = told(&stream).await.unwrap();
            let remote = Remote::of(&stream).unwrap();
            assert_eq!(remote.read(there, 0, 10).await.unwrap(), [0; 10]);
            stream.push(heap(b"revoke")).await.unwrap();
            assert_eq!(stream.pop().await.unwrap(), b"revoked");
            let error = timeout(LIMIT, remote.read(there, 0, 10)).await.unwrap().unwrap_err();
            assert_eq!(WorkError::of(&error).unwrap().status, Status::RemoteAccess, "{error}");

            let stream = TcpStream::connect(server.address).await.unwrap();
            let there = told(&stream).await.unwrap();
            let remote = Remote::of(&stream).unwrap();
            let error = timeout(LIMIT, remote.write(there, 0, heap(b"x").into())).await.unwrap().unwrap_err();
            let status = WorkError::of(&error).unwrap().status;
            assert!(matches!(status, Status::RemoteAccess | Status::RemoteInvalidRequest), "{error}");
        });
        server.thread.join().unwrap();
    });
}

#[test]
fn operations_end_when_their_peer_is_killed() {
    in_lab(|address| {
        let mut keeper = Keeper::start(address);
        runtime("").block_on(async {
            let stream = TcpStream::connect(keeper.address).await.unwrap();
            let there = told(&stream).await.unwrap();
            let remote = Remote::of(&stream).unwrap();
            let data = heap(&pattern(60_000, 1));
            let mut killed = false;
            let error = 'rounds: loop {
                let writes: Vec<_> = (0..40).map(|_| remote.write(there, 0, data.clone().into())).collect();
                let reads: Vec<_> = (0..10).map(|_| remote.read(there, 0, 60_000)).collect();
                for write in writes {
                    if let Err(error) = timeout(LIMIT, write).await.expect("it ends") {
                        assert!(killed, "{error}");
                        break 'rounds error;
                    }
                    if !std::mem::replace(&mut killed, true) {
                        keeper.kill();
                    }
                }
                for read in reads {
                    if let Err(error) = timeout(LIMIT, read).await.expect("it ends") {
                        break 'rounds error;
                    }
                }
            };
            let kinds = [ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted, ErrorKind::TimedOut];
            // The peer's kernel takes the memory back before the queue pair, or after it.
            assert!(
                kinds.contains(&error.kind()) || error.kind() == ErrorKind::PermissionDenied,
                "{error:?}"
            );
            let error = timeout(LIMIT, remote.read(there, 0, 1)).await.unwrap().unwrap_err();
            assert!(kinds.contains(&error.kind()), "{error:?}");
            assert!(timeout(LIMIT, stream.pop()).await.unwrap().is_err());
            drop(stream);
            assert!(data.is_unique(), "nothing keeps what was to be written");
        });
    });
}
