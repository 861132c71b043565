//! Emulated devices that move from one slot to another under their drivers, as a live migration moves
//! them: rings go on in the middle, nothing is lost, and every page that a device wrote was named, also
//! when the worker dies between any two messages.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bench::driver::disk::{DiskOptions, Kind};
use bench::driver::emulated::client::Client;
use bench::driver::emulated::migration::State;
use bench::driver::emulated::pvscsi::PvscsiQueue;
use bench::driver::emulated::{Driver, Model};
use bench::driver::nic::Nic;
use bench::load::frame::Shape;
use bench::load::net::{self, Direction, NetLoad};
use bench::load::random::Random;
use rustix::process::Signal;

use crate::daemon::{Daemon, PATIENCE};
use crate::driven::{check, load, open, verify};

/// Two networks with a NIC of the model and a peer each.
fn site(model: &str, doorbells: [&str; 4]) -> String {
    let slot = |at: usize, network: &str| {
        let doorbells = doorbells[at];
        format!("[vm.web{at}.nic0]\nmodel = \"{model}\"\nnetwork = \"{network}\"\n{doorbells}\n")
    };
    let slots = [slot(0, "here"), slot(1, "here"), slot(2, "there"), slot(3, "there")].concat();
    format!("[network.here]\n[network.there]\n{slots}")
}

/// Kills the worker at some of the moments that it is called at.
struct Killer<'a> {
    daemon: &'a Daemon,
    random: Random,
    one_in: u64,
    kills: u64,
}

impl Killer<'_> {
    fn maybe(&mut self) {
        if self.one_in > 0 && self.random.below(self.one_in) == 0 {
            self.kills += u64::from(self.daemon.signal_worker(Signal::KILL));
        }
    }
}

/// From the slot that it is in to another.
fn moves(client: &mut Client, daemon: &Daemon, to: &str, killer: &mut Killer<'_>) {
    assert!(client.can_migrate().unwrap());
    client.go_to(State::PreCopy).unwrap();
    killer.maybe();
    client.go_to(State::StopCopy).unwrap();
    let state = client.read_state(|| killer.maybe()).unwrap();
    client.move_to(&daemon.socket(to), &state, || killer.maybe()).unwrap();
}

fn exchange(a: &mut dyn Driver, b: &mut dyn Driver, what: &str) {
    let load = NetLoad { direction: Direction::BothWays, measured: Duration::from_millis(150), ..load(700) };
    check(&net::run_on([Nic::Emulated(a), Nic::Emulated(b)], &load).unwrap(), what);
}

fn nic_moves(model: Model, name: &str) {
    let daemon = Daemon::start(&site(name, [""; 4]));
    let (mut a, mut b) = (open(&daemon, 0, 1, model), open(&daemon, 1, 2, model));
    let mut c = open(&daemon, 3, 2, model);
    exchange(a.as_mut(), b.as_mut(), name);
    let mut killer = Killer { daemon: &daemon, random: Random::new(91), one_in: 0, kills: 0 };
    moves(a.client(), &daemon, "web2.nic0", &mut killer);
    exchange(a.as_mut(), c.as_mut(), &format!("{name}, after it moved"));
    // Back again, under fire.
    killer.one_in = 4;
    for to in ["web0.nic0", "web2.nic0", "web0.nic0"] {
        moves(a.client(), &daemon, to, &mut killer);
    }
    exchange(a.as_mut(), b.as_mut(), &format!("{name}, after it came back"));
    assert!(killer.kills > 0, "nobody was killed");
}

#[test]
fn an_e1000_moves() {
    nic_moves(Model::E1000, "e1000");
}

#[test]
fn an_e1000e_moves() {
    nic_moves(Model::E1000e, "e1000e");
}

#[test]
fn a_vlance_moves() {
    nic_moves(Model::Vlance, "vlance");
}

#[test]
fn a_vmxnet3_moves() {
    nic_moves(Model::Vmxnet3, "vmxnet3");
}

/// Masks that are memory are a part of the state, whether they are memory where it goes or not.
#[test]
fn masks_of_a_vmxnet3_move() {
    const MAPPED: &str = "doorbells = \"mapped\"";
    let daemon = Daemon::start(&site("vmxnet3", [MAPPED, "", MAPPED, ""]));
    let mut a = open(&daemon, 0, 1, Model::Vmxnet3);
    let mut c = open(&daemon, 3, 2, Model::Vmxnet3);
    // Vectors of no queue: those of queues are opened once where the device arrives.
    let masks = |a: &mut dyn Driver| [5, 6].map(|vector| a.client().read_u32(0, 8 * vector).unwrap());
    a.client().write_u32(0, 8 * 5, 0).unwrap();
    let before = masks(a.as_mut());
    assert_eq!(before, [0, 1]);
    let mut killer = Killer { daemon: &daemon, random: Random::new(93), one_in: 0, kills: 0 };
    for (round, to) in [2, 1, 2].into_iter().enumerate() {
        moves(a.client(), &daemon, &format!("web{to}.nic0"), &mut killer);
        assert_eq!(masks(a.as_mut()), before, "after move {round} to {to}");
        killer.one_in = 4;
    }
    exchange(a.as_mut(), c.as_mut(), "vmxnet3, with masks that are memory");
}

#[test]
fn a_pvscsi_disk_moves() {
    let slot = |at: usize| format!("[vm.web{at}.disk0]\nmodel = \"pvscsi\"\nvolumes = [\"root\"]\n");
    let volume = "[disk.root]\nstore = \"local\"\nsize = \"16MiB\"\nshared = true\n";
    let daemon = Daemon::start(&format!("{volume}{}{}", slot(0), slot(1)));
    let path = daemon.socket("web0.disk0");
    daemon.eventually("the slot is offered", || path.exists().then_some(()));
    let (queue, facts) = PvscsiQueue::open(&path, &DiskOptions::new(Kind::Scsi)).unwrap();
    let mut queues = [queue];
    verify(&mut queues, facts, 70, true);
    let mut killer = Killer { daemon: &daemon, random: Random::new(92), one_in: 0, kills: 0 };
    for (round, to) in ["web1.disk0", "web0.disk0", "web1.disk0"].into_iter().enumerate() {
        moves(queues[0].client(), &daemon, to, &mut killer);
        // The nexus is another one, and hears of it once: LUN RESET or power on, whatever it is.
        let _ = queues[0].command(&[0; 6], 0);
        verify(&mut queues, facts, 71 + round as u64, round == 0);
        killer.one_in = 4;
    }
    assert!(killer.kills > 0, "nobody was killed");
}

/// So many frames, until the device has them all.
fn send(nic: &mut dyn Driver, frames: usize) {
    let shape = Shape { bytes: 1000, mss: None, from_port: 2, to_port: 1 };
    for _ in 0..frames {
        let slot = nic.take().unwrap();
        nic.areas()[slot as usize].write_bytes(0, &shape.template());
        assert!(nic.send(slot, shape.bytes).unwrap());
    }
    nic.flush().unwrap();
    let mut done = 0;
    let start = Instant::now();
    while done < frames as u64 {
        done += nic.reclaim().unwrap();
        assert!(start.elapsed() < PATIENCE, "{done} of {frames} frames are sent");
    }
}

/// Only what the device wrote changes while the driver looks on: each page of it has to be named.
#[test]
fn every_page_that_a_device_wrote_is_named() {
    let daemon = Daemon::start(&site("e1000", [""; 4]));
    let (mut a, mut b) = (open(&daemon, 0, 1, Model::E1000), open(&daemon, 1, 2, Model::E1000));
    a.client().start_log().unwrap();
    assert!(a.client().start_log().is_err(), "a second log");
    for round in 0..6 {
        let before = a.client().page_sums().unwrap();
        send(b.as_mut(), 8 + round);
        // They lie in `a`'s buffers now, and nobody has looked at them.
        let mut after = a.client().page_sums().unwrap();
        daemon.eventually("the frames are there", || {
            std::thread::sleep(Duration::from_millis(50));
            let before = std::mem::replace(&mut after, a.client().page_sums().unwrap());
            (before == after).then_some(())
        });
        let changed: BTreeSet<u64> =
            before.iter().filter(|(page, sum)| after[page] != **sum).map(|(page, _)| *page).collect();
        assert!(changed.len() > 1, "round {round}: {changed:?}");
        if round % 2 == 1 {
            daemon.replace_worker(Signal::KILL);
        }
        let named: BTreeSet<u64> = a.client().dirty_pages().unwrap().into_iter().collect();
        let missed: Vec<_> = changed.difference(&named).collect();
        assert!(missed.is_empty(), "round {round}: written and not named: {missed:#x?}");
        // A new worker does not know what the last one wrote, and names everything.
        let most = if round % 2 == 1 { before.len() } else { before.len() / 2 };
        assert!(named.len() <= most, "round {round}: {} pages named", named.len());
        assert!(a.client().dirty_pages().unwrap().len() < named.len().max(2), "named twice");
        while a.receive(64, &mut |_| {}).unwrap() > 0 {}
        a.client().dirty_pages().unwrap();
    }
    a.client().stop_log().unwrap();
    assert!(a.client().dirty_pages().is_err(), "the log is still there");
}

#[test]
fn a_state_of_another_device_is_refused() {
    let daemon = Daemon::start(&site("e1000", [""; 4]));
    let mut a = open(&daemon, 0, 1, Model::E1000);
    let mut b = open(&daemon, 1, 2, Model::E1000);
    a.client().go_to(State::StopCopy).unwrap();
    let state = a.client().read_state(|| ()).unwrap();
    assert!(state.len() > 200);
    // Cut short, of another model, of another form.
    let changed = |at: usize| {
        let mut state = state.clone();
        state[at] ^= 0x10;
        state
    };
    for bad in [state[..state.len() / 3].to_vec(), Vec::new(), changed(0), changed(8), changed(12)] {
        assert!(b.client().move_to(&daemon.socket("web2.nic0"), &bad, || ()).is_err());
    }
    drop(b);
    // The source goes on as if nothing had been.
    a.client().go_to(State::Running).unwrap();
    let mut b = open(&daemon, 1, 2, Model::E1000);
    exchange(a.as_mut(), b.as_mut(), "after it was stopped and started");
}
