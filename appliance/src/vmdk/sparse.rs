//! A hosted sparse extent: a grain directory names grain tables, and these name grains, each plain or
//! compressed (streamOptimized, whose directory may stand at the end of the file).

use super::{CAPACITY_MAX_BYTES, Piece, SECTOR_BYTES, too_large};
use crate::{Bytes, Fault, Source};
use flate2::{Decompress, FlushDecompress, Status};

pub const MAGIC: &[u8; 4] = b"KDMV";
/// Redo logs of ESX hosts.
pub const MAGIC_ESX: &[u8; 4] = b"COWD";
/// seSparse's constant header: cafebabe.
pub const MAGIC_SE: &[u8; 4] = &[0xbe, 0xba, 0xfe, 0xca];

const HEADER_BYTES: usize = 512;
const FLAG_ZEROED_GRAINS: u32 = 1 << 2;
const FLAG_COMPRESSED: u32 = 1 << 16;
const FLAG_MARKERS: u32 = 1 << 17;
const DEFLATE: u16 = 1;
/// The directory is named by the footer.
const AT_END: u64 = u64::MAX;
/// A footer is followed by the marker of the end of the stream.
const FOOTER_FROM_END_BYTES: u64 = 1024;
/// Before the data of a grain: its first sector (u64) and its compressed size (u32).
const MARKER_BYTES: u64 = 12;

/// A grain directory's or table's entries that are read at a time. Tables have no more.
const ENTRIES_MAX: u64 = 512;
/// VMware's grains have 64 KiB. Two of this size are held at most, one compressed.
const GRAIN_MAX_BYTES: u64 = 8 << 20;
const DESCRIPTOR_MAX_BYTES: u64 = 1 << 20;

pub struct Sparse {
    bytes: Source,
    capacity: u64,
    grain: u64,
    entries: u64,
    directory: u64,
    descriptor: (u64, u64),
    zeroed: bool,
    compressed: bool,
    unclean: bool,
}

/// What a walk has in memory of the extent that it is in: a part of the directory, a table, and a
/// grain that was compressed.
#[derive(Default)]
pub struct Tables {
    directory: Option<(usize, u64, Vec<u32>)>,
    table: Option<(u32, Vec<u32>)>,
    grain: Option<(usize, u64)>,
    plain: Vec<u8>,
    packed: Vec<u8>,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn header(bytes: &dyn Bytes, at: u64, what: &str) -> Result<[u8; HEADER_BYTES], Fault> {
    let mut header = [0; HEADER_BYTES];
    bytes.read_at(at, &mut header).map_err(|error| Fault::read(what, &error))?;
    if header[..4] != *MAGIC {
        return Err(Fault::new(format!("{what} is not there"))
            .hint("the file was cut short or changed on its way: copy or export it again"));
    }
    Ok(header)
}

impl Sparse {
    pub fn open(bytes: Source) -> Result<Sparse, Fault> {
        let mut found = header(bytes.as_ref(), 0, "the header of the sparse disk")?;
        let descriptor = (u64_at(&found, 28), u64_at(&found, 36));
        if u64_at(&found, 56) == AT_END {
            let at = bytes.length().checked_sub(FOOTER_FROM_END_BYTES);
            let at = at.ok_or_else(|| Fault::new("the file has no room for a footer"))?;
            found = header(bytes.as_ref(), at, "the footer of the disk")?;
        }
        let version = u32_at(&found, 4);
        if !(1..=3).contains(&version) {
            return Err(Fault::new(format!("the sparse disk has version {version}, which is not known")));
        }
        // What a transfer as text would have changed.
        if found[73..77] != *b"\n \r\n" {
            return Err(Fault::new("the file was transferred as text, and its bytes were changed")
                .hint("transfer it again as binary"));
        }
        let flags = u32_at(&found, 8);
        let sectors = |at| u64_at(&found, at).checked_mul(SECTOR_BYTES);
        let capacity = sectors(12).filter(|bytes| *bytes <= CAPACITY_MAX_BYTES).ok_or_else(too_large)?;
        let grain = sectors(20).filter(|grain| grain.is_power_of_two());
        let grain = grain.filter(|grain| (SECTOR_BYTES..=GRAIN_MAX_BYTES).contains(grain));
        let grain = grain.ok_or_else(|| {
            Fault::new(format!("the disk has grains of {} sectors, which none has", u64_at(&found, 20)))
        })?;
        let entries = u64::from(u32_at(&found, 44));
        if !(1..=ENTRIES_MAX).contains(&entries) {
            return Err(Fault::new(format!(
                "the disk has grain tables of {entries} entries, which none has"
            )));
        }
        let compressed = flags & FLAG_COMPRESSED != 0;
        let algorithm = u16::from_le_bytes([found[77], found[78]]);
        if compressed && (algorithm != DEFLATE || flags & FLAG_MARKERS == 0) {
            return Err(Fault::new(format!(
                "the disk is compressed in a way that is not known (algorithm {algorithm}, flags {flags:08x}h)"
            )));
        }
        // All of the directory is there: a file that was cut short is found before a byte is copied.
        let directory_bytes = 4 * capacity.div_ceil(grain * entries);
        let directory =
            sectors(56).filter(|at| at.checked_add(directory_bytes).is_some_and(|end| end <= bytes.length()));
        let directory = directory.ok_or_else(|| {
            Fault::read("the disk's grain directory", &std::io::ErrorKind::UnexpectedEof.into())
        })?;
        Ok(Sparse {
            capacity,
            grain,
            entries,
            directory,
            descriptor,
            zeroed: flags & FLAG_ZEROED_GRAINS != 0,
            compressed,
            unclean: found[72] != 0,
            bytes,
        })
    }

    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    pub fn is_compressed(&self) -> bool {
        self.compressed
    }

    pub fn is_unclean(&self) -> bool {
        self.unclean
    }

    /// The descriptor in the file, if there is one.
    pub fn descriptor(&self) -> Result<Option<Vec<u8>>, Fault> {
        let (sector, sectors) = self.descriptor;
        if sector == 0 || sectors == 0 {
            return Ok(None);
        }
        let length = sectors.checked_mul(SECTOR_BYTES).filter(|length| *length <= DESCRIPTOR_MAX_BYTES);
        let length = length.ok_or_else(|| Fault::new(format!("the descriptor has {sectors} sectors")))?;
        let mut text = vec![0; length as usize];
        let at = sector.saturating_mul(SECTOR_BYTES);
        self.bytes.read_at(at, &mut text).map_err(|error| Fault::read("the descriptor", &error))?;
        Ok(Some(text))
    }

    /// The piece at `at`, of at most `left` bytes. `number` tells the extents of a disk apart.
    pub fn piece(
        &self,
        number: usize,
        at: u64,
        left: u64,
        into: &mut [u8],
        tables: &mut Tables,
    ) -> Result<Piece, Fault> {
        let covered = self.grain * self.entries;
        let table = self.directory_entry(number, at / covered, tables)?;
        if table == 0 {
            return Ok(Piece::Hole((covered - at % covered).min(left)));
        }
        let table = self.table(table, tables)?;
        let index = (at % covered / self.grain) as usize;
        let is_hole = |entry: u32| entry == 0 || (self.zeroed && entry == 1);
        let holes = table[index..].iter().take_while(|entry| is_hole(**entry)).count() as u64;
        let within = at % self.grain;
        if holes > 0 {
            return Ok(Piece::Hole((holes * self.grain - within).min(left)));
        }
        let place = u64::from(table[index]) * SECTOR_BYTES;
        let start = at - within;
        let some =
            into.len().min((self.grain - within) as usize).min(usize::try_from(left).unwrap_or(usize::MAX));
        if !self.compressed {
            let read = self.bytes.read_at(place + within, &mut into[..some]);
            read.map_err(|error| Fault::read("a grain of the disk", &error))?;
            return Ok(Piece::Data(some));
        }
        if tables.grain != Some((number, start)) {
            // What is in memory is no grain until the whole of it is there.
            tables.grain = None;
            self.inflate(place, start, tables)?;
            tables.grain = Some((number, start));
        }
        let from = within as usize;
        into[..some].copy_from_slice(&tables.plain[from..from + some]);
        Ok(Piece::Data(some))
    }

    /// The sector of a grain table, or 0.
    fn directory_entry(&self, number: usize, index: u64, tables: &mut Tables) -> Result<u32, Fault> {
        let first = index - index % ENTRIES_MAX;
        if tables.directory.as_ref().is_none_or(|(n, from, _)| (*n, *from) != (number, first)) {
            tables.table = None;
            let all = self.capacity.div_ceil(self.grain * self.entries);
            let count = (all - first).min(ENTRIES_MAX);
            let list = self.list(self.directory + 4 * first, count, "the disk's grain directory")?;
            tables.directory = Some((number, first, list));
        }
        let list = tables.directory.as_ref().map(|(_, _, list)| list.as_slice()).unwrap_or_default();
        Ok(list[(index - first) as usize])
    }

    fn table<'a>(&self, sector: u32, tables: &'a mut Tables) -> Result<&'a [u32], Fault> {
        if tables.table.as_ref().is_none_or(|(at, _)| *at != sector) {
            let place = u64::from(sector) * SECTOR_BYTES;
            tables.table = Some((sector, self.list(place, self.entries, "a grain table of the disk")?));
        }
        Ok(tables.table.as_ref().map(|(_, list)| list.as_slice()).unwrap_or_default())
    }

    fn list(&self, at: u64, count: u64, what: &str) -> Result<Vec<u32>, Fault> {
        let mut bytes = vec![0; 4 * count as usize];
        self.bytes.read_at(at, &mut bytes).map_err(|error| Fault::read(what, &error))?;
        Ok(bytes.chunks_exact(4).map(|entry| u32_at(entry, 0)).collect())
    }

    /// A compressed grain into `tables.plain`.
    fn inflate(&self, place: u64, start: u64, tables: &mut Tables) -> Result<(), Fault> {
        let broken = |how: &str| {
            Fault::new(format!("the grain at byte {start} of the disk is damaged: {how}"))
                .hint("copy or export the disk again")
        };
        let mut marker = [0; MARKER_BYTES as usize];
        self.bytes.read_at(place, &mut marker).map_err(|error| Fault::read("a grain of the disk", &error))?;
        if u64_at(&marker, 0).checked_mul(SECTOR_BYTES) != Some(start) {
            return Err(broken("its marker says that it is another's"));
        }
        // Deflate makes nothing much longer than it is.
        let size = u64::from(u32_at(&marker, 8));
        if size == 0 || size > 2 * self.grain + 1024 {
            return Err(broken(&format!("it says that it is compressed to {size} bytes")));
        }
        tables.packed.resize(size as usize, 0);
        let read = self.bytes.read_at(place + MARKER_BYTES, &mut tables.packed);
        read.map_err(|error| Fault::read("a grain of the disk", &error))?;
        tables.plain.clear();
        tables.plain.resize(self.grain as usize, 0);
        // RFC 1950, with its checksum.
        let mut inflater = Decompress::new(true);
        let status = inflater.decompress(&tables.packed, &mut tables.plain, FlushDecompress::Finish);
        match status {
            Ok(Status::StreamEnd) => {}
            Ok(_) => return Err(broken("it ends early, or is longer than a grain")),
            Err(error) => return Err(broken(&error.to_string())),
        }
        // The disk's last grain may be cut where the disk ends.
        let needed = self.grain.min(self.capacity - start);
        if inflater.total_out() < needed {
            return Err(broken("it is shorter than a grain"));
        }
        Ok(())
    }
}
