use request::Blocks;

use super::{NEXUS, OTHER, codes, facts, response, unit};
use crate::{Reset, STATE_BYTES, State, Unit};

#[test]
fn yesterdays_bytes_are_understood() {
    // Version 1: write cache off, descriptor sense, stopped; 2 MiB blocks; the capacity changed for
    // nexus 1, the mode parameters for nexus 63.
    let mut bytes = [0; 144];
    bytes[0] = 1;
    bytes[4] = 0b111;
    bytes[10] = 1 << 5;
    bytes[134] = 1 << 6;
    bytes[138] = 0x20;
    let state = State::decode(&bytes).unwrap();
    assert!(state.write_cache_off && state.descriptor_sense && state.stopped);
    assert_eq!(state.blocks, 2_097_152);
    assert_eq!(state.encode(), bytes);
    let mut unit = Unit::restore(facts(), &state);
    assert!(!unit.take_dirty());
    let told = response(&mut unit, OTHER, &[0; 6]);
    assert_eq!(&told.sense_data().unwrap()[..4], [0x72, 0x06, 0x2a, 0x09]);
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0; 6])), (0x2, 0x04, 0x02));
    assert_eq!(codes(&response(&mut unit, crate::Nexus(63), &[0; 6])), (0x6, 0x2a, 0x01));
}

#[test]
fn a_store_that_was_cut_short_tells_again_and_never_less() {
    let mut grown = facts();
    grown.blocks = Blocks(4_194_304);
    let mut unit = unit(facts());
    let before = unit.state().encode();
    unit.resized(grown.clone());
    let after = unit.state().encode();
    for stored in 0..=STATE_BYTES {
        let mut torn = before;
        torn[..stored].copy_from_slice(&after[..stored]);
        let mut unit = Unit::restore(grown.clone(), &State::decode(&torn).unwrap());
        for nexus in [NEXUS, OTHER] {
            assert_eq!(codes(&response(&mut unit, nexus, &[0; 6])), (0x6, 0x2a, 0x09));
            assert_eq!(response(&mut unit, nexus, &[0; 6]).status, 0x00);
        }
    }
}

#[test]
fn what_was_told_and_not_seen_is_told_by_the_successor() {
    let mut unit = unit(facts());
    unit.reset(Reset::PowerOn);
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0; 6])), (0x6, 0x29, 0x00));
    let mut successor = Unit::restore(facts(), &unit.state());
    assert_eq!(codes(&response(&mut successor, NEXUS, &[0; 6])), (0x6, 0x29, 0x00));
    unit.seen();
    let mut successor = Unit::restore(facts(), &unit.state());
    assert_eq!(response(&mut successor, NEXUS, &[0; 6]).status, 0x00);
    assert_eq!(codes(&response(&mut successor, OTHER, &[0; 6])), (0x6, 0x29, 0x00));
}

#[test]
fn unknown_versions_are_refused() {
    let mut bytes = [0; STATE_BYTES];
    assert_eq!(State::decode(&bytes), None);
    bytes[0] = 2;
    assert_eq!(State::decode(&bytes), None);
}

#[test]
fn a_capacity_that_changed_meanwhile_is_told() {
    let state = unit(facts()).state();
    let mut grown = facts();
    grown.blocks = Blocks(4_194_304);
    let mut unit = Unit::restore(grown, &state);
    assert!(unit.take_dirty());
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0; 6])), (0x6, 0x2a, 0x09));
    assert_eq!(response(&mut unit, NEXUS, &[0; 6]).status, 0x00);
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
    unit.reset(Reset::PowerOn);
    assert!(unit.take_dirty());
    let _ = response(&mut unit, NEXUS, &[0; 6]);
    assert!(unit.take_dirty());
    let _ = super::data(&mut unit, &[0x03, 0, 0, 0, 18, 0]);
    assert!(!unit.take_dirty());
    let _ = response(&mut unit, NEXUS, &[0x1b, 0, 0, 0, 0x04, 0]);
    assert!(unit.take_dirty());
    unit.luns_changed();
    assert!(unit.take_dirty());
    let _ = super::data(&mut unit, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]);
    assert!(unit.take_dirty());
    assert_ne!(unit.state(), before);
}
