//! Machines from another hypervisor: a package is opened ([`package`]), its disks are understood
//! ([`image`]), what becomes of each machine is decided ([`draft`]), and volumes are written
//! ([`birth`]). All of it happens in the process that was asked, with its user's rights; the daemon
//! hears of a machine when its volumes are whole.

pub mod birth;
pub mod draft;
pub mod image;
pub mod package;

use crate::problem::Problem;
use appliance::Fault;
use std::path::Path;

/// A fault of a package, as a problem with its place.
pub fn problem(fault: Fault, place: impl AsRef<Path>) -> Problem {
    let problem = Problem::invalid(fault.what).at(place.as_ref().display().to_string());
    match fault.hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}
