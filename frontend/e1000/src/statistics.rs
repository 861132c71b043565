//! Statistics registers (8254x SDM, 13.7). They stop at their maximum.

use crate::registers::{self as r, Registers};

#[inline(always)]
pub fn count(registers: &mut Registers, index: usize) {
    registers[index] = registers[index].saturating_add(1);
}

/// Adds to a register pair: the index is that of its lower half.
#[inline(always)]
fn add(registers: &mut Registers, low: usize, bytes: u64) {
    let sum = (u64::from(registers[low + 1]) << 32 | u64::from(registers[low])).saturating_add(bytes);
    registers[low] = sum as u32;
    registers[low + 1] = (sum >> 32) as u32;
}

/// The counter of a frame's size, from the first of six; `bytes` with the FCS.
#[inline(always)]
fn size(first: usize, bytes: u64) -> usize {
    first
        + match bytes {
            0..=64 => 0,
            65..=127 => 1,
            128..=255 => 2,
            256..=511 => 3,
            512..=1023 => 4,
            _ => 5,
        }
}

/// A frame left; `bytes` without the FCS.
#[inline]
pub fn sent(registers: &mut Registers, bytes: u64, first: &[u8]) {
    let bytes = bytes + 4;
    count(registers, r::TPT);
    count(registers, r::GPTC);
    count(registers, size(r::PTC64, bytes));
    add(registers, r::TOTL, bytes);
    add(registers, r::GOTCL, bytes);
    if let Some(group) = group(first) {
        count(registers, if group { r::BPTC } else { r::MPTC });
    }
}

/// A frame came in.
#[inline]
pub fn received(registers: &mut Registers, bytes: u64, first: &[u8]) {
    let bytes = bytes + 4;
    count(registers, r::TPR);
    count(registers, r::GPRC);
    count(registers, size(r::PRC64, bytes));
    add(registers, r::TORL, bytes);
    add(registers, r::GORCL, bytes);
    if let Some(group) = group(first) {
        count(registers, if group { r::BPRC } else { r::MPRC });
    }
}

/// Broadcast (`true`), multicast (`false`), or to one.
#[inline(always)]
fn group(first: &[u8]) -> Option<bool> {
    let to = first.get(..6)?;
    (to[0] & 1 != 0).then(|| to == [0xff; 6])
}
