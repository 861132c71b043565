use request::Blocks;

use super::{NEXUS, OTHER, answer, attached, codes, data, facts, peer, response, unit};
use crate::{Condition, Nexus, Reset};

const TEST_UNIT_READY: [u8; 6] = [0; 6];

#[test]
fn power_on_is_told_to_each_nexus_once() {
    let mut unit = attached(facts());
    for number in 2..128 {
        assert_eq!(unit.attach(peer(number)), Some(Nexus(u32::from(number))));
    }
    assert_eq!(unit.attach(peer(128)), None);
    for nexus in (0..128).map(Nexus) {
        assert_eq!(codes(&response(&mut unit, nexus, &TEST_UNIT_READY)), (0x6, 0x29, 0x00));
        assert_eq!(response(&mut unit, nexus, &TEST_UNIT_READY).status, 0x00);
    }
}

#[test]
fn three_commands_pass_a_pending_attention() {
    let mut unit = attached(facts());
    assert_eq!(data(&mut unit, &[0x12, 0, 0, 0, 36, 0]).len(), 36);
    assert_eq!(data(&mut unit, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]).len(), 32);
    // REQUEST SENSE tells it, and so ends it.
    let sense = data(&mut unit, &[0x03, 0, 0, 0, 18, 0]);
    assert_eq!((sense[2], sense[12], sense[13]), (0x06, 0x29, 0x00));
    let sense = data(&mut unit, &[0x03, 0, 0, 0, 18, 0]);
    assert_eq!((sense[2], sense[12], sense[13]), (0x00, 0x00, 0x00));
    assert_eq!(response(&mut unit, NEXUS, &TEST_UNIT_READY).status, 0x00);
}

#[test]
fn an_attention_comes_before_other_errors() {
    let mut unit = attached(facts());
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0xff; 16])), (0x6, 0x29, 0x00));
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0xff; 16])), (0x5, 0x20, 0x00));
    // One of the three, but wrong: its own error, and the attention stays.
    let mut unit = attached(facts());
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0x12, 0, 0x80, 0, 36, 0])), (0x5, 0x24, 0x00));
    assert_eq!(codes(&response(&mut unit, NEXUS, &TEST_UNIT_READY)), (0x6, 0x29, 0x00));
}

#[test]
fn precedence_and_what_a_reset_swallows() {
    let mut unit = unit(facts());
    let mut grown = facts();
    grown.blocks = Blocks(4_194_304);
    unit.resized(grown);
    unit.luns_changed(NEXUS);
    unit.nexus_reset(NEXUS, Condition::NEXUS_LOSS);
    unit.luns_changed(NEXUS);
    unit.attend(NEXUS, Condition::CAPACITY);
    unit.reset(Reset::LogicalUnit, None);
    unit.reset(Reset::Hard, None);
    let mut told = alloc::vec::Vec::new();
    loop {
        let response = response(&mut unit, NEXUS, &TEST_UNIT_READY);
        if response.status == 0 {
            break;
        }
        told.push(codes(&response));
    }
    assert_eq!(told, [(0x6, 0x29, 0x02), (0x6, 0x3f, 0x0e), (0x6, 0x2a, 0x09)]);
}

#[test]
fn each_reset_has_its_code() {
    let mut unit = unit(facts());
    for (cause, code) in [(Reset::PowerOn, 0x00), (Reset::Hard, 0x02), (Reset::LogicalUnit, 0x03)] {
        unit.reset(cause, None);
        for nexus in [NEXUS, OTHER] {
            assert_eq!(codes(&response(&mut unit, nexus, &TEST_UNIT_READY)), (0x6, 0x29, code));
            assert_eq!(response(&mut unit, nexus, &TEST_UNIT_READY).status, 0x00);
        }
    }
    unit.nexus_reset(OTHER, Condition::NEXUS_LOSS);
    assert_eq!(response(&mut unit, NEXUS, &TEST_UNIT_READY).status, 0x00);
    assert_eq!(codes(&response(&mut unit, OTHER, &TEST_UNIT_READY)), (0x6, 0x29, 0x07));
}

#[test]
fn a_new_capacity_is_told_and_used() {
    let mut unit = unit(facts());
    let read = [0x28, 0, 0x00, 0x20, 0x00, 0x00, 0, 0, 1, 0];
    assert_eq!(super::failure(&mut unit, &read), (0x5, 0x21, 0x00));
    let mut grown = facts();
    grown.blocks = Blocks(2_097_153);
    unit.resized(grown.clone());
    assert_eq!(codes(&response(&mut unit, NEXUS, &read)), (0x6, 0x2a, 0x09));
    assert_eq!(super::plan(&mut unit, &read).data_in(), 512);
    assert_eq!(codes(&response(&mut unit, OTHER, &TEST_UNIT_READY)), (0x6, 0x2a, 0x09));
    // Facts with the same capacity are no event.
    grown.optimal = Blocks(256);
    unit.resized(grown);
    assert_eq!(response(&mut unit, NEXUS, &TEST_UNIT_READY).status, 0x00);
}

#[test]
fn report_luns_tells_what_its_attention_would() {
    let mut unit = unit(facts());
    unit.luns_changed(NEXUS);
    unit.luns_changed(OTHER);
    let report = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0];
    assert_eq!(answer(&mut unit, NEXUS, &report).0.status, 0x00);
    assert_eq!(response(&mut unit, NEXUS, &TEST_UNIT_READY).status, 0x00);
    assert_eq!(codes(&response(&mut unit, OTHER, &TEST_UNIT_READY)), (0x6, 0x3f, 0x0e));
}

#[test]
#[should_panic(expected = "below NEXUS_MAX")]
fn a_nexus_number_out_of_range_is_the_callers_error() {
    let _ = response(&mut attached(facts()), Nexus(128), &TEST_UNIT_READY);
}
