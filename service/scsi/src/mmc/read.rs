//! READ CD and READ CD MSF, as far as an image has it: the user data of mode 1.

use request::{Blocks, Lba, Operation};

use super::PREGAP_BLOCKS;
use crate::cdb::Cdb;
use crate::execute::Call;
use crate::limits::TRANSFER_MAX_BYTES;
use crate::medium::Range;
use crate::plan::Plan;
use crate::sense::Sense;
use crate::unit::{Response, Unit, Verdict};

pub(crate) fn read_cd(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let first = u64::from(call.cdb.u32(2));
    let count = u64::from(call.cdb.u24(6));
    read(unit, call, Range { first: Lba(first), count: Blocks(count), count_at: 6 })
}

/// The end is that of the last block: the address behind it.
pub(crate) fn read_cd_msf(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let first = block(&call.cdb, 3)?;
    let end = block(&call.cdb, 6)?;
    let count = end.checked_sub(first).ok_or(Sense::cdb_byte(6))?;
    read(unit, call, Range { first: Lba(first), count: Blocks(count), count_at: 6 })
}

/// The block of an MSF address in the CDB.
fn block(cdb: &Cdb, at: usize) -> Result<u64, Sense> {
    let [minutes, seconds, frames] = [cdb.byte(at), cdb.byte(at + 1), cdb.byte(at + 2)].map(u64::from);
    if seconds >= 60 || frames >= 75 {
        return Err(Sense::cdb_byte(at as u16));
    }
    let frames = (minutes * 60 + seconds) * 75 + frames;
    frames.checked_sub(PREGAP_BLOCKS).ok_or(Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
}

/// EXPECTED SECTOR TYPE: any, or mode 1.
const ANY: u8 = 0;
const MODE_1: u8 = 2;
/// MAIN CHANNEL SELECTION: user data.
const USER_DATA: u8 = 0x10;

fn read(unit: &Unit, call: &Call<'_>, range: Range) -> Result<Verdict, Sense> {
    let sector_type = call.cdb.byte(1) >> 2 & 0x07;
    if sector_type != ANY && sector_type != MODE_1 {
        return Err(Sense::ILLEGAL_MODE_FOR_THIS_TRACK);
    }
    if call.cdb.byte(10) & 0x07 != 0 {
        return Err(Sense::cdb_bit(10, 2)); // SUB-CHANNEL SELECTION
    }
    let channel = call.cdb.byte(9);
    if channel != USER_DATA && channel != 0 {
        return Err(Sense::cdb_byte(9));
    }
    range.at_most(unit, TRANSFER_MAX_BYTES)?;
    let extent = range.within(unit)?;
    if extent.is_empty() || channel == 0 {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    Ok(Verdict::Medium(Plan::one(Operation::Read(extent)).with_data_in(extent.len_bytes())))
}

/// SET CD SPEED: as fast as the store is, whatever was wished.
pub(crate) fn set_cd_speed(_: &mut Unit, _: &mut Call<'_>) -> Result<Verdict, Sense> {
    Ok(Verdict::Respond(Response::GOOD))
}
