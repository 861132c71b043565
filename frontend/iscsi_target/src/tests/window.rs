//! CmdSN, ExpCmdSN and MaxCmdSN: RFC 7143 4.2.2.1.

use super::rig::*;
use crate::*;

fn ready(rig: &mut Rig, itt: u32, cmd_sn: u32) {
    let header = rig.command_header(itt, &[0; 6], 0).with_cmd_sn(cmd_sn);
    rig.send_pdu(header, &[]);
}

#[test]
fn outside_of_the_window_a_command_is_ignored() {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    // The window is 1 to 8.
    for cmd_sn in [9, 100, 0, u32::MAX, 0x8000_0001] {
        ready(&mut rig, 1, cmd_sn);
        rig.silence();
    }
    assert_eq!(rig.fault(Fault::CommandOutsideWindow), 5);
    ready(&mut rig, 1, 1);
    let (header, _) = rig.answer();
    assert_eq!((header.exp_cmd_sn(), header.max_cmd_sn()), (2, 9));
}

#[test]
fn the_window_closes_and_opens() {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    rig.slow = true;
    for itt in 0..8 {
        ready(&mut rig, itt, itt + 1);
    }
    rig.silence();
    assert_eq!(rig.pending.len(), 8);
    ready(&mut rig, 8, 9);
    rig.silence();
    assert_eq!(rig.fault(Fault::CommandOutsideWindow), 1);
    for number in 0..8u32 {
        let tag = rig.pending.pop_front().unwrap();
        rig.execute(tag);
        let (header, _) = rig.answer();
        // Each answer gives its own place back.
        assert_eq!((header.itt(), header.exp_cmd_sn(), header.max_cmd_sn()), (number, 9, 9 + number));
    }
}

#[test]
fn commands_run_in_the_order_of_their_numbers() {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    for (itt, cmd_sn) in [(30, 3), (20, 2), (30, 3), (31, 3)] {
        ready(&mut rig, itt, cmd_sn);
        rig.silence();
    }
    // Once by its tag and twice by its number.
    assert_eq!(rig.fault(Fault::CommandRepeated), 2);
    ready(&mut rig, 10, 1);
    rig.run();
    let order: [u32; 3] = core::array::from_fn(|_| rig.hear().unwrap().0.itt());
    assert_eq!(order, [10, 20, 30]);
    assert_eq!(rig.begun.iter().map(|(id, _)| id >> 32).collect::<std::vec::Vec<_>>(), [1, 2, 3]);
}

#[test]
fn numbers_wrap() {
    let mut rig = Rig::new();
    let text = text_of(&[("InitiatorName", INITIATOR), ("TargetName", TARGET)]);
    rig.send_pdu(Rig::login_header(0x87).with_cmd_sn(u32::MAX), &text);
    assert_eq!(rig.answer().0.max_cmd_sn(), 6);
    for (itt, cmd_sn) in [(1, u32::MAX), (2, 0), (3, 1)] {
        ready(&mut rig, itt, cmd_sn);
        let (header, _) = rig.answer();
        assert_eq!(
            (header.exp_cmd_sn(), header.max_cmd_sn()),
            (cmd_sn.wrapping_add(1), cmd_sn.wrapping_add(8))
        );
    }
}

#[test]
fn immediate_commands_have_places_of_their_own() {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    rig.slow = true;
    for itt in 0..8 {
        ready(&mut rig, itt, itt + 1);
    }
    for itt in 100..102 {
        let header = rig.command_header(itt, &[0; 6], 0).with_byte(0, 0x41).with_cmd_sn(9);
        rig.send_pdu(header, &[]);
    }
    rig.silence();
    assert_eq!(rig.pending.len(), 10);
    let header = rig.command_header(102, &[0; 6], 0).with_byte(0, 0x41).with_cmd_sn(9);
    rig.send_pdu(header, &[]);
    let (reject, about) = rig.answer();
    assert_eq!((reject.opcode(), reject.0[2], &about[..]), (0x3f, 0x06, &header.0[..]));
    assert_eq!(rig.fault(Fault::TooManyImmediate), 1);
}

#[test]
fn a_tag_names_one_task_at_a_time() {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    rig.slow = true;
    ready(&mut rig, 1, 1);
    ready(&mut rig, 1, 2);
    let (reject, _) = rig.answer();
    assert_eq!((reject.opcode(), reject.0[2], reject.exp_cmd_sn()), (0x3f, 0x09, 3));
    assert_eq!(rig.fault(Fault::TagInUse), 1);
    rig.execute_all();
    assert_eq!(rig.answer().0.itt(), 1);
    ready(&mut rig, 1, 3);
    rig.run();
    rig.execute_all();
    assert_eq!(rig.answer().0.itt(), 1);
}
