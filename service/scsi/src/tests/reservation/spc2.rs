//! RESERVE and RELEASE: SPC-2, and SPC-4 5.13.3.

use super::*;

fn reserve(bench: &mut Bench, peer: &Peer) -> Result<Effects, Refusal> {
    let known = Known { peers: &bench.peers, ports: &bench.ports };
    bench.table.reserve(&known, peer)
}

#[test]
fn one_owner_at_a_time() {
    let (a, b) = (vm(1, 1), vm(2, 1));
    let mut bench = Bench::new(&[a.clone(), b.clone()]);
    // Nothing to release.
    assert!(!bench.table.release(&a).unwrap().changed);
    let effects = reserve(&mut bench, &a).unwrap();
    assert_eq!((effects.changed, effects.durable), (true, false));
    assert_eq!(effects.fenced, Vec::from([b.clone()]));
    assert_eq!(reserve(&mut bench, &a), Ok(Effects::default()));
    assert_eq!(reserve(&mut bench, &b), Err(Refusal::Conflict));
    // The same initiator by another port is another nexus.
    assert_eq!(reserve(&mut bench, &vm(1, 2)), Err(Refusal::Conflict));
    // Not an error, and not released.
    assert_eq!(bench.table.release(&b), Ok(Effects::default()));
    assert!(bench.table.is_reserved());
    assert!(bench.table.release(&a).unwrap().changed);
    reserve(&mut bench, &b).unwrap();
}

#[test]
fn what_ends_it() {
    let (a, b) = (vm(1, 1), vm(2, 1));
    let held = || {
        let mut bench = Bench::new(&[]);
        reserve(&mut bench, &a).unwrap();
        bench.table
    };
    let mut table = held();
    assert!(table.reset());
    assert!(!table.reset() && !table.is_reserved());
    let mut table = held();
    assert!(!table.nexus_lost(&b) && table.is_reserved());
    assert!(table.nexus_lost(&a) && !table.is_reserved());
    let mut table = held();
    table.power_lost();
    assert_eq!(table, Reservations::new());
}

/// SPC-2 5.5.1: regardless of who asks and for what.
#[test]
fn persistent_reserve_conflicts_with_a_reserve() {
    let (a, b) = (vm(1, 1), vm(2, 1));
    let mut bench = Bench::new(&[]);
    reserve(&mut bench, &a).unwrap();
    for peer in [&a, &b] {
        for action in 0..32 {
            assert_eq!(bench.out(peer, action, WE, 0, 5), Err(Refusal::Conflict));
        }
    }
    for action in 0..32 {
        assert_eq!(bench.table.read(action), Err(Refusal::Conflict));
    }
    bench.table.release(&a).unwrap();
    bench.register(&b, 5);
}

/// SPC-4 5.13.3 and SPC-2 5.5.1.
#[test]
fn beside_registrations_and_persistent_reservations() {
    let (a, b, c) = (vm(1, 1), vm(2, 1), vm(3, 1));
    let mut bench = Bench::new(&[]);
    bench.register(&a, 5);
    bench.register(&b, 6);
    let check = |bench: &mut Bench, good: [bool; 3]| {
        for (peer, good) in [&a, &b, &c].into_iter().zip(good) {
            let before = bench.table.clone();
            let expected = if good { Ok(Effects::default()) } else { Err(Refusal::Conflict) };
            assert_eq!(reserve(bench, peer), expected);
            assert_eq!(bench.table.release(peer), expected);
            assert_eq!(bench.table, before);
        }
    };
    // Registered, nothing reserved: all conflict.
    check(&mut bench, [false, false, false]);
    for (kind, good) in [
        (WE, [true, false, false]),
        (EA, [true, false, false]),
        (WE_RO, [true, true, false]),
        (EA_RO, [true, true, false]),
        (WE_AR, [true, true, false]),
        (EA_AR, [true, true, false]),
    ] {
        bench.ok(&a, RESERVE, kind, 5, 0);
        check(&mut bench, good);
        bench.ok(&a, RELEASE, kind, 5, 0);
    }
}

#[test]
fn persistent_reservations_outlive_resets_and_lost_nexuses() {
    let a = vm(1, 1);
    let mut bench = Bench::new(&[]);
    bench.register(&a, 5);
    bench.ok(&a, RESERVE, EA, 5, 0);
    let before = bench.table.clone();
    assert!(!bench.table.reset());
    assert!(!bench.table.nexus_lost(&a));
    assert_eq!(bench.table, before);
}
