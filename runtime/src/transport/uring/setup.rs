//! Making a ring with the best that the kernel has.

use super::config::Config;
use io_uring::{Builder, IoUring, Probe, opcode};
use std::io;

/// What the kernel has of what is used here. Features that cannot be asked for are told by an operation
/// that came with the same release.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Features {
    /// Completions wait until the ring is entered (6.1).
    pub(super) deferred: bool,
    /// Rings of buffers, multishot accept, and receives that wait for data first (5.19).
    pub(super) release_5_19: bool,
    /// Multishot receive (6.0).
    pub(super) multishot_receive: bool,
    /// Sends from the caller's memory (6.0, with several pieces 6.1).
    pub(super) zero_copy_send: bool,
    /// Sends go on until everything is sent, and say how far they came when cancelled.
    pub(super) whole_send: bool,
    /// Truncation of files (6.9).
    pub(super) truncate: bool,
    /// A thread of the kernel takes submissions.
    pub(super) sqpoll: bool,
}

/// A ring, and what the kernel has.
///
/// # Errors
/// Why there is no io_uring for this process, and what would help.
pub(super) fn make(config: &Config) -> io::Result<(IoUring, Features)> {
    let (ring, mut features) = open(config)?;
    let parameters = ring.params();
    let needed = [
        (parameters.is_feature_nodrop(), "NODROP"),
        (parameters.is_feature_fast_poll(), "FAST_POLL"),
        (parameters.is_feature_ext_arg(), "EXT_ARG"),
    ];
    if let Some((_, name)) = needed.iter().find(|(has, _)| !has) {
        let message =
            format!("this kernel's io_uring is too old (it lacks {name}): Linux 5.15 or later is needed");
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| refused(&error))?;
    features.release_5_19 = probe.is_supported(opcode::Socket::CODE);
    features.multishot_receive = probe.is_supported(opcode::SendZc::CODE);
    features.zero_copy_send = probe.is_supported(opcode::SendZc::CODE);
    features.whole_send = probe.is_supported(opcode::SendMsgZc::CODE);
    features.truncate = probe.is_supported(opcode::Ftruncate::CODE);
    Ok((ring, features))
}

/// Sets of flags, from the newest kernel to the oldest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Flags {
    /// Any kernel.
    Plain,
    /// 5.18: a submission that fails does not hold up those behind it.
    SubmitAll,
    /// 6.0: only one thread submits, which spares locks.
    SingleIssuer,
    /// 5.19: the kernel does its part when the ring is entered, or another call is made; and it says when
    /// there is something to do.
    Cooperative,
    /// 6.1: only when the ring is entered.
    Deferred,
    /// 6.6: submissions have no array of indices.
    NoArray,
}

impl Flags {
    fn apply(self, builder: &mut Builder) {
        if self >= Flags::SubmitAll {
            builder.setup_submit_all();
        }
        if matches!(self, Flags::SingleIssuer | Flags::Deferred | Flags::NoArray) {
            builder.setup_single_issuer();
        }
        if self >= Flags::Cooperative {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        }
        if self >= Flags::Deferred {
            builder.setup_defer_taskrun();
        }
        if self >= Flags::NoArray {
            builder.setup_no_sqarray();
        }
    }
}

/// Tries one set of flags after the other.
fn open(config: &Config) -> io::Result<(IoUring, Features)> {
    let entries = config.entries.clamp(8, 32_768);
    let deferring = config.deferred_work && config.sqpoll.is_none();
    let attempts: &[Flags] = match deferring {
        true => &[Flags::NoArray, Flags::Deferred, Flags::Cooperative, Flags::SubmitAll, Flags::Plain],
        false => &[Flags::SingleIssuer, Flags::SubmitAll, Flags::Plain],
    };
    for &flags in attempts {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_clamp().setup_cqsize(entries.saturating_mul(4));
        if let Some(idle) = config.sqpoll {
            builder.setup_sqpoll(idle.as_millis().clamp(1, u128::from(u32::MAX)) as u32);
        }
        flags.apply(&mut builder);
        match builder.build(entries) {
            Ok(ring) => {
                tracing::debug!(?flags, "io_uring set up");
                let features = Features {
                    deferred: flags >= Flags::Deferred,
                    sqpoll: config.sqpoll.is_some(),
                    ..Features::default()
                };
                return Ok((ring, features));
            }
            // A flag that this kernel does not know.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(refused(&error)),
        }
    }
    Err(refused(&io::Error::from_raw_os_error(libc::EINVAL)))
}

/// Why a ring cannot be had, and what would help.
fn refused(error: &io::Error) -> io::Error {
    let why = match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            "this kernel has none, or a sandbox hides it (container runtimes do by default)"
        }
        Some(libc::EPERM | libc::EACCES) => {
            "it is forbidden: see the sysctl kernel.io_uring_disabled and the container's seccomp profile"
        }
        Some(libc::ENOMEM) => "there is too little memory, or too little may be locked (raise `ulimit -l`)",
        Some(libc::EMFILE | libc::ENFILE) => "too many files are open (raise `ulimit -n`)",
        Some(libc::EINVAL) => "the kernel knows none of the ways to set it up that are known here",
        _ => "unexpected",
    };
    io::Error::new(
        error.kind(),
        format!("io_uring cannot be used: {error}: {why}; the epoll transport needs no io_uring"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_keep_the_kind_and_say_what_helps() {
        let error = refused(&io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("kernel.io_uring_disabled"), "{error}");
        let error = refused(&io::Error::from_raw_os_error(libc::ENOSYS));
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("epoll"), "{error}");
    }
}
