//! What is measured: streams of the runtime on the transport.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use demikernel_rdma::transport::{RdmaConfig, RdmaTransport};
use demikernel_rdma::verbs::{Device, EventChannel};
use demikernel_runtime::buffer::{Buffer, BufferMut};
use demikernel_runtime::net::{TcpListener, TcpStream};
use demikernel_runtime::time::sleep;
use demikernel_runtime::{Builder, Idle, Runtime, spawn};

use super::{MESSAGE, program};

/// An end: a stream, and the runtime that it is of.
pub(super) struct Streams {
    stream: TcpStream,
    message: Buffer,
    /// Runs before each message.
    between: fn() -> u64,
    /// The ns that it took at the other end, if that is here, too.
    others: Rc<Cell<u64>>,
    /// Dropped last.
    runtime: Runtime,
}

fn runtime(device: &Device, config: &RdmaConfig) -> io::Result<Runtime> {
    let runtime = Builder::new().idle(Idle::Spin).build()?;
    let device = Device::open(device.name())?;
    runtime.attach(RdmaTransport::with_device(device, EventChannel::new()?, config)?.transport());
    Ok(runtime)
}

fn filled(length: usize) -> io::Result<Buffer> {
    let mut data = BufferMut::with_capacity(length).map_err(io::Error::other)?;
    data.resize(length, 7);
    Ok(data.freeze())
}

impl Streams {
    /// The end that waits for the other: tells at which address.
    pub(super) fn listen(
        device: &Device,
        config: &RdmaConfig,
        address: IpAddr,
        tell: impl FnOnce(SocketAddr),
    ) -> io::Result<Streams> {
        let runtime = runtime(device, config)?;
        let stream = runtime.block_on(async {
            let listener = TcpListener::bind((address, 0)).await?;
            tell(listener.local_addr()?);
            listener.accept().await
        });
        Streams::new(stream?.0, program::none, runtime)
    }

    fn new(stream: TcpStream, between: fn() -> u64, runtime: Runtime) -> io::Result<Streams> {
        Ok(Streams { stream, message: filled(MESSAGE)?, between, others: Rc::default(), runtime })
    }

    /// Both ends on one runtime: the other answers by itself. Other code runs before each message.
    pub(super) fn alone(device: &Device, address: IpAddr, between: fn() -> u64) -> io::Result<Streams> {
        let runtime = runtime(device, &RdmaConfig::default())?;
        let others = Rc::new(Cell::new(0));
        let its = others.clone();
        let stream = runtime.block_on(async {
            let listener = TcpListener::bind((address, 0)).await?;
            let stream = TcpStream::connect(listener.local_addr()?).await?;
            let (other, _) = listener.accept().await?;
            spawn(async move {
                while let Ok(data) = other.pop().await
                    && !data.is_empty()
                {
                    its.set(its.get() + between());
                    if other.push(data).await.is_err() {
                        return;
                    }
                }
            })
            .detach();
            io::Result::Ok(stream)
        });
        Ok(Streams { others, ..Streams::new(stream?, between, runtime)? })
    }

    pub(super) fn connect(device: &Device, config: &RdmaConfig, to: SocketAddr) -> io::Result<Streams> {
        let runtime = runtime(device, config)?;
        let stream = runtime.block_on(TcpStream::connect(to))?;
        Streams::new(stream, program::none, runtime)
    }

    /// Sends and waits for the answer, so many times; how many ns each took, without other code.
    pub(super) fn ping(&mut self, count: usize) -> io::Result<Vec<u64>> {
        self.runtime.block_on(async {
            let mut times = Vec::with_capacity(count);
            for _ in 0..count {
                let start = Instant::now();
                self.others.set((self.between)());
                self.stream.push(self.message.clone()).await?;
                let answer = self.stream.pop().await?;
                assert_eq!(answer, [7; MESSAGE]);
                times.push((start.elapsed().as_nanos() as u64).saturating_sub(self.others.get()));
            }
            Ok(times)
        })
    }

    /// Answers so many times.
    pub(super) fn pong(&mut self, count: usize) -> io::Result<()> {
        self.runtime.block_on(async {
            for _ in 0..count {
                let data = self.stream.pop().await?;
                self.stream.push(data).await?;
            }
            let () = turn().await;
            Ok(())
        })
    }

    /// Sends so many messages of a length, until the other end says that it has them; bytes per second.
    pub(super) fn pour(&mut self, count: usize, length: usize) -> io::Result<f64> {
        let message = filled(length)?;
        self.runtime.block_on(async {
            let start = Instant::now();
            for _ in 0..count {
                self.stream.push(message.clone()).await?;
            }
            self.stream.pop().await?;
            Ok((count * length) as f64 / start.elapsed().as_secs_f64())
        })
    }

    /// Takes what the other end sends.
    pub(super) fn drain(&mut self, count: usize, length: usize) -> io::Result<()> {
        self.runtime.block_on(async {
            let mut missing = count * length;
            while missing > 0 {
                let data = self.stream.pop().await?;
                if data.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                missing -= data.len();
            }
            self.stream.push(self.message.clone()).await?;
            let () = turn().await;
            Ok(())
        })
    }
}

/// What was pushed last leaves in a turn of the loop, and there is none when this end is not run.
async fn turn() {
    sleep(Duration::from_millis(1)).await;
}
