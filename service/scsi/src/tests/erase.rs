//! SANITIZE and FORMAT UNIT.

use alloc::vec;
use alloc::vec::Vec;
use request::{Operation, Status};

use super::bench::{BLOCKS, Bench, Machine, small};
use super::{NEXUS, OTHER, codes, command, peer, response};
use crate::{Abort, Command, Function, Profile, Reset, Unit, Verdict};

const IMMED: u8 = 0x80;
const AUSE: u8 = 0x20;
const BLOCK_ERASE: [u8; 10] = [0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0];
const EXIT_FAILURE_MODE: [u8; 10] = [0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0];

fn with(mut cdb: [u8; 10], flags: u8) -> [u8; 10] {
    cdb[1] |= flags;
    cdb
}

fn overwrite(flags: u8, list: &[u8]) -> [u8; 10] {
    let [high, low] = u16::try_from(list.len()).unwrap().to_be_bytes();
    [0x48, 0x01 | flags, 0, 0, 0, 0, 0, high, low, 0]
}

fn list(first: u8, pattern: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(pattern.len()).unwrap().to_be_bytes();
    [&[first, 0, high, low], pattern].concat()
}

/// SANITIZE IN PROGRESS, with SKSV and a PROGRESS INDICATION.
fn is_erasing(bench: &mut Bench, ascq: u8) -> u16 {
    let refusal = response(&mut bench.unit, OTHER, &[0; 6]);
    assert_eq!(codes(&refusal), (0x2, 0x04, ascq));
    let sense = refusal.sense_data().unwrap();
    assert_eq!(sense[15], 0x80);
    u16::from_be_bytes([sense[16], sense[17]])
}

#[test]
fn block_erase_zeroes_and_gives_back_in_the_background() {
    let mut bench = Bench::new();
    assert_eq!(bench.run(&with(BLOCK_ERASE, IMMED), &[]).status, 0x00);
    assert_eq!(is_erasing(&mut bench, 0x1b), 0);
    // INQUIRY, REPORT LUNS, REQUEST SENSE and the reports of what is supported still answer.
    assert_eq!(super::data(&mut bench.unit, &[0x12, 0, 0, 0, 36, 0]).len(), 36);
    assert_eq!(super::data(&mut bench.unit, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]).len(), 32);
    let sense = super::data(&mut bench.unit, &[0x03, 0, 0, 0, 18, 0]);
    assert_eq!((sense[2], sense[12], sense[13], sense[15]), (0x02, 0x04, 0x1b, 0x80));
    assert!(!super::data(&mut bench.unit, &[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0]).is_empty());
    for cdb in [
        &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0][..],
        &[0x1b, 0x01, 0, 0, 0x05, 0],
        // Whatever else would be wrong with it.
        &[0x1b, 0xff, 0xff, 0xff, 0xff, 0],
        &[0x1a, 0, 0x3f, 0, 255, 0],
        &BLOCK_ERASE,
    ] {
        assert_eq!(bench.codes(NEXUS, cdb), (0x2, 0x04, 0x1b), "{cdb:02x?}");
    }
    assert!(bench.run_background());
    assert!(bench.is_ready());
    assert!(bench.medium.iter().all(|byte| *byte == 0) && bench.mapped.iter().all(|mapped| !mapped));
    assert!(matches!(bench.seen[..], [Operation::WriteZeroes { unmap: true, .. }, Operation::Flush]));
}

#[test]
fn overwrite_repeats_its_pattern_in_each_block() {
    let mut bench = Bench::new();
    let list = list(0x01, &[1, 2, 3]);
    assert_eq!(bench.run(&overwrite(IMMED, &list), &list).status, 0x00);
    assert!(bench.run_background() && bench.is_ready());
    for (at, byte) in bench.medium.iter().enumerate() {
        assert_eq!(usize::from(*byte), 1 + at % 512 % 3, "{at}");
    }
    // Three pieces, and the flush.
    assert_eq!(bench.seen.len(), 4);
}

#[test]
fn overwrite_passes_reach_the_medium_each_and_may_be_inverted() {
    let mut bench = Bench::new();
    let list = list(0x83, &[0xa0; 512]);
    assert_eq!(bench.run(&overwrite(IMMED, &list), &list).status, 0x00);
    let work = bench.unit.background().unwrap();
    let mut machine = Machine::new(work, &[]);
    let mut progress = 0;
    for pass in 0..3u8 {
        for _ in 0..3 {
            assert_eq!(bench.step(&mut machine), None);
            let now = is_erasing(&mut bench, 0x1b);
            assert!(now >= progress);
            progress = now;
        }
        let pattern = if pass == 1 { 0x5f } else { 0xa0 };
        assert!(bench.medium.iter().all(|byte| *byte == pattern), "{pass}");
        assert_eq!(bench.step(&mut machine), None);
        assert_eq!(bench.seen.last(), Some(&Operation::Flush));
    }
    assert_eq!(progress, u16::try_from(2 * 65_536 / 3 + 65_536 * 4096 / 4097 / 3).unwrap());
    assert_eq!(bench.step(&mut machine), Some((Ok(()), 0)));
    assert!(bench.unit.take_dirty());
    bench.unit.finish_background(Ok(()));
    assert!(bench.is_ready());
}

#[test]
fn where_it_is_becomes_worth_storing_now_and_then() {
    let mut bench = Bench::new();
    let list = list(0x01, &[7]);
    assert_eq!(bench.run(&overwrite(IMMED, &list), &list).status, 0x00);
    let mut machine = Machine::new(bench.unit.background().unwrap(), &[]);
    assert!(bench.unit.take_dirty());
    assert_eq!(bench.step(&mut machine), None);
    assert!(!bench.unit.take_dirty());
    assert_eq!(bench.step(&mut machine), None);
    assert!(bench.unit.take_dirty() && !bench.unit.take_dirty());
}

#[test]
fn without_immed_the_answer_comes_at_the_end() {
    let mut bench = Bench::new();
    let list = list(0x01, &[0xaa; 512]);
    let cdb = overwrite(0, &list);
    let (outcome, tag) = bench.begin(NEXUS, &cdb, &list);
    assert!(matches!(outcome.verdict, Verdict::Wait));
    let _ = is_erasing(&mut bench, 0x1b);
    assert_eq!(bench.unit.woken(), None);
    assert!(bench.run_background());
    let ended = bench.resume(NEXUS, tag, outcome.task, &cdb, &list);
    let Verdict::Respond(response) = ended.verdict else { panic!() };
    assert_eq!((response.status, response.data_out), (0x00, 516));
    assert!(bench.medium.iter().all(|byte| *byte == 0xaa));
    assert_eq!(bench.unit.tasks(), 0);
    assert!(bench.is_ready());
}

#[test]
fn aborts_and_resets_do_not_stop_it() {
    let mut bench = Bench::new();
    let (outcome, tag) = bench.begin(NEXUS, &BLOCK_ERASE, &[]);
    assert!(matches!(outcome.verdict, Verdict::Wait));
    let managed = bench.unit.manage(NEXUS, Function::AbortTask(u64::from(tag)));
    assert_eq!(managed, crate::Managed::Complete { waits_for: Vec::new() });
    let ended = bench.resume(NEXUS, tag, outcome.task, &BLOCK_ERASE, &[]);
    assert!(matches!(ended.verdict, Verdict::Aborted(Abort::Own)));
    let _ = bench.unit.reset(Reset::Hard, None);
    for nexus in [NEXUS, OTHER] {
        assert_eq!(bench.codes(nexus, &[0; 6]), (0x6, 0x29, 0x02));
    }
    let _ = is_erasing(&mut bench, 0x1b);
    assert!(bench.run_background());
    assert_eq!(bench.unit.woken(), None);
    assert!(bench.is_ready());
}

#[test]
fn it_waits_for_what_runs_and_refuses_what_comes_behind() {
    let mut bench = Bench::new();
    let write = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    let (running, _) = bench.begin(OTHER, &write, &[5; 512]);
    let cdb = with(BLOCK_ERASE, IMMED);
    let (erase, tag) = bench.begin(NEXUS, &cdb, &[]);
    assert!(matches!(erase.verdict, Verdict::Wait));
    assert!(bench.unit.background().is_none());
    let (behind, behind_tag) = bench.begin(OTHER, &write, &[5; 512]);
    assert!(matches!(behind.verdict, Verdict::Wait));
    assert_eq!(bench.finish(running, &[5; 512]).status, 0x00);
    let begun = bench.resume(NEXUS, tag, erase.task, &cdb, &[]);
    assert!(matches!(begun.verdict, Verdict::Respond(good) if good.status == 0x00));
    let refused = bench.resume(OTHER, behind_tag, behind.task, &write, &[5; 512]);
    assert_eq!(super::refused(refused.verdict), (0x2, 0x04, 0x1b));
    assert!(bench.run_background());
    assert!(bench.medium.iter().all(|byte| *byte == 0));
}

fn successor(bench: &mut Bench) {
    let state = bench.unit.state();
    bench.unit = Unit::restore(small(), Profile::default(), &state);
    assert_eq!(bench.unit.attach(peer(0)), Some(NEXUS));
    assert_eq!(bench.unit.attach(peer(1)), Some(OTHER));
    assert_eq!(bench.unit.state(), state);
}

#[test]
fn a_successor_goes_on_where_it_was() {
    let mut bench = Bench::new();
    let list = list(0x82, &[0xaa; 4]);
    let cdb = overwrite(0, &list);
    let (outcome, tag) = bench.begin(NEXUS, &cdb, &list);
    assert!(matches!(outcome.verdict, Verdict::Wait));
    let mut machine = Machine::new(bench.unit.background().unwrap(), &[]);
    // The first pass and its flush, and a piece of the second.
    for _ in 0..6 {
        assert_eq!(bench.step(&mut machine), None);
    }
    drop(machine);
    successor(&mut bench);
    bench.seen.clear();
    let _ = is_erasing(&mut bench, 0x1b);
    // Its command is given again, and waits again: it does not begin anew.
    let resumed = Command { tag, id: u64::from(tag), resumed: true, data_out: 8, ..command(NEXUS, &cdb) };
    let joined = bench.again(&resumed, &list);
    assert!(matches!(joined.verdict, Verdict::Wait));
    assert!(bench.run_background());
    // The piece that had been asked for last is not known to be done.
    assert_eq!(bench.seen.len(), 3);
    assert!(bench.medium.iter().all(|byte| *byte == 0x55));
    let ended = bench.resume(NEXUS, tag, joined.task, &cdb, &list);
    assert!(matches!(ended.verdict, Verdict::Respond(good) if good.status == 0x00));
    // The answer was not seen before the next death.
    successor(&mut bench);
    let known = bench.again(&resumed, &list);
    assert!(matches!(known.verdict, Verdict::Respond(good) if good.status == 0x00));
    assert!(bench.unit.background().is_none());
}

/// A move to another lane: what waits is taken away, and comes again there.
#[test]
fn a_command_that_waits_comes_again_elsewhere() {
    for ends_before in [false, true] {
        let mut bench = Bench::new();
        assert_eq!(bench.unit.parked(), None);
        let (outcome, tag) = bench.begin(NEXUS, &BLOCK_ERASE, &[]);
        assert!(matches!(outcome.verdict, Verdict::Wait));
        assert_eq!(bench.unit.parked(), Some(tag));
        bench.unit.leave_parked();
        assert_eq!((bench.unit.parked(), bench.unit.tasks()), (None, 0));
        if ends_before {
            assert!(bench.run_background());
            assert_eq!(bench.unit.woken(), None, "nobody waits here");
        }
        successor(&mut bench);
        let resumed = Command { tag, id: u64::from(tag), resumed: true, ..command(NEXUS, &BLOCK_ERASE) };
        let again = bench.again(&resumed, &[]);
        if ends_before {
            assert!(matches!(again.verdict, Verdict::Respond(good) if good.status == 0x00));
            continue;
        }
        assert!(matches!(again.verdict, Verdict::Wait));
        assert!(bench.run_background());
        let ended = bench.resume(NEXUS, tag, again.task, &BLOCK_ERASE, &[]);
        assert!(matches!(ended.verdict, Verdict::Respond(good) if good.status == 0x00));
    }
}

#[test]
fn a_failure_bars_the_medium_until_it_is_mended() {
    let mut bench = Bench::new();
    bench.fails = Some((0, Status::MediumWrite));
    let (outcome, tag) = bench.begin(NEXUS, &BLOCK_ERASE, &[]);
    assert!(bench.run_background());
    let ended = bench.resume(NEXUS, tag, outcome.task, &BLOCK_ERASE, &[]);
    let failed = (0x3, 0x31, 0x03); // SANITIZE COMMAND FAILED
    assert_eq!(super::refused(ended.verdict), failed);
    successor(&mut bench);
    assert!(bench.unit.background().is_none());
    assert_eq!(bench.codes(OTHER, &[0; 6]), failed);
    assert_eq!(bench.codes(OTHER, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]), failed);
    assert_eq!(super::data(&mut bench.unit, &[0x12, 0, 0, 0, 36, 0]).len(), 36);
    // AUSE was zero: there is no way out but another such sanitize.
    assert_eq!(bench.codes(NEXUS, &EXIT_FAILURE_MODE), (0x5, 0x24, 0x00));
    assert_eq!(bench.codes(NEXUS, &with(BLOCK_ERASE, AUSE)), (0x5, 0x24, 0x00));
    assert_eq!(bench.run(&with(BLOCK_ERASE, IMMED), &[]).status, 0x00);
    assert!(bench.run_background() && bench.is_ready());
}

#[test]
fn exit_failure_mode_where_ause_was_set() {
    let mut bench = Bench::new();
    bench.fails = Some((0, Status::MediumWrite));
    assert_eq!(bench.run(&with(BLOCK_ERASE, IMMED | AUSE), &[]).status, 0x00);
    assert!(bench.run_background());
    assert_eq!(bench.codes(OTHER, &[0; 6]), (0x3, 0x31, 0x03));
    assert_eq!(bench.run(&EXIT_FAILURE_MODE, &[]).status, 0x00);
    assert!(bench.is_ready());
    // Nothing failed: nothing to leave.
    assert_eq!(bench.run(&EXIT_FAILURE_MODE, &[]).status, 0x00);
    // A parameter list.
    assert_eq!(bench.codes(NEXUS, &[0x48, 0x1f, 0, 0, 0, 0, 0, 0, 8, 0]), (0x5, 0x24, 0x00));
}

#[test]
fn overwrite_refuses_lists_that_make_no_sense() {
    let mut bench = Bench::new();
    for length in [0u16, 1, 2, 3, 4, 517] {
        let [high, low] = length.to_be_bytes();
        assert_eq!(bench.codes(NEXUS, &[0x48, 0x01, 0, 0, 0, 0, 0, high, low, 0]), (0x5, 0x24, 0x00));
    }
    let mut refuse = |list: &[u8], byte: u8| {
        let response = bench.run(&overwrite(0, list), list);
        let sense = response.sense_data().unwrap();
        assert_eq!((sense[2], sense[12], sense[13], sense[17]), (0x05, 0x26, 0x00, byte), "{list:02x?}");
    };
    refuse(&list(0x00, &[0xaa; 512]), 0); // OVERWRITE COUNT zero
    refuse(&list(0x21, &[0xaa; 512]), 0); // TEST
    refuse(&[0x01, 0x01, 0, 1, 0], 1);
    refuse(&[0x01, 0x00, 0, 0, 0, 0], 2); // INITIALIZATION PATTERN LENGTH zero
    refuse(&[0x01, 0x00, 2, 4, 0, 0], 2); // and longer than a block
    assert_eq!(codes(&bench.run(&overwrite(0, &list(1, &[1; 8])), &[1, 0, 0, 8, 1])), (0x5, 0x1a, 0x00));
    assert!(bench.is_ready());
}

#[test]
fn sanitize_has_four_actions_less_one() {
    let mut bench = Bench::new();
    for action in (0..=0x1f).filter(|action| !matches!(action, 0x01 | 0x02 | 0x1f)) {
        // 03h is CRYPTOGRAPHIC ERASE: nothing here is encrypted.
        assert_eq!(bench.codes(NEXUS, &[0x48, action, 0, 0, 0, 0, 0, 0, 0, 0]), (0x5, 0x24, 0x00));
    }
    assert_eq!(bench.codes(NEXUS, &[0x48, 0x02, 0, 0, 0, 0, 0, 0, 8, 0]), (0x5, 0x24, 0x00));
    let mut fixed = Bench::of(crate::Facts { read_only: true, ..small() });
    assert_eq!(fixed.codes(NEXUS, &BLOCK_ERASE), (0x7, 0x27, 0x00));
    let mut thick = Bench::of(crate::Facts { discard: None, ..small() });
    assert_eq!(thick.codes(NEXUS, &BLOCK_ERASE), (0x5, 0x24, 0x00));
}

fn format(byte1: u8) -> [u8; 6] {
    [0x04, byte1, 0, 0, 0, 0]
}

#[test]
fn format_unit_without_a_list_zeroes() {
    let mut bench = Bench::new();
    // DEFECT LIST FORMAT means nothing without a list.
    let (outcome, tag) = bench.begin(NEXUS, &format(0x05), &[]);
    assert!(matches!(outcome.verdict, Verdict::Wait));
    assert_eq!(is_erasing(&mut bench, 0x04), 0);
    assert!(bench.run_background());
    let ended = bench.resume(NEXUS, tag, outcome.task, &format(0x05), &[]);
    assert!(matches!(ended.verdict, Verdict::Respond(good) if good.status == 0x00));
    assert!(bench.medium.iter().all(|byte| *byte == 0) && bench.is_ready());
}

#[test]
fn format_unit_with_short_and_long_lists() {
    for (byte1, list, expected) in [
        (0x10, &[0, 0x82, 0, 0][..], 0),
        (0x18, &[0, 0x82 | 0x20, 0, 0], 0),
        (0x30, &[0, 0x02, 0, 0, 0, 0, 0, 0], 0),
        (0x10, &[0, 0x8a, 0, 0, 0, 0, 0, 0], 0),
        (0x10, &[0, 0x8a, 0, 0, 0, 1, 0, 2, 0x6b, 0x6b], 0x6b),
        (0x30, &[0, 0x8a, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0x6c], 0x6c),
    ] {
        let mut bench = Bench::new();
        let response = bench.run(&format(byte1), list);
        assert_eq!((response.status, response.data_out), (0x00, list.len() as u64), "{list:02x?}");
        assert_eq!(bench.codes(OTHER, &[0; 6]), (0x2, 0x04, 0x04));
        assert!(bench.run_background() && bench.is_ready());
        assert!(bench.medium.iter().all(|byte| *byte == expected), "{list:02x?}");
        assert_eq!(bench.mapped.iter().all(|mapped| *mapped), expected != 0);
    }
}

#[test]
fn format_unit_refuses() {
    let mut bench = Bench::new();
    for byte1 in [0x40, 0x80, 0x08] {
        // FMTPINFO; CMPLST without FMTDATA.
        assert_eq!(bench.codes(NEXUS, &format(byte1)), (0x5, 0x24, 0x00), "{byte1:02x}");
    }
    assert_eq!(codes(&bench.run(&format(0x10), &[0, 0, 0])), (0x5, 0x1a, 0x00));
    let mut refuse = |byte1: u8, list: &[u8], code: u8, byte: u8| {
        let response = bench.run(&format(byte1), list);
        let sense = response.sense_data().unwrap();
        assert_eq!((sense[2], sense[12], sense[17]), (0x05, code, byte), "{list:02x?}");
    };
    refuse(0x10, &[1, 0x80, 0, 0], 0x26, 0); // PROTECTION FIELD USAGE
    refuse(0x10, &[0, 0x20, 0, 0], 0x26, 1); // DCRT without FOV
    refuse(0x10, &[0, 0x80, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0], 0x26, 2); // a defect list
    refuse(0x30, &[0, 0x80, 0, 0, 0, 0, 0, 4], 0x26, 4);
    refuse(0x30, &[0, 0x80, 0, 1, 0, 0, 0, 0], 0x26, 3); // PROTECTION INTERVAL EXPONENT
    refuse(0x10, &[0, 0x88, 0, 0], 0x1a, 0); // no initialization pattern descriptor
    refuse(0x10, &[0, 0x88, 0, 0, 0, 0, 0, 1, 9], 0x26, 6); // the default pattern has no length
    refuse(0x10, &[0, 0x88, 0, 0, 0, 1, 0, 0], 0x26, 6); // a pattern of nothing
    refuse(0x10, &[0, 0x88, 0, 0, 0, 2, 0, 1, 9], 0x26, 5); // an unknown type
    refuse(0x10, &[0, 0x88, 0, 0, 0x20, 1, 0, 1, 9], 0x26, 4); // SI
    refuse(0x10, &[0, 0x88, 0, 0, 0, 1, 0, 2, 9], 0x1a, 0); // cut short
    assert!(bench.is_ready());
}

#[test]
fn a_format_that_failed_leaves_a_corrupted_medium() {
    let mut bench = Bench::new();
    bench.fails = Some((0, Status::NoSpace));
    assert_eq!(bench.run(&format(0x10), &[0, 0x02, 0, 0]).status, 0x00);
    assert!(bench.run_background());
    // MEDIUM FORMAT CORRUPTED for what touches the medium.
    assert_eq!(bench.codes(NEXUS, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]), (0x3, 0x31, 0x00));
    assert_eq!(super::data(&mut bench.unit, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]).len(), 8);
    assert_eq!(bench.run(&format(0x10), &[0, 0x02, 0, 0]).status, 0x00);
    assert!(bench.run_background() && bench.is_ready());
    assert_eq!(bench.run(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[]).status, 0x00);
}

#[test]
fn a_volume_that_became_smaller_meanwhile_is_erased_as_far_as_it_is_there() {
    let mut bench = Bench::new();
    let list = list(0x02, &[0x11]);
    assert_eq!(bench.run(&overwrite(IMMED, &list), &list).status, 0x00);
    let state = bench.unit.state();
    let facts = crate::Facts { blocks: request::Blocks(BLOCKS / 2), ..small() };
    let mut bench = Bench::of(facts.clone());
    bench.unit = Unit::restore(facts, Profile::default(), &state);
    assert!(bench.run_background());
    assert_eq!(bench.medium, vec![0x11; BLOCKS as usize / 2 * 512]);
}
