//! A logical unit and its disk, joined as a lane of the server joins them: from a command through the
//! unit's decision, its plan or its work's steps, to its end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use disk::{Data, Disk};
use guest_memory::Memory;
use request::{Address, Instant, Operation, Span, Status, total};
use scsi::{
    Abort, At, Attribute, Buffers, Command, Do, Ending, Nexus, Place, Plan, Response, Settle, TaskKey, Unit,
    Verdict, Work,
};

use crate::ledger::Ledger;

/// The tag of what the unit does on nobody's behalf.
const BACKGROUND: u32 = u32::MAX;

/// A command, as it came.
pub struct Arrival {
    pub nexus: Nexus,
    /// The initiator's name of the task.
    pub id: u64,
    pub cdb: Vec<u8>,
    /// A worker that died may have run it.
    pub resumed: bool,
    pub memory: Arc<Memory>,
    pub out: Vec<Span>,
    pub into: Vec<Span>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub tag: u32,
    /// `None`: its initiator offers less room than the command moves, and nothing was done.
    pub ending: Option<Ending>,
    /// Bytes at the head of its data-in buffer.
    pub data_in: u64,
    /// How its last operation ended, if the disk had one.
    pub medium: Option<Status>,
}

struct Task {
    arrival: Arrival,
    key: Option<TaskKey>,
    stage: Stage,
}

struct Machine {
    work: Box<dyn Work>,
    scratch: Arc<Memory>,
    noted: Option<u32>,
}

enum Stage {
    Held,
    Plan { plan: Plan, data_in: u64, data_out: u64 },
    Machine(Machine),
    Settling { settle: Settle, writing: bool },
}

pub struct Lun {
    pub unit: Unit,
    disk: Box<dyn Disk>,
    ledger: Ledger,
    tasks: BTreeMap<u32, Task>,
    background: Option<Machine>,
    /// States that are to be brought to stable storage, and for which task.
    pub jobs: VecDeque<(u32, Vec<u8>)>,
    pub ended: Vec<Ended>,
    /// See `cluster::Sabotage`.
    pub skips_waiting: bool,
    pub forgets_journal: bool,
}

impl Lun {
    pub fn new(unit: Unit, disk: Box<dyn Disk>, ledger: Ledger) -> Self {
        Self {
            unit,
            disk,
            ledger,
            tasks: BTreeMap::new(),
            background: None,
            jobs: VecDeque::new(),
            ended: Vec::new(),
            skips_waiting: false,
            forgets_journal: false,
        }
    }

    pub fn is_busy(&self) -> bool {
        !self.tasks.is_empty() || self.background.is_some()
    }

    pub fn save(&self) {
        self.ledger.save(&self.unit.state());
    }

    pub fn begin(&mut self, tag: u32, arrival: Arrival, now: Instant) {
        let new = self.tasks.insert(tag, Task { arrival, key: None, stage: Stage::Held });
        assert!(new.is_none(), "tag {tag} is in use");
        self.start(tag, now);
        self.run_woken(now);
    }

    /// The disk's ends. `landed` is called after each operation of the disk.
    pub fn poll(&mut self, now: Instant, landed: &mut dyn FnMut()) {
        let mut ended = Vec::new();
        self.disk.poll(now, &mut |tag, status| {
            landed();
            ended.push((tag, status));
        });
        for (tag, status) in ended {
            self.advance(tag, status, now);
        }
        self.run_woken(now);
    }

    /// A state is on stable storage, or could not be brought there.
    pub fn made_durable(&mut self, tag: u32, durable: bool, now: Instant) {
        self.end_settled(tag, durable);
        self.run_woken(now);
    }

    fn run_woken(&mut self, now: Instant) {
        while let Some(tag) = self.unit.woken() {
            self.start(tag, now);
        }
        if self.background.is_none()
            && let Some(work) = self.unit.background()
        {
            let scratch = Memory::anonymous(scsi::SCRATCH_BYTES);
            self.background = Some(Machine { work, scratch, noted: None });
            self.advance(BACKGROUND, Status::Good, now);
        }
    }

    fn start(&mut self, tag: u32, now: Instant) {
        let mut parameters: Option<Vec<u8>> = None;
        let mut neighbours: Option<Vec<Option<scsi::Neighbour>>> = None;
        let mut reply = Vec::new();
        loop {
            let task = self.tasks.get_mut(&tag).expect("it was begun");
            let arrival = &task.arrival;
            let command = Command {
                nexus: arrival.nexus,
                tag,
                task: task.key,
                id: arrival.id,
                attribute: Attribute::Simple,
                cdb: &arrival.cdb,
                luns: &[0],
                data_out: total(&arrival.out),
                resumed: arrival.resumed && !self.forgets_journal,
                clock_millis: 1_700_000_000_000,
                neighbours: neighbours.as_deref(),
            };
            reply.clear();
            let outcome = self.unit.execute(&command, parameters.as_deref(), &mut reply);
            task.key = Some(outcome.task);
            match outcome.verdict {
                Verdict::Respond(response) => {
                    let data_in = arrival.memory.scatter(&arrival.into, &reply) as u64;
                    return self.end(tag, Some(Ending::Respond(response)), data_in, None);
                }
                Verdict::Parameters(wanted) => {
                    let mut bytes = vec![0; wanted];
                    let given = arrival.memory.gather(&arrival.out, &mut bytes);
                    bytes.truncate(given);
                    parameters = Some(bytes);
                }
                Verdict::Neighbours(queries) => neighbours = Some(queries.iter().map(|_| None).collect()),
                Verdict::Allocation(wanted) => {
                    let disk = &mut self.disk;
                    let ending = self.unit.finish_allocation(
                        outcome.task,
                        &wanted,
                        |from| disk.allocation(from),
                        &mut reply,
                    );
                    let data_in = arrival.memory.scatter(&arrival.into, &reply) as u64;
                    return self.end(tag, Some(ending), data_in, None);
                }
                Verdict::Medium(plan) => {
                    let (data_in, data_out) = (plan.data_in(), plan.data_out());
                    if total(&arrival.into) < data_in || total(&arrival.out) < data_out {
                        let _ = self.unit.finish(outcome.task, Status::Aborted);
                        return self.end(tag, None, 0, None);
                    }
                    task.stage = Stage::Plan { plan, data_in, data_out };
                    return self.advance(tag, Status::Good, now);
                }
                Verdict::Work(work) => {
                    let scratch = Memory::anonymous(scsi::SCRATCH_BYTES);
                    task.stage = Stage::Machine(Machine { work, scratch, noted: None });
                    return self.advance(tag, Status::Good, now);
                }
                Verdict::Settle(settle) => {
                    task.stage = Stage::Settling { settle, writing: false };
                    return self.settle(None);
                }
                Verdict::Wait => {
                    task.stage = Stage::Held;
                    return;
                }
                Verdict::Aborted(abort) => {
                    let ending = match abort {
                        Abort::Own | Abort::Reset => Ending::Aborted { reset: abort == Abort::Reset },
                        Abort::Other => Ending::Respond(Response::of_status(scsi::status::TASK_ABORTED)),
                    };
                    return self.end(tag, Some(ending), 0, None);
                }
            }
        }
    }

    /// The last operation ended so; the next one, or the end.
    fn advance(&mut self, tag: u32, last: Status, now: Instant) {
        let block = self.unit.facts().block_size;
        if tag == BACKGROUND {
            let Some(mut machine) = self.background.take() else { return };
            let memory = Memory::empty();
            match step(&mut machine, last, &memory, &[], &[]) {
                Do::End { result, .. } => self.unit.finish_background(result),
                Do::Disk { operation, data, .. } => {
                    if note_of(&mut machine).is_some() {
                        self.save();
                    }
                    let (source, spans) = place(&machine, &memory, &[], &[], operation, data, block);
                    self.disk.submit(now, tag, operation, Data { memory: &source, spans: &spans });
                    self.background = Some(machine);
                }
            }
            return;
        }
        let task = self.tasks.get_mut(&tag).expect("the disk ends what it was given");
        let key = task.key.expect("it is a task of the unit");
        let Arrival { memory, out, into, .. } = &task.arrival;
        match &mut task.stage {
            Stage::Plan { plan, data_in, data_out } => {
                let next = if last == Status::Good { plan.next() } else { None };
                let Some(operation) = next else {
                    if last == Status::Good
                        && let Some(settle) = plan.take_settle()
                    {
                        task.stage = Stage::Settling { settle, writing: false };
                        return self.settle(None);
                    }
                    let data_in = if last == Status::Good { *data_in } else { 0 };
                    let data_out = *data_out;
                    let ending = match self.unit.finish(key, last) {
                        Ending::Respond(response) => Ending::Respond(Response { data_out, ..response }),
                        ending => ending,
                    };
                    return self.end(tag, Some(ending), data_in, Some(last));
                };
                let from = if matches!(operation, Operation::Read(_)) { into } else { out };
                let spans = slice(from, 0, bytes_of(operation, block));
                self.disk.submit(now, tag, operation, Data { memory, spans: &spans });
            }
            Stage::Machine(machine) => {
                let (operation, data) = match step(machine, last, memory, out, into) {
                    Do::End { result, data_in, data_out } => {
                        let ending = self.unit.finish_work(key, result, data_out);
                        return self.end(tag, Some(ending), data_in, Some(last));
                    }
                    Do::Disk { at: At::Own, operation, data } => (operation, data),
                    Do::Disk { .. } => unreachable!("there is no other unit"),
                };
                let (source, spans) = place(machine, memory, out, into, operation, data, block);
                if let Some(note) = note_of(machine) {
                    self.unit.note_begun(key, note);
                    self.ledger.save(&self.unit.state());
                }
                self.disk.submit(now, tag, operation, Data { memory: &source, spans: &spans });
            }
            Stage::Held | Stage::Settling { .. } => unreachable!("it has no operation at the disk"),
        }
    }

    fn end(&mut self, tag: u32, ending: Option<Ending>, data_in: u64, medium: Option<Status>) {
        self.tasks.remove(&tag);
        self.ended.push(Ended { tag, ending, data_in, medium });
        self.settle(Some(tag));
    }

    /// Whoever waits for tasks waits no more for this one.
    fn settle(&mut self, ended: Option<u32>) {
        let mut ready = Vec::new();
        for (tag, task) in &mut self.tasks {
            if let Stage::Settling { settle, writing } = &mut task.stage
                && !*writing
            {
                settle.waits_for.retain(|other| Some(*other) != ended);
                if settle.waits_for.is_empty() || self.skips_waiting {
                    *writing = true;
                    ready.push((*tag, settle.persist));
                }
            }
        }
        for (tag, persist) in ready {
            match persist {
                true => self.jobs.push_back((tag, self.unit.persistent())),
                false => self.end_settled(tag, true),
            }
        }
    }

    fn end_settled(&mut self, tag: u32, durable: bool) {
        let Some(task) = self.tasks.get(&tag) else { return };
        let (Stage::Settling { settle, .. }, Some(key)) = (&task.stage, task.key) else { return };
        let ending = self.unit.finish_settled(key, settle.response, durable);
        self.end(tag, Some(ending), 0, None);
    }
}

fn step(machine: &mut Machine, last: Status, memory: &Memory, out: &[Span], into: &[Span]) -> Do {
    let Machine { work, scratch, .. } = machine;
    work.next(last, &mut View { memory, out, into, scratch })
}

/// What is to be noted before the next operation, if it was not.
fn note_of(machine: &mut Machine) -> Option<u32> {
    let note = machine.work.note();
    let new = note.filter(|_| note != machine.noted);
    machine.noted = note;
    new
}

/// Where the bytes of a work's operation are.
fn place(
    machine: &Machine,
    memory: &Arc<Memory>,
    out: &[Span],
    into: &[Span],
    operation: Operation,
    data: Place,
    block: u32,
) -> (Arc<Memory>, Vec<Span>) {
    let len = bytes_of(operation, block);
    match data {
        Place::None => (Arc::clone(memory), Vec::new()),
        Place::Out(at) => (Arc::clone(memory), slice(out, at, len)),
        Place::In(at) => (Arc::clone(memory), slice(into, at, len)),
        Place::Scratch(at) => {
            let span = machine.scratch.locate(Address(at as u64), len as u32, &mut 0);
            (Arc::clone(&machine.scratch), span.into_iter().collect())
        }
    }
}

fn bytes_of(operation: Operation, block: u32) -> u64 {
    match operation {
        Operation::Read(extent) | Operation::Write { extent, .. } | Operation::WriteAtomic { extent, .. } => {
            extent.len_bytes()
        }
        Operation::WriteSame { .. } => u64::from(block),
        Operation::Flush | Operation::Discard(_) | Operation::WriteZeroes { .. } => 0,
    }
}

/// `len` bytes of a list of spans from `at` on, or as many as there are.
fn slice(spans: &[Span], mut at: u64, mut len: u64) -> Vec<Span> {
    let mut found = Vec::new();
    for span in spans {
        let skip = at.min(u64::from(span.len));
        let take = (u64::from(span.len) - skip).min(len);
        if take > 0 {
            found.push(Span { offset: span.offset + skip, len: take as u32, ..*span });
        }
        at -= skip;
        len -= take;
    }
    found
}

/// What a step of a work may look at.
struct View<'a> {
    memory: &'a Memory,
    out: &'a [Span],
    into: &'a [Span],
    scratch: &'a Memory,
}

impl View<'_> {
    fn scratch(&self, at: usize, len: usize) -> Option<Span> {
        self.scratch.locate(Address(at as u64), len as u32, &mut 0).filter(|span| span.len > 0)
    }
}

impl Buffers for View<'_> {
    fn read_out(&self, at: u64, into: &mut [u8]) {
        into.fill(0);
        self.memory.gather(&slice(self.out, at, into.len() as u64), into);
    }

    fn write_in(&mut self, at: u64, from: &[u8]) {
        self.memory.scatter(&slice(self.into, at, from.len() as u64), from);
    }

    fn read_scratch(&self, at: usize, into: &mut [u8]) {
        into.fill(0);
        if let Some(span) = self.scratch(at, into.len()) {
            self.scratch.gather(&[span], into);
        }
    }

    fn write_scratch(&mut self, at: usize, from: &[u8]) {
        if let Some(span) = self.scratch(at, from.len()) {
            self.scratch.scatter(&[span], from);
        }
    }
}
