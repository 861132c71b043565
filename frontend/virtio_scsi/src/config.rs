//! The configuration structure, 5.6.4.

use crate::bits::size;

/// Length of the structure.
pub const CONFIG_BYTES: usize = 36;

/// What a driver starts with: `sense_size` 96 and `cdb_size` 32 (5.6.4).
const SENSE_SIZE_DEFAULT: u32 = 96;
const CDB_SIZE_DEFAULT: u32 = 32;

/// No sense data is longer (SPC-4).
const SENSE_SIZE_MAX: u32 = 252;
/// No CDB is longer: a variable length one has 8 bytes and up to 252 more (SPC-4).
const CDB_SIZE_MAX: u32 = 260;

/// Offsets of what a driver may write.
const SENSE_SIZE_AT: usize = 20;
const CDB_SIZE_AT: usize = 24;

/// The lengths that give requests and responses their layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    cdb: u32,
    sense: u32,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes { cdb: CDB_SIZE_DEFAULT, sense: SENSE_SIZE_DEFAULT }
    }
}

impl Sizes {
    /// Sizes beyond what SCSI has are cut to that.
    pub fn new(cdb: u32, sense: u32) -> Sizes {
        Sizes { cdb: cdb.min(CDB_SIZE_MAX), sense: sense.min(SENSE_SIZE_MAX) }
    }

    pub fn cdb(self) -> usize {
        self.cdb as usize
    }

    pub fn sense(self) -> usize {
        self.sense as usize
    }

    /// Bytes of a request before its data.
    pub(crate) fn request(self) -> usize {
        size::REQUEST_HEADER.saturating_add(self.cdb())
    }

    /// Bytes of a response before its data.
    pub(crate) fn response(self) -> usize {
        size::RESPONSE_HEADER.saturating_add(self.sense())
    }
}

/// The configuration of one device. Its owner sets the public fields; the driver sets the sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Request queues, without the control and the event queue.
    pub num_queues: u32,
    /// Data segments of one request.
    pub seg_max: u32,
    /// Of one request, in sectors of 512 bytes.
    pub max_sectors: u32,
    /// Commands that the driver keeps in flight for one LUN.
    pub cmd_per_lun: u32,
    /// The highest target number.
    pub max_target: u16,
    /// The highest LUN.
    pub max_lun: u32,
    /// Set by the driver.
    pub sizes: Sizes,
}

impl Config {
    /// All the targets and all the LUNs that the addressing has (8 and 14 bits).
    pub fn new(num_queues: u32, seg_max: u32, max_sectors: u32, cmd_per_lun: u32) -> Config {
        Config {
            num_queues,
            seg_max,
            max_sectors,
            cmd_per_lun,
            max_target: 255,
            max_lun: 16_383,
            sizes: Sizes::default(),
        }
    }

    /// The structure as the driver reads it.
    pub fn encode(&self) -> [u8; CONFIG_BYTES] {
        let mut bytes = [0; CONFIG_BYTES];
        let words = [
            self.num_queues,
            self.seg_max,
            self.max_sectors,
            self.cmd_per_lun,
            size::EVENT as u32,
            self.sizes.sense,
            self.sizes.cdb,
            // max_channel, which is always zero, and max_target.
            u32::from(self.max_target) << 16,
            self.max_lun,
        ];
        for (into, word) in bytes.chunks_exact_mut(4).zip(words) {
            into.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Fills `into` from `offset` on; zeroes behind the end.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        into.fill(0);
        let bytes = self.encode();
        for (into, from) in into.iter_mut().zip(bytes.get(offset..).unwrap_or(&[])) {
            *into = *from;
        }
    }

    /// The driver writes; only `sense_size` and `cdb_size` take it. True: they changed.
    pub fn write(&mut self, offset: usize, from: &[u8]) -> bool {
        let mut bytes = self.encode();
        for (into, from) in bytes.get_mut(offset..).unwrap_or(&mut []).iter_mut().zip(from) {
            *into = *from;
        }
        let sizes = Sizes::new(word(&bytes, CDB_SIZE_AT), word(&bytes, SENSE_SIZE_AT));
        let changed = sizes != self.sizes;
        self.sizes = sizes;
        changed
    }

    /// A device reset brings the sizes back.
    pub fn reset(&mut self) {
        self.sizes = Sizes::default();
    }
}

fn word(bytes: &[u8; CONFIG_BYTES], at: usize) -> u32 {
    let mut word = [0; 4];
    for (into, from) in word.iter_mut().zip(bytes.iter().skip(at)) {
        *into = *from;
    }
    u32::from_le_bytes(word)
}
