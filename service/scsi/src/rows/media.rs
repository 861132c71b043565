//! Commands of MMC.

use super::{ASK, F, On, R, ROW, Row};
use crate::mmc;
use crate::reservation::Access;

/// Asks about the drive.
const DRIVE: Row = Row { on: On::CdRom, ..ASK };
/// Asks about the disc, which has to be in.
const DISC: Row = Row { needs_start: true, access: Access::Read, ..DRIVE };

pub(super) const ROWS: [Row; 10] = [
    Row {
        name: "READ TOC/PMA/ATIP",
        opcode: 0x43,
        usage: &[0x43, 0x02, 0x0f, R, R, R, F, F, F, R],
        decode: mmc::read_toc,
        ..DISC
    },
    Row {
        name: "GET CONFIGURATION",
        opcode: 0x46,
        usage: &[0x46, 0x03, F, F, R, R, R, F, F, R],
        past_attention: true,
        decode: mmc::get_configuration,
        ..DRIVE
    },
    Row {
        name: "GET EVENT STATUS NOTIFICATION",
        opcode: 0x4a,
        usage: &[0x4a, 0x01, R, R, F, R, R, F, F, R],
        past_attention: true,
        decode: mmc::get_event_status,
        ..DRIVE
    },
    Row {
        name: "READ DISC INFORMATION",
        opcode: 0x51,
        usage: &[0x51, 0x07, R, R, R, R, R, F, F, R],
        decode: mmc::read_disc_information,
        ..DISC
    },
    Row {
        name: "READ TRACK INFORMATION",
        opcode: 0x52,
        usage: &[0x52, 0x07, F, F, F, F, R, F, F, R],
        decode: mmc::read_track_information,
        ..DISC
    },
    Row {
        name: "READ DISC STRUCTURE",
        opcode: 0xad,
        usage: &[0xad, 0x0f, F, F, F, F, F, F, F, F, 0xc0, R],
        decode: mmc::read_disc_structure,
        ..DISC
    },
    Row {
        name: "READ CD MSF",
        opcode: 0xb9,
        usage: &[0xb9, 0x1e, R, F, F, F, F, F, F, 0xfe, 0x07, R],
        decode: mmc::read_cd_msf,
        ..DISC
    },
    Row {
        name: "SET CD SPEED",
        opcode: 0xbb,
        usage: &[0xbb, 0x03, F, F, F, F, R, R, R, R, R, R],
        on: On::CdRom,
        decode: mmc::set_cd_speed,
        ..ROW
    },
    Row {
        name: "MECHANISM STATUS",
        opcode: 0xbd,
        usage: &[0xbd, R, R, R, R, R, R, R, F, F, R, R],
        decode: mmc::mechanism_status,
        ..DRIVE
    },
    Row {
        name: "READ CD",
        opcode: 0xbe,
        usage: &[0xbe, 0x1e, F, F, F, F, F, F, F, 0xfe, 0x07, R],
        decode: mmc::read_cd,
        ..DISC
    },
];
