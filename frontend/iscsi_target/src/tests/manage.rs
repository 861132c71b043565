//! Task management, RFC 7143 11.5 and RFC 7144.

use std::prelude::rust_2024::*;

use super::rig::*;
use crate::*;

fn request(rig: &Rig, function: u8, itt: u32, about: u32) -> Header {
    Header::new(0x42).with_flags(0x80 | function).with_itt(itt).with_ttt(about).with_cmd_sn(rig.cmd_sn)
}

/// A session with two commands that the unit keeps to itself.
fn busy() -> Rig {
    let mut rig = Rig::new();
    rig.log_in(&[("iSCSIProtocolLevel", "2"), ("ImmediateData", "No")]);
    rig.slow = true;
    for itt in [1, 2] {
        rig.read(itt, 0, 1);
    }
    rig.silence();
    rig
}

fn code(rig: &mut Rig, header: Header) -> u8 {
    rig.send_pdu(header, &[]);
    let (answer, _) = rig.answer();
    assert_eq!((answer.opcode(), answer.itt()), (0x22, header.itt()));
    answer.0[2]
}

#[test]
fn an_aborted_task_has_no_response() {
    let mut rig = busy();
    let header = request(&rig, 1, 50, 1);
    assert_eq!(code(&mut rig, header), 0);
    let management = rig.managed[0];
    assert_eq!((management.function, management.id & 0xffff_ffff), (Function::AbortTask, 1));
    rig.execute_all();
    // The other one answers; of the aborted one nothing is heard.
    assert_eq!(rig.answer().0.itt(), 2);
    assert_eq!(rig.hear(), None);
    // Now it is not there.
    assert_eq!(code(&mut rig, header), 1);
}

#[test]
fn aborting_takes_a_task_on_its_own_unit_only() {
    let mut rig = busy();
    let header = request(&rig, 1, 50, 1).with_bytes(8, &Place::encode(7));
    assert_eq!(code(&mut rig, header), 1);
    assert!(rig.managed.is_empty());
    rig.execute_all();
    rig.run();
    assert_eq!([rig.hear().unwrap().0.itt(), rig.hear().unwrap().0.itt()], [1, 2]);
}

#[test]
fn each_function_reaches_the_unit() {
    for (number, function) in [
        (2, Function::AbortTaskSet),
        (3, Function::ClearAca),
        (4, Function::ClearTaskSet),
        (5, Function::UnitReset),
        (6, Function::TargetWarmReset),
        (10, Function::QueryTaskSet),
        (11, Function::NexusReset),
    ] {
        let mut rig = busy();
        let header = request(&rig, number, 50, u32::MAX).with_bytes(8, &Place::encode(300));
        assert_eq!(code(&mut rig, header), 0, "{function:?}");
        assert_eq!((rig.managed[0].function, rig.managed[0].place), (function, Place::Unit(300)));
    }
}

#[test]
fn a_cold_reset_ends_the_connection() {
    let mut rig = busy();
    let header = request(&rig, 7, 50, u32::MAX);
    assert_eq!(code(&mut rig, header), 0);
    assert_eq!(rig.events.last(), Some(&Event::Ended(End::ColdReset)));
    assert!(rig.conn().is_over());
}

#[test]
fn queries_come_with_their_protocol_level() {
    let mut rig = busy();
    let header = request(&rig, 9, 50, 2);
    assert_eq!(code(&mut rig, header), 7);
    let mut rig = Rig::new();
    rig.log_in(&[]);
    let header = request(&rig, 9, 50, 2);
    assert_eq!(code(&mut rig, header), 5);
}

#[test]
fn what_we_do_not_do_is_said() {
    let mut rig = busy();
    for (number, answer, fault) in
        [(8, 4, Fault::TaskReassign), (12, 5, Fault::UnknownFunction), (0, 5, Fault::UnknownFunction)]
    {
        let before = rig.fault(fault);
        let header = request(&rig, number, 50, 1);
        assert_eq!(code(&mut rig, header), answer);
        assert_eq!(rig.fault(fault), before + 1);
    }
}

#[test]
fn a_command_that_has_not_come_can_be_given_up() {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    // CmdSN 1 and 2 are on their way, so to say; 3 is the next to be given out.
    rig.cmd_sn = 3;
    let late = rig.command_header(8, &[0; 6], 0);
    rig.send_pdu(late, &[]);
    rig.silence();
    let header = request(&rig, 1, 50, 7).with_ref_cmd_sn(2);
    assert_eq!(code(&mut rig, header), 0);
    let header = request(&rig, 1, 51, 6).with_ref_cmd_sn(1);
    rig.send_pdu(header, &[]);
    rig.run();
    // All three numbers have passed, and the third one runs.
    let mut heard: Vec<(u8, u32)> = Vec::new();
    while let Some((header, _)) = rig.hear() {
        heard.push((header.opcode(), header.exp_cmd_sn()));
    }
    heard.sort_unstable();
    assert_eq!(heard, [(0x21, 4), (0x22, 4)]);
    // What lies behind the window is no task of ours.
    let header = request(&rig, 1, 52, 6).with_ref_cmd_sn(1);
    assert_eq!(code(&mut rig, header), 1);
}

#[test]
fn data_of_an_aborted_write_is_dropped_wherever_it_is() {
    let mut rig = busy();
    let header = rig.command_header(3, &cdb10(0x2a, 0, 4), 2048);
    rig.send_pdu(header, &[]);
    rig.run();
    rig.execute_all();
    rig.run();
    let heard: Vec<(Header, Vec<u8>)> = std::iter::from_fn(|| rig.hear()).collect();
    let r2t = heard.iter().find(|(header, _)| header.opcode() == 0x31).unwrap().0;
    let data = Header::new(0x05).with_itt(3).with_ttt(r2t.ttt());
    let pdu = rig.pdu(data, &[3; 2048]);
    // Half of the data is there when the unit ends the task: another initiator has cleared its task
    // set.
    rig.say(&pdu[..1000]);
    rig.run();
    let tag = rig.conn().tasks().next().unwrap();
    rig.conn().drop_task(tag);
    rig.say(&pdu[1000..]);
    rig.silence();
    assert!(rig.conn().tasks().next().is_none());
    let header = request(&rig, 1, 50, 3);
    assert_eq!(code(&mut rig, header), 1);
    assert!(rig.disk[..2048] == [0; 2048]);
    assert!(rig.conn().is_idle());
}
