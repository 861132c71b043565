use super::*;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use conformance::{Subject, check, check_read_only, facts};
use guest_memory::Memory;
use request::{Blocks, Lba, Provisioning, Span};

#[test]
fn conforms() {
    for block_size in [512, 4096] {
        let medium = Medium::new(facts(block_size, 16 << 20), 1);
        let grow = |bytes: u64| medium.grow(Blocks(bytes / u64::from(block_size)));
        check(Subject {
            disk: &mut DiskMemory::new(medium.clone()),
            pump: &mut Instant::default,
            keeps_data: true,
            allocated: None,
            tells_holes: true,
            grow: Some(&grow),
        });
    }
    let facts = Facts { read_only: true, discard: None, ..facts(512, 1 << 20) };
    check_read_only(&mut DiskMemory::new(Medium::new(facts, 1)), &mut Instant::default);
}

struct Bench {
    medium: Medium,
    disk: DiskMemory,
    memory: Arc<Memory>,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let medium = Medium::new(facts(512, 64 << 10), seed);
        Self { disk: DiskMemory::new(medium.clone()), medium, memory: Memory::anonymous(4096) }
    }

    fn start(&mut self, tag: u32, operation: Operation, fill: u8) {
        let blocks = match operation {
            Operation::Write { extent, .. } | Operation::WriteAtomic { extent, .. } => {
                extent.count().0 as u32
            }
            _ => 1,
        };
        let span = Span { offset: 0, len: blocks * 512, region: 0 };
        self.memory.write(span, &vec![fill; span.len as usize]).unwrap();
        let spans = if operation == Operation::Flush { &[][..] } else { &[span] };
        self.disk.submit(Instant::default(), tag, operation, Data { memory: &self.memory, spans });
    }

    fn write(&mut self, block: u64, fill: u8, fua: bool) {
        let extent = self.disk.facts().extent(Lba(block), Blocks(1)).unwrap();
        self.start(1, Operation::Write { extent, fua }, fill);
    }

    fn poll(&mut self) -> usize {
        let mut count = 0;
        self.disk.poll(Instant::default(), &mut |_, status| {
            assert_eq!(status, Status::Good);
            count += 1;
        });
        count
    }

    fn block(&self, block: usize) -> u8 {
        self.medium.contents()[block * 512]
    }
}

#[test]
fn a_power_cut_takes_some_of_what_was_not_flushed_and_nothing_else() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..64 {
        let mut bench = Bench::new(seed);
        for (block, fill, fua) in [(0, 1, false), (1, 1, true)] {
            bench.write(block, fill, fua);
            assert_eq!(bench.poll(), 1);
        }
        bench.start(2, Operation::Flush, 0);
        assert_eq!(bench.poll(), 1);
        assert_eq!(bench.medium.unsynced(), 0);
        bench.write(0, 2, false);
        bench.poll();
        bench.write(0, 3, false);
        bench.poll();
        bench.write(2, 9, true);
        bench.poll();
        bench.medium.cut_power();
        assert_eq!((bench.block(1), bench.block(2)), (1, 9));
        match bench.block(0) {
            3 => kept += 1,
            1 => lost += 1,
            other => panic!("block 0 holds {other}, which was never stable nor last"),
        }
    }
    assert!(kept > 0 && lost > 0);
}

#[test]
fn a_dead_worker_leaves_requests_that_may_or_may_not_be_done() {
    let mut seen = [0; 2];
    for seed in 0..64 {
        let mut bench = Bench::new(seed);
        bench.write(5, 7, false);
        assert_eq!(bench.medium.in_flight(), 1);
        bench.disk = DiskMemory::new(bench.medium.clone());
        bench.medium.settle();
        assert_eq!(bench.medium.in_flight(), 0);
        assert_eq!(bench.poll(), 0, "the successor hears nothing of it");
        seen[usize::from(bench.block(5) == 7)] += 1;
    }
    assert!(seen.iter().all(|&count| count > 0));
}

#[test]
fn a_power_cut_leaves_an_atomic_write_whole() {
    let mut seen = [0; 2];
    for seed in 0..64 {
        let mut bench = Bench::new(seed);
        let extent = |first, count| bench.medium.facts().extent(Lba(first), Blocks(count)).unwrap();
        let [first, second, third] = [extent(0, 8), extent(4, 8), extent(10, 2)];
        for (fill, extent) in [(1, first), (2, second)] {
            bench.start(1, Operation::WriteAtomic { extent, fua: false }, fill);
            bench.poll();
        }
        bench.write(5, 3, false);
        bench.poll();
        // In flight, and so done or not.
        bench.start(1, Operation::WriteAtomic { extent: third, fua: true }, 4);
        bench.medium.cut_power();
        let blocks: Vec<u8> = (0..12).map(|block| bench.block(block)).collect();
        // All of the second over all of the first, or neither: they share a state to turn back to.
        let kept = [1, 1, 1, 1, 2, 3, 2, 2, 2, 2, 2, 2];
        let expected = if blocks[0] == 1 { kept } else { [0; 12] };
        assert_eq!(blocks[..10], expected[..10], "seed {seed}");
        match &blocks[10..] {
            [4, 4] => {}
            rest => assert_eq!(rest, &expected[10..], "seed {seed}"),
        }
        seen[usize::from(blocks[0] == 1)] += 1;
    }
    assert!(seen.iter().all(|&count| count > 0));
}

#[test]
fn a_write_in_flight_is_torn_at_its_blocks() {
    let mut torn = 0;
    for seed in 0..64 {
        let mut bench = Bench::new(seed);
        let extent = bench.medium.facts().extent(Lba(8), Blocks(4)).unwrap();
        bench.start(1, Operation::Write { extent, fua: true }, 7);
        bench.medium.cut_power();
        let done = (8..12).filter(|block| bench.block(*block) == 7).count();
        torn += u32::from((1..4).contains(&done));
    }
    assert!((8..40).contains(&torn), "{torn} of 64 were torn");
}

#[test]
fn what_a_power_cut_turns_back_has_the_place_that_it_had() {
    let mut seen = [0; 2];
    for seed in 0..64 {
        let mut bench = Bench::new(seed);
        bench.write(3, 7, true);
        bench.poll();
        let extent = bench.medium.facts().extent(Lba(3), Blocks(1)).unwrap();
        assert_eq!(bench.disk.allocation(Lba(3)).state, Provisioning::Mapped);
        let data = Data { memory: &bench.memory, spans: &[] };
        bench.disk.submit(Instant::default(), 1, Operation::Discard(extent), data);
        bench.poll();
        assert_eq!(bench.disk.allocation(Lba(3)).state, Provisioning::Deallocated);
        bench.medium.cut_power();
        let run = bench.disk.allocation(Lba(3));
        let expected = match bench.block(3) {
            7 => Run { blocks: Blocks(1), state: Provisioning::Mapped },
            _ => Run { blocks: Blocks(125), state: Provisioning::Deallocated },
        };
        assert_eq!(run, expected);
        seen[usize::from(run.state == Provisioning::Mapped)] += 1;
    }
    assert!(seen.iter().all(|&count| count > 0));
}
