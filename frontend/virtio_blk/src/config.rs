//! The configuration structure, 5.2.4.

use request::Facts;

use crate::bits::{SECTOR, SECTOR_SHIFT};

/// Length of the structure, up to and with `write_zeroes_may_unmap` and its padding: secure erase
/// and zones are not offered.
pub const CONFIG_BYTES: usize = 60;

/// Where the driver may write.
const WRITEBACK_AT: usize = 32;

/// How much one request may ask for, as the configuration says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Data segments of one request.
    pub seg_max: u32,
    pub queues: u16,
}

impl Limits {
    /// Bytes of one data segment. Together with `seg_max` it bounds a request; Linux never makes
    /// segments of this length from its default request size of at most 4 MiB.
    pub const SIZE_MAX_BYTES: u32 = 4 << 20;
    /// Segments of one DISCARD or WRITE ZEROES.
    pub const SEGMENTS_MAX: u32 = 64;
    /// Sectors of one DISCARD segment: 4 GiB.
    pub const DISCARD_MAX_SECTORS: u32 = 8 << 20;
    /// Sectors of one WRITE ZEROES segment: 32 MiB, since a store without an operation for it
    /// has to write them.
    pub const WRITE_ZEROES_MAX_SECTORS: u32 = 64 << 10;
}

/// What a driver's write to the configuration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WritebackChange {
    None,
    /// Writes may end in the volatile cache again.
    ToWriteback,
    /// From now on writes are durable when they end; what lies in the cache wants a flush.
    ToWriteThrough,
}

/// The configuration of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    facts: Fields,
    limits: Limits,
    writeback: bool,
}

/// What of the facts is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fields {
    capacity_sectors: u64,
    block_size: u32,
    physical_exponent: u8,
    min_io_blocks: u16,
    opt_io_blocks: u32,
    write_cache: bool,
    /// Discard granularity in sectors, 0 without discard.
    discard_sectors: u32,
}

impl Fields {
    fn new(facts: &Facts) -> Fields {
        let sectors_shift = facts.shift().saturating_sub(SECTOR_SHIFT);
        let granularity = facts.discard.map_or(0, |discard| discard.granularity.0.max(1));
        Fields {
            capacity_sectors: facts.capacity_bytes() / SECTOR,
            block_size: facts.block_size,
            physical_exponent: facts.physical_exponent,
            min_io_blocks: 1u16.checked_shl(u32::from(facts.physical_exponent)).unwrap_or(0),
            opt_io_blocks: u32::try_from(facts.optimal.0).unwrap_or(0),
            write_cache: facts.write_cache,
            discard_sectors: granularity
                .checked_mul(1 << sectors_shift)
                .and_then(|sectors| u32::try_from(sectors).ok())
                .unwrap_or(u32::MAX),
        }
    }
}

impl Config {
    /// As after a reset: writeback if there is a cache.
    pub fn new(facts: &Facts, limits: Limits) -> Config {
        Config { facts: Fields::new(facts), limits, writeback: facts.write_cache }
    }

    /// The `writeback` field, to be kept with the device's state.
    pub fn writeback(&self) -> bool {
        self.writeback
    }

    /// Sets it from kept state.
    pub fn restore_writeback(&mut self, writeback: bool) {
        self.writeback = writeback && self.facts.write_cache;
    }

    /// The volume changed. True: the driver sees another configuration and is to be notified.
    pub fn resized(&mut self, facts: &Facts) -> bool {
        let before = self.encode();
        self.facts = Fields::new(facts);
        self.writeback &= self.facts.write_cache;
        before != self.encode()
    }

    /// A device reset.
    pub fn reset(&mut self) {
        self.writeback = self.facts.write_cache;
    }

    pub(crate) fn data_max_bytes(&self) -> u64 {
        u64::from(self.limits.seg_max).saturating_mul(u64::from(Limits::SIZE_MAX_BYTES))
    }

    /// The structure as the driver reads it. Fields whose feature is not offered are zero or true
    /// all the same.
    pub fn encode(&self) -> [u8; CONFIG_BYTES] {
        let fields = &self.facts;
        let mut fill = Fill { bytes: [0; CONFIG_BYTES], at: 0 };
        fill.put(&fields.capacity_sectors.to_le_bytes());
        fill.put(&Limits::SIZE_MAX_BYTES.to_le_bytes());
        fill.put(&self.limits.seg_max.to_le_bytes());
        // Cylinders, heads, sectors: the shape that PC firmware gives to any disk of this size.
        let cylinders = fields.capacity_sectors / (16 * 63);
        fill.put(&u16::try_from(cylinders).unwrap_or(u16::MAX).to_le_bytes());
        fill.put(&[16, 63]);
        fill.put(&fields.block_size.to_le_bytes());
        // physical_block_exp, alignment_offset, min_io_size, opt_io_size.
        fill.put(&[fields.physical_exponent, 0]);
        fill.put(&fields.min_io_blocks.to_le_bytes());
        fill.put(&fields.opt_io_blocks.to_le_bytes());
        fill.put(&[u8::from(self.writeback), 0]);
        fill.put(&self.limits.queues.to_le_bytes());
        let discards = fields.discard_sectors != 0;
        let discard = |value: u32| if discards { value } else { 0 };
        fill.put(&discard(Limits::DISCARD_MAX_SECTORS).to_le_bytes());
        fill.put(&discard(Limits::SEGMENTS_MAX).to_le_bytes());
        fill.put(&fields.discard_sectors.to_le_bytes());
        fill.put(&Limits::WRITE_ZEROES_MAX_SECTORS.to_le_bytes());
        fill.put(&Limits::SEGMENTS_MAX.to_le_bytes());
        fill.put(&[u8::from(discards)]);
        fill.bytes
    }

    /// Fills `into` from `offset` on; zeroes behind the end.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        into.fill(0);
        let bytes = self.encode();
        for (into, from) in into.iter_mut().zip(bytes.get(offset..).unwrap_or(&[])) {
            *into = *from;
        }
    }

    /// The driver writes; only `writeback` takes it, and only where there is a cache (CONFIG_WCE is
    /// offered nowhere else).
    pub fn write(&mut self, offset: usize, from: &[u8]) -> WritebackChange {
        let value = WRITEBACK_AT.checked_sub(offset).and_then(|at| from.get(at));
        let wanted = match value {
            Some(value) if self.facts.write_cache => *value != 0,
            _ => return WritebackChange::None,
        };
        match (core::mem::replace(&mut self.writeback, wanted), wanted) {
            (true, false) => WritebackChange::ToWriteThrough,
            (false, true) => WritebackChange::ToWriteback,
            _ => WritebackChange::None,
        }
    }
}

/// Puts fields one behind the other.
struct Fill {
    bytes: [u8; CONFIG_BYTES],
    at: usize,
}

impl Fill {
    fn put(&mut self, field: &[u8]) {
        let rest = self.bytes.get_mut(self.at..).unwrap_or_default();
        for (into, from) in rest.iter_mut().zip(field) {
            *into = *from;
        }
        self.at = self.at.saturating_add(field.len());
    }
}
