//! VERIFY and WRITE AND VERIFY: the medium is read back, and compared if the command says so.

use alloc::boxed::Box;
use request::{Blocks, Operation, Status};

use super::Range;
use super::pieces::{Pieces, difference};
use crate::execute::Call;
use crate::sense::Sense;
use crate::task_set::Footprint;
use crate::unit::{Response, Unit, Verdict, sense_of};
use crate::work::{At, Buffers, Do, Place, Work};

/// BYTCHK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    /// 00b: that the blocks can be read is all.
    Nothing,
    /// 01b: with as much data.
    All,
    /// 11b: each with the one block of data, which has so many bytes.
    Block(usize),
}

/// VERIFY, SBC-4. Data that is newer in a volatile cache goes to the medium first.
pub(crate) fn verify(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let extent = Range::of(&call.cdb).transfer(unit)?;
    let block_bytes = unit.facts.block_size as usize;
    let compare = match call.cdb.byte(1) >> 1 & 0b11 {
        0b00 => Compare::Nothing,
        0b01 => Compare::All,
        0b11 => Compare::Block(block_bytes),
        _ => return Err(Sense::cdb_bit(1, 2)),
    };
    if extent.is_empty() {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    let wanted = match compare {
        Compare::Nothing => 0,
        Compare::All => extent.len_bytes(),
        Compare::Block(bytes) => bytes as u64,
    };
    if call.data_out < wanted {
        return Err(Sense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT);
    }
    Ok(Verdict::Work(Box::new(Verify {
        first: unit.facts.write_cache.then_some(Operation::Flush),
        writes: false,
        pieces: Pieces::new(extent, unit.facts.block_size),
        compare,
        wanted,
        reading: false,
    })))
}

/// WRITE AND VERIFY, SBC-4: on the medium, and read back from there. Its blocks are its own
/// meanwhile, or it might find what somebody else wrote. Of data that was cut short the whole blocks
/// are written, as by WRITE.
pub(crate) fn write_and_verify(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let extent = Range::of(&call.cdb).transfer(unit)?;
    let wanted = extent.len_bytes();
    let offered = Blocks(call.data_out.min(wanted) >> unit.facts.shift());
    let compare = if call.cdb.bit(1, 1) { Compare::All } else { Compare::Nothing };
    let Some(extent) = extent.part(Blocks(0), offered).filter(|extent| !extent.is_empty()) else {
        return Ok(Verdict::Respond(Response { data_out: wanted, ..Response::GOOD }));
    };
    Ok(Verdict::Work(Box::new(Verify {
        first: Some(Operation::Write { extent, fua: true }),
        writes: true,
        pieces: Pieces::new(extent, unit.facts.block_size),
        compare,
        wanted,
        reading: false,
    })))
}

#[derive(Debug)]
struct Verify {
    /// What comes before anything is read.
    first: Option<Operation>,
    writes: bool,
    pieces: Pieces,
    compare: Compare,
    /// Bytes of data-out that the command is about.
    wanted: u64,
    /// The piece at hand was asked for.
    reading: bool,
}

impl Verify {
    fn end(&self, result: Result<(), Sense>) -> Do {
        Do::End { result, data_in: 0, data_out: self.wanted }
    }

    /// Where the piece that was read is not as it should be, in bytes from the first block.
    fn miscompare(&self, buffers: &dyn Buffers) -> Option<u64> {
        let piece = self.pieces.piece()?;
        let len = piece.len_bytes() as usize; // no longer than scratch memory
        let offset = self.pieces.offset_bytes();
        let at = match self.compare {
            Compare::Nothing => None,
            Compare::All => difference(buffers, offset, len, None),
            Compare::Block(bytes) => difference(buffers, 0, len, Some(bytes)),
        };
        at.map(|at| offset + at as u64)
    }
}

impl Work for Verify {
    fn next(&mut self, last: Status, buffers: &mut dyn Buffers) -> Do {
        if let Some(sense) = sense_of(last) {
            return self.end(Err(sense));
        }
        if let Some(operation) = self.first.take() {
            let data = if self.writes { Place::Out(0) } else { Place::None };
            return Do::Disk { at: At::Own, operation, data };
        }
        if self.reading {
            if let Some(at) = self.miscompare(buffers) {
                return self.end(Err(Sense::MISCOMPARE_DURING_VERIFY.with_information(at)));
            }
            self.pieces.advance();
        }
        let Some(piece) = self.pieces.piece() else { return self.end(Ok(())) };
        self.reading = true;
        Do::Disk { at: At::Own, operation: Operation::Read(piece), data: Place::Scratch(0) }
    }

    fn footprint(&self) -> Footprint {
        let whole = self.pieces.whole();
        if self.writes { Footprint::exclusive(whole) } else { Footprint::shared(whole) }
    }

    fn note(&self) -> Option<u32> {
        None
    }

    fn progress(&self) -> Option<u16> {
        None
    }
}
