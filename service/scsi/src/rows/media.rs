//! Commands of MMC, and of removable media.

use super::Row;

pub(super) const ROWS: [Row; 0] = [];
