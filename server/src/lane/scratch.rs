//! Memory of the server's own for commands that compare, combine or copy.

use std::sync::Arc;

use guest_memory::Memory;
use request::{Address, Span};
use scsi::{Buffers, SCRATCH_BYTES};

use super::requests::Origin;

/// Pieces that lie ready. A command that finds none gets a new one.
const READY_MAX: usize = 16;
/// Pieces in use at a time. Beyond that a command is told to come again (BUSY).
const PIECES_MAX: usize = 256;

/// Whose pieces are counted together: a slot's, a session's, the units' own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Server,
    Slot(u32),
    Emulated(u32),
    Session(u32),
}

impl From<Origin> for Owner {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Server => Owner::Server,
            Origin::Ring { slot, .. } => Owner::Slot(slot),
            Origin::Adapter { slot, .. } => Owner::Emulated(slot),
            Origin::Session { connection, .. } => Owner::Session(connection),
        }
    }
}

#[derive(Default)]
pub struct Scratch {
    ready: Vec<Arc<Memory>>,
    in_use: usize,
    /// Who has how many.
    shares: Vec<(Owner, usize)>,
}

impl Scratch {
    /// One more piece for somebody who has fewer than are left: so one alone has at most half of
    /// them, two that want all a third each, and whoever has none finds one.
    pub fn take(&mut self, owner: Owner) -> Option<Arc<Memory>> {
        let at = self.shares.iter().position(|(other, _)| *other == owner);
        let share = at.map_or(0, |at| self.shares[at].1);
        if share >= PIECES_MAX - self.in_use {
            return None;
        }
        match at {
            Some(at) => self.shares[at].1 += 1,
            None => self.shares.push((owner, 1)),
        }
        self.in_use += 1;
        Some(self.ready.pop().unwrap_or_else(|| Memory::anonymous(SCRATCH_BYTES)))
    }

    pub fn give_back(&mut self, owner: Owner, piece: Arc<Memory>) {
        self.in_use -= 1;
        if let Some(at) = self.shares.iter().position(|(other, _)| *other == owner) {
            self.shares[at].1 -= 1;
            if self.shares[at].1 == 0 {
                self.shares.swap_remove(at);
            }
        }
        if self.ready.len() < READY_MAX {
            self.ready.push(piece);
        }
    }
}

/// A range of a piece. Nothing if it does not lie within.
pub fn within(piece: &Memory, at: usize, len: usize) -> Option<Span> {
    let (at, len) = (u64::try_from(at).ok()?, u32::try_from(len).ok()?);
    piece.locate(Address(at), len, &mut 0)
}

/// `len` bytes of a list of spans from `at` on, or as many as there are.
pub fn slice(spans: &[Span], mut at: u64, mut len: u64) -> Vec<Span> {
    let mut found = Vec::new();
    for span in spans {
        let whole = u64::from(span.len);
        if at >= whole {
            at -= whole;
            continue;
        }
        let take = (whole - at).min(len);
        if take == 0 {
            break;
        }
        // Both are within a 32-bit length.
        found.push(Span { offset: span.offset + at, len: take as u32, ..*span });
        len -= take;
        at = 0;
    }
    found
}

/// What a step of a command may look at.
pub struct View<'a> {
    pub memory: &'a Memory,
    pub out: &'a [Span],
    pub into: &'a [Span],
    pub scratch: &'a Memory,
}

impl View<'_> {
    fn scratch(&self, at: usize, len: usize) -> Option<Span> {
        let room = SCRATCH_BYTES.checked_sub(at)?;
        within(self.scratch, at, len.min(room)).filter(|span| span.len > 0)
    }
}

impl Buffers for View<'_> {
    fn read_out(&self, at: u64, into: &mut [u8]) {
        into.fill(0);
        let spans = slice(self.out, at, into.len() as u64);
        self.memory.gather(&spans, into);
    }

    fn write_in(&mut self, at: u64, from: &[u8]) {
        let spans = slice(self.into, at, from.len() as u64);
        self.memory.scatter(&spans, from);
    }

    fn read_scratch(&self, at: usize, into: &mut [u8]) {
        into.fill(0);
        if let Some(span) = self.scratch(at, into.len()) {
            self.scratch.gather(&[span], into);
        }
    }

    fn write_scratch(&mut self, at: usize, from: &[u8]) {
        if let Some(span) = self.scratch(at, from.len()) {
            self.scratch.scatter(&[span], from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_out_of_a_list() {
        let span = |offset, len| Span { offset, len, region: 0 };
        let list = [span(0, 10), span(100, 20), span(200, 5)];
        assert_eq!(slice(&list, 0, 10), [span(0, 10)]);
        assert_eq!(slice(&list, 5, 10), [span(5, 5), span(100, 5)]);
        assert_eq!(slice(&list, 30, 100), [span(200, 5)]);
        assert!(slice(&list, 35, 1).is_empty() && slice(&list, 3, 0).is_empty());
    }

    #[test]
    fn nobody_takes_all_pieces() {
        let mut scratch = Scratch::default();
        let mut fill = |owner| {
            let taken: Vec<_> = std::iter::from_fn(|| scratch.take(owner)).collect();
            (taken.len(), taken)
        };
        let (greedy, mut pieces) = fill(Owner::Slot(0));
        assert_eq!(greedy, PIECES_MAX / 2);
        assert_eq!(fill(Owner::Session(0)).0, PIECES_MAX / 4);
        for slot in 1..6 {
            assert!(fill(Owner::Slot(slot)).0 > 0, "nothing is left for slot {slot}");
        }
        assert!(fill(Owner::Server).0 > 0);
        // What comes back can be had again.
        for piece in pieces.drain(..) {
            scratch.give_back(Owner::Slot(0), piece);
        }
        assert!(scratch.take(Owner::Slot(0)).is_some() && scratch.take(Owner::Slot(7)).is_some());
    }

    #[test]
    fn scratch_memory_ends_where_it_ends() {
        let mut scratch = Scratch::default();
        let piece = scratch.take(Owner::Server).unwrap();
        let memory = Memory::empty();
        let mut view = View { memory: &memory, out: &[], into: &[], scratch: &piece };
        view.write_scratch(SCRATCH_BYTES - 2, &[1, 2, 3]);
        view.write_scratch(SCRATCH_BYTES + 5, &[9]);
        let mut read = [7; 4];
        view.read_scratch(SCRATCH_BYTES - 2, &mut read);
        assert_eq!(read, [1, 2, 0, 0]);
        view.read_out(0, &mut read);
        assert_eq!(read, [0; 4]);
    }
}
