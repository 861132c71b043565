//! REGISTER, RESERVE, RELEASE, CLEAR: SPC-4 5.13.7 to 5.13.11.

use super::*;

/// SPC-4 table 67 without SPEC_I_PT.
#[test]
fn register() {
    let a = vm(1, 1);
    let mut bench = Bench::new(&[]);
    // Not registered: key zero and new key zero do nothing (and count: 6.15.2 counts requests).
    assert_eq!(bench.ok(&a, REGISTER, 0, 0, 0).attentions, []);
    assert_eq!((bench.keys(), bench.generation()), (Vec::new(), 1));
    assert_eq!(code(bench.out(&a, REGISTER, 0, 7, 5).unwrap_err()), CONFLICT);
    bench.ok(&a, REGISTER, 0, 0, 5);
    assert_eq!((bench.keys(), bench.generation()), (Vec::from([5]), 2));
    // Registered.
    assert_eq!(code(bench.out(&a, REGISTER, 0, 0, 6).unwrap_err()), CONFLICT);
    assert_eq!(code(bench.out(&a, REGISTER, 0, 4, 0).unwrap_err()), CONFLICT);
    bench.ok(&a, REGISTER, 0, 5, 6);
    assert_eq!((bench.keys(), bench.generation()), (Vec::from([6]), 3));
    bench.ok(&a, REGISTER, 0, 6, 0);
    assert_eq!((bench.keys(), bench.generation()), (Vec::new(), 4));
}

/// SPC-4 table 68.
#[test]
fn register_and_ignore_existing_key() {
    let a = vm(1, 1);
    let mut bench = Bench::new(&[]);
    bench.ok(&a, REGISTER_AND_IGNORE, 0, 99, 0);
    bench.ok(&a, REGISTER_AND_IGNORE, 0, 99, 5);
    bench.ok(&a, REGISTER_AND_IGNORE, 0, 99, 6);
    assert_eq!(bench.keys(), [6]);
    bench.ok(&a, REGISTER_AND_IGNORE, 0, 99, 0);
    assert_eq!((bench.keys(), bench.generation()), (Vec::new(), 4));
}

/// Scope and type are ignored where table 216 says so.
#[test]
fn scope_and_type() {
    let a = vm(1, 1);
    for kind in 0..=255u8 {
        let mut bench = Bench::new(&[]);
        bench.ok(&a, REGISTER, kind, 0, 5);
        bench.ok(&a, REGISTER_AND_IGNORE, kind, 0, 6);
        let result = bench.out(&a, RESERVE, kind, 6, 0);
        if TYPES.contains(&kind) {
            assert!(result.is_ok());
        } else {
            assert_eq!(code(result.unwrap_err()), IN_CDB);
            assert_eq!(bench.reservation(), None);
        }
        bench.ok(&a, CLEAR, kind, 6, 0);
    }
}

/// The key is verified before the scope is looked at (6.16.3).
#[test]
fn keys_are_verified_first() {
    let (a, b) = (vm(1, 1), vm(2, 1));
    let mut bench = Bench::new(&[]);
    bench.register(&a, 5);
    for action in [RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT] {
        assert_eq!(code(bench.out(&a, action, 0x50, 6, 5).unwrap_err()), CONFLICT);
        assert_eq!(code(bench.out(&b, action, 0x50, 0, 5).unwrap_err()), CONFLICT);
    }
    assert_eq!(code(bench.send(&a, REGISTER_AND_MOVE, 0, &move_list(6, 7, 0, &b)).unwrap_err()), CONFLICT);
    assert_eq!(bench.generation(), 1);
}

#[test]
fn reserve() {
    let (a, b) = (vm(1, 1), vm(2, 1));
    for kind in TYPES {
        let mut bench = Bench::new(&[]);
        bench.register(&a, 5);
        bench.register(&b, 6);
        assert_eq!(bench.ok(&a, RESERVE, kind, 5, 0).attentions, []);
        let all = kind >= WE_AR;
        let key = if all { 0 } else { 5 };
        assert_eq!(bench.reservation(), Some((key, kind)));
        // Again by its holder: nothing changes.
        assert!(!bench.ok(&a, RESERVE, kind, 5, 0).changed);
        for other in TYPES.into_iter().filter(|other| *other != kind) {
            assert_eq!(code(bench.out(&a, RESERVE, other, 5, 0).unwrap_err()), CONFLICT);
            assert_eq!(code(bench.out(&b, RESERVE, other, 6, 0).unwrap_err()), CONFLICT);
        }
        // Another registered nexus is a holder too with all registrants.
        assert_eq!(bench.out(&b, RESERVE, kind, 6, 0).is_ok(), all);
        // A key may change without the reservation (5.13.7).
        bench.ok(&a, REGISTER, 0, 5, 9);
        assert_eq!(bench.reservation(), Some((if all { 0 } else { 9 }, kind)));
        assert_eq!(bench.generation(), 3);
    }
}

#[test]
fn release() {
    let (a, b, c) = (vm(1, 1), vm(2, 1), vm(3, 1));
    for kind in TYPES {
        let mut bench = Bench::new(&[]);
        bench.register(&a, 5);
        bench.register(&b, 6);
        // Nothing reserved.
        assert!(!bench.ok(&a, RELEASE, kind, 5, 0).changed);
        bench.ok(&a, RESERVE, kind, 5, 0);
        for other in (0..16u8).filter(|other| *other != kind) {
            assert_eq!(code(bench.out(&a, RELEASE, other, 5, 0).unwrap_err()), INVALID_RELEASE);
        }
        assert_eq!(code(bench.out(&a, RELEASE, 0x10 | kind, 5, 0).unwrap_err()), IN_CDB);
        assert_eq!(code(bench.out(&c, RELEASE, kind, 0, 0).unwrap_err()), CONFLICT);
        if kind < WE_AR {
            // Not by another; and it is no error, whatever the type.
            assert!(!bench.ok(&b, RELEASE, kind, 6, 0).changed);
            assert!(!bench.ok(&b, RELEASE, 0, 6, 0).changed);
        }
        let effects = bench.ok(&a, RELEASE, kind, 5, 0);
        let expected = if kind >= WE_RO { Vec::from([(b.clone(), 0x04)]) } else { Vec::new() };
        assert_eq!(told(&effects), expected);
        assert_eq!(bench.reservation(), None);
        assert_eq!(bench.keys(), [5, 6]);
        assert_eq!(bench.generation(), 2);
    }
}

/// 5.13.11.2.3.
#[test]
fn unregistering_the_holder_releases() {
    let (a, b, c) = (vm(1, 1), vm(2, 1), vm(3, 1));
    for action in [REGISTER, REGISTER_AND_IGNORE] {
        for kind in TYPES {
            let mut bench = Bench::new(&[]);
            bench.register(&a, 5);
            bench.register(&b, 6);
            bench.register(&c, 6);
            bench.ok(&a, RESERVE, kind, 5, 0);
            // Another than the holder goes: nothing is released.
            assert_eq!(bench.ok(&c, action, 0, 6, 0).attentions, []);
            assert!(bench.reservation().is_some());
            bench.register(&c, 6);
            let effects = bench.ok(&a, action, 0, 5, 0);
            match kind {
                WE | EA => {
                    assert_eq!(bench.reservation(), None);
                    assert_eq!(told(&effects), []);
                }
                WE_RO | EA_RO => {
                    assert_eq!(bench.reservation(), None);
                    assert_eq!(told(&effects), [(b.clone(), 0x04), (c.clone(), 0x04)]);
                }
                _ => {
                    assert_eq!(bench.reservation(), Some((0, kind)));
                    bench.ok(&b, action, 0, 6, 0);
                    assert_eq!(bench.reservation(), Some((0, kind)));
                    let effects = bench.ok(&c, action, 0, 6, 0);
                    assert_eq!(bench.reservation(), None);
                    assert_eq!(told(&effects), []);
                }
            }
        }
    }
}

/// 5.13.11.2.7.
#[test]
fn clear() {
    let (a, b, c) = (vm(1, 1), vm(2, 1), vm(3, 1));
    let mut bench = Bench::new(&[]);
    bench.register(&a, 5);
    bench.register(&b, 6);
    bench.ok(&a, RESERVE, EA, 5, 0);
    assert_eq!(code(bench.out(&c, CLEAR, 0, 0, 0).unwrap_err()), CONFLICT);
    // By one that is registered, though it does not hold the reservation.
    let effects = bench.ok(&b, CLEAR, 0, 6, 0);
    assert_eq!(told(&effects), [(a.clone(), 0x03)]);
    assert_eq!((bench.reservation(), bench.keys(), bench.generation()), (None, Vec::new(), 3));
    // Nothing is aborted, nobody lost the right to write.
    assert_eq!((effects.abort, effects.fenced), (Vec::new(), Vec::new()));
}

#[test]
fn replace_lost_reservation_when_none_is_lost() {
    let (a, b) = (vm(1, 1), vm(2, 1));
    let mut bench = Bench::new(&[]);
    assert_eq!(code(bench.out(&a, REPLACE_LOST, WE, 0, 5).unwrap_err()), INVALID_RELEASE);
    bench.register(&a, 5);
    bench.ok(&a, RESERVE, WE, 5, 0);
    assert_eq!(code(bench.out(&a, REPLACE_LOST, WE, 0, 5).unwrap_err()), INVALID_RELEASE);
    assert_eq!(code(bench.out(&b, REPLACE_LOST, WE, 0, 5).unwrap_err()), CONFLICT);
    assert_eq!((bench.reservation(), bench.generation()), (Some((5, WE)), 1));
}

/// Who could write and cannot any more is named: its commands end before the response.
#[test]
fn writers_are_fenced() {
    let (a, b, c) = (vm(1, 1), vm(2, 1), vm(3, 1));
    let mut bench = Bench::new(&[a.clone(), b.clone(), c.clone()]);
    bench.register(&a, 5);
    bench.register(&b, 6);
    assert_eq!(bench.clone().ok(&a, RESERVE, WE, 5, 0).fenced, [b.clone(), c.clone()]);
    assert_eq!(bench.clone().ok(&a, RESERVE, EA, 5, 0).fenced, [b.clone(), c.clone()]);
    assert_eq!(bench.ok(&a, RESERVE, WE_RO, 5, 0).fenced, Vec::from([c.clone()]));
    // Unregistering takes the right from itself.
    assert_eq!(bench.clone().ok(&b, REGISTER, 0, 6, 0).fenced, Vec::from([b.clone()]));
    assert_eq!(bench.ok(&a, PREEMPT, WE_RO, 5, 6).fenced, Vec::from([b.clone()]));
    assert_eq!(bench.ok(&a, RELEASE, WE_RO, 5, 0).fenced, []);
}

#[test]
fn generation_wraps() {
    let a = vm(1, 1);
    let mut bench = Bench::new(&[]);
    let mut state = bench.table.state();
    state[8..12].copy_from_slice(&[0xff; 4]);
    bench.table = super::persist::restored(&state);
    assert_eq!(bench.generation(), u32::MAX);
    bench.register(&a, 5);
    assert_eq!(bench.generation(), 0);
}
