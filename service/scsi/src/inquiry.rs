//! INQUIRY and READ CAPACITY: what the unit is.

use crate::execute::Call;
use crate::sense::Sense;
use crate::unit::{Unit, Verdict};
use crate::vpd;

/// T10 VENDOR IDENTIFICATION, PRODUCT IDENTIFICATION, PRODUCT REVISION LEVEL (SPC-4).
pub(crate) const VENDOR: &[u8; 8] = b"STANDPIP";
pub(crate) const PRODUCT: &[u8; 16] = b"VOLUME          ";
const REVISION: &[u8; 4] = b"0001";

/// Direct access block device, connected (SPC-4): the first byte of every INQUIRY answer.
pub(crate) const DIRECT_ACCESS: u8 = 0x00;
/// A well known logical unit.
pub(crate) const WELL_KNOWN: u8 = 0x1e;
/// PERIPHERAL QUALIFIER 011b, type unknown: no unit can be at this LUN.
pub(crate) const ABSENT: u8 = 0x7f;

const STANDARD_BYTES: usize = 96;

/// Standard INQUIRY data, SPC-4.
pub(crate) fn standard(peripheral: u8) -> [u8; STANDARD_BYTES] {
    let mut data = [0; STANDARD_BYTES];
    data[0] = peripheral;
    data[2] = 0x06; // VERSION: SPC-4
    data[3] = 0x12; // HISUP, RESPONSE DATA FORMAT 2
    data[4] = (STANDARD_BYTES - 5) as u8; // ADDITIONAL LENGTH
    data[5] = 0x08; // 3PC
    data[7] = 0x02; // CMDQUE
    data[8..16].copy_from_slice(VENDOR);
    data[16..32].copy_from_slice(PRODUCT);
    data[32..36].copy_from_slice(REVISION);
    // Version descriptors: SAM-5, SPC-4, SBC-3, none claiming a revision.
    data[58..64].copy_from_slice(&[0x00, 0xa0, 0x04, 0x60, 0x04, 0xc0]);
    data
}

/// The fields of an INQUIRY command.
pub(crate) struct Question {
    /// `Some`: EVPD with this PAGE CODE.
    pub page: Option<u8>,
    pub allocation: usize,
}

/// A page code without EVPD is refused (SPC-4).
pub(crate) fn question(call: &Call<'_>) -> Result<Question, Sense> {
    let evpd = call.cdb.bit(1, 0);
    let page = call.cdb.byte(2);
    if !evpd && page != 0 {
        return Err(Sense::cdb_byte(2));
    }
    Ok(Question { page: evpd.then_some(page), allocation: usize::from(call.cdb.u16(3)) })
}

pub(crate) fn inquiry(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let question = question(call)?;
    match question.page {
        None => Ok(call.reply(question.allocation, &standard(DIRECT_ACCESS))),
        Some(code) => {
            let page = vpd::page(unit, code).ok_or(Sense::cdb_byte(2))?;
            Ok(call.reply(question.allocation, &page))
        }
    }
}

/// READ CAPACITY(10), SBC-3: the last address, or FFFFFFFFh if it needs more bits.
pub(crate) fn read_capacity_10(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let last = last_block(unit)?;
    let mut data = [0; 8];
    data[..4].copy_from_slice(&u32::try_from(last).unwrap_or(u32::MAX).to_be_bytes());
    data[4..].copy_from_slice(&unit.facts.block_size.to_be_bytes());
    Ok(call.reply(data.len(), &data))
}

/// READ CAPACITY(16), SBC-3.
pub(crate) fn read_capacity_16(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let last = last_block(unit)?;
    let mut data = [0; 32];
    data[..8].copy_from_slice(&last.to_be_bytes());
    data[8..12].copy_from_slice(&unit.facts.block_size.to_be_bytes());
    data[13] = unit.facts.physical_exponent & 0x0f; // LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT
    if let Some(discard) = unit.facts.discard {
        data[14] = 0x80; // LBPME
        if discard.zeroes {
            data[14] |= 0x40; // LBPRZ
        }
    }
    let allocation = call.cdb.u32(10) as usize;
    Ok(call.reply(allocation, &data))
}

fn last_block(unit: &Unit) -> Result<u64, Sense> {
    unit.facts.blocks.0.checked_sub(1).ok_or(Sense::MEDIUM_NOT_PRESENT)
}
