/// Why a queue stopped: what the guest wrote that no driver may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// A buffer or an indirect table is not in the guest's memory.
    BadAddress,
    /// A chain has more ring descriptors than the ring.
    Loop,
    /// A chain has more buffers than [`crate::SPANS_MAX`].
    TooLong,
    /// A descriptor's `next` lies outside of its table.
    BadNext,
    /// An indirect descriptor in an indirect table (2.7.5.3.1).
    IndirectNested,
    /// An indirect table's length is zero or no multiple of 16 (2.7.5.3.1, 2.8.8).
    IndirectSize,
    /// An indirect descriptor that is not the last of its chain (2.7.5.3.1).
    IndirectNext,
    /// An indirect descriptor without VIRTIO_F_INDIRECT_DESC.
    IndirectRefused,
    /// More requests made available than the ring holds.
    AvailRunaway,
    /// The available ring names a descriptor that the table does not have.
    BadHead,
    /// The available ring names a request that is still in flight.
    HeadInFlight,
    /// A readable buffer behind a writable one (2.7.4.2, 2.8.17).
    OrderViolation,
    /// The table of requests in flight contradicts itself: whoever shares it wrote to it.
    BadLedger,
}

impl Fault {
    pub const ALL: [Fault; 13] = [
        Fault::BadAddress,
        Fault::Loop,
        Fault::TooLong,
        Fault::BadNext,
        Fault::IndirectNested,
        Fault::IndirectSize,
        Fault::IndirectNext,
        Fault::IndirectRefused,
        Fault::AvailRunaway,
        Fault::BadHead,
        Fault::HeadInFlight,
        Fault::OrderViolation,
        Fault::BadLedger,
    ];

    /// The operator's counter for this fault.
    pub fn name(self) -> &'static str {
        match self {
            Fault::BadAddress => "bad_address",
            Fault::Loop => "loop",
            Fault::TooLong => "too_long",
            Fault::BadNext => "bad_next",
            Fault::IndirectNested => "indirect_nested",
            Fault::IndirectSize => "indirect_size",
            Fault::IndirectNext => "indirect_next",
            Fault::IndirectRefused => "indirect_refused",
            Fault::AvailRunaway => "avail_runaway",
            Fault::BadHead => "bad_head",
            Fault::HeadInFlight => "head_in_flight",
            Fault::OrderViolation => "order_violation",
            Fault::BadLedger => "bad_ledger",
        }
    }
}
