//! libiscsi's conformance suite in a guest, on our disks behind virtio-scsi. (`iscsi-test-cu` speaks
//! iSCSI by itself; given a device of the kernel, it runs the same tests by SG_IO.)
//!
//! A test that is skipped is a failure, unless `scsi-suite.skips` has it with its reason.

use crate::cunit::{self, Ended, Skips, Tally, Verdict};
use crate::guest::Guest;
use crate::site::{DiskModel, Kind, Site};
use crate::world::{Against, Bench, World};
use crate::{During, Result, ensure};
use std::time::Duration;

/// Tests that no disk behind a controller can run, each with its reason.
const SKIPS: &str = include_str!("../../scsi-suite.skips");

/// The longest suites write 256 MiB in small pieces, emulated.
const SUITE_MAX: Duration = Duration::from_secs(300);

/// Suites of the unit under test that run once more on another disk, because only there they have
/// something to try. A test that one disk skips and another passes has passed.
const ON_REMOVABLE: &[&str] = &["NoMedia", "StartStopUnit", "PreventAllow"];
const ON_PROTECTED: &str = "ReadOnly";
/// Writes are atomic where nothing is written at all.
const ON_NULL: &str = "WriteAtomic16";
/// More than one logical block in a physical one.
const ON_EMULATED: &str = "WriteSame10";
/// WriteSame16.Unmap reads 65,536 blocks at once where a disk has as many, and the kernel's generic driver
/// takes no such request: so this suite gets a disk that has less. ExtendedCopy.Large wants a disk that is
/// larger than the longest segment.
const ON_SMALL: &str = "WriteSame16";
const SMALL_MIB: u64 = 24;
const ON_LARGE: &str = "ExtendedCopy";
const LARGE_MIB: u64 = 4096;

/// The LUNs of the controller.
const LUNS: [&str; 6] = ["plain", "removable", "protected", "small", "large", "null"];

fn describe(site: Site, ours: bool) -> Site {
    let site = site
        .volume("plain", 64)
        .with(|volume| {
            volume.shared = ours;
            // GetLBAStatus.UnmapSingle confuses blocks with physical blocks where they differ.
            volume.kind = Kind::Disk(512, 512);
        })
        .volume("removable", 64)
        .with(|volume| volume.removable = true)
        .volume("protected", 64)
        .volume("small", SMALL_MIB)
        .with(|volume| volume.kind = Kind::Disk(512, 4096))
        .volume("large", LARGE_MIB)
        .volume("null", 1024)
        .with(|volume| volume.kind = Kind::Null)
        .disk("web1", "disk0", DiskModel::Scsi, &LUNS);
    // The same disk by a second controller, for the multipath tests.
    if ours { site.disk("web1", "disk1", DiskModel::Scsi, &["plain"]) } else { site }
}

/// The generic devices of the guest, by their place.
struct Devices {
    both: String,
    by_lun: Vec<String>,
}

impl Devices {
    fn find(guest: &Guest, ours: bool) -> Result<Devices> {
        // They are numbered as they are found, which is in no order.
        let listed = guest.check("lsscsi -g | grep -v nvme | awk '{ print $1, $NF }'")?;
        let at = |address: String| {
            let line = listed.lines().find(|line| line.starts_with(&address));
            line.and_then(|line| line.split_once(' '))
                .map(|(_, device)| device.to_string())
                .during(format!("the guest has no device {address}: {listed}"))
        };
        let by_lun = (0..LUNS.len()).map(|lun| at(format!("[0:0:0:{lun}]"))).collect::<Result<Vec<_>>>()?;
        let both =
            if ours { format!("{} {}", by_lun[0], at("[1:0:0:0]".into())?) } else { by_lun[0].clone() };
        Ok(Devices { both, by_lun })
    }

    fn of(&self, name: &str) -> &str {
        let lun = LUNS.iter().position(|known| *known == name);
        &self.by_lun[lun.expect("a disk of the list above")]
    }
}

/// Runs a suite, and adds what came of its tests.
fn run(guest: &Guest, suite: &str, devices: &str, skips: &Skips, tally: &mut Tally) -> Result<()> {
    let command =
        format!("timeout -k 5 280 iscsi-test-cu --dataloss --allow-sanitize -t SCSI.{suite} {devices} 2>&1");
    let output = guest.run(&command, SUITE_MAX).during(format!("suite {suite}"))?;
    let crashed = output.stdout.contains("Segmentation fault");
    for mut ended in cunit::ends(&output.stdout) {
        // It cannot be run, and the list says so.
        if crashed
            && ended.verdict == Verdict::Hung
            && skips.reason(&ended.test).is_some_and(|why| why.contains("crashes"))
        {
            ended.verdict = Verdict::Skipped;
        }
        tally.add(&format!("on {devices}"), ended);
    }
    // What a test of this suite has left behind, such as the results of its copies, is not the next
    // one's matter: the next begins after a reset.
    let reset = format!(
        "for d in {devices}; do sg_reset --no-esc --device $d; \
         for i in 1 2 3; do sg_raw $d 00 00 00 00 00 00 >/dev/null 2>&1 && break; done; done; true"
    );
    guest.check(&reset).map(drop)
}

pub fn suite(bench: &Bench) -> Result<String> {
    let ours = bench.against == Against::Standpipe;
    let world = World::open(bench, "scsi-suite", |site| describe(site, ours))?;
    // The kernel's generic driver wants large pieces of memory that hang together.
    let guest = Guest::boot(&bench.image, world.spec_with_memory("web1", 512)?)?;
    let worker = world.worker()?;
    let devices = Devices::find(&guest, ours)?;
    let list = guest.check("iscsi-test-cu -l 2>/dev/null | sed -n 's/^SCSI\\.//p'")?;
    let suites: Vec<&str> = list.lines().filter(|line| !line.contains('.') && !line.is_empty()).collect();
    let tests: Vec<&str> = list.lines().filter(|line| line.contains('.')).collect();
    ensure!(suites.len() > 40 && tests.len() > 150, "the suite lists {suites:?}");

    let on = |suite: &str| match suite {
        ON_SMALL => devices.of("small"),
        ON_LARGE => devices.of("large"),
        ON_NULL => devices.of("null"),
        _ => devices.both.as_str(),
    };
    let mut runs: Vec<(&str, &str)> = suites.iter().map(|suite| (*suite, on(suite))).collect();
    runs.extend(ON_REMOVABLE.iter().map(|suite| (*suite, devices.of("removable"))));
    runs.extend([(ON_PROTECTED, devices.of("protected")), (ON_EMULATED, devices.of("small"))]);
    let skips = Skips::of(SKIPS);
    let mut tally = Tally::default();
    for (suite, device) in runs {
        if device == devices.of("protected") {
            // By software write protection, until the reset behind the run. A volume that is read-only
            // gives no space back and so has no UNMAP, which the suite wants to see refused.
            guest.check(&format!("sdparm --set=SWP {device}"))?;
        }
        run(&guest, suite, device, &skips, &mut tally)?;
    }
    if ours {
        world.unmoved(worker)?;
    }
    for test in tests.into_iter().filter(|test| tally.of(test).is_none()).collect::<Vec<_>>() {
        let said = "it never began".to_owned();
        tally.add("nowhere", Ended { test: test.to_owned(), verdict: Verdict::Hung, said });
    }
    let of = |verdict| tally.count(None, verdict);
    let figures = format!(
        "passed={} failed={} hung={} skipped={}",
        of(Verdict::Passed),
        of(Verdict::Failed),
        of(Verdict::Hung),
        of(Verdict::Skipped)
    );
    let faults = tally.faults(&skips, true);
    ensure!(faults.is_empty(), "{figures}\n- {}", faults.join("\n- "));
    guest.shutdown()?;
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_skip_has_a_reason() {
        for (test, why) in Skips::of(SKIPS).iter() {
            assert!(test.contains('.') && why.len() > 10, "{test} {why}");
        }
    }
}
