use alloc::vec::Vec;

use super::{NEXUS, answer, command, data, facts, failure, refused, unit};
use crate::{Unit, Verdict, no_unit, rows, well_known};

fn luns(unit: &mut Unit, select: u8, allocation: u8) -> Vec<u8> {
    data(unit, &[0xa0, 0, select, 0, 0, 0, 0, 0, 0, allocation, 0, 0])
}

/// LUNs 0, 1 and 256.
const UNITS: [u8; 24] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x41, 0x00, 0, 0, 0, 0, 0, 0];
const WLUN: [u8; 8] = [0xc1, 0x01, 0, 0, 0, 0, 0, 0];

#[test]
fn report_luns_by_selection() {
    let mut unit = unit(facts());
    for select in [0x00, 0x11] {
        let list = luns(&mut unit, select, 255);
        assert_eq!(list[..8], [0, 0, 0, 24, 0, 0, 0, 0]);
        assert_eq!(list[8..], UNITS);
    }
    assert_eq!(luns(&mut unit, 0x01, 255)[..8], [0, 0, 0, 8, 0, 0, 0, 0]);
    assert_eq!(luns(&mut unit, 0x01, 255)[8..], WLUN);
    let all = luns(&mut unit, 0x02, 255);
    assert_eq!(all[..8], [0, 0, 0, 32, 0, 0, 0, 0]);
    assert_eq!((&all[8..32], &all[32..]), (&UNITS[..], &WLUN[..]));
    for select in [0x10, 0x12] {
        assert_eq!(luns(&mut unit, select, 255), [0; 8]);
    }
    assert_eq!(luns(&mut unit, 0x00, 16), [0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(failure(&mut unit, &[0xa0, 0, 0x03, 0, 0, 0, 0, 0, 0, 255, 0, 0]), (0x5, 0x24, 0x00));
}

fn opcodes(unit: &mut Unit, byte2: u8, opcode: u8, action: u8) -> Vec<u8> {
    data(unit, &[0xa3, 0x0c, byte2, opcode, 0, action, 0, 0, 0xff, 0xff, 0, 0])
}

#[test]
fn one_operation_code() {
    let mut unit = unit(facts());
    let read10 = [0x00, 0x03, 0x00, 0x0a, 0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x00];
    assert_eq!(opcodes(&mut unit, 0x01, 0x28, 0), read10);
    assert_eq!(opcodes(&mut unit, 0x03, 0x28, 0), read10);
    // With time-outs: CTDP, and a descriptor of 12 bytes.
    let timed = opcodes(&mut unit, 0x81, 0x28, 0);
    assert_eq!(timed[..4], [0x00, 0x83, 0x00, 0x0a]);
    assert_eq!(timed[14..], [0x00, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60]);
    let capacity = opcodes(&mut unit, 0x02, 0x9e, 0x10);
    assert_eq!(capacity[..4], [0x00, 0x03, 0x00, 0x10]);
    assert_eq!(capacity[4..], [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    assert_eq!(opcodes(&mut unit, 0x03, 0x9e, 0x10), capacity);
    let absent = [0x00, 0x01, 0x00, 0x00];
    for (option, opcode, action) in [
        (0x01, 0xff, 0x00),
        (0x02, 0xff, 0x00),
        (0x03, 0xff, 0x00),
        (0x02, 0x9e, 0x11),
        (0x03, 0x9e, 0x11),
        (0x03, 0x28, 0x01),
        (0x83, 0x28, 0x01),
    ] {
        assert_eq!(opcodes(&mut unit, option, opcode, action), absent, "{option} {opcode:02x}");
    }
}

#[test]
fn wrong_questions_about_operation_codes() {
    let mut unit = unit(facts());
    for (option, opcode) in [(0x01, 0x9e), (0x02, 0x28), (0x04, 0x28), (0x07, 0x28)] {
        let cdb = [0xa3, 0x0c, option, opcode, 0, 0x10, 0, 0, 0, 255, 0, 0];
        assert_eq!(failure(&mut unit, &cdb), (0x5, 0x24, 0x00), "{option} {opcode:02x}");
    }
}

#[test]
fn all_operation_codes() {
    let mut unit = unit(facts());
    let list = opcodes(&mut unit, 0x00, 0, 0);
    let expected = rows().iter().filter(|row| row.is_available(&unit)).count() * 8;
    assert_eq!(list[..4], u32::try_from(expected).unwrap().to_be_bytes());
    let entries: Vec<_> = list[4..].chunks(8).collect();
    assert!(entries.contains(&&[0x28, 0, 0, 0, 0, 0x00, 0, 10][..]));
    assert!(entries.contains(&&[0x9e, 0, 0, 0x10, 0, 0x01, 0, 16][..]));
    assert!(entries.contains(&&[0xa3, 0, 0, 0x0d, 0, 0x01, 0, 12][..]));
    let timed = opcodes(&mut unit, 0x80, 0, 0);
    assert_eq!(timed[..4], u32::try_from(expected / 8 * 20).unwrap().to_be_bytes());
    assert_eq!(timed[4..12], [0x00, 0, 0, 0, 0, 0x02, 0, 6]);
    assert_eq!(timed[12..24], [0x00, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60]);
}

#[test]
fn unmap_is_listed_only_where_it_works() {
    let mut thick = facts();
    thick.discard = None;
    let mut unit = unit(thick);
    assert_eq!(opcodes(&mut unit, 0x01, 0x42, 0), [0x00, 0x01, 0x00, 0x00]);
    let list = opcodes(&mut unit, 0x00, 0, 0);
    assert_eq!(list[..4], u32::try_from(list.len() - 4).unwrap().to_be_bytes());
    assert!(list[4..].chunks(8).all(|entry| entry[0] != 0x42));
}

#[test]
fn task_management_functions() {
    let mut unit = unit(facts());
    let plain = [0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0];
    assert_eq!(data(&mut unit, &plain), [0xde, 0x07, 0x00, 0x00]);
    let extended = [0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 255, 0, 0];
    assert_eq!(data(&mut unit, &extended), [0xde, 0x07, 0, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(failure(&mut unit, &[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0]), (0x5, 0x24, 0x00));
}

#[test]
fn an_unknown_service_action_is_a_wrong_field() {
    let mut unit = unit(facts());
    let (response, _) = answer(&mut unit, NEXUS, &[0x9e, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]);
    assert_eq!(&response.sense_data().unwrap()[12..], [0x24, 0x00, 0, 0xcc, 0x00, 0x01]);
}

fn outside(ask: fn(&crate::Command<'_>, &mut Vec<u8>) -> Verdict, cdb: &[u8]) -> (Verdict, Vec<u8>) {
    let mut out = Vec::new();
    (ask(&command(NEXUS, cdb), &mut out), out)
}

#[test]
fn a_lun_that_is_not_there() {
    let inquiry = outside(no_unit, &[0x12, 0, 0, 0, 255, 0]).1;
    assert_eq!((inquiry.len(), inquiry[0]), (96, 0x7f));
    assert_eq!(outside(no_unit, &[0x12, 1, 0x00, 0, 255, 0]).1, [0x7f, 0x00, 0x00, 0x01, 0x00]);
    assert_eq!(refused(outside(no_unit, &[0x12, 1, 0x83, 0, 255, 0]).0), (0x5, 0x24, 0x00));
    let list = outside(no_unit, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]).1;
    assert_eq!(list[8..], UNITS);
    let sense = outside(no_unit, &[0x03, 0, 0, 0, 18, 0]).1;
    assert_eq!((sense[2], sense[12], sense[13]), (0x05, 0x25, 0x00));
    for cdb in [&[0; 6][..], &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0xff; 16], &[]] {
        if !cdb.is_empty() {
            assert_eq!(refused(outside(no_unit, cdb).0), (0x5, 0x25, 0x00), "{cdb:02x?}");
        }
    }
    assert_eq!(refused(outside(no_unit, &[0x12, 0x02, 0, 0, 255, 0]).0), (0x5, 0x24, 0x00));
    assert_eq!(refused(outside(no_unit, &[0x12, 0, 0]).0), (0x5, 0x24, 0x00));
}

#[test]
fn the_report_luns_well_known_unit() {
    let inquiry = outside(well_known, &[0x12, 0, 0, 0, 36, 0]).1;
    assert_eq!((inquiry.len(), inquiry[0]), (36, 0x1e));
    let list = outside(well_known, &[0xa0, 0, 2, 0, 0, 0, 0, 0, 0, 255, 0, 0]).1;
    assert_eq!(list[32..], WLUN);
    assert!(matches!(outside(well_known, &[0; 6]).0, Verdict::Respond(good) if good.status == 0));
    assert_eq!(outside(well_known, &[0x03, 1, 0, 0, 18, 0]).1, [0x72, 0, 0, 0, 0, 0, 0, 0]);
    let read = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    assert_eq!(refused(outside(well_known, &read).0), (0x5, 0x20, 0x00));
}
