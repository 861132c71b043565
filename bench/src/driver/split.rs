//! The split virtqueue from the driver's side (virtio 1.2, 2.7).
//!
//! A descriptor leaves the free stack when its chain is made available and returns only when the
//! device has used the chain; the indirect table of a head is rewritten only then too. The used
//! index is read once per batch, since each read of it may take a cache line from the device.

use std::sync::atomic::{Ordering, fence};

use super::error::{Result, Violation};
use super::queue::{Buffer, Used};
use super::ram::Area;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const DESCRIPTOR_BYTES: usize = 16;
const NO_INTERRUPT: u16 = 1;
const NO_NOTIFY: u16 = 1;

/// What a head descriptor stands for while the device holds it.
#[derive(Clone, Copy, Default)]
struct Chain {
    token: u16,
    /// Ring descriptors taken; 0 when the head is not with the device.
    descriptors: u16,
    writable: u32,
}

pub struct Split {
    size: u16,
    descriptors: Area,
    available: Area,
    used: Area,
    /// One table of `indirect_entries` for each head.
    indirect: Option<Area>,
    indirect_entries: u16,
    event_idx: bool,
    chains: Box<[Chain]>,
    next: Box<[u16]>,
    free: Vec<u16>,
    outstanding: u16,
    available_index: u16,
    /// The available index that the device has been told of.
    published_index: u16,
    used_index: u16,
    /// The device's used index as last read.
    seen_index: u16,
    interrupts: bool,
    /// With EVENT_IDX and interrupts off, the used index at which `used_event` must be moved on.
    quiet_until: u16,
}

impl Split {
    pub const fn descriptor_bytes(size: u16) -> usize {
        size as usize * DESCRIPTOR_BYTES
    }
    pub const fn available_bytes(size: u16) -> usize {
        6 + 2 * size as usize
    }
    pub const fn used_bytes(size: u16) -> usize {
        6 + 8 * size as usize
    }

    pub fn new(size: u16, areas: [Area; 3], indirect: Option<(Area, u16)>, event_idx: bool) -> Split {
        assert!(size.is_power_of_two() && size <= 32768, "a split ring's size is a power of two up to 32768");
        let [descriptors, available, used] = areas;
        let (indirect, indirect_entries) = match indirect {
            Some((area, entries)) => (Some(area), entries),
            None => (None, 0),
        };
        let mut ring = Split {
            size,
            descriptors,
            available,
            used,
            indirect,
            indirect_entries,
            event_idx,
            chains: vec![Chain::default(); size as usize].into(),
            next: vec![0; size as usize].into(),
            free: (0..size).rev().collect(),
            outstanding: 0,
            available_index: 0,
            published_index: 0,
            used_index: 0,
            seen_index: 0,
            interrupts: true,
            quiet_until: 0,
        };
        ring.reset();
        ring
    }

    /// Empties the ring, as a driver does after it has reset the device.
    pub fn reset(&mut self) {
        self.chains.fill(Chain::default());
        self.free = (0..self.size).rev().collect();
        self.outstanding = 0;
        (self.available_index, self.published_index, self.used_index, self.seen_index) = (0, 0, 0, 0);
        self.interrupts = true;
        self.available.fill_zero();
        self.used.fill_zero();
    }

    pub fn outstanding(&self) -> u16 {
        self.outstanding
    }

    /// Ring descriptors that a chain of `buffers` takes.
    pub fn cost(&self, buffers: usize) -> usize {
        if self.goes_indirect(buffers) { 1 } else { buffers }
    }

    fn goes_indirect(&self, buffers: usize) -> bool {
        buffers > 1 && buffers <= self.indirect_entries as usize
    }

    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Puts a chain into the available ring. False when there is no room: nothing has changed then.
    pub fn add(&mut self, token: u16, chain: &[Buffer]) -> bool {
        if chain.is_empty() || self.cost(chain.len()) > self.free.len() {
            return false;
        }
        let writable = chain.iter().filter(|buffer| buffer.device_writes).map(|buffer| buffer.length).sum();
        let head =
            if self.goes_indirect(chain.len()) { self.fill_indirect(chain) } else { self.fill_direct(chain) };
        let taken = self.cost(chain.len()) as u16;
        self.chains[head as usize] = Chain { token, descriptors: taken, writable };
        let slot = (self.available_index & (self.size - 1)) as usize;
        self.available.store_u16(4 + 2 * slot, head);
        self.available_index = self.available_index.wrapping_add(1);
        self.outstanding += 1;
        true
    }

    fn fill_direct(&mut self, chain: &[Buffer]) -> u16 {
        let head = self.free[self.free.len() - 1];
        for (at, buffer) in chain.iter().enumerate() {
            let index = self.free.pop().expect("room was checked");
            let more = at + 1 < chain.len();
            let next = if more { self.free[self.free.len() - 1] } else { 0 };
            self.next[index as usize] = next;
            write_descriptor(&self.descriptors, index as usize, buffer, if more { NEXT } else { 0 }, next);
        }
        head
    }

    fn fill_indirect(&mut self, chain: &[Buffer]) -> u16 {
        let head = self.free.pop().expect("room was checked");
        let table = self.indirect.as_ref().expect("only rings with tables go indirect");
        let first = head as usize * self.indirect_entries as usize;
        for (at, buffer) in chain.iter().enumerate() {
            let more = at + 1 < chain.len();
            let (flag, next) = if more { (NEXT, at as u16 + 1) } else { (0, 0) };
            write_descriptor(table, first + at, buffer, flag, next);
        }
        let length = (chain.len() * DESCRIPTOR_BYTES) as u32;
        let address = table.address() + (first * DESCRIPTOR_BYTES) as u64;
        let table = Buffer { address, length, device_writes: false };
        write_descriptor(&self.descriptors, head as usize, &table, INDIRECT, 0);
        head
    }

    /// Shows the device what was added. True when the device wants to be notified of it
    /// (virtio 1.2, 2.7.10).
    pub fn publish(&mut self) -> bool {
        if self.available_index == self.published_index {
            return false;
        }
        let old = self.published_index;
        self.available.store_release_u16(2, self.available_index);
        self.published_index = self.available_index;
        // The device may be going to sleep: our index must be visible before we read its wish.
        fence(Ordering::SeqCst);
        if self.event_idx {
            let event = self.used.load_u16(4 + 8 * self.size as usize);
            self.available_index.wrapping_sub(event).wrapping_sub(1) < self.available_index.wrapping_sub(old)
        } else {
            self.used.load_u16(0) & NO_NOTIFY == 0
        }
    }

    /// Whether the device has used something that was not popped yet.
    pub fn pending(&mut self) -> Result<bool, Violation> {
        if self.seen_index == self.used_index {
            let index = self.used.load_acquire_u16(2);
            let ahead = index.wrapping_sub(self.used_index);
            if ahead > self.outstanding {
                let expected_at_most = self.used_index.wrapping_add(self.outstanding);
                return Err(Violation::UsedIndexAhead { index, expected_at_most });
            }
            self.seen_index = index;
        }
        Ok(self.seen_index != self.used_index)
    }

    pub fn pop(&mut self) -> Result<Option<Used>, Violation> {
        if !self.pending()? {
            return Ok(None);
        }
        let slot = (self.used_index & (self.size - 1)) as usize;
        let (id, written) = self.used.load_two_u32(4 + 8 * slot);
        let head = u16::try_from(id)
            .ok()
            .filter(|head| *head < self.size)
            .ok_or(Violation::UnknownDescriptor { id })?;
        let chain = std::mem::take(&mut self.chains[head as usize]);
        if chain.descriptors == 0 {
            return Err(Violation::NotOutstanding { id });
        }
        if written > chain.writable {
            return Err(Violation::WrittenTooMuch { id, written, writable: chain.writable });
        }
        let mut index = head;
        for _ in 0..chain.descriptors {
            self.free.push(index);
            index = self.next[index as usize];
        }
        self.outstanding -= 1;
        self.used_index = self.used_index.wrapping_add(1);
        if self.event_idx && !self.interrupts && self.used_index == self.quiet_until {
            self.move_used_event_away();
        }
        Ok(Some(Used { token: chain.token, written }))
    }

    /// With EVENT_IDX there is no off switch that the device must heed; an event index just behind
    /// us is crossed only after the index has gone all the way round. Moved on every half round.
    fn move_used_event_away(&mut self) {
        self.available.store_u16(4 + 2 * self.size as usize, self.used_index.wrapping_sub(1));
        self.quiet_until = self.used_index.wrapping_add(0x8000);
    }

    /// Asks for interrupts or declines them. True when something was used already and no interrupt
    /// may come for it: look before you sleep.
    pub fn set_interrupts(&mut self, wanted: bool) -> Result<bool, Violation> {
        self.interrupts = wanted;
        if self.event_idx {
            if wanted {
                self.available.store_u16(4 + 2 * self.size as usize, self.used_index);
            } else {
                self.move_used_event_away();
            }
        } else {
            self.available.store_u16(0, if wanted { 0 } else { NO_INTERRUPT });
        }
        fence(Ordering::SeqCst);
        self.pending()
    }

    /// The ring's position in the form that SET_VRING_BASE takes: the next available index that the
    /// device has not seen.
    pub fn base(&self) -> u32 {
        self.used_index as u32
    }
}

fn write_descriptor(table: &Area, index: usize, buffer: &Buffer, flags: u16, next: u16) {
    let at = index * DESCRIPTOR_BYTES;
    let flags = flags | if buffer.device_writes { WRITE } else { 0 };
    table.store_u64(at, buffer.address);
    table.store_u64(at + 8, buffer.length as u64 | (flags as u64) << 32 | (next as u64) << 48);
}
