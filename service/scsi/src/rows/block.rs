//! Commands of SBC that move, flush, compare and give back blocks.

use super::{ASK, Access, DataPhase, F, G, R, ROW, Row};
use crate::{inquiry, medium, provisioning};

const READ: Row =
    Row { data: DataPhase::In, needs_start: true, access: Access::Read, decode: medium::read, ..ROW };
const WRITE: Row = Row {
    data: DataPhase::Out,
    needs_start: true,
    writes: true,
    access: Access::Write,
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
const VERIFY: Row = Row { access: Access::Read, decode: medium::verify, ..FLUSH };
const SPACE: Row = Row {
    data: DataPhase::Out,
    needs_start: true,
    writes: true,
    timeout_seconds: 120,
    access: Access::Write,
    decode: provisioning::unmap,
    ..ROW
};

pub(super) const ROWS: [Row; 18] = [
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
    Row { name: "VERIFY(10)", opcode: 0x2f, usage: &[0x2f, 0x10, F, F, F, F, G, F, F, R], ..VERIFY },
    Row {
        name: "SYNCHRONIZE CACHE(10)",
        opcode: 0x35,
        usage: &[0x35, 0x02, F, F, F, F, G, F, F, R],
        ..FLUSH
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
        name: "READ(16)",
        opcode: 0x88,
        usage: &[0x88, 0x18, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
        ..READ
    },
    Row {
        name: "WRITE(16)",
        opcode: 0x8a,
        usage: &[0x8a, 0x18, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
        ..WRITE
    },
    Row {
        name: "VERIFY(16)",
        opcode: 0x8f,
        usage: &[0x8f, 0x10, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
        ..VERIFY
    },
    Row {
        name: "SYNCHRONIZE CACHE(16)",
        opcode: 0x91,
        usage: &[0x91, 0x02, F, F, F, F, F, F, F, F, F, F, F, F, G, R],
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
        name: "READ CAPACITY(16)",
        opcode: 0x9e,
        action: Some(0x10),
        usage: &[0x9e, 0x10, R, R, R, R, R, R, R, R, F, F, F, F, R, R],
        needs_start: true,
        decode: inquiry::read_capacity_16,
        ..ASK
    },
    Row { name: "READ(12)", opcode: 0xa8, usage: &[0xa8, 0x18, F, F, F, F, F, F, F, F, G, R], ..READ },
    Row { name: "WRITE(12)", opcode: 0xaa, usage: &[0xaa, 0x18, F, F, F, F, F, F, F, F, G, R], ..WRITE },
    Row { name: "VERIFY(12)", opcode: 0xaf, usage: &[0xaf, 0x10, F, F, F, F, F, F, F, F, G, R], ..VERIFY },
];
