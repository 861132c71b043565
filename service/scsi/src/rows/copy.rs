//! Copy commands of SPC and SBC: EXTENDED COPY, tokens, and what became of them.

use super::{DataPhase, F, G, On, R, ROW, Row};
use crate::copy;
use crate::reservation::Access;

/// Moves data, here or elsewhere; reservations are asked of each unit that takes part.
const COPY: Row = Row {
    opcode: 0x83,
    data: DataPhase::Out,
    needs_start: true,
    // A copy has up to 4 GiB to move.
    timeout_seconds: 600,
    access: Access::Write,
    on: On::Disk,
    ..ROW
};
const RESULTS: Row =
    Row { opcode: 0x84, data: DataPhase::In, access: Access::NotReserved, on: On::Disk, ..ROW };

pub(super) const ROWS: [Row; 12] = [
    Row {
        name: "EXTENDED COPY(LID1)",
        action: Some(0x00),
        usage: &[0x83, 0x00, R, R, R, R, R, R, R, R, F, F, F, F, R, R],
        decode: copy::extended_copy_lid1,
        ..COPY
    },
    Row {
        name: "EXTENDED COPY(LID4)",
        action: Some(0x01),
        usage: &[0x83, 0x01, R, R, R, R, R, R, R, R, F, F, F, F, R, R],
        decode: copy::extended_copy_lid4,
        ..COPY
    },
    Row {
        name: "POPULATE TOKEN",
        action: Some(0x10),
        usage: &[0x83, 0x10, R, R, R, R, F, F, F, F, F, F, F, F, G, R],
        access: Access::Read,
        decode: copy::populate_token,
        ..COPY
    },
    Row {
        name: "WRITE USING TOKEN",
        action: Some(0x11),
        usage: &[0x83, 0x11, R, R, R, R, F, F, F, F, F, F, F, F, G, R],
        writes: true,
        decode: copy::write_using_token,
        ..COPY
    },
    Row {
        name: "COPY OPERATION ABORT",
        action: Some(0x1c),
        usage: &[0x83, 0x1c, F, F, F, F, R, R, R, R, R, R, R, R, R, R],
        data: DataPhase::None,
        decode: copy::abort_copy,
        ..COPY
    },
    Row {
        name: "RECEIVE COPY STATUS(LID1)",
        action: Some(0x00),
        usage: &[0x84, 0x00, F, R, R, R, R, R, R, R, F, F, F, F, R, R],
        decode: copy::copy_status_lid1,
        ..RESULTS
    },
    Row {
        name: "RECEIVE COPY DATA(LID1)",
        action: Some(0x01),
        usage: &[0x84, 0x01, F, R, R, R, R, R, R, R, F, F, F, F, R, R],
        decode: copy::receive_copy_data_lid1,
        ..RESULTS
    },
    Row {
        name: "RECEIVE COPY OPERATING PARAMETERS",
        action: Some(0x03),
        usage: &[0x84, 0x03, R, R, R, R, R, R, R, R, F, F, F, F, R, R],
        decode: copy::operating_parameters,
        ..RESULTS
    },
    Row {
        name: "RECEIVE COPY FAILURE DETAILS(LID1)",
        action: Some(0x04),
        usage: &[0x84, 0x04, F, R, R, R, R, R, R, R, F, F, F, F, R, R],
        decode: copy::failed_segment_details,
        ..RESULTS
    },
    Row {
        name: "RECEIVE COPY STATUS(LID4)",
        action: Some(0x05),
        usage: &[0x84, 0x05, F, F, F, F, R, R, R, R, F, F, F, F, R, R],
        decode: copy::copy_status_lid4,
        ..RESULTS
    },
    Row {
        name: "RECEIVE COPY DATA(LID4)",
        action: Some(0x06),
        usage: &[0x84, 0x06, F, F, F, F, R, R, R, R, F, F, F, F, R, R],
        decode: copy::receive_copy_data_lid4,
        ..RESULTS
    },
    Row {
        name: "RECEIVE ROD TOKEN INFORMATION",
        action: Some(0x07),
        usage: &[0x84, 0x07, F, F, F, F, R, R, R, R, F, F, F, F, R, R],
        decode: copy::rod_token_information,
        ..RESULTS
    },
];
