//! What of a unit outlives the process.

use crate::attention::NEXUS_MAX;

/// Version 1: version, flags, one word a nexus, capacity; all little-endian. The capacity stands
/// last, so that a store that is cut short leaves the old one: then [`crate::Unit::restore`] tells
/// of the change again instead of never.
const VERSION: u32 = 1;

/// Length of an encoded [`State`].
pub const STATE_BYTES: usize = 16 + 2 * NEXUS_MAX;

const BLOCKS_AT: usize = STATE_BYTES - 8;

const WRITE_CACHE_OFF: u32 = 1 << 0;
const DESCRIPTOR_SENSE: u32 = 1 << 1;
const STOPPED: u32 = 1 << 2;

/// Version 1 of a unit's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// An initiator cleared WCE.
    pub write_cache_off: bool,
    /// An initiator set D_SENSE.
    pub descriptor_sense: bool,
    /// Stopped by START STOP UNIT.
    pub stopped: bool,
    /// The capacity that initiators were last told of, in blocks.
    pub blocks: u64,
    /// Pending unit attention conditions of each nexus.
    pub attentions: [u16; NEXUS_MAX],
}

impl State {
    pub fn encode(&self) -> [u8; STATE_BYTES] {
        let mut bytes = [0; STATE_BYTES];
        let mut flags = 0;
        for (set, flag) in [
            (self.write_cache_off, WRITE_CACHE_OFF),
            (self.descriptor_sense, DESCRIPTOR_SENSE),
            (self.stopped, STOPPED),
        ] {
            if set {
                flags |= flag;
            }
        }
        bytes[..4].copy_from_slice(&VERSION.to_le_bytes());
        bytes[4..8].copy_from_slice(&flags.to_le_bytes());
        for (into, word) in bytes[8..].chunks_exact_mut(2).zip(self.attentions) {
            into.copy_from_slice(&word.to_le_bytes());
        }
        bytes[BLOCKS_AT..].copy_from_slice(&self.blocks.to_le_bytes());
        bytes
    }

    /// `None`: never stored, or stored by a version that this one does not know.
    pub fn decode(bytes: &[u8; STATE_BYTES]) -> Option<State> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if word(0) != VERSION {
            return None;
        }
        let flags = word(4);
        let mut attentions = [0; NEXUS_MAX];
        for (into, from) in attentions.iter_mut().zip(bytes[8..].chunks_exact(2)) {
            *into = u16::from_le_bytes([from[0], from[1]]);
        }
        Some(State {
            write_cache_off: flags & WRITE_CACHE_OFF != 0,
            descriptor_sense: flags & DESCRIPTOR_SENSE != 0,
            stopped: flags & STOPPED != 0,
            blocks: u64::from(word(BLOCKS_AT)) | u64::from(word(BLOCKS_AT + 4)) << 32,
            attentions,
        })
    }
}
