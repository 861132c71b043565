//! The bytes of a disk, whatever it is kept in.

use super::package::Opened;
use super::problem;
use crate::problem::Problem;
use crate::transfer::CHUNK_BYTES;
use appliance::vmdk::{self, Cursor, Piece};
use appliance::{Fault, Source};
use std::io::{self, Read};
use std::path::Path;

/// Whether a file is called what only raw images are: what stands in their first bytes is a guest's, and
/// may look like anything. (Clouds call their qcow2 images `.img`.)
pub fn is_raw_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".raw", ".dd", ".iso"].iter().any(|ending| name.ends_with(ending))
}

pub enum Image {
    Vmdk(vmdk::Disk),
    Raw(Source),
}

/// Formats of others, by their first bytes, and how to get to one of ours.
const OTHERS: [(&[u8], &str); 4] =
    [(b"QFI\xfb", "qcow2"), (b"vhdxfile", "vhdx"), (b"conectix", "vpc"), (b"<<< ", "vdi")];

impl Image {
    /// `find` gives further files that a VMDK names. Raw bytes are taken for a disk only if `raw` is
    /// true, and then whatever they are: any file could be one.
    pub fn open(
        source: Source,
        raw: bool,
        find: &mut dyn FnMut(&str) -> Result<Source, Fault>,
    ) -> Result<Image, Fault> {
        // Whoever wrote the disk's first sector, a guest, would choose its format otherwise.
        if raw {
            return Ok(Image::Raw(source));
        }
        if vmdk::is_vmdk(source.as_ref()) {
            return vmdk::Disk::open(&source, find).map(Image::Vmdk);
        }
        for (magic, name) in OTHERS {
            let mut start = [0; 8];
            let start = &mut start[..magic.len()];
            if source.read_at(0, start).is_ok() && start == magic {
                return Err(Fault::new(format!("the disk is in the format {name}, which is not read here"))
                    .hint(format!("qemu-img convert -f {name} -O vmdk FILE NEW.vmdk makes one that is")));
            }
        }
        Err(Fault::new("the disk is in a format that is not known").hint("qemu-img info FILE may know it"))
    }

    pub fn length(&self) -> u64 {
        match self {
            Image::Vmdk(disk) => disk.capacity(),
            Image::Raw(source) => source.length(),
        }
    }

    pub fn is_unclean(&self) -> bool {
        matches!(self, Image::Vmdk(disk) if disk.is_unclean())
    }

    /// Hands over every piece, in order, up to the end.
    pub fn each(
        &self,
        mut take: impl FnMut(Slice<'_>) -> Result<(), Problem>,
        place: &str,
    ) -> Result<(), Problem> {
        let mut buffer = vec![0; CHUNK_BYTES];
        match self {
            Image::Vmdk(disk) => {
                let mut cursor = Cursor::default();
                loop {
                    match disk.next(&mut cursor, &mut buffer).map_err(|fault| problem(fault, place))? {
                        None => return Ok(()),
                        Some(Piece::Data(bytes)) => take(Slice::Data(&buffer[..bytes]))?,
                        Some(Piece::Hole(bytes)) => take(Slice::Hole(bytes))?,
                    }
                }
            }
            Image::Raw(source) => {
                let mut at = 0;
                while at < source.length() {
                    let some = buffer.len().min(usize::try_from(source.length() - at).unwrap_or(usize::MAX));
                    let read = source.read_at(at, &mut buffer[..some]);
                    read.map_err(|error| problem(Fault::new(format!("cannot read it: {error}")), place))?;
                    take(Slice::Data(&buffer[..some]))?;
                    at += some as u64;
                }
                Ok(())
            }
        }
    }
}

/// Bytes of an image, or zeros that it has no bytes for.
pub enum Slice<'a> {
    Data(&'a [u8]),
    Hole(u64),
}

/// A VMDK as a stream of a raw image, for a volume that the daemon writes.
pub struct RawStream {
    disk: vmdk::Disk,
    cursor: Cursor,
    buffer: Vec<u8>,
    ready: std::ops::Range<usize>,
    hole: u64,
}

/// `Some` if the file is a VMDK; its extents are looked for beside it.
pub fn vmdk_beside(path: &Path) -> Result<Option<RawStream>, Problem> {
    // What is no plain file is no VMDK; whether it can be read is asked later.
    if path.file_name().is_some_and(|name| is_raw_name(&name.to_string_lossy())) {
        return Ok(None);
    }
    let opened = Opened::default();
    let Ok(source) = opened.open(path) else { return Ok(None) };
    if !vmdk::is_vmdk(source.as_ref()) {
        return Ok(None);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder
        .canonicalize()
        .map_err(|error| problem(Fault::new(format!("cannot open its folder: {error}")), path))?;
    let mut find = |name: &str| {
        // Its text was written by another, who may have left links as well.
        let plain = !name.is_empty() && name != ".." && !name.contains(['/', '\0']);
        let real = plain.then(|| folder.join(name).canonicalize());
        match real {
            Some(Ok(real)) if !real.starts_with(&folder) => {
                Err(Fault::new(format!("its extent `{name}` is a link that leads out of its folder"))
                    .hint("do not trust this disk; or, if the link is yours, move the file there"))
            }
            Some(Ok(real)) => opened
                .open(&real)
                .map_err(|error| Fault::new(format!("cannot open its extent `{name}`: {error}"))),
            Some(Err(error)) => Err(Fault::new(format!("cannot open its extent `{name}`: {error}"))),
            None => Err(Fault::new(format!("its extent `{name}` is not beside it"))),
        }
    };
    let disk = vmdk::Disk::open(&source, &mut find).map_err(|fault| problem(fault, path))?;
    Ok(Some(RawStream {
        disk,
        cursor: Cursor::default(),
        buffer: vec![0; CHUNK_BYTES],
        ready: 0..0,
        hole: 0,
    }))
}

impl RawStream {
    pub fn length(&self) -> u64 {
        self.disk.capacity()
    }
}

impl Read for RawStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && self.hole == 0 {
            let piece = self.disk.next(&mut self.cursor, &mut self.buffer);
            match piece.map_err(|fault| io::Error::other(super::shown(&fault.to_string())))? {
                None => return Ok(0),
                Some(Piece::Data(bytes)) => self.ready = 0..bytes,
                Some(Piece::Hole(bytes)) => self.hole = bytes,
            }
        }
        if self.hole > 0 {
            let some = into.len().min(usize::try_from(self.hole).unwrap_or(usize::MAX));
            into[..some].fill(0);
            self.hole -= some as u64;
            return Ok(some);
        }
        let some = into.len().min(self.ready.len());
        into[..some].copy_from_slice(&self.buffer[self.ready.start..self.ready.start + some]);
        self.ready.start += some;
        Ok(some)
    }
}
