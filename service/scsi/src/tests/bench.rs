//! A unit on a medium in memory, which carries out works and plans as a server would.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use request::{Atomic, Blocks, Facts, Operation, Provisioning, Run, Status};

use super::{NEXUS, OTHER, command, facts};
use crate::{
    At, Buffers, Command, Do, Ending, Nexus, Place, Response, SCRATCH_BYTES, TaskKey, Unit, Verdict, Work,
};

/// 2 MiB and 512 bytes of medium: three pieces of scratch memory.
pub(super) const BLOCKS: u64 = 4097;

pub(super) struct Bench {
    pub unit: Unit,
    pub medium: Vec<u8>,
    /// By blocks.
    pub mapped: Vec<bool>,
    /// All that was asked of the disk.
    pub seen: Vec<Operation>,
    /// The operation of this number (from zero) ends so instead.
    pub fails: Option<(usize, Status)>,
    next_tag: u32,
}

pub(super) struct Memories {
    pub out: Vec<u8>,
    pub data_in: Vec<u8>,
    pub scratch: Vec<u8>,
}

fn copy(from: &[u8], at: usize, into: &mut [u8]) {
    into.fill(0);
    let from = from.get(at..).unwrap_or_default();
    let count = from.len().min(into.len());
    into[..count].copy_from_slice(&from[..count]);
}

impl Buffers for Memories {
    fn read_out(&self, at: u64, into: &mut [u8]) {
        copy(&self.out, at as usize, into);
    }

    fn write_in(&mut self, at: u64, from: &[u8]) {
        let end = at as usize + from.len();
        self.data_in.resize(self.data_in.len().max(end), 0);
        self.data_in[at as usize..end].copy_from_slice(from);
    }

    fn read_scratch(&self, at: usize, into: &mut [u8]) {
        copy(&self.scratch, at, into);
    }

    fn write_scratch(&mut self, at: usize, from: &[u8]) {
        let count = from.len().min(self.scratch.len().saturating_sub(at));
        self.scratch[at..at + count].copy_from_slice(&from[..count]);
    }
}

pub(super) fn small() -> Facts {
    Facts {
        blocks: Blocks(BLOCKS),
        atomic: Some(Atomic { max: Blocks(64), alignment: Blocks(4), granularity: Blocks(2) }),
        ..facts()
    }
}

/// What a work does before it ends.
pub(super) struct Machine {
    pub work: Box<dyn Work>,
    pub memories: Memories,
    last: Status,
}

impl Machine {
    pub fn new(work: Box<dyn Work>, out: &[u8]) -> Machine {
        let memories =
            Memories { out: Vec::from(out), data_in: Vec::new(), scratch: vec![0x77; SCRATCH_BYTES] };
        Machine { work, memories, last: Status::Good }
    }
}

impl Bench {
    pub fn new() -> Bench {
        Bench::of(small())
    }

    pub fn of(facts: Facts) -> Bench {
        let bytes = facts.capacity_bytes() as usize;
        let blocks = facts.blocks.0 as usize;
        // Each block is another, and none is zeroes.
        let medium = (0..bytes).map(|at| 1 + (at % 251) as u8).collect();
        Bench {
            unit: super::unit(facts),
            medium,
            mapped: vec![true; blocks],
            seen: Vec::new(),
            fails: None,
            next_tag: 1,
        }
    }

    pub fn fill(&mut self, byte: u8) {
        self.medium.fill(byte);
    }

    pub fn blocks(&self, first: usize, count: usize) -> &[u8] {
        let size = self.unit.facts().block_size as usize;
        &self.medium[first * size..(first + count) * size]
    }

    /// Decides, giving parameters if they are asked for.
    pub fn begin(&mut self, nexus: Nexus, cdb: &[u8], out: &[u8]) -> (crate::Outcome, u32) {
        let tag = self.next_tag;
        self.next_tag += 1;
        let first = Command { tag, id: u64::from(tag), data_out: out.len() as u64, ..command(nexus, cdb) };
        (self.again(&first, out), tag)
    }

    pub fn again(&mut self, command: &Command<'_>, out: &[u8]) -> crate::Outcome {
        let outcome = self.unit.execute(command, None, &mut Vec::new());
        match outcome.verdict {
            Verdict::Parameters(bytes) => {
                let list = &out[..out.len().min(bytes)];
                let command = Command { task: Some(outcome.task), ..*command };
                self.unit.execute(&command, Some(list), &mut Vec::new())
            }
            _ => outcome,
        }
    }

    /// Carries out an operation.
    fn operate(&mut self, operation: Operation, memories: &mut Memories, data: Place) -> Status {
        let number = self.seen.len();
        self.seen.push(operation);
        if let Some((_, status)) = self.fails.filter(|(fails, _)| *fails == number) {
            return status;
        }
        let facts = self.unit.facts();
        let (extent, writes) = match operation {
            Operation::Flush => return Status::Good,
            Operation::Read(extent) => (extent, false),
            Operation::Write { extent, .. }
            | Operation::WriteAtomic { extent, .. }
            | Operation::WriteSame { extent, .. }
            | Operation::WriteZeroes { extent, .. } => (extent, true),
            Operation::Discard(extent) => (extent, false),
        };
        let (at, len) = (extent.offset_bytes() as usize, extent.len_bytes() as usize);
        let blocks = extent.first().0 as usize..(extent.first().0 + extent.count().0) as usize;
        assert!(at as u64 + len as u64 <= facts.capacity_bytes());
        if writes {
            self.mapped[blocks.clone()].fill(true);
        }
        match operation {
            Operation::Read(_) => {
                let bytes = &self.medium[at..at + len];
                match data {
                    Place::Scratch(place) => {
                        assert!(place + len <= SCRATCH_BYTES);
                        memories.write_scratch(place, bytes);
                    }
                    Place::In(place) => memories.write_in(place, bytes),
                    Place::Out(_) | Place::None => panic!("a read into {data:?}"),
                }
            }
            Operation::Write { .. } | Operation::WriteAtomic { .. } => {
                let mut bytes = vec![0; len];
                match data {
                    Place::Scratch(place) => {
                        assert!(place + len <= SCRATCH_BYTES);
                        memories.read_scratch(place, &mut bytes);
                    }
                    Place::Out(place) => {
                        assert!(place as usize + len <= memories.out.len(), "more than was offered");
                        memories.read_out(place, &mut bytes);
                    }
                    Place::In(_) | Place::None => panic!("a write of {data:?}"),
                }
                self.medium[at..at + len].copy_from_slice(&bytes);
            }
            Operation::WriteSame { .. } => panic!("no work does that"),
            Operation::WriteZeroes { unmap, .. } => {
                self.medium[at..at + len].fill(0);
                if unmap {
                    self.mapped[blocks].fill(false);
                }
            }
            Operation::Discard(_) => {
                self.medium[at..at + len].fill(0);
                self.mapped[blocks].fill(false);
            }
            Operation::Flush => {}
        }
        Status::Good
    }

    /// One step of a machine: its end, if that was it.
    pub fn step(&mut self, machine: &mut Machine) -> Option<(Result<(), crate::Sense>, u64)> {
        match machine.work.next(machine.last, &mut machine.memories) {
            Do::Disk { at, operation, data } => {
                assert_eq!(at, At::Own);
                machine.last = self.operate(operation, &mut machine.memories, data);
                None
            }
            Do::End { result, data_in, data_out } => {
                assert_eq!(data_in, machine.memories.data_in.len() as u64);
                Some((result, data_out))
            }
        }
    }

    pub fn run_machine(&mut self, mut machine: Machine) -> (Result<(), crate::Sense>, u64) {
        for _ in 0..100_000 {
            if let Some(end) = self.step(&mut machine) {
                return end;
            }
        }
        panic!("a work without an end");
    }

    /// A command from its beginning to its end.
    pub fn run(&mut self, cdb: &[u8], out: &[u8]) -> Response {
        let (outcome, _) = self.begin(NEXUS, cdb, out);
        self.finish(outcome, out)
    }

    pub fn finish(&mut self, outcome: crate::Outcome, out: &[u8]) -> Response {
        let ending = match outcome.verdict {
            Verdict::Respond(response) => return response,
            Verdict::Work(work) => {
                let (result, data_out) = self.run_machine(Machine::new(work, out));
                self.unit.finish_work(outcome.task, result, data_out)
            }
            Verdict::Medium(plan) => {
                let mut status = Status::Good;
                let mut memories = Memories { out: Vec::from(out), data_in: Vec::new(), scratch: Vec::new() };
                for operation in plan {
                    let place = match operation {
                        Operation::Read(_) => Place::In(0),
                        Operation::Write { .. } | Operation::WriteAtomic { .. } => Place::Out(0),
                        _ => Place::None,
                    };
                    status = self.operate(operation, &mut memories, place);
                    if status != Status::Good {
                        break;
                    }
                }
                self.unit.finish(outcome.task, status)
            }
            other => panic!("{other:?}"),
        };
        response_of(ending)
    }

    /// GET LBA STATUS and its data.
    pub fn allocation(&mut self, cdb: &[u8]) -> (Response, Vec<u8>) {
        let (outcome, _) = self.begin(NEXUS, cdb, &[]);
        let wanted = match outcome.verdict {
            Verdict::Allocation(wanted) => wanted,
            Verdict::Respond(response) => return (response, Vec::new()),
            other => panic!("{other:?}"),
        };
        let mapped = self.mapped.clone();
        let ask = |from: request::Lba| {
            let from = from.0 as usize;
            let state = if mapped[from] { Provisioning::Mapped } else { Provisioning::Deallocated };
            // In runs of at most three blocks, as a store may say no more at a time.
            let count = mapped[from..].iter().take(3).take_while(|other| **other == mapped[from]).count();
            Run { blocks: Blocks(count as u64), state }
        };
        let mut data = Vec::new();
        let ending = self.unit.finish_allocation(outcome.task, &wanted, ask, &mut data);
        (response_of(ending), data)
    }

    /// Runs what the unit has in the background, if it has something.
    pub fn run_background(&mut self) -> bool {
        let Some(work) = self.unit.background() else { return false };
        assert!(self.unit.background().is_none(), "it is given once");
        let (result, _) = self.run_machine(Machine::new(work, &[]));
        self.unit.finish_background(result);
        true
    }

    /// The task that was woken is decided again.
    pub fn resume(
        &mut self,
        nexus: Nexus,
        tag: u32,
        task: TaskKey,
        cdb: &[u8],
        out: &[u8],
    ) -> crate::Outcome {
        assert_eq!(self.unit.woken(), Some(tag));
        let command = Command {
            tag,
            id: u64::from(tag),
            task: Some(task),
            data_out: out.len() as u64,
            ..command(nexus, cdb)
        };
        self.again(&command, out)
    }

    pub fn codes(&mut self, nexus: Nexus, cdb: &[u8]) -> (u8, u8, u8) {
        super::codes(&super::response(&mut self.unit, nexus, cdb))
    }

    /// TEST UNIT READY of both initiators.
    pub fn is_ready(&mut self) -> bool {
        [NEXUS, OTHER].iter().all(|nexus| super::response(&mut self.unit, *nexus, &[0; 6]).status == 0x00)
    }
}

pub(super) fn response_of(ending: Ending) -> Response {
    match ending {
        Ending::Respond(response) => response,
        Ending::Aborted { .. } => panic!("nobody aborted it"),
    }
}
