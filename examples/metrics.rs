//! An echo server that Prometheus can look into.
//!
//! ```text
//! $ cargo run --release --example metrics -- --listen 127.0.0.1:7000 --metrics 127.0.0.1:9100 --cores 2
//! metrics: listening on 127.0.0.1:9100 for Prometheus, and on 127.0.0.1:7000 to echo
//!
//! $ nc 127.0.0.1 7000                                     # what you type comes back
//! $ curl -s http://127.0.0.1:9100/metrics | grep tasks    # of every core
//! demikernel_tasks{core="0",runtime="1"} 4
//! demikernel_tasks{core="1",runtime="2"} 2
//! ```
//!
//! With `[inspect]` and `socket = "PATH"` in the file that `DEMIKERNEL_CONFIG` names, `demikernel-top PATH` shows the
//! same in a terminal.

use clap::Parser;
use demikernel::inspect::{CONTENT_TYPE, all_metrics, prometheus};
use demikernel::net::{TcpListener, TcpStream};
use demikernel::signal::shutdown;
use demikernel::time::timeout;
use demikernel::{Builder, core_index, spawn};
use futures::future::{Either, select};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

/// How long a scraper may take to ask, and to take what it gets.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the other cores may take to answer.
const CORES_PATIENCE: Duration = Duration::from_secs(1);

/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 4096;

/// Scrapers at once.
const SCRAPERS: usize = 16;

/// An echo server that Prometheus can look into.
#[derive(Parser)]
struct Cli {
    /// Address to echo on
    #[arg(long, default_value = "127.0.0.1:7000")]
    listen: SocketAddr,
    /// Address of the metrics
    #[arg(long, default_value = "127.0.0.1:9100")]
    metrics: SocketAddr,
    /// Transport: io_uring, epoll, ... or auto
    #[arg(long)]
    transport: Option<String>,
    /// Cores to serve on, one runtime each
    #[arg(long, default_value_t = 1)]
    cores: usize,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let cli = Cli::parse();
    let mut builder = Builder::new().cores(cli.cores);
    if let Some(name) = &cli.transport {
        builder = builder.transport(name);
    }
    builder.run(move || serve(cli.listen, cli.metrics))
}

async fn serve(listen: SocketAddr, metrics: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let end = shutdown()?;
    // One core answers for all.
    if core_index() == 0 {
        let scraped = TcpListener::bind(metrics).await?;
        let (echo, metrics) = (listener.local_addr()?, scraped.local_addr()?);
        println!("metrics: listening on {metrics} for Prometheus, and on {echo} to echo");
        spawn(serve_metrics(scraped)).named("metrics").detach();
    }
    match select(pin!(serve_echo(listener)), end).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => Ok(()),
    }
}

async fn serve_echo(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        spawn(echo(stream)).named(format!("echo {peer}")).detach();
    }
}

async fn echo(stream: TcpStream) -> io::Result<()> {
    loop {
        let data = stream.pop().await?;
        if data.is_empty() {
            return Ok(());
        }
        stream.push(data).await?;
    }
}

async fn serve_metrics(listener: TcpListener) -> io::Result<()> {
    let scrapers = Rc::new(Cell::new(0));
    loop {
        let (stream, _) = listener.accept().await?;
        if scrapers.get() == SCRAPERS {
            continue;
        }
        scrapers.set(scrapers.get() + 1);
        let scrapers = scrapers.clone();
        let scrape = async move {
            // One that stalls is left, and so is one that is gone.
            let _ = timeout(PATIENCE, answer(stream)).await;
            scrapers.set(scrapers.get() - 1);
        };
        spawn(scrape).named("scrape").detach();
    }
}

/// Answers one request, which is all of HTTP that a scraper needs.
async fn answer(stream: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let data = stream.pop().await?;
        if data.is_empty() || head.len() + data.len() > LONGEST_HEAD {
            return Ok(());
        }
        head.extend_from_slice(&data);
    }
    let (status, kind, body) = if head.starts_with(b"GET /metrics ") {
        ("200 OK", CONTENT_TYPE, prometheus(&all_metrics(CORES_PATIENCE).await))
    } else {
        ("404 Not Found", "text/plain", "there is /metrics\n".to_owned())
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.push(head.into_bytes().into()).await?;
    stream.push(body.into_bytes().into()).await
}
