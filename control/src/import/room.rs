//! The room on the file system that volumes are written to. Other volumes are on it, thin ones, whose
//! guests are running: an import must not take the last of it from them.

use super::problem;
use crate::problem::Problem;
use appliance::Fault;
use nix::sys::statvfs::statvfs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The kernel is asked again after so many bytes.
const STEP_BYTES: u64 = 64 << 20;
/// What is left to the others: a twentieth, and of large file systems so much.
const RESERVE_MAX_BYTES: u64 = 4 << 30;

pub struct Room {
    folder: PathBuf,
    /// May be written before the kernel is asked again.
    left: u64,
}

fn reserve(total: u64) -> u64 {
    (total / 20).min(RESERVE_MAX_BYTES)
}

impl Room {
    pub fn on(folder: &Path) -> Room {
        Room { folder: folder.to_owned(), left: 0 }
    }

    /// To be called before so many bytes of data are written.
    pub fn take(&mut self, bytes: u64) -> io::Result<()> {
        if let Some(left) = self.left.checked_sub(bytes) {
            self.left = left;
            return Ok(());
        }
        let found = statvfs(&self.folder)?;
        let unit = found.fragment_size();
        let (free, total) =
            (found.blocks_available().saturating_mul(unit), found.blocks().saturating_mul(unit));
        if !fits(bytes.saturating_add(STEP_BYTES), free, total) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.left = STEP_BYTES;
        Ok(())
    }

    pub fn problem(&self, error: &io::Error) -> Problem {
        let place = &self.folder;
        if error.kind() != io::ErrorKind::StorageFull {
            return problem(Fault::new(format!("cannot find the free space: {error}")), place);
        }
        let fault = Fault::new(
            "there is not enough room for the disks: the import would take what the volumes there may need",
        )
        .hint("make room, or give another --store or --directory");
        Problem { kind: crate::problem::Kind::Failed, ..problem(fault, place) }
    }
}

fn fits(bytes: u64, free: u64, total: u64) -> bool {
    free.checked_sub(bytes).is_some_and(|rest| rest >= reserve(total))
}

/// Writes what there is room for.
pub struct Bounded<'a, W> {
    pub room: &'a mut Room,
    pub into: W,
}

impl<W: Write> Write for Bounded<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room.take(bytes.len() as u64)?;
        self.into.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_it_is_left_to_others() {
        const GIB: u64 = 1 << 30;
        assert!(fits(GIB, 2 * GIB, 20 * GIB));
        assert!(!fits(GIB + 1, 2 * GIB, 20 * GIB), "a twentieth stays");
        assert!(fits(GIB, 5 * GIB, 1000 * GIB));
        assert!(!fits(GIB + 1, 5 * GIB, 1000 * GIB), "4 GiB stay");
        assert!(!fits(2, 1, 0) && !fits(u64::MAX, 1, 0));
    }

    #[test]
    fn no_file_system_has_room_for_everything() {
        let folder = tempfile::tempdir().unwrap();
        let mut room = Room::on(folder.path());
        let error = room.take(u64::MAX).unwrap_err();
        assert!(room.problem(&error).what.contains("not enough room"));
        let mut bounded =
            Bounded { room: &mut Room { folder: "/nowhere".into(), left: 5 }, into: Vec::new() };
        bounded.write_all(b"five!").unwrap();
        assert!(bounded.write_all(b"6").is_err());
        assert_eq!(bounded.into, b"five!");
    }
}
