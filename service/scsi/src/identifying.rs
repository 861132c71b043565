//! Identifying information (SPC-5): names that an operator's tools give to the unit. They are kept
//! on stable storage.

use alloc::vec::Vec;

use crate::attention::Condition;
use crate::execute::Call;
use crate::sense::Sense;
use crate::state::Reader;
use crate::unit::{Response, Settle, Unit, Verdict};

/// PERIPHERAL DEVICE IDENTIFYING INFORMATION takes up to 512 bytes, PERIPHERAL DEVICE TEXT
/// IDENTIFYING INFORMATION up to 256 (SPC-5, identifying information types).
const KINDS: [(u8, u16); 2] = [(0x00, 512), (0x02, 256)];
/// INFORMATION TYPE: which types there are.
const SUPPORTED: u8 = 0x7f;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identifying([Vec<u8>; 2]);

impl Identifying {
    pub fn state(&self) -> Option<Vec<u8>> {
        if *self == Identifying::default() {
            return None;
        }
        let mut bytes = Vec::new();
        for text in &self.0 {
            bytes.extend_from_slice(&(text.len() as u16).to_le_bytes()); // at most 512
            bytes.extend_from_slice(text);
        }
        Some(bytes)
    }

    pub fn restore(text: &mut Reader<'_>) -> Option<Identifying> {
        let mut identifying = Identifying::default();
        for (place, (_, max)) in identifying.0.iter_mut().zip(KINDS) {
            let len = text.u16()?.min(max);
            *place = text.take(usize::from(len))?.to_vec();
        }
        Some(identifying)
    }
}

/// The place of a type, byte 10 bits 7 to 1.
fn kind(call: &Call<'_>) -> Option<usize> {
    let code = call.cdb.byte(10) >> 1;
    KINDS.iter().position(|(known, _)| *known == code)
}

/// REPORT IDENTIFYING INFORMATION.
pub(crate) fn report(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let allocation = call.cdb.u32(6) as usize;
    let mut data = Vec::from([0; 4]);
    if call.cdb.byte(10) >> 1 == SUPPORTED {
        for (code, max) in KINDS {
            let [high, low] = max.to_be_bytes();
            data.extend_from_slice(&[code << 1, 0, high, low]);
        }
    } else {
        let kind = kind(call).ok_or(Sense::cdb_bit(10, 7))?;
        data.extend_from_slice(&unit.identifying.0[kind]);
    }
    let length = (data.len() - 4) as u16; // at most 512
    data[2..4].copy_from_slice(&length.to_be_bytes());
    Ok(call.reply(allocation, &data))
}

/// SET IDENTIFYING INFORMATION. An empty list takes the name away.
pub(crate) fn set(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let length = call.cdb.u32(6);
    let kind = kind(call).ok_or(Sense::cdb_bit(10, 7))?;
    let (code, max) = KINDS[kind];
    if length > u32::from(max) {
        return Err(Sense::cdb_byte(6));
    }
    let length = length as usize;
    let list = match call.parameters {
        None if length != 0 => return Ok(Verdict::Parameters(length)),
        None => &[],
        Some(list) => list.get(..length).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?,
    };
    if code == 0x02 && !list.is_empty() {
        // A text ends with its first zero; without one it would have no end.
        let end = list.iter().position(|byte| *byte == 0).ok_or(Sense::INVALID_FIELD_IN_PARAMETER_LIST)?;
        unit.identifying.0[kind] = list[..=end].to_vec();
    } else {
        unit.identifying.0[kind] = list.to_vec();
    }
    unit.attend_all(Condition::IDENTIFIER, Some(call.nexus));
    let response = Response { data_out: length as u64, ..Response::GOOD };
    Ok(Verdict::Settle(Settle { response, waits_for: Vec::new(), persist: true }))
}
