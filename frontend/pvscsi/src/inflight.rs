//! Hot state: what was begun, in a window of the ledger.
//!
//! ```text
//!   0  taken       requests that were taken from rings, ever
//!   8  published   completions that were made visible, ever
//!  16  messages    messages that were made visible, ever
//!  64  entries of 96 bytes:  descriptor 72 | done 8 | serial 8 | fate 4 | - 4
//! ```
//!
//! The three counts are the points of commitment, one store each. An entry is written before
//! `taken` moves past it, and counts only then; it is marked with the number of its completion
//! before `published` moves past that, and is over only then. The counts never go back: rings that
//! are set up anew begin at the counts of that moment (control state), so that entries from before
//! are known to be nobody's.

use alloc::vec::Vec;

use guest_memory::Window;

use crate::request::{Descriptor, KEPT};

/// Commands in flight at once: as many as the longest request ring has entries.
pub const COMMANDS_MAX: usize = 1024;

const TAKEN: usize = 0;
const PUBLISHED: usize = 8;
const MESSAGES: usize = 16;
const TABLE: usize = 64;

const DONE: usize = KEPT;
const SERIAL: usize = 80;
const FATE: usize = 88;
const ENTRY: usize = 96;

/// Length of the hot state.
pub const HOT_BYTES: usize = TABLE + COMMANDS_MAX * ENTRY;

/// What the hot state holds, from its start, while no command is under way; the rest is then as good
/// as zeros.
pub const HOT_AT_REST: usize = TABLE;

/// How a command that was told to end will end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    #[default]
    None,
    Abort,
    Reset,
}

/// What is known of a command beside the table. All of it can be had from there again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The count of taken requests with this one; 0: the slot is free.
    pub serial: u64,
    pub context: u64,
    pub sense: u64,
    pub sense_len: u32,
    pub offered: u64,
    pub target: u8,
    pub lun: [u8; 8],
    pub fate: Fate,
    pub stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    #[default]
    Free,
    /// A predecessor had begun it, and it was not given out again yet.
    Resumed,
    /// With whoever runs commands.
    Running,
    /// Its completion waits to be published.
    Ended,
    /// Running, but the rings that it came from are gone.
    Orphan,
}

/// The table and what is remembered of it.
pub(crate) struct InFlight {
    hot: Window,
    pub slots: Vec<Slot>,
    free: Vec<u16>,
    /// Slots of resumed commands, the oldest last.
    pub resumed: Vec<u16>,
    taken: u64,
    published: u64,
    messages: u64,
}

fn entry(slot: u16) -> usize {
    TABLE.saturating_add(usize::from(slot).saturating_mul(ENTRY))
}

impl InFlight {
    pub fn new(hot: Window) -> InFlight {
        let (taken, published) = (hot.load_u64(TAKEN), hot.load_u64(PUBLISHED));
        let messages = hot.load_u64(MESSAGES);
        InFlight { hot, slots: Vec::new(), free: Vec::new(), resumed: Vec::new(), taken, published, messages }
    }

    pub fn taken(&self) -> u64 {
        self.taken
    }

    pub fn published(&self) -> u64 {
        self.published
    }

    pub fn messages(&self) -> u64 {
        self.messages
    }

    pub fn slot(&self, slot: u16) -> Slot {
        self.slots.get(usize::from(slot)).copied().unwrap_or_default()
    }

    /// A slot for the next request; `None`: as many as can be are in flight.
    pub fn allocate(&mut self) -> Option<u16> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        let next = self.slots.len();
        if next >= COMMANDS_MAX {
            return None;
        }
        self.slots.push(Slot::default());
        u16::try_from(next).ok()
    }

    pub fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= COMMANDS_MAX
    }

    /// Notes a request, and then that it was taken: from here on it is ours.
    pub fn begin(&mut self, slot: u16, bytes: &[u8; KEPT], descriptor: &Descriptor) -> u64 {
        let at = entry(slot);
        let serial = self.taken.saturating_add(1);
        self.hot.write_bytes(at, bytes);
        self.hot.store_u64(at.saturating_add(DONE), 0);
        self.hot.store_u32(at.saturating_add(FATE), 0);
        self.hot.store_release_u64(at.saturating_add(SERIAL), serial);
        self.hot.store_release_u64(TAKEN, serial);
        self.taken = serial;
        self.fill(slot, serial, descriptor, Fate::None, Stage::Running);
        serial
    }

    fn fill(&mut self, slot: u16, serial: u64, from: &Descriptor, fate: Fate, stage: Stage) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            *slot = Slot {
                serial,
                context: from.context,
                sense: from.sense.0,
                sense_len: from.sense_len,
                offered: from.data_len,
                target: from.target,
                lun: from.lun,
                fate,
                stage,
            };
        }
    }

    pub fn set_stage(&mut self, slot: u16, stage: Stage) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            slot.stage = stage;
        }
    }

    pub fn set_offered(&mut self, slot: u16, offered: u64) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            slot.offered = offered;
        }
    }

    /// A command will be ended by somebody's order; a successor is to know.
    pub fn condemn(&mut self, slot: u16, fate: Fate) {
        let number = match fate {
            Fate::None => 0,
            Fate::Abort => 1,
            Fate::Reset => 2,
        };
        if let Some(known) = self.slots.get_mut(usize::from(slot)) {
            known.fate = fate;
            self.hot.store_u32(entry(slot).saturating_add(FATE), number);
        }
    }

    /// The completion of a command will have this number, counted from 0.
    pub fn mark_done(&mut self, slot: u16, number: u64) {
        let at = entry(slot).saturating_add(DONE);
        self.hot.store_release_u64(at, number.saturating_add(1));
    }

    /// So many completions are out. The descriptors are in the ring; after this they count,
    /// whether the driver's index says so yet or not.
    pub fn publish(&mut self, published: u64) {
        self.hot.store_release_u64(PUBLISHED, published);
        self.published = published;
    }

    pub fn publish_messages(&mut self, messages: u64) {
        self.hot.store_release_u64(MESSAGES, messages);
        self.messages = messages;
    }

    /// The command is over and its slot free.
    pub fn release(&mut self, slot: u16) {
        self.hot.store_release_u64(entry(slot).saturating_add(SERIAL), 0);
        if let Some(known) = self.slots.get_mut(usize::from(slot))
            && known.stage != Stage::Free
        {
            *known = Slot::default();
            self.free.push(slot);
        }
    }

    /// Reads the table that a predecessor left. `from`: requests that were taken before belong to
    /// rings that are gone.
    pub fn resume(&mut self, from: u64) {
        self.slots.clear();
        self.free.clear();
        self.resumed.clear();
        for number in 0..COMMANDS_MAX {
            // COMMANDS_MAX is below 65,536.
            let slot = number as u16;
            let at = entry(slot);
            let serial = self.hot.load_u64(at.saturating_add(SERIAL));
            let done = self.hot.load_u64(at.saturating_add(DONE));
            self.slots.push(Slot::default());
            let over = done != 0 && done <= self.published;
            if serial == 0 || serial > self.taken || serial <= from || over {
                if serial != 0 {
                    self.hot.store_release_u64(at.saturating_add(SERIAL), 0);
                }
                self.free.push(slot);
                continue;
            }
            // A mark that did not come to count would count later, for another's completion.
            if done != 0 {
                self.hot.store_release_u64(at.saturating_add(DONE), 0);
            }
            let fate = match self.hot.load_u32(at.saturating_add(FATE)) {
                0 => Fate::None,
                1 => Fate::Abort,
                _ => Fate::Reset,
            };
            let (_, descriptor) = self.descriptor(slot);
            self.fill(slot, serial, &descriptor, fate, Stage::Resumed);
            self.resumed.push(slot);
        }
        let slots = &self.slots;
        let serial = |slot: &u16| slots.get(usize::from(*slot)).map_or(0, |slot| slot.serial);
        self.resumed.sort_unstable_by_key(|slot| core::cmp::Reverse(serial(slot)));
    }

    pub fn descriptor(&self, slot: u16) -> ([u8; KEPT], Descriptor) {
        let mut bytes = [0; KEPT];
        self.hot.read_bytes(entry(slot), &mut bytes);
        let descriptor = Descriptor::decode(&bytes);
        (bytes, descriptor)
    }
}
