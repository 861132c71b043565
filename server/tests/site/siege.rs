//! The iSCSI target under siege: hostile initiators of `bench` work on it from a seed, the worker is
//! killed now and then, and a healthy session beside them checks every byte. It must not notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bench::driver::iscsi::Options;
use bench::load::hostile::{Siege, SiegeLoad, besiege};
use rustix::process::Signal;

use crate::daemon::Daemon;
use crate::iscsi::{IQN, portal};

/// Seconds of one siege: moments among the other tests, minutes in the long run (script/test --long).
fn seconds() -> f64 {
    if std::env::var_os("STANDPIPE_LONG").is_some() { 60.0 } else { 4.0 }
}

fn lay(seed: u64, hostile_lun: u16, kills: bool) {
    let portal = portal();
    let daemon = Daemon::start(&format!(
        "[disk.one]\nstore = \"local\"\nsize = \"64MiB\"\n[disk.two]\nstore = \"local\"\nsize = \"16MiB\"\n\
         [portal.a]\nlisten = \"{portal}\"\n[target.t]\niqn = \"{IQN}\"\nportals = [\"a\"]\nopen = true\n\
         luns = {{ 0 = \"one\", 1 = \"two\" }}\n"
    ));
    let hostile = "iqn.2026-11.org.standpipe:hostile";
    let load = SiegeLoad {
        healthy: Options::new(&portal, IQN),
        healthy_lun: 0,
        hostile: Options { initiator_name: hostile.into(), ..Options::new(&portal, IQN) },
        hostile_lun,
        seconds: seconds(),
        seed,
        held: 16,
        depth: 8,
    };
    let over = AtomicBool::new(false);
    let siege: Siege = std::thread::scope(|scope| {
        let siege = scope.spawn(|| {
            let siege = besiege(&load);
            over.store(true, Ordering::Relaxed);
            siege
        });
        while kills && !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(700));
            daemon.signal_worker(Signal::KILL);
        }
        siege.join().expect("the siege does not panic").expect("a target that answers")
    });
    let faults =
        (&siege.healthy.lost, &siege.healthy.disk.first_error, &siege.unreachable, &siege.locked_out);
    assert!(siege.is_unnoticed(), "seed {seed}: {faults:?} {:?}", siege.hostile);
    assert!(siege.healthy.disk.blocks_checked > 0, "the healthy session has done nothing");
    let hostile = siege.hostile;
    assert!(hostile.connections > 1 && hostile.pdus > 20, "{hostile:?}");
    if !kills {
        // It did not end by a fault of its own either.
        assert!(!daemon.log().contains("the worker ended"), "{}", daemon.log());
    }
}

#[test]
fn hostile_initiators_on_another_unit() {
    lay(1, 1, false);
}

#[test]
fn hostile_initiators_on_the_same_unit() {
    lay(2, 0, false);
}

#[test]
fn hostile_initiators_and_deaths_of_the_worker() {
    lay(3, 1, true);
}
