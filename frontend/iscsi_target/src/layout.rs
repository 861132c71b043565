//! How the memory of a connection is laid out. All offsets follow from the [`Limits`], which stand
//! at its head.
//!
//! ```text
//!  0        magic, version, limits                        written once
//!  256      the number of the valid commit                the one store of a commit
//!  512      hot state, twice
//!  4096     cold state (login, text), twice
//!  …        task entries, twice each; sense data, once each
//!  …        transmit: pieces; headers and small data
//!  ring     receive ring
//!  data     a slot for each task; then the pool that long commands share
//! ```

use guest_memory::Window;
use request::Span;

use crate::limits::Limits;

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"SPISCSI\0");
pub(crate) const VERSION: u64 = 1;

pub(crate) const MAGIC_AT: usize = 0;
pub(crate) const VERSION_AT: usize = 8;
const LIMITS_AT: usize = 16;
pub(crate) const PORTAL_AT: usize = 128;
pub(crate) const CREATED_AT: usize = 136;
/// The connection's own address as text: one length byte, at most 63 bytes.
pub(crate) const LOCAL_AT: usize = 144;
pub(crate) const LOCAL_MAX_BYTES: usize = 63;
pub(crate) const COMMIT_AT: usize = 256;
pub(crate) const HOT_AT: usize = 512;
pub(crate) const HOT_WORDS: usize = 32;
pub(crate) const COLD_AT: usize = 4096;
/// The longest cold state: an answer to SendTargets that goes on over many PDUs.
pub(crate) const COLD_MAX_BYTES: usize = 256 << 10;
pub(crate) const COLD_COPY_BYTES: usize = COLD_MAX_BYTES + 64;
pub(crate) const ENTRY_WORDS: usize = 26;
pub(crate) const ENTRY_BYTES: usize = ENTRY_WORDS * 8;
pub(crate) const SENSE_BYTES: usize = 256;
/// Pieces that wait to be sent.
pub(crate) const PIECES: u64 = 2048;
/// Headers, digests, sense and other small data that wait to be sent.
pub(crate) const HEADERS_BYTES: u64 = 256 << 10;
/// The unit in which the pool is given out.
pub(crate) const POOL_UNIT_BYTES: u32 = 64 << 10;

const PAGE: usize = 4096;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub limits: Limits,
    pub entries: usize,
    pub sense: usize,
    pub pieces: usize,
    pub headers: usize,
    pub ring: usize,
    pub slots: usize,
    pub pool: usize,
    pub end: usize,
}

impl Layout {
    /// `limits` were checked: no sum here comes near an overflow.
    #[allow(clippy::arithmetic_side_effects)]
    pub fn new(limits: Limits) -> Layout {
        let tasks = usize::from(limits.commands) + usize::from(limits.immediate);
        let entries = (COLD_AT + 2 * COLD_COPY_BYTES).next_multiple_of(PAGE);
        let sense = (entries + tasks * 2 * ENTRY_BYTES).next_multiple_of(PAGE);
        let pieces = (sense + tasks * SENSE_BYTES).next_multiple_of(PAGE);
        let headers = pieces + PIECES as usize * 8;
        let ring = headers + HEADERS_BYTES as usize;
        let slots = ring + limits.ring_bytes as usize;
        let pool = slots + tasks * limits.slot_bytes as usize;
        let end = pool + limits.pool_bytes as usize;
        Layout { limits, entries, sense, pieces, headers, ring, slots, pool, end }
    }

    pub fn tasks(&self) -> u16 {
        self.limits.commands.saturating_add(self.limits.immediate)
    }

    pub fn entry(&self, slot: u16, copy: usize) -> usize {
        let index = usize::from(slot).wrapping_mul(2).wrapping_add(copy & 1);
        self.entries.wrapping_add(index.wrapping_mul(ENTRY_BYTES))
    }

    pub fn sense(&self, slot: u16) -> usize {
        self.sense.wrapping_add(usize::from(slot).wrapping_mul(SENSE_BYTES))
    }

    pub fn hot(commit: u64) -> usize {
        HOT_AT.wrapping_add((commit as usize & 1).wrapping_mul(HOT_WORDS * 8))
    }

    /// Below `end`, which has 64 bits to spare.
    #[allow(clippy::arithmetic_side_effects)]
    pub fn slot(&self, slot: u16) -> Span {
        let at = self.slots as u64 + u64::from(slot) * u64::from(self.limits.slot_bytes);
        Span { offset: at, len: self.limits.slot_bytes, region: 0 }
    }
}

impl Limits {
    fn words(&self) -> [u64; 10] {
        [
            u64::from(self.commands),
            u64::from(self.immediate),
            u64::from(self.slot_bytes),
            u64::from(self.pool_bytes),
            u64::from(self.ring_bytes),
            u64::from(self.burst_bytes),
            u64::from(self.r2t),
            u64::from(self.login_seconds),
            u64::from(self.nop_seconds),
            u64::from(self.nop_answer_seconds),
        ]
    }

    pub(crate) fn save(&self, window: &Window) {
        for (index, word) in self.words().into_iter().enumerate() {
            window.store_u64(LIMITS_AT.wrapping_add(index.wrapping_mul(8)), word);
        }
    }

    pub(crate) fn load(window: &Window) -> Option<Limits> {
        let word = |index: usize| window.load_u64(LIMITS_AT.wrapping_add(index.wrapping_mul(8)));
        let short = |index| u16::try_from(word(index)).ok();
        let long = |index| u32::try_from(word(index)).ok();
        Some(Limits {
            commands: short(0)?,
            immediate: short(1)?,
            slot_bytes: long(2)?,
            pool_bytes: long(3)?,
            ring_bytes: long(4)?,
            burst_bytes: long(5)?,
            r2t: short(6)?,
            login_seconds: short(7)?,
            nop_seconds: short(8)?,
            nop_answer_seconds: short(9)?,
        })
    }

    /// Bytes of memory that one connection needs. Most of them are never touched: pages of slots
    /// and of the pool are used lowest first.
    pub fn memory_bytes(&self) -> usize {
        Layout::new(*self).end
    }
}
