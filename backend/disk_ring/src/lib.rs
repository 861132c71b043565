//! What files and block devices have in common: a descriptor, driven by io_uring.
//!
//! # The way of a transfer
//!
//! Straight: the kernel moves the bytes between the backing and guest memory. That is the way of
//! all transfers of a backing with page cache, and without one (O_DIRECT) of all whose pieces have
//! the alignment that the kernel asks for: what operating systems send.
//!
//! By a bounce buffer: what else a guest may send (firmware, odd scatter lists) to a backing without
//! page cache is copied through one of a few aligned buffers, piece by piece. A second descriptor
//! with page cache would be simpler and wrong: the page cache and direct writes are kept coherent
//! only where they do not meet, and a failed invalidation leaves old data in the cache for good.
//! Requests wait for a buffer in order of arrival.
//!
//! # Zeroes
//!
//! A discard punches a hole (or is a block device's own discard); writing zeroes punches one if the
//! guest lets the space go, and otherwise asks for zeroed space that stays. What a file system
//! cannot do it refuses once (EOPNOTSUPP), and zeroes are written from then on. The kernel does
//! these in threads of its own, so they are not ordered against transfers: that is the guest's duty.
//!
//! # A backing that shrinks
//!
//! A file can be truncated behind our back. A read past its end says so; a write would make it longer
//! again, with zeroes where data was. So while a volume is written its size is asked for once a
//! second, and a volume whose file is too short ends every request with `NotReady` until the file
//! has its size again, instead of handing out zeroes as data.

#![forbid(unsafe_code)]

mod allocation;
mod atomic;
mod failure;
mod request_table;
mod steps;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use disk::{Data, Disk};
use guest_memory::Memory;
use host::file::Alignment;
use host::ring::{Client, Failure, Ring, WriteFlags};
use request::{Blocks, Extent, Facts, Instant, Lba, Operation, Run, Span, Status};

pub use atomic::promise;
pub use failure::{Way, status};
use request_table::{Request, RequestTable, Step};

/// Bytes of one bounce buffer: large enough that a disk is busy with it, small enough to have some.
const BOUNCE_BYTES: u32 = 256 << 10;
/// Bounce buffers of a volume; their memory is taken when first used.
const BOUNCES: u32 = 8;
/// Bytes of zeroes, or of a repeated block, that one write carries at most.
const FILL_MAX_BYTES: u64 = 1 << 20;
/// How often the size of a file that is being written is looked at.
const SIZE_CHECK_PERIOD: Duration = Duration::from_secs(1);
/// The ring's tag of a look at the size; requests are numbered from 0.
const SIZE_CHECK: u32 = u32::MAX;

/// How a backing gives space back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardBy {
    Nothing,
    /// fallocate(2): the bytes read as zeroes afterwards.
    Hole,
    /// The block device's discard: the bytes are undefined afterwards.
    Command,
}

/// How a backing is to be driven.
#[derive(Clone, Debug)]
pub struct Backing {
    pub file: Rc<File>,
    /// Its path, for causes.
    pub name: String,
    /// `None`: it has a page cache, and any alignment will do.
    pub direct: Option<Alignment>,
    pub discard: DiscardBy,
    /// fallocate(2) may be asked for any of the volume's blocks; a block device takes its own only.
    pub allocates: bool,
    /// It knows which of its blocks have a place: a file's holes.
    pub tells_holes: bool,
    /// A file's size may change behind our back; a block device's end is an error of its own.
    pub may_be_truncated: bool,
}

/// log2 of the logical blocks in a physical block; `None` where that is no such number.
pub fn physical_exponent(physical: u32, block_size: u32) -> Option<u8> {
    let fits = physical.is_power_of_two() && block_size.is_power_of_two();
    (fits && (block_size..=64 << 10).contains(&physical))
        // At most 16 more trailing zeroes.
        .then(|| (physical.trailing_zeros() - block_size.trailing_zeros()) as u8)
}

/// A volume whose bytes are behind a descriptor.
pub struct DiskRing {
    ring: Rc<Ring>,
    client: Client,
    backing: Backing,
    facts: Facts,
    requests: RequestTable,
    bounce: Option<Arc<Memory>>,
    bounces_free: Vec<u32>,
    /// Requests that wait for a bounce buffer.
    waiting: VecDeque<u32>,
    zeroes: Option<Arc<Memory>>,
    /// Turned off by the first refusal.
    punches: bool,
    zeroes_ranges: bool,
    lost: bool,
    next_size_check: Instant,
    size_check_out: bool,
    cause: Option<String>,
}

impl DiskRing {
    pub fn new(ring: Rc<Ring>, backing: Backing, facts: Facts) -> Self {
        let client = ring.register();
        let allocates = backing.allocates;
        Self {
            ring,
            client,
            backing,
            facts,
            requests: RequestTable::default(),
            bounce: None,
            bounces_free: (0..BOUNCES).rev().collect(),
            waiting: VecDeque::new(),
            zeroes: None,
            punches: allocates,
            zeroes_ranges: allocates,
            lost: false,
            next_size_check: Instant::default(),
            size_check_out: false,
            cause: None,
        }
    }

    /// Whose results the ring names.
    pub fn client(&self) -> Client {
        self.client
    }

    pub fn backing(&self) -> &Backing {
        &self.backing
    }

    /// Whether the kernel takes these pieces as they are.
    fn is_straight(&self, memory: &Memory, spans: &[Span], flags: WriteFlags) -> bool {
        let Some(alignment) = self.backing.direct else { return true };
        if flags.atomic && spans.len() > 1 {
            return false;
        }
        let (memory_mask, len_mask) = (alignment.memory as usize - 1, alignment.offset as usize - 1);
        spans.iter().all(|&span| {
            // A span that is not of this memory goes the straight way, where the ring refuses it.
            memory
                .pin(span)
                .is_none_or(|buffer| buffer.address() & memory_mask == 0 && buffer.len() & len_mask == 0)
        })
    }

    fn transfer(&mut self, index: u32, way: Way, extent: Extent, flags: WriteFlags, data: Data<'_>) {
        let offset = extent.offset_bytes();
        if self.is_straight(data.memory, data.spans, flags) {
            let request = self.requests.get(index);
            request.step = Step::Straight(way);
            // What the kernel writes into guest memory is noted in the dirty log when it is done.
            if way == Way::Read && data.memory.log().is_some() {
                request.hold(data.memory, data.spans);
            }
            let (file, tag) = (&self.backing.file, index);
            match way {
                Way::Read => self.ring.read(self.client, tag, file, offset, data.memory, data.spans),
                Way::Write => self.ring.write(self.client, tag, file, offset, data.memory, data.spans, flags),
            }
        } else {
            let request = self.requests.get(index);
            request.step = Step::Bounce(way);
            request.flags = flags;
            request.hold(data.memory, data.spans);
            self.bounce_or_wait(index);
        }
    }

    /// Ends a request that nobody needs to be asked about, by way of the ring so that it is polled.
    fn end(&mut self, index: u32, status: Status) {
        self.requests.get(index).step = Step::Ended(status);
        self.ring.post(self.client, index, Ok(0));
    }

    fn watch_size(&mut self, now: Instant) {
        if self.backing.may_be_truncated && !self.size_check_out && now >= self.next_size_check {
            self.next_size_check = now.after(SIZE_CHECK_PERIOD);
            self.size_check_out = true;
            self.ring.size(self.client, SIZE_CHECK, &self.backing.file);
        }
    }

    fn size_seen(&mut self, bytes: Result<u64, Failure>) {
        self.size_check_out = false;
        match bytes {
            Ok(bytes) => self.compare_size(bytes),
            Err(failure) => self.note("look at the size", failure),
        }
    }

    fn compare_size(&mut self, bytes: u64) {
        let promised = self.facts.capacity_bytes();
        let lost = bytes < promised;
        if lost && !self.lost {
            let name = &self.backing.name;
            self.keep_cause(format!("{name}: the file has {bytes} bytes and its volume {promised}"));
        }
        self.lost = lost;
    }

    fn note(&mut self, what: &str, failure: Failure) {
        if self.cause.is_none() {
            let name = &self.backing.name;
            self.cause = Some(format!("{name}: {what}: {}", io::Error::from(failure)));
        }
    }

    fn keep_cause(&mut self, cause: String) {
        self.cause.get_or_insert(cause);
    }

    fn failed(&mut self, index: u32, failure: Failure) -> Status {
        let request = self.requests.get(index);
        let (way, what) = match request.step {
            Step::Straight(Way::Read) | Step::Bounce(Way::Read) => (Way::Read, "read"),
            Step::Straight(Way::Write) | Step::Bounce(Way::Write) => (Way::Write, "write"),
            Step::Fill { .. } => (Way::Write, "write of a repeated block"),
            Step::Hole => (Way::Write, "hole"),
            Step::ZeroRange => (Way::Write, "zeroing"),
            Step::Discard => (Way::Write, "discard"),
            Step::Sync => (Way::Write, "flush"),
            Step::Free | Step::Ended(_) => (Way::Write, "request"),
        };
        let (offset, len) = (request.offset, request.left);
        if self.cause.is_none() {
            self.note(&format!("{what} of {len} bytes at {offset}"), failure);
        }
        if failure == Failure::EndOfFile && self.backing.may_be_truncated {
            self.lost = true;
        }
        status(way, failure)
    }
}

impl Disk for DiskRing {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn submit(&mut self, now: Instant, tag: u32, operation: Operation, data: Data<'_>) {
        let (extent, writes) = match operation {
            Operation::Read(extent) => (Some(extent), false),
            Operation::Flush => (None, false),
            Operation::Write { extent, .. }
            | Operation::WriteAtomic { extent, .. }
            | Operation::Discard(extent)
            | Operation::WriteZeroes { extent, .. }
            | Operation::WriteSame { extent, .. } => (Some(extent), true),
        };
        let offset = extent.map_or(0, Extent::offset_bytes);
        let len = extent.map_or(0, Extent::len_bytes);
        let index = self.requests.take(tag, offset, len);
        if self.lost {
            self.watch_size(now);
            return self.end(index, Status::NotReady);
        }
        if writes {
            if self.facts.read_only {
                return self.end(index, Status::WriteProtected);
            }
            self.watch_size(now);
        }
        if extent.is_some_and(Extent::is_empty) {
            return self.end(index, Status::Good);
        }
        match operation {
            Operation::Read(extent) => {
                assert_eq!(request::total(data.spans), len, "the data of a read has the extent's bytes");
                self.transfer(index, Way::Read, extent, WriteFlags::default(), data);
            }
            Operation::Write { extent, fua } => {
                assert_eq!(request::total(data.spans), len, "the data of a write has the extent's bytes");
                self.transfer(index, Way::Write, extent, WriteFlags { dsync: fua, atomic: false }, data);
            }
            Operation::WriteAtomic { extent, fua } => {
                assert_eq!(request::total(data.spans), len, "the data of a write has the extent's bytes");
                let promised = self.facts.atomic.is_some_and(|atomic| atomic.covers(extent));
                assert!(promised, "an atomic write is one that the facts cover");
                self.transfer(index, Way::Write, extent, WriteFlags { dsync: fua, atomic: true }, data);
            }
            Operation::Flush => self.sync(index),
            Operation::Discard(_) => self.discard(index),
            Operation::WriteZeroes { unmap, fua, .. } => {
                self.requests.get(index).flags.dsync = fua;
                self.write_zeroes(index, unmap);
            }
            Operation::WriteSame { fua, .. } => {
                let block = u64::from(self.facts.block_size);
                assert_eq!(request::total(data.spans), block, "the data of a write same is one block");
                self.requests.get(index).flags.dsync = fua;
                self.write_same(index, data);
            }
        }
    }

    fn poll(&mut self, _now: Instant, done: &mut dyn FnMut(u32, Status)) {
        while let Some((index, outcome)) = self.ring.take(self.client) {
            if index == SIZE_CHECK {
                self.size_seen(outcome);
            } else if let Some(status) = self.advance(index, outcome) {
                let tag = self.requests.give_back(index);
                done(tag, status);
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    fn resize(&mut self) -> bool {
        let bytes = match host::file::size(&self.backing.file) {
            Ok(bytes) => bytes,
            Err(error) => {
                let name = &self.backing.name;
                self.keep_cause(format!("{name}: look at the size: {error}"));
                return false;
            }
        };
        self.compare_size(bytes);
        let blocks = Blocks(bytes >> self.facts.shift());
        let changed = !self.lost && blocks != self.facts.blocks;
        if changed {
            self.facts.blocks = blocks;
        }
        changed
    }

    fn allocation(&mut self, from: Lba) -> Run {
        self.run_at(from)
    }

    fn take_cause(&mut self) -> Option<String> {
        self.cause.take()
    }
}

impl Drop for DiskRing {
    fn drop(&mut self) {
        self.ring.unregister(self.client);
    }
}

impl Request {
    fn hold(&mut self, memory: &Arc<Memory>, spans: &[Span]) {
        self.memory = Some(Arc::clone(memory));
        self.spans.extend_from_slice(spans);
    }
}
