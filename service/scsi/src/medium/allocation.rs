//! GET LBA STATUS: which blocks have a place in the store.

use request::{Lba, Provisioning, Run};

use crate::execute::Call;
use crate::sense::{Format, Sense};
use crate::task_set::TaskKey;
use crate::unit::{Ending, Response, Unit, Verdict};

use alloc::vec::Vec;

/// A question about the store's allocation, for [`Unit::finish_allocation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    from: Lba,
    /// ALLOCATION LENGTH.
    allocation: usize,
}

const HEADER_BYTES: usize = 8;
const DESCRIPTOR_BYTES: usize = 16;

/// Descriptors in one answer: more than initiators have room for by default, and a bound for the
/// time that one answer takes.
const DESCRIPTORS_MAX: usize = 256;

/// How often the store is asked for one answer. It names short runs where a file is in pieces, and
/// neighbours that are alike are one.
const QUESTIONS_MAX: usize = 1024;

/// GET LBA STATUS(16), SBC-4. All runs are reported whatever REPORT TYPE asks for: RTP of the answer
/// is zero, which says so.
pub(crate) fn get_lba_status(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let from = Lba(call.cdb.u64(2));
    if from.0 >= unit.facts.blocks.0 {
        return Err(Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE);
    }
    Ok(Verdict::Allocation(Allocation { from, allocation: call.cdb.u32(10) as usize }))
}

/// PROVISIONING STATUS, SBC-4. Anchored blocks are told as mapped: ANC_SUP of VPD page B2h is zero.
fn status_of(state: Provisioning) -> u8 {
    match state {
        Provisioning::Mapped | Provisioning::Anchored => 0x0,
        Provisioning::Deallocated => 0x1,
    }
}

impl Unit {
    /// The end of a command that asked for the store's allocation. `ask`: the run that begins at an
    /// address.
    pub fn finish_allocation(
        &mut self,
        task: TaskKey,
        wanted: &Allocation,
        mut ask: impl FnMut(Lba) -> Run,
        out: &mut Vec<u8>,
    ) -> Ending {
        let end = self.facts.blocks.0;
        if wanted.from.0 >= end {
            // The volume has shrunk meanwhile.
            return self.end(task, Response::check(Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE, Format::Fixed));
        }
        let room = wanted.allocation.saturating_sub(HEADER_BYTES).div_ceil(DESCRIPTOR_BYTES);
        let runs = self.runs(wanted.from.0, room.clamp(1, DESCRIPTORS_MAX), &mut ask);
        let mut data = Vec::with_capacity(HEADER_BYTES + runs.len() * DESCRIPTOR_BYTES);
        // PARAMETER DATA LENGTH does not count itself.
        let length = HEADER_BYTES - 4 + runs.len() * DESCRIPTOR_BYTES;
        data.extend_from_slice(&(length as u32).to_be_bytes()); // at most 256 descriptors
        data.extend_from_slice(&[0; 4]);
        for (first, count, status) in runs {
            data.extend_from_slice(&first.to_be_bytes());
            data.extend_from_slice(&count.to_be_bytes());
            data.extend_from_slice(&[status, 0, 0, 0]);
        }
        out.extend_from_slice(&data[..data.len().min(wanted.allocation)]);
        self.end(task, Response::GOOD)
    }

    /// First block, number, PROVISIONING STATUS, up to `most` of them.
    fn runs(&self, from: u64, most: usize, ask: &mut dyn FnMut(Lba) -> Run) -> Vec<(u64, u32, u8)> {
        let end = self.facts.blocks.0;
        let mut runs: Vec<(u64, u32, u8)> = Vec::new();
        let mut at = from;
        for _ in 0..QUESTIONS_MAX {
            if at >= end {
                break;
            }
            let run = ask(Lba(at));
            let status = status_of(run.state);
            let mut left = run.blocks.0.clamp(1, end - at);
            // NUMBER OF LOGICAL BLOCKS has 32 bits.
            while left > 0 {
                let full = runs.len() >= most;
                match runs.last_mut() {
                    Some((_, count, like)) if *like == status && *count < u32::MAX => {
                        let more = left.min(u64::from(u32::MAX - *count));
                        *count += more as u32; // no more than fits
                        at += more;
                        left -= more;
                    }
                    _ if full => return runs,
                    _ => runs.push((at, 0, status)),
                }
            }
        }
        runs
    }
}
