//! The guest's memory: one memfd, cut into one or more regions with holes between their guest
//! addresses, and handed out from the front to back. Nothing is given back: a driver's rings and
//! buffers live as long as its guest.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use guest_memory::{Memory, Window};
use host::map::Mapping;
use host::memfd;

use super::error::{Error, Result, doing};
use super::message::MemoryRegion;

const PAGE_BYTES: usize = 4096;
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Where the first region starts. Not zero, so that a back end that takes a guest address for an
/// offset is caught at once.
const FIRST_REGION_AT: u64 = 1 << 30;
/// Guest addresses that belong to nobody, between two regions.
const HOLE_BYTES: u64 = 1 << 30;
/// The front end's own addresses are told apart from guest addresses by this distance.
const USER_DISTANCE: u64 = 0x7f00_0000_0000;

#[derive(Debug, Clone, Copy)]
pub struct RamOptions {
    pub bytes: usize,
    pub regions: usize,
    pub huge_pages: bool,
    /// Back every page with memory now, so that no page fault falls into a measurement.
    pub populate: bool,
}

impl RamOptions {
    pub fn new(bytes: usize) -> RamOptions {
        RamOptions { bytes, regions: 1, huge_pages: false, populate: true }
    }
}

pub struct Ram {
    file: OwnedFd,
    mapping: Arc<Mapping>,
    regions: Vec<Region>,
}

#[derive(Debug, Clone, Copy)]
struct Region {
    wire: MemoryRegion,
    taken: usize,
}

impl Ram {
    pub fn new(options: RamOptions) -> Result<Ram> {
        let count = options.regions.max(1);
        let page = if options.huge_pages { HUGE_PAGE_BYTES } else { PAGE_BYTES };
        let each = options.bytes.div_ceil(count).next_multiple_of(page);
        let bytes = each * count;
        let file = if options.huge_pages {
            memfd::create_huge("guest", bytes as u64).map_err(doing("making guest memory of huge pages"))?
        } else {
            memfd::create_unsealed("guest", bytes as u64).map_err(doing("making guest memory"))?
        };
        let mapping = Mapping::of_file(file.as_fd(), 0, bytes).map_err(doing("mapping guest memory"))?;
        let mapping = Arc::new(mapping);
        if options.populate {
            let all = window(&mapping, 0, bytes);
            (0..bytes).step_by(page).for_each(|at| all.store_u8(at, 0));
        }
        let regions = (0..count as u64)
            .map(|at| {
                let guest_address = FIRST_REGION_AT + at * (each as u64 + HOLE_BYTES);
                let wire = MemoryRegion {
                    guest_address,
                    bytes: each as u64,
                    user_address: guest_address + USER_DISTANCE,
                    file_offset: at * each as u64,
                };
                Region { wire, taken: 0 }
            })
            .collect();
        Ok(Ram { file, mapping, regions })
    }

    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub fn regions(&self) -> impl Iterator<Item = MemoryRegion> + '_ {
        self.regions.iter().map(|region| region.wire)
    }

    /// Takes memory from the region with the most left, so that several regions are all used.
    pub fn allocate(&mut self, bytes: usize, align: usize) -> Result<Area> {
        let region = self
            .regions
            .iter_mut()
            .max_by_key(|region| region.wire.bytes as usize - region.taken)
            .expect("there is at least one region");
        let start = region.taken.next_multiple_of(align);
        if start + bytes > region.wire.bytes as usize {
            return Err(Error::Unsupported(format!(
                "the guest's memory is too small for {bytes} bytes more"
            )));
        }
        region.taken = start + bytes;
        let address = region.wire.guest_address + start as u64;
        let window = window(&self.mapping, region.wire.file_offset as usize + start, bytes);
        Ok(Area { window, address })
    }

    /// The same memory as the device side of this project sees it: for tests without a socket.
    pub fn memory(&self) -> Arc<Memory> {
        let regions = self.regions().map(|region| guest_memory::Region {
            guest: region.guest_address,
            len: region.bytes,
            user: region.user_address,
            offset: region.file_offset,
            mapping: Arc::clone(&self.mapping),
        });
        Memory::new(regions.collect(), None).expect("regions lie apart and within the mapping")
    }

    /// The address by which vhost-user names ring memory: the front end's own.
    pub fn user_address(&self, guest_address: u64) -> u64 {
        guest_address + USER_DISTANCE
    }
}

fn window(mapping: &Arc<Mapping>, start: usize, bytes: usize) -> Window {
    Window::new(Arc::clone(mapping), start, bytes).expect("a region lies in the mapping that was made for it")
}

/// A piece of guest memory that the driver reads and writes while the device does so too, with the
/// address that the device knows it by.
#[derive(Clone)]
pub struct Area {
    window: Window,
    address: u64,
}

impl Area {
    pub fn address(&self) -> u64 {
        self.address
    }

    pub fn fill_zero(&self) {
        (0..self.window.len() & !3).step_by(4).for_each(|at| self.window.store_u32(at, 0));
        (self.window.len() & !3..self.window.len()).for_each(|at| self.window.store_u8(at, 0));
    }

    /// Two halves where a 64-bit number lies on a four-byte boundary, as used elements do.
    #[inline]
    pub fn load_two_u32(&self, offset: usize) -> (u32, u32) {
        (self.window.load_u32(offset), self.window.load_u32(offset + 4))
    }
}

impl std::ops::Deref for Area {
    type Target = Window;
    #[inline(always)]
    fn deref(&self) -> &Window {
        &self.window
    }
}
