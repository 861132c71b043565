//! libiscsi's conformance suite in a guest, on our disks behind virtio-scsi. (`iscsi-test-cu` speaks
//! iSCSI by itself; given a device of the kernel, it runs the same tests by SG_IO.)
//!
//! CUnit knows no skipped tests: it counts them as passed. So they are counted here, by what the suite
//! prints inside each test, and a skip is a failure unless `scsi-suite.skips` has it with its reason.

use crate::guest::Guest;
use crate::site::{DiskModel, Kind};
use crate::world::{Against, Bench, World};
use crate::{During, Result, ensure};
use std::collections::BTreeMap;
use std::time::Duration;

/// Tests that no disk behind a controller can run, each with its reason.
const SKIPS: &str = include_str!("../../scsi-suite.skips");

/// The longest suites write 256 MiB in small pieces, emulated.
const SUITE_MAX: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Skipped,
    Passed,
    Failed,
    /// It began, and no word of its end came.
    Hung,
}

/// The verdicts that a run of the suite has printed: `Suite.Test`, what came of it, what was said.
fn verdicts(output: &str) -> Vec<(String, Verdict, String)> {
    let mut found = Vec::new();
    let mut suite = "";
    let mut open: Option<(String, bool, String)> = None;
    for line in output.lines() {
        if let Some(name) = line.strip_prefix("Suite: ") {
            suite = name.trim();
            continue;
        }
        let mut rest = line;
        if let Some((name, said)) = line.strip_prefix("  Test: ").and_then(|test| test.split_once(" ...")) {
            if let Some((name, _, said)) = open.take() {
                found.push((name, Verdict::Hung, said));
            }
            open = Some((format!("{suite}.{}", name.trim()), false, String::new()));
            rest = said;
        }
        let Some((name, skipped, said)) = &mut open else { continue };
        if rest.contains("[SKIPPED]") {
            *skipped = true;
        }
        let end = match rest.trim() {
            "passed" if *skipped => Some(Verdict::Skipped),
            "passed" => Some(Verdict::Passed),
            "FAILED" => Some(Verdict::Failed),
            _ => None,
        };
        match end {
            Some(verdict) => {
                found.push((std::mem::take(name), verdict, std::mem::take(said)));
                open = None;
            }
            None if !rest.trim().is_empty() => {
                said.push_str(rest.trim());
                said.push_str("; ");
            }
            None => {}
        }
    }
    if let Some((name, _, said)) = open {
        found.push((name, Verdict::Hung, said));
    }
    // A failure's reason stands behind its test, in the lines that number the failed assertions.
    found
}

/// The tests that may be skipped.
fn allowed() -> BTreeMap<&'static str, &'static str> {
    SKIPS
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(char::is_whitespace).map_or((line, ""), |(name, why)| (name, why.trim())))
        .collect()
}

/// Suites of the unit under test, and the volume that each is run on; a test that one volume skips and
/// another passes has passed.
const ON_REMOVABLE: &[&str] = &["NoMedia", "StartStopUnit", "PreventAllow"];
const ON_READ_ONLY: &[&str] = &["ReadOnly"];
/// WriteSame16.Unmap reads 65,536 blocks at once where a disk has as many, and the kernel's generic driver
/// takes no such request: so this suite gets a disk that has less. ExtendedCopy.Large wants a disk that is
/// larger than the longest segment.
const ON_SMALL: &str = "WriteSame16";
const SMALL_MIB: u64 = 24;
const ON_LARGE: &str = "ExtendedCopy";
const LARGE_MIB: u64 = 4096;

pub fn suite(bench: &Bench) -> Result<String> {
    let ours = bench.against == Against::Standpipe;
    let world = World::open(bench, "scsi-suite", |site| {
        let site = site
            .volume("plain", 64)
            .with(|volume| {
                volume.shared = ours;
                // GetLBAStatus.UnmapSingle confuses blocks with physical blocks where they differ.
                volume.kind = Kind::Disk(512, 512);
            })
            .volume("removable", 64)
            .with(|volume| volume.removable = true)
            .volume("sealed", 64)
            .with(|volume| volume.read_only = true)
            .volume("small", SMALL_MIB)
            .volume("large", LARGE_MIB)
            .disk("web1", "disk0", DiskModel::Scsi, &["plain", "removable", "sealed", "small", "large"]);
        // The same disk by a second controller, for the multipath tests.
        if ours { site.disk("web1", "disk1", DiskModel::Scsi, &["plain"]) } else { site }
    })?;
    // The kernel's generic driver wants large pieces of memory that hang together.
    let guest = Guest::boot(&bench.image, world.spec_with_memory("web1", 512)?)?;
    let worker = world.worker()?;
    // The generic devices are numbered as they are found: controller by controller, LUN by LUN.
    let generic = guest.check("lsscsi -g | grep -v nvme | awk '{ print $1, $NF }'")?;
    let device = |address: &str| {
        let line = generic.lines().find(|line| line.starts_with(address));
        line.and_then(|line| line.split_once(' '))
            .map(|(_, device)| device.to_string())
            .during(format!("the guest has no device {address}: {generic}"))
    };
    let (plain, removable, sealed) = (device("[0:0:0:0]")?, device("[0:0:0:1]")?, device("[0:0:0:2]")?);
    let list = guest.check("iscsi-test-cu -l 2>/dev/null | sed -n 's/^SCSI\\.//p'")?;
    let suites: Vec<&str> = list.lines().filter(|line| !line.contains('.') && !line.is_empty()).collect();
    let tests: Vec<&str> = list.lines().filter(|line| line.contains('.')).collect();
    ensure!(suites.len() > 40 && tests.len() > 150, "the suite lists {suites:?}");
    let both = if ours { format!("{plain} {}", device("[1:0:0:0]")?) } else { plain };
    let (small, large) = (device("[0:0:0:3]")?, device("[0:0:0:4]")?);
    let on = |suite: &str| match suite {
        ON_SMALL => small.as_str(),
        ON_LARGE => large.as_str(),
        _ => both.as_str(),
    };
    let mut runs: Vec<(&str, &str)> = suites.iter().map(|suite| (*suite, on(suite))).collect();
    runs.extend(ON_REMOVABLE.iter().map(|suite| (*suite, removable.as_str())));
    runs.extend(ON_READ_ONLY.iter().map(|suite| (*suite, sealed.as_str())));

    let mut results: BTreeMap<String, (Verdict, String)> = BTreeMap::new();
    for (suite, devices) in runs {
        let command = format!(
            "timeout -k 5 280 iscsi-test-cu --dataloss --allow-sanitize -t SCSI.{suite} {devices} 2>&1"
        );
        let output = guest.run(&command, SUITE_MAX).during(format!("suite {suite}"))?;
        for (test, verdict, said) in verdicts(&output.stdout) {
            let said = format!(
                "on {devices}: {said}{}",
                if verdict == Verdict::Failed { reasons(&output.stdout) } else { String::new() }
            );
            let known = results.entry(test).or_insert((verdict, said.clone()));
            if verdict > known.0 {
                *known = (verdict, said);
            }
        }
        // What a test of this suite has left behind, such as the results of its copies, is not the next
        // one's matter: the next begins after a reset.
        guest.check(
            "for d in /dev/sg?; do sg_reset --no-esc --device $d; for i in 1 2 3; do sg_raw $d 00 00 00 00 00 00 >/dev/null 2>&1 && break; done; done; true",
        )?;
    }
    if ours {
        world.unmoved(worker)?;
    }
    let allowed = allowed();
    let mut wrong = Vec::new();
    let mut count = BTreeMap::new();
    for test in &tests {
        let (verdict, said) = results.get(*test).cloned().unwrap_or((Verdict::Hung, "it never began".into()));
        *count.entry(verdict).or_insert(0u32) += 1;
        let crashed = verdict == Verdict::Hung && said.contains("Segmentation fault");
        match (verdict, allowed.get(test)) {
            (Verdict::Passed, None) | (Verdict::Skipped, Some(_)) => {}
            (Verdict::Hung, Some(why)) if crashed && why.contains("crashes") => {}
            (Verdict::Passed, Some(_)) => wrong.push(format!("{test} passed, and scsi-suite.skips has it")),
            (verdict, _) => wrong.push(format!("{test} {verdict:?}: {said}")),
        }
    }
    let of = |verdict| count.get(&verdict).copied().unwrap_or(0);
    let figures = format!(
        "passed={} failed={} hung={} skipped={}",
        of(Verdict::Passed),
        of(Verdict::Failed),
        of(Verdict::Hung),
        of(Verdict::Skipped)
    );
    ensure!(wrong.is_empty(), "{figures}\n- {}", wrong.join("\n- "));
    guest.shutdown()?;
    Ok(figures)
}

/// CUnit's numbered lines about failed assertions.
fn reasons(output: &str) -> String {
    output
        .lines()
        .filter(|line| {
            let line = line.trim_start();
            line.starts_with("[FAILED]")
                || line.split_once(". ").is_some_and(|(number, _)| number.parse::<u32>().is_ok())
        })
        .map(|line| format!("{}; ", line.trim()))
        .take(6)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_cunit_does_not() {
        let output = "Suite: Read10\n  Test: Simple ...passed\n  Test: DpoFua ...    [SKIPPED] not there\n    more\npassed\n  \
                      Test: Async ...    [FAILED] wrong\nFAILED\n    1. test.c:3  - 0\nSuite: Next\n  Test: Last ...";
        let found = verdicts(output);
        let brief: Vec<(&str, Verdict)> =
            found.iter().map(|(test, verdict, _)| (test.as_str(), *verdict)).collect();
        assert_eq!(
            brief,
            [
                ("Read10.Simple", Verdict::Passed),
                ("Read10.DpoFua", Verdict::Skipped),
                ("Read10.Async", Verdict::Failed),
                ("Next.Last", Verdict::Hung)
            ]
        );
        assert_eq!(reasons(output), "1. test.c:3  - 0; ");
    }

    #[test]
    fn every_skip_has_a_reason() {
        for (test, why) in allowed() {
            assert!(test.contains('.') && why.len() > 10, "{test} {why}");
        }
    }
}
