//! Files of volumes that are not there before they are whole. They have no name while they are
//! written (O_TMPFILE), so that whatever ends the import leaves nothing behind; where the file system
//! cannot do that, they have a hidden one that the next import takes away.

use crate::problem::{Kind, Problem};
use nix::fcntl::{AT_FDCWD, AtFlags, Flock, FlockArg, OFlag};
use nix::unistd::{Gid, Uid, fchown, geteuid, linkat};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that is to have this name.
pub struct Unborn {
    file: Flock<File>,
    path: PathBuf,
    hidden: Option<PathBuf>,
}

fn failed(path: &Path, doing: &str, error: io::Error) -> Problem {
    let (kind, hint) = match error.kind() {
        ErrorKind::AlreadyExists => {
            (Kind::Conflict, "nothing is overwritten: remove it first, or choose another --name")
        }
        ErrorKind::NotFound => (Kind::NotFound, "make the directory first"),
        ErrorKind::PermissionDenied => (
            Kind::Failed,
            "the import writes the volumes itself: run it as a user who may write there, such as root",
        ),
        ErrorKind::StorageFull => (Kind::Failed, "make room on the filesystem, then import again"),
        _ => (Kind::Failed, "see the kernel's log for the cause"),
    };
    Problem::new(kind, format!("cannot {doing}: {error}")).at(path.display().to_string()).hint(hint)
}

fn io_error(error: nix::Error) -> io::Error {
    error.into()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Fails if there is something of this name.
pub fn refuse_existing(path: &Path) -> Result<(), Problem> {
    match path.symlink_metadata() {
        Ok(_) => Err(failed(path, "make the volume's file", ErrorKind::AlreadyExists.into())),
        Err(_) => Ok(()),
    }
}

/// A file without a name, for bytes that are needed for the moment.
pub fn scratch(folder: &Path) -> Result<File, Problem> {
    match nameless(folder) {
        Err(error) if is_unsupported(&error) => {
            let path = folder.join(format!(".standpipe-import-{}", std::process::id()));
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
            let file = file.map_err(|error| failed(&path, "make a file", error))?;
            std::fs::remove_file(&path).map_err(|error| failed(&path, "take its name away", error))?;
            Ok(file)
        }
        other => other.map_err(|error| failed(folder, "make a file", error)),
    }
}

fn nameless(folder: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_TMPFILE.bits()).mode(0o600).open(folder)
}

/// open(2): EOPNOTSUPP of file systems without O_TMPFILE, EISDIR of kernels without.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        nix::Error::from_raw(error.raw_os_error().unwrap_or(0)),
        nix::Error::EOPNOTSUPP | nix::Error::EISDIR
    )
}

impl Unborn {
    /// Makes the file, all of it a hole.
    pub fn create(path: &Path, length: u64) -> Result<Unborn, Problem> {
        refuse_existing(path)?;
        let (file, hidden) = match nameless(folder(path)) {
            Ok(file) => (file, None),
            Err(error) if is_unsupported(&error) => {
                let (file, hidden) = hidden(path)?;
                (file, Some(hidden))
            }
            Err(error) => return Err(failed(path, "make the volume's file", error)),
        };
        Unborn::over(path, file, hidden, length)
    }

    fn over(path: &Path, file: File, hidden: Option<PathBuf>, length: u64) -> Result<Unborn, Problem> {
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, error)| failed(path, "take the file for this import alone", io_error(error)))?;
        if let Some(hidden) = &hidden {
            still_ours(&file, hidden)?;
        }
        let made = Unborn { file, path: path.to_owned(), hidden };
        let prepared = made.own().and_then(|()| made.file.set_len(length));
        prepared.map_err(|error| failed(path, "make the volume's file", error))?;
        Ok(made)
    }

    /// Whoever owns the folder is to own what is in it: the daemon may be no root.
    fn own(&self) -> io::Result<()> {
        let owner = folder(&self.path).metadata()?;
        if geteuid().is_root() && (owner.uid(), owner.gid()) != (0, 0) {
            let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
            fchown(&*self.file, Some(uid), Some(gid)).map_err(io_error)?;
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, to be written.
    pub fn file(&self) -> Result<File, Problem> {
        self.file.try_clone().map_err(|error| failed(&self.path, "write to it", error))
    }

    /// Gives the file its name, durably. It must have been synced.
    pub fn publish(mut self) -> Result<(), Problem> {
        // This file and no other, whatever has its hidden name by now.
        let place = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        // A link replaces nothing, which a rename would.
        linkat(AT_FDCWD, &place, AT_FDCWD, &self.path, AtFlags::AT_SYMLINK_FOLLOW)
            .map_err(|error| failed(&self.path, "name the volume's file", io_error(error)))?;
        let settled = self.settle();
        if settled.is_err() {
            // Who hears that it failed will not look for it.
            let _ = std::fs::remove_file(&self.path);
        }
        settled
    }

    fn settle(&mut self) -> Result<(), Problem> {
        if let Some(hidden) = self.hidden.take() {
            std::fs::remove_file(&hidden).map_err(|error| failed(&hidden, "take its name away", error))?;
        }
        let folder = folder(&self.path);
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| failed(folder, "make the name durable", error))
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // It is ours, and nobody's volume yet.
            let _ = std::fs::remove_file(hidden);
        }
    }
}

/// `.NAME.importing`, for file systems without O_TMPFILE. One that is there already, and that nobody
/// holds, is what is left of an import that was killed.
fn hidden(path: &Path) -> Result<(File, PathBuf), Problem> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".importing");
    let hidden = folder(path).join(name);
    if let Ok(left) = OpenOptions::new().write(true).open(&hidden) {
        // Held until it is gone: who made it but now, and has not locked it yet, fails at that.
        let _left = Flock::lock(left, FlockArg::LockExclusiveNonblock).map_err(|_| taken(&hidden))?;
        std::fs::remove_file(&hidden)
            .map_err(|error| failed(&hidden, "take away what an earlier import left", error))?;
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&hidden);
    Ok((file.map_err(|error| failed(&hidden, "make the volume's file", error))?, hidden))
}

fn taken(hidden: &Path) -> Problem {
    Problem::conflict("another import is writing this volume")
        .at(hidden.display().to_string())
        .hint("wait until that has ended")
}

/// Between its making and its lock another import may have taken it for what a killed one left.
fn still_ours(file: &File, hidden: &Path) -> Result<(), Problem> {
    let id = |found: std::fs::Metadata| (found.dev(), found.ino());
    match (file.metadata().map(id), hidden.symlink_metadata().map(id)) {
        (Ok(ours), Ok(there)) if ours == there => Ok(()),
        _ => Err(taken(hidden)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<OsString> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    /// Both ways, as a file system may have one only.
    #[test]
    fn a_volume_is_not_there_before_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.raw");
        for with_name in [false, true] {
            let make = || {
                if with_name {
                    let (file, hidden) = hidden(&path).unwrap();
                    Unborn::over(&path, file, Some(hidden), 8192).unwrap()
                } else {
                    Unborn::create(&path, 8192).unwrap()
                }
            };
            let unborn = make();
            assert!(!path.exists());
            assert_eq!(names(folder.path()).len(), usize::from(with_name));
            if with_name {
                assert!(super::hidden(&path).is_err_and(|problem| problem.what.contains("another import")));
            }
            drop(unborn);
            assert!(names(folder.path()).is_empty());

            let unborn = make();
            unborn.file().unwrap().write_all_at(b"whole", 0).unwrap();
            unborn.publish().unwrap();
            assert_eq!(names(folder.path()), ["a.raw"]);
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!((bytes.len(), &bytes[..5]), (8192, &b"whole"[..]));
            assert!(Unborn::create(&path, 1).is_err(), "nothing is overwritten");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_a_killed_import_left_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.raw");
        std::fs::write(folder.path().join(".a.raw.importing"), "half").unwrap();
        let (file, hidden) = hidden(&path).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
        drop(Unborn::over(&path, file, Some(hidden), 1).unwrap());
        assert!(names(folder.path()).is_empty());
    }

    /// Two imports that meet between the making of a hidden file and its lock.
    #[test]
    fn another_imports_file_is_not_published() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.raw");
        let (first, place) = hidden(&path).unwrap();
        let (second, _) = hidden(&path).unwrap();
        let problem = Unborn::over(&path, first, Some(place.clone()), 1).err().unwrap();
        assert!(problem.what.contains("another import"), "{problem}");
        assert_eq!(names(folder.path()).len(), 1, "and the other's is still there");
        let unborn = Unborn::over(&path, second, Some(place.clone()), 4096).unwrap();
        std::fs::remove_file(&place).unwrap();
        std::fs::write(&place, "another's").unwrap();
        assert!(unborn.publish().is_err(), "what has its hidden name now is not it");
        assert!(!path.exists());
    }

    #[test]
    fn a_volume_that_cannot_be_made_durable_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.raw");
        let mut unborn = Unborn::create(&path, 1).unwrap();
        // A hidden name that is not there to be taken away.
        unborn.hidden = Some(folder.path().join(".gone"));
        assert!(unborn.publish().is_err());
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_name_that_came_meanwhile_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.raw");
        let unborn = Unborn::create(&path, 1).unwrap();
        std::fs::write(&path, "another's").unwrap();
        let problem = unborn.publish().unwrap_err();
        assert_eq!(problem.kind, Kind::Conflict);
        assert_eq!(std::fs::read(&path).unwrap(), b"another's");
    }
}
