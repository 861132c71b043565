//! The rings of a driver, looked up in its memory.

use alloc::vec::Vec;

use guest_memory::{Memory, Window};
use request::Address;

use crate::bits::{size, state};

/// The pages of a ring, by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pages {
    pub count: u32,
    pub numbers: [u64; size::RING_PAGES_MAX],
}

impl Pages {
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.numbers.iter().copied().take(self.count as usize)
    }

    /// A power of two, and not too many.
    pub fn is_sound(&self, max: usize) -> bool {
        self.count.is_power_of_two() && self.count as usize <= max
    }
}

/// SETUP_RINGS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Setup {
    pub state: u64,
    pub requests: Pages,
    pub completions: Pages,
}

/// One ring, or the part of the state page that goes with it.
#[derive(Default)]
pub(crate) struct Ring {
    pages: Vec<(Address, Window)>,
    a_page: u32,
    bytes: usize,
}

pub(crate) fn address(page: u64) -> Option<Address> {
    (page <= u64::MAX >> size::PAGE_SHIFT).then(|| Address(page.wrapping_shl(size::PAGE_SHIFT)))
}

pub(crate) fn page(memory: &Memory, number: u64) -> Option<(Address, Window)> {
    let address = address(number)?;
    let window = memory.window(address, size::PAGE as u32)?;
    // Indices are read as numbers; RAM whose mapping is not aligned is none that rings can be in.
    window.is_aligned(8).then_some((address, window))
}

impl Ring {
    /// `None`: a page of it is no memory.
    pub fn new(memory: &Memory, pages: &Pages, bytes: usize) -> Option<Ring> {
        let found: Option<Vec<_>> = pages.iter().map(|number| page(memory, number)).collect();
        let a_page = size::PAGE.checked_div(bytes)? as u32;
        Some(Ring { pages: found?, a_page, bytes })
    }

    pub fn entries(&self) -> u32 {
        self.a_page.saturating_mul(self.pages.len() as u32)
    }

    fn place(&self, index: u32) -> Option<(&(Address, Window), usize)> {
        let index = index & self.entries().checked_sub(1)?;
        let page = self.pages.get(index.checked_div(self.a_page)? as usize)?;
        Some((page, (index.checked_rem(self.a_page)? as usize).saturating_mul(self.bytes)))
    }

    #[inline]
    pub fn read(&self, index: u32, into: &mut [u8]) {
        if let Some(((_, window), at)) = self.place(index) {
            window.read_bytes(at, into);
        }
    }

    #[inline]
    pub fn write(&self, memory: &Memory, index: u32, from: &[u8]) {
        if let Some(((address, window), at)) = self.place(index) {
            window.write_bytes(at, from);
            memory.mark_range(Address(address.0.saturating_add(at as u64)), from.len() as u32);
        }
    }
}

/// All that a driver set up, as windows. Made anew when the memory map changes.
pub(crate) struct Rings {
    address: Address,
    state: Window,
    pub requests: Ring,
    pub completions: Ring,
    /// Without entries as long as no message ring is set up.
    pub messages: Ring,
}

impl Rings {
    pub fn new(memory: &Memory, setup: &Setup, messages: Option<&Pages>) -> Option<Rings> {
        let (address, state) = page(memory, setup.state)?;
        Some(Rings {
            address,
            state,
            requests: Ring::new(memory, &setup.requests, size::REQUEST)?,
            completions: Ring::new(memory, &setup.completions, size::COMPLETION)?,
            messages: match messages {
                Some(pages) => Ring::new(memory, pages, size::MESSAGE)?,
                None => Ring::default(),
            },
        })
    }

    #[inline]
    pub fn load(&self, field: usize) -> u32 {
        self.state.load_acquire_u32(field)
    }

    #[inline]
    pub fn store(&self, memory: &Memory, field: usize, value: u32) {
        self.state.store_release_u32(field, value);
        memory.mark_range(Address(self.address.0.saturating_add(field as u64)), 4);
    }

    /// Says how long the rings are. A page that the driver did not clear is cleared for it; one
    /// that it did clear may hold a request already, since its writes to registers are posted
    /// (QUIRKS.md).
    pub fn announce(&self, memory: &Memory) {
        let stale = self.load(state::REQ_CONS) != 0 || self.load(state::CMP_PROD) != 0;
        if stale {
            for field in [state::REQ_PROD, state::REQ_CONS, state::CMP_CONS, state::CMP_PROD] {
                self.store(memory, field, 0);
            }
        }
        self.store(memory, state::REQ_CALL_THRESHOLD, 0);
        self.store(memory, state::REQ_ENTRIES_LOG2, self.requests.entries().trailing_zeros());
        self.store(memory, state::CMP_ENTRIES_LOG2, self.completions.entries().trailing_zeros());
    }

    pub fn announce_messages(&self, memory: &Memory) {
        if self.load(state::MSG_PROD) != 0 {
            self.store(memory, state::MSG_CONS, 0);
            self.store(memory, state::MSG_PROD, 0);
        }
        self.store(memory, state::MSG_ENTRIES_LOG2, self.messages.entries().trailing_zeros());
    }
}
