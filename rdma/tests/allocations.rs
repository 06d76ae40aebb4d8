//! After warm-up no message through a stream of the transport allocates, whatever its length: in the protocol, the verbs
//! room, the runtime, and the double below them.

use demikernel_allocations::{Counting, of_thread};
use demikernel_rdma::transport::{RdmaConfig, RdmaTransport};
use demikernel_rdma::verbs::double;
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::net::{TcpListener, TcpStream};
use demikernel_runtime::{Builder, Idle, spawn};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WARM_UP: usize = 300;
const ROUNDS: usize = 500;

/// Sends messages, all of them and then the next, and waits for their echo.
async fn round(client: &TcpStream, message: &[Buffer], together: usize) {
    let length: usize = message.iter().map(|piece| piece.len()).sum();
    for _ in 0..together {
        client.push_sga(message.iter().cloned().collect()).await.unwrap();
    }
    let mut missing = together * length;
    while missing > 0 {
        missing -= client.pop().await.unwrap().len();
    }
}

async fn count(client: &TcpStream, message: &[Buffer], together: usize) -> u64 {
    for _ in 0..WARM_UP {
        round(client, message, together).await;
    }
    let before = of_thread();
    for _ in 0..ROUNDS {
        round(client, message, together).await;
    }
    of_thread() - before
}

#[test]
fn no_message_allocates() {
    let runtime = Builder::new().idle(Idle::Spin).build().unwrap();
    let manager = double::event_channel().unwrap();
    let transport = RdmaTransport::with_device(double::device().unwrap(), manager, &RdmaConfig::default());
    runtime.attach(transport.unwrap().transport());
    runtime.block_on(async {
        let listener = TcpListener::bind((double::ADDRESS, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        spawn(async move {
            while let Ok(data) = server.pop().await
                && !data.is_empty()
                && server.push(data).await.is_ok()
            {}
        })
        .detach();
        // Inline, copied behind the header, behind it, of several pieces, and of several frames.
        for (lengths, together) in [
            (&[64][..], 1),
            (&[200], 1),
            (&[1024], 1),
            (&[16, 1000], 1),
            (&[65_536], 1),
            (&[64], 20),
            (&[1024], 20),
        ] {
            let pieces = lengths.iter().map(|length| Buffer::copy_from_slice(&vec![7; *length]).unwrap());
            let message: Vec<Buffer> = pieces.collect();
            let allocations = count(&client, &message, together).await;
            assert_eq!(allocations, 0, "{lengths:?}, {together} together");
        }
    });
}
