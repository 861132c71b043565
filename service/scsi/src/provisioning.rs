//! UNMAP and WRITE SAME: giving space back, and writing one block many times.

use alloc::vec::Vec;
use request::{Blocks, Lba, Operation};

use crate::attention::Condition;
use crate::execute::Call;
use crate::limits::{UNMAP_DESCRIPTORS_MAX, UNMAP_MAX_BLOCKS, WRITE_SAME_MAX_BYTES};
use crate::medium::Range;
use crate::plan::Plan;
use crate::sense::Sense;
use crate::unit::{Response, Unit, Verdict};

/// Parameter list header and one block descriptor, SBC-3, UNMAP parameter list.
const HEADER_BYTES: usize = 8;
const DESCRIPTOR_BYTES: usize = 16;

/// UNMAP, SBC-3. All descriptors are checked before any space is given back.
pub(crate) fn unmap(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let length = usize::from(call.cdb.u16(7));
    if length == 0 {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    if length < HEADER_BYTES {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    }
    let Some(list) = call.parameters else { return Ok(Verdict::Parameters(length)) };
    let list = list.get(..length).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    let data_length = usize::from(u16::from_be_bytes([list[0], list[1]]));
    let descriptors_length = usize::from(u16::from_be_bytes([list[2], list[3]]));
    let descriptors = list
        .get(HEADER_BYTES..HEADER_BYTES + descriptors_length)
        .filter(|_| data_length + 2 >= HEADER_BYTES + descriptors_length)
        .ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    let count = descriptors.len() / DESCRIPTOR_BYTES;
    if count > usize::from(UNMAP_DESCRIPTORS_MAX) {
        return Err(Sense::parameter_byte(2));
    }
    let mut operations = Vec::new();
    let mut blocks_max = UNMAP_MAX_BLOCKS;
    // An incomplete last descriptor is ignored, as the standard says.
    for (at, descriptor) in descriptors.chunks_exact(DESCRIPTOR_BYTES).enumerate() {
        let mut lba = [0; 8];
        lba.copy_from_slice(&descriptor[..8]);
        let first = Lba(u64::from_be_bytes(lba));
        let blocks =
            u64::from(u32::from_be_bytes([descriptor[8], descriptor[9], descriptor[10], descriptor[11]]));
        let extent =
            unit.facts.extent(first, Blocks(blocks)).ok_or(Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)?;
        // At most 256 descriptors of 16 bytes: the offset fits.
        let pointer = (HEADER_BYTES + at * DESCRIPTOR_BYTES + 8) as u16;
        blocks_max = blocks_max.checked_sub(blocks).ok_or(Sense::parameter_byte(pointer))?;
        if !extent.is_empty() {
            operations.push(Operation::Discard(extent));
        }
    }
    let data_out = length as u64;
    Ok(match Plan::list(operations) {
        Some(plan) => Verdict::Medium(plan.with_data_out(data_out)),
        None => Verdict::Respond(Response { data_out, ..Response::GOOD }),
    })
}

/// WRITE SAME, SBC-3. WSNZ is one: a count of zero is refused. A block of zeroes is
/// left to the store's own way of writing zeroes, with UNMAP also of giving the space back; NDOB
/// means such a block without sending it.
pub(crate) fn write_same(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let range = Range::of(&call.cdb);
    let unmap = call.cdb.bit(1, 3);
    let no_data_out_buffer = call.cdb.bit(1, 0);
    if unmap && unit.facts.discard.is_none() {
        return Err(Sense::cdb_bit(1, 3));
    }
    if range.count.0 == 0 {
        return Err(Sense::cdb_byte(range.count_at));
    }
    range.at_most(unit, WRITE_SAME_MAX_BYTES)?;
    let extent = range.within(unit)?;
    let fua = unit.writes_through();
    let zeroes = Operation::WriteZeroes { extent, unmap, fua };
    if no_data_out_buffer {
        return Ok(Verdict::Medium(Plan::one(zeroes)));
    }
    let block_bytes = unit.facts.block_size as usize;
    if call.data_out != block_bytes as u64 {
        // Not the block that the command is about.
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    }
    let Some(block) = call.parameters else { return Ok(Verdict::Parameters(block_bytes)) };
    let block = block.get(..block_bytes).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    let operation = if block.iter().all(|byte| *byte == 0) {
        zeroes
    } else {
        // UNMAP is permission, not an order: what does not read as zeroes is written.
        Operation::WriteSame { extent, fua }
    };
    Ok(Verdict::Medium(Plan::one(operation).with_data_out(u64::from(unit.facts.block_size))))
}

impl Unit {
    /// So many blocks have a place in the store. When that reaches the share of the capacity that the
    /// owner named, every initiator is told, once until it was below again (SBC-4, thin provisioning
    /// soft threshold).
    pub fn allocated(&mut self, blocks: u64) {
        self.allocated_blocks = Some(blocks);
        let Some(percent) = self.profile.thin_threshold_percent else { return };
        let reached = u128::from(blocks) * 100 >= u128::from(self.facts.blocks.0) * u128::from(percent);
        if reached && !self.threshold_told {
            self.attend_all(Condition::THIN_THRESHOLD, None);
        }
        if reached != self.threshold_told {
            self.threshold_told = reached;
            self.dirty = true;
        }
    }
}
