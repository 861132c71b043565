//! RECEIVE COPY RESULTS and its kin (SPC-5 6.19 to 6.24): what became of a copy.

use alloc::vec::Vec;

use super::{DESCRIPTORS_MAX_BYTES, Held, SEGMENT_MAX_BYTES, SEGMENTS_MAX, TARGETS_MAX};
use crate::execute::Call;
use crate::sense::{Format, Sense};
use crate::unit::{Unit, Verdict};

/// TRANSFER COUNT UNITS: bytes, and logical blocks.
const UNITS_BYTES: u8 = 0x00;
const UNITS_BLOCKS: u8 = 0xf1;

/// The copy with this list id, or INVALID FIELD IN CDB.
fn held<'a>(unit: &'a Unit, call: &Call<'_>, list: u32) -> Result<&'a Held, Sense> {
    unit.copies.find(call.nexus, list).ok_or(Sense::cdb_byte(2))
}

/// Prefixes the number of bytes behind it, in four bytes.
fn with_length(body: &[u8]) -> Vec<u8> {
    let mut data = Vec::from((body.len() as u32).to_be_bytes());
    data.extend_from_slice(body);
    data
}

/// RECEIVE COPY STATUS(LID1).
pub(crate) fn copy_status_lid1(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let allocation = call.cdb.u32(10) as usize;
    let held = held(unit, call, u32::from(call.cdb.byte(2)))?;
    let status = match &held.result {
        None => 0x00,
        Some(Ok(())) => 0x01,
        Some(Err(_)) => 0x02,
    };
    // The count has four bytes; in KiB where bytes would not fit.
    let (units, count) = match u32::try_from(held.bytes) {
        Ok(bytes) => (UNITS_BYTES, bytes),
        Err(_) => (0x01, u32::try_from(held.bytes >> 10).unwrap_or(u32::MAX)),
    };
    let mut body = Vec::from([status]);
    body.extend_from_slice(&held.segments.to_be_bytes());
    body.push(units);
    body.extend_from_slice(&count.to_be_bytes());
    Ok(call.reply(allocation, &with_length(&body)))
}

/// RECEIVE COPY DATA: no segment descriptor that is known here holds data for its initiator.
pub(crate) fn receive_copy_data_lid1(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let allocation = call.cdb.u32(10) as usize;
    held(unit, call, u32::from(call.cdb.byte(2)))?;
    Ok(call.reply(allocation, &[0; 4]))
}

/// RECEIVE COPY OPERATING PARAMETERS.
pub(crate) fn operating_parameters(_: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let allocation = call.cdb.u32(10) as usize;
    let mut body = [0; 40];
    // Offsets are those of the data less its length of four bytes.
    body[0] = 0x01; // SNLID: a list id of none is known (LIST ID USAGE 11b)
    body[4..6].copy_from_slice(&(TARGETS_MAX as u16).to_be_bytes());
    body[6..8].copy_from_slice(&(SEGMENTS_MAX as u16).to_be_bytes());
    body[8..12].copy_from_slice(&(DESCRIPTORS_MAX_BYTES as u32).to_be_bytes());
    body[12..16].copy_from_slice(&SEGMENT_MAX_BYTES.to_be_bytes());
    // TOTAL CONCURRENT COPIES, MAXIMUM CONCURRENT COPIES.
    body[30..32].copy_from_slice(&64u16.to_be_bytes());
    body[32] = 64;
    body[33] = 9; // DATA SEGMENT GRANULARITY: 512 bytes
    body[39] = 3; // IMPLEMENTED DESCRIPTOR LIST LENGTH
    let mut body = Vec::from(body);
    body.extend_from_slice(&[0x02, 0x0a, 0xe4]);
    Ok(call.reply(allocation, &with_length(&body)))
}

/// RECEIVE COPY FAILURE DETAILS(LID1): of a copy that failed, its sense data.
pub(crate) fn failed_segment_details(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let allocation = call.cdb.u32(10) as usize;
    let held = held(unit, call, u32::from(call.cdb.byte(2)))?;
    let Some(Err(sense)) = held.result else { return Ok(call.reply(allocation, &[0; 4])) };
    let sense = sense.encode(Format::Fixed);
    let mut body = alloc::vec![0; 56];
    body[52] = 0x02; // EXTENDED COPY COMMAND STATUS: CHECK CONDITION
    body[54..56].copy_from_slice(&(sense.len() as u16).to_be_bytes());
    body.extend_from_slice(&sense);
    Ok(call.reply(allocation, &with_length(&body)))
}

/// The body that the results of LID4 and of token commands have in common.
fn status_body(unit: &Unit, held: &Held) -> Vec<u8> {
    let mut body = alloc::vec![0; 28];
    body[0] = held.action;
    body[1] = match &held.result {
        None => 0x10,
        Some(Ok(())) => 0x01,
        Some(Err(_)) => 0x02,
    };
    if let Some(Err(_)) = held.result {
        body[8] = 0x02; // EXTENDED COPY COMPLETION STATUS: CHECK CONDITION
    }
    body[11] = UNITS_BLOCKS;
    body[12..20].copy_from_slice(&(held.bytes >> unit.facts.shift()).to_be_bytes());
    body[20..22].copy_from_slice(&held.segments.to_be_bytes());
    if let Some(Err(sense)) = held.result {
        let sense = sense.encode(Format::Fixed);
        body[9] = sense.len() as u8; // LENGTH OF THE SENSE DATA FIELD, at most 28
        body[10] = sense.len() as u8;
        body.extend_from_slice(&sense);
    }
    body
}

/// RECEIVE COPY STATUS(LID4).
pub(crate) fn copy_status_lid4(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let allocation = call.cdb.u32(10) as usize;
    let held = held(unit, call, call.cdb.u32(2))?;
    let body = status_body(unit, held);
    Ok(call.reply(allocation, &with_length(&body)))
}

pub(crate) fn receive_copy_data_lid4(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let allocation = call.cdb.u32(10) as usize;
    let held = held(unit, call, call.cdb.u32(2))?;
    let mut body = status_body(unit, held);
    body.extend_from_slice(&[0; 4]); // HELD DATA LENGTH
    Ok(call.reply(allocation, &with_length(&body)))
}

/// RECEIVE ROD TOKEN INFORMATION.
pub(crate) fn rod_token_information(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let allocation = call.cdb.u32(10) as usize;
    let held = held(unit, call, call.cdb.u32(2))?;
    let mut body = status_body(unit, held);
    match &held.token {
        Some(token) => {
            // ROD TOKEN DESCRIPTORS LENGTH, two reserved bytes, the token.
            body.extend_from_slice(&(token.len() as u32 + 2).to_be_bytes());
            body.extend_from_slice(&[0; 2]);
            body.extend_from_slice(token);
        }
        None => body.extend_from_slice(&[0; 4]),
    }
    Ok(call.reply(allocation, &with_length(&body)))
}
