//! Persistent reservations as a few lines of text (SPC-4 5.13), to judge the unit by: it knows no
//! unit attentions, no tasks and no transport, and was written apart from `service/scsi`.
//!
//! Several PERSISTENT RESERVE OUT commands may be out at a time, in an order that nobody knows. So
//! [`Possible`] keeps every history that the answers so far allow.

use std::collections::BTreeSet;

pub const INITIATORS: usize = 3;

/// What an initiator registers; zero: it is not registered.
pub type Key = u64;

/// The reservation types of SPC-4, table 67.
pub mod kind {
    pub const WRITE_EXCLUSIVE: u8 = 1;
    pub const EXCLUSIVE_ACCESS: u8 = 3;
    pub const WRITE_EXCLUSIVE_ALL_REGISTRANTS: u8 = 7;
    pub const EXCLUSIVE_ACCESS_ALL_REGISTRANTS: u8 = 8;
    pub const ALL: [u8; 6] = [1, 3, 5, 6, 7, 8];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// `key`: none if the key that is registered is to be ignored.
    Register {
        key: Option<Key>,
        new: Key,
        aptpl: bool,
    },
    Reserve {
        key: Key,
        kind: u8,
    },
    Release {
        key: Key,
        kind: u8,
    },
    Clear {
        key: Key,
    },
    Preempt {
        key: Key,
        victim: Key,
        kind: u8,
        abort: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    Good,
    Conflict,
    /// CHECK CONDITION for what was asked.
    Refused,
    /// It was not run: BUSY, a unit attention.
    NotRun,
    /// It was run or not: it was aborted, or could not be made durable.
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    pub keys: [Key; INITIATORS],
    /// The type, and who holds it; of the types for all registrants, who made it.
    pub held: Option<(u8, usize)>,
    pub aptpl: bool,
}

impl Table {
    fn is_holder(&self, who: usize) -> bool {
        match self.held {
            None => false,
            Some((7 | 8, _)) => self.keys[who] != 0,
            Some((_, holder)) => holder == who,
        }
    }

    fn unregister(&mut self, who: usize) {
        let last = self.keys.iter().filter(|key| **key != 0).count() == 1;
        let held_alone = matches!(self.held, Some((kind, holder)) if kind < 7 && holder == who);
        if self.keys[who] != 0 && (held_alone || last) {
            self.held = None;
        }
        self.keys[who] = 0;
    }

    pub fn after(&self, who: usize, action: Action) -> (Answer, Table) {
        let mut table = self.clone();
        let answer = table.apply(who, action);
        (answer, if answer == Answer::Good { table } else { self.clone() })
    }

    fn apply(&mut self, who: usize, action: Action) -> Answer {
        let own = self.keys[who];
        let given = match action {
            Action::Register { key, .. } => key.unwrap_or(own),
            Action::Reserve { key, .. }
            | Action::Release { key, .. }
            | Action::Clear { key }
            | Action::Preempt { key, .. } => key,
        };
        let registers = matches!(action, Action::Register { .. });
        if given != own || (own == 0 && !registers) {
            return Answer::Conflict;
        }
        match action {
            Action::Register { new, aptpl, .. } => {
                self.aptpl = aptpl;
                match new {
                    0 => self.unregister(who),
                    new => self.keys[who] = new,
                }
            }
            Action::Reserve { kind, .. } => match self.held {
                None => self.held = Some((kind, who)),
                Some((held, _)) if held == kind && self.is_holder(who) => {}
                Some(_) => return Answer::Conflict,
            },
            Action::Release { kind, .. } => {
                if self.is_holder(who) {
                    if self.held.is_some_and(|(held, _)| held != kind) {
                        return Answer::Refused;
                    }
                    self.held = None;
                }
            }
            Action::Clear { .. } => {
                self.keys = [0; INITIATORS];
                self.held = None;
            }
            Action::Preempt { victim, kind, .. } => return self.preempt(who, victim, kind),
        }
        Answer::Good
    }

    fn preempt(&mut self, who: usize, victim: Key, kind: u8) -> Answer {
        let all_registrants = matches!(self.held, Some((7 | 8, _)));
        let takes_over = match self.held {
            Some((7 | 8, _)) => victim == 0,
            Some((_, holder)) => self.keys[holder] == victim,
            None => false,
        };
        if victim == 0 && !all_registrants {
            // Nobody is registered by zero; with a reservation SPC-4 has words of its own for that.
            return if self.held.is_some() { Answer::Refused } else { Answer::Conflict };
        }
        let others: Vec<usize> = (0..INITIATORS).filter(|other| *other != who).collect();
        if takes_over {
            for other in others {
                if victim == 0 || self.keys[other] == victim {
                    self.keys[other] = 0;
                }
            }
            self.held = Some((kind, who));
            return Answer::Good;
        }
        let mut found = false;
        for other in others {
            if self.keys[other] == victim {
                self.unregister(other);
                found = true;
            }
        }
        if found { Answer::Good } else { Answer::Conflict }
    }

    pub fn may_write(&self, who: usize) -> bool {
        match self.held {
            None => true,
            Some((kind::WRITE_EXCLUSIVE | kind::EXCLUSIVE_ACCESS, _)) => self.is_holder(who),
            Some(_) => self.keys[who] != 0,
        }
    }

    pub fn may_read(&self, who: usize) -> bool {
        match self.held {
            Some((kind::EXCLUSIVE_ACCESS, _)) => self.is_holder(who),
            Some((6 | kind::EXCLUSIVE_ACCESS_ALL_REGISTRANTS, _)) => self.keys[who] != 0,
            _ => true,
        }
    }

    /// What a loss of power leaves.
    pub fn persistent(&self) -> Table {
        if self.aptpl { self.clone() } else { Table::default() }
    }

    /// What PERSISTENT RESERVE IN can tell.
    pub fn visible(&self) -> (Vec<Key>, Option<(Key, u8)>) {
        let mut keys: Vec<Key> = self.keys.iter().copied().filter(|key| *key != 0).collect();
        keys.sort_unstable();
        let held = self.held.map(|(kind, holder)| match kind {
            // SPC-4: zero for all registrants.
            kind::WRITE_EXCLUSIVE_ALL_REGISTRANTS | kind::EXCLUSIVE_ACCESS_ALL_REGISTRANTS => (0, kind),
            kind => (self.keys[holder], kind),
        });
        (keys, held)
    }
}

/// A command that is out, and how it was answered if it was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pending {
    name: u64,
    who: usize,
    action: Action,
    answer: Option<Answer>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct History {
    table: Table,
    pending: Vec<Pending>,
    /// The table behind the last change that was acknowledged, and the changes since, in order: a power
    /// cut may take those, the later ones first, although others have seen them.
    sure: Table,
    since: Vec<(u64, Table)>,
}

impl History {
    fn new(table: Table) -> Self {
        Self { sure: table.clone(), table, pending: Vec::new(), since: Vec::new() }
    }

    /// The command is run.
    fn run(&mut self, at: usize) {
        let Pending { name, who, action, .. } = self.pending[at];
        let (answer, table) = self.table.after(who, action);
        self.pending[at].answer = Some(answer);
        if table != self.table {
            self.since.push((name, table.clone()));
            self.table = table;
        }
    }

    /// It was acknowledged: what it and those before it did is on stable storage.
    fn acknowledge(&mut self, name: u64) {
        if let Some(at) = self.since.iter().position(|(other, _)| *other == name) {
            self.sure = self.since.drain(..=at).next_back().expect("one at least").1;
        }
    }

    fn after_power_cut(&self) -> impl Iterator<Item = Table> {
        [&self.sure].into_iter().chain(self.since.iter().map(|(_, table)| table)).map(Table::persistent)
    }
}

/// Everything that may be true.
#[derive(Clone, Debug)]
pub struct Possible(BTreeSet<History>);

impl Possible {
    pub fn new(table: Table) -> Self {
        Self(BTreeSet::from([History::new(table)]))
    }

    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.0.iter().map(|history| &history.table)
    }

    pub fn may(&self, what: impl Fn(&Table) -> bool) -> bool {
        self.tables().any(what)
    }

    pub fn must(&self, what: impl Fn(&Table) -> bool) -> bool {
        self.tables().all(what)
    }

    pub fn sent(&mut self, name: u64, who: usize, action: Action) {
        let pending = Pending { name, who, action, answer: None };
        let mut open: Vec<History> = std::mem::take(&mut self.0).into_iter().collect();
        for history in &mut open {
            history.pending.push(pending);
        }
        // Each command may be run at any moment from now on, so in any order.
        while let Some(history) = open.pop() {
            for at in (0..history.pending.len()).filter(|at| history.pending[*at].answer.is_none()) {
                let mut next = history.clone();
                next.run(at);
                open.push(next);
            }
            self.0.insert(history);
        }
    }

    /// No history has a command that was run and that its initiator has not heard of.
    pub fn is_settled(&self) -> bool {
        let done = |pending: &Pending| pending.answer == Some(Answer::Good);
        !self.0.iter().any(|history| history.pending.iter().any(done))
    }

    /// False: no history leads to this answer.
    pub fn answered(&mut self, name: u64, answer: Answer) -> bool {
        let before = std::mem::take(&mut self.0);
        self.0 = before
            .iter()
            .filter_map(|history| {
                let at = history.pending.iter().position(|pending| pending.name == name)?;
                let was = history.pending[at].answer;
                let fits = match answer {
                    Answer::Unknown => true,
                    Answer::NotRun => was.is_none(),
                    answer => was == Some(answer),
                };
                let mut history = history.clone();
                history.pending.remove(at);
                if answer == Answer::Good {
                    history.acknowledge(name);
                }
                fits.then_some(history)
            })
            .collect();
        let led_there = !self.0.is_empty();
        if !led_there {
            // Something has to be true all the same.
            self.0 = before;
            for mut history in std::mem::take(&mut self.0) {
                history.pending.retain(|pending| pending.name != name);
                self.0.insert(history);
            }
        }
        led_there
    }

    /// The power was cut, and this was found afterwards. False: no history leads there.
    pub fn power_was_cut(&mut self, found: &Table) -> bool {
        let left: Vec<Table> = (self.0.iter().flat_map(History::after_power_cut))
            .filter(|table| table.visible() == found.visible())
            .collect();
        // Several may look alike: they differ in who has which key, and in APTPL.
        let fits = !left.is_empty();
        let left = if fits { left } else { vec![found.clone()] };
        self.0 = left.into_iter().map(History::new).collect();
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered() -> Table {
        Table { keys: [10, 20, 30], held: None, aptpl: true }
    }

    #[test]
    fn the_reference_does_what_the_standard_says() {
        let table = Table::default();
        let register = |key, new| Action::Register { key: Some(key), new, aptpl: false };
        assert_eq!(table.after(0, register(5, 6)).0, Answer::Conflict);
        let (answer, table) = table.after(0, register(0, 10));
        assert_eq!((answer, table.keys), (Answer::Good, [10, 0, 0]));
        assert_eq!(table.after(1, Action::Reserve { key: 0, kind: 1 }).0, Answer::Conflict);

        let (_, table) = registered().after(1, Action::Reserve { key: 20, kind: 5 });
        assert!(table.may_write(0) && table.is_holder(1) && !table.is_holder(0));
        assert_eq!(table.after(0, Action::Reserve { key: 10, kind: 5 }).0, Answer::Conflict);
        assert_eq!(table.after(1, Action::Release { key: 20, kind: 6 }).0, Answer::Refused);
        let (answer, taken) = table.after(0, Action::Preempt { key: 10, victim: 20, kind: 1, abort: true });
        assert_eq!((answer, taken.keys, taken.held), (Answer::Good, [10, 0, 30], Some((1, 0))));
        assert!(!taken.may_write(1) && !taken.may_write(2) && taken.may_read(1));
        let (_, kept) = table.after(0, Action::Preempt { key: 10, victim: 30, kind: 1, abort: false });
        assert_eq!((kept.keys, kept.held), ([10, 20, 0], Some((5, 1))));
        assert_eq!(taken.visible(), (vec![10, 30], Some((10, 1))));

        let (_, all) = registered().after(0, Action::Reserve { key: 10, kind: 8 });
        let (_, all) = all.after(0, register(10, 0));
        assert_eq!(all.held, Some((8, 0)));
        assert!(all.is_holder(2) && !all.may_read(0));
        let (_, alone) = all.after(2, Action::Preempt { key: 30, victim: 0, kind: 3, abort: false });
        assert_eq!((alone.keys, alone.held), ([0, 0, 30], Some((3, 2))));
        let nobody = Action::Preempt { key: 10, victim: 0, kind: 1, abort: false };
        assert_eq!(registered().after(0, nobody).0, Answer::Conflict);
        assert_eq!(kept.after(0, nobody).0, Answer::Refused);
    }

    #[test]
    fn histories_that_an_answer_rules_out_are_gone() {
        let mut possible = Possible::new(registered());
        possible.sent(1, 0, Action::Reserve { key: 10, kind: 1 });
        possible.sent(2, 1, Action::Reserve { key: 20, kind: 1 });
        assert!(possible.may(|table| table.held.is_none()) && possible.may(|table| table.is_holder(1)));
        assert!(possible.answered(2, Answer::Conflict));
        assert!(possible.must(|table| table.is_holder(0)));
        assert!(!possible.clone().answered(1, Answer::Conflict));
        assert!(possible.answered(1, Answer::Good));
        possible.sent(3, 2, Action::Clear { key: 30 });
        assert!(possible.clone().power_was_cut(&Table::default()));
        let kept = Table { held: Some((1, 0)), ..registered() };
        assert!(possible.clone().power_was_cut(&kept));
        assert!(!possible.clone().power_was_cut(&registered()));
        // Somebody has found out that the keys are gone, and the one who clears them was not told yet.
        possible.sent(4, 1, Action::Reserve { key: 20, kind: 1 });
        assert!(possible.answered(4, Answer::Conflict));
        possible.sent(5, 1, Action::Register { key: Some(0), new: 21, aptpl: true });
        assert!(possible.answered(5, Answer::Good));
        assert!(possible.must(|table| table.keys == [0, 21, 0]));
        assert!(!possible.clone().power_was_cut(&kept), "what came later was acknowledged");
        possible.sent(6, 1, Action::Clear { key: 21 });
        possible.sent(7, 0, Action::Register { key: Some(0), new: 11, aptpl: true });
        possible.sent(8, 1, Action::Reserve { key: 21, kind: 1 });
        assert!(possible.answered(8, Answer::Conflict));
        assert!(possible.must(|table| table.keys[1] == 0));
        assert!(possible.power_was_cut(&Table { keys: [0, 21, 0], held: None, aptpl: true }));
    }
}
