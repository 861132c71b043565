//! A copy of another unit reads or writes here: piece by piece it is a task of this unit too, so that
//! exclusive blocks are, and that an answer which shuts its initiator out comes behind its last write.

use request::Extent;

use crate::nexus::Nexus;
use crate::reservation::Access;
use crate::task_set::{Attribute, Footprint, TaskKey};
use crate::unit::Unit;

/// Whether a piece of a copy may be read or written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// [`Unit::depart`] ends it.
    Go(TaskKey),
    /// Others come first: ask again with this when [`Unit::woken`] names the tag.
    Wait(TaskKey),
    /// The initiator may not, any more: the copy ends.
    Refused,
}

/// Initiators name their tasks; nobody names these.
const NAMELESS: u64 = u64::MAX;

impl Unit {
    /// `nexus`: the initiator's own at this unit. `tag`: of the copy, as its own unit knows it.
    pub fn visit(
        &mut self,
        nexus: Nexus,
        tag: u32,
        again: Option<TaskKey>,
        extent: Extent,
        writes: bool,
    ) -> Visit {
        let entered = again.or_else(|| self.tasks.enter(tag, nexus, NAMELESS, Attribute::Simple));
        let Some(task) = entered else { return Visit::Refused };
        let (may_read, may_write) = self.access_of(nexus);
        let may = if writes { may_write } else { may_read };
        if self.tasks.aborted(task).is_some() || !may {
            self.tasks.leave(task);
            return Visit::Refused;
        }
        if !self.tasks.may_start(task) || !self.tasks.claim(task, Footprint::shared(extent)) {
            return Visit::Wait(task);
        }
        if writes {
            self.written_by_copy(extent);
        }
        Visit::Go(task)
    }

    /// The piece has ended. `false`: the visit was aborted here, and the copy is to end.
    pub fn depart(&mut self, task: TaskKey) -> bool {
        self.tasks.leave(task).is_none()
    }

    /// Whether a copy of this nexus may read here, and write.
    pub(crate) fn access_of(&self, nexus: Nexus) -> (bool, bool) {
        if self.nexuses.peer(nexus).is_none() || self.stopped || self.erasing_sense().is_some() {
            return (false, false);
        }
        let allowed = self.allowed.get(nexus.0 as usize);
        let may = |access| allowed.is_some_and(|allowed| allowed.has(access));
        (may(Access::Read), may(Access::Write) && !self.facts.read_only)
    }

    /// The task was aborted while it ran: it is to end at its next step.
    pub fn is_aborted(&self, task: TaskKey) -> bool {
        self.tasks.aborted(task).is_some()
    }
}
