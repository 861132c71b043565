//! Version 1 of what is kept: one JSON document. A released version does not
//! change; a new one gets a module of its own and a conversion from this one.

use crate::site::Site;
use serde::{Deserialize, Serialize};

/// The number in the file that means this module.
pub const VERSION: u64 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// What the daemon offers, identities included.
    pub site: Site,
    /// What it was about to offer when it was last heard of: written before
    /// the first step of a change and taken away after its last.
    pub pending: Option<Site>,
    /// The configuration file as it was last taken over. An unchanged file is
    /// not taken over again, or a restart would undo what was changed since.
    pub config: Option<Site>,
}
