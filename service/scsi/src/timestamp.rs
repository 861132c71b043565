//! The unit's clock: REPORT TIMESTAMP and SET TIMESTAMP (SPC-5). It goes with the host's, by a
//! difference that an initiator may set, until the next loss of power.

use alloc::vec::Vec;

use crate::attention::Condition;
use crate::execute::Call;
use crate::sense::Sense;
use crate::state::Reader;
use crate::unit::{Response, Unit, Verdict};

/// A TIMESTAMP is six bytes of milliseconds.
const MASK: u64 = 0xffff_ffff_ffff;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    /// To be added to the host's milliseconds; `None`: nobody has set it.
    offset: Option<u64>,
}

impl Clock {
    pub fn state(self) -> Option<Vec<u8>> {
        self.offset.map(|offset| Vec::from(offset.to_le_bytes()))
    }

    pub fn restore(text: &mut Reader<'_>) -> Option<Clock> {
        Some(Clock { offset: Some(text.u64()?) })
    }
}

/// REPORT TIMESTAMP. TIMESTAMP ORIGIN is 010b once SET TIMESTAMP has set it; 011b, by other means,
/// before.
pub(crate) fn report(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let (origin, offset) = match unit.clock.offset {
        Some(offset) => (0x02, offset),
        None => (0x03, 0),
    };
    let now = call.clock_millis.wrapping_add(offset) & MASK;
    let mut data = [0; 12];
    data[1] = 0x0a; // TIMESTAMP PARAMETER DATA LENGTH
    data[2] = origin;
    data[4..10].copy_from_slice(&now.to_be_bytes()[2..]);
    let allocation = call.cdb.u32(6) as usize;
    Ok(call.reply(allocation, &data))
}

/// SET TIMESTAMP. The other initiators are told.
pub(crate) fn set(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    const LIST_BYTES: usize = 12;
    let length = call.cdb.u32(6);
    if length == 0 {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    if length < LIST_BYTES as u32 {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    }
    // What follows the twelve bytes is nothing.
    let Some(list) = call.parameters else { return Ok(Verdict::Parameters(LIST_BYTES)) };
    let list = list.get(..LIST_BYTES).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    let mut wanted = [0; 8];
    wanted[2..].copy_from_slice(&list[4..10]);
    let offset = u64::from_be_bytes(wanted).wrapping_sub(call.clock_millis);
    unit.clock.offset = Some(offset);
    unit.attend_all(Condition::TIMESTAMP, Some(call.nexus));
    Ok(Verdict::Respond(Response { data_out: LIST_BYTES as u64, ..Response::GOOD }))
}
