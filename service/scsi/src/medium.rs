//! READ, WRITE, VERIFY and SYNCHRONIZE CACHE in all their lengths (SBC-3).

use alloc::vec;
use request::{Blocks, Extent, Lba, Operation};

use crate::cdb::Cdb;
use crate::execute::Call;
use crate::limits::TRANSFER_MAX_BYTES;
use crate::plan::Plan;
use crate::sense::Sense;
use crate::unit::{Response, Unit, Verdict};

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

pub(crate) fn read(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let extent = Range::of(&call.cdb).transfer(unit)?;
    if extent.is_empty() {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    let read = Operation::Read(extent);
    let plan = if force_unit_access(&call.cdb) && unit.facts.write_cache {
        // FUA reads what is on the medium (SBC-3): newer data in a volatile cache is written
        // there first, or a power loss could take back what was read.
        Plan::list(vec![Operation::Flush, read]).unwrap_or_else(|| Plan::one(read))
    } else {
        Plan::one(read)
    };
    Ok(Verdict::Medium(plan.with_data_in(extent.len_bytes())))
}

pub(crate) fn write(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let extent = Range::of(&call.cdb).transfer(unit)?;
    if extent.is_empty() {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    let fua = force_unit_access(&call.cdb) || unit.writes_through();
    Ok(Verdict::Medium(Plan::one(Operation::Write { extent, fua }).with_data_out(extent.len_bytes())))
}

/// VERIFY with BYTCHK zero (others are outside the usage mask): cached blocks reach the medium, and
/// an error that kept them from it is told. The blocks are not read back: a file or block device
/// has no verification of its own.
pub(crate) fn verify(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let extent = Range::of(&call.cdb).transfer(unit)?;
    if extent.is_empty() {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    Ok(Verdict::Medium(Plan::one(Operation::Flush)))
}

/// A count of zero means to the end. The whole volume is flushed whatever the range; IMMED is
/// accepted, and the answer comes when the flush has ended, which promises more.
pub(crate) fn synchronize_cache(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    Range::of(&call.cdb).within(unit)?;
    Ok(Verdict::Medium(Plan::one(Operation::Flush)))
}
