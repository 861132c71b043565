//! The table of requests in flight in a packed ring, as vhost-user lays it out ("Inflight I/O
//! tracking", QueueRegionPacked):
//!
//! ```text
//! 0 features u64   8 version u16   10 desc_num u16   12 free_head u16   14 old_free_head u16
//! 16 used_idx u16   18 old_used_idx u16   20 used_wrap_counter u8   21 old_used_wrap_counter u8
//! 32 + 32 * i: inflight u8, padding, next u16 (2), last u16 (4), num u16 (6), counter u64 (8),
//!              id u16 (16), flags u16 (18), len u32 (20), addr u64 (24)
//! ```
//!
//! Pairs of new and old values are written by one store each, so that no crash can part them: the
//! specification's separate stores leave moments in which the index is old and the wrap counter
//! new. The states that a crash can leave behind are otherwise the specification's own.
//!
//! Every store is a release store: a process that dies between any two of them leaves exactly
//! those behind that come first in this text.

use alloc::vec::Vec;

use guest_memory::Window;

use crate::Fault;
use crate::position::Position;
use crate::walk::packed_word;

const VERSION_AT: usize = 8;
const DESC_NUM_AT: usize = 10;
const FREE_HEADS_AT: usize = 12;
const USED_AT: usize = 16;
pub const HEADER_BYTES: usize = 32;
const ENTRY_BYTES: usize = 32;
const NEXT_IN_ENTRY: usize = 2;
const LAST_IN_ENTRY: usize = 4;
const NUM_IN_ENTRY: usize = 6;
const COUNTER_IN_ENTRY: usize = 8;
const DESCRIPTOR_IN_ENTRY: usize = 16;

pub const VERSION: u16 = 1;

pub const fn bytes(size: u16) -> usize {
    HEADER_BYTES + ENTRY_BYTES * size as usize
}

/// The header that this table shares with the notes of in-order rings.
#[derive(Debug)]
pub struct Header {
    pub window: Window,
}

impl Header {
    pub fn is_valid(&self, version: u16, size: u16) -> bool {
        self.window.load_u16(VERSION_AT) == version && self.window.load_u16(DESC_NUM_AT) == size
    }

    /// The version is taken away first and given last, so that a half-made table is no table.
    pub fn invalidate(&self) {
        self.window.store_release_u16(VERSION_AT, 0);
        self.window.store_release_u64(0, 0);
    }

    pub fn validate(&self, version: u16, size: u16) {
        self.window.store_release_u16(DESC_NUM_AT, size);
        self.window.store_release_u16(VERSION_AT, version);
    }

    /// The next slot to be used, after and before the batch that is being published.
    pub fn used(&self) -> (Position, Position) {
        let word = self.window.load_u64(USED_AT);
        let new = Position { index: word as u16, wrap: (word >> 32) & 1 != 0 };
        let old = Position { index: (word >> 16) as u16, wrap: (word >> 40) & 1 != 0 };
        (new, old)
    }

    #[inline(always)]
    pub fn set_used(&self, new: Position, old: Position) {
        let word = u64::from(new.index)
            | u64::from(old.index) << 16
            | u64::from(new.wrap) << 32
            | u64::from(old.wrap) << 40;
        self.window.store_release_u64(USED_AT, word);
    }
}

/// One entry of the table as this process remembers it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    pub next: u16,
    /// Of a head: the last entry and the number of its request's entries, and the buffer id.
    pub last: u16,
    pub num: u16,
    pub id: u16,
    pub state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Free,
    Taken,
    Staged,
}

/// The table, or where there is no shared memory for it only this process's idea of it.
#[derive(Debug)]
pub struct Inflight {
    header: Option<Header>,
    pub entries: Vec<Entry>,
    free_head: u16,
    counter: u64,
}

/// What a predecessor left behind.
#[derive(Debug)]
pub struct Found {
    /// The next slot to be used.
    pub used: Position,
    /// Ring slots of the requests in flight.
    pub slots: u32,
    /// Their entries, in the order in which they were taken.
    pub again: Vec<u16>,
}

impl Inflight {
    /// A table without shared memory.
    pub fn private(size: u16) -> Self {
        let entries = (0..size).map(|index| Entry { next: index + 1, ..Entry::default() }).collect();
        Self { header: None, entries, free_head: 0, counter: 0 }
    }

    /// A fresh table: nothing in flight, and the next slot to be used is `used`.
    pub fn format(window: Window, size: u16, used: Position) -> Self {
        let mut this = Self::private(size);
        let header = Header { window };
        header.invalidate();
        for index in 0..size {
            header.window.store_release_u64(entry(index), u64::from(index + 1) << 16);
        }
        header.window.store_release_u32(FREE_HEADS_AT, 0);
        header.set_used(used, used);
        header.validate(VERSION, size);
        this.header = Some(header);
        this
    }

    /// Opens a table and finishes or takes back what a predecessor was about to publish; `None` if
    /// it is no table. `desc` is the descriptor ring.
    pub fn open(window: Window, size: u16, desc: &Window) -> Option<Result<(Self, Found), Fault>> {
        let header = Header { window };
        if !header.is_valid(VERSION, size) {
            return None;
        }
        Some(Self::load(header, size, desc).ok_or(Fault::BadLedger))
    }

    fn load(header: Header, size: u16, desc: &Window) -> Option<(Self, Found)> {
        let used = settle(&header, size, desc)?;
        let window = &header.window;
        let entries = (0..size)
            .map(|index| Entry {
                next: window.load_u16(entry(index) + NEXT_IN_ENTRY),
                last: window.load_u16(entry(index) + LAST_IN_ENTRY),
                num: window.load_u16(entry(index) + NUM_IN_ENTRY),
                ..Entry::default()
            })
            .collect();
        let mut heads: Vec<(u64, u16)> = (0..size)
            .filter(|&index| window.load_u8(entry(index)) != 0)
            .map(|index| (window.load_u64(entry(index) + COUNTER_IN_ENTRY), index))
            .collect();
        heads.sort_unstable();
        let counter = heads.last().map_or(0, |last| last.0.wrapping_add(1));
        let free_head = window.load_u16(FREE_HEADS_AT);
        let mut this = Self { header: Some(header), entries, free_head, counter };
        let again: Vec<u16> = heads.into_iter().map(|(_, head)| head).collect();
        let slots = this.take_again(&again, size)?;
        Some((this, Found { used, slots, again }))
    }

    /// Marks the requests as taken and returns the number of their ring slots; `None` unless each
    /// entry belongs to one of them or to the free list.
    fn take_again(&mut self, heads: &[u16], size: u16) -> Option<u32> {
        let mut held = alloc::vec![false; usize::from(size)];
        let mut slots = 0;
        for &head in heads {
            let Entry { num, last, .. } = self.entries[usize::from(head)];
            let (mut at, mut end) = (head, None);
            for _ in 0..num {
                let held = held.get_mut(usize::from(at))?;
                if core::mem::replace(held, true) {
                    return None;
                }
                end = Some(at);
                at = self.next(at);
            }
            if end != Some(last) {
                return None;
            }
            let id = packed_word(self.descriptor(last).1).1;
            let entry = &mut self.entries[usize::from(head)];
            (entry.state, entry.id) = (State::Taken, id);
            slots += u32::from(num);
        }
        let mut at = self.free_head;
        while let Some(held) = held.get_mut(usize::from(at)) {
            if core::mem::replace(held, true) {
                return None;
            }
            at = self.next(at);
        }
        held.iter().all(|held| *held).then_some(slots)
    }

    /// Where a request's first descriptor will be copied to. May lie behind the table's end, when
    /// all entries are in flight.
    pub fn first_free(&self) -> u16 {
        self.free_head
    }

    /// The entry behind another, for [`Inflight::copy`].
    #[inline(always)]
    pub fn next(&self, at: u16) -> u16 {
        self.entries.get(usize::from(at)).map_or(u16::MAX, |entry| entry.next)
    }

    /// Copies a descriptor into a free entry: its address, and its second word as in the ring. The
    /// entry has the word's halves the other way round. Nothing says yet that it is in flight.
    #[inline(always)]
    pub fn copy(&self, at: u16, address: u64, word: u64) {
        if let Some(Header { window }) = &self.header {
            window.store_release_u64(entry(at) + DESCRIPTOR_IN_ENTRY, word.rotate_left(32));
            window.store_release_u64(entry(at) + DESCRIPTOR_IN_ENTRY + 8, address);
        }
    }

    /// A copied descriptor: its address, and its second word as in the ring.
    pub fn descriptor(&self, at: u16) -> (u64, u64) {
        let Some(Header { window }) = &self.header else { return (0, 0) };
        let word = window.load_u64(entry(at) + DESCRIPTOR_IN_ENTRY).rotate_left(32);
        (window.load_u64(entry(at) + DESCRIPTOR_IN_ENTRY + 8), word)
    }

    /// The request whose `num` descriptors were copied is in flight: its head is `first_free`, its
    /// last entry `last`, and `free` is the first entry behind it.
    #[inline(always)]
    pub fn taken(&mut self, last: u16, free: u16, num: u16, id: u16) -> u16 {
        let head = core::mem::replace(&mut self.free_head, free);
        let mut next = 0;
        if let Some(entry) = self.entries.get_mut(usize::from(head)) {
            next = entry.next;
            *entry = Entry { next, last, num, id, state: State::Taken };
        }
        if let Some(Header { window }) = &self.header {
            window.store_release_u64(entry(head) + COUNTER_IN_ENTRY, self.counter);
            let word = 1 | u64::from(next) << 16 | u64::from(last) << 32 | u64::from(num) << 48;
            window.store_release_u64(entry(head), word);
            let free = u32::from(self.free_head);
            window.store_release_u32(FREE_HEADS_AT, free | free << 16);
        }
        self.counter = self.counter.wrapping_add(1);
        head
    }

    /// Notes what is about to be published: these requests end, and the used position goes on.
    #[inline(always)]
    pub fn publishing(&mut self, heads: impl Iterator<Item = u16>, new: Position, old: Position) {
        let old_free = self.free_head;
        for head in heads {
            let last = self.entries.get(usize::from(head)).map_or(head, |entry| entry.last);
            if let Some(slot) = self.entries.get_mut(usize::from(last)) {
                slot.next = self.free_head;
            }
            if let Some(Header { window }) = &self.header {
                window.store_release_u16(entry(last) + NEXT_IN_ENTRY, self.free_head);
            }
            self.free_head = head;
        }
        if let Some(header) = &self.header {
            let pair = u32::from(self.free_head) | u32::from(old_free) << 16;
            header.window.store_release_u32(FREE_HEADS_AT, pair);
            header.set_used(new, old);
        }
    }

    /// The guest can see their end.
    #[inline(always)]
    pub fn published(&mut self, heads: impl Iterator<Item = u16>, used: Position) {
        for head in heads {
            if let Some(slot) = self.entries.get_mut(usize::from(head)) {
                slot.state = State::Free;
            }
            if let Some(Header { window }) = &self.header {
                window.store_release_u8(entry(head), 0);
            }
        }
        if let Some(header) = &self.header {
            let free = u32::from(self.free_head);
            header.window.store_release_u32(FREE_HEADS_AT, free | free << 16);
            header.set_used(used, used);
        }
    }
}

/// Finishes or takes back the batch that a predecessor was about to publish. Each step may be
/// interrupted and done again. Returns the next slot to be used.
fn settle(header: &Header, size: u16, desc: &Window) -> Option<Position> {
    let window = &header.window;
    let (new, old) = header.used();
    if new.index >= size || old.index >= size {
        return None;
    }
    let heads = window.load_u32(FREE_HEADS_AT);
    let (free, old_free) = (heads as u16, (heads >> 16) as u16);
    if new != old && !old.is_available((desc.load_acquire_u64(second_word(old.index)) >> 48) as u16) {
        // The first of the batch is visible, and with it all of it.
        let mut at = free;
        for _ in 0..size {
            if at == old_free || at >= size {
                break;
            }
            window.store_release_u8(entry(at), 0);
            at = window.load_u16(entry(at) + NEXT_IN_ENTRY);
        }
        window.store_release_u32(FREE_HEADS_AT, u32::from(free) | u32::from(free) << 16);
        header.set_used(new, new);
        return Some(new);
    }
    // Nothing of the batch is visible, but those behind its first element may be in their places
    // already, and would be seen, once the first is, in an order that is not theirs any more.
    let mut at = old;
    for _ in 0..size {
        if at == new {
            break;
        }
        let word = desc.load_u64(second_word(at.index));
        if at.is_used((word >> 48) as u16) {
            let word = word & 0x0000_ffff_ffff_ffff | u64::from(at.available()) << 48;
            desc.store_release_u64(second_word(at.index), word);
        }
        at = at.after(1, size);
    }
    // A request that was about to be taken has the first free entry.
    if old_free < size {
        window.store_release_u8(entry(old_free), 0);
    }
    window.store_release_u32(FREE_HEADS_AT, u32::from(old_free) | u32::from(old_free) << 16);
    header.set_used(old, old);
    Some(old)
}

#[inline(always)]
fn entry(index: u16) -> usize {
    HEADER_BYTES + ENTRY_BYTES * index as usize
}

#[inline(always)]
pub fn second_word(slot: u16) -> usize {
    16 * usize::from(slot) + 8
}
