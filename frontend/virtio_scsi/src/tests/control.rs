use alloc::vec;
use alloc::vec::Vec;

use super::{UNTOUCHED, post};
use crate::control::{answer, answer_async, parse};
use crate::{AsyncQuery, Control, Fault, Function, Place, Refused, TaskManagement};

fn tmf(subtype: u8, lun: [u8; 8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, subtype, 0, 0, 0];
    bytes.extend_from_slice(&lun);
    bytes.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    bytes
}

const LUN: [u8; 8] = [1, 0, 0x40, 5, 0, 0, 0, 0];

#[test]
fn every_task_management_function() {
    let functions = [
        Function::AbortTask,
        Function::AbortTaskSet,
        Function::ClearAca,
        Function::ClearTaskSet,
        Function::NexusReset,
        Function::UnitReset,
        Function::QueryTask,
        Function::QueryTaskSet,
    ];
    for (subtype, function) in (0..).zip(functions) {
        for (out, into) in [(&[24][..], &[1][..]), (&[3, 5, 16], &[1, 1])] {
            let posted = post(&tmf(subtype, LUN), out, into);
            let expected = TaskManagement {
                function,
                place: Some(Place::Unit { target: 0, lun: 5 }),
                id: 0x0807_0605_0403_0201,
            };
            assert_eq!(parse(&posted.memory, &posted.chain), Ok(Control::TaskManagement(expected)));
            assert_eq!(answer(&posted.memory, &posted.chain, 10), 1);
            assert_eq!(posted.written(1), [10]);
        }
    }
}

#[test]
fn a_lun_that_names_nothing_is_the_callers_to_answer() {
    let posted = post(&tmf(0, [9; 8]), &[24], &[1]);
    let parsed = parse(&posted.memory, &posted.chain);
    assert!(matches!(parsed, Ok(Control::TaskManagement(TaskManagement { place: None, .. }))));
}

#[test]
fn asynchronous_notification() {
    for (kind, subscribe) in [(1, false), (2, true)] {
        let mut bytes = vec![kind, 0, 0, 0];
        bytes.extend_from_slice(&LUN);
        bytes.extend_from_slice(&[0x56, 0x34, 0x12, 0x00]);
        let posted = post(&bytes, &[16], &[5]);
        let expected =
            AsyncQuery { place: Some(Place::Unit { target: 0, lun: 5 }), requested: 0x0012_3456, subscribe };
        assert_eq!(parse(&posted.memory, &posted.chain), Ok(Control::Async(expected)));
        assert_eq!(answer_async(&posted.memory, &posted.chain, 0x0102, 0), 5);
        assert_eq!(posted.written(5), [0x02, 0x01, 0, 0, 0]);

        let posted = post(&bytes[..15], &[15], &[5]);
        let refused = Refused { fault: Fault::RequestTooShort, written: 5 };
        assert_eq!(parse(&posted.memory, &posted.chain), Err(refused));
        assert_eq!(posted.written(5), [0, 0, 0, 0, 9]);

        let posted = post(&bytes, &[16], &[4]);
        let refused = Refused { fault: Fault::ResponseTooShort, written: 0 };
        assert_eq!(parse(&posted.memory, &posted.chain), Err(refused));
        assert_eq!(posted.written(4), [UNTOUCHED; 4]);
    }
}

#[test]
fn faults() {
    for (bytes, into, fault, written) in [
        (&[0, 0, 0][..], &[1][..], Fault::RequestTooShort, None),
        (&tmf(0, LUN)[..23], &[1], Fault::RequestTooShort, Some(9)),
        (&tmf(8, LUN), &[1], Fault::UnknownFunction, Some(11)),
        (&tmf(0, LUN), &[], Fault::ResponseTooShort, None),
        (&[3, 0, 0, 0, 0, 0, 0, 0], &[5], Fault::UnknownControlType, None),
        (&[0, 0, 0, 1, 0, 0, 0, 0], &[5], Fault::UnknownControlType, None),
    ] {
        let posted = post(bytes, &[bytes.len() as u32], into);
        let refused = Refused { fault, written: u32::from(written.is_some()) };
        assert_eq!(parse(&posted.memory, &posted.chain), Err(refused));
        if !into.is_empty() {
            assert_eq!(posted.written(1), [written.unwrap_or(UNTOUCHED)]);
        }
    }
}
