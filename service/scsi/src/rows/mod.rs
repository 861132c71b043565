//! The command table. A row is all there is to know about a command before its fields are read:
//! its CDB length, which bits it looks at (any other bit set is INVALID FIELD IN CDB), when it is
//! allowed, and who decodes it. REPORT SUPPORTED OPERATION CODES and docs/scsi.md are made from
//! the rows.
//!
//! The rows stand by family, in files of their own; here they are one table in the order of
//! operation code and service action.

mod block;
mod copy;
mod media;
mod primary;
mod reserve;

use alloc::string::String;
use core::fmt::Write;

use crate::cdb::Cdb;
use crate::execute::Decode;
use crate::profile::Kind;
use crate::reservation::Access;
use crate::sense::Sense;
use crate::unit::Unit;

/// Which way a command's data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPhase {
    None,
    /// To the initiator.
    In,
    /// From the initiator.
    Out,
}

/// On which kinds of device a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    All,
    Disk,
    CdRom,
}

impl On {
    pub(crate) fn includes(self, unit: &Unit) -> bool {
        match self {
            On::All => true,
            On::Disk => unit.profile.kind == Kind::Disk,
            On::CdRom => unit.profile.kind == Kind::CdRom,
        }
    }
}

/// One command.
pub struct Row {
    pub name: &'static str,
    pub opcode: u8,
    /// For an operation code that many commands share: the service action, byte 1 bits 4 to 0.
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
    /// What reservations do to it.
    pub access: Access,
    /// Allowed by a target port in the standby state (SPC-5, target port group access states).
    pub in_standby: bool,
    /// Allowed by a target port in the unavailable state too.
    pub in_unavailable: bool,
    /// Only on a unit whose store writes more than a block at once or not at all.
    pub atomic: bool,
    /// Allowed while the medium is sanitized or formatted (SBC-4).
    pub while_erasing: bool,
    /// Must not be run twice: its answer is kept until the initiator can see it.
    pub once: bool,
    pub on: On,
    /// SCSI-2 had the LUN in the upper three bits of byte 1, and whoever does not know yet whom it
    /// talks to may have put it there: Linux, to a target that it finds by another LUN than 0. They are
    /// reserved since, and passed over.
    pub lun_in_cdb: bool,
    /// Made from `usage`: the bits that must be zero.
    reserved: u128,
    pub(crate) decode: Decode,
}

impl Row {
    pub(crate) fn is_available(&self, unit: &Unit) -> bool {
        self.on.includes(unit)
            && (!self.thin || unit.facts.discard.is_some())
            && (!self.atomic || unit.facts.atomic.is_some())
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
    access: Access::Always,
    in_standby: false,
    in_unavailable: false,
    atomic: false,
    while_erasing: false,
    once: false,
    on: On::All,
    lun_in_cdb: false,
    reserved: 0,
    decode: crate::removable::test_unit_ready,
};

/// Asks about the unit.
const ASK: Row = Row { data: DataPhase::In, ..ROW };

/// A reserved byte.
const R: u8 = 0x00;
/// A byte of a field.
const F: u8 = 0xff;
/// GROUP NUMBER: accepted, and without effect since VPD page 86h has GROUP_SUP zero.
const G: u8 = 0x3f;

const COUNT: usize =
    block::ROWS.len() + copy::ROWS.len() + media::ROWS.len() + primary::ROWS.len() + reserve::ROWS.len();

/// All commands, by operation code and service action.
static ROWS: [Row; COUNT] = joined();

/// Joins the families, sorts them, and fills in what follows from the usage masks, at compile time.
const fn joined() -> [Row; COUNT] {
    let families: [&[Row]; 5] = [&block::ROWS, &copy::ROWS, &media::ROWS, &primary::ROWS, &reserve::ROWS];
    let mut rows = [const { ROW }; COUNT];
    let mut count = 0;
    let mut family = 0;
    while family < families.len() {
        let mut at = 0;
        while at < families[family].len() {
            let row = &families[family][at];
            // Insertion: the table is short, and the compiler has time.
            let mut place = count;
            while place > 0 && order(&rows[place - 1]) > order(row) {
                rows[place] = copy_of(&rows[place - 1]);
                place -= 1;
            }
            rows[place] = copy_of(row);
            count += 1;
            at += 1;
        }
        family += 1;
    }
    rows
}

const fn order(row: &Row) -> u16 {
    let action = match row.action {
        Some(action) => action,
        None => 0,
    };
    (row.opcode as u16) << 8 | action as u16
}

const fn copy_of(row: &Row) -> Row {
    let lun = if row.lun_in_cdb { 0xe0 << 8 } else { 0 };
    Row { usage: row.usage, reserved: reserved(row.usage) & !lun, ..*row }
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
pub(crate) fn with_opcode(opcode: u8, unit: &Unit) -> impl Iterator<Item = &'static Row> {
    let first = usize::from(FIRST[usize::from(opcode)]);
    let candidates = ROWS.get(first..).unwrap_or_default();
    candidates.iter().take_while(move |row| row.opcode == opcode).filter(move |row| row.is_available(unit))
}

/// The row of a CDB.
pub(crate) fn find(cdb: &[u8], unit: &Unit) -> Result<&'static Row, Sense> {
    let opcode = *cdb.first().ok_or(Sense::INVALID_COMMAND_OPERATION_CODE)?;
    let mut sense = Sense::INVALID_COMMAND_OPERATION_CODE;
    for row in with_opcode(opcode, unit) {
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
                (row.access == Access::Read, "not under somebody else's exclusive access"),
                (row.access == Access::Write, "not under somebody else's reservation"),
                (row.access == Access::NotReserved, "not under somebody else's RESERVE"),
                (row.access == Access::StartStop, "only START 1 under somebody else's reservation"),
                (row.access == Access::PreventAllow, "only PREVENT 0 under somebody else's reservation"),
                (row.needs_start, "not while stopped"),
                (row.writes, "not if write protected"),
                (row.thin, "only where the store gives space back"),
                (row.atomic, "only where the store writes atomically"),
                (row.in_standby, "by a port in standby"),
                (row.in_unavailable, "by an unavailable port"),
                (row.while_erasing, "while the medium is erased"),
                (row.on == On::Disk, "disks only"),
                (row.on == On::CdRom, "CD/DVD only"),
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
