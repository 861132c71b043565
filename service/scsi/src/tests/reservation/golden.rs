//! Bytes as SPC-4 6.15 and 6.16 lay them out.

use alloc::vec::Vec;

use super::*;

#[test]
fn read_keys_has_every_registration() {
    let mut bench = Bench::new(&[]);
    assert_eq!(bench.table.read(0x00).unwrap(), [0, 0, 0, 0, 0, 0, 0, 0]);
    bench.register(&vm(1, 1), 0x1122_3344_5566_7788);
    bench.register(&vm(2, 1), 0xa);
    // The same key twice is reported twice.
    bench.register(&vm(2, 2), 0xa);
    let expected = [
        0x00, 0x00, 0x00, 0x03, // PRGENERATION
        0x00, 0x00, 0x00, 0x18, // ADDITIONAL LENGTH
        0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, //
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0a, //
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0a, //
    ];
    assert_eq!(bench.table.read(0x00).unwrap(), expected);
}

#[test]
fn read_reservation_names_the_holders_key() {
    let mut bench = Bench::new(&[]);
    bench.register(&vm(1, 1), 0x1122_3344_5566_7788);
    assert_eq!(bench.table.read(0x01).unwrap(), [0, 0, 0, 1, 0, 0, 0, 0]);
    bench.ok(&vm(1, 1), RESERVE, EA_RO, 0x1122_3344_5566_7788, 0);
    let expected = [
        0x00, 0x00, 0x00, 0x01, // PRGENERATION
        0x00, 0x00, 0x00, 0x10, // ADDITIONAL LENGTH
        0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, // RESERVATION KEY
        0x00, 0x00, 0x00, 0x00, // obsolete
        0x00, // reserved
        0x06, // SCOPE, TYPE
        0x00, 0x00, // obsolete
    ];
    assert_eq!(bench.table.read(0x01).unwrap(), expected);
}

#[test]
fn an_all_registrants_reservation_has_the_key_zero() {
    for kind in [0x7, 0x8] {
        let mut bench = Bench::new(&[]);
        bench.register(&vm(1, 1), 0x55);
        bench.ok(&vm(1, 1), RESERVE, kind, 0x55, 0);
        let data = bench.table.read(0x01).unwrap();
        assert_eq!(data[8..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, kind, 0, 0]);
    }
}

#[test]
fn report_capabilities_says_what_is_done() {
    let mut bench = Bench::new(&[]);
    // RLR_C, CRH, SIP_C, ATP_C, PTPL_C; TMV, ALLOW COMMANDS 100b; WR_EX_AR, EX_AC_RO, WR_EX_RO,
    // EX_AC, WR_EX; EX_AC_AR.
    assert_eq!(bench.table.read(0x02).unwrap(), [0x00, 0x08, 0x9d, 0xc0, 0xea, 0x01, 0x00, 0x00]);
    // PTPL_A follows the last APTPL.
    bench.send(&vm(1, 1), REGISTER, 0, &list(0, 5, 0x01)).unwrap();
    assert_eq!(bench.table.read(0x02).unwrap(), [0x00, 0x08, 0x9d, 0xc1, 0xea, 0x01, 0x00, 0x00]);
    bench.send(&vm(1, 1), REGISTER, 0, &list(5, 6, 0x00)).unwrap();
    assert_eq!(bench.table.read(0x02).unwrap()[3], 0xc0);
}

#[test]
fn read_full_status_describes_each_nexus() {
    let mut bench = Bench::new(&[]);
    assert_eq!(bench.table.read(0x03).unwrap(), [0, 0, 0, 0, 0, 0, 0, 0]);
    bench.register(&vm(7, 1), 0x0102_0304_0506_0708);
    bench.register(&session("iqn.1993-08.org.debian:01:abc", 0x09, 0x0203), 0xbb);
    bench.ok(&session("iqn.1993-08.org.debian:01:abc", 0x09, 0x0203), RESERVE, WE, 0xbb, 0);
    let mut expected = Vec::from([
        0x00, 0x00, 0x00, 0x02, // PRGENERATION
        0x00, 0x00, 0x00, 0x7c, // ADDITIONAL LENGTH: 48 and 76
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, // RESERVATION KEY
        0x00, 0x00, 0x00, 0x00, // reserved
        0x00, // ALL_TG_PT, R_HOLDER
        0x00, // SCOPE, TYPE
        0x00, 0x00, 0x00, 0x00, // reserved
        0x00, 0x01, // RELATIVE TARGET PORT IDENTIFIER
        0x00, 0x00, 0x00, 0x18, // ADDITIONAL DESCRIPTOR LENGTH
        0x06, 0x00, 0x00, 0x00, 0x52, 0x5e, 0x41, 0x10, 0x00, 0x00, 0x00, 0x07, // TransportID
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, //
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xbb, //
        0x00, 0x00, 0x00, 0x00, //
        0x01, // R_HOLDER
        0x01, // Write Exclusive
        0x00, 0x00, 0x00, 0x00, //
        0x02, 0x03, //
        0x00, 0x00, 0x00, 0x34, // 4 and 48
        0x45, 0x00, 0x00, 0x30,
    ]);
    expected.extend_from_slice(b"iqn.1993-08.org.debian:01:abc,i,0x00023d000009\0\0");
    assert_eq!(bench.table.read(0x03).unwrap(), expected);
}

#[test]
fn every_registrant_of_an_all_registrants_reservation_is_a_holder() {
    let mut bench = Bench::new(&[]);
    bench.register(&vm(1, 1), 1);
    bench.register(&vm(2, 1), 2);
    bench.ok(&vm(1, 1), RESERVE, WE_AR, 1, 0);
    let data = bench.table.read(0x03).unwrap();
    assert_eq!((data[8 + 12], data[8 + 13]), (0x01, 0x07));
    assert_eq!((data[56 + 12], data[56 + 13]), (0x01, 0x07));
}

#[test]
fn other_service_actions_of_in_are_refused() {
    for action in 0x04..=0x1f {
        let refusal = Reservations::new().read(action).unwrap_err();
        assert_eq!(code(refusal), IN_CDB);
    }
}

#[test]
fn other_service_actions_of_out_are_refused() {
    let mut bench = Bench::new(&[]);
    bench.register(&vm(1, 1), 1);
    for action in 0x09..=0x1f {
        assert_eq!(code(bench.out(&vm(1, 1), action, WE, 1, 0).unwrap_err()), IN_CDB);
    }
    assert_eq!(bench.generation(), 1);
}

#[test]
fn the_cdb_is_taken_apart() {
    let out = Out::parse(&[0x5f, 0xe6, 0x53, 0, 0, 0x01, 0x02, 0x03, 0x04, 0]);
    assert_eq!(out, Out { action: 0x06, scope: 0x5, kind: 0x3, list_bytes: 0x0102_0304 });
}

#[test]
fn the_longest_full_status_fits_the_allocation_length() {
    let name = alloc::format!("iqn.2026-11.org.example:{}", "x".repeat(199));
    assert_eq!(name.len(), 223);
    let mut bench = Bench::new(&[]);
    for number in 0..240 {
        bench.register(&session(&name, number, 1), 1);
    }
    assert!(bench.table.read(0x03).unwrap().len() <= 65_535);
    let refusal = bench.out(&session(&name, 240, 1), REGISTER, 0, 0, 1).unwrap_err();
    assert_eq!(code(refusal), NO_RESOURCES);
}
