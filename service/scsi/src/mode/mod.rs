//! Mode parameters (SPC-5, SBC-4): MODE SENSE and MODE SELECT.
//!
//! Each page (`pages`) is made twice: its values, and a mask of the bits that MODE SELECT may change.
//! MODE SELECT takes a page if it differs from the current values in such bits alone, and nothing is
//! changed before the whole list was found good.
//!
//! Current values last until a reset, which brings the saved ones back; MODE SELECT with SP sets
//! these, and answers when they are on stable storage. Pages with changeable values can be saved
//! (PS).

mod pages;

use alloc::vec::Vec;
use request::{Facts, Operation};

use crate::attention::Condition;
use crate::execute::Call;
use crate::plan::Plan;
use crate::profile::Kind;
use crate::sense::{Format, Sense};
use crate::unit::{Response, Settle, Unit, Verdict};
use pages::{Bytes, PAGES, Page};

pub(crate) use pages::{has_threshold, threshold_exponent};

/// What an initiator may change; the default is all false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values {
    pub write_cache_off: bool,
    pub descriptor_sense: bool,
    /// SWP.
    pub write_protect: bool,
}

const WRITE_CACHE_OFF: u8 = 1 << 0;
const DESCRIPTOR_SENSE: u8 = 1 << 1;
const WRITE_PROTECT: u8 = 1 << 2;

impl Values {
    pub fn format(self) -> Format {
        if self.descriptor_sense { Format::Descriptor } else { Format::Fixed }
    }

    /// As they are stored.
    pub fn to_bits(self) -> u8 {
        let mut bits = 0;
        for (set, bit) in [
            (self.write_cache_off, WRITE_CACHE_OFF),
            (self.descriptor_sense, DESCRIPTOR_SENSE),
            (self.write_protect, WRITE_PROTECT),
        ] {
            if set {
                bits |= bit;
            }
        }
        bits
    }

    pub fn of_bits(bits: u8) -> Values {
        Values {
            write_cache_off: bits & WRITE_CACHE_OFF != 0,
            descriptor_sense: bits & DESCRIPTOR_SENSE != 0,
            write_protect: bits & WRITE_PROTECT != 0,
        }
    }
}

/// The page code that means all pages, and the subpage code that means all subpages.
const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;

/// Which values of the pages are asked for: PC, SPC-5.
fn page_values(page: &Page, unit: &Unit, control: u8) -> Bytes {
    match control {
        1 => page.mask(unit),
        2 => page.bytes(unit, Values::default()),
        3 => page.bytes(unit, unit.saved),
        _ => page.bytes(unit, unit.values),
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
    let is_disk = unit.profile.kind == Kind::Disk;
    let mut data = Vec::with_capacity(256);
    data.resize(shape.header, 0);
    if is_disk {
        // WP, and DPOFUA: FUA is honoured and DPO accepted (SBC-4). Of a CD the byte is reserved.
        data[shape.device_specific] = if unit.is_write_protected() { 0x90 } else { 0x10 };
    }
    // MMC-6: CD and DVD devices have no block descriptors.
    if !disable_block_descriptors && is_disk {
        let descriptor = block_descriptor(&unit.facts, long_lba);
        data.extend_from_slice(&descriptor);
        data[shape.header - 1] = descriptor.len() as u8; // 8 or 16
        if long_lba {
            data[4] = 0x01; // LONGLBA
        }
    }
    if code == ALL_PAGES && subpage != 0 && subpage != ALL_SUBPAGES {
        return Err(Sense::cdb_byte(3));
    }
    let pages = PAGES.iter().filter(|page| (page.has)(unit) && (code == ALL_PAGES || code == page.code));
    let mut known = false;
    let mut found = false;
    for page in pages {
        known = true;
        if subpage == ALL_SUBPAGES || subpage == page.subpage {
            data.extend_from_slice(&page_values(page, unit, control)[..page.len]);
            found = true;
        }
    }
    if !found {
        return Err(if known { Sense::cdb_byte(3) } else { Sense::cdb_bit(2, 5) });
    }
    // MODE DATA LENGTH does not count itself.
    if shape.header == SHAPE_6.header {
        data[0] = (data.len() - 1) as u8; // all subpages and a descriptor are 208 bytes
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
    let response = Response { data_out: length as u64, ..Response::GOOD };
    let saves = call.cdb.bit(1, 0); // SP
    let was_caching = unit.caches_writes();
    if values != unit.values {
        unit.values = values;
        unit.attend_all(Condition::MODE, Some(call.nexus));
        unit.dirty = true;
    }
    // What lies in the cache was written by the old rule; now it has to be durable.
    let flush = was_caching && !unit.caches_writes();
    if saves && unit.saved != values {
        unit.saved = values;
        unit.dirty = true;
        let settle = Settle { response, waits_for: Vec::new(), persist: true };
        return Ok(if flush {
            Verdict::Medium(Plan::one(Operation::Flush).with_data_out(response.data_out).then(settle))
        } else {
            Verdict::Settle(settle)
        });
    }
    if flush {
        return Ok(Verdict::Medium(Plan::one(Operation::Flush).with_data_out(response.data_out)));
    }
    Ok(Verdict::Respond(response))
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
        if unit.profile.kind != Kind::Disk {
            return Err(Sense::parameter_byte((shape.header - 1) as u16));
        }
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
        // PS (bit 7) is reserved in a MODE SELECT, and some initiators send back what they read.
        let code = rest[0] & 0x3f;
        let subpage = match rest[0] & 0x40 {
            0 => 0,
            _ => *rest.get(1).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?,
        };
        let mut pages = PAGES.iter().filter(|page| page.code == code && (page.has)(unit)).peekable();
        if pages.peek().is_none() {
            return Err(Sense::parameter_bit(at as u16, 5));
        }
        // SPF, with a subpage code: none of this page.
        let page = match pages.find(|page| page.subpage == subpage && (rest[0] & 0x40 != 0) == (subpage != 0))
        {
            Some(page) => page,
            None => return Err(Sense::parameter_bit(at as u16, 6)),
        };
        let asked = rest.get(..page.len).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        let current = page.bytes(unit, unit.values);
        let body = page.body();
        if let Some(wrong) = (1..body).find(|byte| asked[*byte] != current[*byte]) {
            return Err(Sense::parameter_byte((at + wrong) as u16));
        }
        let changeable = page.mask(unit);
        for (offset, byte) in asked.iter().enumerate().skip(body) {
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
