//! The decision about a command.

use alloc::vec::Vec;

use crate::cdb::Cdb;
use crate::journal::{Note, SETTLING};
use crate::nexus::Nexus;
use crate::reservation::{Access, passes_loss};
use crate::rows::{self, Row};
use crate::sense::Sense;
use crate::task_set::{Attribute, Footprint, TaskKey};
use crate::unit::{Command, Outcome, Response, Unit, Verdict, status};
use crate::work::Neighbour;

/// A command on its way through its decode function.
pub(crate) struct Call<'a> {
    pub nexus: Nexus,
    pub cdb: Cdb,
    pub luns: &'a [u16],
    /// The caller's name of this task, which is not among those that it has to wait for.
    pub task: TaskKey,
    pub parameters: Option<&'a [u8]>,
    pub data_out: u64,
    pub clock_millis: u64,
    pub neighbours: Option<&'a [Option<Neighbour>]>,
    /// What an earlier process noted of it before it died.
    pub note: Option<u32>,
    pub out: &'a mut Vec<u8>,
}

impl Call<'_> {
    /// Appends data-in bytes, cut to the allocation length (SPC-4).
    pub fn reply(&mut self, allocation: usize, data: &[u8]) -> Verdict {
        self.out.extend_from_slice(&data[..data.len().min(allocation)]);
        Verdict::Respond(Response::GOOD)
    }
}

/// Why a command is refused by its decode function.
pub(crate) type Decode = fn(&mut Unit, &mut Call<'_>) -> Result<Verdict, Sense>;

const NO_TASK: TaskKey = TaskKey(u32::MAX);

impl Unit {
    /// The decision about a command. `parameters`: what [`Verdict::Parameters`] asked for, or less
    /// if the initiator offered less.
    pub fn execute(
        &mut self,
        command: &Command<'_>,
        parameters: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let format = self.values.format();
        if !command.resumed {
            self.look_for_unfinished(command.nexus);
        } else if command.task.is_none()
            && let Some(response) = self.journal.come_again(command.nexus, command.id)
        {
            // At once: whatever it would wait for now came later.
            self.dirty = true;
            return answered(Response { format, ..response });
        }
        let task = match command.task.or_else(|| self.take_unfinished(command)) {
            Some(task) => task,
            None => {
                let Command { tag, nexus, id, attribute, .. } = *command;
                let entered = match command.resumed {
                    true => self.tasks.enter_again(tag, nexus, id, attribute),
                    false => self.tasks.enter(tag, nexus, id, attribute),
                };
                let Some(task) = entered else {
                    // SAM-5: BUSY to a nexus that has no task in the set, so that it waits by time.
                    let full =
                        if self.tasks.has_of(command.nexus) { status::TASK_SET_FULL } else { status::BUSY };
                    return answered(Response::of_status(full));
                };
                task
            }
        };
        if let Some(abort) = self.tasks.aborted(task) {
            self.leave_erasing(task);
            self.tasks.leave(task);
            return Outcome { verdict: Verdict::Aborted(abort), task: NO_TASK };
        }
        if let Some(response) = self.take_erased(task) {
            self.tasks.leave(task);
            return answered(Response { format, ..response });
        }
        if command.resumed && self.rejoin_erasing(task, command.nexus, command.id) {
            return Outcome { verdict: Verdict::Wait, task };
        }
        if !self.tasks.may_start(task) {
            return Outcome { verdict: Verdict::Wait, task };
        }
        // An answer that means that nothing of a nexus lands any more has to come behind what had begun
        // before an earlier process died, too.
        if !self.unfinished.is_empty()
            && rows::find(command.cdb, self).is_ok_and(|row| row.once && row.access == Access::Reservation)
            && !self.tasks.claim(task, Footprint::ALL)
        {
            return Outcome { verdict: Verdict::Wait, task };
        }
        let verdict = match self.decide(command, task, parameters, out) {
            Ok(Verdict::Respond(response)) => {
                Verdict::Respond(Response { format: self.values.format(), ..response })
            }
            Ok(verdict) => verdict,
            Err(sense) => Verdict::Respond(Response::check(sense, format)),
        };
        let footprint = match &verdict {
            Verdict::Respond(response) => {
                self.tasks.leave(task);
                return answered(*response);
            }
            Verdict::Medium(plan) => plan.footprint(),
            Verdict::Work(work) => work.footprint(),
            Verdict::Wait => {
                return match self.begin_erasing(task, command.nexus, command.id) {
                    Some(response) => {
                        self.tasks.leave(task);
                        answered(Response { format: self.values.format(), ..response })
                    }
                    None => Outcome { verdict, task },
                };
            }
            _ => return Outcome { verdict, task },
        };
        if !self.tasks.claim(task, footprint) {
            return Outcome { verdict: Verdict::Wait, task };
        }
        if let Verdict::Medium(plan) = &verdict
            && footprint != Footprint::Nothing
        {
            self.counts.start(plan.data_in(), plan.data_out());
        }
        Outcome { verdict, task }
    }

    fn decide(
        &mut self,
        command: &Command<'_>,
        task: TaskKey,
        parameters: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Sense> {
        let cdb = Cdb::new(command.cdb);
        let mut note = None;
        if command.resumed
            && let Some(Note::Begun { note: begun, .. }) = self.journal.find(command.nexus, command.id)
        {
            note = Some(*begun);
        }
        if command.attribute == Attribute::Aca {
            // SAM-5: no ACA condition stands.
            return Err(Sense::INVALID_MESSAGE_ERROR);
        }
        let found = rows::find(command.cdb, self);
        // SAM-5: a pending condition comes before whatever else the command would have met.
        let past_attention = found.as_ref().is_ok_and(|row| row.past_attention);
        if !past_attention
            && note.is_none()
            && let Some(sense) = self.tell(command.nexus)
        {
            return Err(sense);
        }
        let row: &Row = found?;
        if note.is_none() && self.reservations.is_lost() && !passes_loss(command.cdb) {
            return Err(Sense::PERSISTENT_RESERVATION_INFORMATION_LOST);
        }
        // What was begun by an earlier process was let through by it (SPC-4 5.13.1).
        if note.is_none() && !self.allowed(command.nexus).has(row.access.of(command.cdb)) {
            return Ok(Verdict::Respond(Response::of_status(status::RESERVATION_CONFLICT)));
        }
        if let Some(sense) = self.barred(row) {
            return Err(sense);
        }
        row.check(&cdb)?;
        if let Some(sense) = self.refused_by_port(command.nexus, row) {
            return Err(sense);
        }
        if self.hindered {
            self.reach_medium(row)?;
        }
        if row.writes && self.is_write_protected() {
            return Err(match self.facts.read_only {
                true => Sense::WRITE_PROTECTED,
                false => Sense::SOFTWARE_WRITE_PROTECTED,
            });
        }
        let mut call = Call {
            nexus: command.nexus,
            cdb,
            luns: command.luns,
            task,
            parameters,
            data_out: command.data_out,
            clock_millis: command.clock_millis,
            neighbours: command.neighbours,
            note,
            out,
        };
        let verdict = (row.decode)(self, &mut call);
        if !self.copies.tokens.is_empty() && (row.writes || row.opcode == 0x83) {
            self.void_tokens(&verdict);
        }
        if row.once {
            let noted = match &verdict {
                Ok(Verdict::Respond(response)) => Some(Note::of(response)),
                // Done, and not to be told yet: the note stays until it has been.
                Ok(Verdict::Settle(_)) => Some(Note::Begun { note: SETTLING, first: 0, end: 0 }),
                _ => None,
            };
            if let Some(noted) = noted {
                self.journal.put(command.nexus, command.id, noted);
                self.dirty = true;
            }
        }
        verdict
    }
}

impl Unit {
    /// Blocks are about to be written: tokens that stand for them are void.
    fn void_tokens(&mut self, verdict: &Result<Verdict, Sense>) {
        let footprint = match verdict {
            Ok(Verdict::Medium(plan)) => plan.footprint(),
            Ok(Verdict::Work(work)) => work.footprint(),
            // FORMAT UNIT and SANITIZE.
            Ok(Verdict::Wait) => Footprint::ALL,
            _ => return,
        };
        if let Footprint::Shared { first, end } | Footprint::Exclusive { first, end } = footprint {
            self.dirty |= self.copies.written(first, end);
        }
    }
}

fn answered(response: Response) -> Outcome {
    Outcome { verdict: Verdict::Respond(response), task: NO_TASK }
}
