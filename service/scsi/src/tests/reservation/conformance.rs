//! What libiscsi's conformance suite and cluster software do, step by step, on the table alone.

use super::*;
use crate::reservation::Access;

/// Access of a registered and of an unregistered second initiator (read, write), and whether the
/// reservation outlives its maker's registration.
const EXPECTED: [(u8, [bool; 4], bool); 6] = [
    (WE, [true, false, true, false], false),
    (EA, [false, false, false, false], false),
    (WE_RO, [true, true, true, false], false),
    (EA_RO, [true, true, false, false], false),
    (WE_AR, [true, true, true, false], true),
    (EA_AR, [true, true, false, false], true),
];

#[test]
fn two_initiators_share_access() {
    let (one, two) = (session("iqn.x:one", 1, 1), session("iqn.x:two", 1, 1));
    for (kind, [read, write, other_read, other_write], _) in EXPECTED {
        let mut bench = Bench::new(&[one.clone(), two.clone()]);
        bench.register(&one, 0x11);
        bench.register(&two, 0x22);
        bench.ok(&one, RESERVE, kind, 0x11, 0);
        assert!(bench.table.allows(&one, Access::Read) && bench.table.allows(&one, Access::Write));
        assert_eq!(bench.table.allows(&two, Access::Read), read);
        assert_eq!(bench.table.allows(&two, Access::Write), write);
        bench.ok(&two, REGISTER, 0, 0x22, 0);
        assert_eq!(bench.table.allows(&two, Access::Read), other_read);
        assert_eq!(bench.table.allows(&two, Access::Write), other_write);
        bench.ok(&one, RELEASE, kind, 0x11, 0);
        bench.ok(&one, REGISTER, 0, 0x11, 0);
        assert_eq!(bench.keys(), []);
    }
}

#[test]
fn a_reservation_with_and_without_its_maker() {
    let (one, two) = (session("iqn.x:one", 1, 1), session("iqn.x:two", 1, 1));
    for (kind, _, shared) in EXPECTED {
        let mut bench = Bench::new(&[one.clone(), two.clone()]);
        bench.register(&one, 0x11);
        bench.register(&two, 0x22);
        bench.ok(&one, RESERVE, kind, 0x11, 0);
        bench.ok(&one, REGISTER, 0, 0x11, 0);
        assert_eq!(bench.reservation().is_some(), shared);
        if shared {
            bench.ok(&two, RELEASE, kind, 0x22, 0);
        }
        assert_eq!(bench.reservation(), None);
        bench.ok(&two, REGISTER, 0, 0x22, 0);
    }
}

#[test]
fn clear_counts_once_and_reserve_does_not() {
    let one = session("iqn.x:one", 1, 1);
    let mut bench = Bench::new(&[]);
    bench.register(&one, 0x11);
    let before = bench.generation();
    bench.ok(&one, RESERVE, EA, 0x11, 0);
    bench.ok(&one, CLEAR, 0, 0x11, 0);
    assert_eq!((bench.reservation(), bench.keys(), bench.generation()), (None, Vec::new(), before + 1));
}

#[test]
fn preempt_removes_a_registration() {
    let (one, two) = (session("iqn.x:one", 1, 1), session("iqn.x:two", 1, 1));
    let mut bench = Bench::new(&[one.clone(), two.clone()]);
    bench.register(&one, 0x11);
    bench.register(&two, 0x22);
    let before = bench.generation();
    bench.ok(&two, PREEMPT, EA, 0x22, 0x11);
    assert_eq!((bench.keys(), bench.generation()), (Vec::from([0x22]), before + 1));
    assert_eq!(bench.reservation(), None);
}

/// The agent fence_scsi: each node registers its key, one reserves Write Exclusive - Registrants Only;
/// to fence, a node preempts the victim's key and aborts. Nodes have several paths with one key.
#[test]
fn fence_scsi() {
    let paths = |node: u8| [vm(node, 1), vm(node, 2)];
    let (first, second) = (paths(1), paths(2));
    let all: Vec<Peer> = first.iter().chain(&second).cloned().collect();
    let mut bench = Bench::new(&all);
    for (node, key) in [(&first, 0x1_0000), (&second, 0x1_0001)] {
        for path in node {
            bench.ok(path, REGISTER_AND_IGNORE, 0, 0, key);
        }
    }
    bench.ok(&first[0], RESERVE, WE_RO, 0x1_0000, 0);
    // The second node's RESERVE conflicts, and it goes on as a registrant.
    assert_eq!(bench.out(&second[0], RESERVE, WE_RO, 0x1_0001, 0), Err(Refusal::Conflict));
    assert!(bench.table.allows(&second[1], Access::Write));
    // The second fences the first, which holds the reservation.
    let effects = bench.ok(&second[0], PREEMPT_AND_ABORT, WE_RO, 0x1_0001, 0x1_0000);
    assert_eq!(effects.abort, first);
    assert_eq!(told(&effects), [(first[0].clone(), 0x05), (first[1].clone(), 0x05)]);
    for path in &first {
        assert!(!bench.table.allows(path, Access::Write));
        assert!(bench.table.allows(path, Access::Read));
        // It cannot come back by itself but by registering.
        assert_eq!(bench.out(path, PREEMPT, WE_RO, 0x1_0000, 0x1_0001), Err(Refusal::Conflict));
    }
    assert_eq!(bench.reservation(), Some((0x1_0001, WE_RO)));
    bench.ok(&first[0], REGISTER_AND_IGNORE, 0, 0, 0x1_0000);
    assert!(bench.table.allows(&first[0], Access::Write));
}

/// A Windows failover cluster: challenge and defense. The owner holds Write Exclusive - Registrants
/// Only; a challenger registers, waits, and preempts the owner's key if that key is still the one it
/// read; a defender registers its key again meanwhile under another key and removes the challenger.
#[test]
fn challenge_and_defense() {
    let (owner, challenger) = (vm(1, 1), vm(2, 1));
    let mut bench = Bench::new(&[owner.clone(), challenger.clone()]);
    bench.ok(&owner, REGISTER_AND_IGNORE, 0, 0, 0xa1);
    bench.ok(&owner, RESERVE, WE_RO, 0xa1, 0);
    // Challenged and defended: the challenger's registration is preempted.
    bench.ok(&challenger, REGISTER_AND_IGNORE, 0, 0, 0xb1);
    let effects = bench.ok(&owner, PREEMPT, WE_RO, 0xa1, 0xb1);
    assert_eq!(told(&effects), [(challenger.clone(), 0x05)]);
    assert_eq!(bench.out(&challenger, PREEMPT, WE_RO, 0xb1, 0xa1), Err(Refusal::Conflict));
    assert_eq!(bench.reservation(), Some((0xa1, WE_RO)));
    // Challenged and not defended.
    bench.ok(&challenger, REGISTER_AND_IGNORE, 0, 0, 0xb2);
    bench.ok(&challenger, PREEMPT, WE_RO, 0xb2, 0xa1);
    assert_eq!((bench.reservation(), bench.keys()), (Some((0xb2, WE_RO)), Vec::from([0xb2])));
    assert!(!bench.table.allows(&owner, Access::Write));
    // The validation clears at its end.
    bench.ok(&challenger, CLEAR, 0, 0xb2, 0);
    assert_eq!((bench.reservation(), bench.keys()), (None, Vec::new()));
}
