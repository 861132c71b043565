//! The task set of a logical unit (SAM-5, task set management): which command may run now, and
//! which has to wait for others.
//!
//! # The picture
//!
//! ```text
//!   enter ──► running ──────────────► leave
//!     │          ▲                      │ what waited for it
//!     └──► held ─┴── woken ◄────────────┘
//!              └─ aborted ► woken
//! ```
//!
//! Two rules hold a task back. Its *attribute*: ORDERED waits for everything older; SIMPLE waits for
//! older ORDERED and for every HEAD OF QUEUE. Its *footprint*: a command that reads and writes as
//! one (COMPARE AND WRITE, ORWRITE, WRITE ATOMIC) has its blocks for itself from the moment it
//! starts until it has ended, against all other tasks of all nexuses.
//!
//! The common case, SIMPLE tasks and none that is exclusive, costs an entry in a table and two
//! comparisons.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use request::Extent;

use crate::nexus::Nexus;

/// Tasks that a unit takes before it answers TASK SET FULL. More than all the queues of the VMs of
/// a cluster keep out by default; a table of this length is 300 KiB, made as it is needed.
pub const TASKS_MAX: usize = 4096;

/// Whose tasks are those of nexuses that are gone.
pub(crate) const NOBODY: Nexus = Nexus(u32::MAX);

/// A task of a unit: given when it enters, void when it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskKey(pub u32);

/// Task attributes, SAM-5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attribute {
    #[default]
    Simple,
    Ordered,
    HeadOfQueue,
    /// No ACA condition ever stands here, so such a task is refused.
    Aca,
}

/// Which blocks a task touches, and whether it must have them for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Footprint {
    #[default]
    Nothing,
    Shared {
        first: u64,
        end: u64,
    },
    Exclusive {
        first: u64,
        end: u64,
    },
}

impl Footprint {
    pub fn shared(extent: Extent) -> Footprint {
        Footprint::Shared { first: extent.first().0, end: extent.first().0 + extent.count().0 }
    }

    pub fn exclusive(extent: Extent) -> Footprint {
        Footprint::Exclusive { first: extent.first().0, end: extent.first().0 + extent.count().0 }
    }

    /// The whole medium, for itself.
    pub const ALL: Footprint = Footprint::Exclusive { first: 0, end: u64::MAX };

    fn is_exclusive(self) -> bool {
        matches!(self, Footprint::Exclusive { .. })
    }

    /// Whether the two cannot run at the same time.
    fn excludes(self, other: Footprint) -> bool {
        use Footprint::{Exclusive, Shared};
        match (self, other) {
            (
                Exclusive { first, end },
                Exclusive { first: from, end: to } | Shared { first: from, end: to },
            )
            | (Shared { first, end }, Exclusive { first: from, end: to }) => first.max(from) < end.min(to),
            _ => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    Held,
    /// Named to the caller, or about to be.
    Woken,
    /// Waits for something that is no task, and stands in nobody's way.
    Parked,
}

/// Why a task will not be answered with a status of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// By its own nexus, which knows.
    Own,
    /// By another, so that its nexus is told: TASK ABORTED (TAS is one in the control mode page).
    Other,
}

#[derive(Clone, Debug)]
struct Entry {
    tag: u32,
    nexus: Nexus,
    id: u64,
    attribute: Attribute,
    /// Counts the entries of the set: older is smaller.
    age: u64,
    life: Life,
    /// Its turn has come once (SAM-5, enabled task state): what enters later does not take that away.
    enabled: bool,
    footprint: Footprint,
    /// It was let go to the medium, after its last check for reservations.
    begun: bool,
    aborted: Option<Abort>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct TaskSet {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    age: u64,
    /// ORDERED and HEAD OF QUEUE tasks, and exclusive ones: while there are none, nobody waits.
    special: u32,
    held: VecDeque<TaskKey>,
    woken: VecDeque<TaskKey>,
}

impl TaskSet {
    fn get(&self, key: TaskKey) -> Option<&Entry> {
        self.entries.get(key.0 as usize)?.as_ref()
    }

    fn get_mut(&mut self, key: TaskKey) -> Option<&mut Entry> {
        self.entries.get_mut(key.0 as usize)?.as_mut()
    }

    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub fn has_of(&self, nexus: Nexus) -> bool {
        self.entries.iter().flatten().any(|entry| entry.nexus == nexus)
    }

    /// Adds a task. `None`: the set is full.
    pub fn enter(&mut self, tag: u32, nexus: Nexus, id: u64, attribute: Attribute) -> Option<TaskKey> {
        if self.len() >= TASKS_MAX {
            return None;
        }
        self.age += 1;
        let entry = Entry {
            tag,
            nexus,
            id,
            attribute,
            age: self.age,
            life: Life::Running,
            enabled: false,
            footprint: Footprint::Nothing,
            begun: false,
            aborted: None,
        };
        self.special += u32::from(attribute != Attribute::Simple);
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = Some(entry);
                index
            }
            None => {
                self.entries.push(Some(entry));
                self.entries.len() as u32 - 1
            }
        };
        Some(TaskKey(index))
    }

    /// Whether its attribute lets the task run now. If not, it is held.
    pub fn may_start(&mut self, key: TaskKey) -> bool {
        if self.special == 0 || self.is_in_turn(key) {
            if let Some(entry) = self.get_mut(key) {
                entry.enabled = true;
            }
            return true;
        }
        self.hold(key);
        false
    }

    /// Takes the blocks for the task. If somebody else has them, the task is held.
    pub fn claim(&mut self, key: TaskKey, footprint: Footprint) -> bool {
        let Some(entry) = self.get_mut(key) else { return true };
        let was = entry.footprint.is_exclusive();
        entry.footprint = footprint;
        entry.life = Life::Running;
        entry.begun = true;
        if footprint.is_exclusive() != was {
            self.special = if was { self.special - 1 } else { self.special + 1 };
        }
        if self.special == 0 || self.has_room(key) {
            return true;
        }
        self.hold(key);
        false
    }

    fn hold(&mut self, key: TaskKey) {
        if let Some(entry) = self.get_mut(key) {
            entry.life = Life::Held;
            entry.begun = false;
        }
        // One that was held before its command came again is not to be woken twice.
        if !self.held.contains(&key) {
            self.held.push_back(key);
        }
    }

    fn is_in_turn(&self, key: TaskKey) -> bool {
        let Some(task) = self.get(key) else { return true };
        if task.enabled {
            return true;
        }
        match task.attribute {
            Attribute::HeadOfQueue | Attribute::Aca => true,
            Attribute::Ordered => !self.entries.iter().flatten().any(|other| {
                (other.age < task.age && other.life != Life::Parked)
                    || (other.attribute == Attribute::HeadOfQueue && other.age != task.age)
            }),
            Attribute::Simple => !self.entries.iter().flatten().any(|other| match other.attribute {
                Attribute::HeadOfQueue => true,
                Attribute::Ordered => other.age < task.age,
                _ => false,
            }),
        }
    }

    /// Nobody who runs, and nobody older who waits, excludes the task. HEAD OF QUEUE overtakes those
    /// who wait: they may be waiting for it.
    fn has_room(&self, key: TaskKey) -> bool {
        let Some(task) = self.get(key) else { return true };
        let yields = task.attribute != Attribute::HeadOfQueue;
        !self.entries.iter().flatten().any(|other| {
            other.age != task.age
                && (other.life == Life::Running || (yields && other.age < task.age))
                && other.aborted.is_none_or(|_| other.life == Life::Running)
                && task.footprint.excludes(other.footprint)
        })
    }

    /// The task has ended. `Some`: it had been aborted meanwhile.
    pub fn leave(&mut self, key: TaskKey) -> Option<Abort> {
        let entry = self.entries.get_mut(key.0 as usize)?.take()?;
        self.free.push(key.0);
        self.special -= u32::from(entry.attribute != Attribute::Simple);
        self.special -= u32::from(entry.footprint.is_exclusive());
        if entry.life == Life::Held {
            self.held.retain(|other| *other != key);
        }
        // Its name may be given to another.
        self.woken.retain(|other| *other != key);
        if !self.held.is_empty() {
            self.wake();
        }
        entry.aborted
    }

    /// Those of the held tasks that may go on now.
    fn wake(&mut self) {
        let mut at = 0;
        while at < self.held.len() {
            let key = self.held[at];
            if self.is_in_turn(key) && self.has_room(key) {
                self.held.remove(at);
                if let Some(entry) = self.get_mut(key) {
                    // It counts as running from here, so that no other is woken beside it.
                    entry.life = Life::Running;
                    entry.enabled = true;
                }
                self.woken.push_back(key);
            } else {
                at += 1;
            }
        }
    }

    /// The task waits until [`TaskSet::unpark`]: for the end of what goes on in the background. From
    /// here on its attribute holds nobody back.
    pub fn park(&mut self, key: TaskKey) {
        let Some(entry) = self.get_mut(key) else { return };
        entry.life = Life::Parked;
        entry.enabled = true;
        let special = entry.attribute != Attribute::Simple;
        entry.attribute = Attribute::Simple;
        self.special -= u32::from(special);
        self.wake();
    }

    pub fn unpark(&mut self, key: TaskKey) {
        if let Some(entry) = self.get_mut(key)
            && entry.life == Life::Parked
        {
            entry.life = Life::Running;
            self.woken.push_back(key);
        }
    }

    /// The caller's name of a task that is to be executed again.
    pub fn woken(&mut self) -> Option<u32> {
        loop {
            let key = self.woken.pop_front()?;
            // One that left before it was named is not missed.
            if let Some(entry) = self.get(key) {
                return Some(entry.tag);
            }
        }
    }

    /// Whether `woken` has something to say.
    pub fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    pub fn aborted(&self, key: TaskKey) -> Option<Abort> {
        self.get(key)?.aborted
    }

    /// Aborts the tasks that `which` names (nexus, id), by order of `by`. Those that were held are
    /// woken, to be ended without being run. The caller's names of those that run: whoever asked for
    /// the abort waits until they have ended.
    pub fn abort(&mut self, by: Nexus, which: impl Fn(Nexus, u64) -> bool, but: Option<TaskKey>) -> Vec<u32> {
        let mut running = Vec::new();
        for index in 0..self.entries.len() {
            let key = TaskKey(index as u32);
            let Some(entry) = &mut self.entries[index] else { continue };
            if but == Some(key) || !which(entry.nexus, entry.id) {
                continue;
            }
            if entry.aborted.is_none() {
                entry.aborted = Some(if entry.nexus == by { Abort::Own } else { Abort::Other });
            }
            if matches!(entry.life, Life::Held | Life::Parked) {
                entry.life = Life::Woken;
                self.held.retain(|other| *other != key);
                self.woken.push_back(key);
            } else {
                running.push(entry.tag);
            }
        }
        running
    }

    /// A nexus that is gone leaves its tasks that run to nobody: its number may be another's soon.
    pub fn disown(&mut self, nexus: Nexus) {
        for entry in self.entries.iter_mut().flatten().filter(|entry| entry.nexus == nexus) {
            entry.nexus = NOBODY;
        }
    }

    /// The caller's names of tasks of these nexuses that may reach the medium without being executed
    /// again.
    pub fn begun(&self, of: impl Fn(Nexus) -> bool, but: TaskKey) -> Vec<u32> {
        let entries = self.entries.iter().enumerate();
        let entries = entries.filter(|(index, _)| TaskKey(*index as u32) != but);
        let entries = entries.filter_map(|(_, entry)| entry.as_ref());
        entries.filter(|entry| entry.begun && of(entry.nexus)).map(|entry| entry.tag).collect()
    }

    pub fn contains(&self, nexus: Nexus, id: Option<u64>) -> bool {
        let fits = |entry: &Entry| entry.nexus == nexus && id.is_none_or(|id| entry.id == id);
        self.entries.iter().flatten().any(fits)
    }

    /// The caller has a name for the task now.
    pub fn adopt(&mut self, key: TaskKey, tag: u32) {
        if let Some(entry) = self.get_mut(key) {
            entry.tag = tag;
            entry.enabled = true;
        }
    }

    pub fn footprint(&self, key: TaskKey) -> Footprint {
        self.get(key).map(|entry| entry.footprint).unwrap_or_default()
    }

    /// The caller's name of a task.
    pub fn tag_of(&self, key: TaskKey) -> Option<u32> {
        self.get(key).map(|entry| entry.tag)
    }

    /// Whose task has this key; nothing if that one is gone.
    pub fn owner(&self, key: TaskKey) -> Option<(Nexus, u64)> {
        self.get(key).filter(|entry| entry.nexus != NOBODY).map(|entry| (entry.nexus, entry.id))
    }
}
