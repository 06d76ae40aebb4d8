//! Messages to and fro on a stream of the transport over the double, to be counted from outside: what the double and the
//! verbs room take is told apart by callgrind.
//!
//! `echo COUNT LENGTH` prints nothing. `valgrind --tool=callgrind --callgrind-out-file=OUT PROGRAM COUNT LENGTH` with two
//! counts: the difference, by the difference of the counts, is what a message there and back takes, both ends.

use demikernel_rdma::transport::{RdmaConfig, RdmaTransport};
use demikernel_rdma::verbs::double;
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::net::{TcpListener, TcpStream};
use demikernel_runtime::{Builder, Idle, spawn};

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let (count, length) = (numbers.next().unwrap_or(1000), numbers.next().unwrap_or(64));
    let runtime = Builder::new().idle(Idle::Spin).build().expect("a runtime");
    let device = double::device().expect("the double opens");
    let manager = double::event_channel().expect("a connection manager");
    let transport = RdmaTransport::with_device(device, manager, &RdmaConfig::default());
    runtime.attach(transport.expect("a transport").transport());
    runtime.block_on(async move {
        let listener = TcpListener::bind((double::ADDRESS, 0)).await.expect("an address");
        let client = TcpStream::connect(listener.local_addr().expect("it is bound")).await.expect("a peer");
        let (server, _) = listener.accept().await.expect("a connection");
        spawn(async move {
            while let Ok(data) = server.pop().await
                && !data.is_empty()
                && server.push(data).await.is_ok()
            {}
        })
        .detach();
        let message = Buffer::copy_from_slice(&vec![7; length]).expect("memory");
        for _ in 0..count {
            client.push(message.clone()).await.expect("room");
            let mut missing = length;
            while missing > 0 {
                missing -= client.pop().await.expect("an answer").len();
            }
        }
    });
}
