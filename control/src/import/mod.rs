//! Machines from another hypervisor: a package is opened ([`package`]), its disks are understood
//! ([`image`]), what becomes of each machine is decided ([`draft`]), and volumes are written
//! ([`birth`]). All of it happens in the process that was asked, with its user's rights; the daemon
//! hears of a machine when its volumes are whole.

pub mod birth;
pub mod draft;
pub mod image;
pub mod package;
pub mod room;

use crate::problem::Problem;
use appliance::Fault;
use std::path::Path;

/// A fault of a package, as a problem with its place.
pub fn problem(fault: Fault, place: impl AsRef<Path>) -> Problem {
    let problem = Problem::invalid(fault.what).at(place.as_ref().display().to_string());
    shown_problem(match fault.hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    })
}

/// Text of a stranger's, for a terminal: control characters would be obeyed there.
pub fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The same of a problem and those that it carries.
pub fn shown_problem(problem: Problem) -> Problem {
    Problem {
        what: shown(&problem.what),
        place: problem.place.as_deref().map(shown),
        hint: problem.hint.as_deref().map(shown),
        others: problem.others.into_iter().map(shown_problem).collect(),
        ..problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing() {
        let inner = Problem::invalid("a\u{1b}[2Jb");
        let problem = Problem { others: vec![inner], ..problem(Fault::new("c\r").hint("d\u{9b}"), "e\n") };
        let text = shown_problem(problem).each().map(|one| format!("{one:?}")).collect::<String>();
        for part in ["a?[2Jb", "c?", "d?", "e?"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
