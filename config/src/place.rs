//! Which key stands where in a text: what the parser says of places becomes keys, and keys become places.

use crate::error::{ConfigError, Invalid, Place};
use crate::{SECTIONS, Sections};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

/// What a text says in the sections of one crate.
pub(super) fn read<T: Sections>(text: &str, file: Option<&Path>) -> Result<T, ConfigError> {
    let (keys, mut table) = Keys::read(text, file)?;
    keys.check_sections(table.get_ref())?;
    for others in SECTIONS.iter().filter(|name| !T::NAMES.contains(name)) {
        table.get_mut().remove(*others);
    }
    let config = T::deserialize(Deserializer::from(table)).map_err(|error| keys.explain(&error))?;
    config.validate().map_err(|invalid| keys.locate(invalid))?;
    Ok(config)
}

/// The keys of a file, with sections and indices, and the bytes that they and their values take.
struct Keys<'a> {
    text: &'a str,
    file: Option<&'a Path>,
    keys: Vec<Key>,
}

struct Key {
    path: String,
    name: Range<usize>,
    value: Range<usize>,
}

impl<'a> Keys<'a> {
    /// Fails if the text is not TOML.
    fn read(text: &'a str, file: Option<&'a Path>) -> Result<(Keys<'a>, Spanned<DeTable<'a>>), ConfigError> {
        let mut keys = Keys { text, file, keys: Vec::new() };
        match DeTable::parse(text) {
            Ok(table) => {
                keys.add_table("", table.get_ref());
                Ok((keys, table))
            }
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                Err(ConfigError::Syntax { place: keys.place(at), message: error.message().to_owned() })
            }
        }
    }

    /// Fails for a section that belongs to nobody.
    fn check_sections(&self, table: &DeTable<'_>) -> Result<(), ConfigError> {
        let unknown = table.keys().find(|name| !SECTIONS.contains(&name.get_ref().as_ref()));
        unknown.map_or(Ok(()), |name| {
            let names: Vec<_> = SECTIONS.iter().map(|name| format!("`{name}`")).collect();
            let expected = format!("one of {}", names.join(", "));
            let invalid = Invalid::new(name.get_ref().as_ref(), "a key that there is not", expected);
            Err(ConfigError::Invalid { place: self.place(name.span().start), invalid })
        })
    }

    fn add_table(&mut self, above: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let separator = if above.is_empty() { "" } else { "." };
            let path = format!("{above}{separator}{}", key.get_ref());
            self.add(path, key.span(), value);
        }
    }

    fn add(&mut self, path: String, name: Range<usize>, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.add_table(&path, table),
            DeValue::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    self.add(format!("{path}[{index}]"), element.span(), element);
                }
            }
            _ => {}
        }
        // Behind what is inside of it: the first of the keys that cover a place is the innermost.
        self.keys.push(Key { path, name, value: value.span() });
    }

    /// What serde has found wrong, as the key, what was found, and what was expected.
    fn explain(&self, error: &toml::de::Error) -> ConfigError {
        let at = error.span().map_or(0, |span| span.start);
        let covers = |key: &&Key| key.name.contains(&at) || key.value.contains(&at);
        let key = self.keys.iter().find(covers).map_or_else(String::new, |key| key.path.clone());
        let (problem, expected) = error.message().rsplit_once(", expected ").unwrap_or((error.message(), ""));
        let invalid = if let Some(field) = quoted(problem, "missing field ") {
            Invalid::new(format!("{key}.{field}"), "nothing", "a value")
        } else if let Some(field) = quoted(problem, "unknown field ") {
            // The place can be that of the table.
            let known = key == field || key.ends_with(&format!(".{field}"));
            let key = if known { key } else { format!("{key}.{field}") };
            Invalid::new(key, "a key that there is not", expected)
        } else {
            let kinds = ["invalid type: ", "invalid value: ", "invalid "];
            let found = kinds.iter().find_map(|kind| problem.strip_prefix(kind)).unwrap_or(problem);
            Invalid::new(key, found, plain(expected))
        };
        ConfigError::Invalid { place: self.place(at), invalid }
    }

    /// The place of a key, or of the section in which it would be.
    fn locate(&self, invalid: Invalid) -> ConfigError {
        let mut path = invalid.key.as_str();
        let at = loop {
            if let Some(key) = self.keys.iter().find(|key| key.path == path) {
                break key.name.start;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => break 0,
            }
        };
        ConfigError::Invalid { place: self.place(at), invalid }
    }

    fn place(&self, at: usize) -> Place {
        let before = self.text.as_bytes().iter().take(at);
        let line = 1 + before.filter(|&&byte| byte == b'\n').count();
        Place { file: self.file.map(PathBuf::from), line }
    }
}

fn quoted<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message.strip_prefix(prefix)?.strip_prefix('`')?.strip_suffix('`')
}

/// What serde expects, in the words of who writes the file.
fn plain(expected: &str) -> String {
    let number = |most: u64| format!("a whole number from 0 to {most}");
    match expected {
        "u8" => number(u8::MAX.into()),
        "u16" => number(u16::MAX.into()),
        "u32" => number(u32::MAX.into()),
        "a tuple of size 2" => "a list of two".to_owned(),
        "a boolean" => "true or false".to_owned(),
        _ if expected.starts_with("struct ") => "a table".to_owned(),
        _ => expected.to_owned(),
    }
}
