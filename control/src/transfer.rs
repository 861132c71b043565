//! A volume's bytes in and out: raw images, with holes kept as holes.

use crate::problem::{Kind, Problem};
use nix::unistd::{Whence, lseek};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use utoipa::ToSchema;

/// One read or write. Large enough that the calls do not count.
pub const CHUNK_BYTES: usize = 1 << 20;
/// What is looked at for zeros; the block size of common filesystems.
const GRAIN_BYTES: usize = 4096;

/// What an import or export moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Transferred {
    /// The image's length.
    pub bytes: u64,
    /// Those of them that were not holes.
    pub data: u64,
}

fn failed(path: &Path, doing: &str, error: &std::io::Error) -> Problem {
    let hint = match error.kind() {
        ErrorKind::NotFound => "check the path; the daemon must see it too",
        ErrorKind::PermissionDenied => "let the daemon's user read and write it",
        ErrorKind::StorageFull => "make room on the filesystem, then import again",
        ErrorKind::AlreadyExists => "remove it first, or choose another name",
        _ => "see the kernel's log for the cause",
    };
    let kind = match error.kind() {
        ErrorKind::NotFound => Kind::NotFound,
        ErrorKind::AlreadyExists => Kind::Conflict,
        _ => Kind::Failed,
    };
    Problem::new(kind, format!("cannot {doing}: {error}")).at(path.display().to_string()).hint(hint)
}

/// Opens a file or block device, and nothing that could block or be endless.
fn open(path: &Path, write: bool) -> Result<(File, bool), Problem> {
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(|error| failed(path, "open it", &error))?;
    let kind = file.metadata().map_err(|error| failed(path, "look at it", &error))?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(Problem::invalid("it is neither a file nor a block device")
            .at(path.display().to_string())
            .hint("give a raw image file or a block device"));
    }
    Ok((file, kind.is_file()))
}

/// An image to read from: length known, holes known.
pub struct Image {
    file: File,
    length: u64,
    position: u64,
    /// The end of the data that `position` is in.
    data_end: u64,
}

/// A piece of an image.
pub enum Piece {
    /// So many bytes at the start of the buffer.
    Data(usize),
    Hole(u64),
}

impl Image {
    pub fn open(path: &Path) -> Result<Image, Problem> {
        let (mut file, _) = open(path, false)?;
        let length = file.seek(SeekFrom::End(0)).map_err(|error| failed(path, "find its length", &error))?;
        Ok(Image { file, length, position: 0, data_end: 0 })
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    fn seek(&self, whence: Whence) -> Option<u64> {
        let from = i64::try_from(self.position).ok()?;
        match lseek(&self.file, from, whence) {
            Ok(found) => u64::try_from(found).ok(),
            // No more data: the rest is one hole.
            Err(nix::Error::ENXIO) => Some(self.length),
            // A block device or a filesystem that does not know holes.
            Err(_) => None,
        }
    }

    /// The next piece; `None` at the end. `buffer` must not be empty.
    pub fn next(&mut self, buffer: &mut [u8]) -> std::io::Result<Option<Piece>> {
        if self.position >= self.length {
            return Ok(None);
        }
        if self.position >= self.data_end {
            let data = self.seek(Whence::SeekData).unwrap_or(self.position);
            let data = data.clamp(self.position, self.length);
            if data > self.position {
                let hole = data - self.position;
                self.position = data;
                return Ok(Some(Piece::Hole(hole)));
            }
            let end = self.seek(Whence::SeekHole).unwrap_or(self.length);
            self.data_end = end.clamp(self.position + 1, self.length);
        }
        let wanted = (self.data_end - self.position).min(buffer.len() as u64) as usize;
        self.file.read_exact_at(&mut buffer[..wanted], self.position)?;
        self.position += wanted as u64;
        Ok(Some(Piece::Data(wanted)))
    }
}

/// A volume, or a file to be made, that an image is written to.
pub struct Target<'a> {
    file: File,
    path: &'a Path,
    size: u64,
    position: u64,
    /// Everything that is not written reads as zeros.
    sparse: bool,
    moved: Transferred,
}

impl<'a> Target<'a> {
    /// A volume. What was in it is gone after this.
    pub fn volume(path: &'a Path, declared: Option<u64>) -> Result<Target<'a>, Problem> {
        let (mut file, sparse) = open(path, true)?;
        let found = file.seek(SeekFrom::End(0)).map_err(|error| failed(path, "find its length", &error))?;
        let size = declared.unwrap_or(found);
        if sparse {
            // All old blocks become holes; the inode, which the engine may
            // hold open, stays.
            file.set_len(0)
                .and_then(|()| file.set_len(size.max(found)))
                .map_err(|error| failed(path, "empty it", &error))?;
        }
        Ok(Target { file, path, size, position: 0, sparse, moved: Transferred::default() })
    }

    /// The size of the volume at a path, before anything is done to it.
    pub fn measure(path: &Path, declared: Option<u64>) -> Result<u64, Problem> {
        let (mut file, _) = open(path, true)?;
        let found = file.seek(SeekFrom::End(0));
        let found = found.map_err(|error| failed(path, "find its length", &error))?;
        Ok(declared.unwrap_or(found))
    }

    /// A new file; there must be none of this name yet.
    pub fn create(path: &'a Path, size: u64) -> Result<Target<'a>, Problem> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|file| file.set_len(size).map(|()| file))
            .map_err(|error| failed(path, "make the file", &error))?;
        Ok(Target { file, path, size, position: 0, sparse: true, moved: Transferred::default() })
    }

    /// A file that is open, of this size, and all of it a hole.
    pub fn over(file: File, path: &'a Path, size: u64) -> Target<'a> {
        Target { file, path, size, position: 0, sparse: true, moved: Transferred::default() }
    }

    fn room(&mut self, bytes: u64) -> Result<(), Problem> {
        let end = self.position.checked_add(bytes);
        match end.filter(|end| *end <= self.size) {
            Some(_) => Ok(()),
            None => Err(too_long(self.path, self.size, None)),
        }
    }

    /// The next bytes of the image.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.room(bytes.len() as u64)?;
        // Grains of the target, wherever the pieces of the stream begin.
        let into = (self.position % GRAIN_BYTES as u64) as usize;
        let first = (GRAIN_BYTES - into).min(bytes.len());
        let (head, rest) = bytes.split_at(first);
        let mut run = 0..0;
        let mut offset = 0;
        for grain in std::iter::once(head).chain(rest.chunks(GRAIN_BYTES)) {
            let end = offset + grain.len();
            let skip = self.sparse && grain.iter().all(|byte| *byte == 0);
            if skip {
                self.put(bytes, run)?;
                run = end..end;
            } else {
                run = run.start..end;
            }
            offset = end;
        }
        self.put(bytes, run)?;
        self.position += bytes.len() as u64;
        self.moved.bytes += bytes.len() as u64;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8], run: std::ops::Range<usize>) -> Result<(), Problem> {
        let at = self.position + run.start as u64;
        let bytes = &bytes[run];
        self.moved.data += bytes.len() as u64;
        self.file.write_all_at(bytes, at).map_err(|error| failed(self.path, "write to it", &error))
    }

    /// A hole in the image.
    pub fn hole(&mut self, bytes: u64) -> Result<(), Problem> {
        self.room(bytes)?;
        if self.sparse {
            self.position += bytes;
            self.moved.bytes += bytes;
            return Ok(());
        }
        self.zeros(bytes)
    }

    fn zeros(&mut self, mut bytes: u64) -> Result<(), Problem> {
        let zeros = vec![0; CHUNK_BYTES.min(usize::try_from(bytes).unwrap_or(CHUNK_BYTES))];
        while bytes > 0 {
            let some = zeros.len().min(usize::try_from(bytes).unwrap_or(zeros.len()));
            self.write(&zeros[..some])?;
            bytes -= some as u64;
        }
        Ok(())
    }

    /// The image has ended: the rest is zeros, and everything is durable.
    pub fn finish(mut self) -> Result<Transferred, Problem> {
        let moved = self.moved;
        if !self.sparse {
            self.zeros(self.size - self.position)?;
        }
        self.file.sync_all().map_err(|error| failed(self.path, "make it durable", &error))?;
        Ok(Transferred { bytes: moved.bytes, data: self.moved.data })
    }
}

pub fn too_long(path: &Path, size: u64, image: Option<u64>) -> Problem {
    let image = image.map_or(String::new(), |bytes| format!(" ({})", crate::site::Size(bytes)));
    Problem::conflict(format!("the image{image} is larger than the volume ({})", crate::site::Size(size)))
        .at(path.display().to_string())
        .hint("grow the volume first: standpipe disk resize NAME SIZE")
}

/// Copies an image into a target, holes as holes. `check` is asked now and
/// then whether to go on.
pub fn copy(
    image: &mut Image,
    from: &Path,
    target: &mut Target<'_>,
    mut check: impl FnMut() -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        check()?;
        let piece = image.next(&mut buffer);
        match piece.map_err(|error| failed(from, "read it", &error))? {
            None => return Ok(()),
            Some(Piece::Data(bytes)) => target.write(&buffer[..bytes])?,
            Some(Piece::Hole(bytes)) => target.hole(bytes)?,
        }
    }
}

/// Writes an image to a stream, which cannot have holes.
pub fn pour(
    image: &mut Image,
    from: &Path,
    mut sink: impl FnMut(&[u8]) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let zeros = vec![0; CHUNK_BYTES];
    loop {
        let piece = image.next(&mut buffer);
        match piece.map_err(|error| failed(from, "read it", &error))? {
            None => return Ok(()),
            Some(Piece::Data(bytes)) => sink(&buffer[..bytes])?,
            Some(Piece::Hole(mut bytes)) => {
                while bytes > 0 {
                    let some = CHUNK_BYTES.min(usize::try_from(bytes).unwrap_or(CHUNK_BYTES));
                    sink(&zeros[..some])?;
                    bytes -= some as u64;
                }
            }
        }
    }
}
