//! One logical unit: what it is, who speaks to it, and what waits for whom.

use alloc::boxed::Box;
use alloc::vec::Vec;
use request::{Facts, Status};

use crate::Plan;
use crate::alua::AccessStates;
use crate::attention::{Attentions, Condition, Reset};
use crate::copy::Copies;
use crate::diagnostic::BufferMemory;
use crate::identifying::Identifying;
use crate::journal::{Journal, Note};
use crate::medium::{Allocation, Erasing, Started};
use crate::mode::Values;
use crate::nexus::{NEXUS_MAX, Nexus, Peer};
use crate::nexus_table::NexusTable;
use crate::profile::{Profile, TargetPort};
use crate::removable::{Power, Removable};
use crate::reservation::{self, Allowed, Kept, Reservations, Stored};
use crate::sense::{Format, Sense, SenseData};
use crate::task_set::{Abort, Attribute, Footprint, TaskKey, TaskSet};
use crate::timestamp::Clock;
use crate::work::{Neighbour, Query, Work};

/// Status codes, SAM-5.
pub mod status {
    pub const GOOD: u8 = 0x00;
    pub const CHECK_CONDITION: u8 = 0x02;
    pub const CONDITION_MET: u8 = 0x04;
    pub const BUSY: u8 = 0x08;
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    pub const TASK_SET_FULL: u8 = 0x28;
    pub const TASK_ABORTED: u8 = 0x40;
}

/// A command as it came.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    pub nexus: Nexus,
    /// The caller's name for the task; [`Unit::woken`] and aborts use it.
    pub tag: u32,
    /// The task that an earlier call made of this command: it came back from [`Verdict::Wait`],
    /// [`Verdict::Parameters`] or [`Verdict::Neighbours`].
    pub task: Option<TaskKey>,
    /// The initiator's name for the task, unique in its nexus.
    pub id: u64,
    pub attribute: Attribute,
    /// At least as long as the operation code asks for; bytes behind that are not looked at.
    pub cdb: &'a [u8],
    /// The logical units that this nexus may see, ascending; each below 16,384 (flat space
    /// addressing has 14 bits).
    pub luns: &'a [u16],
    /// Bytes of data-out that the initiator offers.
    pub data_out: u64,
    /// A process that died may have run it already.
    pub resumed: bool,
    /// Milliseconds since 1970-01-01 00:00 UTC.
    pub clock_millis: u64,
    /// What [`Verdict::Neighbours`] asked about, in that order.
    pub neighbours: Option<&'a [Option<Neighbour>]>,
}

/// The end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// One of [`status`].
    pub status: u8,
    /// Why, with CHECK CONDITION.
    pub sense: Option<Sense>,
    /// How the unit lays out sense data now (D_SENSE).
    pub format: Format,
    /// Bytes of the initiator's data that the command took, for the residual count.
    pub data_out: u64,
}

impl Response {
    pub(crate) const GOOD: Response =
        Response { status: status::GOOD, sense: None, format: Format::Fixed, data_out: 0 };

    /// A status that has no sense data.
    pub const fn of_status(status: u8) -> Response {
        Response { status, ..Response::GOOD }
    }

    pub(crate) fn check(sense: Sense, format: Format) -> Response {
        Response { status: status::CHECK_CONDITION, sense: Some(sense), format, data_out: 0 }
    }

    /// Sense data to be sent with the status.
    pub fn sense_data(&self) -> Option<SenseData> {
        self.sense.map(|sense| sense.encode(self.format))
    }
}

/// A response that has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    pub response: Response,
    /// Tasks, by the callers' tags, that have to end first: those of nexuses that were shut out, so
    /// that nothing of theirs lands behind the answer.
    pub waits_for: Vec<u32>,
    /// [`Unit::persistent`] has to be on stable storage first.
    pub persist: bool,
}

/// What a command needs next.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing: this is its end. Its data-in bytes were appended to `out`, cut to the allocation
    /// length.
    Respond(Response),
    /// So many bytes of the initiator's data; call again with them.
    Parameters(usize),
    /// What other units of the server are; call again with it.
    Neighbours(Vec<Query>),
    /// Operations on the initiator's own buffers; [`Unit::finish`] makes the response of their end.
    Medium(Plan),
    /// Where blocks lie in the store; [`Unit::finish_allocation`] asks, and makes the response.
    Allocation(Allocation),
    /// More than that; [`Unit::finish_work`] makes the response of its end.
    Work(Box<dyn Work>),
    /// The answer stands, and others have to be waited for; [`Unit::finish_settled`] ends it.
    Settle(Settle),
    /// Other tasks come first: call again when [`Unit::woken`] names the tag.
    Wait,
    /// It was aborted while it waited, and is over.
    Aborted(Abort),
}

/// The decision about a command, and the task that it became. The task is void if the verdict is
/// [`Verdict::Respond`] or [`Verdict::Aborted`].
#[derive(Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    pub task: TaskKey,
}

/// How a task that was started has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Respond(Response),
    /// Its own nexus aborted it, and wants no status. `reset`: by a reset of unit, target or nexus.
    Aborted {
        reset: bool,
    },
}

/// A logical unit: the volume's facts, the mode parameters, the conditions that wait.
#[derive(Debug)]
pub struct Unit {
    pub(crate) facts: Facts,
    pub(crate) profile: Profile,
    pub(crate) values: Values,
    /// Mode parameters to which a reset goes back, and which survive a loss of power.
    pub(crate) saved: Values,
    pub(crate) removable: Removable,
    /// Access states that initiators set.
    pub(crate) access: AccessStates,
    pub(crate) identifying: Identifying,
    pub(crate) clock: Clock,
    pub(crate) buffers: BufferMemory,
    /// Blocks that have a place in the store, as last told.
    pub(crate) allocated_blocks: Option<u64>,
    pub(crate) nexuses: NexusTable,
    pub(crate) attentions: Attentions,
    /// What initiators were told and may not have seen yet.
    pub(crate) told: Attentions,
    pub(crate) tasks: TaskSet,
    pub(crate) journal: Journal,
    pub(crate) copies: Copies,
    pub(crate) ports: Vec<TargetPort>,
    pub(crate) reservations: Kept,
    pub(crate) stored: Stored,
    /// By nexus, what `reservations` let it do.
    pub(crate) allowed: [Allowed; NEXUS_MAX],
    pub(crate) stopped: bool,
    /// Something keeps commands from the medium, or it sleeps; see [`Unit::update_hindered`].
    pub(crate) hindered: bool,
    pub(crate) dirty: bool,
    /// What a decode function has just decided to begin.
    pub(crate) starting: Option<Started>,
    /// Blocks of commands that a process which died had begun and that have not come again: nexus,
    /// id, and a task that nobody runs.
    pub(crate) unfinished: Vec<(Nexus, u64, TaskKey)>,
    pub(crate) erasing: Option<Erasing>,
    /// The task that waited for the end of an erasure, and its answer.
    pub(crate) erased: Option<(TaskKey, Response)>,
    /// Initiators were told that the soft threshold is reached; not again before it is below.
    pub(crate) threshold_told: bool,
    /// Bytes of medium read and written since the unit was made, and commands.
    pub(crate) counts: Counts,
}

/// What the unit has done, for its log pages and for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub written_bytes: u64,
    pub read_errors: u64,
    pub write_errors: u64,
    /// Of commands that read back what they compare or verify.
    pub verify_errors: u64,
}

impl Unit {
    /// As after power on.
    pub fn new(facts: Facts, profile: Profile) -> Unit {
        Unit {
            facts,
            profile,
            values: Values::default(),
            saved: Values::default(),
            removable: Removable::default(),
            access: AccessStates::default(),
            identifying: Identifying::default(),
            clock: Clock::default(),
            buffers: BufferMemory::default(),
            allocated_blocks: None,
            nexuses: NexusTable::default(),
            attentions: Attentions::none(),
            told: Attentions::none(),
            tasks: TaskSet::default(),
            journal: Journal::default(),
            copies: Copies::default(),
            ports: Vec::new(),
            reservations: Kept::default(),
            stored: Stored::new(false),
            allowed: [Allowed::EVERYTHING; NEXUS_MAX],
            stopped: false,
            hindered: false,
            dirty: true,
            starting: None,
            unfinished: Vec::new(),
            erasing: None,
            erased: None,
            threshold_told: false,
            counts: Counts::default(),
        }
    }

    /// An initiator port may speak to the unit by a target port. A peer that was attached when the
    /// state was stored goes on as if nothing had happened. `None`: there are too many.
    pub fn attach(&mut self, peer: Peer) -> Option<Nexus> {
        // However its name was written at the login, it is the one that reservations know.
        let peer = reservation::canonical(&peer);
        if let Some(nexus) = self.nexuses.find(&peer) {
            self.nexuses.claim(nexus);
            return Some(nexus);
        }
        let nexus = self.nexuses.add(peer, true)?;
        // The place may be one that another had before a restart, and did not claim.
        self.give_up_unfinished(|of, _| of == nexus);
        self.journal.forget_nexus(nexus);
        self.copies.forget(nexus);
        self.told.set_word(nexus, 0);
        self.attentions.set_word(nexus, 0);
        self.attentions.establish(nexus, Condition::POWER_ON);
        // The number may have been that of somebody who did not come back.
        self.reservations.release_unless(|owner| self.nexuses.find(owner).is_some());
        self.reservations_changed();
        Some(nexus)
    }

    /// The nexus is gone. Its tasks are aborted: those that waited are named by [`Unit::woken`], the
    /// caller waits for those that it returns.
    pub fn detach(&mut self, nexus: Nexus) -> Vec<u32> {
        self.give_up_unfinished(|of, _| of == nexus);
        let running = self.tasks.abort(nexus, |of, _| of == nexus, None);
        self.tasks.disown(nexus);
        self.lose_nexus(nexus);
        self.nexuses.remove(nexus);
        self.dirty = true;
        running
    }

    /// What ends with an I_T nexus (SAM-5, I_T nexus loss).
    fn lose_nexus(&mut self, nexus: Nexus) {
        if let Some(peer) = self.nexuses.peer(nexus)
            && self.reservations.nexus_lost(peer)
        {
            self.reservations_changed();
        }
        self.removable.allow(nexus);
        self.buffers.forget(nexus);
        self.journal.forget_nexus(nexus);
        self.copies.forget(nexus);
        self.attentions.set_word(nexus, 0);
        self.told.set_word(nexus, 0);
    }

    /// The target ports by which initiators may come.
    pub fn set_ports(&mut self, ports: Vec<TargetPort>) {
        if self.ports != ports {
            self.change_ports(ports);
            self.dirty = true;
        }
    }

    pub fn ports(&self) -> &[TargetPort] {
        &self.ports
    }

    /// Who is attached.
    pub fn nexuses(&self) -> impl Iterator<Item = (Nexus, &Peer)> {
        self.nexuses.iter()
    }

    /// The initiators can see every answer that was given: what those told is told.
    pub fn seen(&mut self) {
        self.told = Attentions::none();
        self.journal.seen();
    }

    /// The next condition for this nexus. Until `seen`, the state still has it, so that a successor
    /// of a process that dies before the answer is seen tells it again.
    pub(crate) fn tell(&mut self, nexus: Nexus) -> Option<Sense> {
        let (sense, condition) = self.attentions.take(nexus)?;
        self.told.establish(nexus, condition);
        self.dirty = true;
        Some(sense)
    }

    /// Publish and call [`Unit::seen`] before the next command: its answer might not find room.
    pub fn journal_is_full(&self) -> bool {
        self.journal.is_full()
    }

    /// A condition for one nexus.
    pub(crate) fn attend(&mut self, nexus: Nexus, condition: Condition) {
        self.attentions.establish(nexus, condition);
        self.dirty = true;
    }

    /// A condition for all, or for all but one.
    pub(crate) fn attend_all(&mut self, condition: Condition, but: Option<Nexus>) {
        let attentions = &mut self.attentions;
        for (nexus, _) in self.nexuses.iter().filter(|(nexus, _)| Some(*nexus) != but) {
            attentions.establish(nexus, condition);
        }
        self.dirty = true;
    }

    /// True once after the state changed: store it when the guest can see the response.
    pub fn take_dirty(&mut self) -> bool {
        let moved = self.erasing_moved();
        core::mem::take(&mut self.dirty) || moved
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Who has it reserved.
    pub fn reservations(&self) -> &Reservations {
        &self.reservations
    }

    /// What reservations let this nexus do.
    pub(crate) fn allowed(&self, nexus: Nexus) -> Allowed {
        let allowed = usize::try_from(nexus.0).ok().and_then(|index| self.allowed.get(index));
        *allowed.expect("the unit numbers nexuses below NEXUS_MAX")
    }

    /// Tasks that have not ended.
    pub fn tasks(&self) -> usize {
        self.tasks.len() - self.unfinished.len()
    }

    /// The owner shows the volume differently.
    pub fn set_profile(&mut self, profile: Profile) {
        if self.profile != profile {
            self.profile = profile;
            if !profile.is_removable() {
                self.load();
            }
            self.attend_all(Condition::INQUIRY, None);
        }
    }

    /// The volume's facts changed. A new capacity becomes a unit attention of every nexus.
    pub fn resized(&mut self, facts: Facts) {
        if facts.blocks != self.facts.blocks {
            self.attend_all(Condition::CAPACITY, None);
        }
        self.facts = facts;
        self.dirty = true;
    }

    /// The set of logical units that this nexus sees changed.
    pub fn luns_changed(&mut self, nexus: Nexus) {
        self.attend(nexus, Condition::LUNS);
    }

    /// Mode parameters go back to their defaults, the unit starts, tasks are aborted, and every
    /// nexus is told. The caller waits for the tasks that it returns.
    pub fn reset(&mut self, cause: Reset, by: Option<Nexus>) -> Vec<u32> {
        self.give_up_unfinished(|_, _| true);
        let by = by.unwrap_or(Nexus(u32::MAX));
        let running = self.tasks.reset(by, |_, _| true);
        self.back_to_saved();
        if self.reservations.reset() {
            self.reservations_changed();
        }
        self.attend_all(cause.into(), None);
        running
    }

    /// What a reset does to how the unit is set.
    fn back_to_saved(&mut self) {
        self.values = self.saved;
        self.stopped = false;
        self.removable.allow_all();
        self.removable.power = Power::Active;
        self.update_hindered();
    }

    /// The machine behind a nexus was powered on anew: for it, and for it alone, it is as if the unit
    /// had been, as far as a shared unit can be.
    pub fn nexus_reset(&mut self, nexus: Nexus, cause: Condition) -> Vec<u32> {
        self.give_up_unfinished(|of, _| of == nexus);
        let running = self.tasks.reset(nexus, |of, _| of == nexus);
        self.lose_nexus(nexus);
        if self.nexuses.iter().count() == 1 {
            // Nobody else would notice.
            self.back_to_saved();
        }
        self.attend(nexus, cause);
        running
    }

    /// The owner takes all reservations and registrations away, lost ones too. Whoever was registered
    /// is told as by CLEAR. [`Unit::persistent`] is to be made durable.
    pub fn clear_reservations(&mut self) {
        for peer in self.reservations.clear() {
            if let Some(nexus) = self.nexuses.find(&peer) {
                self.attend(nexus, Condition::RESERVATIONS_PREEMPTED);
            }
        }
        self.reservations_changed();
    }

    /// Each write has to be durable when it ends, since an initiator cleared WCE. A volume without
    /// a volatile cache needs nothing said.
    pub(crate) fn writes_through(&self) -> bool {
        self.facts.write_cache && self.values.write_cache_off
    }

    /// Neither the owner nor an initiator forbids writes.
    pub(crate) fn is_write_protected(&self) -> bool {
        self.facts.read_only || self.values.write_protect
    }

    /// WCE: writes may end in a volatile cache.
    pub(crate) fn caches_writes(&self) -> bool {
        self.facts.write_cache && !self.values.write_cache_off
    }

    /// The caller's tag of a task whose [`Verdict::Wait`] is over.
    pub fn woken(&mut self) -> Option<u32> {
        self.tasks.woken()
    }

    /// Whether [`Unit::woken`] has something to say.
    pub fn has_woken(&self) -> bool {
        self.tasks.has_woken()
    }

    /// The response of a command whose plan ended so. The caller fills in `data_out` from the plan
    /// where its transport counts residuals.
    pub fn finish(&mut self, task: TaskKey, status: Status) -> Ending {
        match status {
            Status::MediumRead => self.counts.read_errors = self.counts.read_errors.saturating_add(1),
            Status::MediumWrite => self.counts.write_errors = self.counts.write_errors.saturating_add(1),
            _ => {}
        }
        let response = match sense_of(status) {
            None => Response::GOOD,
            Some(sense) => Response::check(sense, Format::Fixed),
        };
        self.end(task, response)
    }

    /// The response of a [`Work`] that ended so.
    pub fn finish_work(&mut self, task: TaskKey, result: Result<(), Sense>, data_out: u64) -> Ending {
        if let Err(sense) = &result {
            self.counts.fail(sense);
        }
        let response = match result {
            Ok(()) => Response { data_out, ..Response::GOOD },
            Err(sense) => Response { data_out, ..Response::check(sense, Format::Fixed) },
        };
        self.dirty |= self.copies.ended(task, &result);
        self.note_ended(task, &response);
        self.end(task, response)
    }

    /// Randomness for the next token is wanted: see [`Unit::feed_entropy`].
    pub fn wants_entropy(&self) -> bool {
        self.copies.entropy.is_none()
    }

    /// 32 bytes that nobody can guess.
    pub fn feed_entropy(&mut self, entropy: [u8; 32]) {
        self.copies.entropy = Some(entropy);
    }

    /// A copy command of another unit is about to write to this one.
    pub fn written_by_copy(&mut self, extent: request::Extent) {
        if self.copies.written(extent.first().0, extent.first().0 + extent.count().0) {
            self.dirty = true;
        }
    }

    /// What a [`Verdict::Settle`] waited for has happened; `durable` is false if the state could not
    /// be made so.
    pub fn finish_settled(&mut self, task: TaskKey, response: Response, durable: bool) -> Ending {
        let response = match durable {
            true => response,
            false => Response::check(Sense::INTERNAL_TARGET_FAILURE, Format::Fixed),
        };
        let keeps = !self.reservations.keeps_the_same(&Reservations::new());
        self.stored.end(task, durable, keeps);
        self.note_ended(task, &response);
        self.end(task, response)
    }

    /// From its note a successor would go on; from its answer it knows that there is no more to do.
    fn note_ended(&mut self, task: TaskKey, response: &Response) {
        if let Some((nexus, id)) = self.tasks.owner(task)
            && self.journal.find(nexus, id).is_some()
        {
            self.journal.put(nexus, id, Note::of(response));
            self.dirty = true;
        }
    }

    pub(crate) fn end(&mut self, task: TaskKey, response: Response) -> Ending {
        match self.tasks.leave(task) {
            None => Ending::Respond(Response { format: self.values.format(), ..response }),
            Some(Abort::Own) => Ending::Aborted { reset: false },
            Some(Abort::Reset) => Ending::Aborted { reset: true },
            Some(Abort::Other) => Ending::Respond(Response::of_status(status::TASK_ABORTED)),
        }
    }

    /// From the journal of a process that died: until a command that had begun comes again, or cannot
    /// come any more, its blocks are kept for it. Otherwise somebody's write could come between its
    /// comparison and its write.
    pub(crate) fn keep_unfinished(&mut self) {
        for line in &self.journal.lines {
            let Note::Begun { first, end, .. } = line.note else { continue };
            if first >= end {
                // Its answer waited, or the ledger is damaged: it has no blocks. As it would hold nobody
                // back, somebody might be told to wait for a task that no caller knows.
                continue;
            }
            let Some(task) = self.tasks.enter_again(u32::MAX, line.nexus, line.id, Attribute::Simple) else {
                break;
            };
            if !self.tasks.claim(task, Footprint::Exclusive { first, end }) {
                // Two had the same blocks: only a damaged ledger says so, and nobody would end the wait.
                self.tasks.leave(task);
                continue;
            }
            self.unfinished.push((line.nexus, line.id, task));
        }
    }

    /// These come no more.
    pub(crate) fn give_up_unfinished(&mut self, which: impl Fn(Nexus, u64) -> bool) {
        let Unit { tasks, journal, unfinished, .. } = self;
        unfinished.retain(|(nexus, id, task)| {
            let gone = which(*nexus, *id);
            if gone {
                tasks.leave(*task);
                // If it comes all the same, it begins anew: others may have written since.
                journal.forget(*nexus, *id);
            }
            !gone
        });
    }

    /// Nothing that this nexus had begun before a restart comes again.
    pub fn comes_no_more(&mut self, nexus: Nexus) {
        if self.unfinished.iter().any(|(of, _, _)| *of == nexus) {
            self.give_up_unfinished(|of, _| of == nexus);
            self.dirty = true;
        }
    }

    /// A nexus has sent something new. It sends what was under way before that, so the others of its
    /// that had begun come no more.
    pub(crate) fn look_for_unfinished(&mut self, nexus: Nexus) {
        self.journal.forget_restored(|of| of == nexus);
        if !self.unfinished.is_empty() {
            self.give_up_unfinished(|of, _| of == nexus);
        }
    }

    /// After a restart: whoever comes again has come, and what others had begun is over. Until then
    /// the blocks of a command that had begun are kept for it, also if its nexus is not attached yet.
    pub fn all_have_come(&mut self) {
        let known: Vec<Nexus> = self.nexuses.claimed().collect();
        self.journal.forget_restored(|of| !known.contains(&of));
        self.give_up_unfinished(|of, _| !known.contains(&of));
        self.dirty = true;
    }

    /// A command that comes again, and that had begun: it goes on as the task that kept its blocks.
    pub(crate) fn take_unfinished(&mut self, command: &Command<'_>) -> Option<TaskKey> {
        let is = |(of, id, _): &(Nexus, u64, TaskKey)| (*of, *id) == (command.nexus, command.id);
        let at = self.unfinished.iter().position(is)?;
        let (_, _, task) = self.unfinished.remove(at);
        self.tasks.adopt(task, command.tag);
        Some(task)
    }

    /// A [`Work`] is about to write what it has read: see [`Work::note`]. The state is to be stored
    /// before the operation is started.
    pub fn note_begun(&mut self, task: TaskKey, note: u32) {
        if let Some((nexus, id)) = self.tasks.owner(task) {
            let (first, end) = match self.tasks.footprint(task) {
                Footprint::Exclusive { first, end } => (first, end),
                _ => (0, 0),
            };
            self.journal.put(nexus, id, Note::Begun { note, first, end });
            self.dirty = true;
        }
    }
}

/// How the backend's ends are told to an initiator.
pub(crate) fn sense_of(status: Status) -> Option<Sense> {
    match status {
        Status::Good => None,
        Status::MediumRead => Some(Sense::UNRECOVERED_READ_ERROR),
        Status::MediumWrite => Some(Sense::WRITE_ERROR),
        // SBC-3, resource exhaustion of thin provisioning: Linux makes ENOSPC of it, and the guest
        // goes on when there is space.
        Status::NoSpace => Some(Sense::SPACE_ALLOCATION_FAILED_WRITE_PROTECT),
        Status::WriteProtected => Some(Sense::WRITE_PROTECTED),
        Status::NotReady => Some(Sense::NOT_READY_CAUSE_NOT_REPORTABLE),
        // Linux stops sending a command that ends so, which is what is wanted.
        Status::Unsupported => Some(Sense::INVALID_COMMAND_OPERATION_CODE),
        Status::Aborted => Some(Sense::IO_PROCESS_TERMINATED),
    }
}
