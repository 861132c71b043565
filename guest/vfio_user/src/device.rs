//! What the device behind a session is.

use alloc::vec::Vec;

use crate::numbers::*;

/// A part of a region that the client may map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    pub offset: u64,
    pub size: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// 0: there is none.
    pub size: u64,
    pub writable: bool,
    /// What may be mapped, of the descriptor that goes with the answer to
    /// DEVICE_GET_REGION_INFO; 16 at most.
    pub areas: Vec<Area>,
    /// Where the region begins in that descriptor's file.
    pub file_offset: u64,
}

impl Region {
    pub const AREAS_MAX: usize = 16;

    fn of(size: u64, writable: bool) -> Self {
        Self { size, writable, ..Self::default() }
    }

    /// Whether an access is wholly within the region.
    pub(crate) fn holds(&self, offset: u64, count: u64) -> bool {
        offset.checked_add(count).is_some_and(|end| end <= self.size)
    }
}

/// A device, as the client is told of it; it stays the same as long as a client is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub regions: [Region; REGIONS],
    /// Vectors of each kind of interrupt, [`VECTORS_MAX`] at most.
    pub irqs: [u32; IRQS],
    /// The device's state can be taken out and put in.
    pub migration: bool,
}

impl Device {
    /// A PCI device with these BARs and this configuration space; `rom` is the size of its option
    /// ROM, or 0. It tells errors (ERR) and asks to be unplugged (REQ), as QEMU looks for both.
    pub fn new(bars: [u64; 6], rom: u64, config: u64, intx: bool, msi: u32, msix: u32) -> Self {
        let mut regions = <[Region; REGIONS]>::default();
        for (region, bytes) in regions.iter_mut().zip(bars) {
            *region = Region::of(bytes, true);
        }
        regions[REGION_ROM as usize] = Region::of(rom, false);
        regions[REGION_CONFIG as usize] = Region::of(config, true);
        let irqs = [u32::from(intx), msi.min(VECTORS_MAX), msix.min(VECTORS_MAX), 1, 1];
        Self { regions, irqs, migration: false }
    }

    pub(crate) fn region(&self, index: u32) -> Option<&Region> {
        self.regions.get(usize::try_from(index).ok()?)
    }
}
