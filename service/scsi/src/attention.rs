//! Unit attention conditions, SAM-5: events that every initiator is told once, each by the
//! CHECK CONDITION of its next command.

use crate::nexus::{NEXUS_MAX, Nexus};
use crate::sense::Sense;

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
const PRECEDENCE: [Sense; 19] = [
    Sense::POWER_ON_OR_RESET,
    Sense::BUS_RESET_OCCURRED,
    Sense::BUS_DEVICE_RESET_FUNCTION_OCCURRED,
    Sense::NEXUS_LOSS_OCCURRED,
    Sense::REPORTED_LUNS_DATA_HAS_CHANGED,
    Sense::CAPACITY_DATA_HAS_CHANGED,
    Sense::MODE_PARAMETERS_CHANGED,
    Sense::LOG_PARAMETERS_CHANGED,
    Sense::RESERVATIONS_PREEMPTED,
    Sense::RESERVATIONS_RELEASED,
    Sense::REGISTRATIONS_PREEMPTED,
    Sense::ASYMMETRIC_ACCESS_STATE_CHANGED,
    Sense::COMMANDS_CLEARED_BY_ANOTHER_INITIATOR,
    Sense::THIN_PROVISIONING_SOFT_THRESHOLD_REACHED,
    Sense::INQUIRY_DATA_HAS_CHANGED,
    Sense::TIMESTAMP_CHANGED,
    Sense::MEDIUM_MAY_HAVE_CHANGED,
    Sense::OPERATOR_MEDIUM_REMOVAL_REQUEST,
    Sense::DEVICE_IDENTIFIER_CHANGED,
];

/// One bit a condition, the bit's number being its place in [`PRECEDENCE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition(u32);

impl Condition {
    pub const POWER_ON: Condition = Condition(1 << 0);
    pub const HARD_RESET: Condition = Condition(1 << 1);
    pub const UNIT_RESET: Condition = Condition(1 << 2);
    pub const NEXUS_LOSS: Condition = Condition(1 << 3);
    pub const LUNS: Condition = Condition(1 << 4);
    pub const CAPACITY: Condition = Condition(1 << 5);
    pub const MODE: Condition = Condition(1 << 6);
    pub const LOG: Condition = Condition(1 << 7);
    pub const RESERVATIONS_PREEMPTED: Condition = Condition(1 << 8);
    pub const RESERVATIONS_RELEASED: Condition = Condition(1 << 9);
    pub const REGISTRATIONS_PREEMPTED: Condition = Condition(1 << 10);
    pub const ACCESS_STATE: Condition = Condition(1 << 11);
    pub const COMMANDS_CLEARED: Condition = Condition(1 << 12);
    pub const THIN_THRESHOLD: Condition = Condition(1 << 13);
    pub const INQUIRY: Condition = Condition(1 << 14);
    pub const TIMESTAMP: Condition = Condition(1 << 15);
    pub const MEDIUM: Condition = Condition(1 << 16);
    pub const REMOVAL_REQUEST: Condition = Condition(1 << 17);
    pub const IDENTIFIER: Condition = Condition(1 << 18);

    /// The conditions of which only the highest is kept: each tells the initiator that everything
    /// it knew may have changed.
    const RESETS: u32 = 0b1111;
    const ALL: u32 = (1 << PRECEDENCE.len()) - 1;
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
pub struct Attentions([u32; NEXUS_MAX]);

impl Attentions {
    /// Nothing waits for anybody.
    pub fn none() -> Attentions {
        Attentions([0; NEXUS_MAX])
    }

    /// What waits for one nexus, as it is stored.
    pub fn word(&self, nexus: Nexus) -> u32 {
        self.0[slot(nexus)]
    }

    /// From a stored word; bits without a meaning are dropped.
    pub fn set_word(&mut self, nexus: Nexus, word: u32) {
        self.0[slot(nexus)] = word & Condition::ALL;
    }

    /// The condition to report next, which is thereby told.
    pub fn take(&mut self, nexus: Nexus) -> Option<(Sense, Condition)> {
        let pending = &mut self.0[slot(nexus)];
        let first = pending.trailing_zeros();
        let sense = PRECEDENCE.get(first as usize)?;
        *pending &= *pending - 1;
        Some((*sense, Condition(1 << first)))
    }

    /// True: it was pending.
    pub fn clear(&mut self, nexus: Nexus, condition: Condition) -> bool {
        let pending = &mut self.0[slot(nexus)];
        let was = *pending & condition.0 != 0;
        *pending &= !condition.0;
        was
    }

    pub fn establish(&mut self, nexus: Nexus, condition: Condition) {
        let pending = &mut self.0[slot(nexus)];
        *pending = join(*pending, condition);
    }
}

fn slot(nexus: Nexus) -> usize {
    let slot = usize::try_from(nexus.0).ok().filter(|index| *index < NEXUS_MAX);
    slot.expect("the unit numbers nexuses below NEXUS_MAX")
}

/// Adds a condition; of the resets only the one of highest precedence (the lowest bit) stays.
fn join(pending: u32, condition: Condition) -> u32 {
    let joined = pending | condition.0;
    let resets = joined & Condition::RESETS;
    let first = resets & resets.wrapping_neg();
    joined & !Condition::RESETS | first
}
