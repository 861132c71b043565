//! A driver as strict as the specification lets it be, written from the driver's side of it and
//! sharing nothing with the crate but the memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use guest_memory::{Memory, Window};
use request::Address;
use standpipe_virtqueue::{Order, Queue, Setup};

pub const MEMORY_BYTES: usize = 1 << 20;
const DESC: u64 = 0x1000;
const DRIVER: u64 = 0x6000;
const DEVICE: u64 = 0x8000;
const TABLES: u64 = 0x10000;
const TABLE_BYTES: u64 = 0x200;
pub const BUFFERS: u64 = 0x40000;

const F_NEXT: u16 = 1;
const F_WRITE: u16 = 2;
const F_INDIRECT: u16 = 4;
const F_AVAIL: u16 = 0x80;
const F_USED: u16 = 0x8000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub packed: bool,
    pub event_idx: bool,
    pub order: Order,
    pub size: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    pub address: u64,
    pub len: u32,
    pub write: bool,
}

/// How a request's descriptors are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Direct,
    Indirect,
    /// This many in the ring, then a table with the rest.
    Mixed(usize),
}

#[derive(Clone, Debug)]
struct Outstanding {
    token: u64,
    slots: Vec<u16>,
    writable: u64,
    table: Option<u16>,
}

pub struct Driver {
    pub kind: Kind,
    pub memory: Arc<Memory>,
    pub desc: Window,
    pub driver: Window,
    pub device: Window,
    outstanding: BTreeMap<u16, Outstanding>,
    /// Tokens in the order in which they were made available.
    pub sequence: Vec<u64>,
    free: Vec<u16>,
    free_ids: Vec<u16>,
    tables: Vec<u16>,
    next_avail: u16,
    avail_wrap: bool,
    next_used: u16,
    used_wrap: bool,
    free_slots: u16,
    /// Slots or requests added since the device was last asked whether it wants a kick.
    added: u16,
}

impl Driver {
    pub fn new(kind: Kind) -> Self {
        let memory = Memory::anonymous(MEMORY_BYTES);
        let window = |address, len| memory.window(Address(address), len).expect("within the memory");
        Self {
            desc: window(DESC, 16 * u32::from(kind.size)),
            driver: window(DRIVER, 6 + 2 * u32::from(kind.size)),
            device: window(DEVICE, 6 + 8 * u32::from(kind.size)),
            memory: Arc::clone(&memory),
            outstanding: BTreeMap::new(),
            sequence: Vec::new(),
            free: (0..kind.size).rev().collect(),
            free_ids: (0..kind.size).rev().collect(),
            tables: (0..128).rev().collect(),
            next_avail: 0,
            avail_wrap: true,
            next_used: 0,
            used_wrap: true,
            free_slots: kind.size,
            added: 0,
            kind,
        }
    }

    pub fn setup(&self, inflight: &Window, resume: bool) -> Setup {
        Setup {
            size: self.kind.size,
            packed: self.kind.packed,
            event_idx: self.kind.event_idx,
            indirect: true,
            desc: self.desc.clone(),
            driver: self.driver.clone(),
            device: self.device.clone(),
            log: None,
            inflight: Some(inflight.clone()),
            order: self.kind.order,
            base: Queue::base_of_fresh(self.kind.packed),
            resume,
        }
    }

    pub fn outstanding(&self) -> Vec<u64> {
        let mut tokens: Vec<u64> = self.outstanding.values().map(|request| request.token).collect();
        tokens.sort_unstable();
        tokens
    }

    fn desc_flags(buffer: &Buffer) -> u16 {
        if buffer.write { F_WRITE } else { 0 }
    }

    /// Whether there is room for a request of that shape.
    pub fn has_room(&self, buffers: usize, layout: Layout) -> bool {
        let slots = match layout {
            Layout::Direct => buffers,
            Layout::Indirect => 1,
            Layout::Mixed(direct) => direct + 1,
        };
        let tables = layout == Layout::Direct || !self.tables.is_empty();
        tables && slots <= usize::from(self.free_slots)
    }

    fn table(&mut self, buffers: &[Buffer]) -> (u16, Buffer) {
        let table = self.tables.pop().expect("a free table");
        let address = TABLES + u64::from(table) * TABLE_BYTES;
        let len = 16 * buffers.len() as u32;
        let window = self.memory.window(Address(address), len).expect("a table");
        for (index, buffer) in buffers.iter().enumerate() {
            let at = 16 * index;
            window.store_u64(at, buffer.address);
            window.store_u32(at + 8, buffer.len);
            if self.kind.packed {
                window.store_u16(at + 12, 0xdead);
                window.store_u16(at + 14, Self::desc_flags(buffer));
            } else {
                let last = index + 1 == buffers.len();
                window.store_u16(at + 12, Self::desc_flags(buffer) | if last { 0 } else { F_NEXT });
                window.store_u16(at + 14, if last { 0 } else { index as u16 + 1 });
            }
        }
        (table, Buffer { address, len, write: false })
    }

    /// Makes a request available.
    pub fn post(&mut self, token: u64, buffers: &[Buffer], layout: Layout) {
        let direct = match layout {
            Layout::Direct => buffers.len(),
            Layout::Indirect => 0,
            Layout::Mixed(direct) => direct,
        };
        let mut ring: Vec<(Buffer, u16)> =
            buffers[..direct].iter().map(|b| (*b, Self::desc_flags(b))).collect();
        let mut table = None;
        if direct < buffers.len() {
            let (index, buffer) = self.table(&buffers[direct..]);
            table = Some(index);
            ring.push((buffer, F_INDIRECT));
        }
        let count = ring.len();
        for (_, flags) in &mut ring[..count - 1] {
            *flags |= F_NEXT;
        }
        let writable = buffers.iter().filter(|b| b.write).map(|b| u64::from(b.len)).sum();
        let mut slots = Vec::new();
        let name = if self.kind.packed {
            let id = self.free_ids.remove(token as usize % self.free_ids.len());
            let mut head = None;
            for (index, (buffer, flags)) in ring.iter().enumerate() {
                let slot = self.next_avail;
                let at = 16 * usize::from(slot);
                self.desc.store_u64(at, buffer.address);
                self.desc.store_u32(at + 8, buffer.len);
                self.desc.store_u16(at + 12, id);
                let ring = if self.avail_wrap { F_AVAIL } else { F_USED };
                if index == 0 {
                    head = Some((at + 14, flags | ring));
                } else {
                    self.desc.store_u16(at + 14, flags | ring);
                }
                slots.push(slot);
                self.next_avail += 1;
                if self.next_avail == self.kind.size {
                    self.next_avail = 0;
                    self.avail_wrap = !self.avail_wrap;
                }
            }
            let (at, flags) = head.expect("a request has a descriptor");
            self.desc.store_release_u16(at, flags);
            self.added += count as u16;
            id
        } else {
            for _ in 0..count {
                let pick = token as usize % self.free.len();
                slots.push(self.free.remove(pick));
            }
            for (index, (buffer, flags)) in ring.iter().enumerate() {
                let at = 16 * usize::from(slots[index]);
                self.desc.store_u64(at, buffer.address);
                self.desc.store_u32(at + 8, buffer.len);
                self.desc.store_u16(at + 12, *flags);
                self.desc.store_u16(at + 14, slots.get(index + 1).copied().unwrap_or(0xdead));
            }
            let entry = usize::from(self.next_avail % self.kind.size);
            self.driver.store_u16(4 + 2 * entry, slots[0]);
            self.next_avail = self.next_avail.wrapping_add(1);
            self.driver.store_release_u16(2, self.next_avail);
            self.added += 1;
            slots[0]
        };
        self.free_slots -= count as u16;
        self.sequence.push(token);
        let before = self.outstanding.insert(name, Outstanding { token, slots, writable, table });
        assert!(before.is_none(), "the driver itself named two requests {name}");
    }

    /// Whether the device asked to be kicked for what was made available since the last call.
    pub fn must_kick(&mut self) -> bool {
        let added = std::mem::take(&mut self.added);
        if !self.kind.packed {
            if !self.kind.event_idx {
                return self.device.load_u16(0) & 1 == 0;
            }
            let event = self.device.load_u16(4 + 8 * usize::from(self.kind.size));
            // Kick if the event index is among the entries just added.
            return (1..=added).any(|back| self.next_avail.wrapping_sub(back) == event);
        }
        let (off_wrap, flags) = (self.device.load_u16(0), self.device.load_u16(2));
        match flags {
            0 => true,
            1 => false,
            2 => {
                assert!(self.kind.event_idx, "RING_EVENT_FLAGS_DESC was not negotiated");
                let mut at = (self.next_avail, self.avail_wrap);
                (0..added).any(|_| {
                    at = if at.0 == 0 { (self.kind.size - 1, !at.1) } else { (at.0 - 1, at.1) };
                    off_wrap == at.0 | if at.1 { 0x8000 } else { 0 }
                })
            }
            other => panic!("reserved event flags {other}"),
        }
    }

    /// Asks for an interrupt at the next used element. With EVENT_IDX it is asked for once.
    pub fn ask_for_interrupt(&mut self) {
        if !self.kind.packed {
            self.driver.store_u16(0, 0);
            if self.kind.event_idx {
                self.driver.store_u16(4 + 2 * usize::from(self.kind.size), self.next_used);
            }
        } else if self.kind.event_idx {
            self.driver.store_u16(0, self.next_used | if self.used_wrap { 0x8000 } else { 0 });
            self.driver.store_u16(2, 2);
        } else {
            self.driver.store_u16(2, 0);
        }
    }

    pub fn refuse_interrupts(&mut self) {
        if self.kind.packed {
            self.driver.store_u16(2, 1);
        } else if !self.kind.event_idx {
            self.driver.store_u16(0, 1);
        }
    }

    /// Takes what the device has used: tokens and written lengths. Panics where the device breaks
    /// a rule.
    pub fn take_used(&mut self) -> Vec<(u64, u32)> {
        let mut taken = Vec::new();
        loop {
            let (name, written) = if self.kind.packed {
                let at = 16 * usize::from(self.next_used);
                let flags = self.desc.load_acquire_u16(at + 14);
                let used = if self.used_wrap { F_AVAIL | F_USED } else { 0 };
                if flags & (F_AVAIL | F_USED) != used {
                    return taken;
                }
                let written = self.desc.load_u32(at + 8);
                assert_eq!(flags & F_WRITE != 0, written != 0, "WRITE says whether anything was written");
                (self.desc.load_u16(at + 12), written)
            } else {
                let idx = self.device.load_acquire_u16(2);
                let behind = idx.wrapping_sub(self.next_used);
                assert!(
                    usize::from(behind) <= self.outstanding.len(),
                    "the used index ran {behind} ahead with {} outstanding",
                    self.outstanding.len()
                );
                if behind == 0 {
                    return taken;
                }
                let at = 4 + 8 * usize::from(self.next_used % self.kind.size);
                let id = self.device.load_u32(at);
                assert!(id < u32::from(self.kind.size), "used id {id}");
                (id as u16, self.device.load_u32(at + 4))
            };
            let request = self
                .outstanding
                .remove(&name)
                .unwrap_or_else(|| panic!("element {name} was used and is not outstanding: repeated"));
            assert!(u64::from(written) <= request.writable, "more written than there was room for");
            if self.kind.order == Order::InOrder {
                let oldest = self.outstanding.values().map(|other| other.token).min();
                assert!(oldest.is_none_or(|oldest| request.token < oldest), "used out of order");
            }
            let count = request.slots.len() as u16;
            self.free_slots += count;
            self.tables.extend(request.table);
            if self.kind.packed {
                self.free_ids.push(name);
                self.next_used += count;
                if self.next_used >= self.kind.size {
                    self.next_used -= self.kind.size;
                    self.used_wrap = !self.used_wrap;
                }
            } else {
                self.free.extend(request.slots);
                self.next_used = self.next_used.wrapping_add(1);
            }
            taken.push((request.token, written));
        }
    }
}
