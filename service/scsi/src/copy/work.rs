//! The copy itself: pieces are read into scratch memory and written from there.

use alloc::vec::Vec;

use request::{Blocks, Extent, Facts, Lba, Operation, Status};

use super::Move;
use crate::sense::Sense;
use crate::task_set::Footprint;
use crate::unit::Unit;
use crate::work::{At, Buffers, Do, Neighbour, Place, SCRATCH_BYTES, Work};

/// A unit that takes part.
#[derive(Clone, Debug)]
struct Party {
    at: At,
    facts: Facts,
    fua: bool,
}

#[derive(Debug)]
pub(super) struct Copy {
    parties: Vec<Party>,
    moves: Vec<Move>,
    /// The move at hand, and how much of it is done.
    at: usize,
    done: u64,
    /// The piece at hand was asked for, and lies in scratch memory now.
    reading: bool,
    total: u64,
    moved: u64,
    data_out: u64,
    footprint: Footprint,
}

impl Copy {
    /// `neighbours` has every unit that a move names, this one too.
    pub fn new(moves: Vec<Move>, unit: &Unit, neighbours: &[Option<Neighbour>], data_out: u64) -> Copy {
        let mut parties: Vec<Party> = Vec::new();
        parties.push(Party { at: At::Own, facts: unit.facts.clone(), fua: unit.writes_through() });
        let mut own = None;
        for neighbour in neighbours.iter().flatten() {
            let at = At::Other(neighbour.at);
            if neighbour.facts.identity.naa == unit.facts.identity.naa {
                own = Some(at);
            }
            if !parties.iter().any(|party| party.at == at) {
                parties.push(Party { at, facts: neighbour.facts.clone(), fua: neighbour.writes_through });
            }
        }
        let total = moves.iter().fold(0u64, |sum, step| sum.saturating_add(step.bytes));
        let shift = unit.facts.shift();
        let footprint = moves
            .iter()
            .filter(|step| step.to == At::Own || Some(step.to) == own)
            .map(|step| (step.to_first, step.to_first + (step.bytes >> shift)))
            .reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
            .map_or(Footprint::Nothing, |(first, end)| Footprint::Shared { first, end });
        Copy { parties, moves, at: 0, done: 0, reading: false, total, moved: 0, data_out, footprint }
    }

    fn party(&self, at: At) -> Option<&Party> {
        self.parties.iter().find(|party| party.at == at)
    }

    /// The piece at hand: bytes from the beginning of the move, and how many.
    fn piece(&self, step: &Move) -> (u64, u64) {
        let left = step.bytes - self.done;
        let len = left.min(SCRATCH_BYTES as u64);
        // Where source and destination overlap and the destination lies behind, from the end: else
        // blocks would be read that were written already.
        let backwards = step.from == Some(step.to) && step.to_first > step.from_first;
        if backwards { (left - len, len) } else { (self.done, len) }
    }

    fn extent(&self, at: At, first: u64, offset: u64, bytes: u64) -> Option<Extent> {
        let facts = &self.party(at)?.facts;
        let shift = facts.shift();
        facts.extent(Lba(first.checked_add(offset >> shift)?), Blocks(bytes >> shift))
    }

    fn end(&self, result: Result<(), Sense>) -> Do {
        Do::End { result, data_in: 0, data_out: self.data_out }
    }
}

impl Work for Copy {
    fn next(&mut self, last: Status, _buffers: &mut dyn Buffers) -> Do {
        if last != Status::Good {
            // SPC-5: COPY ABORTED, whichever side it was.
            return self.end(Err(Sense::THIRD_PARTY_DEVICE_FAILURE));
        }
        loop {
            let Some(step) = self.moves.get(self.at).copied() else { return self.end(Ok(())) };
            let (offset, len) = self.piece(&step);
            if len == 0 {
                self.at += 1;
                self.done = 0;
                continue;
            }
            if let Some(from) = step.from
                && !self.reading
            {
                let Some(extent) = self.extent(from, step.from_first, offset, len) else {
                    return self.end(Err(Sense::COPY_ABORTED));
                };
                self.reading = true;
                return Do::Disk { at: from, operation: Operation::Read(extent), data: Place::Scratch(0) };
            }
            let Some(extent) = self.extent(step.to, step.to_first, offset, len) else {
                return self.end(Err(Sense::COPY_ABORTED));
            };
            let fua = self.party(step.to).is_some_and(|party| party.fua);
            self.reading = false;
            self.done += len;
            self.moved += len;
            return match step.from {
                Some(_) => Do::Disk {
                    at: step.to,
                    operation: Operation::Write { extent, fua },
                    data: Place::Scratch(0),
                },
                None => Do::Disk {
                    at: step.to,
                    operation: Operation::WriteZeroes { extent, unmap: true, fua },
                    data: Place::None,
                },
            };
        }
    }

    fn footprint(&self) -> Footprint {
        self.footprint
    }

    fn note(&self) -> Option<u32> {
        None
    }

    fn progress(&self) -> Option<u16> {
        let total = u128::from(self.total.max(1));
        // Below 65,536, since `moved` is at most the total.
        Some((u128::from(self.moved) * 0xffff / total) as u16)
    }
}
