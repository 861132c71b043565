//! Task management functions, SAM-5 7.

use alloc::vec::Vec;

use crate::attention::{Condition, Reset};
use crate::nexus::Nexus;
use crate::unit::Unit;

/// A function that is about one logical unit. Target-wide ones are asked of each unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// The nexus's own task with this id.
    AbortTask(u64),
    /// All tasks of the nexus.
    AbortTaskSet,
    /// All tasks of the unit.
    ClearTaskSet,
    ClearAca,
    UnitReset,
    /// Of a target reset, this unit's part.
    TargetReset,
    /// I_T NEXUS RESET, this unit's part.
    NexusReset,
    QueryTask(u64),
    QueryTaskSet,
    /// QUERY ASYNCHRONOUS EVENT: is a unit attention condition pending?
    QueryAttention,
}

/// What becomes of a task management function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Managed {
    /// FUNCTION COMPLETE when these tasks, by the callers' tags, have ended: a task at a disk cannot
    /// be called back, and after the answer nothing of it may land.
    Complete { waits_for: Vec<u32> },
    /// FUNCTION SUCCEEDED: the queried task is there.
    Succeeded,
    /// FUNCTION REJECTED.
    Rejected,
}

impl Managed {
    const DONE: Managed = Managed::Complete { waits_for: Vec::new() };
}

impl Unit {
    pub fn manage(&mut self, nexus: Nexus, function: Function) -> Managed {
        self.look_for_unfinished(nexus);
        let waits_for = match function {
            Function::AbortTask(id) => self.tasks.abort(nexus, |of, task| of == nexus && task == id, None),
            Function::AbortTaskSet => self.tasks.abort(nexus, |of, _| of == nexus, None),
            Function::ClearTaskSet => {
                self.give_up_unfinished(|_, _| true);
                // SAM-5: with TAS one, the others are told by the status of their tasks.
                self.tasks.abort(nexus, |_, _| true, None)
            }
            // NACA is refused in CDBs, so no ACA condition ever stands.
            Function::ClearAca => return Managed::Rejected,
            Function::UnitReset => self.reset(Reset::LogicalUnit, Some(nexus)),
            Function::TargetReset => self.reset(Reset::Hard, Some(nexus)),
            Function::NexusReset => self.nexus_reset(nexus, Condition::NEXUS_LOSS),
            Function::QueryTask(id) if self.tasks.contains(nexus, Some(id)) => return Managed::Succeeded,
            Function::QueryTaskSet if self.tasks.contains(nexus, None) => return Managed::Succeeded,
            Function::QueryAttention if self.attentions.word(nexus) != 0 => return Managed::Succeeded,
            Function::QueryTask(_) | Function::QueryTaskSet | Function::QueryAttention => {
                return Managed::DONE;
            }
        };
        Managed::Complete { waits_for }
    }
}
