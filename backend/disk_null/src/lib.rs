//! A volume without bytes: writes vanish, and reads succeed without touching memory. For measuring
//! everything above it, and as the smallest example of a [`Disk`].

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use disk::{Data, Disk};
use request::{Blocks, Facts, Instant, Lba, Operation, Provisioning, Run, Status};

pub struct DiskNull {
    facts: Facts,
    /// Ends in the next poll; keeps its capacity.
    submitted: Vec<(u32, Status)>,
}

impl DiskNull {
    pub fn new(facts: Facts) -> Self {
        Self { facts, submitted: Vec::new() }
    }
}

impl Disk for DiskNull {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn submit(&mut self, _now: Instant, tag: u32, operation: Operation, _data: Data<'_>) {
        let status = match operation {
            Operation::Read(_) | Operation::Flush => Status::Good,
            _ if self.facts.read_only => Status::WriteProtected,
            Operation::Discard(_) if self.facts.discard.is_none() => Status::Unsupported,
            _ => Status::Good,
        };
        self.submitted.push((tag, status));
    }

    fn poll(&mut self, _now: Instant, done: &mut dyn FnMut(u32, Status)) {
        for (tag, status) in self.submitted.drain(..) {
            done(tag, status);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    fn resize(&mut self) -> bool {
        false
    }

    fn allocation(&mut self, from: Lba) -> Run {
        let blocks = Blocks(self.facts.blocks.0.saturating_sub(from.0));
        Run { blocks, state: Provisioning::Mapped }
    }

    fn take_cause(&mut self) -> Option<String> {
        None
    }
}
