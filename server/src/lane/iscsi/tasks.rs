//! Commands and task management functions of a session, on their way to the units and back.

use std::rc::Rc;
use std::sync::Arc;

use iscsi_target::{Answer, Attribute, Collected, Command, Function, Outcome, Place, Tag};
use scsi::{Format, Managed, Nexus, Response, Sense, Verdict};

use super::super::Lane;
use super::super::requests::{Origin, Work};
use super::super::scsi::{Arrival, Ended, ScsiTask, View};
use super::session::Phase;

impl Lane {
    /// A command has come, or the data that it waited for. It goes to its unit when all of its
    /// data is there.
    pub(super) fn begin_task(&mut self, index: u32, task: Tag) {
        let Some(session) = self.iscsi.session(index) else { return };
        if session.has_begun(task) {
            return;
        }
        let Some(command) = session.link.command(task) else { return };
        if session.phase == Phase::Ending || session.link.end_reason().is_some() {
            session.link.drop_task(task);
            return;
        }
        if command.data_out > 0 {
            let wanted = u32::try_from(command.data_out).unwrap_or(u32::MAX);
            match session.link.collect(task, wanted) {
                Collected::Ready => {}
                Collected::Later => return,
                // The answer says what happened to the data.
                Collected::Never => {
                    let outcome =
                        Outcome { status: scsi::status::CHECK_CONDITION, sense: &[], data_in: 0, moves: 0 };
                    session.link.respond(task, &outcome);
                    return;
                }
            }
        }
        let unit = match command.place {
            Place::Unit(lun) => session.view.find(lun),
            Place::ReportLuns | Place::Unknown => None,
        };
        match unit {
            Some((volume, nexus)) => self.give_to_unit(index, task, &command, volume, nexus),
            None => self.answer_without_unit_of_session(index, task, &command),
        }
    }

    fn give_to_unit(&mut self, index: u32, task: Tag, command: &Command, volume: u32, nexus: Nexus) {
        let Some(tag) = self.requests.take() else {
            if let Some(session) = self.iscsi.session(index) {
                session.stalled.push(task);
            }
            return;
        };
        let Some(session) = self.iscsi.session(index) else {
            self.requests.give_back(tag);
            return;
        };
        session.commands += 1;
        session.set_begun(task, true);
        let request = self.requests.get(tag);
        request.origin = Origin::Session { connection: index, task: task.0 };
        request.volume = volume;
        request.memory = Some(Arc::clone(session.memory()));
        request.in_spans.clear();
        request.out_spans.clear();
        if command.data_out > 0 {
            let mut left = session.link.collected(task);
            for span in session.link.buffer(task) {
                let len = span.len.min(left);
                left -= len;
                if len > 0 {
                    request.out_spans.push(request::Span { len, ..span });
                }
            }
        }
        request.in_spans.extend(session.room(task).into_iter().filter(|span| span.len > 0));
        request.work = Work::Scsi(ScsiTask::new(Arrival {
            view: &session.view,
            nexus,
            id: command.id,
            attribute: match command.attribute {
                Attribute::Simple => scsi::Attribute::Simple,
                Attribute::Ordered => scsi::Attribute::Ordered,
                Attribute::HeadOfQueue => scsi::Attribute::HeadOfQueue,
                Attribute::Aca => scsi::Attribute::Aca,
            },
            cdb: command.cdb(),
            resumed: command.resumed,
            front: None,
        }));
        self.start_scsi(tag);
    }

    /// A command to a LUN that the session does not see, or to the well known one.
    fn answer_without_unit_of_session(&mut self, index: u32, task: Tag, command: &Command) {
        let Some(session) = self.iscsi.session(index) else { return };
        let view = Rc::clone(&session.view);
        let bare = scsi::bare_command(command.cdb(), &view.numbers);
        self.reply.clear();
        let verdict = match command.place {
            Place::ReportLuns => scsi::well_known(&bare, &mut self.reply),
            _ => scsi::no_unit(&bare, &mut self.reply),
        };
        let Verdict::Respond(response) = verdict else {
            unreachable!("without a unit there is nothing to wait for");
        };
        let Some(session) = self.iscsi.session(index) else { return };
        let data_in = session.memory().scatter(&session.room(task), &self.reply) as u64;
        self.answer_session(index, task.0, &Ended::Response { response, data_in });
    }

    /// A command of a session has ended.
    pub(in super::super) fn answer_session(&mut self, connection: u32, task: u32, ended: &Ended) {
        let Some(session) = self.iscsi.session(connection) else { return };
        let task = Tag(task);
        session.set_begun(task, false);
        let refused = |sense, moves| Response {
            status: scsi::status::CHECK_CONDITION,
            sense: Some(sense),
            format: Format::Fixed,
            data_out: moves,
        };
        let (response, data_in) = match ended {
            Ended::Response { response, data_in } => (*response, *data_in),
            // What did not fit is told as a residual.
            Ended::Overrun { moves } => {
                (refused(Sense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT, *moves), 0)
            }
            Ended::Gone => (refused(Sense::LOGICAL_UNIT_NOT_SUPPORTED, 0), 0),
            Ended::Aborted { .. } => {
                session.link.drop_task(task);
                self.iscsi.touch(connection);
                return;
            }
        };
        let sense = response.sense_data();
        let moves = if data_in > 0 { data_in } else { response.data_out };
        let outcome = Outcome {
            status: response.status,
            sense: sense.as_deref().unwrap_or(&[]),
            data_in: u32::try_from(data_in).unwrap_or(u32::MAX),
            moves,
        };
        session.link.respond(task, &outcome);
        self.iscsi.touch(connection);
    }

    /// Task management. Tasks that only wait for data are not known to their unit, and end here.
    pub(super) fn begin_management(&mut self, index: u32, task: Tag) {
        let Some(session) = self.iscsi.session(index) else { return };
        let Some(management) = session.link.management(task) else { return };
        let lun = match management.place {
            Place::Unit(lun) => Some(lun),
            Place::ReportLuns | Place::Unknown => None,
        };
        let everywhere = matches!(
            management.function,
            Function::TargetWarmReset | Function::TargetColdReset | Function::NexusReset
        );
        let units: Vec<(u32, Nexus)> = if everywhere {
            session.view.units.iter().map(|(_, volume, nexus)| (*volume, *nexus)).collect()
        } else {
            lun.and_then(|lun| session.view.find(lun)).into_iter().collect()
        };
        if units.is_empty() && !everywhere {
            session.link.answer(task, Answer::NoUnit);
            return;
        }
        let asked = match management.function {
            Function::AbortTask => match management.task {
                Some(about) if !session.has_begun(about) => {
                    session.stalled.retain(|other| *other != about);
                    session.link.drop_task(about);
                    session.link.answer(task, Answer::Complete);
                    return;
                }
                _ => scsi::Function::AbortTask(management.id),
            },
            Function::QueryTask => match management.task {
                Some(about) if !session.has_begun(about) => {
                    session.link.answer(task, Answer::Succeeded);
                    return;
                }
                _ => scsi::Function::QueryTask(management.id),
            },
            Function::AbortTaskSet => scsi::Function::AbortTaskSet,
            Function::ClearAca => scsi::Function::ClearAca,
            Function::ClearTaskSet => scsi::Function::ClearTaskSet,
            Function::UnitReset => scsi::Function::UnitReset,
            Function::TargetWarmReset | Function::TargetColdReset => scsi::Function::TargetReset,
            Function::NexusReset => scsi::Function::NexusReset,
            Function::QueryTaskSet => scsi::Function::QueryTaskSet,
        };
        let clears = !matches!(
            management.function,
            Function::AbortTask | Function::ClearAca | Function::QueryTask | Function::QueryTaskSet
        );
        if clears {
            self.drop_unbegun(index, if everywhere { None } else { lun });
        }
        let mut waits_for = Vec::new();
        let mut answer = None;
        for (volume, nexus) in units {
            match self.manage(volume, nexus, asked) {
                Some(Managed::Complete { waits_for: tasks }) => waits_for.extend(tasks),
                Some(Managed::Succeeded) => answer = Some(Answer::Succeeded),
                Some(Managed::Rejected) => answer = Some(Answer::Rejected),
                None => answer = Some(Answer::NoUnit),
            }
        }
        let waiter = if answer.is_none() { self.requests.take() } else { None };
        let Some(waiter) = waiter else {
            if let Some(session) = self.iscsi.session(index) {
                // Without a record to wait with it is not done, and the initiator may try again.
                session.link.answer(task, answer.unwrap_or(Answer::Rejected));
            }
            self.run_woken();
            return;
        };
        let request = self.requests.get(waiter);
        request.origin = Origin::Session { connection: index, task: task.0 };
        request.work = Work::Manage { waits_for };
        self.waiting.push(waiter);
        self.settle(u32::MAX);
        self.run_woken();
    }

    /// Tasks of a session that wait for data, or for room: `None`, of all LUNs.
    fn drop_unbegun(&mut self, index: u32, lun: Option<u16>) {
        let Some(session) = self.iscsi.session(index) else { return };
        let waiting: Vec<Tag> = session.link.tasks().filter(|task| !session.has_begun(*task)).collect();
        for task in waiting {
            let about = match session.link.command(task) {
                Some(Command { place: Place::Unit(of), .. }) => lun.is_none_or(|lun| lun == of),
                Some(_) => lun.is_none(),
                // A task management function.
                None => false,
            };
            if about {
                session.stalled.retain(|other| *other != task);
                session.link.drop_task(task);
            }
        }
    }

    /// The tasks that a task management function was about have ended.
    pub(in super::super) fn session_managed(&mut self, connection: u32, task: u32) {
        if let Some(session) = self.iscsi.session(connection) {
            session.link.answer(Tag(task), Answer::Complete);
            self.iscsi.touch(connection);
        }
    }

    /// No more input is looked at: the nexus is lost, and its tasks end.
    pub(super) fn abort_session(&mut self, index: u32) {
        self.drop_unbegun(index, None);
        self.leave_units(index);
        let Some(session) = self.iscsi.session(index) else { return };
        session.phase = Phase::Ending;
        // Functions whose tasks are gone by now, or which nobody waits for any more.
        let left: Vec<Tag> =
            session.link.tasks().filter(|task| session.link.command(*task).is_none()).collect();
        for task in left {
            session.link.drop_task(task);
        }
        self.run_woken();
    }

    /// The session is a nexus of no unit any more.
    pub(super) fn leave_units(&mut self, index: u32) {
        let Some(session) = self.iscsi.session(index) else { return };
        let view = std::mem::take(&mut session.view);
        self.leave(&view, |_| true);
    }

    /// Detaches a nexus from those units of a view, each once.
    pub(super) fn leave(&mut self, view: &View, which: impl Fn(u32) -> bool) {
        let mut left: Vec<u32> = Vec::new();
        for (_, volume, nexus) in view.units.iter().filter(|(_, volume, _)| which(*volume)) {
            if left.contains(volume) {
                continue;
            }
            left.push(*volume);
            if let Some(logical) = self.volumes.unit(*volume) {
                // What it still has at the disks ends into memory that is held for it.
                let _ = logical.unit.detach(*nexus);
                self.volumes.dirty(*volume);
                if !self.wakers.contains(volume) {
                    self.wakers.push(*volume);
                }
            }
        }
    }
}
