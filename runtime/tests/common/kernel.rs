//! The transports of kernel sockets, and tests for each of them.

use demikernel_runtime::transport::Transport;
use std::io;

pub(crate) fn epoll() -> io::Result<Transport> {
    demikernel_runtime::transport::epoll::Epoll::transport()
}

#[cfg(feature = "io-uring")]
pub(crate) fn uring() -> io::Result<Transport> {
    use demikernel_runtime::transport::uring::{Config, Uring};
    Uring::new(Config::default()).map(Transport::both)
}

/// Makes a test of every function named, for every transport, run by the function `check`.
macro_rules! on_kernel_sockets {
    ($check:path; $($module:ident: $($test:ident),+;)+) => {
        mod on_epoll {
            $($(
                #[test]
                fn $test() {
                    $check(crate::kernel::epoll, crate::$module::$test);
                }
            )+)+
        }
        #[cfg(feature = "io-uring")]
        mod on_io_uring {
            $($(
                #[test]
                fn $test() {
                    $check(crate::kernel::uring, crate::$module::$test);
                }
            )+)+
        }
    };
}
