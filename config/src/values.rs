//! Values as they are written in the file, for `deserialize_with`.

use serde::Deserializer;
use serde::de::{self, SeqAccess, Unexpected, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::time::Duration;

/// What is written as a string.
///
/// ```
/// use demikernel_config::values::Text;
/// use std::time::Duration;
///
/// assert_eq!(Duration::parse("50us"), Some(Duration::from_micros(50)));
/// assert_eq!(Duration::parse("50"), None, "a time has a unit");
/// assert!(Duration::EXPECTED.starts_with("a time with a unit"));
/// ```
pub trait Text: Sized {
    /// What such a string is.
    const EXPECTED: &'static str;

    /// What it says, or `None` if it is no such string.
    fn parse(text: &str) -> Option<Self>;
}

/// A string.
///
/// ```
/// use demikernel_config::values;
/// use serde::Deserialize;
/// use std::time::Duration;
///
/// #[derive(Deserialize)]
/// struct Section {
///     #[serde(deserialize_with = "values::text")]
///     idle: Duration,
/// }
///
/// let section: Section = toml::from_str("idle = \"2h\"").unwrap();
/// assert_eq!(section.idle, Duration::from_secs(7200));
/// assert!(toml::from_str::<Section>("idle = 7200").is_err());
/// ```
///
/// # Errors
/// What else there is.
pub fn text<'de, D: Deserializer<'de>, T: Text>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_str(TextVisitor(PhantomData))
}

/// The same of a key that can be absent.
///
/// # Errors
/// What else there is.
pub fn optional_text<'de, D: Deserializer<'de>, T: Text>(deserializer: D) -> Result<Option<T>, D::Error> {
    text(deserializer).map(Some)
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: Text> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// A list of strings. One alone may be written without brackets.
///
/// ```
/// use demikernel_config::values;
/// use serde::Deserialize;
/// use std::net::IpAddr;
///
/// #[derive(Deserialize)]
/// struct Section {
///     #[serde(deserialize_with = "values::texts")]
///     gateways: Vec<IpAddr>,
/// }
///
/// let section: Section = toml::from_str("gateways = [\"10.0.0.1\", \"fe80::1\"]").unwrap();
/// assert_eq!(section.gateways.len(), 2);
/// let section: Section = toml::from_str("gateways = \"10.0.0.1\"").unwrap();
/// assert_eq!(section.gateways.len(), 1);
/// ```
///
/// # Errors
/// What else there is.
pub fn texts<'de, D: Deserializer<'de>, T: Text>(deserializer: D) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_any(TextsVisitor(PhantomData))
}

struct TextsVisitor<T>(PhantomData<T>);

impl<'de, T: Text> Visitor<'de> for TextsVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list, of each {}", T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        Ok(vec![TextVisitor(PhantomData).visit_str(text)?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(Element(value)) = sequence.next_element()? {
            values.push(value);
        }
        Ok(values)
    }
}

struct Element<T>(T);

impl<'de, T: Text> de::Deserialize<'de> for Element<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Element<T>, D::Error> {
        text(deserializer).map(Element)
    }
}

/// An amount of memory: bytes, or a string with a unit.
///
/// ```
/// use demikernel_config::values;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Section {
///     #[serde(deserialize_with = "values::size")]
///     memory: u32,
/// }
///
/// let section: Section = toml::from_str("memory = \"64KiB\"").unwrap();
/// assert_eq!(section.memory, 65536);
/// let section: Section = toml::from_str("memory = 65536").unwrap();
/// assert_eq!(section.memory, 65536);
/// ```
///
/// # Errors
/// What else there is.
pub fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    deserializer.deserialize_any(SizeVisitor(PhantomData))
}

/// The same of a key that can be absent.
///
/// # Errors
/// What else there is.
pub fn optional_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    size(deserializer).map(Some)
}

/// The size of a disk.
///
/// # Errors
/// What else there is.
pub fn large_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(SizeVisitor(PhantomData))
}

/// An amount as it is written in a string: `65536` or `64KiB`.
///
/// ```
/// use demikernel_config::values::bytes;
///
/// assert_eq!((bytes("65536"), bytes("64KiB"), bytes("1 TiB")), (Some(65536), Some(65536), Some(1 << 40)));
/// assert_eq!((bytes("64K"), bytes("-1")), (None, None));
/// ```
pub fn bytes(text: &str) -> Option<u64> {
    with_unit(
        text,
        &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("", 1)],
    )
}

struct SizeVisitor<T>(PhantomData<T>);

/// A type of sizes.
trait Bytes: TryFrom<i64> + TryFrom<u64> {
    const EXPECTED: &'static str;
}

impl Bytes for u32 {
    const EXPECTED: &'static str = "bytes, less than 4 GiB, such as 65536 or \"64KiB\"";
}

impl Bytes for u64 {
    const EXPECTED: &'static str = "bytes, such as 1073741824 or \"1GiB\"";
}

impl<T: Bytes> Visitor<'_> for SizeVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<T, E> {
        T::try_from(bytes).map_err(|_| E::invalid_value(Unexpected::Signed(bytes), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        // A number alone is written without quotes.
        let size = bytes(text).filter(|_| text.ends_with('B')).and_then(|bytes| T::try_from(bytes).ok());
        size.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// A whole number times the first unit that the text ends with.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let with = |(name, factor): &(&str, u64)| text.strip_suffix(name).map(|number| (number, *factor));
    let (number, factor) = units.iter().find_map(with)?;
    let number = number.trim_end();
    // `parse` would take a plus.
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| digits)?.checked_mul(factor)
}

impl Text for Duration {
    const EXPECTED: &'static str = "a time with a unit, such as \"200ms\", \"75s\" or \"2h\"";

    fn parse(text: &str) -> Option<Duration> {
        const UNITS: [(&str, u64); 7] = [
            ("ns", 1),
            ("us", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("min", 60_000_000_000),
            ("h", 3_600_000_000_000),
            ("d", 86_400_000_000_000),
        ];
        with_unit(text, &UNITS).map(Duration::from_nanos)
    }
}

impl Text for IpAddr {
    const EXPECTED: &'static str = "an IP address, such as \"10.0.0.1\" or \"fe80::1\"";

    fn parse(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }
}

/// An enumeration whose values have names: gives it [`Text`], [`Display`](fmt::Display) and `name`.
#[macro_export]
macro_rules! named {
    ($type:ident, $expected:literal, { $($variant:ident => $name:literal,)* }) => {
        impl $type {
            /// The name in the file.
            pub const fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)*
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl $crate::values::Text for $type {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Option<$type> {
                match text {
                    $($name => Some($type::$variant),)*
                    _ => None,
                }
            }
        }
    };
}
