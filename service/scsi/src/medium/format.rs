//! FORMAT UNIT, SBC-4: the medium as new, without protection information and without defect lists.

use alloc::vec::Vec;

use super::erase::{Origin, Task, start};
use crate::execute::Call;
use crate::sense::Sense;
use crate::unit::{Unit, Verdict};

/// Parameter list headers.
const SHORT_BYTES: usize = 4;
const LONG_BYTES: usize = 8;
/// The initialization pattern descriptor's header.
const PATTERN_BYTES: usize = 4;

/// FMTPINFO is outside the usage mask: zero, no protection information.
pub(crate) fn format_unit(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let (longlist, fmtdata, cmplst) = (call.cdb.bit(1, 5), call.cdb.bit(1, 4), call.cdb.bit(1, 3));
    let mut task =
        Task { origin: Origin::Format, pattern: Vec::new(), passes: 1, invert: false, unrestricted: false };
    if !fmtdata {
        // Without a parameter list there is none to complete, and its format means nothing.
        return if cmplst { Err(Sense::cdb_bit(1, 3)) } else { start(unit, task, false, 0) };
    }
    let header_bytes = if longlist { LONG_BYTES } else { SHORT_BYTES };
    let most = header_bytes + PATTERN_BYTES + unit.facts.block_size as usize;
    let Some(list) = call.parameters else {
        // The CDB has no length: as much as there is of what there may be.
        let offered = usize::try_from(call.data_out).unwrap_or(usize::MAX).min(most);
        if offered < header_bytes {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
        }
        return Ok(Verdict::Parameters(offered));
    };
    let header = list.get(..header_bytes).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    // PROTECTION FIELD USAGE.
    if header[0] & 0x07 != 0 {
        return Err(Sense::parameter_bit(0, 2));
    }
    let flags = header[1];
    let (valid, pattern_follows, immediate) = (flags & 0x80 != 0, flags & 0x08 != 0, flags & 0x02 != 0);
    // FOV zero: DPRY, DCRT, STPF, IP and the obsolete bit have to be zero too.
    if !valid && flags & 0x7c != 0 {
        return Err(Sense::parameter_bit(1, 7));
    }
    let defect_list_length = if longlist {
        // P_I_INFORMATION and PROTECTION INTERVAL EXPONENT.
        if header[3] != 0 {
            return Err(Sense::parameter_byte(3));
        }
        u32::from_be_bytes([header[4], header[5], header[6], header[7]])
    } else {
        u32::from(u16::from_be_bytes([header[2], header[3]]))
    };
    if defect_list_length != 0 {
        // A store has no blocks to be kept away from.
        return Err(Sense::parameter_byte(if longlist { 4 } else { 2 }));
    }
    let mut data_out = header_bytes;
    if pattern_follows {
        let at = header_bytes as u16; // 4 or 8
        let rest = list.get(header_bytes..).unwrap_or_default();
        let head = rest.get(..PATTERN_BYTES).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        // SI and the obsolete modifier.
        if head[0] & 0xe0 != 0 {
            return Err(Sense::parameter_byte(at));
        }
        match head[1] {
            // The default pattern: zeroes. It has no length.
            0x00 if length == 0 => {}
            // Repeated in each block, and no longer than one.
            0x01 if length > 0 && length <= unit.facts.block_size as usize => {
                let pattern = rest.get(PATTERN_BYTES..PATTERN_BYTES + length);
                task.pattern = Vec::from(pattern.ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?);
            }
            0x00 | 0x01 => return Err(Sense::parameter_byte(at + 2)),
            _ => return Err(Sense::parameter_byte(at + 1)),
        }
        data_out += PATTERN_BYTES + task.pattern.len();
    }
    start(unit, task, immediate, data_out as u64)
}
