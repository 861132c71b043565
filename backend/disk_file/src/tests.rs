use super::*;

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use conformance::{Subject, check, check_read_only};
use guest_memory::Memory;
use request::{Extent, Lba, Span};

const BYTES: u64 = 16 << 20;

/// A file of this test's own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(folder: &Path, name: &str) -> Self {
        let path = folder.join(format!("standpipe-disk-file-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        file::create(&path, BYTES).unwrap();
        Self(path)
    }

    fn temporary(name: &str) -> Self {
        Self::new(&std::env::temp_dir(), name)
    }

    fn options(&self, block_size: u32, direct: bool) -> Options {
        Options {
            path: self.0.clone(),
            read_only: false,
            block_size,
            physical_block_size: None,
            direct,
            identity: conformance::identity(),
            patience: Duration::ZERO,
        }
    }

    fn set_len(&self, bytes: u64) {
        OpenOptions::new().write(true).open(&self.0).unwrap().set_len(bytes).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn ring() -> Rc<Ring> {
    Rc::new(Ring::new(32).unwrap())
}

/// Lets the kernel work.
fn turn(ring: &Ring) -> Instant {
    ring.reap(&mut Vec::new());
    ring.wait().unwrap();
    ring.reap(&mut Vec::new());
    Instant::default()
}

fn conforms(scratch: &Scratch, block_size: u32, direct: bool) -> bool {
    let ring = ring();
    let mut disk = DiskFile::open(Rc::clone(&ring), scratch.options(block_size, direct)).unwrap();
    let is_direct = disk.is_direct();
    let path = &scratch.0;
    check(Subject {
        disk: &mut disk,
        pump: &mut || turn(&ring),
        keeps_data: true,
        allocated: Some(&|| file::allocated(&File::open(path).unwrap()).unwrap()),
        tells_holes: true,
        grow: Some(&|bytes| scratch.set_len(bytes)),
    });
    is_direct
}

#[test]
fn conforms_with_page_cache() {
    for block_size in [512, 4096] {
        conforms(&Scratch::temporary(&format!("cached-{block_size}")), block_size, false);
    }
}

#[test]
fn conforms_without_page_cache() {
    for block_size in [512, 4096] {
        let direct = conforms(&Scratch::temporary(&format!("direct-{block_size}")), block_size, true);
        println!("block_size={block_size} direct={direct}");
    }
}

/// A file system without FALLOC_FL_ZERO_RANGE, where zeroes are written.
#[test]
fn conforms_on_tmpfs() {
    let folder = Path::new("/dev/shm");
    if folder.is_dir() {
        conforms(&Scratch::new(folder, "tmpfs"), 512, true);
    } else {
        println!("skipped: no /dev/shm here");
    }
}

#[test]
fn a_reader_refuses_writes() {
    let scratch = Scratch::temporary("read-only");
    let ring = ring();
    let options = Options { read_only: true, ..scratch.options(512, true) };
    let mut disk = DiskFile::open(Rc::clone(&ring), options).unwrap();
    check_read_only(&mut disk, &mut || turn(&ring));
}

#[test]
fn a_volume_in_use_is_refused_with_a_message() {
    let scratch = Scratch::temporary("in-use");
    let user = DiskFile::open(ring(), scratch.options(512, true)).unwrap();
    let error = DiskFile::open(ring(), scratch.options(512, true)).err().unwrap();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(user);
    DiskFile::open(ring(), scratch.options(512, true)).unwrap();

    let error = DiskFile::open(ring(), scratch.options(1024, true)).err().unwrap();
    assert_eq!(error.to_string(), "block size 1024 is none of 512, 2048 and 4096");
    scratch.set_len(511);
    let error = DiskFile::open(ring(), scratch.options(512, true)).err().unwrap();
    assert!(error.to_string().ends_with("511 bytes are less than one block of 512"), "{error}");
    let options = Options { path: std::env::temp_dir(), read_only: true, ..scratch.options(512, true) };
    let error = DiskFile::open(ring(), options).err().unwrap();
    assert!(error.to_string().ends_with("not a regular file"), "{error}");
    std::fs::remove_file(&scratch.0).unwrap();
    let error = DiskFile::open(ring(), scratch.options(512, true)).err().unwrap();
    assert!(error.to_string().contains("No such file"), "{error}");
}

struct Bench {
    ring: Rc<Ring>,
    disk: DiskFile,
    memory: Arc<Memory>,
}

impl Bench {
    fn new(options: Options) -> Self {
        let ring = ring();
        let disk = DiskFile::open(Rc::clone(&ring), options).unwrap();
        Self { ring, disk, memory: Memory::anonymous(1 << 20) }
    }

    fn extent(&self, first: u64) -> Extent {
        self.disk.facts().extent(Lba(first), Blocks(8)).unwrap()
    }

    fn run(&mut self, now: Instant, operation: Operation) -> Status {
        let span = [Span { offset: 0, len: 4096, region: 0 }];
        let spans = if operation == Operation::Flush { &[][..] } else { &span };
        self.disk.submit(now, 1, operation, Data { memory: &self.memory, spans });
        let mut ended = None;
        while ended.is_none() {
            turn(&self.ring);
            self.disk.poll(now, &mut |tag, status| {
                assert_eq!(tag, 1);
                ended = Some(status);
            });
        }
        ended.unwrap()
    }
}

#[test]
fn a_truncated_file_gives_errors_and_no_zeroes() {
    let scratch = Scratch::temporary("truncated");
    let mut bench = Bench::new(scratch.options(512, true));
    let now = Instant::default();
    let last = bench.extent(BYTES / 512 - 8);
    assert_eq!(bench.run(now, Operation::Read(last)), Status::Good);
    scratch.set_len(BYTES / 2);
    assert_eq!(bench.run(now, Operation::Read(last)), Status::NotReady);
    let cause = bench.disk.take_cause().unwrap();
    assert!(cause.contains("too short") && cause.contains("read of 4096 bytes"), "{cause}");
    assert_eq!(bench.disk.take_cause(), None);
    // What would have made the file long again, with zeroes in it, is refused.
    assert_eq!(bench.run(now, Operation::Write { extent: last, fua: false }), Status::NotReady);
    assert!(!bench.disk.resize());
    assert_eq!(bench.disk.facts().capacity_bytes(), BYTES, "a loss is no new capacity");
    // The operator has put it right, and it is found out without being told.
    scratch.set_len(BYTES);
    let later = now.after(Duration::from_secs(2));
    while bench.run(later, Operation::Read(last)) == Status::NotReady {}
    assert_eq!(bench.run(later, Operation::Write { extent: last, fua: false }), Status::Good);
}

#[test]
fn a_truncation_is_found_by_a_volume_that_is_only_written() {
    let scratch = Scratch::temporary("truncated-written");
    let mut bench = Bench::new(scratch.options(512, true));
    let first = bench.extent(0);
    let write = Operation::Write { extent: first, fua: false };
    assert_eq!(bench.run(Instant::default(), write), Status::Good);
    scratch.set_len(BYTES / 2);
    let later = Instant::default().after(Duration::from_secs(2));
    while bench.run(later, write) == Status::Good {}
    let cause = bench.disk.take_cause().unwrap();
    assert!(cause.contains("the file has 8388608 bytes and its volume 16777216"), "{cause}");
}

#[test]
fn what_is_read_is_noted_in_the_dirty_log() {
    use guest_memory::{Log, Window};
    use host::map::Mapping;
    let scratch = Scratch::temporary("dirty");
    let mut bench = Bench::new(scratch.options(512, true));
    let bits = Arc::new(Mapping::anonymous(4096).unwrap());
    bench.memory = bench.memory.with_log(Some(Log::new(Arc::clone(&bits), 0, 4096).unwrap()));
    let seen = Window::new(bits, 0, 4096).unwrap();
    let extent = bench.extent(0);
    assert_eq!(bench.run(Instant::default(), Operation::Write { extent, fua: false }), Status::Good);
    assert_eq!(seen.load_u8(0), 0, "a write of the guest's reads its memory");
    assert_eq!(bench.run(Instant::default(), Operation::Read(extent)), Status::Good);
    assert_eq!(seen.load_u8(0), 1);
}

/// A small tmpfs, unmounted at the end.
struct Mount(PathBuf);

impl Mount {
    fn new(bytes: u64) -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("standpipe-disk-file-{}-mount", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"])
            .arg(&folder)
            .output();
        match mount {
            Ok(output) if output.status.success() => return Some(Self(folder)),
            Ok(output) => println!("skipped: {}", String::from_utf8_lossy(&output.stderr).trim()),
            Err(error) => println!("skipped: mount: {error}"),
        }
        let _ = std::fs::remove_dir(&folder);
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_full_store_is_told_as_such_and_the_volume_goes_on_when_there_is_space() {
    let Some(mount) = Mount::new(4 << 20) else { return };
    let scratch = Scratch::new(&mount.0, "full");
    let mut bench = Bench::new(scratch.options(512, true));
    let now = Instant::default();
    let (mut written, mut status) = (0, Status::Good);
    while status == Status::Good {
        let extent = bench.extent(written * 8);
        status = bench.run(now, Operation::Write { extent, fua: false });
        written += 1;
        assert!(written <= 1025, "4 MiB hold 1024 pages");
    }
    assert_eq!(status, Status::NoSpace);
    let cause = bench.disk.take_cause().unwrap();
    assert!(cause.contains("No space left on device"), "{cause}");
    assert_eq!(bench.run(now, Operation::Read(bench.extent(0))), Status::Good);
    // Zeroes would take space too, and say so; a hole makes some.
    let beyond = bench.extent(20_000);
    let zeroes = Operation::WriteZeroes { extent: beyond, unmap: false, fua: false };
    assert_eq!(bench.run(now, zeroes), Status::NoSpace);
    assert_eq!(bench.run(now, Operation::Discard(bench.extent(0))), Status::Good);
    assert_eq!(bench.run(now, Operation::Write { extent: beyond, fua: true }), Status::Good);
    drop((bench, scratch));
}
