//! What is told to a person (and, as RFC 9457 problem details, to a program)
//! when something that they asked for cannot be done.

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// The class of a problem. It chooses the HTTP status; the words are in `what`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The request, the file or the argument is wrong in itself.
    Invalid,
    /// It names an object that does not exist.
    NotFound,
    /// It is well formed, but does not fit the present state.
    Conflict,
    /// The caller may not do this.
    Forbidden,
    /// The operating system or the daemon failed to do it.
    Failed,
    /// The daemon cannot be reached.
    Unreachable,
}

/// One problem: what is wrong, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    pub kind: Kind,
    /// What is wrong, as a sentence without a full stop.
    pub what: String,
    /// Where: `site.toml:12:3 (vm.web1.disk0.volume)`, an object, a file.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "where")]
    pub place: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Further problems found in the same request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    pub others: Vec<Problem>,
}

impl Problem {
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), place: None, hint: None, others: Vec::new() }
    }

    pub fn invalid(what: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, what)
    }

    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, what)
    }

    pub fn conflict(what: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, what)
    }

    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Kind::Failed, what)
    }

    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Folds a list into one problem that carries the rest; `None` for none.
    pub fn from_list(list: Vec<Problem>) -> Option<Problem> {
        let mut list = list.into_iter();
        let mut first = list.next()?;
        first.others.extend(list);
        Some(first)
    }

    /// This problem and those that it carries, each alone.
    pub fn each(&self) -> impl Iterator<Item = &Problem> {
        std::iter::once(self).chain(self.others.iter())
    }
}

/// The form in which the command line prints it.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.each().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "error: {}", problem.what)?;
            if let Some(place) = &problem.place {
                write!(f, "\n  where: {place}")?;
            }
            if let Some(hint) = &problem.hint {
                write!(f, "\n  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
