//! A volume in memory with a volatile cache, for the simulation: it knows what a power cut may take.
//!
//! The [`Medium`] is the drive; a [`DiskMemory`] is one worker's way to it. A worker that dies leaves
//! what it had started with the medium, as a killed process leaves it with the kernel: the successor
//! calls [`Medium::settle`], which does some of it, some in part, and cancels the rest. A power cut
//! loses any subset of the blocks that were written and not flushed, but of an atomic write all or none.
//!
//! Everything is decided by the seed that the medium was made with.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod medium;

use alloc::string::String;

use disk::{Data, Disk};
use request::{Facts, Instant, Lba, Operation, Run, Status};

pub use medium::Medium;

/// One worker's way to a medium.
pub struct DiskMemory {
    medium: Medium,
    facts: Facts,
}

impl DiskMemory {
    pub fn new(medium: Medium) -> Self {
        let facts = medium.facts();
        Self { medium, facts }
    }
}

impl Disk for DiskMemory {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn submit(&mut self, _now: Instant, tag: u32, operation: Operation, data: Data<'_>) {
        self.medium.start(tag, operation, data);
    }

    fn poll(&mut self, _now: Instant, done: &mut dyn FnMut(u32, Status)) {
        // In any order: guests must not rely on one.
        while let Some((tag, status)) = self.medium.execute_any() {
            done(tag, status);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    fn resize(&mut self) -> bool {
        let facts = self.medium.facts();
        let changed = facts.blocks != self.facts.blocks;
        self.facts = facts;
        changed
    }

    fn allocation(&mut self, from: Lba) -> Run {
        self.medium.run_at(from)
    }

    fn take_cause(&mut self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests;
