//! Numbers of virtio 1.2, 5.6.

/// Feature bits, 5.6.3.
pub mod feature {
    /// Requests may have both data-out and data-in.
    pub const INOUT: u64 = 1 << 0;
    /// The driver is told of LUNs that come and go.
    pub const HOTPLUG: u64 = 1 << 1;
    /// The driver is told of parameters that change.
    pub const CHANGE: u64 = 1 << 2;
    /// Protection information.
    pub const T10_PI: u64 = 1 << 3;
}

/// Command-specific response values, 5.6.6.1 and 5.6.6.2.
pub mod response {
    pub const OK: u8 = 0;
    /// The command wants more data than the buffers hold.
    pub const OVERRUN: u8 = 1;
    pub const ABORTED: u8 = 2;
    pub const BAD_TARGET: u8 = 3;
    pub const RESET: u8 = 4;
    pub const BUSY: u8 = 5;
    pub const TRANSPORT_FAILURE: u8 = 6;
    pub const TARGET_FAILURE: u8 = 7;
    pub const NEXUS_FAILURE: u8 = 8;
    pub const FAILURE: u8 = 9;
    /// Of task management functions.
    pub const FUNCTION_COMPLETE: u8 = 0;
    pub const FUNCTION_SUCCEEDED: u8 = 10;
    pub const FUNCTION_REJECTED: u8 = 11;
    pub const INCORRECT_LUN: u8 = 12;
}

/// Control queue request types, 5.6.6.2.
pub mod control {
    pub const TMF: u32 = 0;
    pub const AN_QUERY: u32 = 1;
    pub const AN_SUBSCRIBE: u32 = 2;
}

/// Events, 5.6.6.3.
pub mod event {
    pub const NO_EVENT: u32 = 0;
    pub const TRANSPORT_RESET: u32 = 1;
    pub const PARAM_CHANGE: u32 = 3;
    /// Set in addition: the device had events for which there was no buffer.
    pub const EVENTS_MISSED: u32 = 0x8000_0000;

    /// Reasons of TRANSPORT_RESET.
    pub const RESET_HARD: u32 = 0;
    pub const RESET_RESCAN: u32 = 1;
    pub const RESET_REMOVED: u32 = 2;
}

/// Fixed parts of the structures, in bytes.
pub mod size {
    /// lun, id, task_attr, prio, crn; the CDB follows.
    pub const REQUEST_HEADER: usize = 19;
    /// sense_len, residual, status_qualifier, status, response; the sense data follows.
    pub const RESPONSE_HEADER: usize = 12;
    /// type, subtype, lun, id.
    pub const TMF: usize = 24;
    /// type, lun, event_requested.
    pub const AN: usize = 16;
    /// event_actual, response.
    pub const AN_RESPONSE: usize = 5;
    /// event, lun, reason.
    pub const EVENT: usize = 16;
}
