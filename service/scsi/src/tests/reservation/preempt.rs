//! PREEMPT and PREEMPT AND ABORT: SPC-4 5.13.11.2.4 to 5.13.11.2.6, table 72.

use super::*;

/// a has 5 and holds; b has 6; c has 6; d has 5; e is not registered.
fn bench(kind: Option<u8>) -> (Bench, [Peer; 5]) {
    let peers = [vm(1, 1), vm(2, 1), vm(3, 1), vm(4, 1), vm(5, 1)];
    let mut bench = Bench::new(&peers);
    for (peer, key) in peers.iter().zip([5, 6, 6, 5]) {
        bench.register(peer, key);
    }
    if let Some(kind) = kind {
        bench.ok(&peers[0], RESERVE, kind, 5, 0);
    }
    (bench, peers)
}

#[test]
fn of_the_reservation() {
    for kind in [WE, EA, WE_RO, EA_RO] {
        for new in TYPES {
            let (mut bench, [a, b, c, d, _]) = bench(Some(kind));
            let effects = bench.ok(&b, PREEMPT, new, 6, 5);
            assert_eq!(bench.reservation(), Some((if new >= WE_AR { 0 } else { 6 }, new)));
            assert_eq!(bench.keys(), [6, 6]);
            assert_eq!(bench.generation(), 5);
            let mut expected = Vec::from([(a, 0x05), (d, 0x05)]);
            if new != kind {
                expected.push((c, 0x04));
            }
            assert_eq!(told(&effects), expected);
            assert_eq!(effects.abort, []);
        }
    }
}

#[test]
fn of_registrations_only() {
    for kind in [None, Some(WE), Some(EA), Some(WE_RO), Some(EA_RO)] {
        let (mut bench, [a, b, c, d, _]) = bench(kind);
        // Scope and type are ignored.
        let effects = bench.ok(&d, PREEMPT, 0xf0, 5, 6);
        assert_eq!(told(&effects), [(b, 0x05), (c, 0x05)]);
        assert_eq!(bench.keys(), [5, 5]);
        assert_eq!(bench.reservation(), kind.map(|kind| (5, kind)));
        assert_eq!(bench.registered(), [(a, 5), (d, 5)]);
    }
}

#[test]
fn of_all_registrants() {
    for kind in [WE_AR, EA_AR] {
        // Not zero: registrations go, the reservation stays.
        let (mut some, [_, b, c, d, _]) = bench(Some(kind));
        let effects = some.ok(&d, PREEMPT, 0xff, 5, 6);
        assert_eq!(told(&effects), [(b.clone(), 0x05), (c.clone(), 0x05)]);
        assert_eq!((some.keys(), some.reservation()), (Vec::from([5, 5]), Some((0, kind))));
        // Zero: all others go.
        for new in TYPES {
            let (mut bench, [a, b, c, d, _]) = bench(Some(kind));
            let effects = bench.ok(&b, PREEMPT, new, 6, 0);
            assert_eq!(told(&effects), [(a, 0x05), (c, 0x05), (d, 0x05)]);
            assert_eq!(bench.keys(), [6]);
            assert_eq!(bench.reservation(), Some((if new >= WE_AR { 0 } else { 6 }, new)));
        }
    }
}

#[test]
fn a_new_reservation_needs_a_scope_and_a_type() {
    for kind in [0x0, 0x2, 0x4, 0x9, 0xf, 0x11, 0xf1] {
        let (mut holder, [_, b, ..]) = bench(Some(WE));
        assert_eq!(code(holder.out(&b, PREEMPT, kind, 6, 5).unwrap_err()), IN_CDB);
        let (mut all, [_, b, ..]) = bench(Some(WE_AR));
        assert_eq!(code(all.out(&b, PREEMPT, kind, 6, 0).unwrap_err()), IN_CDB);
        assert_eq!(all.keys(), [5, 6, 6, 5]);
    }
}

#[test]
fn a_key_that_nobody_has() {
    for kind in [None, Some(WE), Some(EA_RO), Some(WE_AR)] {
        let (mut bench, [_, b, ..]) = bench(kind);
        for action in [PREEMPT, PREEMPT_AND_ABORT] {
            assert_eq!(code(bench.out(&b, action, WE, 6, 77).unwrap_err()), CONFLICT);
        }
        assert_eq!(bench.generation(), 4);
    }
}

/// Table 72: zero, without all registrants.
#[test]
fn the_key_zero() {
    for kind in [WE, EA, WE_RO, EA_RO] {
        let (mut bench, [_, b, ..]) = bench(Some(kind));
        assert_eq!(code(bench.out(&b, PREEMPT, WE, 6, 0).unwrap_err()), IN_LIST);
    }
    let (mut bench, [_, b, ..]) = bench(None);
    assert_eq!(code(bench.out(&b, PREEMPT, WE, 6, 0).unwrap_err()), CONFLICT);
}

/// The holder may preempt itself: a way to change the type. Whoever shares its key goes.
#[test]
fn of_itself_by_the_holder() {
    let (mut bench, [a, b, c, d, _]) = bench(Some(WE));
    let effects = bench.ok(&a, PREEMPT, EA_RO, 5, 5);
    assert_eq!(told(&effects), [(d, 0x05), (b, 0x04), (c, 0x04)]);
    assert_eq!((bench.keys(), bench.reservation()), (Vec::from([5, 6, 6]), Some((5, EA_RO))));
}

/// "The registration is removed", and nobody tells oneself (5.13.11.2.5).
#[test]
fn of_itself_by_another() {
    let (mut held, [_, b, c, ..]) = bench(Some(WE));
    let effects = held.ok(&b, PREEMPT, WE, 6, 6);
    assert_eq!(told(&effects), [(c, 0x05)]);
    assert_eq!((held.keys(), held.reservation()), (Vec::from([5, 5]), Some((5, WE))));
    assert_eq!(effects.fenced, []);
    let (mut free, [a, _, _, d, _]) = bench(None);
    assert_eq!(told(&free.ok(&a, PREEMPT, WE, 5, 5)), [(d, 0x05)]);
    assert_eq!(free.keys(), [6, 6]);
    // The last registration of an all registrants reservation.
    let mut last = Bench::new(&[]);
    last.register(&a, 5);
    last.ok(&a, RESERVE, WE_AR, 5, 0);
    last.ok(&a, PREEMPT, WE, 5, 5);
    assert_eq!((last.keys(), last.reservation()), (Vec::new(), None));
}

#[test]
fn and_abort_names_whose_commands_end() {
    let (mut held, [a, b, _, d, e]) = bench(Some(WE_RO));
    let effects = held.ok(&b, PREEMPT_AND_ABORT, WE_RO, 6, 5);
    assert_eq!(effects.abort, [a, d]);
    assert!(effects.abort_copies);
    // Those are not named twice; e could not write before.
    assert_eq!(effects.fenced, []);
    let _ = e;
    // Registrations without the reservation.
    let (mut free, [_, b, c, d, _]) = bench(None);
    assert_eq!(free.ok(&d, PREEMPT_AND_ABORT, 0, 5, 6).abort, [b, c]);
    // All registrants and zero: "all commands for all registered I_T nexuses".
    let (mut all, [a, b, c, d, _]) = bench(Some(EA_AR));
    assert_eq!(all.ok(&b, PREEMPT_AND_ABORT, EA, 6, 0).abort, [a, b, c, d]);
    // Its own key: its other commands too.
    let (mut own, [a, _, _, d, _]) = bench(Some(WE));
    assert_eq!(own.ok(&a, PREEMPT_AND_ABORT, WE, 5, 5).abort, [a, d]);
}

/// Fencing as cluster software does it: the victim's writes end before GOOD.
#[test]
fn fences_the_preempted() {
    let (mut bench, [a, b, c, d, _]) = bench(Some(WE_RO));
    let effects = bench.ok(&b, PREEMPT, WE_RO, 6, 5);
    assert_eq!(effects.fenced, [a.clone(), d.clone()]);
    // From registrants only to exclusive: those that stay registered lose the right too.
    let effects = bench.ok(&b, PREEMPT, WE, 6, 6);
    assert_eq!(effects.fenced, [c]);
}
