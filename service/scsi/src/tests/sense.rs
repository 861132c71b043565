use request::Status;

use super::{facts, unit};
use crate::{Format, Sense, status};

#[test]
fn fixed_format_is_eighteen_bytes() {
    let sense = Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE.encode(Format::Fixed);
    assert_eq!(&sense[..], [0x70, 0, 0x05, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, 0x21, 0x00, 0, 0, 0, 0]);
}

#[test]
fn descriptor_format_has_the_codes_in_front() {
    let sense = Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE.encode(Format::Descriptor);
    assert_eq!(&sense[..], [0x72, 0x05, 0x21, 0x00, 0, 0, 0, 0]);
}

#[test]
fn the_field_pointer_says_where() {
    // SKSV, C/D, BPV, bit 5 of byte 6 of the CDB.
    let fixed = Sense::cdb_bit(6, 5).encode(Format::Fixed);
    assert_eq!(&fixed[12..], [0x24, 0x00, 0, 0xcd, 0x00, 0x06]);
    let descriptor = Sense::cdb_bit(6, 5).encode(Format::Descriptor);
    assert_eq!(
        &descriptor[..],
        [0x72, 0x05, 0x24, 0x00, 0, 0, 0, 0x08, 0x02, 0x06, 0, 0, 0xcd, 0x00, 0x06, 0]
    );
    // A byte of the parameter list: neither C/D nor BPV.
    let list = Sense::parameter_byte(0x0102).encode(Format::Fixed);
    assert_eq!(&list[12..], [0x26, 0x00, 0, 0x80, 0x01, 0x02]);
    let list = Sense::parameter_bit(9, 7).encode(Format::Fixed);
    assert_eq!(&list[12..], [0x26, 0x00, 0, 0x8f, 0x00, 0x09]);
}

#[test]
fn every_end_of_a_backend_has_its_sense() {
    let expected = [
        (Status::Good, None),
        (Status::MediumRead, Some((0x3, 0x11, 0x00))),
        (Status::MediumWrite, Some((0x3, 0x0c, 0x00))),
        (Status::NoSpace, Some((0x7, 0x27, 0x07))),
        (Status::WriteProtected, Some((0x7, 0x27, 0x00))),
        (Status::NotReady, Some((0x2, 0x04, 0x00))),
        (Status::Unsupported, Some((0x5, 0x20, 0x00))),
        (Status::Aborted, Some((0xb, 0x00, 0x06))),
    ];
    assert_eq!(expected.map(|(status, _)| status), Status::ALL);
    let mut unit = unit(facts());
    for (end, codes) in expected {
        let response = super::ended(&mut unit, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], end);
        assert_eq!(response.sense.map(|sense| (sense.key as u8, sense.asc, sense.ascq)), codes);
        assert_eq!(response.status, if codes.is_some() { 0x02 } else { 0x00 });
    }
    assert_eq!((status::BUSY, status::TASK_SET_FULL, status::TASK_ABORTED), (0x08, 0x28, 0x40));
}
