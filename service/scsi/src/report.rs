//! What there is: REPORT LUNS, REPORT SUPPORTED OPERATION CODES, REPORT SUPPORTED TASK MANAGEMENT
//! FUNCTIONS.

use alloc::vec::Vec;

use crate::attention::Condition;
use crate::execute::Call;
use crate::rows::{self, Row};
use crate::sense::Sense;
use crate::unit::{Response, Unit, Verdict};

/// REPORT LUNS to a unit, SPC-5. It tells what REPORTED LUNS DATA HAS CHANGED would have told.
pub(crate) fn report_luns(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let verdict = reply_luns(call)?;
    if unit.attentions.clear(call.nexus, Condition::LUNS) {
        unit.dirty = true;
    }
    Ok(verdict)
}

/// The REPORT LUNS well known logical unit, SAM-5.
const REPORT_LUNS_WLUN: [u8; 8] = [0xc1, 0x01, 0, 0, 0, 0, 0, 0];

/// The list itself, the same whichever LUN it is asked of.
pub(crate) fn reply_luns(call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let allocation = call.cdb.u32(6) as usize;
    // SELECT REPORT. No unit is an administrative one or belongs to one (10h, 12h).
    let (units, well_known) = match call.cdb.byte(2) {
        0x00 | 0x11 => (true, false),
        0x01 => (false, true),
        0x02 => (true, true),
        0x10 | 0x12 => (false, false),
        _ => return Err(Sense::cdb_byte(2)),
    };
    let start = call.out.len();
    call.out.extend_from_slice(&[0; 8]);
    if units {
        for lun in call.luns {
            call.out.extend_from_slice(&encode(*lun));
        }
    }
    if well_known {
        call.out.extend_from_slice(&REPORT_LUNS_WLUN);
    }
    // LUN LIST LENGTH: at most 16,385 entries of 8 bytes.
    let length = (call.out.len() - start - 8) as u32;
    call.out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    call.out.truncate(start.saturating_add(allocation).min(call.out.len()));
    Ok(Verdict::Respond(Response::GOOD))
}

/// Peripheral device addressing up to 255, flat space addressing above (SAM-5): what Linux
/// and Windows print as the number itself.
fn encode(lun: u16) -> [u8; 8] {
    let [high, low] = lun.to_be_bytes();
    let method = if high == 0 { 0x00 } else { 0x40 };
    [method | (high & 0x3f), low, 0, 0, 0, 0, 0, 0]
}

/// REPORT SUPPORTED OPERATION CODES, SPC-5.
pub(crate) fn supported_operation_codes(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let with_timeouts = call.cdb.bit(2, 7); // RCTD
    let opcode = call.cdb.byte(3);
    let action = call.cdb.u16(4);
    let allocation = call.cdb.u32(6) as usize;
    let mut data = Vec::new();
    let option = call.cdb.byte(2) & 0x07;
    if option == 0 {
        all_commands(unit, with_timeouts, &mut data);
    } else {
        let mut family = rows::with_opcode(opcode, unit).peekable();
        let has_actions = family.peek().is_some_and(|row| row.action.is_some());
        let known = family.peek().is_some();
        let row = match option {
            // Without a service action, of a command that needs one.
            1 if has_actions => return Err(Sense::cdb_bit(2, 2)),
            1 => family.next(),
            // With a service action, of a command that has none.
            2 if known && !has_actions => return Err(Sense::cdb_bit(2, 2)),
            // SPC-5: the same question without the two errors.
            2 | 3 => family.find(|row| u16::from(row.action.unwrap_or(0)) == action),
            _ => return Err(Sense::cdb_bit(2, 2)),
        };
        one_command(row, with_timeouts, &mut data);
    }
    Ok(call.reply(allocation, &data))
}

/// SPC-5, the all_commands format: a list with a header of four bytes.
fn all_commands(unit: &Unit, with_timeouts: bool, data: &mut Vec<u8>) {
    data.extend_from_slice(&[0; 4]);
    for row in rows::rows().iter().filter(|row| row.is_available(unit)) {
        let [length_high, length_low] = (row.usage.len() as u16).to_be_bytes();
        let flags = u8::from(with_timeouts) << 1 | u8::from(row.action.is_some()); // CTDP, SERVACTV
        let action = row.action.unwrap_or(0);
        data.extend_from_slice(&[row.opcode, 0, 0, action, 0, flags, length_high, length_low]);
        if with_timeouts {
            timeouts(row, data);
        }
    }
    // 30 rows of 20 bytes.
    let length = (data.len() - 4) as u32;
    data[..4].copy_from_slice(&length.to_be_bytes());
}

/// SPC-5, the one_command format. SUPPORT is 011b for a command as the standard has it, 001b for none.
fn one_command(row: Option<&Row>, with_timeouts: bool, data: &mut Vec<u8>) {
    let Some(row) = row else {
        data.extend_from_slice(&[0, 0x01, 0, 0]);
        return;
    };
    let support = u8::from(with_timeouts) << 7 | 0x03;
    let [length_high, length_low] = (row.usage.len() as u16).to_be_bytes();
    data.extend_from_slice(&[0, support, length_high, length_low]);
    data.extend_from_slice(row.usage);
    if with_timeouts {
        timeouts(row, data);
    }
}

/// Command time-outs descriptor, SPC-5. No nominal time is claimed: how long a command
/// takes is the store's affair.
fn timeouts(row: &Row, data: &mut Vec<u8>) {
    data.extend_from_slice(&[0x00, 0x0a, 0, 0, 0, 0, 0, 0]);
    data.extend_from_slice(&row.timeout_seconds.to_be_bytes());
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS, SPC-5: ATS, ATSS, CTSS, LURS, QTS, TRS; QAES, QTSS,
/// ITNRS. Not CLEAR ACA (CACAS), since NORMACA is zero, nor WAKEUP.
pub(crate) fn supported_task_management_functions(
    _unit: &mut Unit,
    call: &mut Call<'_>,
) -> Result<Verdict, Sense> {
    const FUNCTIONS: [u8; 2] = [0xde, 0x07];
    let allocation = call.cdb.u32(6) as usize;
    if allocation < 4 {
        return Err(Sense::cdb_byte(6));
    }
    let mut data = [0; 16];
    data[..2].copy_from_slice(&FUNCTIONS);
    if call.cdb.bit(2, 7) {
        // REPD: the extended form, whose time-outs are not given (TMFTMOV zero).
        data[3] = 0x0c;
        return Ok(call.reply(allocation, &data));
    }
    Ok(call.reply(allocation, &data[..4]))
}
