//! Small states that survive a power cut at any point: one file each, in one folder.
//!
//! A state is replaced, never changed: its new bytes are written into a file beside it and synced,
//! that file takes the name over, and the folder is synced. Until the last step has ended the old
//! state or the new one is there, and after it the new one. What a death on the way leaves behind is a
//! file that no state is named like, and `Store::sweep` removes it.
//!
//! Each file has an envelope with a checksum over the state and its name, so that a file which was
//! damaged, cut short or put in another one's place is told from a state. What is in the state, and
//! its version, is its owner's affair.
//!
//! All of it waits for the disk: it is for a thread that may.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a state at most; a longer file is damaged.
pub const STATE_MAX_BYTES: usize = 1 << 20;
const NAME_MAX_BYTES: usize = 128;
/// The first bytes of each file. The last of them is the version of the envelope.
const MAGIC: [u8; 8] = *b"SPstate\x01";
/// Magic, length and checksum, the numbers in little endian.
const HEADER_BYTES: usize = 16;

/// Where the files are. The simulation has one whose power can be cut.
pub trait Directory {
    /// Makes a file of these bytes, in the place of one of this name. They are on stable storage when
    /// it ends, the name perhaps not.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// At once, and in the place of a file that had the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// No error if there is none.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names are on stable storage when it ends.
    fn sync(&self) -> io::Result<()>;

    /// The first `bytes_max` bytes of a file; `None` if there is none.
    fn read(&self, name: &str, bytes_max: usize) -> io::Result<Option<Vec<u8>>>;

    fn names(&self) -> io::Result<Vec<String>>;
}

/// The states in one directory.
#[derive(Debug)]
pub struct Store<D> {
    directory: D,
}

impl Store<Folder> {
    /// The states in this folder, which is made if it is missing.
    pub fn open(path: &Path) -> io::Result<Self> {
        Folder::open(path).map(Self::within)
    }
}

impl<D: Directory> Store<D> {
    pub fn within(directory: D) -> Self {
        Self { directory }
    }

    /// Removes what a death in a `write` has left, and makes sure that what is found from now on is on
    /// stable storage, also if the dead had not come to that. For the beginning, before anybody else
    /// uses the directory.
    pub fn sweep(&self) -> io::Result<()> {
        for name in self.directory.names()?.iter().filter(|name| is_unfinished(name)) {
            self.directory.remove(name)?;
        }
        self.directory.sync()
    }

    /// Makes this the state of the name. It is on stable storage when it ends with `Ok`. If it ends
    /// with an error, or not at all, a power cut leaves the old state or the new one.
    pub fn write(&self, name: &str, state: &[u8]) -> io::Result<()> {
        check_name(name)?;
        if state.len() > STATE_MAX_BYTES {
            let message = format!("a state of {} bytes; at most {STATE_MAX_BYTES} are kept", state.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let unfinished = unfinished(name);
        let written = self
            .directory
            .write(&unfinished, &seal(name, state))
            .and_then(|()| self.directory.rename(&unfinished, name));
        if let Err(error) = written {
            // The first error is the one to tell; `sweep` removes what is left.
            let _ = self.directory.remove(&unfinished);
            return Err(error);
        }
        self.directory.sync()
    }

    /// `None`: there is none. `InvalidData`: there is a file of that name, and it is not what was written.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        check_name(name)?;
        // One byte more than there can be, to see that there are more.
        let Some(bytes) = self.directory.read(name, HEADER_BYTES + STATE_MAX_BYTES + 1)? else {
            return Ok(None);
        };
        match unseal(name, &bytes) {
            Ok(state) => Ok(Some(state.to_vec())),
            Err(reason) => {
                let message = format!("the state `{name}` is damaged: {reason}");
                Err(io::Error::new(io::ErrorKind::InvalidData, message))
            }
        }
    }

    /// The name has no state any more, also after a power cut, when it ends with `Ok`.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        self.directory.remove(name)?;
        self.directory.sync()
    }

    /// The names that have a state, in order.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = self.directory.names()?;
        names.retain(|name| check_name(name).is_ok());
        names.sort_unstable();
        Ok(names)
    }
}

fn unfinished(name: &str) -> String {
    format!(".{name}.new")
}

fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".new")
}

/// A name is a file's, and never that of an unfinished one.
fn check_name(name: &str) -> io::Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let good = (1..=NAME_MAX_BYTES).contains(&name.len()) && name.bytes().all(allowed);
    if good && !name.starts_with('.') {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} cannot be the name of a state")))
}

fn seal(name: &str, state: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + state.len());
    bytes.extend_from_slice(&MAGIC);
    // At most `STATE_MAX_BYTES`.
    bytes.extend_from_slice(&(state.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&checksum(name, state).to_le_bytes());
    bytes.extend_from_slice(state);
    bytes
}

fn unseal<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a [u8], String> {
    let Some((header, state)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(format!("{} bytes are less than its header", bytes.len()));
    };
    if header[..8] != MAGIC {
        return Err("it does not begin as one, or is of another version".to_string());
    }
    let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    if state.len() != number(8) as usize {
        return Err(format!("{} bytes instead of {}", state.len(), number(8)));
    }
    if checksum(name, state) != number(12) {
        return Err("its checksum is wrong, or it belongs to another name".to_string());
    }
    Ok(state)
}

fn checksum(name: &str, state: &[u8]) -> u32 {
    !crc32c(crc32c(!0, name.as_bytes()), state)
}

/// CRC-32C (Castagnoli, reflected), a bit at a time: these states are small.
fn crc32c(mut crc: u32, bytes: &[u8]) -> u32 {
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    crc
}

/// A folder of the host.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    file: File,
}

impl Folder {
    /// Makes it if it is missing, for its owner alone.
    pub fn open(path: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(path, error)),
            _ => {}
        }
        // Also if it was there: whoever made it may have died before this.
        crate::file::sync_directory(path).map_err(|error| at(path, error))?;
        let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path);
        Ok(Self { path: path.to_path_buf(), file: file.map_err(|error| at(path, error))? })
    }
}

/// An error that says where.
fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Directory for Folder {
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path.join(name);
        // Not through a link that somebody has put there.
        let options = &mut OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(&path).map_err(|error| at(&path, error))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| at(&path, error))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let to = self.path.join(to);
        std::fs::rename(self.path.join(from), &to).map_err(|error| at(&to, error))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path, error)),
            _ => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all().map_err(|error| at(&self.path, error))
    }

    fn read(&self, name: &str, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        let options = &mut OpenOptions::new();
        // A FIFO in the place of a state must not stop the server.
        let file = match options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(&path, error)),
            Ok(file) => file,
        };
        let mut bytes = Vec::new();
        file.take(bytes_max as u64).read_to_end(&mut bytes).map_err(|error| at(&path, error))?;
        Ok(Some(bytes))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(|error| at(&self.path, error))? {
            // A name that is no text is none of ours.
            if let Ok(name) = entry.map_err(|error| at(&self.path, error))?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests;
