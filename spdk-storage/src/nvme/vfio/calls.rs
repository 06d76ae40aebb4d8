//! The system calls of VFIO (linux/vfio.h), each as a function.

use super::super::iova::Ranges;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;

/// Regions of a PCI device.
pub(super) const BAR0: u32 = 0;
pub(super) const CONFIGURATION: u32 = 7;

/// Interrupts of a PCI device that are not the device's.
#[derive(Clone, Copy, Debug)]
pub(super) enum Irq {
    /// The system wants it back.
    Request = 4,
}

/// An IOMMU that unmaps what was mapped, and nothing but that.
const TYPE1_V2: u64 = 3;

/// Numbers of requests: none says how large its argument is.
const REQUEST: u64 = 0x3b64;
const CHECK_EXTENSION: u64 = REQUEST + 1;
const SET_IOMMU: u64 = REQUEST + 2;
const GROUP_STATUS: u64 = REQUEST + 3;
const SET_CONTAINER: u64 = REQUEST + 4;
const DEVICE_FD: u64 = REQUEST + 6;
const REGION_INFO: u64 = REQUEST + 8;
const SET_IRQS: u64 = REQUEST + 10;
const RESET: u64 = REQUEST + 11;
const IOMMU_INFO: u64 = REQUEST + 12;
const MAP_DMA: u64 = REQUEST + 13;
const UNMAP_DMA: u64 = REQUEST + 14;

#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub(super) struct Region {
    argsz: u32,
    flags: u32,
    index: u32,
    capabilities: u32,
    pub(super) size: u64,
    pub(super) offset: u64,
}

#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
struct GroupStatus {
    argsz: u32,
    flags: u32,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct MapDma {
    argsz: u32,
    flags: u32,
    address: u64,
    iova: u64,
    length: u64,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct UnmapDma {
    argsz: u32,
    flags: u32,
    iova: u64,
    length: u64,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct SetIrqs {
    argsz: u32,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
    descriptor: i32,
}

/// Registers of a device, mapped until this is dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u32>,
    length: usize,
}

// SAFETY: registers belong to no thread.
unsafe impl Send for Mapping {}
// SAFETY: the same, and each access is one of the processor's.
unsafe impl Sync for Mapping {}

/// # Safety
/// The argument is what this request takes.
unsafe fn ioctl(file: &File, request: u64, argument: u64) -> io::Result<i32> {
    // SAFETY: the argument is what the request takes, as the caller says.
    match unsafe { libc::ioctl(file.as_raw_fd(), request as _, argument) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// As [`ioctl`], with a structure.
///
/// # Safety
/// The request takes a pointer to such a structure, and uses no more memory than that.
unsafe fn ioctl_on<T>(file: &File, request: u64, structure: &mut T) -> io::Result<i32> {
    // SAFETY: the caller's request takes a pointer to this structure, which is borrowed as long.
    unsafe { ioctl(file, request, std::ptr::from_mut(structure) as u64) }
}

const fn size<T>() -> u32 {
    size_of::<T>() as u32
}

/// Whether a container can be behind an IOMMU.
pub(super) fn has_iommu(container: &File) -> bool {
    // SAFETY: it takes a number.
    unsafe { ioctl(container, CHECK_EXTENSION, TYPE1_V2) }.is_ok_and(|answer| answer > 0)
}

/// Whether no other driver has anything in the group.
pub(super) fn is_viable(group: &File) -> io::Result<bool> {
    const VIABLE: u32 = 1;
    let mut status = GroupStatus { argsz: size::<GroupStatus>(), ..GroupStatus::default() };
    // SAFETY: it takes this structure.
    unsafe { ioctl_on(group, GROUP_STATUS, &mut status) }?;
    Ok(status.flags & VIABLE != 0)
}

/// Puts a group into a container, and that behind the IOMMU.
pub(super) fn join(container: &File, group: &File) -> io::Result<()> {
    let mut descriptor = container.as_raw_fd();
    // SAFETY: they take a pointer to a descriptor, and a number.
    unsafe {
        ioctl_on(group, SET_CONTAINER, &mut descriptor)?;
        ioctl(container, SET_IOMMU, TYPE1_V2)?;
    }
    Ok(())
}

/// A device of a group, by its name.
pub(super) fn device(group: &File, name: &str) -> io::Result<File> {
    let name = CString::new(name)?;
    // SAFETY: it takes a string, and makes a descriptor that is ours.
    unsafe {
        let descriptor = ioctl(group, DEVICE_FD, name.as_ptr() as u64)?;
        Ok(File::from_raw_fd(descriptor))
    }
}

pub(super) fn region(device: &File, index: u32) -> io::Result<Region> {
    let mut region = Region { argsz: size::<Region>(), index, ..Region::default() };
    // SAFETY: it takes this structure.
    unsafe { ioctl_on(device, REGION_INFO, &mut region) }?;
    Ok(region)
}

/// Maps registers.
pub(super) fn map_region(device: &File, index: u32) -> io::Result<Mapping> {
    let Region { size, offset, .. } = region(device, index)?;
    // SAFETY: new memory, at an address that the kernel chooses.
    let base = unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let (length, descriptor) = (size as usize, device.as_raw_fd());
        libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, descriptor, offset as i64)
    };
    match NonNull::new(base) {
        Some(new) if base != libc::MAP_FAILED => Ok(Mapping { base: new.cast(), length: size as usize }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has a descriptor become readable with an interrupt. `None` where the kernel has no such interrupt.
pub(super) fn notify(device: &File, irq: Irq) -> Option<File> {
    /// Triggers an eventfd.
    const EVENTFD: u32 = 1 << 2 | 1 << 5;
    // SAFETY: it takes numbers, and makes a descriptor that is ours.
    let event = unsafe {
        let descriptor = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
        (descriptor >= 0).then(|| File::from_raw_fd(descriptor))
    }?;
    let mut irqs = SetIrqs {
        argsz: size::<SetIrqs>(),
        flags: EVENTFD,
        index: irq as u32,
        start: 0,
        count: 1,
        descriptor: event.as_raw_fd(),
    };
    // SAFETY: it takes this structure, with as many descriptors at its end as it says.
    unsafe { ioctl_on(device, SET_IRQS, &mut irqs) }.ok().map(|_| event)
}

/// Resets a device. What it was doing is over then.
pub(super) fn reset(device: &File) -> io::Result<()> {
    // SAFETY: it takes nothing.
    unsafe { ioctl(device, RESET, 0) }.map(|_| ())
}

/// The addresses that the IOMMU translates.
pub(super) fn iova_ranges(container: &File) -> io::Result<Ranges> {
    const HEADER: usize = 24;
    let mut answer = vec![0u64; HEADER / 8];
    // It says how much room it needs, and is asked again with so much.
    for _ in 0..2 {
        let length = answer.len() * 8;
        answer[0] = length as u64;
        // SAFETY: the memory is as long as it says in its first word.
        unsafe { ioctl(container, IOMMU_INFO, answer.as_mut_ptr() as u64) }?;
        let needed = (answer[0] as u32 as usize).clamp(HEADER, 1 << 20);
        if needed <= length {
            break;
        }
        answer.resize(needed.div_ceil(8), 0);
    }
    let bytes: Vec<u8> = answer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    Ok(parse_ranges(&bytes).unwrap_or_else(|| vec![(0, u64::from(u32::MAX))]))
}

/// The ranges in the answer about an IOMMU; kernels before 5.4 say none.
fn parse_ranges(answer: &[u8]) -> Option<Ranges> {
    const CAPABILITIES: u32 = 1 << 1;
    const IOVA_RANGE: u32 = 1;
    let word = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_ne_bytes(answer.get(at..at + 8)?.try_into().ok()?));
    if word(4)? & CAPABILITIES == 0 {
        return None;
    }
    let mut at = word(16)? as usize;
    // Each is further on than the one before, so this ends.
    while at != 0 {
        let next = word(at + 4)? as usize;
        if word(at)? & 0xffff == IOVA_RANGE {
            let count = word(at + 8)? as usize;
            return (0..count)
                .map(|index| Some((long(at + 16 + 16 * index)?, long(at + 24 + 16 * index)?)))
                .collect();
        }
        at = if next > at { next } else { 0 };
    }
    None
}

/// Has the device reach memory.
///
/// # Safety
/// The memory stays mapped until it is unmapped here, and its users allow for the device's writing there.
pub(super) unsafe fn map_dma(container: &File, iova: u64, memory: *mut u8, length: usize) -> io::Result<()> {
    const READ_AND_WRITE: u32 = 3;
    let (address, length) = (memory as u64, length as u64);
    let mut map = MapDma { argsz: size::<MapDma>(), flags: READ_AND_WRITE, address, iova, length };
    // SAFETY: it takes this structure; the memory is the caller's.
    unsafe { ioctl_on(container, MAP_DMA, &mut map) }.map(|_| ())
}

/// Ends that.
pub(super) fn unmap_dma(container: &File, iova: u64, length: usize) -> io::Result<()> {
    let length = length as u64;
    let mut unmap = UnmapDma { argsz: size::<UnmapDma>(), flags: 0, iova, length };
    // SAFETY: it takes this structure. Nothing depends on the device's reaching memory.
    unsafe { ioctl_on(container, UNMAP_DMA, &mut unmap) }?;
    match unmap.length == length {
        true => Ok(()),
        false => Err(io::Error::other(format!("of {length} bytes, {} have been unmapped", unmap.length))),
    }
}

/// Ends that the device reaches anything.
pub(super) fn unmap_all_dma(container: &File) -> io::Result<()> {
    const ALL: u32 = 1 << 1;
    let mut unmap = UnmapDma { argsz: size::<UnmapDma>(), flags: ALL, iova: 0, length: 0 };
    // SAFETY: it takes this structure. Nothing depends on the device's reaching memory.
    unsafe { ioctl_on(container, UNMAP_DMA, &mut unmap) }.map(|_| ())
}

impl Mapping {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    fn at(&self, offset: usize) -> NonNull<u32> {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.length, "no register at {offset:#x}");
        // SAFETY: within the mapping, as asserted.
        unsafe { self.base.byte_add(offset) }
    }

    pub(super) fn read(&self, offset: usize) -> u32 {
        // SAFETY: a register, which is mapped.
        unsafe { self.at(offset).read_volatile() }
    }

    pub(super) fn write(&self, offset: usize, value: u32) {
        // SAFETY: a register, which is mapped. What a device may do to memory by it, it may do only to what was mapped.
        unsafe { self.at(offset).write_volatile(value) }
    }

    /// What is from there on.
    pub(super) fn tail(&self, offset: usize) -> (*mut u32, usize) {
        (self.at(offset).as_ptr(), self.length - offset)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it is this one's, and nobody has a pointer into it who outlives the bus.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn ranges_are_found_behind_other_capabilities() {
        let mut words = vec![88, 3, 0x1000, 0, 24, 0];
        words.extend([3 | 1 << 16, 36, 65535]);
        words.extend([1 | 1 << 16, 0, 2, 0]);
        words.extend([0, 0, 0xfedf_ffff, 0, 0xfef0_0000, 0, 0xffff_ffff, 0x7f]);
        assert_eq!(
            parse_ranges(&answer(&words)),
            Some(vec![(0, 0xfedf_ffff), (0xfef0_0000, 0x7f_ffff_ffff)])
        );
    }

    #[test]
    fn an_answer_that_is_cut_or_leads_in_circles_is_none() {
        let words = [88, 2, 0, 0, 24, 0, 1 | 1 << 16, 0, 1000, 0, 1, 0, 2, 0];
        for length in 0..words.len() {
            assert_eq!(parse_ranges(&answer(&words[..length])), None);
        }
        assert_eq!(parse_ranges(&answer(&words)), None);
        assert_eq!(parse_ranges(&answer(&[32, 2, 0, 0, 24, 0, 5, 24])), None);
        assert_eq!(parse_ranges(&answer(&[32, 0, 0, 0, 24, 0, 5, 24])), None);
    }
}
