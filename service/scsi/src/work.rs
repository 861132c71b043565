//! Commands that are more than operations on the initiator's own buffers: comparing, combining,
//! copying, and whatever runs on after its answer.

use alloc::vec::Vec;
use core::fmt;

use request::{Facts, Operation, Status};

use crate::nexus::Nexus;
use crate::sense::Sense;
use crate::task_set::Footprint;
use crate::unit::Unit;

/// Bytes of scratch memory that a [`Work`] has from its beginning to its end.
pub const SCRATCH_BYTES: usize = 1 << 20;

/// The memory that a step may look at. Reads and writes beyond an end are cut; what was not there
/// reads as zeroes.
pub trait Buffers {
    /// From the initiator's data-out buffer.
    fn read_out(&self, at: u64, into: &mut [u8]);
    /// Into the initiator's data-in buffer.
    fn write_in(&mut self, at: u64, from: &[u8]);
    fn read_scratch(&self, at: usize, into: &mut [u8]);
    fn write_scratch(&mut self, at: usize, from: &[u8]);
}

/// Whose medium an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The unit that the command came to.
    Own,
    /// The unit that a [`Neighbour`] stands for.
    Other(u32),
}

/// Where the bytes of an operation are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It has none.
    None,
    /// The initiator's data-out buffer, from this byte on.
    Out(u64),
    /// The initiator's data-in buffer, from this byte on.
    In(u64),
    /// Scratch memory, from this byte on.
    Scratch(usize),
}

/// What a [`Work`] wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// One operation; its end comes with the next call.
    Disk { at: At, operation: Operation, data: Place },
    /// The end of it. `data_in`, `data_out`: bytes moved, for the residual count.
    End { result: Result<(), Sense>, data_in: u64, data_out: u64 },
}

/// A command as a machine: each call is told how the last operation ended.
pub trait Work: fmt::Debug {
    /// The first call has `Status::Good`. After `Do::End` there is none.
    fn next(&mut self, last: Status, buffers: &mut dyn Buffers) -> Do;

    /// Which blocks of its own unit it touches.
    fn footprint(&self) -> Footprint;

    /// It writes what it has read: a predecessor that died may have written already, and running it
    /// from the start would read that. `note` becomes part of the unit's state before the operation
    /// that comes next is started, and comes back as [`crate::Command::note`].
    fn note(&self) -> Option<u32>;

    /// How far it has come, in 65,536ths, for REQUEST SENSE and its kin.
    fn progress(&self) -> Option<u16>;
}

/// What a command asks about another unit of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// The designator of a device identification page, without its header: the unit that has it.
    Designator(Vec<u8>),
    /// A ROD token: the unit that made it.
    Token(Vec<u8>),
}

/// Another unit, as a copy command may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// For [`At::Other`].
    pub at: u32,
    pub facts: Facts,
    /// Reservations let this initiator read, and write.
    pub may_read: bool,
    pub may_write: bool,
    /// Its writes have to be durable when they end.
    pub writes_through: bool,
    /// What a token stands for, in blocks of that unit: first block and number.
    pub ranges: Vec<(u64, u64)>,
}

impl Unit {
    /// This unit, if it is the one that `query` asks for, as a copy command of `nexus` may use it. The
    /// caller fills in [`Neighbour::at`].
    pub fn neighbour(&self, query: &Query, nexus: Nexus) -> Option<Neighbour> {
        let ranges = match query {
            Query::Designator(designator) => {
                let naa = &self.facts.identity.naa;
                let naa = if naa[0] >> 4 == 0x6 { &naa[..] } else { &naa[..8] };
                (designator == naa).then(Vec::new)?
            }
            Query::Token(token) => self.copies.tokens.iter().find(|known| known.is(token))?.ranges.clone(),
        };
        let (may_read, may_write) = self.access_of(nexus);
        Some(Neighbour {
            at: 0,
            facts: self.facts.clone(),
            may_read,
            may_write,
            writes_through: self.writes_through(),
            ranges,
        })
    }
}
