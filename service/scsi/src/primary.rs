//! REQUEST SENSE.

use crate::execute::Call;
use crate::removable;
use crate::sense::{Format, Sense};
use crate::unit::{Unit, Verdict};

/// REQUEST SENSE, SPC-5: a pending condition is told, and thereby cleared, as parameter data; then
/// what goes on in the background, then how the unit rests.
pub(crate) fn request_sense(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let sense = match unit.tell(call.nexus) {
        Some(sense) => sense,
        None => unit.erasing_sense().unwrap_or_else(|| removable::rest(unit)),
    };
    Ok(reply_sense(call, sense))
}

/// REQUEST SENSE chooses the layout itself, by its DESC bit.
pub(crate) fn reply_sense(call: &mut Call<'_>, sense: Sense) -> Verdict {
    let format = if call.cdb.bit(1, 0) { Format::Descriptor } else { Format::Fixed };
    call.reply(usize::from(call.cdb.byte(4)), &sense.encode(format))
}
