//! READ and WRITE in all their lengths, WRITE ATOMIC, PRE-FETCH and SYNCHRONIZE CACHE.

use alloc::vec;
use request::{Blocks, Lba, Operation};

use super::{Range, force_unit_access};
use crate::execute::Call;
use crate::plan::Plan;
use crate::sense::Sense;
use crate::unit::{Response, Unit, Verdict};

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

/// WRITE ATOMIC(16), SBC-4: none of it or all of it, for whoever reads it (its blocks are its own
/// while it runs) and after a loss of power (the store's promise). ATOMIC BOUNDARY is outside the
/// usage mask: the write is one, never several between boundaries. The address is looked at before
/// the limits, so that an address behind the end is called that.
pub(crate) fn write_atomic(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let range =
        Range { first: Lba(call.cdb.u64(2)), count: Blocks(u64::from(call.cdb.u16(12))), count_at: 12 };
    let extent = range.transfer(unit)?;
    let atomic = unit.facts.atomic.ok_or(Sense::INVALID_COMMAND_OPERATION_CODE)?;
    if extent.is_empty() {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    if !atomic.covers(extent) {
        let aligned = extent.first().0.is_multiple_of(atomic.alignment.0.max(1));
        return Err(Sense::cdb_byte(if aligned { range.count_at } else { 2 }));
    }
    let fua = force_unit_access(&call.cdb) || unit.writes_through();
    let plan = Plan::one(Operation::WriteAtomic { extent, fua }).with_data_out(extent.len_bytes());
    Ok(Verdict::Medium(plan.exclusive()))
}

/// PRE-FETCH, SBC-4: GOOD says that not all of the blocks are in a cache, CONDITION MET that they
/// are. Nothing here has a cache of which that could be said. A count of zero means to the end.
pub(crate) fn prefetch(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    Range::of(&call.cdb).within(unit)?;
    Ok(Verdict::Respond(Response::GOOD))
}

/// A count of zero means to the end. The whole volume is flushed whatever the range; IMMED is
/// accepted, and the answer comes when the flush has ended, which promises more. So is SYNC_NV, of
/// SBC-3's drafts: there is no non-volatile cache between.
pub(crate) fn synchronize_cache(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    Range::of(&call.cdb).within(unit)?;
    Ok(Verdict::Medium(Plan::one(Operation::Flush)))
}
