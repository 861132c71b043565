//! A protocol data unit as bytes (RFC 7143 11).

/// The basic header segment.
pub const BHS_BYTES: usize = 48;
/// A tag that is none, in both directions.
pub const NO_TAG: u32 = 0xffff_ffff;
/// The bit of byte 0 that makes a request immediate.
pub const IMMEDIATE: u8 = 0x40;
/// The bit of byte 1 that most PDUs have: final.
pub const FINAL: u8 = 0x80;

/// What an initiator sends (RFC 7143 11.2.1.2).
pub mod request {
    pub const NOP_OUT: u8 = 0x00;
    pub const SCSI_COMMAND: u8 = 0x01;
    pub const TASK_MANAGEMENT: u8 = 0x02;
    pub const LOGIN: u8 = 0x03;
    pub const TEXT: u8 = 0x04;
    pub const DATA_OUT: u8 = 0x05;
    pub const LOGOUT: u8 = 0x06;
    pub const SNACK: u8 = 0x10;
}

/// What a target sends.
pub mod response {
    pub const NOP_IN: u8 = 0x20;
    pub const SCSI_RESPONSE: u8 = 0x21;
    pub const TASK_MANAGEMENT: u8 = 0x22;
    pub const LOGIN: u8 = 0x23;
    pub const TEXT: u8 = 0x24;
    pub const DATA_IN: u8 = 0x25;
    pub const LOGOUT: u8 = 0x26;
    pub const R2T: u8 = 0x31;
    pub const ASYNC: u8 = 0x32;
    pub const REJECT: u8 = 0x3f;
}

/// A PDU: its header, additional headers (padded) and data (not padded).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pdu {
    pub bhs: [u8; BHS_BYTES],
    pub ahs: Vec<u8>,
    pub data: Vec<u8>,
}

impl Pdu {
    /// Byte 0 as given: add [`IMMEDIATE`] to the opcode for an immediate request.
    pub fn new(opcode: u8) -> Pdu {
        let mut bhs = [0; BHS_BYTES];
        bhs[0] = opcode;
        Pdu { bhs, ahs: Vec::new(), data: Vec::new() }
    }

    pub fn opcode(&self) -> u8 {
        self.bhs[0] & 0x3f
    }

    /// Byte 1: FINAL and what the opcode has there.
    pub fn flags(&self) -> u8 {
        self.bhs[1]
    }

    pub fn with_flags(mut self, flags: u8) -> Pdu {
        self.bhs[1] = flags;
        self
    }

    pub fn with_data(mut self, data: &[u8]) -> Pdu {
        self.data = data.to_vec();
        self
    }

    pub fn byte(&self, at: usize) -> u8 {
        self.bhs[at]
    }

    pub fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.bhs[at], self.bhs[at + 1]])
    }

    pub fn word(&self, at: usize) -> u32 {
        word(&self.bhs, at)
    }

    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        self.bhs[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn set_word(&mut self, at: usize, value: u32) {
        self.set(at, &value.to_be_bytes());
    }

    pub fn with_word(mut self, at: usize, value: u32) -> Pdu {
        self.set_word(at, value);
        self
    }

    /// Initiator Task Tag.
    pub fn itt(&self) -> u32 {
        self.word(16)
    }

    /// Target Transfer Tag, in the PDUs that have one.
    pub fn ttt(&self) -> u32 {
        self.word(20)
    }

    /// StatSN, ExpCmdSN and MaxCmdSN of a response stand at the same place in all of them.
    pub fn stat_sn(&self) -> u32 {
        self.word(24)
    }

    pub fn exp_cmd_sn(&self) -> u32 {
        self.word(28)
    }

    pub fn max_cmd_sn(&self) -> u32 {
        self.word(32)
    }

    /// The whole PDU with its lengths, padding and digests.
    pub fn encode(&self, header_digest: bool, data_digest: bool) -> Vec<u8> {
        let mut bhs = self.bhs;
        bhs[4] = (self.ahs.len() / 4) as u8;
        bhs[5..8].copy_from_slice(&(self.data.len() as u32).to_be_bytes()[1..]);
        let mut bytes = bhs.to_vec();
        bytes.extend_from_slice(&self.ahs);
        if header_digest {
            bytes.extend(digest(&bytes));
        }
        if !self.data.is_empty() {
            let start = bytes.len();
            bytes.extend_from_slice(&self.data);
            bytes.resize(start + padded(self.data.len()), 0);
            if data_digest {
                let digest = digest(&bytes[start..]);
                bytes.extend(digest);
            }
        }
        bytes
    }
}

#[inline]
pub fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// DataSegmentLength of a header.
#[inline]
pub fn data_len(bhs: &[u8]) -> usize {
    word(bhs, 4) as usize & 0x00ff_ffff
}

/// TotalAHSLength of a header, in bytes.
#[inline]
pub fn ahs_len(bhs: &[u8]) -> usize {
    usize::from(bhs[4]) * 4
}

#[inline]
pub fn padded(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// CRC32C as it stands on the wire: least significant byte first (RFC 7143 13.1, RFC 3720 B.4).
#[inline]
pub fn digest(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).to_le_bytes()
}

/// A LUN as the eight bytes of SAM-5: peripheral device addressing below 256, flat space above.
pub fn lun_field(lun: u16) -> [u8; 8] {
    let [high, low] = lun.to_be_bytes();
    let method = if lun < 256 { 0 } else { 0x40 };
    [high | method, low, 0, 0, 0, 0, 0, 0]
}

/// An additional header segment for the bytes of a CDB behind the 16th (RFC 7143 11.2.2.3).
pub fn extended_cdb(rest: &[u8]) -> Vec<u8> {
    // AHSLength counts the reserved byte before the CDB's bytes, and no padding.
    let mut ahs = (rest.len() as u16 + 1).to_be_bytes().to_vec();
    ahs.extend([0x01, 0]);
    ahs.extend_from_slice(rest);
    ahs.resize(padded(ahs.len()), 0);
    ahs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standard() {
        // RFC 3720 B.4: 32 bytes of zeroes, of ones, ascending, and a SCSI READ(10) command PDU.
        assert_eq!(digest(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(digest(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(digest(&ascending), [0x4e, 0x79, 0xdd, 0x46]);
        let mut command = Pdu::new(0x01).with_flags(0xc0);
        command.set(16, &[0x14, 0, 0, 0, 0, 0, 0x04, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18, 0x28]);
        command.set(40, &[0x02]);
        assert_eq!(command.encode(true, true)[48..], [0x56, 0x3a, 0x96, 0xd9]);
    }

    #[test]
    fn lengths_and_padding_are_made() {
        let mut pdu = Pdu::new(request::SCSI_COMMAND).with_data(&[7; 5]);
        pdu.ahs = extended_cdb(&[9; 16]);
        let bytes = pdu.encode(false, false);
        assert_eq!(bytes[4..8], [5, 0, 0, 5]);
        assert_eq!(bytes[48..52], [0, 17, 1, 0]);
        assert_eq!(bytes[68..], [7, 7, 7, 7, 7, 0, 0, 0]);
        assert_eq!(pdu.encode(true, true).len(), bytes.len() + 8);
        assert_eq!(lun_field(300), [0x41, 0x2c, 0, 0, 0, 0, 0, 0]);
        assert_eq!(lun_field(9), [0, 9, 0, 0, 0, 0, 0, 0]);
    }
}
