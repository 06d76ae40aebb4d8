//! What a controller is reached by: its registers, and its view of memory.

use super::iova::Ranges;
use std::io;

/// A PCI function that a program has to itself, behind an IOMMU.
///
/// It is a trait so that all above it runs against a controller in plain memory. Nothing here is called per operation.
///
/// # Safety
/// The function reads and writes what has been [mapped](Self::map) only, until it is unmapped. The doorbells are memory as
/// long as this lives.
pub(super) unsafe trait Bus: Send + Sync + 'static {
    /// Reads a register. All ones if the device is gone.
    fn read(&self, offset: usize) -> u32;

    /// Writes a register.
    fn write(&self, offset: usize, value: u32);

    /// The registers from 0x1000 on, and how many bytes they have.
    fn doorbells(&self) -> (*mut u32, usize);

    /// The addresses that the device may be given.
    fn addresses(&self) -> Ranges;

    /// Has the device reach memory, at an address that is free.
    ///
    /// # Safety
    /// The memory stays mapped in the process until it is [unmapped](Self::unmap) here, and whoever uses it allows for the
    /// device's doing so.
    unsafe fn map(&self, iova: u64, memory: *mut u8, length: usize) -> io::Result<()>;

    /// Ends that the device reaches memory. After an error it may still.
    fn unmap(&self, iova: u64, length: usize) -> io::Result<()>;

    /// Resets the function. All that it was doing has ended when this returns without an error.
    fn reset(&self) -> io::Result<()>;

    /// Ends that the device reaches any memory by itself, whatever has been mapped.
    fn sever(&self) -> io::Result<()>;

    /// Whether the system wants the device back.
    fn is_wanted_back(&self) -> bool;
}
