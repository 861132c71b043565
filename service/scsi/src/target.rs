//! LUNs where no volume is: those that nobody uses, and the well known one.
//!
//! Both answer without a [`Unit`](crate::Unit), so no unit attention waits here.

use alloc::vec::Vec;

use crate::cdb::Cdb;
use crate::execute::Call;
use crate::inquiry::{self, ABSENT, WELL_KNOWN};
use crate::nexus::Nexus;
use crate::report;
use crate::rows;
use crate::task_set::{Attribute, TaskKey};
use crate::unit::{Command, Response, Verdict};
use crate::vpd;
use crate::{Format, Sense, primary};

/// A command to a LUN that is not there. INQUIRY says so in its peripheral qualifier, REPORT LUNS
/// lists those that are, REQUEST SENSE tells LOGICAL UNIT NOT SUPPORTED as data, and everything
/// else ends with it (SPC-4).
pub fn no_unit(command: &Command<'_>, out: &mut Vec<u8>) -> Verdict {
    answer(command, out, |call| match call.cdb.byte(0) {
        0x12 => inquire(call, ABSENT),
        0xa0 => report::reply_luns(call),
        0x03 => Ok(primary::reply_sense(call, Sense::LOGICAL_UNIT_NOT_SUPPORTED)),
        _ => Err(Sense::LOGICAL_UNIT_NOT_SUPPORTED),
    })
}

/// A command to the REPORT LUNS well known logical unit (SPC-4): INQUIRY, REPORT LUNS, REQUEST
/// SENSE and TEST UNIT READY are all that it knows.
pub fn well_known(command: &Command<'_>, out: &mut Vec<u8>) -> Verdict {
    answer(command, out, |call| match call.cdb.byte(0) {
        0x12 => inquire(call, WELL_KNOWN),
        0xa0 => report::reply_luns(call),
        0x03 => Ok(primary::reply_sense(call, Sense::NO_ADDITIONAL_SENSE_INFORMATION)),
        0x00 => Ok(Verdict::Respond(Response::GOOD)),
        _ => Err(Sense::INVALID_COMMAND_OPERATION_CODE),
    })
}

fn answer(
    command: &Command<'_>,
    out: &mut Vec<u8>,
    decide: fn(&mut Call<'_>) -> Result<Verdict, Sense>,
) -> Verdict {
    let cdb = Cdb::new(command.cdb);
    let mut call = Call {
        nexus: command.nexus,
        cdb,
        luns: command.luns,
        task: TaskKey(u32::MAX),
        parameters: None,
        data_out: 0,
        clock_millis: command.clock_millis,
        neighbours: None,
        note: None,
        out,
    };
    // Reserved bits are looked at in the commands that are answered here; any other is refused for
    // the LUN's reason, not for its own. A CDB that is cut short has no row.
    let checked = match rows::find_bare(command.cdb) {
        Some(row) if matches!(row.opcode, 0x00 | 0x03 | 0x12 | 0xa0) => row.check(&cdb),
        None if matches!(cdb.byte(0), 0x00 | 0x03 | 0x12 | 0xa0) => Err(Sense::INVALID_FIELD_IN_CDB),
        _ => Ok(()),
    };
    match checked.and_then(|()| decide(&mut call)) {
        Ok(verdict) => verdict,
        Err(sense) => Verdict::Respond(Response::check(sense, Format::Fixed)),
    }
}

/// INQUIRY without a volume: standard data, and the list of pages, which has itself only.
fn inquire(call: &mut Call<'_>, peripheral: u8) -> Result<Verdict, Sense> {
    let question = inquiry::question(call)?;
    match question.page {
        None => Ok(call.reply(question.allocation, &inquiry::standard(peripheral))),
        Some(0x00) => Ok(call.reply(question.allocation, &vpd::with_header(peripheral, 0x00, &[0x00]))),
        Some(_) => Err(Sense::cdb_byte(2)),
    }
}

/// A command that no unit gets: for [`no_unit`] and [`well_known`].
pub fn bare_command<'a>(cdb: &'a [u8], luns: &'a [u16]) -> Command<'a> {
    Command {
        nexus: Nexus(0),
        tag: 0,
        task: None,
        id: 0,
        attribute: Attribute::Simple,
        cdb,
        luns,
        data_out: 0,
        resumed: false,
        clock_millis: 0,
        neighbours: None,
    }
}
