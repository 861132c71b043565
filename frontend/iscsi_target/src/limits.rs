//! How much one connection may ask for. Every number here bounds memory or work that an initiator
//! can make us spend.

/// Text of one negotiation (login, or text in the full feature phase), over all its PDUs. RFC 7143
/// 6.2 asks for 8,192 bytes at least.
pub const TEXT_MAX_BYTES: usize = 16 << 10;

/// Keys of one text. RFC 7143 has some 35; each one that nobody knows is looked for in all of ours.
pub const PAIRS_MAX: usize = 256;

/// Discovery sessions at a time. They need no credentials, so they must not take the places of
/// sessions: the oldest makes room for the newest.
pub const DISCOVERIES_MAX: usize = 32;

/// Data of one PDU before other limits are negotiated (RFC 7143 13.12).
pub const LOGIN_SEGMENT_BYTES: u32 = 8192;

/// Login requests in one login phase. Two stages with CHAP take five; keys split over PDUs and
/// one key a PDU must fit as well.
pub const LOGIN_REQUESTS_MAX: u32 = 64;

/// Text requests that one negotiation in the full feature phase may take.
pub const TEXT_REQUESTS_MAX: u32 = 64;

/// An iSCSI name, RFC 7143 4.2.7.1.
pub const NAME_MAX_BYTES: usize = 223;

/// CHAP_N and aliases: long enough for anybody, RFC 7143 6.1 (text values up to 255 bytes).
pub const VALUE_MAX_BYTES: usize = 255;

/// CDB bytes that a command may have: 16 in the header and the rest in an additional header
/// segment. The longest command of SBC has 32; what is cut here no unit would accept.
pub const CDB_MAX_BYTES: usize = 64;

/// Sense data that a response carries (SPC-5: 252).
pub const SENSE_MAX_BYTES: usize = 252;

/// Pieces of one `transmit`: what a caller's vector should hold. The kernel takes 1,024.
pub const SEND_PIECES_MAX: usize = 64;

/// The most that `receive_into` names: the rest of a data segment, which may lie in two
/// places, then the ring in two pieces.
pub const RECEIVE_PIECES_MAX: usize = 4;

/// The size of one connection: memory, and what may wait. Set when the connection is made and kept
/// in its memory, so that a successor with other defaults goes on with what was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Commands in the CmdSN window: 1 to 1,024.
    pub commands: u16,
    /// Immediate commands beside them: 2 to 64. One more is refused.
    pub immediate: u16,
    /// Data memory of each task's own; immediate and unsolicited data always has room there, and so
    /// this is also our MaxRecvDataSegmentLength and the most FirstBurstLength. A multiple of 4,096
    /// from 65,536, which FirstBurstLength is where nobody mentions it, to 1 MiB.
    pub slot_bytes: u32,
    /// Memory that longer commands share, beside their slots. One command moves at most
    /// `slot_bytes + pool_bytes`. A multiple of 65,536 up to 1 GiB.
    pub pool_bytes: u32,
    /// The receive ring: a power of two that holds two whole PDUs.
    pub ring_bytes: u32,
    /// MaxBurstLength that we ask for.
    pub burst_bytes: u32,
    /// MaxOutstandingR2T that we agree to: 1 to 16.
    pub r2t: u16,
    /// Seconds until the full feature phase must be reached.
    pub login_seconds: u16,
    /// Seconds of silence before a NOP-In asks for a sign of life; 0: never.
    pub nop_seconds: u16,
    /// Seconds that an answer to it may take. TCP itself notices a host that is gone; one that is there
    /// may run an initiator without a thread of its own, which looks at its socket when it has something
    /// to ask (libiscsi's programs sleep for up to a minute).
    pub nop_answer_seconds: u16,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            commands: 128,
            immediate: 8,
            slot_bytes: 64 << 10,
            pool_bytes: 32 << 20,
            ring_bytes: 256 << 10,
            burst_bytes: 256 << 10,
            r2t: 4,
            login_seconds: 15,
            nop_seconds: 15,
            nop_answer_seconds: 60,
        }
    }
}

impl Limits {
    /// What is wrong with the numbers, if anything.
    pub fn check(&self) -> Result<(), &'static str> {
        let page = |bytes: u32| bytes.is_multiple_of(4096);
        if !(1..=1024).contains(&self.commands) {
            return Err("commands must be 1 to 1024");
        }
        if !(2..=64).contains(&self.immediate) {
            return Err("immediate must be 2 to 64");
        }
        if !page(self.slot_bytes) || !(64 << 10..=1 << 20).contains(&self.slot_bytes) {
            return Err("slot_bytes must be a multiple of 4096 from 65536 to 1048576");
        }
        if !self.pool_bytes.is_multiple_of(64 << 10) || self.pool_bytes > 1 << 30 {
            return Err("pool_bytes must be a multiple of 65536 up to 1073741824");
        }
        if !self.ring_bytes.is_power_of_two()
            || self.ring_bytes < self.slot_bytes.saturating_mul(2).max(32 << 10)
            || self.ring_bytes > 16 << 20
        {
            return Err("ring_bytes must be a power of two, at least twice slot_bytes and 32768");
        }
        if !(512..=0xff_ffff).contains(&self.burst_bytes) {
            return Err("burst_bytes must be 512 to 16777215");
        }
        if !(1..=16).contains(&self.r2t) {
            return Err("r2t must be 1 to 16");
        }
        Ok(())
    }
}
