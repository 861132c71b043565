//! A virtual disk of either kind behind one face: queues that take reads, writes, flushes and
//! zeroing by slot, and give back outcomes.
//!
//! A slot is one request's header, status and data buffer. The caller fills a slot's data, submits
//! it, and has the slot back with its `Completion`; a slot in flight is not touched.

use std::path::Path;
use std::time::{Duration, Instant};

use super::blk::{self, BlkQueue};
use super::error::{Error, Result};
use super::message::{feature, protocol};
use super::queue::{Buffer, Queue, QueueShape};
use super::ram::{Area, Ram, RamOptions};
use super::scsi::{self, ScsiControl, ScsiQueue};
use super::session::{PROTOCOL_ALL, Session, Wishes};

pub const SECTOR_BYTES: u64 = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Blk,
    Scsi,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub operation: Operation,
    /// In units of 512 bytes, whatever the disk's block is.
    pub sector: u64,
    pub bytes: u32,
}

/// How a request ended, as the device said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Good,
    /// virtio-blk status: 1 IOERR, 2 UNSUPP, 0xff when the device wrote none.
    Blk(u8),
    /// virtio-scsi response and, where it is 0, the SCSI status with its sense.
    Scsi {
        response: u8,
        status: u8,
        sense: scsi::Sense,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    pub slot: u16,
    pub outcome: Outcome,
    /// The used length is not what this request's outcome calls for.
    pub wrong_length: bool,
}

#[derive(Debug, Clone)]
pub struct DiskOptions {
    pub kind: Kind,
    pub queues: u16,
    pub depth: u16,
    pub ring_size: u16,
    /// The largest transfer of a slot.
    pub bytes_max: u32,
    /// Data is given to the device in buffers of this size; 0: in one.
    pub segment_bytes: u32,
    pub packed: bool,
    pub indirect: bool,
    pub event_idx: bool,
    pub regions: usize,
    pub huge_pages: bool,
    pub target: u8,
    pub lun: u16,
}

impl DiskOptions {
    pub fn new(kind: Kind) -> DiskOptions {
        DiskOptions {
            kind,
            queues: 1,
            depth: 32,
            ring_size: 256,
            bytes_max: 4096,
            segment_bytes: 0,
            packed: false,
            indirect: true,
            event_idx: true,
            regions: 1,
            huge_pages: false,
            target: 0,
            lun: 0,
        }
    }

    fn chain_max(&self) -> u16 {
        let segment = if self.segment_bytes == 0 { self.bytes_max } else { self.segment_bytes };
        2 + self.bytes_max.div_ceil(segment.max(1)).max(1) as u16
    }

    fn ram_bytes(&self) -> usize {
        let queues = self.queues as usize + 2;
        let ring = self.ring_size as usize * (32 + 16 * self.chain_max() as usize) + 4 * 4096;
        let slot = (self.bytes_max as usize).next_multiple_of(4096) + SLOT_HEADER_BYTES;
        // Each region may strand the end of itself that no buffer fits into any more.
        let stranded = self.regions * ((self.bytes_max as usize).next_multiple_of(4096) + ring);
        queues * ring + self.queues as usize * self.depth as usize * slot + stranded + (1 << 20)
    }
}

/// What a disk says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub bytes: u64,
    pub block_bytes: u32,
    pub read_only: bool,
    pub flush: bool,
    pub discard: bool,
    pub write_zeroes: bool,
}

pub struct Disk {
    pub session: Session,
    pub ram: Ram,
    pub facts: Facts,
    pub queues: Vec<DiskQueue>,
    /// virtio-scsi's control and event queues.
    pub control: Option<ScsiControl>,
}

impl Disk {
    /// Connects, negotiates, lays out the queues and starts them.
    pub fn open(socket: &Path, options: &DiskOptions) -> Result<Disk> {
        Disk::over(Session::connect(socket, Duration::from_secs(5))?, options)
    }

    pub fn over(mut session: Session, options: &DiskOptions) -> Result<Disk> {
        session.negotiate(Wishes { features: features(options), protocol: PROTOCOL_ALL })?;
        if options.packed && session.features() & feature::RING_PACKED == 0 {
            return Err(Error::Unsupported("the back end has no packed ring".into()));
        }
        let first = match options.kind {
            Kind::Blk => 0,
            Kind::Scsi => scsi::REQUEST_QUEUE_FIRST,
        };
        let all = first + options.queues as u32;
        if session.has(protocol::MQ) && session.queues_max() < all as u64 {
            return Err(Error::Unsupported(format!(
                "{all} queues are needed, the back end has {}",
                session.queues_max()
            )));
        }
        let mut ram = Ram::new(RamOptions {
            bytes: options.ram_bytes(),
            regions: options.regions,
            huge_pages: options.huge_pages,
            populate: true,
        })?;
        let agreed = session.features();
        let chain_max = if agreed & feature::INDIRECT_DESC != 0 { options.chain_max() } else { 0 };
        let direct = options.depth as usize * options.chain_max() as usize;
        let needed = if chain_max > 1 { options.depth as usize } else { direct };
        if needed > options.ring_size as usize {
            let ring = options.ring_size;
            return Err(Error::Unsupported(format!("{needed} descriptors are needed, the ring has {ring}")));
        }
        let shape = QueueShape { size: options.ring_size, chain_max };
        let mut rings = Vec::new();
        for index in 0..all {
            rings.push(Queue::new(&mut ram, index, shape, agreed)?);
        }
        session.set_memory(&ram)?;
        session.set_up_inflight(all as u16, options.ring_size)?;
        for ring in &rings {
            session.start(ring)?;
        }
        session.set_driver_ok()?;
        let mut requests = rings.split_off(first as usize);
        let control = match options.kind {
            Kind::Blk => None,
            Kind::Scsi => Some(ScsiControl::new(&mut ram, rings, options.target, options.lun)?),
        };
        let mut queues = Vec::new();
        for ring in requests.drain(..) {
            let slots = Slots::new(&mut ram, options)?;
            queues.push(match options.kind {
                Kind::Blk => DiskQueue::Blk(BlkQueue::new(ring, slots)),
                Kind::Scsi => DiskQueue::Scsi(ScsiQueue::new(ring, slots, options.target, options.lun)),
            });
        }
        let mut disk = Disk {
            session,
            ram,
            facts: Facts {
                bytes: 0,
                block_bytes: 512,
                read_only: false,
                flush: false,
                discard: false,
                write_zeroes: false,
            },
            queues,
            control,
        };
        disk.read_facts()?;
        Ok(disk)
    }

    /// Asks the device for its size and abilities, again after it was resized.
    pub fn read_facts(&mut self) -> Result<Facts> {
        self.facts = match &mut self.queues[0] {
            DiskQueue::Blk(_) => blk::read_facts(&mut self.session)?,
            DiskQueue::Scsi(queue) => queue.read_facts()?,
        };
        let block_bytes = self.facts.block_bytes;
        for queue in &mut self.queues {
            if let DiskQueue::Scsi(queue) = queue {
                queue.block_bytes = block_bytes;
            }
        }
        Ok(self.facts)
    }

    /// Takes the queues back from the device, which ends every request first.
    pub fn stop(&mut self) -> Result<()> {
        let control = self.control.iter().flat_map(|control| control.indices());
        let indices: Vec<u32> =
            control.chain(self.queues.iter_mut().map(|queue| queue.ring().index)).collect();
        for index in indices {
            self.session.stop(index)?;
        }
        Ok(())
    }
}

fn features(options: &DiskOptions) -> u64 {
    let mut features = match options.kind {
        Kind::Blk => blk::FEATURES,
        Kind::Scsi => scsi::FEATURES,
    };
    if options.kind == Kind::Blk && options.queues == 1 {
        features &= !blk::F_MQ;
    }
    for (wanted, bit) in [
        (options.packed, feature::RING_PACKED),
        (options.indirect, feature::INDIRECT_DESC),
        (options.event_idx, feature::EVENT_IDX),
    ] {
        if wanted {
            features |= bit;
        }
    }
    features
}

/// A slot's header and status share two cache lines' worth of memory, status on a line of its own.
pub(super) const SLOT_HEADER_BYTES: usize = 256;
pub(super) const SLOT_STATUS_AT: usize = 64;

pub(super) struct Slots {
    pub headers: Vec<Area>,
    pub data: Vec<Area>,
    pub requests: Vec<Request>,
    pub segment_bytes: u32,
    /// Scratch for the chain under construction.
    pub chain: Vec<Buffer>,
}

impl Slots {
    pub(super) fn new(ram: &mut Ram, options: &DiskOptions) -> Result<Slots> {
        let mut slots = Slots {
            headers: Vec::new(),
            data: Vec::new(),
            requests: vec![
                Request { operation: Operation::Flush, sector: 0, bytes: 0 };
                options.depth as usize
            ],
            segment_bytes: if options.segment_bytes == 0 { u32::MAX } else { options.segment_bytes },
            chain: Vec::with_capacity(options.chain_max() as usize),
        };
        for _ in 0..options.depth {
            slots.headers.push(ram.allocate(SLOT_HEADER_BYTES, SLOT_HEADER_BYTES)?);
            slots.data.push(ram.allocate((options.bytes_max as usize).max(4096), 4096)?);
        }
        Ok(slots)
    }

    /// Appends the first `bytes` of a slot's data to the chain, segment by segment.
    pub fn push_data(&mut self, slot: u16, bytes: u32, device_writes: bool) {
        let base = self.data[slot as usize].address();
        let mut at = 0;
        while at < bytes {
            let length = (bytes - at).min(self.segment_bytes);
            self.chain.push(Buffer { address: base + at as u64, length, device_writes });
            at += length;
        }
    }
}

/// A queue of requests, whatever the device is.
pub trait Requests {
    /// A slot's data buffer. Not while the slot is in flight.
    fn data(&self, slot: u16) -> &Area;
    /// Makes the slot's request available. False when the ring has no room.
    fn submit(&mut self, slot: u16, request: Request) -> bool;
    fn complete(&mut self) -> Result<Option<Completion>>;
    /// Shows the device what was made available, and notifies it if it wants that.
    fn publish(&mut self) -> Result<()>;
    /// True when something has ended already.
    fn set_interrupts(&mut self, wanted: bool) -> Result<bool>;
    /// Sleeps until something may have ended; false when the time was over.
    fn wait(&mut self, timeout: Duration) -> Result<bool>;
    /// Notifications sent to the device, and sleeps taken.
    fn counts(&self) -> (u64, u64);
}

impl Requests for DiskQueue {
    #[inline]
    fn data(&self, slot: u16) -> &Area {
        DiskQueue::data(self, slot)
    }

    #[inline]
    fn submit(&mut self, slot: u16, request: Request) -> bool {
        DiskQueue::submit(self, slot, request)
    }

    #[inline]
    fn complete(&mut self) -> Result<Option<Completion>> {
        DiskQueue::complete(self)
    }

    #[inline]
    fn publish(&mut self) -> Result<()> {
        self.ring().publish();
        Ok(())
    }

    fn set_interrupts(&mut self, wanted: bool) -> Result<bool> {
        Ok(self.ring().set_interrupts(wanted)?)
    }

    fn wait(&mut self, timeout: Duration) -> Result<bool> {
        self.ring().wait(timeout)
    }

    fn counts(&self) -> (u64, u64) {
        let ring = match self {
            DiskQueue::Blk(queue) => &queue.ring,
            DiskQueue::Scsi(queue) => &queue.ring,
        };
        (ring.kicks, ring.sleeps)
    }
}

pub enum DiskQueue {
    Blk(BlkQueue),
    Scsi(ScsiQueue),
}

impl DiskQueue {
    #[inline]
    pub fn ring(&mut self) -> &mut Queue {
        match self {
            DiskQueue::Blk(queue) => &mut queue.ring,
            DiskQueue::Scsi(queue) => &mut queue.ring,
        }
    }

    fn slots(&self) -> &Slots {
        match self {
            DiskQueue::Blk(queue) => &queue.slots,
            DiskQueue::Scsi(queue) => &queue.slots,
        }
    }

    pub fn depth(&self) -> u16 {
        self.slots().headers.len() as u16
    }

    /// A slot's data buffer. Not while the slot is in flight.
    #[inline]
    pub fn data(&self, slot: u16) -> &Area {
        &self.slots().data[slot as usize]
    }

    /// Makes the slot's request available; the device sees it with `Queue::publish`. False when
    /// the ring has no room.
    #[inline]
    pub fn submit(&mut self, slot: u16, request: Request) -> bool {
        match self {
            DiskQueue::Blk(queue) => queue.submit(slot, request),
            DiskQueue::Scsi(queue) => queue.submit(slot, request),
        }
    }

    #[inline]
    pub fn complete(&mut self) -> Result<Option<Completion>> {
        match self {
            DiskQueue::Blk(queue) => queue.complete(),
            DiskQueue::Scsi(queue) => queue.complete(),
        }
    }

    /// One request, waited for. Nothing else may be in flight on the queue.
    pub fn run(&mut self, slot: u16, request: Request, patience: Duration) -> Result<Outcome> {
        if !self.submit(slot, request) {
            return Err(Error::Unsupported("the ring has no room for one request".into()));
        }
        self.ring().publish();
        let start = Instant::now();
        loop {
            if let Some(completion) = self.complete()? {
                return Ok(completion.outcome);
            }
            if start.elapsed() > patience {
                return Err(Error::Stalled(format!("{request:?} did not end in {patience:?}")));
            }
            self.ring().wait(Duration::from_millis(50))?;
        }
    }
}
