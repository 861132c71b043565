//! Reservation commands of SPC.

use super::Row;

pub(super) const ROWS: [Row; 0] = [];
