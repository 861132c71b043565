//! SANITIZE, SBC-4: each service action is a row of its own.

use alloc::vec::Vec;

use super::erase::{Origin, Task, start};
use crate::execute::Call;
use crate::sense::Sense;
use crate::unit::{Response, Unit, Verdict};

/// OVERWRITE parameter list: four bytes, then the initialization pattern.
const HEADER_BYTES: usize = 4;

fn immediate(call: &Call<'_>) -> bool {
    call.cdb.bit(1, 7)
}

/// AUSE. After a failure in restricted completion mode only another restricted one may follow
/// (SBC-4).
fn allow_unrestricted(unit: &Unit, call: &Call<'_>) -> Result<bool, Sense> {
    let unrestricted = call.cdb.bit(1, 5);
    if unrestricted && unit.failed_sanitize() == Some(false) {
        return Err(Sense::cdb_bit(1, 5));
    }
    Ok(unrestricted)
}

pub(crate) fn overwrite(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let unrestricted = allow_unrestricted(unit, call)?;
    let length = usize::from(call.cdb.u16(7));
    // At least a byte of pattern and at most a block of it.
    if length <= HEADER_BYTES || length > HEADER_BYTES + unit.facts.block_size as usize {
        return Err(Sense::cdb_byte(7));
    }
    let Some(list) = call.parameters else { return Ok(Verdict::Parameters(length)) };
    let list = list.get(..length).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    let (header, pattern) = list.split_at(HEADER_BYTES);
    // TEST: the one mode is to write it all.
    if header[0] & 0x60 != 0 {
        return Err(Sense::parameter_bit(0, 6));
    }
    let passes = header[0] & 0x1f;
    if passes == 0 {
        return Err(Sense::parameter_bit(0, 4));
    }
    if header[1] != 0 {
        return Err(Sense::parameter_byte(1));
    }
    let pattern_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if pattern_length != pattern.len() {
        return Err(Sense::parameter_byte(2));
    }
    let task = Task {
        origin: Origin::Overwrite,
        pattern: Vec::from(pattern),
        passes,
        invert: header[0] & 0x80 != 0,
        unrestricted,
    };
    start(unit, task, immediate(call), length as u64)
}

/// BLOCK ERASE: the blocks are zeroed by the store's own way, and give their space back. A parameter
/// list is outside the usage mask.
pub(crate) fn block_erase(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let unrestricted = allow_unrestricted(unit, call)?;
    let task =
        Task { origin: Origin::BlockErase, pattern: Vec::new(), passes: 1, invert: false, unrestricted };
    start(unit, task, immediate(call), 0)
}

/// EXIT FAILURE MODE: the failed sanitize counts as done, where AUSE had allowed that.
pub(crate) fn exit_failure_mode(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let _ = call;
    match unit.failed_sanitize() {
        Some(true) => unit.forgive(),
        Some(false) => return Err(Sense::cdb_bit(1, 4)),
        None => {}
    }
    Ok(Verdict::Respond(Response::GOOD))
}
