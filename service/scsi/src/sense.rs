//! Sense data: what went wrong, in the numbers of SPC-4 and its list of additional sense codes.

/// Sense keys, SPC-4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Key {
    NoSense = 0x0,
    RecoveredError = 0x1,
    NotReady = 0x2,
    MediumError = 0x3,
    HardwareError = 0x4,
    IllegalRequest = 0x5,
    UnitAttention = 0x6,
    DataProtect = 0x7,
    CopyAborted = 0xa,
    AbortedCommand = 0xb,
    Miscompare = 0xe,
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
    /// INFORMATION, with VALID set: an address, or where two texts differ.
    pub information: Option<u64>,
    /// PROGRESS INDICATION, in 65,536ths.
    pub progress: Option<u16>,
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

/// The longest sense data made here: descriptor format with information and a field pointer.
const SENSE_MAX_BYTES: usize = 28;

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
            $(pub const $name: Sense = Sense { key: Key::$key, asc: $asc, ascq: $ascq, pointer: None, information: None, progress: None };)*
        }
    };
}

conditions! {
    OPERATION_IN_PROGRESS = IllegalRequest, 0x00, 0x16;
    UNREACHABLE_COPY_TARGET = CopyAborted, 0x08, 0x04;
    COPY_ABORTED = CopyAborted, 0x00, 0x00;
    THIRD_PARTY_DEVICE_FAILURE = CopyAborted, 0x0d, 0x01;
    COPY_TARGET_DEVICE_NOT_REACHABLE = CopyAborted, 0x0d, 0x02;
    INCORRECT_COPY_TARGET_DEVICE_TYPE = CopyAborted, 0x0d, 0x03;
    COPY_SEGMENT_GRANULARITY_VIOLATION = CopyAborted, 0x26, 0x0d;
    INVALID_TOKEN_UNKNOWN = IllegalRequest, 0x23, 0x04;
    INVALID_TOKEN_UNSUPPORTED_TYPE = IllegalRequest, 0x23, 0x01;
    INVALID_TOKEN_LENGTH = IllegalRequest, 0x23, 0x0a;
    TOO_MANY_TARGET_DESCRIPTORS = IllegalRequest, 0x26, 0x06;
    UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE = IllegalRequest, 0x26, 0x07;
    TOO_MANY_SEGMENT_DESCRIPTORS = IllegalRequest, 0x26, 0x08;
    UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE = IllegalRequest, 0x26, 0x09;
    INLINE_DATA_LENGTH_EXCEEDED = IllegalRequest, 0x26, 0x0b;
    NO_ADDITIONAL_SENSE_INFORMATION = NoSense, 0x00, 0x00;
    IO_PROCESS_TERMINATED = AbortedCommand, 0x00, 0x06;
    NOT_READY_CAUSE_NOT_REPORTABLE = NotReady, 0x04, 0x00;
    NOT_READY_INITIALIZING_COMMAND_REQUIRED = NotReady, 0x04, 0x02;
    NOT_READY_FORMAT_IN_PROGRESS = NotReady, 0x04, 0x04;
    NOT_READY_TARGET_PORT_IN_STANDBY = NotReady, 0x04, 0x0b;
    NOT_READY_TARGET_PORT_UNAVAILABLE = NotReady, 0x04, 0x0c;
    NOT_READY_SANITIZE_IN_PROGRESS = NotReady, 0x04, 0x1b;
    INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT = IllegalRequest, 0x0e, 0x03;
    WRITE_ERROR = MediumError, 0x0c, 0x00;
    UNRECOVERED_READ_ERROR = MediumError, 0x11, 0x00;
    PARAMETER_LIST_LENGTH_ERROR = IllegalRequest, 0x1a, 0x00;
    MISCOMPARE_DURING_VERIFY = Miscompare, 0x1d, 0x00;
    INVALID_COMMAND_OPERATION_CODE = IllegalRequest, 0x20, 0x00;
    LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE = IllegalRequest, 0x21, 0x00;
    INVALID_FIELD_IN_CDB = IllegalRequest, 0x24, 0x00;
    LOGICAL_UNIT_NOT_SUPPORTED = IllegalRequest, 0x25, 0x00;
    INVALID_FIELD_IN_PARAMETER_LIST = IllegalRequest, 0x26, 0x00;
    INVALID_RELEASE_OF_PERSISTENT_RESERVATION = IllegalRequest, 0x26, 0x04;
    WRITE_PROTECTED = DataProtect, 0x27, 0x00;
    SOFTWARE_WRITE_PROTECTED = DataProtect, 0x27, 0x02;
    SPACE_ALLOCATION_FAILED_WRITE_PROTECT = DataProtect, 0x27, 0x07;
    MEDIUM_MAY_HAVE_CHANGED = UnitAttention, 0x28, 0x00;
    POWER_ON_OR_RESET = UnitAttention, 0x29, 0x00;
    BUS_RESET_OCCURRED = UnitAttention, 0x29, 0x02;
    BUS_DEVICE_RESET_FUNCTION_OCCURRED = UnitAttention, 0x29, 0x03;
    NEXUS_LOSS_OCCURRED = UnitAttention, 0x29, 0x07;
    MODE_PARAMETERS_CHANGED = UnitAttention, 0x2a, 0x01;
    LOG_PARAMETERS_CHANGED = UnitAttention, 0x2a, 0x02;
    RESERVATIONS_PREEMPTED = UnitAttention, 0x2a, 0x03;
    RESERVATIONS_RELEASED = UnitAttention, 0x2a, 0x04;
    REGISTRATIONS_PREEMPTED = UnitAttention, 0x2a, 0x05;
    ASYMMETRIC_ACCESS_STATE_CHANGED = UnitAttention, 0x2a, 0x06;
    CAPACITY_DATA_HAS_CHANGED = UnitAttention, 0x2a, 0x09;
    TIMESTAMP_CHANGED = UnitAttention, 0x2a, 0x10;
    INVALID_MESSAGE_ERROR = IllegalRequest, 0x49, 0x00;
    COMMAND_SEQUENCE_ERROR = IllegalRequest, 0x2c, 0x00;
    COMMANDS_CLEARED_BY_ANOTHER_INITIATOR = UnitAttention, 0x2f, 0x00;
    INCOMPATIBLE_FORMAT = IllegalRequest, 0x30, 0x02;
    ILLEGAL_MODE_FOR_THIS_TRACK = IllegalRequest, 0x64, 0x00;
    MEDIUM_FORMAT_CORRUPTED = MediumError, 0x31, 0x00;
    FORMAT_COMMAND_FAILED = MediumError, 0x31, 0x01;
    SANITIZE_COMMAND_FAILED = MediumError, 0x31, 0x03;
    THIN_PROVISIONING_SOFT_THRESHOLD_REACHED = UnitAttention, 0x38, 0x07;
    SAVING_PARAMETERS_NOT_SUPPORTED = IllegalRequest, 0x39, 0x00;
    MEDIUM_NOT_PRESENT = NotReady, 0x3a, 0x00;
    MEDIUM_NOT_PRESENT_TRAY_OPEN = NotReady, 0x3a, 0x02;
    INQUIRY_DATA_HAS_CHANGED = UnitAttention, 0x3f, 0x03;
    DEVICE_IDENTIFIER_CHANGED = UnitAttention, 0x3f, 0x05;
    REPORTED_LUNS_DATA_HAS_CHANGED = UnitAttention, 0x3f, 0x0e;
    INTERNAL_TARGET_FAILURE = HardwareError, 0x44, 0x00;
    PERSISTENT_RESERVATION_INFORMATION_LOST = DataProtect, 0x44, 0x01;
    MEDIUM_REMOVAL_PREVENTED = IllegalRequest, 0x53, 0x02;
    INSUFFICIENT_RESOURCES = IllegalRequest, 0x55, 0x03;
    INSUFFICIENT_REGISTRATION_RESOURCES = IllegalRequest, 0x55, 0x04;
    OPERATOR_MEDIUM_REMOVAL_REQUEST = UnitAttention, 0x5a, 0x01;
    IDLE_CONDITION_ACTIVATED_BY_COMMAND = NoSense, 0x5e, 0x03;
    STANDBY_CONDITION_ACTIVATED_BY_COMMAND = NoSense, 0x5e, 0x04;
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

    /// The same with INFORMATION.
    pub const fn with_information(self, information: u64) -> Sense {
        Sense { information: Some(information), ..self }
    }

    /// The same with a PROGRESS INDICATION.
    pub const fn with_progress(self, progress: u16) -> Sense {
        Sense { progress: Some(progress), ..self }
    }

    /// The three bytes of SENSE KEY SPECIFIC, if there is something to say in them.
    fn specific(&self) -> Option<[u8; 3]> {
        if let Some(pointer) = self.pointer {
            return Some(pointer.encode());
        }
        let [high, low] = self.progress?.to_be_bytes();
        Some([0x80, high, low]) // SKSV
    }

    /// SPC-4, descriptor format and fixed format sense data. Fixed format has four bytes for
    /// INFORMATION; what needs more is left out there.
    pub fn encode(&self, format: Format) -> SenseData {
        let mut bytes = [0; SENSE_MAX_BYTES];
        let len = match format {
            Format::Fixed => {
                bytes[0] = 0x70;
                bytes[2] = self.key as u8;
                if let Some(information) = self.information.and_then(|value| u32::try_from(value).ok()) {
                    bytes[0] |= 0x80; // VALID
                    bytes[3..7].copy_from_slice(&information.to_be_bytes());
                }
                bytes[7] = 10; // ADDITIONAL SENSE LENGTH
                bytes[12] = self.asc;
                bytes[13] = self.ascq;
                if let Some(specific) = self.specific() {
                    bytes[15..18].copy_from_slice(&specific);
                }
                18
            }
            Format::Descriptor => {
                bytes[..4].copy_from_slice(&[0x72, self.key as u8, self.asc, self.ascq]);
                let mut len = 8;
                if let Some(information) = self.information {
                    // DESCRIPTOR TYPE 00h information, ADDITIONAL LENGTH 0Ah, VALID.
                    bytes[len..len + 3].copy_from_slice(&[0x00, 0x0a, 0x80]);
                    bytes[len + 4..len + 12].copy_from_slice(&information.to_be_bytes());
                    len += 12;
                }
                if let Some(specific) = self.specific() {
                    // DESCRIPTOR TYPE 02h sense key specific, ADDITIONAL LENGTH 06h.
                    bytes[len..len + 2].copy_from_slice(&[0x02, 0x06]);
                    bytes[len + 4..len + 7].copy_from_slice(&specific);
                    len += 8;
                }
                bytes[7] = (len - 8) as u8; // ADDITIONAL SENSE LENGTH: at most 20
                len
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

impl Sense {
    /// From codes that were stored. `None`: no such key.
    pub fn of_codes(key: u8, asc: u8, ascq: u8) -> Option<Sense> {
        let key = [
            Key::NoSense,
            Key::RecoveredError,
            Key::NotReady,
            Key::MediumError,
            Key::HardwareError,
            Key::IllegalRequest,
            Key::UnitAttention,
            Key::DataProtect,
            Key::CopyAborted,
            Key::AbortedCommand,
            Key::Miscompare,
        ]
        .into_iter()
        .find(|known| *known as u8 == key)?;
        Some(Sense { key, asc, ascq, pointer: None, information: None, progress: None })
    }
}
