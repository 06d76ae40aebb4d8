//! The section `[inspect]` of the configuration.

use demikernel_config::{ConfigError, Invalid, Sections};
use serde::Deserialize;
use std::path::PathBuf;
use std::str::FromStr;

/// What a user can say about looking inside: the section `[inspect]` of `demikernel.toml`.
///
/// ```
/// use demikernel_inspect::InspectConfig;
///
/// let config: InspectConfig = "[inspect]\nsocket = \"/run/server.sock\"".parse().unwrap();
/// assert_eq!(config.path().unwrap().to_str(), Some("/run/server.sock"));
/// assert_eq!("".parse::<InspectConfig>().unwrap().path(), None);
/// let error = "[inspect]\nsocket = \"\"".parse::<InspectConfig>().unwrap_err().to_string();
/// assert_eq!(error, "line 2: inspect.socket: found \"\", expected the path of a Unix socket");
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct InspectConfig {
    /// Where the control socket is; there is none unless this is set. `{pid}` stands for the number of the process.
    pub socket: Option<PathBuf>,
}

/// The sections of this crate.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    inspect: InspectConfig,
}

impl Sections for File {
    const NAMES: &'static [&'static str] = &["inspect"];

    fn validate(&self) -> Result<(), Invalid> {
        match &self.inspect.socket {
            Some(path) if path.as_os_str().is_empty() => {
                Err(Invalid::new("inspect.socket", "\"\"", "the path of a Unix socket"))
            }
            _ => Ok(()),
        }
    }
}

impl InspectConfig {
    /// What the file says that the variable `DEMIKERNEL_CONFIG` names; the defaults without it.
    ///
    /// # Errors
    /// If it cannot be read or has a key that there is not, or a value is wrong.
    pub fn from_env() -> Result<InspectConfig, ConfigError> {
        File::from_env().map(|file| file.inspect)
    }

    /// The path of this process's socket.
    pub fn path(&self) -> Option<PathBuf> {
        let path = self.socket.as_ref()?;
        let pid = std::process::id().to_string();
        Some(path.to_str().map_or_else(|| path.clone(), |path| path.replace("{pid}", &pid).into()))
    }
}

impl FromStr for InspectConfig {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<InspectConfig, ConfigError> {
        File::from_text(text).map(|file| file.inspect)
    }
}
