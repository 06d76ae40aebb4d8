//! A controller behind VFIO: the kernel gives a program a PCI function and the IOMMU in front of it.
//!
//! - `open`: how to come by it, and what to do where that fails.
//! - `calls`: the system calls.

mod calls;
mod open;

use self::calls::{Irq, Mapping};
use super::address::Function;
use super::bus::Bus;
use super::iova::Ranges;
use super::registers::DOORBELLS;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// The command register of the configuration space, and what is set there: memory accesses to it, and its own.
const COMMAND: u64 = 0x04;
const MEMORY: u16 = 1 << 1;
const MASTER: u16 = 1 << 2;

/// A function that this program has to itself.
///
/// Fields are dropped in this order, which the kernel wants: registers, device, group, container.
#[derive(Debug)]
pub(super) struct Vfio {
    registers: Mapping,
    device: File,
    /// Where the configuration space is in `device`.
    configuration: u64,
    /// Becomes readable when the system wants the device back, if the kernel tells.
    request: Option<File>,
    #[expect(dead_code, reason = "it is the program's as long as it is open")]
    group: File,
    container: File,
    ranges: Ranges,
    /// It has been kept from memory for good.
    is_severed: AtomicBool,
}

impl Vfio {
    /// Takes a function.
    ///
    /// # Errors
    /// They say what is to be done about it.
    pub(super) fn open(function: Function) -> io::Result<Vfio> {
        let open::Parts { container, group, device } = open::open(function)?;
        let ranges = calls::iova_ranges(&container)?;
        let registers = calls::map_region(&device, calls::BAR0)?;
        if registers.len() < DOORBELLS + 8 {
            return Err(io::Error::other(format!("{function}: its registers are {} bytes", registers.len())));
        }
        let configuration = calls::region(&device, calls::CONFIGURATION)?.offset;
        let request = calls::notify(&device, Irq::Request);
        let is_severed = AtomicBool::new(false);
        let vfio = Vfio { registers, device, configuration, request, group, container, ranges, is_severed };
        vfio.command(MEMORY | MASTER, 0)?;
        Ok(vfio)
    }

    /// Sets and clears bits of the command register.
    fn command(&self, set: u16, clear: u16) -> io::Result<()> {
        let mut bytes = [0; 2];
        self.device.read_exact_at(&mut bytes, self.configuration + COMMAND)?;
        let command = u16::from_le_bytes(bytes) & !clear | set;
        self.device.write_all_at(&command.to_le_bytes(), self.configuration + COMMAND)?;
        self.device.read_exact_at(&mut bytes, self.configuration + COMMAND)?;
        match u16::from_le_bytes(bytes) & (set | clear) == set {
            true => Ok(()),
            false => Err(io::Error::other(
                "the command register of the PCI function does not take what is written",
            )),
        }
    }
}

// SAFETY: what a container has not mapped the IOMMU keeps from the device. The registers are mapped until this is dropped.
unsafe impl Bus for Vfio {
    fn read(&self, offset: usize) -> u32 {
        self.registers.read(offset)
    }

    fn write(&self, offset: usize, value: u32) {
        self.registers.write(offset, value);
    }

    fn doorbells(&self) -> (*mut u32, usize) {
        self.registers.tail(DOORBELLS)
    }

    fn addresses(&self) -> Ranges {
        self.ranges.clone()
    }

    unsafe fn map(&self, iova: u64, memory: *mut u8, length: usize) -> io::Result<()> {
        if self.is_severed.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the NVMe controller is gone"));
        }
        // SAFETY: the caller keeps the memory mapped until it is unmapped, and allows for the device's using it.
        unsafe { calls::map_dma(&self.container, iova, memory, length) }.map_err(open::explain_pinning)
    }

    fn unmap(&self, iova: u64, length: usize) -> io::Result<()> {
        match calls::unmap_dma(&self.container, iova, length) {
            // It was unmapped with everything else, or cannot be used by a device that is no master of its bus.
            Err(_) if self.is_severed.load(Ordering::Acquire) => Ok(()),
            result => result,
        }
    }

    fn reset(&self) -> io::Result<()> {
        calls::reset(&self.device)?;
        self.command(MEMORY | MASTER, 0)
    }

    fn sever(&self) -> io::Result<()> {
        let is_mute = self.command(0, MASTER);
        let is_unmapped = calls::unmap_all_dma(&self.container);
        // Each is enough.
        is_mute.or(is_unmapped)?;
        self.is_severed.store(true, Ordering::Release);
        Ok(())
    }

    fn is_wanted_back(&self) -> bool {
        // The count that it holds is read once, but from then on the controller is given up.
        self.request.as_ref().is_some_and(|request| {
            let mut count = [0; 8];
            io::Read::read(&mut &*request, &mut count).is_ok()
        })
    }
}
