//! How much one command may ask for. VPD page B0h tells initiators the same numbers.

/// Bytes that one READ, WRITE or VERIFY may move. A command is one transfer for the backend and
/// cannot be interrupted, so its size bounds how long others wait behind it; Linux splits at
/// 4 MiB and below, Windows at 2 MiB and below.
pub const TRANSFER_MAX_BYTES: u64 = 32 << 20;

/// Bytes that one WRITE SAME may change: where the backend has no operation for it, the command
/// is as costly as a write of the same length.
pub const WRITE_SAME_MAX_BYTES: u64 = TRANSFER_MAX_BYTES;

/// Blocks that one UNMAP may give back, over all its descriptors: it is one request for the store,
/// behind which others wait.
pub const UNMAP_MAX_BLOCKS: u64 = 1 << 20;

/// Block descriptors in one UNMAP parameter list.
pub const UNMAP_DESCRIPTORS_MAX: u16 = 256;

/// The longest parameter list that a command may announce: the lengths are 16-bit fields. A caller
/// that reserves this much can serve every [`Verdict::Parameters`](crate::Verdict::Parameters).
pub const PARAMETERS_MAX_BYTES: usize = 65_535;
