//! Version 2 of what is kept: one JSON document. It has portals, targets, and
//! the numbers by which ports are known. A released version does not change;
//! a new one gets a module of its own and a conversion from this one.

use super::v1;
use crate::site::Site;
use serde::{Deserialize, Serialize};

/// The number in the file that means this module.
pub const VERSION: u64 = 2;

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

impl From<v1::Document> for Document {
    /// Slots get numbers, the same in the site and where it was going.
    fn from(old: v1::Document) -> Self {
        let (mut site, mut pending) = (old.site, old.pending);
        site.number_ports(&Site::default());
        if let Some(pending) = &mut pending {
            pending.number_ports(&site);
        }
        Document { site, pending, config: old.config }
    }
}
