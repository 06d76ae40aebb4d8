//! axum on demikernel: routes, JSON, a body that comes in pieces, and WebSocket.
//!
//! ```text
//! $ cargo run --release -p demikernel-services --bin web
//! listening on 127.0.0.1:8080
//!
//! $ curl http://127.0.0.1:8080/
//! hello from axum
//! $ curl --http2-prior-knowledge -H 'content-type: application/json' -d '{"numbers": [1, 2, 39]}' http://127.0.0.1:8080/sum
//! {"sum":42}
//! $ curl -N 'http://127.0.0.1:8080/count?to=3'           # a line each 100 ms
//! 1
//! 2
//! 3
//! $ python3 -m websockets ws://127.0.0.1:8080/echo       # what is said comes back
//! $ wrk -t1 -c64 -d3s http://127.0.0.1:8080/
//! ```

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::handshake::server::create_response;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser;
use demikernel::net::TcpListener;
use demikernel::time::{Duration, sleep, timeout};
use demikernel::{OnThread, spawn};
use demikernel_services::{Options, PATIENCE, Stream, log_to_stderr, serve};
use futures::{StreamExt, stream};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::server::conn::auto::upgrade::downcast;
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::process::ExitCode;

fn main() -> ExitCode {
    log_to_stderr();
    let options = Options::parse();
    options.runtime().run(move || async move {
        let listener = TcpListener::bind(options.listen).await?;
        serve(listener, TowerToHyperService::new(router())).await
    })
}

fn router() -> Router {
    Router::new()
        .route("/", get(async || "hello from axum\n"))
        .route("/sum", post(sum))
        .route("/count", get(count))
        .route("/echo", get(echo))
}

#[derive(Deserialize)]
struct Numbers {
    numbers: Vec<i64>,
}

#[derive(Serialize)]
struct Sum {
    sum: i64,
}

async fn sum(Json(Numbers { numbers }): Json<Numbers>) -> Json<Sum> {
    Json(Sum { sum: numbers.into_iter().fold(0, i64::wrapping_add) })
}

#[derive(Deserialize)]
struct To {
    to: u32,
}

/// A body that is made while it is sent. Timers are not `Send`, so each is in a future that is.
async fn count(Query(To { to }): Query<To>) -> Body {
    Body::from_stream(stream::iter(1..=to.min(1000)).then(|number| {
        OnThread::future(async move {
            if number > 1 {
                sleep(Duration::from_millis(100)).await;
            }
            Ok::<_, Infallible>(Bytes::from(format!("{number}\n")))
        })
    }))
}

/// Answers that the connection is a WebSocket now, and sends back what comes over it.
///
/// axum's own `WebSocketUpgrade` starts tasks of tokio; this is what it does, with a task of ours.
async fn echo(request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() else {
        return (StatusCode::UPGRADE_REQUIRED, "a WebSocket is spoken here\n").into_response();
    };
    match create_response(&Request::from_parts(parts, ())) {
        Ok(response) => {
            spawn(async move {
                let result = async { converse(upgrade.await?).await };
                if let Err(error) = result.await {
                    tracing::debug!(%error, "a WebSocket ended");
                }
            })
            .detach();
            response.map(|()| Body::empty())
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

async fn converse(upgraded: Upgraded) -> Outcome {
    // The stream itself, and what of it hyper has read already.
    let parts = downcast::<Stream>(upgraded).map_err(|_| "this is not a stream of ours")?;
    let stream = parts.io.into_inner();
    let limits = WebSocketConfig::default().max_message_size(Some(1 << 20)).max_frame_size(Some(1 << 20));
    let early = parts.read_buf.to_vec();
    let mut socket = WebSocketStream::from_partially_read(stream, early, Role::Server, Some(limits)).await;
    loop {
        // Who is silent is asked whether it is still there, once.
        let message = match timeout(PATIENCE, socket.next()).await {
            Ok(message) => message,
            Err(_) => {
                socket.send(Message::Ping(Bytes::new())).await?;
                timeout(PATIENCE, socket.next()).await?
            }
        };
        match message.transpose()? {
            Some(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message).await?,
            // Pings are answered, and closing is confirmed, by the library.
            Some(_) => {}
            None => return Ok(()),
        }
    }
}
