//! Serving a service by hyper: HTTP/1.1, HTTP/2, upgrades, and an end that cuts nobody off.

use demikernel::hyper::{Executor, Io, Timer};
use demikernel::net::{TcpListener, TcpStream};
use demikernel::signal::shutdown;
use demikernel::time::{Duration, sleep, timeout};
use demikernel::{OnThread, spawn};
use futures::future::{Either, pending, select};
use hyper::body::{Body, Incoming};
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use std::cell::Cell;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::rc::Rc;

/// How long a client may take to send the head of a request, and to answer a ping.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long requests under way may go on when the server ends.
const GRACE: Duration = Duration::from_secs(5);

/// What `hyper_util::server::conn::auto::upgrade::downcast` finds in a connection that was upgraded.
pub type Stream = Io<OnThread<TcpStream>>;

type Failure = Box<dyn Error + Send + Sync>;

/// Serves until Ctrl-C or SIGTERM, and the requests under way to their end.
///
/// # Errors
/// If signals cannot be waited for.
pub async fn serve<S, B>(listener: TcpListener, service: S) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + 'static,
    S::Future: 'static,
    S::Error: Into<Failure>,
    B: Body + 'static,
    B::Error: Into<Failure>,
    Executor: Http2ServerConnExec<S::Future, B>,
{
    // Before the address is printed: whoever reads it may ask for the end.
    let mut end = shutdown()?;
    println!("listening on {}", listener.local_addr()?);
    let connections = GracefulShutdown::new();
    loop {
        match select(listener.accept(), &mut end).await {
            Either::Left((Ok((stream, peer)), _)) => {
                let (service, watcher) = (service.clone(), connections.watcher());
                spawn(async move {
                    let _ = stream.set_nodelay(true);
                    if let Err(error) = converse(stream, service, watcher).await {
                        tracing::debug!(%peer, %error, "connection ended");
                    }
                })
                .detach();
            }
            Either::Left((Err(error), _)) => {
                // Out of descriptors, most likely: connections that end will give some back.
                tracing::warn!(%error, "cannot accept");
                sleep(Duration::from_millis(50)).await;
            }
            Either::Right(_) => break,
        }
    }
    drop(listener);
    if timeout(GRACE, connections.shutdown()).await.is_err() {
        tracing::warn!("connections were cut off in the middle of a request");
    }
    Ok(())
}

/// One connection, in whichever version the client speaks.
async fn converse<S, B>(
    stream: TcpStream,
    service: S,
    watcher: hyper_util::server::graceful::Watcher,
) -> Result<(), Failure>
where
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Future: 'static,
    S::Error: Into<Failure>,
    B: Body + 'static,
    B::Error: Into<Failure>,
    Executor: Http2ServerConnExec<S::Future, B>,
{
    let spoken = Rc::new(Cell::new(false));
    let noted = {
        let spoken = spoken.clone();
        service_fn(move |request| {
            spoken.set(true);
            service.call(request)
        })
    };
    let mut builder = auto::Builder::new(Executor);
    // Without `pipeline_flush`: with it hyper 1.12 loses the response to an upgrade that has bytes right behind it.
    builder.http1().timer(Timer).header_read_timeout(PATIENCE);
    builder.http2().timer(Timer).keep_alive_interval(PATIENCE);
    // hyper wants streams that it hands over after an upgrade to be `Send`.
    let connection = builder.serve_connection_with_upgrades(Io::new(OnThread::new(stream)), noted);
    // While the version is found out nothing else keeps the time.
    let silence = pin!(async {
        sleep(PATIENCE).await;
        if spoken.get() {
            pending::<()>().await;
        }
    });
    match select(pin!(watcher.watch(connection.into_owned())), silence).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => Err("no request came".into()),
    }
}
