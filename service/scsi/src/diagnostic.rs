//! SEND DIAGNOSTIC, RECEIVE DIAGNOSTIC RESULTS, READ BUFFER and WRITE BUFFER (SPC-5).

use alloc::vec::Vec;

use crate::execute::Call;
use crate::nexus::Nexus;
use crate::sense::Sense;
use crate::state::Reader;
use crate::unit::{Response, Unit, Verdict};

/// Bytes of each buffer.
const BUFFER_BYTES: usize = 4096;

/// What initiators wrote to see it again: the data buffer, which all share, and the echo buffer,
/// which is whose wrote it last. They are made when they are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BufferMemory {
    data: Vec<u8>,
    echo: Option<(Nexus, Vec<u8>)>,
}

impl BufferMemory {
    pub fn state(&self) -> Option<Vec<u8>> {
        if *self == BufferMemory::default() {
            return None;
        }
        let mut bytes = Vec::from((self.data.len() as u16).to_le_bytes()); // at most BUFFER_BYTES
        bytes.extend_from_slice(&self.data);
        if let Some((nexus, echo)) = &self.echo {
            bytes.extend_from_slice(&nexus.0.to_le_bytes());
            bytes.extend_from_slice(echo);
        }
        Some(bytes)
    }

    pub fn restore(text: &mut Reader<'_>) -> Option<BufferMemory> {
        let len = usize::from(text.u16()?).min(BUFFER_BYTES);
        let data = text.take(len)?.to_vec();
        let mut echo = None;
        if !text.is_empty() {
            let nexus = Nexus(text.u32()?);
            let len = text.0.len().min(BUFFER_BYTES);
            echo = Some((nexus, text.take(len)?.to_vec()));
        }
        Some(BufferMemory { data, echo })
    }

    /// The number of a nexus that is gone is given to another.
    pub fn forget(&mut self, nexus: Nexus) {
        if self.echo.as_ref().is_some_and(|(of, _)| *of == nexus) {
            self.echo = None;
        }
    }
}

/// SEND DIAGNOSTIC. The default self-test finds what every command would find: that the unit
/// answers. The only diagnostic page is the list of pages.
pub(crate) fn send(_: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let length = usize::from(call.cdb.u16(3));
    if call.cdb.byte(1) >> 5 != 0 {
        return Err(Sense::cdb_bit(1, 7)); // SELF-TEST CODE
    }
    if length == 0 {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    if call.cdb.bit(1, 2) {
        return Err(Sense::cdb_byte(3)); // SELFTEST goes without a list
    }
    if !call.cdb.bit(1, 4) {
        return Err(Sense::cdb_bit(1, 4)); // PF
    }
    let Some(list) = call.parameters else { return Ok(Verdict::Parameters(length)) };
    let page = list.get(..length).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    match page {
        [0x00, 0x00, 0x00, 0x00] => {
            Ok(Verdict::Respond(Response { data_out: length as u64, ..Response::GOOD }))
        }
        [0x00, ..] => Err(Sense::PARAMETER_LIST_LENGTH_ERROR),
        _ => Err(Sense::parameter_byte(0)),
    }
}

/// RECEIVE DIAGNOSTIC RESULTS: the list of pages, by its code or as the answer to the last SEND
/// DIAGNOSTIC, which can have asked for nothing else.
pub(crate) fn receive(_: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    if call.cdb.bit(1, 0) && call.cdb.byte(2) != 0 {
        return Err(Sense::cdb_byte(2));
    }
    let allocation = usize::from(call.cdb.u16(3));
    Ok(call.reply(allocation, &[0x00, 0x00, 0x00, 0x01, 0x00]))
}

/// MODE of the buffer commands.
const DATA: u8 = 0x02;
const DESCRIPTOR: u8 = 0x03;
const ECHO: u8 = 0x0a;
const ECHO_DESCRIPTOR: u8 = 0x0b;

/// READ BUFFER(10).
pub(crate) fn read_buffer(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let (id, offset) = (call.cdb.byte(2), call.cdb.u24(3) as usize);
    let allocation = call.cdb.u24(6) as usize;
    let [_, capacity_high, capacity_mid, capacity_low] = (BUFFER_BYTES as u32).to_be_bytes();
    match call.cdb.byte(1) & 0x1f {
        DATA => {
            if id != 0 {
                return Err(Sense::cdb_byte(2));
            }
            if offset > BUFFER_BYTES {
                return Err(Sense::cdb_byte(3));
            }
            let mut data = unit.buffers.data.clone();
            data.resize(BUFFER_BYTES, 0);
            Ok(call.reply(allocation, &data[offset..]))
        }
        DESCRIPTOR => {
            // Of a buffer that is not there, zeroes. OFFSET BOUNDARY zero: any byte.
            let descriptor = match id {
                0 => [0, capacity_high, capacity_mid, capacity_low],
                _ => [0; 4],
            };
            Ok(call.reply(allocation, &descriptor))
        }
        ECHO => match &unit.buffers.echo {
            Some((nexus, echo)) if *nexus == call.nexus => {
                let len = echo.len().min(allocation);
                call.out.extend_from_slice(&echo[..len]);
                Ok(Verdict::Respond(Response::GOOD))
            }
            // SPC-5: nothing was written, or another wrote since.
            _ => Err(Sense::COMMAND_SEQUENCE_ERROR),
        },
        // EBOS zero: others may overwrite it.
        ECHO_DESCRIPTOR => Ok(call.reply(allocation, &[0, 0, capacity_mid, capacity_low])),
        _ => Err(Sense::cdb_bit(1, 4)),
    }
}

/// WRITE BUFFER. There is no microcode to be loaded.
pub(crate) fn write_buffer(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let (id, offset) = (call.cdb.byte(2), call.cdb.u24(3) as usize);
    let length = call.cdb.u24(6) as usize;
    let mode = call.cdb.byte(1) & 0x1f;
    match mode {
        DATA if id != 0 => return Err(Sense::cdb_byte(2)),
        DATA if offset > BUFFER_BYTES => return Err(Sense::cdb_byte(3)),
        DATA if length > BUFFER_BYTES - offset => return Err(Sense::cdb_byte(6)),
        ECHO if length > BUFFER_BYTES => return Err(Sense::cdb_byte(6)),
        DATA | ECHO => {}
        _ => return Err(Sense::cdb_bit(1, 4)),
    }
    if length == 0 {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    let Some(list) = call.parameters else { return Ok(Verdict::Parameters(length)) };
    let list = list.get(..length).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    if mode == ECHO {
        unit.buffers.echo = Some((call.nexus, list.to_vec()));
    } else {
        unit.buffers.data.resize(BUFFER_BYTES, 0);
        unit.buffers.data[offset..offset + length].copy_from_slice(list);
    }
    unit.dirty = true;
    Ok(Verdict::Respond(Response { data_out: length as u64, ..Response::GOOD }))
}
