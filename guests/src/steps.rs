//! Lists of commands with what is expected of each: all are run, and what failed is told at the end.

use crate::guest::{Guest, Output, tail};
use crate::{Failure, Result};
use std::time::Duration;

/// A step takes an emulated guest some milliseconds; one that writes a whole disk takes longer.
const STEP_MAX: Duration = Duration::from_secs(180);

/// A command, its exit status, and words that its output has (compared without regard to case).
pub type Row = (&'static str, i32, &'static [&'static str]);

#[derive(Debug, Default)]
pub struct Steps {
    pub passed: u32,
    failed: Vec<String>,
}

impl Steps {
    pub fn new() -> Steps {
        Steps::default()
    }

    /// Runs every row of a list in a guest.
    pub fn all(&mut self, guest: &Guest, rows: &[Row]) -> Result<()> {
        for (command, status, words) in rows {
            self.one(guest, command, *status, words)?;
        }
        Ok(())
    }

    /// Runs one command, and gives its output for a closer look.
    pub fn one(&mut self, guest: &Guest, command: &str, status: i32, words: &[&str]) -> Result<Output> {
        let output = guest.run(command, STEP_MAX)?;
        let said = output.stdout.to_lowercase();
        let lacking: Vec<&str> =
            words.iter().copied().filter(|word| !said.contains(&word.to_lowercase())).collect();
        let shown = || tail(&output.stdout, 12);
        if output.status != status {
            let name = guest.name();
            self.fail(format!("{name}: {command}: status {}, not {status}: {}", output.status, shown()));
        } else if !lacking.is_empty() {
            self.fail(format!("{}: {command}: its output lacks {lacking:?}: {}", guest.name(), shown()));
        } else {
            self.passed += 1;
        }
        Ok(output)
    }

    /// A condition that is counted like a command.
    pub fn holds(&mut self, condition: bool, otherwise: impl FnOnce() -> String) {
        if condition {
            self.passed += 1;
        } else {
            self.fail(otherwise());
        }
    }

    pub fn fail(&mut self, sentence: String) {
        self.failed.push(sentence);
    }

    /// The number of steps that passed, or all those that did not.
    pub fn done(self) -> Result<u32> {
        if self.failed.is_empty() {
            return Ok(self.passed);
        }
        Err(Failure::new(format!(
            "{} of {} steps failed:\n- {}",
            self.failed.len(),
            self.failed.len() + self.passed as usize,
            self.failed.join("\n- ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_step_that_fails_fails_the_list() {
        let mut steps = Steps::new();
        steps.holds(true, || "not told".into());
        steps.holds(false, || "told".into());
        assert_eq!(steps.done().unwrap_err().to_string(), "1 of 2 steps failed:\n- told");
        let mut steps = Steps::new();
        steps.holds(true, || "not told".into());
        assert_eq!(steps.done(), Ok(1));
    }
}
