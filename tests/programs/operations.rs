//! What a program does with one connection, for tests that have the kernel's sockets at the other end.
//!
//! ```text
//! operations copy ADDRESS         sends back what comes, by tokio's traits
//! operations pieces ADDRESS       pushes lists of buffers, whose bytes count
//! operations give-up ADDRESS      sends back what comes, by pops of which it gives up all but a few
//! operations keepalive ADDRESS    connects, says nothing, and waits for the end
//! ```
//!
//! The first three listen there, and stay until they are told to end, so that what they have sent arrives.

use demikernel::compat::ForTokio;
use demikernel::net::{Keepalive, TcpListener, TcpStream};
use demikernel::time::{Duration, sleep};
use demikernel::{Buffer, Sga, yield_now};
use std::io;
use std::net::Shutdown;
use tokio::io::AsyncWriteExt;

#[demikernel::main]
async fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [what, address] = words[..] else { panic!("WHAT ADDRESS") };
    if what == "keepalive" {
        return probe(address).await;
    }
    let end = demikernel::signal::shutdown()?;
    let listener = TcpListener::bind(address).await?;
    println!("listens on {}", listener.local_addr()?);
    let (stream, _) = listener.accept().await?;
    match what {
        "copy" => copy(stream).await?,
        "pieces" => push_pieces(&stream).await?,
        "give-up" => give_up(&stream).await?,
        _ => panic!("there is no {what:?}"),
    }
    end.await;
    Ok(())
}

async fn copy(stream: TcpStream) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(ForTokio::new(stream));
    let copied = tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await?;
    println!("{copied}");
    Ok(())
}

/// How many buffers a push has, and how many bytes each of them: fewer and more than a segment has, and than one call takes.
const PIECES: [(usize, usize); 5] = [(2, 10), (8, 5000), (9, 1), (300, 700), (1500, 3)];

async fn push_pieces(stream: &TcpStream) -> io::Result<()> {
    let mut next = 0_usize;
    let mut pushes = Vec::new();
    for (count, size) in PIECES {
        let mut piece = || -> Buffer {
            let bytes: Vec<u8> = (next..next + size).map(|place| (place * 31 + place / 251) as u8).collect();
            next += size;
            bytes.into()
        };
        pushes.push(stream.push_sga((0..count).map(|_| piece()).collect::<Sga>()));
    }
    for push in pushes {
        push.await?;
    }
    println!("{next}");
    stream.shutdown(Shutdown::Write)
}

async fn give_up(stream: &TcpStream) -> io::Result<()> {
    let (mut given_up, mut done) = (0, 0);
    loop {
        for round in 0..8 {
            let pop = if round % 4 < 2 { stream.pop_up_to(97) } else { stream.pop() };
            if round % 2 == 0 {
                sleep(Duration::from_micros(100)).await;
            } else {
                yield_now().await;
            }
            given_up += 1;
            done += usize::from(pop.is_done());
        }
        let data = stream.pop().await?;
        if data.is_empty() {
            break;
        }
        stream.push(data).await?;
    }
    println!("{given_up} {done}");
    stream.shutdown(Shutdown::Write)
}

async fn probe(address: &str) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    let second = Duration::from_secs(1);
    stream.set_keepalive(Keepalive::new().idle(second).interval(second).count(2))?;
    println!("connected to {address}");
    match stream.pop().await {
        Ok(data) => println!("{} bytes came", data.len()),
        Err(error) => println!("{:?}", error.kind()),
    }
    Ok(())
}
