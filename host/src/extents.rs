//! Which parts of a file have a place in its store.
//!
//! FIEMAP is asked first: it stops after as many extents as it was asked for, so that a file in a
//! million pieces costs no more than another. It tells preallocated space from written space, except
//! that bytes which are still in the page cache count as preallocated; SEEK_DATA knows about those.
//! Where there is no FIEMAP (tmpfs, some network file systems), SEEK_DATA and SEEK_HOLE alone tell.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Extents that one answer is made of at most.
const EXTENTS_MAX: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Bytes that were written.
    Data,
    /// Space that is kept, and reads as zeroes.
    Unwritten,
    /// No space; reads as zeroes.
    Hole,
}

/// What lies at `from`, and where that ends: behind `from`, at `end` at the latest, and perhaps
/// before something of the same kind.
pub fn space(file: &File, from: u64, end: u64) -> io::Result<(Space, u64)> {
    if from >= end {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "nothing lies behind the end"));
    }
    let Some(extents) = extents(file, from, end - from)? else { return by_seeking(file, from, end) };
    let mut found: Option<(Space, u64)> = None;
    for extent in extents.iter() {
        let begin = extent.fe_logical;
        let kind =
            if extent.fe_flags & FIEMAP_EXTENT_UNWRITTEN == 0 { Space::Data } else { Space::Unwritten };
        let behind = begin.saturating_add(extent.fe_length).min(end);
        match found {
            None if begin > from => return Ok((Space::Hole, begin.min(end))),
            None if behind > from => found = Some((kind, behind)),
            Some((same, until)) if same == kind && begin == until => found = Some((kind, behind)),
            Some(_) => break,
            None => {}
        }
    }
    match found {
        None => Ok((Space::Hole, end)),
        Some((Space::Unwritten, until)) => match by_seeking(file, from, until)? {
            (Space::Data, until) => Ok((Space::Data, until)),
            (_, until) => Ok((Space::Unwritten, until)),
        },
        Some(found) => Ok(found),
    }
}

fn by_seeking(file: &File, from: u64, end: u64) -> io::Result<(Space, u64)> {
    match seek(file, from, libc::SEEK_DATA)? {
        Some(data) if data <= from => {
            let hole = seek(file, from, libc::SEEK_HOLE)?;
            // There is a hole at the end of every file, unless it was just made shorter.
            Ok((Space::Data, hole.filter(|hole| *hole > from).unwrap_or(end).min(end)))
        }
        Some(data) => Ok((Space::Hole, data.min(end))),
        None => Ok((Space::Hole, end)),
    }
}

/// `None`: there is nothing of that kind behind `from`.
fn seek(file: &File, from: u64, whence: i32) -> io::Result<Option<u64>> {
    let from = libc::off_t::try_from(from).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: no pointers are passed. The file's position moves, and nobody here reads from it.
    match unsafe { libc::lseek(file.as_raw_fd(), from, whence) } {
        -1 => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            error => Err(error),
        },
        at => Ok(Some(at as u64)),
    }
}

/// linux/fiemap.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct Extent {
    fe_logical: u64,
    fe_physical: u64,
    fe_length: u64,
    fe_reserved64: [u64; 2],
    fe_flags: u32,
    fe_reserved: [u32; 3],
}

#[repr(C)]
struct Fiemap {
    fm_start: u64,
    fm_length: u64,
    fm_flags: u32,
    fm_mapped_extents: u32,
    fm_extent_count: u32,
    fm_reserved: u32,
    fm_extents: [Extent; EXTENTS_MAX],
}

const FIEMAP_EXTENT_UNWRITTEN: u32 = 0x800;
/// `_IOWR('f', 11, struct fiemap)`, whose array counts as empty: 32 bytes.
const FS_IOC_FIEMAP: libc::Ioctl = 0xc020_660b_u32 as libc::Ioctl;

struct Found {
    map: Fiemap,
}

impl Found {
    fn iter(&self) -> impl Iterator<Item = &Extent> {
        self.map.fm_extents.iter().take(self.map.fm_mapped_extents as usize)
    }
}

/// The extents that touch these bytes, in order; `None`: the file system cannot tell.
fn extents(file: &File, from: u64, len: u64) -> io::Result<Option<Found>> {
    let none = Extent {
        fe_logical: 0,
        fe_physical: 0,
        fe_length: 0,
        fe_reserved64: [0; 2],
        fe_flags: 0,
        fe_reserved: [0; 3],
    };
    let mut map = Fiemap {
        fm_start: from,
        fm_length: len,
        fm_flags: 0,
        fm_mapped_extents: 0,
        fm_extent_count: EXTENTS_MAX as u32,
        fm_reserved: 0,
        fm_extents: [none; EXTENTS_MAX],
    };
    loop {
        // SAFETY: the kernel writes the header and at most `fm_extent_count` extents, for which there
        // is room.
        if unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut map) } == 0 {
            return Ok(Some(Found { map }));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::ENOSYS) => return Ok(None),
            _ => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};

    const MIB: u64 = 1 << 20;

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn runs(file: &File, end: u64) -> Vec<(Space, u64)> {
        let (mut at, mut runs) = (0, Vec::<(Space, u64)>::new());
        while at < end {
            let (kind, until) = space(file, at, end).unwrap();
            assert!(until > at && until <= end);
            match runs.last_mut() {
                Some(last) if last.0 == kind => last.1 = until,
                _ => runs.push((kind, until)),
            }
            at = until;
        }
        runs
    }

    fn tells_holes_from_data(folder: &Path) {
        let path = Scratch(folder.join(format!("standpipe-extents-{}", std::process::id())));
        let file = file::create(&path.0, 4 * MIB).unwrap();
        assert_eq!(runs(&file, 4 * MIB), [(Space::Hole, 4 * MIB)]);
        file.write_all_at(&vec![1; MIB as usize], MIB).unwrap();
        let expected = [(Space::Hole, MIB), (Space::Data, 2 * MIB), (Space::Hole, 4 * MIB)];
        assert_eq!(runs(&file, 4 * MIB), expected, "in the page cache");
        file.sync_all().unwrap();
        assert_eq!(runs(&file, 4 * MIB), expected, "on the disk");
        assert_eq!(space(&file, MIB + 512, 4 * MIB).unwrap(), (Space::Data, 2 * MIB));
        assert_eq!(space(&file, 2 * MIB + 512, 3 * MIB).unwrap(), (Space::Hole, 3 * MIB));
        assert!(space(&file, 4 * MIB, 4 * MIB).is_err());
    }

    #[test]
    fn holes_and_data_are_told_apart() {
        tells_holes_from_data(&std::env::temp_dir());
        if Path::new("/dev/shm").is_dir() {
            tells_holes_from_data(Path::new("/dev/shm"));
        } else {
            println!("skipped: no /dev/shm here");
        }
    }

    #[test]
    fn what_is_kept_and_not_written_is_told_apart_from_both() {
        let path = Scratch(std::env::temp_dir().join(format!("standpipe-kept-{}", std::process::id())));
        let file = file::create(&path.0, 4 * MIB).unwrap();
        if extents(&file, 0, 4 * MIB).unwrap().is_none() {
            println!("skipped: no FIEMAP in {}", std::env::temp_dir().display());
            return;
        }
        file::allocate(&file, 0, 0, 2 * MIB).unwrap();
        assert_eq!(runs(&file, 4 * MIB), [(Space::Unwritten, 2 * MIB), (Space::Hole, 4 * MIB)]);
        // Dirty in the page cache, and so still unwritten on the disk.
        file.write_all_at(&vec![1; 65_536], 65_536).unwrap();
        let expected = [
            (Space::Unwritten, 65_536),
            (Space::Data, 131_072),
            (Space::Unwritten, 2 * MIB),
            (Space::Hole, 4 * MIB),
        ];
        assert_eq!(runs(&file, 4 * MIB), expected);
        file.sync_all().unwrap();
        assert_eq!(runs(&file, 4 * MIB), expected);
    }

    #[test]
    fn a_file_in_many_pieces_is_told_a_part_at_a_time() {
        let path = Scratch(std::env::temp_dir().join(format!("standpipe-pieces-{}", std::process::id())));
        let file = file::create(&path.0, 16 * MIB).unwrap();
        let mut expected = Vec::new();
        for piece in 0..100u64 {
            file.write_all_at(&[1; 65_536], piece * 131_072).unwrap();
            expected.push((Space::Data, piece * 131_072 + 65_536));
            expected.push((Space::Hole, (piece + 1) * 131_072));
        }
        expected.last_mut().unwrap().1 = 16 * MIB;
        file.sync_all().unwrap();
        assert_eq!(runs(&file, 16 * MIB), expected);
    }
}
