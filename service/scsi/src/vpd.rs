//! Vital product data pages (SPC-4, SBC-3).

use alloc::vec::Vec;
use request::Facts;

use crate::copy;
use crate::inquiry::{DIRECT_ACCESS, VENDOR};
use crate::limits::{TRANSFER_MAX_BYTES, UNMAP_DESCRIPTORS_MAX, UNMAP_MAX_BLOCKS, WRITE_SAME_MAX_BYTES};
use crate::medium::COMPARE_AND_WRITE_MAX_BLOCKS;
use crate::unit::Unit;

/// One page: its code and the bytes behind its four-byte header.
struct Page {
    code: u8,
    body: fn(&Unit) -> Vec<u8>,
}

/// In ascending order, as page 00h must list them.
static PAGES: [Page; 8] = [
    Page { code: 0x00, body: supported_pages },
    Page { code: 0x80, body: unit_serial_number },
    Page { code: 0x83, body: device_identification },
    Page { code: 0x86, body: extended_inquiry },
    Page { code: 0x8f, body: copy::third_party_copy },
    Page { code: 0xb0, body: block_limits },
    Page { code: 0xb1, body: block_device_characteristics },
    Page { code: 0xb2, body: logical_block_provisioning },
];

/// The page with its header; `None` if there is no such page.
pub(crate) fn page(unit: &Unit, code: u8) -> Option<Vec<u8>> {
    let page = PAGES.iter().find(|page| page.code == code)?;
    Some(with_header(DIRECT_ACCESS, code, &(page.body)(unit)))
}

/// PERIPHERAL, PAGE CODE, PAGE LENGTH.
pub(crate) fn with_header(peripheral: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(4 + body.len());
    bytes.extend_from_slice(&[peripheral, code]);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&body[..usize::from(length)]);
    bytes
}

fn supported_pages(_: &Unit) -> Vec<u8> {
    PAGES.iter().map(|page| page.code).collect()
}

/// The serial number's printable characters, at most [`SERIAL_MAX_BYTES`] of them.
fn serial(facts: &Facts) -> impl Iterator<Item = u8> {
    facts.identity.serial.bytes().filter(|byte| (0x20..0x7f).contains(byte)).take(SERIAL_MAX_BYTES)
}

/// `Identity::serial` promises no more.
const SERIAL_MAX_BYTES: usize = 36;

fn unit_serial_number(unit: &Unit) -> Vec<u8> {
    serial(&unit.facts).collect()
}

/// Device identification, SPC-4: the NAA name, by which hosts recognise the volume on every path,
/// and a T10 vendor ID with the serial number for readers.
fn device_identification(unit: &Unit) -> Vec<u8> {
    let naa = &unit.facts.identity.naa;
    // NAA 6h is 16 bytes long, all others 8 (SPC-4).
    let naa = if naa[0] >> 4 == 0x6 { &naa[..] } else { &naa[..8] };
    let mut body = Vec::new();
    designator(&mut body, 0x1, 0x3, naa);
    let t10: Vec<u8> = VENDOR.iter().copied().chain(serial(&unit.facts)).collect();
    designator(&mut body, 0x2, 0x1, &t10);
    body
}

/// A designator of the logical unit (ASSOCIATION 00b). Code set 1h is binary, 2h ASCII.
fn designator(body: &mut Vec<u8>, code_set: u8, kind: u8, designator: &[u8]) {
    // The longest is 8 + 36 bytes.
    body.extend_from_slice(&[code_set, kind, 0x00, designator.len() as u8]);
    body.extend_from_slice(designator);
}

const EXTENDED_BYTES: usize = 60;

/// Extended INQUIRY data, SPC-4. SIMPSUP alone of the task attributes: commands are not held back
/// for one another, so neither ORDERED nor HEAD OF QUEUE would be kept.
fn extended_inquiry(unit: &Unit) -> Vec<u8> {
    let mut body = alloc::vec![0; EXTENDED_BYTES];
    body[1] = 0x01; // SIMPSUP
    if unit.facts.write_cache {
        body[2] = 0x01; // V_SUP
    }
    body
}

fn put32(body: &mut [u8], at: usize, value: u64) {
    // FFFFFFFFh where more would be possible; zero would mean that nothing is told.
    let value = u32::try_from(value).unwrap_or(u32::MAX);
    body[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Block limits, SBC-3. Offsets are those of the page less its header of four.
fn block_limits(unit: &Unit) -> Vec<u8> {
    let facts = &unit.facts;
    let blocks = |bytes: u64| bytes >> facts.shift();
    let mut body = alloc::vec![0; EXTENDED_BYTES];
    body[0] = 0x01; // WSNZ
    body[1] = COMPARE_AND_WRITE_MAX_BLOCKS;
    // OPTIMAL TRANSFER LENGTH GRANULARITY: a physical block.
    let granularity = 1u16.checked_shl(u32::from(facts.physical_exponent)).unwrap_or(0);
    body[2..4].copy_from_slice(&granularity.to_be_bytes());
    put32(&mut body, 4, blocks(TRANSFER_MAX_BYTES));
    put32(&mut body, 8, facts.optimal.0.min(blocks(TRANSFER_MAX_BYTES)));
    if let Some(discard) = facts.discard {
        put32(&mut body, 16, UNMAP_MAX_BLOCKS);
        put32(&mut body, 20, u64::from(UNMAP_DESCRIPTORS_MAX));
        put32(&mut body, 24, discard.granularity.0);
        body[28] = 0x80; // UGAVALID, UNMAP GRANULARITY ALIGNMENT zero
    }
    body[32..40].copy_from_slice(&blocks(WRITE_SAME_MAX_BYTES).to_be_bytes());
    if let Some(atomic) = facts.atomic {
        // MAXIMUM ATOMIC TRANSFER LENGTH, ATOMIC ALIGNMENT, ATOMIC TRANSFER LENGTH GRANULARITY. With
        // an ATOMIC BOUNDARY there is none.
        put32(&mut body, 40, atomic.max.0.min(blocks(TRANSFER_MAX_BYTES)));
        put32(&mut body, 44, atomic.alignment.0);
        put32(&mut body, 48, atomic.granularity.0);
    }
    body
}

/// Block device characteristics, SBC-3.
fn block_device_characteristics(unit: &Unit) -> Vec<u8> {
    let mut body = alloc::vec![0; EXTENDED_BYTES];
    // MEDIUM ROTATION RATE: 0001h does not rotate, 0000h not reported.
    body[1] = u8::from(!unit.facts.rotational);
    if unit.facts.discard.is_some() {
        body[3] = 0x40; // WABEREQ: after a block erase reads end well
    }
    body
}

/// Logical block provisioning, SBC-3.
fn logical_block_provisioning(unit: &Unit) -> Vec<u8> {
    let mut body = alloc::vec![0; 4];
    if let Some(discard) = unit.facts.discard {
        body[1] = 0xe0; // LBPU, LBPWS, LBPWS10
        if discard.zeroes {
            body[1] |= 0x04; // LBPRZ
        }
        body[2] = 0x02; // PROVISIONING TYPE: thin
    }
    body
}
