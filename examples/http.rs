//! An HTTP/1.1 server: hyper 1 on this runtime.
//!
//! ```text
//! $ cargo run --release --features hyper --example http -- --listen 127.0.0.1:8080
//! http: listening on 127.0.0.1:8080
//!
//! $ curl http://127.0.0.1:8080/
//! hello from core 0
//! $ curl --data-binary 'to and fro' http://127.0.0.1:8080/echo
//! to and fro
//! $ curl http://127.0.0.1:8080/metrics                # requests, and connections open now
//! $ wrk -t1 -c32 -d3s http://127.0.0.1:8080/          # requests per second
//! ```
//!
//! Ctrl-C or SIGTERM ends it: no more connections, and those that are open close after the response under way.

use clap::Parser;
use demikernel::channel::mpsc;
use demikernel::hyper::{Io, Timer};
use demikernel::net::{TcpListener, TcpStream};
use demikernel::signal::{Shutdown, shutdown};
use demikernel::time::{Duration, sleep, timeout};
use demikernel::{Builder, Idle, core_index, spawn};
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{Either, Map, Shared, select};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;

/// The most that `/echo` takes, in bytes.
const LONGEST_BODY: usize = 16 << 20;

/// How long a client may take to send the head of a request.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long requests under way may go on when the server ends.
const GRACE: Duration = Duration::from_secs(5);

/// An HTTP/1.1 server: hyper 1 on this runtime.
#[derive(Parser)]
struct Cli {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Transport: io_uring, epoll, ... or auto
    #[arg(long)]
    transport: Option<String>,
    /// Cores to serve on, one runtime each
    #[arg(long, default_value_t = 1)]
    cores: usize,
    /// What to do when nothing is ready: spin, block, adaptive, adaptive(50us)
    #[arg(long, default_value = "adaptive")]
    idle: Idle,
}

fn main() -> ExitCode {
    let log = tracing_subscriber::fmt().with_writer(io::stderr);
    log.with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let cli = Cli::parse();
    let mut builder = Builder::new().idle(cli.idle).cores(cli.cores);
    if let Some(name) = &cli.transport {
        builder = builder.transport(name);
    }
    builder.run(move || serve(cli.listen))
}

/// What one core has served. Cores share nothing, so each answers for itself.
#[derive(Default)]
struct Counts {
    requests: Cell<u64>,
    connections: Cell<u64>,
}

/// Serves until the end is asked for, and the requests under way to their end.
pub(crate) async fn serve(listen: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    // Before the address is printed: whoever reads it may ask for the end.
    let end = shutdown()?;
    println!("http: listening on {}", listener.local_addr()?);
    // Nothing is sent: each connection holds a sender, so that receiving ends when all of them have ended.
    let (open, mut all_ended) = mpsc::channel::<Infallible>(1);
    // Connections are told when the listener is closed: who sees one of them end finds nobody listening.
    let (closing, closed) = oneshot::channel();
    accept(listener, end, closed.map(drop as Forget).shared(), open).await;
    drop(closing);
    if timeout(GRACE, all_ended.recv()).await.is_err() {
        tracing::warn!("connections were cut off in the middle of a request");
    }
    Ok(())
}

type Forget = fn(Result<(), oneshot::Canceled>);

/// Done when no more connections are accepted.
type Closed = Shared<Map<oneshot::Receiver<()>, Forget>>;

/// Accepts connections until `end`; each of them goes on until `closed`.
async fn accept(listener: TcpListener, mut end: Shutdown, closed: Closed, open: mpsc::Sender<Infallible>) {
    let counts = Rc::new(Counts::default());
    loop {
        let accepted = match select(listener.accept(), &mut end).await {
            Either::Left((accepted, _)) => accepted,
            Either::Right(((), _)) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (counts, closed, open) = (counts.clone(), closed.clone(), open.clone());
                spawn(async move {
                    counts.connections.set(counts.connections.get() + 1);
                    if let Err(error) = converse(stream, &counts, closed).await {
                        tracing::debug!(%peer, %error, "connection ended");
                    }
                    counts.connections.set(counts.connections.get() - 1);
                    drop(open);
                })
                .detach();
            }
            Err(error) => {
                // Out of descriptors, most likely: connections that end will give some back.
                tracing::warn!(%error, "cannot accept");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves one connection until it closes, or until `closed` and the response under way.
async fn converse(stream: TcpStream, counts: &Counts, closed: Closed) -> Result<(), hyper::Error> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn off Nagle's algorithm");
    }
    let answer = service_fn(|request| answer(request, counts));
    let connection = http1::Builder::new()
        .timer(Timer)
        .header_read_timeout(PATIENCE)
        .pipeline_flush(true)
        .serve_connection(Io::new(stream), answer);
    let mut connection = pin!(connection);
    match select(connection.as_mut(), closed).await {
        Either::Left((result, _)) => result,
        Either::Right(((), _)) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

async fn answer(request: Request<Incoming>, counts: &Counts) -> Result<Response<Full<Bytes>>, Infallible> {
    counts.requests.set(counts.requests.get() + 1);
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/") => {
            (StatusCode::OK, format!("hello from core {}\n", core_index()).into())
        }
        (&Method::GET, "/metrics") => {
            let (requests, connections) = (counts.requests.get(), counts.connections.get());
            (StatusCode::OK, format!("requests {requests}\nconnections {connections}\n").into())
        }
        (&Method::POST | &Method::PUT, "/echo") => {
            match Limited::new(request.into_body(), LONGEST_BODY).collect().await {
                Ok(body) => (StatusCode::OK, body.to_bytes()),
                Err(error) if error.is::<LengthLimitError>() => {
                    (StatusCode::PAYLOAD_TOO_LARGE, format!("at most {LONGEST_BODY} bytes\n").into())
                }
                Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n").into()),
            }
        }
        (_, "/" | "/metrics" | "/echo") => (StatusCode::METHOD_NOT_ALLOWED, "not here\n".into()),
        _ => (StatusCode::NOT_FOUND, "nothing here\n".into()),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    Ok(response)
}
