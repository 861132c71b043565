//! Basic header segments: one value of 48 bytes, and what its fields are called.

use crate::bits::{HEADER_BYTES, flag, opcode};

/// A basic header segment, 11.2.1. Accessors are named after the fields of those PDUs that have
/// them; which bytes a field has is the same in all of these.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header(pub [u8; HEADER_BYTES]);

impl core::fmt::Debug for Header {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Header({:02x?})", self.0)
    }
}

macro_rules! words {
    ($($(#[$doc:meta])* $get:ident / $set:ident @ $at:literal;)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $get(&self) -> u32 {
            u32::from_be_bytes([self.0[$at], self.0[$at + 1], self.0[$at + 2], self.0[$at + 3]])
        }

        #[inline]
        pub fn $set(mut self, value: u32) -> Header {
            self.0[$at..$at + 4].copy_from_slice(&value.to_be_bytes());
            self
        }
    )*};
}

impl Header {
    /// A header of this operation code, with the final bit; everything else is zero.
    pub fn new(code: u8) -> Header {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = code;
        bytes[1] = flag::FINAL;
        Header(bytes)
    }

    words! {
        /// Initiator task tag.
        itt / with_itt @ 16;
        /// Target transfer tag (Data, R2T, NOP, text), or referenced task tag (task management).
        ttt / with_ttt @ 20;
        /// Expected data transfer length of a SCSI command.
        expected_length / with_expected_length @ 20;
        /// Initiator to target.
        cmd_sn / with_cmd_sn @ 24;
        /// Target to initiator: the same place.
        stat_sn / with_stat_sn @ 24;
        exp_stat_sn / with_exp_stat_sn @ 28;
        /// Target to initiator.
        exp_cmd_sn / with_exp_cmd_sn @ 28;
        max_cmd_sn / with_max_cmd_sn @ 32;
        /// Task management.
        ref_cmd_sn / with_ref_cmd_sn @ 32;
        /// DataSN of Data-In and Data-Out, R2TSN, ExpDataSN of a response, BegRun of SNACK.
        data_sn / with_data_sn @ 36;
        buffer_offset / with_buffer_offset @ 40;
        /// Residual count of a response, or desired length of an R2T.
        residual / with_residual @ 44;
    }

    pub fn opcode(&self) -> u8 {
        self.0[0] & opcode::MASK
    }

    pub fn is_immediate(&self) -> bool {
        self.0[0] & opcode::IMMEDIATE != 0
    }

    pub fn flags(&self) -> u8 {
        self.0[1]
    }

    pub fn is_final(&self) -> bool {
        self.0[1] & flag::FINAL != 0
    }

    /// Bytes of additional header segments.
    pub fn ahs_bytes(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// DataSegmentLength, without padding.
    pub fn data_bytes(&self) -> u32 {
        u32::from_be_bytes([0, self.0[5], self.0[6], self.0[7]])
    }

    pub fn lun(&self) -> [u8; 8] {
        let mut lun = [0; 8];
        lun.copy_from_slice(&self.0[8..16]);
        lun
    }

    /// ISID of a login PDU, which is where others have the LUN.
    pub fn isid(&self) -> [u8; 6] {
        let mut isid = [0; 6];
        isid.copy_from_slice(&self.0[8..14]);
        isid
    }

    pub fn tsih(&self) -> u16 {
        u16::from_be_bytes([self.0[14], self.0[15]])
    }

    /// CID of a login or logout request.
    pub fn cid(&self) -> u16 {
        u16::from_be_bytes([self.0[20], self.0[21]])
    }

    pub fn with_flags(mut self, flags: u8) -> Header {
        self.0[1] = flags;
        self
    }

    pub fn with_byte(mut self, at: usize, value: u8) -> Header {
        if let Some(byte) = self.0.get_mut(at) {
            *byte = value;
        }
        self
    }

    pub fn with_bytes(mut self, at: usize, value: &[u8]) -> Header {
        if let Some(bytes) = at.checked_add(value.len()).and_then(|end| self.0.get_mut(at..end)) {
            bytes.copy_from_slice(value);
        }
        self
    }

    /// The lower 24 bits.
    pub fn with_data_bytes(self, len: u32) -> Header {
        self.with_bytes(5, &len.to_be_bytes()[1..])
    }

    /// Takes StatSN, ExpCmdSN and MaxCmdSN.
    pub fn with_numbers(self, stat_sn: u32, exp_cmd_sn: u32, max_cmd_sn: u32) -> Header {
        self.with_stat_sn(stat_sn).with_exp_cmd_sn(exp_cmd_sn).with_max_cmd_sn(max_cmd_sn)
    }
}

/// Bytes that fill a segment up to a multiple of four.
pub fn padding(len: u32) -> u32 {
    len.wrapping_neg() & 3
}

/// Serial number arithmetic (RFC 1982, RFC 7143 4.2.2.1): whether `a` comes before `b`.
pub fn before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < 1 << 31
}

/// Where a command goes: the LUN field, as SAM lays it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Below 16,384.
    Unit(u16),
    /// The REPORT LUNS well known logical unit.
    ReportLuns,
    /// A form that names nothing that could be here.
    Unknown,
}

impl Place {
    pub fn decode(lun: [u8; 8]) -> Place {
        match lun {
            [0xc1, 0x01, 0, 0, 0, 0, 0, 0] => Place::ReportLuns,
            // Peripheral device addressing on bus 0, and flat space addressing.
            [0, low, 0, 0, 0, 0, 0, 0] => Place::Unit(u16::from(low)),
            [high, low, 0, 0, 0, 0, 0, 0] if high >> 6 == 1 => {
                Place::Unit(u16::from_be_bytes([high & 0x3f, low]))
            }
            _ => Place::Unknown,
        }
    }

    /// As REPORT LUNS lists a unit.
    pub fn encode(lun: u16) -> [u8; 8] {
        let [high, low] = (lun & 0x3fff).to_be_bytes();
        let method = if high == 0 { 0x00 } else { 0x40 };
        [method | high, low, 0, 0, 0, 0, 0, 0]
    }
}
