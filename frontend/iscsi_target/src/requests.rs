//! Requests of the full feature phase whose turn has come.

use crate::bits::{RESERVED_TAG, answer, flag, function, logout, reject};
use crate::connection::{Connection, End, Event, Turn};
use crate::fault::Fault;
use crate::limits::TEXT_MAX_BYTES;
use crate::pdu::{Place, before};
use crate::task::{Kind, State, Tag, is};
use crate::textual;

/// Task attributes, SAM-5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    Simple,
    Ordered,
    HeadOfQueue,
    Aca,
}

/// A SCSI command, as its unit has to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    cdb: [u8; crate::limits::CDB_MAX_BYTES],
    cdb_bytes: u16,
    pub place: Place,
    pub attribute: Attribute,
    /// CmdSN in the upper half, initiator task tag in the lower: no two commands of a session have
    /// the same within any time that matters.
    pub id: u64,
    /// Bytes that the initiator offers, and those that it has room for.
    pub data_out: u64,
    pub data_in: u64,
    /// A predecessor may have run it.
    pub resumed: bool,
}

impl Command {
    /// 16 bytes, or what came in an additional header segment as well.
    pub fn cdb(&self) -> &[u8] {
        self.cdb.get(..usize::from(self.cdb_bytes)).unwrap_or(&self.cdb)
    }
}

/// Task management functions, RFC 7143 11.5.1 and RFC 7144.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    AbortTask,
    AbortTaskSet,
    ClearAca,
    ClearTaskSet,
    UnitReset,
    TargetWarmReset,
    TargetColdReset,
    QueryTask,
    QueryTaskSet,
    NexusReset,
}

impl Function {
    fn decode(code: u8) -> Option<Function> {
        Some(match code {
            function::ABORT_TASK => Function::AbortTask,
            function::ABORT_TASK_SET => Function::AbortTaskSet,
            function::CLEAR_ACA => Function::ClearAca,
            function::CLEAR_TASK_SET => Function::ClearTaskSet,
            function::UNIT_RESET => Function::UnitReset,
            function::TARGET_WARM_RESET => Function::TargetWarmReset,
            function::TARGET_COLD_RESET => Function::TargetColdReset,
            function::QUERY_TASK => Function::QueryTask,
            function::QUERY_TASK_SET => Function::QueryTaskSet,
            function::NEXUS_RESET => Function::NexusReset,
            _ => return None,
        })
    }

    /// Ends all tasks of this nexus at the place (or everywhere).
    fn clears(self) -> bool {
        !matches!(
            self,
            Function::AbortTask | Function::ClearAca | Function::QueryTask | Function::QueryTaskSet
        )
    }

    fn is_everywhere(self) -> bool {
        matches!(self, Function::TargetWarmReset | Function::TargetColdReset | Function::NexusReset)
    }
}

/// A task management request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Management {
    pub function: Function,
    pub place: Place,
    /// The task that ABORT TASK and QUERY TASK are about. It is there and not answered.
    pub task: Option<Tag>,
    /// Its id ([`Command::id`]).
    pub id: u64,
    pub resumed: bool,
}

/// How a task management function ended, 11.6.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Complete,
    NoTask,
    NoUnit,
    NotSupported,
    Rejected,
    /// FUNCTION SUCCEEDED of a query: the task, or any task, is there.
    Succeeded,
}

/// One byte more than a text may have is enough to see that it is too long.
const PROBE_BYTES: u32 = TEXT_MAX_BYTES as u32 + 1;

impl Connection {
    /// Hands out the next command, if it can have its memory.
    pub(crate) fn deliver(&mut self, turn: &mut Turn<'_>) -> Option<Event> {
        while let Some(slot) = self.queued.front().copied() {
            let Some(task) = self.tasks.get(slot) else {
                self.queued.pop_front();
                continue;
            };
            if task.kind == Kind::Text {
                self.queued.pop_front();
                self.text(slot, turn);
                continue;
            }
            if task.has(is::BROKEN) {
                self.queued.pop_front();
                self.answer_broken(slot);
                continue;
            }
            let bytes = if task.is_read() || task.is_write() { task.header.expected_length() } else { 0 };
            if !self.tasks.allocate(slot, bytes) {
                return None;
            }
            self.queued.pop_front();
            self.tasks.change(slot, |task| task.state = State::Delivered);
            return Some(Event::Command(self.tasks.tag(slot)));
        }
        None
    }

    /// A delivered command. `None`: there is none of this name (any more).
    pub fn command(&self, tag: Tag) -> Option<Command> {
        let (_, task) = self.tasks.of(tag)?;
        if task.kind != Kind::Command {
            return None;
        }
        let mut cdb = [0; crate::limits::CDB_MAX_BYTES];
        let (head, more) = cdb.split_at_mut(16);
        head.copy_from_slice(task.header.0.get(32..48)?);
        more.copy_from_slice(&task.cdb_more);
        let expected = u64::from(task.header.expected_length());
        Some(Command {
            cdb,
            cdb_bytes: task.cdb_bytes,
            place: Place::decode(task.header.lun()),
            attribute: match task.header.flags() & flag::ATTRIBUTE {
                2 => Attribute::Ordered,
                3 => Attribute::HeadOfQueue,
                4 => Attribute::Aca,
                // 0 is "untagged", which is simple for us.
                _ => Attribute::Simple,
            },
            id: u64::from(task.header.cmd_sn()) << 32 | u64::from(task.itt()),
            data_out: if task.is_write() { expected } else { 0 },
            data_in: if task.is_read() { expected } else { 0 },
            resumed: task.has(is::RESUMED),
        })
    }

    pub(crate) fn manage(&mut self, slot: u16) {
        let Some(task) = self.tasks.get(slot).copied() else { return };
        let code = task.header.flags() & 0x7f;
        let level = self.negotiated().protocol_level;
        let refusal = match code {
            function::TASK_REASSIGN => Some((Fault::TaskReassign, answer::NO_REASSIGNMENT)),
            function::QUERY_TASK..=function::NEXUS_RESET if level < 2 => {
                Some((Fault::UnknownFunction, answer::NOT_SUPPORTED))
            }
            _ if Function::decode(code).is_none() => Some((Fault::UnknownFunction, answer::NOT_SUPPORTED)),
            _ => None,
        };
        if let Some((fault, code)) = refusal {
            self.count(fault);
            return self.answer_management(slot, code);
        }
        let Some(function) = Function::decode(code) else { return };
        if matches!(function, Function::AbortTask | Function::QueryTask) {
            match self.referenced(slot) {
                Some(other) => {
                    let waits = self
                        .tasks
                        .get(other)
                        .is_some_and(|task| matches!(task.state, State::Held | State::Queued));
                    if waits && function == Function::AbortTask {
                        // Nobody but us knows it.
                        self.forget(other);
                        return self.answer_management(slot, answer::COMPLETE);
                    }
                    if waits {
                        return self.answer_management(slot, answer::SUCCEEDED);
                    }
                }
                None => {
                    let code = self.missing(slot, function);
                    return self.answer_management(slot, code);
                }
            }
        }
        if function.clears() {
            let lun = task.header.lun();
            let waiting: alloc::vec::Vec<u16> = self
                .tasks
                .slots()
                .filter(|other| {
                    self.tasks.get(*other).is_some_and(|other| {
                        other.kind == Kind::Command
                            && other.state == State::Queued
                            && (function.is_everywhere() || other.header.lun() == lun)
                    })
                })
                .collect();
            for other in waiting {
                self.forget(other);
            }
        }
        self.tasks.change(slot, |task| task.state = State::Delivered);
        self.events.push_back(Event::Manage(self.tasks.tag(slot)));
    }

    /// The task that a request of this slot is about, as long as it has no answer.
    fn referenced(&self, slot: u16) -> Option<u16> {
        let request = self.tasks.get(slot)?;
        let other = self.tasks.find(request.header.ttt())?;
        let task = self.tasks.get(other)?;
        let fits = task.kind == Kind::Command
            && task.header.lun() == request.header.lun()
            && matches!(task.state, State::Held | State::Queued | State::Delivered);
        fits.then_some(other)
    }

    /// ABORT TASK of a task that is not there, 11.6.1: one whose CmdSN lies in the window has not
    /// come yet, and is given up.
    fn missing(&mut self, slot: u16, function: Function) -> u8 {
        let Some(request) = self.tasks.get(slot).copied() else { return answer::NO_TASK };
        let (wanted, exp) = (request.header.ref_cmd_sn(), self.hot.exp_cmd_sn);
        let to_come = function == Function::AbortTask
            && request.has(is::IMMEDIATE)
            && !before(wanted, exp)
            && before(wanted, request.header.cmd_sn())
            && !before(self.max_cmd_sn(), wanted);
        if !to_come {
            return answer::NO_TASK;
        }
        if wanted == exp {
            self.next_cmd_sn();
        } else if self.tasks.has_room(false)
            && let Some(skip) = self.tasks.take(Kind::Skip, 0, request.header.with_cmd_sn(wanted))
        {
            // Its tag is no task's.
            self.tasks.retag(skip, RESERVED_TAG);
            self.tasks.change(skip, |task| task.state = State::Held);
            self.held.push(skip);
        } else {
            return answer::NO_TASK;
        }
        answer::COMPLETE
    }

    /// A task that the caller does not know ends without an answer.
    fn forget(&mut self, slot: u16) {
        self.queued.retain(|queued| *queued != slot);
        if let Some(task) = self.tasks.get(slot)
            && task.state == State::Held
        {
            // Its CmdSN must still pass.
            self.tasks.retag(slot, RESERVED_TAG);
            self.tasks.change(slot, |task| task.kind = Kind::Skip);
            return;
        }
        self.release_or_drop(slot);
    }

    /// Frees a task, or has that done when the PDU that is being received into it is over.
    pub(crate) fn release_or_drop(&mut self, slot: u16) {
        if self.receive.body.and_then(|body| body.slot) == Some(slot) {
            self.tasks.change(slot, |task| {
                task.flags |= is::DROPPED;
                task.state = State::Arriving;
            });
        } else {
            self.tasks.release(slot);
        }
    }

    /// A delivered task management request. `None`: there is none of this name (any more).
    pub fn management(&self, tag: Tag) -> Option<Management> {
        let (slot, task) = self.tasks.of(tag)?;
        if task.kind != Kind::Manage {
            return None;
        }
        let function = Function::decode(task.header.flags() & 0x7f)?;
        let about = match function {
            Function::AbortTask | Function::QueryTask => self.referenced(slot),
            _ => None,
        };
        let other = about.and_then(|other| self.tasks.get(other));
        Some(Management {
            function,
            place: Place::decode(task.header.lun()),
            task: about.map(|other| self.tasks.tag(other)),
            id: other.map_or(0, |other| u64::from(other.header.cmd_sn()) << 32 | u64::from(other.itt())),
            resumed: task.has(is::RESUMED),
        })
    }

    /// Ends a task management request.
    pub fn answer(&mut self, tag: Tag, answer: Answer) {
        let Some((slot, task)) = self.tasks.of(tag) else { return };
        if task.kind != Kind::Manage || task.state != State::Delivered {
            return;
        }
        let cold = Function::decode(task.header.flags() & 0x7f) == Some(Function::TargetColdReset)
            && answer == Answer::Complete;
        self.answer_management(
            slot,
            match answer {
                Answer::Complete => answer::COMPLETE,
                Answer::NoTask => answer::NO_TASK,
                Answer::NoUnit => answer::NO_LUN,
                Answer::NotSupported => answer::NOT_SUPPORTED,
                Answer::Rejected => answer::REJECTED,
                Answer::Succeeded => answer::SUCCEEDED,
            },
        );
        if cold {
            // 11.5.1: the connections of a target that was reset are closed.
            self.end(End::ColdReset);
        }
    }

    fn answer_management(&mut self, slot: u16, code: u8) {
        self.tasks.change(slot, |task| task.status = code);
        self.enqueue(slot);
    }

    /// A command ended without an answer: aborted, or its session is over.
    pub fn drop_task(&mut self, tag: Tag) {
        let Some((slot, task)) = self.tasks.of(tag) else { return };
        if task.state == State::Delivered {
            self.soliciting.retain(|other| *other != slot);
            self.release_or_drop(slot);
        }
    }

    /// NOP-Out that wants an answer, 11.18: the same data comes back.
    pub(crate) fn nop(&mut self, slot: u16) {
        let Some(task) = self.tasks.get(slot) else { return };
        if task.header.ttt() != RESERVED_TAG {
            let header = task.header;
            self.count(Fault::NopMalformed);
            self.reject(&header, reject::PROTOCOL_ERROR);
            self.tasks.release(slot);
            return;
        }
        let len = task.header.data_bytes().min(self.negotiated().initiator_segment);
        self.tasks.change(slot, |task| task.data_in = len);
        self.enqueue(slot);
    }

    fn text(&mut self, slot: u16, turn: &mut Turn<'_>) {
        let Some(task) = self.tasks.get(slot).copied() else { return };
        let len = task.header.data_bytes().min(PROBE_BYTES);
        let mut data = alloc::vec![0; len as usize];
        self.memory.gather(&self.tasks.place(slot, 0, len), &mut data);
        let scene = textual::Scene {
            directory: turn.directory,
            limits: &self.layout.limits,
            initiator: &self.login.initiator,
            target: &self.login.target,
            portal: self.portal,
            local: &self.local,
        };
        self.cold_dirty = true;
        let taken = self.texts.take(&task.header, &data, &mut self.login.negotiation, &scene);
        match taken {
            Ok(reply) => {
                let len = reply.text.len() as u32; // at most 32 KiB
                self.memory.scatter(&self.tasks.place(slot, textual::REPLY_AT, len), &reply.text);
                self.tasks.change(slot, |task| {
                    task.data_in = len;
                    task.status = reply.flags;
                    task.residual = reply.ttt;
                });
                self.enqueue(slot);
            }
            Err(fault) => {
                self.count(fault);
                self.reject(&task.header, reject::NEGOTIATION_RESET);
                self.tasks.release(slot);
            }
        }
    }

    pub(crate) fn log_out(&mut self, slot: u16) {
        let Some(task) = self.tasks.get(slot) else { return };
        let (reason, cid) = (task.header.flags() & 0x7f, task.header.cid());
        let (code, ends) = match reason {
            logout::CLOSE_SESSION => (logout::CLOSED, true),
            logout::CLOSE_CONNECTION if cid == self.login.cid => (logout::CLOSED, true),
            logout::CLOSE_CONNECTION => (logout::NO_CID, false),
            logout::RECOVERY => (logout::NO_RECOVERY, false),
            _ => {
                let header = task.header;
                self.count(Fault::LogoutReason);
                self.reject(&header, reject::INVALID_FIELD);
                self.tasks.release(slot);
                return;
            }
        };
        self.tasks.change(slot, |task| task.status = code);
        self.enqueue(slot);
        if ends {
            self.end(End::LoggedOut);
        }
    }
}
