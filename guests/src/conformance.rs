//! libiscsi's conformance suite, by iSCSI over the loopback: no guest is in it, only our server, with
//! disks of several kinds behind two portals.
//!
//! Every suite runs on one disk, as the suite's own second path by the other portal. What that disk
//! cannot do by its kind (it cannot be ejected, say), the suites in question do on another: a test has
//! passed when it passes in one run and fails in none. A suite is a process of its own with a time
//! limit, so that one that hangs costs itself.

use crate::cunit::{self, Ended, Skips, Tally, Verdict};
use crate::guest::tail;
use crate::place::{Scratch, in_tree};
use crate::{During, Failure, Result, Server, ensure};
use std::fmt::Write;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The tests that are skipped over all runs, with their reasons.
const SKIPS: &str = include_str!("../iscsi-suite.skips");

/// The longest suite writes and reads some hundred megabytes in small pieces.
const SUITE_MAX: Duration = Duration::from_secs(180);
/// Sanitize.Reset waits for the end of the erasure in steps of a minute. Seconds would do, but for a
/// machine that is busy with other things.
const RESET_MAX: Duration = Duration::from_secs(1200);

const USER: &str = "suite";
const SECRET: &str = "suite-secret-0123";
const TARGET_USER: &str = "standpipe";
const TARGET_SECRET: &str = "target-secret-4567";

/// What one URL stands for: a LUN of the open target, or LUN 0 of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Lun(u16),
    Vast,
    OneWay,
    Mutual,
}

/// The LUNs of the open target, by their place.
const DISKS: &[(&str, &str)] = &[
    ("disk", "store = \"local\"\nsize = \"256MiB\"\nphysical_block_size = 512"),
    // Twice the longest copy that ExtendedCopy.Large makes.
    ("emulated", "store = \"local\"\nsize = \"512MiB\"\nphysical_block_size = 4096"),
    ("native", "store = \"local\"\nsize = \"256MiB\"\nblock_size = 4096"),
    ("removable", "store = \"local\"\nsize = \"64MiB\"\nremovable = true"),
    ("sealed", "store = \"local\"\nsize = \"64MiB\"\nread_only = true"),
    // By software write protection, which an initiator asks for: so it can be written all the same.
    ("protected", "store = \"local\"\nsize = \"64MiB\""),
    ("cd", "path = \"CD\"\nkind = \"cdrom\""),
    // Writes are atomic where nothing is written at all.
    ("null", "null = true\nsize = \"1GiB\""),
];
/// Its erasure moves nothing and takes four million steps: more than the five seconds that Sanitize.Reset
/// needs, on the fastest of machines, and on a busy one a minute or two, for which it waits. It has a target and so a lane of its own, beside the others.
const VAST: &str = "null = true\nsize = \"128TiB\"";

fn lun(name: &str) -> Place {
    let found = DISKS.iter().position(|(known, _)| *known == name).and_then(|at| u16::try_from(at).ok());
    Place::Lun(found.expect("a disk of the table above"))
}

/// A selection of tests, as `iscsi-test-cu` takes it behind the family, and where it runs.
struct Run {
    selection: String,
    on: &'static str,
    place: Place,
    max: Duration,
    /// Runs beside all others.
    aside: bool,
}

fn run_of(selection: impl Into<String>, on: &'static str) -> Run {
    Run { selection: selection.into(), on, place: lun(on), max: SUITE_MAX, aside: false }
}

/// Tests whose session does not outlive them, so that none can follow in their process.
const ALONE: &[&str] = &["iSCSITMF"];

/// Which suites run on which of the other disks, because only there they have something to try.
const ELSEWHERE: &[(&str, &[&str])] = &[
    // More than one logical block in a physical one, and more blocks.
    (
        "emulated",
        &[
            "CompareAndWrite",
            "ExtendedCopy",
            "Inquiry",
            "ReadCapacity16",
            "Unmap",
            "WriteSame10",
            "WriteSame16",
        ],
    ),
    ("removable", &["NoMedia", "PreventAllow", "StartStopUnit", "TestUnitReady", "Inquiry", "Mandatory"]),
    ("protected", &["ReadOnly"]),
    ("sealed", &["ReadOnly", "Inquiry", "Mandatory", "ModeSense6", "Read10", "Read16"]),
    ("cd", &["Inquiry", "NoMedia", "PreventAllow", "ReadCapacity10", "StartStopUnit", "TestUnitReady"]),
    ("null", &["WriteAtomic16"]),
];

/// The one test that a small disk cannot pass: the erasure has to last.
const LASTING: &str = "Sanitize.Reset";
/// On 512e it wants block N+1 of a GET LBA STATUS to be told as block N+8.
const ON_512N: &str = "GetLBAStatus.UnmapSingle";

/// The suites of the program: which tests there are, and the family that each runs in. The families
/// overlap, and a test is the same in each.
struct Catalogue {
    tests: Vec<(String, String)>,
}

impl Catalogue {
    fn get() -> Result<Catalogue> {
        let output =
            in_tree("iscsi-test-cu").arg("--list").output().during("starting iscsi-test-cu in the tree")?;
        let list = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut tests: Vec<(String, String)> = Vec::new();
        for line in list.lines().filter(|line| line.matches('.').count() == 2) {
            let (family, test) = line.split_once('.').during("a test has a family")?;
            if tests.iter().all(|(known, _)| known != test) {
                tests.push((test.to_owned(), family.to_owned()));
            }
        }
        ensure!(tests.len() > 200, "iscsi-test-cu --list names {} tests only: {list}", tests.len());
        Ok(Catalogue { tests })
    }

    fn suites(&self) -> Vec<&str> {
        let mut suites: Vec<&str> = Vec::new();
        for (test, _) in &self.tests {
            let suite = test.split('.').next().unwrap_or(test);
            if !suites.contains(&suite) {
                suites.push(suite);
            }
        }
        suites
    }

    /// The tests that a selection means: a suite's, or one.
    fn tests<'a>(&'a self, selection: &'a str) -> impl Iterator<Item = &'a str> {
        self.tests.iter().map(|(test, _)| test.as_str()).filter(move |test| {
            *test == selection || test.split('.').next().is_some_and(|suite| suite == selection)
        })
    }

    fn family(&self, selection: &str) -> &str {
        let found = self.tests.iter().find(|(test, _)| {
            test == selection || test.strip_prefix(selection).is_some_and(|rest| rest.starts_with('.'))
        });
        found.map_or("ALL", |(_, family)| family)
    }

    /// A suite without one of its tests, as selections.
    fn without(&self, suite: &str, test: &str) -> Vec<String> {
        match self.tests(suite).any(|known| known == test) {
            true => self.tests(suite).filter(|known| *known != test).map(str::to_owned).collect(),
            false => vec![suite.to_owned()],
        }
    }

    /// All runs, of `chosen` suites or of every one.
    fn runs(&self, chosen: &[&str], long: bool) -> Vec<Run> {
        let wanted = |suite: &str| chosen.is_empty() || chosen.contains(&suite);
        let mut runs = Vec::new();
        for suite in self.suites().into_iter().filter(|suite| wanted(suite)) {
            let alone = ALONE.contains(&suite);
            let selections = match alone {
                true => self.tests(suite).map(str::to_owned).collect(),
                false => self.without(suite, LASTING),
            };
            runs.extend(selections.into_iter().map(|selection| run_of(selection, "disk")));
        }
        for (on, suites) in ELSEWHERE {
            runs.extend(suites.iter().filter(|suite| wanted(suite)).map(|suite| run_of(*suite, on)));
        }
        if wanted("iSCSICHAP") {
            for (on, place) in [("chap", Place::OneWay), ("mutual chap", Place::Mutual)] {
                runs.push(Run { place, on, ..run_of("iSCSICHAP", "disk") });
            }
        }
        if wanted("Sanitize") {
            let selection = LASTING.to_owned();
            runs.push(Run { selection, on: "vast", place: Place::Vast, max: RESET_MAX, aside: true });
        }
        if long {
            for on in ["emulated", "native"] {
                for suite in self.suites().into_iter().filter(|suite| wanted(suite) && !ALONE.contains(suite))
                {
                    let mut selections = self.without(suite, LASTING);
                    if on == "emulated" && suite == "GetLBAStatus" {
                        selections = self.without(suite, ON_512N);
                    }
                    runs.extend(selections.into_iter().map(|selection| run_of(selection, on)));
                }
            }
        }
        runs
    }
}

struct Done {
    run: Run,
    seconds: f64,
    ends: Vec<Ended>,
}

/// Our server with the disks, and the addresses of its portals.
struct Rig {
    scratch: Scratch,
    server: Server,
    ports: [u16; 2],
}

impl Rig {
    fn up() -> Result<Rig> {
        let scratch = Scratch::new("iscsi-suite")?;
        let (volumes, sockets) = (scratch.files.join("volumes"), scratch.sockets.clone());
        std::fs::create_dir_all(&volumes).during("creating the folder of the volumes")?;
        let cd = scratch.files.join("cd.iso");
        std::fs::write(&cd, image()).during("writing the CD's image")?;
        for (name, secret) in [(USER, SECRET), (TARGET_USER, TARGET_SECRET)] {
            write_secret(&scratch.files.join(name), secret)?;
        }
        // Both are bound at once, so that they differ; nobody else asks for ports of their range in the
        // moment until the server listens.
        let bind = || TcpListener::bind("127.0.0.1:0").during("binding a port of the loopback");
        let listeners = [bind()?, bind()?];
        let port = |at: usize| listeners[at].local_addr().map(|a| a.port()).during("asking for a port");
        let ports = [port(0)?, port(1)?];
        drop(listeners);
        let toml = site(&volumes, &sockets, &cd, &scratch.files, ports);
        let server = Server::start_with(&scratch, &toml)?;
        Ok(Rig { scratch, server, ports })
    }

    /// Turns software write protection on, until a reset of the target turns it off.
    fn protect(&self, place: Place) -> Result<()> {
        let swp = in_tree("iscsi-swp").args(["--swp", "on"]).args(self.urls(place)).output();
        let swp = swp.during("starting iscsi-swp in the tree")?;
        let said = String::from_utf8_lossy(&swp.stderr).into_owned();
        ensure!(swp.status.success(), "iscsi-swp could not protect a disk: {said}");
        Ok(())
    }

    /// The URLs of a run: the disk at the first portal, and where all suites run at the second, too, for
    /// the multipath tests. (Some of the tests of ejecting do not expect what earlier ones told a second
    /// path, and make one for themselves when they have none; and a CD may have one path only.)
    fn urls(&self, place: Place) -> Vec<String> {
        let at = |port: u16, user: &str, target: &str, lun: u16, rest: &str| {
            format!("iscsi://{user}127.0.0.1:{port}/{IQN}:{target}/{lun}{rest}")
        };
        let user = format!("{USER}%{SECRET}@");
        match place {
            Place::Lun(number) => {
                let both = ["disk", "emulated", "native"].iter().any(|disk| lun(disk) == place);
                self.ports
                    .iter()
                    .take(1 + usize::from(both))
                    .map(|port| at(*port, "", "open", number, ""))
                    .collect()
            }
            Place::Vast => vec![at(self.ports[0], "", "vast", 0, "")],
            Place::OneWay => vec![at(self.ports[0], &user, "chap", 0, "")],
            Place::Mutual => {
                let rest = format!("?target_user={TARGET_USER}&target_password={TARGET_SECRET}");
                vec![at(self.ports[0], &user, "mutual", 0, &rest)]
            }
        }
    }

    /// Runs a selection, and sees to it that each of its tests has an end.
    fn done(&self, run: Run, catalogue: &Catalogue) -> Result<Done> {
        let began = Instant::now();
        if run.place == lun("protected") {
            self.protect(run.place)?;
        }
        let (output, word) = self.run(&run, catalogue.family(&run.selection))?;
        let mut ends = cunit::ends(&output);
        let word = word.unwrap_or_else(|| "it never began".into());
        for test in catalogue.tests(&run.selection) {
            if ends.iter().all(|ended| ended.test != test) {
                let said = format!("{word}, having said: {}", tail(&output, 3));
                ends.push(Ended { test: test.to_owned(), verdict: Verdict::Hung, said });
            }
        }
        Ok(Done { run, seconds: began.elapsed().as_secs_f64(), ends })
    }

    /// Runs a selection, and gives what it printed, and a word when it did not end by itself.
    fn run(&self, run: &Run, family: &str) -> Result<(String, Option<String>)> {
        let log = self.scratch.files.join(format!("{}-{}.log", run.on.replace(' ', "-"), run.selection));
        let output = File::create(&log).during(format!("creating {}", log.display()))?;
        let errors = output.try_clone().during("cloning a log")?;
        let mut child = in_tree("iscsi-test-cu")
            .args(["--dataloss", "--allow-sanitize", "-t", &format!("{family}.{}", run.selection)])
            .args(self.urls(run.place))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .during("starting iscsi-test-cu in the tree")?;
        let deadline = Instant::now() + run.max;
        let ended = loop {
            match child.try_wait().during("waiting for iscsi-test-cu")? {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => {
                    let _ = child.kill();
                    let _ = child.wait();
                    break None;
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        // Exit status 1 says that tests failed, which they say themselves.
        let word = match ended {
            None => Some(format!("ended after {} seconds", run.max.as_secs())),
            Some(status) if !matches!(status.code(), Some(0 | 1)) => Some(format!("ended with {status}")),
            Some(_) => None,
        };
        let said = std::fs::read(&log).during(format!("reading {}", log.display()))?;
        Ok((String::from_utf8_lossy(&said).into_owned(), word))
    }
}

/// The names of the targets, before the colon. example.org is nobody's (RFC 2606).
const IQN: &str = "iqn.2026-11.org.example";

fn site(volumes: &Path, sockets: &Path, cd: &Path, secrets: &Path, ports: [u16; 2]) -> String {
    let mut text = format!(
        "[server]\nlanes = 2\nsocket_dir = {sockets:?}\n\n[store.local]\ndirectory = {volumes:?}\n\n"
    );
    let mut line = |args: std::fmt::Arguments<'_>| {
        text.write_fmt(args).expect("writing to a string does not fail");
    };
    let mut luns = Vec::new();
    for (at, (name, what)) in DISKS.iter().enumerate() {
        let what = what.replace("\"CD\"", &format!("{cd:?}"));
        line(format_args!("[disk.{name}]\n{what}\nshared = true\n\n"));
        luns.push(format!("{at} = {name:?}"));
    }
    line(format_args!("[disk.vast]\n{VAST}\nshared = true\n\n"));
    for (name, port) in ["a", "b"].iter().zip(ports) {
        line(format_args!("[portal.{name}]\nlisten = \"127.0.0.1:{port}\"\n\n"));
    }
    let chap = format!("chap = {{ user = {USER:?}, secret_file = {:?} }}\n", secrets.join(USER));
    let mutual =
        format!("mutual = {{ user = {TARGET_USER:?}, secret_file = {:?} }}\n", secrets.join(TARGET_USER));
    for (target, luns, proof) in [
        ("open", luns.join(", "), String::new()),
        ("vast", "0 = \"vast\"".to_owned(), String::new()),
        ("chap", "0 = \"disk\"".to_owned(), chap.clone()),
        ("mutual", "0 = \"disk\"".to_owned(), chap.clone() + &mutual),
    ] {
        line(format_args!(
            "[target.{target}]\niqn = \"{IQN}:{target}\"\nportals = [\"a\", \"b\"]\nluns = {{ {luns} }}\nopen = true\n{proof}\n"
        ));
    }
    text
}

/// 16 MiB of blocks that differ, in the place of a file system: no test of a CD reads one.
fn image() -> Vec<u8> {
    (0..16u32 << 18).flat_map(|word| word.wrapping_mul(0x9e37_79b1).to_le_bytes()).collect()
}

fn write_secret(path: &Path, secret: &str) -> Result<()> {
    use std::io::Write;
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| writeln!(file, "{secret}")).during(format!("writing {}", path.display()))
}

/// Runs the suites, all or the chosen ones, and says whether nothing has to be mended.
pub fn conformance(words: &[&str]) -> Result<bool> {
    let (mut long, mut chosen) = (false, Vec::new());
    for word in words {
        match *word {
            "--long" => long = true,
            word if word.starts_with('-') => return Err(Failure::new(format!("there is no option {word}"))),
            word => chosen.push(word),
        }
    }
    crate::place::tree()?;
    let catalogue = Catalogue::get()?;
    if let Some(unknown) = chosen.iter().find(|suite| !catalogue.suites().contains(suite)) {
        let known = catalogue.suites().join(" ");
        return Err(Failure::new(format!("there is no suite {unknown}; there are {known}")));
    }
    let rig = Rig::up()?;
    let worker = rig.server.worker()?;
    let (mut tally, mut slow) = (Tally::default(), Vec::new());
    let started = Instant::now();
    let (aside, others): (Vec<Run>, Vec<Run>) =
        catalogue.runs(&chosen, long).into_iter().partition(|run| run.aside);
    let all = |runs: Vec<Run>| -> Result<Vec<Done>> {
        runs.into_iter().map(|run| rig.done(run, &catalogue)).collect()
    };
    let done = std::thread::scope(|scope| {
        let aside = scope.spawn(|| all(aside));
        let mut done = all(others)?;
        done.extend(aside.join().map_err(|_| Failure::new("the thread of the runs aside panicked"))??);
        Ok(done)
    })?;
    for Done { run, seconds, ends } in done {
        for ended in ends {
            tally.add(&format!("on {}", run.on), ended);
        }
        slow.push((seconds, format!("{} on {}", run.selection, run.on)));
    }
    let survived = rig.server.worker().is_ok_and(|now| now == worker);
    print!("{}", table(&tally));
    slow.sort_by(|a, b| b.0.total_cmp(&a.0));
    let slow: Vec<String> =
        slow.iter().take(3).map(|(seconds, run)| format!("{run} {seconds:.0} s")).collect();
    println!("longest: {}; in all {:.0} s", slow.join(", "), started.elapsed().as_secs_f64());
    let skips = Skips::of(SKIPS);
    for (test, why) in skips.iter().filter(|(test, _)| tally.of(test).is_some()) {
        println!("skipped {test}: {why}");
    }
    let mut faults = tally.faults(&skips, chosen.is_empty());
    if !survived {
        faults.push(format!("the worker ended\n{}", tail(&rig.server.log(), 20)));
    }
    for fault in &faults {
        println!("FAILED {fault}");
    }
    if !faults.is_empty() {
        rig.scratch.keep();
        println!("everything that was said is in {}", rig.scratch.files.display());
    }
    let count = |verdict| tally.count(None, verdict);
    println!(
        "iscsi-suite: {} passed, {} skipped, {} hung, {} failed",
        count(Verdict::Passed),
        count(Verdict::Skipped),
        count(Verdict::Hung),
        faults.len()
    );
    Ok(faults.is_empty())
}

fn table(tally: &Tally) -> String {
    let mut text = format!("{:24} {:>6} {:>6} {:>7} {:>4}\n", "suite", "passed", "failed", "skipped", "hung");
    let mut row = |title: &str, suite: Option<&str>| {
        let of = |verdict| tally.count(suite, verdict);
        let (passed, failed) = (of(Verdict::Passed), of(Verdict::Failed));
        let (skipped, hung) = (of(Verdict::Skipped), of(Verdict::Hung));
        let _ = writeln!(text, "{title:24} {passed:>6} {failed:>6} {skipped:>7} {hung:>4}");
    };
    for suite in tally.suites() {
        row(suite, Some(suite));
    }
    row("in all", None);
    text
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

    #[test]
    fn a_suite_runs_where_it_has_something_to_try() {
        let tests = ["Sanitize.Reset", "Sanitize.Overwrite", "NoMedia.Simple", "iSCSITMF.A", "iSCSITMF.B"];
        let tests = tests.map(|test| (test.to_owned(), "ALL".to_owned())).to_vec();
        let catalogue = Catalogue { tests };
        let runs: Vec<(String, &str)> =
            catalogue.runs(&[], false).into_iter().map(|run| (run.selection, run.on)).collect();
        for (selection, on) in [
            ("Sanitize.Overwrite", "disk"),
            ("Sanitize.Reset", "vast"),
            ("NoMedia", "removable"),
            ("iSCSITMF.A", "disk"),
            ("iSCSITMF.B", "disk"),
        ] {
            assert!(runs.contains(&(selection.into(), on)), "{selection} on {on}: {runs:?}");
        }
        assert!(!runs.contains(&("Sanitize.Reset".into(), "disk")), "{runs:?}");
        assert!(catalogue.runs(&["NoMedia"], false).iter().all(|run| run.selection == "NoMedia"));
    }
}
