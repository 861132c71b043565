//! From descriptors to spans.

use alloc::vec::Vec;

use guest_memory::Memory;
use request::{Address, Span};

use crate::Fault;

/// VIRTQ_DESC_F_NEXT, _WRITE and _INDIRECT (2.7.5, 2.8.1).
pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// Spans of one request. Drivers are held to the queue's size, or with indirect tables to what a
/// device announces as its segment limit; 1,024 segments is the most that QEMU's own devices take,
/// and a header and a status come on top.
pub const SPANS_MAX: usize = 1026;

/// An indirect table of a split ring may name 2^15 descriptors at most, as any table.
const TABLE_MAX: u32 = 1 << 15;

/// Collects one chain. All its fields are plain values that stay in registers: nothing here hands
/// out a reference to the collector itself.
pub struct Walk<'a> {
    memory: &'a Memory,
    spans: &'a mut Vec<Span>,
    hints: Hints,
    /// The region that was hit last: where it begins, and its length.
    guest: u64,
    len: u64,
    /// WRITE once a writable buffer was met, and where that was.
    phase: u16,
    writable_from: usize,
}

/// The regions that were hit last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints {
    buffers: u32,
    tables: u32,
}

/// A descriptor's second word in a split ring: length, flags, next.
#[inline(always)]
pub fn split_word(word: u64) -> (u32, u16, u16) {
    (word as u32, (word >> 32) as u16, (word >> 48) as u16)
}

/// A descriptor's second word in a packed ring: length, buffer id, flags.
#[inline(always)]
pub fn packed_word(word: u64) -> (u32, u16, u16) {
    (word as u32, (word >> 32) as u16, (word >> 48) as u16)
}

impl<'a> Walk<'a> {
    #[inline(always)]
    pub fn new(memory: &'a Memory, hints: Hints, spans: &'a mut Vec<Span>) -> Self {
        spans.clear();
        let (guest, len) = region(memory, hints.buffers);
        Self { memory, spans, hints, guest, len, phase: 0, writable_from: 0 }
    }

    /// One buffer. An empty one is in order and adds nothing.
    #[inline(always)]
    pub fn add(&mut self, address: u64, len: u32, flags: u16) -> Result<(), Fault> {
        if flags & WRITE != self.phase {
            if flags & WRITE == 0 {
                return Err(Fault::OrderViolation);
            }
            self.phase = WRITE;
            self.writable_from = self.spans.len();
        }
        // An address below the region wraps around to an offset far beyond it.
        let offset = address.wrapping_sub(self.guest);
        let end = offset.wrapping_add(u64::from(len));
        if end <= self.len && end > offset {
            self.spans.push(Span { offset, len, region: self.hints.buffers });
            return Ok(());
        }
        if len != 0 {
            self.hints.buffers = add_in_pieces(self.memory, self.spans, address, len)?;
            (self.guest, self.len) = region(self.memory, self.hints.buffers);
        }
        Ok(())
    }

    /// An indirect table of a split ring: its descriptors are chained (2.7.5.3).
    #[inline(always)]
    pub fn split_table(&mut self, address: u64, len: u32) -> Result<(), Fault> {
        let (table, count) = self.table(address, len)?;
        let mut index = 0;
        for _ in 0..count {
            let [address, word] = self.table_entry(&table, index)?;
            let (len, flags, next) = split_word(word);
            if flags & INDIRECT != 0 {
                return Err(Fault::IndirectNested);
            }
            self.add(address, len, flags)?;
            if flags & NEXT == 0 {
                return Ok(());
            }
            index = u32::from(next);
            if index >= count {
                return Err(Fault::BadNext);
            }
        }
        Err(Fault::Loop)
    }

    /// An indirect table of a packed ring: its descriptors follow each other, and of their flags
    /// only WRITE counts (2.8.8).
    #[inline(always)]
    pub fn packed_table(&mut self, address: u64, len: u32) -> Result<(), Fault> {
        let (table, count) = self.table(address, len)?;
        for index in 0..count {
            let [address, word] = self.table_entry(&table, index)?;
            let (len, _, flags) = packed_word(word);
            self.add(address, len, flags)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn table(&mut self, address: u64, len: u32) -> Result<(Table, u32), Fault> {
        let count = len / 16;
        if len == 0 || !len.is_multiple_of(16) || count > TABLE_MAX {
            return Err(Fault::IndirectSize);
        }
        let mut hint = self.hints.tables;
        let whole = self.memory.locate(Address(address), len, &mut hint);
        self.hints.tables = hint;
        Ok((Table { address, whole }, count))
    }

    #[inline(always)]
    fn table_entry(&self, table: &Table, index: u32) -> Result<[u64; 2], Fault> {
        let offset = u64::from(index) * 16;
        let span = match table.whole {
            Some(whole) => Span { offset: whole.offset.wrapping_add(offset), len: 16, ..whole },
            None => {
                let address = Address(table.address.wrapping_add(offset));
                self.memory.locate(address, 16, &mut 0).ok_or(Fault::BadAddress)?
            }
        };
        let mut bytes = [0u8; 16];
        self.memory.read(span, &mut bytes).ok_or(Fault::BadAddress)?;
        let both = u128::from_le_bytes(bytes);
        Ok([both as u64, (both >> 64) as u64])
    }

    /// The chain is complete: where its writable spans begin, and the regions it hit. Its length is
    /// judged here, once: until here it was bounded by its ring or table.
    #[inline(always)]
    pub fn finish(self) -> Result<(usize, Hints), Fault> {
        let len = self.spans.len();
        if len > SPANS_MAX {
            *self.spans = Vec::new();
            return Err(Fault::TooLong);
        }
        Ok((if self.phase == 0 { len } else { self.writable_from }, self.hints))
    }
}

#[inline(always)]
fn region(memory: &Memory, index: u32) -> (u64, u64) {
    memory.regions().get(index as usize).map_or((0, 0), |region| (region.guest, region.len))
}

/// A buffer in another region than the last, or one that begins in one region and goes on in the
/// next. Returns the region that it ends in.
#[cold]
fn add_in_pieces(
    memory: &Memory,
    spans: &mut Vec<Span>,
    mut address: u64,
    mut len: u32,
) -> Result<u32, Fault> {
    let mut hint = 0;
    while len > 0 {
        let here = memory.contiguous(Address(address)).min(u64::from(len)) as u32;
        if here == 0 {
            return Err(Fault::BadAddress);
        }
        let span = memory.locate(Address(address), here, &mut hint).ok_or(Fault::BadAddress)?;
        spans.push(span);
        len -= here;
        address = address.wrapping_add(u64::from(here));
    }
    Ok(hint)
}

/// An indirect table: in one piece as a rule, over two regions' border at worst.
struct Table {
    address: u64,
    whole: Option<Span>,
}
