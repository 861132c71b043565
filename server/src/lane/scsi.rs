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
//! `ended` gives the answer to where the command came from: [`Lane::answer_ring`], the emulated
//! controller or the iSCSI session.

use std::collections::BTreeMap;
use std::rc::Rc;

use control::site::LunAddress;
use request::{Operation, Span, Status, total};
use scsi::{
    Abort, Attribute, Command, Ending, Function, Managed, Neighbour, Nexus, Plan, Query, Response, Settle,
    TaskKey, Verdict,
};

use super::Lane;
use super::machine::Machine;
use super::requests::{Origin, Request, Work};
use super::scratch::slice;

/// The longest CDB in the table of rows, and the longest that is looked at.
pub const CDB_MAX: usize = 32;

/// What an initiator sees: the LUNs of a session, or of one target of a controller.
#[derive(Debug, Default)]
pub struct View {
    /// Ascending, as commands want them.
    pub numbers: Vec<u16>,
    /// Where these are in `units`.
    first: usize,
    /// LUN, volume, and the nexus at its unit: those of all targets of the controller, in their order,
    /// since a copy may go from one to another.
    pub units: Rc<[(u16, u32, Nexus)]>,
}

impl View {
    /// Of a session, which sees one target.
    pub fn of(mut units: Vec<(u16, u32, Nexus)>) -> Rc<View> {
        units.sort_by_key(|(lun, _, _)| *lun);
        let numbers = units.iter().map(|(lun, _, _)| *lun).collect();
        Rc::new(View { numbers, first: 0, units: units.into() })
    }

    /// Of a controller, whose LUNs are in ascending order, by target. Target 0 is always there.
    pub fn by_target(luns: impl Iterator<Item = (LunAddress, u32, Nexus)> + Clone) -> BTreeMap<u8, Rc<View>> {
        let units: Rc<[_]> = luns.clone().map(|(at, volume, nexus)| (at.lun, volume, nexus)).collect();
        let empty = || View { numbers: Vec::new(), first: 0, units: Rc::clone(&units) };
        let mut views = BTreeMap::from([(0, empty())]);
        for (index, (at, _, _)) in luns.enumerate() {
            let view = views.entry(at.target).or_insert_with(|| View { first: index, ..empty() });
            view.numbers.push(at.lun);
        }
        views.into_iter().map(|(target, view)| (target, Rc::new(view))).collect()
    }

    pub fn find(&self, lun: u16) -> Option<(u32, Nexus)> {
        let at = self.numbers.binary_search(&lun).ok()?;
        self.units.get(self.first + at).map(|(_, volume, nexus)| (*volume, *nexus))
    }

    /// The volumes of `numbers`, with the nexus at each.
    pub fn own(&self) -> impl Iterator<Item = (u32, Nexus)> {
        let units = self.units.iter().skip(self.first).take(self.numbers.len());
        units.map(|(_, volume, nexus)| (*volume, *nexus))
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
    pub(super) view: Rc<View>,
    nexus: Nexus,
    id: u64,
    attribute: Attribute,
    cdb: [u8; CDB_MAX],
    cdb_len: usize,
    resumed: bool,
    pub front: Option<virtio_scsi::Task>,
    pub(super) key: Option<TaskKey>,
    pub(super) stage: Stage,
}

pub(super) enum Stage {
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
    pub(super) fn data_out(&self) -> &[Span] {
        match &self.work {
            Work::Scsi(task) => match &task.front {
                Some(front) => front.data_out(&self.chain),
                None => &self.out_spans,
            },
            _ => &[],
        }
    }

    pub(super) fn data_in(&self) -> &[Span] {
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

    pub(super) fn set_stage(&mut self, tag: u32, stage: Stage) {
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
            for (_, volume, nexus) in view.units.iter() {
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
    pub(super) fn end_scsi(&mut self, tag: u32, ended: Ended) {
        let request = self.requests.get(tag);
        let volume = request.volume;
        match request.origin {
            Origin::Ring { .. } => self.answer_ring(tag, &ended),
            Origin::Adapter { .. } => self.answer_adapter(tag, &ended),
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
                // Nobody waits: the adapter knows which of its commands are to end.
                Origin::Adapter { .. } => self.requests.give_back(tag),
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

pub(super) fn ended_as(ending: Option<Ending>, data_in: u64) -> Ended {
    match ending {
        Some(Ending::Respond(response)) => Ended::Response { response, data_in },
        Some(Ending::Aborted { reset }) => Ended::Aborted { reset },
        // The volume was taken away meanwhile.
        None => Ended::Gone,
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
