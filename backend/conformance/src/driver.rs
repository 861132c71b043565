//! Drives a disk, keeps a copy of what it must hold, and looks at every byte around its transfers.

use std::collections::HashMap;
use std::sync::Arc;

use disk::{Data, Disk};
use guest_memory::Memory;
use request::{Blocks, Extent, Facts, Instant, Lba, Operation, Provisioning, Run, Span, Status};

/// What memory is filled with where a disk has no business.
const UNTOUCHED: u8 = 0xee;
/// Guest memory of the tests.
const MEMORY_BYTES: usize = 64 << 20;
/// Turns without progress after which a request counts as lost.
const TURNS_MAX: u32 = 200_000;

/// A sequence that its seed decides (xorshift64*, Vigna 2016).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }
}

pub(crate) struct Driver<'a> {
    disk: &'a mut dyn Disk,
    pump: &'a mut dyn FnMut() -> Instant,
    keeps_data: bool,
    memory: Arc<Memory>,
    /// What the volume must hold.
    copy: Vec<u8>,
    /// Bytes that may be anything since a discard that promises nothing.
    unknown: Vec<bool>,
    random: Random,
    now: Instant,
    next_tag: u32,
    in_flight: HashMap<u32, Option<Status>>,
    /// Where the next request's data begins.
    skew: u64,
    next_offset: u64,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(
        disk: &'a mut dyn Disk,
        pump: &'a mut dyn FnMut() -> Instant,
        keeps_data: bool,
    ) -> Self {
        let bytes = disk.facts().capacity_bytes() as usize;
        Self {
            disk,
            pump,
            keeps_data,
            memory: Memory::anonymous(MEMORY_BYTES),
            copy: vec![0; bytes],
            unknown: vec![false; bytes],
            random: Random::new(0xd15c),
            now: Instant::default(),
            next_tag: 7,
            in_flight: HashMap::new(),
            skew: 0,
            next_offset: 0,
        }
    }

    pub(crate) fn facts(&self) -> Facts {
        self.disk.facts().clone()
    }

    pub(crate) fn resize(&mut self) -> bool {
        let changed = self.disk.resize();
        let bytes = self.disk.facts().capacity_bytes() as usize;
        self.copy.resize(bytes, 0);
        self.unknown.resize(bytes, false);
        changed
    }

    pub(crate) fn cause(&mut self) -> Option<String> {
        self.disk.take_cause()
    }

    /// Bytes by which data lies off a page from now on.
    pub(crate) fn skew(&mut self, skew: u64) {
        self.skew = skew;
    }

    /// Memory for `len` bytes, cut as `shape` says, again and again; empty: in one piece. Between
    /// two pieces lies a gap of the same alignment.
    fn lay_out(&mut self, len: u64, shape: &[u32]) -> Vec<Span> {
        let pieces_max = if shape.is_empty() { 1 } else { len + shape.len() as u64 };
        let room = (len * 2 + pieces_max * 64 + 16_384).min(MEMORY_BYTES as u64 / 2);
        if self.next_offset + room > MEMORY_BYTES as u64 {
            self.next_offset = 0;
        }
        let mut offset = self.next_offset + self.skew;
        let (mut spans, mut left) = (Vec::new(), len);
        let mut lens = shape.iter().copied().cycle();
        while left > 0 {
            let piece = lens.next().map_or(left, |piece| u64::from(piece).min(left));
            spans.push(Span { offset, len: piece as u32, region: 0 });
            left -= piece;
            // The gap keeps what alignment the piece's end has, up to a sector.
            let end = offset + piece;
            offset = if end.is_multiple_of(512) { end + 512 } else { end + 16 };
        }
        self.next_offset = (offset + 4096).next_multiple_of(4096);
        spans
    }

    fn submit(&mut self, operation: Operation, spans: &[Span]) -> u32 {
        let tag = self.next_tag;
        self.next_tag = self.next_tag.wrapping_mul(31).wrapping_add(1);
        while self.in_flight.contains_key(&self.next_tag) {
            self.next_tag = self.next_tag.wrapping_add(1);
        }
        self.in_flight.insert(tag, None);
        self.disk.submit(self.now, tag, operation, Data { memory: &self.memory, spans });
        tag
    }

    /// Until everything in flight has ended.
    fn wait(&mut self) {
        let mut turns = 0;
        while self.in_flight.values().any(Option::is_none) {
            let in_flight = &mut self.in_flight;
            let mut progress = false;
            self.disk.poll(self.now, &mut |tag, status| {
                let place = in_flight.get_mut(&tag).unwrap_or_else(|| panic!("nobody started tag {tag}"));
                assert_eq!(place.replace(status), None, "tag {tag} ended twice");
                progress = true;
            });
            turns = if progress { 0 } else { turns + 1 };
            assert!(turns < TURNS_MAX, "requests got lost: {:?}", self.in_flight);
            if !progress {
                self.now = self.now.max((self.pump)());
            }
        }
    }

    fn end(&mut self, tag: u32) -> Status {
        self.wait();
        self.in_flight.remove(&tag).flatten().expect("waited for")
    }

    /// One request, with these bytes as its data.
    pub(crate) fn run(&mut self, operation: Operation, bytes: &[u8], shape: &[u32]) -> Status {
        let spans = self.lay_out(bytes.len() as u64, shape);
        assert_eq!(self.memory.scatter(&spans, bytes), bytes.len());
        let tag = self.submit(operation, &spans);
        self.end(tag)
    }

    pub(crate) fn read(&mut self, extent: Extent, shape: &[u32]) -> (Status, Vec<u8>) {
        let len = extent.len_bytes() as usize;
        let spans = self.lay_out(len as u64, shape);
        let (from, to) = match (spans.first(), spans.last()) {
            (Some(first), Some(last)) => {
                (first.offset.saturating_sub(64), last.offset + u64::from(last.len) + 64)
            }
            _ => (0, 64),
        };
        let around = Span { offset: from, len: (to - from) as u32, region: 0 };
        let untouched = vec![UNTOUCHED; around.len as usize];
        self.memory.write(around, &untouched).expect("within memory");
        let tag = self.submit(Operation::Read(extent), &spans);
        let status = self.end(tag);
        let mut bytes = vec![0; len];
        assert_eq!(self.memory.gather(&spans, &mut bytes), len);
        // Everything around and between the pieces is as it was.
        for span in &spans {
            self.memory.write(*span, &vec![UNTOUCHED; span.len as usize]).expect("within memory");
        }
        let mut seen = vec![0; around.len as usize];
        self.memory.read(around, &mut seen).expect("within memory");
        assert!(seen == untouched, "a read of {extent:?} wrote beside its pieces {spans:?}");
        (status, bytes)
    }

    fn range(&self, first: Lba, count: Blocks) -> std::ops::Range<usize> {
        let extent = self.extent(first, count);
        extent.offset_bytes() as usize..(extent.offset_bytes() + extent.len_bytes()) as usize
    }

    fn extent(&self, first: Lba, count: Blocks) -> Extent {
        self.disk.facts().extent(first, count).expect("within the volume")
    }

    fn keep(&mut self, first: Lba, count: Blocks, bytes: &[u8]) {
        let range = self.range(first, count);
        self.unknown[range.clone()].fill(false);
        if self.keeps_data {
            self.copy[range].copy_from_slice(bytes);
        }
    }

    fn random_bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len.div_ceil(8)).flat_map(|_| self.random.next().to_le_bytes()).take(len as usize).collect()
    }

    pub(crate) fn write(&mut self, first: Lba, count: Blocks, shape: &[u32], fua: bool) {
        let extent = self.extent(first, count);
        let bytes = self.random_bytes(extent.len_bytes());
        assert_eq!(self.run(Operation::Write { extent, fua }, &bytes, shape), Status::Good);
        self.keep(first, count, &bytes);
    }

    pub(crate) fn write_atomic(&mut self, first: Lba, count: Blocks, shape: &[u32], fua: bool) {
        let extent = self.extent(first, count);
        let bytes = self.random_bytes(extent.len_bytes());
        assert_eq!(self.run(Operation::WriteAtomic { extent, fua }, &bytes, shape), Status::Good);
        self.keep(first, count, &bytes);
    }

    pub(crate) fn allocation(&mut self, from: Lba) -> Run {
        let run = self.disk.allocation(from);
        let end = from.0 + run.blocks.0;
        assert!(run.blocks.0 > 0 && end <= self.disk.facts().blocks.0, "{run:?} from {from:?}");
        run
    }

    /// From the first block to the last: what has no place in the store, or was not written, is zero.
    pub(crate) fn compare_places(&mut self) {
        let mut at = Lba(0);
        while at < Lba(self.disk.facts().blocks.0) {
            let run = self.allocation(at);
            let range = self.range(at, run.blocks);
            if run.state != Provisioning::Mapped {
                let data = self.copy[range.clone()].iter().zip(&self.unknown[range]);
                assert!(
                    data.into_iter().all(|(byte, unknown)| *byte == 0 || *unknown),
                    "{run:?} from {at:?}"
                );
            }
            at.0 += run.blocks.0;
        }
    }

    /// A write that `finish` waits for.
    pub(crate) fn start_write(&mut self, first: Lba, count: Blocks) {
        let extent = self.extent(first, count);
        let bytes = self.random_bytes(extent.len_bytes());
        let spans = self.lay_out(extent.len_bytes(), &[]);
        assert_eq!(self.memory.scatter(&spans, &bytes), bytes.len());
        self.submit(Operation::Write { extent, fua: false }, &spans);
        self.keep(first, count, &bytes);
    }

    pub(crate) fn finish(&mut self) {
        self.wait();
        assert!(self.in_flight.drain().all(|(_, status)| status == Some(Status::Good)));
    }

    pub(crate) fn write_zeroes(&mut self, first: Lba, count: Blocks, unmap: bool, fua: bool) {
        let extent = self.extent(first, count);
        assert_eq!(self.run(Operation::WriteZeroes { extent, unmap, fua }, &[], &[]), Status::Good);
        self.keep(first, count, &vec![0; extent.len_bytes() as usize]);
    }

    pub(crate) fn write_same(&mut self, first: Lba, count: Blocks, fua: bool, zero: bool) {
        let extent = self.extent(first, count);
        let block_size = u64::from(self.disk.facts().block_size);
        let block = if zero { vec![0; block_size as usize] } else { self.random_bytes(block_size) };
        assert_eq!(self.run(Operation::WriteSame { extent, fua }, &block, &[100]), Status::Good);
        self.keep(first, count, &block.repeat(count.0 as usize));
    }

    pub(crate) fn discard(&mut self, first: Lba, count: Blocks, zeroes: bool) {
        let extent = self.extent(first, count);
        assert_eq!(self.run(Operation::Discard(extent), &[], &[]), Status::Good);
        self.keep(first, count, &vec![0; extent.len_bytes() as usize]);
        if !zeroes {
            let range = self.range(first, count);
            self.unknown[range].fill(true);
        }
    }

    /// Reads blocks and compares them with the copy.
    pub(crate) fn compare(&mut self, first: Lba, count: Blocks, shape: &[u32]) {
        let (status, bytes) = self.read(self.extent(first, count), shape);
        assert_eq!(status, Status::Good);
        if !self.keeps_data {
            return;
        }
        let range = self.range(first, count);
        let wrong = bytes
            .iter()
            .zip(&self.copy[range.clone()])
            .zip(&self.unknown[range.clone()])
            .position(|((got, expected), unknown)| got != expected && !unknown);
        if let Some(at) = wrong {
            panic!("wrong byte {} of the volume, reading {count:?} from {first:?}", range.start + at);
        }
    }

    /// The whole volume, a mebibyte at a time.
    pub(crate) fn compare_all(&mut self) {
        let facts = self.facts();
        let step = (1 << 20) / u64::from(facts.block_size);
        let mut first = 0;
        while first < facts.blocks.0 {
            let count = step.min(facts.blocks.0 - first);
            self.compare(Lba(first), Blocks(count), &[]);
            first += count;
        }
    }
}
