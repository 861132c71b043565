//! Version 1 of what was kept: one JSON document. Its sites are read by the
//! types of today, which take all that those of then wrote; a document of then
//! is among the tests.

use crate::site::Site;
use serde::{Deserialize, Serialize};

/// The number in the file that means this module.
pub const VERSION: u64 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub site: Site,
    pub pending: Option<Site>,
    pub config: Option<Site>,
}
