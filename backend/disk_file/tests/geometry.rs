//! Block sizes on file systems of several kinds: what guests are told, and that it all works.

#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use conformance::{Subject, check};
use disk::Disk;
use host::file;
use host::ring::Ring;
use request::{Blocks, Instant};
use standpipe_disk_file::{DiskFile, Options};

const BYTES: u64 = 16 << 20;

/// A path that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(folder: &Path, name: &str, bytes: u64) -> Self {
        let path = folder.join(format!("standpipe-geometry-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        file::create(&path, bytes).unwrap();
        Self(path)
    }

    fn set_len(&self, bytes: u64) {
        OpenOptions::new().write(true).open(&self.0).unwrap().set_len(bytes).unwrap();
    }

    fn options(&self, block_size: u32, physical_block_size: Option<u32>) -> Options {
        Options {
            path: self.0.clone(),
            read_only: false,
            block_size,
            physical_block_size,
            direct: true,
            identity: conformance::identity(),
            patience: Duration::ZERO,
        }
    }

    fn open(&self, block_size: u32) -> (Rc<Ring>, DiskFile) {
        let ring = Rc::new(Ring::new(32).unwrap());
        let disk = DiskFile::open(Rc::clone(&ring), self.options(block_size, None)).unwrap();
        (ring, disk)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A file system of its own kind on a loop device, unmounted at the end.
struct Mount {
    image: PathBuf,
    device: String,
    folder: PathBuf,
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
        }
        Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

impl Mount {
    /// `None`, with the reason on the terminal, where this cannot be done.
    fn new(name: &str, sector: u32, mkfs: &[&str]) -> Option<Self> {
        Self::make(name, sector, mkfs).map_err(|reason| println!("skipped: {reason}")).ok()
    }

    fn make(name: &str, sector: u32, mkfs: &[&str]) -> Result<Self, String> {
        let place = std::env::temp_dir().join(format!("standpipe-geometry-{}-{name}", std::process::id()));
        let (image, folder) = (place.with_extension("image"), place.with_extension("mount"));
        let file = File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(400 << 20).map_err(|error| error.to_string())?;
        let image_path = image.display().to_string();
        let sector = sector.to_string();
        let options = ["--find", "--show", "--direct-io=on", "--sector-size", &sector, &image_path];
        let mut mount = Self { image, device: String::new(), folder };
        mount.device = run("losetup", &options)?;
        run(mkfs[0], &[&mkfs[1..], &[&mount.device]].concat())?;
        std::fs::create_dir_all(&mount.folder).map_err(|error| error.to_string())?;
        run("mount", &[&mount.device, &mount.folder.display().to_string()])?;
        Ok(mount)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !self.device.is_empty() {
            let _ = Command::new("umount").arg(&self.folder).output();
            let _ = run("losetup", &["--detach", &self.device]);
        }
        let _ = std::fs::remove_dir(&self.folder);
        let _ = std::fs::remove_file(&self.image);
    }
}

/// Lets the kernel work.
fn turn(ring: &Ring) -> Instant {
    ring.reap(&mut Vec::new());
    ring.wait().unwrap();
    ring.reap(&mut Vec::new());
    Instant::default()
}

fn conforms(scratch: &Scratch, block_size: u32) -> DiskFile {
    let (ring, mut disk) = scratch.open(block_size);
    let path = &scratch.0;
    check(Subject {
        disk: &mut disk,
        pump: &mut || turn(&ring),
        keeps_data: true,
        allocated: Some(&|| file::allocated(&File::open(path).unwrap()).unwrap()),
        tells_holes: true,
        grow: Some(&|bytes| scratch.set_len(bytes)),
    });
    disk
}

#[test]
fn blocks_of_2048_bytes_conform() {
    let scratch = Scratch::new(&std::env::temp_dir(), "2048", BYTES);
    let disk = conforms(&scratch, 2048);
    assert_eq!(disk.facts().shift(), 11);
}

#[test]
fn guests_are_told_the_physical_block_that_was_asked_for() {
    let scratch = Scratch::new(&std::env::temp_dir(), "physical", BYTES);
    let open = |block_size, physical| {
        let ring = Rc::new(Ring::new(4).unwrap());
        let disk = DiskFile::open(ring, scratch.options(block_size, physical));
        disk.map(|disk| disk.facts().physical_exponent).map_err(|error| error.to_string())
    };
    // 512n, 512e and 4Kn.
    assert_eq!(open(512, Some(512)), Ok(0));
    assert_eq!(open(512, Some(4096)), Ok(3));
    assert_eq!(open(4096, Some(4096)), Ok(0));
    assert_eq!(open(2048, Some(2048)), Ok(0));
    let message = |physical: u32, block: u32| {
        Err(format!(
            "physical block size {physical} is not a power of two from the block size {block} to 65536"
        ))
    };
    assert_eq!(open(4096, Some(512)), message(512, 4096));
    assert_eq!(open(512, Some(1000)), message(1000, 512));
    assert_eq!(open(512, Some(131_072)), message(131_072, 512));
}

#[test]
fn what_is_behind_the_last_whole_block_is_no_part_of_the_volume() {
    let scratch = Scratch::new(&std::env::temp_dir(), "odd", 10 * 2048 + 700);
    let (_ring, mut disk) = scratch.open(2048);
    assert_eq!(disk.facts().blocks, Blocks(10));
    assert!(!disk.resize());
    scratch.set_len(11 * 2048 - 1);
    assert!(!disk.resize());
    scratch.set_len(11 * 2048);
    assert!(disk.resize());
    assert_eq!(disk.facts().blocks, Blocks(11));
    scratch.set_len(9 * 2048 + 2047);
    assert!(!disk.resize(), "a loss is no new capacity");
    assert!(disk.take_cause().is_some_and(|cause| cause.contains("20479 bytes and its volume 22528")));
}

/// Blocks of 512 bytes on a disk of 4096: the page cache reads what is around a block, and writes it
/// back.
#[test]
fn blocks_smaller_than_direct_transfers_go_by_the_page_cache() {
    let Some(mount) = Mount::new("4k", 4096, &["mkfs.ext4", "-q", "-b", "4096"]) else { return };
    let scratch = Scratch::new(&mount.folder, "512", BYTES);
    let disk = conforms(&scratch, 512);
    assert!(!disk.is_direct());
    assert_eq!((disk.facts().physical_exponent, disk.facts().atomic), (3, None));
    drop(disk);
    let scratch = Scratch::new(&mount.folder, "4096", BYTES);
    let disk = conforms(&scratch, 4096);
    assert!(disk.is_direct());
}

/// Blocks of 4096 bytes on a file system of 1024: a hole may begin in the middle of one.
#[test]
fn holes_smaller_than_a_block_are_rounded_away() {
    let Some(mount) = Mount::new("1k", 512, &["mkfs.ext4", "-q", "-b", "1024"]) else { return };
    for block_size in [512, 4096] {
        conforms(&Scratch::new(&mount.folder, &block_size.to_string(), BYTES), block_size);
    }
}

/// XFS writes as much at once as a log record describes, from Linux 6.16 on, on any disk.
#[test]
fn a_file_system_with_atomic_writes_has_them_used() {
    let Some(mount) = Mount::new("xfs", 512, &["mkfs.xfs", "-q", "-f"]) else { return };
    let scratch = Scratch::new(&mount.folder, "atomic", BYTES);
    let units = file::atomic_units(&File::open(&scratch.0).unwrap()).unwrap();
    let disk = conforms(&scratch, 512);
    let promised = disk.facts().atomic.map(|atomic| atomic.max.0 * 512);
    println!("the kernel tells {units:?}, promised are {promised:?} bytes");
    assert_eq!(promised.is_some(), units.is_some());
    if let Some(bytes) = promised {
        assert!((4096..=16_384).contains(&bytes));
    }
}
