//! ROD tokens: POPULATE TOKEN, WRITE USING TOKEN and COPY OPERATION ABORT (SBC-4 5.11, 5.52; SPC-5
//! 5.18.6).

use alloc::boxed::Box;
use alloc::vec::Vec;

use request::{Blocks, Lba};

use super::parameter::fits;
use super::work::Copy;
use super::{COPY_MAX_BYTES, Held, Move, RANGES_MAX};
use crate::execute::Call;
use crate::sense::Sense;
use crate::unit::{Response, Unit, Verdict};
use crate::work::{At, Neighbour, Query};

/// Length of a token, SPC-5.
pub const TOKEN_BYTES: usize = 512;
/// Tokens that a unit has at a time; the oldest makes room, as an initiator must expect.
pub const TOKENS_MAX: usize = 32;

/// Point in time copy, change vulnerable.
const CHANGE_VULNERABLE: u32 = 0x0080_0001;
/// Block device zero: a token that anybody may write down.
pub const ZERO: u32 = 0xffff_0001;

const HEADER_BYTES: usize = 16;
const RANGE_BYTES: usize = 16;
/// The randomness stands behind the fields that SPC-5 gives a meaning, in the vendor's own.
const SECRET_AT: usize = 256;

/// A token that the unit has given out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub secret: [u8; 32],
    /// First block and number, in the order in which they follow in the token.
    pub ranges: Vec<(u64, u64)>,
}

/// Whoever has the secret may read the blocks: it is not printed.
impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Token").field("ranges", &self.ranges).finish_non_exhaustive()
    }
}

impl Token {
    fn blocks(&self) -> u64 {
        self.ranges.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// SPC-5 table "ROD token format", with the fields of a block device's token.
    fn encode(&self, unit: &Unit) -> Vec<u8> {
        let mut bytes = alloc::vec![0; TOKEN_BYTES];
        bytes[..4].copy_from_slice(&CHANGE_VULNERABLE.to_be_bytes());
        bytes[6..8].copy_from_slice(&(TOKEN_BYTES as u16 - 8).to_be_bytes()); // ROD TOKEN LENGTH
        bytes[8..16].copy_from_slice(&self.secret[..8]); // COPY MANAGER ROD TOKEN IDENTIFIER
        // CREATOR LOGICAL UNIT DESCRIPTOR: an identification descriptor.
        bytes[16] = 0xe4;
        bytes[20] = 0x01;
        bytes[21] = 0x03;
        let naa = unit.facts.identity.naa;
        let naa = if naa[0] >> 4 == 0x6 { &naa[..] } else { &naa[..8] };
        bytes[23] = naa.len() as u8; // 8 or 16
        bytes[24..24 + naa.len()].copy_from_slice(naa);
        bytes[44..48].copy_from_slice(&unit.facts.block_size.to_be_bytes());
        // NUMBER OF BYTES REPRESENTED, 16 bytes.
        let represented = u128::from(self.blocks()) << unit.facts.shift();
        bytes[48..64].copy_from_slice(&represented.to_be_bytes());
        // Device type specific data: LOGICAL BLOCK LENGTH, exponent of the physical block.
        bytes[96..100].copy_from_slice(&unit.facts.block_size.to_be_bytes());
        bytes[101] = unit.facts.physical_exponent;
        bytes[SECRET_AT..SECRET_AT + 32].copy_from_slice(&self.secret);
        bytes
    }

    /// Whether this is the token that the bytes are; takes the same time wherever they differ.
    pub fn is(&self, bytes: &[u8]) -> bool {
        let Some(secret) = bytes.get(SECRET_AT..SECRET_AT + 32) else { return false };
        secret.iter().zip(self.secret).fold(0, |wrong, (one, other)| wrong | (one ^ other)) == 0
    }
}

fn u16_at(list: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([list[at], list[at + 1]]))
}

fn u32_at(list: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([list[at], list[at + 1], list[at + 2], list[at + 3]])
}

/// Block device range descriptors: first block and number.
fn ranges(unit: &Unit, list: &[u8], length_at: usize) -> Result<Vec<(u64, u64)>, Sense> {
    let length = u16_at(list, length_at);
    if !length.is_multiple_of(RANGE_BYTES) || length == 0 {
        return Err(Sense::parameter_byte(length_at as u16));
    }
    let descriptors =
        list.get(length_at + 2..length_at + 2 + length).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    if length / RANGE_BYTES > RANGES_MAX {
        return Err(Sense::TOO_MANY_SEGMENT_DESCRIPTORS);
    }
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    let mut bytes = 0u64;
    for descriptor in descriptors.chunks_exact(RANGE_BYTES) {
        let first = u64::from(u32_at(descriptor, 0)) << 32 | u64::from(u32_at(descriptor, 4));
        let count = u64::from(u32_at(descriptor, 8));
        let extent = unit.facts.extent(Lba(first), Blocks(count));
        bytes = bytes.saturating_add(extent.ok_or(Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)?.len_bytes());
        if ranges.iter().any(|(at, blocks)| first < at + blocks && *at < first + count) {
            // SBC-4: the same block must not be named twice.
            return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST);
        }
        if count != 0 {
            ranges.push((first, count));
        }
    }
    if bytes > COPY_MAX_BYTES {
        return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST);
    }
    Ok(ranges)
}

/// POPULATE TOKEN: nothing is copied; the token is held for RECEIVE ROD TOKEN INFORMATION.
pub(crate) fn populate_token(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let list_id = call.cdb.u32(6);
    let length = call.cdb.u32(10) as usize;
    if length == 0 {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    if !(HEADER_BYTES..=HEADER_BYTES + RANGES_MAX * RANGE_BYTES).contains(&length) {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    }
    let Some(list) = call.parameters else { return Ok(Verdict::Parameters(length)) };
    let list = list.get(..length).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    if u16_at(list, 0) + 2 > length {
        return Err(Sense::parameter_byte(0));
    }
    // RTV: a type is asked for.
    if list[2] & 0x02 != 0 && !matches!(u32_at(list, 8), 0 | CHANGE_VULNERABLE) {
        return Err(Sense::INVALID_TOKEN_UNSUPPORTED_TYPE);
    }
    if unit.copies.is_busy(call.nexus, list_id) {
        return Err(Sense::OPERATION_IN_PROGRESS);
    }
    let ranges = ranges(unit, list, 14)?;
    // Given anew from outside after each use.
    let Some(secret) = unit.copies.entropy.take() else { return Err(Sense::INSUFFICIENT_RESOURCES) };
    let token = Token { secret, ranges };
    let bytes = token.blocks() << unit.facts.shift();
    let encoded = token.encode(unit);
    if unit.copies.tokens.len() >= TOKENS_MAX {
        unit.copies.tokens.remove(0);
    }
    unit.copies.tokens.push(token);
    unit.copies.begin(Held {
        nexus: call.nexus,
        list: list_id,
        action: call.cdb.byte(1) & 0x1f,
        task: call.task,
        result: Some(Ok(())),
        bytes,
        segments: 0,
        token: Some(encoded),
    });
    unit.dirty = true;
    Ok(Verdict::Respond(Response { data_out: length as u64, ..Response::GOOD }))
}

/// WRITE USING TOKEN: header, token, ranges of this unit.
pub(crate) fn write_using_token(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    const TOKEN_AT: usize = 16;
    const RANGES_AT: usize = TOKEN_AT + TOKEN_BYTES + 6;
    const LIST_BYTES: usize = RANGES_AT + 2;
    let list_id = call.cdb.u32(6);
    let length = call.cdb.u32(10) as usize;
    if length == 0 {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    if !(LIST_BYTES..=LIST_BYTES + RANGES_MAX * RANGE_BYTES).contains(&length) {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    }
    let Some(list) = call.parameters else { return Ok(Verdict::Parameters(length)) };
    let list = list.get(..length).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    if unit.copies.is_busy(call.nexus, list_id) {
        return Err(Sense::OPERATION_IN_PROGRESS);
    }
    let into = ranges(unit, list, RANGES_AT)?;
    let offset = u64::from(u32_at(list, 8)) << 32 | u64::from(u32_at(list, 12));
    let token = &list[TOKEN_AT..TOKEN_AT + TOKEN_BYTES];
    let zeroes = u32_at(token, 0) == ZERO;
    if !zeroes && u16_at(token, 6) != TOKEN_BYTES - 8 {
        return Err(Sense::INVALID_TOKEN_LENGTH);
    }
    let own = unit.facts.identity.naa;
    let own = if own[0] >> 4 == 0x6 { own.to_vec() } else { own[..8].to_vec() };
    let queries = alloc::vec![Query::Designator(own), Query::Token(token.to_vec())];
    let Some(neighbours) = call.neighbours else { return Ok(Verdict::Neighbours(queries)) };
    let here = neighbours.first().and_then(Option::as_ref).ok_or(Sense::COPY_TARGET_DEVICE_NOT_REACHABLE)?;
    let moves = if zeroes {
        into.iter().map(|(first, count)| zero_move(here, *first, *count)).collect()
    } else {
        let from = neighbours.get(1).and_then(Option::as_ref).ok_or(Sense::INVALID_TOKEN_UNKNOWN)?;
        if !from.may_read {
            return Err(Sense::THIRD_PARTY_DEVICE_FAILURE);
        }
        token_moves(from, here, offset, &into)?
    };
    let bytes = moves.iter().fold(0u64, |sum, step: &Move| sum.saturating_add(step.bytes));
    unit.copies.begin(Held {
        nexus: call.nexus,
        list: list_id,
        action: call.cdb.byte(1) & 0x1f,
        task: call.task,
        result: None,
        bytes,
        segments: 0,
        token: None,
    });
    Ok(Verdict::Work(Box::new(Copy::new(moves, unit, neighbours, length as u64))))
}

fn zero_move(here: &Neighbour, first: u64, count: u64) -> Move {
    let bytes = count << here.facts.shift();
    Move { from: None, from_first: 0, to: At::Other(here.at), to_first: first, bytes }
}

/// The blocks that the token stands for, from `offset` blocks (of the destination) on, put into the
/// ranges one after the other. Ranges that are longer than what is left are an error.
fn token_moves(
    from: &Neighbour,
    to: &Neighbour,
    offset: u64,
    into: &[(u64, u64)],
) -> Result<Vec<Move>, Sense> {
    let (from_shift, to_shift) = (from.facts.shift(), to.facts.shift());
    let mut source = from.ranges.iter().map(|(first, count)| (*first << from_shift, *count << from_shift));
    let mut skip = offset.checked_mul(1 << to_shift).ok_or(Sense::INVALID_FIELD_IN_PARAMETER_LIST)?;
    let mut at = source.next();
    let mut moves = Vec::new();
    for (first, count) in into {
        let (mut to_byte, mut left) = (*first << to_shift, *count << to_shift);
        while left > 0 {
            let (byte, len) = at.ok_or(Sense::INVALID_FIELD_IN_PARAMETER_LIST)?;
            if skip >= len {
                skip -= len;
                at = source.next();
                continue;
            }
            let take = (len - skip).min(left);
            let from_byte = byte + skip;
            let step = Move {
                from: Some(At::Other(from.at)),
                from_first: from_byte >> from_shift,
                to: At::Other(to.at),
                to_first: to_byte >> to_shift,
                bytes: take,
            };
            if from_byte % (1 << from_shift) != 0 || to_byte % (1 << to_shift) != 0 {
                return Err(Sense::COPY_SEGMENT_GRANULARITY_VIOLATION);
            }
            fits(from, step.from_first, take)?;
            fits(to, step.to_first, take)?;
            moves.push(step);
            skip += take;
            to_byte += take;
            left -= take;
        }
    }
    Ok(moves)
}

/// COPY OPERATION ABORT: ends with the copy, which cannot be called back from the disks; it is
/// answered when the copy has ended (SPC-5 6.3).
pub(crate) fn abort_copy(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let list_id = call.cdb.u32(2);
    let Some(held) = unit.copies.find(call.nexus, list_id) else { return Err(Sense::cdb_byte(2)) };
    let (task, running) = (held.task, held.result.is_none());
    if !running {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    let waits_for = unit.tasks.tag_of(task).into_iter().collect();
    let settle = crate::unit::Settle { response: Response::GOOD, waits_for, persist: false };
    Ok(Verdict::Settle(settle))
}
