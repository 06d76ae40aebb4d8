//! Network cards of the guest, at one switch.
//!
//! The switch is a bridge of this machine's kernel, in a network namespace that lives as long as QEMU. It carries large
//! segments and unfinished checksums from card to card, as cards that leave them to each other do; between QEMU's own
//! ports there would be none. The first card is for the guest's kernel and leaves nothing to others: so that kernel cuts
//! nothing, and verifies every checksum.
//!
//! Of QEMU's monitor, `set_link nic1 off` pulls a cable.

use std::process::Command;

/// The cards: QEMU's model with its options, and the PCI address, of bus 0.
const CARDS: [(&str, &str); 3] = [
    (
        "virtio-net-pci,iommu_platform=on,disable-legacy=on,guest_csum=off,guest_tso4=off,guest_tso6=off,\
         guest_ecn=off,guest_ufo=off",
        "10.0",
    ),
    ("virtio-net-pci,iommu_platform=on,disable-legacy=on", "11.0"),
    ("e1000e", "12.0"),
];

/// Runs what its arguments say in a network namespace with the switch.
const SWITCH: &str = "set -e
ip link add switch type bridge mcast_snooping 0
ip link set switch up
for card in $CARDS; do
    ip tuntap add $card mode tap vnet_hdr
    ip link set $card master switch
    ip link set $card up
done
exec \"$@\"";

/// A command, before whose arguments those of another come, that has the switch.
pub(super) fn with_switch() -> Command {
    let mut command = Command::new("unshare");
    let names: Vec<_> = (0..CARDS.len()).map(|number| format!("card{number}")).collect();
    command.env("CARDS", names.join(" ")).args(["--net", "sh", "-c", SWITCH, "switch"]);
    command
}

/// Whether a network namespace can be made.
pub(super) fn are_possible() -> bool {
    let status =
        Command::new("unshare").args(["--net", "ip", "tuntap", "add", "card", "mode", "tap"]).output();
    status.is_ok_and(|output| output.status.success())
}

/// QEMU's arguments.
pub(super) fn describe(qemu: &mut Command) {
    for (number, (model, address)) in CARDS.iter().enumerate() {
        let name = format!("card{number}");
        qemu.arg("-netdev").arg(format!("tap,id={name},ifname={name},script=no,downscript=no,vnet_hdr=on"));
        let device =
            format!("{model},id=nic{number},netdev={name},mac=52:54:00:00:00:0{number},addr={address}");
        qemu.arg("-device").arg(device);
    }
}
