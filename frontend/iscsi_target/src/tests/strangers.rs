//! What somebody gains who has proven nothing: no place of others, no turn of others, no time.

use std::prelude::rust_2024::*;

use request::Instant;

use super::rig::*;
use crate::chap::Algorithm;
use crate::*;

fn discovering(extra: &[(&str, &str)]) -> Vec<u8> {
    let mut text = text_of(&[("InitiatorName", INITIATOR), ("SessionType", "Discovery")]);
    text.extend_from_slice(&text_of(extra));
    text
}

fn credentials(user: &str, secret: &[u8]) -> Option<Credentials> {
    Some(Credentials { user: user.into(), secret: Secret::new(secret) })
}

#[test]
fn a_discovery_session_is_never_one_of_a_target() {
    let mut rig = Rig::new();
    rig.send_pdu(Rig::login_header(0x87), &discovering(&[("TargetName", TARGET)]));
    assert_eq!(rig.answer().0.0[36..38], [0, 0]);
    let claim = rig.conn().claim().unwrap();
    assert_eq!((claim.target.as_str(), claim.discovery), ("", true));
    let directory = rig.directory.clone();
    assert!(rig.conn().luns(&directory).is_empty());
}

fn claim(connection: u64, discovery: bool) -> Claim {
    Claim {
        connection: ConnectionId(connection),
        target: TARGET.into(),
        initiator: INITIATOR.into(),
        isid: (connection as u16).to_be_bytes().repeat(3).try_into().unwrap(),
        portal: 1,
        tsih: 0,
        cid: 0,
        discovery,
    }
}

#[test]
fn discovery_sessions_take_no_places_of_others() {
    let mut sessions = Sessions::new(64);
    for connection in 0..32 {
        assert!(matches!(sessions.admit(&claim(connection, true), 0), Admission::New(_)));
    }
    // The oldest goes; a session of the one target finds room for both that it may have.
    assert_eq!(sessions.admit(&claim(32, true), 0), Admission::After(ConnectionId(0)));
    sessions.remove(ConnectionId(0));
    assert!(matches!(sessions.admit(&claim(32, true), 0), Admission::New(_)));
    assert_eq!(sessions.admit(&claim(33, true), 0), Admission::After(ConnectionId(1)));
    for connection in 40..42 {
        assert!(matches!(sessions.admit(&claim(connection, false), 2), Admission::New(_)));
    }
    assert_eq!(sessions.admit(&claim(42, false), 2), Admission::Full);
}

#[test]
fn an_access_list_that_changes_during_a_login_counts() {
    let begun = || {
        let mut rig = Rig::new();
        let text = text_of(&[("InitiatorName", INITIATOR), ("TargetName", TARGET), ("AuthMethod", "None")]);
        rig.send_pdu(Rig::login_header(0x81), &text);
        assert_eq!(rig.answer().0.0[36..38], [0, 0]);
        rig
    };
    let mut rig = begun();
    let chap = credentials("u", b"twelve bytes");
    rig.directory.targets[0].allow =
        Vec::from([Allow { initiator: INITIATOR.into(), luns: None, chap, mutual: None }]);
    rig.send_pdu(Rig::login_header(0x87), &[]);
    assert_eq!(rig.answer().0.0[36..38], [2, 1]);
    let mut rig = begun();
    rig.directory.targets[0].open = false;
    rig.send_pdu(Rig::login_header(0x87), &[]);
    assert_eq!(rig.answer().0.0[36..38], [2, 2]);
    let mut rig = begun();
    rig.directory.targets.clear();
    rig.send_pdu(Rig::login_header(0x87), &[]);
    assert_eq!(rig.answer().0.0[36..38], [2, 2]);
}

/// The target proves itself to one initiator by the secret of another: the first could have the
/// second's challenge answered.
#[test]
fn the_target_answers_no_challenge_with_the_secret_of_an_initiator() {
    let mut directory = directory();
    let entry = |initiator: &str, secret: &[u8], back: Option<&[u8]>| Allow {
        initiator: initiator.into(),
        luns: None,
        chap: credentials("u", secret),
        mutual: back.and_then(|back| credentials("t", back)),
    };
    directory.targets[0].allow = Vec::from([
        entry(INITIATOR, b"twelve bytes", Some(b"another one's")),
        entry("iqn.2026-11.org.example:other", b"another one's", None),
    ]);
    let mut rig = Rig::with(limits(), directory);
    let text = text_of(&[("InitiatorName", INITIATOR), ("TargetName", TARGET), ("AuthMethod", "CHAP")]);
    rig.send_pdu(Rig::login_header(0x00), &text);
    rig.answer();
    rig.send_pdu(Rig::login_header(0x00), &text_of(&[("CHAP_A", "7")]));
    let pairs = pairs_of(&rig.answer().1);
    let bytes = crate::text::binary(value(&pairs, "CHAP_C").unwrap(), 1024).unwrap();
    let identifier = value(&pairs, "CHAP_I").unwrap().parse().unwrap();
    let response =
        crate::text::to_hexadecimal(&Algorithm::Sha256.response(identifier, b"twelve bytes", &bytes));
    let text = [("CHAP_N", "u"), ("CHAP_R", &response), ("CHAP_I", "1"), ("CHAP_C", "0x1234")];
    rig.send_pdu(Rig::login_header(0x81), &text_of(&text));
    let (header, data) = rig.answer();
    assert_eq!((&header.0[36..38], rig.fault(Fault::ChapReflected)), (&[2, 1][..], 1));
    assert!(data.is_empty());
}

#[test]
fn a_text_asks_for_the_targets_once_and_has_an_end() {
    let ask = |text: &[u8]| {
        let mut rig = Rig::new();
        rig.send_pdu(Rig::login_header(0x87), &discovering(&[]));
        rig.answer();
        rig.send_pdu(Header::new(0x44).with_itt(9).with_ttt(u32::MAX).with_cmd_sn(1), text);
        let (header, _) = rig.answer();
        let faults = [Fault::KeyRepeated, Fault::TextTooLong].map(|fault| rig.fault(fault));
        (header.opcode(), faults)
    };
    assert_eq!(ask(&text_of(&[("SendTargets", "All")])), (0x24, [0, 0]));
    assert_eq!(ask(&text_of(&[("SendTargets", "All"); 2])), (0x3f, [1, 0]));
    assert_eq!(ask(&text_of(&[("InitiatorAlias", "a"); 256])), (0x24, [0, 0]));
    assert_eq!(ask(&text_of(&[("InitiatorAlias", "a"); 257])), (0x3f, [0, 1]));
}

/// Its answers fill the queue. Returns when the target looks at nothing more.
fn deaf() -> Rig {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    rig.send_max = 0;
    for itt in 0..8000 {
        rig.send_pdu(Header::new(0x40).with_itt(itt).with_ttt(u32::MAX).with_cmd_sn(1), &[]);
    }
    for _ in 0..8000 {
        rig.turn();
    }
    assert!(rig.conn().is_blocked(), "the queue has an end");
    rig
}

#[test]
fn who_reads_nothing_is_not_waited_for_by_asking_all_the_time() {
    let mut rig = deaf();
    let mut looks = 0;
    while rig.conn().is_established() {
        let due = rig.conn().next_deadline().expect("somebody looks after it");
        assert!(due > Instant::from_nanos(rig.now), "at most one look for each deadline");
        rig.now = due.nanos();
        rig.turn();
        looks += 1;
        assert!(looks < 100, "it never ends");
    }
    assert_eq!(rig.events.last(), Some(&Event::Ended(End::Timeout(Fault::NopTimeout))));
}

#[test]
fn an_end_that_waits_for_a_disk_is_not_looked_at_all_the_time() {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    rig.slow = true;
    rig.read(1, 0, 1);
    rig.silence();
    rig.conn().displaced();
    // The rig would drop its task; a disk may take its time.
    assert_eq!(rig.next(), Some(Event::Ended(End::Displaced)));
    let due = rig.conn().next_deadline().expect("last words have their time");
    rig.now = due.nanos();
    assert_eq!(rig.next(), None);
    assert_eq!((rig.conn().is_over(), rig.conn().next_deadline()), (false, None));
}
