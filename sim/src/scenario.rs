//! One world from one seed: guests with disks and NICs, a worker that dies, power that goes.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bench::driver::message::feature;
use bench::driver::queue::{Queue, QueueShape};
use bench::driver::ram::{Ram, RamOptions};
use disk_faulty::Rates;
use disk_memory::Medium;
use guest_memory::crash;
use request::Instant;
use virtqueue::Order;

use crate::dice::Dice;
use crate::guest_disk::{DiskGuest, Wire};
use crate::guest_net::{NetGuest, POOR, RICH, Traffic, mac_of};
use crate::network::{RECEIVE, TRANSMIT};
use crate::oracle::{Oracle, Version};
use crate::slot::{Model, Ring, Slot, facts};
use crate::worker::{Ends, Sabotage, Worker};

const BLOCKS: u64 = 96;
const RAM_BYTES: usize = 1 << 20;

/// What a scenario is made of.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Turns of the world.
    pub turns: u32,
    /// The worker dies in this many turns of a hundred.
    pub crash_percent: u64,
    /// Disks fail now and then.
    pub faults: bool,
    /// The host's power goes this often.
    pub power_cuts: u32,
    pub sabotage: Option<Sabotage>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Deaths of the worker, and how many of them at a store rather than between turns.
    pub crash_points: u64,
    pub at_a_store: u64,
    pub power_cuts: u64,
    pub requests: u64,
    pub frames: u64,
    /// Blocks with bytes that nobody was promised, and rules of rings and answers that were broken.
    pub wrong: Vec<String>,
    /// Requests that never ended, and frames that vanished without a name.
    pub lost: u64,
    /// Requests that ended twice, and frames that came twice without a crash.
    pub repeated: u64,
    /// Ends by name, as the worker counted them and as the guests saw them.
    pub ends: BTreeMap<String, u64>,
    pub again_after_crash: u64,
}

impl Report {
    pub fn add(&mut self, other: Report) {
        self.crash_points += other.crash_points;
        self.at_a_store += other.at_a_store;
        self.power_cuts += other.power_cuts;
        self.requests += other.requests;
        self.frames += other.frames;
        self.wrong.extend(other.wrong);
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.again_after_crash += other.again_after_crash;
        for (name, count) in other.ends {
            *self.ends.entry(name).or_default() += count;
        }
    }

    pub fn is_sound(&self) -> bool {
        self.wrong.is_empty() && self.lost == 0 && self.repeated == 0
    }
}

/// A guest: its memory, and where its devices are among the slots.
struct Guest {
    disks: Vec<(usize, DiskGuest)>,
    nic: (usize, NetGuest),
    /// Lives as long as the guest.
    _ram: Ram,
}

struct World {
    dice: Dice,
    options: Options,
    rates: Rates,
    now: Instant,
    guests: Vec<Guest>,
    slots: Vec<Slot>,
    worker: Option<Worker>,
    asleep: bool,
    traffic: Traffic,
    ends: Ends,
    report: Report,
}

/// A disk that outlives its guest.
struct Kept {
    medium: Medium,
    oracle: Oracle,
    version: Version,
}

pub fn run(seed: u64, options: Options) -> Report {
    let mut dice = Dice::new(seed);
    let rate = if options.faults { 1500 } else { 0 };
    let rates =
        Rates { medium_read: rate, medium_write: rate, no_space: rate, not_ready: rate, aborted: rate };
    let kept =
        || Kept { medium: Medium::new(facts(BLOCKS), 0), oracle: Oracle::new(BLOCKS as usize), version: 0 };
    let mut disks: Vec<Kept> = (0..6).map(|_| kept()).collect();
    for disk in &mut disks {
        disk.medium = Medium::new(facts(BLOCKS), dice.seed());
    }
    let mut report = Report::default();
    for life in 0..=options.power_cuts {
        let mut world = World::new(dice.clone(), options, rates, disks);
        for _ in 0..options.turns {
            world.step();
        }
        dice = Dice::new(dice.seed());
        let last = life == options.power_cuts;
        if last {
            world.drain();
        }
        let (part, left) = world.end(!last);
        report.add(part);
        disks = left;
    }
    report
}

impl World {
    fn new(mut dice: Dice, options: Options, rates: Rates, disks: Vec<Kept>) -> Self {
        let mut guests = Vec::new();
        let mut slots = Vec::new();
        let mut disks = disks.into_iter();
        for number in 0..3 {
            let ram_options =
                RamOptions { regions: 1 + number, populate: false, ..RamOptions::new(RAM_BYTES) };
            let mut ram = Ram::new(ram_options).expect("memory for a guest");
            let memory = ram.memory();
            let packed = dice.one_in(2);
            let event_idx = dice.one_in(2);
            let features = feature::INDIRECT_DESC
                | if packed { feature::RING_PACKED } else { 0 }
                | if event_idx { feature::EVENT_IDX } else { 0 };
            let make = |ram: &mut Ram, index: u32, size: u16, chain_max: u16| {
                Queue::new(ram, index, QueueShape { size, chain_max }, features).expect("room for a ring")
            };
            let mut of_guest = Vec::new();
            for wire in [Wire::Blk, Wire::Scsi] {
                let Some(Kept { medium, oracle, version }) = disks.next() else { break };
                let size = if packed { 29 } else { 32 };
                let chain_max = if dice.one_in(2) { 8 } else { 0 };
                let queue = make(&mut ram, 0, size, chain_max);
                let ring = Ring::new(&memory, &queue, packed, event_idx, Order::Any);
                let model = match wire {
                    Wire::Blk => Model::Blk { medium },
                    Wire::Scsi => Model::Scsi { medium },
                };
                let guest = DiskGuest::new(wire, queue, &mut ram, oracle, version);
                of_guest.push((slots.len(), guest));
                slots.push(Slot::new(memory.clone(), vec![ring], model));
            }
            let receive = make(&mut ram, RECEIVE as u32, 32, 0);
            let transmit = make(&mut ram, TRANSMIT as u32, 16, 0);
            let rings = [&receive, &transmit]
                .map(|queue| Ring::new(&memory, queue, packed, event_idx, Order::InOrder))
                .into();
            let features = if number == 1 { POOR } else { RICH };
            let nic = (slots.len(), NetGuest::new(number, features, receive, transmit, &mut ram));
            slots.push(Slot::new(memory, rings, Model::Net { mac: mac_of(number), features }));
            guests.push(Guest { disks: of_guest, nic, _ram: ram });
        }
        Self {
            dice,
            options,
            rates,
            now: Instant::from_nanos(1),
            guests,
            slots,
            worker: None,
            asleep: false,
            traffic: Traffic::default(),
            ends: Ends::default(),
            report: Report::default(),
        }
    }

    /// One turn of the world.
    fn step(&mut self) {
        // Mostly microseconds, and now and then long enough for a switch to forget.
        let nanos = if self.dice.one_in(200) { 400_000_000_000 } else { 1 + self.dice.below(100_000) };
        self.now = self.now.after(Duration::from_nanos(nanos));
        let guests = self.guests.len();
        for guest in &mut self.guests {
            if self.dice.one_in(2) {
                guest.disks.iter_mut().for_each(|(_, disk)| disk.ask(&mut self.dice));
                guest.nic.1.ask(&mut self.traffic, guests, &mut self.dice);
            }
        }
        if self.dice.below(100) < self.options.crash_percent {
            // A turn has up to a few hundred stores; some deaths fall between turns.
            let within = if self.dice.one_in(2) { 24 } else { 160 };
            let stores = self.dice.below(within);
            self.turn(Some(stores));
        } else {
            self.turn(None);
        }
        for guest in 0..self.guests.len() {
            if self.dice.one_in(2) {
                self.look(guest);
            }
        }
    }

    /// A guest looks at its rings without being asked.
    fn look(&mut self, guest: usize) {
        let guest = &mut self.guests[guest];
        guest.disks.iter_mut().for_each(|(_, disk)| disk.take());
        guest.nic.1.take(&mut self.traffic);
    }

    /// One turn of the worker, which is made if there is none, and may die.
    fn turn(&mut self, stores: Option<u64>) {
        if self.asleep {
            // Only a kick wakes it.
            let kicked = self.guests.iter().any(|guest| {
                let nic = &guest.nic.1;
                let disks = guest.disks.iter().map(|(_, disk)| &disk.queue);
                disks.chain([&nic.receive, &nic.transmit]).any(|queue| queue.kick.clear())
            });
            if !kicked && stores.is_none() {
                return;
            }
        }
        crash::after(stores);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut worker = match self.worker.take() {
                Some(worker) => worker,
                None => {
                    let (rates, sabotage) = (self.rates, self.options.sabotage);
                    Worker::new(&mut self.slots, rates, sabotage, self.now, &mut self.dice)
                }
            };
            if self.asleep {
                self.asleep = false;
                worker.wake();
            }
            worker.turn(&mut self.slots, self.now, &mut self.dice, &mut self.ends);
            if !worker.is_busy() && self.dice.one_in(2) {
                self.asleep = worker.sleep();
            }
            worker
        }));
        crash::after(None);
        match outcome {
            // It reached the end of its turn; where a crash was due, it dies there.
            Ok(worker) if stores.is_none() => self.worker = Some(worker),
            Ok(_) => self.died(),
            Err(payload) if payload.is::<crash::Crashed>() => {
                self.report.at_a_store += 1;
                self.died();
            }
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }

    fn died(&mut self) {
        self.report.crash_points += 1;
        self.worker = None;
        self.asleep = false;
        self.traffic.crash();
        self.guests.iter_mut().flat_map(|guest| &mut guest.disks).for_each(|(_, disk)| disk.crash());
        for slot in &self.slots {
            if let Model::Blk { medium } | Model::Scsi { medium } = &slot.model {
                medium.settle();
            }
        }
    }

    /// Everything has to end now, by interrupts and kicks alone; then all disks are read.
    fn drain(&mut self) {
        self.rest();
        for guest in &mut self.guests {
            guest.disks.iter_mut().for_each(|(_, disk)| disk.read_all());
        }
        self.rest();
    }

    fn rest(&mut self) {
        for _ in 0..2000 {
            let mut open = 0;
            for guest in &mut self.guests {
                for (slot, disk) in &mut guest.disks {
                    if wants_to_look(&mut disk.queue, &mut self.slots[*slot], 0) {
                        disk.take();
                    }
                    open += disk.outstanding();
                }
                let (slot, nic) = &mut guest.nic;
                if wants_to_look(&mut nic.transmit, &mut self.slots[*slot], TRANSMIT)
                    | wants_to_look(&mut nic.receive, &mut self.slots[*slot], RECEIVE)
                {
                    nic.take(&mut self.traffic);
                }
                open += nic.outstanding();
            }
            if open == 0 {
                return;
            }
            self.turn(None);
        }
    }

    fn end(mut self, power_cut: bool) -> (Report, Vec<Kept>) {
        let mut report = self.report;
        report.ends = self.ends.names;
        let broken = report.ends.keys().filter(|name| name.starts_with("queue "));
        report.wrong.extend(broken.map(|name| format!("{name}, and the driver did no wrong")));
        report.power_cuts = u64::from(power_cut);
        let mut kept = Vec::new();
        self.worker = None;
        for guest in self.guests {
            for (slot, disk) in guest.disks {
                let (Model::Blk { medium } | Model::Scsi { medium }) = &self.slots[slot].model else {
                    continue;
                };
                report
                    .wrong
                    .extend(disk.wrong.iter().map(|what| format!("slot {slot} {:?}: {what}", disk.wire)));
                if !power_cut {
                    report.lost += disk.outstanding() as u64;
                }
                let wire = format!("{:?}", disk.wire).to_lowercase();
                let (oracle, version, ends, sent) = disk.die();
                medium.cut_power();
                let ended: u64 = ends.values().sum();
                if ended != sent {
                    report.wrong.push(format!("slot {slot}: {sent} requests and {ended} ends"));
                }
                report.requests += sent;
                for (name, count) in ends {
                    *report.ends.entry(format!("guest {wire} {name}")).or_default() += count;
                }
                kept.push(Kept { medium: medium.clone(), oracle, version });
            }
        }
        report.wrong.append(&mut self.traffic.wrong);
        report.repeated += self.traffic.repeated.len() as u64;
        report.wrong.append(&mut self.traffic.repeated);
        report.again_after_crash = self.traffic.again_after_crash;
        let sums = self.traffic.sums(&self.ends.dropped);
        report.frames = sums.frames + self.traffic.rude;
        if !power_cut {
            report.lost += sums.unended + sums.vanished;
        }
        (report, kept)
    }
}

fn wants_to_look(queue: &mut Queue, slot: &mut Slot, ring: usize) -> bool {
    let came = queue.set_interrupts(true).unwrap_or(true);
    came | std::mem::take(&mut slot.rings[ring].interrupt)
}

/// Sums of ends, for readers: names and how often each was met.
pub fn table(ends: &BTreeMap<String, u64>) -> String {
    ends.iter().map(|(name, count)| format!("{count:>10}  {name}\n")).collect()
}
