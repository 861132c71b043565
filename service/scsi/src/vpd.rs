//! Vital product data pages (SPC-5, SBC-4).

use alloc::vec::Vec;
use request::Facts;

use crate::copy;
use crate::inquiry::{VENDOR, peripheral};
use crate::limits::{TRANSFER_MAX_BYTES, UNMAP_DESCRIPTORS_MAX, UNMAP_MAX_BLOCKS, WRITE_SAME_MAX_BYTES};
use crate::medium::COMPARE_AND_WRITE_MAX_BLOCKS;
use crate::mode::threshold_exponent;
use crate::nexus::Nexus;
use crate::profile::PortName;
use crate::rows::On;
use crate::unit::Unit;

/// One page: its code, who has it, and the bytes behind its four-byte header.
struct Page {
    code: u8,
    on: On,
    body: fn(&Unit, Nexus) -> Vec<u8>,
}

/// In ascending order, as page 00h must list them.
static PAGES: [Page; 10] = [
    Page { code: 0x00, on: On::All, body: supported_pages },
    Page { code: 0x80, on: On::All, body: |unit, _| unit_serial_number(unit) },
    Page { code: 0x83, on: On::All, body: device_identification },
    Page { code: 0x86, on: On::All, body: |unit, _| extended_inquiry(unit) },
    Page { code: 0x87, on: On::All, body: |_, _| mode_page_policy() },
    Page { code: 0x88, on: On::All, body: |unit, _| scsi_ports(unit) },
    Page { code: 0x8f, on: On::Disk, body: |unit, _| copy::third_party_copy(unit) },
    Page { code: 0xb0, on: On::Disk, body: |unit, _| block_limits(unit) },
    Page { code: 0xb1, on: On::Disk, body: |unit, _| block_device_characteristics(unit) },
    Page { code: 0xb2, on: On::Disk, body: |unit, _| logical_block_provisioning(unit) },
];

fn pages(unit: &Unit) -> impl Iterator<Item = &'static Page> {
    PAGES.iter().filter(|page| page.on.includes(unit))
}

/// The page with its header, as it is told to `nexus`; `None` if there is no such page.
pub(crate) fn page(unit: &Unit, nexus: Nexus, code: u8) -> Option<Vec<u8>> {
    let page = pages(unit).find(|page| page.code == code)?;
    Some(with_header(peripheral(unit), code, &(page.body)(unit, nexus)))
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

fn supported_pages(unit: &Unit, _: Nexus) -> Vec<u8> {
    pages(unit).map(|page| page.code).collect()
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

/// ASSOCIATION, as byte 1 of a designator has it.
const OF_UNIT: u8 = 0x00;
const OF_PORT: u8 = 0x10;
const OF_DEVICE: u8 = 0x20;

/// CODE SET: binary, ASCII, UTF-8.
const BINARY: u8 = 0x1;
const ASCII: u8 = 0x2;
const UTF_8: u8 = 0x3;

/// DESIGNATOR TYPE.
const T10: u8 = 0x1;
const NAA: u8 = 0x3;
const RELATIVE_TARGET_PORT: u8 = 0x4;
const TARGET_PORT_GROUP: u8 = 0x5;
const SCSI_NAME: u8 = 0x8;

/// Device identification, SPC-5: the NAA name, by which hosts recognise the volume on every path, as
/// bytes and as a SCSI name string; a T10 vendor ID with the serial number for readers; and the port
/// that the command came by.
fn device_identification(unit: &Unit, nexus: Nexus) -> Vec<u8> {
    let naa = &unit.facts.identity.naa;
    // NAA 6h is 16 bytes long, all others 8 (SPC-5).
    let naa = if naa[0] >> 4 == 0x6 { &naa[..] } else { &naa[..8] };
    let mut body = Vec::new();
    designator(&mut body, BINARY, OF_UNIT | NAA, naa);
    let t10: Vec<u8> = VENDOR.iter().copied().chain(serial(&unit.facts)).collect();
    designator(&mut body, ASCII, OF_UNIT | T10, &t10);
    let mut name = Vec::from(*b"naa.");
    for byte in naa {
        for digit in [byte >> 4, byte & 0x0f] {
            name.push(b"0123456789ABCDEF"[usize::from(digit)]);
        }
    }
    scsi_name(&mut body, UTF_8, OF_UNIT, name);
    if let Some(port) = unit.port_of(nexus) {
        let protocol = port_name(&mut body, &port.name);
        let id = u32::from(port.id.0).to_be_bytes();
        designator(&mut body, protocol | BINARY, PIV | OF_PORT | RELATIVE_TARGET_PORT, &id);
        let group = u32::from(port.group).to_be_bytes();
        designator(&mut body, protocol | BINARY, PIV | OF_PORT | TARGET_PORT_GROUP, &group);
        if let PortName::Iscsi { target, .. } = &port.name {
            scsi_name(&mut body, protocol | UTF_8, PIV | OF_DEVICE, Vec::from(target.as_bytes()));
        }
    }
    body
}

/// PIV: PROTOCOL IDENTIFIER, the upper half of a designator's first byte, is there.
const PIV: u8 = 0x80;
const PROTOCOL_ISCSI: u8 = 0x50;
const PROTOCOL_SAS: u8 = 0x60;

/// The name of a target port. Its protocol.
fn port_name(body: &mut Vec<u8>, name: &PortName) -> u8 {
    match name {
        PortName::Sas(address) => {
            designator(body, PROTOCOL_SAS | BINARY, PIV | OF_PORT | NAA, address);
            PROTOCOL_SAS
        }
        PortName::Iscsi { target, tag } => {
            // RFC 7143, 4.2.7 and SPC-5: iSCSI name, separator and portal group tag.
            let mut name = Vec::from(target.as_bytes());
            name.extend_from_slice(b",t,0x");
            for shift in [12, 8, 4, 0] {
                name.push(b"0123456789abcdef"[usize::from(tag >> shift & 0x0f)]);
            }
            scsi_name(body, PROTOCOL_ISCSI | UTF_8, PIV | OF_PORT, name);
            PROTOCOL_ISCSI
        }
    }
}

/// A SCSI name string ends with a zero, and is padded to four bytes (SPC-5).
fn scsi_name(body: &mut Vec<u8>, code_set: u8, association: u8, mut name: Vec<u8>) {
    // An iSCSI name has at most 223 bytes; a longer one would be none.
    name.truncate(247);
    name.push(0);
    name.resize(name.len().next_multiple_of(4), 0);
    designator(body, code_set, association | SCSI_NAME, &name);
}

/// A designator: protocol and code set, association and type, length.
fn designator(body: &mut Vec<u8>, code_set: u8, kind: u8, designator: &[u8]) {
    // The longest is a SCSI name of 248 bytes.
    body.extend_from_slice(&[code_set, kind, 0x00, designator.len() as u8]);
    body.extend_from_slice(designator);
}

/// Mode page policy, SPC-5: all nexuses share all pages.
fn mode_page_policy() -> Vec<u8> {
    Vec::from([0x3f, 0xff, 0x00, 0x00])
}

/// SCSI ports, SPC-5.
fn scsi_ports(unit: &Unit) -> Vec<u8> {
    let mut body = Vec::new();
    for port in unit.ports() {
        let [high, low] = port.id.0.to_be_bytes();
        let mut names = Vec::new();
        port_name(&mut names, &port.name);
        body.extend_from_slice(&[0, 0, high, low, 0, 0, 0, 0, 0, 0, 0, names.len() as u8]);
        body.extend_from_slice(&names);
    }
    body
}

const EXTENDED_BYTES: usize = 60;

/// Extended INQUIRY data, SPC-5.
fn extended_inquiry(unit: &Unit) -> Vec<u8> {
    let mut body = alloc::vec![0; EXTENDED_BYTES];
    body[1] = 0x07; // HEADSUP, ORDSUP, SIMPSUP
    if unit.facts.write_cache {
        body[2] = 0x01; // V_SUP
    }
    body[3] = 0x01; // LUICLR: what a nexus lost is forgotten of that nexus alone
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
        if unit.profile.thin_threshold_percent.is_some() {
            body[0] = threshold_exponent(unit);
        }
        body[1] = 0xe0; // LBPU, LBPWS, LBPWS10
        if discard.zeroes {
            body[1] |= 0x04; // LBPRZ
        }
        body[2] = 0x02; // PROVISIONING TYPE: thin
    }
    body
}
