//! Unit attention conditions, SAM-5: events that every initiator is told once, each by the
//! CHECK CONDITION of its next command.

use crate::sense::Sense;

/// An initiator as a logical unit knows it: the number of its I_T nexus, given by the caller,
/// below [`NEXUS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nexus(pub u32);

/// I_T nexuses that one unit can tell apart: enough for a volume that a cluster of hosts shares,
/// and small enough that the whole state fits in three cache lines.
pub const NEXUS_MAX: usize = 64;

/// Why a unit went back to its defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Power on, or the initiator's machine did so.
    PowerOn,
    /// A hard reset of the target: every unit of it.
    Hard,
    /// The LOGICAL UNIT RESET task management function.
    LogicalUnit,
}

/// Conditions in the order in which they are reported: SAM-5 puts the resets first, in
/// this order; the rest has no order of its own.
const PRECEDENCE: [Sense; 7] = [
    Sense::POWER_ON_OR_RESET,
    Sense::BUS_RESET_OCCURRED,
    Sense::BUS_DEVICE_RESET_FUNCTION_OCCURRED,
    Sense::NEXUS_LOSS_OCCURRED,
    Sense::REPORTED_LUNS_DATA_HAS_CHANGED,
    Sense::CAPACITY_DATA_HAS_CHANGED,
    Sense::MODE_PARAMETERS_CHANGED,
];

/// One bit a condition, the bit's number being its place in [`PRECEDENCE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition(u16);

impl Condition {
    pub const POWER_ON: Condition = Condition(1 << 0);
    pub const HARD_RESET: Condition = Condition(1 << 1);
    pub const UNIT_RESET: Condition = Condition(1 << 2);
    pub const NEXUS_LOSS: Condition = Condition(1 << 3);
    pub const LUNS: Condition = Condition(1 << 4);
    pub const CAPACITY: Condition = Condition(1 << 5);
    pub const MODE: Condition = Condition(1 << 6);

    /// The conditions of which only the highest is kept: each tells the initiator that everything
    /// it knew may have changed.
    const RESETS: u16 = 0b1111;
    const ALL: u16 = (1 << PRECEDENCE.len()) - 1;
}

impl From<Reset> for Condition {
    fn from(reset: Reset) -> Condition {
        match reset {
            Reset::PowerOn => Condition::POWER_ON,
            Reset::Hard => Condition::HARD_RESET,
            Reset::LogicalUnit => Condition::UNIT_RESET,
        }
    }
}

/// What waits for each nexus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attentions([u16; NEXUS_MAX]);

impl Attentions {
    /// A unit that was just powered on: everybody has to be told.
    pub fn power_on() -> Attentions {
        Attentions([Condition::POWER_ON.0; NEXUS_MAX])
    }

    /// Nothing waits for anybody.
    pub fn none() -> Attentions {
        Attentions([0; NEXUS_MAX])
    }

    /// These and the others.
    pub fn with(&self, others: &Attentions) -> Attentions {
        let mut words = self.0;
        for (word, other) in words.iter_mut().zip(others.0) {
            *word |= other;
        }
        Attentions(words)
    }

    /// These without the others.
    pub fn without(&self, others: &Attentions) -> Attentions {
        let mut words = self.0;
        for (word, other) in words.iter_mut().zip(others.0) {
            *word &= !other;
        }
        Attentions(words)
    }

    /// From stored words; bits without a meaning are dropped.
    pub fn from_words(words: [u16; NEXUS_MAX]) -> Attentions {
        Attentions(words.map(|word| word & Condition::ALL))
    }

    pub fn words(&self) -> [u16; NEXUS_MAX] {
        self.0
    }

    fn slot(&mut self, nexus: Nexus) -> &mut u16 {
        let slot = usize::try_from(nexus.0).ok().and_then(|index| self.0.get_mut(index));
        slot.expect("the caller numbers nexuses below NEXUS_MAX")
    }

    /// The condition to report next, which is thereby told.
    pub fn take(&mut self, nexus: Nexus) -> Option<Sense> {
        let slot = self.slot(nexus);
        let first = slot.trailing_zeros() as usize;
        let sense = PRECEDENCE.get(first)?;
        *slot &= *slot - 1;
        Some(*sense)
    }

    /// True: it was pending.
    pub fn clear(&mut self, nexus: Nexus, condition: Condition) -> bool {
        let slot = self.slot(nexus);
        let was = *slot & condition.0 != 0;
        *slot &= !condition.0;
        was
    }

    pub fn establish(&mut self, nexus: Nexus, condition: Condition) {
        let slot = self.slot(nexus);
        *slot = join(*slot, condition);
    }

    pub fn establish_all(&mut self, condition: Condition) {
        for slot in &mut self.0 {
            *slot = join(*slot, condition);
        }
    }

    pub fn establish_others(&mut self, nexus: Nexus, condition: Condition) {
        let mine = *self.slot(nexus);
        self.establish_all(condition);
        *self.slot(nexus) = mine;
    }
}

/// Adds a condition; of the resets only the one of highest precedence (the lowest bit) stays.
fn join(pending: u16, condition: Condition) -> u16 {
    let joined = pending | condition.0;
    let resets = joined & Condition::RESETS;
    let first = resets & resets.wrapping_neg();
    joined & !Condition::RESETS | first
}
