//! A cluster on one shared volume: three initiators write, read, swap, reserve and fence each other,
//! while the worker dies at any store and the host's power goes at any step.
//!
//! What must hold:
//!
//! - a registration or reservation that was acknowledged under APTPL is there after a power cut, and
//!   nothing is there without;
//! - nothing of an initiator that was shut out comes to the medium once that was acknowledged;
//! - COMPARE AND WRITE is one step, however often the worker dies in it: it never fails because of
//!   what it has written itself, is never done over what came after it, and nobody sees a part of it;
//! - every answer of PERSISTENT RESERVE IN and OUT, every conflict and every command that is run is one
//!   that some order of the commands leads to ([`table`] judges that);
//! - each command ends exactly once.

mod auditor;
mod directory;
mod initiator;
mod table;
mod target;
mod wire;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use disk::{Data, Disk};
use disk_memory::{DiskMemory, Medium};
use guest_memory::{Memory, crash};
use request::{Blocks, Instant, Lba, Operation, Span, Status};

use auditor::{Auditor, BLOCKS, REGISTERS};
use directory::Directory;
use initiator::{Counters, Initiator};
use table::{INITIATORS, Table, kind};
use target::{Host, Target};
use wire::{Life, Wire};

use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::oracle::{BLOCK, version_of};
use crate::slot::facts;

/// A bug put in on purpose, so that a test can see it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A state is called durable that is not.
    SkipDurable,
    /// An answer that takes rights away does not wait for those who have begun.
    SkipWaiting,
    /// A successor begins everything anew.
    ForgetJournal,
    /// The unit's state is not saved before its answers are visible.
    ForgetState,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Turns of each life of the host.
    pub turns: u32,
    /// The worker dies in this many turns of a hundred.
    pub crash_percent: u64,
    /// The host's power goes this often.
    pub power_cuts: u32,
    pub sabotage: Option<Sabotage>,
}

impl Options {
    /// What a seed stands for: with no death of the worker, some, many, or in nearly every turn, and
    /// none to four power cuts.
    pub fn of_seed(seed: u64) -> Self {
        let crash_percent = [0, 10, 40, 80][(seed % 4) as usize];
        Self { turns: 300, crash_percent, power_cuts: (seed % 5) as u32, sabotage: None }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub crash_points: u64,
    pub power_cuts: u64,
    /// Power cuts between the steps of a state's way to stable storage.
    pub cuts_in_a_store: u64,
    pub commands: u64,
    pub wrong: Vec<String>,
    pub lost: u64,
    pub repeated: u64,
    pub ends: BTreeMap<String, u64>,
}

impl Report {
    pub fn add(&mut self, other: Report) {
        self.crash_points += other.crash_points;
        self.power_cuts += other.power_cuts;
        self.cuts_in_a_store += other.cuts_in_a_store;
        self.commands += other.commands;
        self.wrong.extend(other.wrong);
        self.lost += other.lost;
        self.repeated += other.repeated;
        for (name, count) in other.ends {
            *self.ends.entry(name).or_default() += count;
        }
    }

    pub fn is_sound(&self) -> bool {
        self.wrong.is_empty() && self.lost == 0 && self.repeated == 0
    }
}

struct World {
    options: Options,
    dice: Dice,
    now: Instant,
    host: Host,
    initiators: Vec<Initiator>,
    auditor: Auditor,
    counters: Counters,
    target: Option<Target>,
    report: Report,
}

pub fn run(seed: u64, options: Options) -> Report {
    let mut dice = Dice::new(seed);
    let host = Host {
        wire: Wire::new(),
        ledger: Ledger::new(),
        directory: Directory::new(),
        medium: Medium::new(facts(BLOCKS), dice.seed()),
    };
    let mut counters = Counters::default();
    let mut world = World {
        options,
        now: Instant::from_nanos(1),
        host,
        initiators: (0..INITIATORS).map(|number| Initiator::new(number, &mut counters)).collect(),
        auditor: Auditor::new(),
        counters,
        target: None,
        report: Report::default(),
        dice,
    };
    for life in 0..=options.power_cuts {
        for _ in 0..options.turns {
            world.step();
        }
        if life < options.power_cuts {
            world.cut_power();
        }
    }
    world.rest();
    world.end()
}

impl World {
    /// One turn of the cluster. Behind the first thing that is wrong, much else is: it is the last.
    fn step(&mut self) {
        if !self.auditor.wrong.is_empty() {
            return;
        }
        self.now = self.now.after(Duration::from_micros(1));
        let Self { initiators, host, auditor, counters, dice, .. } = self;
        for initiator in initiators.iter_mut() {
            if dice.one_in(2) {
                initiator.ask(&mut host.wire, auditor, counters, dice);
            }
        }
        let dies = self.dice.below(100) < self.options.crash_percent;
        let stores = dies.then(|| self.dice.below(if self.options.crash_percent > 50 { 4 } else { 40 }));
        self.turn(stores);
        for initiator in &mut self.initiators {
            if self.dice.one_in(2) {
                initiator.take(&mut self.host.wire, &mut self.auditor);
            }
        }
    }

    /// One turn of the worker, which is made if there is none, and may die. Whether it did.
    fn turn(&mut self, stores: Option<u64>) -> bool {
        let Self { host, target, auditor, dice, now, options, .. } = self;
        let medium = host.medium.clone();
        crash::after(stores);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut worker = target.take().unwrap_or_else(|| Target::new(host, options.sabotage));
            worker.turn(host, *now, dice, &mut || auditor.look(&medium));
            worker
        }));
        crash::after(None);
        match outcome {
            Ok(worker) => self.target = Some(worker),
            Err(payload) if payload.is::<crash::Crashed>() => {
                self.died();
                return true;
            }
            Err(payload) => std::panic::resume_unwind(payload),
        }
        false
    }

    fn died(&mut self) {
        self.report.crash_points += 1;
        self.target = None;
        while self.host.medium.settle_one() {
            self.auditor.look(&self.host.medium);
        }
        self.auditor.worker_died();
    }

    /// The power goes in the middle of a turn, and all but the medium and the folder with it.
    fn cut_power(&mut self) {
        // Mostly while something is on its way to stable storage.
        for _ in 0..20 {
            let stores = self.dice.below(30);
            if self.turn(Some(stores)) && (self.host.directory.unsynced() > 0 || self.dice.one_in(4)) {
                break;
            }
            self.step();
        }
        self.report.power_cuts += 1;
        self.report.cuts_in_a_store += u64::from(self.host.directory.unsynced() > 0);
        self.died();
        self.host.medium.cut_power();
        self.host.directory.cut_power(&mut self.dice);
        self.auditor.look(&self.host.medium);
        self.auditor.power_was_cut();
        self.host.wire = Wire::new();
        self.host.ledger = Ledger::new();
        let initiators = (0..INITIATORS).map(|number| Initiator::new(number, &mut self.counters)).collect();
        for initiator in std::mem::replace(&mut self.initiators, initiators) {
            self.count(initiator);
        }
        self.mend();
        let found = self.survey();
        self.auditor.recovered(&found);
    }

    /// COMPARE AND WRITE is one step for initiators, and not for a power cut: what it leaves of a register
    /// is overwritten, as a cluster's software does that recovers.
    fn mend(&mut self) {
        let medium = &self.host.medium;
        let mut disk = DiskMemory::new(medium.clone());
        for (first, count) in REGISTERS {
            let bytes = medium.contents();
            let version = |block: u64| {
                let at = block as usize * BLOCK;
                version_of(block, &bytes[at..at + BLOCK])
            };
            if (first..first + count).all(|block| version(block) == version(first)) {
                continue;
            }
            self.counters.version += 1;
            let new = initiator::data(first, count, self.counters.version * 4 + INITIATORS as u64);
            let memory = Memory::anonymous(new.len());
            let spans = [Span { offset: 0, len: new.len() as u32, region: 0 }];
            memory.scatter(&spans, &new);
            let extent = medium.facts().extent(Lba(first), Blocks(count)).expect("within the volume");
            let write = Operation::Write { extent, fua: true };
            disk.submit(self.now, 0, write, Data { memory: &memory, spans: &spans });
            disk.poll(self.now, &mut |_, status| assert_eq!(status, Status::Good));
        }
        self.auditor.look(medium);
    }

    /// A command of initiator 0 while nobody else sends any, until it is no unit attention.
    fn ask_alone(&mut self, cdb: &[u8]) -> Vec<u8> {
        for _ in 0..200 {
            if self.host.wire.life(0) == Life::Free {
                self.counters.name += 1;
                self.host.wire.post(0, cdb, &[], 256, self.counters.name);
            }
            self.turn(None);
            if let Some((answered, bytes)) = self.host.wire.take(0)
                && answered.status == 0
            {
                return bytes;
            }
        }
        self.auditor.wrong.push(format!("{cdb:02x?} is never answered with GOOD"));
        Vec::new()
    }

    /// What the unit remembers of reservations.
    fn survey(&mut self) -> Table {
        let keys = self.ask_alone(&[0x5e, 0x00, 0, 0, 0, 0, 0, 0x01, 0x00, 0]);
        let held = self.ask_alone(&[0x5e, 0x01, 0, 0, 0, 0, 0, 0x01, 0x00, 0]);
        let mut table = Table { aptpl: true, ..Table::default() };
        let keys = keys.get(8..).unwrap_or(&[]).chunks_exact(8);
        for (place, key) in table.keys.iter_mut().zip(keys) {
            *place = u64::from_be_bytes(key.try_into().expect("eight bytes"));
        }
        table.held = initiator::reservation(&held).map(|(key, kind)| {
            let holder = match kind {
                kind::WRITE_EXCLUSIVE_ALL_REGISTRANTS | kind::EXCLUSIVE_ACCESS_ALL_REGISTRANTS => Some(0),
                _ => table.keys.iter().position(|other| *other == key),
            };
            (kind, holder.unwrap_or(0))
        });
        table
    }

    /// Everything that is out has to end.
    fn rest(&mut self) {
        for _ in 0..2000 {
            if self.initiators.iter().all(|initiator| initiator.outstanding() == 0) {
                return;
            }
            self.turn(None);
            for initiator in &mut self.initiators {
                initiator.take(&mut self.host.wire, &mut self.auditor);
            }
        }
    }

    fn count(&mut self, initiator: Initiator) {
        self.report.commands += initiator.sent;
        for (name, count) in initiator.ends {
            *self.report.ends.entry(name).or_default() += count;
        }
    }

    fn end(mut self) -> Report {
        for initiator in std::mem::take(&mut self.initiators) {
            self.report.lost += initiator.outstanding() as u64;
            self.count(initiator);
        }
        self.report.repeated = self.host.wire.repeated;
        self.report.wrong = self.auditor.wrong;
        self.report
    }
}
