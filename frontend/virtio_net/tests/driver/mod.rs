//! A driver's side of one virtqueue, written from virtio 1.2 apart from the device's. It reuses a
//! descriptor only after the device has used it.

use guest_memory::{Memory, Window};
use request::{Address, Span};
use std::collections::BTreeMap;
use std::sync::Arc;
use virtqueue::{Order, Queue, Setup};

/// A guest with one megabyte of rings and as much as wanted behind it.
pub struct Guest {
    pub memory: Arc<Memory>,
    next: u64,
}

impl Guest {
    pub fn new(bytes: usize) -> Guest {
        Guest { memory: Memory::anonymous(bytes), next: 0 }
    }

    pub fn allocate(&mut self, bytes: u64) -> u64 {
        let at = self.next.next_multiple_of(64);
        self.next = at + bytes;
        assert!(self.memory.contiguous(Address(at)) >= bytes, "the guest is too small for its test");
        at
    }

    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.write(span(at, bytes.len() as u32), bytes).unwrap();
    }

    pub fn read(&self, at: u64, len: u32) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        self.memory.read(span(at, len), &mut bytes).unwrap();
        bytes
    }
}

pub fn span(offset: u64, len: u32) -> Span {
    Span { offset, len, region: 0 }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    pub at: u64,
    pub len: u32,
    pub writable: bool,
}

pub struct Ring {
    pub packed: bool,
    size: u16,
    desc: Window,
    driver: Window,
    device: Window,
    notes: Window,
    free: Vec<u16>,
    /// Descriptors of each request, by head or buffer id.
    posted: BTreeMap<u16, Vec<u16>>,
    avail: u16,
    used: u16,
    avail_wrap: bool,
    used_wrap: bool,
}

impl Ring {
    pub fn new(guest: &mut Guest, size: u16, packed: bool) -> Ring {
        let n = u64::from(size);
        let mut area = |bytes: u64| {
            let at = guest.allocate(bytes);
            guest.memory.window(Address(at), bytes as u32).unwrap()
        };
        Ring {
            packed,
            size,
            desc: area(16 * n),
            driver: area(6 + 2 * n),
            device: area(6 + 8 * n),
            notes: Window::anonymous(Queue::inflight_bytes(size, packed)),
            free: (0..size).rev().collect(),
            posted: BTreeMap::new(),
            avail: 0,
            used: 0,
            avail_wrap: true,
            used_wrap: true,
        }
    }

    /// The device's side, of a fresh device or of one whose predecessor died.
    pub fn queue(&self, memory: &Memory, resume: bool) -> Queue {
        let setup = Setup {
            size: self.size,
            packed: self.packed,
            event_idx: false,
            indirect: false,
            desc: self.desc.clone(),
            driver: self.driver.clone(),
            device: self.device.clone(),
            log: None,
            inflight: Some(self.notes.clone()),
            order: Order::InOrder,
            base: Queue::base_of_fresh(self.packed),
            resume,
        };
        Queue::new(setup, memory).unwrap()
    }

    /// Makes a request available; `false`: no descriptors are free.
    pub fn post(&mut self, buffers: &[Buffer]) -> Option<u16> {
        let rest = self.free.len().checked_sub(buffers.len())?;
        let mut taken = self.free.split_off(rest);
        taken.reverse();
        if self.packed { self.post_packed(buffers, taken) } else { self.post_split(buffers, taken) }
    }

    fn post_split(&mut self, buffers: &[Buffer], taken: Vec<u16>) -> Option<u16> {
        for (at, (index, buffer)) in taken.iter().zip(buffers).enumerate() {
            let next = taken.get(at + 1);
            let flags = u16::from(next.is_some()) | u16::from(buffer.writable) << 1;
            let place = 16 * usize::from(*index);
            self.desc.store_u64(place, buffer.at);
            self.desc.store_u32(place + 8, buffer.len);
            self.desc.store_u16(place + 12, flags);
            self.desc.store_u16(place + 14, next.copied().unwrap_or(0));
        }
        let head = taken[0];
        self.posted.insert(head, taken);
        self.driver.store_u16(4 + 2 * usize::from(self.avail % self.size), head);
        self.avail = self.avail.wrapping_add(1);
        self.driver.store_release_u16(2, self.avail);
        Some(head)
    }

    fn post_packed(&mut self, buffers: &[Buffer], taken: Vec<u16>) -> Option<u16> {
        let id = taken[0];
        let mut first = None;
        for (at, buffer) in buffers.iter().enumerate() {
            let next = u16::from(at + 1 < buffers.len());
            let mine = if self.avail_wrap { 1 << 7 } else { 1 << 15 };
            let flags = next | u16::from(buffer.writable) << 1 | mine;
            let place = 16 * usize::from(self.avail);
            self.desc.store_u64(place, buffer.at);
            self.desc.store_u32(place + 8, buffer.len);
            self.desc.store_u16(place + 12, id);
            match first {
                None => first = Some((place, flags)),
                Some(_) => self.desc.store_u16(place + 14, flags),
            }
            self.avail += 1;
            if self.avail == self.size {
                (self.avail, self.avail_wrap) = (0, !self.avail_wrap);
            }
        }
        let (place, flags) = first?;
        self.desc.store_release_u16(place + 14, flags);
        self.posted.insert(id, taken);
        Some(id)
    }

    /// The next request that the device has used, and how many bytes it wrote.
    pub fn take_used(&mut self) -> Option<(u16, u32)> {
        let (id, len) = if self.packed {
            let place = 16 * usize::from(self.used);
            let flags = self.desc.load_acquire_u16(place + 14);
            let (avail, used) = (flags >> 7 & 1 != 0, flags >> 15 != 0);
            if avail != used || used != self.used_wrap {
                return None;
            }
            let id = self.desc.load_u16(place + 12);
            let count = self.posted.get(&id).expect("a request that was posted").len() as u16;
            self.used += count;
            if self.used >= self.size {
                (self.used, self.used_wrap) = (self.used - self.size, !self.used_wrap);
            }
            (id, self.desc.load_u32(place + 8))
        } else {
            if self.device.load_acquire_u16(2) == self.used {
                return None;
            }
            let place = 4 + 8 * usize::from(self.used % self.size);
            self.used = self.used.wrapping_add(1);
            (self.device.load_u32(place) as u16, self.device.load_u32(place + 4))
        };
        let taken = self.posted.remove(&id).expect("a request that was posted and not used before");
        self.free.extend(taken);
        Some((id, len))
    }
}

pub fn readable(at: u64, len: u32) -> Buffer {
    Buffer { at, len, writable: false }
}

pub fn writable(at: u64, len: u32) -> Buffer {
    Buffer { at, len, writable: true }
}
