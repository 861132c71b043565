//! Reads and writes on one LUN of an iSCSI target over one session, by one thread: the load of
//! `disk`, with the initiator in place of a virtio driver.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::disk::{DiskFigures, DiskLoad, Pattern};
use super::pattern;
use super::random::Random;
use crate::driver::error::{Error, Result};
use crate::driver::iscsi::stream::{Completion, Stream, Transfer};
use crate::driver::iscsi::{Data, Initiator, lun_field};

/// A logical unit, and what it can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lun {
    pub number: u16,
    pub block_bytes: u32,
    pub blocks: u64,
    /// COMPARE AND WRITE takes so many blocks.
    pub compare_blocks: u8,
    pub unmaps: bool,
    /// WRITE SAME with the NDOB or UNMAP bit is worth trying: LBPWS is set.
    pub write_same: bool,
}

impl Lun {
    /// Waits out unit attentions, and asks what the unit is.
    pub fn find(session: &mut Initiator, number: u16) -> Result<Lun> {
        const ATTENTIONS_MAX: usize = 32;
        for _ in 0..ATTENTIONS_MAX {
            if session.command(number, &[0; 6], Data::None)?.is_good() {
                break;
            }
        }
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32); // READ CAPACITY(16)
        let answer = session.command(number, &cdb, Data::In(32))?;
        let (true, Some(capacity)) = (answer.is_good(), answer.data.get(..16)) else {
            return Err(Error::Session(format!("READ CAPACITY(16): {:?}", answer.decoded_sense())));
        };
        let (last, block) = capacity[..12].split_at(8);
        let last = u64::from_be_bytes(last.try_into().expect("eight bytes"));
        let block_bytes = u32::from_be_bytes(block.try_into().expect("four bytes"));
        if !(512..=65536).contains(&block_bytes) {
            return Err(Error::Unsupported(format!("blocks of {block_bytes} bytes")));
        }
        let mut page = |code: u8| -> Result<Vec<u8>> {
            let answer = session.command(number, &[0x12, 1, code, 0, 64, 0], Data::In(64))?;
            Ok(if answer.is_good() { answer.data } else { Vec::new() })
        };
        let (limits, provisioning) = (page(0xb0)?, page(0xb2)?);
        let provisioning = provisioning.get(5).copied().unwrap_or(0);
        // Of no blocks: whether the unit knows COMPARE AND WRITE. Not all do that name a limit for it.
        let mut compare = [0; 16];
        compare[0] = 0x89;
        let compares = session.command(number, &compare, Data::None)?.is_good();
        Ok(Lun {
            number,
            block_bytes,
            blocks: last.saturating_add(1),
            compare_blocks: limits.get(5).copied().filter(|_| compares).unwrap_or(0),
            unmaps: provisioning & 0x80 != 0,
            write_same: provisioning & 0x40 != 0,
        })
    }

    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_bytes.into())
    }
}

#[derive(Default)]
pub struct IscsiFigures {
    pub disk: DiskFigures,
    /// Why the session ended before the load did.
    pub lost: Option<Error>,
    pub receives_per_io: f64,
}

impl IscsiFigures {
    pub fn is_faultless(&self) -> bool {
        let disk = &self.disk;
        self.lost.is_none() && disk.errors + disk.wrong_lengths + disk.wrong_bytes == 0
    }
}

/// What a block holds, as far as the run knows. Generations count from 2.
const UNKNOWN: u32 = 0;
const ZERO: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Read,
    Write,
    Compare,
    Zero,
    Unmap,
    Synchronize,
}

/// Runs the load over a session that is logged in. A session that is lost ends it early and is in
/// the figures; `stop` ends it early as well.
pub fn run(
    session: Initiator,
    lun: &Lun,
    load: &DiskLoad,
    progress: &AtomicU64,
    stop: &AtomicBool,
) -> Result<IscsiFigures> {
    let span = if load.span_bytes == 0 { lun.bytes() } else { load.span_bytes.min(lun.bytes()) };
    let blocks = span / u64::from(load.block_bytes);
    if blocks < load.depth.into() {
        return Err(Error::Unsupported(format!("the LUN has {blocks} blocks, too few for this load")));
    }
    if !load.block_bytes.is_multiple_of(lun.block_bytes) {
        let (ours, theirs) = (load.block_bytes, lun.block_bytes);
        return Err(Error::Unsupported(format!("{ours} is no multiple of the LUN's {theirs}")));
    }
    let is_verified = load.pattern == Pattern::Verify;
    // COMPARE AND WRITE sends both blocks; UNMAP's list fits anywhere.
    let bytes_max = if is_verified { 2 * load.block_bytes } else { load.block_bytes };
    let stream = Stream::new(session, load.depth, bytes_max, is_verified)?;
    let mut worker = Worker::new(stream, lun, load, blocks);
    let lost = match worker.work(progress, stop) {
        Ok(()) => None,
        Err(error @ (Error::Closed(_) | Error::Session(_) | Error::Stalled(_))) => Some(error),
        Err(error) => return Err(error),
    };
    let receives_per_io = worker.stream.receives as f64 / worker.figures.ios.max(1) as f64;
    Ok(IscsiFigures { disk: worker.figures, lost, receives_per_io })
}

struct Worker<'a> {
    stream: Stream,
    lun: &'a Lun,
    lun_field: [u8; 8],
    load: &'a DiskLoad,
    blocks: u64,
    next: u64,
    random: Random,
    started: Vec<Instant>,
    requests: Vec<(Operation, u64)>,
    ends: Vec<Completion>,
    /// Slots whose next command waits for the target's window.
    waiting: Vec<u16>,
    /// Verify mode: each block's generation, and whether a command on it is in flight.
    generations: Vec<u32>,
    busy: Vec<bool>,
    slot_generation: Vec<u32>,
    last_generation: u32,
    figures: DiskFigures,
}

impl<'a> Worker<'a> {
    fn new(stream: Stream, lun: &'a Lun, load: &'a DiskLoad, blocks: u64) -> Worker<'a> {
        let depth = usize::from(load.depth);
        let tracked = if load.pattern == Pattern::Verify { blocks as usize } else { 0 };
        Worker {
            stream,
            lun,
            lun_field: lun_field(lun.number),
            load,
            blocks,
            next: 0,
            random: Random::new(load.seed),
            started: vec![Instant::now(); depth],
            requests: vec![(Operation::Synchronize, 0); depth],
            ends: Vec::with_capacity(depth),
            waiting: Vec::with_capacity(depth),
            generations: vec![UNKNOWN; tracked],
            busy: vec![false; tracked],
            slot_generation: vec![UNKNOWN; depth],
            last_generation: ZERO,
            figures: DiskFigures::default(),
        }
    }

    fn work(&mut self, progress: &AtomicU64, stop: &AtomicBool) -> Result<()> {
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(self.load.seconds);
        let outcome = self.drive(progress, |worker, now| {
            (now < end && !stop.load(Ordering::Relaxed)).then(|| worker.choose())
        });
        self.figures.seconds = start.elapsed().as_secs_f64();
        (self.figures.kicks, self.figures.sleeps) = (self.stream.sends, self.stream.sleeps);
        outcome?;
        if self.load.pattern == Pattern::Verify {
            let mut next = 0..self.blocks;
            self.drive(progress, |worker, _| {
                let known = next.find(|block| worker.generations[*block as usize] != UNKNOWN)?;
                Some((Operation::Read, known))
            })?;
        }
        Ok(())
    }

    /// Keeps the session full with what `next` gives, until it gives nothing and all has ended.
    fn drive(
        &mut self,
        progress: &AtomicU64,
        mut next: impl FnMut(&mut Self, Instant) -> Option<(Operation, u64)>,
    ) -> Result<()> {
        /// Looks at the socket between two looks at the clock, while nothing comes.
        const SPINS: u32 = 64;
        let mut last = Instant::now();
        self.waiting.clear();
        self.waiting.extend((0..self.load.depth).rev());
        let mut in_flight = self.start_waiting(last, &mut next)?;
        let mut spins = 0;
        while in_flight > 0 {
            self.ends.clear();
            let came = self.stream.receive(&mut self.ends)?;
            if self.ends.is_empty() {
                // R2Ts and pings may have come, and the socket may have room again.
                self.stream.flush()?;
                if !came && !self.load.poll {
                    self.stream.sleep(Duration::from_millis(100))?;
                }
                spins += 1;
                if came || (self.load.poll && spins < SPINS) {
                    continue;
                }
                spins = 0;
                if last.elapsed() > self.load.stall {
                    let stall = self.load.stall;
                    return Err(Error::Stalled(format!("{in_flight} commands, {stall:?} without an answer")));
                }
                continue;
            }
            let now = Instant::now();
            self.figures.pause_max = self.figures.pause_max.max(now.duration_since(last));
            last = now;
            let ends = std::mem::take(&mut self.ends);
            for end in &ends {
                self.finish(end, now);
                self.waiting.push(end.slot);
            }
            in_flight -= ends.len();
            progress.fetch_add(ends.len() as u64, Ordering::Relaxed);
            self.ends = ends;
            in_flight += self.start_waiting(now, &mut next)?;
        }
        Ok(())
    }

    /// Starts commands in free slots, as far as the target's window goes; how many.
    fn start_waiting(
        &mut self,
        now: Instant,
        next: &mut impl FnMut(&mut Self, Instant) -> Option<(Operation, u64)>,
    ) -> Result<usize> {
        let mut started = 0;
        while self.stream.has_window() {
            let Some(slot) = self.waiting.pop() else { break };
            let Some((operation, block)) = next(self, now) else {
                self.waiting.push(slot);
                break;
            };
            self.submit(slot, operation, block, now);
            started += 1;
        }
        self.stream.flush()?;
        Ok(started)
    }

    fn choose(&mut self) -> (Operation, u64) {
        match self.load.pattern {
            Pattern::RandomRead => (Operation::Read, self.random.below(self.blocks)),
            Pattern::RandomWrite => (Operation::Write, self.random.below(self.blocks)),
            Pattern::RandomMixed { reads_percent } => {
                let reads = self.random.below(100) < reads_percent.into();
                (if reads { Operation::Read } else { Operation::Write }, self.random.below(self.blocks))
            }
            Pattern::SequentialRead => (Operation::Read, self.step()),
            Pattern::SequentialWrite => (Operation::Write, self.step()),
            Pattern::Verify => {
                let block = loop {
                    let block = self.random.below(self.blocks);
                    if !self.busy[block as usize] {
                        break block;
                    }
                };
                let written = self.generations[block as usize] != UNKNOWN;
                let compares =
                    u32::from(self.lun.compare_blocks) * self.lun.block_bytes >= self.load.block_bytes;
                let operation = match self.random.below(100) {
                    0..40 => Operation::Write,
                    40..80 => Operation::Read,
                    80..92 if compares && written => Operation::Compare,
                    92..95 if self.lun.unmaps => Operation::Unmap,
                    95..98 if self.lun.write_same => Operation::Zero,
                    98.. => Operation::Synchronize,
                    _ => Operation::Write,
                };
                (operation, block)
            }
        }
    }

    fn step(&mut self) -> u64 {
        let block = self.next;
        self.next = if block + 1 == self.blocks { 0 } else { block + 1 };
        block
    }

    #[inline]
    fn submit(&mut self, slot: u16, operation: Operation, block: u64, now: Instant) {
        let bytes = self.load.block_bytes;
        let count = bytes / self.lun.block_bytes;
        let lba = block * u64::from(count);
        if self.load.pattern == Pattern::Verify && operation != Operation::Synchronize {
            self.prepare(slot, operation, block);
        }
        let mut cdb = [0; 16];
        let transfer = match operation {
            Operation::Read => Transfer::In(bytes),
            Operation::Write => Transfer::Out(bytes),
            Operation::Compare => Transfer::Out(2 * bytes),
            Operation::Zero => Transfer::Out(self.lun.block_bytes),
            Operation::Unmap => Transfer::Out(24),
            Operation::Synchronize => Transfer::None,
        };
        let short = u32::try_from(lba).ok().zip(u16::try_from(count).ok());
        match (operation, short) {
            (Operation::Read | Operation::Write, Some((lba, count))) => {
                cdb[0] = if operation == Operation::Read { 0x28 } else { 0x2a };
                cdb[2..6].copy_from_slice(&lba.to_be_bytes());
                cdb[7..9].copy_from_slice(&count.to_be_bytes());
            }
            (Operation::Read | Operation::Write | Operation::Zero, _) => {
                cdb[0] = match operation {
                    Operation::Read => 0x88,
                    Operation::Write => 0x8a,
                    _ => 0x93, // WRITE SAME(16)
                };
                cdb[2..10].copy_from_slice(&lba.to_be_bytes());
                cdb[10..14].copy_from_slice(&count.to_be_bytes());
            }
            (Operation::Compare, _) => {
                cdb[0] = 0x89;
                cdb[2..10].copy_from_slice(&lba.to_be_bytes());
                cdb[13] = count as u8;
            }
            (Operation::Unmap, _) => (cdb[0], cdb[8]) = (0x42, 24),
            (Operation::Synchronize, _) => cdb[0] = 0x35,
        }
        self.requests[usize::from(slot)] = (operation, block);
        self.started[usize::from(slot)] = now;
        self.stream.submit(slot, self.lun_field, &cdb, transfer);
    }

    /// Verify mode: the data that goes out, and what the block holds afterwards.
    fn prepare(&mut self, slot: u16, operation: Operation, block: u64) {
        let bytes = self.load.block_bytes as usize;
        let (seed, start) = (self.load.seed, block * bytes as u64);
        let lba = block * u64::from(self.load.block_bytes / self.lun.block_bytes);
        let held = self.generations[block as usize];
        self.busy[block as usize] = true;
        let data = self.stream.data(slot);
        let generation = match operation {
            Operation::Read => {
                data.fill(0xa5);
                held
            }
            Operation::Write => {
                self.last_generation += 1;
                pattern::fill_bytes(&mut data[..bytes], seed, start, self.last_generation);
                self.last_generation
            }
            Operation::Compare => {
                self.last_generation += 1;
                match held {
                    ZERO => data[..bytes].fill(0),
                    _ => pattern::fill_bytes(&mut data[..bytes], seed, start, held),
                }
                pattern::fill_bytes(&mut data[bytes..2 * bytes], seed, start, self.last_generation);
                self.last_generation
            }
            Operation::Zero => {
                data[..self.lun.block_bytes as usize].fill(0);
                ZERO
            }
            Operation::Unmap | Operation::Synchronize => {
                data[..24].fill(0);
                (data[1], data[3]) = (22, 16);
                data[8..16].copy_from_slice(&lba.to_be_bytes());
                data[16..20].copy_from_slice(&(self.load.block_bytes / self.lun.block_bytes).to_be_bytes());
                UNKNOWN
            }
        };
        self.slot_generation[usize::from(slot)] = generation;
    }

    #[inline]
    fn finish(&mut self, end: &Completion, now: Instant) {
        let slot = usize::from(end.slot);
        self.figures.ios += 1;
        self.figures.latencies.record(now.duration_since(self.started[slot]));
        let good = end.response == 0 && end.status == 0;
        self.figures.errors += u64::from(!good);
        self.figures.wrong_lengths += u64::from(good && !end.is_whole);
        if !(good && end.is_whole) && self.figures.first_error.is_none() {
            self.figures.first_error = Some(format!("{:?}: {end:?}", self.requests[slot]));
        }
        if self.load.pattern == Pattern::Verify && self.requests[slot].0 != Operation::Synchronize {
            self.check(end.slot, good);
        }
    }

    fn check(&mut self, slot: u16, good: bool) {
        let (operation, block) = self.requests[usize::from(slot)];
        let bytes = self.load.block_bytes as usize;
        self.busy[block as usize] = false;
        let generation = self.slot_generation[usize::from(slot)];
        if operation != Operation::Read {
            // What a failed write left behind is anybody's guess.
            self.generations[block as usize] = if good { generation } else { UNKNOWN };
            return;
        }
        if !good || generation == UNKNOWN {
            return;
        }
        let start = block * bytes as u64;
        let data = &self.stream.data(slot)[..bytes];
        let wrong = match generation {
            ZERO => pattern::non_zero_bytes(data),
            _ => pattern::differing_bytes(data, self.load.seed, start, generation),
        };
        self.figures.blocks_checked += 1;
        self.figures.wrong_bytes += wrong;
        if wrong > 0 && self.figures.first_error.is_none() {
            self.figures.first_error =
                Some(format!("block {block}: {wrong} bytes are not of generation {generation}"));
        }
    }
}
