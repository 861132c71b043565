//! How far a transfer is, for people who wait.

use super::show::human;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// A line on the terminal that is written over.
pub struct Progress {
    what: &'static str,
    shown: Option<Instant>,
    visible: bool,
}

impl Progress {
    pub fn new(what: &'static str) -> Self {
        Self { what, shown: None, visible: std::io::stderr().is_terminal() }
    }

    pub fn at(&mut self, done: u64, of: Option<u64>) {
        let recent = |shown: &Instant| shown.elapsed() < Duration::from_millis(200);
        if !self.visible || self.shown.as_ref().is_some_and(recent) {
            return;
        }
        self.shown = Some(Instant::now());
        let of = match of.filter(|of| *of > 0) {
            Some(of) => format!(" of {} ({} %)", human(of), u128::from(done) * 100 / u128::from(of)),
            None => String::new(),
        };
        // A terminal that cannot be written to is no reason to stop.
        let _ = write!(std::io::stderr(), "\r\x1b[K{} {}{of}", self.what, human(done));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
