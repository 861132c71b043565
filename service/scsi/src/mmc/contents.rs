//! What is on the disc.

use alloc::vec::Vec;

use super::{is_dvd, msf};
use crate::execute::Call;
use crate::sense::Sense;
use crate::unit::{Unit, Verdict};

/// ADR 1h, CONTROL 4h: a data track.
const DATA_TRACK: u8 = 0x14;
/// The number of the lead-out area.
const LEAD_OUT: u8 = 0xaa;

/// A track's address: a block number, or reserved, minutes, seconds, frames.
fn address(block: u64, as_msf: bool) -> [u8; 4] {
    if as_msf {
        let [minutes, seconds, frames] = msf(block);
        return [0, minutes, seconds, frames];
    }
    u32::try_from(block).unwrap_or(u32::MAX).to_be_bytes()
}

/// Puts the length of what follows it in front (two bytes).
fn sized(mut data: Vec<u8>) -> Vec<u8> {
    let length = (data.len() - 2) as u16; // at most some thousand bytes
    data[..2].copy_from_slice(&length.to_be_bytes());
    data
}

/// READ TOC/PMA/ATIP, formats 0000b (TOC), 0001b (sessions) and 0010b (all of the lead-in's Q
/// sub-channel). PMA, ATIP and CD-Text are of discs that can be written, or sung.
pub(crate) fn read_toc(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let as_msf = call.cdb.bit(1, 1);
    let from = call.cdb.byte(6);
    let blocks = unit.facts.blocks.0;
    let mut data = Vec::from([0, 0, 1, 1]); // FIRST and LAST TRACK NUMBER, or session
    match call.cdb.byte(2) & 0x0f {
        0x0 => {
            if from > 1 && from != LEAD_OUT {
                return Err(Sense::cdb_byte(6));
            }
            if from <= 1 {
                data.extend_from_slice(&[0, DATA_TRACK, 1, 0]);
                data.extend_from_slice(&address(0, as_msf));
            }
            data.extend_from_slice(&[0, DATA_TRACK, LEAD_OUT, 0]);
            data.extend_from_slice(&address(blocks, as_msf));
        }
        0x1 => {
            data.extend_from_slice(&[0, DATA_TRACK, 1, 0]);
            data.extend_from_slice(&address(0, as_msf));
        }
        0x2 => {
            if from > 1 {
                return Err(Sense::cdb_byte(6));
            }
            // POINT and what it says: the first track, the last, the lead-out, track 1.
            for (point, says) in [(0xa0, [1, 0, 0]), (0xa1, [1, 0, 0]), (0xa2, msf(blocks)), (0x01, msf(0))] {
                data.extend_from_slice(&[1, DATA_TRACK, 0, point, 0, 0, 0, 0]);
                data.extend_from_slice(&says);
            }
        }
        _ => return Err(Sense::cdb_bit(2, 3)),
    }
    let allocation = usize::from(call.cdb.u16(7));
    Ok(call.reply(allocation, &sized(data)))
}

/// READ DISC INFORMATION, the standard form: complete, and nothing can be added.
pub(crate) fn read_disc_information(_: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    if call.cdb.byte(1) & 0x07 != 0 {
        return Err(Sense::cdb_bit(1, 2));
    }
    let mut data = alloc::vec![0; 34];
    data[2] = 0x0e; // STATE OF LAST SESSION and DISC STATUS complete
    data[3..7].copy_from_slice(&[1, 1, 1, 1]); // first track, sessions, first and last track of the last
    data[7] = 0x20; // URU
    // LAST SESSION LEAD-IN and LAST POSSIBLE LEAD-OUT START: there is no next.
    data[16..24].fill(0xff);
    let allocation = usize::from(call.cdb.u16(7));
    Ok(call.reply(allocation, &sized(data)))
}

/// READ TRACK INFORMATION of the only track, whether it is asked for by a block, as a track or by
/// its session.
pub(crate) fn read_track_information(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let number = call.cdb.u32(2);
    let blocks = unit.facts.blocks.0;
    match call.cdb.byte(1) & 0x03 {
        0 if u64::from(number) >= blocks => return Err(Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE),
        1 | 2 if number != 1 => return Err(Sense::cdb_byte(2)),
        3 => return Err(Sense::cdb_bit(1, 1)),
        _ => {}
    }
    let mut data = alloc::vec![0; 36];
    data[2..4].copy_from_slice(&[1, 1]); // LOGICAL TRACK NUMBER, SESSION NUMBER
    data[5] = 0x04; // TRACK MODE: data
    data[6] = 0x01; // DATA MODE: mode 1
    data[24..28].copy_from_slice(&u32::try_from(blocks).unwrap_or(u32::MAX).to_be_bytes());
    let allocation = usize::from(call.cdb.u16(7));
    Ok(call.reply(allocation, &sized(data)))
}

/// The first physical sector of a DVD's data.
const DVD_FIRST_SECTOR: u32 = 0x03_0000;
/// Bytes of the physical format and of the manufacturing information.
const STRUCTURE_BYTES: usize = 2048;

/// READ DISC STRUCTURE of a DVD-ROM: physical format, copyright, manufacturer, and the list of these.
/// A CD has none.
pub(crate) fn read_disc_structure(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    if call.cdb.byte(1) & 0x0f != 0 {
        return Err(Sense::cdb_bit(1, 3)); // MEDIA TYPE: not a BD
    }
    if !is_dvd(unit) {
        return Err(Sense::INCOMPATIBLE_FORMAT);
    }
    if call.cdb.byte(6) != 0 {
        return Err(Sense::cdb_byte(6)); // LAYER NUMBER
    }
    let mut data = Vec::from([0; 4]);
    match call.cdb.byte(7) {
        0x00 => {
            let blocks = u32::try_from(unit.facts.blocks.0).unwrap_or(u32::MAX);
            let last = DVD_FIRST_SECTOR.saturating_add(blocks - 1).min(0x00ff_ffff);
            // DVD-ROM, part version 1; 120 mm, no maximum rate given; one layer, embossed.
            data.extend_from_slice(&[0x01, 0x0f, 0x01, 0x00]);
            data.extend_from_slice(&DVD_FIRST_SECTOR.to_be_bytes());
            data.extend_from_slice(&last.to_be_bytes());
            data.resize(4 + STRUCTURE_BYTES, 0);
        }
        // No copy protection, all regions.
        0x01 => data.extend_from_slice(&[0; 4]),
        0x04 => data.resize(4 + STRUCTURE_BYTES, 0),
        0xff => {
            for (format, bytes) in [(0x00, STRUCTURE_BYTES), (0x01, 4), (0x04, STRUCTURE_BYTES)] {
                let [high, low] = (4 + bytes as u16).to_be_bytes();
                data.extend_from_slice(&[format, 0x40, high, low]); // RDS
            }
        }
        _ => return Err(Sense::cdb_byte(7)),
    }
    let allocation = usize::from(call.cdb.u16(8));
    Ok(call.reply(allocation, &sized(data)))
}
