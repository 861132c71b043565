use alloc::vec::Vec;

use super::{NEXUS, OTHER, answer, codes, data, facts, peer, refused, response, unit, with_list};
use crate::{AccessState, Nexus, Peer, PortId, PortName, Profile, TargetPort, Unit, Verdict};

fn port(id: u16, group: u16, state: AccessState) -> TargetPort {
    TargetPort { id: PortId(id), group, name: PortName::Sas([0x31, 0, 0, 0, 0, 0, 0, id as u8]), state }
}

/// Ports 1 and 2 in group 10, port 3 in group 20, which is non-optimized. NEXUS and OTHER come by
/// port 1, the third by port 3.
fn shared() -> (Unit, Nexus) {
    let mut unit = unit(facts());
    unit.set_ports(ports(AccessState::ActiveOptimized, AccessState::ActiveNonOptimized));
    let third = unit.attach(Peer { port: PortId(3), ..peer(2) }).unwrap();
    assert_eq!(codes(&response(&mut unit, third, &[0; 6])), (0x6, 0x29, 0x00));
    unit.seen();
    (unit, third)
}

fn ports(first: AccessState, second: AccessState) -> Vec<TargetPort> {
    Vec::from([port(1, 10, first), port(2, 10, first), port(3, 20, second)])
}

const REPORT: [u8; 12] = [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0];

fn set(unit: &mut Unit, nexus: Nexus, list: &[u8]) -> Verdict {
    let length = u8::try_from(list.len()).unwrap();
    with_list(unit, nexus, &[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, length, 0, 0], list)
}

fn good(verdict: Verdict) {
    assert!(matches!(verdict, Verdict::Respond(response) if response.status == 0), "{verdict:?}");
}

#[test]
fn report_target_port_groups() {
    let (mut unit, _) = shared();
    let expected = [
        0, 0, 0, 28, //
        0x80, 0x0f, 0, 10, 0, 0x00, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, //
        0x01, 0x0f, 0, 20, 0, 0x00, 0, 1, 0, 0, 0, 3,
    ];
    assert_eq!(data(&mut unit, &REPORT), expected);
    assert_eq!(data(&mut unit, &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0]), expected[..4]);
    let extended = data(&mut unit, &[0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]);
    assert_eq!(extended[..8], [0, 0, 0, 32, 0x10, 0, 0, 0]);
    assert_eq!(extended[8..], expected[4..]);
    let wrong = answer(&mut unit, NEXUS, &[0xa3, 0x4a, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]).0;
    assert_eq!(codes(&wrong), (0x5, 0x24, 0x00));
}

#[test]
fn an_initiator_changes_states_and_the_others_are_told() {
    let (mut unit, third) = shared();
    // Group 10 to standby, group 20 to optimized.
    good(set(&mut unit, NEXUS, &[0, 0, 0, 0, 0x02, 0, 0, 10, 0x00, 0, 0, 20]));
    let report = data(&mut unit, &REPORT);
    // PREF stays with the owner's choice; STATUS CODE: by SET TARGET PORT GROUPS.
    assert_eq!(report[4..12], [0x82, 0x0f, 0, 10, 0, 0x01, 0, 2]);
    assert_eq!(report[20..28], [0x00, 0x0f, 0, 20, 0, 0x01, 0, 1]);
    // Whoever comes by the group in standby is turned away, once it was told.
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0; 6])), (0x2, 0x04, 0x0b));
    assert_eq!(codes(&response(&mut unit, OTHER, &[0; 6])), (0x6, 0x2a, 0x06));
    assert_eq!(codes(&response(&mut unit, OTHER, &[0; 6])), (0x2, 0x04, 0x0b));
    assert_eq!(codes(&response(&mut unit, third, &[0; 6])), (0x6, 0x2a, 0x06));
    assert_eq!(response(&mut unit, third, &[0; 6]).status, 0x00);
    let read = answer(&mut unit, NEXUS, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]).0;
    assert_eq!(codes(&read), (0x2, 0x04, 0x0b));
    // What standby allows.
    assert_eq!(data(&mut unit, &[0x12, 0, 0, 0, 36, 0]).len(), 36);
    assert_eq!(data(&mut unit, &[0x1a, 0, 0x3f, 0, 4, 0]).len(), 4);
    assert_eq!(data(&mut unit, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]).len(), 16);
    // Unavailable allows less.
    good(set(&mut unit, NEXUS, &[0, 0, 0, 0, 0x03, 0, 0, 10]));
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0; 6])), (0x2, 0x04, 0x0c));
    assert_eq!(codes(&answer(&mut unit, NEXUS, &[0x1a, 0, 0x3f, 0, 4, 0]).0), (0x2, 0x04, 0x0c));
    assert_eq!(data(&mut unit, &[0x12, 0, 0, 0, 36, 0]).len(), 36);
    // And the way back.
    good(set(&mut unit, NEXUS, &[0, 0, 0, 0, 0x00, 0, 0, 10]));
    assert_eq!(response(&mut unit, NEXUS, &[0; 6]).status, 0x00);
}

#[test]
fn what_was_set_survives_a_change_of_the_process() {
    let (mut unit, third) = shared();
    good(set(&mut unit, third, &[0, 0, 0, 0, 0x02, 0, 0, 10]));
    for nexus in [NEXUS, OTHER] {
        assert_eq!(codes(&response(&mut unit, nexus, &[0; 6])), (0x6, 0x2a, 0x06));
    }
    unit.seen();
    let mut successor = Unit::restore(facts(), Profile::default(), &unit.state());
    // The owner's ports come one by one.
    let ports = ports(AccessState::ActiveOptimized, AccessState::ActiveNonOptimized);
    for count in 1..=3 {
        successor.set_ports(ports[..count].to_vec());
    }
    assert_eq!(codes(&response(&mut successor, NEXUS, &[0; 6])), (0x2, 0x04, 0x0b));
    assert_eq!(response(&mut successor, third, &[0; 6]).status, 0x00);
}

#[test]
fn the_owner_has_the_last_word() {
    let (mut unit, third) = shared();
    good(set(&mut unit, third, &[0, 0, 0, 0, 0x02, 0, 0, 10]));
    for nexus in [NEXUS, OTHER] {
        assert_eq!(codes(&response(&mut unit, nexus, &[0; 6])), (0x6, 0x2a, 0x06));
    }
    // He says nothing new about group 10: the initiators' choice stands.
    unit.set_ports(ports(AccessState::ActiveOptimized, AccessState::Standby));
    for nexus in [NEXUS, OTHER, third] {
        assert_eq!(codes(&response(&mut unit, nexus, &[0; 6])), (0x6, 0x2a, 0x06));
        assert_eq!(codes(&response(&mut unit, nexus, &[0; 6])), (0x2, 0x04, 0x0b));
    }
    // By implicit asymmetric access.
    assert_eq!(data(&mut unit, &REPORT)[20..28], [0x02, 0x0f, 0, 20, 0, 0x02, 0, 1]);
    unit.set_ports(ports(AccessState::ActiveNonOptimized, AccessState::Standby));
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0; 6])), (0x6, 0x2a, 0x06));
    assert_eq!(response(&mut unit, NEXUS, &[0; 6]).status, 0x00);
}

#[test]
fn wrong_lists_change_nothing() {
    let (mut unit, _) = shared();
    for (list, byte) in [
        (&[0, 0, 0, 0, 0x02, 0, 0, 10, 0x0e, 0, 0, 20][..], 8), // offline
        (&[0, 0, 0, 0, 0x02, 0, 0, 10, 0x12, 0, 0, 20], 8),
        (&[0, 0, 0, 0, 0x02, 0, 0, 10, 0x02, 0, 0, 30], 10),
    ] {
        let Verdict::Respond(refusal) = set(&mut unit, NEXUS, list) else { panic!() };
        assert_eq!(codes(&refusal), (0x5, 0x26, 0x00));
        assert_eq!(refusal.sense.unwrap().pointer.unwrap().byte, byte);
    }
    assert_eq!(refused(set(&mut unit, NEXUS, &[0, 0, 0, 0, 2, 0])), (0x5, 0x1a, 0x00));
    good(set(&mut unit, NEXUS, &[]));
    assert_eq!(response(&mut unit, OTHER, &[0; 6]).status, 0x00);
    assert_eq!(data(&mut unit, &REPORT)[4], 0x80);
}
