//! DISCARD and WRITE ZEROES.

use alloc::vec::Vec;
use request::{Blocks, Lba, Operation};

use super::requests::answered;
use super::{facts, header, mode, post};
use crate::{Answered, Config, Fault, Mode, Parsed, parse};

fn segment(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&sector.to_le_bytes());
    bytes.extend_from_slice(&sectors.to_le_bytes());
    bytes.extend_from_slice(&flags.to_le_bytes());
    bytes
}

fn request(kind: u8, segments: &[(u64, u32, u32)]) -> Vec<u8> {
    let mut bytes = header(kind, 0);
    for (sector, sectors, flags) in segments {
        bytes.extend(segment(*sector, *sectors, *flags));
    }
    bytes
}

fn operations(kind: u8, segments: &[(u64, u32, u32)]) -> Vec<Operation> {
    let bytes = request(kind, segments);
    let mut posted = post(&bytes, &[bytes.len() as u32], &[1]);
    let Parsed::Work(work) = posted.parse(&facts()) else { panic!() };
    assert!(work.data(&posted.chain).is_empty());
    assert_eq!(work.finish(&posted.memory, &posted.chain, 0), 1);
    work.collect()
}

fn refusal(kind: u8, segments: &[(u64, u32, u32)]) -> (Fault, u8) {
    let bytes = request(kind, segments);
    let mut posted = post(&bytes, &[bytes.len() as u32], &[1]);
    let answered = answered(posted.parse(&facts()));
    assert_eq!(answered.written, 1);
    (answered.fault.unwrap(), posted.written(1)[0])
}

#[test]
fn discards() {
    let extent = |first, count| facts().extent(Lba(first), Blocks(count)).unwrap();
    assert_eq!(operations(11, &[(8, 16, 0)]), [Operation::Discard(extent(8, 16))]);
    assert_eq!(
        operations(11, &[(8, 16, 0), (0, 0, 0), (2040, 8, 0), (64, 1, 0)]),
        [
            Operation::Discard(extent(8, 16)),
            Operation::Discard(extent(2040, 8)),
            Operation::Discard(extent(64, 1))
        ]
    );
    assert_eq!(operations(11, &[(0, 1, 0); 64]).len(), 64);
}

#[test]
fn write_zeroes() {
    let zeroes = |unmap| Operation::WriteZeroes {
        extent: facts().extent(Lba(8), Blocks(16)).unwrap(),
        unmap,
        fua: false,
    };
    assert_eq!(operations(13, &[(8, 16, 0), (8, 16, 1)]), [zeroes(false), zeroes(true)]);
}

#[test]
fn write_zeroes_is_durable_in_write_through() {
    let facts = facts();
    let mode = Mode::new(&facts, 1 << 14, &Config::new(&facts, super::LIMITS));
    let bytes = request(13, &[(8, 16, 1)]);
    let mut posted = post(&bytes, &[32], &[1]);
    let Parsed::Work(mut work) = parse(&posted.memory, &mut posted.chain, &facts, &mode) else { panic!() };
    assert!(matches!(work.next(), Some(Operation::WriteZeroes { unmap: true, fua: true, .. })));
    // DISCARD was not accepted.
    let bytes = request(11, &[(8, 16, 0)]);
    let mut posted = post(&bytes, &[32], &[1]);
    let parsed = parse(&posted.memory, &mut posted.chain, &facts, &mode);
    assert_eq!(answered(parsed).fault, Some(Fault::UnsupportedType));
    assert_eq!(posted.written(1), [2]);
}

#[test]
fn segments_over_any_spans() {
    let bytes = request(11, &[(8, 16, 0), (40, 8, 0), (80, 8, 0)]);
    for out in [&[16, 48][..], &[64], &[7, 9, 1, 17, 30], &[17, 15, 31, 1]] {
        let mut posted = post(&bytes, out, &[1]);
        let Parsed::Work(work) = posted.parse(&facts()) else { panic!() };
        let firsts: Vec<_> = work
            .map(|operation| match operation {
                Operation::Discard(extent) => extent.first().0,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(firsts, [8, 40, 80], "{out:?}");
    }
}

#[test]
fn refusals() {
    for kind in [11, 13] {
        assert_eq!(refusal(kind, &[]), (Fault::BadSegments, 1));
        assert_eq!(refusal(kind, &[(0, 1, 0); 65]), (Fault::BadSegments, 1));
        assert_eq!(refusal(kind, &[(0, 8_388_609, 0)]), (Fault::BadSegments, 1));
        assert_eq!(refusal(kind, &[(0, 1, 0), (2048, 1, 0)]), (Fault::OutOfRange, 1));
        assert_eq!(refusal(kind, &[(0, 1, 2)]), (Fault::BadFlags, 2));
        assert_eq!(refusal(kind, &[(0, 1, 0), (0, 1, 0x8000_0000)]), (Fault::BadFlags, 2));
    }
    // `unmap` in a discard; a longer write-zeroes than announced.
    assert_eq!(refusal(11, &[(0, 1, 1)]), (Fault::BadFlags, 2));
    assert_eq!(refusal(13, &[(0, 65_537, 0)]), (Fault::BadSegments, 1));
    assert_eq!(refusal(11, &[(0, 65_537, 0)]), (Fault::OutOfRange, 1));
    // Half a segment.
    let bytes = &request(11, &[(0, 1, 0), (0, 1, 0)])[..40];
    let mut posted = post(bytes, &[40], &[1]);
    assert_eq!(answered(posted.parse(&facts())).fault, Some(Fault::BadSegments));
    // Not on blocks.
    let mut large = facts();
    large.block_size = 4096;
    for (sector, sectors) in [(8, 4), (4, 8)] {
        let bytes = request(11, &[(sector, sectors, 0)]);
        let mut posted = post(&bytes, &[32], &[1]);
        let parsed = parse(&posted.memory, &mut posted.chain, &large, &mode(&large));
        assert_eq!(answered(parsed).fault, Some(Fault::Misaligned));
    }
}

#[test]
fn segments_of_nothing_are_done() {
    let bytes = request(11, &[(0, 0, 0), (2048, 0, 0)]);
    let mut posted = post(&bytes, &[48], &[1]);
    assert_eq!(answered(posted.parse(&facts())), Answered { written: 1, fault: None });
    assert_eq!(posted.written(1), [0]);
}
