use super::{NEXUS, OTHER, codes, data, facts, failure, operations, peer, response};
use crate::{Ejection, Function, Operation, Profile, Reset, Unit};

/// A disk with a removable medium.
fn unit() -> Unit {
    let mut unit = Unit::new(facts(), Profile { removable: true, ..Profile::default() });
    for (nexus, number) in [(NEXUS, 0), (OTHER, 1)] {
        assert_eq!(unit.attach(peer(number)), Some(nexus));
        assert_eq!(codes(&response(&mut unit, nexus, &[0; 6])), (0x6, 0x29, 0x00));
    }
    unit.seen();
    unit
}

const EJECT: [u8; 6] = [0x1b, 0, 0, 0, 0x02, 0];
const LOAD: [u8; 6] = [0x1b, 0, 0, 0, 0x03, 0];
const STOP: [u8; 6] = [0x1b, 0, 0, 0, 0x00, 0];
const START: [u8; 6] = [0x1b, 0, 0, 0, 0x01, 0];
const PREVENT: [u8; 6] = [0x1e, 0, 0, 0, 1, 0];
const ALLOW: [u8; 6] = [0x1e, 0, 0, 0, 0, 0];
const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];

#[test]
fn out_and_in_again() {
    let mut unit = unit();
    assert_eq!(operations(&mut unit, &EJECT), [Operation::Flush]);
    for cdb in [&[0; 6][..], &READ, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        assert_eq!(failure(&mut unit, cdb), (0x2, 0x3a, 0x02), "{cdb:02x?}");
    }
    assert_eq!(failure(&mut unit, &START), (0x2, 0x3a, 0x02));
    assert_eq!(data(&mut unit, &[0x03, 0, 0, 0, 18, 0])[12..14], [0x3a, 0x02]);
    // Again: nothing to do.
    assert_eq!(response(&mut unit, NEXUS, &EJECT).status, 0x00);
    assert_eq!(response(&mut unit, OTHER, &LOAD).status, 0x00);
    // The others are told that it may be another medium.
    assert_eq!(response(&mut unit, OTHER, &[0; 6]).status, 0x00);
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0; 6])), (0x6, 0x28, 0x00));
    assert_eq!(operations(&mut unit, &READ).len(), 1);
}

#[test]
fn any_nexus_may_prevent() {
    let mut unit = unit();
    assert_eq!(response(&mut unit, NEXUS, &PREVENT).status, 0x00);
    assert_eq!(response(&mut unit, OTHER, &PREVENT).status, 0x00);
    assert_eq!(failure(&mut unit, &EJECT), (0x5, 0x53, 0x02));
    assert_eq!(response(&mut unit, NEXUS, &ALLOW).status, 0x00);
    assert_eq!(failure(&mut unit, &EJECT), (0x5, 0x53, 0x02));
    assert_eq!(response(&mut unit, NEXUS, &[0; 6]).status, 0x00);
    assert_eq!(response(&mut unit, OTHER, &ALLOW).status, 0x00);
    assert_eq!(operations(&mut unit, &EJECT), [Operation::Flush]);
    // Loading is prevented too.
    assert_eq!(response(&mut unit, NEXUS, &PREVENT).status, 0x00);
    assert_eq!(failure(&mut unit, &LOAD), (0x5, 0x53, 0x02));
}

#[test]
fn prevention_ends_with_its_nexus_and_with_a_reset() {
    let mut unit = unit();
    assert_eq!(response(&mut unit, OTHER, &PREVENT).status, 0x00);
    let _ = unit.detach(OTHER);
    assert_eq!(operations(&mut unit, &EJECT), [Operation::Flush]);
    assert_eq!(response(&mut unit, NEXUS, &LOAD).status, 0x00);
    for reset in [Reset::LogicalUnit, Reset::Hard] {
        assert_eq!(response(&mut unit, NEXUS, &PREVENT).status, 0x00);
        unit.reset(reset, None);
        let _ = response(&mut unit, NEXUS, &[0; 6]);
        assert_eq!(operations(&mut unit, &EJECT), [Operation::Flush]);
        // The tray stays where it is.
        unit.reset(reset, None);
        let _ = response(&mut unit, NEXUS, &[0; 6]);
        assert_eq!(failure(&mut unit, &[0; 6]), (0x2, 0x3a, 0x02));
        assert_eq!(response(&mut unit, NEXUS, &LOAD).status, 0x00);
    }
    assert_eq!(response(&mut unit, NEXUS, &PREVENT).status, 0x00);
    let _ = unit.manage(NEXUS, Function::NexusReset);
    let _ = response(&mut unit, NEXUS, &[0; 6]);
    assert_eq!(operations(&mut unit, &EJECT), [Operation::Flush]);
}

#[test]
fn a_removable_medium_turns_when_it_is_wanted() {
    let mut unit = unit();
    for cdb in [STOP, [0x1b, 1, 0, 0, 0x00, 0]] {
        assert_eq!(operations(&mut unit, &cdb), [Operation::Flush]);
        assert_eq!(response(&mut unit, NEXUS, &[0; 6]).status, 0x00);
    }
    assert_eq!(response(&mut unit, NEXUS, &[0x1b, 0, 0, 0, 0x04, 0]).status, 0x00);
    assert_eq!(response(&mut unit, NEXUS, &START).status, 0x00);
    // With a POWER CONDITION, LOEJ and START are ignored.
    for condition in 1..16u8 {
        let _ = super::run(&mut unit, NEXUS, &[0x1b, 1, 0, 0, condition << 4 | 0x02, 0]);
        assert_eq!(response(&mut unit, NEXUS, &[0; 6]).status, 0x00);
    }
}

#[test]
fn a_fixed_disk() {
    let mut unit = super::unit(facts());
    for cdb in [EJECT, LOAD] {
        assert_eq!(failure(&mut unit, &cdb), (0x5, 0x24, 0x00));
    }
    assert_eq!(response(&mut unit, NEXUS, &PREVENT).status, 0x00);
    assert_eq!(unit.eject(), Ejection::Fixed);
    assert_eq!(operations(&mut unit, &STOP), [Operation::Flush]);
    assert_eq!(failure(&mut unit, &[0; 6]), (0x2, 0x04, 0x02));
    assert_eq!(failure(&mut unit, &READ), (0x2, 0x04, 0x02));
    assert_eq!(response(&mut unit, NEXUS, &START).status, 0x00);
    for (cdb, wrong) in [
        ([0x1b, 0, 0, 0, 0x40, 0], true),
        ([0x1b, 0, 0, 0, 0xf0, 0], true),
        ([0x1b, 0, 0, 0x03, 0x20, 0], true),
        ([0x1b, 0, 0, 0x01, 0x00, 0], true),
        ([0x1b, 0, 0, 0x02, 0x20, 0], false),
        ([0x1b, 0, 0, 0, 0x70, 0], false),
    ] {
        let refused = response(&mut unit, NEXUS, &cdb).sense.is_some_and(|sense| sense.asc == 0x24);
        assert_eq!(refused, wrong, "{cdb:02x?}");
    }
}

#[test]
fn power_conditions_show_and_end_with_the_next_read() {
    let mut unit = super::unit(facts());
    let asked = [0x03, 0, 0, 0, 18, 0];
    assert_eq!(response(&mut unit, NEXUS, &[0x1b, 0, 0, 0, 0x20, 0]).status, 0x00);
    let sense = data(&mut unit, &asked);
    assert_eq!((sense[2], &sense[12..14]), (0x00, &[0x5e, 0x03][..]));
    assert_eq!(operations(&mut unit, &[0x1b, 0, 0, 0, 0x30, 0]), [Operation::Flush]);
    assert_eq!(data(&mut unit, &asked)[12..14], [0x5e, 0x04]);
    assert_eq!(response(&mut unit, NEXUS, &[0; 6]).status, 0x00);
    let mut successor = Unit::restore(facts(), Profile::default(), &unit.state());
    assert_eq!(data(&mut successor, &asked)[12..14], [0x5e, 0x04]);
    assert_eq!(operations(&mut unit, &READ).len(), 1);
    assert_eq!(data(&mut unit, &asked)[12..14], [0x00, 0x00]);
}

#[test]
fn the_operator_asks_and_takes() {
    let mut unit = unit();
    assert_eq!(response(&mut unit, OTHER, &PREVENT).status, 0x00);
    assert_eq!(unit.eject(), Ejection::Prevented);
    for nexus in [NEXUS, OTHER] {
        assert_eq!(codes(&response(&mut unit, nexus, &[0; 6])), (0x6, 0x5a, 0x01));
    }
    assert!(!unit.is_ejected());
    assert_eq!(response(&mut unit, OTHER, &ALLOW).status, 0x00);
    assert_eq!(unit.eject(), Ejection::Done);
    assert_eq!(failure(&mut unit, &[0; 6]), (0x2, 0x3a, 0x02));
    unit.seen();
    let mut successor = Unit::restore(facts(), *unit.profile(), &unit.state());
    assert_eq!(failure(&mut successor, &[0; 6]), (0x2, 0x3a, 0x02));
    successor.load();
    for nexus in [NEXUS, OTHER] {
        assert_eq!(codes(&response(&mut successor, nexus, &[0; 6])), (0x6, 0x28, 0x00));
        assert_eq!(response(&mut successor, nexus, &[0; 6]).status, 0x00);
    }
}
