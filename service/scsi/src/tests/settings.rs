//! Identifying information and the clock.

use super::{NEXUS, OTHER, codes, data, facts, failure, refused, response, unit, with_list};
use crate::{Command, Profile, Unit, Verdict};

fn report(unit: &mut Unit, kind: u8) -> alloc::vec::Vec<u8> {
    data(unit, &[0xa3, 0x05, 0, 0, 0, 0, 0, 0, 3, 0, kind << 1, 0])
}

fn set(unit: &mut Unit, kind: u8, list: &[u8]) -> Verdict {
    let [high, low] = u16::try_from(list.len()).unwrap().to_be_bytes();
    with_list(unit, NEXUS, &[0xa4, 0x06, 0, 0, 0, 0, 0, 0, high, low, kind << 1, 0], list)
}

#[test]
fn identifying_information_is_kept() {
    let mut unit = unit(facts());
    assert_eq!(report(&mut unit, 0), [0, 0, 0, 0]);
    // The types, and how long each may be.
    assert_eq!(report(&mut unit, 0x7f), [0, 0, 0, 8, 0x00, 0, 0x02, 0x00, 0x04, 0, 0x01, 0x00]);
    let Verdict::Settle(settle) = set(&mut unit, 0, b"rack 7") else { panic!() };
    assert!(settle.persist);
    assert_eq!(settle.response.data_out, 6);
    assert_eq!(report(&mut unit, 0), *b"\0\0\0\x06rack 7");
    assert_eq!(codes(&response(&mut unit, OTHER, &[0; 6])), (0x6, 0x3f, 0x05));
    assert!(matches!(set(&mut unit, 2, b"blue\0junk"), Verdict::Settle(_)));
    assert_eq!(report(&mut unit, 2), *b"\0\0\0\x05blue\0");
    assert_eq!(refused(set(&mut unit, 2, b"blue")), (0x5, 0x26, 0x00));
    assert_eq!(failure(&mut unit, &[0xa4, 0x06, 0, 0, 0, 0, 0, 0, 1, 1, 0x04, 0]), (0x5, 0x24, 0x00));
    assert_eq!(failure(&mut unit, &[0xa4, 0x06, 0, 0, 0, 0, 0, 0, 0, 1, 0x02, 0]), (0x5, 0x24, 0x00));
    let mut recovered = Unit::recover(facts(), Profile::default(), &unit.persistent());
    let _ = recovered.attach(super::peer(0));
    let _ = response(&mut recovered, NEXUS, &[0; 6]);
    assert_eq!(report(&mut recovered, 0), *b"\0\0\0\x06rack 7");
    assert_eq!(report(&mut recovered, 2), *b"\0\0\0\x05blue\0");
    assert!(matches!(set(&mut unit, 0, b""), Verdict::Settle(_)));
    assert_eq!(report(&mut unit, 0), [0, 0, 0, 0]);
}

const REPORT: [u8; 12] = [0xa3, 0x0f, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0];
const SET: [u8; 12] = [0xa4, 0x0f, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0];

#[test]
fn the_clock() {
    let mut unit = unit(facts());
    // 1,763,840,000,000 ms; by other means than SET TIMESTAMP.
    assert_eq!(data(&mut unit, &REPORT), [0, 10, 3, 0, 0x01, 0x9a, 0xad, 0x0e, 0x80, 0x00, 0, 0]);
    let list = [0, 0, 0, 0, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0, 0];
    assert!(matches!(with_list(&mut unit, NEXUS, &SET, &list), Verdict::Respond(good) if good.status == 0));
    assert_eq!(data(&mut unit, &REPORT), [0, 10, 2, 0, 0, 0, 0, 0, 0x10, 0x00, 0, 0]);
    assert_eq!(codes(&response(&mut unit, OTHER, &[0; 6])), (0x6, 0x2a, 0x10));
    // It goes on, here and in the next process.
    for unit in [&mut Unit::restore(facts(), Profile::default(), &unit.state()), &mut unit] {
        let later = Command { clock_millis: 1_763_840_000_005, ..super::command(NEXUS, &REPORT) };
        let mut out = alloc::vec::Vec::new();
        let _ = super::run_command(unit, &later, None, &mut out);
        assert_eq!(out, [0, 10, 2, 0, 0, 0, 0, 0, 0x10, 0x05, 0, 0]);
    }
    assert_eq!(refused(with_list(&mut unit, NEXUS, &SET, &list[..11])), (0x5, 0x1a, 0x00));
}
