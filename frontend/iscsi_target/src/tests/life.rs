//! Time, reinstatement, limits, and what is said unasked.

use std::prelude::rust_2024::*;

use request::Instant;

use super::rig::*;
use crate::*;

const SECOND: u64 = 1_000_000_000;

#[test]
fn a_login_has_its_time() {
    let mut rig = Rig::new();
    assert_eq!(rig.conn().next_deadline(), Some(Instant::from_nanos(15 * SECOND + 1)));
    rig.now = 15 * SECOND;
    rig.silence();
    assert!(rig.events.is_empty());
    rig.now += 1;
    rig.silence();
    assert_eq!(rig.events, [Event::Ended(End::Timeout(Fault::LoginTimeout))]);
    assert!(rig.conn().is_over());
}

#[test]
fn silence_is_asked_about() {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    rig.now = 20 * SECOND;
    let (ping, _) = rig.answer();
    assert_eq!((ping.opcode(), ping.itt()), (0x20, u32::MAX));
    assert_ne!(ping.ttt(), u32::MAX);
    assert_eq!(rig.conn().next_deadline(), Some(Instant::from_nanos(80 * SECOND)));
    // StatSN does not pass with it: the next answer has the same.
    let answer = Header::new(0x40).with_itt(u32::MAX).with_ttt(ping.ttt()).with_cmd_sn(1);
    rig.send_pdu(answer, &[]);
    rig.now = 79 * SECOND;
    rig.silence();
    rig.read(1, 0, 1);
    assert_eq!(rig.answer().0.stat_sn(), ping.stat_sn());
    assert_eq!(rig.fault(Fault::NopMalformed), 0);
    // The next one stays without an answer.
    rig.now = 100 * SECOND;
    assert_eq!(rig.answer().0.opcode(), 0x20);
    rig.now = 159 * SECOND;
    rig.silence();
    assert!(rig.conn().is_established());
    rig.now = 160 * SECOND;
    rig.silence();
    assert_eq!(rig.events.last(), Some(&Event::Ended(End::Timeout(Fault::NopTimeout))));
}

#[test]
fn time_without_a_worker_is_not_the_initiators_fault() {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    rig.now = 20 * SECOND;
    assert_eq!(rig.answer().0.opcode(), 0x20);
    rig.now = 300 * SECOND;
    rig.resume();
    rig.silence();
    assert!(rig.conn().is_established());
    assert_eq!(rig.conn().next_deadline(), Some(Instant::from_nanos(360 * SECOND)));
}

#[test]
fn a_logout_is_asked_for_and_waited_for() {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    rig.conn().ask_logout(Instant::from_nanos(SECOND), 10);
    let (message, _) = rig.answer();
    assert_eq!((message.opcode(), message.0[36], &message.0[42..44]), (0x32, 1, &[0, 10][..]));
    assert_eq!(message.0[16..20], [0xff; 4]);
    rig.now = 11 * SECOND;
    let (message, _) = rig.answer();
    assert_eq!((message.opcode(), message.0[36]), (0x32, 3));
    assert_eq!(rig.events.last(), Some(&Event::Ended(End::Timeout(Fault::LogoutTimeout))));
}

#[test]
fn a_unit_speaks_up_by_an_async_message() {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    let sense = [0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x2a, 9, 0, 0, 0, 0];
    assert!(rig.conn().async_scsi(300, &sense));
    let (message, data) = rig.answer();
    assert_eq!((message.opcode(), message.0[36], &message.0[8..10]), (0x32, 0, &[0x41, 0x2c][..]));
    assert_eq!(data, [&[0, 18][..], &sense].concat());
    assert!(!rig.conn().async_scsi(0, &[0; 300]));
}

#[test]
fn logouts_of_each_reason() {
    for (reason, cid, response, ends) in
        [(0, 0, 0, true), (1, 0, 0, true), (1, 9, 1, false), (2, 0, 2, false)]
    {
        let mut rig = Rig::new();
        rig.log_in(&[]);
        let header =
            Header::new(0x46).with_flags(0x80 | reason).with_itt(5).with_bytes(20, &[0, cid]).with_cmd_sn(1);
        rig.send_pdu(header, &[]);
        let (answer, _) = rig.answer();
        assert_eq!((answer.opcode(), answer.0[2]), (0x26, response));
        assert_eq!(rig.conn().is_over(), ends, "reason {reason}");
    }
    let mut rig = Rig::new();
    rig.log_in(&[]);
    rig.send_pdu(Header::new(0x46).with_flags(0x85).with_itt(5).with_cmd_sn(1), &[]);
    assert_eq!((rig.answer().0.opcode(), rig.fault(Fault::LogoutReason)), (0x3f, 1));
}

#[test]
fn a_hang_up_ends_what_is_under_way() {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    rig.slow = true;
    rig.read(1, 0, 1);
    rig.silence();
    assert_eq!(rig.conn().tasks().count(), 1);
    rig.conn().hung_up();
    rig.silence();
    assert_eq!(rig.events.last(), Some(&Event::Ended(End::HungUp)));
    assert!(rig.conn().is_over());
}

fn claim(connection: u64) -> Claim {
    Claim {
        connection: ConnectionId(connection),
        target: TARGET.into(),
        initiator: INITIATOR.into(),
        isid: [0, 2, 0x3d, 0, 0, 1],
        portal: 1,
        tsih: 0,
        cid: 0,
        discovery: false,
    }
}

#[test]
fn the_same_initiator_port_takes_its_session_over() {
    let mut rig = Rig::new();
    rig.sessions.insert(Claim { tsih: 40, ..claim(99) });
    let text = text_of(&[("InitiatorName", INITIATOR), ("TargetName", TARGET)]);
    rig.send_pdu(Rig::login_header(0x87), &text);
    rig.run();
    // Nothing is answered before the old session is gone.
    assert_eq!(rig.hear(), None);
    assert_eq!(rig.events[..2], [Event::Target, Event::Displace(ConnectionId(99))]);
    rig.sessions.remove(ConnectionId(99));
    rig.run();
    assert_eq!(rig.hear().unwrap().0.tsih(), 1);
    assert_eq!(rig.events.last(), Some(&Event::Established));
}

#[test]
fn a_connection_is_reinstated_by_its_cid() {
    let mut rig = Rig::new();
    rig.sessions.insert(Claim { tsih: 40, ..claim(99) });
    let text = text_of(&[("InitiatorName", INITIATOR), ("TargetName", TARGET)]);
    rig.send_pdu(Rig::login_header(0x87).with_bytes(14, &[0, 40]), &text);
    rig.run();
    rig.sessions.remove(ConnectionId(99));
    rig.run();
    assert_eq!(rig.hear().unwrap().0.tsih(), 40);
    // Another CID would be a second connection.
    let mut rig = Rig::new();
    rig.sessions.insert(Claim { tsih: 40, cid: 3, ..claim(99) });
    rig.send_pdu(Rig::login_header(0x87).with_bytes(14, &[0, 40]), &text);
    assert_eq!(rig.answer().0.0[36..38], [2, 6]);
}

#[test]
fn sessions_are_counted_and_told_apart() {
    let mut sessions = Sessions::new(3);
    let other = |connection: u64| Claim { isid: [connection as u8; 6], ..claim(connection) };
    assert_eq!(sessions.admit(&claim(1), 2), Admission::New(1));
    assert_eq!(sessions.admit(&claim(2), 2), Admission::After(ConnectionId(1)));
    assert_eq!(sessions.admit(&other(2), 2), Admission::New(2));
    assert_eq!(sessions.admit(&other(3), 2), Admission::Full);
    assert_eq!(sessions.admit(&Claim { portal: 2, ..claim(3) }, 9), Admission::New(3));
    assert_eq!(sessions.admit(&other(4), 9), Admission::Full);
    sessions.remove(ConnectionId(2));
    assert_eq!(
        sessions.admit(&Claim { discovery: true, target: String::new(), ..claim(4) }, 0),
        Admission::New(4)
    );
    assert_eq!(sessions.len(), 3);
}

#[test]
fn displaced_means_gone() {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    rig.conn().displaced();
    rig.silence();
    assert_eq!(rig.events.last(), Some(&Event::Ended(End::Displaced)));
    // And a successor knows.
    rig.events.clear();
    rig.resume();
    rig.silence();
    assert_eq!(rig.events, [Event::Ended(End::Displaced)]);
}

#[test]
fn memory_of_something_else_is_refused() {
    let memory = guest_memory::Memory::anonymous(1 << 16);
    let resumed =
        |memory| Connection::resume(memory, ConnectionId(1), Positions::default(), Instant::from_nanos(1));
    assert_eq!(resumed(memory).unwrap_err(), SetupError::NotAConnection);
    let mut rig = Rig::new();
    rig.log_in(&[]);
    let memory = std::sync::Arc::clone(&rig.memory);
    assert_eq!(resumed(std::sync::Arc::clone(&memory)).unwrap_err(), SetupError::State);
    let limits = Limits { commands: 0, ..limits() };
    let made = Connection::create(memory, &limits, ConnectionId(1), "", 1, Instant::from_nanos(1));
    assert!(matches!(made, Err(SetupError::Limits(_))));
}
