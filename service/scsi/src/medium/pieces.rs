//! Going through an extent in pieces that fit scratch memory.

use request::{Blocks, Extent};

use crate::work::{Buffers, SCRATCH_BYTES};

/// An extent and how much of it is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pieces {
    whole: Extent,
    done: u64,
    piece_max: u64,
}

impl Pieces {
    pub fn new(whole: Extent, block_bytes: u32) -> Pieces {
        let piece_max = SCRATCH_BYTES as u64 / u64::from(block_bytes.max(1));
        Pieces { whole, done: 0, piece_max: piece_max.max(1) }
    }

    pub fn whole(&self) -> Extent {
        self.whole
    }

    /// The piece at hand. `None`: all are done.
    pub fn piece(&self) -> Option<Extent> {
        let count = self.piece_max.min(self.whole.count().0 - self.done);
        self.whole.part(Blocks(self.done), Blocks(count)).filter(|piece| !piece.is_empty())
    }

    /// Bytes of the whole in front of the piece at hand.
    pub fn offset_bytes(&self) -> u64 {
        self.piece().map_or(self.whole.len_bytes(), |piece| piece.offset_bytes() - self.whole.offset_bytes())
    }

    /// The piece at hand is done.
    pub fn advance(&mut self) {
        if let Some(piece) = self.piece() {
            self.done += piece.count().0;
        }
    }
}

/// Bytes that are looked at in one go.
const CHUNK_BYTES: usize = 4096;

/// The first of `len` bytes at the head of scratch memory that is not as in the initiator's data
/// from `at` on. With `period`, the data is that many bytes, again and again.
pub(super) fn difference(buffers: &dyn Buffers, at: u64, len: usize, period: Option<usize>) -> Option<usize> {
    let (mut found, mut wanted) = ([0; CHUNK_BYTES], [0; CHUNK_BYTES]);
    let step = period.map_or(CHUNK_BYTES, |period| period.clamp(1, CHUNK_BYTES));
    for start in (0..len).step_by(step) {
        let count = step.min(len - start);
        let out_at = if period.is_some() { at } else { at + start as u64 };
        buffers.read_scratch(start, &mut found[..count]);
        buffers.read_out(out_at, &mut wanted[..count]);
        if found[..count] != wanted[..count] {
            let first = found.iter().zip(&wanted).position(|(found, wanted)| found != wanted);
            return first.map(|first| start + first);
        }
    }
    None
}

/// Sets in scratch memory the bits that are set in the initiator's data from `at` on.
pub(super) fn combine(buffers: &mut dyn Buffers, at: u64, len: usize) {
    let (mut bytes, mut bits) = ([0; CHUNK_BYTES], [0; CHUNK_BYTES]);
    for start in (0..len).step_by(CHUNK_BYTES) {
        let count = CHUNK_BYTES.min(len - start);
        buffers.read_scratch(start, &mut bytes[..count]);
        buffers.read_out(at + start as u64, &mut bits[..count]);
        for (byte, bits) in bytes.iter_mut().zip(&bits) {
            *byte |= bits;
        }
        buffers.write_scratch(start, &bytes[..count]);
    }
}
