//! Commands of SBC that move, flush, compare, erase and give back blocks.

use super::{ASK, Access, DataPhase, F, G, On, R, ROW, Row};
use crate::{inquiry, medium, provisioning};

const READ: Row =
    Row { data: DataPhase::In, needs_start: true, access: Access::Read, decode: medium::read, ..ROW };
const WRITE: Row = Row {
    data: DataPhase::Out,
    needs_start: true,
    writes: true,
    access: Access::Write,
    on: On::Disk,
    decode: medium::write,
    ..ROW
};
/// A flush waits for everything that was written before it.
const FLUSH: Row = Row {
    needs_start: true,
    timeout_seconds: 120,
    access: Access::Write,
    decode: medium::synchronize_cache,
    ..ROW
};
/// Reads the medium back, whatever its length.
const VERIFY: Row = Row {
    data: DataPhase::Out,
    needs_start: true,
    timeout_seconds: 120,
    access: Access::Read,
    decode: medium::verify,
    ..ROW
};
const WRITE_AND_VERIFY: Row =
    Row { timeout_seconds: 120, on: On::Disk, decode: medium::write_and_verify, ..WRITE };
const PREFETCH: Row = Row { needs_start: true, access: Access::Read, decode: medium::prefetch, ..ROW };
const SPACE: Row = Row {
    data: DataPhase::Out,
    needs_start: true,
    writes: true,
    timeout_seconds: 120,
    access: Access::Write,
    on: On::Disk,
    decode: provisioning::unmap,
    ..ROW
};
/// Erases the whole medium: as long as it takes, a day and more for a large disk.
const ERASE: Row = Row {
    needs_start: true,
    writes: true,
    timeout_seconds: 172_800,
    access: Access::Write,
    on: On::Disk,
    ..ROW
};
const DEFECTS: Row = Row { access: Access::Read, on: On::Disk, ..ASK };

pub(super) const ROWS: [Row; 33] = [
    Row {
        name: "FORMAT UNIT",
        opcode: 0x04,
        usage: &[0x04, 0x3f, R, R, R, R],
        data: DataPhase::Out,
        decode: medium::format_unit,
        ..ERASE
    },
    Row { name: "READ(6)", opcode: 0x08, usage: &[0x08, 0x1f, F, F, F, R], ..READ },
    Row { name: "WRITE(6)", opcode: 0x0a, usage: &[0x0a, 0x1f, F, F, F, R], ..WRITE },
    Row {
        name: "READ CAPACITY(10)",
        opcode: 0x25,
        usage: &[0x25, R, R, R, R, R, R, R, R, R],
        needs_start: true,
        decode: inquiry::read_capacity_10,
        ..ASK
    },
    Row { name: "READ(10)", opcode: 0x28, usage: &[0x28, 0x18, F, F, F, F, G, F, F, R], ..READ },
    Row { name: "WRITE(10)", opcode: 0x2a, usage: &[0x2a, 0x18, F, F, F, F, G, F, F, R], ..WRITE },
    Row {
        name: "WRITE AND VERIFY(10)",
        opcode: 0x2e,
        usage: &[0x2e, 0x12, F, F, F, F, G, F, F, R],
        ..WRITE_AND_VERIFY
    },
    Row { name: "VERIFY(10)", opcode: 0x2f, usage: &[0x2f, 0x16, F, F, F, F, G, F, F, R], ..VERIFY },
    Row { name: "PRE-FETCH(10)", opcode: 0x34, usage: &[0x34, 0x02, F, F, F, F, G, F, F, R], ..PREFETCH },
    Row {
        name: "SYNCHRONIZE CACHE(10)",
        opcode: 0x35,
        usage: &[0x35, 0x06, F, F, F, F, G, F, F, R],
        ..FLUSH
    },
    Row {
        name: "READ DEFECT DATA(10)",
        opcode: 0x37,
        usage: &[0x37, R, 0x1f, R, R, R, R, F, F, R],
        decode: medium::read_defect_data_10,
        ..DEFECTS
    },
    Row {
        name: "WRITE SAME(10)",
        opcode: 0x41,
        usage: &[0x41, 0x08, F, F, F, F, G, F, F, R],
        decode: provisioning::write_same,
        ..SPACE
    },
    Row { name: "UNMAP", opcode: 0x42, usage: &[0x42, R, R, R, R, R, G, F, F, R], thin: true, ..SPACE },
    Row {
        name: "SANITIZE, OVERWRITE",
        opcode: 0x48,
        action: Some(0x01),
        usage: &[0x48, 0xa1, R, R, R, R, R, F, F, R],
        data: DataPhase::Out,
        decode: medium::overwrite,
        ..ERASE
    },
    Row {
        name: "SANITIZE, BLOCK ERASE",
        opcode: 0x48,
        action: Some(0x02),
        usage: &[0x48, 0xa2, R, R, R, R, R, R, R, R],
        thin: true,
        decode: medium::block_erase,
        ..ERASE
    },
    Row {
        name: "SANITIZE, EXIT FAILURE MODE",
        opcode: 0x48,
        action: Some(0x1f),
        usage: &[0x48, 0xbf, R, R, R, R, R, R, R, R],
        timeout_seconds: 60,
        decode: medium::exit_failure_mode,
        ..ERASE
    },
    Row {
        name: "READ(16)",
        opcode: 0x88,
        usage: &[0x88, 0x18, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
        ..READ
    },
    Row {
        name: "COMPARE AND WRITE",
        opcode: 0x89,
        usage: &[0x89, 0x18, F, F, F, F, F, F, F, F, R, R, R, F, G, R],
        on: On::Disk,
        decode: medium::compare_and_write,
        ..WRITE
    },
    Row {
        name: "WRITE(16)",
        opcode: 0x8a,
        usage: &[0x8a, 0x18, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
        ..WRITE
    },
    Row {
        name: "ORWRITE(16)",
        opcode: 0x8b,
        usage: &[0x8b, 0x18, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
        on: On::Disk,
        decode: medium::orwrite,
        ..WRITE
    },
    Row {
        name: "WRITE AND VERIFY(16)",
        opcode: 0x8e,
        usage: &[0x8e, 0x12, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
        ..WRITE_AND_VERIFY
    },
    Row {
        name: "VERIFY(16)",
        opcode: 0x8f,
        usage: &[0x8f, 0x16, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
        ..VERIFY
    },
    Row {
        name: "PRE-FETCH(16)",
        opcode: 0x90,
        usage: &[0x90, 0x02, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
        ..PREFETCH
    },
    Row {
        name: "SYNCHRONIZE CACHE(16)",
        opcode: 0x91,
        usage: &[0x91, 0x06, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
        ..FLUSH
    },
    Row {
        name: "WRITE SAME(16)",
        opcode: 0x93,
        usage: &[0x93, 0x09, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
        decode: provisioning::write_same,
        ..SPACE
    },
    Row {
        name: "WRITE ATOMIC(16)",
        opcode: 0x9c,
        usage: &[0x9c, 0x18, F, F, F, F, F, F, F, F, R, R, F, F, G, R],
        on: On::Disk,
        atomic: true,
        decode: medium::write_atomic,
        ..WRITE
    },
    Row {
        name: "READ CAPACITY(16)",
        opcode: 0x9e,
        action: Some(0x10),
        usage: &[0x9e, 0x10, R, R, R, R, R, R, R, R, F, F, F, F, R, R],
        needs_start: true,
        decode: inquiry::read_capacity_16,
        ..ASK
    },
    Row {
        name: "GET LBA STATUS(16)",
        opcode: 0x9e,
        action: Some(0x12),
        usage: &[0x9e, 0x12, F, F, F, F, F, F, F, F, F, F, F, F, F, R],
        needs_start: true,
        access: Access::Read,
        on: On::Disk,
        decode: medium::get_lba_status,
        ..ASK
    },
    Row { name: "READ(12)", opcode: 0xa8, usage: &[0xa8, 0x18, F, F, F, F, F, F, F, F, G, R], ..READ },
    Row { name: "WRITE(12)", opcode: 0xaa, usage: &[0xaa, 0x18, F, F, F, F, F, F, F, F, G, R], ..WRITE },
    Row {
        name: "WRITE AND VERIFY(12)",
        opcode: 0xae,
        usage: &[0xae, 0x12, F, F, F, F, F, F, F, F, G, R],
        ..WRITE_AND_VERIFY
    },
    Row { name: "VERIFY(12)", opcode: 0xaf, usage: &[0xaf, 0x16, F, F, F, F, F, F, F, F, G, R], ..VERIFY },
    Row {
        name: "READ DEFECT DATA(12)",
        opcode: 0xb7,
        usage: &[0xb7, 0x1f, F, F, F, F, F, F, F, F, R, R],
        decode: medium::read_defect_data_12,
        ..DEFECTS
    },
];
