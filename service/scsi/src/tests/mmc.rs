//! A CD and a DVD as Linux's sr and cdrom, firmware and boot loaders ask them.

use alloc::vec;
use alloc::vec::Vec;
use request::Blocks;

use super::{NEXUS, OTHER, answer, codes, data, facts, failure, operations, peer, plan, response};
use crate::{Ejection, Kind, Operation, Profile, Unit};

fn disc(blocks: u64) -> Unit {
    let mut facts = facts();
    facts.block_size = 2048;
    facts.blocks = Blocks(blocks);
    facts.read_only = true;
    facts.write_cache = false;
    facts.discard = None;
    facts.atomic = None;
    let mut unit = Unit::new(facts, Profile { kind: Kind::CdRom, ..Profile::default() });
    for (nexus, number) in [(NEXUS, 0), (OTHER, 1)] {
        assert_eq!(unit.attach(peer(number)), Some(nexus));
        assert_eq!(codes(&response(&mut unit, nexus, &[0; 6])), (0x6, 0x29, 0x00));
    }
    unit
}

/// 330,000 blocks are 73 minutes and 20 seconds, from 00:02:00 on.
fn cd() -> Unit {
    disc(330_000)
}

/// 4.7 GB.
fn dvd() -> Unit {
    disc(2_295_104)
}

#[test]
fn what_it_is() {
    let mut unit = cd();
    let inquiry = data(&mut unit, &[0x12, 0, 0, 0, 96, 0]);
    assert_eq!(inquiry[..8], [0x05, 0x80, 0x06, 0x12, 91, 0x00, 0x00, 0x02]);
    assert_eq!(&inquiry[16..32], b"CD/DVD          ");
    // SAM-5, SPC-5, MMC-6, SPC-4.
    assert_eq!(inquiry[58..68], [0x00, 0xa0, 0x05, 0xc0, 0x04, 0xe0, 0x04, 0x60, 0, 0]);
    assert_eq!(data(&mut unit, &[0x12, 1, 0, 0, 255, 0]), [5, 0, 0, 6, 0x00, 0x80, 0x83, 0x86, 0x87, 0x88]);
    assert_eq!(
        data(&mut unit, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        [0x00, 0x05, 0x09, 0x0f, 0x00, 0x00, 0x08, 0x00]
    );
    assert_eq!(plan(&mut unit, &[0x28, 0, 0, 0, 0, 16, 0, 0, 1, 0]).data_in(), 2048);
    assert_eq!(plan(&mut unit, &[0xa8, 0, 0, 0, 0, 16, 0, 0, 0, 2, 0, 0]).data_in(), 4096);
    // What a drive does not have, REPORT KEY among it.
    for cdb in [&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0][..], &[0xa4, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0], &[0x42; 10]]
    {
        assert_eq!(failure(&mut unit, cdb), (0x5, 0x20, 0x00), "{cdb:02x?}");
    }
}

#[test]
fn tables_of_contents() {
    let mut unit = cd();
    let toc = |unit: &mut Unit, msf: u8, format: u8, from: u8| {
        data(unit, &[0x43, msf, format, 0, 0, 0, from, 0x03, 0x24, 0])
    };
    let expected = [
        0, 18, 1, 1, //
        0, 0x14, 1, 0, 0, 0, 0, 0, //
        0, 0x14, 0xaa, 0, 0x00, 0x05, 0x09, 0x10,
    ];
    assert_eq!(toc(&mut unit, 0, 0, 0), expected);
    assert_eq!(toc(&mut unit, 0, 0, 1), expected);
    assert_eq!(toc(&mut unit, 0, 0, 0xaa), [0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0x00, 0x05, 0x09, 0x10]);
    let minutes = toc(&mut unit, 2, 0, 0);
    assert_eq!(minutes[8..12], [0, 0, 2, 0]);
    assert_eq!(minutes[16..20], [0, 73, 22, 0]);
    assert_eq!(toc(&mut unit, 0, 1, 0), [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0]);
    let raw = toc(&mut unit, 2, 2, 0);
    assert_eq!(raw[..4], [0, 46, 1, 1]);
    assert_eq!(raw[4..15], [1, 0x14, 0, 0xa0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(raw[15..26], [1, 0x14, 0, 0xa1, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(raw[26..37], [1, 0x14, 0, 0xa2, 0, 0, 0, 0, 73, 22, 0]);
    assert_eq!(raw[37..], [1, 0x14, 0, 0x01, 0, 0, 0, 0, 0, 2, 0]);
    for (format, from) in [(0, 2), (3, 0), (4, 0), (5, 0)] {
        let cdb = [0x43, 0, format, 0, 0, 0, from, 0, 255, 0];
        assert_eq!(failure(&mut unit, &cdb), (0x5, 0x24, 0x00));
    }
    // Twelve bytes, as cdrom_read_tocentry asks.
    assert_eq!(data(&mut unit, &[0x43, 0, 0, 0, 0, 0, 1, 0, 12, 0]).len(), 12);
    // A DVD is longer than minutes can say.
    assert_eq!(toc(&mut dvd(), 2, 0, 0xaa)[8..12], [0, 0xff, 59, 74]);
}

#[test]
fn disc_and_track() {
    let mut unit = cd();
    let mut disc = vec![0; 34];
    disc[..8].copy_from_slice(&[0, 32, 0x0e, 1, 1, 1, 1, 0x20]);
    disc[16..24].fill(0xff);
    assert_eq!(data(&mut unit, &[0x51, 0, 0, 0, 0, 0, 0, 0, 34, 0]), disc);
    assert_eq!(failure(&mut unit, &[0x51, 1, 0, 0, 0, 0, 0, 0, 34, 0]), (0x5, 0x24, 0x00));
    let mut track = vec![0; 36];
    track[..8].copy_from_slice(&[0, 34, 1, 1, 0, 0x04, 0x01, 0]);
    track[24..28].copy_from_slice(&[0x00, 0x05, 0x09, 0x10]);
    for (kind, number) in [(0, 0), (0, 100), (1, 1), (2, 1)] {
        assert_eq!(data(&mut unit, &[0x52, kind, 0, 0, 0, number, 0, 0, 36, 0]), track);
    }
    assert_eq!(failure(&mut unit, &[0x52, 1, 0, 0, 0, 2, 0, 0, 36, 0]), (0x5, 0x24, 0x00));
    assert_eq!(failure(&mut unit, &[0x52, 0, 0, 0x05, 0x09, 0x10, 0, 0, 36, 0]), (0x5, 0x21, 0x00));
}

fn configuration(unit: &mut Unit, request: u8, from: u8) -> Vec<u8> {
    data(unit, &[0x46, request, 0, from, 0, 0, 0, 0x04, 0x00, 0])
}

#[test]
fn features() {
    let mut unit = cd();
    let all = configuration(&mut unit, 0, 0);
    let expected = [
        &[0, 0, 0, 84, 0, 0, 0x00, 0x08][..],
        &[0x00, 0x00, 0x03, 8, 0x00, 0x10, 0, 0, 0x00, 0x08, 1, 0],
        &[0x00, 0x01, 0x0b, 8, 0, 0, 0, 1, 1, 0, 0, 0],
        &[0x00, 0x02, 0x07, 4, 0, 0, 0, 0],
        &[0x00, 0x03, 0x07, 4, 0x39, 0, 0, 0],
        &[0x00, 0x10, 0x01, 8, 0, 0, 0x08, 0, 0, 1, 1, 0],
        &[0x00, 0x1e, 0x09, 4, 0, 0, 0, 0],
        &[0x00, 0x1f, 0x04, 4, 0, 0, 0, 0],
        &[0x01, 0x00, 0x03, 0],
        &[0x01, 0x05, 0x07, 4, 0, 0, 0, 0],
    ]
    .concat();
    assert_eq!(all, expected);
    // From the random readable feature on; current ones; that one alone.
    assert_eq!(configuration(&mut unit, 0, 0x10)[8..], expected[48..]);
    assert_eq!(configuration(&mut unit, 1, 0x10)[8..], [&expected[48..68], &expected[76..]].concat());
    assert_eq!(configuration(&mut unit, 2, 0x10)[8..], expected[48..60]);
    assert_eq!(configuration(&mut unit, 2, 0x11), [0, 0, 0, 4, 0, 0, 0x00, 0x08]);
    assert_eq!(failure(&mut unit, &[0x46, 3, 0, 0, 0, 0, 0, 0, 8, 0]), (0x5, 0x24, 0x00));
    // A DVD, and nothing at all.
    let mut dvd = dvd();
    let all = configuration(&mut dvd, 0, 0);
    assert_eq!(all[6..20], [0x00, 0x10, 0x00, 0x00, 0x03, 8, 0x00, 0x10, 1, 0, 0x00, 0x08, 0, 0]);
    assert_eq!((all[57], all[62], all[70]), (16, 0x08, 0x05));
    assert_eq!(dvd.eject(), Ejection::Done);
    assert_eq!(configuration(&mut dvd, 1, 0x10)[6..], [&[0, 0][..], &expected[76..]].concat());
}

#[test]
fn events_of_the_tray() {
    let mut unit = cd();
    let ask = [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0];
    assert_eq!(data(&mut unit, &ask), [0, 6, 4, 0x50, 0, 0x02, 0, 0]);
    assert_eq!(response(&mut unit, OTHER, &[0x1e, 0, 0, 0, 1, 0]).status, 0x00);
    assert_eq!(unit.eject(), Ejection::Prevented);
    // The attention waits, and does not hold the question up.
    assert_eq!(data(&mut unit, &ask), [0, 6, 4, 0x50, 1, 0x02, 0, 0]);
    assert_eq!(data(&mut unit, &ask), [0, 6, 4, 0x50, 0, 0x02, 0, 0]);
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0; 6])), (0x6, 0x5a, 0x01));
    assert_eq!(codes(&response(&mut unit, OTHER, &[0; 6])), (0x6, 0x5a, 0x01));
    assert_eq!(response(&mut unit, OTHER, &[0x1e, 0, 0, 0, 0, 0]).status, 0x00);
    // Eject as `eject` does it.
    assert_eq!(response(&mut unit, NEXUS, &[0x1b, 0, 0, 0, 0x02, 0]).status, 0x00);
    assert_eq!(failure(&mut unit, &[0; 6]), (0x2, 0x3a, 0x02));
    assert_eq!(failure(&mut unit, &[0x43, 0, 0, 0, 0, 0, 0, 0, 12, 0]), (0x2, 0x3a, 0x02));
    // Too short for the event: it stays.
    assert_eq!(data(&mut unit, &[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 4, 0]), [0, 6, 4, 0x50]);
    assert_eq!(data(&mut unit, &ask), [0, 6, 4, 0x50, 3, 0x01, 0, 0]);
    assert_eq!(data(&mut unit, &[0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0]), [0, 0x10, 0, 0, 0, 0, 0, 0]);
    assert_eq!(response(&mut unit, NEXUS, &[0x1b, 0, 0, 0, 0x03, 0]).status, 0x00);
    assert_eq!(data(&mut unit, &ask), [0, 6, 4, 0x50, 2, 0x02, 0, 0]);
    // The other initiator is told by both ways.
    assert_eq!(answer(&mut unit, OTHER, &ask).1, [0, 6, 4, 0x50, 2, 0x02, 0, 0]);
    assert_eq!(codes(&response(&mut unit, OTHER, &[0; 6])), (0x6, 0x28, 0x00));
    // Device busy: never. No such class. Not by notification.
    assert_eq!(data(&mut unit, &[0x4a, 1, 0, 0, 0x40, 0, 0, 0, 8, 0]), [0, 6, 6, 0x50, 0, 0, 0, 0]);
    assert_eq!(data(&mut unit, &[0x4a, 1, 0, 0, 0x02, 0, 0, 0, 8, 0]), [0, 2, 0x80, 0x50]);
    assert_eq!(failure(&mut unit, &[0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8, 0]), (0x5, 0x24, 0x00));
}

#[test]
fn read_cd_of_mode_1_data() {
    let mut unit = cd();
    let read = |unit: &mut Unit, cdb: &[u8]| match operations(unit, cdb)[..] {
        [Operation::Read(extent)] => (extent.first().0, extent.count().0),
        ref other => panic!("{other:?}"),
    };
    assert_eq!(read(&mut unit, &[0xbe, 0, 0, 0, 0, 16, 0, 0, 2, 0x10, 0, 0]), (16, 2));
    assert_eq!(read(&mut unit, &[0xbe, 0x08, 0, 0, 0, 16, 0, 0, 2, 0x10, 0, 0]), (16, 2));
    // From 00:02:16 to 00:03:00.
    assert_eq!(read(&mut unit, &[0xb9, 0, 0, 0, 2, 16, 0, 3, 0, 0x10, 0, 0]), (16, 59));
    assert_eq!(response(&mut unit, NEXUS, &[0xbe, 0, 0, 0, 0, 16, 0, 0, 0, 0x10, 0, 0]).status, 0x00);
    assert_eq!(failure(&mut unit, &[0xbe, 0x04, 0, 0, 0, 16, 0, 0, 1, 0x10, 0, 0]), (0x5, 0x64, 0x00));
    assert_eq!(failure(&mut unit, &[0xbe, 0, 0, 0, 0, 16, 0, 0, 1, 0xf8, 0, 0]), (0x5, 0x24, 0x00));
    assert_eq!(failure(&mut unit, &[0xbe, 0, 0, 0, 0, 16, 0, 0, 1, 0x10, 1, 0]), (0x5, 0x24, 0x00));
    assert_eq!(failure(&mut unit, &[0xbe, 0, 0, 5, 9, 15, 0, 0, 2, 0x10, 0, 0]), (0x5, 0x21, 0x00));
    assert_eq!(failure(&mut unit, &[0xb9, 0, 0, 0, 3, 0, 0, 2, 0, 0x10, 0, 0]), (0x5, 0x24, 0x00));
    assert_eq!(failure(&mut unit, &[0xb9, 0, 0, 0, 1, 0, 0, 2, 0, 0x10, 0, 0]), (0x5, 0x21, 0x00));
    assert_eq!(response(&mut unit, NEXUS, &[0xbb, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0]).status, 0x00);
}

#[test]
fn structures_of_a_dvd() {
    let structure = |format: u8| [0xad, 0, 0, 0, 0, 0, 0, format, 0x10, 0, 0, 0];
    assert_eq!(failure(&mut cd(), &structure(0)), (0x5, 0x30, 0x02));
    let mut unit = dvd();
    let physical = data(&mut unit, &structure(0));
    assert_eq!(physical.len(), 2052);
    assert_eq!(physical[..8], [0x08, 0x02, 0, 0, 0x01, 0x0f, 0x01, 0x00]);
    assert_eq!(physical[8..16], [0x00, 0x03, 0x00, 0x00, 0x00, 0x26, 0x05, 0x3f]);
    assert_eq!(data(&mut unit, &structure(1)), [0, 6, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        data(&mut unit, &structure(0xff)),
        [0, 14, 0, 0, 0x00, 0x40, 0x08, 0x04, 0x01, 0x40, 0, 8, 0x04, 0x40, 0x08, 0x04]
    );
    assert_eq!(failure(&mut unit, &structure(3)), (0x5, 0x24, 0x00));
}

#[test]
fn capabilities() {
    let mut unit = cd();
    let mut expected = vec![0, 28, 0, 0, 0, 0, 0, 0];
    let mut page = [0; 22];
    page[..8].copy_from_slice(&[0x2a, 0x14, 0x0b, 0x00, 0x30, 0x00, 0x29, 0x00]);
    page[8..10].copy_from_slice(&[0x1b, 0x90]);
    page[14..16].copy_from_slice(&[0x1b, 0x90]);
    expected.extend_from_slice(&page);
    // No block descriptor, asked for or not.
    assert_eq!(data(&mut unit, &[0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 128, 0]), expected);
    assert_eq!(data(&mut unit, &[0x5a, 8, 0x2a, 0, 0, 0, 0, 0, 128, 0]), expected);
    assert_eq!(response(&mut unit, OTHER, &[0x1e, 0, 0, 0, 1, 0]).status, 0x00);
    assert_eq!(data(&mut unit, &[0x5a, 8, 0x2a, 0, 0, 0, 0, 0, 128, 0])[14], 0x2b);
    assert_eq!(failure(&mut unit, &[0x5a, 8, 0x08, 0, 0, 0, 0, 0, 128, 0]), (0x5, 0x24, 0x00));
}
