//! Lost reservations: SPC-4 5.13.5.3 and 5.13.11.3.

use super::*;
use crate::reservation::passes_loss;

const LOST: Option<(u8, u8, u8)> = Some((0x07, 0x44, 0x01));

fn bench() -> Bench {
    Bench { table: Reservations::lost(), ..Bench::new(&[]) }
}

#[test]
fn everything_else_is_told_that_they_are_lost() {
    let known = Known { peers: &[], ports: &[] };
    let mut bench = bench();
    for action in (0..32).filter(|action| *action != REPLACE_LOST) {
        assert_eq!(code(bench.out(&vm(1, 1), action, WE, 0, 5).unwrap_err()), LOST, "{action}");
    }
    for action in 0..4 {
        assert_eq!(code(bench.table.read(action).unwrap_err()), LOST);
    }
    assert_eq!(code(bench.table.reserve(&known, &vm(1, 1)).unwrap_err()), LOST);
    assert_eq!(code(bench.table.release(&vm(1, 1)).unwrap_err()), LOST);
    assert!(bench.table.is_lost());
    // No reset, no lost nexus and no power cycle helps.
    assert!(!bench.table.reset() && !bench.table.nexus_lost(&vm(1, 1)));
    bench.table.power_lost();
    assert_eq!(bench.table, Reservations::lost());
    assert_eq!(Reservations::restore(&bench.table.state()), Ok(Reservations::lost()));
    assert_eq!(Reservations::restore(&bench.table.kept()), Ok(Reservations::lost()));
}

#[test]
fn they_are_replaced() {
    for kind in TYPES {
        for flags in [0, APTPL] {
            let mut bench = bench();
            let effects = bench.send(&vm(1, 1), REPLACE_LOST, kind, &list(0, 5, flags)).unwrap();
            assert!(effects.durable && effects.changed);
            assert_eq!(told(&effects), []);
            assert_eq!(bench.registered(), [(vm(1, 1), 5)]);
            assert_eq!(bench.reservation(), Some((if kind >= WE_AR { 0 } else { 5 }, kind)));
            assert_eq!(bench.generation(), 0);
            assert_eq!(bench.table.read(0x02).unwrap()[3] & 1, flags);
            // Only once.
            assert_eq!(code(bench.out(&vm(1, 1), REPLACE_LOST, kind, 0, 5).unwrap_err()), INVALID_RELEASE);
        }
    }
}

#[test]
fn what_replacing_needs() {
    let a = vm(1, 1);
    let refused = |kind: u8, list: &[u8], expected: Option<(u8, u8, u8)>| {
        let mut bench = bench();
        assert_eq!(code(bench.send(&a, REPLACE_LOST, kind, list).unwrap_err()), expected);
        assert!(bench.table.is_lost());
    };
    refused(0x00, &list(0, 5, 0), IN_CDB);
    refused(0x11, &list(0, 5, 0), IN_CDB);
    refused(WE, &list(4, 5, 0), IN_LIST);
    refused(WE, &list(0, 0, 0), IN_LIST);
    refused(WE, &list(0, 5, ALL_TG_PT), IN_LIST);
    refused(WE, &list(0, 5, SPEC_I_PT), IN_LIST);
    refused(WE, &list(0, 5, 0)[..23], LENGTH_ERROR);
}

/// 5.13.5.2.
#[test]
fn what_passes() {
    let passing: [&[u8]; 9] = [
        &[0x12],
        &[0x4d],
        &[0x3c],
        &[0x9b],
        &[0xa0],
        &[0xa3, 0x0a],
        &[0x03],
        &[0x1b, 0, 0, 0, 0x01],
        &[0x3b],
    ];
    for cdb in passing {
        assert!(passes_loss(cdb), "{cdb:02x?}");
    }
    assert!(passes_loss(&[0x5f, 0x08]));
    let refused: [&[u8]; 9] = [
        &[],
        &[0x00],
        &[0x28],
        &[0x2a],
        &[0x1b, 0, 0, 0, 0x00],
        &[0x1b, 0, 0, 0, 0x11],
        &[0xa3, 0x0c],
        &[0x5f, 0x00],
        &[0x5e, 0x00],
    ];
    for cdb in refused {
        assert!(!passes_loss(cdb), "{cdb:02x?}");
    }
}
