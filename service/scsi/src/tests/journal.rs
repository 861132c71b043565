//! What a successor of a process that died does with commands that are given to it again.

use alloc::vec::Vec;

use super::{NEXUS, OTHER, codes, command, facts, unit};
use crate::journal::{JOURNAL_MAX, Note};
use crate::task_set::NOBODY;
use crate::{Command, Profile, Response, Sense, Unit, Verdict};

fn again(unit: &mut Unit, id: u64, resumed: bool) -> Verdict {
    // TEST UNIT READY, whose own answer would be GOOD.
    let command = Command { id, resumed, ..command(NEXUS, &[0; 6]) };
    unit.execute(&command, None, &mut Vec::new()).verdict
}

fn begun(note: u32) -> Note {
    Note::Begun { note, first: 0, end: 0 }
}

fn answered(verdict: &Verdict) -> &Response {
    let Verdict::Respond(response) = verdict else { panic!("{verdict:?}") };
    response
}

#[test]
fn a_recorded_answer_is_given_again() {
    let mut unit = unit(facts());
    let conflict = Response { status: 0x18, ..Response::GOOD };
    let sense = Response {
        data_out: 512,
        ..Response::check(Sense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION, crate::Format::Fixed)
    };
    unit.journal.put(NEXUS, 1, Note::of(&conflict));
    unit.journal.put(NEXUS, 2, Note::of(&sense));
    unit.journal.put(OTHER, 3, Note::of(&conflict));
    let mut successor = Unit::restore(facts(), Profile::default(), &unit.state());
    assert_eq!(answered(&again(&mut successor, 1, true)), &conflict);
    let told = again(&mut successor, 2, true);
    assert_eq!(codes(answered(&told)), (0x5, 0x26, 0x04));
    assert_eq!(answered(&told).data_out, 512);
    // Another nexus's, and one that has the id by chance.
    assert_eq!(answered(&again(&mut successor, 3, true)).status, 0x00);
    assert_eq!(answered(&again(&mut successor, 1, false)).status, 0x00);
    successor.seen();
    assert_eq!(answered(&again(&mut successor, 1, true)).status, 0x00);
}

/// Slots and sessions come one after the other: the answers to some are seen before others have said
/// what was under way.
#[test]
fn a_recorded_answer_waits_for_its_command_and_not_for_another_of_that_name() {
    let mut unit = unit(facts());
    let conflict = Response { status: 0x18, ..Response::GOOD };
    unit.journal.put(NEXUS, 1, Note::of(&conflict));
    unit.journal.put(NEXUS, 2, begun(7));
    unit.journal.put(OTHER, 1, Note::of(&conflict));
    let mut unit = Unit::restore(facts(), Profile::default(), &unit.state());
    unit.seen();
    // And a second process dies before they came.
    let mut unit = Unit::restore(facts(), Profile::default(), &unit.state());
    unit.seen();
    assert_eq!(answered(&again(&mut unit, 1, true)), &conflict);
    let mut third = Unit::restore(facts(), Profile::default(), &unit.state());
    assert_eq!(answered(&again(&mut third, 1, true)), &conflict, "it was not seen yet");
    unit.seen();
    assert_eq!(unit.journal.find(NEXUS, 1), None);
    assert_eq!(unit.journal.find(NEXUS, 2), Some(&begun(7)));
    // Something new: what was under way and did not come is over, and its name may be used again.
    assert_eq!(answered(&again(&mut unit, 3, false)).status, 0x00);
    assert_eq!(unit.journal.find(NEXUS, 2), None);
    assert!(unit.journal.find(OTHER, 1).is_some());
}

#[test]
fn what_has_begun_is_kept_until_it_has_ended() {
    let mut unit = unit(facts());
    // Any task will do.
    let read = Command { id: 9, ..command(NEXUS, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]) };
    let outcome = unit.execute(&read, None, &mut Vec::new());
    unit.seen();
    let _ = unit.take_dirty();
    unit.note_begun(outcome.task, 0x0102_0304);
    assert!(unit.take_dirty());
    unit.seen();
    let successor = Unit::restore(facts(), Profile::default(), &unit.state());
    assert_eq!(successor.journal.find(NEXUS, 9), Some(&begun(0x0102_0304)));
    // The end is an answer that a successor gives again, until it was seen.
    let _ = unit.finish_work(outcome.task, Err(Sense::WRITE_ERROR), 512);
    assert!(unit.take_dirty());
    let mut successor = Unit::restore(facts(), Profile::default(), &unit.state());
    let told = again(&mut successor, 9, true);
    assert_eq!((codes(answered(&told)), answered(&told).data_out), ((0x3, 0x0c, 0x00), 512));
    unit.seen();
    assert_eq!(unit.journal.find(NEXUS, 9), None);
}

#[test]
fn a_full_journal_forgets_answers_and_never_beginnings() {
    let mut unit = unit(facts());
    for id in 0..100 {
        unit.journal.put(NEXUS, id, begun(1));
    }
    for id in 100..100 + JOURNAL_MAX as u64 {
        assert!(!unit.journal_is_full());
        unit.journal.put(NEXUS, id, Note::of(&Response::GOOD));
    }
    assert!(unit.journal_is_full());
    unit.journal.put(NEXUS, 500, Note::of(&Response::GOOD));
    assert_eq!(unit.journal.find(NEXUS, 100), None);
    assert!(unit.journal.find(NEXUS, 101).is_some() && unit.journal.find(NEXUS, 500).is_some());
    let successor = Unit::restore(facts(), Profile::default(), &unit.state());
    assert!((0..100).all(|id| successor.journal.find(NEXUS, id) == Some(&begun(1))));
    assert!(successor.journal.find(NEXUS, 500).is_some());
}

#[test]
fn a_nexus_that_is_gone_leaves_nothing() {
    let mut unit = unit(facts());
    unit.journal.put(NEXUS, 1, begun(1));
    unit.journal.put(OTHER, 1, begun(2));
    let _ = unit.detach(NEXUS);
    assert_eq!(unit.journal.find(NEXUS, 1), None);
    assert_eq!(unit.journal.find(OTHER, 1), Some(&begun(2)));
}

/// Whoever changes reservations waits until all blocks that are kept are free again, and is then told
/// which tasks have to end: none that only a journal has.
#[test]
fn a_line_without_blocks_keeps_nothing_and_is_nobodys_to_wait_for() {
    for (first, end) in [(0, 0), (9, 9), (5_242_880, 512), (u64::MAX, 0)] {
        for nexus in [OTHER, NOBODY] {
            let mut unit = unit(facts());
            unit.journal.put(nexus, 1, Note::Begun { note: 1, first, end });
            let mut successor = Unit::restore(facts(), Profile::default(), &unit.state());
            assert_eq!(successor.journal.find(nexus, 1), Some(&Note::Begun { note: 1, first, end }));
            let reserve = command(NEXUS, &[0x16, 0, 0, 0, 0, 0]);
            let outcome = successor.execute(&reserve, None, &mut Vec::new());
            if let Verdict::Settle(settle) = outcome.verdict {
                assert_eq!(settle.waits_for, [], "{nexus:?} {first}..{end}");
                let _ = successor.finish_settled(outcome.task, settle.response, true);
            } else {
                assert_eq!(answered(&outcome.verdict).status, 0x00);
            }
            assert!(successor.unfinished.is_empty());
            assert_eq!(successor.tasks(), 0);
        }
    }
}
