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
//! comparisons. A held task counts those that it waits for, so that each start and end of another
//! costs one comparison with each held task, and not one with each pair: initiators decide how many
//! there are.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use request::Extent;

use crate::nexus::{NEXUS_MAX, Nexus};

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
    /// By a reset that its own nexus asked for: who posted the task may not have meant that one.
    Reset,
    /// By another, so that its nexus is told: TASK ABORTED (TAS is one in the control mode page).
    Other,
}

#[derive(Clone, Copy, Debug)]
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
    /// While it is held: how many others hold it.
    waits_for: u32,
}

impl Entry {
    /// By its attribute it comes before the task.
    fn precedes(&self, task: &Entry) -> bool {
        match task.attribute {
            Attribute::HeadOfQueue | Attribute::Aca => false,
            _ if self.attribute == Attribute::HeadOfQueue => true,
            Attribute::Ordered => self.age < task.age && self.life != Life::Parked,
            Attribute::Simple => self.age < task.age && self.attribute == Attribute::Ordered,
        }
    }

    /// It has blocks that the task wants, or wanted them before. HEAD OF QUEUE overtakes those who
    /// wait: they may be waiting for it.
    fn occupies(&self, task: &Entry) -> bool {
        let yields = task.attribute != Attribute::HeadOfQueue;
        (self.life == Life::Running || (yields && self.age < task.age))
            && task.footprint.excludes(self.footprint)
    }

    /// The task waits for this one.
    fn holds(&self, task: &Entry) -> bool {
        self.age != task.age && ((!task.enabled && self.precedes(task)) || self.occupies(task))
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct TaskSet {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    age: u64,
    /// HEAD OF QUEUE tasks, ORDERED ones, and exclusive ones: while there are none, nobody waits.
    heads: u32,
    ordered: u32,
    exclusive: u32,
    /// By age: older first.
    held: Vec<(u64, TaskKey)>,
    woken: VecDeque<TaskKey>,
    /// By nexus, its tasks.
    shares: Vec<u32>,
    /// Pairs of tasks that were compared.
    #[cfg(test)]
    pub compared: core::cell::Cell<u64>,
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

    fn share(&self, nexus: Nexus) -> usize {
        self.shares.get(nexus.0 as usize).map_or(0, |count| *count as usize)
    }

    fn shares_mut(&mut self, nexus: Nexus) -> Option<&mut u32> {
        let index = usize::try_from(nexus.0).ok().filter(|index| *index < NEXUS_MAX)?;
        if self.shares.len() <= index {
            self.shares.resize(index + 1, 0);
        }
        self.shares.get_mut(index)
    }

    pub fn has_of(&self, nexus: Nexus) -> bool {
        self.share(nexus) > 0
    }

    /// Adds a task. `None`: the set is full, or this nexus has as many tasks as there are places left.
    /// So one alone has at most half of the places, two that want all of them a third each, and there
    /// is always room for whoever has few.
    pub fn enter(&mut self, tag: u32, nexus: Nexus, id: u64, attribute: Attribute) -> Option<TaskKey> {
        if self.share(nexus) >= TASKS_MAX - self.len().min(TASKS_MAX) {
            return None;
        }
        self.enter_again(tag, nexus, id, attribute)
    }

    /// Adds a task that was in the set of a process that died: in whatever order they come, there was
    /// room for all of them.
    pub fn enter_again(&mut self, tag: u32, nexus: Nexus, id: u64, attribute: Attribute) -> Option<TaskKey> {
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
            waits_for: 0,
        };
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.entries.push(None);
                self.entries.len() as u32 - 1
            }
        };
        if let Some(count) = self.shares_mut(nexus) {
            *count += 1;
        }
        self.put(TaskKey(index), Some(entry));
        Some(TaskKey(index))
    }

    /// Puts an entry into its place, or takes it away, and counts anew for whom of the held it stands
    /// in the way. The one place where an entry changes in what others look at.
    fn put(&mut self, key: TaskKey, after: Option<Entry>) {
        let Some(place) = self.entries.get_mut(key.0 as usize) else { return };
        let before = core::mem::replace(place, after);
        for (entry, more) in [(before, false), (after, true)] {
            let Some(entry) = entry else { continue };
            let count = |sum: &mut u32, is: bool| {
                if is {
                    *sum = if more { *sum + 1 } else { *sum - 1 };
                }
            };
            count(&mut self.heads, entry.attribute == Attribute::HeadOfQueue);
            count(&mut self.ordered, entry.attribute == Attribute::Ordered);
            count(&mut self.exclusive, entry.footprint.is_exclusive());
        }
        for (_, other) in &self.held {
            let Some(Some(task)) = self.entries.get_mut(other.0 as usize) else { continue };
            let was = before.is_some_and(|before| before.holds(task));
            let is = after.is_some_and(|after| after.holds(task));
            task.waits_for = task.waits_for + u32::from(is) - u32::from(was);
        }
        #[cfg(test)]
        self.compared.set(self.compared.get() + self.held.len() as u64);
    }

    /// Whether its attribute lets the task run now. If not, it is held.
    pub fn may_start(&mut self, key: TaskKey) -> bool {
        let Some(entry) = self.get(key).copied() else { return true };
        if !self.is_in_turn(&entry) {
            self.hold(key, entry);
            return false;
        }
        if let Some(entry) = self.get_mut(key) {
            entry.enabled = true;
        }
        true
    }

    /// Takes the blocks for the task. If somebody else has them, the task is held.
    pub fn claim(&mut self, key: TaskKey, footprint: Footprint) -> bool {
        let Some(entry) = self.get(key).copied() else { return true };
        let claimed = Entry { footprint, life: Life::Running, begun: true, ..entry };
        if self.has_room(&claimed) {
            self.put(key, Some(claimed));
            return true;
        }
        self.hold(key, claimed);
        false
    }

    fn hold(&mut self, key: TaskKey, entry: Entry) {
        let held = Entry { life: Life::Held, begun: false, ..entry };
        let waits_for = self.others_than(&held).filter(|other| other.holds(&held)).count();
        self.put(key, Some(Entry { waits_for: waits_for as u32, ..held })); // TASKS_MAX at most
        // One that was held before its command came again is not to be woken twice.
        if let Err(at) = self.place_among_held(held.age) {
            self.held.insert(at, (held.age, key));
        }
    }

    fn place_among_held(&self, age: u64) -> Result<usize, usize> {
        self.held.binary_search_by_key(&age, |(age, _)| *age)
    }

    fn others_than(&self, entry: &Entry) -> impl Iterator<Item = &Entry> {
        #[cfg(test)]
        self.compared.set(self.compared.get() + self.len() as u64);
        let age = entry.age;
        self.entries.iter().flatten().filter(move |other| other.age != age)
    }

    fn is_in_turn(&self, task: &Entry) -> bool {
        match task.attribute {
            _ if task.enabled => true,
            Attribute::HeadOfQueue | Attribute::Aca => true,
            _ if self.heads > 0 => false,
            Attribute::Simple if self.ordered == 0 => true,
            _ => !self.others_than(task).any(|other| other.precedes(task)),
        }
    }

    /// Nobody who runs, and nobody older who waits, excludes the task.
    fn has_room(&self, task: &Entry) -> bool {
        if task.footprint == Footprint::Nothing || (self.exclusive == 0 && !task.footprint.is_exclusive()) {
            return true;
        }
        !self.others_than(task).any(|other| other.occupies(task))
    }

    /// The task has ended. `Some`: it had been aborted meanwhile.
    pub fn leave(&mut self, key: TaskKey) -> Option<Abort> {
        let entry = *self.get(key)?;
        if entry.life == Life::Held
            && let Ok(at) = self.place_among_held(entry.age)
        {
            self.held.remove(at);
        }
        self.put(key, None);
        self.free.push(key.0);
        if let Some(count) = self.shares_mut(entry.nexus) {
            *count -= 1;
        }
        // Its name may be given to another.
        self.woken.retain(|other| *other != key);
        self.wake();
        entry.aborted
    }

    /// Those of the held tasks that may go on now.
    fn wake(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let mut held = core::mem::take(&mut self.held);
        let mut kept = 0;
        for at in 0..held.len() {
            let (age, key) = held[at];
            let Some(entry) = self.get(key).copied().filter(|entry| entry.life == Life::Held) else {
                continue;
            };
            if entry.waits_for > 0 {
                held[kept] = (age, key);
                kept += 1;
                continue;
            }
            // It counts as running from here, so that no other is woken beside it. The younger count it
            // already, unless they are HEAD OF QUEUE, which overtake those who wait.
            let running = Entry { life: Life::Running, enabled: true, ..entry };
            self.entries[key.0 as usize] = Some(running);
            if entry.footprint != Footprint::Nothing {
                let younger = if self.heads > 0 { at + 1..held.len() } else { 0..0 };
                for (_, other) in held[..kept].iter().chain(&held[younger]) {
                    let Some(Some(task)) = self.entries.get_mut(other.0 as usize) else { continue };
                    let more = u32::from(running.holds(task)) - u32::from(entry.holds(task));
                    task.waits_for += more;
                }
            }
            self.woken.push_back(key);
        }
        held.truncate(kept);
        self.held = held;
    }

    /// The task waits until [`TaskSet::unpark`]: for the end of what goes on in the background. From
    /// here on its attribute holds nobody back.
    pub fn park(&mut self, key: TaskKey) {
        let Some(entry) = self.get(key).copied() else { return };
        let parked = Entry { life: Life::Parked, enabled: true, attribute: Attribute::Simple, ..entry };
        self.put(key, Some(parked));
        self.wake();
    }

    pub fn unpark(&mut self, key: TaskKey) {
        if let Some(entry) = self.get(key).copied()
            && entry.life == Life::Parked
        {
            self.put(key, Some(Entry { life: Life::Running, ..entry }));
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
        self.abort_as(Abort::Own, by, which, but)
    }

    /// The same for a reset.
    pub fn reset(&mut self, by: Nexus, which: impl Fn(Nexus, u64) -> bool) -> Vec<u32> {
        self.abort_as(Abort::Reset, by, which, None)
    }

    fn abort_as(
        &mut self,
        own: Abort,
        by: Nexus,
        which: impl Fn(Nexus, u64) -> bool,
        but: Option<TaskKey>,
    ) -> Vec<u32> {
        let mut running = Vec::new();
        for index in 0..self.entries.len() {
            let key = TaskKey(index as u32);
            let Some(entry) = &mut self.entries[index] else { continue };
            if but == Some(key) || !which(entry.nexus, entry.id) {
                continue;
            }
            if entry.aborted.is_none() {
                entry.aborted = Some(if entry.nexus == by { own } else { Abort::Other });
            }
            if matches!(entry.life, Life::Held | Life::Parked) {
                // Until it has left, which is soon, it stands in the way of those whom it did before.
                let woken = Entry { life: Life::Woken, ..*entry };
                if entry.life == Life::Parked {
                    self.put(key, Some(woken));
                } else {
                    *entry = woken;
                }
                self.woken.push_back(key);
            } else {
                running.push(entry.tag);
            }
        }
        let entries = &self.entries;
        self.held.retain(|(_, key)| {
            entries[key.0 as usize].as_ref().is_some_and(|entry| entry.life == Life::Held)
        });
        running
    }

    /// A nexus that is gone leaves its tasks that run to nobody: its number may be another's soon.
    pub fn disown(&mut self, nexus: Nexus) {
        for entry in self.entries.iter_mut().flatten().filter(|entry| entry.nexus == nexus) {
            entry.nexus = NOBODY;
        }
        if let Some(count) = self.shares_mut(nexus) {
            *count = 0;
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
