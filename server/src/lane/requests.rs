//! Requests at the disks: a table of records that are used again and again, so that the path of a
//! request allocates nothing once its lists have grown.

use std::sync::Arc;

use guest_memory::Memory;
use virtqueue::Chain;

use super::block::Work;

/// One request on its way. Its number is the tag under which the disk knows it.
#[derive(Default)]
pub struct Request {
    pub slot: u32,
    pub ring: u32,
    /// Which start of the ring it came from: a ring that was stopped and started again is another.
    pub epoch: u32,
    pub chain: Chain,
    /// The snapshot that its spans are of.
    pub memory: Option<Arc<Memory>>,
    pub volume: u32,
    /// Bytes of the driver's buffers that the command does not use.
    pub residual: u64,
    pub work: Work,
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
        self.table[index as usize].memory = None;
        self.free.push(index);
    }

    pub fn get(&mut self, index: u32) -> &mut Request {
        &mut self.table[index as usize]
    }

    /// Requests of a slot that are under way and fit a question.
    pub fn of_slot(&self, slot: u32, fits: impl Fn(&Work) -> bool) -> Vec<u32> {
        let found =
            self.table.iter().enumerate().filter(|(_, request)| request.slot == slot && fits(&request.work));
        found.map(|(index, _)| index as u32).collect()
    }

    /// Whether anything of a slot is under way.
    pub fn has_of_slot(&self, slot: u32) -> bool {
        self.table.iter().any(|request| request.slot == slot && !matches!(request.work, Work::None))
    }

    pub fn in_use(&self) -> usize {
        self.table.len() - self.free.len()
    }
}
