//! Names to addresses.

use crate::executor::default_network;
use std::future::Future;
use std::io;
use std::net::ToSocketAddrs as StdToSocketAddrs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// What can be turned into addresses of sockets.
///
/// Addresses are used as they are. Names (`"localhost:80"`, `("localhost", 80)`) are resolved by the
/// system's resolver on a thread of its own, so that the runtime goes on meanwhile; text that is an address
/// (`"127.0.0.1:80"`) needs no thread. A network that knows names itself, such as a simulated one, is asked instead.
///
/// The trait is implemented for what the standard library's of the same name is, and cannot be
/// implemented by others.
pub trait ToSocketAddrs: sealed::Target {}

pub(super) mod sealed {
    use std::io;
    use std::net::SocketAddr;

    /// What is to be looked up, if anything.
    #[derive(Debug)]
    pub enum Lookup {
        /// Nothing: this is the one.
        One(SocketAddr),
        /// Nothing: these are they.
        Many(Vec<SocketAddr>),
        /// A host's name, and a port.
        Host(String, u16),
        /// Both in one, as `host:port`.
        Text(String),
    }

    pub trait Target {
        fn lookup(&self) -> io::Result<Lookup>;
    }
}

use sealed::{Lookup, Target};

/// Resolves a host's name (or whatever else [`ToSocketAddrs`] is implemented for) on a thread.
///
/// Cancel safe: nothing is lost when the future is dropped; the resolver's thread runs to its end.
///
/// # Errors
/// Those of the system's resolver, and `InvalidInput` for text without a port.
///
/// ```
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.block_on(async {
/// let addresses = demikernel_runtime::net::lookup_host("localhost:7").await?;
/// assert!(addresses.clone().count() > 0);
/// assert!(addresses.into_iter().all(|address| address.ip().is_loopback()));
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
pub async fn lookup_host<A: ToSocketAddrs>(host: A) -> io::Result<impl Iterator<Item = SocketAddr> + Clone> {
    Ok(resolve(host.lookup()?).await?.into_iter())
}

async fn resolve(lookup: Lookup) -> io::Result<Vec<SocketAddr>> {
    match lookup {
        Lookup::One(address) => Ok(vec![address]),
        Lookup::Many(addresses) => Ok(addresses),
        Lookup::Host(host, port) => {
            if let Some(found) = known_to_network(&host) {
                return Ok(found?.into_iter().map(|address| SocketAddr::new(address, port)).collect());
            }
            crate::blocking::unblock_and_wait(move || Ok((host.as_str(), port).to_socket_addrs()?.collect()))
                .await
        }
        Lookup::Text(text) => {
            if let Some((host, port)) = text.rsplit_once(':')
                && let Ok(port) = port.parse()
                && let Some(found) = known_to_network(host)
            {
                return Ok(found?.into_iter().map(|address| SocketAddr::new(address, port)).collect());
            }
            crate::blocking::unblock_and_wait(move || Ok(text.to_socket_addrs()?.collect())).await
        }
    }
}

/// What the runtime's network itself knows of a name.
fn known_to_network(host: &str) -> Option<io::Result<Vec<IpAddr>>> {
    default_network().ok()?.lookup(host)
}

/// Tries each address in its order, and gives the first success or else the last error.
pub(super) async fn try_each<T, Fut: Future<Output = io::Result<T>>>(
    addresses: impl ToSocketAddrs,
    mut attempt: impl FnMut(SocketAddr) -> Fut,
) -> io::Result<T> {
    let addresses = match addresses.lookup()? {
        // The common case makes no list.
        Lookup::One(address) => return attempt(address).await,
        lookup => resolve(lookup).await?,
    };
    let mut last = None;
    for address in addresses {
        match attempt(address).await {
            Ok(value) => return Ok(value),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the name or the list has no address")
    }))
}

macro_rules! one_address {
    ($($type:ty),+) => {
        $(
            impl Target for $type {
                fn lookup(&self) -> io::Result<Lookup> {
                    Ok(Lookup::One(SocketAddr::from(*self)))
                }
            }

            impl ToSocketAddrs for $type {}
        )+
    };
}

one_address!(SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

impl Target for str {
    fn lookup(&self) -> io::Result<Lookup> {
        Ok(match self.parse() {
            Ok(address) => Lookup::One(address),
            Err(_) => Lookup::Text(self.to_owned()),
        })
    }
}

impl ToSocketAddrs for str {}

impl Target for String {
    fn lookup(&self) -> io::Result<Lookup> {
        self.as_str().lookup()
    }
}

impl ToSocketAddrs for String {}

impl Target for (&str, u16) {
    fn lookup(&self) -> io::Result<Lookup> {
        let (host, port) = *self;
        Ok(match host.parse::<IpAddr>() {
            Ok(address) => Lookup::One(SocketAddr::new(address, port)),
            Err(_) => Lookup::Host(host.to_owned(), port),
        })
    }
}

impl ToSocketAddrs for (&str, u16) {}

impl Target for (String, u16) {
    fn lookup(&self) -> io::Result<Lookup> {
        (self.0.as_str(), self.1).lookup()
    }
}

impl ToSocketAddrs for (String, u16) {}

impl Target for [SocketAddr] {
    fn lookup(&self) -> io::Result<Lookup> {
        Ok(Lookup::Many(self.to_vec()))
    }
}

impl ToSocketAddrs for [SocketAddr] {}

impl<const N: usize> Target for [SocketAddr; N] {
    fn lookup(&self) -> io::Result<Lookup> {
        self.as_slice().lookup()
    }
}

impl<const N: usize> ToSocketAddrs for [SocketAddr; N] {}

impl Target for Vec<SocketAddr> {
    fn lookup(&self) -> io::Result<Lookup> {
        self.as_slice().lookup()
    }
}

impl ToSocketAddrs for Vec<SocketAddr> {}

impl<T: Target + ?Sized> Target for &T {
    fn lookup(&self) -> io::Result<Lookup> {
        (**self).lookup()
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_resolver() {
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        for lookup in [
            address.lookup(),
            Target::lookup(&&address),
            "127.0.0.1:80".lookup(),
            String::from("127.0.0.1:80").lookup(),
            ("127.0.0.1", 80).lookup(),
            (String::from("127.0.0.1"), 80).lookup(),
            (Ipv4Addr::LOCALHOST, 80).lookup(),
            (IpAddr::from(Ipv4Addr::LOCALHOST), 80).lookup(),
        ] {
            assert!(matches!(lookup, Ok(Lookup::One(found)) if found == address));
        }
        assert!(matches!(("::1", 80).lookup(), Ok(Lookup::One(SocketAddr::V6(_)))));
        assert!(matches!([address; 2].lookup(), Ok(Lookup::Many(list)) if list == [address; 2]));
        assert!(matches!(vec![address].lookup(), Ok(Lookup::Many(list)) if list == [address]));
    }

    #[test]
    fn names_need_one() {
        assert!(matches!("localhost:80".lookup(), Ok(Lookup::Text(text)) if text == "localhost:80"));
        assert!(matches!(("localhost", 80).lookup(), Ok(Lookup::Host(host, 80)) if host == "localhost"));
    }
}
