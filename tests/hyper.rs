//! hyper's server and client on this runtime, over each transport.

use demikernel::hyper::{Executor, Io, Timer};
use demikernel::net::{TcpListener, TcpStream};
use demikernel::spawn;
use demikernel::time::{Duration, Instant, sleep};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Executor as _, Timer as _};
use hyper::service::service_fn;
use hyper::{Request, Response, client, server};
use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// Serves one connection, which sends bodies back, and says how it ended.
async fn echo_once(listener: TcpListener) -> hyper::Result<()> {
    let (stream, _) = listener.accept().await.expect("a client comes");
    let echo = service_fn(async |request: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(request.into_body()))
    });
    server::conn::http1::Builder::new()
        .timer(Timer)
        .header_read_timeout(Duration::from_secs(30))
        .serve_connection(Io::new(stream), echo)
        .await
}

async fn server() -> io::Result<(SocketAddr, demikernel::JoinHandle<hyper::Result<()>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    Ok((listener.local_addr()?, spawn(echo_once(listener))))
}

#[demikernel::test]
async fn bodies_come_back_over_one_connection() -> Result<(), Box<dyn std::error::Error>> {
    let (address, served) = server().await?;
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = client::conn::http1::handshake(Io::new(stream)).await?;
    let connection = spawn(connection);
    for len in [0, 1, 10_000, 3_000_000] {
        let body: Bytes = (0..len).map(|index| index as u8).collect();
        sender.ready().await?;
        let response = sender.send_request(Request::post("/").body(Full::new(body.clone()))?).await?;
        assert!(response.into_body().collect().await?.to_bytes() == body, "{len} bytes");
    }
    drop(sender);
    connection.await??;
    served.await??;
    Ok(())
}

#[demikernel::test(time = "virtual", transport = "epoll")]
async fn a_client_that_says_nothing_is_sent_away_in_virtual_time() -> io::Result<()> {
    let (address, served) = server().await?;
    let stream = TcpStream::connect(address).await?;
    let start = Instant::now();
    let error = served.await.unwrap().unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(start.elapsed().as_secs(), 30);
    assert!(stream.pop().await?.is_empty());
    Ok(())
}

#[demikernel::test(time = "virtual", transport = "epoll")]
async fn the_timer_goes_by_the_runtimes_clock() {
    let start = Timer.now();
    Timer.sleep(Duration::from_secs(60)).await;
    let elapsed = Timer.now() - start;
    assert_eq!(elapsed.as_secs(), 60);
    Timer.sleep_until(start + Duration::from_secs(90)).await;
    let elapsed = Timer.now() - start;
    assert_eq!(elapsed.as_secs(), 90);
}

#[demikernel::test]
async fn the_executor_runs_what_is_not_send() {
    let done = Rc::new(Cell::new(false));
    let task = done.clone();
    Executor.execute(async move { task.set(true) });
    sleep(Duration::from_millis(1)).await;
    assert!(done.get());
}

#[demikernel::test]
async fn a_timer_on_another_thread_is_refused_and_its_drop_harms_nobody() {
    let timer = Timer.sleep(Duration::from_secs(3600));
    let other = Timer.sleep(Duration::from_secs(3600));
    let polled = std::thread::spawn(move || {
        let mut timer = timer;
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        timer.as_mut().poll(&mut context).is_ready()
    });
    assert!(polled.join().is_err(), "it panics");
    std::thread::spawn(move || drop(other)).join().unwrap();
    sleep(Duration::from_millis(1)).await;
}
