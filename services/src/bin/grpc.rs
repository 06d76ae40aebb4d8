//! gRPC on demikernel: a service of tonic, a client on this runtime, and tonic's own client, which needs tokio, beside it.
//!
//! ```text
//! $ cargo run --release -p demikernel-services --bin grpc -- serve
//! listening on 127.0.0.1:8080
//!
//! $ cargo run --release -p demikernel-services --bin grpc -- call http://127.0.0.1:8080 --name you
//! hello, you
//! 3
//! 2
//! 1
//! $ cargo run --release -p demikernel-services --bin grpc -- call --tokio http://127.0.0.1:8080 --name you
//! ```
//!
//! The messages and the service are what tonic-build makes of
//!
//! ```text
//! syntax = "proto3";
//! package greeter;
//! message Name { string name = 1; }
//! message Greeting { string text = 1; }
//! message Number { uint32 number = 1; }
//! service Greeter {
//!     rpc Greet(Name) returns (Greeting);
//!     rpc CountDown(Number) returns (stream Number);
//! }
//! ```
//!
//! and written out here, as that takes the program protoc. `GreeterServer` of tonic-build goes where `Greeter` does.

use clap::{Args, Parser};
use demikernel::compat::TokioThread;
use demikernel::hyper::{Executor, Io, Timer};
use demikernel::net::{TcpListener, TcpStream};
use demikernel::time::{Duration, sleep};
use demikernel::{OnThread, spawn};
use demikernel_services::{Options, log_to_stderr, serve};
use futures::future::{BoxFuture, Ready, ready};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, Uri};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::client::{Grpc as Client, GrpcService};
use tonic::codegen::Service;
use tonic::server::{Grpc as Server, ServerStreamingService, UnaryService};
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Greeting {
    #[prost(string, tag = "1")]
    text: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Number {
    #[prost(uint32, tag = "1")]
    number: u32,
}

const GREET: &str = "/greeter.Greeter/Greet";
const COUNT_DOWN: &str = "/greeter.Greeter/CountDown";

/// A service of tonic, and its clients.
#[derive(Parser)]
enum Cli {
    /// Serve
    Serve(Options),
    /// Call both methods
    Call(Call),
}

#[derive(Args, Clone)]
struct Call {
    /// Where the server is: http://ADDRESS:PORT
    server: Uri,
    /// Who is to be greeted
    #[arg(long, default_value = "you")]
    name: String,
    /// By tonic's channel, on a thread of tokio's
    #[arg(long)]
    tokio: bool,
    /// Transport: io_uring, epoll, ... or auto
    #[arg(long)]
    transport: Option<String>,
}

fn main() -> ExitCode {
    log_to_stderr();
    match Cli::parse() {
        Cli::Serve(options) => options.runtime().run(move || async move {
            let listener = TcpListener::bind(options.listen).await?;
            serve(listener, TowerToHyperService::new(Greeter)).await
        }),
        Cli::Call(call) => {
            let options = Options::parse_from(["grpc"]);
            let options = Options { transport: call.transport.clone(), ..options };
            options
                .runtime()
                .run(move || call_both(call.clone()).map(|result| result.map_err(io::Error::other)))
        }
    }
}

type Failure = Box<dyn Error + Send + Sync>;

/// The service, in the form that tonic-build gives it.
#[derive(Clone)]
struct Greeter;

impl Service<Request<Incoming>> for Greeter {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        async move {
            Ok(match request.uri().path() {
                GREET => Server::new(ProstCodec::default()).unary(Greet, request).await,
                COUNT_DOWN => Server::new(ProstCodec::default()).server_streaming(CountDown, request).await,
                _ => Status::new(Code::Unimplemented, "no such method").into_http(),
            })
        }
        .boxed()
    }
}

struct Greet;

impl UnaryService<Name> for Greet {
    type Response = Greeting;
    type Future = Ready<Result<tonic::Response<Greeting>, Status>>;

    fn call(&mut self, request: tonic::Request<Name>) -> Self::Future {
        let text = format!("hello, {}", request.into_inner().name);
        ready(Ok(tonic::Response::new(Greeting { text })))
    }
}

struct CountDown;

impl ServerStreamingService<Number> for CountDown {
    type Response = Number;
    type ResponseStream = BoxStream<'static, Result<Number, Status>>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Number>) -> Self::Future {
        let from = request.into_inner().number;
        if from > 1000 {
            return ready(Err(Status::invalid_argument("at most 1000")));
        }
        // Timers are not `Send`, so each is in a future that is.
        let numbers = stream::iter((1..=from).rev()).then(|number| {
            OnThread::future(async move {
                sleep(Duration::from_millis(10)).await;
                Ok(Number { number })
            })
        });
        ready(Ok(tonic::Response::new(numbers.boxed())))
    }
}

async fn call_both(call: Call) -> Result<(), Failure> {
    let said = if call.tokio {
        // Sockets, timers and tasks of tokio there; here a task that waits for what comes of them.
        let tokio = TokioThread::start()?;
        tokio
            .spawn(async move {
                let channel = Endpoint::from(call.server).connect().await?;
                converse(Client::new(channel), call.name).await
            })
            .await??
    } else {
        let connection = Connection::open(&call.server).await?;
        converse(Client::with_origin(connection, call.server), call.name).await?
    };
    println!("{said}");
    Ok(())
}

/// What both methods say, a line each.
async fn converse<T>(mut client: Client<T>, name: String) -> Result<String, Failure>
where
    T: GrpcService<Body>,
    T::ResponseBody: Send + 'static,
    <T::ResponseBody as hyper::body::Body>::Error: Into<Failure>,
    T::Error: Into<Failure>,
{
    client.ready().await.map_err(Into::into)?;
    let path = PathAndQuery::from_static(GREET);
    let request = tonic::Request::new(Name { name });
    let greeting = client.unary::<_, Greeting, _>(request, path, ProstCodec::default()).await?;
    client.ready().await.map_err(Into::into)?;
    let path = PathAndQuery::from_static(COUNT_DOWN);
    let request = tonic::Request::new(Number { number: 3 });
    let numbers = client.server_streaming(request, path, ProstCodec::default()).await?;
    let numbers: Vec<Number> = numbers.into_inner().try_collect().await?;
    let numbers = numbers.iter().map(|Number { number }| number.to_string());
    Ok([vec![greeting.into_inner().text], numbers.collect()].concat().join("\n"))
}

/// A connection of this runtime's as tonic wants it.
struct Connection(SendRequest<Body>);

impl Connection {
    async fn open(server: &Uri) -> Result<Connection, Failure> {
        let authority = server.authority().ok_or("the server's address is http://ADDRESS:PORT")?;
        let stream = TcpStream::connect(authority.as_str()).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            Builder::new(Executor).timer(Timer).handshake::<_, Body>(Io::new(stream)).await?;
        spawn(connection).detach();
        Ok(Connection(sender))
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Response<Incoming>, hyper::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.send_request(request).boxed()
    }
}
