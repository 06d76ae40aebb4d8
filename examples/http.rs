//! An HTTP server: hyper 1 on this runtime, HTTP/1.1 and HTTP/2, with TLS or without.
//!
//! ```text
//! $ cargo run --release --features hyper --example http -- --listen 127.0.0.1:8080
//! http: listening on 127.0.0.1:8080
//!
//! $ curl http://127.0.0.1:8080/
//! hello from core 0
//! $ curl --data-binary 'to and fro' http://127.0.0.1:8080/echo
//! to and fro
//! $ curl -N -T . http://127.0.0.1:8080/through        # each line comes back as it is typed
//! $ curl http://127.0.0.1:8080/metrics                # requests, and connections open now
//! $ wrk -t1 -c32 -d3s http://127.0.0.1:8080/          # requests per second
//! $ curl --http2-prior-knowledge http://127.0.0.1:8080/
//! $ h2load -n100000 -c8 -m16 http://127.0.0.1:8080/
//! ```
//!
//! With `--tls` the same with TLS, in which the client chooses the version of HTTP (ALPN). The certificate is made at the
//! start, unless `--cert` and `--key` name files in PEM:
//!
//! ```text
//! $ cargo run --release --features hyper --example http -- --tls
//! $ curl --insecure https://127.0.0.1:8080/
//! $ openssl s_client -connect 127.0.0.1:8080 -alpn h2 </dev/null
//! ```
//!
//! What clients may cost is limited: bodies of `/echo` are kept, so they are short; `/through` keeps a window of them.
//! Who does not send the head of a request in half a minute is sent away.
//!
//! Ctrl-C or SIGTERM ends it: no more connections, and those that are open close after the response under way.

mod tls;

use clap::Parser;
use demikernel::channel::mpsc;
use demikernel::hyper::{Executor, Io, Timer};
use demikernel::net::{TcpListener, TcpStream};
use demikernel::signal::{Shutdown, shutdown};
use demikernel::time::{Duration, sleep, timeout};
use demikernel::{Builder, Idle, core_index, spawn};
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{Either, Map, Shared, select};
use futures::io::BufReader;
use futures_rustls::TlsAcceptor;
use http_body_util::{BodyExt, Either as OneOf, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, rt};
use hyper_util::server::conn::auto;
use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
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

/// An HTTP server: hyper 1 on this runtime.
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
    #[command(flatten)]
    tls: tls::TlsOptions,
}

fn main() -> ExitCode {
    let log = tracing_subscriber::fmt().with_writer(io::stderr);
    log.with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let cli = Cli::parse();
    let acceptor = match cli.tls.acceptor(&["h2", "http/1.1"]) {
        Ok(acceptor) => acceptor,
        Err(error) => {
            eprintln!("http: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut builder = Builder::new().idle(cli.idle).cores(cli.cores);
    if let Some(name) = &cli.transport {
        builder = builder.transport(name);
    }
    builder.run(move || serve(cli.listen, acceptor.clone()))
}

/// What one core has served. Cores share nothing, so each answers for itself.
#[derive(Default)]
struct Counts {
    requests: Cell<u64>,
    connections: Cell<u64>,
}

/// Serves until the end is asked for, and the requests under way to their end.
pub(crate) async fn serve(listen: SocketAddr, tls: Option<TlsAcceptor>) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    // Before the address is printed: whoever reads it may ask for the end.
    let end = shutdown()?;
    println!("http: listening on {}", listener.local_addr()?);
    // Nothing is sent: each connection holds a sender, so that receiving ends when all of them have ended.
    let (open, mut all_ended) = mpsc::channel::<Infallible>(1);
    // Connections are told when the listener is closed: who sees one of them end finds nobody listening.
    let (closing, closed) = oneshot::channel();
    accept(listener, end, Ends { tls, closed: closed.map(drop as Forget).shared(), open }).await;
    drop(closing);
    if timeout(GRACE, all_ended.recv()).await.is_err() {
        tracing::warn!("connections were cut off in the middle of a request");
    }
    Ok(())
}

type Forget = fn(Result<(), oneshot::Canceled>);

/// Done when no more connections are accepted.
type Closed = Shared<Map<oneshot::Receiver<()>, Forget>>;

/// What all connections have of the server.
#[derive(Clone)]
struct Ends {
    tls: Option<TlsAcceptor>,
    closed: Closed,
    open: mpsc::Sender<Infallible>,
}

/// Accepts connections until `end`; each of them goes on until the listener is closed.
async fn accept(listener: TcpListener, mut end: Shutdown, ends: Ends) {
    let counts = Rc::new(Counts::default());
    loop {
        let accepted = match select(listener.accept(), &mut end).await {
            Either::Left((accepted, _)) => accepted,
            Either::Right(((), _)) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (counts, ends) = (counts.clone(), ends.clone());
                spawn(async move {
                    counts.connections.set(counts.connections.get() + 1);
                    if let Err(error) = attend(stream, &counts, &ends).await {
                        tracing::debug!(%peer, %error, "connection ended");
                    }
                    counts.connections.set(counts.connections.get() - 1);
                    drop(ends.open);
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

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

async fn attend(stream: TcpStream, counts: &Rc<Counts>, ends: &Ends) -> Outcome {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn off Nagle's algorithm");
    }
    let Some(acceptor) = &ends.tls else { return converse(Io::new(stream), counts, &ends.closed).await };
    let stream = match select(pin!(tls::accept(acceptor, stream)), ends.closed.clone()).await {
        Either::Left((stream, _)) => stream?,
        Either::Right(((), _)) => return Ok(()),
    };
    converse(Io::new(BufReader::new(stream)), counts, &ends.closed).await
}

/// Serves one connection until it closes, or until `closed` and the responses under way.
async fn converse<I>(io: I, counts: &Rc<Counts>, closed: &Closed) -> Outcome
where
    I: rt::Read + rt::Write + Unpin + 'static,
{
    let spoken = Rc::new(Cell::new(false));
    let answer = {
        let (counts, spoken) = (counts.clone(), spoken.clone());
        service_fn(move |request| {
            spoken.set(true);
            answer(request, counts.clone())
        })
    };
    let mut builder = auto::Builder::new(Executor);
    builder.http1().timer(Timer).header_read_timeout(PATIENCE).pipeline_flush(true);
    // A client that is gone without a word does not answer the ping.
    builder.http2().timer(Timer).keep_alive_interval(PATIENCE);
    let mut connection = pin!(builder.serve_connection(io, answer));
    // While the version is found out nothing else keeps the time.
    let silence = pin!(async {
        sleep(PATIENCE).await;
        if spoken.get() {
            pending::<()>().await;
        }
    });
    match select(connection.as_mut(), select(closed.clone(), silence)).await {
        Either::Left((result, _)) => result,
        Either::Right((Either::Left(_), _)) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        Either::Right((Either::Right(_), _)) => Err("no request came".into()),
    }
}

type Body = OneOf<Full<Bytes>, Incoming>;

async fn answer(request: Request<Incoming>, counts: Rc<Counts>) -> Result<Response<Body>, Infallible> {
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
        // The response goes on as long as the request, neither is kept.
        (&Method::POST | &Method::PUT, "/through") => {
            return Ok(Response::new(OneOf::Right(request.into_body())));
        }
        (_, "/" | "/metrics" | "/echo" | "/through") => (StatusCode::METHOD_NOT_ALLOWED, "not here\n".into()),
        _ => (StatusCode::NOT_FOUND, "nothing here\n".into()),
    };
    let mut response = Response::new(OneOf::Left(Full::new(body)));
    *response.status_mut() = status;
    Ok(response)
}
