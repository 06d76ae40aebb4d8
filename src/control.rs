//! The control socket that the configuration asks for.

use demikernel_inspect::{InspectConfig, Server};
use std::io;
use std::sync::Arc;

/// Serves it while somebody has what this gives; all runtimes of the process share it.
///
/// # Errors
/// `InvalidInput` with the key and the value for a configuration that is wrong; those of making a socket.
pub(crate) fn open(configuration: Option<&str>) -> io::Result<Option<Arc<Server>>> {
    let config = match configuration {
        Some(text) => text.parse(),
        None => InspectConfig::from_env(),
    };
    let config = config.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
    Server::shared(&config)
}
