//! A store without space: the guest is told so in the words of its protocol, and when there is
//! space again the same write works.

use std::path::{Path, PathBuf};
use std::process::Command;

use bench::driver::disk::{Disk, Operation};
use bench::driver::disk::{Kind, Outcome, Request};
use bench::driver::scsi::Sense;
use tempfile::TempDir;

use crate::daemon::{Daemon, MIB, PATIENCE, disk, disk_slot, read, works, write};

/// A file system of 16 MiB, unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path) -> Option<Small> {
        std::fs::create_dir(path).unwrap();
        let mut mount = Command::new("mount");
        let output =
            mount.args(["-t", "tmpfs", "-o", "size=16m", "standpipe-test"]).arg(path).output().ok()?;
        if !output.status.success() {
            eprintln!(
                "skipped: a small file system cannot be mounted here ({})",
                String::from_utf8_lossy(&output.stderr).trim()
            );
            return None;
        }
        Some(Small(path.to_path_buf()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    let block = vec![1; 64 << 10];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
    let block = [1; 512];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
}

/// A first write far away, which needs space of the store.
fn write_far(disk: &mut Disk) -> Outcome {
    write(disk, 24 * MIB / 512, 5)
}

#[test]
fn a_full_store_is_told_and_space_made_later_is_used() {
    let folder = TempDir::new().unwrap();
    let Some(small) = Small::mount(&folder.path().join("volumes")) else { return };
    let text = disk_slot("web1", "virtio-blk", "root") + &disk_slot("web2", "virtio-scsi", "data");
    // Sparse volumes: more is promised than the store has.
    let daemon = Daemon::start_in(folder, &text.replace("16MiB", "32MiB"));
    let mut blk = disk(&daemon, "web1.disk0", Kind::Blk);
    let mut scsi = disk(&daemon, "web2.disk0", Kind::Scsi);
    let worker = daemon.worker();
    works(&mut blk, 1);
    works(&mut scsi, 1);
    let ballast = small.0.join("ballast");
    fill(&ballast);
    for _ in 0..3 {
        assert_eq!(write_far(&mut blk), Outcome::Blk(1), "VIRTIO_BLK_S_IOERR");
        // SBC-3: DATA PROTECT, SPACE ALLOCATION FAILED WRITE PROTECT.
        let sense = Sense { key: 7, asc: 0x27, ascq: 7 };
        assert_eq!(write_far(&mut scsi), Outcome::Scsi { response: 0, status: 2, sense });
    }
    // What has its space already goes on: reads, flushes and writes.
    for disk in [&mut blk, &mut scsi] {
        works(disk, 2);
        assert_eq!(read(disk, 24 * MIB / 512), Ok(vec![0; 4096]));
        let flush = Request { operation: Operation::Flush, sector: 0, bytes: 0 };
        assert_eq!(disk.queues[0].run(0, flush, PATIENCE).unwrap(), Outcome::Good);
    }
    let status = daemon.status();
    for volume in ["root", "data"] {
        let volume = &status["volumes"][volume];
        assert_eq!(volume["counters"]["ended_no_space"], 3, "{volume:#}");
        assert!(volume["fault"].as_str().unwrap().contains("No space left on device"), "{volume:#}");
    }
    std::fs::remove_file(&ballast).unwrap();
    for disk in [&mut blk, &mut scsi] {
        assert_eq!(write_far(disk), Outcome::Good);
        assert_eq!(read(disk, 24 * MIB / 512), Ok(vec![5; 4096]));
    }
    assert_eq!(daemon.worker(), worker);
}
