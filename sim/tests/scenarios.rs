//! Fixed seeds: what must hold holds, and what is broken on purpose is found.

use standpipe_sim::{Options, Report, Sabotage, run, table};

fn options(seed: u64) -> Options {
    Options {
        turns: 200,
        crash_percent: 35,
        faults: seed % 2 == 1,
        power_cuts: (seed % 3) as u32,
        sabotage: None,
    }
}

fn all(seeds: std::ops::Range<u64>, options: impl Fn(u64) -> Options) -> Report {
    let mut total = Report::default();
    for seed in seeds {
        let report = run(seed, options(seed));
        assert!(
            report.is_sound(),
            "seed {seed}: lost={} repeated={}: {:#?}",
            report.lost,
            report.repeated,
            report.wrong
        );
        total.add(report);
    }
    total
}

#[test]
fn nothing_is_lost_repeated_or_wrong_however_the_worker_dies() {
    let total = all(0..40, options);
    assert!(total.crash_points > 3000 && total.at_a_store > 2000, "{total:?}");
    assert!(total.requests > 20_000 && total.frames > 8000 && total.power_cuts > 20, "{total:?}");
}

#[test]
fn without_a_crash_no_frame_comes_twice() {
    let total = all(100..110, |seed| Options { crash_percent: 0, power_cuts: 0, ..options(seed) });
    assert_eq!((total.crash_points, total.again_after_crash), (0, 0));
    let count = |name: &str| total.ends.get(name).copied().unwrap_or(0);
    // Each frame was judged once, under one name.
    let judged: u64 = total
        .ends
        .iter()
        .filter(|(name, _)| {
            ["net drop ", "net entry ", "net switched "].iter().any(|kind| name.starts_with(kind))
        })
        .map(|(_, count)| *count)
        .sum();
    assert_eq!(judged, total.frames, "\n{}", table(&total.ends));
    assert!(count("net exit delivered") > 1000);
    // Three SCSI disks in each of the ten worlds tell their power-on once.
    let attentions = count("guest scsi unit attention");
    assert!((1..=30).contains(&attentions), "{attentions} unit attentions");
}

#[test]
fn a_seed_is_a_scenario() {
    let (first, second) = (run(7, options(7)), run(7, options(7)));
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
    assert_ne!(format!("{first:?}"), format!("{:?}", run(8, options(7))));
}

#[test]
fn each_bug_put_in_on_purpose_is_found() {
    for sabotage in [
        Sabotage::SkipFlush,
        Sabotage::ForgetFua,
        Sabotage::CorruptFrame,
        Sabotage::ForgetInflight,
        Sabotage::DropWrite,
    ] {
        let found = (0..8).filter(|seed| {
            let report = run(*seed, Options { power_cuts: 2, sabotage: Some(sabotage), ..options(*seed) });
            !report.is_sound()
        });
        assert!(found.count() > 0, "{sabotage:?} went unnoticed");
    }
}

/// Names that were met in some scenario, and those that this world cannot meet, with the reason.
#[test]
fn every_named_end_is_reached() {
    let total = all(0..24, options);
    let mut missing = Vec::new();
    let mut want = |stage: &str, names: &mut dyn Iterator<Item = &'static str>, not_here: &[&str]| {
        for name in names {
            let met = total.ends.contains_key(&format!("{stage} {name}"));
            if met == not_here.contains(&name) {
                missing.push(format!("{stage} {name}: {}", if met { "met after all" } else { "never met" }));
            }
        }
    };
    // Refused by the front ends before a disk could say it.
    let never = ["write_protected", "unsupported"];
    want("blk", &mut request::Status::ALL.iter().map(|status| status.name()), &never);
    want("scsi", &mut request::Status::ALL.iter().map(|status| status.name()), &never);
    // No read-only volume here, and a request of 256 MiB has no place in these guests.
    want("blk", &mut virtio_blk::Fault::ALL.iter().map(|fault| fault.name()), &["read_only", "too_long"]);
    // The control and event queues are not driven here.
    let other_queues = ["unknown_control_type", "unknown_function", "event_buffer_too_short"];
    want("scsi", &mut virtio_scsi::Fault::ALL.iter().map(|fault| fault.name()), &other_queues);
    want("scsi", &mut ["good", "check_condition", "overrun"].into_iter(), &[]);
    // These guests never lose memory.
    want("net drop", &mut virtio_net::Drop::ALL.iter().map(|drop| drop.name()), &["bad_memory"]);
    let entry = ["tagged", "vlan_reserved", "reserved_address", "invalid_source", "hairpin", "oversize"];
    want("net entry", &mut entry.into_iter(), &[]);
    want("net exit", &mut ["delivered", "no_buffer"].into_iter(), &[]);
    want("net switched", &mut ["unicast", "flooded"].into_iter(), &[]);
    assert!(missing.is_empty(), "{missing:#?}\n{}", table(&total.ends));
}
