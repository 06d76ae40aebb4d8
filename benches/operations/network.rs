//! Sockets over loopback, both ends in one runtime.

use demikernel::net::{TcpListener, TcpStream};
use demikernel::{Buffer, spawn};
use std::io;

/// One connection, 64 bytes there and back: two pushes, two pops. The bytes that come back are sent again.
pub(super) async fn tcp_echo(count: u64) {
    exchange(count).await.expect("loopback works");
}

async fn exchange(count: u64) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let (server, _) = listener.accept().await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let echo = spawn(async move {
        loop {
            let message = server.pop().await?;
            if message.is_empty() {
                return io::Result::Ok(());
            }
            server.push(message).await?;
        }
    });
    let mut message = Buffer::from_static(&[0x5a; 64]);
    for _ in 0..count {
        client.push(message).await?;
        message = client.pop().await?;
    }
    drop(client);
    echo.await.expect("neither panics nor aborted")
}
