//! Log parameters: LOG SENSE and LOG SELECT (SPC-5, SBC-4). The counters are the unit's own; nobody
//! can set them but to zero, and they are not saved.

use alloc::vec::Vec;

use crate::attention::Condition;
use crate::execute::Call;
use crate::mode::{has_threshold, threshold_exponent};
use crate::profile::Kind;
use crate::sense::{Key, Sense};
use crate::state::Reader;
use crate::unit::{Counts, Response, Unit, Verdict};

struct Page {
    code: u8,
    has: fn(&Unit) -> bool,
    /// The parameters of cumulative values, each with its header, ascending by their codes.
    body: fn(&Unit, &Counts) -> Vec<u8>,
}

fn always(_: &Unit) -> bool {
    true
}

fn is_disk(unit: &Unit) -> bool {
    unit.profile.kind == Kind::Disk
}

/// Ascending, behind page 00h, which lists them.
static PAGES: [Page; 6] = [
    Page {
        code: 0x02,
        has: is_disk,
        body: |_, counts| error_counters(counts.written_bytes, counts.write_errors),
    },
    Page { code: 0x03, has: always, body: |_, counts| error_counters(counts.read_bytes, counts.read_errors) },
    Page { code: 0x05, has: is_disk, body: |_, counts| error_counters(0, counts.verify_errors) },
    Page {
        code: 0x0c,
        has: |unit| has_threshold(unit) && unit.allocated_blocks.is_some(),
        body: |unit, _| provisioning(unit),
    },
    Page { code: 0x19, has: always, body: statistics },
    Page { code: 0x2f, has: always, body: |_, _| informational_exceptions() },
];

/// The subpage code that asks for pages and subpages.
const ALL_SUBPAGES: u8 = 0xff;

/// TSD: not saved. FORMAT AND LINKING: a counter that saturates, or a binary list.
const COUNTER: u8 = 0x20;
const LIST: u8 = 0x23;

fn parameter(data: &mut Vec<u8>, code: u16, control: u8, value: &[u8]) {
    let [high, low] = code.to_be_bytes();
    data.extend_from_slice(&[high, low, control, value.len() as u8]); // at most 64
    data.extend_from_slice(value);
}

/// TOTAL ERRORS CORRECTED (there are none that are known here), TOTAL BYTES PROCESSED, TOTAL
/// UNCORRECTED ERRORS.
fn error_counters(bytes: u64, errors: u64) -> Vec<u8> {
    let mut data = Vec::new();
    for (code, value) in [(0x0003, 0), (0x0005, bytes), (0x0006, errors)] {
        parameter(&mut data, code, COUNTER, &value.to_be_bytes());
    }
    data
}

/// General access statistics and performance: commands and blocks. Times are not measured here.
fn statistics(unit: &Unit, counts: &Counts) -> Vec<u8> {
    let shift = unit.facts.shift();
    let mut value = Vec::with_capacity(64);
    for count in [counts.reads, counts.writes, counts.written_bytes >> shift, counts.read_bytes >> shift] {
        value.extend_from_slice(&count.to_be_bytes());
    }
    value.resize(64, 0);
    let mut data = Vec::new();
    parameter(&mut data, 0x0001, LIST, &value);
    data
}

/// Logical block provisioning: USED LBA MAPPING RESOURCE COUNT in threshold sets, of this unit alone.
/// How much more the store could take is not known here.
fn provisioning(unit: &Unit) -> Vec<u8> {
    let used = unit.allocated_blocks.unwrap_or(0) >> threshold_exponent(unit);
    let [a, b, c, d] = u32::try_from(used).unwrap_or(u32::MAX).to_be_bytes();
    let mut data = Vec::new();
    parameter(&mut data, 0x0002, LIST, &[a, b, c, d, 0x01, 0, 0, 0]);
    data
}

/// No exception; the temperature is not known (FFh).
fn informational_exceptions() -> Vec<u8> {
    let mut data = Vec::new();
    parameter(&mut data, 0x0000, LIST, &[0, 0, 0xff, 0]);
    data
}

/// LOG SENSE. PC: 00b and 10b ask for thresholds, of which there are none: the largest value (SPC-5,
/// a counter without a threshold never meets it).
pub(crate) fn sense(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let control = call.cdb.byte(2) >> 6;
    let code = call.cdb.byte(2) & 0x3f;
    let subpage = call.cdb.byte(3);
    let pointer = call.cdb.u16(5);
    let mut data = Vec::from([code, subpage, 0, 0]);
    let pages = PAGES.iter().filter(|page| (page.has)(unit));
    match (code, subpage) {
        (0x00, 0x00) => {
            data.push(0x00);
            data.extend(pages.map(|page| page.code));
        }
        (0x00, ALL_SUBPAGES) => {
            data[0] = 0x40; // SPF
            data.extend_from_slice(&[0x00, 0x00, 0x00, ALL_SUBPAGES]);
            for page in pages {
                data.extend_from_slice(&[page.code, 0x00]);
            }
        }
        (_, 0x00) => {
            let page = pages.into_iter().find(|page| page.code == code).ok_or(Sense::cdb_bit(2, 5))?;
            let counts = if control == 3 { Counts::default() } else { unit.counts };
            let body = (page.body)(unit, &counts);
            parameters_from(&mut data, &body, pointer, control & 1 == 0)?;
        }
        _ => return Err(Sense::cdb_byte(3)),
    }
    if code == 0x00 && pointer != 0 {
        return Err(Sense::cdb_byte(5));
    }
    let length = (data.len() - 4) as u16; // some dozens of bytes
    data[2..4].copy_from_slice(&length.to_be_bytes());
    let allocation = usize::from(call.cdb.u16(7));
    Ok(call.reply(allocation, &data))
}

/// The parameters from PARAMETER POINTER on; thresholds instead of values, if so asked.
fn parameters_from(data: &mut Vec<u8>, body: &[u8], pointer: u16, thresholds: bool) -> Result<(), Sense> {
    let before = data.len();
    let mut rest = body;
    while let [high, low, control, len, behind @ ..] = rest {
        let (value, next) = behind.split_at(usize::from(*len).min(behind.len()));
        if u16::from_be_bytes([*high, *low]) >= pointer {
            data.extend_from_slice(&[*high, *low, *control, *len]);
            if thresholds && *control == COUNTER {
                data.resize(data.len() + value.len(), 0xff);
            } else {
                data.extend_from_slice(value);
            }
        }
        rest = next;
    }
    // SPC-5: a pointer behind the last parameter.
    if data.len() == before { Err(Sense::cdb_byte(5)) } else { Ok(()) }
}

/// LOG SELECT: PCR, or PC 11b, takes the counters back to zero. Nothing else can be changed, and
/// nothing is saved.
pub(crate) fn select(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let reset = call.cdb.bit(1, 1);
    let control = call.cdb.byte(2) >> 6;
    let code = call.cdb.byte(2) & 0x3f;
    let length = usize::from(call.cdb.u16(7));
    if call.cdb.byte(3) != 0 {
        return Err(Sense::cdb_byte(3));
    }
    if code != 0 && !PAGES.iter().any(|page| page.code == code && (page.has)(unit)) {
        return Err(Sense::cdb_bit(2, 5));
    }
    if length != 0 {
        if reset {
            return Err(Sense::cdb_byte(7));
        }
        // Whatever it is, it is no parameter that can be set.
        let Some(list) = call.parameters else { return Ok(Verdict::Parameters(length)) };
        let first = list.first().ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)? & 0x3f;
        let known = PAGES.iter().any(|page| page.code == first && (page.has)(unit));
        return Err(if known { Sense::parameter_byte(4) } else { Sense::parameter_byte(0) });
    }
    if reset || control == 3 {
        unit.counts.clear(if reset { 0 } else { code });
        unit.attend_all(Condition::LOG, Some(call.nexus));
    }
    Ok(Verdict::Respond(Response::GOOD))
}

impl Counts {
    /// To zero: what a page shows, or with page 00h everything.
    fn clear(&mut self, code: u8) {
        let all = code == 0;
        if all || code == 0x02 {
            (self.written_bytes, self.write_errors) = (0, 0);
        }
        if all || code == 0x03 {
            (self.read_bytes, self.read_errors) = (0, 0);
        }
        if all || code == 0x05 {
            self.verify_errors = 0;
        }
        if all || code == 0x19 {
            (self.reads, self.writes, self.written_bytes, self.read_bytes) = (0, 0, 0, 0);
        }
    }

    /// A command starts to move data of the medium.
    pub(crate) fn start(&mut self, data_in: u64, data_out: u64) {
        if data_in != 0 {
            self.reads = self.reads.saturating_add(1);
            self.read_bytes = self.read_bytes.saturating_add(data_in);
        }
        if data_out != 0 {
            self.writes = self.writes.saturating_add(1);
            self.written_bytes = self.written_bytes.saturating_add(data_out);
        }
    }

    /// A command of several steps failed: one that reads back, or the write behind it.
    pub(crate) fn fail(&mut self, sense: &Sense) {
        if sense.key != Key::MediumError {
            return;
        }
        let count = if sense.asc == Sense::WRITE_ERROR.asc {
            &mut self.write_errors
        } else {
            &mut self.verify_errors
        };
        *count = count.saturating_add(1);
    }

    fn fields(&mut self) -> [&mut u64; 7] {
        [
            &mut self.reads,
            &mut self.read_bytes,
            &mut self.writes,
            &mut self.written_bytes,
            &mut self.read_errors,
            &mut self.write_errors,
            &mut self.verify_errors,
        ]
    }

    pub(crate) fn state(mut self) -> Option<Vec<u8>> {
        if self == Counts::default() {
            return None;
        }
        Some(self.fields().iter().flat_map(|count| count.to_le_bytes()).collect())
    }

    pub(crate) fn restore(text: &mut Reader<'_>) -> Option<Counts> {
        let mut counts = Counts::default();
        for count in counts.fields() {
            *count = text.u64()?;
        }
        Some(counts)
    }
}
