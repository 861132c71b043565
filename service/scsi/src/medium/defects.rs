//! READ DEFECT DATA: a volume on a store has no defect lists, so they are empty.

use crate::execute::Call;
use crate::sense::Sense;
use crate::unit::{Unit, Verdict};

/// REQ_PLIST, REQ_GLIST and DEFECT LIST FORMAT, as the answer has them: PLISTV, GLISTV, and the
/// format. An empty list is the same in each format of SBC-4; 110b is the vendor's, 111b reserved.
fn lists(call: &Call<'_>, at: usize) -> Result<u8, Sense> {
    let asked = call.cdb.byte(at) & 0x1f;
    if asked & 0x07 > 0b101 {
        return Err(Sense::cdb_bit(at as u16, 2));
    }
    Ok(asked)
}

pub(crate) fn read_defect_data_10(_: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let lists = lists(call, 2)?;
    let allocation = usize::from(call.cdb.u16(7));
    Ok(call.reply(allocation, &[0, lists, 0, 0]))
}

/// ADDRESS DESCRIPTOR INDEX behind the end of the list is no error (SBC-4): there is no more.
pub(crate) fn read_defect_data_12(_: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let lists = lists(call, 1)?;
    let allocation = call.cdb.u32(6) as usize;
    Ok(call.reply(allocation, &[0, lists, 0, 0, 0, 0, 0, 0]))
}
