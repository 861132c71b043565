//! Copy commands of SPC: EXTENDED COPY and tokens.

use super::Row;

pub(super) const ROWS: [Row; 0] = [];
