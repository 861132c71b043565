//! Which frames the driver wants (8254x SDM, 3.2.1; 82574 datasheet, 7.1.1).

use crate::registers::{self as r, Registers};

// RCTL (13.4.22).
pub const EN: u32 = 1 << 1;
pub const UPE: u32 = 1 << 3;
pub const MPE: u32 = 1 << 4;
pub const LPE: u32 = 1 << 5;
const BAM: u32 = 1 << 15;
const VFE: u32 = 1 << 18;
const CFIEN: u32 = 1 << 19;
const CFI: u32 = 1 << 20;

/// How a frame got through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Exact,
    /// By the multicast table's hash only: software is to look (PIF).
    Inexact,
}

/// `first`: the first bytes as the guest would see them on the wire, tag included.
pub fn pass(registers: &Registers, first: &[u8]) -> Option<Pass> {
    let rctl = registers[r::RCTL];
    let to: [u8; 6] = first.get(..6)?.try_into().ok()?;
    if rctl & VFE != 0
        && let Some(tag) = tag(registers, first)
    {
        let vlan = usize::from(tag & 0xfff);
        if registers[r::VFTA + (vlan >> 5)] >> (vlan & 31) & 1 == 0 {
            return None;
        }
        if rctl & CFIEN != 0 && (tag & 0x1000 != 0) != (rctl & CFI != 0) {
            return None;
        }
    }
    let group = to[0] & 1 != 0;
    if rctl & if group { MPE } else { UPE } != 0 {
        return Some(Pass::Exact);
    }
    if group && to == [0xff; 6] && rctl & BAM != 0 {
        return Some(Pass::Exact);
    }
    if exact(registers, first, to) {
        return Some(Pass::Exact);
    }
    if group {
        // Twelve bits of the address's last two bytes (13.5.1).
        let shift = [4, 3, 2, 0][(rctl >> 12 & 3) as usize];
        let hash = usize::from(u16::from_le_bytes([to[4], to[5]]) >> shift) & 0xfff;
        if registers[r::MTA + (hash >> 5)] >> (hash & 31) & 1 != 0 {
            return Some(Pass::Inexact);
        }
    }
    None
}

/// Sixteen addresses, each with its valid bit, of the destination or of the source (13.5.2).
fn exact(registers: &Registers, first: &[u8], to: [u8; 6]) -> bool {
    let number = |address: &[u8]| {
        let [a, b, c, d, e, f] = *address else { return None };
        Some((u32::from_le_bytes([a, b, c, d]), u32::from(u16::from_le_bytes([e, f]))))
    };
    let (to, from) = (number(&to), first.get(6..12).and_then(number));
    (0..16).any(|entry| {
        let (low, high) = (registers[r::RA + 2 * entry], registers[r::RA + 2 * entry + 1]);
        let wanted = Some((low, high & 0xffff));
        match high >> 16 & 3 {
            _ if high & 1 << 31 == 0 => false,
            0 => wanted == to,
            1 => wanted == from,
            _ => false,
        }
    })
}

/// The tag control information of a frame with a tag of the kind that VET names.
#[inline]
pub fn tag(registers: &Registers, first: &[u8]) -> Option<u16> {
    let [a, b, c, d] = *first.get(12..16)? else { return None };
    (u32::from(u16::from_be_bytes([a, b])) == registers[r::VET]).then(|| u16::from_be_bytes([c, d]))
}
