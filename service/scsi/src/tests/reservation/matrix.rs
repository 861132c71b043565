//! Every type x every standing x every access, as in SPC-4 table 65 and SBC-4 table 13.

use super::*;
use crate::reservation::Access;

/// The holder, a registered nexus, and one that is not; the same initiator by another port is one
/// that is not.
fn standings(kind: u8) -> (Bench, [Peer; 4]) {
    let mut bench = Bench::new(&[]);
    let peers = [vm(1, 1), vm(2, 1), vm(3, 1), vm(1, 2)];
    bench.register(&peers[0], 0xa);
    bench.register(&peers[1], 0xb);
    bench.ok(&peers[0], RESERVE, kind, 0xa, 0);
    (bench, peers)
}

/// Rows: type. Columns: holder, registered, neither, holder's initiator by another port. A letter for
/// each of Always, NotReserved, Read, Write.
const MATRIX: [(u8, [&str; 4]); 6] = [
    (0x1, ["AAAA", "AAAC", "AAAC", "AAAC"]),
    (0x3, ["AAAA", "AACC", "AACC", "AACC"]),
    (0x5, ["AAAA", "AAAA", "AAAC", "AAAC"]),
    (0x6, ["AAAA", "AAAA", "AACC", "AACC"]),
    (0x7, ["AAAA", "AAAA", "AAAC", "AAAC"]),
    (0x8, ["AAAA", "AAAA", "AACC", "AACC"]),
];

const ACCESSES: [Access; 4] = [Access::Always, Access::NotReserved, Access::Read, Access::Write];

#[test]
fn commands_beside_persistent_reservations() {
    for (kind, columns) in MATRIX {
        let (bench, peers) = standings(kind);
        for (peer, letters) in peers.iter().zip(columns) {
            for (access, letter) in ACCESSES.into_iter().zip(letters.chars()) {
                let allowed = bench.table.allows(peer, access);
                assert_eq!(allowed, letter == 'A', "type {kind:x}, {peer:?}, {access:?}");
            }
            assert!(bench.table.allows(peer, Access::Reservation));
        }
    }
}

/// SPC-4 table 66, with what is said in the text of each service action.
#[test]
fn service_actions_beside_the_reservation_of_another() {
    //            action, from registered, from not registered
    let table: [(u8, bool, bool); 9] = [
        (0x03, true, false),
        (0x04, true, false),
        (0x05, true, false),
        (0x00, true, true),
        (0x06, true, true),
        (0x07, false, false),
        (0x02, true, false),
        (0x01, false, false),
        (0x08, true, false),
    ];
    for kind in [WE, EA, WE_RO, EA_RO] {
        for (action, registered, other) in table {
            let (bench, peers) = standings(kind);
            for (peer, key, expected) in [(&peers[1], 0xb, registered), (&peers[2], 0, other)] {
                let list = match action {
                    0x07 => move_list(key, 0xc, 0, &vm(9, 1)),
                    _ => list(key, 0xb, 0),
                };
                let result = bench.clone().send(peer, action, kind, &list);
                let conflict = result == Err(Refusal::Conflict);
                assert_eq!(!conflict, expected, "type {kind:x}, action {action:x}, {peer:?}");
            }
        }
    }
}

#[test]
fn without_a_reservation_everything_goes() {
    let mut bench = Bench::new(&[]);
    bench.register(&vm(1, 1), 1);
    for access in ACCESSES {
        assert!(bench.table.allows(&vm(2, 1), access));
    }
}

#[test]
fn commands_beside_a_reserve() {
    let mut bench = Bench::new(&[]);
    let known = Known { peers: &[], ports: &[] };
    bench.table.reserve(&known, &vm(1, 1)).unwrap();
    for access in ACCESSES {
        assert!(bench.table.allows(&vm(1, 1), access));
        assert_eq!(bench.table.allows(&vm(2, 1), access), access == Access::Always);
        assert_eq!(bench.table.allows(&vm(1, 2), access), access == Access::Always);
    }
}

/// SBC-4 table 13: START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL.
#[test]
fn some_commands_are_looked_into() {
    for byte in 0..=255u8 {
        let start = [0x1b, 0, 0, 0, byte, 0];
        let harmless = byte & 1 == 1 && byte >> 4 == 0;
        let expected = if harmless { Access::Always } else { Access::Write };
        assert_eq!(Access::StartStop.of(&start), expected);
        let prevent = [0x1e, 0, 0, 0, byte, 0];
        let expected = if byte & 3 == 0 { Access::Always } else { Access::Write };
        assert_eq!(Access::PreventAllow.of(&prevent), expected);
    }
    assert_eq!(Access::Read.of(&[0x28]), Access::Read);
    // Not looked into, they are taken for the worse.
    let (bench, peers) = standings(WE);
    assert!(!bench.table.allows(&peers[2], Access::StartStop));
    assert!(!bench.table.allows(&peers[2], Access::PreventAllow));
}

/// However a name is written, it is the same nexus.
#[test]
fn names_are_compared_without_regard_to_case() {
    let mut bench = Bench::new(&[]);
    bench.register(&session("iqn.1993-08.org.debian:01:ABC", 0xab, 1), 1);
    bench.ok(&session("iqn.1993-08.org.Debian:01:abc", 0xab, 1), RESERVE, EA, 1, 0);
    assert!(bench.table.allows(&session("IQN.1993-08.org.debian:01:abc", 0xab, 1), Access::Write));
    assert!(!bench.table.allows(&session("iqn.1993-08.org.debian:01:abc", 0xac, 1), Access::Write));
}
