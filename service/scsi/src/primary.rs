//! TEST UNIT READY, REQUEST SENSE, START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL.

use request::Operation;

use crate::execute::Call;
use crate::plan::Plan;
use crate::sense::{Format, Sense};
use crate::unit::{Response, Unit, Verdict};

/// TEST UNIT READY. That the medium can be reached at all is known to the backend alone, which
/// answers each operation with it; here a unit is ready unless it was stopped.
pub(crate) fn test_unit_ready(unit: &mut Unit, _call: &mut Call<'_>) -> Result<Verdict, Sense> {
    if unit.facts.blocks.0 == 0 {
        return Err(Sense::MEDIUM_NOT_PRESENT);
    }
    Ok(Verdict::Respond(Response::GOOD))
}

/// START STOP UNIT, SBC-3. Stopping flushes first, unless NO_FLUSH says not to. IMMED is accepted;
/// the answer comes when the work is done, which promises more.
pub(crate) fn start_stop_unit(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let stopped = !call.cdb.bit(4, 0);
    let no_flush = call.cdb.bit(4, 2);
    if unit.stopped != stopped {
        unit.stopped = stopped;
        unit.dirty = true;
    }
    if stopped && !no_flush {
        return Ok(Verdict::Medium(Plan::one(Operation::Flush)));
    }
    Ok(Verdict::Respond(Response::GOOD))
}

/// PREVENT ALLOW MEDIUM REMOVAL, SBC-3: the medium cannot be removed in any case.
pub(crate) fn prevent_allow(_unit: &mut Unit, _call: &mut Call<'_>) -> Result<Verdict, Sense> {
    Ok(Verdict::Respond(Response::GOOD))
}

/// REQUEST SENSE, SPC-4: a pending condition is told, and thereby cleared, as parameter data.
pub(crate) fn request_sense(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let sense = match unit.tell(call.nexus) {
        Some(sense) => sense,
        None if let Some(sense) = unit.erasing_sense() => sense,
        None if unit.stopped => Sense::NOT_READY_INITIALIZING_COMMAND_REQUIRED,
        None => Sense::NO_ADDITIONAL_SENSE_INFORMATION,
    };
    Ok(reply_sense(call, sense))
}

/// REQUEST SENSE chooses the layout itself, by its DESC bit.
pub(crate) fn reply_sense(call: &mut Call<'_>, sense: Sense) -> Verdict {
    let format = if call.cdb.bit(1, 0) { Format::Descriptor } else { Format::Fixed };
    call.reply(usize::from(call.cdb.byte(4)), &sense.encode(format))
}
