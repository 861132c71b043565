//! Which blocks have a place in the store.

use host::extents::{self, Space};
use host::ring::Failure;
use request::{Blocks, Lba, Provisioning, Run};

use crate::DiskRing;

impl DiskRing {
    /// Beside the ring, for which the kernel has no such request: it looks at the file's map, in
    /// memory as a rule.
    pub(crate) fn run_at(&mut self, from: Lba) -> Run {
        let shift = self.facts.shift();
        let rest = Blocks(self.facts.blocks.0.saturating_sub(from.0));
        let unknown = Run { blocks: rest, state: Provisioning::Mapped };
        if !self.backing.tells_holes || rest.0 == 0 {
            return unknown;
        }
        let end = self.facts.capacity_bytes();
        match extents::space(&self.backing.file, from.0 << shift, end) {
            Ok((space, until)) => in_blocks(space, from, until, shift, rest),
            Err(error) => {
                let failure = Failure::Errno(error.raw_os_error().unwrap_or(host::errno::EIO));
                self.note("look for holes", failure);
                unknown
            }
        }
    }
}

/// A block of which a part has a place is mapped: the file system's blocks may be smaller.
fn in_blocks(space: Space, from: Lba, until: u64, shift: u8, rest: Blocks) -> Run {
    let block = 1u64 << shift;
    let whole = (until >> shift).saturating_sub(from.0);
    let touched = until.div_ceil(block).saturating_sub(from.0).min(rest.0);
    match space {
        Space::Hole if whole > 0 => Run { blocks: Blocks(whole), state: Provisioning::Deallocated },
        Space::Unwritten if whole > 0 => Run { blocks: Blocks(whole), state: Provisioning::Anchored },
        Space::Hole | Space::Unwritten => Run { blocks: Blocks(1), state: Provisioning::Mapped },
        Space::Data => Run { blocks: Blocks(touched.max(1)), state: Provisioning::Mapped },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_with_a_place_for_a_part_of_it_is_mapped() {
        let run = |space, from, until| {
            let run = in_blocks(space, Lba(from), until, 12, Blocks(100 - from));
            (run.blocks.0, run.state)
        };
        assert_eq!(run(Space::Hole, 0, 16_384), (4, Provisioning::Deallocated));
        assert_eq!(run(Space::Hole, 0, 17_408), (4, Provisioning::Deallocated));
        assert_eq!(run(Space::Hole, 4, 17_408), (1, Provisioning::Mapped));
        assert_eq!(run(Space::Data, 4, 21_504), (2, Provisioning::Mapped));
        assert_eq!(run(Space::Data, 4, 20_480), (1, Provisioning::Mapped));
        assert_eq!(run(Space::Unwritten, 1, 12_288), (2, Provisioning::Anchored));
        assert_eq!(run(Space::Data, 98, 4096 * 100), (2, Provisioning::Mapped));
    }
}
