//! A volume's file that lost its end.

use bench::driver::disk::{Kind, Outcome};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::daemon::{Daemon, MIB, disk, disk_slot, read, works, write};

/// The sense key.
const NOT_READY: u8 = 2;
/// A sector in the part that is lost.
const FAR: u64 = 12 * MIB / 512;

fn resize(daemon: &Daemon, volume: &str, mib: u64) {
    let file = std::fs::File::options().write(true).open(daemon.volume(volume)).unwrap();
    file.set_len(mib * MIB).unwrap();
}

#[test]
fn a_guest_is_told_of_what_was_lost_and_goes_on_when_it_is_back() {
    let site = disk_slot("web1", "virtio-blk", "root") + &disk_slot("web2", "virtio-scsi", "data");
    let daemon = Daemon::start(&site);
    let mut blk = disk(&daemon, "web1.disk0", Kind::Blk);
    let mut scsi = disk(&daemon, "web2.disk0", Kind::Scsi);
    let worker = daemon.worker();
    for (disk, volume) in [(&mut blk, "root"), (&mut scsi, "data")] {
        assert_eq!(write(disk, FAR, 7), Outcome::Good);
        works(disk, 1);
        resize(&daemon, volume, 8);
    }
    // No zeroes in the place of what was lost. From then on the disk is not ready, also where there is
    // something left: a write behind a lost end would make what was lost into zeroes.
    for sector in [FAR, 8] {
        assert_eq!(read(&mut blk, sector), Err(Outcome::Blk(1)));
        assert_eq!(write(&mut blk, sector, 2), Outcome::Blk(1));
        for outcome in [read(&mut scsi, sector).unwrap_err(), write(&mut scsi, sector, 2)] {
            match outcome {
                Outcome::Scsi { response: 0, status: 2, sense } => assert_eq!(sense.key, NOT_READY),
                other => panic!("{other:?}"),
            }
        }
    }
    for volume in ["root", "data"] {
        assert_eq!(std::fs::metadata(daemon.volume(volume)).unwrap().len(), 8 * MIB);
    }
    for (disk, volume) in [(&mut blk, "root"), (&mut scsi, "data")] {
        resize(&daemon, volume, 16);
        daemon.eventually("the disk is ready again", || read(disk, FAR).ok());
        assert_eq!(read(disk, 8), Ok(vec![1; 4096]));
        assert_eq!(write(disk, FAR, 9), Outcome::Good);
        assert_eq!(read(disk, FAR), Ok(vec![9; 4096]));
    }
    assert_eq!(daemon.worker(), worker);
    let fault = daemon.status()["volumes"]["root"]["fault"].as_str().unwrap().to_owned();
    assert!(fault.contains("root.raw"), "{fault}");
}

#[test]
fn a_volume_that_is_short_at_the_start_is_not_offered_until_it_is_whole() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("volumes")).unwrap();
    std::fs::File::create(folder.path().join("volumes/root.raw")).unwrap().set_len(8 * MIB).unwrap();
    let site = disk_slot("web1", "virtio-blk", "root") + &disk_slot("web2", "virtio-scsi", "data");
    let daemon = Daemon::start_in(folder, &site);
    works(&mut disk(&daemon, "web2.disk0", Kind::Scsi), 1);
    let message = "the file of volume `root` has 8388608 bytes, and the volume 16777216\n  where: {dir}/volumes/root.raw\n  hint: if its end was lost, restore the file; if it was always this short, grow it with `truncate -s`, or give its size. Nothing was changed\n";
    let said = daemon.anonymous(&daemon.log());
    assert!(said.contains(message), "{said}");
    assert_eq!(std::fs::metadata(daemon.volume("root")).unwrap().len(), 8 * MIB);
    resize(&daemon, "root", 16);
    assert!(daemon.apply(&site).status.success());
    works(&mut disk(&daemon, "web1.disk0", Kind::Blk), 2);
}

#[test]
fn a_guest_waits_for_a_file_that_was_short_when_its_server_came_back() {
    let site = disk_slot("web1", "virtio-blk", "root") + &disk_slot("web2", "virtio-scsi", "data");
    let daemon = Daemon::start(&site);
    let mut root = disk(&daemon, "web1.disk0", Kind::Blk);
    let mut data = disk(&daemon, "web2.disk0", Kind::Scsi);
    works(&mut root, 1);
    resize(&daemon, "root", 8);
    daemon.replace_worker(Signal::KILL);
    works(&mut data, 2);
    resize(&daemon, "root", 16);
    let said = daemon.apply(&site);
    assert!(said.status.success(), "{}", said.err);
    // On the same connection, as if nothing had been.
    works(&mut root, 3);
}
