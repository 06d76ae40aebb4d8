//! Several cores of one program at one port.

use crate::in_lab;
use crate::streams::runtime;
use demikernel::net::{TcpListener, TcpStream};
use demikernel::time::{Duration, sleep, timeout};
use demikernel::{Buffer, Builder, Idle, core_index};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const PORT: u16 = 7301;

/// Connections of each core, before the first listens no more.
const EACH: usize = 3;

/// How far the server has come: the cores that listen, and one more when one of them does no more.
static STAGE: AtomicUsize = AtomicUsize::new(0);

async fn wait_for(stage: usize) {
    while STAGE.load(Ordering::SeqCst) < stage {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Says on a connection which core it is on, and then the same as the peer, until the peer ends it.
async fn serve(stream: TcpStream) -> io::Result<()> {
    stream.push(Buffer::copy_from_slice(&[core_index() as u8])?).await?;
    loop {
        let data = stream.pop().await?;
        if data.is_empty() {
            return Ok(());
        }
        stream.push(data).await?;
    }
}

/// What a core does. The first to come has the connection manager's listener, and is the first to go.
async fn run_core(address: IpAddr) -> io::Result<()> {
    let core = core_index();
    wait_for(core).await;
    let listener = TcpListener::bind((address, PORT)).await?;
    STAGE.fetch_add(1, Ordering::SeqCst);
    let mut tasks = Vec::new();
    for _ in 0..EACH {
        tasks.push(demikernel::spawn(serve(listener.accept().await?.0)));
    }
    if core == 0 {
        drop(listener);
        STAGE.fetch_add(1, Ordering::SeqCst);
    } else {
        tasks.push(demikernel::spawn(serve(listener.accept().await?.0)));
    }
    for task in tasks {
        task.await.expect("it does not panic")?;
    }
    Ok(())
}

/// Connects, and says to which core.
async fn connect(address: SocketAddr) -> io::Result<(TcpStream, u8)> {
    let stream = TcpStream::connect(address).await?;
    let core = timeout(Duration::from_secs(30), stream.pop()).await.expect("it says so")?;
    Ok((stream, core[0]))
}

#[test]
fn cores_share_a_port_and_the_first_may_go() {
    in_lab(|address| {
        let server = thread::spawn(move || {
            let builder = Builder::new().transport("rdma").idle(Idle::Block).cores(2);
            builder.run(move || run_core(address))
        });
        runtime("").block_on(async {
            wait_for(2).await;
            let there = SocketAddr::new(address, PORT);
            let mut streams = Vec::new();
            let mut counts = [0; 2];
            for _ in 0..2 * EACH {
                let (stream, core) = connect(there).await.unwrap();
                counts[usize::from(core)] += 1;
                streams.push(stream);
            }
            assert_eq!(counts, [EACH; 2]);
            wait_for(3).await;
            let (last, core) = loop {
                match connect(there).await {
                    Ok(connected) => break connected,
                    // Nobody listens until the other core has taken over.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}"),
                }
                sleep(Duration::from_millis(20)).await;
            };
            assert_eq!(core, 1);
            streams.push(last);
            for stream in streams {
                stream.push(Buffer::copy_from_slice(&[7; 5000]).unwrap()).await.unwrap();
                let mut count = 0;
                while count < 5000 {
                    count += timeout(Duration::from_secs(30), stream.pop()).await.unwrap().unwrap().len();
                }
            }
        });
        assert_eq!(server.join().unwrap(), ExitCode::SUCCESS);
    });
}
