//! Numbers of RFC 7143, by its names.

/// Operation codes, 11.2.1.2. The lower six bits of the first byte; 40h marks immediate delivery.
pub mod opcode {
    pub const NOP_OUT: u8 = 0x00;
    pub const SCSI_COMMAND: u8 = 0x01;
    pub const TASK_MANAGEMENT: u8 = 0x02;
    pub const LOGIN: u8 = 0x03;
    pub const TEXT: u8 = 0x04;
    pub const DATA_OUT: u8 = 0x05;
    pub const LOGOUT: u8 = 0x06;
    pub const SNACK: u8 = 0x10;

    pub const NOP_IN: u8 = 0x20;
    pub const SCSI_RESPONSE: u8 = 0x21;
    pub const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
    pub const LOGIN_RESPONSE: u8 = 0x23;
    pub const TEXT_RESPONSE: u8 = 0x24;
    pub const DATA_IN: u8 = 0x25;
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    pub const R2T: u8 = 0x31;
    pub const ASYNC: u8 = 0x32;
    pub const REJECT: u8 = 0x3f;

    pub const MASK: u8 = 0x3f;
    pub const IMMEDIATE: u8 = 0x40;
}

/// The second byte.
pub mod flag {
    /// F, or T in the login phase: final.
    pub const FINAL: u8 = 0x80;
    /// C: the text goes on in the next PDU.
    pub const CONTINUE: u8 = 0x40;
    /// R and W of a SCSI command.
    pub const READ: u8 = 0x40;
    pub const WRITE: u8 = 0x20;
    /// ATTR of a SCSI command.
    pub const ATTRIBUTE: u8 = 0x07;
    /// S of Data-In: status is in this PDU.
    pub const STATUS: u8 = 0x01;
    /// A of Data-In: acknowledge by SNACK, which error recovery level 0 does not have.
    pub const UNDERFLOW: u8 = 0x02;
    pub const OVERFLOW: u8 = 0x04;
}

/// A tag that names nothing, 11.2.1.8.
pub const RESERVED_TAG: u32 = 0xffff_ffff;

/// Basic header segment.
pub const HEADER_BYTES: usize = 48;
/// CRC32C of a header or of a data segment, 11.2.3.
pub const DIGEST_BYTES: usize = 4;

/// Login stages, 11.12.3.
pub mod stage {
    pub const SECURITY: u8 = 0;
    pub const OPERATIONAL: u8 = 1;
    pub const FULL_FEATURE: u8 = 3;
}

/// Status-Class and Status-Detail of a login response, 11.13.5.
pub mod login_status {
    pub const SUCCESS: u16 = 0x0000;
    pub const INITIATOR_ERROR: u16 = 0x0200;
    pub const AUTHENTICATION_FAILURE: u16 = 0x0201;
    pub const AUTHORIZATION_FAILURE: u16 = 0x0202;
    pub const NOT_FOUND: u16 = 0x0203;
    pub const TARGET_REMOVED: u16 = 0x0204;
    pub const UNSUPPORTED_VERSION: u16 = 0x0205;
    pub const TOO_MANY_CONNECTIONS: u16 = 0x0206;
    pub const MISSING_PARAMETER: u16 = 0x0207;
    pub const CANNOT_INCLUDE_IN_SESSION: u16 = 0x0208;
    pub const SESSION_TYPE_NOT_SUPPORTED: u16 = 0x0209;
    pub const SESSION_DOES_NOT_EXIST: u16 = 0x020a;
    pub const INVALID_DURING_LOGIN: u16 = 0x020b;
    pub const TARGET_ERROR: u16 = 0x0300;
    pub const SERVICE_UNAVAILABLE: u16 = 0x0301;
    pub const OUT_OF_RESOURCES: u16 = 0x0302;
}

/// Reject reasons, 11.17.1.
pub mod reject {
    pub const DATA_DIGEST: u8 = 0x02;
    pub const SNACK: u8 = 0x03;
    pub const PROTOCOL_ERROR: u8 = 0x04;
    pub const NOT_SUPPORTED: u8 = 0x05;
    pub const TOO_MANY_IMMEDIATE: u8 = 0x06;
    pub const TASK_IN_PROGRESS: u8 = 0x07;
    pub const INVALID_FIELD: u8 = 0x09;
    pub const OUT_OF_RESOURCES: u8 = 0x0a;
    pub const NEGOTIATION_RESET: u8 = 0x0b;
    pub const WAITING_FOR_LOGOUT: u8 = 0x0c;
}

/// Task management functions, 11.5.1.
pub mod function {
    pub const ABORT_TASK: u8 = 1;
    pub const ABORT_TASK_SET: u8 = 2;
    pub const CLEAR_ACA: u8 = 3;
    pub const CLEAR_TASK_SET: u8 = 4;
    pub const UNIT_RESET: u8 = 5;
    pub const TARGET_WARM_RESET: u8 = 6;
    pub const TARGET_COLD_RESET: u8 = 7;
    pub const TASK_REASSIGN: u8 = 8;
    /// RFC 7144, with iSCSIProtocolLevel 2.
    pub const QUERY_TASK: u8 = 9;
    pub const QUERY_TASK_SET: u8 = 10;
    pub const NEXUS_RESET: u8 = 11;
    pub const QUERY_ASYNC_EVENT: u8 = 12;
}

/// Task management responses, 11.6.1.
pub mod answer {
    pub const COMPLETE: u8 = 0;
    pub const NO_TASK: u8 = 1;
    pub const NO_LUN: u8 = 2;
    pub const STILL_ALLEGIANT: u8 = 3;
    pub const NO_REASSIGNMENT: u8 = 4;
    pub const NOT_SUPPORTED: u8 = 5;
    pub const AUTHORIZATION_FAILED: u8 = 6;
    /// RFC 7144.
    pub const SUCCEEDED: u8 = 7;
    pub const REJECTED: u8 = 255;
}

/// Logout reasons and responses, 11.14.1 and 11.15.1.
pub mod logout {
    pub const CLOSE_SESSION: u8 = 0;
    pub const CLOSE_CONNECTION: u8 = 1;
    pub const RECOVERY: u8 = 2;

    pub const CLOSED: u8 = 0;
    pub const NO_CID: u8 = 1;
    pub const NO_RECOVERY: u8 = 2;
}

/// AsyncEvent codes, 11.9.1.
pub mod event {
    pub const SCSI: u8 = 0;
    pub const LOGOUT_REQUEST: u8 = 1;
    pub const DROP_CONNECTION: u8 = 2;
    pub const DROP_SESSION: u8 = 3;
}

/// SCSI status and sense that iSCSI itself makes (11.4.7.2), in fixed format.
pub mod scsi {
    pub const GOOD: u8 = 0x00;
    pub const CHECK_CONDITION: u8 = 0x02;
    pub const TASK_SET_FULL: u8 = 0x28;

    pub const UNEXPECTED_UNSOLICITED_DATA: [u8; 18] = aborted(0x0c, 0x0c);
    pub const INCORRECT_AMOUNT_OF_DATA: [u8; 18] = aborted(0x0c, 0x0d);
    pub const PROTOCOL_SERVICE_CRC_ERROR: [u8; 18] = aborted(0x47, 0x05);
    /// DATA PHASE ERROR: a Data-Out PDU out of its sequence.
    pub const DATA_PHASE_ERROR: [u8; 18] = aborted(0x4b, 0x00);

    /// ABORTED COMMAND with an additional sense code and its qualifier.
    const fn aborted(asc: u8, ascq: u8) -> [u8; 18] {
        [0x70, 0, 0x0b, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0]
    }
}
