//! A key-value server that speaks the Redis protocol, RESP2 and RESP3.
//!
//! It shows a server whose requests are parsed in the buffers they arrived in, whose replies leave as one push however
//! many requests were answered, and whose protocol and data know nothing of sockets or clocks, so that their tests
//! need none. To be read in this order: `server`, `connection`, `commands`, `resp`, `store` and `journal`.
//!
//! ```text
//! $ cargo run --release --example key-value -- --listen 127.0.0.1:6379
//! key-value: listening on 127.0.0.1:6379
//!
//! $ redis-cli -p 6379
//! 127.0.0.1:6379> SET greeting hello EX 60
//! OK
//! 127.0.0.1:6379> GET greeting
//! "hello"
//!
//! $ redis-benchmark -p 6379 -t set,get -n 1000000 -q            # and with -P 16: requests per second
//! $ printf 'PING\r\nINCR visits\r\n' | nc -q 1 127.0.0.1 6379
//! +PONG
//! :1
//! ```
//!
//! With `--log PATH` every write is durable before its reply, as with Redis' `appendfsync always`, and back when the server
//! is started again, however it ended; writes of clients that are served together share one flush:
//!
//! ```text
//! $ cargo run --release --example key-value -- --log data.log --log-size 1024
//! ```
//!
//! A name without slash, dot and colon is that of a log on the storage that is configured: a file, a drive past the kernel,
//! whatever sockets are on:
//!
//! ```text
//! $ cat demikernel.toml
//! [storage]
//! device = "0000:5e:00.0/1"
//! $ export DEMIKERNEL_CONFIG=demikernel.toml
//! $ cargo run --release --features nvme --example key-value -- --log orders
//! ```
//!
//! Without, nothing is stored on disk.
//!
//! `--tls` is TLS with a certificate that is made at the start, `--cert` and `--key` name files in PEM:
//!
//! ```text
//! $ cargo run --release --example key-value -- --tls
//! $ redis-cli --tls --insecure SET greeting hello
//! OK
//! ```
//!
//! The store belongs to one core, as in Redis; `--cores` other than 1 is refused.

mod changes; // changes of the store as bytes
mod commands; // from the arguments of a request to changes of the store and a reply
mod connection; // one connection without its socket
mod journal; // the log of all writes
mod resp; // the protocol
mod server; // connections
mod store; // the data
#[path = "../tls/mod.rs"]
mod tls; // certificates
mod wire; // the stream of a connection, with TLS or without

#[cfg(test)]
mod tests;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use demikernel::{Builder, Idle};
pub(crate) use server::serve;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// A key-value server that speaks the Redis protocol.
#[derive(Parser)]
pub(crate) struct Args {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6379")]
    listen: SocketAddr,
    /// The transport: io_uring, epoll, ...; chosen automatically without.
    #[arg(long)]
    transport: Option<String>,
    /// How many cores to use: 1, as the store belongs to one core.
    #[arg(long, default_value_t = 1)]
    cores: usize,
    /// What to do when there is nothing to do: spin, block, adaptive or adaptive(TIME).
    #[arg(long, default_value = "adaptive")]
    idle: Idle,
    /// How many clients may be connected; further ones are told so and sent away.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    max_clients: usize,
    /// How many MiB one request may have, and so a connection's memory.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_request: u32,
    /// Where a log of all writes is: the name of one on the storage that is configured, or the path of a file or block
    /// device, or a drive's address. A file is made if it is not there.
    #[arg(long, value_name = "PATH|NAME")]
    log: Option<PathBuf>,
    /// How many MiB a file that is made has: several times what the keys and values have.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    log_size: u32,
    #[command(flatten)]
    tls: tls::TlsOptions,
}

fn main() -> ExitCode {
    let log = tracing_subscriber::fmt().with_writer(io::stderr);
    log.with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let args = Args::parse();
    if args.cores != 1 {
        let message = "the store belongs to one core: --cores must be 1 (start more servers for more cores)";
        Args::command().error(ErrorKind::ValueValidation, message).exit();
    }
    let mut builder = Builder::new().idle(args.idle);
    if let Some(transport) = &args.transport {
        builder = builder.transport(transport);
    }
    match builder.build().and_then(|runtime| runtime.block_on(serve(&args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("key-value: {error}");
            ExitCode::FAILURE
        }
    }
}
