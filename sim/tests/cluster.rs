//! A cluster on one volume, from fixed seeds: what must hold holds, and what is broken on purpose is
//! found.

use standpipe_sim::cluster::{Options, Report, Sabotage, run};
use standpipe_sim::table;

fn all(seeds: std::ops::Range<u64>, options: impl Fn(u64) -> Options) -> Report {
    let mut total = Report::default();
    for seed in seeds {
        let report = run(seed, options(seed));
        let wrong = &report.wrong[..report.wrong.len().min(5)];
        let (lost, repeated) = (report.lost, report.repeated);
        assert!(report.is_sound(), "seed {seed}: lost={lost} repeated={repeated}: {wrong:#?}");
        total.add(report);
    }
    total
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_fenced_lands() {
    let total = all(0..120, Options::of_seed);
    assert!(total.crash_points > 5000 && total.power_cuts > 200 && total.commands > 50_000, "{total:?}");
    assert!(total.cuts_in_a_store > 20, "{total:?}");
}

/// Every command, with every end that it can have here.
#[test]
fn every_end_is_reached() {
    let total = all(200..240, Options::of_seed);
    for name in [
        "write good",
        "write conflict",
        "write notrun",
        "read good",
        "read conflict",
        "compare and write good",
        "compare and write conflict",
        "compare and write miscompare",
        "synchronize cache good",
        "synchronize cache conflict",
        "register good",
        "register conflict",
        "reserve good",
        "reserve conflict",
        "release good",
        "release refused",
        "clear good",
        "preempt good",
        "preempt conflict",
        "preempt refused",
        "preempt and abort good",
        "write aborted",
        "read keys good",
        "read reservation good",
    ] {
        assert!(total.ends.contains_key(&format!("cluster {name}")), "{name}\n{}", table(&total.ends));
    }
}

#[test]
fn a_seed_is_a_scenario() {
    let of = |seed| format!("{:?}", run(seed, Options::of_seed(seed)));
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
}

#[test]
fn each_bug_put_in_on_purpose_is_found() {
    for sabotage in
        [Sabotage::SkipDurable, Sabotage::SkipWaiting, Sabotage::ForgetJournal, Sabotage::ForgetState]
    {
        let found = (0..40).filter(|seed| {
            let options = Options { power_cuts: 3, crash_percent: 30, ..Options::of_seed(*seed) };
            !run(*seed, Options { sabotage: Some(sabotage), ..options }).is_sound()
        });
        assert!(found.count() > 0, "{sabotage:?} went unnoticed");
    }
}
