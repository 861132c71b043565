//! Reservation commands of SPC.

use super::{DataPhase, F, R, ROW, Row};
use crate::reservation::{self, Access};

/// Never done twice, as each changes the table.
const CHANGE: Row = Row { access: Access::Reservation, once: true, timeout_seconds: 120, ..ROW };

const fn ask(name: &'static str, action: u8, usage: &'static [u8]) -> Row {
    Row {
        name,
        opcode: 0x5e,
        action: Some(action),
        usage,
        data: DataPhase::In,
        access: Access::Reservation,
        in_standby: true,
        decode: reservation::persistent_reserve_in,
        ..ROW
    }
}

const fn out(name: &'static str, action: u8, usage: &'static [u8]) -> Row {
    Row {
        name,
        opcode: 0x5f,
        action: Some(action),
        usage,
        data: DataPhase::Out,
        in_standby: true,
        decode: reservation::persistent_reserve_out,
        ..CHANGE
    }
}

/// RESERVE and RELEASE are SPC-2's, with the fields of a third party and of extents refused, as they are
/// obsolete; without these the parameter list length of the long forms is ignored.
pub(super) const ROWS: [Row; 17] = [
    Row {
        name: "RESERVE(6)",
        opcode: 0x16,
        usage: &[0x16, R, R, R, R, R],
        decode: reservation::reserve,
        ..CHANGE
    },
    Row {
        name: "RELEASE(6)",
        opcode: 0x17,
        usage: &[0x17, R, R, R, R, R],
        decode: reservation::release,
        ..CHANGE
    },
    Row {
        name: "RESERVE(10)",
        opcode: 0x56,
        usage: &[0x56, R, R, R, R, R, R, F, F, R],
        decode: reservation::reserve,
        ..CHANGE
    },
    Row {
        name: "RELEASE(10)",
        opcode: 0x57,
        usage: &[0x57, R, R, R, R, R, R, F, F, R],
        decode: reservation::release,
        ..CHANGE
    },
    ask("PERSISTENT RESERVE IN, READ KEYS", 0x00, &[0x5e, 0x00, R, R, R, R, R, F, F, R]),
    ask("PERSISTENT RESERVE IN, READ RESERVATION", 0x01, &[0x5e, 0x01, R, R, R, R, R, F, F, R]),
    ask("PERSISTENT RESERVE IN, REPORT CAPABILITIES", 0x02, &[0x5e, 0x02, R, R, R, R, R, F, F, R]),
    ask("PERSISTENT RESERVE IN, READ FULL STATUS", 0x03, &[0x5e, 0x03, R, R, R, R, R, F, F, R]),
    out("PERSISTENT RESERVE OUT, REGISTER", 0x00, &[0x5f, 0x00, F, R, R, F, F, F, F, R]),
    out("PERSISTENT RESERVE OUT, RESERVE", 0x01, &[0x5f, 0x01, F, R, R, F, F, F, F, R]),
    out("PERSISTENT RESERVE OUT, RELEASE", 0x02, &[0x5f, 0x02, F, R, R, F, F, F, F, R]),
    out("PERSISTENT RESERVE OUT, CLEAR", 0x03, &[0x5f, 0x03, F, R, R, F, F, F, F, R]),
    out("PERSISTENT RESERVE OUT, PREEMPT", 0x04, &[0x5f, 0x04, F, R, R, F, F, F, F, R]),
    out("PERSISTENT RESERVE OUT, PREEMPT AND ABORT", 0x05, &[0x5f, 0x05, F, R, R, F, F, F, F, R]),
    out(
        "PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY",
        0x06,
        &[0x5f, 0x06, F, R, R, F, F, F, F, R],
    ),
    out("PERSISTENT RESERVE OUT, REGISTER AND MOVE", 0x07, &[0x5f, 0x07, F, R, R, F, F, F, F, R]),
    out("PERSISTENT RESERVE OUT, REPLACE LOST RESERVATION", 0x08, &[0x5f, 0x08, F, R, R, F, F, F, F, R]),
];
