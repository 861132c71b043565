//! What another hypervisor has exported: virtual machines in OVF, and virtual disks in VMDK.
//!
//! Everything here comes from strangers. The crate reads bytes that it is given ([`Bytes`]) and opens
//! nothing: names in a description are names of files of the same package, and whoever calls looks
//! them up. What is held in memory has a bound that does not depend on what the package says of
//! itself, and what is unpacked has the bound that the caller gives.
//!
//! - [`archive`]: where the files of an OVA (a tar archive) lie in it.
//! - [`manifest`]: the digests of a package's files.
//! - [`ovf`]: the description of machines, disks and networks.
//! - [`vmdk`]: the bytes of a disk, holes as holes.
//! - [`unpack`]: files that the package has compressed by gzip.
#![forbid(unsafe_code)]

pub mod archive;
pub mod manifest;
pub mod ovf;
pub mod vmdk;

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Bytes at places: a file, a part of one, or memory.
pub trait Bytes: Send + Sync {
    fn length(&self) -> u64;
    /// Fills `into` from `at`. It fails if there are not as many.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()>;
}

/// Shared, as several extents of a disk may lie in one file.
pub type Source = Arc<dyn Bytes>;

impl Bytes for Vec<u8> {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(at).ok();
        let end = from.and_then(|from| from.checked_add(into.len()));
        let found = from.zip(end).and_then(|(from, end)| self.get(from..end));
        into.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A part of other bytes, such as a file in an archive.
pub struct Part {
    whole: Source,
    from: u64,
    length: u64,
}

impl Part {
    /// `None` if it does not lie in the whole.
    pub fn new(whole: Source, from: u64, length: u64) -> Option<Part> {
        let end = from.checked_add(length)?;
        (end <= whole.length()).then_some(Part { whole, from, length })
    }
}

impl Bytes for Part {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let end = at.checked_add(into.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.whole.read_at(self.from + at, into)
    }
}

/// Several bytes, one behind the other: a file in chunks.
pub struct Joined {
    /// Each with the place at which it begins.
    parts: Vec<(u64, Source)>,
    length: u64,
}

impl Joined {
    /// `None` if they are longer than any file.
    pub fn new(parts: Vec<Source>) -> Option<Joined> {
        let mut length = 0u64;
        let mut placed = Vec::with_capacity(parts.len());
        for part in parts {
            let end = length.checked_add(part.length())?;
            placed.push((length, part));
            length = end;
        }
        Some(Joined { parts: placed, length })
    }
}

impl Bytes for Joined {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, mut at: u64, mut into: &mut [u8]) -> io::Result<()> {
        while !into.is_empty() {
            let index = self.parts.partition_point(|(from, _)| *from <= at);
            // The last that begins here or before; empty ones begin where the next does.
            let (from, part) = self.parts.get(index.wrapping_sub(1)).ok_or(io::ErrorKind::UnexpectedEof)?;
            let left = part.length().saturating_sub(at - from);
            if left == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let some = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (now, later) = into.split_at_mut(some);
            part.read_at(at - from, now)?;
            at += some as u64;
            into = later;
        }
        Ok(())
    }
}

/// Reads bytes from their beginning.
pub struct Stream<'a> {
    bytes: &'a dyn Bytes,
    at: u64,
}

impl<'a> Stream<'a> {
    pub fn new(bytes: &'a dyn Bytes) -> Stream<'a> {
        Stream { bytes, at: 0 }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.bytes.length().saturating_sub(self.at);
        let some = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.bytes.read_at(self.at, &mut into[..some])?;
        self.at += some as u64;
        Ok(some)
    }
}

/// What is wrong with a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// A sentence without a full stop.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Fault {
    pub fn new(what: impl Into<String>) -> Fault {
        Fault { what: what.into(), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }

    /// The file ends before what it has to have, or cannot be read.
    fn read(what: &str, error: &io::Error) -> Fault {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Fault::new(format!("the file ends within {what}"))
                .hint("it was cut short on its way: copy or export it again");
        }
        Fault::new(format!("cannot read {what}: {error}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// All of a small file as text.
pub fn text(bytes: &dyn Bytes, bytes_max: u64, what: &str) -> Result<String, Fault> {
    let length = bytes.length();
    if length > bytes_max {
        return Err(Fault::new(format!("{what} has {length} bytes, and at most {bytes_max} are read")));
    }
    let mut all = vec![0; length as usize];
    bytes.read_at(0, &mut all).map_err(|error| Fault::read(what, &error))?;
    // A byte order mark says what is known already (Unicode 3.0 and newer).
    let text = String::from_utf8(all).map_err(|_| Fault::new(format!("{what} is not text in UTF-8")))?;
    Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned))
}

/// Unpacks a gzip file, and fails when more than `bytes_max` come out. Returns how many did.
pub fn unpack(bytes: &dyn Bytes, bytes_max: u64, into: &mut dyn Write) -> Result<u64, Fault> {
    const CHUNK_BYTES: usize = 1 << 18;
    let mut unpacked = flate2::read::MultiGzDecoder::new(io::BufReader::new(Stream::new(bytes)));
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut done = 0u64;
    loop {
        let some = match unpacked.read(&mut buffer) {
            Ok(0) => return Ok(done),
            Ok(some) => some,
            Err(error) => return Err(Fault::read("the compressed data", &error)),
        };
        done += some as u64;
        if done > bytes_max {
            return Err(Fault::new(format!("more than {bytes_max} bytes come out of the compressed file"))
                .hint("that is more than the disk that it is for can have: do not trust this package"));
        }
        into.write_all(&buffer[..some])
            .map_err(|error| Fault::new(format!("cannot write what is unpacked: {error}")))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_chunks_read_as_one() {
        let whole: Source = Arc::new((0..100u8).collect::<Vec<u8>>());
        let part = |from, length| -> Source { Arc::new(Part::new(whole.clone(), from, length).unwrap()) };
        let joined = Joined::new(vec![part(10, 3), part(0, 0), part(50, 4), part(0, 0)]).unwrap();
        assert_eq!(joined.length(), 7);
        let mut all = [0; 7];
        joined.read_at(0, &mut all).unwrap();
        assert_eq!(all, [10, 11, 12, 50, 51, 52, 53]);
        let mut two = [0; 2];
        joined.read_at(2, &mut two).unwrap();
        assert_eq!(two, [12, 50]);
        assert!(joined.read_at(6, &mut two).is_err());
        assert!(joined.read_at(u64::MAX, &mut two).is_err());
        assert!(part(90, 10).read_at(9, &mut two).is_err(), "a part does not read on into the whole");
        assert!(Part::new(whole.clone(), 90, 11).is_none());
        assert!(Part::new(whole, u64::MAX, 2).is_none());
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&vec![0; 1 << 20]).unwrap();
        let packed = packed.finish().unwrap();
        let mut out = Vec::new();
        assert_eq!(unpack(&packed, 1 << 20, &mut out), Ok(1 << 20));
        assert_eq!(out.len(), 1 << 20);
        let fault = unpack(&packed, (1 << 20) - 1, &mut io::sink()).unwrap_err();
        assert!(fault.what.starts_with("more than 1048575 bytes"), "{fault}");
        let fault = unpack(&packed[..packed.len() - 9].to_vec(), 1 << 20, &mut io::sink()).unwrap_err();
        assert!(fault.what.contains("ends within"), "{fault}");
    }
}
