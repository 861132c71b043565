//! The command table. A row is all there is to know about a command before its fields are read:
//! its CDB length, which bits it looks at (any other bit set is INVALID FIELD IN CDB), when it is
//! allowed, and who decodes it. REPORT SUPPORTED OPERATION CODES and docs/scsi.md are made from
//! the rows.

use alloc::string::String;
use core::fmt::Write;
use request::Facts;

use crate::cdb::Cdb;
use crate::sense::Sense;
use crate::unit::Decode;
use crate::{inquiry, medium, mode, provisioning, report, unit};

/// Which way a command's data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPhase {
    None,
    /// To the initiator.
    In,
    /// From the initiator.
    Out,
}

/// One command.
pub struct Row {
    pub name: &'static str,
    pub opcode: u8,
    /// For an operation code that many commands share: byte 1, bits 4 to 0.
    pub action: Option<u8>,
    /// CDB USAGE DATA as SPC-4 has it: the operation code, the service action in its
    /// field, and elsewhere the bits that are looked at. Its length is the CDB's.
    pub usage: &'static [u8],
    pub data: DataPhase,
    /// RECOMMENDED COMMAND TIMEOUT in seconds. A matter of policy: longer than the server waits
    /// for a store before it gives up, so that an initiator hears the reason and not silence.
    pub timeout_seconds: u32,
    /// Runs although a unit attention condition is pending (SAM-5).
    pub past_attention: bool,
    /// Not while the unit is stopped.
    pub needs_start: bool,
    /// Not on a write-protected unit.
    pub writes: bool,
    /// Only on a unit whose store gives space back.
    pub thin: bool,
    /// Made from `usage`: the bits that must be zero.
    reserved: u128,
    pub(crate) decode: Decode,
}

impl Row {
    pub(crate) fn is_available(&self, facts: &Facts) -> bool {
        !self.thin || facts.discard.is_some()
    }

    /// Any bit outside the usage mask is refused, with a pointer to it (SPC-4 lets a
    /// device server check reserved fields).
    pub(crate) fn check(&self, cdb: &Cdb) -> Result<(), Sense> {
        let wrong = cdb.word() & self.reserved;
        if wrong == 0 {
            return Ok(());
        }
        let byte = wrong.trailing_zeros() / 8;
        let bits = (wrong >> (byte * 8)) as u8;
        // Both numbers are below 16.
        Err(Sense::cdb_bit(byte as u16, bits.ilog2() as u8))
    }
}

/// What most rows say.
const ROW: Row = Row {
    name: "",
    opcode: 0,
    action: None,
    usage: &[],
    data: DataPhase::None,
    timeout_seconds: 60,
    past_attention: false,
    needs_start: false,
    writes: false,
    thin: false,
    reserved: 0,
    decode: unit::test_unit_ready,
};

const READ: Row = Row { data: DataPhase::In, needs_start: true, decode: medium::read, ..ROW };
const WRITE: Row =
    Row { data: DataPhase::Out, needs_start: true, writes: true, decode: medium::write, ..ROW };
/// A flush waits for everything that was written before it.
const FLUSH: Row = Row { needs_start: true, timeout_seconds: 120, decode: medium::synchronize_cache, ..ROW };
const SPACE: Row = Row {
    data: DataPhase::Out,
    needs_start: true,
    writes: true,
    timeout_seconds: 120,
    decode: provisioning::unmap,
    ..ROW
};
const ASK: Row = Row { data: DataPhase::In, decode: mode::sense_6, ..ROW };

const R: u8 = 0x00;
const F: u8 = 0xff;
/// GROUP NUMBER: accepted, and without effect since VPD page 86h has GROUP_SUP zero.
const G: u8 = 0x3f;

/// All commands, by operation code and service action.
static ROWS: [Row; 30] = with_masks([
    Row { name: "TEST UNIT READY", opcode: 0x00, usage: &[0x00, R, R, R, R, R], needs_start: true, ..ROW },
    Row {
        name: "REQUEST SENSE",
        opcode: 0x03,
        usage: &[0x03, 0x01, R, R, F, R],
        past_attention: true,
        decode: unit::request_sense,
        ..ASK
    },
    Row { name: "READ(6)", opcode: 0x08, usage: &[0x08, 0x1f, F, F, F, R], ..READ },
    Row { name: "WRITE(6)", opcode: 0x0a, usage: &[0x0a, 0x1f, F, F, F, R], ..WRITE },
    Row {
        name: "INQUIRY",
        opcode: 0x12,
        usage: &[0x12, 0x01, F, F, F, R],
        past_attention: true,
        decode: inquiry::inquiry,
        ..ASK
    },
    Row {
        name: "MODE SELECT(6)",
        opcode: 0x15,
        usage: &[0x15, 0x10, R, R, F, R],
        data: DataPhase::Out,
        decode: mode::select_6,
        ..ROW
    },
    Row { name: "MODE SENSE(6)", opcode: 0x1a, usage: &[0x1a, 0x08, F, F, F, R], ..ASK },
    Row {
        name: "START STOP UNIT",
        opcode: 0x1b,
        usage: &[0x1b, 0x01, R, R, 0x05, R],
        timeout_seconds: 120,
        decode: unit::start_stop_unit,
        ..ROW
    },
    Row {
        name: "PREVENT ALLOW MEDIUM REMOVAL",
        opcode: 0x1e,
        usage: &[0x1e, R, R, R, 0x01, R],
        decode: unit::prevent_allow,
        ..ROW
    },
    Row {
        name: "READ CAPACITY(10)",
        opcode: 0x25,
        usage: &[0x25, R, R, R, R, R, R, R, R, R],
        needs_start: true,
        decode: inquiry::read_capacity_10,
        ..ASK
    },
    Row { name: "READ(10)", opcode: 0x28, usage: &[0x28, 0x18, F, F, F, F, G, F, F, R], ..READ },
    Row { name: "WRITE(10)", opcode: 0x2a, usage: &[0x2a, 0x18, F, F, F, F, G, F, F, R], ..WRITE },
    Row {
        name: "VERIFY(10)",
        opcode: 0x2f,
        usage: &[0x2f, 0x10, F, F, F, F, G, F, F, R],
        decode: medium::verify,
        ..FLUSH
    },
    Row {
        name: "SYNCHRONIZE CACHE(10)",
        opcode: 0x35,
        usage: &[0x35, 0x02, F, F, F, F, G, F, F, R],
        ..FLUSH
    },
    Row {
        name: "WRITE SAME(10)",
        opcode: 0x41,
        usage: &[0x41, 0x08, F, F, F, F, G, F, F, R],
        decode: provisioning::write_same,
        ..SPACE
    },
    Row { name: "UNMAP", opcode: 0x42, usage: &[0x42, R, R, R, R, R, G, F, F, R], thin: true, ..SPACE },
    Row {
        name: "MODE SELECT(10)",
        opcode: 0x55,
        usage: &[0x55, 0x10, R, R, R, R, R, F, F, R],
        data: DataPhase::Out,
        decode: mode::select_10,
        ..ROW
    },
    Row {
        name: "MODE SENSE(10)",
        opcode: 0x5a,
        usage: &[0x5a, 0x18, F, F, R, R, R, F, F, R],
        decode: mode::sense_10,
        ..ASK
    },
    Row {
        name: "READ(16)",
        opcode: 0x88,
        usage: &[0x88, 0x18, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
        ..READ
    },
    Row {
        name: "WRITE(16)",
        opcode: 0x8a,
        usage: &[0x8a, 0x18, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
        ..WRITE
    },
    Row {
        name: "VERIFY(16)",
        opcode: 0x8f,
        usage: &[0x8f, 0x10, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
        decode: medium::verify,
        ..FLUSH
    },
    Row {
        name: "SYNCHRONIZE CACHE(16)",
        opcode: 0x91,
        usage: &[0x91, 0x02, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
        ..FLUSH
    },
    Row {
        name: "WRITE SAME(16)",
        opcode: 0x93,
        usage: &[0x93, 0x09, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
        decode: provisioning::write_same,
        ..SPACE
    },
    Row {
        name: "READ CAPACITY(16)",
        opcode: 0x9e,
        action: Some(0x10),
        usage: &[0x9e, 0x10, R, R, R, R, R, R, R, R, F, F, F, F, R, R],
        needs_start: true,
        decode: inquiry::read_capacity_16,
        ..ASK
    },
    Row {
        name: "REPORT LUNS",
        opcode: 0xa0,
        usage: &[0xa0, R, F, R, R, R, F, F, F, F, R, R],
        past_attention: true,
        decode: report::report_luns,
        ..ASK
    },
    Row {
        name: "REPORT SUPPORTED OPERATION CODES",
        opcode: 0xa3,
        action: Some(0x0c),
        usage: &[0xa3, 0x0c, 0x87, F, F, F, F, F, F, F, R, R],
        decode: report::supported_operation_codes,
        ..ASK
    },
    Row {
        name: "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
        opcode: 0xa3,
        action: Some(0x0d),
        usage: &[0xa3, 0x0d, 0x80, R, R, R, F, F, F, F, R, R],
        decode: report::supported_task_management_functions,
        ..ASK
    },
    Row { name: "READ(12)", opcode: 0xa8, usage: &[0xa8, 0x18, F, F, F, F, F, F, F, F, G, R], ..READ },
    Row { name: "WRITE(12)", opcode: 0xaa, usage: &[0xaa, 0x18, F, F, F, F, F, F, F, F, G, R], ..WRITE },
    Row {
        name: "VERIFY(12)",
        opcode: 0xaf,
        usage: &[0xaf, 0x10, F, F, F, F, F, F, F, F, G, R],
        decode: medium::verify,
        ..FLUSH
    },
]);

/// Fills in what follows from the usage masks, at compile time.
const fn with_masks(mut rows: [Row; 30]) -> [Row; 30] {
    let mut at = 0;
    while at < rows.len() {
        rows[at].reserved = reserved(rows[at].usage);
        at += 1;
    }
    rows
}

/// The bits of a CDB that must be zero, byte 0 lowest; bytes behind the CDB are nobody's.
const fn reserved(usage: &[u8]) -> u128 {
    let mut bits = 0;
    let mut at = 1;
    while at < usage.len() {
        bits |= (!usage[at] as u128) << (8 * at);
        at += 1;
    }
    bits
}

/// No row has this operation code.
const NONE: u8 = u8::MAX;

/// Where the rows of an operation code begin.
static FIRST: [u8; 256] = index();

const fn index() -> [u8; 256] {
    let mut first = [NONE; 256];
    let mut at = ROWS.len();
    while at > 0 {
        at -= 1;
        // Backwards, so that the first of several rows stays. There are fewer than 255 rows.
        first[ROWS[at].opcode as usize] = at as u8;
    }
    first
}

/// The rows of an operation code that the unit has.
pub(crate) fn with_opcode(opcode: u8, facts: &Facts) -> impl Iterator<Item = &'static Row> {
    let first = usize::from(FIRST[usize::from(opcode)]);
    let candidates = ROWS.get(first..).unwrap_or_default();
    candidates.iter().take_while(move |row| row.opcode == opcode).filter(move |row| row.is_available(facts))
}

/// The row of a CDB.
pub(crate) fn find(cdb: &[u8], facts: &Facts) -> Result<&'static Row, Sense> {
    let opcode = *cdb.first().ok_or(Sense::INVALID_COMMAND_OPERATION_CODE)?;
    let mut sense = Sense::INVALID_COMMAND_OPERATION_CODE;
    for row in with_opcode(opcode, facts) {
        if cdb.len() < row.usage.len() {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        match row.action {
            // SPC-4: an operation code that is known with an action that is not.
            Some(action) if cdb[1] & 0x1f != action => sense = Sense::cdb_bit(1, 4),
            _ => return Ok(row),
        }
    }
    Err(sense)
}

/// The row of a command that any unit has, for the LUNs that are none.
pub(crate) fn find_bare(cdb: &[u8]) -> Option<&'static Row> {
    let opcode = *cdb.first()?;
    ROWS.iter().find(|row| row.opcode == opcode && row.action.is_none() && cdb.len() >= row.usage.len())
}

/// All rows, for documents and tests.
pub fn rows() -> &'static [Row] {
    &ROWS
}

/// The command table as docs/scsi.md shows it.
pub fn table() -> String {
    let mut text = String::from(
        "| command | code | CDB usage | data | time-out (s) | allowed |\n|---|---|---|---|---|---|\n",
    );
    for row in &ROWS {
        let mut line = || -> core::fmt::Result {
            write!(text, "| {} | {:02X}", row.name, row.opcode)?;
            if let Some(action) = row.action {
                write!(text, "/{action:02X}")?;
            }
            write!(text, " | `")?;
            for (at, byte) in row.usage.iter().enumerate() {
                let separator = if at == 0 { "" } else { " " };
                write!(text, "{separator}{byte:02X}")?;
            }
            let data = match row.data {
                DataPhase::None => "none",
                DataPhase::In => "in",
                DataPhase::Out => "out",
            };
            write!(text, "` | {data} | {} | ", row.timeout_seconds)?;
            let mut said = false;
            for (applies, note) in [
                (row.past_attention, "with a unit attention pending"),
                (row.needs_start, "not while stopped"),
                (row.writes, "not if write protected"),
                (row.thin, "only where the store gives space back"),
            ] {
                if applies {
                    write!(text, "{}{note}", if said { "; " } else { "" })?;
                    said = true;
                }
            }
            writeln!(text, "{} |", if said { "" } else { "always" })
        };
        line().expect("writing to a String cannot fail");
    }
    text
}
