//! Emulated adapters under drivers of our own, over vfio-user without a hypervisor: every frame and
//! block is checked, also while the worker is killed.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bench::driver::disk::{DiskOptions, Facts, Kind};
use bench::driver::emulated::pvscsi::PvscsiQueue;
use bench::driver::emulated::{self, Driver, Model, NicOptions};
use bench::driver::net::{Net, NetOptions};
use bench::driver::nic::Nic;
use bench::load::disk::{DiskLoad, Pattern, run_on};
use bench::load::frame;
use bench::load::net::{self, Direction, NetFigures, NetLoad};

use crate::crash::{frames, under_fire};
use crate::daemon::{Daemon, PATIENCE};

const MODELS: [(Model, &str); 4] = [
    (Model::E1000, "e1000"),
    (Model::E1000e, "e1000e"),
    (Model::Vlance, "vlance"),
    (Model::Vmxnet3, "vmxnet3"),
];

fn nics(models: &[&str]) -> String {
    let slot =
        |(at, model): (usize, &&str)| format!("[vm.web{at}.nic0]\nmodel = \"{model}\"\nnetwork = \"lan\"\n");
    let slots: String = models.iter().enumerate().map(slot).collect();
    format!("[network.lan]\n{slots}")
}

pub fn open(daemon: &Daemon, at: usize, port: u8, model: Model) -> Box<dyn Driver> {
    let options = NicOptions {
        mac: frame::mac(port, 0),
        promiscuous: false,
        // What is under way, and as much again that was taken and not given back yet.
        ring_size: 256,
        frame_bytes_max: 1514,
        doorbell_each: at.is_multiple_of(2),
    };
    let path: PathBuf = daemon.socket(&format!("web{at}.nic0"));
    daemon.eventually("the slot is offered", || path.exists().then_some(()));
    emulated::open(model, &path, &options).unwrap()
}

pub fn load(frame_bytes: u32) -> NetLoad {
    NetLoad { frame_bytes, event: false, rate: 0.0, measured: Duration::from_millis(300), ..frames(0.3) }
}

pub fn check(figures: &NetFigures, what: &str) {
    for port in &figures.ports {
        let wrong = (port.wrong_bytes, port.wrong_length, port.reordered, port.foreign);
        assert_eq!(wrong, (0, 0, 0, 0), "{what}");
    }
    assert_eq!(figures.lost, 0, "{what}: of {}", figures.sent_in_all);
    assert!(figures.sent_in_all > 64, "{what}: only {}", figures.sent_in_all);
}

#[test]
fn frames_cross_between_all_models() {
    let names: Vec<&str> = MODELS.iter().map(|(_, name)| *name).chain(["virtio-net"]).collect();
    let daemon = Daemon::start(&nics(&names));
    for frame_bytes in [60, 700, 1514] {
        for (at, (model, name)) in MODELS.into_iter().enumerate() {
            let (after, (other, other_name)) = ((at + 1) % 4, MODELS[(at + 1) % 4]);
            let (mut a, mut b) = (open(&daemon, at, 1, model), open(&daemon, after, 2, other));
            let both = [Nic::Emulated(a.as_mut()), Nic::Emulated(b.as_mut())];
            let figures = net::run_on(both, &load(frame_bytes)).unwrap();
            check(&figures, &format!("{frame_bytes} bytes between {name} and {other_name}"));
            drop(b);
            let mut b = Net::open(&daemon.socket("web4.nic0"), &NetOptions::default()).unwrap();
            let both = [Nic::Emulated(a.as_mut()), Nic::Virtio(&mut b)];
            let figures = net::run_on(both, &load(frame_bytes)).unwrap();
            check(&figures, &format!("{frame_bytes} bytes between {name} and virtio-net"));
        }
    }
}

/// A frame may be lost by a death, or come twice; none is bent, and no ring stands still after it.
fn survives(at: usize, seed: u64) {
    let (model, name) = MODELS[at];
    let daemon = Daemon::start(&nics(&[name, name]));
    let (mut a, mut b) = (open(&daemon, 0, 1, model), open(&daemon, 1, 2, model));
    under_fire(&daemon, seed, |enough| {
        loop {
            let both = [Nic::Emulated(a.as_mut()), Nic::Emulated(b.as_mut())];
            let load = NetLoad {
                in_flight_max: 0,
                rate: 20_000.0,
                direction: Direction::BothWays,
                measured: Duration::from_millis(600),
                ..load(512)
            };
            let figures = net::run_on(both, &load).unwrap();
            for port in &figures.ports {
                assert_eq!((port.wrong_bytes, port.wrong_length), (0, 0), "{name}");
            }
            if enough.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    let both = [Nic::Emulated(a.as_mut()), Nic::Emulated(b.as_mut())];
    check(&net::run_on(both, &load(512)).unwrap(), name);
    let status = daemon.status();
    assert_eq!(status["slots"]["web1.nic0"]["connected"], true);
    assert!(status["worker"]["restarts"].as_u64().unwrap() > 0, "{status:#}");
}

#[test]
fn e1000_survives() {
    survives(0, 61);
}

#[test]
fn e1000e_survives() {
    survives(1, 62);
}

#[test]
fn vlance_survives() {
    survives(2, 63);
}

#[test]
fn vmxnet3_survives() {
    survives(3, 64);
}

#[test]
fn a_pvscsi_disk_survives() {
    let site = "[disk.root]\nstore = \"local\"\nsize = \"16MiB\"\n[vm.web1.disk0]\nmodel = \"pvscsi\"\nvolumes = [\"root\"]\n";
    let daemon = Daemon::start(site);
    let path = daemon.socket("web1.disk0");
    daemon.eventually("the slot is offered", || path.exists().then_some(()));
    let (queue, facts) = PvscsiQueue::open(&path, &DiskOptions::new(Kind::Scsi)).unwrap();
    let mut queues = [queue];
    verify(&mut queues, facts, 70, true);
    under_fire(&daemon, 71, |enough: &AtomicBool| {
        let mut round = 0;
        while round == 0 || !enough.load(Ordering::Relaxed) {
            verify(&mut queues, facts, 72 + round, round.is_multiple_of(2));
            round += 1;
        }
    });
    verify(&mut queues, facts, 7, false);
    let status = daemon.status();
    assert_eq!(status["slots"]["web1.disk0"]["connected"], true);
    assert!(status["worker"]["restarts"].as_u64().unwrap() > 0, "{status:#}");
}

pub fn verify(queues: &mut [PvscsiQueue], facts: Facts, seed: u64, poll: bool) {
    let load = DiskLoad {
        pattern: Pattern::Verify,
        block_bytes: 4096,
        depth: 32,
        seconds: 0.6,
        poll,
        span_bytes: 0,
        seed,
        stall: PATIENCE,
    };
    let figures = run_on(facts, queues, &load, &AtomicU64::new(0)).unwrap();
    let first = &figures.first_error;
    assert_eq!((figures.errors, figures.wrong_bytes, figures.wrong_lengths), (0, 0, 0), "{first:?}");
    assert!(figures.ios > 0 && figures.blocks_checked > 0);
}
