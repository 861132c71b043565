//! What SANITIZE and FORMAT UNIT do to the whole medium, after their answer or before it.
//!
//! # The picture
//!
//! ```text
//!  SANITIZE ─► has every block for itself? ─no─► waits
//!                  │ yes
//!                  ▼                     IMMED: GOOD now
//!           Unit::erasing ──────────────►
//!                  │                     else: the task is parked, and answered at the end
//!                  ▼
//!     Unit::background ─► run by the server ─► Unit::finish_background
//! ```
//!
//! While it runs every command but those of [`crate::Row::while_erasing`] is refused with its
//! progress. Neither an abort nor a reset stops it (SBC-4, sanitize operations), and a process that
//! dies leaves kind and position in the unit's state, so that its successor goes on. A sanitize that
//! failed bars the medium until another one has succeeded or, if AUSE allowed that, until EXIT
//! FAILURE MODE. After a loss of power it is not taken up again.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use request::{Blocks, Extent, Facts, Operation, Status};

use crate::journal::Note;
use crate::nexus::Nexus;
use crate::reservation::Access;
use crate::rows::Row;
use crate::sense::{Format, Sense};
use crate::state::Reader;
use crate::task_set::{Footprint, TaskKey};
use crate::unit::{Response, Unit, Verdict, sense_of};
use crate::work::{At, Buffers, Do, Place, SCRATCH_BYTES, Work};

/// Bytes that are zeroed by one operation: a bound for how long others of the lane wait behind it
/// where the store has no quick way to do it.
const ZEROES_BYTES: u64 = 32 << 20;

/// Which command it is; the number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Origin {
    Overwrite = 1,
    BlockErase = 2,
    Format = 3,
}

/// What is done to the medium. Plain data: it outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(super) origin: Origin,
    /// Written again and again into each block; empty: the blocks are zeroed, and given back.
    pub(super) pattern: Vec<u8>,
    /// How often, at least once.
    pub(super) passes: u8,
    /// Every second pass writes the pattern's complement.
    pub(super) invert: bool,
    /// AUSE: EXIT FAILURE MODE is allowed.
    pub(super) unrestricted: bool,
}

/// A decision to begin, on its way from a decode function to the task set.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    task: Task,
    immediate: bool,
    data_out: u64,
}

/// What goes on, or what failed.
#[derive(Debug)]
pub(crate) struct Erasing {
    task: Task,
    failed: bool,
    /// The command that waits for the end: by its names, which outlive the process, and as a task.
    owner: Option<(Nexus, u64)>,
    parked: Option<TaskKey>,
    data_out: u64,
    /// Blocks that are done, over all passes. The work counts here.
    position: Arc<AtomicU64>,
    /// Of the medium, when it began.
    blocks: u64,
    taken: bool,
    /// What was last said to be worth storing.
    stored: u64,
}

impl Erasing {
    fn total(&self) -> u64 {
        self.blocks.saturating_mul(u64::from(self.task.passes)).max(1)
    }

    /// PROGRESS INDICATION, in 65,536ths.
    fn progress(&self) -> u16 {
        let done = self.position.load(Ordering::Relaxed).min(self.total());
        let parts = u128::from(done) * 65_536 / u128::from(self.total());
        parts.min(65_535) as u16
    }

    /// How the unit is, for REQUEST SENSE and for commands that it refuses.
    fn sense(&self) -> Sense {
        match (self.failed, self.task.origin) {
            (false, Origin::Format) => Sense::NOT_READY_FORMAT_IN_PROGRESS.with_progress(self.progress()),
            (false, _) => Sense::NOT_READY_SANITIZE_IN_PROGRESS.with_progress(self.progress()),
            (true, Origin::Format) => Sense::MEDIUM_FORMAT_CORRUPTED,
            (true, _) => Sense::SANITIZE_COMMAND_FAILED,
        }
    }

    /// Why a command cannot run now.
    fn bars(&self, row: &Row) -> Option<Sense> {
        let allowed = match (self.failed, self.task.origin) {
            (false, _) => row.while_erasing,
            // Whatever does not touch the medium, and what mends it.
            (true, Origin::Format) => {
                !row.needs_start
                    || matches!(row.access, Access::Always | Access::NotReserved)
                    || matches!(row.opcode, FORMAT_UNIT | SANITIZE)
            }
            (true, _) => row.while_erasing || row.opcode == SANITIZE,
        };
        (!allowed).then(|| self.sense())
    }
}

const FORMAT_UNIT: u8 = 0x04;
const SANITIZE: u8 = 0x48;

/// A decode function has found the command good: it begins when the task set lets it.
pub(super) fn start(unit: &mut Unit, task: Task, immediate: bool, data_out: u64) -> Result<Verdict, Sense> {
    if unit.facts.blocks.0 == 0 {
        return Err(Sense::MEDIUM_NOT_PRESENT);
    }
    unit.starting = Some(Started { task, immediate, data_out });
    Ok(Verdict::Wait)
}

impl Unit {
    /// Why a command of this row cannot run while the medium is erased, or after that failed.
    pub(crate) fn barred(&self, row: &Row) -> Option<Sense> {
        self.erasing.as_ref()?.bars(row)
    }

    /// What REQUEST SENSE has to say of it.
    pub(crate) fn erasing_sense(&self) -> Option<Sense> {
        self.erasing.as_ref().map(Erasing::sense)
    }

    /// A sanitize that failed, and whether EXIT FAILURE MODE is allowed.
    pub(super) fn failed_sanitize(&self) -> Option<bool> {
        let erasing = self.erasing.as_ref().filter(|erasing| erasing.task.origin != Origin::Format)?;
        erasing.failed.then_some(erasing.task.unrestricted)
    }

    /// The failure is forgiven.
    pub(super) fn forgive(&mut self) {
        self.erasing = None;
        self.dirty = true;
    }

    /// The command of a decode function that set `starting` has its turn. It waits for all tasks that
    /// touch the medium; those that come behind it are refused from then on. `None`: it waits.
    pub(crate) fn begin_erasing(&mut self, task: TaskKey, nexus: Nexus, id: u64) -> Option<Response> {
        let started = self.starting.take()?;
        if !self.tasks.claim(task, Footprint::ALL) {
            return None;
        }
        let _ = self.tasks.claim(task, Footprint::Nothing);
        let mut erasing = Erasing {
            task: started.task,
            failed: false,
            owner: None,
            parked: None,
            data_out: started.data_out,
            position: Arc::new(AtomicU64::new(0)),
            blocks: self.facts.blocks.0,
            taken: false,
            stored: 0,
        };
        let response = Response { data_out: started.data_out, ..Response::GOOD };
        let answer = started.immediate.then_some(response);
        match answer {
            Some(response) => self.journal.put(nexus, id, Note::of(&response)),
            None => {
                erasing.owner = Some((nexus, id));
                erasing.parked = Some(task);
                self.tasks.park(task);
            }
        }
        self.erasing = Some(erasing);
        self.dirty = true;
        answer
    }

    /// A command that a process which died had begun to wait with: it waits again. True: so it is.
    pub(crate) fn rejoin_erasing(&mut self, task: TaskKey, nexus: Nexus, id: u64) -> bool {
        let Some(erasing) = &mut self.erasing else { return false };
        if erasing.failed || erasing.owner != Some((nexus, id)) || erasing.parked.is_some() {
            return false;
        }
        erasing.parked = Some(task);
        self.tasks.park(task);
        true
    }

    /// The task that waited for the end, and what it is told; once.
    pub(crate) fn take_erased(&mut self, task: TaskKey) -> Option<Response> {
        let (_, response) = self.erased.take_if(|(waited, _)| *waited == task)?;
        Some(response)
    }

    /// The task was aborted: what it started goes on.
    pub(crate) fn leave_erasing(&mut self, task: TaskKey) {
        if let Some(erasing) = self.erasing.as_mut().filter(|erasing| erasing.parked == Some(task)) {
            erasing.parked = None;
            erasing.owner = None;
            self.dirty = true;
        }
        let _ = self.take_erased(task);
    }

    /// The caller's name of the task that waits for the end, which may be hours away: for a restart or
    /// a move it is not under way.
    pub fn parked(&self) -> Option<u32> {
        self.tasks.tag_of(self.erasing.as_ref()?.parked?)
    }

    /// The task that waits goes without an answer: it comes again to a successor, and waits there, or
    /// is told how it ended.
    pub fn leave_parked(&mut self) {
        if let Some(erasing) = &mut self.erasing
            && let Some(task) = erasing.parked.take()
        {
            self.tasks.leave(task);
            self.dirty = true;
        }
    }

    /// Work on the medium that belongs to no task, `Some` once: the caller runs it with scratch memory
    /// of its own, and tells its end to [`Unit::finish_background`]. No footprint is claimed for it;
    /// the unit keeps all others away.
    pub fn background(&mut self) -> Option<Box<dyn Work>> {
        let erasing = self.erasing.as_mut().filter(|erasing| !erasing.failed && !erasing.taken)?;
        erasing.taken = true;
        Some(Box::new(Eraser::new(erasing, &self.facts)))
    }

    /// How the work of [`Unit::background`] ended.
    pub fn finish_background(&mut self, result: Result<(), Sense>) {
        let Some(mut erasing) = self.erasing.take() else { return };
        self.dirty = true;
        let response = match result {
            Ok(()) => Response { data_out: erasing.data_out, ..Response::GOOD },
            Err(_) if erasing.task.origin == Origin::Format => {
                Response::check(Sense::FORMAT_COMMAND_FAILED, Format::Fixed)
            }
            Err(_) => Response::check(Sense::SANITIZE_COMMAND_FAILED, Format::Fixed),
        };
        if let Some((nexus, id)) = erasing.owner.take() {
            self.journal.put(nexus, id, Note::of(&response));
        }
        if let Some(task) = erasing.parked.take() {
            self.erased = Some((task, response));
            self.tasks.unpark(task);
        }
        if result.is_err() {
            erasing.failed = true;
            self.erasing = Some(erasing);
        }
    }

    /// True now and then while it goes on: where it is should be stored.
    pub(crate) fn erasing_moved(&mut self) -> bool {
        let Some(erasing) = &mut self.erasing else { return false };
        let at = erasing.position.load(Ordering::Relaxed);
        if at.saturating_sub(erasing.stored) <= erasing.total() / 256 {
            return false;
        }
        erasing.stored = at;
        true
    }

    /// The section of the unit's state.
    pub(crate) fn erasing_state(&self) -> Option<Vec<u8>> {
        let erasing = self.erasing.as_ref()?;
        let task = &erasing.task;
        let mut text = Vec::with_capacity(48 + task.pattern.len());
        let mut flags = 0;
        for (set, flag) in [
            (task.unrestricted, UNRESTRICTED),
            (erasing.failed, FAILED),
            (task.invert, INVERT),
            (erasing.owner.is_some(), OWNED),
        ] {
            if set {
                flags |= flag;
            }
        }
        text.extend_from_slice(&[task.origin as u8, flags, task.passes]);
        text.extend_from_slice(&erasing.position.load(Ordering::Relaxed).to_le_bytes());
        text.extend_from_slice(&erasing.blocks.to_le_bytes());
        text.extend_from_slice(&erasing.data_out.to_le_bytes());
        let (nexus, id) = erasing.owner.unwrap_or((Nexus(0), 0));
        text.extend_from_slice(&nexus.0.to_le_bytes());
        text.extend_from_slice(&id.to_le_bytes());
        text.extend_from_slice(&(task.pattern.len() as u16).to_le_bytes()); // at most a block
        text.extend_from_slice(&task.pattern);
        Some(text)
    }

    /// From the section of a stored state.
    pub(crate) fn take_erasing(&mut self, text: &mut Reader<'_>) -> Option<()> {
        let origin = match text.u8()? {
            1 => Origin::Overwrite,
            2 => Origin::BlockErase,
            3 => Origin::Format,
            _ => return None,
        };
        let (flags, passes) = (text.u8()?, text.u8()?.max(1));
        let position = text.u64()?;
        let blocks = text.u64()?;
        let data_out = text.u64()?;
        let owner = (Nexus(text.u32()?), text.u64()?);
        let len = usize::from(text.u16()?);
        let pattern = Vec::from(text.take(len)?);
        if pattern.len() > self.facts.block_size as usize {
            return None;
        }
        let task = Task {
            origin,
            pattern,
            passes,
            invert: flags & INVERT != 0,
            unrestricted: flags & UNRESTRICTED != 0,
        };
        self.erasing = Some(Erasing {
            task,
            failed: flags & FAILED != 0,
            owner: (flags & OWNED != 0).then_some(owner),
            parked: None,
            data_out,
            position: Arc::new(AtomicU64::new(position)),
            blocks,
            taken: false,
            stored: position,
        });
        Some(())
    }
}

const UNRESTRICTED: u8 = 1 << 0;
const FAILED: u8 = 1 << 1;
const INVERT: u8 = 1 << 2;
const OWNED: u8 = 1 << 3;

/// The work itself.
#[derive(Debug)]
struct Eraser {
    task: Task,
    whole: Extent,
    /// The medium when it began: a pass has so many blocks, though some be gone now.
    blocks: u64,
    block_bytes: usize,
    position: Arc<AtomicU64>,
    /// Blocks of the operation that runs.
    running: u64,
    /// Scratch memory is full of the pattern of this pass.
    filled: Option<u64>,
    /// All that was written is on the medium.
    flushed: bool,
}

impl Eraser {
    fn new(erasing: &Erasing, facts: &Facts) -> Eraser {
        Eraser {
            task: erasing.task.clone(),
            whole: facts.whole(),
            blocks: erasing.blocks.max(1),
            block_bytes: facts.block_size as usize,
            position: Arc::clone(&erasing.position),
            running: 0,
            filled: None,
            flushed: true,
        }
    }

    /// Fills scratch memory with blocks of the pattern, or of its complement.
    fn fill(&mut self, pass: u64, buffers: &mut dyn Buffers) {
        if self.filled == Some(pass) {
            return;
        }
        let flip = if self.task.invert && pass % 2 == 1 { 0xff } else { 0x00 };
        let mut block: Vec<u8> = self.task.pattern.iter().cycle().take(self.block_bytes).copied().collect();
        for byte in &mut block {
            *byte ^= flip;
        }
        for at in (0..SCRATCH_BYTES).step_by(self.block_bytes) {
            buffers.write_scratch(at, &block);
        }
        self.filled = Some(pass);
    }
}

impl Work for Eraser {
    fn next(&mut self, last: Status, buffers: &mut dyn Buffers) -> Do {
        let end = |result| Do::End { result, data_in: 0, data_out: 0 };
        if let Some(sense) = sense_of(last) {
            return end(Err(sense));
        }
        let mut at = self.position.fetch_add(self.running, Ordering::Relaxed) + self.running;
        self.running = 0;
        let zeroes = self.task.pattern.is_empty();
        let piece_max = if zeroes { ZEROES_BYTES } else { SCRATCH_BYTES as u64 } / self.block_bytes as u64;
        loop {
            let (pass, skip) = (at / self.blocks, at % self.blocks);
            let done = pass >= u64::from(self.task.passes);
            if (skip == 0 || done) && !self.flushed {
                // Each pass reaches the medium, not only the last one.
                self.flushed = true;
                return Do::Disk { at: At::Own, operation: Operation::Flush, data: Place::None };
            }
            if done {
                return end(Ok(()));
            }
            let rest = self.blocks - skip;
            let there = self.whole.count().0.saturating_sub(skip).min(piece_max).min(rest);
            match self.whole.part(Blocks(skip), Blocks(there)).filter(|piece| !piece.is_empty()) {
                Some(piece) => {
                    self.running = there;
                    return self.operate(piece, pass, buffers);
                }
                // The volume has become smaller: that was all of this pass.
                None => {
                    self.position.fetch_add(rest, Ordering::Relaxed);
                    at += rest;
                }
            }
        }
    }

    fn footprint(&self) -> Footprint {
        Footprint::ALL
    }

    fn note(&self) -> Option<u32> {
        None
    }

    fn progress(&self) -> Option<u16> {
        let total = u128::from(self.blocks) * u128::from(self.task.passes);
        let parts = u128::from(self.position.load(Ordering::Relaxed)) * 65_536 / total.max(1);
        Some(parts.min(65_535) as u16)
    }
}

impl Eraser {
    fn operate(&mut self, extent: Extent, pass: u64, buffers: &mut dyn Buffers) -> Do {
        self.flushed = false;
        if self.task.pattern.is_empty() {
            let operation = Operation::WriteZeroes { extent, unmap: true, fua: false };
            return Do::Disk { at: At::Own, operation, data: Place::None };
        }
        self.fill(pass, buffers);
        let operation = Operation::Write { extent, fua: false };
        Do::Disk { at: At::Own, operation, data: Place::Scratch(0) }
    }
}
