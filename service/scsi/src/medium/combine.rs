//! Commands that read and write as one: COMPARE AND WRITE and ORWRITE. Their blocks are their own
//! from the read to the end of the write, against every task of every nexus.

use alloc::boxed::Box;
use request::{Blocks, Extent, Lba, Operation, Status};

use super::pieces::{Pieces, combine, difference};
use super::{Range, force_unit_access};
use crate::execute::Call;
use crate::sense::Sense;
use crate::task_set::Footprint;
use crate::unit::{Response, Unit, Verdict, sense_of};
use crate::work::{At, Buffers, Do, Place, SCRATCH_BYTES, Work};

/// MAXIMUM COMPARE AND WRITE LENGTH. Locks on a disk are a block each, and as much is what LIO offers
/// by default. libiscsi 1.20 (CompareAndWrite.InvalidDataOutSize) sends two blocks rightly, as what
/// has to be refused. The machine below could do as many as fit scratch memory.
pub(crate) const COMPARE_AND_WRITE_MAX_BLOCKS: u8 = 1;
const _: () = assert!(COMPARE_AND_WRITE_MAX_BLOCKS as usize * 4096 <= SCRATCH_BYTES);

/// COMPARE AND WRITE, SBC-4. The first half of the data is compared, the second half is written.
pub(crate) fn compare_and_write(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let range =
        Range { first: Lba(call.cdb.u64(2)), count: Blocks(u64::from(call.cdb.byte(13))), count_at: 13 };
    if range.count.0 > u64::from(COMPARE_AND_WRITE_MAX_BLOCKS) {
        return Err(Sense::cdb_byte(range.count_at));
    }
    let extent = range.within(unit)?;
    // More or less data than the two halves is another command than the initiator meant.
    if call.data_out != 2 * extent.len_bytes() {
        return Err(Sense::cdb_byte(range.count_at));
    }
    if extent.is_empty() {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    let fua = force_unit_access(&call.cdb) || unit.writes_through();
    // A process that died had found it alike and begun to write: to compare again would compare with
    // what this very command wrote.
    let step = if call.note.is_some() { Step::Write } else { Step::Read };
    Ok(Verdict::Work(Box::new(CompareAndWrite { extent, fua, step })))
}

#[derive(Debug)]
struct CompareAndWrite {
    extent: Extent,
    fua: bool,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read,
    Compare,
    Write,
    Written,
}

impl CompareAndWrite {
    fn end(&self, result: Result<(), Sense>) -> Do {
        Do::End { result, data_in: 0, data_out: 2 * self.extent.len_bytes() }
    }
}

impl Work for CompareAndWrite {
    fn next(&mut self, last: Status, buffers: &mut dyn Buffers) -> Do {
        if let Some(sense) = sense_of(last) {
            return self.end(Err(sense));
        }
        let len = self.extent.len_bytes();
        if self.step == Step::Compare {
            // Scratch memory holds them all.
            if let Some(at) = difference(buffers, 0, len as usize, None) {
                return self.end(Err(Sense::MISCOMPARE_DURING_VERIFY.with_information(at as u64)));
            }
            self.step = Step::Write;
        }
        match self.step {
            Step::Read | Step::Compare => {
                self.step = Step::Compare;
                Do::Disk { at: At::Own, operation: Operation::Read(self.extent), data: Place::Scratch(0) }
            }
            Step::Write => {
                self.step = Step::Written;
                let operation = Operation::Write { extent: self.extent, fua: self.fua };
                Do::Disk { at: At::Own, operation, data: Place::Out(len) }
            }
            Step::Written => self.end(Ok(())),
        }
    }

    fn footprint(&self) -> Footprint {
        Footprint::exclusive(self.extent)
    }

    /// Compared, and alike.
    fn note(&self) -> Option<u32> {
        (self.step == Step::Written).then_some(1)
    }

    fn progress(&self) -> Option<u16> {
        None
    }
}

/// ORWRITE(16), SBC-4. To run it twice is to run it once, so nothing is noted. Of data that was cut
/// short the whole blocks are taken, as by WRITE.
pub(crate) fn orwrite(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let extent = Range::of(&call.cdb).transfer(unit)?;
    let wanted = extent.len_bytes();
    let offered = Blocks(call.data_out.min(wanted) >> unit.facts.shift());
    let Some(extent) = extent.part(Blocks(0), offered).filter(|extent| !extent.is_empty()) else {
        return Ok(Verdict::Respond(Response { data_out: wanted, ..Response::GOOD }));
    };
    let fua = force_unit_access(&call.cdb) || unit.writes_through();
    let pieces = Pieces::new(extent, unit.facts.block_size);
    Ok(Verdict::Work(Box::new(OrWrite { pieces, fua, wanted, step: Step::Read })))
}

#[derive(Debug)]
struct OrWrite {
    pieces: Pieces,
    fua: bool,
    wanted: u64,
    /// What comes next for the piece at hand; there is nothing to compare.
    step: Step,
}

impl Work for OrWrite {
    fn next(&mut self, last: Status, buffers: &mut dyn Buffers) -> Do {
        let end = |result| Do::End { result, data_in: 0, data_out: self.wanted };
        if let Some(sense) = sense_of(last) {
            return end(Err(sense));
        }
        if self.step == Step::Written {
            self.pieces.advance();
            self.step = Step::Read;
        }
        let Some(piece) = self.pieces.piece() else { return end(Ok(())) };
        let operation = if self.step == Step::Read {
            self.step = Step::Write;
            Operation::Read(piece)
        } else {
            combine(buffers, self.pieces.offset_bytes(), piece.len_bytes() as usize);
            self.step = Step::Written;
            Operation::Write { extent: piece, fua: self.fua }
        };
        Do::Disk { at: At::Own, operation, data: Place::Scratch(0) }
    }

    fn footprint(&self) -> Footprint {
        Footprint::exclusive(self.pieces.whole())
    }

    fn note(&self) -> Option<u32> {
        None
    }

    fn progress(&self) -> Option<u16> {
        None
    }
}
