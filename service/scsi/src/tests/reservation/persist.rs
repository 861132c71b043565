//! The table as bytes.

use proptest::prelude::*;

use super::*;
use crate::reservation::{Corrupt, STATE_MAX_BYTES};

/// CRC-32C by polynomial division of the bits, highest first, as RFC 3720 appendix B has it: made
/// otherwise than the one under test.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut remainder: u32 = 0xffff_ffff;
    for byte in bytes {
        for bit in 0..8 {
            let top = remainder >> 31 != 0;
            remainder <<= 1;
            if top != (byte >> bit & 1 != 0) {
                remainder ^= 0x1edc_6f41;
            }
        }
    }
    (!remainder).reverse_bits()
}

/// With the right checksum over whatever was changed.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes[..bytes.len() - 4].to_vec();
    let sum = crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_be_bytes());
    bytes
}

pub(super) fn restored(bytes: &[u8]) -> Reservations {
    Reservations::restore(&sealed(bytes)).expect("a table")
}

fn example(kind: u8, aptpl: bool) -> Bench {
    let mut bench = Bench::new(&[]);
    bench.send(&vm(7, 1), REGISTER, 0, &list(0, 0x55, u8::from(aptpl))).unwrap();
    bench.send(&session("iqn.x:b", 1, 2), REGISTER, 0, &list(0, 0x66, u8::from(aptpl))).unwrap();
    bench.ok(&session("iqn.x:b", 1, 2), RESERVE, kind, 0x66, 0);
    bench
}

/// Version 1 as it was first written: these bytes are to be read for ever.
#[test]
fn version_1() {
    let mut expected = Vec::from(*b"SPRV\x01\x03\x05\x00");
    expected.extend_from_slice(&[0, 0, 0, 2, 0, 2, 0, 1]);
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0x55, 0, 1, 0, 24]);
    expected.extend_from_slice(&[6, 0, 0, 0, 0x52, 0x5e, 0x41, 0x10, 0, 0, 0, 7]);
    expected.extend_from_slice(&[0; 12]);
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0x66, 0, 2, 0, 32]);
    expected.extend_from_slice(b"\x45\x00\x00\x1ciqn.x:b,i,0x00023d000001\0\0\0\0");
    expected.extend_from_slice(&[0; 4]);
    let expected = sealed(&expected);
    let bench = example(WE_RO, true);
    assert_eq!(bench.table.state(), expected);
    assert_eq!(Reservations::restore(&expected), Ok(bench.table.clone()));
    // Power off: the generation is zero again.
    let mut kept = expected.clone();
    kept[8..12].copy_from_slice(&[0; 4]);
    assert_eq!(bench.table.kept(), sealed(&kept));
}

#[test]
fn the_checksum_is_crc32c() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    let empty = Reservations::new().state();
    let mut expected = Vec::from(*b"SPRV\x01\x00\x00\x00\0\0\0\0\0\0\xff\xff");
    expected.extend_from_slice(&crc32c(&expected).to_be_bytes());
    assert_eq!(empty, expected);
}

#[test]
fn a_reserve_outlives_the_process_but_not_a_power_loss() {
    let mut bench = Bench::new(&[]);
    let known = Known { peers: &[], ports: &[] };
    bench.table.reserve(&known, &vm(1, 2)).unwrap();
    assert_eq!(Reservations::restore(&bench.table.state()), Ok(bench.table.clone()));
    assert_eq!(Reservations::restore(&bench.table.kept()), Ok(Reservations::new()));
}

/// SPC-4 5.13.5: the last APTPL decides for all registrations.
#[test]
fn aptpl() {
    for kind in TYPES {
        let mut bench = example(kind, true);
        let after = Reservations::restore(&bench.table.kept()).unwrap();
        assert_eq!(after.read(0x01).unwrap()[4..], bench.table.read(0x01).unwrap()[4..]);
        assert_eq!(after.read(0x03).unwrap()[4..], bench.table.read(0x03).unwrap()[4..]);
        assert_eq!(after.read(0x00).unwrap()[..4], [0; 4]);
        assert_eq!(after.read(0x02).unwrap()[3], 0xc1);
        // Off: everything is forgotten.
        let effects = bench.send(&vm(7, 1), REGISTER, 0, &list(0x55, 0x56, 0)).unwrap();
        assert!(effects.durable);
        assert_eq!(Reservations::restore(&bench.table.kept()), Ok(Reservations::new()));
        // On again, from any nexus.
        let effects = bench.send(&vm(9, 1), REGISTER_AND_IGNORE, 0, &list(0, 1, APTPL)).unwrap();
        assert!(effects.durable);
        assert_eq!(Reservations::restore(&bench.table.kept()).unwrap().registrants(), 3);
    }
}

#[test]
fn what_must_be_durable_before_the_response() {
    let (a, b) = (vm(1, 1), vm(2, 1));
    let mut bench = Bench::new(&[]);
    let durable = |bench: &mut Bench, peer: &Peer, action: u8, kind: u8, key: u64, new: u64, flags: u8| {
        let before = bench.table.kept();
        let effects = bench.send(peer, action, kind, &list(key, new, flags)).unwrap();
        assert_eq!(effects.durable, bench.table.kept() != before);
        effects.durable
    };
    assert!(!durable(&mut bench, &a, REGISTER, 0, 0, 5, 0));
    assert!(!durable(&mut bench, &a, RESERVE, WE, 5, 0, 0));
    assert!(durable(&mut bench, &a, REGISTER, 0, 5, 5, APTPL));
    // The same again: only the generation changes, which no power loss leaves.
    assert!(!durable(&mut bench, &a, REGISTER, 0, 5, 5, APTPL));
    assert!(durable(&mut bench, &b, REGISTER, 0, 0, 6, APTPL));
    assert!(durable(&mut bench, &b, PREEMPT, EA, 6, 5, 0));
    assert!(durable(&mut bench, &b, RELEASE, EA, 6, 0, 0));
    assert!(!durable(&mut bench, &b, RELEASE, EA, 6, 0, 0));
    assert!(durable(&mut bench, &b, CLEAR, 0, 6, 0, 0));
    // A move takes the bit from its own list.
    let mut bench = Bench::new(&[]);
    bench.register(&a, 5);
    bench.ok(&a, RESERVE, WE, 5, 0);
    assert!(bench.send(&a, REGISTER_AND_MOVE, 0, &move_list(5, 6, 0x01, &b)).unwrap().durable);
    assert!(bench.send(&b, REGISTER_AND_MOVE, 0, &move_list(6, 6, 0x00, &a)).unwrap().durable);
    assert_eq!(Reservations::restore(&bench.table.kept()), Ok(Reservations::new()));
}

#[test]
fn every_bit_counts() {
    for bench in [example(WE, true), example(EA_AR, false)] {
        let state = bench.table.state();
        for at in 0..state.len() * 8 {
            let mut bytes = state.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            assert!(Reservations::restore(&bytes).is_err(), "bit {at}");
        }
        for len in 0..state.len() {
            assert!(Reservations::restore(&state[..len]).is_err(), "{len} bytes");
        }
    }
}

#[test]
fn reasons() {
    let state = example(WE, true).table.state();
    assert_eq!(Reservations::restore(b""), Err(Corrupt::NotReservations));
    assert_eq!(Reservations::restore(b"SPRV"), Err(Corrupt::NotReservations));
    assert_eq!(Reservations::restore(b"SPRVxxx"), Err(Corrupt::NotReservations));
    assert_eq!(Reservations::restore(&[0; 100]), Err(Corrupt::NotReservations));
    let mut bytes = state.clone();
    bytes[4] = 2;
    assert_eq!(Reservations::restore(&sealed(&bytes)), Err(Corrupt::Version(2)));
    let mut bytes = state.clone();
    bytes[20] ^= 1;
    assert_eq!(Reservations::restore(&bytes), Err(Corrupt::Checksum));
    let wrong = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = state.clone();
        change(&mut bytes);
        assert_eq!(Reservations::restore(&sealed(&bytes)), Err(Corrupt::Contents));
    };
    wrong(&|bytes| bytes[5] = 0x83); // an unknown flag
    wrong(&|bytes| bytes[5] = 0x01); // a type, but no reservation
    wrong(&|bytes| bytes[5] = 0x07); // a RESERVE beside registrations
    wrong(&|bytes| bytes[6] = 0x02); // an obsolete type
    wrong(&|bytes| bytes[6] = 0x07); // a holder with all registrants
    wrong(&|bytes| bytes[7] = 1);
    wrong(&|bytes| bytes[13] = 1); // fewer registrations than follow
    wrong(&|bytes| bytes[13] = 3);
    wrong(&|bytes| bytes[12..14].copy_from_slice(&[0x00, 0xf1])); // more than there can be
    wrong(&|bytes| bytes[15] = 2); // a holder that is not there
    wrong(&|bytes| bytes[14..16].copy_from_slice(&[0xff, 0xff]));
    wrong(&|bytes| bytes[16..24].fill(0)); // the key zero
    wrong(&|bytes| bytes[28] = 0x05); // a name of no port
    wrong(&|bytes| bytes[29] = 1); // a name that is not in its one form
    wrong(&|bytes| {
        let first = bytes[16..52].to_vec();
        bytes.truncate(52);
        bytes.extend_from_slice(&first); // twice the same
        bytes.extend_from_slice(&[0; 4]);
        bytes[15] = 0;
    });
    wrong(&|bytes| bytes.extend_from_slice(&[0; 4]));
    // A reservation without registrations.
    let mut bytes = Reservations::new().state();
    bytes[5..7].copy_from_slice(&[0x02, 0x07]);
    assert_eq!(Reservations::restore(&sealed(&bytes)), Err(Corrupt::Contents));
}

#[test]
fn the_longest_state() {
    let name = alloc::format!("iqn.2026-11.org.example:{}", "x".repeat(199));
    let mut bench = Bench::new(&[]);
    for number in 0..240 {
        bench.register(&session(&name, number, 1), 1);
    }
    let state = bench.table.state();
    assert!(state.len() <= STATE_MAX_BYTES);
    assert_eq!(Reservations::restore(&state), Ok(bench.table));
}

proptest! {
    #[test]
    fn garbage_is_refused_or_is_a_table(mut bytes in proptest::collection::vec(any::<u8>(), 20..200), like in 0..4u8) {
        if like > 0 {
            bytes[..5].copy_from_slice(b"SPRV\x01");
        }
        if like > 1 {
            bytes[5] &= 7;
            bytes[7] = 0;
            bytes[12] = 0;
            bytes[13] &= 3;
        }
        let bytes = sealed(&bytes);
        if let Ok(table) = Reservations::restore(&bytes) {
            prop_assert_eq!(table.state(), bytes);
        }
    }
}
