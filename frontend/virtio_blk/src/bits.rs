//! Numbers of virtio 1.2, 5.2.

/// Feature bits, 5.2.3.
pub mod feature {
    pub const SIZE_MAX: u64 = 1 << 1;
    pub const SEG_MAX: u64 = 1 << 2;
    pub const GEOMETRY: u64 = 1 << 4;
    pub const RO: u64 = 1 << 5;
    pub const BLK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const TOPOLOGY: u64 = 1 << 10;
    pub const CONFIG_WCE: u64 = 1 << 11;
    pub const MQ: u64 = 1 << 12;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

/// Request types, 5.2.6.
pub mod kind {
    pub const IN: u32 = 0;
    pub const OUT: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const GET_ID: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

/// The status byte, 5.2.6.
pub mod status {
    pub const OK: u8 = 0;
    pub const IOERR: u8 = 1;
    pub const UNSUPP: u8 = 2;
}

/// Bytes of a sector, whatever the block size.
pub const SECTOR: u64 = 512;

/// log2 of it.
pub const SECTOR_SHIFT: u8 = 9;

/// Fixed parts of the structures, in bytes.
pub mod size {
    /// type, reserved, sector.
    pub const HEADER: usize = 16;
    /// sector, num_sectors, flags.
    pub const SEGMENT: usize = 16;
    /// The device ID string of GET_ID.
    pub const ID: usize = 20;
}

/// In a segment's flags: space may be given back.
pub const SEGMENT_UNMAP: u32 = 1;
