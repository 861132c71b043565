//! The commands on a whole unit: statuses, conditions, tasks of others, what survives.

use alloc::vec::Vec;

use super::{APTPL, REGISTER, list};
use crate::tests::{NEXUS, OTHER, answer, codes, command, facts, peer, response, unit};
use crate::{
    Access, Attribute, Command, Ending, Function, Managed, Nexus, Outcome, Peer, PortId, Profile, Response,
    Settle, TargetPort, TransportId, Unit, Verdict, rows,
};

const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0];
const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 8, 0];
const RESERVE_6: [u8; 6] = [0x16, 0, 0, 0, 0, 0];
const RELEASE_6: [u8; 6] = [0x17, 0, 0, 0, 0, 0];
/// One block at address 0.
const COMPARE_AND_WRITE: [u8; 16] = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
const THIRD: Nexus = Nexus(2);

fn out_cdb(action: u8, kind: u8, list: &[u8]) -> [u8; 10] {
    [0x5f, action, kind, 0, 0, 0, 0, 0, list.len() as u8, 0]
}

/// PERSISTENT RESERVE OUT up to its verdict; the task is not ended.
fn begin_out(unit: &mut Unit, nexus: Nexus, action: u8, kind: u8, list: &[u8]) -> Outcome {
    let cdb = out_cdb(action, kind, list);
    let command = Command { tag: 99, id: 990, ..command(nexus, &cdb) };
    let outcome = unit.execute(&command, None, &mut Vec::new());
    match outcome.verdict {
        Verdict::Parameters(len) => assert_eq!(len, list.len()),
        _ => return outcome,
    }
    let again = Command { task: Some(outcome.task), ..command };
    unit.execute(&again, Some(list), &mut Vec::new())
}

/// One that nobody has to be waited for.
fn out(unit: &mut Unit, nexus: Nexus, action: u8, kind: u8, key: u64, new: u64) -> u8 {
    match begin_out(unit, nexus, action, kind, &list(key, new, 0)).verdict {
        Verdict::Respond(response) => response.status,
        other => panic!("{other:?}"),
    }
}

/// NEXUS has 0xa and holds; OTHER has 0xb; the third is not registered.
fn reserved(kind: u8) -> Unit {
    let mut unit = unit(facts());
    assert_eq!(unit.attach(peer(2)), Some(THIRD));
    assert_eq!(codes(&response(&mut unit, THIRD, &[0; 6])), (0x6, 0x29, 0x00));
    assert_eq!(out(&mut unit, NEXUS, 0x06, 0, 0, 0xa), 0x00);
    assert_eq!(out(&mut unit, OTHER, 0x06, 0, 0, 0xb), 0x00);
    assert_eq!(out(&mut unit, NEXUS, 0x01, kind, 0xa, 0), 0x00);
    unit.seen();
    unit
}

fn status(unit: &mut Unit, nexus: Nexus, cdb: &[u8]) -> u8 {
    match crate::tests::run(unit, nexus, cdb) {
        Verdict::Respond(response) => response.status,
        Verdict::Medium(_) => 0x00,
        other => panic!("{other:?}"),
    }
}

/// A task that is left running.
fn start(unit: &mut Unit, nexus: Nexus, tag: u32, cdb: &[u8]) -> Outcome {
    let command = Command { tag, id: u64::from(tag), ..command(nexus, cdb) };
    unit.execute(&command, None, &mut Vec::new())
}

fn settle(outcome: &Outcome) -> Settle {
    match &outcome.verdict {
        Verdict::Settle(settle) => settle.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn reads_and_writes_conflict() {
    for (kind, read, write, other_read, other_write) in [
        (0x1, 0x00, 0x18, 0x00, 0x18),
        (0x3, 0x18, 0x18, 0x18, 0x18),
        (0x5, 0x00, 0x00, 0x00, 0x18),
        (0x6, 0x00, 0x00, 0x18, 0x18),
        (0x7, 0x00, 0x00, 0x00, 0x18),
        (0x8, 0x00, 0x00, 0x18, 0x18),
    ] {
        let mut unit = reserved(kind);
        assert_eq!((status(&mut unit, NEXUS, &READ), status(&mut unit, NEXUS, &WRITE)), (0x00, 0x00));
        assert_eq!((status(&mut unit, OTHER, &READ), status(&mut unit, OTHER, &WRITE)), (read, write));
        assert_eq!(
            (status(&mut unit, THIRD, &READ), status(&mut unit, THIRD, &WRITE)),
            (other_read, other_write)
        );
        // INQUIRY and TEST UNIT READY pass.
        assert_eq!(status(&mut unit, THIRD, &[0x12, 0, 0, 0, 36, 0]), 0x00);
        assert_eq!(status(&mut unit, THIRD, &[0; 6]), 0x00);
    }
}

/// SAM-5: unit attention before RESERVATION CONFLICT; and RESERVATION CONFLICT has no sense data.
#[test]
fn attentions_come_first() {
    let mut unit = reserved(0x3);
    let _ = unit.manage(NEXUS, Function::UnitReset);
    assert_eq!(codes(&response(&mut unit, OTHER, &WRITE)), (0x6, 0x29, 0x03));
    assert_eq!(response(&mut unit, OTHER, &WRITE), Response::of_status(0x18));
}

#[test]
fn a_reserve_shuts_out_the_others() {
    let mut unit = unit(facts());
    let mode_sense = [0x1a, 0, 0x3f, 0, 255, 0];
    assert_eq!(status(&mut unit, NEXUS, &RESERVE_6), 0x00);
    assert_eq!(status(&mut unit, NEXUS, &RESERVE_6), 0x00);
    assert_eq!(status(&mut unit, OTHER, &RESERVE_6), 0x18);
    assert_eq!(status(&mut unit, OTHER, &RELEASE_6), 0x00);
    assert_eq!(status(&mut unit, NEXUS, &mode_sense), 0x00);
    assert_eq!(status(&mut unit, OTHER, &mode_sense), 0x18);
    assert_eq!(status(&mut unit, OTHER, &[0; 6]), 0x18);
    assert_eq!(status(&mut unit, OTHER, &[0x12, 0, 0, 0, 36, 0]), 0x00);
    assert_eq!(status(&mut unit, OTHER, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0]), 0x18);
    assert_eq!(status(&mut unit, OTHER, &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 0x18);
    assert_eq!(status(&mut unit, NEXUS, &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 0x00);
    assert_eq!(status(&mut unit, OTHER, &[0x56, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0]), 0x00);
    // A third party, an extent.
    for byte in [0x10, 0x01] {
        assert_eq!(codes(&response(&mut unit, OTHER, &[0x16, byte, 0, 0, 0, 0])), (0x5, 0x24, 0x00));
    }
}

#[test]
fn what_releases_a_reserve() {
    for event in 0..5 {
        let mut unit = unit(facts());
        assert_eq!(status(&mut unit, NEXUS, &RESERVE_6), 0x00);
        match event {
            0 => drop(unit.manage(OTHER, Function::UnitReset)),
            1 => drop(unit.manage(OTHER, Function::TargetReset)),
            2 => drop(unit.manage(NEXUS, Function::NexusReset)),
            3 => drop(unit.detach(NEXUS)),
            _ => unit = Unit::recover(facts(), Profile::default(), &unit.persistent()),
        }
        let other = unit.attach(peer(1)).unwrap();
        while response(&mut unit, other, &[0; 6]).status == 0x02 {}
        assert_eq!(status(&mut unit, other, &WRITE), 0x00, "{event}");
    }
    // The loss of another's does not.
    let mut unit = unit(facts());
    assert_eq!(status(&mut unit, NEXUS, &RESERVE_6), 0x00);
    let _ = unit.detach(OTHER);
    assert_eq!(unit.attach(peer(1)), Some(OTHER));
    assert_eq!(response(&mut unit, OTHER, &[0; 6]).status, 0x02);
    assert_eq!(status(&mut unit, OTHER, &WRITE), 0x18);
}

#[test]
fn conditions_reach_the_nexuses_that_are_named() {
    let mut unit = reserved(0x5);
    assert_eq!(unit.attach(peer(3)), Some(Nexus(3)));
    assert_eq!(response(&mut unit, Nexus(3), &[0; 6]).status, 0x02);
    assert_eq!(out(&mut unit, Nexus(3), 0x00, 0, 0, 0xb), 0x00);
    // OTHER takes over from NEXUS, with another type.
    assert_eq!(out(&mut unit, OTHER, 0x04, 0x6, 0xb, 0xa), 0x00);
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0; 6])), (0x6, 0x2a, 0x05));
    assert_eq!(codes(&response(&mut unit, Nexus(3), &[0; 6])), (0x6, 0x2a, 0x04));
    for nexus in [NEXUS, OTHER, THIRD, Nexus(3)] {
        assert_eq!(response(&mut unit, nexus, &[0; 6]).status, 0x00);
    }
    // CLEAR.
    assert_eq!(out(&mut unit, Nexus(3), 0x03, 0, 0xb, 0), 0x00);
    assert_eq!(codes(&response(&mut unit, OTHER, &[0; 6])), (0x6, 0x2a, 0x03));
    for nexus in [NEXUS, OTHER, THIRD, Nexus(3)] {
        assert_eq!(response(&mut unit, nexus, &[0; 6]).status, 0x00);
    }
}

/// A fenced writer's write never lands behind the answer.
#[test]
fn preempt_waits_for_writes_that_were_begun() {
    let mut unit = reserved(0x5);
    let write = start(&mut unit, NEXUS, 1, &WRITE);
    assert!(matches!(write.verdict, Verdict::Medium(_)));
    // One that waits for its parameter list is not begun: it meets the new reservation.
    let select = start(&mut unit, NEXUS, 2, &[0x15, 0x10, 0, 0, 24, 0]);
    assert!(matches!(select.verdict, Verdict::Parameters(24)));
    let preempt = begin_out(&mut unit, OTHER, 0x04, 0x5, &list(0xb, 0xa, 0));
    let expected = Settle {
        response: Response { data_out: 24, ..Response::GOOD },
        waits_for: Vec::from([1]),
        persist: false,
    };
    assert_eq!(settle(&preempt), expected);
    // It is not aborted, and ends with its own status.
    assert_eq!(unit.finish(write.task, request::Status::Good), Ending::Respond(Response::GOOD));
    let done = unit.finish_settled(preempt.task, expected.response, true);
    assert_eq!(done, Ending::Respond(Response { data_out: 24, ..Response::GOOD }));
    assert_eq!(codes(&response(&mut unit, NEXUS, &WRITE)), (0x6, 0x2a, 0x05));
    assert_eq!(status(&mut unit, NEXUS, &WRITE), 0x18);
    let select_cdb = [0x15, 0x10, 0, 0, 24, 0];
    let again = Command { tag: 2, id: 2, task: Some(select.task), ..command(NEXUS, &select_cdb) };
    let refused = unit.execute(&again, Some(&[0; 24]), &mut Vec::new());
    assert!(matches!(refused.verdict, Verdict::Respond(response) if response.status == 0x18));
    assert_eq!(unit.tasks(), 0);
}

/// Tasks that wait behind the command itself cannot be waited for.
#[test]
fn tasks_that_are_held_are_not_waited_for() {
    let mut unit = reserved(0x5);
    let write = start(&mut unit, NEXUS, 1, &WRITE);
    let ordered = Command { tag: 2, id: 2, attribute: Attribute::Ordered, ..command(NEXUS, &WRITE) };
    let held = unit.execute(&ordered, None, &mut Vec::new());
    assert!(matches!(held.verdict, Verdict::Wait));
    let cdb = out_cdb(0x04, 0x5, &[0; 24]);
    let first = Command { tag: 3, id: 3, attribute: Attribute::HeadOfQueue, ..command(OTHER, &cdb) };
    let asked = unit.execute(&first, None, &mut Vec::new());
    let again = Command { task: Some(asked.task), ..first };
    let preempt = unit.execute(&again, Some(&list(0xb, 0xa, 0)), &mut Vec::new());
    assert_eq!(settle(&preempt).waits_for, [1]);
    let _ = unit.finish(write.task, request::Status::Good);
    let _ = unit.finish_settled(preempt.task, settle(&preempt).response, true);
    assert_eq!(unit.woken(), Some(2));
    // Its turn has come, and it is told instead of written.
    let again = Command { task: Some(held.task), ..ordered };
    let Verdict::Respond(told) = unit.execute(&again, None, &mut Vec::new()).verdict else { panic!() };
    assert_eq!(codes(&told), (0x6, 0x2a, 0x05));
    assert_eq!(status(&mut unit, NEXUS, &WRITE), 0x18);
}

#[test]
fn tasks_that_wait_for_blocks_are_not_waited_for() {
    let mut unit = reserved(0x5);
    let compare = Command { tag: 1, id: 1, data_out: 1024, ..command(OTHER, &COMPARE_AND_WRITE) };
    let compare = unit.execute(&compare, None, &mut Vec::new());
    let held = start(&mut unit, NEXUS, 2, &WRITE);
    assert!(matches!(held.verdict, Verdict::Wait));
    assert_eq!(out(&mut unit, OTHER, 0x04, 0x5, 0xb, 0xa), 0x00);
    let _ = unit.finish_work(compare.task, Ok(()), 1024);
    assert_eq!(unit.woken(), Some(2));
    let again = Command { tag: 2, id: 2, task: Some(held.task), ..command(NEXUS, &WRITE) };
    let Verdict::Respond(told) = unit.execute(&again, None, &mut Vec::new()).verdict else { panic!() };
    assert_eq!(codes(&told), (0x6, 0x2a, 0x05));
    assert_eq!(status(&mut unit, NEXUS, &WRITE), 0x18);
}

/// Its owner did not come back after a restart, and its place was given away.
#[test]
fn a_reserve_does_not_outlive_the_place_of_its_owner() {
    let mut unit = unit(facts());
    for number in 2..128 {
        let nexus = unit.attach(peer(number)).unwrap();
        assert_eq!(response(&mut unit, nexus, &[0; 6]).status, 0x02);
    }
    assert_eq!(status(&mut unit, Nexus(127), &RESERVE_6), 0x00);
    unit.seen();
    let mut successor = Unit::restore(facts(), Profile::default(), &unit.state());
    for number in 0..127 {
        assert!(successor.attach(peer(number)).is_some());
    }
    assert_eq!(status(&mut successor, NEXUS, &WRITE), 0x18);
    assert_eq!(successor.attach(peer(200)), Some(Nexus(127)));
    assert_eq!(status(&mut successor, NEXUS, &WRITE), 0x00);
}

#[test]
fn preempt_and_abort_aborts() {
    let mut unit = reserved(0x5);
    let write = start(&mut unit, NEXUS, 1, &WRITE);
    let read = start(&mut unit, THIRD, 2, &READ);
    let abort = begin_out(&mut unit, OTHER, 0x05, 0x5, &list(0xb, 0xa, 0));
    assert_eq!(settle(&abort).waits_for, [1]);
    let aborted = Ending::Respond(Response::of_status(0x40));
    assert_eq!(unit.finish(write.task, request::Status::Good), aborted);
    assert_eq!(unit.finish(read.task, request::Status::Good), Ending::Respond(Response::GOOD));
    let _ = unit.finish_settled(abort.task, settle(&abort).response, true);
    // By its own key: its other commands, not the one itself.
    let write = start(&mut unit, OTHER, 4, &WRITE);
    let own = begin_out(&mut unit, OTHER, 0x05, 0x5, &list(0xb, 0xb, 0));
    assert_eq!(settle(&own).waits_for, [4]);
    assert_eq!(unit.finish(write.task, request::Status::Good), Ending::Aborted { reset: false });
    let done = unit.finish_settled(own.task, settle(&own).response, true);
    assert!(matches!(done, Ending::Respond(response) if response.status == 0x00));
}

#[test]
fn aptpl_is_on_stable_storage_before_the_answer() {
    let mut unit = unit(facts());
    let register = begin_out(&mut unit, NEXUS, REGISTER, 0, &list(0, 0xa, APTPL));
    assert_eq!((settle(&register).persist, settle(&register).waits_for), (true, Vec::new()));
    let _ = unit.finish_settled(register.task, settle(&register).response, true);
    let reserve = begin_out(&mut unit, NEXUS, 0x01, 0x1, &list(0xa, 0, 0));
    assert!(settle(&reserve).persist);
    let _ = unit.finish_settled(reserve.task, settle(&reserve).response, true);
    // Power off and on: others are still shut out, its nexus is not.
    let mut unit = Unit::recover(facts(), Profile::default(), &unit.persistent());
    assert_eq!(unit.attach(peer(1)), Some(NEXUS));
    assert_eq!(unit.attach(peer(0)), Some(OTHER));
    assert_eq!(response(&mut unit, NEXUS, &[0; 6]).status, 0x02);
    assert_eq!(response(&mut unit, OTHER, &[0; 6]).status, 0x02);
    assert_eq!(status(&mut unit, NEXUS, &WRITE), 0x18);
    assert_eq!(status(&mut unit, OTHER, &WRITE), 0x00);
    // It could not be stored.
    let clear = begin_out(&mut unit, OTHER, 0x03, 0, &list(0xa, 0, 0));
    let Ending::Respond(response) = unit.finish_settled(clear.task, settle(&clear).response, false) else {
        panic!()
    };
    assert_eq!(codes(&response), (0x4, 0x44, 0x00));
}

#[test]
fn without_aptpl_nothing_is_kept() {
    let unit = reserved(0x3);
    let mut unit = Unit::recover(facts(), Profile::default(), &unit.persistent());
    assert_eq!(unit.attach(peer(1)), Some(NEXUS));
    assert_eq!(response(&mut unit, NEXUS, &[0; 6]).status, 0x02);
    assert_eq!(status(&mut unit, NEXUS, &WRITE), 0x00);
}

/// What was kept and cannot be read may have been somebody's reservation.
#[test]
fn damaged_storage_is_no_free_way() {
    let good = reserved(0x3).persistent();
    let mut damaged: Vec<Vec<u8>> = (0..good.len() * 8)
        .map(|bit| {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        })
        .collect();
    damaged.extend((0..good.len()).map(|len| good[..len].to_vec()));
    for bytes in damaged {
        let mut unit = Unit::recover(facts(), Profile::default(), &bytes);
        assert!(unit.reservations().is_lost(), "{bytes:02x?}");
        assert_eq!(unit.attach(peer(1)), Some(NEXUS));
        assert_eq!(response(&mut unit, NEXUS, &[0; 6]).status, 0x02);
        assert_eq!(codes(&response(&mut unit, NEXUS, &READ)), (0x7, 0x44, 0x01));
    }
    let mut unit = Unit::recover(facts(), Profile::default(), &[]);
    assert_eq!(unit.attach(peer(1)), Some(NEXUS));
    assert_eq!(response(&mut unit, NEXUS, &[0; 6]).status, 0x02);
    assert_eq!(status(&mut unit, NEXUS, &[0x12, 0, 0, 0, 36, 0]), 0x00);
    // A successor of this process knows it too.
    unit.seen();
    let mut unit = Unit::restore(facts(), Profile::default(), &unit.state());
    assert_eq!(unit.attach(peer(1)), Some(NEXUS));
    assert_eq!(codes(&response(&mut unit, NEXUS, &WRITE)), (0x7, 0x44, 0x01));
    let replace = begin_out(&mut unit, NEXUS, 0x08, 0x1, &list(0, 0xa, APTPL));
    assert!(settle(&replace).persist);
    let _ = unit.finish_settled(replace.task, settle(&replace).response, true);
    assert_eq!(status(&mut unit, NEXUS, &WRITE), 0x00);
}

#[test]
fn both_kinds_outlive_the_process() {
    let mut successor = Unit::restore(facts(), Profile::default(), &reserved(0x3).state());
    assert_eq!(successor.attach(peer(1)), Some(OTHER));
    assert_eq!(status(&mut successor, OTHER, &READ), 0x18);
    assert_eq!(successor.attach(peer(0)), Some(NEXUS));
    assert_eq!(status(&mut successor, NEXUS, &WRITE), 0x00);
    let mut unit = unit(facts());
    assert_eq!(status(&mut unit, NEXUS, &RESERVE_6), 0x00);
    let mut successor = Unit::restore(facts(), Profile::default(), &unit.state());
    assert_eq!(successor.attach(peer(0)), Some(NEXUS));
    assert_eq!(successor.attach(peer(1)), Some(OTHER));
    assert_eq!(status(&mut successor, OTHER, &WRITE), 0x18);
    assert_eq!(status(&mut successor, NEXUS, &WRITE), 0x00);
}

/// The process dies while the answer waits: its successor does not preempt again, and makes the same
/// promises before it answers.
#[test]
fn an_answer_that_waits_outlives_the_process() {
    let mut unit = reserved(0x5);
    let compare = Command { tag: 1, id: 1, data_out: 1024, ..command(NEXUS, &COMPARE_AND_WRITE) };
    let begun = unit.execute(&compare, None, &mut Vec::new());
    assert!(matches!(begun.verdict, Verdict::Work(_)));
    unit.note_begun(begun.task, 1);
    let preempt = begin_out(&mut unit, OTHER, 0x04, 0x5, &list(0xb, 0xa, 0));
    assert_eq!(settle(&preempt).waits_for, [1]);
    // Others were answered meanwhile.
    unit.seen();
    let state = unit.state();
    let mut successor = Unit::restore(facts(), Profile::default(), &state);
    for (nexus, number) in [(NEXUS, 0), (OTHER, 1), (THIRD, 2)] {
        assert_eq!(successor.attach(peer(number)), Some(nexus));
    }
    // Of the two only the one that has blocks keeps them.
    assert_eq!(successor.unfinished.len(), 1);
    let cdb = out_cdb(0x04, 0x5, &[0; 24]);
    let resumed = Command { tag: 5, id: 990, resumed: true, ..command(OTHER, &cdb) };
    // What had begun comes first, whichever the caller gives first.
    let waits = successor.execute(&resumed, None, &mut Vec::new());
    assert!(matches!(waits.verdict, Verdict::Wait));
    let mut other = Unit::restore(facts(), Profile::default(), &state);
    for (nexus, number) in [(NEXUS, 0), (OTHER, 1)] {
        assert_eq!(other.attach(peer(number)), Some(nexus));
    }
    let held = other.execute(&resumed, None, &mut Vec::new());
    assert!(matches!(held.verdict, Verdict::Wait));
    // It is known that it does not come: nobody waits for it any longer.
    other.comes_no_more(OTHER);
    assert_eq!(other.woken(), None);
    other.comes_no_more(NEXUS);
    assert_eq!(other.woken(), Some(5));
    let compare = Command { tag: 4, resumed: true, ..compare };
    let begun = successor.execute(&compare, None, &mut Vec::new());
    assert!(matches!(begun.verdict, Verdict::Work(_)));
    assert_eq!(successor.woken(), None);
    let _ = successor.finish_work(begun.task, Ok(()), 1024);
    assert_eq!(successor.woken(), Some(5));
    let again = Command { task: Some(waits.task), ..resumed };
    let outcome = successor.execute(&again, None, &mut Vec::new());
    let expected = Settle {
        response: Response { data_out: 24, ..Response::GOOD },
        waits_for: Vec::new(),
        persist: true,
    };
    assert_eq!(settle(&outcome), expected);
    let done = successor.finish_settled(outcome.task, expected.response, true);
    assert_eq!(done, Ending::Respond(Response { data_out: 24, ..Response::GOOD }));
    assert_eq!(successor.reservations(), unit.reservations());
    // It dies once more before that was seen.
    let mut third = Unit::restore(facts(), Profile::default(), &successor.state());
    assert_eq!(third.attach(peer(1)), Some(OTHER));
    let outcome = third.execute(&resumed, None, &mut Vec::new());
    assert!(matches!(outcome.verdict, Verdict::Respond(response) if response.status == 0x00));
}

#[test]
fn reading_is_cut_to_the_allocation_length() {
    let mut unit = reserved(0x1);
    let read = |unit: &mut Unit, action: u8, len: u8| {
        let (response, data) = answer(unit, THIRD, &[0x5e, action, 0, 0, 0, 0, 0, 0, len, 0]);
        assert_eq!(response.status, 0x00);
        data
    };
    let keys = [0, 0, 0, 2, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0xa, 0, 0, 0, 0, 0, 0, 0, 0xb];
    for len in [0, 1, 4, 8, 15, 16, 24, 255] {
        assert_eq!(read(&mut unit, 0x00, len), keys[..keys.len().min(usize::from(len))]);
    }
    assert_eq!(read(&mut unit, 0x01, 255).len(), 24);
    assert_eq!(read(&mut unit, 0x02, 255), [0, 8, 0x9d, 0xc0, 0xea, 0x01, 0, 0]);
    assert_eq!(read(&mut unit, 0x03, 255).len(), 8 + 2 * 48);
    assert_eq!(codes(&response(&mut unit, THIRD, &[0x5e, 4, 0, 0, 0, 0, 0, 0, 8, 0])), (0x5, 0x24, 0x00));
}

/// ALL_TG_PT means the ports that the owner gave the unit.
#[test]
fn all_target_ports_are_those_of_the_unit() {
    let mut unit = unit(facts());
    let port = |id: u16| TargetPort {
        id: PortId(id),
        group: id,
        name: crate::PortName::Sas([0x50, 0, 0, 0, 0, 0, 0, id as u8]),
        state: crate::AccessState::ActiveOptimized,
    };
    unit.set_ports(Vec::from([port(1), port(2), port(7)]));
    let outcome = begin_out(&mut unit, NEXUS, 0x06, 0, &list(0, 0xa, 0x04));
    assert!(matches!(outcome.verdict, Verdict::Respond(response) if response.status == 0x00));
    assert_eq!(unit.reservations().registrants(), 3);
    let by_seven = Peer { port: PortId(7), ..peer(0) };
    let nexus = unit.attach(by_seven).unwrap();
    assert_eq!(response(&mut unit, nexus, &[0; 6]).status, 0x02);
    assert_eq!(out(&mut unit, nexus, 0x01, 0x3, 0xa, 0), 0x00);
    assert_eq!(status(&mut unit, OTHER, &READ), 0x18);
}

/// The state is stored at each note and at each answer; the table changes seldom.
#[test]
fn the_table_is_written_once_until_it_changes() {
    let mut unit = reserved(0x1);
    let bytes = unit.reservations.encoded().to_vec();
    assert_eq!(bytes, unit.reservations().state());
    let place = unit.reservations.encoded().as_ptr();
    assert!(unit.state().windows(bytes.len()).any(|window| window == bytes));
    assert_eq!(status(&mut unit, OTHER, &READ), 0x00);
    assert_eq!(status(&mut unit, OTHER, &WRITE), 0x18);
    let _ = unit.state();
    assert_eq!(unit.reservations.encoded().as_ptr(), place, "it was written again");
    assert_eq!(out(&mut unit, OTHER, 0x06, 0, 0, 0xc), 0x00);
    assert_ne!(unit.reservations.encoded(), bytes);
    assert_eq!(unit.reservations.encoded(), unit.reservations().state());
    unit.clear_reservations();
    assert_eq!(unit.reservations.encoded(), unit.reservations().state());
    let successor = Unit::restore(facts(), Profile::default(), &unit.state());
    assert_eq!(successor.reservations(), unit.reservations());
}

/// A volume that cannot be opened: its unit's state lies there, and its owner clears it.
#[test]
fn reservations_can_be_cleared_in_a_state_that_nobody_uses() {
    let mut unit = reserved(0x1);
    let _ = start(&mut unit, NEXUS, 3, &COMPARE_AND_WRITE);
    let state = unit.state();
    let cleared = Unit::clear_reservations_of(&state).unwrap();
    let mut bare = Unit::restore(facts(), Profile::default(), &cleared);
    assert_eq!(bare.reservations().registrants(), 0);
    assert!(bare.reservations().owner().is_none() && !bare.reservations().is_lost());
    // Everything else is as it was, and who was registered is told: RESERVATIONS PREEMPTED.
    assert_eq!(bare.nexuses().count(), 3);
    for (nexus, told) in [(NEXUS, true), (OTHER, true), (THIRD, false)] {
        assert_eq!(bare.attach(peer(nexus.0 as u8)), Some(nexus));
        let answer = response(&mut bare, nexus, &[0; 6]);
        assert_eq!(answer.sense.map(|sense| (sense.asc, sense.ascq)), told.then_some((0x2a, 0x03)));
    }
    assert_eq!(Unit::clear_reservations_of(&cleared).unwrap(), cleared);
    assert_eq!(Unit::clear_reservations_of(&[9, 9, 9]), None);
    // Damage that would be a lost reservation.
    let mut damaged = state.clone();
    let at = state.windows(4).position(|window| window == b"SPRV").unwrap();
    damaged[at + 20] ^= 1;
    assert!(Unit::restore(facts(), Profile::default(), &damaged).reservations().is_lost());
    let mended = Unit::clear_reservations_of(&damaged).unwrap();
    assert!(!Unit::restore(facts(), Profile::default(), &mended).reservations().is_lost());
}

/// However an initiator writes its name, it is the same nexus.
#[test]
fn names_are_the_same_however_they_are_written() {
    let mut unit = unit(facts());
    let named = |name: &str| Peer {
        initiator: TransportId::iscsi(name, [0, 2, 0x3d, 0, 0, 0xab]).unwrap(),
        port: PortId(1),
    };
    let nexus = unit.attach(named("iqn.1994-05.com.x:Y")).unwrap();
    assert_eq!(unit.attach(named("iqn.1994-05.COM.x:y")), Some(nexus));
}

#[test]
fn a_list_that_is_shorter_than_announced() {
    let mut unit = unit(facts());
    let cdb = out_cdb(0x00, 0, &[0; 24]);
    let verdict = crate::tests::with_list(&mut unit, NEXUS, &cdb, &[0; 23]);
    assert_eq!(crate::tests::refused(verdict), (0x5, 0x1a, 0x00));
    let cdb = out_cdb(0x00, 0, &[0; 23]);
    assert_eq!(codes(&response(&mut unit, NEXUS, &cdb)), (0x5, 0x1a, 0x00));
}

#[test]
fn the_owner_may_clear_everything() {
    let mut unit = reserved(0x3);
    unit.clear_reservations();
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0; 6])), (0x6, 0x2a, 0x03));
    assert_eq!(codes(&response(&mut unit, OTHER, &[0; 6])), (0x6, 0x2a, 0x03));
    for nexus in [NEXUS, OTHER, THIRD] {
        assert_eq!(status(&mut unit, nexus, &WRITE), 0x00);
    }
    assert_eq!(answer(&mut unit, THIRD, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 255, 0]).1, [0, 0, 0, 3, 0, 0, 0, 0]);
    // A RESERVE, and what is lost.
    assert_eq!(status(&mut unit, NEXUS, &RESERVE_6), 0x00);
    unit.clear_reservations();
    assert_eq!(status(&mut unit, OTHER, &WRITE), 0x00);
    let mut lost = Unit::recover(facts(), Profile::default(), &[]);
    assert_eq!(lost.attach(peer(0)), Some(NEXUS));
    assert_eq!(response(&mut lost, NEXUS, &[0; 6]).status, 0x02);
    lost.clear_reservations();
    assert_eq!(status(&mut lost, NEXUS, &WRITE), 0x00);
    assert!(!Unit::recover(facts(), Profile::default(), &lost.persistent()).reservations().is_lost());
}

#[test]
fn a_reset_leaves_persistent_reservations() {
    let mut unit = reserved(0x3);
    for function in [Function::UnitReset, Function::TargetReset] {
        assert_eq!(unit.manage(OTHER, function), Managed::Complete { waits_for: Vec::new() });
    }
    assert_eq!(response(&mut unit, OTHER, &[0; 6]).status, 0x02);
    assert_eq!(status(&mut unit, OTHER, &READ), 0x18);
    let _ = unit.detach(NEXUS);
    assert_eq!(status(&mut unit, OTHER, &READ), 0x18);
}

/// A writer that was shut out while it was away: what it left at the disks lands before the answer.
#[test]
fn preempt_waits_for_writes_of_a_nexus_that_was_lost() {
    let mut unit = reserved(0x5);
    assert!(matches!(start(&mut unit, OTHER, 5, &WRITE).verdict, Verdict::Medium(_)));
    let write = start(&mut unit, OTHER, 6, &WRITE).task;
    assert_eq!(unit.detach(OTHER), [5, 6]);
    // Somebody else has its number.
    assert_eq!(unit.attach(peer(9)), Some(OTHER));
    assert_eq!(unit.manage(OTHER, Function::AbortTaskSet), Managed::Complete { waits_for: Vec::new() });
    assert_eq!(unit.finish(write, request::Status::Good), Ending::Aborted { reset: false });
    let outcome = begin_out(&mut unit, NEXUS, 0x04, 0x5, &list(0xa, 0xb, 0));
    assert_eq!(settle(&outcome).waits_for, [5]);
}

/// SPC-4 table 65, SBC-4 table 13, and for the commands of MMC the choice that the module tells of:
/// the operation code, the service action, and what reservations do. Every row is among these.
const ACCESSES: &[(u8, Option<u8>, Access)] = {
    use Access::{Always, NotReserved, PreventAllow, Read, Reservation, StartStop, Write};
    &[
        (0x00, None, NotReserved),
        (0x03, None, Always),
        (0x04, None, Write),
        (0x07, None, Write),
        (0x08, None, Read),
        (0x0a, None, Write),
        (0x12, None, Always),
        (0x15, None, Write),
        (0x16, None, Reservation),
        (0x17, None, Reservation),
        (0x1a, None, Read),
        (0x1b, None, StartStop),
        (0x1c, None, Read),
        (0x1d, None, Write),
        (0x1e, None, PreventAllow),
        (0x23, None, Read),
        (0x25, None, Always),
        (0x28, None, Read),
        (0x2a, None, Write),
        (0x2e, None, Write),
        (0x2f, None, Read),
        (0x34, None, Read),
        (0x35, None, Write),
        (0x37, None, Read),
        (0x3b, None, Write),
        (0x3c, None, Read),
        (0x41, None, Write),
        (0x42, None, Write),
        (0x43, None, Read),
        (0x46, None, Always),
        (0x48, None, Write),
        (0x4a, None, Always),
        (0x4c, None, Write),
        (0x4d, None, Always),
        (0x51, None, Read),
        (0x52, None, Read),
        (0x55, None, Write),
        (0x56, None, Reservation),
        (0x57, None, Reservation),
        (0x5a, None, Read),
        (0x5e, None, Reservation),
        (0x5f, None, Reservation),
        (0x83, None, Write),
        (0x83, Some(0x10), Read),
        (0x83, Some(0x11), Write),
        (0x84, None, NotReserved),
        (0x88, None, Read),
        (0x89, None, Write),
        (0x8a, None, Write),
        (0x8b, None, Write),
        (0x8e, None, Write),
        (0x8f, None, Read),
        (0x90, None, Read),
        (0x91, None, Write),
        (0x93, None, Write),
        (0x9b, None, Read),
        (0x9c, None, Write),
        (0x9e, Some(0x10), Always),
        (0x9e, Some(0x12), Read),
        (0xa0, None, Always),
        (0xa3, Some(0x05), Always),
        (0xa3, Some(0x0a), Always),
        (0xa3, Some(0x0b), Always),
        (0xa3, Some(0x0c), Read),
        (0xa3, Some(0x0d), Read),
        (0xa3, Some(0x0e), Always),
        (0xa3, Some(0x0f), Always),
        (0xa4, Some(0x06), Write),
        (0xa4, Some(0x0a), Write),
        (0xa4, Some(0x0b), Write),
        (0xa4, Some(0x0e), Write),
        (0xa4, Some(0x0f), Write),
        (0xa8, None, Read),
        (0xaa, None, Write),
        (0xac, None, Read),
        (0xad, None, Read),
        (0xae, None, Write),
        (0xaf, None, Read),
        (0xb7, None, Read),
        (0xb9, None, Read),
        (0xbb, None, Always),
        (0xbd, None, Always),
        (0xbe, None, Read),
    ]
};

#[test]
fn every_command_has_the_access_of_the_standard() {
    let mut wrong = Vec::new();
    for row in rows() {
        let exact = ACCESSES.iter().find(|(code, action, _)| (*code, *action) == (row.opcode, row.action));
        let all = ACCESSES.iter().find(|(code, action, _)| *code == row.opcode && action.is_none());
        let expected = match exact.or(all) {
            Some((_, _, access)) => Some(*access),
            // The service action lies elsewhere, and the name tells.
            None if row.opcode == 0x7f && row.name.starts_with("WRITE") => Some(Access::Write),
            None if row.opcode == 0x7f => Some(Access::Read),
            None => None,
        };
        if expected != Some(row.access) {
            wrong.push((row.name, row.access, expected));
        }
    }
    assert!(wrong.is_empty(), "row, its access, the standard's: {wrong:?}");
}
