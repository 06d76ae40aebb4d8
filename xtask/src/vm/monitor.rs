//! QEMU's monitor, which a guest reaches as a character device of the name `monitor`.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// QEMU's arguments. The monitor's socket is in a directory of the boot's own.
pub(super) fn describe(qemu: &mut Command, directory: &Path) {
    let socket = |name: &str, more: &str| -> OsString {
        super::guest::option(&format!("socket,id={name},path="), &directory.join("monitor"), more)
    };
    // QEMU speaks with itself: a port of the guest and the monitor are both at the far end of something.
    qemu.arg("-chardev").arg(socket("monitor", ",server=on,wait=off")).args(["-mon", "chardev=monitor"]);
    qemu.arg("-chardev").arg(socket("operator", ""));
    qemu.args(["-device", "virtserialport,chardev=operator,name=monitor"]);
}
