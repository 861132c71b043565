//! EXTENDED COPY(LID1) and (LID4): the parameter lists, SPC-5 6.4 and 6.5.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::work::Copy;
use super::{
    COPY_MAX_BYTES, DESCRIPTORS_MAX_BYTES, Held, Move, SEGMENT_MAX_BYTES, SEGMENTS_MAX, TARGETS_MAX,
};
use crate::execute::Call;
use crate::sense::Sense;
use crate::unit::{Response, Unit, Verdict};
use crate::work::{At, Neighbour, Query};

const LID1_HEADER_BYTES: usize = 16;
const LID4_HEADER_BYTES: usize = 48;
const TARGET_BYTES: usize = 32;

/// Identification descriptor copy target descriptor.
const IDENTIFICATION: u8 = 0xe4;
/// Copy from block device to block device.
const BLOCK_TO_BLOCK: u8 = 0x02;
/// The same with byte offsets and a length in bytes.
const BLOCK_OFFSETS: u8 = 0x0a;

/// What the two forms of the header say.
struct Header {
    list: u32,
    /// Results need not be held (LIST ID USAGE 11b: there is no list id).
    anonymous: bool,
    targets: core::ops::Range<usize>,
    segments: core::ops::Range<usize>,
}

fn u16_at(list: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([list[at], list[at + 1]]))
}

fn u32_at(list: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([list[at], list[at + 1], list[at + 2], list[at + 3]])
}

fn u64_at(list: &[u8], at: usize) -> u64 {
    u64::from(u32_at(list, at)) << 32 | u64::from(u32_at(list, at + 4))
}

fn header_lid1(list: &[u8]) -> Result<Header, Sense> {
    let list = list.get(..LID1_HEADER_BYTES).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    let usage = list[1] >> 3 & 0x03;
    if usage == 0b11 && list[0] != 0 {
        return Err(Sense::parameter_byte(0));
    }
    lengths(
        LID1_HEADER_BYTES,
        u16_at(list, 2),
        u32_at(list, 8) as usize,
        u32_at(list, 12) as usize,
        u32::from(list[0]),
        usage == 0b11,
    )
}

fn header_lid4(list: &[u8]) -> Result<Header, Sense> {
    let list = list.get(..LID4_HEADER_BYTES).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    // PARAMETER LIST FORMAT, and the header's own descriptor.
    if list[0] != 0x01 {
        return Err(Sense::parameter_byte(0));
    }
    if u16_at(list, 2) != 0x20 {
        return Err(Sense::parameter_byte(2));
    }
    if list[16] != 0xff {
        return Err(Sense::parameter_byte(16));
    }
    let usage = list[1] >> 3 & 0x03;
    let id = u32_at(list, 20);
    if usage == 0b11 && id != 0 {
        return Err(Sense::parameter_byte(20));
    }
    lengths(LID4_HEADER_BYTES, u16_at(list, 42), u16_at(list, 44), u16_at(list, 46), id, usage == 0b11)
}

fn lengths(
    header: usize,
    targets: usize,
    segments: usize,
    inline: usize,
    list: u32,
    anonymous: bool,
) -> Result<Header, Sense> {
    let both = targets.checked_add(segments).filter(|both| *both <= DESCRIPTORS_MAX_BYTES);
    if both.is_none() {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    }
    if inline != 0 {
        return Err(Sense::INLINE_DATA_LENGTH_EXCEEDED);
    }
    Ok(Header {
        list,
        anonymous,
        targets: header..header + targets,
        segments: header + targets..header + targets + segments,
    })
}

pub(crate) fn extended_copy_lid1(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    extended_copy(unit, call, header_lid1)
}

pub(crate) fn extended_copy_lid4(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    extended_copy(unit, call, header_lid4)
}

fn extended_copy(
    unit: &mut Unit,
    call: &mut Call<'_>,
    header: fn(&[u8]) -> Result<Header, Sense>,
) -> Result<Verdict, Sense> {
    let length = call.cdb.u32(10) as usize;
    if length == 0 {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    if length > LID4_HEADER_BYTES + DESCRIPTORS_MAX_BYTES {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    }
    let Some(list) = call.parameters else { return Ok(Verdict::Parameters(length)) };
    let list = list.get(..length).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    let header = header(list)?;
    let targets = list.get(header.targets.clone()).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    let segments = list.get(header.segments.clone()).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    if unit.copies.is_busy(call.nexus, header.list) && !header.anonymous {
        return Err(Sense::OPERATION_IN_PROGRESS);
    }
    let queries = queries(targets)?;
    let segments = split_segments(segments)?;
    if segments.is_empty() {
        return Ok(Verdict::Respond(Response { data_out: length as u64, ..Response::GOOD }));
    }
    let Some(neighbours) = call.neighbours else { return Ok(Verdict::Neighbours(queries)) };
    let mut moves = Vec::with_capacity(segments.len());
    for segment in &segments {
        moves.push(segment_move(segment, targets, neighbours)?);
    }
    let bytes = moves.iter().fold(0u64, |sum, step| sum.saturating_add(step.bytes));
    if bytes > COPY_MAX_BYTES {
        return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST);
    }
    unit.copies.begin(Held {
        nexus: call.nexus,
        list: header.list,
        action: call.cdb.byte(1) & 0x1f,
        task: call.task,
        result: None,
        bytes,
        segments: segments.len() as u16, // at most SEGMENTS_MAX
        token: None,
    });
    Ok(Verdict::Work(Box::new(Copy::new(moves, unit, neighbours, length as u64))))
}

/// What the copy target descriptors name.
fn queries(targets: &[u8]) -> Result<Vec<Query>, Sense> {
    if !targets.len().is_multiple_of(TARGET_BYTES) {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    }
    if targets.len() / TARGET_BYTES > TARGETS_MAX {
        return Err(Sense::TOO_MANY_TARGET_DESCRIPTORS);
    }
    let mut queries = Vec::new();
    for target in targets.chunks_exact(TARGET_BYTES) {
        // PERIPHERAL DEVICE TYPE: block devices alone can be copied here.
        if target[0] != IDENTIFICATION || target[1] & 0x1f != 0x00 {
            return Err(Sense::UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE);
        }
        let length = usize::from(target[7]).min(20);
        queries.push(Query::Designator(target[8..8 + length].to_vec()));
    }
    Ok(queries)
}

/// The descriptors, each with its whole length.
fn split_segments(mut rest: &[u8]) -> Result<Vec<&[u8]>, Sense> {
    let mut segments = Vec::new();
    while !rest.is_empty() {
        if segments.len() >= SEGMENTS_MAX {
            return Err(Sense::TOO_MANY_SEGMENT_DESCRIPTORS);
        }
        let wanted = match rest[0] {
            BLOCK_TO_BLOCK => 28,
            BLOCK_OFFSETS => 32,
            _ => return Err(Sense::UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE),
        };
        let segment = rest.get(..wanted).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        if u16_at(segment, 2) != wanted - 4 {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
        }
        segments.push(segment);
        rest = &rest[wanted..];
    }
    Ok(segments)
}

/// A target of a segment, with the block length that its descriptor says.
fn target_of<'a>(
    index: usize,
    targets: &[u8],
    neighbours: &'a [Option<Neighbour>],
) -> Result<&'a Neighbour, Sense> {
    let Some(descriptor) = targets.chunks_exact(TARGET_BYTES).nth(index) else {
        return Err(Sense::UNREACHABLE_COPY_TARGET);
    };
    let neighbour = neighbours.get(index).and_then(Option::as_ref);
    let neighbour = neighbour.ok_or(Sense::COPY_TARGET_DEVICE_NOT_REACHABLE)?;
    let block_bytes = u32_at(descriptor, 28) & 0x00ff_ffff;
    if block_bytes != 0 && block_bytes != neighbour.facts.block_size {
        return Err(Sense::INCORRECT_COPY_TARGET_DEVICE_TYPE);
    }
    Ok(neighbour)
}

fn segment_move(segment: &[u8], targets: &[u8], neighbours: &[Option<Neighbour>]) -> Result<Move, Sense> {
    let from = target_of(u16_at(segment, 4), targets, neighbours)?;
    let to = target_of(u16_at(segment, 6), targets, neighbours)?;
    if !from.may_read || !to.may_write {
        return Err(Sense::THIRD_PARTY_DEVICE_FAILURE);
    }
    let bytes = match segment[0] {
        BLOCK_TO_BLOCK => {
            // DC: the number counts blocks of the destination.
            let counts = if segment[1] & 0x02 != 0 { to } else { from };
            u16_at(segment, 10) as u64 * u64::from(counts.facts.block_size)
        }
        _ => {
            // Offsets within a block would make us write parts of blocks.
            if u16_at(segment, 28) != 0 || u16_at(segment, 30) != 0 {
                return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST);
            }
            let bytes = u32_at(segment, 8);
            if bytes > SEGMENT_MAX_BYTES {
                return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST);
            }
            u64::from(bytes)
        }
    };
    let (from_first, to_first) = (u64_at(segment, 12), u64_at(segment, 20));
    fits(from, from_first, bytes)?;
    fits(to, to_first, bytes)?;
    Ok(Move { from: Some(At::Other(from.at)), from_first, to: At::Other(to.at), to_first, bytes })
}

/// Whole blocks that are there.
pub(super) fn fits(unit: &Neighbour, first: u64, bytes: u64) -> Result<(), Sense> {
    let block_bytes = u64::from(unit.facts.block_size);
    if !bytes.is_multiple_of(block_bytes) {
        return Err(Sense::COPY_SEGMENT_GRANULARITY_VIOLATION);
    }
    let extent = unit.facts.extent(request::Lba(first), request::Blocks(bytes / block_bytes));
    extent.map(|_| ()).ok_or(Sense::COPY_ABORTED)
}
