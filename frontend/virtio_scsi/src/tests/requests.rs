use alloc::vec;
use alloc::vec::Vec;

use super::{Posted, UNTOUCHED, post};
use crate::{Answer, Attribute, Fault, Place, Refused, Sizes, Task, bits, parse};

/// READ(10) of 8 blocks to target 3, LUN 258, id 0x1122334455667788, ORDERED.
fn header() -> Vec<u8> {
    let mut bytes = vec![1, 3, 0x41, 0x02, 0, 0, 0, 0];
    bytes.extend_from_slice(&[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
    bytes.extend_from_slice(&[1, 0, 0]);
    bytes.extend_from_slice(&[0x28, 0, 0, 0, 0, 0x10, 0, 0, 8, 0]);
    bytes.resize(51, 0);
    bytes
}

fn parsed(posted: &mut Posted) -> Task {
    parse(&posted.memory, &mut posted.chain, Sizes::default()).unwrap()
}

fn check(task: &Task) {
    assert_eq!(task.place, Place::Unit { target: 3, lun: 258 });
    assert_eq!(task.id, 0x1122_3344_5566_7788);
    assert_eq!(task.attribute, Attribute::Ordered);
    assert_eq!(task.cdb.len(), 32);
    assert_eq!(task.cdb[..10], [0x28, 0, 0, 0, 0, 0x10, 0, 0, 8, 0]);
}

#[test]
fn a_read_as_linux_posts_it() {
    let mut posted = post(&header(), &[51], &[108, 4096]);
    let task = parsed(&mut posted);
    check(&task);
    assert_eq!(request::total(task.data_in(&posted.chain)), 4096);
    assert!(task.data_out(&posted.chain).is_empty());
    let answer = Answer { status: 0, ..Answer::default() };
    assert_eq!(task.finish(&posted.memory, &posted.chain, &answer, 4096), 4204);
    let mut expected = vec![0; 108];
    expected.push(UNTOUCHED);
    assert_eq!(posted.written(109), expected);
}

#[test]
fn a_write_in_every_layout() {
    let mut bytes = header();
    bytes.extend((0..1000u32).map(|at| at as u8));
    for (out, into) in [
        (&[51, 1000][..], &[108][..]),
        (&[1051], &[108]),
        (&[50, 2, 999], &[107, 1]),
        (&[1, 18, 32, 500, 500], &[12, 96]),
        (&[19, 132, 900], &[1, 2, 3, 102]),
    ] {
        let mut posted = post(&bytes, out, into);
        let task = parsed(&mut posted);
        check(&task);
        assert!(task.data_in(&posted.chain).is_empty());
        let mut data = vec![0; 1000];
        assert_eq!(posted.memory.gather(task.data_out(&posted.chain), &mut data), 1000);
        assert_eq!(data, bytes[51..]);
        assert_eq!(request::total(task.data_out(&posted.chain)), 1000);
        assert_eq!(task.finish(&posted.memory, &posted.chain, &Answer::default(), 0), 108);
        assert_eq!(posted.written(108), vec![0; 108]);
    }
}

#[test]
fn response_and_data_in_one_descriptor() {
    for (out, into) in [(&[51][..], &[108 + 512][..]), (&[51], &[50, 570]), (&[20, 31], &[108, 100, 412])] {
        let mut posted = post(&header(), out, into);
        let task = parsed(&mut posted);
        check(&task);
        assert_eq!(posted.memory.scatter(task.data_in(&posted.chain), &[0x5a; 512]), 512);
        assert_eq!(task.finish(&posted.memory, &posted.chain, &Answer::default(), 512), 620);
        let written = posted.written(621);
        assert_eq!(written[..108], [0; 108]);
        assert_eq!(written[108..620], [0x5a; 512]);
        assert_eq!(written[620], 0x00); // Memory behind the chain, as it was.
    }
}

#[test]
fn a_check_condition_carries_its_sense_data() {
    let mut posted = post(&header(), &[51], &[108, 4096]);
    let task = parsed(&mut posted);
    let sense = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcf, 0, 1];
    let answer = Answer { response: 0, status: 2, status_qualifier: 0x0102, sense: &sense, residual: 4096 };
    assert_eq!(task.finish(&posted.memory, &posted.chain, &answer, 0), 108);
    let mut expected = vec![18, 0, 0, 0, 0x00, 0x10, 0, 0, 0x02, 0x01, 2, 0];
    expected.extend_from_slice(&sense);
    expected.resize(108, 0);
    assert_eq!(posted.written(108), expected);
}

#[test]
fn sense_data_is_cut_to_the_drivers_size() {
    let mut posted = post(&header()[..35], &[35], &[20]);
    let sizes = Sizes::new(16, 8);
    let task = parse(&posted.memory, &mut posted.chain, sizes).unwrap();
    assert_eq!(task.cdb.len(), 16);
    let answer = Answer { status: 2, sense: &[0xaa; 18], ..Answer::default() };
    assert_eq!(task.finish(&posted.memory, &posted.chain, &answer, 0), 20);
    assert_eq!(posted.written(20)[..4], [8, 0, 0, 0]);
    assert_eq!(posted.written(20)[12..], [0xaa; 8]);
}

#[test]
fn a_long_cdb_is_kept_to_32_bytes() {
    let mut bytes = header();
    bytes.resize(19 + 260, 0x77);
    bytes.extend_from_slice(&[9; 4]);
    let mut posted = post(&bytes, &[283], &[264]);
    let task = parse(&posted.memory, &mut posted.chain, Sizes::new(9999, 9999)).unwrap();
    check(&task);
    let mut data = [0; 4];
    posted.memory.gather(task.data_out(&posted.chain), &mut data);
    assert_eq!(data, [9; 4]);
    assert_eq!(task.finish(&posted.memory, &posted.chain, &Answer::default(), 0), 264);
}

#[test]
fn data_is_limited_to_what_the_command_moves() {
    let mut posted = post(&header(), &[51], &[108, 100, 200, 300]);
    let mut task = parsed(&mut posted);
    assert_eq!(task.offered(), 600);
    assert!(!task.limit_data_in(&mut posted.chain, 601));
    assert_eq!(task.offered(), 600);
    for bytes in [600, 450, 300, 120, 100, 7, 0] {
        assert!(task.limit_data_in(&mut posted.chain, bytes));
        assert_eq!(request::total(task.data_in(&posted.chain)), bytes);
    }
    assert!(task.data_in(&posted.chain).is_empty());
    assert!(!task.limit_data_in(&mut posted.chain, 1));

    let mut bytes = header();
    bytes.resize(51 + 600, 0);
    let mut posted = post(&bytes, &[151, 500], &[108]);
    let mut task = parsed(&mut posted);
    assert!(task.limit_data_out(&mut posted.chain, 512));
    assert_eq!(task.data_out(&posted.chain).len(), 2);
    assert_eq!(request::total(task.data_out(&posted.chain)), 512);
    // The response is where it was.
    assert_eq!(task.finish(&posted.memory, &posted.chain, &Answer::failure(bits::response::OVERRUN), 0), 108);
    assert_eq!(posted.written(12)[11], 1);
}

fn refused(posted: &mut Posted) -> Refused {
    parse(&posted.memory, &mut posted.chain, Sizes::default()).unwrap_err()
}

#[test]
fn faults_are_answered_where_there_is_room() {
    let mut posted = post(&header()[..50], &[50], &[108]);
    assert_eq!(refused(&mut posted), Refused { fault: Fault::RequestTooShort, written: 108 });
    assert_eq!(posted.written(12), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);

    let mut posted = post(&[], &[], &[108]);
    assert_eq!(refused(&mut posted), Refused { fault: Fault::RequestTooShort, written: 108 });

    let mut posted = post(&header(), &[51], &[107]);
    assert_eq!(refused(&mut posted), Refused { fault: Fault::ResponseTooShort, written: 0 });
    assert_eq!(posted.written(107), vec![UNTOUCHED; 107]);

    let mut posted = post(&header(), &[51], &[]);
    assert_eq!(refused(&mut posted), Refused { fault: Fault::ResponseTooShort, written: 0 });

    let mut both = header();
    both.push(0);
    for out in [&[51, 1][..], &[52]] {
        let mut posted = post(&both, out, &[109]);
        assert_eq!(refused(&mut posted), Refused { fault: Fault::BothDirections, written: 108 });
        assert_eq!(posted.written(109)[11], 9);
        assert_eq!(posted.written(109)[108], UNTOUCHED);
    }

    let mut bad = header();
    bad[0] = 2;
    let mut posted = post(&bad, &[30, 21], &[108]);
    assert_eq!(refused(&mut posted), Refused { fault: Fault::BadLun, written: 108 });
    assert_eq!(posted.written(12)[11], 3);
}

#[test]
fn places() {
    let decode = Place::decode;
    assert_eq!(decode([1, 0, 0, 0, 0, 0, 0, 0]), Some(Place::Unit { target: 0, lun: 0 }));
    assert_eq!(decode([1, 9, 0, 7, 0, 0, 0, 0]), Some(Place::Unit { target: 9, lun: 7 }));
    assert_eq!(decode([1, 9, 0x40, 7, 0, 0, 0, 0]), Some(Place::Unit { target: 9, lun: 7 }));
    assert_eq!(decode([1, 255, 0x7f, 0xff, 0, 0, 0, 0]), Some(Place::Unit { target: 255, lun: 16_383 }));
    assert_eq!(decode([0xc1, 1, 0, 0, 0, 0, 0, 0]), Some(Place::ReportLuns { target: 0 }));
    assert_eq!(decode([1, 4, 0xc1, 1, 0, 0, 0, 0]), Some(Place::ReportLuns { target: 4 }));
    for bad in [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0, 0, 0],
        [1, 0, 0x80, 0, 0, 0, 0, 0],
        [1, 0, 0xc1, 2, 0, 0, 0, 0],
        [1, 0, 0x40, 0, 0, 0, 0, 1],
        [0xc1, 1, 0, 0, 0, 0, 0, 1],
    ] {
        assert_eq!(decode(bad), None, "{bad:02x?}");
    }
    for place in [Place::Unit { target: 3, lun: 258 }, Place::ReportLuns { target: 3 }] {
        assert_eq!(decode(place.encode()), Some(place));
    }
    // As REPORT LUNS lists them: up to 255 without an addressing method.
    assert_eq!(Place::Unit { target: 3, lun: 255 }.encode(), [1, 3, 0x00, 255, 0, 0, 0, 0]);
    assert_eq!(Place::Unit { target: 3, lun: 258 }.encode(), [1, 3, 0x41, 2, 0, 0, 0, 0]);
}

#[test]
fn task_attributes() {
    for (byte, attribute) in [
        (0, Attribute::Simple),
        (1, Attribute::Ordered),
        (2, Attribute::HeadOfQueue),
        (3, Attribute::Aca),
        (4, Attribute::Simple),
        (255, Attribute::Simple),
    ] {
        let mut bytes = header();
        bytes[16] = byte;
        assert_eq!(parsed(&mut post(&bytes, &[51], &[108])).attribute, attribute);
    }
}
