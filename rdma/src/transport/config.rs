//! The section `[rdma]` of the configuration.

use super::memory::SMALL;
use crate::link::{HEADER, LinkConfig};
use serde::Deserialize;
use std::env;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Names the file, where the program says nothing.
const VARIABLE: &str = "DEMIKERNEL_CONFIG";

/// All that a user can say about the transport.
///
/// ```
/// use demikernel_rdma::transport::RdmaConfig;
///
/// let config: RdmaConfig = "[rdma]\nbuffers = 4096".parse().unwrap();
/// assert_eq!((config.buffers, config.buffer_size), (4096, 4096));
/// let error = "[rdma]\nbuffer-size = 5000".parse::<RdmaConfig>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "line 2: rdma.buffer-size: found 5000, expected 2048, 4096, 16384 or 65536"
/// );
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct RdmaConfig {
    /// The device, as `rdma link` shows it; without, the only one that there is.
    pub device: Option<String>,
    /// Its port.
    pub port: u8,
    /// Receive buffers of all connections of a core together.
    pub buffers: u32,
    /// Bytes of each: 2048, 4096, 16384 or 65536, as the sizes of the heap are.
    pub buffer_size: u32,
    /// Messages that an idle peer may send.
    pub credits: u16,
    /// Messages that an active peer may send before it hears of more.
    pub window: u16,
    /// Sends of a connection that the device may have at once.
    pub send_depth: u16,
    /// Connections.
    pub connections: u32,
    /// Connections that others are setting up, at once.
    pub half_open: u32,
    /// Connections that others may set up in a second.
    pub connection_rate: u32,
    /// Milliseconds that setting up a connection may take.
    pub set_up_timeout: u32,
}

impl Default for RdmaConfig {
    fn default() -> RdmaConfig {
        let link = LinkConfig::default();
        RdmaConfig {
            device: None,
            port: 1,
            buffers: link.buffers,
            buffer_size: link.buffer_size,
            credits: link.floor,
            window: link.window,
            send_depth: link.send_depth,
            connections: link.connections,
            half_open: link.half_open,
            connection_rate: link.rate,
            set_up_timeout: link.set_up.as_millis() as u32,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The text is not TOML, or has a key that there is not, or a value of another type.
    #[error("{place}: {message}")]
    Text {
        /// Where.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A value cannot be.
    #[error("{place}: rdma.{key}: found {found}, expected {expected}")]
    Value {
        /// Where.
        place: String,
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// What could be there.
        expected: &'static str,
    },
}

/// The other sections are others'.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    rdma: RdmaConfig,
}

impl RdmaConfig {
    /// What the file says that the variable `DEMIKERNEL_CONFIG` names; the defaults without it.
    ///
    /// # Errors
    /// If it cannot be read or has a key that there is not, or a value is wrong.
    pub fn from_env() -> Result<RdmaConfig, ConfigError> {
        // An empty variable is one that was unset by a shell that can do no better.
        match env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            Some(path) => RdmaConfig::from_file(path),
            None => Ok(RdmaConfig::default()),
        }
    }

    /// What this file says.
    ///
    /// # Errors
    /// As [`from_env`](RdmaConfig::from_env).
    pub fn from_file(path: impl AsRef<Path>) -> Result<RdmaConfig, ConfigError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.to_path_buf(), error })?;
        parse(&text, Some(path))
    }

    /// Whether it makes sense: the key that does not, what was found, and what is expected.
    pub(super) fn validate(&self) -> Result<(), (&'static str, String, &'static str)> {
        let check = |is_right: bool, key, found: u64, expected| match is_right {
            true => Ok(()),
            false => Err((key, found.to_string(), expected)),
        };
        // They are taken from the heap, whose chunks have these sizes.
        let sizes = [2048, 4096, 16_384, 65_536];
        let size = self.buffer_size;
        check(sizes.contains(&size), "buffer-size", size.into(), "2048, 4096, 16384 or 65536")?;
        check(self.port > 0, "port", 0, "a number from 1")?;
        check(self.credits > 0, "credits", 0, "a number from 1 to 65535")?;
        let window = self.window;
        check(window >= self.credits, "window", window.into(), "at least as many as rdma.credits")?;
        let depth = self.send_depth;
        check((4..=16_384).contains(&depth), "send-depth", depth.into(), "a number from 4 to 16384")?;
        let least = u32::from(self.credits) + 2;
        let buffers = self.buffers;
        check(
            buffers >= least && buffers <= 1 << 20,
            "buffers",
            buffers.into(),
            "at least rdma.credits and 2 more, for each connection, and 1048576 at most",
        )?;
        for (key, value) in [
            ("connections", self.connections),
            ("half-open", self.half_open),
            ("connection-rate", self.connection_rate),
            ("set-up-timeout", self.set_up_timeout),
        ] {
            check(value > 0, key, 0, "a number from 1")?;
        }
        Ok(())
    }

    /// The same for the protocol; the device copies up to `inline` bytes.
    pub(super) fn link(&self, inline: u32, pieces: u16) -> LinkConfig {
        debug_assert!(self.buffer_size as usize > HEADER);
        LinkConfig {
            buffers: self.buffers,
            buffer_size: self.buffer_size,
            floor: self.credits,
            window: self.window,
            send_depth: self.send_depth,
            pieces,
            small: SMALL as u32,
            inline,
            connections: self.connections,
            half_open: self.half_open,
            rate: self.connection_rate,
            set_up: Duration::from_millis(self.set_up_timeout.into()),
            ..LinkConfig::default()
        }
    }
}

impl FromStr for RdmaConfig {
    type Err = ConfigError;

    /// What a file with this text would say.
    fn from_str(text: &str) -> Result<RdmaConfig, ConfigError> {
        parse(text, None)
    }
}

fn parse(text: &str, path: Option<&Path>) -> Result<RdmaConfig, ConfigError> {
    let place = |at: usize| {
        let line = 1 + text.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count();
        match path {
            Some(path) => format!("{}:{line}", path.display()),
            None => format!("line {line}"),
        }
    };
    let file: File = toml::from_str(text).map_err(|error| ConfigError::Text {
        place: place(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    file.rdma.validate().map_err(|(key, found, expected)| {
        let at = text.lines().scan(0, |at, line| {
            let start = *at;
            *at += line.len() + 1;
            Some((start, line))
        });
        let is_key = |line: &str| {
            line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        let at = at.filter(|(_, line)| is_key(line)).map(|(start, _)| start).last().unwrap_or(0);
        ConfigError::Value { place: place(at), key, found, expected }
    })?;
    Ok(file.rdma)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<RdmaConfig>().unwrap_err().to_string()
    }

    #[test]
    fn other_sections_are_left_to_others() {
        let config: RdmaConfig =
            "[network]\nmtu = 9000\n[rdma]\ndevice = \"rxe0\"\nwindow = 128".parse().unwrap();
        assert_eq!(config, RdmaConfig { device: Some("rxe0".into()), window: 128, ..RdmaConfig::default() });
        assert_eq!("".parse::<RdmaConfig>().unwrap(), RdmaConfig::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let unknown = refusal("[rdma]\n\nbuffer = 7");
        assert!(unknown.starts_with("line 3: unknown field `buffer`, expected one of `device`"), "{unknown}");
        assert!(refusal("[rdma]\nport = 300").starts_with("line 2: "));
        assert_eq!(refusal("[rdma]\nport = 0"), "line 2: rdma.port: found 0, expected a number from 1");
        assert_eq!(
            refusal("[rdma]\ncredits = 8\nwindow = 7"),
            "line 3: rdma.window: found 7, expected at least as many as rdma.credits"
        );
        assert!(
            refusal("[rdma]\nbuffers = 3").starts_with("line 2: rdma.buffers: found 3, expected at least")
        );
        let missing = RdmaConfig::from_file("/nonexistent/demikernel.toml").unwrap_err().to_string();
        assert!(missing.starts_with("cannot read /nonexistent/demikernel.toml: "), "{missing}");
    }
}
