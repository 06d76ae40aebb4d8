//! The registers of a controller.
//!
//! Offsets and fields are those of the NVM Express Base Specification 2.0, section 3.1.

use super::bus::Bus;
use std::time::Duration;

const CAP: usize = 0x00;
const VS: usize = 0x08;
const INTMS: usize = 0x0c;
const CC: usize = 0x14;
const CSTS: usize = 0x1c;
const AQA: usize = 0x24;
const ASQ: usize = 0x28;
const ACQ: usize = 0x30;

/// Where doorbells begin.
pub(super) const DOORBELLS: usize = 0x1000;

/// Entries of 64 and 16 bytes, as powers of two; pages, the round robin and the NVM command set are zeros.
const ENTRY_SIZES: u32 = 6 << 16 | 4 << 20;

/// What a controller can do (CAP).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Capabilities(u64);

/// How it is (CSTS).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Status(u32);

impl Capabilities {
    pub(super) fn read(bus: &dyn Bus) -> Capabilities {
        Capabilities(u64::from(bus.read(CAP)) | u64::from(bus.read(CAP + 4)) << 32)
    }

    /// All ones, or zeros: nobody answers.
    pub(super) fn is_absent(self) -> bool {
        self.0 == u64::MAX || self.0 == 0
    }

    /// How many entries a queue has at most.
    pub(super) fn queue_entries(self) -> u32 {
        (self.0 & 0xffff) as u32 + 1
    }

    /// How long a change of CC.EN may take.
    pub(super) fn timeout(self) -> Duration {
        Duration::from_millis(500 * (self.0 >> 24 & 0xff).max(1))
    }

    /// Bytes between doorbells.
    pub(super) fn stride(self) -> usize {
        4 << (self.0 >> 32 & 0xf)
    }

    /// Whether it has the NVM command set.
    pub(super) fn has_blocks(self) -> bool {
        self.0 >> 37 & 1 == 1
    }

    /// The size of the smallest page, which is the one that we use.
    pub(super) fn page(self) -> u32 {
        4096 << (self.0 >> 48 & 0xf)
    }

    /// CC to switch it on with.
    fn configuration(self) -> u32 {
        // The memory page size says how many doublings of 4 KiB it is.
        ENTRY_SIZES | ((self.0 >> 48 & 0xf) as u32) << 7
    }
}

impl Status {
    pub(super) fn read(bus: &dyn Bus) -> Status {
        Status(bus.read(CSTS))
    }

    /// No register with this many bits set is anything but a bus that nobody answers on.
    pub(super) fn is_absent(self) -> bool {
        self.0 == u32::MAX
    }

    pub(super) fn is_ready(self) -> bool {
        self.0 & 1 == 1
    }

    /// It cannot go on without a reset.
    pub(super) fn is_fatal(self) -> bool {
        self.0 >> 1 & 1 == 1
    }

    pub(super) fn is_shut_down(self) -> bool {
        self.0 >> 2 & 3 == 2
    }
}

/// The version that it says it follows: major and minor.
pub(super) fn version(bus: &dyn Bus) -> (u32, u32) {
    let version = bus.read(VS);
    (version >> 16, version >> 8 & 0xff)
}

/// Switches it off. It is off when it is not ready any more.
pub(super) fn disable(bus: &dyn Bus) {
    bus.write(CC, bus.read(CC) & !1);
}

/// Switches it on, with admin queues of so many entries at these addresses.
pub(super) fn enable(
    bus: &dyn Bus,
    capabilities: Capabilities,
    entries: u32,
    submission: u64,
    completion: u64,
) {
    // Nobody listens to pin-based interrupts.
    bus.write(INTMS, u32::MAX);
    bus.write(AQA, (entries - 1) << 16 | (entries - 1));
    for (register, address) in [(ASQ, submission), (ACQ, completion)] {
        bus.write(register, address as u32);
        bus.write(register + 4, (address >> 32) as u32);
    }
    bus.write(CC, capabilities.configuration() | 1);
}

/// Tells it that it will be switched off, so that it makes durable what it has.
pub(super) fn announce_end(bus: &dyn Bus) {
    const NORMAL: u32 = 1 << 14;
    bus.write(CC, bus.read(CC) & !(3 << 14) | NORMAL);
}
