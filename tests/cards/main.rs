//! DPDK on network cards that are bound to vfio-pci, in a guest that `cargo xtask test --only cards` starts: what it needs
//! is not on every machine, so elsewhere nothing is done here. The guest's kernel is at the other end; it has the first
//! card of three at one switch, and verifies every checksum itself.
//!
//! - `guest`: the machine, its cards, and the commands of README.md, which are run as they stand there.
//! - `server`: an example on a card, what it says, and what it has counted.
//! - `load`: clients on the kernel's side, and frames that no kernel would send.
//! - `durable`: a server on a card whose log is on an NVMe drive.

#[path = "../programs/acknowledged.rs"]
mod acknowledged;
#[path = "../programs/drives.rs"]
mod drives;
mod durable;
mod guest;
mod load;
mod server;

use guest::{Card, Guest};
use server::Server;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A card of QEMU's, what its driver leaves to it, and what of that shows in its counters.
const VIRTIO: Card = Card {
    address: "0000:00:11.0",
    name: "nic1",
    driver: "net_virtio",
    mac: [0x52, 0x54, 0, 0, 0, 1],
    segmentation: true,
    interrupts: true,
};
const E1000E: Card = Card {
    address: "0000:00:12.0",
    name: "nic2",
    driver: "net_e1000_em",
    mac: [0x52, 0x54, 0, 0, 0, 2],
    segmentation: false,
    interrupts: false,
};

#[test]
fn a_virtio_card_serves_the_kernel() {
    Guest::run(VIRTIO, serve);
}

#[test]
fn an_e1000e_card_serves_the_kernel() {
    Guest::run(E1000E, serve);
}

fn serve(guest: &Guest) {
    refuse(guest, "the kernel has it as eth", None);
    guest.bind();
    refuse(guest, "this user may not use /dev/vfio/", Some("65534"));
    let wrong_before = guest.wrong_checksums();
    echo(guest);
    key_value(guest);
    durable::survives(guest);
    assert_eq!(guest.wrong_checksums(), wrong_before, "what the card has sent has right checksums");
}

/// A server that nobody asks sleeps, and still answers.
fn idle(server: &Server) {
    const TIME: Duration = Duration::from_secs(3);
    sleep(Duration::from_secs(1));
    let before = server.processor_time();
    sleep(TIME);
    let used = server.processor_time() - before;
    let start = Instant::now();
    load::echo_much(server.address, 1);
    let answered = start.elapsed();
    eprintln!("idle for {TIME:?}: {used:?} of the processor; then an answer within {answered:?}");
    assert!(used < TIME / 20, "{used:?}");
    assert!(answered < Duration::from_millis(500), "{answered:?}");
}

/// What a program says that cannot have the card.
fn refuse(guest: &Guest, expected: &str, user: Option<&str>) {
    let said = Server::refusal(guest, user);
    let port = format!("port \"{}\": cannot open: {expected}", guest.card().address);
    assert!(said.contains(&port), "{port:?} is not in {said:?}");
}

/// As README.md says, under load, with wrong checksums and a cable that is pulled.
fn echo(guest: &Guest) {
    let server = Server::echo(guest);
    refuse(guest, "another process has it", None);
    load::echo_many(server.address, 32, 20, 6000);
    if guest.card().interrupts {
        idle(&server);
    }
    load::echo_much(server.address, 8 << 20);
    load::send_wrong_checksums(guest, server.address);
    guest.pull_the_cable();
    let transfer = std::thread::spawn({
        let address = server.address;
        move || load::echo_much(address, 100_000)
    });
    server.wait_for_words("the link is down", Duration::from_secs(30));
    guest.plug_in_the_cable();
    server.wait_for_words("the link is up", Duration::from_secs(30));
    transfer.join().unwrap();
    let counted = server.end();
    eprintln!("{counted:#?}");
    let driver = guest.card().driver;
    assert!(counted.log.contains(driver), "the driver is {driver}: {}", counted.log);
    // Down, and up again; and up at the start, unless it was so when it was first looked at.
    let changes = counted.of("changes of the link");
    assert!((2..=3).contains(&changes), "{changes} changes");
    assert_eq!(counted.of("frames copied out") + counted.of("frames copied in"), 0, "nothing was copied");
    assert_eq!(counted.of("frames the device refused"), 0);
    // Whoever looks first counts them: the card, or the stack.
    let wrong = ["frames with a wrong checksum", "tcp_checksum", "udp_checksum"].map(|name| counted.of(name));
    assert_eq!(wrong.iter().sum::<u64>(), load::WRONG, "{counted:?}");
    let cut = counted.of("segments left to the device to cut");
    assert_eq!(cut > 100, guest.card().segmentation, "{cut} large segments for the card to cut");
    assert!(counted.of("checksums left to the device") > 1000, "{counted:?}");
}

fn key_value(guest: &Guest) {
    let server = Server::key_value(guest);
    load::set_and_get(server.address, 16, 5, 50_000);
    let counted = server.end();
    assert!(counted.of("checksums left to the device") > 100, "{counted:?}");
}
