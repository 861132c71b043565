//! Numbers of the adapter, as VMware's headers and the open drivers have them.

/// Registers, by their offset in BAR0. Each group has a page of its own.
pub mod register {
    pub const COMMAND: u64 = 0x0000;
    pub const COMMAND_DATA: u64 = 0x0004;
    pub const COMMAND_STATUS: u64 = 0x0008;
    pub const LAST_STS_0: u64 = 0x0100;
    pub const LAST_STS_3: u64 = 0x010c;
    pub const INTR_STATUS: u64 = 0x100c;
    pub const INTR_MASK: u64 = 0x2010;
    pub const KICK_NON_RW_IO: u64 = 0x3014;
    pub const DEBUG: u64 = 0x3018;
    pub const KICK_RW_IO: u64 = 0x4018;
}

/// BAR0: eight pages, the MSI-X table and its pending bits in the last two.
pub mod bar {
    pub const BYTES: u32 = 0x8000;
    pub const MSIX_TABLE: u32 = 0x6000;
    pub const MSIX_PBA: u32 = 0x7000;
    /// As on VMware's; every cause is told by the first.
    pub const MSIX_VECTORS: u16 = 24;
}

/// What is written to COMMAND.
pub mod command {
    pub const ADAPTER_RESET: u32 = 1;
    pub const ISSUE_SCSI: u32 = 2;
    pub const SETUP_RINGS: u32 = 3;
    pub const RESET_BUS: u32 = 4;
    pub const RESET_DEVICE: u32 = 5;
    pub const ABORT_CMD: u32 = 6;
    pub const CONFIG: u32 = 7;
    pub const SETUP_MSG_RING: u32 = 8;
    pub const DEVICE_UNPLUG: u32 = 9;
    pub const SETUP_REQCALLTHRESHOLD: u32 = 10;
    pub const GET_MAX_TARGETS: u32 = 11;

    /// COMMAND_STATUS of what failed and of what is not there.
    pub const FAILED: u32 = u32::MAX;
    pub const SUCCEEDED: u32 = 0;
}

/// INTR_STATUS and INTR_MASK.
pub mod interrupt {
    pub const CMPL_0: u32 = 1 << 0;
    pub const CMPL_1: u32 = 1 << 1;
    pub const MSG_0: u32 = 1 << 2;
    pub const MSG_1: u32 = 1 << 3;
    pub const ALL: u32 = CMPL_0 | CMPL_1 | MSG_0 | MSG_1;
}

/// `hostStatus`: how the adapter fared with a request.
pub mod host_status {
    pub const SUCCESS: u16 = 0x00;
    pub const DATA_UNDERRUN: u16 = 0x0c;
    /// No such target.
    pub const SELTIMEO: u16 = 0x11;
    /// The command moves more than the buffer holds.
    pub const DATARUN: u16 = 0x12;
    /// Nonsense in the descriptor or in its list.
    pub const INVPARAM: u16 = 0x1a;
    pub const HAHARDWARE: u16 = 0x20;
    pub const BUSRESET: u16 = 0x25;
    pub const ABORTQUEUE: u16 = 0x26;
    pub const HASOFTWARE: u16 = 0x27;
}

/// `flags` of a request.
pub mod flag {
    pub const WITH_SG_LIST: u32 = 1 << 0;
    pub const OUT_OF_BAND_CDB: u32 = 1 << 1;
    pub const DIR_NONE: u32 = 1 << 2;
    pub const DIR_TOHOST: u32 = 1 << 3;
    pub const DIR_TODEVICE: u32 = 1 << 4;
    /// `flags` of an element of a list.
    pub const SGE_CHAIN: u32 = 1 << 0;
}

/// `tag` of a request: SCSI-2's queue tag messages.
pub mod tag {
    pub const SIMPLE: u8 = 0x20;
    pub const HEAD_OF_QUEUE: u8 = 0x21;
    pub const ORDERED: u8 = 0x22;
}

/// The rings state page, by offset.
pub mod state {
    pub const REQ_PROD: usize = 0;
    pub const REQ_CONS: usize = 4;
    pub const REQ_ENTRIES_LOG2: usize = 8;
    pub const CMP_PROD: usize = 12;
    pub const CMP_CONS: usize = 16;
    pub const CMP_ENTRIES_LOG2: usize = 20;
    pub const REQ_CALL_THRESHOLD: usize = 24;
    pub const MSG_PROD: usize = 128;
    pub const MSG_CONS: usize = 132;
    pub const MSG_ENTRIES_LOG2: usize = 136;
}

/// Lengths in bytes, unless said otherwise.
pub mod size {
    pub const PAGE: usize = 4096;
    pub const PAGE_SHIFT: u32 = 12;
    pub const REQUEST: usize = 128;
    pub const COMPLETION: usize = 32;
    pub const MESSAGE: usize = 128;
    pub const SG_ELEMENT: usize = 16;
    pub const CDB: usize = 16;

    /// Of the request and of the completion ring.
    pub const RING_PAGES_MAX: usize = 32;
    pub const MESSAGE_PAGES_MAX: usize = 16;

    pub const REQUESTS_A_PAGE: u32 = 32;
    pub const COMPLETIONS_A_PAGE: u32 = 128;
    pub const MESSAGES_A_PAGE: u32 = 32;
}

/// Descriptors of commands, in 32-bit words.
pub mod words {
    pub const SETUP_RINGS: usize = 132;
    pub const RESET_DEVICE: usize = 3;
    pub const ABORT_CMD: usize = 4;
    pub const CONFIG: usize = 6;
    pub const SETUP_MSG_RING: usize = 34;
    pub const DEVICE_UNPLUG: usize = 6;
    pub const SETUP_REQCALLTHRESHOLD: usize = 1;
    pub const MAX: usize = SETUP_RINGS;
}

/// Messages on the message ring.
pub mod message {
    pub const DEV_ADDED: u32 = 0;
    pub const DEV_REMOVED: u32 = 1;
}

/// CONFIG.
pub mod config {
    pub const PAGE_CONTROLLER: u32 = 0x1958;
    pub const PAGE_PHY: u32 = 0x1959;
    pub const PAGE_DEVICE: u32 = 0x195a;
    /// The upper half of a page's address.
    pub const ADDRESS_CONTROLLER: u32 = 0x2120;
    pub const ADDRESS_BUSTARGET: u32 = 0x2121;
    pub const ADDRESS_PHY: u32 = 0x2122;
    pub const SAS_DEVICE: u8 = 1;
}

/// Targets of one adapter.
pub const TARGETS_MAX: u8 = 64;
