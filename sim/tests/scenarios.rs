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
