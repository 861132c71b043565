//! The worker: the stations joined as a lane of the server joins them. All of it may die at any
//! store to shared memory, and a new one is made from the slots.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use disk::{Data, Disk};
use disk_faulty::{DiskFaulty, Rates};
use disk_memory::DiskMemory;
use guest_memory::Memory;
use request::{Facts, Instant, Operation, Span, Status};
use virtio_blk::{Limits, Mode};
use virtio_scsi::bits::response;
use virtio_scsi::{Answer, Place, Sizes, Task};
use virtqueue::{Chain, Pop, Queue};

use crate::dice::Dice;
use crate::network::Network;
use crate::slot::{Model, Slot};

const NEXUS: scsi::Nexus = scsi::Nexus(0);

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
    disk: DiskFaulty<DiskMemory>,
    unit: scsi::Unit,
    pending: BTreeMap<u32, Pending<ScsiWork>>,
    next_tag: u32,
}

struct Pending<W> {
    ring: usize,
    chain: Chain,
    memory: Arc<Memory>,
    work: W,
}

struct ScsiWork {
    task: Task,
    plan: scsi::Plan,
    offered: u64,
    data_in: u64,
    data_out: u64,
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
                    let mut bytes = [0; scsi::STATE_BYTES];
                    slot.ledger.read_bytes(1, &mut bytes);
                    let stored = slot.ledger.load_u8(0) != 0;
                    let unit = match scsi::State::decode(&bytes) {
                        Some(state) if stored => scsi::Unit::restore(medium.facts(), &state),
                        _ => scsi::Unit::new(medium.facts()),
                    };
                    let disk = DiskFaulty::new(DiskMemory::new(medium.clone()), rates, dice.seed());
                    Kind::Scsi(Box::new(ScsiDevice { disk, unit, pending: BTreeMap::new(), next_tag: 0 }))
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
        self.store(slots);
    }

    /// Whether something may happen without a kick: a disk has work.
    pub fn is_busy(&self) -> bool {
        self.devices.iter().any(|device| match &device.kind {
            Kind::Blk(blk) => !blk.pending.is_empty(),
            Kind::Scsi(scsi) => !scsi.pending.is_empty(),
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
                        if !pop(queue, memory, &mut chain) {
                            break;
                        }
                        if let Some(end) = scsi.start(memory, ring, chain, self.now, self.sabotage, ends) {
                            queue.push(memory, end.head, end.written);
                        }
                    }
                }
                if !dice.one_in(3) {
                    for end in scsi.poll(self.now, self.sabotage, ends) {
                        queues[end.ring].push(memory, end.head, end.written);
                    }
                }
            }
        }
    }

    fn publish(&mut self, index: usize, slots: &mut [Slot], ends: &mut Ends) {
        let device = &mut self.devices[index];
        let slot = &mut slots[index];
        for (ring, queue) in device.queues.iter_mut().enumerate() {
            let interrupt = queue.publish(&slot.memory);
            slot.rings[ring].interrupt |= interrupt;
            if let Some(fault) = queue.fault() {
                ends.count("queue", fault.name());
            }
        }
    }

    /// State that a response told of is stored once the guest can see that response.
    fn store(&mut self, slots: &[Slot]) {
        for (device, slot) in self.devices.iter_mut().zip(slots) {
            if let Kind::Scsi(scsi) = &mut device.kind
                && scsi.unit.take_dirty()
            {
                scsi.unit.seen();
                slot.ledger.write_bytes(1, &scsi.unit.state().encode());
                slot.ledger.store_release_u8(0, 1);
            }
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
    fn start(
        &mut self,
        memory: &Arc<Memory>,
        ring: usize,
        mut chain: Chain,
        now: Instant,
        sabotage: Option<Sabotage>,
        ends: &mut Ends,
    ) -> Option<End> {
        let mut task = match virtio_scsi::parse(memory, &mut chain, Sizes::default()) {
            Ok(task) => task,
            Err(refused) => {
                ends.count("scsi", refused.fault.name());
                return Some(End { ring, head: chain.head, written: refused.written });
            }
        };
        let offered = task.data_bytes(&chain);
        let mut reply = Vec::new();
        match self.decide(&task, memory, &chain, &mut reply) {
            scsi::Verdict::Respond(response) => {
                let name = response.sense_data().map_or("good", |_| "check_condition");
                ends.count("scsi", name);
                let data_in = memory.scatter(task.data_in(&chain), &reply) as u64;
                let written = answer(&task, memory, &chain, response, data_in, offered);
                Some(End { ring, head: chain.head, written })
            }
            scsi::Verdict::Parameters(_) => unreachable!("`decide` gives what was asked for"),
            scsi::Verdict::Medium(plan) => {
                let (data_in, data_out) = (plan.data_in(), plan.data_out());
                let fits = task.limit_data_in(&mut chain, data_in)
                    && (data_out == 0 || task.limit_data_out(&mut chain, data_out));
                if !fits {
                    ends.count("scsi", "overrun");
                    let written = task.finish(memory, &chain, &Answer::failure(response::OVERRUN), 0);
                    return Some(End { ring, head: chain.head, written });
                }
                let tag = self.next_tag;
                self.next_tag = self.next_tag.wrapping_add(1);
                let work = ScsiWork { task, plan, offered, data_in, data_out };
                self.pending.insert(tag, Pending { ring, chain, memory: Arc::clone(memory), work });
                self.advance(tag, now, sabotage, ends)
            }
        }
    }

    fn decide(&mut self, task: &Task, memory: &Memory, chain: &Chain, reply: &mut Vec<u8>) -> scsi::Verdict {
        let command = scsi::Command { nexus: NEXUS, cdb: &task.cdb, luns: &[0] };
        if task.place != (Place::Unit { target: 0, lun: 0 }) {
            return scsi::no_unit(&command, reply);
        }
        match self.unit.execute(&command, None, reply) {
            scsi::Verdict::Parameters(wanted) => {
                let mut parameters = vec![0; wanted];
                let given = memory.gather(task.data_out(chain), &mut parameters);
                parameters.truncate(given);
                self.unit.execute(&command, Some(&parameters), reply)
            }
            verdict => verdict,
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
        let Some(operation) = pending.work.plan.next() else { return self.finish(tag, Status::Good, ends) };
        let Some(operation) = spoil(operation, tag, sabotage) else {
            return self.advance(tag, now, sabotage, ends);
        };
        let spans: &[Span] = match operation {
            Operation::Read(_) => pending.work.task.data_in(&pending.chain),
            Operation::Write { .. } | Operation::WriteAtomic { .. } | Operation::WriteSame { .. } => {
                pending.work.task.data_out(&pending.chain)
            }
            _ => &[],
        };
        self.disk.submit(now, tag, operation, Data { memory: &pending.memory, spans });
        None
    }

    fn finish(&mut self, tag: u32, status: Status, ends: &mut Ends) -> Option<End> {
        let Pending { ring, chain, memory, work } = self.pending.remove(&tag)?;
        ends.count("scsi", status.name());
        let mut response = self.unit.finish(NEXUS, status);
        response.data_out = work.data_out;
        let data_in = if status == Status::Good { work.data_in } else { 0 };
        let written = answer(&work.task, &memory, &chain, response, data_in, work.offered);
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

fn answer(
    task: &Task,
    memory: &Memory,
    chain: &Chain,
    response: scsi::Response,
    data_in: u64,
    offered: u64,
) -> u32 {
    let sense = response.sense_data();
    let used = data_in + response.data_out;
    let answer = Answer {
        response: response::OK,
        status: response.status,
        status_qualifier: 0,
        sense: sense.as_deref().unwrap_or(&[]),
        residual: u32::try_from(offered.saturating_sub(used)).unwrap_or(u32::MAX),
    };
    task.finish(memory, chain, &answer, data_in)
}
