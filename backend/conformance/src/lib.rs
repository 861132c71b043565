//! One suite for every disk: what [`Disk`] promises, tried from outside against a copy in memory.
//!
//! A disk's own tests call [`check`] in one line for each way in which it can be opened.

#![forbid(unsafe_code)]

mod driver;

use disk::Disk;
use driver::{Driver, Random};
use request::{Atomic, Blocks, Discard, Facts, Identity, Instant, Lba, Operation, Provisioning, Status};

/// The disk under test, and what its tests know about it.
pub struct Subject<'a> {
    /// Writable, at least 8 MiB, all zeroes.
    pub disk: &'a mut dyn Disk,
    /// Called when the disk has nothing ready: lets the kernel work or time pass, and says the time.
    pub pump: &'a mut dyn FnMut() -> Instant,
    /// False for a disk whose writes vanish.
    pub keeps_data: bool,
    /// Bytes that it takes from its store, where that can be told.
    pub allocated: Option<&'a dyn Fn() -> u64>,
    /// It knows which of its blocks have a place in the store.
    pub tells_holes: bool,
    /// Makes the backing as long as this, where that can be done.
    pub grow: Option<&'a dyn Fn(u64)>,
}

/// The whole suite.
///
/// # Panics
/// If the disk breaks its contract.
pub fn check(subject: Subject<'_>) {
    let Subject { disk, pump, keeps_data, allocated, tells_holes, grow } = subject;
    let facts = disk.facts().clone();
    assert!(facts.capacity_bytes() >= 8 << 20, "the suite needs 8 MiB");
    assert!(!facts.read_only, "see `check_read_only`");
    assert!(matches!(facts.block_size, 512 | 2048 | 4096));
    if let Some(discard) = facts.discard {
        assert!(discard.granularity.0 > 0);
    }
    let mut driver = Driver::new(disk, pump, keeps_data);
    nothing_takes_no_bytes(&mut driver, &facts);
    both_ends_can_be_reached(&mut driver, &facts);
    every_shape_is_read_back(&mut driver, &facts);
    many_in_flight_each_end_once(&mut driver, &facts);
    zeroes_and_repeats(&mut driver, &facts);
    discards(&mut driver, &facts, allocated);
    atomic_writes(&mut driver, &facts);
    places(&mut driver, &facts, tells_holes);
    anything_in_any_order(&mut driver, &facts);
    driver.compare_all();
    driver.compare_places();
    if let Some(grow) = grow {
        growth_is_seen(&mut driver, &facts, grow);
    }
    assert_eq!(driver.cause(), None, "nothing went wrong, so there is nothing to tell");
}

/// What a disk that is open for reading only does.
///
/// # Panics
/// If the disk breaks its contract.
pub fn check_read_only(disk: &mut dyn Disk, pump: &mut dyn FnMut() -> Instant) {
    let facts = disk.facts().clone();
    assert!(facts.read_only);
    assert_eq!(facts.discard, None);
    let first = facts.extent(Lba(0), Blocks(1)).expect("one block");
    let mut driver = Driver::new(disk, pump, false);
    let bytes = vec![1; facts.block_size as usize];
    for operation in [
        Operation::Write { extent: first, fua: false },
        Operation::WriteZeroes { extent: first, unmap: true, fua: false },
        Operation::WriteSame { extent: first, fua: false },
    ] {
        let data = if matches!(operation, Operation::WriteZeroes { .. }) { &[][..] } else { &bytes };
        assert_eq!(driver.run(operation, data, &[]), Status::WriteProtected, "{operation:?}");
    }
    let status = driver.run(Operation::Discard(first), &[], &[]);
    assert!(matches!(status, Status::WriteProtected | Status::Unsupported));
    assert_eq!(driver.run(Operation::Flush, &[], &[]), Status::Good);
    let (status, _) = driver.read(first, &[facts.block_size]);
    assert_eq!(status, Status::Good);
}

/// Facts for a disk that has none of its own.
pub fn facts(block_size: u32, bytes: u64) -> Facts {
    Facts {
        block_size,
        blocks: Blocks(bytes / u64::from(block_size)),
        physical_exponent: 0,
        optimal: Blocks(0),
        read_only: false,
        rotational: false,
        write_cache: true,
        discard: Some(Discard { granularity: Blocks(1), zeroes: true }),
        atomic: Some(Atomic { max: Blocks(16), alignment: Blocks(2), granularity: Blocks(2) }),
        identity: identity(),
    }
}

/// A name for a volume under test.
pub fn identity() -> Identity {
    Identity { naa: [0x30; 16], serial: "conformance".to_string(), name: "conformance".to_string() }
}

fn nothing_takes_no_bytes(driver: &mut Driver<'_>, facts: &Facts) {
    for first in [Lba(0), Lba(facts.blocks.0)] {
        let extent = facts.extent(first, Blocks(0)).expect("nothing lies within");
        assert_eq!(driver.read(extent, &[]).0, Status::Good);
        assert_eq!(driver.run(Operation::Write { extent, fua: true }, &[], &[]), Status::Good);
        let zeroes = Operation::WriteZeroes { extent, unmap: true, fua: true };
        assert_eq!(driver.run(zeroes, &[], &[]), Status::Good);
        if facts.discard.is_some() {
            assert_eq!(driver.run(Operation::Discard(extent), &[], &[]), Status::Good);
        }
    }
    assert_eq!(driver.run(Operation::Flush, &[], &[]), Status::Good);
}

fn both_ends_can_be_reached(driver: &mut Driver<'_>, facts: &Facts) {
    for first in [Lba(0), Lba(facts.blocks.0 - 1)] {
        driver.write(first, Blocks(1), &[], false);
        driver.compare(first, Blocks(1), &[]);
    }
}

/// Sizes from one block to more than a bounce buffer, in one piece and in many, at addresses that a
/// page, a sector, a word or nothing divides.
fn every_shape_is_read_back(driver: &mut Driver<'_>, facts: &Facts) {
    let block = facts.block_size;
    let shapes: [&[u32]; 7] =
        [&[], &[block], &[512], &[1], &[block - 1, 1, 2], &[4096, 0, 512, 16_384], &[3, 0, 4093, block]];
    for (round, count) in [1, 2, 3, 7, 8, 9, 64, 255, 600].into_iter().enumerate() {
        for (turn, shape) in shapes.iter().enumerate() {
            for skew in [0, 4, 512, 1] {
                // The cut into single bytes makes a piece of each: a few blocks of it will do.
                if shape.iter().all(|&len| len < 8) && !shape.is_empty() && count > 8 {
                    continue;
                }
                let first = Lba((round as u64 * 37 + turn as u64 * 5 + skew) % (facts.blocks.0 - count));
                driver.skew(skew);
                driver.write(first, Blocks(count), shape, turn % 2 == 1);
                driver.compare(first, Blocks(count), shapes[(turn + 3) % shapes.len()]);
            }
        }
    }
    driver.skew(0);
    assert_eq!(driver.run(Operation::Flush, &[], &[]), Status::Good);
}

fn many_in_flight_each_end_once(driver: &mut Driver<'_>, facts: &Facts) {
    const IN_FLIGHT: u64 = 400;
    let stride = facts.blocks.0 / IN_FLIGHT;
    let count = Blocks(stride.min(3));
    for index in 0..IN_FLIGHT {
        // Every fifth by odd addresses, so that the slow way is crowded too.
        driver.skew(if index % 5 == 0 { 1 } else { 0 });
        driver.start_write(Lba(index * stride), count);
    }
    driver.finish();
    driver.skew(0);
    for index in 0..IN_FLIGHT {
        driver.compare(Lba(index * stride), count, &[]);
    }
}

fn zeroes_and_repeats(driver: &mut Driver<'_>, facts: &Facts) {
    // From one block to more than one write of repeated blocks carries (2.4 or 19 MiB at most).
    for count in [1, 5, 8, 600, facts.blocks.0.min(4800)] {
        let at = Lba((facts.blocks.0 - count).min(11));
        for (unmap, fua) in [(false, false), (true, false), (false, true), (true, true)] {
            driver.write(Lba(0), Blocks((count + 12).min(facts.blocks.0).min(700)), &[], false);
            driver.write_zeroes(at, Blocks(count), unmap, fua);
            driver.compare(Lba(0), Blocks((count + 12).min(facts.blocks.0).min(700)), &[]);
        }
        for (fua, zero) in [(false, false), (true, false), (false, true)] {
            driver.write_same(at, Blocks(count), fua, zero);
            let tail = Blocks(count.min(300));
            driver.compare(Lba(at.0 + count - tail.0), tail, &[]);
        }
    }
}

fn discards(driver: &mut Driver<'_>, facts: &Facts, allocated: Option<&dyn Fn() -> u64>) {
    let Some(discard) = facts.discard else {
        let extent = facts.extent(Lba(0), Blocks(1)).expect("one block");
        assert_eq!(driver.run(Operation::Discard(extent), &[], &[]), Status::Unsupported);
        return;
    };
    let mebibyte = Blocks((1 << 20) / u64::from(facts.block_size));
    for quarter in 0..4 {
        driver.write(Lba(quarter * mebibyte.0), mebibyte, &[], false);
    }
    assert_eq!(driver.run(Operation::Flush, &[], &[]), Status::Good);
    let before = allocated.map(|allocated| allocated());
    driver.discard(Lba(mebibyte.0), Blocks(2 * mebibyte.0), discard.zeroes);
    if let (Some(allocated), Some(before)) = (allocated, before) {
        let given_back = before.saturating_sub(allocated());
        assert!(given_back >= (2 << 20) - (128 << 10), "of 2 MiB {given_back} bytes were given back");
    }
    // Not along the granularity: what lies beside must stay.
    driver.discard(Lba(3), Blocks(1), discard.zeroes);
    for quarter in 0..4 {
        driver.compare(Lba(quarter * mebibyte.0), mebibyte, &[]);
    }
}

/// Of every length that is promised, in one piece and in many, wherever memory lies.
fn atomic_writes(driver: &mut Driver<'_>, facts: &Facts) {
    let Some(atomic) = facts.atomic else { return };
    assert!(atomic.max.0 > 0 && atomic.granularity.0 > 0 && atomic.alignment.0 > 0);
    let mut count = atomic.granularity;
    while count <= atomic.max {
        for (turn, shape) in [&[][..], &[512], &[1000, 24]].into_iter().enumerate() {
            for skew in [0, 512, 1] {
                driver.skew(skew);
                let first = Lba(atomic.alignment.0 * (3 + turn as u64));
                driver.write_atomic(first, count, shape, turn == 1);
                driver.compare(Lba(0), Blocks(first.0 + count.0 + 1), &[]);
            }
        }
        count.0 += atomic.granularity.0;
    }
    driver.skew(0);
}

fn places(driver: &mut Driver<'_>, facts: &Facts, tells_holes: bool) {
    let mebibyte = Blocks((1 << 20) / u64::from(facts.block_size));
    let middle = Lba(mebibyte.0 + mebibyte.0 / 2);
    for quarter in 0..4 {
        driver.write(Lba(quarter * mebibyte.0), mebibyte, &[], false);
    }
    assert_eq!(driver.allocation(middle).state, Provisioning::Mapped);
    driver.compare_places();
    driver.write_zeroes(Lba(mebibyte.0), mebibyte, false, false);
    assert_ne!(driver.allocation(middle).state, Provisioning::Deallocated, "the space was not let go");
    driver.compare_places();
    if let Some(discard) = facts.discard {
        driver.discard(Lba(mebibyte.0), mebibyte, discard.zeroes);
        let run = driver.allocation(middle);
        if tells_holes {
            assert_eq!(run.state, Provisioning::Deallocated);
            assert!(run.blocks.0 >= mebibyte.0 / 4, "{run:?}");
        }
        // A part of the hole has a place again, and the block beside it has what it had.
        driver.write(middle, Blocks(1), &[], false);
        assert_eq!(driver.allocation(middle).state, Provisioning::Mapped);
    }
    driver.compare_places();
}

fn anything_in_any_order(driver: &mut Driver<'_>, facts: &Facts) {
    let mut random = Random::new(0x5eed);
    for _ in 0..600 {
        let count = Blocks(1 + random.below(40));
        let first = Lba(random.below(facts.blocks.0.min(2000) - count.0));
        let fua = random.below(4) == 0;
        driver.skew([0, 0, 512, 1][random.below(4) as usize]);
        match random.below(9) {
            0 | 1 => driver.write(first, count, &[], fua),
            2 => driver.write(first, count, &[random.below(5000) as u32 + 1], fua),
            3 => driver.write_zeroes(first, count, random.below(2) == 0, fua),
            4 => driver.write_same(first, count, fua, false),
            5 => match facts.discard {
                Some(discard) => driver.discard(first, count, discard.zeroes),
                None => continue,
            },
            6 => assert_eq!(driver.run(Operation::Flush, &[], &[]), Status::Good),
            7 => drop(driver.allocation(first)),
            _ => driver.compare(first, count, &[random.below(9000) as u32 + 1]),
        }
    }
    driver.skew(0);
}

fn growth_is_seen(driver: &mut Driver<'_>, facts: &Facts, grow: &dyn Fn(u64)) {
    let bytes = facts.capacity_bytes() + (1 << 20);
    assert!(!driver.resize(), "nothing has changed yet");
    grow(bytes);
    assert_eq!(driver.facts().capacity_bytes(), facts.capacity_bytes(), "only `resize` changes facts");
    assert!(driver.resize());
    assert!(!driver.resize());
    let grown = driver.facts();
    assert_eq!(grown.capacity_bytes(), bytes);
    let last = Lba(grown.blocks.0 - 1);
    driver.compare(Lba(facts.blocks.0), Blocks(8), &[]);
    driver.write(last, Blocks(1), &[], true);
    driver.compare(last, Blocks(1), &[]);
}
