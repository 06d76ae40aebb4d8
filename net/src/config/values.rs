//! Values of the stack as they are written in the file.

use crate::device::MacAddress;
use demikernel_config::values::Text;

impl Text for MacAddress {
    const EXPECTED: &'static str = "an Ethernet address, such as \"02:00:00:00:00:01\"";

    fn parse(text: &str) -> Option<MacAddress> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && !part.starts_with('+'))?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(MacAddress(bytes))
    }
}
