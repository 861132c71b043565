//! SCSI commands in a lane, whoever sent them: from the unit's decision through its disk, or through
//! a work's steps, to the answer.
//!
//! # The way of a command
//!
//! ```text
//!  start_scsi ─► decide ─┬─ answer ──────────────────────────────► ended
//!                        ├─ plan ────► disk ► … ► finish ────────► ended
//!                        ├─ machine ─► step ► disk ► step ► … ───► ended
//!                        ├─ settling ► others end, state durable ► ended
//!                        └─ held ────► woken ► decide
//! ```
//!
//! `ended` gives the answer to where the command came from: [`Lane::answer_ring`] or the iSCSI
//! session.

use std::rc::Rc;
use std::sync::Arc;

use disk::Data;
use guest_memory::Memory;
use request::{Extent, Operation, Span, Status, total};
use scsi::{
    Abort, At, Attribute, Command, Do, Ending, Function, Managed, Neighbour, Nexus, Place, Plan, Query,
    Response, Settle, TaskKey, Verdict, Visit,
};

use super::Lane;
use super::requests::{Origin, Request, Work};
use super::scratch::{Owner, View as Memories, slice, within};

/// The longest CDB in the table of rows, and the longest that is looked at.
pub const CDB_MAX: usize = 32;

/// What a nexus sees: the LUNs of a controller or of a session.
#[derive(Debug, Default)]
pub struct View {
    /// Ascending, as commands want them.
    pub numbers: Vec<u16>,
    /// LUN, volume, and the nexus at its unit.
    pub units: Vec<(u16, u32, Nexus)>,
}

impl View {
    pub fn of(mut units: Vec<(u16, u32, Nexus)>) -> Rc<View> {
        units.sort_by_key(|(lun, _, _)| *lun);
        Rc::new(View { numbers: units.iter().map(|(lun, _, _)| *lun).collect(), units })
    }

    pub fn find(&self, lun: u16) -> Option<(u32, Nexus)> {
        let at = self.numbers.binary_search(&lun).ok()?;
        self.units.get(at).map(|(_, volume, nexus)| (*volume, *nexus))
    }
}

/// A command, as it came.
pub struct Arrival<'a> {
    pub view: &'a Rc<View>,
    pub nexus: Nexus,
    pub id: u64,
    pub attribute: Attribute,
    pub cdb: &'a [u8],
    /// A worker that died may have run it.
    pub resumed: bool,
    /// The layout of a ring's request.
    pub front: Option<virtio_scsi::Task>,
}

/// A command on its way.
pub struct ScsiTask {
    view: Rc<View>,
    nexus: Nexus,
    id: u64,
    attribute: Attribute,
    cdb: [u8; CDB_MAX],
    cdb_len: usize,
    resumed: bool,
    pub front: Option<virtio_scsi::Task>,
    key: Option<TaskKey>,
    stage: Stage,
}

enum Stage {
    Deciding,
    /// The unit names it when it may go on.
    Held,
    Plan {
        plan: Plan,
        data_in: u64,
        data_out: u64,
    },
    Machine(Machine),
    /// Other tasks have to end first, by their tags; then the state becomes durable.
    Settling {
        settle: Settle,
        writing: bool,
    },
}

/// A work with the memory that it has from its beginning to its end.
pub struct Machine {
    work: Box<dyn scsi::Work>,
    scratch: Arc<Memory>,
    noted: Option<u32>,
    /// The piece at hand is at another unit's disk, as a task of that unit.
    visiting: Option<(u32, TaskKey)>,
    /// It waits there for others.
    pending: Option<(Do, TaskKey)>,
}

impl Machine {
    fn new(work: Box<dyn scsi::Work>, scratch: Arc<Memory>) -> Self {
        Self { work, scratch, noted: None, visiting: None, pending: None }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug)]
pub enum Ended {
    /// `data_in`: bytes at the head of its data-in buffer.
    Response { response: Response, data_in: u64 },
    /// Its initiator offered less room than the command moves, which is so much; nothing was done.
    Overrun { moves: u64 },
    /// By its own nexus, which wants no status; `reset`: by a reset.
    Aborted { reset: bool },
    /// Its unit went away.
    Gone,
}

impl ScsiTask {
    pub fn new(arrival: Arrival<'_>) -> Self {
        let mut cdb = [0; CDB_MAX];
        let cdb_len = arrival.cdb.len().min(CDB_MAX);
        cdb[..cdb_len].copy_from_slice(&arrival.cdb[..cdb_len]);
        Self {
            view: Rc::clone(arrival.view),
            nexus: arrival.nexus,
            id: arrival.id,
            attribute: arrival.attribute,
            cdb,
            cdb_len,
            resumed: arrival.resumed,
            front: arrival.front,
            key: None,
            stage: Stage::Deciding,
        }
    }
}

impl Request {
    /// Where the initiator's data of a SCSI command is.
    fn data_out(&self) -> &[Span] {
        match &self.work {
            Work::Scsi(task) => match &task.front {
                Some(front) => front.data_out(&self.chain),
                None => &self.out_spans,
            },
            _ => &[],
        }
    }

    fn data_in(&self) -> &[Span] {
        match &self.work {
            Work::Scsi(task) => match &task.front {
                Some(front) => front.data_in(&self.chain),
                None => &self.in_spans,
            },
            _ => &[],
        }
    }
}

impl Lane {
    /// A request whose work is a SCSI command goes to its unit.
    pub(super) fn start_scsi(&mut self, tag: u32) {
        if let Some((_, machine)) = Self::machine(self.requests.get(tag)) {
            if machine.pending.is_some() {
                // It waited at another unit.
                self.step_machine(tag, Status::Good);
            }
            return;
        }
        let mut parameters: Option<Vec<u8>> = None;
        let mut neighbours: Option<Vec<Option<Neighbour>>> = None;
        loop {
            let request = self.requests.get(tag);
            let offered = total(request.data_out());
            let Work::Scsi(task) = &mut request.work else { return };
            let volume = request.volume;
            let Some(logical) = self.volumes.unit(volume) else {
                self.end_scsi(tag, Ended::Gone);
                return;
            };
            let command = Command {
                nexus: task.nexus,
                tag,
                task: task.key,
                id: task.id,
                attribute: task.attribute,
                cdb: &task.cdb[..task.cdb_len],
                luns: &task.view.numbers,
                data_out: offered,
                resumed: task.resumed,
                clock_millis: self.clock_millis,
                neighbours: neighbours.as_deref(),
            };
            self.reply.clear();
            let outcome = logical.unit.execute(&command, parameters.as_deref(), &mut self.reply);
            let dirty = logical.unit.take_dirty();
            task.key = Some(outcome.task);
            let full = logical.unit.journal_is_full();
            if dirty {
                self.volumes.dirty(volume);
            }
            self.journal_full |= full;
            match outcome.verdict {
                Verdict::Respond(response) => {
                    let request = self.requests.get(tag);
                    let data_in = match &request.memory {
                        Some(memory) if !self.reply.is_empty() => {
                            memory.scatter(request.data_in(), &self.reply) as u64
                        }
                        _ => 0,
                    };
                    self.end_scsi(tag, Ended::Response { response, data_in });
                    return;
                }
                Verdict::Parameters(wanted) => {
                    assert!(parameters.is_none(), "a command asks for its parameters once");
                    let mut bytes = vec![0; wanted.min(scsi::PARAMETERS_MAX_BYTES)];
                    let given = match &request.memory {
                        Some(memory) => memory.gather(request.data_out(), &mut bytes),
                        None => 0,
                    };
                    bytes.truncate(given);
                    parameters = Some(bytes);
                }
                Verdict::Neighbours(queries) => {
                    assert!(neighbours.is_none(), "a command asks for its neighbours once");
                    let view = Rc::clone(&task.view);
                    neighbours = Some(self.find_neighbours(&view, &queries));
                }
                Verdict::Medium(plan) => {
                    let (data_in, data_out) = (plan.data_in(), plan.data_out());
                    if !self.make_room(tag, data_in, data_out) {
                        self.leave_unit(tag);
                        self.end_scsi(tag, Ended::Overrun { moves: data_in.max(data_out) });
                        return;
                    }
                    self.set_stage(tag, Stage::Plan { plan, data_in, data_out });
                    self.advance(tag);
                    return;
                }
                Verdict::Work(work) => {
                    let owner = self.requests.get(tag).origin.into();
                    let Some(scratch) = self.scratch.take(owner) else {
                        let response = self.refuse_busy(tag);
                        self.end_scsi(tag, response);
                        return;
                    };
                    self.set_stage(tag, Stage::Machine(Machine::new(work, scratch)));
                    self.step_machine(tag, Status::Good);
                    return;
                }
                Verdict::Settle(settle) => {
                    self.set_stage(tag, Stage::Settling { settle, writing: false });
                    self.waiting.push(tag);
                    self.settle(u32::MAX);
                    return;
                }
                Verdict::Allocation(wanted) => {
                    let key = outcome.task;
                    let ending = self.volumes.find_allocation(volume, key, &wanted, &mut self.reply);
                    let request = self.requests.get(tag);
                    let data_in = match &request.memory {
                        Some(memory) => memory.scatter(request.data_in(), &self.reply) as u64,
                        None => 0,
                    };
                    self.end_scsi(tag, ended_as(ending, data_in));
                    return;
                }
                Verdict::Wait => {
                    self.set_stage(tag, Stage::Held);
                    self.unit_changed(volume);
                    return;
                }
                Verdict::Aborted(abort) => {
                    let ended = match abort {
                        Abort::Own | Abort::Reset => Ended::Aborted { reset: abort == Abort::Reset },
                        Abort::Other => Ended::Response {
                            response: Response::of_status(scsi::status::TASK_ABORTED),
                            data_in: 0,
                        },
                    };
                    self.end_scsi(tag, ended);
                    return;
                }
            }
        }
    }

    fn set_stage(&mut self, tag: u32, stage: Stage) {
        if let Work::Scsi(task) = &mut self.requests.get(tag).work {
            task.stage = stage;
        }
    }

    /// The task is over for its unit, whatever it would have said.
    fn leave_unit(&mut self, tag: u32) {
        let request = self.requests.get(tag);
        if let Work::Scsi(task) = &request.work
            && let Some(key) = task.key
            && let Some(logical) = self.volumes.unit(request.volume)
        {
            let _ = logical.unit.finish(key, Status::Aborted);
        }
    }

    fn refuse_busy(&mut self, tag: u32) -> Ended {
        self.leave_unit(tag);
        Ended::Response { response: Response::of_status(scsi::status::BUSY), data_in: 0 }
    }

    /// Leaves exactly as much of the initiator's buffers as the command moves. `false`: they are
    /// smaller.
    fn make_room(&mut self, tag: u32, data_in: u64, data_out: u64) -> bool {
        let request = self.requests.get(tag);
        match &mut request.work {
            Work::Scsi(task) => match &mut task.front {
                Some(front) => {
                    front.limit_data_in(&mut request.chain, data_in)
                        && (data_out == 0 || front.limit_data_out(&mut request.chain, data_out))
                }
                None => {
                    limit(&mut request.in_spans, data_in)
                        && (data_out == 0 || limit(&mut request.out_spans, data_out))
                }
            },
            _ => true,
        }
    }

    /// What the other units that this nexus sees are to a copy command.
    fn find_neighbours(&mut self, view: &View, queries: &[Query]) -> Vec<Option<Neighbour>> {
        let mut found = Vec::with_capacity(queries.len());
        for query in queries {
            let mut answer = None;
            for (_, volume, nexus) in &view.units {
                if let Some(logical) = self.volumes.unit(*volume)
                    && let Some(neighbour) = logical.unit.neighbour(query, *nexus)
                {
                    answer = Some(Neighbour { at: *volume, ..neighbour });
                    break;
                }
            }
            found.push(answer);
        }
        found
    }

    /// The next operation of a command's plan.
    pub(super) fn next_of_plan(&mut self, tag: u32) -> Option<Operation> {
        match &mut self.requests.get(tag).work {
            Work::Scsi(task) => match &mut task.stage {
                Stage::Plan { plan, .. } => plan.next(),
                _ => None,
            },
            _ => None,
        }
    }

    /// Where the data of a plan's operation is.
    pub(super) fn plan_spans(request: &Request, operation: Operation) -> &[Span] {
        match operation {
            Operation::Read(_) => request.data_in(),
            Operation::Write { .. } | Operation::WriteAtomic { .. } | Operation::WriteSame { .. } => {
                request.data_out()
            }
            _ => &[],
        }
    }

    pub(super) fn is_machine(&mut self, tag: u32) -> bool {
        match &self.requests.get(tag).work {
            Work::Scsi(task) => matches!(task.stage, Stage::Machine(_)),
            Work::Background(_) => true,
            _ => false,
        }
    }

    /// The machine of a request, and the task that it is at its own unit.
    fn machine(request: &mut Request) -> Option<(Option<TaskKey>, &mut Machine)> {
        match &mut request.work {
            Work::Scsi(task) => match &mut task.stage {
                Stage::Machine(machine) => Some((task.key, machine)),
                _ => None,
            },
            Work::Background(machine) => Some((None, machine)),
            _ => None,
        }
    }

    /// The piece of a copy that was at another unit has ended: that unit's task has too. `false`: it
    /// was aborted there.
    fn depart(&mut self, tag: u32) -> bool {
        let Some((_, machine)) = Self::machine(self.requests.get(tag)) else { return true };
        let Some((disk, task)) = machine.visiting.take() else { return true };
        let goes_on = self.volumes.unit(disk).is_none_or(|other| other.unit.depart(task));
        self.unit_changed(disk);
        goes_on
    }

    /// Steps of a work: until it gives a disk something, waits for others, or ends.
    pub(super) fn step_machine(&mut self, tag: u32, last: Status) {
        let mut last = if self.depart(tag) { last } else { Status::Aborted };
        loop {
            let request = self.requests.get(tag);
            let Some(memory) = request.memory.clone() else { return };
            // The spans are read beside the machine, which is written.
            let (out, into) = (request.data_out().to_vec(), request.data_in().to_vec());
            let volume = request.volume;
            let background = matches!(request.work, Work::Background(_));
            if background && self.quiet {
                // The next worker does this piece again, and what follows it.
                return;
            }
            let owner = Owner::from(request.origin);
            let Some((key, machine)) = Self::machine(request) else { return };
            let (step, again) = match machine.pending.take() {
                Some((step, task)) => (step, Some(task)),
                None => {
                    // Whoever aborted it waits for its end, which need not be that of all its pieces.
                    if let (Some(key), Some(logical)) = (key, self.volumes.unit(volume))
                        && logical.unit.is_aborted(key)
                    {
                        last = Status::Aborted;
                    }
                    let Machine { work, scratch, .. } = machine;
                    let mut memories = Memories { memory: &memory, out: &out, into: &into, scratch };
                    (work.next(last, &mut memories), None)
                }
            };
            let (at, operation, data) = match step {
                Do::Disk { at, operation, data } => (at, operation, data),
                Do::End { result, data_in, data_out } => {
                    let scratch = Arc::clone(&machine.scratch);
                    self.scratch.give_back(owner, scratch);
                    if background {
                        self.end_background(tag, result);
                        return;
                    }
                    self.set_stage(tag, Stage::Held);
                    let ending = match (self.volumes.unit(volume), key) {
                        (Some(logical), Some(key)) => Some(logical.unit.finish_work(key, result, data_out)),
                        _ => None,
                    };
                    self.end_scsi(tag, ended_as(ending, data_in));
                    return;
                }
            };
            let disk = match at {
                At::Own => volume,
                At::Other(other) => other,
            };
            if !self.volumes.is_open(disk) {
                last = Status::NotReady;
                continue;
            }
            if disk != volume {
                match self.visit(tag, disk, operation, again) {
                    Visit::Go(_) => {}
                    Visit::Wait(task) => {
                        if let Some((_, machine)) = Self::machine(self.requests.get(tag)) {
                            machine.pending = Some((step, task));
                        }
                        return;
                    }
                    Visit::Refused => {
                        last = Status::Aborted;
                        continue;
                    }
                }
            }
            let len = bytes_of(operation, &self.volumes, disk);
            let Some((_, machine)) = Self::machine(self.requests.get(tag)) else { return };
            let note = machine.work.note();
            let begins = note.filter(|_| note != machine.noted);
            machine.noted = note;
            let (source, spans) = match data {
                Place::None => (&memory, Vec::new()),
                Place::Out(at) => (&memory, slice(&out, at, len)),
                Place::In(at) => (&memory, slice(&into, at, len)),
                Place::Scratch(at) => {
                    (&machine.scratch, within(&machine.scratch, at, len as usize).into_iter().collect())
                }
            };
            let source = Arc::clone(source);
            if let (Some(note), Some(key), Some(logical)) = (begins, key, self.volumes.unit(volume)) {
                logical.unit.note_begun(key, note);
                logical.save();
            }
            let data = Data { memory: &source, spans: &spans };
            self.volumes.submit(self.now, disk, tag, operation, data);
            return;
        }
    }

    /// A piece of a copy asks the unit that it is for.
    fn visit(&mut self, tag: u32, disk: u32, operation: Operation, again: Option<TaskKey>) -> Visit {
        let (extent, writes) = match (written_by(operation), operation) {
            (Some(extent), _) => (extent, true),
            (None, Operation::Read(extent)) => (extent, false),
            _ => return Visit::Refused,
        };
        let nexus = match &self.requests.get(tag).work {
            Work::Scsi(task) => task.view.units.iter().find(|(_, volume, _)| *volume == disk),
            _ => None,
        };
        let Some((_, _, nexus)) = nexus.copied() else { return Visit::Refused };
        let origin = self.requests.get(tag).origin;
        let still = self.is_seen(origin, disk, nexus);
        let Some(other) = self.volumes.unit(disk) else { return Visit::Refused };
        if !still {
            let _ = again.map(|task| other.unit.depart(task));
            return Visit::Refused;
        }
        let visit = other.unit.visit(nexus, tag, again, extent, writes);
        if other.unit.take_dirty() {
            self.volumes.dirty(disk);
        }
        if let Visit::Go(task) = visit
            && let Some((_, machine)) = Self::machine(self.requests.get(tag))
        {
            machine.visiting = Some((disk, task));
        }
        visit
    }

    /// What units have to do on nobody's behalf (SANITIZE, FORMAT UNIT).
    fn start_background(&mut self) {
        while let Some((volume, work)) = self.background.pop() {
            let Some(tag) = self.requests.take() else {
                self.background.push((volume, work));
                return;
            };
            let Some(scratch) = self.scratch.take(Owner::Server) else {
                // Tried again when another task ends.
                self.requests.give_back(tag);
                self.background.push((volume, work));
                return;
            };
            let request = self.requests.get(tag);
            request.origin = Origin::Server;
            request.volume = volume;
            request.memory = Some(Memory::empty());
            request.work = Work::Background(Machine::new(work, scratch));
            self.step_machine(tag, Status::Good);
        }
    }

    fn end_background(&mut self, tag: u32, result: Result<(), scsi::Sense>) {
        let volume = self.requests.get(tag).volume;
        self.requests.give_back(tag);
        if let Some(logical) = self.volumes.unit(volume) {
            logical.unit.finish_background(result);
        }
        self.unit_changed(volume);
    }

    /// The command's plan has ended.
    pub(super) fn finish_plan(&mut self, tag: u32, status: Status) {
        let request = self.requests.get(tag);
        let volume = request.volume;
        let Work::Scsi(task) = &mut request.work else { return };
        let Stage::Plan { plan, data_in, data_out } = &mut task.stage else { return };
        if status == Status::Good
            && let Some(settle) = plan.take_settle()
        {
            task.stage = Stage::Settling { settle, writing: false };
            self.waiting.push(tag);
            self.settle(u32::MAX);
            return;
        }
        let (data_in, data_out) = (*data_in, *data_out);
        let Some(key) = task.key else { return };
        let ending = self.volumes.unit(volume).map(|logical| logical.unit.finish(key, status));
        let data_in = if status == Status::Good { data_in } else { 0 };
        let ended = match ended_as(ending, data_in) {
            Ended::Response { response, data_in } => {
                Ended::Response { response: Response { data_out, ..response }, data_in }
            }
            other => other,
        };
        self.end_scsi(tag, ended);
    }

    /// A task left its unit: others may go on.
    pub(super) fn unit_changed(&mut self, volume: u32) {
        if let Some(logical) = self.volumes.unit(volume) {
            let (woken, dirty) = (logical.unit.has_woken(), logical.unit.take_dirty());
            if let Some(work) = logical.unit.background() {
                self.background.push((volume, work));
            }
            if logical.unit.wants_entropy() {
                let mut entropy = [0; 32];
                // Without it no token is made; that is all.
                if host::random::fill(&mut entropy).is_ok() {
                    logical.unit.feed_entropy(entropy);
                }
            }
            if woken && !self.wakers.contains(&volume) {
                self.wakers.push(volume);
            }
            if dirty {
                self.volumes.dirty(volume);
            }
        }
        if !self.background.is_empty() {
            self.start_background();
        }
    }

    /// Runs what waited for tasks that have ended.
    pub(super) fn run_woken(&mut self) {
        while let Some(volume) = self.wakers.pop() {
            while !self.journal_full
                && let Some(tag) = self.volumes.unit(volume).and_then(|logical| logical.unit.woken())
            {
                self.start_scsi(tag);
            }
            self.unit_changed(volume);
            if self.journal_full {
                // The others when these answers were seen.
                return;
            }
        }
    }

    /// All of it, however many answers that are: before a unit goes.
    pub(super) fn end_woken(&mut self) {
        self.run_woken();
        while !self.wakers.is_empty() {
            self.publish();
            self.run_woken();
        }
    }

    /// The answer goes where the command came from, and whoever waited for its end is told.
    fn end_scsi(&mut self, tag: u32, ended: Ended) {
        let request = self.requests.get(tag);
        let volume = request.volume;
        match request.origin {
            Origin::Ring { .. } => self.answer_ring(tag, &ended),
            Origin::Session { connection, task } => {
                self.requests.give_back(tag);
                self.answer_session(connection, task, &ended);
            }
            Origin::Server => self.requests.give_back(tag),
        }
        self.unit_changed(volume);
        self.settle(tag);
    }

    /// Task management, asked of one unit: the tags of the tasks that it waits for, or the answer.
    pub(super) fn manage(&mut self, volume: u32, nexus: Nexus, function: Function) -> Option<Managed> {
        let managed = self.volumes.unit(volume)?.unit.manage(nexus, function);
        self.unit_changed(volume);
        Some(managed)
    }

    /// Whoever waits for tasks waits no more for this one.
    pub(super) fn settle(&mut self, ended: u32) {
        let mut at = 0;
        while at < self.waiting.len() {
            let tag = self.waiting[at];
            let request = self.requests.get(tag);
            let ready = match &mut request.work {
                Work::Manage { waits_for } => {
                    waits_for.retain(|task| *task != ended);
                    waits_for.is_empty()
                }
                Work::Scsi(task) => match &mut task.stage {
                    Stage::Settling { settle, writing: false } => {
                        settle.waits_for.retain(|task| *task != ended);
                        settle.waits_for.is_empty()
                    }
                    _ => true,
                },
                _ => true,
            };
            if !ready {
                at += 1;
                continue;
            }
            self.waiting.swap_remove(at);
            self.settled(tag);
            // Its end may have been what another waited for, so the list is looked through anew.
            at = 0;
        }
    }

    fn settled(&mut self, tag: u32) {
        let request = self.requests.get(tag);
        let (volume, origin) = (request.volume, request.origin);
        match &mut request.work {
            Work::Manage { .. } => match origin {
                Origin::Ring { .. } => self.answer_management(tag),
                Origin::Session { connection, task } => {
                    self.requests.give_back(tag);
                    self.session_managed(connection, task);
                }
                Origin::Server => self.requests.give_back(tag),
            },
            Work::Scsi(task) => {
                let Stage::Settling { settle, writing } = &mut task.stage else { return };
                if !settle.persist {
                    self.end_settled(tag, true);
                    return;
                }
                *writing = true;
                self.make_durable(volume, tag);
            }
            _ => {}
        }
    }

    /// The unit's lasting state goes to stable storage, by a thread that may wait.
    fn make_durable(&mut self, volume: u32, tag: u32) {
        let name = self.volumes.get(volume).map(|open| super::stable::stable_name(&open.spec));
        let state = self.volumes.unit(volume).map(|logical| logical.unit.persistent());
        match (name, state) {
            (Some(name), Some(state)) => self.stable.store(self.index, tag, name, state),
            _ => self.end_settled(tag, false),
        }
    }

    /// The state is on stable storage, or could not be brought there.
    pub fn made_durable(&mut self, tag: u32, durable: bool) {
        self.end_settled(tag, durable);
        self.run_woken();
    }

    fn end_settled(&mut self, tag: u32, durable: bool) {
        let request = self.requests.get(tag);
        let volume = request.volume;
        let Work::Scsi(task) = &request.work else { return };
        let Stage::Settling { settle, .. } = &task.stage else { return };
        let (response, key) = (settle.response, task.key);
        let ending = match (self.volumes.unit(volume), key) {
            (Some(logical), Some(key)) => Some(logical.unit.finish_settled(key, response, durable)),
            _ => None,
        };
        self.end_scsi(tag, ended_as(ending, 0));
    }
}

fn ended_as(ending: Option<Ending>, data_in: u64) -> Ended {
    match ending {
        Some(Ending::Respond(response)) => Ended::Response { response, data_in },
        Some(Ending::Aborted { reset }) => Ended::Aborted { reset },
        // The volume was taken away meanwhile.
        None => Ended::Gone,
    }
}

/// The blocks that an operation changes.
fn written_by(operation: Operation) -> Option<Extent> {
    match operation {
        Operation::Write { extent, .. }
        | Operation::WriteAtomic { extent, .. }
        | Operation::WriteSame { extent, .. }
        | Operation::WriteZeroes { extent, .. } => Some(extent),
        Operation::Discard(extent) => Some(extent),
        Operation::Read(_) | Operation::Flush => None,
    }
}

/// Bytes that an operation moves.
fn bytes_of(operation: Operation, volumes: &super::volume::Volumes, volume: u32) -> u64 {
    match operation {
        Operation::Read(extent) | Operation::Write { extent, .. } | Operation::WriteAtomic { extent, .. } => {
            extent.len_bytes()
        }
        Operation::WriteSame { .. } => {
            volumes.get(volume).map_or(0, |open| u64::from(open.facts().block_size))
        }
        Operation::Flush | Operation::Discard(_) | Operation::WriteZeroes { .. } => 0,
    }
}

/// Shortens a list to `bytes`. `false`, and nothing is changed, if it has fewer.
fn limit(spans: &mut Vec<Span>, bytes: u64) -> bool {
    if total(spans) < bytes {
        return false;
    }
    let kept = slice(spans, 0, bytes);
    *spans = kept;
    true
}
