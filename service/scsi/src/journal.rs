//! Commands that were answered and whose answers the initiators may not have seen: a successor of a
//! process that dies meanwhile is given them again, and must answer as before instead of running
//! them twice.

use alloc::vec::Vec;

use crate::nexus::Nexus;
use crate::sense::Sense;
use crate::unit::Response;

/// Answers, all of one turn of the caller. What does not fit is run again, which only the commands
/// that are not noted bear; so the caller publishes when it is full ([`crate::Unit::journal_is_full`]).
/// Notes of commands that have begun are not counted: each belongs to a task that runs.
pub const JOURNAL_MAX: usize = 64;

/// The note of a command whose answer waits for others; the works' own notes are less.
pub(crate) const SETTLING: u32 = u32::MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// It has ended, like this.
    Ended { status: u8, sense: Option<(u8, u8, u8)>, data_out: u64 },
    /// It has come so far that it must not begin anew: what [`crate::Work::note`] said, and the blocks
    /// (first, end) that it has for itself.
    Begun { note: u32, first: u64, end: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub nexus: Nexus,
    pub id: u64,
    pub note: Note,
    /// By a process that died, and the command was not given to this one again.
    pub restored: bool,
}

impl Line {
    fn has_ended(&self) -> bool {
        matches!(self.note, Note::Ended { .. })
    }

    /// An answer that this process has given.
    fn is_given(&self) -> bool {
        self.has_ended() && !self.restored
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    pub lines: Vec<Line>,
    /// Some of them may be.
    has_restored: bool,
}

impl Journal {
    pub fn put(&mut self, nexus: Nexus, id: u64, note: Note) {
        let before = self.lines.len();
        self.forget(nexus, id);
        // The end of what has begun takes its line.
        if matches!(note, Note::Ended { .. }) && self.lines.len() == before && self.is_full() {
            // The oldest answer goes. What has only begun is never given up, and what has not come again
            // is not this turn's.
            let oldest = self.lines.iter().position(Line::is_given);
            if let Some(oldest) = oldest {
                self.lines.remove(oldest);
            }
        }
        self.lines.push(Line { nexus, id, note, restored: false });
    }

    /// No more answers fit.
    pub fn is_full(&self) -> bool {
        self.lines.len() >= JOURNAL_MAX
            && self.lines.iter().filter(|line| line.is_given()).count() >= JOURNAL_MAX
    }

    pub fn find(&self, nexus: Nexus, id: u64) -> Option<&Note> {
        self.lines.iter().find(|line| line.nexus == nexus && line.id == id).map(|line| &line.note)
    }

    pub fn forget(&mut self, nexus: Nexus, id: u64) {
        self.lines.retain(|line| (line.nexus, line.id) != (nexus, id));
    }

    /// The answers that were given can be seen. What has only begun stays, and so do the answers of
    /// commands that have not come again: they can come after others' answers are seen.
    pub fn seen(&mut self) {
        self.lines.retain(|line| !line.is_given());
    }

    /// A line from the state of a process that died.
    pub fn restore(&mut self, nexus: Nexus, id: u64, note: Note) {
        self.lines.push(Line { nexus, id, note, restored: true });
        self.has_restored = true;
    }

    /// The command has come again. Its answer, if it has ended.
    pub fn come_again(&mut self, nexus: Nexus, id: u64) -> Option<Response> {
        if !self.has_restored {
            return None;
        }
        let line = self.lines.iter_mut().find(|line| line.nexus == nexus && line.id == id)?;
        line.restored = false;
        line.note.response()
    }

    /// What of these nexuses has not come again will not come any more: a later command of the same
    /// name is another one.
    pub fn forget_restored(&mut self, of: impl Fn(Nexus) -> bool) {
        if self.has_restored {
            self.lines.retain(|line| !(line.restored && of(line.nexus)));
            self.has_restored = self.lines.iter().any(|line| line.restored);
        }
    }

    pub fn forget_nexus(&mut self, nexus: Nexus) {
        self.lines.retain(|line| line.nexus != nexus);
    }
}

impl Note {
    pub fn of(response: &Response) -> Note {
        let sense = response.sense.map(|sense| (sense.key as u8, sense.asc, sense.ascq));
        Note::Ended { status: response.status, sense, data_out: response.data_out }
    }

    /// The answer that was given, without field pointers.
    pub fn response(&self) -> Option<Response> {
        let Note::Ended { status, sense, data_out } = self else { return None };
        let sense = match sense {
            None => None,
            Some((key, asc, ascq)) => Some(Sense::of_codes(*key, *asc, *ascq)?),
        };
        Some(Response { status: *status, sense, data_out: *data_out, ..Response::GOOD })
    }
}
