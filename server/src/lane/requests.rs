//! Requests under way: a table of records that are used again and again, so that the path of a
//! request allocates nothing once its lists have grown.

use std::sync::Arc;

use guest_memory::Memory;
use request::Span;
use virtqueue::Chain;

use super::machine::Machine;
use super::scsi::ScsiTask;

/// Where a request came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody's: the server's own.
    #[default]
    Server,
    /// A ring of a slot. `epoch`: which start of the ring; one that was stopped and started again is
    /// another.
    Ring { slot: u32, ring: u32, epoch: u32 },
    /// A command of an emulated controller, by the controller's name for it. `epoch`: which of its
    /// guests; one that left and came again is another.
    Adapter { slot: u32, command: u64, epoch: u32 },
    /// An iSCSI connection, and its name for the task.
    Session { connection: u32, task: u32 },
}

/// What a request is about.
#[derive(Default)]
pub enum Work {
    #[default]
    None,
    Blk(virtio_blk::Work),
    Scsi(ScsiTask),
    /// A unit's own.
    Background(Machine),
    /// A task management function waits for the tasks that it is about.
    Manage {
        waits_for: Vec<u32>,
    },
    /// Nobody's: a flush that a change of the cache mode needs.
    Flush,
}

/// One request on its way. Its number is the tag under which disks and units know it.
#[derive(Default)]
pub struct Request {
    pub origin: Origin,
    /// Of a ring.
    pub chain: Chain,
    /// Of a session or an emulated controller: where its data is.
    pub out_spans: Vec<Span>,
    pub in_spans: Vec<Span>,
    /// Of an emulated controller: bytes of data that its driver offered.
    pub offered: u64,
    /// The snapshot that its spans are of.
    pub memory: Option<Arc<Memory>>,
    pub volume: u32,
    pub work: Work,
}

impl Request {
    /// The slot that it came from, if it came from one with rings.
    pub fn slot(&self) -> Option<u32> {
        match self.origin {
            Origin::Ring { slot, .. } => Some(slot),
            _ => None,
        }
    }

    /// The emulated slot that it came from, if it came from one.
    pub fn emulated(&self) -> Option<u32> {
        match self.origin {
            Origin::Adapter { slot, .. } => Some(slot),
            _ => None,
        }
    }
}

pub struct Requests {
    table: Vec<Request>,
    free: Vec<u32>,
    max: usize,
}

impl Requests {
    pub fn new(max: usize) -> Self {
        Self { table: Vec::new(), free: Vec::new(), max }
    }

    /// A record, if the bound allows one more. Shortage is no error: the request stays in its ring.
    pub fn take(&mut self) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        if self.table.len() >= self.max {
            return None;
        }
        self.table.push(Request::default());
        Some(self.table.len() as u32 - 1)
    }

    pub fn give_back(&mut self, index: u32) {
        let request = &mut self.table[index as usize];
        request.memory = None;
        request.work = Work::None;
        request.origin = Origin::Server;
        self.free.push(index);
    }

    pub fn get(&mut self, index: u32) -> &mut Request {
        &mut self.table[index as usize]
    }

    /// Whether anything of a slot is under way.
    pub fn has_of_slot(&self, slot: u32) -> bool {
        self.table.iter().any(|request| request.slot() == Some(slot) && !matches!(request.work, Work::None))
    }

    /// Whether anything of an emulated slot is under way.
    pub fn has_of_emulated(&self, slot: u32) -> bool {
        self.table
            .iter()
            .any(|request| request.emulated() == Some(slot) && !matches!(request.work, Work::None))
    }

    /// What is under way and came from there.
    pub fn tags_of(&self, of: impl Fn(Origin) -> bool) -> impl Iterator<Item = u32> {
        let numbered = self.table.iter().enumerate();
        // A record that is free is nobody's.
        numbered.filter(move |(_, request)| of(request.origin)).map(|(tag, _)| tag as u32)
    }

    pub fn in_use(&self) -> usize {
        self.table.len() - self.free.len()
    }
}
