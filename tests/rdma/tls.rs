//! TLS over streams of RDMA.

use crate::{in_lab, secured};
use demikernel::net::{TcpListener, TcpStream};
use demikernel::{Builder, Idle};

#[test]
fn what_is_enciphered_comes_back_on_rdma() {
    in_lab(|address| {
        let runtime = Builder::new().transport("rdma").idle(Idle::Block).build().unwrap();
        let exchanged = runtime.block_on(async {
            let listener = TcpListener::bind((address, 0)).await?;
            let client = TcpStream::connect(listener.local_addr()?).await?;
            let (server, _) = listener.accept().await?;
            secured::exchange(client, server).await
        });
        exchanged.unwrap();
    });
}
