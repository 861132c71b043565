//! CD and DVD (MMC-6): one finished disc of one session with one data track, mode 1, in a drive
//! with a tray. What a drive would say of an image that was pressed.
//!
//! * `contents`: tables of contents, disc, track and structure of the disc.
//! * `configuration`: what the drive can do.
//! * `events`: what happened to the tray.
//! * `read`: READ CD in its two forms, and the speed that nobody needs.

mod configuration;
mod contents;
mod events;
mod read;

pub(crate) use configuration::get_configuration;
pub(crate) use contents::{read_disc_information, read_disc_structure, read_toc, read_track_information};
pub(crate) use events::{get_event_status, mechanism_status};
pub(crate) use read::{read_cd, read_cd_msf, set_cd_speed};

use crate::unit::Unit;

/// Blocks that fit a CD of 80 minutes, at 75 a second; what is larger is a DVD.
const CD_MAX_BLOCKS: u64 = 80 * 60 * 75;

/// Blocks before the first of the program area: MSF addresses count from there (MMC-6, two
/// seconds).
const PREGAP_BLOCKS: u64 = 150;

fn is_dvd(unit: &Unit) -> bool {
    unit.facts.blocks.0 > CD_MAX_BLOCKS
}

fn has_medium(unit: &Unit) -> bool {
    !unit.removable.ejected && unit.facts.blocks.0 != 0
}

/// Minutes, seconds and frames of a block; a DVD has more than can be said so, and then has the
/// last that can.
fn msf(block: u64) -> [u8; 3] {
    let frames = block.saturating_add(PREGAP_BLOCKS);
    match u8::try_from(frames / 75 / 60) {
        Ok(minutes) => [minutes, (frames / 75 % 60) as u8, (frames % 75) as u8],
        Err(_) => [0xff, 59, 74],
    }
}
