//! Commands that read, write, compare and erase the medium (SBC-4).
//!
//! Those that are operations on the initiator's own buffers become a [`Plan`](crate::Plan); those
//! that look at data are machines ([`Work`](crate::Work)) which go through an extent in pieces of
//! scratch memory. What runs on after its answer stands in `erase`.

mod allocation;
mod combine;
mod defects;
mod erase;
mod format;
mod pieces;
mod sanitize;
mod transfer;
mod verify;

use request::{Blocks, Extent, Lba};

use crate::cdb::Cdb;
use crate::limits::TRANSFER_MAX_BYTES;
use crate::sense::Sense;
use crate::unit::Unit;

pub use allocation::Allocation;
pub(crate) use allocation::get_lba_status;
pub(crate) use combine::{COMPARE_AND_WRITE_MAX_BLOCKS, compare_and_write, orwrite};
pub(crate) use defects::{read_defect_data_10, read_defect_data_12};
pub(crate) use erase::{Erasing, Started};
pub(crate) use format::format_unit;
pub(crate) use sanitize::{block_erase, exit_failure_mode, overwrite};
pub(crate) use transfer::{prefetch, read, synchronize_cache, write, write_atomic};
pub(crate) use verify::{verify, write_and_verify};

/// The address and length fields of a CDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub first: Lba,
    pub count: Blocks,
    /// Where the count stands in the CDB, for the field pointer.
    pub count_at: u16,
}

impl Range {
    /// The operation code's group says where the fields are (SPC-4).
    pub fn of(cdb: &Cdb) -> Range {
        let (first, count, count_at) = match cdb.byte(0) >> 5 {
            0 => {
                // READ(6): 21 bits of address; a count of zero means 256 (SBC-3).
                let count = match cdb.byte(4) {
                    0 => 256,
                    count => u64::from(count),
                };
                (u64::from(cdb.u24(1) & 0x001f_ffff), count, 4)
            }
            4 => (cdb.u64(2), u64::from(cdb.u32(10)), 10),
            5 => (u64::from(cdb.u32(2)), u64::from(cdb.u32(6)), 6),
            _ => (u64::from(cdb.u32(2)), u64::from(cdb.u16(7)), 7),
        };
        Range { first: Lba(first), count: Blocks(count), count_at }
    }

    /// The blocks, if they are there. An address behind the end is an error even with no blocks.
    pub fn within(self, unit: &Unit) -> Result<Extent, Sense> {
        if self.first.0 >= unit.facts.blocks.0 {
            return Err(Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE);
        }
        unit.facts.extent(self.first, self.count).ok_or(Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
    }

    /// MAXIMUM TRANSFER LENGTH and its kin (SBC-3): above it, INVALID FIELD IN CDB.
    pub fn at_most(self, unit: &Unit, bytes: u64) -> Result<(), Sense> {
        if self.count.0 > bytes >> unit.facts.shift() {
            return Err(Sense::cdb_byte(self.count_at));
        }
        Ok(())
    }

    fn transfer(self, unit: &Unit) -> Result<Extent, Sense> {
        self.at_most(unit, TRANSFER_MAX_BYTES)?;
        self.within(unit)
    }
}

/// FUA is bit 3 of byte 1; the 6-byte commands have address bits there. DPO (bit 4) is advice on
/// retention that nothing here takes.
fn force_unit_access(cdb: &Cdb) -> bool {
    cdb.byte(0) >= 0x20 && cdb.bit(1, 3)
}
