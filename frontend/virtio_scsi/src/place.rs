//! Where a request goes: the `lun` field, 5.6.6.1.

/// What a driver's eight bytes name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A logical unit of a target; the number is below 16,384.
    Unit { target: u8, lun: u16 },
    /// The REPORT LUNS well known logical unit.
    ReportLuns { target: u8 },
}

/// LUNs of this kind have 14 bits.
const LUN_MAX: u16 = 0x3fff;

impl Place {
    /// "First byte set to 1, second byte set to target, third and fourth byte representing a single
    /// level LUN structure, followed by four zero bytes", or the well known unit, in the third and
    /// fourth byte or by itself (C1 01). `None`: nothing that could be here.
    pub fn decode(bytes: [u8; 8]) -> Option<Place> {
        match bytes {
            [0xc1, 0x01, 0, 0, 0, 0, 0, 0] => Some(Place::ReportLuns { target: 0 }),
            [1, target, 0xc1, 0x01, 0, 0, 0, 0] => Some(Place::ReportLuns { target }),
            [1, target, high, low, 0, 0, 0, 0] => match high >> 6 {
                // Peripheral device addressing: bus 0.
                0 if high == 0 => Some(Place::Unit { target, lun: u16::from(low) }),
                // Flat space addressing.
                1 => Some(Place::Unit { target, lun: u16::from_be_bytes([high & 0x3f, low]) }),
                _ => None,
            },
            _ => None,
        }
    }

    /// As events name it: as REPORT LUNS lists it, with peripheral device addressing up to 255 and
    /// flat space addressing above, since Linux takes the two bytes for the number (QUIRKS.md).
    pub fn encode(self) -> [u8; 8] {
        match self {
            Place::Unit { target, lun } => {
                let [high, low] = (lun & LUN_MAX).to_be_bytes();
                let method = if high == 0 { 0x00 } else { 0x40 };
                [1, target, method | high, low, 0, 0, 0, 0]
            }
            Place::ReportLuns { target } => [1, target, 0xc1, 0x01, 0, 0, 0, 0],
        }
    }

    pub fn target(self) -> u8 {
        match self {
            Place::Unit { target, .. } | Place::ReportLuns { target } => target,
        }
    }
}
