//! The server.

use crate::Args;
use crate::common::{Log, listener, without_delay};
use demikernel::pdpix::{self, QResult, Qd, Qt, Value};
use std::io;

pub(crate) async fn serve(args: Args) -> io::Result<()> {
    let listener = listener(args.address)?;
    println!("server: listening on {}", pdpix::getsockname(listener)?);
    let mut server = Server { listener, tokens: Vec::new(), clients: 0, accepting: false };
    let mut log = Log::new(args.log);
    server.accept()?;
    loop {
        if log.is_due() {
            println!("server: {} clients", server.clients);
        }
        if let Some((index, result)) = log.wait_any(&server.tokens).await? {
            // What is started next goes to the end of the list: whoever is in front is not always the same.
            server.tokens.remove(index);
            server.handle(result)?;
        }
    }
}

struct Server {
    listener: Qd,
    /// An operation of each client, and an accept.
    tokens: Vec<Qt>,
    clients: usize,
    accepting: bool,
}

impl Server {
    fn handle(&mut self, QResult { qd, value, .. }: QResult) -> io::Result<()> {
        match value {
            Value::Accepted { qd: client, .. } => {
                self.clients += 1;
                self.accepting = false;
                self.serve(client)?;
                self.accept()?;
            }
            Value::Popped { sga, .. } if sga.is_empty() => self.close(qd)?,
            // The memory that was received is what is sent.
            Value::Popped { sga, .. } => self.tokens.push(pdpix::push(qd, sga)?),
            Value::Failed(error) if qd == self.listener => self.cannot_accept(error)?,
            Value::Failed(error) => {
                tracing::debug!(%error, "a client has gone");
                self.close(qd)?;
            }
            // A client that takes nothing more is asked for nothing more.
            _ => self.tokens.push(pdpix::pop(qd, None)?),
        }
        Ok(())
    }

    fn serve(&mut self, client: Qd) -> io::Result<()> {
        // It may have gone again, which the pop will tell.
        if let Err(error) = without_delay(client) {
            tracing::debug!(%error, "a client keeps its delay");
        }
        self.tokens.push(pdpix::pop(client, None)?);
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        if !self.accepting {
            self.tokens.push(pdpix::accept(self.listener)?);
            self.accepting = true;
        }
        Ok(())
    }

    /// Out of descriptors, most likely: the next client that goes gives one back.
    fn cannot_accept(&mut self, error: io::Error) -> io::Result<()> {
        tracing::warn!(%error, "cannot accept");
        self.accepting = false;
        if self.clients == 0 { Err(error) } else { Ok(()) }
    }

    fn close(&mut self, qd: Qd) -> io::Result<()> {
        self.clients -= 1;
        pdpix::close(qd)?;
        self.accept()
    }
}
