//! A volume in a raw file.
//!
//! Sparse files stay sparse: what a guest discards becomes a hole again. Where the file system has
//! direct I/O with an alignment that the volume's blocks have, the page cache is left out; else it
//! is used. Either way writes may lie in a volatile cache (the page cache, the drive's, or metadata
//! of the file system), so the volume always says that it has a write cache, and a flush is an
//! fdatasync.
//!
//! A volume whose blocks are smaller than what the file system's direct I/O takes (512-byte blocks on a
//! disk of 4096, mostly) uses the page cache as well: it reads the rest of a block before it writes
//! one, and keeps two writes into one block apart, which is what a disk of that kind does inside.
//!
//! The transfers themselves are in [`disk_ring`].

#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use disk::{Data, Disk};
use disk_ring::{Backing, DiscardBy, DiskRing};
use host::file::{self, Kind};
use host::ring::{Client, Ring};
use request::{Blocks, Discard, Facts, Identity, Instant, Lba, Operation, Run, Status};

/// What to open, and how.
#[derive(Clone, Debug)]
pub struct Options {
    pub path: PathBuf,
    pub read_only: bool,
    /// 512, 2048 or 4096. A file whose length is no multiple of it has bytes behind its last block
    /// that are not part of the volume.
    pub block_size: u32,
    /// What guests are told to align to, if not the file system's own block: 512 or 4096.
    pub physical_block_size: Option<u32>,
    /// Without the page cache, if the file system can.
    pub direct: bool,
    pub identity: Identity,
    /// How long to wait for somebody who uses the file. The successor of a killed worker has
    /// patience: the dead one's last requests still hold it.
    pub patience: Duration,
}

/// Why a volume could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("{}: in use by another process; a volume has one user at a time", path.display())]
    InUse { path: PathBuf },
    #[error("{}: {bytes} bytes are less than one block of {block_size}", path.display())]
    TooSmall { path: PathBuf, bytes: u64, block_size: u32 },
    #[error("block size {0} is none of 512, 2048 and 4096")]
    BlockSize(u32),
    #[error("physical block size {physical} is not a power of two from the block size {block_size} to 65536")]
    PhysicalBlockSize { physical: u32, block_size: u32 },
}

/// A volume in a raw file.
pub struct DiskFile(DiskRing);

impl DiskFile {
    pub fn open(ring: Rc<Ring>, options: Options) -> Result<Self, OpenError> {
        if !matches!(options.block_size, 512 | 2048 | 4096) {
            return Err(OpenError::BlockSize(options.block_size));
        }
        let (backing, facts) = prepare(options)?;
        Ok(Self(DiskRing::new(ring, backing, facts)))
    }

    /// Whose results the ring names.
    pub fn client(&self) -> Client {
        self.0.client()
    }

    /// Whether transfers go past the page cache.
    pub fn is_direct(&self) -> bool {
        self.0.backing().direct.is_some()
    }

    /// Bytes that the volume takes from its store.
    pub fn allocated(&self) -> io::Result<u64> {
        file::allocated(&self.0.backing().file)
    }
}

fn prepare(options: Options) -> Result<(Backing, Facts), OpenError> {
    let Options { path, read_only, block_size, physical_block_size, direct, identity, patience } = options;
    let failed = |error| OpenError::Io { path: path.clone(), error };
    let file = file::open(&path, read_only, false).map_err(failed)?;
    if file::kind(&file).map_err(failed)? != Kind::File {
        return Err(OpenError::NotAFile { path });
    }
    if !file::lock(&file, read_only, patience).map_err(failed)? {
        return Err(OpenError::InUse { path });
    }
    let bytes = file::size(&file).map_err(failed)?;
    let blocks = Blocks(bytes / u64::from(block_size));
    if blocks.0 == 0 {
        return Err(OpenError::TooSmall { path, bytes, block_size });
    }
    let direct = if direct { file::make_direct(&file, block_size).map_err(failed)? } else { None };
    let punches = !read_only && file::punches_holes(&file).map_err(failed)?;
    // A power of two on every file system known; the guest's physical block and the unit of holes.
    let unit = file::block(&file).map_err(failed)?.clamp(block_size, 64 << 10).next_power_of_two();
    let physical = physical_block_size.unwrap_or(unit.min(4096).max(block_size));
    let physical_exponent = disk_ring::physical_exponent(physical, block_size)
        .ok_or(OpenError::PhysicalBlockSize { physical, block_size })?;
    let atomic = match read_only {
        true => None,
        false => disk_ring::promise(&file, direct.is_some(), block_size).map_err(failed)?,
    };
    let facts = Facts {
        block_size,
        blocks,
        physical_exponent,
        optimal: Blocks(0),
        read_only,
        rotational: file::is_rotational(&file).map_err(failed)?.unwrap_or(false),
        write_cache: true,
        discard: punches
            .then_some(Discard { granularity: Blocks(u64::from(unit / block_size)), zeroes: true }),
        atomic,
        identity,
    };
    let backing = Backing {
        file: Rc::new(file),
        name: path.display().to_string(),
        direct,
        discard: if punches { DiscardBy::Hole } else { DiscardBy::Nothing },
        allocates: true,
        tells_holes: true,
        may_be_truncated: true,
    };
    Ok((backing, facts))
}

impl Disk for DiskFile {
    fn facts(&self) -> &Facts {
        self.0.facts()
    }

    fn submit(&mut self, now: Instant, tag: u32, operation: Operation, data: Data<'_>) {
        self.0.submit(now, tag, operation, data);
    }

    fn poll(&mut self, now: Instant, done: &mut dyn FnMut(u32, Status)) {
        self.0.poll(now, done);
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.0.next_deadline()
    }

    fn resize(&mut self) -> bool {
        self.0.resize()
    }

    fn allocation(&mut self, from: Lba) -> Run {
        self.0.allocation(from)
    }

    fn take_cause(&mut self) -> Option<String> {
        self.0.take_cause()
    }
}

#[cfg(test)]
mod tests;
