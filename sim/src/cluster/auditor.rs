//! What must hold of a volume that several initiators share, judged from above: the auditor sees the
//! medium after each operation of the disk, and each command and answer as its initiator does.

use std::collections::{BTreeMap, BTreeSet};

use disk_memory::Medium;

use super::table::{Answer, INITIATORS, Possible, Table};
use crate::oracle::{BLOCK, Oracle, Version, version_of};

/// Blocks that anybody writes.
pub const COMMON: std::ops::Range<u64> = 0..20;
/// A block that one initiator alone writes, one write at a time: that of initiator 0.
pub const OWN: u64 = 24;
/// Registers that only COMPARE AND WRITE changes, which takes a block at a time.
pub const REGISTERS: [(u64, u64); 3] = [(32, 1), (36, 1), (40, 1)];
pub const BLOCKS: u64 = 48;

/// A command that changes blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Write {
        fua: bool,
    },
    /// COMPARE AND WRITE from this version.
    Swap {
        from: Version,
    },
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    who: usize,
    first: u64,
    change: Change,
    /// Its worker died while it was out.
    survived: bool,
}

pub struct Auditor {
    pub possible: Possible,
    pub wrong: Vec<String>,
    /// Changes without an answer, by the version that they write.
    out: BTreeMap<Version, Sent>,
    /// Versions that were seen on the medium.
    landed: BTreeSet<Version>,
    /// Versions that must not come to the medium any more, and why.
    dead: BTreeMap<Version, &'static str>,
    /// Versions that were out when their writer was shut out and somebody was told so, until it may
    /// write again.
    fenced: BTreeMap<Version, usize>,
    /// Of each register the version that was compared with and swapped, and what it became.
    swapped: BTreeMap<(u64, Version), Version>,
    /// Commands that read or write, and whether a history so far lets them, and forbids them.
    allowed: BTreeMap<u64, Access>,
    /// Questions about reservations, and every table that may have been true since.
    questions: BTreeMap<u64, BTreeSet<Table>>,
    /// What each initiator's own block may hold.
    own: Oracle,
}

#[derive(Clone, Copy, Debug)]
struct Access {
    who: usize,
    writes: bool,
    may: bool,
    may_not: bool,
}

impl Auditor {
    pub fn new() -> Self {
        Self {
            possible: Possible::new(Table::default()),
            wrong: Vec::new(),
            out: BTreeMap::new(),
            landed: BTreeSet::from([0]),
            dead: BTreeMap::new(),
            fenced: BTreeMap::new(),
            swapped: BTreeMap::new(),
            allowed: BTreeMap::new(),
            questions: BTreeMap::new(),
            own: Oracle::new(INITIATORS),
        }
    }

    fn blame(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// After each operation of the disk.
    pub fn look(&mut self, medium: &Medium) {
        let bytes = medium.contents();
        for (block, bytes) in bytes.chunks_exact(BLOCK).enumerate() {
            let Some(version) = version_of(block as u64, bytes) else {
                self.blame(format!("block {block} holds bytes of no version"));
                continue;
            };
            if let Some(why) = self.dead.get(&version) {
                self.blame(format!("block {block} holds version {version}, {why}"));
                self.dead.remove(&version);
            }
            if let Some(who) = self.fenced.remove(&version) {
                self.blame(format!(
                    "block {block} holds version {version}, whose writer {who} is fenced: {:?}",
                    self.possible
                ));
            }
            self.landed.insert(version);
        }
    }

    fn weigh(&mut self) {
        let possible = &self.possible;
        self.fenced.retain(|_, who| possible.must(|table| !table.may_write(*who)));
        for tables in self.questions.values_mut() {
            tables.extend(possible.tables().cloned());
        }
        for access in self.allowed.values_mut() {
            let lets = |table: &Table| match access.writes {
                true => table.may_write(access.who),
                false => table.may_read(access.who),
            };
            access.may |= self.possible.may(lets);
            access.may_not |= self.possible.may(|table| !lets(table));
        }
    }

    /// A command that reads or writes the medium is sent.
    pub fn sent_access(&mut self, name: u64, who: usize, writes: bool) {
        self.allowed.insert(name, Access { who, writes, may: false, may_not: false });
        self.weigh();
    }

    /// It was answered: run, or refused for a reservation.
    pub fn answered_access(&mut self, name: u64, conflict: bool, run: bool) {
        let Some(access) = self.allowed.remove(&name) else { return };
        if conflict && !access.may_not {
            self.blame(format!("a conflict that no reservation asks for: {access:?} {:?}", self.possible));
        }
        if run && !access.may {
            self.blame(format!("it was run against every reservation: {access:?} {:?}", self.possible));
        }
    }

    pub fn sent_change(&mut self, who: usize, first: u64, version: Version, change: Change) {
        self.out.insert(version, Sent { who, first, change, survived: false });
    }

    pub fn answered_change(&mut self, version: Version, answer: Changed) {
        let Some(sent) = self.out.remove(&version) else { return };
        let Sent { who, first, change, survived } = sent;
        self.fenced.remove(&version);
        let here = self.landed.contains(&version);
        if first == OWN + who as u64 {
            let at = who as u64;
            match answer {
                Changed::Done => self.own.wrote(at, version, matches!(change, Change::Write { fua: true })),
                _ => self.own.may_have_written(at, version),
            }
        }
        match (change, answer) {
            (Change::Write { .. }, Changed::Done) if !here => {
                self.blame(format!("write {version} ended and never came to the medium"));
            }
            (Change::Swap { from }, Changed::Done) => {
                if !here {
                    self.blame(format!("swap {from} -> {version} ended and never came to the medium"));
                }
                if let Some(other) = self.swapped.insert((first, from), version) {
                    self.blame(format!("block {first} went from {from} to {other} and to {version}"));
                }
            }
            // What a dead worker had written of a write may be there although its successor refuses the
            // command: it was done, and then not done again. A swap knows how far it came.
            (Change::Write { .. }, Changed::NotRun | Changed::Miscompared) if here && !survived => {
                self.blame(format!("write {version} was refused and done"));
            }
            (Change::Swap { from }, Changed::NotRun | Changed::Miscompared) if here => {
                self.blame(format!("swap {from} -> {version} ended with {answer:?} and is done"));
            }
            _ => {}
        }
        if answer != Changed::Done && !here {
            self.dead.insert(version, "which had been answered without it");
        }
    }

    pub fn sent_action(&mut self, name: u64, who: usize, action: super::table::Action) {
        self.possible.sent(name, who, action);
        self.weigh();
    }

    pub fn answered_action(&mut self, name: u64, answer: Answer, what: &str) {
        if !self.possible.answered(name, answer) {
            self.blame(format!("no history leads to {answer:?} for {what}: {:?}", self.possible));
        }
        // Those who may not write any more from here on. As long as it may be the work of a command that
        // is out, nobody was promised anything.
        for who in 0..INITIATORS {
            if self.possible.is_settled() && self.possible.must(|table| !table.may_write(who)) {
                let late = self.out.iter().filter(|(_, sent)| sent.who == who).map(|(version, _)| *version);
                let late = late.filter(|version| !self.landed.contains(version));
                self.fenced.extend(late.map(|version| (version, who)));
            }
        }
        self.weigh();
    }

    /// PERSISTENT RESERVE IN.
    pub fn sent_question(&mut self, name: u64) {
        self.questions.insert(name, BTreeSet::new());
        self.weigh();
    }

    pub fn answered_question(&mut self, name: u64, what: &str, fits: impl Fn(&Table) -> bool) {
        let tables = self.questions.remove(&name).unwrap_or_default();
        if !tables.iter().any(fits) {
            self.blame(format!("no history leads to {what}: {tables:?}"));
        }
    }

    /// Blocks of a register as a READ found them.
    pub fn read_register(&mut self, first: u64, bytes: &[u8]) -> Option<Version> {
        let versions: Vec<Option<Version>> = bytes
            .chunks_exact(BLOCK)
            .enumerate()
            .map(|(index, bytes)| version_of(first + index as u64, bytes))
            .collect();
        let version = versions[0];
        if version.is_none() || versions.iter().any(|other| *other != version) {
            self.blame(format!("register {first} was read as {versions:?}"));
            return None;
        }
        version
    }

    pub fn read_own(&mut self, who: usize, bytes: &[u8]) {
        let block = OWN + who as u64;
        // The oracle numbers its blocks from zero, and a version says its block.
        let Some(version) = version_of(block, bytes) else {
            return self.blame(format!("block {block} was read as bytes of no version"));
        };
        let mut same = vec![0; BLOCK];
        crate::oracle::fill(who as u64, version, &mut same);
        if !self.own.read(who as u64, &same) {
            let expected = self.own.expected(who as u64);
            self.blame(format!("block {block} was read as {version} and not as one of {expected:?}"));
        }
    }

    pub fn flush_begins(&self) -> crate::oracle::BeforeFlush {
        self.own.flush_begins()
    }

    pub fn flushed(&mut self, before: &crate::oracle::BeforeFlush) {
        self.own.flushed(before);
    }

    pub fn worker_died(&mut self) {
        for sent in self.out.values_mut() {
            sent.survived = true;
        }
    }

    /// Everything that was out is gone, with those who had sent it.
    pub fn power_was_cut(&mut self) {
        for (version, sent) in std::mem::take(&mut self.out) {
            if sent.first == OWN + sent.who as u64 {
                self.own.may_have_written(sent.who as u64, version);
            }
            if !self.landed.contains(&version) {
                self.dead.insert(version, "which was lost with the power");
            }
        }
        self.own.power_was_cut();
        self.allowed.clear();
        self.questions.clear();
        self.fenced.clear();
        // What was swapped and not flushed may be turned back, and swapped again.
        self.swapped.clear();
    }

    /// What was found when the power was back.
    pub fn recovered(&mut self, found: &Table) {
        let before = self.possible.clone();
        if !self.possible.power_was_cut(found) {
            self.blame(format!("after the power cut {found:?} was found, of {before:?}"));
        }
    }
}

/// How a command that changes blocks ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    Done,
    /// Nothing of it was done.
    NotRun,
    Miscompared,
    /// Aborted on its way, or failed: it was done or not.
    Unknown,
}
