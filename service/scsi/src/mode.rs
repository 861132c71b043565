//! Mode parameters (SPC-4, SBC-3): MODE SENSE and MODE SELECT.
//!
//! Each page is made twice: its current values, and a mask of the bits that MODE SELECT may
//! change. MODE SELECT takes a page if it differs from the current values in such bits alone, and
//! nothing is changed before the whole list was found good.
//!
//! Values last until a reset; they are not saved (PS is zero), so asking for saved values is
//! answered with SAVING PARAMETERS NOT SUPPORTED.

use alloc::vec::Vec;
use request::{Facts, Operation};

use crate::attention::Condition;
use crate::execute::Call;
use crate::plan::Plan;
use crate::sense::{Format, Sense};
use crate::unit::{Response, Unit, Verdict};

/// What an initiator may change; the default is all false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values {
    pub write_cache_off: bool,
    pub descriptor_sense: bool,
}

impl Values {
    pub fn format(self) -> Format {
        if self.descriptor_sense { Format::Descriptor } else { Format::Fixed }
    }
}

/// The longest page: caching.
const PAGE_MAX_BYTES: usize = 20;

struct Page {
    code: u8,
    len: usize,
    /// The whole page with its two-byte header.
    current: fn(&Facts, Values) -> [u8; PAGE_MAX_BYTES],
    /// Bits that MODE SELECT may change.
    changeable: fn(&Facts) -> [u8; PAGE_MAX_BYTES],
    /// Takes over the changeable bits of a page that was found good.
    apply: fn(&mut Values, &[u8]),
}

/// Ascending by page code.
static PAGES: [Page; 4] = [
    Page { code: 0x01, len: 12, current: error_recovery, changeable: nothing, apply: ignore },
    Page { code: 0x08, len: 20, current: caching, changeable: caching_changeable, apply: caching_apply },
    Page { code: 0x0a, len: 12, current: control, changeable: control_changeable, apply: control_apply },
    Page { code: 0x1c, len: 12, current: informational_exceptions, changeable: nothing, apply: ignore },
];

/// The page code that means all pages, and the subpage code that means all subpages.
const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;

fn header(code: u8, len: usize) -> [u8; PAGE_MAX_BYTES] {
    let mut page = [0; PAGE_MAX_BYTES];
    page[0] = code;
    page[1] = (len - 2) as u8; // PAGE LENGTH; no page is longer than PAGE_MAX_BYTES
    page
}

fn nothing(_: &Facts) -> [u8; PAGE_MAX_BYTES] {
    [0; PAGE_MAX_BYTES]
}

fn ignore(_: &mut Values, _: &[u8]) {}

/// Read-write error recovery, SBC-3: no recovery by this unit, no retries to set.
fn error_recovery(_: &Facts, _: Values) -> [u8; PAGE_MAX_BYTES] {
    header(0x01, 12)
}

/// WCE of the caching page, byte 2.
const WCE: u8 = 0x04;

/// Caching, SBC-3.
fn caching(facts: &Facts, values: Values) -> [u8; PAGE_MAX_BYTES] {
    let mut page = header(0x08, 20);
    if facts.write_cache && !values.write_cache_off {
        page[2] |= WCE;
    }
    page
}

/// A unit without a volatile cache cannot be told to have one.
fn caching_changeable(facts: &Facts) -> [u8; PAGE_MAX_BYTES] {
    let mut mask = [0; PAGE_MAX_BYTES];
    if facts.write_cache {
        mask[2] = WCE;
    }
    mask
}

fn caching_apply(values: &mut Values, page: &[u8]) {
    values.write_cache_off = page[2] & WCE == 0;
}

/// D_SENSE of the control page, byte 2.
const D_SENSE: u8 = 0x04;

/// Control, SPC-4: GLTSD (there are no log parameters to save), QUEUE ALGORITHM MODIFIER
/// unrestricted (commands end in any order), BUSY TIMEOUT PERIOD unlimited.
fn control(_: &Facts, values: Values) -> [u8; PAGE_MAX_BYTES] {
    let mut page = header(0x0a, 12);
    page[2] = 0x02;
    if values.descriptor_sense {
        page[2] |= D_SENSE;
    }
    page[3] = 0x10;
    page[8..10].copy_from_slice(&[0xff, 0xff]);
    page
}

fn control_changeable(_: &Facts) -> [u8; PAGE_MAX_BYTES] {
    let mut mask = [0; PAGE_MAX_BYTES];
    mask[2] = D_SENSE;
    mask
}

fn control_apply(values: &mut Values, page: &[u8]) {
    values.descriptor_sense = page[2] & D_SENSE != 0;
}

/// Informational exceptions control, SPC-4: DEXCPT, there are no informational exceptions to
/// report.
fn informational_exceptions(_: &Facts, _: Values) -> [u8; PAGE_MAX_BYTES] {
    let mut page = header(0x1c, 12);
    page[2] = 0x08;
    page
}

/// Which values of the pages are asked for: PC, SPC-4.
fn page_values(page: &Page, unit: &Unit, control: u8) -> [u8; PAGE_MAX_BYTES] {
    match control {
        1 => {
            let mut mask = (page.changeable)(&unit.facts);
            mask[..2].copy_from_slice(&header(page.code, page.len)[..2]);
            mask
        }
        2 => (page.current)(&unit.facts, Values::default()),
        _ => (page.current)(&unit.facts, unit.values),
    }
}

/// What differs between the mode parameter headers of the two lengths of the commands.
struct Shape {
    header: usize,
    /// Where the DEVICE-SPECIFIC PARAMETER and the BLOCK DESCRIPTOR LENGTH end.
    device_specific: usize,
}

const SHAPE_6: Shape = Shape { header: 4, device_specific: 2 };
const SHAPE_10: Shape = Shape { header: 8, device_specific: 3 };

pub(crate) fn sense_6(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let allocation = usize::from(call.cdb.byte(4));
    mode_sense(unit, call, &SHAPE_6, allocation)
}

pub(crate) fn sense_10(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let allocation = usize::from(call.cdb.u16(7));
    mode_sense(unit, call, &SHAPE_10, allocation)
}

fn mode_sense(
    unit: &mut Unit,
    call: &mut Call<'_>,
    shape: &Shape,
    allocation: usize,
) -> Result<Verdict, Sense> {
    let disable_block_descriptors = call.cdb.bit(1, 3);
    let long_lba = shape.header == SHAPE_10.header && call.cdb.bit(1, 4);
    let control = call.cdb.byte(2) >> 6;
    let code = call.cdb.byte(2) & 0x3f;
    let subpage = call.cdb.byte(3);
    if control == 3 {
        return Err(Sense::SAVING_PARAMETERS_NOT_SUPPORTED);
    }
    if subpage != 0 && subpage != ALL_SUBPAGES {
        return Err(Sense::cdb_byte(3));
    }
    let mut data = Vec::with_capacity(96);
    data.resize(shape.header, 0);
    // WP, and DPOFUA: FUA is honoured and DPO accepted (SBC-3).
    data[shape.device_specific] = if unit.facts.read_only { 0x90 } else { 0x10 };
    if !disable_block_descriptors {
        let descriptor = block_descriptor(&unit.facts, long_lba);
        data.extend_from_slice(&descriptor);
        data[shape.header - 1] = descriptor.len() as u8; // 8 or 16
        if long_lba {
            data[4] = 0x01; // LONGLBA
        }
    }
    let mut found = false;
    for page in PAGES.iter().filter(|page| code == ALL_PAGES || code == page.code) {
        data.extend_from_slice(&page_values(page, unit, control)[..page.len]);
        found = true;
    }
    if !found {
        return Err(Sense::cdb_bit(2, 5));
    }
    // MODE DATA LENGTH does not count itself.
    if shape.header == SHAPE_6.header {
        data[0] = (data.len() - 1) as u8; // all pages and a descriptor are 68 bytes
    } else {
        let length = (data.len() - 2) as u16;
        data[..2].copy_from_slice(&length.to_be_bytes());
    }
    Ok(call.reply(allocation, &data))
}

/// SBC-3, short or long LBA mode parameter block descriptor.
fn block_descriptor(facts: &Facts, long: bool) -> Vec<u8> {
    let mut descriptor;
    if long {
        descriptor = alloc::vec![0; 16];
        descriptor[..8].copy_from_slice(&facts.blocks.0.to_be_bytes());
        descriptor[12..].copy_from_slice(&facts.block_size.to_be_bytes());
    } else {
        descriptor = alloc::vec![0; 8];
        let blocks = u32::try_from(facts.blocks.0).unwrap_or(u32::MAX);
        descriptor[..4].copy_from_slice(&blocks.to_be_bytes());
        // Three bytes; the fourth above them is zero for any block size up to 16 MiB.
        descriptor[4..].copy_from_slice(&facts.block_size.to_be_bytes());
    }
    descriptor
}

pub(crate) fn select_6(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let length = usize::from(call.cdb.byte(4));
    mode_select(unit, call, &SHAPE_6, length)
}

pub(crate) fn select_10(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let length = usize::from(call.cdb.u16(7));
    mode_select(unit, call, &SHAPE_10, length)
}

fn mode_select(unit: &mut Unit, call: &mut Call<'_>, shape: &Shape, length: usize) -> Result<Verdict, Sense> {
    // PF zero: pages of a vendor's own layout, which we do not have.
    if !call.cdb.bit(1, 4) {
        return Err(Sense::cdb_bit(1, 4));
    }
    if length == 0 {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    let Some(list) = call.parameters else { return Ok(Verdict::Parameters(length)) };
    let list = list.get(..length).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    let values = check_list(unit, shape, list)?;
    let data_out = length as u64;
    if values == unit.values {
        return Ok(Verdict::Respond(Response { data_out, ..Response::GOOD }));
    }
    let was_caching = unit.caches_writes();
    unit.values = values;
    unit.attend_all(Condition::MODE, Some(call.nexus));
    unit.dirty = true;
    if was_caching && !unit.caches_writes() {
        // What lies in the cache was written by the old rule; now it has to be durable.
        return Ok(Verdict::Medium(Plan::one(Operation::Flush).with_data_out(data_out)));
    }
    Ok(Verdict::Respond(Response { data_out, ..Response::GOOD }))
}

/// The values that the list asks for, if every part of it is allowed.
fn check_list(unit: &Unit, shape: &Shape, list: &[u8]) -> Result<Values, Sense> {
    let head = list.get(..shape.header).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    // MODE DATA LENGTH and the device-specific parameter's bits are reserved or ignored in a MODE
    // SELECT; MEDIUM TYPE is zero for direct access.
    if head[shape.device_specific - 1] != 0 {
        return Err(Sense::parameter_byte((shape.device_specific - 1) as u16));
    }
    let long_lba = shape.header == SHAPE_10.header && head[4] & 0x01 != 0;
    let descriptor_length = match shape.header {
        4 => usize::from(head[3]),
        _ => usize::from(u16::from_be_bytes([head[6], head[7]])),
    };
    let mut at = shape.header;
    if descriptor_length != 0 {
        let current = block_descriptor(&unit.facts, long_lba);
        if descriptor_length != current.len() {
            return Err(Sense::parameter_byte((shape.header - 1) as u16));
        }
        let asked = list.get(at..at + descriptor_length).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        check_block_descriptor(&current, asked, at)?;
        at += descriptor_length;
    }
    let mut values = unit.values;
    while at < list.len() {
        let rest = &list[at..];
        let code = rest[0] & 0x3f;
        // SPF: no subpages here. PS (bit 7) is reserved in a MODE SELECT, and some initiators send
        // back what they read.
        if rest[0] & 0x40 != 0 {
            return Err(Sense::parameter_bit(at as u16, 6));
        }
        let page = PAGES.iter().find(|page| page.code == code).ok_or(Sense::parameter_bit(at as u16, 5))?;
        let asked = rest.get(..page.len).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        if usize::from(asked[1]) != page.len - 2 {
            return Err(Sense::parameter_byte((at + 1) as u16));
        }
        let current = (page.current)(&unit.facts, unit.values);
        let changeable = (page.changeable)(&unit.facts);
        for (offset, byte) in asked.iter().enumerate().skip(2) {
            let wrong = (byte ^ current[offset]) & !changeable[offset];
            if wrong != 0 {
                // The list is shorter than 65,536 bytes.
                return Err(Sense::parameter_bit((at + offset) as u16, wrong.ilog2() as u8));
            }
        }
        (page.apply)(&mut values, asked);
        at += page.len;
    }
    if !unit.facts.write_cache {
        values.write_cache_off = unit.values.write_cache_off;
    }
    Ok(values)
}

/// The number of blocks may be zero or the largest number ("as it is") besides the current one
/// (SBC-3); the block length must be the current one. Neither can be changed here.
fn check_block_descriptor(current: &[u8], asked: &[u8], at: usize) -> Result<(), Sense> {
    let blocks = if current.len() == 16 { 8 } else { 4 };
    let as_it_is = asked[..blocks].iter().all(|byte| *byte == 0)
        || asked[..blocks].iter().all(|byte| *byte == 0xff)
        || asked[..blocks] == current[..blocks];
    if !as_it_is {
        return Err(Sense::parameter_byte(at as u16));
    }
    if asked[blocks..] != current[blocks..] {
        return Err(Sense::parameter_byte((at + blocks) as u16));
    }
    Ok(())
}
