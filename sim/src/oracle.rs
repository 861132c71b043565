//! What a guest may find on its disk.

use std::collections::BTreeSet;

pub const BLOCK: usize = 512;

/// What was written into a block: zero is zeroes, everything else a number of its own.
pub type Version = u64;

/// A block's bytes under a version: each word says where it belongs, so that a mixture of two
/// versions, or of two blocks, is no version at all.
pub fn fill(block: u64, version: Version, bytes: &mut [u8]) {
    for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
        let value = if version == 0 { 0 } else { word_of(block, version, index as u64) };
        word.copy_from_slice(&value.to_le_bytes());
    }
}

fn word_of(block: u64, version: Version, index: u64) -> u64 {
    version << 20 | (block & 0x3fff) << 6 | index
}

/// The version that the bytes are, if they are one.
pub fn version_of(block: u64, bytes: &[u8]) -> Option<Version> {
    let first = u64::from_le_bytes(bytes.first_chunk::<8>().copied()?);
    let version = first >> 20;
    let mut expected = vec![0; bytes.len()];
    fill(block, version, &mut expected);
    (expected == bytes).then_some(version)
}

#[derive(Clone, Debug, Default)]
struct Block {
    /// What a read may find now: one version, or several after a write that failed.
    now: BTreeSet<Version>,
    /// What it may be turned back to by a power cut, with the moment at which each was written.
    cut: BTreeSet<(u64, Version)>,
    /// When it was last written durably.
    durable_at: u64,
}

/// All that a disk has promised its guest.
#[derive(Clone, Debug)]
pub struct Oracle {
    blocks: Vec<Block>,
    moment: u64,
}

/// What was true when a flush began.
pub struct BeforeFlush {
    moment: u64,
    now: Vec<BTreeSet<Version>>,
}

impl Oracle {
    /// A disk of zeroes.
    pub fn new(blocks: usize) -> Self {
        let block = Block { now: [0].into(), cut: [(0, 0)].into(), durable_at: 0 };
        Self { blocks: vec![block; blocks], moment: 1 }
    }

    pub fn len(&self) -> u64 {
        self.blocks.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// A write ended well.
    pub fn wrote(&mut self, at: u64, version: Version, durable: bool) {
        self.moment += 1;
        let block = &mut self.blocks[at as usize];
        block.now = [version].into();
        if durable {
            block.cut.clear();
            block.durable_at = self.moment;
        }
        block.cut.insert((self.moment, version));
    }

    /// A write failed, or was under way when the power went: it was done or not.
    pub fn may_have_written(&mut self, at: u64, version: Version) {
        self.moment += 1;
        let block = &mut self.blocks[at as usize];
        block.now.insert(version);
        block.cut.insert((self.moment, version));
    }

    pub fn flush_begins(&self) -> BeforeFlush {
        BeforeFlush { moment: self.moment, now: self.blocks.iter().map(|block| block.now.clone()).collect() }
    }

    /// A flush ended well: what had been written before it began is durable.
    pub fn flushed(&mut self, before: &BeforeFlush) {
        for (block, now) in self.blocks.iter_mut().zip(&before.now) {
            block.cut.retain(|(moment, _)| *moment > before.moment);
            if block.durable_at <= before.moment {
                block.cut.extend(now.iter().map(|version| (before.moment, *version)));
            }
        }
    }

    pub fn power_was_cut(&mut self) {
        for block in &mut self.blocks {
            let versions: BTreeSet<Version> = block.cut.iter().map(|(_, version)| *version).collect();
            block.now.extend(versions);
            block.cut = block.now.iter().map(|version| (self.moment, *version)).collect();
        }
    }

    /// A read found these bytes. `false`: it must not have.
    pub fn read(&mut self, at: u64, bytes: &[u8]) -> bool {
        let block = &mut self.blocks[at as usize];
        match version_of(at, bytes) {
            Some(version) if block.now.contains(&version) => {
                block.now = [version].into();
                true
            }
            _ => false,
        }
    }

    pub fn expected(&self, at: u64) -> Vec<Version> {
        self.blocks[at as usize].now.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(block: u64, version: Version) -> Vec<u8> {
        let mut bytes = vec![0; BLOCK];
        fill(block, version, &mut bytes);
        bytes
    }

    #[test]
    fn wrong_stale_and_torn_blocks_are_found_out() {
        let mut oracle = Oracle::new(4);
        oracle.wrote(2, 7, false);
        oracle.wrote(2, 8, false);
        assert!(oracle.read(2, &bytes(2, 8)));
        assert!(!oracle.read(2, &bytes(2, 7)));
        assert!(!oracle.read(2, &bytes(1, 8)));
        let mut torn = bytes(2, 8);
        torn[256..].copy_from_slice(&bytes(2, 7)[256..]);
        assert!(!oracle.read(2, &torn));
        assert!(oracle.read(3, &bytes(3, 0)));
    }

    #[test]
    fn a_power_cut_takes_what_was_not_flushed_and_nothing_else() {
        let mut oracle = Oracle::new(3);
        oracle.wrote(0, 1, false);
        oracle.wrote(1, 2, true);
        let flush = oracle.flush_begins();
        oracle.wrote(0, 3, false);
        oracle.flushed(&flush);
        oracle.power_was_cut();
        assert_eq!(oracle.expected(0), [1, 3]);
        assert_eq!(oracle.expected(1), [2]);
        assert!(oracle.read(0, &bytes(0, 1)));
        assert!(!oracle.read(0, &bytes(0, 3)));
    }
}
