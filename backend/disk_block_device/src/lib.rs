//! A volume on a block device of the host.
//!
//! The device is claimed (`O_EXCL`), so that a file system which is mounted on it, or another
//! server, is not written over; the page cache is left out. Its block size, cache and limits are the
//! guest's, unless the volume is given a block size of its own: one that is smaller than the device's
//! goes by the page cache, which reads the rest of a block before it writes one.
//!
//! A guest's discard is the device's own discard, which promises nothing about what is read
//! afterwards; a kernel before Linux 6.12 has no way to do that without a thread, and there a hole is
//! asked for instead, which reads as zeroes. Zeroes are left to the device where it can write them by
//! itself. The transfers are in [`disk_ring`].

#![forbid(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant as Clock};

use disk::{Data, Disk};
use disk_ring::{Backing, DiscardBy, DiskRing};
use host::file::{self, Geometry, Kind};
use host::ring::{Client, Ring};
use request::{Blocks, Discard, Facts, Identity, Instant, Lba, Operation, Run, Status};

/// What to open, and how.
#[derive(Clone, Debug)]
pub struct Options {
    pub path: PathBuf,
    pub read_only: bool,
    /// 512, 2048 or 4096, if it is not to be the device's own.
    pub block_size: Option<u32>,
    /// What guests are told to align to, if it is not to be the device's own.
    pub physical_block_size: Option<u32>,
    pub identity: Identity,
    /// How long to wait for somebody who uses the device. The successor of a killed worker has
    /// patience: the dead one's last requests still hold it.
    pub patience: Duration,
}

/// Why a volume could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: not a block device", path.display())]
    NotABlockDevice { path: PathBuf },
    #[error("{}: in use, as a mounted file system, a part of another device, or by another server", path.display())]
    InUse { path: PathBuf },
    #[error("{}: the device is write protected; give it read-only", path.display())]
    WriteProtected { path: PathBuf },
    #[error("{}: blocks of {block_size} bytes; only 512, 2048 and 4096 are supported", path.display())]
    BlockSize { path: PathBuf, block_size: u32 },
    #[error("{}: physical block size {physical} is not a power of two from the block size {block_size} to 65536", path.display())]
    PhysicalBlockSize { path: PathBuf, physical: u32, block_size: u32 },
    #[error("{}: the device has no medium, or no blocks", path.display())]
    Empty { path: PathBuf },
}

/// A volume on a block device.
pub struct DiskBlockDevice(DiskRing);

impl DiskBlockDevice {
    pub fn open(ring: Rc<Ring>, options: Options) -> Result<Self, OpenError> {
        let (backing, facts) = prepare(options)?;
        Ok(Self(DiskRing::new(ring, backing, facts)))
    }

    /// Whose results the ring names.
    pub fn client(&self) -> Client {
        self.0.client()
    }
}

fn prepare(options: Options) -> Result<(Backing, Facts), OpenError> {
    let Options { path, read_only, block_size, physical_block_size, identity, patience } = options;
    let name = || path.clone();
    let failed = |error| OpenError::Io { path: name(), error };
    // Looked at before it is opened: opening a tape or a watchdog has effects.
    if !is_block_device(&path).map_err(failed)? {
        return Err(OpenError::NotABlockDevice { path: name() });
    }
    let begin = Clock::now();
    let file = loop {
        // A reader does not claim: many may read one device.
        match file::open(&path, read_only, !read_only) {
            Ok(file) => break file,
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                if begin.elapsed() >= patience {
                    return Err(OpenError::InUse { path: name() });
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            Err(error) => return Err(failed(error)),
        }
    };
    if file::kind(&file).map_err(failed)? != Kind::BlockDevice {
        return Err(OpenError::NotABlockDevice { path: name() });
    }
    // The claim above does not see somebody who only reads or writes; the lock sees QEMU.
    if !file::lock(&file, read_only, patience.saturating_sub(begin.elapsed())).map_err(failed)? {
        return Err(OpenError::InUse { path: name() });
    }
    let geometry = Geometry::of(&file).map_err(failed)?;
    let block_size = block_size.unwrap_or(geometry.logical_block);
    if !matches!(block_size, 512 | 2048 | 4096) {
        return Err(OpenError::BlockSize { path: name(), block_size });
    }
    if geometry.read_only && !read_only {
        return Err(OpenError::WriteProtected { path: name() });
    }
    let blocks = Blocks(geometry.bytes / u64::from(block_size));
    if blocks.0 == 0 {
        return Err(OpenError::Empty { path: name() });
    }
    let direct = file::make_direct(&file, block_size).map_err(failed)?;
    let allocates = block_size >= geometry.logical_block;
    let discard = match geometry.discard_granularity {
        0 => DiscardBy::Nothing,
        _ if read_only || !allocates => DiscardBy::Nothing,
        _ if file::discards_by_ring(&file).map_err(failed)? => DiscardBy::Command,
        _ if geometry.writes_zeroes => DiscardBy::Hole,
        _ => DiscardBy::Nothing,
    };
    let atomic = match read_only {
        true => None,
        false => disk_ring::promise(&file, direct.is_some(), block_size).map_err(failed)?,
    };
    // Devices have been seen that tell a size of zero, or one that is no power of two.
    let told = geometry.physical_block.clamp(block_size, 64 << 10);
    let told = if told.is_power_of_two() { told } else { block_size };
    let physical = physical_block_size.unwrap_or(told);
    let Some(physical_exponent) = disk_ring::physical_exponent(physical, block_size) else {
        return Err(OpenError::PhysicalBlockSize { path, physical, block_size });
    };
    let granularity = Blocks(u64::from((geometry.discard_granularity / block_size).max(1)));
    let facts = Facts {
        block_size,
        blocks,
        physical_exponent,
        optimal: Blocks(u64::from(geometry.optimal_transfer / block_size)),
        read_only,
        rotational: geometry.rotational,
        // With page cache, if there is no other way, writes are volatile whatever the device says.
        write_cache: geometry.write_cache || direct.is_none(),
        discard: (discard != DiscardBy::Nothing)
            .then_some(Discard { granularity, zeroes: discard == DiscardBy::Hole }),
        atomic,
        identity,
    };
    let backing = Backing {
        file: Rc::new(file),
        name: path.display().to_string(),
        direct,
        discard,
        allocates,
        tells_holes: false,
        may_be_truncated: false,
    };
    Ok((backing, facts))
}

fn is_block_device(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::FileTypeExt;
    Ok(std::fs::metadata(path)?.file_type().is_block_device())
}

impl Disk for DiskBlockDevice {
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
