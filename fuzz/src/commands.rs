//! Any commands of several nexuses, with any parameter lists, to a logical unit in any state: tasks
//! that wait, run, are aborted, and a process that dies between them.

use std::cell::RefCell;

use arbitrary::{Result, Unstructured};
use request::{Blocks, Facts, Lba, Operation, Provisioning, Run, Status};
use scsi::{
    AccessState, Attribute, Buffers, Command, Do, Ending, Footprint, Function, Kind, Managed, Neighbour,
    Nexus, Peer, Place, PortId, PortName, Profile, Query, Reset, SCRATCH_BYTES, Settle, TargetPort, TaskKey,
    TransportId, Unit, Verdict, Work,
};

use crate::storage::{check_operation, facts};

/// Tasks of one input at a time.
const TASKS_MAX: usize = 12;
/// Operations of one compound command that are looked at; it is left under way then.
const STEPS_MAX: usize = 300;
const PROVISIONING: [Provisioning; 3] =
    [Provisioning::Mapped, Provisioning::Deallocated, Provisioning::Anchored];
const LUNS: [u16; 4] = [0, 1, 300, 16_383];

pub fn scsi_commands(data: &[u8]) {
    let mut input = Unstructured::new(data);
    if let Ok(mut world) = World::new(&mut input) {
        while !input.is_empty() && world.step(&mut input).is_ok() {}
    }
}

/// Any bytes as what an earlier process, or an earlier boot, left behind.
pub fn scsi_state(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(mut world) = World::new(&mut input) else { return };
    let (mut state, mut persistent) = (world.unit.state(), world.unit.persistent());
    for _ in 0..4 {
        let at_random = |input: &mut Unstructured<'_>, bytes: &mut Vec<u8>| -> Result<()> {
            let at = input.int_in_range(0..=bytes.len())?;
            let count = input.int_in_range(0..=40)?;
            let end = (at + input.int_in_range(0..=40)?).min(bytes.len());
            bytes.splice(at..end, input.bytes(count)?.iter().copied());
            Ok(())
        };
        if at_random(&mut input, &mut state).is_err() || at_random(&mut input, &mut persistent).is_err() {
            break;
        }
    }
    let (facts, profile) = (world.unit.facts().clone(), *world.unit.profile());
    world.unit = Unit::recover(facts.clone(), profile, &persistent);
    let _ = world.unit.persistent();
    world.unit = Unit::restore(facts.clone(), profile, &state);
    let kept = world.unit.state();
    let again = Unit::restore(facts, profile, &kept);
    assert_eq!(again.state(), kept, "what was understood once is understood again");
    world.is_damaged = true;
    world.nexuses = world.unit.nexuses().map(|(nexus, _)| nexus).collect();
    if world.nexuses.is_empty() {
        world.nexuses.extend(world.unit.attach(peer(0)));
    }
    while !input.is_empty() && world.step(&mut input).is_ok() {}
}

/// A command that has not ended.
struct Task {
    tag: u32,
    nexus: Nexus,
    id: u64,
    cdb: Vec<u8>,
    data: Vec<u8>,
    key: TaskKey,
    is_resumed: bool,
    stage: Stage,
}

enum Stage {
    /// It waits for others, and was asked for so many bytes of parameters before.
    Held,
    Medium(Vec<Operation>),
    Work(Box<dyn Work>),
    Settle(Settle),
}

struct World {
    unit: Unit,
    nexuses: Vec<Nexus>,
    tasks: Vec<Task>,
    next_tag: u32,
    now: u64,
    /// It began with a state that no unit had stored.
    is_damaged: bool,
    /// Tasks that this step's aborts named.
    waited_for: Vec<u32>,
}

fn peer(number: u8) -> Peer {
    let initiator = if number.is_multiple_of(2) {
        TransportId::sas([0x50, 0, 0, 0, 0, 0, 0, number])
    } else {
        TransportId::iscsi("iqn.1993-08.org.debian:01:abc", [0x80, 0, 0, 0, 0, number]).expect("a name")
    };
    Peer { initiator, port: PortId(1 + u16::from(number % 3)) }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

struct Memory<'a> {
    out: &'a [u8],
    data_in: Vec<u8>,
}

impl Buffers for Memory<'_> {
    fn read_out(&self, at: u64, into: &mut [u8]) {
        for (index, byte) in into.iter_mut().enumerate() {
            let at = usize::try_from(at).unwrap_or(usize::MAX).saturating_add(index);
            *byte = self.out.get(at).copied().unwrap_or(0);
        }
    }

    fn write_in(&mut self, at: u64, from: &[u8]) {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        if at < 1 << 20 {
            let end = (at + from.len()).min(1 << 20);
            self.data_in.resize(self.data_in.len().max(end), 0);
            self.data_in[at..end].copy_from_slice(&from[..end - at]);
        }
    }

    fn read_scratch(&self, at: usize, into: &mut [u8]) {
        SCRATCH.with_borrow(|scratch| {
            let from = scratch.get(at..).unwrap_or(&[]);
            let len = from.len().min(into.len());
            into[..len].copy_from_slice(&from[..len]);
            into[len..].fill(0);
        });
    }

    fn write_scratch(&mut self, at: usize, from: &[u8]) {
        SCRATCH.with_borrow_mut(|scratch| {
            let into = scratch.get_mut(at..).unwrap_or(&mut []);
            let len = into.len().min(from.len());
            into[..len].copy_from_slice(&from[..len]);
        });
    }
}

/// A CDB of any row, with bits that the row looks at, or any bytes.
fn cdb(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    if input.ratio(1, 6)? {
        let len = *input.choose(&[6usize, 10, 12, 16, 32])?;
        let mut cdb = input.bytes(len.min(input.len()))?.to_vec();
        cdb.resize(len, 0);
        return Ok(cdb);
    }
    let rows = scsi::rows();
    let row = &rows[input.int_in_range(0..=rows.len() - 1)?];
    let mut cdb = vec![0; row.usage.len()];
    // Zeroes where nothing else is said: most fields are numbers, and most numbers are small.
    let given = input.int_in_range(0..=7)?;
    for _ in 0..given {
        let at = usize::from(input.arbitrary::<u8>()?) % cdb.len();
        cdb[at] = input.arbitrary::<u8>()? & row.usage[at];
    }
    if let Some(action) = row.action {
        cdb[1] = cdb[1] & !0x1f | action;
        if row.usage.len() == 32 {
            cdb[9] = action;
        }
    }
    cdb[0] = row.opcode;
    if row.usage.len() == 32 {
        (cdb[7], cdb[8]) = (row.usage[7], row.usage[8]);
    }
    Ok(cdb)
}

impl World {
    fn new(input: &mut Unstructured<'_>) -> Result<World> {
        let facts = facts(input)?;
        let flags = input.arbitrary::<u8>()?;
        let profile = Profile {
            kind: if flags & 3 == 3 { Kind::CdRom } else { Kind::Disk },
            removable: flags & 4 != 0,
            thin_threshold_percent: (flags & 8 != 0).then_some(80),
        };
        let facts = if profile.kind == Kind::CdRom {
            Facts { block_size: 2048, read_only: true, ..facts }
        } else {
            facts
        };
        let atomic = request::Atomic { max: Blocks(64), alignment: Blocks(8), granularity: Blocks(8) };
        let facts = Facts { atomic: (flags & 16 != 0).then_some(atomic), ..facts };
        let mut unit = Unit::new(facts, profile);
        let port = |id: u16, name| TargetPort {
            id: PortId(id),
            group: id,
            name,
            state: AccessState::ActiveOptimized,
        };
        let iscsi = |tag| PortName::Iscsi { target: "iqn.2026-11.org.example:t".into(), tag };
        unit.set_ports(vec![
            port(1, PortName::Sas([0x50, 0, 0, 0, 0, 0, 1, 0])),
            port(2, iscsi(1)),
            port(3, iscsi(2)),
        ]);
        let mut world = World {
            unit,
            nexuses: Vec::new(),
            tasks: Vec::new(),
            next_tag: 0,
            now: 1,
            is_damaged: false,
            waited_for: Vec::new(),
        };
        for number in 0..3 {
            world.nexuses.extend(world.unit.attach(peer(number)));
        }
        Ok(world)
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        match input.int_in_range(0..=31)? {
            0 => self.manage(input)?,
            1 => self.reset(input)?,
            2 => self.crash(input)?,
            3 => {
                self.unit.seen();
                let _ = self.unit.take_dirty();
            }
            4 => self.lose_nexus(input)?,
            5 => {
                if let Some(nexus) = self.unit.attach(peer(input.int_in_range(0..=6)?))
                    && !self.nexuses.contains(&nexus)
                {
                    self.nexuses.push(nexus);
                }
            }
            6 => self.bare(input)?,
            7..16 => self.go_on(input)?,
            _ => self.begin(input)?,
        }
        while let Some(tag) = self.unit.woken() {
            let at = self.place(tag);
            assert!(matches!(self.tasks[at].stage, Stage::Held), "only a task that waits is woken");
            self.execute(at, None, None, input)?;
        }
        for tag in self.waited_for.drain(..) {
            let waits = |task: &Task| task.tag == tag && matches!(task.stage, Stage::Held);
            assert!(!self.tasks.iter().any(waits), "nobody waits for a task that waits");
        }
        assert_eq!(self.unit.tasks(), self.tasks.len(), "each task is in the set until it has ended");
        self.check_exclusive();
        Ok(())
    }

    fn place(&self, tag: u32) -> usize {
        self.tasks.iter().position(|task| task.tag == tag).expect("a task of ours is named")
    }

    fn begin(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        if self.tasks.len() == TASKS_MAX || self.nexuses.is_empty() {
            return self.go_on(input);
        }
        let nexus = *input.choose(&self.nexuses)?;
        let cdb = cdb(input)?;
        let count = input.int_in_range(0..=80)?;
        let data = input.bytes(usize::min(count, input.len()))?.to_vec();
        self.next_tag += 1;
        self.tasks.push(Task {
            tag: self.next_tag,
            nexus,
            id: u64::from(self.next_tag) << 8,
            cdb,
            data,
            key: TaskKey(0),
            is_resumed: false,
            stage: Stage::Held,
        });
        let attribute = match input.int_in_range(0..=9)? {
            0 => Attribute::Ordered,
            1 => Attribute::HeadOfQueue,
            2 => Attribute::Aca,
            _ => Attribute::Simple,
        };
        self.execute(self.tasks.len() - 1, Some(attribute), None, input)
    }

    /// Executes a task, for the first time (with its attribute) or again.
    fn execute(
        &mut self,
        at: usize,
        first: Option<Attribute>,
        parameters: Option<Vec<u8>>,
        input: &mut Unstructured<'_>,
    ) -> Result<()> {
        if self.unit.journal_is_full() {
            self.unit.seen();
        }
        self.now += u64::from(input.arbitrary::<u8>().unwrap_or(1));
        let (mut parameters, mut neighbours, mut is_first) = (parameters, None, first.is_some());
        // Once for each thing that may be asked for, and once more.
        for _ in 0..4 {
            let task = &self.tasks[at];
            let mut out = Vec::new();
            let command = Command {
                nexus: task.nexus,
                tag: task.tag,
                task: (!is_first).then_some(task.key),
                id: task.id,
                attribute: first.unwrap_or_default(),
                cdb: &task.cdb,
                luns: &LUNS,
                data_out: task.data.len() as u64,
                resumed: task.is_resumed,
                clock_millis: self.now,
                neighbours: neighbours.as_deref(),
            };
            let outcome = self.unit.execute(&command, parameters.as_deref(), &mut out);
            is_first = false;
            let task = &mut self.tasks[at];
            task.key = outcome.task;
            match outcome.verdict {
                Verdict::Respond(response) => {
                    let _ = response.sense_data();
                    self.tasks.remove(at);
                    return Ok(());
                }
                Verdict::Aborted(_) => {
                    self.tasks.remove(at);
                    return Ok(());
                }
                Verdict::Parameters(wanted) => {
                    assert!(parameters.is_none(), "parameters are asked for once");
                    assert!(wanted <= scsi::PARAMETERS_MAX_BYTES, "{wanted} bytes of parameters");
                    parameters = Some(task.data[..wanted.min(task.data.len())].to_vec());
                }
                Verdict::Neighbours(queries) => {
                    assert!(neighbours.is_none(), "neighbours are asked for once");
                    assert!(queries.len() <= 4096, "{} queries", queries.len());
                    let nexus = task.nexus;
                    let found: Vec<Option<Neighbour>> =
                        queries.iter().map(|query| self.neighbour(query, nexus, input)).collect();
                    neighbours = Some(found);
                }
                Verdict::Wait => {
                    task.stage = Stage::Held;
                    return Ok(());
                }
                Verdict::Medium(plan) => {
                    let (data_in, data_out) = (plan.data_in(), plan.data_out());
                    assert!(data_in <= scsi::TRANSFER_MAX_BYTES && data_out <= scsi::TRANSFER_MAX_BYTES);
                    let operations: Vec<Operation> = plan.collect();
                    for operation in &operations {
                        let bytes = check_operation(*operation, self.unit.facts());
                        match operation {
                            Operation::Read(_) => assert_eq!(bytes, data_in),
                            Operation::Write { .. }
                            | Operation::WriteAtomic { .. }
                            | Operation::WriteSame { .. } => assert_eq!(bytes, data_out),
                            _ => {}
                        }
                    }
                    self.tasks[at].stage = Stage::Medium(operations);
                    return Ok(());
                }
                Verdict::Allocation(wanted) => {
                    let key = task.key;
                    let blocks = self.unit.facts().blocks.0;
                    let ask = |at: Lba| {
                        assert!(at.0 < blocks, "the store is asked about blocks that it has");
                        let state = *input.choose(&PROVISIONING).unwrap_or(&Provisioning::Mapped);
                        Run { blocks: Blocks(input.arbitrary().unwrap_or(u64::MAX)), state }
                    };
                    let _ = self.unit.finish_allocation(key, &wanted, ask, &mut out);
                    assert!(out.len() <= 8 + 256 * 16, "{} bytes of descriptors", out.len());
                    self.tasks.remove(at);
                    return Ok(());
                }
                Verdict::Work(work) => {
                    task.stage = Stage::Work(work);
                    return Ok(());
                }
                Verdict::Settle(settle) => {
                    let own = task.tag;
                    assert!(!settle.waits_for.contains(&own), "a task does not wait for itself");
                    for tag in &settle.waits_for {
                        self.place(*tag);
                    }
                    if settle.persist {
                        self.check_persistent();
                    }
                    self.tasks[at].stage = Stage::Settle(settle);
                    return Ok(());
                }
            }
        }
        panic!("a command asks for the same thing again and again");
    }

    fn neighbour(&self, query: &Query, nexus: Nexus, input: &mut Unstructured<'_>) -> Option<Neighbour> {
        let known = self.unit.neighbour(query, nexus);
        if known.is_some() || !input.ratio(1, 2).unwrap_or(false) {
            return known.map(|known| Neighbour { at: 0, ..known });
        }
        Some(Neighbour {
            at: 1,
            facts: Facts { blocks: Blocks(1000), ..self.unit.facts().clone() },
            may_read: input.arbitrary().unwrap_or(true),
            may_write: input.arbitrary().unwrap_or(true),
            writes_through: input.arbitrary().unwrap_or(false),
            ranges: vec![(0, 5), (100, u64::from(input.arbitrary::<u16>().unwrap_or(1)))],
        })
    }

    /// One of the tasks that run has ended, or comes nearer to its end.
    fn go_on(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        if self.tasks.is_empty() {
            return Ok(());
        }
        let at = input.int_in_range(0..=self.tasks.len() - 1)?;
        let status = if input.ratio(3, 4)? { Status::Good } else { *input.choose(&Status::ALL)? };
        self.end(at, status)
    }

    fn end(&mut self, at: usize, status: Status) -> Result<()> {
        let ending = match &mut self.tasks[at].stage {
            Stage::Held => return Ok(()),
            Stage::Medium(_) => {
                let ending = self.unit.finish(self.tasks[at].key, status);
                if let Ending::Respond(response) = &ending {
                    assert!(response.status != 0 || status == Status::Good, "a fault is told");
                }
                ending
            }
            Stage::Settle(settle) => {
                let waits = settle.waits_for.clone();
                if self.tasks.iter().any(|task| waits.contains(&task.tag)) {
                    return Ok(());
                }
                let Stage::Settle(settle) = &self.tasks[at].stage else { unreachable!("just seen") };
                let response = settle.response;
                self.unit.finish_settled(self.tasks[at].key, response, status == Status::Good)
            }
            Stage::Work(_) => match self.work(at, status) {
                Some(ending) => ending,
                None => return Ok(()),
            },
        };
        if let Ending::Respond(response) = ending {
            let _ = response.sense_data();
        }
        self.tasks.remove(at);
        Ok(())
    }

    /// Runs a compound command on; its operations end with `status` from the second one on.
    fn work(&mut self, at: usize, status: Status) -> Option<Ending> {
        let facts = self.unit.facts().clone();
        let task = &mut self.tasks[at];
        let Stage::Work(work) = &mut task.stage else { return None };
        let mut memory = Memory { out: &task.data, data_in: Vec::new() };
        let mut last = Status::Good;
        for _ in 0..STEPS_MAX {
            let next = work.next(last, &mut memory);
            if let Some(note) = work.note() {
                self.unit.note_begun(task.key, note);
            }
            match next {
                Do::End { result, data_out, .. } => {
                    return Some(self.unit.finish_work(task.key, result, data_out));
                }
                Do::Disk { at, operation, data } => {
                    let of = match at {
                        scsi::At::Own => facts.clone(),
                        scsi::At::Other(1) => Facts { blocks: Blocks(1000), ..facts.clone() },
                        scsi::At::Other(other) => {
                            assert_eq!(other, 0, "a neighbour that was named");
                            facts.clone()
                        }
                    };
                    let bytes = check_operation(operation, &of);
                    match data {
                        Place::None => assert_eq!(bytes, 0, "{operation:?} has data"),
                        Place::Scratch(at) => assert!(at as u64 + bytes <= SCRATCH_BYTES as u64),
                        Place::Out(at) | Place::In(at) => {
                            assert!(
                                at.checked_add(bytes).is_some_and(|end| end <= scsi::TRANSFER_MAX_BYTES * 2)
                            );
                        }
                    }
                }
            }
            let _ = work.progress();
            last = status;
        }
        // It goes on for long. That it would start anew here is for its own loop to say.
        Some(self.unit.finish_work(task.key, Ok(()), 0))
    }

    fn manage(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        if self.nexuses.is_empty() {
            return Ok(());
        }
        let nexus = *input.choose(&self.nexuses)?;
        let id = match self.tasks.is_empty() {
            true => 5,
            false => self.tasks[input.int_in_range(0..=self.tasks.len() - 1)?].id,
        };
        let function = match input.int_in_range(0..=9)? {
            0 => Function::AbortTask(id),
            1 => Function::AbortTaskSet,
            2 => Function::ClearTaskSet,
            3 => Function::ClearAca,
            4 => Function::UnitReset,
            5 => Function::TargetReset,
            6 => Function::NexusReset,
            7 => Function::QueryTask(id),
            8 => Function::QueryTaskSet,
            _ => Function::QueryAttention,
        };
        if let Managed::Complete { waits_for } = self.unit.manage(nexus, function) {
            self.check_waits(&waits_for);
        }
        Ok(())
    }

    /// Whoever asked for an abort waits for these. A task that waited itself is among them only if it
    /// is woken now, to be ended.
    fn check_waits(&mut self, tags: &[u32]) {
        for tag in tags {
            self.place(*tag);
        }
        self.waited_for.extend_from_slice(tags);
    }

    fn reset(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let by = self.nexuses.first().copied();
        match input.int_in_range(0..=5)? {
            0 => {
                let waits = self.unit.reset(Reset::LogicalUnit, by);
                self.check_waits(&waits);
            }
            1 => {
                let waits = self.unit.reset(Reset::PowerOn, None);
                self.check_waits(&waits);
            }
            2 => by.into_iter().for_each(|nexus| self.unit.luns_changed(nexus)),
            3 => self.unit.clear_reservations(),
            // Larger or smaller, but never below what a task under way was checked against.
            _ => {
                let more = Blocks(self.unit.facts().blocks.0 + input.int_in_range(0..=9)?);
                self.unit.resized(Facts { blocks: more, ..self.unit.facts().clone() });
            }
        }
        Ok(())
    }

    fn lose_nexus(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        if self.nexuses.len() < 2 {
            return Ok(());
        }
        let nexus = self.nexuses.swap_remove(input.int_in_range(0..=self.nexuses.len() - 1)?);
        let waits = self.unit.detach(nexus);
        self.check_waits(&waits);
        // Its tasks end before its number may be given to another.
        for tag in waits {
            let at = self.place(tag);
            if matches!(self.tasks[at].stage, Stage::Held) {
                continue;
            }
            let key = self.tasks[at].key;
            let task = self.tasks.remove(at);
            let ending = match task.stage {
                Stage::Work(_) => self.unit.finish_work(key, Ok(()), 0),
                Stage::Settle(settle) => self.unit.finish_settled(key, settle.response, true),
                _ => self.unit.finish(key, Status::Aborted),
            };
            // Another may have aborted it before, so that it would have been told.
            let is_aborted = matches!(&ending, Ending::Aborted { .. })
                || matches!(&ending, Ending::Respond(response) if response.status == 0x40);
            assert!(is_aborted, "{ending:?} of a nexus that is gone");
        }
        Ok(())
    }

    /// A process dies, and its successor has what was stored.
    fn crash(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (facts, profile) = (self.unit.facts().clone(), *self.unit.profile());
        let ports = self.unit.ports().to_vec();
        let state = self.unit.state();
        self.check_persistent();
        let peers: Vec<Peer> = self.unit.nexuses().map(|(_, peer)| peer.clone()).collect();
        let before: Vec<Nexus> = self.unit.nexuses().map(|(nexus, _)| nexus).collect();
        self.unit = Unit::restore(facts, profile, &state);
        self.unit.set_ports(ports);
        if self.is_damaged {
            // Its names may be none that anybody attaches with.
            self.nexuses = peers.into_iter().filter_map(|peer| self.unit.attach(peer)).collect();
            self.nexuses.sort_unstable();
            self.nexuses.dedup();
        } else {
            for (peer, nexus) in peers.into_iter().zip(before) {
                assert_eq!(self.unit.attach(peer), Some(nexus), "a peer goes on as the nexus that it was");
            }
            assert_eq!(self.unit.state(), state, "nothing of the state is lost or made up");
        }
        // Some of the commands are executed again; of the others nobody would know.
        let tasks = std::mem::take(&mut self.tasks);
        for task in tasks {
            if input.arbitrary().unwrap_or(false) {
                self.tasks.push(Task { key: TaskKey(0), is_resumed: true, stage: Stage::Held, ..task });
                self.execute(self.tasks.len() - 1, Some(Attribute::Simple), None, input)?;
            }
        }
        Ok(())
    }

    fn check_persistent(&self) {
        let bytes = self.unit.persistent();
        let unit = Unit::recover(self.unit.facts().clone(), *self.unit.profile(), &bytes);
        assert_eq!(unit.persistent(), bytes, "what survives a power cut survives another");
    }

    /// A command that reads and writes as one has its blocks for itself.
    fn check_exclusive(&self) {
        let facts = self.unit.facts();
        for task in &self.tasks {
            let Stage::Work(work) = &task.stage else { continue };
            let Footprint::Exclusive { first, end } = work.footprint() else { continue };
            for other in self.tasks.iter().filter(|other| other.tag != task.tag) {
                let (from, to) = match &other.stage {
                    Stage::Medium(operations) => {
                        let extents = operations.iter().filter_map(|operation| match operation {
                            Operation::Read(extent)
                            | Operation::Discard(extent)
                            | Operation::Write { extent, .. }
                            | Operation::WriteAtomic { extent, .. }
                            | Operation::WriteZeroes { extent, .. }
                            | Operation::WriteSame { extent, .. } => {
                                Some((extent.first().0, extent.first().0 + extent.count().0))
                            }
                            Operation::Flush => None,
                        });
                        extents.fold((u64::MAX, 0), |(first, end), (from, to)| (first.min(from), end.max(to)))
                    }
                    Stage::Work(work) => match work.footprint() {
                        Footprint::Shared { first, end } | Footprint::Exclusive { first, end } => {
                            (first, end)
                        }
                        Footprint::Nothing => continue,
                    },
                    _ => continue,
                };
                assert!(
                    first.max(from) >= end.min(to),
                    "{} blocks: {first}..{end} of one task and {from}..{to} of another",
                    facts.blocks.0
                );
            }
        }
    }

    /// Commands to no unit, and to the well-known one.
    fn bare(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let cdb = cdb(input)?;
        let command = scsi::bare_command(&cdb, &LUNS);
        let mut out = Vec::new();
        let verdict = if input.arbitrary()? {
            scsi::no_unit(&command, &mut out)
        } else {
            scsi::well_known(&command, &mut out)
        };
        assert!(matches!(verdict, Verdict::Respond(_)), "there is nothing to wait for without a unit");
        Ok(())
    }
}

pub fn inputs() -> Vec<Vec<u8>> {
    [seeds(), crate::kept(include_bytes!("../kept/scsi_commands"))].concat()
}

fn seeds() -> Vec<Vec<u8>> {
    // A volume of 65,536 blocks with everything, shown as a disk; then commands. The first of each
    // nexus meets the unit attention.
    let start = [1, 0, 0, 1, 0, 0, 0, 9, 1, 1, 1, 1, 1, 1, 1, 0x14];
    let mut seeds = Vec::new();
    for (index, row) in scsi::rows().iter().enumerate() {
        for length in [0u8, 1, 24, 255] {
            let mut seed = start.to_vec();
            for nexus in [0, 0, 1, 1, 0] {
                // A new command: nexus, a row of the table, one byte of its CDB, data.
                seed.extend([20, nexus, 5, index as u8, 1, row.usage.len() as u8 - 2, length, 40]);
                seed.extend([0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8]);
                seed.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0]);
                // Simple; then one task goes on.
                seed.extend([9, 7, 0, 1]);
            }
            seed.extend([2, 1, 1, 0, 3, 7, 0, 1]);
            seeds.push(seed);
        }
    }
    seeds
}

pub fn state_inputs() -> Vec<Vec<u8>> {
    [state_seeds(), crate::kept(include_bytes!("../kept/scsi_state"))].concat()
}

fn state_seeds() -> Vec<Vec<u8>> {
    let start = [1, 0, 0, 1, 0, 0, 0, 9, 1, 1, 1, 1, 1, 1, 1, 0x14];
    (0..60u8)
        .map(|at| {
            let mut seed = start.to_vec();
            seed.extend([at, 4, 4, 1, 2, 3, 4, at, 2, 2, 0xff, 0xff]);
            seed.extend([20, 0, 5, at, 0, 0, 9, 7, 0, 1]);
            seed
        })
        .collect()
}
