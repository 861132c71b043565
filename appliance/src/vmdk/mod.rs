//! Virtual disks of VMware ("Virtual Disk Format 5.0"): a text that names extents, and extents that
//! are flat or sparse. In one file with its text: monolithicSparse and streamOptimized.

mod descriptor;
mod sparse;

use crate::{Bytes, Fault, Part, Source};
use descriptor::{Descriptor, Place};
use sparse::Sparse;
use std::collections::BTreeMap;
use std::sync::Arc;

pub const SECTOR_BYTES: u64 = 512;
/// vSphere's largest virtual disk has 62 TB.
pub const CAPACITY_MAX_BYTES: u64 = 64 << 40;

/// A disk whose bytes can be read.
pub struct Disk {
    extents: Vec<Extent>,
    capacity: u64,
    unclean: bool,
    /// The bytes of its files, each counted once.
    stored: u64,
}

struct Extent {
    from: u64,
    length: u64,
    data: Data,
}

enum Data {
    Flat(Source),
    Zero,
    Sparse(Sparse),
}

/// A piece of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes at the start of the buffer.
    Data(usize),
    /// So many zeros.
    Hole(u64),
}

/// Whether these bytes are a VMDK, by its first ones.
pub fn is_vmdk(bytes: &dyn Bytes) -> bool {
    let mut start = [0; 4];
    let magic = bytes.read_at(0, &mut start).is_ok()
        && [*sparse::MAGIC, *sparse::MAGIC_ESX, *sparse::MAGIC_SE].contains(&start);
    magic || descriptor::is_descriptor(bytes)
}

impl Disk {
    /// A disk from its main file. `find` gives the files that a descriptor names, all of which lie
    /// beside it.
    pub fn open(main: &Source, find: &mut dyn FnMut(&str) -> Result<Source, Fault>) -> Result<Disk, Fault> {
        let mut start = [0; 4];
        let start = main.read_at(0, &mut start).map(|()| start);
        match start {
            Ok(magic) if magic == *sparse::MAGIC => Disk::monolithic(main),
            Ok(magic) if magic == *sparse::MAGIC_ESX => {
                Err(snapshot("a redo log of an ESX host (vmfsSparse)"))
            }
            Ok(magic) if magic == *sparse::MAGIC_SE => {
                Err(snapshot("a space-efficient sparse disk (seSparse)"))
            }
            _ if descriptor::is_descriptor(main.as_ref()) => Disk::described(main, find),
            _ => Err(Fault::new("the file is no VMDK").hint("qemu-img info FILE says what it is")),
        }
    }

    /// One sparse file that has its descriptor in it.
    fn monolithic(main: &Source) -> Result<Disk, Fault> {
        let sparse = Sparse::open(main.clone())?;
        // An extent of a disk in several files may have been named in the place of its descriptor.
        let text = sparse.descriptor()?.ok_or_else(|| {
            Fault::new("the file is one extent of a disk, without its descriptor")
                .hint("name the small .vmdk file that lists the extents")
        })?;
        let descriptor = Descriptor::parse(&text)?;
        let capacity = sparse.capacity();
        let disk = Disk {
            unclean: sparse.is_unclean(),
            extents: vec![Extent { from: 0, length: capacity, data: Data::Sparse(sparse) }],
            capacity,
            stored: main.length(),
        };
        disk.refuse_empty()?;
        descriptor.refuse_parent()?;
        // The extent's name in it is of no use: it is this file, whatever it is called by now.
        if descriptor.extents.len() > 1 {
            return Err(Fault::new("the descriptor in the file names further files"));
        }
        Ok(disk)
    }

    fn described(main: &Source, find: &mut dyn FnMut(&str) -> Result<Source, Fault>) -> Result<Disk, Fault> {
        let descriptor = Descriptor::read(main.as_ref())?;
        descriptor.refuse_parent()?;
        let mut disk = Disk { extents: Vec::new(), capacity: 0, unclean: false, stored: 0 };
        // By where they are in memory: the same file may have several names. Held, so that no other
        // takes the place of one; and whether an extent is a sparse one.
        let mut files: BTreeMap<usize, (Source, bool)> = BTreeMap::new();
        for extent in descriptor.extents {
            let from = disk.capacity;
            let length = extent.sectors.checked_mul(SECTOR_BYTES).ok_or_else(too_large)?;
            disk.capacity = from.checked_add(length).ok_or_else(too_large)?;
            if disk.capacity > CAPACITY_MAX_BYTES {
                return Err(too_large());
            }
            let data = match extent.place {
                Place::Zero => Data::Zero,
                Place::Flat { file, sector } => {
                    let at = sector.checked_mul(SECTOR_BYTES);
                    let source = find(&file)?;
                    files.entry(address(&source)).or_insert_with(|| (source.clone(), false));
                    match at.and_then(|at| Part::new(source, at, length)) {
                        Some(part) => Data::Flat(Arc::new(part)),
                        None => {
                            return Err(Fault::new(format!(
                                "`{file}` is shorter than the descriptor says ({length} bytes)"
                            ))
                            .hint("it was cut short on its way: copy or export it again"));
                        }
                    }
                }
                Place::Sparse { file } => {
                    let source = find(&file)?;
                    if files.insert(address(&source), (source.clone(), true)).is_some_and(|(_, twice)| twice)
                    {
                        return Err(Fault::new(format!("the descriptor names the extent `{file}` twice"))
                            .hint("do not trust this disk"));
                    }
                    let sparse = Sparse::open(source)
                        .map_err(|fault| Fault { what: format!("`{file}`: {}", fault.what), ..fault })?;
                    if sparse.capacity() < length {
                        return Err(Fault::new(format!(
                            "`{file}` has {} bytes, and the descriptor says {length}",
                            sparse.capacity()
                        )));
                    }
                    disk.unclean |= sparse.is_unclean();
                    Data::Sparse(sparse)
                }
            };
            disk.extents.push(Extent { from, length, data });
        }
        disk.refuse_empty()?;
        let lengths = files.values().map(|(source, _)| source.length());
        disk.stored = lengths.fold(0, u64::saturating_add);
        Ok(disk)
    }

    /// A descriptor that was cut short names no extents.
    fn refuse_empty(&self) -> Result<(), Fault> {
        if self.capacity > 0 {
            return Ok(());
        }
        Err(Fault::new("the disk has no bytes: its descriptor names no extents, or empty ones")
            .hint("the file was cut short or changed on its way: copy or export it again"))
    }

    /// What a guest sees, in bytes; a multiple of 512.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// It was open when it was copied, or its host died: its last writes may be missing.
    pub fn is_unclean(&self) -> bool {
        self.unclean
    }

    /// The next piece, never an empty one; `None` at the end. `buffer` must not be empty.
    pub fn next(&self, cursor: &mut Cursor, buffer: &mut [u8]) -> Result<Option<Piece>, Fault> {
        // Extents of no sectors are passed over: they begin where the next does.
        let index = self.extents.partition_point(|extent| extent.from <= cursor.at);
        let Some((number, extent)) = index.checked_sub(1).and_then(|n| Some((n, self.extents.get(n)?)))
        else {
            return Ok(None);
        };
        let into = cursor.at - extent.from;
        let left = extent.length.saturating_sub(into);
        if left == 0 {
            return Ok(None);
        }
        let some = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let piece = match &extent.data {
            Data::Zero => Piece::Hole(left),
            Data::Flat(bytes) => {
                let read = bytes.read_at(into, &mut buffer[..some]);
                read.map_err(|error| Fault::read("an extent", &error))?;
                cursor.plain += some as u64;
                Piece::Data(some)
            }
            Data::Sparse(sparse) => {
                let piece = sparse.piece(number, into, left, &mut buffer[..some], &mut cursor.tables)?;
                if let (Piece::Data(bytes), false) = (piece, sparse.is_compressed()) {
                    cursor.plain += bytes as u64;
                }
                piece
            }
        };
        // Each byte of a file stands for one of the disk, unless it is compressed. A small file whose
        // grains are all in one place would fill any store.
        if cursor.plain > self.stored {
            return Err(Fault::new("the disk's grains or extents overlap: it has more data than its files")
                .hint("do not trust this disk"));
        }
        cursor.at += match piece {
            Piece::Data(bytes) => bytes as u64,
            Piece::Hole(bytes) => bytes,
        };
        Ok(Some(piece))
    }
}

/// Where a disk is being read, from its beginning on. It belongs to one disk.
#[derive(Default)]
pub struct Cursor {
    at: u64,
    /// Bytes that came as they stand in a file.
    plain: u64,
    tables: sparse::Tables,
}

fn address(source: &Source) -> usize {
    Arc::as_ptr(source).cast::<()>() as usize
}

fn too_large() -> Fault {
    Fault::new(format!("the disk says that it has more than {} TiB", CAPACITY_MAX_BYTES >> 40))
}

fn snapshot(what: &str) -> Fault {
    Fault::new(format!("the disk is {what}: what a snapshot adds to its parent, and not a whole disk")).hint(
        "delete the VM's snapshots first, or export it (OVF, or `vmkfstools -i DISK COPY`), which makes whole disks",
    )
}
