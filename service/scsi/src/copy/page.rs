//! VPD page 8Fh, third-party copy (SPC-5 7.7.18): what an initiator looks at before it copies.

use alloc::vec::Vec;

use super::{COPY_MAX_BYTES, DESCRIPTORS_MAX_BYTES, RANGES_MAX, SEGMENTS_MAX, TARGETS_MAX};
use crate::rows;
use crate::unit::Unit;

/// The largest time a token may lie unused, in seconds. Ours last until they are changed or a newer
/// one takes their place.
const INACTIVITY_SECONDS: u32 = 3600;

/// The body of the page.
pub(crate) fn third_party_copy(unit: &Unit) -> Vec<u8> {
    let mut page = Vec::new();
    descriptor(&mut page, 0x0000, &token_limits(unit));
    descriptor(&mut page, 0x0001, &supported_commands(unit));
    descriptor(&mut page, 0x0004, &parameter_data());
    // Supported descriptors, with their list's length in front.
    descriptor(&mut page, 0x0008, &[3, 0x02, 0x0a, 0xe4, 0]);
    // Supported CSCD descriptor IDs: none beside those of the list.
    descriptor(&mut page, 0x000c, &[0, 0]);
    descriptor(&mut page, 0x0106, &token_features(unit));
    descriptor(&mut page, 0x0108, &supported_types());
    descriptor(&mut page, 0x8001, &general_operations());
    page
}

/// THIRD-PARTY COPY DESCRIPTOR TYPE and LENGTH, padded to a multiple of four.
fn descriptor(page: &mut Vec<u8>, kind: u16, body: &[u8]) {
    let len = (4 + body.len()).next_multiple_of(4) - 4;
    page.extend_from_slice(&kind.to_be_bytes());
    page.extend_from_slice(&(len as u16).to_be_bytes()); // each is far below 64 KiB
    page.extend_from_slice(body);
    page.resize(page.len() + len - body.len(), 0);
}

/// Block device ROD token limits, SBC-4.
fn token_limits(unit: &Unit) -> Vec<u8> {
    let mut body = alloc::vec![0; 32];
    body[6..8].copy_from_slice(&(RANGES_MAX as u16).to_be_bytes());
    body[8..12].copy_from_slice(&INACTIVITY_SECONDS.to_be_bytes());
    body[12..16].copy_from_slice(&INACTIVITY_SECONDS.to_be_bytes());
    let blocks = COPY_MAX_BYTES >> unit.facts.shift();
    body[16..24].copy_from_slice(&blocks.to_be_bytes());
    body[24..32].copy_from_slice(&blocks.to_be_bytes());
    body
}

/// Operation codes with their service actions.
fn supported_commands(unit: &Unit) -> Vec<u8> {
    let mut list = Vec::new();
    for opcode in [0x83, 0x84] {
        let actions: Vec<u8> = rows::with_opcode(opcode, unit).filter_map(|row| row.action).collect();
        list.push(opcode);
        list.push(actions.len() as u8); // below 32
        list.extend_from_slice(&actions);
    }
    let mut body = Vec::from([list.len() as u8]); // two lists of at most 34 bytes
    body.extend_from_slice(&list);
    body
}

fn parameter_data() -> Vec<u8> {
    let mut body = alloc::vec![0; 28];
    body[4..6].copy_from_slice(&(TARGETS_MAX as u16).to_be_bytes());
    body[6..8].copy_from_slice(&(SEGMENTS_MAX as u16).to_be_bytes());
    body[8..12].copy_from_slice(&(DESCRIPTORS_MAX_BYTES as u32).to_be_bytes());
    body
}

/// ROD token features, with the block device's own part.
fn token_features(unit: &Unit) -> Vec<u8> {
    let mut body = alloc::vec![0; 44 + 44];
    body[0] = 0x02; // REMOTE TOKENS 0, and those of other units of this copy manager
    for at in [12, 16, 20] {
        // DEFAULT, MINIMUM, MAXIMUM of the token lifetime and inactivity.
        body[at..at + 4].copy_from_slice(&INACTIVITY_SECONDS.to_be_bytes());
    }
    body[42..44].copy_from_slice(&44u16.to_be_bytes());
    // Block device: type 00h, length, OPTIMAL BLOCK ROD LENGTH GRANULARITY, MAXIMUM BYTES.
    let own = &mut body[44..];
    own[2..4].copy_from_slice(&40u16.to_be_bytes());
    own[6..8].copy_from_slice(&1u16.to_be_bytes());
    own[8..16].copy_from_slice(&COPY_MAX_BYTES.to_be_bytes());
    own[16..24].copy_from_slice(&COPY_MAX_BYTES.to_be_bytes());
    own[24..32].copy_from_slice(&COPY_MAX_BYTES.to_be_bytes());
    let _ = unit;
    body
}

/// Supported ROD token and ROD types: 64 bytes each.
fn supported_types() -> Vec<u8> {
    let mut body = alloc::vec![0; 4 + 2 * 64];
    body[2..4].copy_from_slice(&128u16.to_be_bytes());
    for (at, kind) in [(4, 0x0080_0001u32), (68, super::token::ZERO)] {
        body[at..at + 4].copy_from_slice(&kind.to_be_bytes());
        body[at + 4] = 0x03; // TOKEN_IN, TOKEN_OUT
    }
    body
}

fn general_operations() -> Vec<u8> {
    let mut body = alloc::vec![0; 28];
    body[0..4].copy_from_slice(&64u32.to_be_bytes()); // TOTAL CONCURRENT COPIES
    body[4..8].copy_from_slice(&64u32.to_be_bytes()); // MAXIMUM IDENTIFIED CONCURRENT COPIES
    body[8..12].copy_from_slice(&super::SEGMENT_MAX_BYTES.to_be_bytes());
    body[12] = 9; // DATA SEGMENT GRANULARITY
    body
}
