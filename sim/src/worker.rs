//! The worker: the stations joined as a lane of the server joins them. All of it may die at any
//! store to shared memory, and a new one is made from the slots.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use disk::{Data, Disk};
use disk_faulty::{DiskFaulty, Rates};
use disk_memory::DiskMemory;
use guest_memory::Memory;
use request::{Facts, Instant, Lba, Operation, Run, Span, Status};
use scsi::{Ending, Nexus, Peer, PortId, Profile, TransportId, Unit, Verdict};
use virtio_blk::{Limits, Mode};
use virtio_scsi::bits::response;
use virtio_scsi::{Answer, Place, Sizes, Task};
use virtqueue::{Chain, Pop, Queue};

use crate::dice::Dice;
use crate::lun::{Arrival, Lun};
use crate::network::Network;
use crate::slot::{Model, Slot};

/// The one initiator port of a slot, and the target port that it comes by.
fn peer() -> Peer {
    Peer { initiator: TransportId::sas([0x30, 0, 0, 0, 0, 0, 0, 1]), port: PortId(1) }
}

/// Chains taken from one ring in one turn.
const BURST_MAX: usize = 8;

/// How requests and frames ended.
#[derive(Default)]
pub struct Ends {
    /// By the name of the counter.
    pub names: BTreeMap<String, u64>,
    /// Frames of which a copy at least ended under a name that is no delivery.
    pub dropped: BTreeSet<u32>,
}

impl Ends {
    pub fn count(&mut self, stage: &str, name: &str) {
        *self.names.entry(format!("{stage} {name}")).or_default() += 1;
    }
}

/// A bug put in on purpose, so that a test can see it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A flush is acknowledged and not done.
    SkipFlush,
    /// FUA is not passed on.
    ForgetFua,
    /// Now and then a bit of a frame is turned over.
    CorruptFrame,
    /// Requests in flight are forgotten when the worker dies.
    ForgetInflight,
    /// Now and then a write is acknowledged and not done.
    DropWrite,
}

pub struct Worker {
    devices: Vec<Device>,
    network: Network,
    now: Instant,
    sabotage: Option<Sabotage>,
}

pub struct Device {
    pub queues: Vec<Queue>,
    pub kind: Kind,
}

pub enum Kind {
    Blk(Box<BlkDevice>),
    Scsi(Box<ScsiDevice>),
    Net(Box<virtio_net::Nic>),
}

pub struct BlkDevice {
    disk: DiskFaulty<DiskMemory>,
    facts: Facts,
    mode: Mode,
    pending: BTreeMap<u32, Pending<virtio_blk::Work>>,
    next_tag: u32,
}

pub struct ScsiDevice {
    lun: Lun,
    nexus: Nexus,
    pending: BTreeMap<u32, Pending<Task>>,
    next_tag: u32,
}

struct Pending<W> {
    ring: usize,
    chain: Chain,
    memory: Arc<Memory>,
    work: W,
}

/// A disk whose worker has a bug.
struct Spoilt {
    disk: DiskFaulty<DiskMemory>,
    sabotage: Option<Sabotage>,
    /// Operations that never reached the disk.
    skipped: Vec<u32>,
}

impl Disk for Spoilt {
    fn facts(&self) -> &Facts {
        self.disk.facts()
    }

    fn submit(&mut self, now: Instant, tag: u32, operation: Operation, data: Data<'_>) {
        match spoil(operation, tag, self.sabotage) {
            Some(operation) => self.disk.submit(now, tag, operation, data),
            None => self.skipped.push(tag),
        }
    }

    fn poll(&mut self, now: Instant, done: &mut dyn FnMut(u32, Status)) {
        self.skipped.drain(..).for_each(|tag| done(tag, Status::Good));
        self.disk.poll(now, done);
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.disk.next_deadline()
    }

    fn resize(&mut self) -> bool {
        self.disk.resize()
    }

    fn allocation(&mut self, from: Lba) -> Run {
        self.disk.allocation(from)
    }

    fn take_cause(&mut self) -> Option<String> {
        self.disk.take_cause()
    }
}

impl Worker {
    /// A worker that goes on where another one stopped, or begins.
    pub fn new(
        slots: &mut [Slot],
        rates: Rates,
        sabotage: Option<Sabotage>,
        now: Instant,
        dice: &mut Dice,
    ) -> Self {
        let mut network = Network::new(sabotage == Some(Sabotage::CorruptFrame), dice);
        let mut devices = Vec::new();
        for (index, slot) in slots.iter_mut().enumerate() {
            let mut queues = Vec::new();
            for ring in &mut slot.rings {
                if sabotage == Some(Sabotage::ForgetInflight) {
                    ring.forget();
                }
                let queue = Queue::new(ring.setup(), &slot.memory).expect("the driver's set-up is sound");
                ring.started = true;
                queues.push(queue);
            }
            let kind = match &slot.model {
                Model::Blk { medium } => {
                    let facts = medium.facts();
                    let config = virtio_blk::Config::new(&facts, Limits { seg_max: 64, queues: 1 });
                    let features = virtio_blk::features(&facts, 1);
                    let mode = Mode::new(&facts, features, &config);
                    let disk = DiskFaulty::new(DiskMemory::new(medium.clone()), rates, dice.seed());
                    Kind::Blk(Box::new(BlkDevice {
                        disk,
                        facts,
                        mode,
                        pending: BTreeMap::new(),
                        next_tag: 0,
                    }))
                }
                Model::Scsi { medium } => {
                    let facts = medium.facts();
                    let stored = slot.ledger.load();
                    let mut unit = match stored.is_empty() {
                        true => Unit::new(facts, Profile::default()),
                        false => Unit::restore(facts, Profile::default(), &stored),
                    };
                    let nexus = unit.attach(peer()).expect("there is room for one");
                    let disk = DiskFaulty::new(DiskMemory::new(medium.clone()), rates, dice.seed());
                    let disk = Spoilt { disk, sabotage, skipped: Vec::new() };
                    let lun = Lun::new(unit, Box::new(disk), slot.ledger.clone());
                    lun.save();
                    Kind::Scsi(Box::new(ScsiDevice { lun, nexus, pending: BTreeMap::new(), next_tag: 0 }))
                }
                Model::Net { mac, features } => Kind::Net(Box::new(network.attach(index, *mac, *features))),
            };
            devices.push(Device { queues, kind });
        }
        Self { devices, network, now, sabotage }
    }

    /// One turn: looks at every ring and disk once, then makes what has ended visible.
    pub fn turn(&mut self, slots: &mut [Slot], now: Instant, dice: &mut Dice, ends: &mut Ends) {
        self.now = now;
        self.network.age(now);
        let mut order: Vec<usize> = (0..self.devices.len()).collect();
        shuffle(&mut order, dice);
        for &index in &order {
            self.serve(index, slots, dice, ends);
        }
        shuffle(&mut order, dice);
        for &index in &order {
            self.publish(index, slots, ends);
        }
    }

    /// Whether something may happen without a kick: a disk has work.
    pub fn is_busy(&self) -> bool {
        self.devices.iter().any(|device| match &device.kind {
            Kind::Blk(blk) => !blk.pending.is_empty(),
            Kind::Scsi(scsi) => scsi.lun.is_busy(),
            Kind::Net(_) => false,
        })
    }

    /// Goes to sleep, if every ring is empty.
    pub fn sleep(&mut self) -> bool {
        let mut came = false;
        for device in &mut self.devices {
            for queue in &mut device.queues {
                came |= queue.enable_kicks();
            }
        }
        if came {
            self.wake();
        }
        !came
    }

    pub fn wake(&mut self) {
        for device in &mut self.devices {
            for queue in &mut device.queues {
                queue.disable_kicks();
            }
        }
    }

    fn serve(&mut self, index: usize, slots: &[Slot], dice: &mut Dice, ends: &mut Ends) {
        let memory = &slots[index].memory;
        let Device { queues, kind } = &mut self.devices[index];
        match kind {
            Kind::Net(_) => self.network.transmit(index, slots, &mut self.devices, self.now, BURST_MAX, ends),
            Kind::Blk(blk) => {
                for (ring, queue) in queues.iter_mut().enumerate() {
                    for _ in 0..BURST_MAX {
                        let mut chain = Chain::new();
                        if !pop(queue, memory, &mut chain) {
                            break;
                        }
                        if let Some(end) = blk.start(memory, ring, chain, self.now, self.sabotage, ends) {
                            queue.push(memory, end.head, end.written);
                        }
                    }
                }
                if !dice.one_in(3) {
                    for end in blk.poll(self.now, self.sabotage, ends) {
                        queues[end.ring].push(memory, end.head, end.written);
                    }
                }
            }
            Kind::Scsi(scsi) => {
                for (ring, queue) in queues.iter_mut().enumerate() {
                    for _ in 0..BURST_MAX {
                        let mut chain = Chain::new();
                        let resumed = queue.resubmits() > 0;
                        if scsi.lun.unit.journal_is_full() || !pop(queue, memory, &mut chain) {
                            break;
                        }
                        if let Some(end) = scsi.start(memory, ring, chain, resumed, self.now, ends) {
                            queue.push(memory, end.head, end.written);
                        }
                    }
                }
                if !dice.one_in(3) {
                    scsi.lun.poll(self.now, &mut || {});
                }
                for end in scsi.ended(ends) {
                    queues[end.ring].push(memory, end.head, end.written);
                }
            }
        }
    }

    fn publish(&mut self, index: usize, slots: &mut [Slot], ends: &mut Ends) {
        let device = &mut self.devices[index];
        let slot = &mut slots[index];
        // Before the guest can see what changed it, and when what it was told is told.
        let changed = match &mut device.kind {
            Kind::Scsi(scsi) => scsi.lun.unit.take_dirty().then_some(&mut scsi.lun),
            _ => None,
        };
        if let Some(lun) = &changed {
            lun.save();
        }
        for (ring, queue) in device.queues.iter_mut().enumerate() {
            let interrupt = queue.publish(&slot.memory);
            slot.rings[ring].interrupt |= interrupt;
            if let Some(fault) = queue.fault() {
                ends.count("queue", fault.name());
            }
        }
        if let Some(lun) = changed {
            lun.unit.seen();
            lun.save();
        }
    }
}

/// A request that has ended, on its way into its ring.
struct End {
    ring: usize,
    head: u16,
    written: u32,
}

fn pop(queue: &mut Queue, memory: &Memory, chain: &mut Chain) -> bool {
    match queue.pop(memory, chain) {
        Pop::Chain => true,
        // A broken queue is counted when it is published.
        Pop::Empty | Pop::Broken(_) => false,
    }
}

fn shuffle(order: &mut [usize], dice: &mut Dice) {
    for at in (1..order.len()).rev() {
        order.swap(at, dice.index(at + 1));
    }
}

/// The operation as a worker with a bug passes it on; `None`: not at all.
fn spoil(operation: Operation, tag: u32, sabotage: Option<Sabotage>) -> Option<Operation> {
    match (operation, sabotage) {
        (Operation::Flush, Some(Sabotage::SkipFlush)) => None,
        (Operation::Write { .. }, Some(Sabotage::DropWrite)) if tag % 8 == 7 => None,
        (Operation::Write { extent, .. }, Some(Sabotage::ForgetFua)) => {
            Some(Operation::Write { extent, fua: false })
        }
        (operation, _) => Some(operation),
    }
}

impl BlkDevice {
    fn start(
        &mut self,
        memory: &Arc<Memory>,
        ring: usize,
        mut chain: Chain,
        now: Instant,
        sabotage: Option<Sabotage>,
        ends: &mut Ends,
    ) -> Option<End> {
        match virtio_blk::parse(memory, &mut chain, &self.facts, &self.mode) {
            virtio_blk::Parsed::Answered(answered) => {
                ends.count("blk", answered.fault.map_or("answered", |fault| fault.name()));
                Some(End { ring, head: chain.head, written: answered.written })
            }
            virtio_blk::Parsed::Work(work) => {
                let tag = self.next_tag;
                self.next_tag = self.next_tag.wrapping_add(1);
                let memory = Arc::clone(memory);
                self.pending.insert(tag, Pending { ring, chain, memory, work });
                self.advance(tag, now, sabotage, ends)
            }
        }
    }

    fn advance(
        &mut self,
        tag: u32,
        now: Instant,
        sabotage: Option<Sabotage>,
        ends: &mut Ends,
    ) -> Option<End> {
        let pending = self.pending.get_mut(&tag).expect("the disk ends what it was given");
        let Some(operation) = pending.work.next() else { return self.finish(tag, Status::Good, ends) };
        let Some(operation) = spoil(operation, tag, sabotage) else {
            return self.advance(tag, now, sabotage, ends);
        };
        let spans: &[Span] = match operation {
            Operation::Read(_) | Operation::Write { .. } => pending.work.data(&pending.chain),
            _ => &[],
        };
        self.disk.submit(now, tag, operation, Data { memory: &pending.memory, spans });
        None
    }

    fn finish(&mut self, tag: u32, status: Status, ends: &mut Ends) -> Option<End> {
        let Pending { ring, chain, memory, work } = self.pending.remove(&tag)?;
        ends.count("blk", status.name());
        let written = work.finish(&memory, &chain, virtio_blk::status_of(status));
        Some(End { ring, head: chain.head, written })
    }

    fn poll(&mut self, now: Instant, sabotage: Option<Sabotage>, ends: &mut Ends) -> Vec<End> {
        let mut done = Vec::new();
        self.disk.poll(now, &mut |tag, status| done.push((tag, status)));
        done.into_iter()
            .filter_map(|(tag, status)| match status {
                Status::Good => self.advance(tag, now, sabotage, ends),
                status => self.finish(tag, status, ends),
            })
            .collect()
    }
}

impl ScsiDevice {
    /// The end, if the command never came to the unit.
    fn start(
        &mut self,
        memory: &Arc<Memory>,
        ring: usize,
        mut chain: Chain,
        resumed: bool,
        now: Instant,
        ends: &mut Ends,
    ) -> Option<End> {
        let task = match virtio_scsi::parse(memory, &mut chain, Sizes::default()) {
            Ok(task) => task,
            Err(refused) => {
                ends.count("scsi", refused.fault.name());
                return Some(End { ring, head: chain.head, written: refused.written });
            }
        };
        if task.place != (Place::Unit { target: 0, lun: 0 }) {
            let mut reply = Vec::new();
            let verdict = scsi::no_unit(&scsi::bare_command(&task.cdb, &[0]), &mut reply);
            let Verdict::Respond(response) = verdict else { unreachable!("there is no unit to do more") };
            ends.count("scsi", response.sense_data().map_or("good", |_| "check_condition"));
            let data_in = memory.scatter(task.data_in(&chain), &reply) as u64;
            let written = answer(&task, memory, &chain, response, data_in);
            return Some(End { ring, head: chain.head, written });
        }
        let tag = self.next_tag;
        // The last one is the unit's own.
        self.next_tag = self.next_tag.wrapping_add(1) & 0x7fff_ffff;
        let arrival = Arrival {
            nexus: self.nexus,
            id: task.id,
            cdb: task.cdb.to_vec(),
            resumed,
            memory: Arc::clone(memory),
            out: task.data_out(&chain).to_vec(),
            into: task.data_in(&chain).to_vec(),
        };
        self.pending.insert(tag, Pending { ring, chain, memory: Arc::clone(memory), work: task });
        self.lun.begin(tag, arrival, now);
        None
    }

    /// What has ended since the last time.
    fn ended(&mut self, ends: &mut Ends) -> Vec<End> {
        let mut done = Vec::new();
        for ended in std::mem::take(&mut self.lun.ended) {
            let Some(Pending { ring, chain, memory, work: task }) = self.pending.remove(&ended.tag) else {
                continue;
            };
            let written = match ended.ending {
                None => {
                    ends.count("scsi", "overrun");
                    task.finish(&memory, &chain, &Answer::failure(response::OVERRUN), 0)
                }
                Some(Ending::Aborted { .. }) => unreachable!("these guests abort nothing"),
                Some(Ending::Respond(response)) => {
                    let answered = response.sense_data().map_or("good", |_| "check_condition");
                    ends.count("scsi", ended.medium.map_or(answered, Status::name));
                    answer(&task, &memory, &chain, response, ended.data_in)
                }
            };
            done.push(End { ring, head: chain.head, written });
        }
        done
    }
}

fn answer(task: &Task, memory: &Memory, chain: &Chain, response: scsi::Response, data_in: u64) -> u32 {
    let sense = response.sense_data();
    let used = data_in + response.data_out;
    let answer = Answer {
        response: response::OK,
        status: response.status,
        status_qualifier: 0,
        sense: sense.as_deref().unwrap_or(&[]),
        residual: u32::try_from(task.offered().saturating_sub(used)).unwrap_or(u32::MAX),
    };
    task.finish(memory, chain, &answer, data_in)
}
