use alloc::vec::Vec;
use request::Blocks;

use super::{NEXUS, OTHER, attached, codes, data, facts, peer, response, unit};
use crate::{Nexus, Profile, Reset, Unit};

fn restore(facts: crate::Facts, state: &[u8]) -> Unit {
    Unit::restore(facts, Profile::default(), state)
}

#[test]
fn version_2_byte_for_byte() {
    let mut unit = attached(facts());
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0; 6])), (0x6, 0x29, 0x00));
    assert_eq!(response(&mut unit, NEXUS, &[0x1b, 0, 0, 0, 0x04, 0]).status, 0x00);
    unit.seen();
    #[rustfmt::skip]
    let expected = [
        2, 0, 0, 0,
        // FLAGS: stopped.
        2, 0, 1, 0, 0, 0, 0b100,
        // NEXUSES, 72 bytes: number, conditions, relative target port, length, TransportID.
        3, 0, 72, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 24, 0,
        6, 0, 0, 0, 0x32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 24, 0,
        6, 0, 0, 0, 0x32, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        // CAPACITY.
        1, 0, 8, 0, 0, 0, 0x00, 0x00, 0x20, 0, 0, 0, 0, 0,
    ];
    assert_eq!(unit.state(), expected);
    let mut unit = restore(facts(), &expected);
    assert_eq!(unit.state(), expected);
    // The same peers, in any order, are the same nexuses as before.
    assert_eq!(unit.attach(peer(1)), Some(OTHER));
    assert_eq!(unit.attach(peer(2)), Some(Nexus(2)));
    assert_eq!(unit.attach(peer(0)), Some(NEXUS));
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0; 6])), (0x2, 0x04, 0x02));
    assert_eq!(codes(&response(&mut unit, OTHER, &[0; 6])), (0x6, 0x29, 0x00));
}

#[test]
fn the_flags_of_version_1_are_understood() {
    // Write cache off, descriptor sense, stopped, and conditions of nexuses without names.
    let mut bytes = [0; 144];
    bytes[0] = 1;
    bytes[4] = 0b111;
    bytes[10] = 1 << 5;
    bytes[138] = 0x20;
    let mut unit = restore(facts(), &bytes);
    assert_eq!(unit.attach(peer(0)), Some(NEXUS));
    let told = response(&mut unit, NEXUS, &[0; 6]);
    assert_eq!(&told.sense_data().unwrap()[..4], [0x72, 0x06, 0x29, 0x00]);
    let told = response(&mut unit, NEXUS, &[0; 6]);
    assert_eq!(&told.sense_data().unwrap()[..4], [0x72, 0x02, 0x04, 0x02]);
    // WCE of the caching page.
    assert_eq!(data(&mut unit, &[0x1a, 0x08, 0x08, 0, 192, 0])[6], 0x00);
}

#[test]
fn a_peer_has_one_number_whatever_a_damaged_state_says() {
    let mut bytes = unit(facts()).state();
    // The TransportID of the second nexus becomes that of the first.
    let second = bytes.windows(4).rposition(|part| part == [6, 0, 0, 0]).unwrap();
    assert_eq!(bytes[second + 11], 1);
    bytes[second + 11] = 0;
    let mut unit = restore(facts(), &bytes);
    assert_eq!(unit.nexuses().count(), 1);
    assert_eq!(unit.attach(peer(0)), Some(NEXUS));
}

#[test]
fn a_section_that_is_not_known_is_skipped() {
    let mut bytes = unit(facts()).state();
    let known = bytes.clone();
    let mut strange = Vec::from([0xff, 0xff, 3, 0, 0, 0, 9, 9, 9]);
    strange.extend_from_slice(&bytes[4..]);
    bytes.truncate(4);
    bytes.extend_from_slice(&strange);
    assert_eq!(restore(facts(), &bytes).state(), known);
}

#[test]
fn a_state_of_another_version_is_a_power_on() {
    for bytes in [&[][..], &[3, 0, 0, 0], &[0, 0, 0, 0, 7], &[2, 0]] {
        let mut unit = restore(facts(), bytes);
        assert_eq!(unit.attach(peer(0)), Some(NEXUS));
        assert_eq!(codes(&response(&mut unit, NEXUS, &[0; 6])), (0x6, 0x29, 0x00));
    }
}

#[test]
fn what_was_told_and_not_seen_is_told_by_the_successor() {
    let mut unit = unit(facts());
    unit.reset(Reset::PowerOn, None);
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0; 6])), (0x6, 0x29, 0x00));
    let mut successor = restore(facts(), &unit.state());
    assert_eq!(codes(&response(&mut successor, NEXUS, &[0; 6])), (0x6, 0x29, 0x00));
    unit.seen();
    let mut successor = restore(facts(), &unit.state());
    assert_eq!(response(&mut successor, NEXUS, &[0; 6]).status, 0x00);
    assert_eq!(codes(&response(&mut successor, OTHER, &[0; 6])), (0x6, 0x29, 0x00));
}

#[test]
fn a_capacity_that_changed_meanwhile_is_told() {
    let state = unit(facts()).state();
    let mut grown = facts();
    grown.blocks = Blocks(4_194_304);
    let mut unit = restore(grown, &state);
    assert!(unit.take_dirty());
    for nexus in [NEXUS, OTHER] {
        assert_eq!(codes(&response(&mut unit, nexus, &[0; 6])), (0x6, 0x2a, 0x09));
        assert_eq!(response(&mut unit, nexus, &[0; 6]).status, 0x00);
    }
}

#[test]
fn every_change_is_dirty_and_nothing_else_is() {
    let mut unit = unit(facts());
    assert!(unit.take_dirty());
    assert!(!unit.take_dirty());
    let _ = response(&mut unit, NEXUS, &[0; 6]);
    let _ = super::plan(&mut unit, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert!(!unit.take_dirty());
    let before = unit.state();
    unit.reset(Reset::PowerOn, None);
    assert!(unit.take_dirty());
    let _ = response(&mut unit, NEXUS, &[0; 6]);
    assert!(unit.take_dirty());
    let _ = super::data(&mut unit, &[0x03, 0, 0, 0, 18, 0]);
    assert!(!unit.take_dirty());
    let _ = response(&mut unit, NEXUS, &[0x1b, 0, 0, 0, 0x04, 0]);
    assert!(unit.take_dirty());
    unit.luns_changed(NEXUS);
    assert!(unit.take_dirty());
    let _ = super::data(&mut unit, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]);
    assert!(unit.take_dirty());
    let _ = unit.detach(OTHER);
    assert!(unit.take_dirty());
    assert_ne!(unit.state(), before);
}
