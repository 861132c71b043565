//! GET CONFIGURATION: the drive as a list of features, and which of them the disc that is in makes
//! current.

use alloc::vec::Vec;

use super::{has_medium, is_dvd};
use crate::execute::Call;
use crate::sense::Sense;
use crate::unit::{Unit, Verdict};

const NO_PROFILE: u16 = 0x0000;
const CD_ROM: u16 = 0x0008;
const DVD_ROM: u16 = 0x0010;

/// What is needed to know whether a feature is current.
struct Disc {
    present: bool,
    dvd: bool,
}

struct Feature {
    code: u16,
    version: u8,
    /// Always current.
    persistent: bool,
    current: fn(&Disc) -> bool,
    data: fn(&Disc) -> Vec<u8>,
}

/// Ascending by code: those that are mandatory for the CD-ROM and DVD-ROM profiles, less real-time
/// streaming.
static FEATURES: [Feature; 9] = [
    // Profile list, the best first.
    Feature { code: 0x0000, version: 0, persistent: true, current: always, data: profiles },
    // Core: SCSI family, DBE.
    Feature {
        code: 0x0001,
        version: 2,
        persistent: true,
        current: always,
        data: |_| Vec::from([0, 0, 0, 1, 0x01, 0, 0, 0]),
    },
    // Morphing: no asynchronous events.
    Feature { code: 0x0002, version: 1, persistent: true, current: always, data: |_| Vec::from([0; 4]) },
    // Removable medium: tray, LOAD, EJECT, LOCK.
    Feature {
        code: 0x0003,
        version: 1,
        persistent: true,
        current: always,
        data: |_| Vec::from([0x39, 0, 0, 0]),
    },
    Feature {
        code: 0x0010,
        version: 0,
        persistent: false,
        current: |disc| disc.present,
        data: random_readable,
    },
    // CD read: no C2, no CD-Text.
    Feature {
        code: 0x001e,
        version: 2,
        persistent: false,
        current: |disc| disc.present && !disc.dvd,
        data: |_| Vec::from([0; 4]),
    },
    // DVD read.
    Feature {
        code: 0x001f,
        version: 1,
        persistent: false,
        current: |disc| disc.present && disc.dvd,
        data: |_| Vec::from([0; 4]),
    },
    // Power management.
    Feature { code: 0x0100, version: 0, persistent: true, current: always, data: |_| Vec::new() },
    // Timeout.
    Feature { code: 0x0105, version: 1, persistent: true, current: always, data: |_| Vec::from([0; 4]) },
];

fn always(_: &Disc) -> bool {
    true
}

fn profiles(disc: &Disc) -> Vec<u8> {
    let mut data = Vec::new();
    for profile in [DVD_ROM, CD_ROM] {
        let [high, low] = profile.to_be_bytes();
        data.extend_from_slice(&[high, low, u8::from(profile == current_profile(disc)), 0]);
    }
    data
}

fn current_profile(disc: &Disc) -> u16 {
    match (disc.present, disc.dvd) {
        (false, _) => NO_PROFILE,
        (true, false) => CD_ROM,
        (true, true) => DVD_ROM,
    }
}

/// Random readable: blocks of 2,048 bytes, by one on a CD, by an ECC block of 16 on a DVD; the error
/// recovery page is there (PP).
fn random_readable(disc: &Disc) -> Vec<u8> {
    Vec::from([0, 0, 0x08, 0x00, 0, if disc.dvd { 16 } else { 1 }, 0x01, 0])
}

pub(crate) fn get_configuration(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let disc = Disc { present: has_medium(unit), dvd: is_dvd(unit) };
    let from = call.cdb.u16(2);
    let request = call.cdb.byte(1) & 0x03;
    if request == 3 {
        return Err(Sense::cdb_bit(1, 1));
    }
    let mut data = Vec::from([0; 8]);
    data[6..8].copy_from_slice(&current_profile(&disc).to_be_bytes());
    for feature in &FEATURES {
        let current = (feature.current)(&disc);
        let wanted = match request {
            0 => feature.code >= from,
            1 => feature.code >= from && current,
            _ => feature.code == from,
        };
        if wanted {
            let body = (feature.data)(&disc);
            let [high, low] = feature.code.to_be_bytes();
            let flags = feature.version << 2 | u8::from(feature.persistent) << 1 | u8::from(current);
            data.extend_from_slice(&[high, low, flags, body.len() as u8]); // at most 8
            data.extend_from_slice(&body);
        }
    }
    let length = (data.len() - 4) as u32;
    data[..4].copy_from_slice(&length.to_be_bytes());
    let allocation = usize::from(call.cdb.u16(7));
    Ok(call.reply(allocation, &data))
}
