//! Sense data: what went wrong, in the numbers of SPC-4 and its list of additional sense codes.

/// Sense keys, SPC-4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Key {
    NoSense = 0x0,
    NotReady = 0x2,
    MediumError = 0x3,
    IllegalRequest = 0x5,
    UnitAttention = 0x6,
    DataProtect = 0x7,
    AbortedCommand = 0xb,
}

/// Where the wrong field is: the sense-key specific field pointer, SPC-4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// In the CDB, or else in the parameter list.
    pub in_cdb: bool,
    pub byte: u16,
    /// The left-most wrong bit, where a bit is meant.
    pub bit: Option<u8>,
}

/// One condition. How it is laid out depends on the D_SENSE bit: see [`Sense::encode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    pub key: Key,
    /// ADDITIONAL SENSE CODE.
    pub asc: u8,
    /// ADDITIONAL SENSE CODE QUALIFIER.
    pub ascq: u8,
    pub pointer: Option<Pointer>,
}

/// Layout of sense data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Response code 70h, 18 bytes.
    #[default]
    Fixed,
    /// Response code 72h, 8 bytes and descriptors.
    Descriptor,
}

/// The longest sense data made here: fixed format.
const SENSE_MAX_BYTES: usize = 18;

/// Sense data as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenseData {
    bytes: [u8; SENSE_MAX_BYTES],
    len: usize,
}

impl core::ops::Deref for SenseData {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The one list of conditions: a name, its key and its two codes.
macro_rules! conditions {
    ($($name:ident = $key:ident, $asc:literal, $ascq:literal;)*) => {
        impl Sense {
            $(pub const $name: Sense = Sense { key: Key::$key, asc: $asc, ascq: $ascq, pointer: None };)*
        }
    };
}

conditions! {
    NO_ADDITIONAL_SENSE_INFORMATION = NoSense, 0x00, 0x00;
    IO_PROCESS_TERMINATED = AbortedCommand, 0x00, 0x06;
    NOT_READY_CAUSE_NOT_REPORTABLE = NotReady, 0x04, 0x00;
    NOT_READY_INITIALIZING_COMMAND_REQUIRED = NotReady, 0x04, 0x02;
    WRITE_ERROR = MediumError, 0x0c, 0x00;
    UNRECOVERED_READ_ERROR = MediumError, 0x11, 0x00;
    PARAMETER_LIST_LENGTH_ERROR = IllegalRequest, 0x1a, 0x00;
    INVALID_COMMAND_OPERATION_CODE = IllegalRequest, 0x20, 0x00;
    LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE = IllegalRequest, 0x21, 0x00;
    INVALID_FIELD_IN_CDB = IllegalRequest, 0x24, 0x00;
    LOGICAL_UNIT_NOT_SUPPORTED = IllegalRequest, 0x25, 0x00;
    INVALID_FIELD_IN_PARAMETER_LIST = IllegalRequest, 0x26, 0x00;
    WRITE_PROTECTED = DataProtect, 0x27, 0x00;
    SPACE_ALLOCATION_FAILED_WRITE_PROTECT = DataProtect, 0x27, 0x07;
    POWER_ON_OR_RESET = UnitAttention, 0x29, 0x00;
    BUS_RESET_OCCURRED = UnitAttention, 0x29, 0x02;
    BUS_DEVICE_RESET_FUNCTION_OCCURRED = UnitAttention, 0x29, 0x03;
    NEXUS_LOSS_OCCURRED = UnitAttention, 0x29, 0x07;
    MODE_PARAMETERS_CHANGED = UnitAttention, 0x2a, 0x01;
    CAPACITY_DATA_HAS_CHANGED = UnitAttention, 0x2a, 0x09;
    SAVING_PARAMETERS_NOT_SUPPORTED = IllegalRequest, 0x39, 0x00;
    MEDIUM_NOT_PRESENT = NotReady, 0x3a, 0x00;
    REPORTED_LUNS_DATA_HAS_CHANGED = UnitAttention, 0x3f, 0x0e;
}

impl Sense {
    /// INVALID FIELD IN CDB, pointing at a byte.
    pub const fn cdb_byte(byte: u16) -> Sense {
        let pointer = Some(Pointer { in_cdb: true, byte, bit: None });
        Sense { pointer, ..Sense::INVALID_FIELD_IN_CDB }
    }

    /// INVALID FIELD IN CDB, pointing at a bit.
    pub const fn cdb_bit(byte: u16, bit: u8) -> Sense {
        let pointer = Some(Pointer { in_cdb: true, byte, bit: Some(bit) });
        Sense { pointer, ..Sense::INVALID_FIELD_IN_CDB }
    }

    /// INVALID FIELD IN PARAMETER LIST, pointing at a byte.
    pub const fn parameter_byte(byte: u16) -> Sense {
        let pointer = Some(Pointer { in_cdb: false, byte, bit: None });
        Sense { pointer, ..Sense::INVALID_FIELD_IN_PARAMETER_LIST }
    }

    /// INVALID FIELD IN PARAMETER LIST, pointing at a bit.
    pub const fn parameter_bit(byte: u16, bit: u8) -> Sense {
        let pointer = Some(Pointer { in_cdb: false, byte, bit: Some(bit) });
        Sense { pointer, ..Sense::INVALID_FIELD_IN_PARAMETER_LIST }
    }

    /// SPC-4, descriptor format and fixed format sense data.
    pub fn encode(&self, format: Format) -> SenseData {
        let mut bytes = [0; SENSE_MAX_BYTES];
        let specific = self.pointer.map(Pointer::encode);
        let len = match format {
            Format::Fixed => {
                bytes[0] = 0x70;
                bytes[2] = self.key as u8;
                bytes[7] = 10; // ADDITIONAL SENSE LENGTH
                bytes[12] = self.asc;
                bytes[13] = self.ascq;
                if let Some(specific) = specific {
                    bytes[15..18].copy_from_slice(&specific);
                }
                18
            }
            Format::Descriptor => {
                bytes[..4].copy_from_slice(&[0x72, self.key as u8, self.asc, self.ascq]);
                match specific {
                    Some(specific) => {
                        bytes[7] = 8; // ADDITIONAL SENSE LENGTH: one descriptor
                        bytes[8] = 0x02; // DESCRIPTOR TYPE: sense key specific
                        bytes[9] = 0x06;
                        bytes[12..15].copy_from_slice(&specific);
                        16
                    }
                    None => 8,
                }
            }
        };
        SenseData { bytes, len }
    }
}

impl Pointer {
    /// SKSV, C/D, BPV, BIT POINTER, FIELD POINTER.
    fn encode(self) -> [u8; 3] {
        let mut first = 0x80;
        if self.in_cdb {
            first |= 0x40;
        }
        if let Some(bit) = self.bit {
            first |= 0x08 | (bit & 0x07);
        }
        let [high, low] = self.byte.to_be_bytes();
        [first, high, low]
    }
}
