//! `kill -9` of the worker at any moment of a driver's I/O: nothing is lost, nothing is done twice,
//! the connection lives.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bench::driver::disk::{Disk, DiskOptions, Kind};
use bench::driver::net::{Net, NetOptions};
use bench::load::net::{self, Direction, NetLoad};
use bench::load::random::Random;
use rustix::process::Signal;

use crate::daemon::{Daemon, PATIENCE, disk_slot, open, verify, works};

/// Ends the worker again and again at random moments until told to stop. At least `least` workers
/// die. Returns how many did.
fn killer(daemon: &Daemon, over: &AtomicBool, seed: u64, least: u64) -> u64 {
    let mut random = Random::new(seed);
    let mut kills = 0;
    let mut last = None;
    while !over.load(Ordering::Relaxed) || kills < least {
        // Up to several times the length of a start: some die before they serve anybody.
        std::thread::sleep(Duration::from_micros(random.below(250_000)));
        // A dead one is there until its keeper has noticed, and does not die again.
        let child = daemon.child();
        if child != last && daemon.signal_worker(Signal::KILL) {
            kills += 1;
            last = child;
        }
    }
    kills
}

/// Runs I/O while the worker is killed, at least six times.
pub fn under_fire<T>(daemon: &Daemon, seed: u64, io: impl FnOnce(&AtomicBool) -> T) -> T {
    const LEAST: u64 = 6;
    let (over, enough) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let (over, enough) = (&over, &enough);
        let killer = scope.spawn(move || {
            let kills = killer(daemon, &AtomicBool::new(true), seed, LEAST);
            enough.store(true, Ordering::Relaxed);
            kills + killer(daemon, over, seed + kills, 0)
        });
        let end = End(over);
        let result = io(enough);
        drop(end);
        assert!(killer.join().unwrap() >= LEAST);
        result
    })
}

fn disk_survives(model: &str, options: DiskOptions, seed: u64) {
    let daemon = Daemon::start(&disk_slot("web1", model, "root"));
    let mut disk = open(&daemon, "web1.disk0", &options);
    under_fire(&daemon, seed, |enough| {
        let mut round = 0;
        while round == 0 || !enough.load(Ordering::Relaxed) {
            verify(&mut disk, 0.6, seed + round, &AtomicU64::new(0));
            round += 1;
        }
    });
    works(&mut disk, 7);
    let status = daemon.status();
    assert_eq!(status["slots"]["web1.disk0"]["connected"], true);
    assert!(status["worker"]["restarts"].as_u64().unwrap() >= 6, "{status:#}");
}

#[test]
fn a_blk_disk_on_split_rings_survives() {
    disk_survives("virtio-blk", DiskOptions::new(Kind::Blk), 11);
}

#[test]
fn a_blk_disk_on_packed_rings_survives() {
    disk_survives("virtio-blk", DiskOptions { packed: true, ..DiskOptions::new(Kind::Blk) }, 12);
}

#[test]
fn a_scsi_disk_on_split_rings_survives() {
    let options = DiskOptions { regions: 3, ..DiskOptions::new(Kind::Scsi) };
    disk_survives("virtio-scsi", options, 13);
}

#[test]
fn a_scsi_disk_on_packed_rings_survives() {
    let options = DiskOptions { packed: true, event_idx: false, ..DiskOptions::new(Kind::Scsi) };
    disk_survives("virtio-scsi", options, 14);
}

pub const TWO_NICS: &str = "[network.lan]\n[vm.web1.nic0]\nmodel = \"virtio-net\"\nnetwork = \"lan\"\n[vm.web2.nic0]\nmodel = \"virtio-net\"\nnetwork = \"lan\"\n";

pub fn frames(seconds: f64) -> NetLoad {
    NetLoad {
        direction: Direction::BothWays,
        frame_bytes: 512,
        mss: None,
        flows: 1,
        macs: 1,
        rate: 20_000.0,
        in_flight_max: 64,
        burst: 8,
        latency: false,
        verify: true,
        event: true,
        warmup: Duration::from_millis(50),
        measured: Duration::from_secs_f64(seconds),
        relax: Duration::ZERO,
        pids: Vec::new(),
    }
}

fn nics_survive(packed: bool, seed: u64) {
    let daemon = Daemon::start(TWO_NICS);
    let options = NetOptions { packed, ..NetOptions::default() };
    let mut a = Net::open(&daemon.socket("web1.nic0"), &options).unwrap();
    let mut b = Net::open(&daemon.socket("web2.nic0"), &options).unwrap();
    let mut run = || {
        // Without a bound in flight: frames that a dead switch dropped are not waited for.
        let load = NetLoad { in_flight_max: 0, ..frames(0.6) };
        let figures = net::run([&mut a, &mut b], &load).unwrap();
        for port in &figures.ports {
            // An Ethernet may lose frames; it may not bend them, and a ring may not give one twice.
            assert_eq!((port.wrong_bytes, port.wrong_length), (0, 0));
        }
        figures
    };
    under_fire(&daemon, seed, |enough| {
        while !enough.load(Ordering::Relaxed) {
            run();
        }
    });
    let figures = run();
    assert!(figures.ports.iter().all(|port| port.received > 0), "nothing came through");
    assert_eq!(daemon.status()["slots"]["web2.nic0"]["connected"], true);
}

#[test]
fn nics_on_split_rings_survive() {
    nics_survive(false, 21);
}

#[test]
fn nics_on_packed_rings_survive() {
    nics_survive(true, 22);
}

#[test]
fn a_worker_that_is_asked_to_end_or_upgraded_is_followed_by_another() {
    let daemon = Daemon::start(&disk_slot("web1", "virtio-scsi", "root"));
    let mut disk = Disk::open(&daemon.socket("web1.disk0"), &DiskOptions::new(Kind::Scsi)).unwrap();
    let (over, progress) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let (over, progress, disk) = (&over, &progress, &mut disk);
        let load = scope.spawn(move || {
            let mut seed = 30;
            while !over.load(Ordering::Relaxed) {
                verify(disk, 0.5, seed, progress);
                seed += 1;
            }
        });
        let end = End(over);
        let moves = |than: u64| {
            daemon.eventually("the guest's I/O goes on", || {
                (progress.load(Ordering::Relaxed) > than + 100).then_some(())
            });
        };
        moves(0);
        for round in 0..4 {
            let (before, done) = (daemon.worker(), progress.load(Ordering::Relaxed));
            if round % 2 == 0 {
                daemon.replace_worker(Signal::TERM);
            } else {
                let said = daemon.ok(&["upgrade"]);
                assert!(said.starts_with("upgraded: worker "), "{said}");
                assert!(said.contains(&format!(" took over from {before} ")), "{said}");
            }
            assert_ne!(daemon.worker(), before);
            moves(done);
        }
        drop(end);
        load.join().unwrap();
    });
    works(&mut disk, 1);
    assert!(PATIENCE > Duration::from_secs(1));
}
