//! The table of tasks: what is known of each request between its PDU and the end of its answer.

use alloc::vec;
use alloc::vec::Vec;

use guest_memory::Window;
use request::Span;

use crate::layout::{ENTRY_WORDS, Layout, POOL_UNIT_BYTES};
use crate::limits::CDB_MAX_BYTES;
use crate::pdu::Header;

/// The name of a task: its slot, and a generation that tells it from those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u32);

impl Tag {
    /// Below the number of tasks of the connection: an index for a table of the caller's.
    pub fn slot(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

/// Bits of the target transfer tag for slot and generation; above them is the number of the R2T.
const SLOT_BITS: u32 = 11;
const GENERATION_BITS: u32 = 13;
const _: () = assert!(SLOT_BITS + GENERATION_BITS == 24, "the R2T's number has a byte");

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Free,
    /// Its PDU is not yet complete.
    Arriving,
    /// CmdSN lies ahead of ExpCmdSN.
    Held,
    /// In order; waits for data memory.
    Queued,
    /// The caller has it.
    Delivered,
    /// The answer is known and not yet all in the transmit queue.
    Answered,
    /// All of its PDUs are in the transmit queue, which still needs its data memory.
    Sending,
}

const STATES: [State; 7] = [
    State::Free,
    State::Arriving,
    State::Held,
    State::Queued,
    State::Delivered,
    State::Answered,
    State::Sending,
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Command,
    Manage,
    Text,
    Nop,
    Logout,
    /// A CmdSN that was given up by task management before its command came.
    Skip,
}

const KINDS: [Kind; 6] = [Kind::Command, Kind::Manage, Kind::Text, Kind::Nop, Kind::Logout, Kind::Skip];

/// Flags of a task.
pub(crate) mod is {
    pub const IMMEDIATE: u16 = 1 << 0;
    /// A predecessor may have run it.
    pub const RESUMED: u16 = 1 << 1;
    /// Unsolicited Data-Out PDUs are still to come.
    pub const UNSOLICITED: u16 = 1 << 2;
    /// Its data-out broke a rule or a digest; nothing more is stored, and `asc` says why.
    pub const BROKEN: u16 = 1 << 3;
    /// The caller waits for data-out.
    pub const COLLECTING: u16 = 1 << 4;
    /// Ended without an answer; its memory waits for the PDU that is being received into it.
    pub const DROPPED: u16 = 1 << 5;
    /// The answer stands in the residual's flag fields.
    pub const OVERFLOW: u16 = 1 << 6;
    pub const UNDERFLOW: u16 = 1 << 7;
    /// All data segments and digests of its own PDU are there and good.
    pub const IN_QUEUE: u16 = 1 << 8;
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub state: State,
    pub kind: Kind,
    pub flags: u16,
    pub generation: u32,
    pub header: Header,
    pub cdb_more: [u8; CDB_MAX_BYTES - 16],
    pub cdb_bytes: u16,
    /// Where it stands among the delivered.
    pub order: u64,
    /// Data-out bytes that came, all from the beginning.
    pub received: u32,
    /// Data-out bytes that the caller asked for.
    pub wanted: u32,
    /// Data-out bytes that R2Ts were sent for, or that came by themselves.
    pub requested: u32,
    /// Where the solicitation under way began, and the first R2TSN of it.
    pub solicit_from: u32,
    pub solicit_sn: u32,
    /// R2TSN of the next R2T.
    pub r2t_sn: u32,
    /// DataSN of the next Data-Out PDU of this sequence.
    pub data_out_sn: u32,
    /// Data-in bytes to send, and how many are in the transmit queue; for text and NOP as well.
    pub data_in: u32,
    pub generated: u32,
    /// DataSN of the next Data-In PDU.
    pub data_in_sn: u32,
    /// Position of the output's end behind its last PDU.
    pub end: u64,
    pub status: u8,
    pub sense_bytes: u16,
    pub residual: u32,
    /// Which broken rule is told as sense data.
    pub broken: u8,
    pub pool_at: u32,
    pub pool_bytes: u32,
    /// Chain of tasks with the same hash of the initiator task tag; not saved.
    next: u16,
    /// The copy of the entry in memory that the last commit made valid; not saved.
    copy: u8,
    dirty: bool,
}

const NONE: u16 = u16::MAX;

impl Default for Task {
    fn default() -> Task {
        Task {
            state: State::Free,
            kind: Kind::Command,
            flags: 0,
            generation: 0,
            header: Header([0; 48]),
            cdb_more: [0; CDB_MAX_BYTES - 16],
            cdb_bytes: 16,
            order: 0,
            received: 0,
            wanted: 0,
            requested: 0,
            solicit_from: 0,
            solicit_sn: 0,
            r2t_sn: 0,
            data_out_sn: 0,
            data_in: 0,
            generated: 0,
            data_in_sn: 0,
            end: 0,
            status: 0,
            sense_bytes: 0,
            residual: 0,
            broken: 0,
            pool_at: 0,
            pool_bytes: 0,
            next: NONE,
            copy: 0,
            dirty: false,
        }
    }
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn low(word: u64) -> u32 {
    (word & 0xffff_ffff) as u32
}

fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

impl Task {
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub fn itt(&self) -> u32 {
        self.header.itt()
    }

    pub fn is_write(&self) -> bool {
        self.kind == Kind::Command && self.header.flags() & crate::bits::flag::WRITE != 0
    }

    pub fn is_read(&self) -> bool {
        self.kind == Kind::Command && self.header.flags() & crate::bits::flag::READ != 0
    }

    /// Occupies a place in the CmdSN window.
    fn is_busy(&self) -> bool {
        !self.has(is::IMMEDIATE) && matches!(self.state, State::Queued | State::Delivered | State::Answered)
    }

    /// What a free entry has to say is short; the rest of it means nothing.
    fn words(&self) -> ([u64; ENTRY_WORDS], usize) {
        let mut words = [0; ENTRY_WORDS];
        words[1] = u64::from(self.state as u8)
            | u64::from(self.kind as u8) << 8
            | u64::from(self.flags) << 16
            | u64::from(self.generation) << 32;
        if self.state == State::Free {
            return (words, 2);
        }
        words[2] = pair(self.received, self.wanted);
        words[3] = pair(self.requested, self.solicit_from);
        words[4] = pair(self.solicit_sn, self.r2t_sn);
        words[5] = pair(self.data_out_sn, self.data_in);
        words[6] = pair(self.generated, self.data_in_sn);
        words[7] = self.end;
        words[8] = pair(
            self.residual,
            u32::from(self.status) | u32::from(self.sense_bytes) << 8 | u32::from(self.broken) << 24,
        );
        words[9] = pair(self.pool_at, self.pool_bytes);
        words[10] = self.order;
        words[11] = u64::from(self.cdb_bytes);
        let (chunks, _) = self.header.0.as_chunks::<8>();
        for (word, chunk) in words[12..18].iter_mut().zip(chunks) {
            *word = u64::from_le_bytes(*chunk);
        }
        if self.cdb_bytes <= 16 {
            return (words, 18);
        }
        let (chunks, _) = self.cdb_more.as_chunks::<8>();
        for (word, chunk) in words[18..24].iter_mut().zip(chunks) {
            *word = u64::from_le_bytes(*chunk);
        }
        (words, 24)
    }

    fn of_words(words: &[u64; ENTRY_WORDS]) -> Task {
        let mut task = Task {
            state: STATES.get((words[1] & 0xff) as usize).copied().unwrap_or_default(),
            kind: KINDS.get((words[1] >> 8 & 0xff) as usize).copied().unwrap_or_default(),
            flags: (words[1] >> 16 & 0xffff) as u16,
            generation: high(words[1]),
            ..Task::default()
        };
        if task.state == State::Free {
            return task;
        }
        task.received = low(words[2]);
        task.wanted = high(words[2]);
        task.requested = low(words[3]);
        task.solicit_from = high(words[3]);
        task.solicit_sn = low(words[4]);
        task.r2t_sn = high(words[4]);
        task.data_out_sn = low(words[5]);
        task.data_in = high(words[5]);
        task.generated = low(words[6]);
        task.data_in_sn = high(words[6]);
        task.end = words[7];
        task.residual = low(words[8]);
        task.status = (high(words[8]) & 0xff) as u8;
        task.sense_bytes = (high(words[8]) >> 8 & 0xffff) as u16;
        task.broken = (high(words[8]) >> 24) as u8;
        task.pool_at = low(words[9]);
        task.pool_bytes = high(words[9]);
        task.order = words[10];
        task.cdb_bytes = (words[11] & 0xffff) as u16;
        for (word, chunk) in words[12..18].iter().zip(task.header.0.as_chunks_mut::<8>().0) {
            *chunk = word.to_le_bytes();
        }
        if task.cdb_bytes > 16 {
            for (word, chunk) in words[18..24].iter().zip(task.cdb_more.as_chunks_mut::<8>().0) {
                *chunk = word.to_le_bytes();
            }
        }
        task
    }
}

/// All tasks of a connection, and the memory that they share.
#[derive(Debug)]
pub(crate) struct Tasks {
    layout: Layout,
    all: Vec<Task>,
    free: Vec<u16>,
    /// Free from the next commit on: until then a successor would find them in use, with data in
    /// their memory.
    parked: Vec<u16>,
    dirty: Vec<u16>,
    heads: Vec<u16>,
    /// Units of the pool that are in use.
    pool: Vec<bool>,
    busy: u32,
    immediate: u32,
}

impl Tasks {
    pub fn new(layout: Layout) -> Tasks {
        let count = usize::from(layout.tasks());
        Tasks {
            layout,
            all: vec![Task::default(); count],
            // The last one is taken first: the lowest slots are used most.
            free: (0..layout.tasks()).rev().collect(),
            parked: Vec::with_capacity(count),
            dirty: Vec::with_capacity(count),
            heads: vec![NONE; count.next_power_of_two()],
            pool: vec![false; (layout.limits.pool_bytes / POOL_UNIT_BYTES) as usize],
            busy: 0,
            immediate: 0,
        }
    }

    fn bucket(&self, itt: u32) -> usize {
        // Initiators count their tags up, or use an index with an age in the upper bits.
        (itt ^ itt >> 12) as usize & self.heads.len().wrapping_sub(1)
    }

    pub fn get(&self, slot: u16) -> Option<&Task> {
        self.all.get(usize::from(slot)).filter(|task| task.state != State::Free)
    }

    pub fn of(&self, tag: Tag) -> Option<(u16, &Task)> {
        let task = self.get(tag.slot())?;
        (task.generation & 0xffff == tag.0 >> 16).then_some((tag.slot(), task))
    }

    pub fn tag(&self, slot: u16) -> Tag {
        let generation = self.all.get(usize::from(slot)).map_or(0, |task| task.generation);
        Tag(u32::from(slot) | (generation & 0xffff) << 16)
    }

    /// The tag that an R2T carries.
    pub fn transfer_tag(&self, slot: u16, r2t_sn: u32) -> u32 {
        let generation = self.all.get(usize::from(slot)).map_or(0, |task| task.generation);
        u32::from(slot)
            | (generation & ((1 << GENERATION_BITS) - 1)) << SLOT_BITS
            | (r2t_sn & 0xff) << (SLOT_BITS + GENERATION_BITS)
    }

    /// The task whose R2T had this tag.
    pub fn of_transfer_tag(&self, ttt: u32) -> Option<u16> {
        let slot = (ttt & ((1 << SLOT_BITS) - 1)) as u16;
        let task = self.get(slot)?;
        let generation = task.generation & ((1 << GENERATION_BITS) - 1);
        (ttt >> SLOT_BITS & ((1 << GENERATION_BITS) - 1) == generation).then_some(slot)
    }

    pub fn find(&self, itt: u32) -> Option<u16> {
        let mut slot = *self.heads.get(self.bucket(itt))?;
        while let Some(task) = self.all.get(usize::from(slot)) {
            if task.itt() == itt {
                return Some(slot);
            }
            slot = task.next;
        }
        None
    }

    /// Changes a task; it is written with the next commit.
    pub fn change(&mut self, slot: u16, change: impl FnOnce(&mut Task)) {
        let Some(task) = self.all.get_mut(usize::from(slot)) else { return };
        let (was_busy, was_immediate) =
            (task.is_busy(), task.state != State::Free && task.has(is::IMMEDIATE));
        change(task);
        let (busy, immediate) = (task.is_busy(), task.state != State::Free && task.has(is::IMMEDIATE));
        self.busy = self.busy.wrapping_add(u32::from(busy)).wrapping_sub(u32::from(was_busy));
        self.immediate =
            self.immediate.wrapping_add(u32::from(immediate)).wrapping_sub(u32::from(was_immediate));
        if !task.dirty {
            task.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Room for one more: in the window it is there for those that keep to it.
    pub fn has_room(&self, immediate: bool) -> bool {
        let held_back = u32::from(self.layout.limits.immediate).saturating_sub(self.immediate);
        if immediate { held_back > 0 && !self.free.is_empty() } else { self.free.len() as u32 > held_back }
    }

    pub fn take(&mut self, kind: Kind, flags: u16, header: Header) -> Option<u16> {
        let slot = self.free.pop()?;
        let generation = self.all.get(usize::from(slot))?.generation.wrapping_add(1);
        self.change(slot, |task| {
            let (copy, dirty) = (task.copy, task.dirty);
            *task = Task {
                state: State::Arriving,
                kind,
                flags,
                generation,
                header,
                copy,
                dirty,
                ..Task::default()
            };
        });
        self.link(slot);
        Some(slot)
    }

    fn link(&mut self, slot: u16) {
        let Some(task) = self.all.get(usize::from(slot)) else { return };
        let bucket = self.bucket(task.itt());
        let Some(head) = self.heads.get_mut(bucket) else { return };
        let next = core::mem::replace(head, slot);
        if let Some(task) = self.all.get_mut(usize::from(slot)) {
            task.next = next;
        }
    }

    fn unlink(&mut self, slot: u16) {
        let Some(task) = self.all.get(usize::from(slot)) else { return };
        let (bucket, next) = (self.bucket(task.itt()), task.next);
        let Some(mut at) = self.heads.get(bucket).copied() else { return };
        if at == slot {
            if let Some(head) = self.heads.get_mut(bucket) {
                *head = next;
            }
            return;
        }
        while let Some(task) = self.all.get_mut(usize::from(at)) {
            if task.next == slot {
                task.next = next;
                return;
            }
            at = task.next;
        }
    }

    /// Gives a task another initiator task tag.
    pub fn retag(&mut self, slot: u16, itt: u32) {
        self.unlink(slot);
        self.change(slot, |task| task.header = task.header.with_itt(itt));
        self.link(slot);
    }

    pub fn release(&mut self, slot: u16) {
        if self.get(slot).is_some() {
            self.unlink(slot);
            self.change(slot, |task| task.state = State::Free);
            self.parked.push(slot);
        }
    }

    /// As `release`, of a task whose last PDU was sent: that it was to be sent is committed, so that
    /// a successor will find out the same, and nobody needs its memory.
    pub fn release_sent(&mut self, slot: u16) {
        if self.get(slot).is_some() {
            self.unlink(slot);
            self.change(slot, |task| task.state = State::Free);
            self.give_back(slot);
            self.free.push(slot);
        }
    }

    /// A commit that knows of all changes is valid.
    pub fn committed(&mut self) {
        while let Some(slot) = self.parked.pop() {
            self.give_back(slot);
            self.free.push(slot);
        }
    }

    /// Gets the memory that a task of `bytes` needs beside its slot. `false`: not now.
    pub fn allocate(&mut self, slot: u16, bytes: u32) -> bool {
        let more = bytes.saturating_sub(self.layout.limits.slot_bytes).min(self.layout.limits.pool_bytes);
        if more == 0 {
            return true;
        }
        let units = more.div_ceil(POOL_UNIT_BYTES) as usize;
        let mut run = 0usize;
        let mut found = None;
        for (index, used) in self.pool.iter().enumerate() {
            run = if *used { 0 } else { run.saturating_add(1) };
            if run == units {
                found = Some(index.saturating_add(1).saturating_sub(units));
                break;
            }
        }
        let Some(first) = found else { return false };
        self.pool.iter_mut().skip(first).take(units).for_each(|used| *used = true);
        // Within the pool, which has 32 bits.
        let at = (first as u32).saturating_mul(POOL_UNIT_BYTES);
        self.change(slot, |task| (task.pool_at, task.pool_bytes) = (at, more));
        true
    }

    fn units(task: &Task) -> (usize, usize) {
        ((task.pool_at / POOL_UNIT_BYTES) as usize, task.pool_bytes.div_ceil(POOL_UNIT_BYTES) as usize)
    }

    fn give_back(&mut self, slot: u16) {
        let Some(task) = self.all.get(usize::from(slot)) else { return };
        let (first, units) = Self::units(task);
        self.pool.iter_mut().skip(first).take(units).for_each(|used| *used = false);
    }

    /// Bytes that fit a task's memory.
    pub fn capacity(&self, slot: u16) -> u32 {
        let more = self.get(slot).map_or(0, |task| task.pool_bytes);
        self.layout.limits.slot_bytes.saturating_add(more)
    }

    /// Where `len` bytes from `offset` on of a task's data lie: in its slot, in the pool, or both.
    pub fn place(&self, slot: u16, offset: u32, len: u32) -> [Span; 2] {
        let own = self.layout.slot(slot);
        let slot_bytes = self.layout.limits.slot_bytes;
        let in_slot = len.min(slot_bytes.saturating_sub(offset));
        let first = Span { offset: own.offset.saturating_add(u64::from(offset)), len: in_slot, region: 0 };
        let Some(task) = self.get(slot) else { return [Span::default(); 2] };
        let into_pool = offset.saturating_sub(slot_bytes);
        let in_pool = len.saturating_sub(in_slot).min(task.pool_bytes.saturating_sub(into_pool));
        let at = (self.layout.pool as u64)
            .saturating_add(u64::from(task.pool_at))
            .saturating_add(u64::from(into_pool));
        [first, Span { offset: at, len: in_pool, region: 0 }]
    }

    /// Commands in the window that are not yet answered.
    pub fn busy(&self) -> u32 {
        self.busy
    }

    pub fn is_empty(&self) -> bool {
        self.free.len().saturating_add(self.parked.len()) == self.all.len()
    }

    pub fn slots(&self) -> impl Iterator<Item = u16> + '_ {
        (0..self.layout.tasks()).filter(|slot| self.get(*slot).is_some())
    }

    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Writes what changed into the copies that are not valid, for commit number `commit`.
    pub fn save(&mut self, window: &Window, commit: u64) {
        while let Some(slot) = self.dirty.pop() {
            let Some(task) = self.all.get_mut(usize::from(slot)) else { continue };
            task.dirty = false;
            task.copy ^= 1;
            let at = self.layout.entry(slot, usize::from(task.copy));
            let (words, count) = task.words();
            // First the number, which is ahead of the valid commit: until that one store is done,
            // this copy is nobody's.
            window.store_u64(at, commit);
            for (index, word) in words.iter().enumerate().take(count).skip(1) {
                window.store_u64(at.wrapping_add(index.wrapping_mul(8)), *word);
            }
        }
    }

    /// The tasks as of a commit. What a predecessor wrote for a commit that it did not live to see
    /// is struck out.
    pub fn load(layout: Layout, window: &Window, commit: u64) -> Tasks {
        let mut tasks = Tasks::new(layout);
        tasks.free.clear();
        for slot in (0..layout.tasks()).rev() {
            let mut best = (0, 0usize);
            for copy in 0..2 {
                let at = layout.entry(slot, copy);
                let number = window.load_u64(at);
                if number > commit {
                    window.store_u64(at, 0);
                } else if number > best.0 {
                    best = (number, copy);
                }
            }
            let mut words = [0; ENTRY_WORDS];
            let at = layout.entry(slot, best.1);
            for (index, word) in words.iter_mut().enumerate() {
                *word = window.load_u64(at.wrapping_add(index.wrapping_mul(8)));
            }
            let mut task = if best.0 == 0 { Task::default() } else { Task::of_words(&words) };
            task.copy = best.1 as u8;
            if task.state == State::Free {
                tasks.free.push(slot);
            }
            if task.is_busy() {
                tasks.busy = tasks.busy.wrapping_add(1);
            }
            if task.state != State::Free && task.has(is::IMMEDIATE) {
                tasks.immediate = tasks.immediate.wrapping_add(1);
            }
            if task.state != State::Free {
                let (first, units) = Self::units(&task);
                tasks.pool.iter_mut().skip(first).take(units).for_each(|used| *used = true);
            }
            let occupied = task.state != State::Free;
            if let Some(place) = tasks.all.get_mut(usize::from(slot)) {
                *place = task;
            }
            if occupied {
                tasks.link(slot);
            }
        }
        tasks
    }
}
