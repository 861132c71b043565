//! Files and block devices as volumes: how to open, lock, measure, create and grow them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};

use crate::ring::BLOCK_URING_CMD_DISCARD;

pub const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
pub const ZERO_RANGE: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;

/// Opens a file or a block device. `exclusive`: a block device that somebody else claims (a
/// mounted file system, RAID, another server) is refused with `ResourceBusy`.
pub fn open(path: &Path, read_only: bool, exclusive: bool) -> io::Result<File> {
    // Without O_CREAT, O_EXCL means something for block devices only (open(2)). Those do atomic writes
    // only if they were opened without page cache; see `make_direct` for the others.
    let flags = if exclusive { libc::O_EXCL | libc::O_DIRECT } else { 0 };
    // O_NONBLOCK: a FIFO in the place of a volume must not stop the server.
    OpenOptions::new().read(true).write(!read_only).custom_flags(flags | libc::O_NONBLOCK).open(path)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    BlockDevice,
    Other,
}

pub fn kind(file: &File) -> io::Result<Kind> {
    let kind = file.metadata()?.file_type();
    Ok(match () {
        () if kind.is_file() => Kind::File,
        () if kind.is_block_device() => Kind::BlockDevice,
        () => Kind::Other,
    })
}

/// What O_DIRECT asks of a transfer, in bytes; powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alignment {
    /// Of each piece's address in memory.
    pub memory: u32,
    /// Of the offset in the file, and of each piece's length.
    pub offset: u32,
}

/// Turns the page cache off for this open file, if file system and kernel can; says what they then
/// ask for. `None`: they cannot, or ask for offsets that are multiples of more than `offset_max`
/// bytes, and the page cache is on.
pub fn make_direct(file: &File, offset_max: u32) -> io::Result<Option<Alignment>> {
    let alignment = match statx(file, libc::STATX_DIOALIGN)? {
        found if found.stx_mask & libc::STATX_DIOALIGN == 0 => {
            // The file system does not say. A page is enough for all that are known.
            Alignment { memory: 4096, offset: 4096 }
        }
        found if found.stx_dio_offset_align == 0 => return make_cached(file),
        found => Alignment { memory: found.stx_dio_mem_align.max(1), offset: found.stx_dio_offset_align },
    };
    if alignment.offset > offset_max {
        return make_cached(file);
    }
    let flags = control(file, libc::F_GETFL, 0)?;
    match control(file, libc::F_SETFL, flags | libc::O_DIRECT) {
        Ok(_) => Ok(Some(alignment)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(None),
        Err(error) => Err(error),
    }
}

fn make_cached(file: &File) -> io::Result<Option<Alignment>> {
    let flags = control(file, libc::F_GETFL, 0)?;
    control(file, libc::F_SETFL, flags & !libc::O_DIRECT)?;
    Ok(None)
}

/// Lengths that the kernel writes to this file all or nothing, whenever the power is cut
/// (`WriteFlags::atomic`): powers of two from `min` to `max` bytes, at multiples of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtomicUnits {
    pub min: u32,
    pub max: u32,
}

/// `None`: none. Linux 6.11 or newer knows for block devices, and 6.13 for files.
pub fn atomic_units(file: &File) -> io::Result<Option<AtomicUnits>> {
    let found = statx(file, libc::STATX_WRITE_ATOMIC)?;
    let (min, max) = (found.stx_atomic_write_unit_min, found.stx_atomic_write_unit_max);
    let told = found.stx_mask & libc::STATX_WRITE_ATOMIC != 0 && min > 0 && min <= max;
    Ok((told && min.is_power_of_two() && max.is_power_of_two()).then_some(AtomicUnits { min, max }))
}

fn control(file: &File, command: i32, argument: i32) -> io::Result<i32> {
    // SAFETY: the commands used here take and return numbers.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

fn statx(file: &File, mask: u32) -> io::Result<libc::statx> {
    // SAFETY: all zeroes is a valid value of this C structure of integers.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let (flags, path) = (libc::AT_EMPTY_PATH, c"".as_ptr());
    // SAFETY: the path is a C string, and `found` is ours to be written.
    match unsafe { libc::statx(file.as_raw_fd(), path, flags, mask, &mut found) } {
        0 => Ok(found),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Claims a file for writing, or for reading beside other readers, for as long as this open file
/// exists. Returns false if somebody else has it and `patience` is over.
///
/// It is an open-file-description lock, on the very descriptor that transfers use: a request in
/// flight holds the open file, and so the lock. So the successor of a killed worker, which waits for
/// the lock of a volume, waits for the last of the dead one's requests on it. QEMU's image locks
/// are of the same kind, so it refuses a volume that we use, and we refuse one that it uses.
pub fn lock(file: &File, read_only: bool, patience: Duration) -> io::Result<bool> {
    let kind = if read_only { libc::F_RDLCK } else { libc::F_WRLCK };
    // SAFETY: all zeroes is a valid value of this C structure of integers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    // From 0 on for 0 bytes: the whole file, however long it gets.
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    let begin = Instant::now();
    loop {
        // SAFETY: the command reads the structure, which outlives the call.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) } == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        if !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES | libc::EINTR)) {
            return Err(error);
        }
        if begin.elapsed() >= patience {
            return Ok(false);
        }
        // F_OFD_SETLKW would wait without a limit.
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Bytes that a file, or a block device, has room for.
pub fn size(file: &File) -> io::Result<u64> {
    match kind(file)? {
        Kind::BlockDevice => {
            let mut bytes = 0u64;
            ioctl(file, BLKGETSIZE64, &mut bytes)?;
            Ok(bytes)
        }
        _ => Ok(file.metadata()?.len()),
    }
}

/// Bytes that a file takes from its store: less than its size if it is sparse.
pub fn allocated(file: &File) -> io::Result<u64> {
    // st_blocks counts units of 512 bytes whatever the file system's block is (stat(2)).
    Ok(file.metadata()?.blocks() * 512)
}

/// The file system's own block in bytes: the unit in which holes come.
pub fn block(file: &File) -> io::Result<u32> {
    Ok(u32::try_from(file.metadata()?.blksize()).unwrap_or(4096))
}

/// Makes a file of zeroes that takes no space yet; it and its name are on stable storage.
pub fn create(path: &Path, bytes: u64) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    let made = file.set_len(bytes).and_then(|()| file.sync_all()).and_then(|()| sync_directory(path));
    if let Err(error) = made {
        // The name is ours (`create_new`), and the first error is the one to tell.
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    Ok(file)
}

/// Makes a file longer by zeroes that take no space yet. Refuses to make it shorter.
pub fn grow(file: &File, bytes: u64) -> io::Result<()> {
    let now = file.metadata()?.len();
    if bytes < now {
        let message = format!("a volume of {now} bytes cannot be made smaller, to {bytes}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    file.set_len(bytes)?;
    file.sync_all()
}

/// Puts the names in the directory of `path` on stable storage.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// fallocate(2).
pub fn allocate(file: &File, mode: i32, offset: u64, len: u64) -> io::Result<()> {
    let range = libc::off_t::try_from(offset).ok().zip(libc::off_t::try_from(len).ok());
    let (offset, len) = range.ok_or(io::ErrorKind::InvalidInput)?;
    loop {
        // SAFETY: no pointers are passed.
        if unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) } == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}

/// Whether the file system can give space back. Asks for a hole behind the end, where nothing is.
pub fn punches_holes(file: &File) -> io::Result<bool> {
    let end = file.metadata()?.len().next_multiple_of(4096);
    match allocate(file, PUNCH_HOLE, end, 4096) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => Ok(false),
            _ => Err(error),
        },
    }
}

/// What a block device says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub bytes: u64,
    pub logical_block: u32,
    pub physical_block: u32,
    /// 0 if unknown.
    pub optimal_transfer: u32,
    pub read_only: bool,
    pub rotational: bool,
    pub write_cache: bool,
    /// In bytes; 0 if it cannot discard.
    pub discard_granularity: u32,
    /// It can write zeroes without being sent any.
    pub writes_zeroes: bool,
}

impl Geometry {
    pub fn of(file: &File) -> io::Result<Self> {
        let mut logical: libc::c_int = 0;
        ioctl(file, BLKSSZGET, &mut logical)?;
        let mut physical: libc::c_uint = 0;
        ioctl(file, BLKPBSZGET, &mut physical)?;
        let mut optimal: libc::c_uint = 0;
        ioctl(file, BLKIOOPT, &mut optimal)?;
        let mut read_only: libc::c_int = 0;
        ioctl(file, BLKROGET, &mut read_only)?;
        let device = file.metadata()?.rdev();
        let (major, minor) = (libc::major(device), libc::minor(device));
        let limit = |name: &str| queue_attribute(major, minor, name);
        let number = |name: &str| limit(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let granularity = if number("discard_max_bytes") > 0 { number("discard_granularity") } else { 0 };
        Ok(Self {
            bytes: size(file)?,
            logical_block: logical as u32,
            physical_block: physical,
            optimal_transfer: optimal,
            read_only: read_only != 0,
            rotational: number("rotational") != 0,
            // A device that does not say is taken to have a cache: flushes then cost, and lose nothing.
            write_cache: limit("write_cache").is_none_or(|text| text != "write through"),
            discard_granularity: u32::try_from(granularity).unwrap_or(0),
            writes_zeroes: number("write_zeroes_max_bytes") > 0,
        })
    }
}

/// Whether the file system's disk turns; `None` if it is not known to lie on one.
pub fn is_rotational(file: &File) -> io::Result<Option<bool>> {
    let device = file.metadata()?.dev();
    Ok(queue_attribute(libc::major(device), libc::minor(device), "rotational").map(|text| text != "0"))
}

/// A partition's queue is its disk's.
fn queue_attribute(major: u32, minor: u32, name: &str) -> Option<String> {
    ["queue", "../queue"].iter().find_map(|queue| {
        let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/{queue}/{name}")).ok()?;
        Some(text.trim().to_string())
    })
}

/// Whether `Ring::discard` works on this block device: Linux 6.12 or newer, and a device that
/// discards. Asks to discard nothing, which the kernel refuses as invalid if it knows the command.
pub fn discards_by_ring(file: &File) -> io::Result<bool> {
    let mut ring = IoUring::new(1)?;
    let fd = types::Fd(file.as_raw_fd());
    let sqe = opcode::UringCmd16::new(fd, BLOCK_URING_CMD_DISCARD).build();
    // SAFETY: the command carries numbers only, and its result is waited for below.
    unsafe { ring.submission().push(&sqe) }.expect("the SQ is empty");
    loop {
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        if let Some(cqe) = ring.completion().next() {
            return Ok(cqe.result() == -libc::EINVAL);
        }
    }
}

const BLKROGET: libc::Ioctl = 0x125e;
const BLKSSZGET: libc::Ioctl = libc::BLKSSZGET;
const BLKIOOPT: libc::Ioctl = 0x1279;
const BLKPBSZGET: libc::Ioctl = libc::BLKPBSZGET;
/// `_IOR(0x12, 114, size_t)`.
const BLKGETSIZE64: libc::Ioctl = 0x8008_1272;

/// An ioctl that fills in one number of the kernel's width for it.
fn ioctl<T: Copy>(file: &File, request: libc::Ioctl, number: &mut T) -> io::Result<()> {
    // SAFETY: the requests above write one number, and each caller passes one of that width.
    match unsafe { libc::ioctl(file.as_raw_fd(), request, std::ptr::from_mut(number)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::path::PathBuf;

    /// A path of this test's own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("standpipe-host-{}-{name}", std::process::id())))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_new_volume_takes_no_space_and_only_grows() {
        let path = Scratch::new("create");
        let file = create(&path.0, 1 << 30).unwrap();
        assert_eq!(size(&file).unwrap(), 1 << 30);
        assert!(allocated(&file).unwrap() < 1 << 20);
        assert_eq!(create(&path.0, 1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        grow(&file, 2 << 30).unwrap();
        assert!(grow(&file, 1 << 30).is_err());
        assert_eq!(size(&file).unwrap(), 2 << 30);
        assert_eq!(kind(&file).unwrap(), Kind::File);
    }

    #[test]
    fn a_hole_gives_space_back_and_reads_as_zeroes() {
        let path = Scratch::new("hole");
        let mut file = create(&path.0, 1 << 20).unwrap();
        file.write_all(&vec![7; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        let full = allocated(&file).unwrap();
        assert!(punches_holes(&file).unwrap());
        assert_eq!(size(&file).unwrap(), 1 << 20, "asking must not change the size");
        allocate(&file, PUNCH_HOLE, 0, 512 << 10).unwrap();
        assert!(allocated(&file).unwrap() <= full - (512 << 10));
        let mut first = [1];
        File::open(&path.0).unwrap().read_exact(&mut first).unwrap();
        assert_eq!(first, [0]);
    }

    #[test]
    fn a_volume_has_one_writer_or_many_readers() {
        let path = Scratch::new("lock");
        let writer = create(&path.0, 4096).unwrap();
        let claim = |read_only| {
            let file = open(&path.0, read_only, false).unwrap();
            let got = lock(&file, read_only, Duration::from_millis(1)).unwrap();
            (got, file)
        };
        assert!(lock(&writer, false, Duration::ZERO).unwrap());
        assert!(!claim(false).0);
        assert!(!claim(true).0);
        drop(writer);
        let readers = [claim(true), claim(true)];
        assert!(readers.iter().all(|reader| reader.0));
        assert!(!claim(false).0);
    }

    #[test]
    fn what_direct_transfers_ask_for_is_a_power_of_two() {
        let path = Scratch::new("direct");
        let file = create(&path.0, 4096).unwrap();
        if let Some(alignment) = make_direct(&file, 4096).unwrap() {
            assert!(alignment.memory.is_power_of_two() && alignment.offset.is_power_of_two());
        }
        assert!(!discards_by_ring(&file).unwrap(), "a file is no block device");
    }
}
