use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use request::{Blocks, Extent, Facts, Lba, Operation, Status};

use super::{Posted, UNTOUCHED, facts, header, mode, post};
use crate::{Answered, Config, Fault, Limits, Mode, Parsed, Work, bits, features, parse, status_of};

fn extent(first: u64, count: u64) -> Extent {
    facts().extent(Lba(first), Blocks(count)).unwrap()
}

fn work(posted: &mut Posted) -> Work {
    match posted.parse(&facts()) {
        Parsed::Work(work) => work,
        other => panic!("{other:?}"),
    }
}

pub(super) fn answered(parsed: Parsed) -> Answered {
    match parsed {
        Parsed::Answered(answered) => answered,
        other => panic!("{other:?}"),
    }
}

/// The fault and the status byte of a request that is refused.
fn refusal(kind: u8, sector: u64, out: u32, into: u32, facts: &Facts) -> (Fault, u8) {
    let mut bytes = header(kind, sector);
    bytes.resize(16 + out as usize, 0);
    let mut posted = post(&bytes, &[16 + out], &[into + 1]);
    let answered = answered(posted.parse(facts));
    assert_eq!(answered.written, 1);
    let written = posted.written(into as usize + 1);
    assert!(written[..into as usize].iter().all(|byte| *byte == UNTOUCHED));
    (answered.fault.unwrap(), written[into as usize])
}

#[test]
fn a_read_in_every_layout() {
    for (out, into) in [
        (&[16][..], &[1024, 1][..]),
        (&[16], &[1025]),
        (&[8, 8], &[512, 512, 1]),
        (&[1, 15], &[1, 1023, 1]),
        (&[16], &[1000, 25]),
    ] {
        let mut posted = post(&header(0, 7), out, into);
        let mut work = work(&mut posted);
        assert_eq!(work.next(), Some(Operation::Read(extent(7, 2))));
        assert_eq!(work.next(), None);
        assert_eq!(request::total(work.data(&posted.chain)), 1024);
        assert_eq!(posted.memory.scatter(work.data(&posted.chain), &[0x5a; 1024]), 1024);
        assert_eq!(work.finish(&posted.memory, &posted.chain, 0), 1025);
        let mut expected = vec![0x5a; 1024];
        expected.push(0);
        assert_eq!(posted.written(1025), expected);
    }
}

#[test]
fn a_failed_read_counts_no_data() {
    let mut posted = post(&header(0, 7), &[16], &[512, 1]);
    let work = work(&mut posted);
    assert_eq!(work.finish(&posted.memory, &posted.chain, status_of(Status::MediumRead)), 1);
    assert_eq!(posted.written(513)[512], 1);
}

#[test]
fn a_write_in_every_layout() {
    let mut bytes = header(1, 9);
    bytes.extend((0..1024u32).map(|at| (at % 251) as u8));
    for out in [&[16, 1024][..], &[1040], &[10, 1030], &[16, 512, 512], &[1, 1, 1000, 38]] {
        let mut posted = post(&bytes, out, &[1]);
        let mut work = work(&mut posted);
        assert_eq!(work.next(), Some(Operation::Write { extent: extent(9, 2), fua: false }));
        assert_eq!(work.next(), None);
        let mut data = vec![0; 1024];
        assert_eq!(posted.memory.gather(work.data(&posted.chain), &mut data), 1024);
        assert_eq!(request::total(work.data(&posted.chain)), 1024);
        assert_eq!(data, bytes[16..]);
        assert_eq!(work.finish(&posted.memory, &posted.chain, 0), 1);
        assert_eq!(posted.written(1), [0]);
    }
}

#[test]
fn a_flush() {
    let mut posted = post(&header(4, 0), &[16], &[1]);
    let mut work = work(&mut posted);
    assert_eq!(work.next(), Some(Operation::Flush));
    assert_eq!(work.next(), None);
    assert!(work.data(&posted.chain).is_empty());
    assert_eq!(work.finish(&posted.memory, &posted.chain, 0), 1);
}

#[test]
fn the_serial_number() {
    let mut posted = post(&header(8, 0), &[16], &[20, 1]);
    assert_eq!(answered(posted.parse(&facts())), Answered { written: 21, fault: None });
    assert_eq!(posted.written(21), *b"web1-disk0\0\0\0\0\0\0\0\0\0\0\0");
    // Longer than the field, and with less room than the field.
    let mut long = facts();
    long.identity.serial = String::from("0123456789abcdefghijklmnop");
    let mut posted = post(&header(8, 0), &[16], &[21]);
    assert_eq!(answered(posted.parse(&long)).written, 21);
    assert_eq!(posted.written(21), *b"0123456789abcdefghij\0");
    let mut posted = post(&header(8, 0), &[16], &[5, 1]);
    assert_eq!(answered(posted.parse(&long)).written, 6);
    assert_eq!(posted.written(6), *b"01234\0");
    // More room than the field: the status is at the end, and what lies between is left.
    let mut posted = post(&header(8, 0), &[16], &[31]);
    assert_eq!(answered(posted.parse(&long)).written, 21);
    assert_eq!(posted.written(31)[30], 0);
}

#[test]
fn every_status_has_its_byte() {
    for status in Status::ALL {
        let expected = match status {
            Status::Good => 0,
            Status::Unsupported => 2,
            _ => 1,
        };
        assert_eq!(status_of(status), expected);
    }
}

#[test]
fn what_is_not_known_is_unsupported() {
    // The old SCSI commands, lifetime, secure erase, zones, and nonsense.
    for kind in [2, 3, 5, 9, 10, 12, 14, 16, 255] {
        assert_eq!(refusal(kind, 0, 0, 512, &facts()), (Fault::UnsupportedType, 2));
    }
    let mut bytes = header(0, 0);
    bytes[3] = 0x80;
    let mut posted = post(&bytes, &[16], &[513]);
    assert_eq!(answered(posted.parse(&facts())).fault, Some(Fault::UnsupportedType));
}

#[test]
fn refusals() {
    let facts = facts();
    assert_eq!(refusal(0, 2048, 0, 512, &facts), (Fault::OutOfRange, 1));
    assert_eq!(refusal(0, 2047, 0, 1024, &facts), (Fault::OutOfRange, 1));
    assert_eq!(refusal(0, u64::MAX, 0, 512, &facts), (Fault::OutOfRange, 1));
    assert_eq!(refusal(1, u64::MAX - 1, 1024, 0, &facts), (Fault::OutOfRange, 1));
    assert_eq!(refusal(0, 0, 0, 511, &facts), (Fault::Misaligned, 1));
    assert_eq!(refusal(1, 0, 513, 0, &facts), (Fault::Misaligned, 1));
    let mut read_only = facts.clone();
    read_only.read_only = true;
    for kind in [1, 11, 13] {
        assert_eq!(refusal(kind, 0, 512, 0, &read_only), (Fault::ReadOnly, 1));
    }
    let mut posted = post(&header(0, 0)[..15], &[15], &[512, 1]);
    assert_eq!(answered(posted.parse(&facts)), Answered { written: 1, fault: Some(Fault::HeaderTooShort) });
    assert_eq!(posted.written(513)[512], 1);
    let mut posted = post(&header(1, 0), &[16], &[]);
    assert_eq!(answered(posted.parse(&facts)), Answered { written: 0, fault: Some(Fault::NoStatus) });
}

#[test]
fn more_than_the_announced_segments_hold() {
    // One segment of 4 MiB, named twice: the same memory, which a guest may do.
    let memory = guest_memory::Memory::anonymous(0x20000);
    let facts = facts();
    let limits = Limits { seg_max: 1, queues: 1 };
    let mode = Mode::new(&facts, features(&facts, 1), &Config::new(&facts, limits));
    let span = |offset, len| request::Span { offset, len, region: 0 };
    for (last, fault) in [(0x10000, Fault::OutOfRange), (0x10200, Fault::TooLong)] {
        let mut spans = vec![span(0x100, 16)];
        memory.write(spans[0], &header(0, 0)).unwrap();
        spans.extend([span(0x1000, 0x10000); 63]);
        spans.extend([span(0x1000, last), span(0x200, 1)]);
        let mut chain = virtqueue::Chain { head: 0, count: 1, spans, writable_from: 1 };
        assert_eq!(answered(parse(&memory, &mut chain, &facts, &mode)).fault, Some(fault));
    }
}

#[test]
fn nothing_to_transfer_is_done() {
    for kind in [0, 1] {
        let mut posted = post(&header(kind, 2048), &[16], &[1]);
        assert_eq!(answered(posted.parse(&facts())), Answered { written: 1, fault: None });
        assert_eq!(posted.written(1), [0]);
    }
}

#[test]
fn blocks_of_4096_bytes() {
    let mut large = facts();
    large.block_size = 4096;
    large.blocks = Blocks(256);
    let mut posted = post(&header(0, 16), &[16], &[4096, 1]);
    let Parsed::Work(mut work) = posted.parse(&large) else { panic!() };
    assert_eq!(work.next(), Some(Operation::Read(large.extent(Lba(2), Blocks(1)).unwrap())));
    assert_eq!(refusal(0, 12, 0, 4096, &large), (Fault::Misaligned, 1));
    assert_eq!(refusal(0, 16, 0, 512, &large), (Fault::Misaligned, 1));
    assert_eq!(refusal(0, 2048, 0, 4096, &large), (Fault::OutOfRange, 1));
}

fn fua(negotiated: u64, writeback: Option<bool>, write_cache: bool) -> bool {
    let mut facts = facts();
    facts.write_cache = write_cache;
    let mut config = Config::new(&facts, super::LIMITS);
    if let Some(writeback) = writeback {
        config.write(32, &[u8::from(writeback)]);
    }
    let mode = Mode::new(&facts, negotiated, &config);
    let mut bytes = header(1, 0);
    bytes.resize(528, 0);
    let mut posted = post(&bytes, &[528], &[1]);
    let Parsed::Work(mut work) = parse(&posted.memory, &mut posted.chain, &facts, &mode) else { panic!() };
    match work.next() {
        Some(Operation::Write { fua, .. }) => fua,
        other => panic!("{other:?}"),
    }
}

#[test]
fn durability_by_what_was_negotiated() {
    let (flush, wce) = (1 << 9, 1 << 11);
    assert!(!fua(flush | wce, None, true));
    assert!(fua(flush | wce, Some(false), true));
    assert!(!fua(flush | wce, Some(true), true));
    assert!(fua(wce, Some(false), true));
    // CONFIG_WCE was not accepted: what stands in the field does not count.
    assert!(!fua(flush, Some(false), true));
    // A driver that cannot flush.
    assert!(fua(0, None, true));
    assert!(!fua(0, None, false));
}

#[test]
fn a_mode_of_everything() {
    let facts = facts();
    let mode = mode(&facts);
    assert!(mode.discard && mode.write_zeroes && !mode.write_through);
    assert_eq!(mode.data_max_bytes, 126 * 4_194_304);
    assert_eq!(bits::SECTOR, 512);
    let names: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len());
}
