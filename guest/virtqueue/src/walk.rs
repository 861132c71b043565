//! From descriptors to spans.

use guest_memory::Memory;
use request::{Address, Span};

use crate::{Chain, Fault};

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

/// Collects one chain.
pub struct Walk<'a> {
    memory: &'a Memory,
    hints: &'a mut Hints,
    chain: &'a mut Chain,
    writable: bool,
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
    pub fn new(memory: &'a Memory, hints: &'a mut Hints, chain: &'a mut Chain) -> Self {
        chain.spans.clear();
        Self { memory, hints, chain, writable: false }
    }

    /// One buffer. An empty one is in order and adds nothing.
    #[inline(always)]
    pub fn add(&mut self, address: u64, len: u32, writable: bool) -> Result<(), Fault> {
        if writable != self.writable {
            if !writable {
                return Err(Fault::OrderViolation);
            }
            self.writable = true;
            self.chain.writable_from = self.chain.spans.len();
        }
        if let Some(span) = self.memory.locate(Address(address), len, &mut self.hints.buffers)
            && len != 0
        {
            return self.keep(span);
        }
        self.add_in_pieces(address, len)
    }

    #[inline(always)]
    fn keep(&mut self, span: Span) -> Result<(), Fault> {
        if self.chain.spans.len() >= SPANS_MAX {
            return Err(Fault::TooLong);
        }
        self.chain.spans.push(span);
        Ok(())
    }

    /// A buffer that begins in one region and goes on in the next, or that is empty.
    #[cold]
    fn add_in_pieces(&mut self, mut address: u64, mut len: u32) -> Result<(), Fault> {
        while len > 0 {
            let here = self.memory.contiguous(Address(address)).min(u64::from(len)) as u32;
            if here == 0 {
                return Err(Fault::BadAddress);
            }
            let span = self
                .memory
                .locate(Address(address), here, &mut self.hints.buffers)
                .ok_or(Fault::BadAddress)?;
            self.keep(span)?;
            len -= here;
            address = address.wrapping_add(u64::from(here));
        }
        Ok(())
    }

    /// An indirect table of a split ring: its descriptors are chained (2.7.5.3).
    pub fn split_table(&mut self, address: u64, len: u32) -> Result<(), Fault> {
        let (table, count) = self.table(address, len)?;
        let mut index = 0;
        for _ in 0..count {
            let [address, word] = self.table_entry(&table, index)?;
            let (len, flags, next) = split_word(word);
            if flags & INDIRECT != 0 {
                return Err(Fault::IndirectNested);
            }
            self.add(address, len, flags & WRITE != 0)?;
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
    pub fn packed_table(&mut self, address: u64, len: u32) -> Result<(), Fault> {
        let (table, count) = self.table(address, len)?;
        for index in 0..count {
            let [address, word] = self.table_entry(&table, index)?;
            let (len, _, flags) = packed_word(word);
            self.add(address, len, flags & WRITE != 0)?;
        }
        Ok(())
    }

    fn table(&mut self, address: u64, len: u32) -> Result<(Table, u32), Fault> {
        let count = len / 16;
        if len == 0 || !len.is_multiple_of(16) || count > TABLE_MAX {
            return Err(Fault::IndirectSize);
        }
        let whole = self.memory.locate(Address(address), len, &mut self.hints.tables);
        Ok((Table { address, whole }, count))
    }

    #[inline(always)]
    fn table_entry(&mut self, table: &Table, index: u32) -> Result<[u64; 2], Fault> {
        let offset = u64::from(index) * 16;
        let span = match table.whole {
            Some(whole) => Span { offset: whole.offset.wrapping_add(offset), len: 16, ..whole },
            None => {
                let address = Address(table.address.wrapping_add(offset));
                self.memory.locate(address, 16, &mut self.hints.tables).ok_or(Fault::BadAddress)?
            }
        };
        let mut bytes = [0u8; 16];
        self.memory.read(span, &mut bytes).ok_or(Fault::BadAddress)?;
        let both = u128::from_le_bytes(bytes);
        Ok([both as u64, (both >> 64) as u64])
    }

    /// The chain is complete.
    #[inline(always)]
    pub fn finish(self, head: u16, count: u16) {
        self.chain.head = head;
        self.chain.count = count;
        if !self.writable {
            self.chain.writable_from = self.chain.spans.len();
        }
    }
}

/// An indirect table: in one piece as a rule, over two regions' border at worst.
struct Table {
    address: u64,
    whole: Option<Span>,
}
