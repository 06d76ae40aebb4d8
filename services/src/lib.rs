//! Other people's frameworks on demikernel: what the programs `web` and `grpc` of this package have in common.
//!
//! Whatever is a service of tower is served by hyper ([`serve`]): routers of axum, services of tonic. Their handlers must be
//! futures that are `Send`; those that use streams or timers of this runtime are made so by
//! [`OnThread::future`](demikernel::OnThread::future).

mod serve;

use clap::Parser;
use demikernel::{Builder, Idle};
use std::net::SocketAddr;

pub use serve::{PATIENCE, Stream, serve};

/// What each of the servers is told.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Transport: io_uring, epoll, ... or auto
    #[arg(long)]
    pub transport: Option<String>,
    /// Cores to serve on, one runtime each
    #[arg(long, default_value_t = 1)]
    pub cores: usize,
    /// What to do when nothing is ready: spin, block, adaptive, adaptive(50us)
    #[arg(long, default_value = "adaptive")]
    pub idle: Idle,
}

impl Options {
    /// The runtime that was asked for.
    pub fn runtime(&self) -> Builder {
        let builder = Builder::new().idle(self.idle).cores(self.cores);
        match &self.transport {
            Some(name) => builder.transport(name),
            None => builder,
        }
    }
}

/// Diagnostics on standard error, as `RUST_LOG` says.
pub fn log_to_stderr() {
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr);
    log.with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
}
