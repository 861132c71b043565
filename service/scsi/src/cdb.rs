//! A CDB as fields. SCSI is big-endian throughout.

/// The longest CDB in the table of rows.
pub const CDB_MAX_BYTES: usize = 16;

/// A CDB, padded with zeroes: every field can be read, and the row has checked that the bytes that
/// it names were there.
#[derive(Clone, Copy, Debug)]
pub struct Cdb([u8; CDB_MAX_BYTES]);

impl Cdb {
    pub fn new(bytes: &[u8]) -> Cdb {
        let mut padded = [0; CDB_MAX_BYTES];
        let len = bytes.len().min(CDB_MAX_BYTES);
        padded[..len].copy_from_slice(&bytes[..len]);
        Cdb(padded)
    }

    /// All bytes as one number, byte 0 lowest.
    pub fn word(&self) -> u128 {
        u128::from_le_bytes(self.0)
    }

    pub fn byte(&self, at: usize) -> u8 {
        self.0[at]
    }

    pub fn bit(&self, at: usize, bit: u8) -> bool {
        self.0[at] >> bit & 1 != 0
    }

    pub fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.array(at))
    }

    /// Three bytes.
    pub fn u24(&self, at: usize) -> u32 {
        let [a, b, c] = self.array(at);
        u32::from_be_bytes([0, a, b, c])
    }

    pub fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }

    pub fn u64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.array(at))
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.0[at..at + N]);
        bytes
    }
}
