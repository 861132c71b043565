//! A device that brought the worker down again and again is left alone, and it alone. No bug is known
//! that a guest could do that with, so the test writes what the panic hook would have written: the
//! number of deaths, into the slot's ledger (`server/src/ledger.rs`).

use std::os::unix::fs::FileExt;

use bench::driver::disk::Kind;
use rustix::process::Signal;

use crate::daemon::{Daemon, disk, disk_slot, works};

const DEATHS_AT: u64 = 24;

/// Opens a slot's ledger where the worker has it open.
fn ledger(daemon: &Daemon, slot: &str) -> std::fs::File {
    let folder = format!("/proc/{}/fd", daemon.worker());
    let named = |entry: &std::fs::DirEntry| {
        let to = std::fs::read_link(entry.path()).unwrap_or_default();
        to.to_string_lossy().starts_with(&format!("/memfd:standpipe-{slot} "))
    };
    let found = std::fs::read_dir(folder).unwrap().flatten().find(named);
    let found = found.unwrap_or_else(|| panic!("the worker has no ledger of {slot} open"));
    std::fs::File::options().read(true).write(true).open(found.path()).unwrap()
}

#[test]
fn a_device_that_kills_the_worker_is_left_alone_and_no_other() {
    let text = disk_slot("web1", "virtio-blk", "root") + &disk_slot("web2", "virtio-scsi", "data");
    let daemon = Daemon::start(&text);
    let mut killer = disk(&daemon, "web1.disk0", Kind::Blk);
    let mut other = disk(&daemon, "web2.disk0", Kind::Scsi);
    works(&mut killer, 1);
    // Two deaths are forgiven, or may be another's.
    ledger(&daemon, "web1.disk0").write_all_at(&2u32.to_le_bytes(), DEATHS_AT).unwrap();
    daemon.replace_worker(Signal::KILL);
    works(&mut killer, 2);
    ledger(&daemon, "web1.disk0").write_all_at(&3u32.to_le_bytes(), DEATHS_AT).unwrap();
    daemon.replace_worker(Signal::KILL);
    let status = daemon.status();
    assert_eq!(status["quarantined"].as_array().unwrap().len(), 1, "{status:#}");
    assert_eq!(status["quarantined"][0]["slot"], "web1.disk0");
    daemon.wait_log("this device brought the server down 3 times; it is left alone");
    works(&mut other, 3);
    // Its VM lives: nobody answers, and nobody has hung up.
    killer.session.send_raw(&[0xff; 12], &[]).unwrap();
    daemon.replace_worker(Signal::KILL);
    killer.session.send_raw(&[0xff; 12], &[]).unwrap();
    works(&mut other, 4);
    // Its operator takes the slot away and gives it anew.
    daemon.ok(&["vm", "rm", "web1"]);
    daemon.ok(&["vm", "add", "web1", "--blk", "root"]);
    assert_eq!(daemon.status()["quarantined"].as_array().unwrap().len(), 0);
    works(&mut disk(&daemon, "web1.disk0", Kind::Blk), 5);
}
