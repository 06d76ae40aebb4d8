//! The configuration: what is taken can be, and an error says where it is.

use demikernel_net::config::{ConfigError, NetConfig, Sections};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<NetConfig>() {
        Ok(config) => config.validate().expect("what is taken is valid"),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let place = match error {
                ConfigError::Syntax { place, .. } | ConfigError::Invalid { place, .. } => place,
                error => panic!("no file was read: {error}"),
            };
            let lines = text.split('\n').count();
            assert!((1..=lines).contains(&place.line), "line {} of {lines}", place.line);
        }
    }
}
