//! NVMe controllers of the guest.
//!
//! | address                 | what is there                                                                     |
//! |-------------------------|-----------------------------------------------------------------------------------|
//! | `00:13.0`               | two namespaces: blocks of 512 bytes, and of 4,096                                 |
//! | `00:14.0`               | a port with a drive that can be unplugged: `device_del removable` in the monitor  |
//! | `00:15.0`               | a drive whose sector 64 cannot be read, nor 128 be written                        |
//! | `00:16.0`               | a drive that does four operations a second                                        |

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::guest::option;

/// What drives are made of: files of these lengths.
const FILES: [(&str, u64); 4] =
    [("small", 64 << 20), ("large", 64 << 20), ("removable", 16 << 20), ("slow", 16 << 20)];

/// Everything reads as zeros there but what cannot be read.
const FAULTY: &str = "if=none,id=faulty,driver=blkdebug,image.driver=null-co,image.size=16M,image.read-zeroes=on,\
                      inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.sector=64,\
                      inject-error.1.event=none,inject-error.1.iotype=write,inject-error.1.sector=128";

const DEVICES: [&str; 7] = [
    "nvme,id=double,serial=double,addr=13.0,mdts=7",
    "nvme-ns,bus=double,drive=small,nsid=1,logical_block_size=512,physical_block_size=512",
    "nvme-ns,bus=double,drive=large,nsid=2,logical_block_size=4096,physical_block_size=4096",
    "pcie-root-port,id=socket,chassis=1,slot=1,addr=14.0",
    "nvme,id=removable,bus=socket,serial=removable,drive=removable",
    "nvme,id=faulty,serial=faulty,addr=15.0,drive=faulty",
    "nvme,id=slow,serial=slow,addr=16.0,drive=slow",
];

/// QEMU's arguments. Files are in a directory, where they may have been before.
pub(super) fn describe(qemu: &mut Command, directory: &Path) -> Result<()> {
    for (name, length) in FILES {
        let path = directory.join(name);
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let file = file.and_then(|file| file.set_len(length));
        file.with_context(|| format!("cannot create {}", path.display()))?;
        let limit = if name == "slow" { ",throttling.iops-total=4" } else { "" };
        let more = format!(",format=raw,cache=unsafe,discard=unmap{limit}");
        qemu.arg("-drive").arg(option(&format!("if=none,id={name},file="), &path, &more));
    }
    qemu.args(["-drive", FAULTY]);
    DEVICES.iter().for_each(|device| {
        qemu.args(["-device", device]);
    });
    Ok(())
}
