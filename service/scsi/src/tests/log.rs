use alloc::vec::Vec;
use request::Status;

use super::{NEXUS, OTHER, codes, data, ended, facts, failure, peer, refused, response, unit, with_list};
use crate::{Kind, Profile, Unit, Verdict};

fn page(unit: &mut Unit, control: u8, code: u8) -> Vec<u8> {
    data(unit, &[0x4d, 0, control << 6 | code, 0, 0, 0, 0, 0x01, 0x00, 0])
}

/// Two reads of three blocks in all, one that fails, and a write.
fn worked() -> Unit {
    let mut unit = unit(facts());
    assert_eq!(ended(&mut unit, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], Status::Good).status, 0x00);
    assert_eq!(ended(&mut unit, &[0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0], Status::MediumRead).status, 0x02);
    assert_eq!(ended(&mut unit, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 4, 0], Status::Good).status, 0x00);
    unit
}

#[test]
fn the_pages() {
    let mut unit = unit(facts());
    assert_eq!(page(&mut unit, 1, 0), [0x00, 0x00, 0, 6, 0x00, 0x02, 0x03, 0x05, 0x19, 0x2f]);
    assert_eq!(
        data(&mut unit, &[0x4d, 0, 0x40, 0xff, 0, 0, 0, 0, 255, 0]),
        [0x40, 0xff, 0, 14, 0, 0, 0, 0xff, 2, 0, 3, 0, 5, 0, 0x19, 0, 0x2f, 0]
    );
    assert_eq!(failure(&mut unit, &[0x4d, 0, 0x4d, 0, 0, 0, 0, 0, 255, 0]), (0x5, 0x24, 0x00));
    assert_eq!(failure(&mut unit, &[0x4d, 0, 0x42, 1, 0, 0, 0, 0, 255, 0]), (0x5, 0x24, 0x00));
    assert_eq!(failure(&mut unit, &[0x4d, 1, 0x42, 0, 0, 0, 0, 0, 255, 0]), (0x5, 0x24, 0x00));
    // No exception, no temperature.
    assert_eq!(page(&mut unit, 1, 0x2f), [0x2f, 0, 0, 8, 0, 0, 0x23, 4, 0, 0, 0xff, 0]);
    let mut disc = Unit::new(facts(), Profile { kind: Kind::CdRom, ..Profile::default() });
    let _ = disc.attach(peer(0));
    let _ = response(&mut disc, NEXUS, &[0; 6]);
    assert_eq!(page(&mut disc, 1, 0), [0x00, 0x00, 0, 4, 0x00, 0x03, 0x19, 0x2f]);
}

#[test]
fn counters() {
    let mut unit = worked();
    let reads = [
        0x03, 0, 0, 36, //
        0, 3, 0x20, 8, 0, 0, 0, 0, 0, 0, 0, 0, //
        0, 5, 0x20, 8, 0, 0, 0, 0, 0, 0, 0x06, 0x00, //
        0, 6, 0x20, 8, 0, 0, 0, 0, 0, 0, 0, 1,
    ];
    assert_eq!(page(&mut unit, 1, 0x03), reads);
    assert_eq!(page(&mut unit, 1, 0x02)[20..28], [0, 0, 0, 0, 0, 0, 0x08, 0x00]);
    // From a parameter on, and behind the last.
    let pointed = data(&mut unit, &[0x4d, 0, 0x43, 0, 0, 0, 6, 0, 255, 0]);
    assert_eq!((&pointed[..4], &pointed[4..]), (&[0x03, 0, 0, 12][..], &reads[28..]));
    assert_eq!(failure(&mut unit, &[0x4d, 0, 0x43, 0, 0, 0, 7, 0, 255, 0]), (0x5, 0x24, 0x00));
    // Defaults are zero, thresholds out of reach.
    assert_eq!(page(&mut unit, 3, 0x03)[20..28], [0; 8]);
    assert_eq!(page(&mut unit, 0, 0x03)[20..28], [0xff; 8]);
    // Commands and blocks: two reads, one write, 4 blocks received, 3 transmitted.
    let statistics = page(&mut unit, 1, 0x19);
    assert_eq!(statistics[..8], [0x19, 0, 0, 68, 0, 1, 0x23, 64]);
    let mut values = statistics[8..40].chunks(8).map(|value| value[7]);
    assert!(values.by_ref().eq([2, 1, 4, 3]));
    assert!(statistics[40..].iter().all(|byte| *byte == 0));
    let mut successor = Unit::restore(facts(), Profile::default(), &unit.state());
    assert_eq!(page(&mut successor, 1, 0x03), reads);
}

#[test]
fn back_to_zero() {
    let mut unit = worked();
    // PCR goes without a list.
    assert_eq!(failure(&mut unit, &[0x4c, 2, 0xc0, 0, 0, 0, 0, 0, 4, 0]), (0x5, 0x24, 0x00));
    assert_eq!(response(&mut unit, NEXUS, &[0x4c, 2, 0xc0, 0, 0, 0, 0, 0, 0, 0]).status, 0x00);
    assert_eq!(page(&mut unit, 1, 0x03)[20..28], [0; 8]);
    assert_eq!(page(&mut unit, 1, 0x03)[32..40], [0; 8]);
    assert_eq!(codes(&response(&mut unit, OTHER, &[0; 6])), (0x6, 0x2a, 0x02));
    assert_eq!(response(&mut unit, NEXUS, &[0; 6]).status, 0x00);
    // One page alone.
    let mut unit = worked();
    assert_eq!(response(&mut unit, NEXUS, &[0x4c, 0, 0xc2, 0, 0, 0, 0, 0, 0, 0]).status, 0x00);
    assert_eq!(page(&mut unit, 1, 0x02)[20..28], [0; 8]);
    assert_eq!(page(&mut unit, 1, 0x03)[26..28], [0x06, 0x00]);
    // No value can be set, and SP is not there.
    let list = [0x03, 0, 0, 12, 0, 3, 0x20, 8, 0, 0, 0, 0, 0, 0, 0, 1];
    let set = with_list(&mut unit, NEXUS, &[0x4c, 0, 0x40, 0, 0, 0, 0, 0, 16, 0], &list);
    assert_eq!(refused(set), (0x5, 0x26, 0x00));
    assert_eq!(failure(&mut unit, &[0x4c, 1, 0xc0, 0, 0, 0, 0, 0, 0, 0]), (0x5, 0x24, 0x00));
}

#[test]
fn used_space_where_there_is_a_threshold() {
    let mut unit = Unit::new(facts(), Profile { thin_threshold_percent: Some(80), ..Profile::default() });
    let _ = unit.attach(peer(0));
    let _ = response(&mut unit, NEXUS, &[0; 6]);
    unit.allocated(0x10_0000);
    assert_eq!(page(&mut unit, 1, 0)[7], 0x05);
    assert_eq!(page(&mut unit, 1, 0)[8], 0x0c);
    // By sets of two blocks.
    assert_eq!(
        page(&mut unit, 1, 0x0c),
        [0x0c, 0, 0, 12, 0, 2, 0x23, 8, 0x00, 0x08, 0x00, 0x00, 0x01, 0, 0, 0]
    );
}

#[test]
fn diagnostics() {
    let mut unit = unit(facts());
    assert_eq!(response(&mut unit, NEXUS, &[0x1d, 0x04, 0, 0, 0, 0]).status, 0x00);
    assert_eq!(failure(&mut unit, &[0x1d, 0x20, 0, 0, 0, 0]), (0x5, 0x24, 0x00));
    assert_eq!(failure(&mut unit, &[0x1d, 0x14, 0, 0, 4, 0]), (0x5, 0x24, 0x00));
    let ask = with_list(&mut unit, NEXUS, &[0x1d, 0x10, 0, 0, 4, 0], &[0, 0, 0, 0]);
    assert!(matches!(ask, Verdict::Respond(good) if good.status == 0 && good.data_out == 4));
    let other = with_list(&mut unit, NEXUS, &[0x1d, 0x10, 0, 0, 4, 0], &[0x40, 0, 0, 0]);
    assert_eq!(refused(other), (0x5, 0x26, 0x00));
    for cdb in [[0x1c, 0, 0, 0, 255, 0], [0x1c, 1, 0, 0, 255, 0]] {
        assert_eq!(data(&mut unit, &cdb), [0, 0, 0, 1, 0]);
    }
    assert_eq!(failure(&mut unit, &[0x1c, 1, 0x40, 0, 255, 0]), (0x5, 0x24, 0x00));
}

#[test]
fn buffers() {
    let mut unit = unit(facts());
    assert_eq!(data(&mut unit, &[0x3c, 3, 0, 0, 0, 0, 0, 0, 4, 0]), [0, 0, 0x10, 0x00]);
    assert_eq!(data(&mut unit, &[0x3c, 3, 1, 0, 0, 0, 0, 0, 4, 0]), [0; 4]);
    assert_eq!(data(&mut unit, &[0x3c, 0x0b, 0, 0, 0, 0, 0, 0, 4, 0]), [0, 0, 0x10, 0x00]);
    let good = |verdict| assert!(matches!(verdict, Verdict::Respond(end) if end.status == 0));
    good(with_list(&mut unit, NEXUS, &[0x3b, 2, 0, 0, 0x0f, 0xfd, 0, 0, 3, 0], b"abc"));
    assert_eq!(data(&mut unit, &[0x3c, 2, 0, 0, 0x0f, 0xfc, 0, 0, 255, 0]), *b"\0abc");
    assert_eq!(failure(&mut unit, &[0x3b, 2, 0, 0, 0x0f, 0xfd, 0, 0, 4, 0]), (0x5, 0x24, 0x00));
    assert_eq!(failure(&mut unit, &[0x3b, 2, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]), (0x5, 0x24, 0x00));
    assert_eq!(failure(&mut unit, &[0x3c, 2, 0, 0, 0x10, 0x01, 0, 0, 4, 0]), (0x5, 0x24, 0x00));
    // The echo buffer is whose wrote it last.
    let read_echo = [0x3c, 0x0a, 0, 0, 0, 0, 0, 0, 255, 0];
    assert_eq!(failure(&mut unit, &read_echo), (0x5, 0x2c, 0x00));
    good(with_list(&mut unit, NEXUS, &[0x3b, 0x0a, 0, 0, 0, 0, 0, 0, 4, 0], b"echo"));
    let mut successor = Unit::restore(facts(), Profile::default(), &unit.state());
    for unit in [&mut unit, &mut successor] {
        assert_eq!(data(unit, &read_echo), *b"echo");
        assert_eq!(data(unit, &[0x3c, 2, 0, 0, 0x0f, 0xff, 0, 0, 255, 0]), *b"c");
    }
    good(with_list(&mut unit, OTHER, &[0x3b, 0x0a, 0, 0, 0, 0, 0, 0, 4, 0], b"ohce"));
    assert_eq!(failure(&mut unit, &read_echo), (0x5, 0x2c, 0x00));
    // Microcode.
    assert_eq!(failure(&mut unit, &[0x3b, 5, 0, 0, 0, 0, 0, 0, 4, 0]), (0x5, 0x24, 0x00));
}
