//! Where a request goes: bus, target and the eight bytes of the LUN.

use crate::bits::TARGETS_MAX;

/// What a driver names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A logical unit of a target; the number is below 16,384.
    Unit { target: u8, lun: u16 },
    /// The REPORT LUNS well known logical unit.
    ReportLuns { target: u8 },
}

/// LUNs in flat space addressing have 14 bits.
const LUN_MAX: u16 = 0x3fff;

impl Place {
    /// Peripheral device addressing as all the open drivers use it (the number in byte 1), flat
    /// space addressing above 255, and the well known unit (SAM). `None`: nothing that could be
    /// here.
    pub fn decode(target: u8, lun: [u8; 8]) -> Option<Place> {
        if target >= TARGETS_MAX {
            return None;
        }
        match lun {
            [0, low, 0, 0, 0, 0, 0, 0] => Some(Place::Unit { target, lun: u16::from(low) }),
            [high @ 0x40..=0x7f, low, 0, 0, 0, 0, 0, 0] => {
                Some(Place::Unit { target, lun: u16::from_be_bytes([high & 0x3f, low]) })
            }
            [0xc1, 0x01, 0, 0, 0, 0, 0, 0] => Some(Place::ReportLuns { target }),
            _ => None,
        }
    }

    /// A LUN as REPORT LUNS lists it.
    pub fn encode_lun(lun: u16) -> [u8; 8] {
        let [high, low] = (lun & LUN_MAX).to_be_bytes();
        let method = if high == 0 { 0x00 } else { 0x40 };
        [method | high, low, 0, 0, 0, 0, 0, 0]
    }

    pub fn target(self) -> u8 {
        match self {
            Place::Unit { target, .. } | Place::ReportLuns { target } => target,
        }
    }
}
