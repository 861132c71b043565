//! Works: commands of many steps, and what units do on nobody's behalf. A step gives a disk something,
//! waits for others, or is the end.

use std::sync::Arc;

use disk::Data;
use guest_memory::Memory;
use request::{Extent, Operation, Status};
use scsi::{At, Do, Place, TaskKey, Visit};

use super::Lane;
use super::requests::{Origin, Request, Work};
use super::scratch::{Owner, View as Memories, slice, within};
use super::scsi::{Stage, ended_as};

/// A work with the memory that it has from its beginning to its end.
pub struct Machine {
    work: Box<dyn scsi::Work>,
    scratch: Arc<Memory>,
    noted: Option<u32>,
    /// The piece at hand is at another unit's disk, as a task of that unit.
    visiting: Option<(u32, TaskKey)>,
    /// It waits there for others.
    pub(super) pending: Option<(Do, TaskKey)>,
}

impl Machine {
    pub(super) fn new(work: Box<dyn scsi::Work>, scratch: Arc<Memory>) -> Self {
        Self { work, scratch, noted: None, visiting: None, pending: None }
    }
}

impl Lane {
    pub(super) fn is_machine(&mut self, tag: u32) -> bool {
        match &self.requests.get(tag).work {
            Work::Scsi(task) => matches!(task.stage, Stage::Machine(_)),
            Work::Background(_) => true,
            _ => false,
        }
    }

    /// The machine of a request, and the task that it is at its own unit.
    pub(super) fn machine(request: &mut Request) -> Option<(Option<TaskKey>, &mut Machine)> {
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
    pub(super) fn start_background(&mut self) {
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
