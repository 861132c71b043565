//! VERIFY, WRITE AND VERIFY, COMPARE AND WRITE, ORWRITE, WRITE ATOMIC.

use alloc::vec;
use alloc::vec::Vec;
use request::{Blocks, Lba, Operation, Status};

use super::bench::{BLOCKS, Bench, Machine, response_of, small};
use super::{NEXUS, OTHER, codes, command, peer};
use crate::{Command, Profile, Response, Unit, Verdict};

const MISCOMPARE: (u8, u8, u8) = (0xe, 0x1d, 0x00);

fn information(response: &Response) -> u64 {
    let sense = response.sense_data().unwrap();
    assert_eq!(sense[0], 0xf0, "VALID, fixed format");
    u64::from(u32::from_be_bytes([sense[3], sense[4], sense[5], sense[6]]))
}

fn verify_10(bytchk: u8, first: u16, count: u16) -> [u8; 10] {
    let ([a, b], [c, d]) = (first.to_be_bytes(), count.to_be_bytes());
    [0x2f, bytchk << 1, 0, 0, a, b, 0, c, d, 0]
}

#[test]
fn verify_reads_the_medium_back() {
    let mut bench = Bench::new();
    // The 2 MiB behind block 1, in pieces of 1 MiB, after what a volatile cache may hold.
    assert_eq!(bench.run(&verify_10(0, 1, 4096), &[]).status, 0x00);
    let read = |first, count| Operation::Read(small().extent(Lba(first), Blocks(count)).unwrap());
    assert_eq!(bench.seen, [Operation::Flush, read(1, 2048), read(2049, 2048)]);
    bench.seen.clear();
    bench.fails = Some((2, Status::MediumRead));
    assert_eq!(codes(&bench.run(&verify_10(0, 0, 4097), &[])), (0x3, 0x11, 0x00));
    assert_eq!(bench.seen.len(), 3);
    // Without a volatile cache there is nothing to flush.
    let mut steady = Bench::of(crate::Facts { write_cache: false, ..small() });
    assert_eq!(steady.run(&[0xaf, 0x10, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0], &[]).status, 0x00);
    assert_eq!(steady.seen, [read(7, 1)]);
}

#[test]
fn verify_compares_with_as_much_data() {
    let mut bench = Bench::new();
    let mut data = Vec::from(bench.blocks(1, 4096));
    assert_eq!(bench.run(&verify_10(1, 1, 4096), &data).status, 0x00);
    for at in [0, 511, 512, 4095, 4096, 1_048_575, 1_048_576, 2_097_151] {
        data[at] ^= 0x10;
        let response = bench.run(&verify_10(1, 1, 4096), &data);
        assert_eq!((codes(&response), information(&response)), (MISCOMPARE, at as u64));
        // BYTCHK 00b looks at none of it.
        assert_eq!(bench.run(&verify_10(0, 1, 4096), &data).status, 0x00);
        data[at] ^= 0x10;
    }
    // INVALID FIELD IN COMMAND INFORMATION UNIT: less data than the CDB says.
    assert_eq!(codes(&bench.run(&verify_10(1, 1, 2), &data[..1023])), (0x5, 0x0e, 0x03));
}

#[test]
fn verify_compares_each_block_with_one() {
    let mut bench = Bench::new();
    bench.fill(0x5a);
    assert_eq!(bench.run(&verify_10(3, 0, 4097), &[0x5a; 512]).status, 0x00);
    bench.medium[3000 * 512 + 17] = 0;
    let response = bench.run(&verify_10(3, 2, 4000), &[0x5a; 512]);
    assert_eq!((codes(&response), information(&response)), (MISCOMPARE, 2998 * 512 + 17));
    assert_eq!(codes(&bench.run(&verify_10(3, 0, 1), &[])), (0x5, 0x0e, 0x03));
    // Blocks of 4096 bytes.
    let mut large = Bench::of(crate::Facts { block_size: 4096, blocks: Blocks(600), ..small() });
    large.fill(0x5a);
    assert_eq!(large.run(&verify_10(3, 0, 600), &[0x5a; 4096]).status, 0x00);
    large.medium[599 * 4096 + 4095] = 0;
    let response = large.run(&verify_10(3, 0, 600), &[0x5a; 4096]);
    assert_eq!(information(&response), 600 * 4096 - 1);
}

#[test]
fn verify_refuses() {
    let mut bench = Bench::new();
    // BYTCHK 10b, VRPROTECT.
    for byte1 in [0x04, 0x20, 0xe0] {
        let response = bench.run(&[0x2f, byte1, 0, 0, 0, 0, 0, 0, 1, 0], &[0; 512]);
        assert_eq!(codes(&response), (0x5, 0x24, 0x00), "{byte1:02x}");
    }
    assert_eq!(codes(&bench.run(&verify_10(1, 4096, 2), &[0; 1024])), (0x5, 0x21, 0x00));
    assert_eq!(codes(&bench.run(&verify_10(1, 4097, 0), &[])), (0x5, 0x21, 0x00));
    assert_eq!(bench.run(&verify_10(1, 4096, 0), &[]).status, 0x00);
    assert!(bench.seen.is_empty());
}

#[test]
fn write_and_verify_writes_through_and_reads_back() {
    let mut bench = Bench::new();
    let data: Vec<u8> = (0..1024u32).map(|at| at as u8).collect();
    let extent = small().extent(Lba(16), Blocks(2)).unwrap();
    let expected = [Operation::Write { extent, fua: true }, Operation::Read(extent)];
    for cdb in [
        &[0x2e, 0x12, 0, 0, 0, 16, 0, 0, 2, 0][..],
        &[0xae, 0x00, 0, 0, 0, 16, 0, 0, 0, 2, 0, 0],
        &[0x8e, 0x02, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 2, 0, 0],
    ] {
        bench.seen.clear();
        bench.fill(0);
        let response = bench.run(cdb, &data);
        assert_eq!((response.status, response.data_out), (0x00, 1024));
        assert_eq!(bench.seen, expected);
        assert_eq!(bench.blocks(16, 2), data);
        assert_eq!(bench.blocks(18, 1), [0; 512]);
    }
    // The store lost a bit on the way.
    let (outcome, _) = bench.begin(NEXUS, &[0x2e, 0x02, 0, 0, 0, 16, 0, 0, 2, 0], &data);
    let Verdict::Work(work) = outcome.verdict else { panic!() };
    let mut machine = Machine::new(work, &data);
    assert_eq!(bench.step(&mut machine), None);
    bench.medium[17 * 512] ^= 1;
    let (result, data_out) = bench.run_machine(machine);
    let response = response_of(bench.unit.finish_work(outcome.task, result, data_out));
    assert_eq!((codes(&response), information(&response)), (MISCOMPARE, 512));
    // WRPROTECT, and behind the end.
    assert_eq!(codes(&bench.run(&[0x2e, 0x20, 0, 0, 0, 0, 0, 0, 1, 0], &data)), (0x5, 0x24, 0x00));
    assert_eq!(codes(&bench.run(&[0x2e, 0, 0, 0, 0x10, 0, 0, 0, 2, 0], &data)), (0x5, 0x21, 0x00));
    assert_eq!(bench.run(&[0x2e, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]).status, 0x00);
}

#[test]
fn data_that_was_cut_short_is_taken_by_whole_blocks() {
    let mut bench = Bench::new();
    for (cdb, expected) in [
        (&[0x2e, 0x02, 0, 0, 0, 0, 0, 0, 2, 0][..], 0xb0),
        (&[0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0], 0xb0 | 0x0a),
    ] {
        bench.fill(0x0a);
        let response = bench.run(cdb, &[0xb0; 600]);
        // What it wanted: the transport counts the rest as residual.
        assert_eq!((response.status, response.data_out), (0x00, 1024));
        assert_eq!(bench.blocks(0, 1), [expected; 512]);
        assert_eq!(bench.blocks(1, 1), [0x0a; 512]);
        let response = bench.run(cdb, &[]);
        assert_eq!((response.status, response.data_out), (0x00, 1024));
    }
}

#[test]
fn orwrite_sets_bits() {
    let mut bench = Bench::new();
    let before = bench.medium.clone();
    let data: Vec<u8> = (0..4096 * 512u32).map(|at| (at % 13) as u8).collect();
    let cdb = [0x8b, 0x18, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x10, 0x00, 0, 0];
    let response = bench.run(&cdb, &data);
    assert_eq!((response.status, response.data_out), (0x00, 4096 * 512));
    assert_eq!(bench.medium[..512], before[..512]);
    for (at, byte) in bench.medium[512..].iter().enumerate() {
        assert_eq!(*byte, before[512 + at] | data[at], "{at}");
    }
    let extent = |first, count| small().extent(Lba(first), Blocks(count)).unwrap();
    let (one, two) = (extent(1, 2048), extent(2049, 2048));
    let write = |extent| Operation::Write { extent, fua: true };
    assert_eq!(bench.seen, [Operation::Read(one), write(one), Operation::Read(two), write(two)]);
    bench.seen.clear();
    bench.fails = Some((1, Status::NoSpace));
    assert_eq!(codes(&bench.run(&cdb, &data)), (0x7, 0x27, 0x07));
    // ORPROTECT, behind the end, no blocks.
    let mut wrong = cdb;
    wrong[1] = 0x20;
    assert_eq!(codes(&bench.run(&wrong, &data)), (0x5, 0x24, 0x00));
    wrong = cdb;
    wrong[9] = 2;
    assert_eq!(codes(&bench.run(&wrong, &data)), (0x5, 0x21, 0x00));
    assert_eq!(bench.run(&[0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]).status, 0x00);
}

fn compare_and_write(first: u8, count: u8) -> [u8; 16] {
    [0x89, 0, 0, 0, 0, 0, 0, 0, 0, first, 0, 0, 0, count, 0, 0]
}

#[test]
fn compare_and_write_writes_the_second_half_if_the_first_is_there() {
    let mut bench = Bench::new();
    bench.fill(b'A');
    let len = 512;
    let mut data = vec![b'A'; 2 * len];
    data[len..].fill(b'B');
    let response = bench.run(&compare_and_write(3, 1), &data);
    assert_eq!((response.status, response.data_out), (0x00, 2 * len as u64));
    assert_eq!(bench.blocks(3, 1), [b'B'; 512]);
    assert_eq!((bench.blocks(2, 1)[511], bench.medium[1536 + len]), (b'A', b'A'));
    // Once more: what is there now is another.
    let before = bench.medium.clone();
    let response = bench.run(&compare_and_write(3, 1), &data);
    assert_eq!((codes(&response), information(&response)), (MISCOMPARE, 0));
    assert_eq!(bench.medium, before);
    bench.fill(b'A');
    // Each place of the difference is told.
    for at in [1, len / 2, len - 27, len - 1] {
        let mut odd = data.clone();
        odd[at] = b'C';
        let response = bench.run(&compare_and_write(3, 1), &odd);
        assert_eq!((codes(&response), information(&response)), (MISCOMPARE, at as u64));
        assert!(bench.medium.iter().all(|byte| *byte == b'A'));
    }
}

#[test]
fn compare_and_write_refuses() {
    let mut bench = Bench::new();
    let refused = |response: Response| codes(&response);
    // More data or less than two halves.
    for bytes in [0, 512, 1023, 1025, 2048] {
        assert_eq!(refused(bench.run(&compare_and_write(0, 1), &vec![0; bytes])), (0x5, 0x24, 0x00));
    }
    assert_eq!(bench.run(&compare_and_write(0, 0), &[]).status, 0x00);
    // More than the maximum of a block.
    assert_eq!(refused(bench.run(&compare_and_write(0, 2), &[0; 2048])), (0x5, 0x24, 0x00));
    let end = [0x89, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x01, 0, 0, 0, 1, 0, 0];
    assert_eq!(refused(bench.run(&end, &[0; 1024])), (0x5, 0x21, 0x00));
    let protect = [0x89, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    assert_eq!(refused(bench.run(&protect, &[0; 1024])), (0x5, 0x24, 0x00));
    assert!(bench.seen.is_empty());
    let mut fixed = Bench::of(crate::Facts { read_only: true, ..small() });
    assert_eq!(refused(fixed.run(&compare_and_write(0, 1), &[0; 1024])), (0x7, 0x27, 0x00));
}

#[test]
fn compare_and_write_has_its_blocks_for_itself() {
    let mut bench = Bench::new();
    bench.fill(1);
    let mut data = vec![1; 1024];
    data[512..].fill(2);
    let (first, _) = bench.begin(NEXUS, &compare_and_write(8, 1), &data);
    let Verdict::Work(work) = first.verdict else { panic!() };
    let mut machine = Machine::new(work, &data);
    assert_eq!(bench.step(&mut machine), None);
    // The same of another nexus, between the read and the write.
    let (second, tag) = bench.begin(OTHER, &compare_and_write(8, 1), &data);
    assert!(matches!(second.verdict, Verdict::Wait));
    // A write of the block waits too, one of its neighbour does not.
    let (write, _) = bench.begin(OTHER, &[0x2a, 0, 0, 0, 0, 7, 0, 0, 2, 0], &data);
    assert!(matches!(write.verdict, Verdict::Wait));
    let (near, _) = bench.begin(OTHER, &[0x2a, 0, 0, 0, 0, 9, 0, 0, 1, 0], &data[..512]);
    assert!(matches!(near.verdict, Verdict::Medium(_)));
    let (result, data_out) = bench.run_machine(machine);
    assert_eq!(response_of(bench.unit.finish_work(first.task, result, data_out)).status, 0x00);
    let again = bench.resume(OTHER, tag, second.task, &compare_and_write(8, 1), &data);
    let response = bench.finish(again, &data);
    assert_eq!((codes(&response), information(&response)), (MISCOMPARE, 0));
}

#[test]
fn a_compare_and_write_of_a_process_that_died_is_not_compared_with_itself() {
    for steps in 1..=3 {
        let mut bench = Bench::new();
        bench.fill(1);
        let mut data = vec![1; 1024];
        data[512..].fill(2);
        let (first, tag) = bench.begin(NEXUS, &compare_and_write(8, 1), &data);
        let Verdict::Work(work) = first.verdict else { panic!() };
        let mut machine = Machine::new(work, &data);
        for _ in 0..steps {
            let before = bench.medium.clone();
            let end = bench.step(&mut machine);
            // As the server does: the note is stored before the operation is started.
            if let Some(note) = machine.work.note() {
                bench.unit.note_begun(first.task, note);
            }
            if steps == 2 {
                // It died before the write landed.
                bench.medium = before;
            }
            if let Some((result, data_out)) = end {
                let _ = bench.unit.finish_work(first.task, result, data_out);
            }
        }
        let state = bench.unit.state();
        bench.unit = Unit::restore(small(), Profile::default(), &state);
        let cdb = compare_and_write(8, 1);
        let resumed =
            Command { tag, id: u64::from(tag), resumed: true, data_out: 1024, ..command(NEXUS, &cdb) };
        let outcome = bench.again(&resumed, &data);
        let response = bench.finish(outcome, &data);
        assert_eq!(response.status, 0x00, "after {steps} steps");
        assert_eq!(bench.blocks(8, 1), [2; 512]);
    }
}

#[test]
fn nobody_comes_between_the_comparison_and_the_write_of_a_process_that_died() {
    let mut bench = Bench::new();
    bench.fill(1);
    let mut data = vec![1; 1024];
    data[512..].fill(2);
    let (first, tag) = bench.begin(NEXUS, &compare_and_write(8, 1), &data);
    let Verdict::Work(work) = first.verdict else { panic!() };
    let mut machine = Machine::new(work, &data);
    assert_eq!(bench.step(&mut machine), None);
    let before = bench.medium.clone();
    assert_eq!(bench.step(&mut machine), None);
    bench.unit.note_begun(first.task, machine.work.note().unwrap());
    bench.medium = before;
    let state = bench.unit.state();
    let start = |bench: &mut Bench, both: bool| {
        bench.unit = Unit::restore(small(), Profile::default(), &state);
        assert_eq!(bench.unit.attach(peer(1)), Some(OTHER));
        if both {
            assert_eq!(bench.unit.attach(peer(0)), Some(NEXUS));
        }
        assert_eq!(bench.unit.tasks(), 0);
    };
    let write = [0x2a, 0, 0, 0, 0, 8, 0, 0, 1, 0];

    start(&mut bench, true);
    let (waits, waiting) = bench.begin(OTHER, &write, &[3; 512]);
    assert!(matches!(waits.verdict, Verdict::Wait));
    let cdb = compare_and_write(8, 1);
    let resumed = Command { tag, id: u64::from(tag), resumed: true, data_out: 1024, ..command(NEXUS, &cdb) };
    let outcome = bench.again(&resumed, &data);
    assert!(matches!(outcome.verdict, Verdict::Work(_)), "nothing is in front of it");
    assert_eq!(bench.finish(outcome, &data).status, 0x00);
    assert_eq!(bench.blocks(8, 1), [2; 512]);
    let write_now = bench.resume(OTHER, waiting, waits.task, &write, &[3; 512]);
    assert_eq!(bench.finish(write_now, &[3; 512]).status, 0x00);
    assert_eq!(bench.blocks(8, 1), [3; 512]);

    // Its nexus sends something new: it does not come any more.
    start(&mut bench, true);
    let (waits, waiting) = bench.begin(OTHER, &write, &[3; 512]);
    assert!(matches!(waits.verdict, Verdict::Wait));
    assert_eq!(bench.run(&[0; 6], &[]).status, 0x00);
    assert_eq!(bench.unit.woken(), Some(waiting));

    // Its nexus is detached, or the unit reset.
    for reset in [false, true] {
        start(&mut bench, true);
        let (waits, waiting) = bench.begin(OTHER, &write, &[3; 512]);
        assert!(matches!(waits.verdict, Verdict::Wait));
        if reset {
            // Woken, it is not there to be called back: whoever resets waits for its end.
            assert_eq!(bench.unit.reset(crate::Reset::Hard, None), [waiting]);
        } else {
            assert_eq!(bench.unit.detach(NEXUS), []);
        }
        assert_eq!(bench.unit.woken(), Some(waiting));
    }

    // Nobody speaks for its nexus: it may come yet, until all have come.
    start(&mut bench, false);
    let (waits, waiting) = bench.begin(OTHER, &write, &[3; 512]);
    assert!(matches!(waits.verdict, Verdict::Wait));
    assert_eq!(bench.unit.woken(), None);
    bench.unit.all_have_come();
    assert_eq!(bench.unit.woken(), Some(waiting));
}

fn write_atomic(first: u64, count: u16) -> [u8; 16] {
    let mut cdb = [0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    cdb[2..10].copy_from_slice(&first.to_be_bytes());
    cdb[12..14].copy_from_slice(&count.to_be_bytes());
    cdb
}

#[test]
fn write_atomic_within_the_stores_promise() {
    // At most 64 blocks, from multiples of 4, in multiples of 2.
    let mut bench = Bench::new();
    let data = vec![9; 64 * 512];
    let extent = small().extent(Lba(8), Blocks(64)).unwrap();
    assert_eq!(bench.run(&write_atomic(8, 64), &data).status, 0x00);
    assert_eq!(bench.seen, [Operation::WriteAtomic { extent, fua: false }]);
    assert_eq!(bench.blocks(8, 64), data);
    let place = |response: Response| {
        let sense = response.sense_data().unwrap();
        (sense[2], sense[12], sense[17])
    };
    assert_eq!(place(bench.run(&write_atomic(6, 2), &data[..1024])), (0x05, 0x24, 2));
    assert_eq!(place(bench.run(&write_atomic(8, 3), &data[..1536])), (0x05, 0x24, 12));
    assert_eq!(place(bench.run(&write_atomic(8, 66), &data)), (0x05, 0x24, 12));
    // Behind the end comes before the limits.
    assert_eq!(codes(&bench.run(&write_atomic(BLOCKS - 3, 66), &data)), (0x5, 0x21, 0x00));
    assert_eq!(codes(&bench.run(&write_atomic(BLOCKS + 4, 0), &[])), (0x5, 0x21, 0x00));
    assert_eq!(bench.run(&write_atomic(0, 0), &[]).status, 0x00);
    // ATOMIC BOUNDARY.
    let mut boundary = write_atomic(8, 2);
    boundary[11] = 2;
    assert_eq!(codes(&bench.run(&boundary, &data)), (0x5, 0x24, 0x00));
    let mut none = Bench::of(crate::Facts { atomic: None, ..small() });
    assert_eq!(codes(&none.run(&write_atomic(8, 2), &data)), (0x5, 0x20, 0x00));
}

#[test]
fn write_atomic_is_seen_by_nobody_half_done() {
    let mut bench = Bench::new();
    let data = vec![9; 1024];
    let (atomic, _) = bench.begin(NEXUS, &write_atomic(8, 2), &data);
    assert!(matches!(atomic.verdict, Verdict::Medium(_)));
    let (read, tag) = bench.begin(OTHER, &[0x28, 0, 0, 0, 0, 9, 0, 0, 1, 0], &[]);
    assert!(matches!(read.verdict, Verdict::Wait));
    let _ = bench.finish(atomic, &data);
    let again = bench.resume(OTHER, tag, read.task, &[0x28, 0, 0, 0, 0, 9, 0, 0, 1, 0], &[]);
    assert!(matches!(again.verdict, Verdict::Medium(_)));
}

#[test]
fn pre_fetch_promises_no_cache() {
    let mut bench = Bench::new();
    for cdb in [
        &[0x34, 0x00, 0, 0, 0, 0, 0, 0, 1, 0][..],
        &[0x34, 0x02, 0, 0, 0x10, 0, 3, 0, 0, 0],
        &[0x90, 0x02, 0, 0, 0, 0, 0, 0, 0x10, 0x00, 0, 0, 0, 1, 3, 0],
    ] {
        // CONDITION MET (04h) would say that the blocks are in a cache.
        assert_eq!(bench.run(cdb, &[]).status, 0x00);
    }
    assert_eq!(codes(&bench.run(&[0x34, 0, 0, 0, 0x10, 0, 0, 0, 2, 0], &[])), (0x5, 0x21, 0x00));
    assert_eq!(codes(&bench.run(&[0x34, 0, 0, 0, 0x10, 1, 0, 0, 0, 0], &[])), (0x5, 0x21, 0x00));
    assert!(bench.seen.is_empty());
}
