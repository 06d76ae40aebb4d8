//! An NVMe drive of a guest for our own driver.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What README.md calls the drive.
const DRIVE_IN_README: &str = "0000:5e:00.0";

/// What it has root do to a drive before a program can have it; nothing if that has been done.
pub(crate) fn bind(drive: &str) {
    let driver = || fs::read_link(format!("/sys/bus/pci/devices/{drive}/driver"));
    if driver().is_ok_and(|driver| driver.ends_with("vfio-pci")) {
        return;
    }
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, section) =
        text.split_once("### An NVMe drive without the kernel").expect("README.md has the section");
    let (_, after) = section.split_once("```console\n").expect("the section has commands");
    let (commands, _) = after.split_once("```").expect("they end");
    assert!(commands.contains(DRIVE_IN_README));
    for command in commands.replace(DRIVE_IN_README, drive).lines() {
        let command = command.strip_prefix("# ").expect("root gives all of them");
        let status = Command::new("sh").args(["-c", command]).status().unwrap();
        assert!(status.success(), "{command}: {status}");
    }
    assert!(driver().unwrap().ends_with("vfio-pci"));
}
