use alloc::string::String;
use alloc::vec::Vec;
use request::Blocks;

use super::{data, facts, failure, unit};
use crate::{AccessState, Peer, PortId, PortName, Profile, TargetPort, TransportId, Unit};

#[test]
fn standard_inquiry_data() {
    let mut unit = unit(facts());
    let bytes = data(&mut unit, &[0x12, 0, 0, 0, 255, 0]);
    assert_eq!(bytes.len(), 96);
    assert_eq!(&bytes[..8], [0x00, 0x00, 0x06, 0x12, 91, 0x08, 0x00, 0x02]);
    assert_eq!(&bytes[8..36], b"STANDPIPVOLUME          0001");
    assert!(bytes[36..58].iter().all(|byte| *byte == 0));
    // SAM-5, SPC-5, SBC-4, SPC-4, SBC-3.
    let versions = [0x00, 0xa0, 0x05, 0xc0, 0x06, 0x00, 0x04, 0x60, 0x04, 0xc0, 0, 0];
    assert_eq!(bytes[58..70], versions);
    assert!(bytes[70..].iter().all(|byte| *byte == 0));
}

#[test]
fn the_allocation_length_cuts() {
    let mut unit = unit(facts());
    assert_eq!(data(&mut unit, &[0x12, 0, 0, 0, 36, 0]).len(), 36);
    assert_eq!(data(&mut unit, &[0x12, 0, 0, 0, 0, 0]).len(), 0);
    // Two bytes of it: 0x0104.
    assert_eq!(data(&mut unit, &[0x12, 1, 0xb0, 1, 4, 0]).len(), 64);
}

#[test]
fn a_page_code_needs_evpd_and_has_to_exist() {
    let mut unit = unit(facts());
    assert_eq!(failure(&mut unit, &[0x12, 0, 0x80, 0, 255, 0]), (0x5, 0x24, 0x00));
    assert_eq!(failure(&mut unit, &[0x12, 1, 0xb5, 0, 255, 0]), (0x5, 0x24, 0x00));
}

fn vpd(page: u8) -> Vec<u8> {
    data(&mut unit(facts()), &[0x12, 1, page, 0, 255, 0])
}

#[test]
fn the_list_of_pages_names_each_page_that_answers() {
    assert_eq!(
        vpd(0x00),
        [0x00, 0x00, 0x00, 0x0a, 0x00, 0x80, 0x83, 0x86, 0x87, 0x88, 0x8f, 0xb0, 0xb1, 0xb2]
    );
    let mut unit = unit(facts());
    for code in 0..=255 {
        let (response, bytes) = super::answer(&mut unit, super::NEXUS, &[0x12, 1, code, 0x0f, 0xff, 0]);
        assert_eq!(response.status == 0, vpd(0x00)[4..].contains(&code), "{code:02x}");
        if response.status == 0 {
            assert_eq!(bytes[1], code);
            assert_eq!(usize::from(bytes[2]) << 8 | usize::from(bytes[3]), bytes.len() - 4);
        }
    }
}

#[test]
fn unit_serial_number() {
    assert_eq!(vpd(0x80), *b"\x00\x80\x00\x0aweb1-disk0");
}

#[test]
fn device_identification() {
    let bytes = vpd(0x83);
    assert_eq!(&bytes[..4], [0x00, 0x83, 0x00, 86]);
    // Binary, NAA, of the logical unit, 16 bytes.
    assert_eq!(&bytes[4..8], [0x01, 0x03, 0x00, 0x10]);
    assert_eq!(bytes[8..24], facts().identity.naa);
    // ASCII, T10 vendor ID.
    assert_eq!(&bytes[24..28], [0x02, 0x01, 0x00, 18]);
    assert_eq!(&bytes[28..46], b"STANDPIPweb1-disk0");
    // UTF-8, SCSI name string, 40 bytes with the zeroes.
    assert_eq!(&bytes[46..50], [0x03, 0x08, 0x00, 40]);
    assert_eq!(&bytes[50..], b"naa.625E41100102030405060708090A0B0C\0\0\0\0");
}

/// Two ports: a controller's, which NEXUS comes by, and one of an iSCSI target.
fn with_ports() -> Unit {
    let mut unit = unit(facts());
    unit.set_ports(Vec::from([
        TargetPort {
            id: PortId(1),
            group: 0x0102,
            name: PortName::Sas([0x31, 2, 3, 4, 5, 6, 7, 8]),
            state: AccessState::ActiveOptimized,
        },
        TargetPort {
            id: PortId(0x0304),
            group: 7,
            name: PortName::Iscsi { target: String::from("iqn.2026-11.org.example:backup"), tag: 0x00a2 },
            state: AccessState::ActiveNonOptimized,
        },
    ]));
    unit
}

#[test]
fn device_identification_by_a_controller() {
    let bytes = data(&mut with_ports(), &[0x12, 1, 0x83, 0, 255, 0]);
    assert_eq!(bytes[3], 86 + 12 + 8 + 8);
    // PROTOCOL IDENTIFIER SAS, PIV, of the target port: NAA, RELATIVE TARGET PORT, TARGET PORT GROUP.
    assert_eq!(bytes[90..102], [0x61, 0x93, 0, 8, 0x31, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(bytes[102..110], [0x61, 0x94, 0, 4, 0, 0, 0, 1]);
    assert_eq!(bytes[110..], [0x61, 0x95, 0, 4, 0, 0, 0x01, 0x02]);
}

#[test]
fn device_identification_by_iscsi() {
    let mut unit = with_ports();
    let name = TransportId::iscsi("iqn.1993-08.org.debian:01:abc", [0, 0x02, 0x3d, 0, 0, 1]).unwrap();
    let nexus = unit.attach(Peer { initiator: name, port: PortId(0x0304) }).unwrap();
    let (_, bytes) = super::answer(&mut unit, nexus, &[0x12, 1, 0x83, 0, 255, 0]);
    assert_eq!(usize::from(bytes[3]), bytes.len() - 4);
    // 30 bytes of name, `,t,0x` and four digits, a zero: 40.
    assert_eq!(bytes[90..94], [0x53, 0x98, 0, 40]);
    assert_eq!(&bytes[94..134], b"iqn.2026-11.org.example:backup,t,0x00a2\0");
    assert_eq!(bytes[134..142], [0x51, 0x94, 0, 4, 0, 0, 0x03, 0x04]);
    assert_eq!(bytes[142..150], [0x51, 0x95, 0, 4, 0, 0, 0, 7]);
    // Of the target device.
    assert_eq!(bytes[150..154], [0x53, 0xa8, 0, 32]);
    assert_eq!(&bytes[154..], b"iqn.2026-11.org.example:backup\0\0");
    // TPGS 11b and 3PC, MULTIP, iSCSI as the last version descriptor.
    let (_, standard) = super::answer(&mut unit, nexus, &[0x12, 0, 0, 0, 96, 0]);
    assert_eq!(standard[5..7], [0x38, 0x10]);
    assert_eq!(standard[68..70], [0x09, 0x60]);
    // And SAS-2 for a controller.
    assert_eq!(data(&mut unit, &[0x12, 0, 0, 0, 96, 0])[68..70], [0x0c, 0x20]);
}

#[test]
fn ports_and_mode_page_policy() {
    let bytes = data(&mut with_ports(), &[0x12, 1, 0x88, 0, 255, 0]);
    assert_eq!(bytes[..4], [0x00, 0x88, 0x00, 12 + 12 + 12 + 44]);
    assert_eq!(bytes[4..16], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 12]);
    assert_eq!(bytes[16..28], [0x61, 0x93, 0, 8, 0x31, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(bytes[28..40], [0, 0, 0x03, 0x04, 0, 0, 0, 0, 0, 0, 0, 44]);
    assert_eq!(bytes[40..44], [0x53, 0x98, 0, 40]);
    assert_eq!(vpd(0x88), [0x00, 0x88, 0x00, 0x00]);
    // All pages and subpages, shared.
    assert_eq!(vpd(0x87), [0x00, 0x87, 0x00, 0x04, 0x3f, 0xff, 0x00, 0x00]);
}

#[test]
fn a_removable_medium_and_a_soft_threshold_show() {
    let profile = Profile { removable: true, thin_threshold_percent: Some(80), ..Profile::default() };
    let mut unit = Unit::new(facts(), profile);
    let _ = unit.attach(super::peer(0));
    assert_eq!(data(&mut unit, &[0x12, 0, 0, 0, 36, 0])[1], 0x80);
    // THRESHOLD EXPONENT 1.
    assert_eq!(data(&mut unit, &[0x12, 1, 0xb2, 0, 255, 0])[4..], [0x01, 0xe4, 0x02, 0x00]);
}

#[test]
fn a_locally_assigned_name_is_eight_bytes() {
    let mut facts = facts();
    facts.identity.naa = [0x31, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    let bytes = data(&mut unit(facts), &[0x12, 1, 0x83, 0, 255, 0]);
    assert_eq!(&bytes[4..16], [0x01, 0x03, 0x00, 0x08, 0x31, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(&bytes[16..20], [0x02, 0x01, 0x00, 18]);
}

#[test]
fn extended_inquiry_data() {
    let mut expected = [0; 64];
    expected[..8].copy_from_slice(&[0x00, 0x86, 0x00, 0x3c, 0x00, 0x07, 0x01, 0x01]);
    assert_eq!(vpd(0x86), expected);
    let mut steady = facts();
    steady.write_cache = false;
    let bytes = data(&mut unit(steady), &[0x12, 1, 0x86, 0, 255, 0]);
    assert_eq!(bytes[6], 0x00);
}

#[test]
fn block_limits() {
    let mut expected = [0; 64];
    expected[..4].copy_from_slice(&[0x00, 0xb0, 0x00, 0x3c]);
    expected[4..6].copy_from_slice(&[0x01, 0x01]); // WSNZ, MAXIMUM COMPARE AND WRITE LENGTH
    expected[6..8].copy_from_slice(&[0x00, 0x08]);
    expected[8..12].copy_from_slice(&[0x00, 0x01, 0x00, 0x00]); // 32 MiB
    expected[12..16].copy_from_slice(&[0x00, 0x00, 0x00, 0x80]);
    expected[20..24].copy_from_slice(&[0x00, 0x10, 0x00, 0x00]); // 1 Mi blocks
    expected[24..28].copy_from_slice(&[0x00, 0x00, 0x01, 0x00]);
    expected[28..32].copy_from_slice(&[0x00, 0x00, 0x00, 0x08]);
    expected[32] = 0x80; // UGAVALID
    expected[36..44].copy_from_slice(&[0, 0, 0, 0, 0x00, 0x01, 0x00, 0x00]);
    // MAXIMUM ATOMIC TRANSFER LENGTH, ATOMIC ALIGNMENT, ATOMIC TRANSFER LENGTH GRANULARITY.
    expected[44..56].copy_from_slice(&[0, 0, 0x08, 0x00, 0, 0, 0, 0x08, 0, 0, 0, 0x08]);
    assert_eq!(vpd(0xb0), expected);
}

#[test]
fn a_unit_that_cannot_give_space_back_says_so_everywhere() {
    let mut thick = facts();
    thick.discard = None;
    let mut unit = unit(thick);
    let limits = data(&mut unit, &[0x12, 1, 0xb0, 0, 255, 0]);
    assert!(limits[20..36].iter().all(|byte| *byte == 0));
    assert_eq!(data(&mut unit, &[0x12, 1, 0xb2, 0, 255, 0]), [0x00, 0xb2, 0x00, 0x04, 0, 0, 0, 0]);
    assert_eq!(data(&mut unit, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0])[14], 0x00);
}

#[test]
fn block_device_characteristics() {
    let mut expected = [0; 64];
    // WABEREQ 01b: reads end well after a block erase.
    expected[..8].copy_from_slice(&[0x00, 0xb1, 0x00, 0x3c, 0x00, 0x01, 0x00, 0x40]);
    assert_eq!(vpd(0xb1), expected);
    let mut spinning = facts();
    spinning.rotational = true;
    assert_eq!(data(&mut unit(spinning), &[0x12, 1, 0xb1, 0, 255, 0])[4..6], [0x00, 0x00]);
}

#[test]
fn logical_block_provisioning() {
    assert_eq!(vpd(0xb2), [0x00, 0xb2, 0x00, 0x04, 0x00, 0xe4, 0x02, 0x00]);
    let mut vague = facts();
    vague.discard.as_mut().unwrap().zeroes = false;
    assert_eq!(data(&mut unit(vague), &[0x12, 1, 0xb2, 0, 255, 0])[5], 0xe0);
}

#[test]
fn read_capacity() {
    let mut unit = unit(facts());
    let ten = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(data(&mut unit, &ten), [0x00, 0x1f, 0xff, 0xff, 0x00, 0x00, 0x02, 0x00]);
    let mut expected = [0; 32];
    expected[4..8].copy_from_slice(&[0x00, 0x1f, 0xff, 0xff]);
    expected[8..12].copy_from_slice(&[0x00, 0x00, 0x02, 0x00]);
    expected[13] = 0x03;
    expected[14] = 0xc0;
    assert_eq!(data(&mut unit, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]), expected);
    assert_eq!(data(&mut unit, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0]), expected[..12]);
}

#[test]
fn read_capacity_of_the_very_large_and_the_empty() {
    let mut large = facts();
    large.blocks = Blocks(0x1_0000_0001);
    let mut large = unit(large);
    let ten = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(data(&mut large, &ten)[..4], [0xff, 0xff, 0xff, 0xff]);
    let sixteen = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];
    assert_eq!(data(&mut large, &sixteen)[..8], [0, 0, 0, 1, 0, 0, 0, 0]);
    let mut empty = facts();
    empty.blocks = Blocks(0);
    let mut empty = super::attached(empty);
    let _ = super::answer(&mut empty, super::NEXUS, &[0; 6]);
    assert_eq!(failure(&mut empty, &ten), (0x2, 0x3a, 0x00));
    assert_eq!(failure(&mut empty, &[0; 6]), (0x2, 0x3a, 0x00));
}
