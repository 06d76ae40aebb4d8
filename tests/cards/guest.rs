//! The machine, its cards, and the commands of README.md.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, Once};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What README.md calls the card, and the addresses there.
const CARD_IN_README: &str = "0000:03:00.0";
/// The card that the guest's kernel has.
const KERNELS: &str = "0000:00:10.0";
/// The kernel's address, and the stack's, in the network of README.md.
pub(crate) const KERNEL: &str = "10.0.0.1";

#[derive(Clone, Copy)]
pub(crate) struct Card {
    pub(crate) address: &'static str,
    /// QEMU's name.
    pub(crate) name: &'static str,
    pub(crate) driver: &'static str,
    pub(crate) mac: [u8; 6],
    /// Whether its driver has it cut segments.
    pub(crate) segmentation: bool,
    /// Whether a thread that sleeps hears of packets.
    pub(crate) interrupts: bool,
}

/// The guest, while one test uses it.
pub(crate) struct Guest {
    card: Card,
    pub(crate) directory: PathBuf,
}

impl Guest {
    /// Runs a test, one at a time; or none, where this is no such guest.
    pub(crate) fn run(card: Card, test: impl FnOnce(&Guest)) {
        static ONE: Mutex<()> = Mutex::new(());
        static SET_UP: Once = Once::new();
        if std::env::var_os("DEMIKERNEL_CARDS").is_none() {
            eprintln!("skipped: this is done in a guest (cargo xtask test --only cards)");
            return;
        }
        let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        SET_UP.call_once(|| {
            shell(&format!(
                "ip addr add {KERNEL}/24 dev {0} && ip -6 addr add fd00:9::1/64 dev {0} nodad && \
                            ip link set {0} up",
                interface()
            ));
        });
        let directory = std::env::temp_dir().join(format!("demikernel-cards-{}", card.name));
        fs::create_dir_all(&directory).unwrap();
        test(&Guest { card, directory });
    }

    pub(crate) fn card(&self) -> Card {
        self.card
    }

    /// Everything that README.md has root do to a card before a program can have it.
    pub(crate) fn bind(&self) {
        let text = self.readme();
        let commands: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# ")).collect();
        let (serve, prepare) = commands.split_last().expect("README.md has commands");
        assert!(serve.starts_with("DEMIKERNEL_TRANSPORT=dpdk"), "{serve}");
        for command in prepare {
            shell(command);
        }
    }

    /// The file of the configuration that README.md shows, written.
    pub(crate) fn configuration(&self) -> PathBuf {
        let text = self.readme();
        let (_, after) = text.split_once("$ cat demikernel.toml\n").expect("README.md shows the file");
        let lines = after.lines().take_while(|line| !line.starts_with(['$', '#']));
        let path = self.directory.join("demikernel.toml");
        fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
        path
    }

    /// The commands of the section on network cards, for this card.
    fn readme(&self) -> String {
        let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
        let (_, section) = text.split_once("### DPDK on a network card").expect("README.md has the section");
        let (_, after) = section.split_once("```console\n").expect("the section has commands");
        let (commands, _) = after.split_once("```").expect("they end");
        assert!(commands.contains(CARD_IN_README));
        commands.replace(CARD_IN_README, self.card.address).replace("\\\n", " ")
    }

    pub(crate) fn pull_the_cable(&self) {
        monitor(&format!("set_link {} off", self.card.name));
    }

    pub(crate) fn plug_in_the_cable(&self) {
        monitor(&format!("set_link {} on", self.card.name));
    }

    /// Sends an IP packet as it is, with the kernel's card, to the card.
    pub(crate) fn send_packet(&self, packet: &[u8]) {
        let name = CString::new(interface()).unwrap();
        // SAFETY: plain system calls; the address is a structure of numbers, for which zeros are values, and it and the
        // packet are as long as is said.
        unsafe {
            let socket = libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0);
            let mut to: libc::sockaddr_ll = std::mem::zeroed();
            to.sll_family = libc::AF_PACKET as u16;
            to.sll_protocol = (libc::ETH_P_IP as u16).to_be();
            to.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
            to.sll_halen = 6;
            to.sll_addr[..6].copy_from_slice(&self.card.mac);
            let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            let sent =
                libc::sendto(socket, packet.as_ptr().cast(), packet.len(), 0, (&raw const to).cast(), length);
            assert_eq!(sent, packet.len() as isize, "{}", std::io::Error::last_os_error());
            libc::close(socket);
        }
    }

    /// Segments and datagrams that the kernel has dropped for their checksums.
    pub(crate) fn wrong_checksums(&self) -> u64 {
        let text = fs::read_to_string("/proc/net/snmp").unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
        let pairs = lines.chunks(2).flat_map(|lines| lines[0].iter().zip(&lines[1]));
        pairs
            .filter(|(name, _)| **name == "InCsumErrors")
            .map(|(_, value)| value.parse::<u64>().unwrap())
            .sum()
    }
}

/// What the kernel calls its card.
fn interface() -> String {
    let devices = fs::read_dir(format!("/sys/bus/pci/devices/{KERNELS}")).unwrap().flatten();
    let mut names =
        devices.filter_map(|device| fs::read_dir(device.path().join("net")).ok()).flatten().flatten();
    names.next().expect("the kernel has a card").file_name().into_string().unwrap()
}

/// Has QEMU do something.
fn monitor(command: &str) {
    let ports = fs::read_dir("/sys/class/virtio-ports").unwrap().flatten();
    let is_monitor =
        |path: PathBuf| fs::read_to_string(path.join("name")).is_ok_and(|name| name.trim() == "monitor");
    let port =
        ports.map(|port| port.path()).find(|path| is_monitor(path.clone())).expect("the guest has a monitor");
    let mut device =
        File::options().write(true).open(PathBuf::from("/dev").join(port.file_name().unwrap())).unwrap();
    writeln!(device, "{command}").unwrap();
}

pub(crate) fn shell(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}: {status}");
}

/// Waits until something holds, or fails.
#[track_caller]
pub(crate) fn wait_for(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {patience:?}");
        sleep(Duration::from_millis(50));
    }
}
