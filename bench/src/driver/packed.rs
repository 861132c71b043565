//! The packed virtqueue from the driver's side (virtio 1.2, 2.8).
//!
//! A buffer ID is handed out again only after the device has used it, and ring slots become free
//! in the order of the ring, by the number of slots of each used chain.

use std::sync::atomic::{Ordering, fence};

use super::error::{Result, Violation};
use super::queue::{Buffer, Used};
use super::ram::Area;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;
const DESCRIPTOR_BYTES: usize = 16;

/// The event suppression structure: `desc` in its first half word, `flags` in its second.
pub const EVENT_BYTES: usize = 4;
const EVENT_ENABLE: u16 = 0;
const EVENT_DISABLE: u16 = 1;
const EVENT_DESC: u16 = 2;
const WRAP: u16 = 1 << 15;

#[derive(Clone, Copy, Default)]
struct Chain {
    token: u16,
    /// Ring slots taken; 0 when the ID is not with the device.
    slots: u16,
    writable: u32,
}

pub struct Packed {
    size: u16,
    descriptors: Area,
    driver_event: Area,
    device_event: Area,
    /// One table of `indirect_entries` for each buffer ID.
    indirect: Option<Area>,
    indirect_entries: u16,
    event_idx: bool,
    chains: Box<[Chain]>,
    free_ids: Vec<u16>,
    free_slots: u16,
    outstanding: u16,
    next_available: u16,
    available_wrap: bool,
    next_used: u16,
    used_wrap: bool,
    /// Slots added since the device was last told.
    added: u16,
}

impl Packed {
    pub const fn descriptor_bytes(size: u16) -> usize {
        size as usize * DESCRIPTOR_BYTES
    }

    pub fn new(size: u16, areas: [Area; 3], indirect: Option<(Area, u16)>, event_idx: bool) -> Packed {
        assert!((1..=32768).contains(&size), "a packed ring has 1 to 32768 slots");
        let [descriptors, driver_event, device_event] = areas;
        let (indirect, indirect_entries) = match indirect {
            Some((area, entries)) => (Some(area), entries),
            None => (None, 0),
        };
        let mut ring = Packed {
            size,
            descriptors,
            driver_event,
            device_event,
            indirect,
            indirect_entries,
            event_idx,
            chains: vec![Chain::default(); size as usize].into(),
            free_ids: (0..size).rev().collect(),
            free_slots: size,
            outstanding: 0,
            next_available: 0,
            available_wrap: true,
            next_used: 0,
            used_wrap: true,
            added: 0,
        };
        ring.reset();
        ring
    }

    /// Empties the ring, as a driver does after it has reset the device.
    pub fn reset(&mut self) {
        self.chains.fill(Chain::default());
        self.free_ids = (0..self.size).rev().collect();
        self.free_slots = self.size;
        self.outstanding = 0;
        (self.next_available, self.available_wrap) = (0, true);
        (self.next_used, self.used_wrap) = (0, true);
        self.added = 0;
        self.descriptors.fill_zero();
        self.driver_event.fill_zero();
        self.device_event.fill_zero();
    }

    pub fn outstanding(&self) -> u16 {
        self.outstanding
    }

    pub fn cost(&self, buffers: usize) -> usize {
        if self.goes_indirect(buffers) { 1 } else { buffers }
    }

    fn goes_indirect(&self, buffers: usize) -> bool {
        buffers > 1 && buffers <= self.indirect_entries as usize
    }

    pub fn free(&self) -> usize {
        self.free_slots as usize
    }

    pub fn add(&mut self, token: u16, chain: &[Buffer]) -> bool {
        if chain.is_empty() || self.cost(chain.len()) > self.free_slots as usize {
            return false;
        }
        let writable = chain.iter().filter(|buffer| buffer.device_writes).map(|buffer| buffer.length).sum();
        // There are as many IDs as slots and a chain takes at least one slot: an ID is free.
        let id = self.free_ids.pop().expect("a free slot implies a free ID");
        let head = self.next_available;
        let slots = self.cost(chain.len()) as u16;
        let head_flags = if self.goes_indirect(chain.len()) {
            let table = self.fill_indirect(id, chain);
            self.write_slot(&table, id, INDIRECT)
        } else {
            let mut head_flags = 0;
            for (at, buffer) in chain.iter().enumerate() {
                let more = if at + 1 < chain.len() { NEXT } else { 0 };
                let slot = self.next_available as usize;
                let flags = self.write_slot(buffer, id, more);
                if at == 0 {
                    head_flags = flags;
                } else {
                    self.descriptors.store_u16(slot * DESCRIPTOR_BYTES + 14, flags);
                }
            }
            head_flags
        };
        // The head's flags make the chain available: they are written last (2.8.6).
        self.descriptors.store_release_u16(head as usize * DESCRIPTOR_BYTES + 14, head_flags);
        self.chains[id as usize] = Chain { token, slots, writable };
        self.free_slots -= slots;
        self.outstanding += 1;
        self.added = self.added.saturating_add(slots);
        true
    }

    /// Writes all of the next slot but its flags, which are returned, and moves on.
    fn write_slot(&mut self, buffer: &Buffer, id: u16, flags: u16) -> u16 {
        let at = self.next_available as usize * DESCRIPTOR_BYTES;
        self.descriptors.store_u64(at, buffer.address);
        self.descriptors.store_u32(at + 8, buffer.length);
        self.descriptors.store_u16(at + 12, id);
        // Available: the AVAIL bit equals the driver's wrap counter, the USED bit its inverse.
        let turn = if self.available_wrap { AVAILABLE } else { USED };
        let flags = flags | turn | if buffer.device_writes { WRITE } else { 0 };
        self.next_available += 1;
        if self.next_available == self.size {
            self.next_available = 0;
            self.available_wrap = !self.available_wrap;
        }
        flags
    }

    fn fill_indirect(&mut self, id: u16, chain: &[Buffer]) -> Buffer {
        let table = self.indirect.as_ref().expect("only rings with tables go indirect");
        let first = id as usize * self.indirect_entries as usize;
        for (at, buffer) in chain.iter().enumerate() {
            // In an indirect table only WRITE is valid, and order stands for NEXT (2.8.7).
            let at = (first + at) * DESCRIPTOR_BYTES;
            let flags = if buffer.device_writes { WRITE } else { 0 };
            table.store_u64(at, buffer.address);
            table.store_u64(at + 8, buffer.length as u64 | (flags as u64) << 48);
        }
        let address = table.address() + (first * DESCRIPTOR_BYTES) as u64;
        Buffer { address, length: (chain.len() * DESCRIPTOR_BYTES) as u32, device_writes: false }
    }

    /// True when the device wants to be notified of what was added (2.8.10).
    pub fn publish(&mut self) -> bool {
        if self.added == 0 {
            return false;
        }
        let (new, old) = (self.next_available, self.next_available.wrapping_sub(self.added));
        self.added = 0;
        fence(Ordering::SeqCst);
        let event = self.device_event.load_u32(0);
        let (place, flags) = (event as u16, (event >> 16) as u16);
        match flags & 3 {
            EVENT_DISABLE => false,
            EVENT_DESC => {
                let mut at = place & !WRAP;
                if (place & WRAP != 0) != self.available_wrap {
                    at = at.wrapping_sub(self.size);
                }
                new.wrapping_sub(at).wrapping_sub(1) < new.wrapping_sub(old)
            }
            _ => true,
        }
    }

    fn is_used(&self) -> bool {
        let flags = self.descriptors.load_acquire_u16(self.next_used as usize * DESCRIPTOR_BYTES + 14);
        let (available, used) = (flags & AVAILABLE != 0, flags & USED != 0);
        available == used && used == self.used_wrap
    }

    pub fn pending(&mut self) -> Result<bool, Violation> {
        Ok(self.outstanding > 0 && self.is_used())
    }

    pub fn pop(&mut self) -> Result<Option<Used>, Violation> {
        if !self.pending()? {
            return Ok(None);
        }
        let at = self.next_used as usize * DESCRIPTOR_BYTES;
        // The length of a used descriptor without WRITE is reserved (2.8.4): some devices leave the
        // driver's own there.
        let wrote = self.descriptors.load_u16(at + 14) & WRITE != 0;
        let written = if wrote { self.descriptors.load_u32(at + 8) } else { 0 };
        let id = self.descriptors.load_u16(at + 12);
        if id >= self.size {
            return Err(Violation::UnknownDescriptor { id: id as u32 });
        }
        let chain = std::mem::take(&mut self.chains[id as usize]);
        if chain.slots == 0 {
            return Err(Violation::NotOutstanding { id: id as u32 });
        }
        if written > chain.writable {
            return Err(Violation::WrittenTooMuch { id: id as u32, written, writable: chain.writable });
        }
        self.free_ids.push(id);
        self.free_slots += chain.slots;
        self.outstanding -= 1;
        self.next_used += chain.slots;
        if self.next_used >= self.size {
            self.next_used -= self.size;
            self.used_wrap = !self.used_wrap;
        }
        Ok(Some(Used { token: chain.token, written }))
    }

    pub fn set_interrupts(&mut self, wanted: bool) -> Result<bool, Violation> {
        if wanted && self.event_idx {
            self.driver_event.store_u16(0, self.next_used | if self.used_wrap { WRAP } else { 0 });
            // `desc` must be in place before the flags tell the device to look at it.
            self.driver_event.store_release_u16(2, EVENT_DESC);
        } else {
            self.driver_event.store_release_u16(2, if wanted { EVENT_ENABLE } else { EVENT_DISABLE });
        }
        fence(Ordering::SeqCst);
        self.pending()
    }

    /// The ring's position in the form that SET_VRING_BASE takes for packed rings: the available
    /// index and its wrap counter in the low half, the used ones in the high half.
    pub fn base(&self) -> u32 {
        let half = self.next_used as u32 | if self.used_wrap { WRAP as u32 } else { 0 };
        half | half << 16
    }
}
