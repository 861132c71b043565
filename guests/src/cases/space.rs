//! A store that is full: volumes are sparse, so more can be promised than there is.

use crate::guest::Guest;
use crate::site::{DiskModel, Site};
use crate::world::{Bench, World};
use crate::{During, Result, ensure};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The store, less than its one volume.
const STORE_MIB: u64 = 24;
const VOLUME_MIB: u64 = 64;

/// A file system in memory, unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: &Path) -> Result<Mounted> {
        std::fs::create_dir_all(path).during(format!("creating {}", path.display()))?;
        let size = format!("size={STORE_MIB}m");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "standpipe-full"])
            .arg(path)
            .output()
            .during("starting mount")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "mounting a small file system: {}", said.trim());
        Ok(Mounted(path.to_path_buf()))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes every block that is left.
    fn fill(&self) -> Result<()> {
        let mut file = std::fs::File::create(self.ballast()).during("creating the ballast")?;
        for bytes in [64 << 10, 512] {
            let block = vec![1; bytes];
            while file.write_all(&block).is_ok() {}
        }
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        std::fs::remove_file(self.ballast()).during("removing the ballast")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Writes 1 MiB of random bytes, past the guest's cache, and compares what is read again.
fn write_and_compare(guest: &Guest, device: &str, mib: u64) -> Result<()> {
    guest
        .check(&format!(
            "dd if=/dev/urandom of=/tmp/part bs=64k count=16 2>/dev/null &&
             dd if=/tmp/part of={device} bs=64k seek={} oflag=direct conv=notrunc 2>&1 && sync &&
             dd if={device} bs=64k skip={} count=16 iflag=direct 2>/dev/null | cmp - /tmp/part",
            mib * 16,
            mib * 16
        ))
        .map(drop)
}

fn full(bench: &Bench, name: &str, model: DiskModel, words: &str) -> Result<String> {
    let mut mounted = Err(crate::Failure::new("the site was not described"));
    let world = World::open(bench, name, |site: Site| {
        mounted = Mounted::at(&site.store);
        site.volume("data", VOLUME_MIB).disk("web1", "disk0", model, &["data"])
    })?;
    // Declared after the world, so that it is unmounted before the world's folder is removed.
    let store = mounted?;
    let guest = world.boot("web1")?;
    let worker = world.worker()?;
    let device = model.device();
    write_and_compare(&guest, device, 0)?;
    store.fill()?;
    let refused = guest.run(
        &format!("dd if=/tmp/part of={device} bs=64k seek=512 oflag=direct conv=notrunc 2>&1"),
        crate::guest::COMMAND_MAX,
    )?;
    ensure!(
        refused.status != 0 && refused.stdout.contains(words),
        "a write to a full store ended with {} and \"{}\", not with \"{words}\"",
        refused.status,
        refused.stdout.trim()
    );
    // What has its space is read and written as ever, and the guest is alive.
    write_and_compare(&guest, device, 0)?;
    store.make_room()?;
    write_and_compare(&guest, device, 32)?;
    write_and_compare(&guest, device, 0)?;
    world.unmoved(worker)?;
    guest.shutdown()?;
    Ok(format!("store_mib={STORE_MIB} volume_mib={VOLUME_MIB} told=\"{words}\""))
}

/// Linux makes ENOSPC of SPACE ALLOCATION FAILED WRITE PROTECT.
pub fn full_scsi(bench: &Bench) -> Result<String> {
    full(bench, "full-scsi", DiskModel::Scsi, "No space left on device")
}

/// virtio-blk has one status for every failure.
pub fn full_blk(bench: &Bench) -> Result<String> {
    full(bench, "full-blk", DiskModel::Blk, "Input/output error")
}
