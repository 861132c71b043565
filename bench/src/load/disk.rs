//! Reads and writes on one virtual disk: each queue has a thread that keeps `depth` requests in
//! flight, measured one by one, and in verify mode checked byte by byte.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::latency::Latencies;
use super::pattern;
use super::random::Random;
use crate::driver::disk::{Completion, Disk, Facts, Operation, Outcome, Request, Requests, SECTOR_BYTES};
use crate::driver::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    RandomRead,
    RandomWrite,
    /// This many reads in a hundred, the rest writes.
    RandomMixed {
        reads_percent: u8,
    },
    SequentialRead,
    SequentialWrite,
    /// Writes, reads, flushes, discards and zeroing, checked against a model of every block.
    Verify,
}

#[derive(Debug, Clone)]
pub struct DiskLoad {
    pub pattern: Pattern,
    pub block_bytes: u32,
    pub depth: u16,
    pub seconds: f64,
    /// Spin on the ring with interrupts off, or sleep until one comes.
    pub poll: bool,
    /// Bytes of the disk that are used, from its start; 0: all.
    pub span_bytes: u64,
    pub seed: u64,
    /// Without a completion for so long the run has failed.
    pub stall: Duration,
}

#[derive(Default)]
pub struct DiskFigures {
    pub ios: u64,
    pub seconds: f64,
    pub latencies: Latencies,
    /// The longest time between two completions: what a restart of the server costs.
    pub pause_max: Duration,
    pub errors: u64,
    pub wrong_lengths: u64,
    pub first_error: Option<String>,
    pub kicks: u64,
    pub sleeps: u64,
    /// Verify mode: what was checked and what was wrong.
    pub blocks_checked: u64,
    pub wrong_bytes: u64,
}

impl DiskFigures {
    fn merge(&mut self, other: DiskFigures) {
        self.ios += other.ios;
        self.seconds = self.seconds.max(other.seconds);
        self.latencies.merge(&other.latencies);
        self.pause_max = self.pause_max.max(other.pause_max);
        self.errors += other.errors;
        self.wrong_lengths += other.wrong_lengths;
        self.first_error = self.first_error.take().or(other.first_error);
        self.kicks += other.kicks;
        self.sleeps += other.sleeps;
        self.blocks_checked += other.blocks_checked;
        self.wrong_bytes += other.wrong_bytes;
    }
}

/// What a block holds, as far as the run knows. Generations count from 2.
const UNKNOWN: u32 = 0;
const ZERO: u32 = 1;

/// Runs the load on every queue of the disk at once. `progress` counts completions while it runs.
pub fn run(disk: &mut Disk, load: &DiskLoad, progress: &AtomicU64) -> Result<DiskFigures> {
    run_on(disk.facts, &mut disk.queues, load, progress)
}

/// The same on queues of whatever device.
pub fn run_on<Q: Requests + Send>(
    facts: Facts,
    queues: &mut [Q],
    load: &DiskLoad,
    progress: &AtomicU64,
) -> Result<DiskFigures> {
    let span = if load.span_bytes == 0 { facts.bytes } else { load.span_bytes.min(facts.bytes) };
    let blocks = span / load.block_bytes as u64;
    let each = blocks / queues.len() as u64;
    if each < load.depth as u64 {
        return Err(Error::Unsupported(format!("the disk has {blocks} blocks, too few for this load")));
    }
    if !load.block_bytes.is_multiple_of(facts.block_bytes) {
        let sector = facts.block_bytes;
        return Err(Error::Unsupported(format!(
            "{} is no multiple of the disk's {sector}",
            load.block_bytes
        )));
    }
    let stop = AtomicBool::new(false);
    let mut total = DiskFigures::default();
    std::thread::scope(|scope| -> Result<()> {
        let mut threads = Vec::new();
        for (at, queue) in queues.iter_mut().enumerate() {
            let stop = &stop;
            // In verify mode no two queues may write the same block, so each has its own part.
            let (first, count) =
                if load.pattern == Pattern::Verify { (at as u64 * each, each) } else { (0, blocks) };
            let seed = load.seed.wrapping_add(at as u64);
            threads.push(scope.spawn(move || {
                let mut worker = Worker::new(queue, load, facts, first, count, seed);
                let result = worker.work(stop, progress);
                // One queue's failure ends the others, which would wait out their time otherwise.
                if result.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                result.map(|()| worker.figures)
            }));
        }
        for thread in threads {
            total.merge(thread.join().expect("a load thread does not panic")?);
        }
        Ok(())
    })?;
    Ok(total)
}

struct Worker<'a, Q> {
    queue: &'a mut Q,
    load: &'a DiskLoad,
    facts: Facts,
    first_block: u64,
    blocks: u64,
    next: u64,
    random: Random,
    started: Vec<Instant>,
    requests: Vec<Request>,
    /// Verify mode: each block's generation, and whether a request on it is in flight.
    generations: Vec<u32>,
    busy: Vec<bool>,
    /// The generation that a slot's request writes, or expects to read.
    slot_generation: Vec<u32>,
    last_generation: u32,
    figures: DiskFigures,
}

impl<'a, Q: Requests> Worker<'a, Q> {
    fn new(
        queue: &'a mut Q,
        load: &'a DiskLoad,
        facts: Facts,
        first_block: u64,
        blocks: u64,
        seed: u64,
    ) -> Worker<'a, Q> {
        let depth = load.depth as usize;
        let tracked = if load.pattern == Pattern::Verify { blocks as usize } else { 0 };
        Worker {
            queue,
            load,
            facts,
            first_block,
            blocks,
            next: 0,
            random: Random::new(seed),
            started: vec![Instant::now(); depth],
            requests: vec![Request { operation: Operation::Flush, sector: 0, bytes: 0 }; depth],
            generations: vec![UNKNOWN; tracked],
            busy: vec![false; tracked],
            slot_generation: vec![UNKNOWN; depth],
            last_generation: ZERO,
            figures: DiskFigures::default(),
        }
    }

    fn work(&mut self, stop: &AtomicBool, progress: &AtomicU64) -> Result<()> {
        let (kicks, sleeps) = self.queue.counts();
        self.queue.set_interrupts(!self.load.poll)?;
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(self.load.seconds);
        self.drive(stop, progress, |worker, now| (now < end).then(|| worker.choose()))?;
        self.figures.seconds = start.elapsed().as_secs_f64();
        if self.load.pattern == Pattern::Verify {
            let mut next = 0..self.blocks;
            self.drive(stop, progress, |worker, _| {
                let known = next.find(|block| worker.generations[*block as usize] != UNKNOWN)?;
                Some((Operation::Read, known))
            })?;
        }
        let counts = self.queue.counts();
        (self.figures.kicks, self.figures.sleeps) = (counts.0 - kicks, counts.1 - sleeps);
        Ok(())
    }

    /// Keeps the queue full with what `next` gives, until it gives nothing and all has ended.
    fn drive(
        &mut self,
        stop: &AtomicBool,
        progress: &AtomicU64,
        mut next: impl FnMut(&mut Self, Instant) -> Option<(Operation, u64)>,
    ) -> Result<()> {
        /// Looks at the ring between two looks at the clock, while nothing comes.
        const SPINS: u32 = 256;
        let mut in_flight = 0;
        let mut last = Instant::now();
        for slot in 0..self.load.depth {
            let Some((operation, block)) = next(self, last) else { break };
            self.submit(slot, operation, block, last)?;
            in_flight += 1;
        }
        self.queue.publish()?;
        let mut spins = 0;
        while in_flight > 0 {
            let Some(mut completion) = self.queue.complete()? else {
                if self.load.poll {
                    spins += 1;
                    std::hint::spin_loop();
                    if spins < SPINS {
                        continue;
                    }
                    spins = 0;
                } else {
                    self.queue.wait(Duration::from_millis(100))?;
                }
                if last.elapsed() > self.load.stall {
                    return Err(Error::Stalled(format!(
                        "{in_flight} requests, {:?} without one ending",
                        self.load.stall
                    )));
                }
                continue;
            };
            let now = Instant::now();
            self.figures.pause_max = self.figures.pause_max.max(now.duration_since(last));
            last = now;
            let stopped = stop.load(Ordering::Relaxed);
            let mut ended = 0;
            loop {
                self.finish(completion, now);
                ended += 1;
                match if stopped { None } else { next(self, now) } {
                    Some((operation, block)) => self.submit(completion.slot, operation, block, now)?,
                    None => in_flight -= 1,
                }
                match self.queue.complete()? {
                    Some(another) => completion = another,
                    None => break,
                }
            }
            self.queue.publish()?;
            progress.fetch_add(ended, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The next request of the measured part: what to do, and on which block of our part.
    fn choose(&mut self) -> (Operation, u64) {
        match self.load.pattern {
            Pattern::RandomRead => (Operation::Read, self.random.below(self.blocks)),
            Pattern::RandomWrite => (Operation::Write, self.random.below(self.blocks)),
            Pattern::RandomMixed { reads_percent } => {
                let reads = self.random.below(100) < reads_percent as u64;
                (if reads { Operation::Read } else { Operation::Write }, self.random.below(self.blocks))
            }
            Pattern::SequentialRead => (Operation::Read, self.step()),
            Pattern::SequentialWrite => (Operation::Write, self.step()),
            Pattern::Verify => {
                let operation = match self.random.below(100) {
                    0..48 => Operation::Write,
                    48..90 => Operation::Read,
                    90..94 if self.facts.discard => Operation::Discard,
                    94..98 if self.facts.write_zeroes => Operation::WriteZeroes,
                    98.. if self.facts.flush => Operation::Flush,
                    _ => Operation::Write,
                };
                loop {
                    // There are at least as many blocks as slots, and this slot holds none.
                    let block = self.random.below(self.blocks);
                    if !self.busy[block as usize] {
                        return (operation, block);
                    }
                }
            }
        }
    }

    fn step(&mut self) -> u64 {
        let block = self.next;
        self.next = (self.next + 1) % self.blocks;
        block
    }

    fn submit(&mut self, slot: u16, operation: Operation, block: u64, now: Instant) -> Result<()> {
        let bytes = self.load.block_bytes;
        let start = (self.first_block + block) * bytes as u64;
        let request = match operation {
            Operation::Flush => Request { operation, sector: 0, bytes: 0 },
            _ => Request { operation, sector: start / SECTOR_BYTES, bytes },
        };
        if self.load.pattern == Pattern::Verify && operation != Operation::Flush {
            self.busy[block as usize] = true;
            let data = self.queue.data(slot);
            self.slot_generation[slot as usize] = match operation {
                Operation::Write => {
                    self.last_generation += 1;
                    pattern::fill(data, bytes as usize, self.load.seed, start, self.last_generation);
                    self.last_generation
                }
                Operation::WriteZeroes => ZERO,
                Operation::Read => {
                    pattern::poison(data, bytes as usize);
                    self.generations[block as usize]
                }
                Operation::Discard | Operation::Flush => UNKNOWN,
            };
        }
        self.requests[slot as usize] = request;
        self.started[slot as usize] = now;
        if !self.queue.submit(slot, request) {
            return Err(Error::Unsupported("the ring has no room: it is too small for this depth".into()));
        }
        Ok(())
    }

    fn finish(&mut self, completion: Completion, now: Instant) {
        let slot = completion.slot as usize;
        self.figures.ios += 1;
        self.figures.latencies.record(now.duration_since(self.started[slot]));
        self.figures.wrong_lengths += completion.wrong_length as u64;
        let good = completion.outcome == Outcome::Good;
        if !good {
            self.figures.errors += 1;
            if self.figures.first_error.is_none() {
                self.figures.first_error =
                    Some(format!("{:?}: {:?}", self.requests[slot], completion.outcome));
            }
        }
        if self.load.pattern == Pattern::Verify && self.requests[slot].operation != Operation::Flush {
            self.check(completion.slot, good);
        }
    }

    fn check(&mut self, slot: u16, good: bool) {
        let request = self.requests[slot as usize];
        let start = request.sector * SECTOR_BYTES;
        let block = (start / self.load.block_bytes as u64 - self.first_block) as usize;
        self.busy[block] = false;
        let generation = self.slot_generation[slot as usize];
        if request.operation != Operation::Read {
            // What a failed write left behind is anybody's guess.
            self.generations[block] = if good { generation } else { UNKNOWN };
            return;
        }
        if !good || generation == UNKNOWN {
            return;
        }
        let bytes = request.bytes as usize;
        let data = self.queue.data(slot);
        let wrong = match generation {
            ZERO => pattern::non_zero(data, bytes),
            _ => pattern::differing(data, bytes, self.load.seed, start, generation),
        };
        self.figures.blocks_checked += 1;
        self.figures.wrong_bytes += wrong;
        if wrong > 0 && self.figures.first_error.is_none() {
            self.figures.first_error =
                Some(format!("{request:?}: {wrong} bytes are not of generation {generation}"));
        }
    }
}
