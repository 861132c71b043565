//! An OVA: a tar archive (DSP0243, 5.3: USTAR) in which the files of a package lie as they are.
//!
//! The crate `tar` knows the fields of a header; the walk from one to the next is here, since that
//! crate reads a long name as a whole, of whatever length it says it is.

use crate::{Bytes, Fault};
use tar::{EntryType, Header, PaxExtensions};

const BLOCK_BYTES: u64 = 512;
/// An OVA has a handful. A disk in chunks of some MiB has thousands.
const ENTRIES_MAX: usize = 100_000;
/// What a name, or the records of POSIX.1-2001 before an entry, may take.
const EXTENSION_BYTES_MAX: u64 = 64 << 10;
const NAME_BYTES_MAX: usize = 4096;

/// A plain file in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it stands in the archive, without `./` before it.
    pub name: String,
    pub from: u64,
    pub length: u64,
}

/// All plain files. What else there is (folders, links, devices) is left out: a package has no use
/// for it, and a file that is missed is missed by its name.
pub fn index(bytes: &dyn Bytes) -> Result<Vec<Entry>, Fault> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut at = 0;
    let mut long_name = None;
    let mut long_size = None;
    let mut headers = 0;
    while bytes.length().saturating_sub(at) >= BLOCK_BYTES {
        let mut block = [0; BLOCK_BYTES as usize];
        bytes.read_at(at, &mut block).map_err(|error| Fault::read("the archive", &error))?;
        // Two blocks of zeros end an archive; what is behind them is padding.
        if block.iter().all(|byte| *byte == 0) {
            return Ok(entries);
        }
        headers += 1;
        if headers > ENTRIES_MAX {
            return Err(Fault::new(format!("the archive has more than {ENTRIES_MAX} entries")));
        }
        let header = Header::from_byte_slice(&block);
        check(header, &block, at)?;
        let size = match long_size.take() {
            Some(size) => size,
            None => header.entry_size().map_err(|_| broken(at))?,
        };
        let from = at + BLOCK_BYTES;
        let end = from.checked_add(size).filter(|end| *end <= bytes.length());
        let end = end.ok_or_else(|| {
            Fault::read("the archive's last file", &std::io::ErrorKind::UnexpectedEof.into())
        })?;
        match header.entry_type() {
            EntryType::GNULongName => {
                let mut name = extension(bytes, from, size)?;
                name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
                long_name = Some(name);
            }
            EntryType::XHeader => {
                for record in PaxExtensions::new(&extension(bytes, from, size)?) {
                    let record = record.map_err(|_| broken(at))?;
                    match record.key_bytes() {
                        b"path" => long_name = Some(record.value_bytes().to_vec()),
                        b"size" => {
                            let size = record.value().ok().and_then(|size| size.parse().ok());
                            long_size = Some(size.ok_or_else(|| broken(at))?);
                        }
                        _ => {}
                    }
                }
            }
            EntryType::GNULongLink | EntryType::XGlobalHeader => {}
            kind => {
                let name = long_name.take().unwrap_or_else(|| header.path_bytes().into_owned());
                if matches!(kind, EntryType::Regular | EntryType::Continuous) {
                    entries.push(Entry { name: cleaned(name)?, from, length: size });
                }
            }
        }
        at = end.next_multiple_of(BLOCK_BYTES);
    }
    if headers == 0 {
        return Err(broken(0));
    }
    // The end's two blocks are missing: some writers leave them out.
    Ok(entries)
}

fn broken(at: u64) -> Fault {
    Fault::new(format!("at byte {at} there is no header of a tar archive"))
        .hint("an OVA is a plain tar archive: if this one is compressed as a whole, unpack it first")
}

/// POSIX.1-2001, ustar: the sum of all bytes of the header, its own field taken as blanks.
fn check(header: &Header, block: &[u8; 512], at: u64) -> Result<(), Fault> {
    const SUM: std::ops::Range<usize> = 148..156;
    let bytes = block.iter().enumerate();
    let sum: u32 = bytes.map(|(index, byte)| if SUM.contains(&index) { 32 } else { u32::from(*byte) }).sum();
    if header.cksum().ok() == Some(sum) { Ok(()) } else { Err(broken(at)) }
}

fn extension(bytes: &dyn Bytes, from: u64, size: u64) -> Result<Vec<u8>, Fault> {
    if size > EXTENSION_BYTES_MAX {
        return Err(Fault::new(format!("a name in the archive has {size} bytes")));
    }
    let mut data = vec![0; size as usize];
    bytes.read_at(from, &mut data).map_err(|error| Fault::read("the archive", &error))?;
    Ok(data)
}

fn cleaned(name: Vec<u8>) -> Result<String, Fault> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Fault::new(format!("a name in the archive has {} bytes", name.len())));
    }
    let name =
        String::from_utf8(name).map_err(|_| Fault::new("a name in the archive is not text in UTF-8"))?;
    Ok(name.strip_prefix("./").map_or(name.clone(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])], kind: EntryType) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, data) in files {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn files_are_where_the_index_says() {
        let long = format!("{}/{}.vmdk", "d".repeat(80), "n".repeat(150));
        let bytes = archive(&[("a.ovf", b"<x/>"), (&long, b"disk"), ("empty", b"")], EntryType::Regular);
        let entries = index(&bytes).unwrap();
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["a.ovf", &long, "empty"]);
        let at = |entry: &Entry| bytes[entry.from as usize..(entry.from + entry.length) as usize].to_vec();
        assert_eq!(at(&entries[0]), b"<x/>");
        assert_eq!(at(&entries[1]), b"disk");
        // Without the two blocks of its end it is the same archive.
        assert_eq!(index(&bytes[..bytes.len() - 1024].to_vec()).unwrap(), entries);
    }

    #[test]
    fn what_is_no_file_is_left_out() {
        assert_eq!(index(&archive(&[("link", b"")], EntryType::Symlink)), Ok(Vec::new()));
    }

    #[test]
    fn hostile_archives_are_refused() {
        let good = archive(&[("a.ovf", b"<x/>"), ("b", b"disk")], EntryType::Regular);
        let fault = |bytes: Vec<u8>| index(&bytes).unwrap_err().what;
        assert_eq!(fault(vec![1; 2048]), "at byte 0 there is no header of a tar archive");
        assert_eq!(fault(Vec::new()), "at byte 0 there is no header of a tar archive");
        let mut flipped = good.clone();
        flipped[3] ^= 1;
        assert_eq!(fault(flipped), "at byte 0 there is no header of a tar archive");
        assert_eq!(fault(good[..1024 + 512].to_vec()), "the file ends within the archive's last file");
        // A name of a megabyte, which would be read as a whole.
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 20);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(2 << 20, b'x');
        assert_eq!(fault(bytes), "a name in the archive has 1048576 bytes");
    }
}
