//! What a run of libiscsi's suite has printed, read as verdicts.
//!
//! CUnit knows no skipped tests: it counts them as passed. So they are counted here, by what the suite
//! prints inside each test; and lists of tests that may be skipped are checked in with their reasons.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Skipped,
    Passed,
    Failed,
    /// It began, or should have, and no word of its end came.
    Hung,
}

/// The end of one test in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// `Suite.Test`.
    pub test: String,
    pub verdict: Verdict,
    /// What it printed, and which of its assertions failed.
    pub said: String,
}

/// The ends of all tests that a run has begun, in order.
pub fn ends(output: &str) -> Vec<Ended> {
    let mut found: Vec<Ended> = Vec::new();
    let mut suite = "";
    let mut open = false;
    for line in output.lines() {
        if let Some(name) = line.strip_prefix("Suite: ") {
            (suite, open) = (name.trim(), false);
            continue;
        }
        let mut rest = line;
        if let Some((name, said)) = line.strip_prefix("  Test: ").and_then(|test| test.split_once(" ...")) {
            let test = format!("{suite}.{}", name.trim());
            found.push(Ended { test, verdict: Verdict::Hung, said: String::new() });
            (rest, open) = (said, true);
        }
        let Some(last) = found.last_mut() else { continue };
        // A verdict stands at the beginning of a line, or behind the test's name; what the suite says is
        // indented. What it says while it ends can follow on the verdict's line.
        let is = |verdict: &str| {
            let rest = rest.strip_prefix(verdict);
            open && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        };
        if is("passed") {
            let skipped = last.said.contains("[SKIPPED]");
            last.verdict = if skipped { Verdict::Skipped } else { Verdict::Passed };
        } else if is("FAILED") {
            last.verdict = Verdict::Failed;
        } else {
            // The assertions that failed are numbered below the verdict.
            let said = rest.trim();
            let numbered = said.split_once(". ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
            if !said.is_empty() && (open || (numbered && last.verdict == Verdict::Failed)) {
                last.said.push_str(said);
                last.said.push_str("; ");
            }
            continue;
        }
        open = false;
    }
    found
}

/// What became of each test over several runs: the worst of what the runs say, and a skip only where
/// every run skipped it.
#[derive(Debug, Default)]
pub struct Tally {
    tests: BTreeMap<String, (Verdict, String)>,
}

impl Tally {
    /// `whence` names the run, for whoever reads what went wrong.
    pub fn add(&mut self, whence: &str, ended: Ended) {
        let said = format!("{whence}: {}", ended.said);
        let known = self.tests.entry(ended.test).or_insert((ended.verdict, said.clone()));
        if ended.verdict > known.0 {
            *known = (ended.verdict, said);
        }
    }

    pub fn of(&self, test: &str) -> Option<(Verdict, &str)> {
        self.tests.get(test).map(|(verdict, said)| (*verdict, said.as_str()))
    }

    /// How many tests of a suite (of all, for `None`) ended so.
    pub fn count(&self, suite: Option<&str>, verdict: Verdict) -> usize {
        let of_suite = |test: &str| suite.is_none_or(|suite| test.split('.').next() == Some(suite));
        self.tests.iter().filter(|(test, (found, _))| *found == verdict && of_suite(test)).count()
    }

    /// The suites that have run, by name.
    pub fn suites(&self) -> Vec<&str> {
        let mut suites: Vec<&str> = self.tests.keys().filter_map(|test| test.split('.').next()).collect();
        suites.dedup();
        suites
    }

    /// What has to be mended: tests that failed or hung, skips without a listed reason, and (when
    /// everything was run) listed reasons for what is not skipped.
    pub fn faults(&self, skips: &Skips, whole: bool) -> Vec<String> {
        let mut faults: Vec<String> = self
            .tests
            .iter()
            .filter(|(test, (verdict, _))| match verdict {
                Verdict::Passed => false,
                Verdict::Skipped => skips.reason(test).is_none(),
                Verdict::Failed | Verdict::Hung => true,
            })
            .map(|(test, (verdict, said))| format!("{test} {verdict:?}, {said}"))
            .collect();
        if whole {
            let wrong =
                skips.0.keys().filter(|test| self.of(test).is_none_or(|(v, _)| v != Verdict::Skipped));
            faults.extend(wrong.map(|test| format!("{test} is not skipped, and the list says so")));
        }
        faults
    }
}

/// A checked-in list: a test a line, and the reason why it may be skipped.
#[derive(Debug)]
pub struct Skips(BTreeMap<&'static str, &'static str>);

impl Skips {
    pub fn of(list: &'static str) -> Skips {
        let lines = list.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        Skips(
            lines
                .map(|line| {
                    let (test, why) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
                    (test, why.trim())
                })
                .collect(),
        )
    }

    pub fn reason(&self, test: &str) -> Option<&'static str> {
        self.0.get(test).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        self.0.iter().map(|(test, why)| (*test, *why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "Suite: Read10\n  Test: Simple ...passed\n  Test: DpoFua ...    [SKIPPED] not there\n    \
        more\npassed\n  Test: Async ...    [FAILED] wrong\nFAILED\n    1. test.c:3  - 0\n    2. test.c:9  - 1\n  \
        Test: Alone ...passed    [FAILED] while it ended\n\n1. nothing\nSuite: Next\n  Test: Last ...";

    #[test]
    fn counts_what_cunit_does_not() {
        let found = ends(OUTPUT);
        let brief: Vec<(&str, Verdict)> =
            found.iter().map(|ended| (ended.test.as_str(), ended.verdict)).collect();
        assert_eq!(
            brief,
            [
                ("Read10.Simple", Verdict::Passed),
                ("Read10.DpoFua", Verdict::Skipped),
                ("Read10.Async", Verdict::Failed),
                ("Read10.Alone", Verdict::Passed),
                ("Next.Last", Verdict::Hung)
            ]
        );
        assert_eq!(found[2].said, "[FAILED] wrong; 1. test.c:3  - 0; 2. test.c:9  - 1; ");
    }

    #[test]
    fn the_worst_run_counts_and_a_skip_has_to_be_listed() {
        let mut tally = Tally::default();
        let end = |test: &str, verdict| Ended { test: test.into(), verdict, said: String::new() };
        for (whence, test, verdict) in [
            ("first", "A.PassesHere", Verdict::Skipped),
            ("second", "A.PassesHere", Verdict::Passed),
            ("first", "A.Broken", Verdict::Passed),
            ("second", "A.Broken", Verdict::Failed),
            ("first", "B.Absent", Verdict::Skipped),
            ("first", "B.Unlisted", Verdict::Skipped),
        ] {
            tally.add(whence, end(test, verdict));
        }
        let skips = Skips::of("# a comment\nB.Absent  no disk can do it\nA.PassesHere  an old reason\n");
        let faults = ["A.Broken Failed, second: ", "B.Unlisted Skipped, first: "];
        assert_eq!(tally.faults(&skips, false), faults);
        assert_eq!(
            tally.faults(&skips, true),
            [&faults[..], &["A.PassesHere is not skipped, and the list says so"]].concat()
        );
        assert_eq!(tally.suites(), ["A", "B"]);
        assert_eq!(tally.count(Some("A"), Verdict::Passed), 1);
        assert_eq!(tally.count(None, Verdict::Skipped), 2);
    }
}
