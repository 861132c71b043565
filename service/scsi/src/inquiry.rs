//! INQUIRY and READ CAPACITY: what the unit is.

use crate::execute::Call;
use crate::nexus::Nexus;
use crate::profile::{Kind, PortName};
use crate::rows;
use crate::sense::Sense;
use crate::unit::{Unit, Verdict};
use crate::vpd;

/// T10 VENDOR IDENTIFICATION, PRODUCT IDENTIFICATION, PRODUCT REVISION LEVEL (SPC-4).
pub(crate) const VENDOR: &[u8; 8] = b"STANDPIP";
pub(crate) const PRODUCT: &[u8; 16] = b"VOLUME          ";
const DISC_PRODUCT: &[u8; 16] = b"CD/DVD          ";
const REVISION: &[u8; 4] = b"0001";

/// A well known logical unit.
pub(crate) const WELL_KNOWN: u8 = 0x1e;
/// PERIPHERAL QUALIFIER 011b, type unknown: no unit can be at this LUN.
pub(crate) const ABSENT: u8 = 0x7f;

const STANDARD_BYTES: usize = 96;

/// Version descriptors, none claiming a revision (SPC-5). Those of the standards before are there too:
/// initiators look for the ones that they know.
mod version {
    pub const SAM_5: u16 = 0x00a0;
    pub const SPC_4: u16 = 0x0460;
    pub const SBC_3: u16 = 0x04c0;
    pub const MMC_6: u16 = 0x04e0;
    pub const SPC_5: u16 = 0x05c0;
    pub const SBC_4: u16 = 0x0600;
    pub const ISCSI: u16 = 0x0960;
    pub const SAS_2: u16 = 0x0c20;
}

/// The first byte of every INQUIRY answer of a unit: connected, and its type.
pub(crate) fn peripheral(unit: &Unit) -> u8 {
    match unit.profile.kind {
        Kind::Disk => 0x00,
        Kind::CdRom => 0x05,
    }
}

/// Standard INQUIRY data, SPC-5. VERSION stays that of SPC-4, as initiators take a higher one for
/// wrong.
pub(crate) fn standard(peripheral: u8) -> [u8; STANDARD_BYTES] {
    let mut data = [0; STANDARD_BYTES];
    data[0] = peripheral;
    data[2] = 0x06;
    data[3] = 0x12; // HISUP, RESPONSE DATA FORMAT 2
    data[4] = (STANDARD_BYTES - 5) as u8; // ADDITIONAL LENGTH
    data[7] = 0x02; // CMDQUE
    data[8..16].copy_from_slice(VENDOR);
    data[16..32].copy_from_slice(PRODUCT);
    data[32..36].copy_from_slice(REVISION);
    describe_versions(&mut data, &[version::SAM_5, version::SPC_5, version::SPC_4]);
    data
}

fn describe_versions(data: &mut [u8; STANDARD_BYTES], versions: &[u16]) {
    for (place, version) in data[58..74].chunks_exact_mut(2).zip(versions) {
        place.copy_from_slice(&version.to_be_bytes());
    }
}

const EXTENDED_COPY: u8 = 0x83;

/// The same of a unit, by the port that the nexus came by.
fn standard_of(unit: &Unit, nexus: Nexus) -> [u8; STANDARD_BYTES] {
    let mut data = standard(peripheral(unit));
    if unit.profile.is_removable() {
        data[1] = 0x80; // RMB
    }
    if !unit.ports().is_empty() {
        // TPGS: implicit, and of a disk explicit too.
        data[5] |= if unit.profile.kind == Kind::Disk { 0x30 } else { 0x10 };
    }
    if rows::with_opcode(EXTENDED_COPY, unit).next().is_some() {
        data[5] |= 0x08; // 3PC
    }
    if unit.ports().len() > 1 {
        data[6] |= 0x10; // MULTIP
    }
    let transport = match unit.port_of(nexus).map(|port| &port.name) {
        Some(PortName::Iscsi { .. }) => version::ISCSI,
        Some(PortName::Sas(_)) => version::SAS_2,
        None => 0,
    };
    let commands: &[u16] = match unit.profile.kind {
        Kind::Disk => {
            &[version::SAM_5, version::SPC_5, version::SBC_4, version::SPC_4, version::SBC_3, transport]
        }
        Kind::CdRom => {
            data[16..32].copy_from_slice(DISC_PRODUCT);
            &[version::SAM_5, version::SPC_5, version::MMC_6, version::SPC_4, transport]
        }
    };
    describe_versions(&mut data, commands);
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
        None => Ok(call.reply(question.allocation, &standard_of(unit, call.nexus))),
        Some(code) => {
            let page = vpd::page(unit, call.nexus, code).ok_or(Sense::cdb_byte(2))?;
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
