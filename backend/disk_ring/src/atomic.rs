//! Which writes a power cut leaves whole.
//!
//! The kernel promises lengths that are powers of two, each at a multiple of itself. A range of
//! lengths with one alignment and one granularity, which is how SCSI tells it, can hold several of
//! them only by promising others too (of 4 and 16 KiB, also 12). So one length is promised.

use std::fs::File;
use std::io;

use host::file;
use request::{Atomic, Blocks};

/// The longest length that is of use: the page of the databases that would write it twice otherwise
/// (InnoDB's 16 KiB; PostgreSQL's is 8).
const UNIT_MAX_BYTES: u32 = 16 << 10;

/// What the kernel promises for this file or block device. `direct`: it is used without page cache,
/// which a promise depends on.
pub fn promise(file: &File, direct: bool, block_size: u32) -> io::Result<Option<Atomic>> {
    let units = if direct { file::atomic_units(file)? } else { None };
    Ok(units.and_then(|units| in_blocks(units, block_size)))
}

fn in_blocks(units: file::AtomicUnits, block_size: u32) -> Option<Atomic> {
    let unit = units.max.min(UNIT_MAX_BYTES).max(units.min);
    // More than a bounce buffer holds could not be written in one piece.
    let fits = (block_size..=crate::BOUNCE_BYTES).contains(&unit);
    let blocks = Blocks(u64::from(unit / block_size));
    fits.then_some(Atomic { max: blocks, alignment: blocks, granularity: blocks })
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::file::AtomicUnits;

    #[test]
    fn one_length_is_promised_which_the_kernel_takes_wherever_it_is_aligned() {
        let unit = |min, max, block_size| {
            let atomic = in_blocks(AtomicUnits { min, max }, block_size)?;
            assert_eq!((atomic.alignment, atomic.granularity), (atomic.max, atomic.max));
            Some(atomic.max.0)
        };
        assert_eq!(unit(4096, 4096, 512), Some(8));
        assert_eq!(unit(4096, 65_536, 512), Some(32));
        assert_eq!(unit(4096, 65_536, 4096), Some(4));
        assert_eq!(unit(32_768, 65_536, 512), Some(64));
        assert_eq!(unit(512, 512, 512), Some(1));
        assert_eq!(unit(512, 2048, 4096), None);
        assert_eq!(unit(1 << 20, 1 << 20, 512), None);
    }
}
