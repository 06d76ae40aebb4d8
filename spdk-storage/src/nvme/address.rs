//! Where a namespace is: the address of a PCI function, and a number.

use std::fmt;
use std::io;
use std::str::FromStr;

/// A namespace of an NVMe controller: `0000:00:13.0/2`, or `0000:00:13.0` for the only one that it has.
///
/// ```
/// use demikernel_spdk_storage::nvme::Address;
///
/// let address: Address = "0000:5e:00.0/2".parse()?;
/// assert_eq!((address.function().to_string(), address.namespace()), ("0000:5e:00.0".to_owned(), Some(2)));
/// let error = "/dev/nvme0n1".parse::<Address>().unwrap_err();
/// assert!(error.to_string().contains("as 0000:5e:00.0"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    function: Function,
    namespace: Option<u32>,
}

/// The address of a PCI function, as `lspci -D` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Function {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl Address {
    /// The controller.
    pub fn function(&self) -> Function {
        self.function
    }

    /// The number of the namespace, from 1, if it was said.
    pub fn namespace(&self) -> Option<u32> {
        self.namespace
    }
}

impl FromStr for Address {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Address> {
        let wrong = || {
            let text = format!(
                "{text:?} is not the address of an NVMe controller as 0000:5e:00.0, or of a namespace of it as \
                 0000:5e:00.0/1"
            );
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        let (function, namespace) = match text.split_once('/') {
            None => (text, None),
            Some((function, number)) => {
                let number: u32 = number.parse().map_err(|_| wrong())?;
                // What is for all namespaces is not one of them.
                if number == 0 || number == u32::MAX {
                    return Err(wrong());
                }
                (function, Some(number))
            }
        };
        Ok(Address { function: Function::parse(function).ok_or_else(wrong)?, namespace })
    }
}

impl Function {
    /// With or without the domain, which is 0 nearly always.
    fn parse(text: &str) -> Option<Function> {
        let hexadecimal = |digits: &str, most: usize| {
            let is_number = !digits.is_empty()
                && digits.len() <= most
                && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            is_number.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
        };
        let (rest, function) = text.rsplit_once('.')?;
        let (rest, device) = rest.rsplit_once(':')?;
        let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
        let device = hexadecimal(device, 2).filter(|device| *device < 32)?;
        let function = hexadecimal(function, 1).filter(|function| *function < 8)?;
        Some(Function {
            domain: hexadecimal(domain, 8)?,
            bus: hexadecimal(bus, 2)? as u8,
            device: device as u8,
            function: function as u8,
        })
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.domain, self.bus, self.device, self.function)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}", self.function),
            None => self.function.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["0000:00:13.0", "0000:ff:1f.7/1", "10000:01:00.0/4294967294"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("5e:00.0/2".parse::<Address>().unwrap().to_string(), "0000:5e:00.0/2");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let wrong = [
            "",
            "/",
            "/1",
            "00:13",
            "00:13.8",
            "00:20.0",
            "100:13.0",
            "00:13.0/",
            "00:13.0/0",
            "00:13.0/-1",
            "00:13.0/4294967295",
            "00:13.0/1/2",
            "+0:13.0",
            "0:0000:00:13.0",
            "0000:00:13.00",
            "é:13.0",
        ];
        for text in wrong {
            let error = text.parse::<Address>().expect_err(text);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
