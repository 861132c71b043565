//! Commands of SPC: what the unit is, how it is set, and its state.

use super::{ASK, DataPhase, F, On, R, ROW, Row};
use crate::reservation::Access;
use crate::{alua, diagnostic, identifying, inquiry, log, mode, primary, removable, report, timestamp};

pub(super) const ROWS: [Row; 24] = [
    Row {
        name: "TEST UNIT READY",
        opcode: 0x00,
        usage: &[0x00, R, R, R, R, R],
        needs_start: true,
        access: Access::NotReserved,
        decode: removable::test_unit_ready,
        ..ROW
    },
    Row {
        name: "REQUEST SENSE",
        opcode: 0x03,
        usage: &[0x03, 0x01, R, R, F, R],
        past_attention: true,
        while_erasing: true,
        decode: primary::request_sense,
        in_standby: true,
        in_unavailable: true,
        ..ASK
    },
    Row {
        name: "INQUIRY",
        opcode: 0x12,
        usage: &[0x12, 0x01, F, F, F, R],
        lun_in_cdb: true,
        past_attention: true,
        while_erasing: true,
        decode: inquiry::inquiry,
        in_standby: true,
        in_unavailable: true,
        ..ASK
    },
    Row {
        name: "MODE SELECT(6)",
        opcode: 0x15,
        usage: &[0x15, 0x11, R, R, F, R],
        data: DataPhase::Out,
        decode: mode::select_6,
        access: Access::Write,
        in_standby: true,
        ..ROW
    },
    Row {
        name: "MODE SENSE(6)",
        opcode: 0x1a,
        usage: &[0x1a, 0x08, F, F, F, R],
        decode: mode::sense_6,
        access: Access::Read,
        in_standby: true,
        ..ASK
    },
    Row {
        name: "START STOP UNIT",
        opcode: 0x1b,
        usage: &[0x1b, 0x01, R, 0x0f, 0xf7, R],
        timeout_seconds: 120,
        access: Access::StartStop,
        decode: removable::start_stop_unit,
        ..ROW
    },
    Row {
        name: "PREVENT ALLOW MEDIUM REMOVAL",
        opcode: 0x1e,
        usage: &[0x1e, R, R, R, 0x01, R],
        access: Access::PreventAllow,
        decode: removable::prevent_allow,
        ..ROW
    },
    Row {
        name: "MODE SELECT(10)",
        opcode: 0x55,
        usage: &[0x55, 0x11, R, R, R, R, R, F, F, R],
        data: DataPhase::Out,
        decode: mode::select_10,
        access: Access::Write,
        in_standby: true,
        ..ROW
    },
    Row {
        name: "MODE SENSE(10)",
        opcode: 0x5a,
        usage: &[0x5a, 0x18, F, F, R, R, R, F, F, R],
        decode: mode::sense_10,
        access: Access::Read,
        in_standby: true,
        ..ASK
    },
    Row {
        name: "REPORT LUNS",
        opcode: 0xa0,
        usage: &[0xa0, R, F, R, R, R, F, F, F, F, R, R],
        past_attention: true,
        while_erasing: true,
        decode: report::report_luns,
        in_standby: true,
        in_unavailable: true,
        ..ASK
    },
    Row {
        name: "REPORT IDENTIFYING INFORMATION",
        opcode: 0xa3,
        action: Some(0x05),
        usage: &[0xa3, 0x05, R, R, R, R, F, F, F, F, 0xfe, R],
        decode: identifying::report,
        ..ASK
    },
    Row {
        name: "REPORT TARGET PORT GROUPS",
        opcode: 0xa3,
        action: Some(0x0a),
        usage: &[0xa3, 0xea, R, R, R, R, F, F, F, F, R, R],
        in_standby: true,
        in_unavailable: true,
        while_erasing: true,
        decode: alua::report,
        ..ASK
    },
    Row {
        name: "REPORT SUPPORTED OPERATION CODES",
        opcode: 0xa3,
        action: Some(0x0c),
        usage: &[0xa3, 0x0c, 0x87, F, F, F, F, F, F, F, R, R],
        while_erasing: true,
        decode: report::supported_operation_codes,
        access: Access::Read,
        ..ASK
    },
    Row {
        name: "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
        opcode: 0xa3,
        action: Some(0x0d),
        usage: &[0xa3, 0x0d, 0x80, R, R, R, F, F, F, F, R, R],
        while_erasing: true,
        decode: report::supported_task_management_functions,
        access: Access::Read,
        ..ASK
    },
    Row {
        name: "REPORT TIMESTAMP",
        opcode: 0xa3,
        action: Some(0x0f),
        usage: &[0xa3, 0x0f, R, R, R, R, F, F, F, F, R, R],
        decode: timestamp::report,
        ..ASK
    },
    Row {
        name: "SET IDENTIFYING INFORMATION",
        opcode: 0xa4,
        action: Some(0x06),
        usage: &[0xa4, 0x06, R, R, R, R, F, F, F, F, 0xfe, R],
        data: DataPhase::Out,
        decode: identifying::set,
        access: Access::Write,
        // MMC has REPORT KEY there.
        on: On::Disk,
        ..ROW
    },
    Row {
        name: "SET TARGET PORT GROUPS",
        opcode: 0xa4,
        action: Some(0x0a),
        usage: &[0xa4, 0x0a, R, R, R, R, F, F, F, F, R, R],
        data: DataPhase::Out,
        in_standby: true,
        in_unavailable: true,
        while_erasing: true,
        decode: alua::set,
        access: Access::Write,
        // MMC has REPORT KEY there.
        on: On::Disk,
        ..ROW
    },
    Row {
        name: "SET TIMESTAMP",
        opcode: 0xa4,
        action: Some(0x0f),
        usage: &[0xa4, 0x0f, R, R, R, R, F, F, F, F, R, R],
        data: DataPhase::Out,
        decode: timestamp::set,
        access: Access::Write,
        // MMC has REPORT KEY there.
        on: On::Disk,
        ..ROW
    },
    Row {
        name: "RECEIVE DIAGNOSTIC RESULTS",
        opcode: 0x1c,
        usage: &[0x1c, 0x01, F, F, F, R],
        access: Access::Read,
        in_standby: true,
        decode: diagnostic::receive,
        ..ASK
    },
    Row {
        name: "SEND DIAGNOSTIC",
        opcode: 0x1d,
        usage: &[0x1d, 0xf7, R, F, F, R],
        data: DataPhase::Out,
        access: Access::Write,
        in_standby: true,
        decode: diagnostic::send,
        ..ROW
    },
    Row {
        name: "WRITE BUFFER",
        opcode: 0x3b,
        usage: &[0x3b, 0x1f, F, F, F, F, F, F, F, R],
        data: DataPhase::Out,
        access: Access::Write,
        in_standby: true,
        decode: diagnostic::write_buffer,
        ..ROW
    },
    Row {
        name: "READ BUFFER(10)",
        opcode: 0x3c,
        usage: &[0x3c, 0x1f, F, F, F, F, F, F, F, R],
        access: Access::Read,
        in_standby: true,
        decode: diagnostic::read_buffer,
        ..ASK
    },
    Row {
        name: "LOG SELECT",
        opcode: 0x4c,
        usage: &[0x4c, 0x02, F, F, R, R, R, F, F, R],
        data: DataPhase::Out,
        access: Access::Write,
        in_standby: true,
        decode: log::select,
        ..ROW
    },
    Row {
        name: "LOG SENSE",
        opcode: 0x4d,
        usage: &[0x4d, R, F, F, R, F, F, F, F, R],
        in_standby: true,
        decode: log::sense,
        ..ASK
    },
];
