//! What a driver can do wrong, each under the name of its counter.

/// A rule that the driver broke in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The readable part does not hold a header.
    HeaderTooShort,
    /// No byte for the status; nobody hears of it but the counter.
    NoStatus,
    /// A type that does not exist or was not negotiated.
    UnsupportedType,
    /// Data that is not a whole number of blocks, or does not begin on one.
    Misaligned,
    /// Blocks behind the end of the volume.
    OutOfRange,
    /// More data than the announced segments can hold.
    TooLong,
    /// A write, discard or write-zeroes to a read-only volume.
    ReadOnly,
    /// Segments of a discard or write-zeroes: none, cut short, too many, or too large.
    BadSegments,
    /// Flags of a segment that may not be set there.
    BadFlags,
}

impl Fault {
    pub const ALL: [Fault; 9] = [
        Fault::HeaderTooShort,
        Fault::NoStatus,
        Fault::UnsupportedType,
        Fault::Misaligned,
        Fault::OutOfRange,
        Fault::TooLong,
        Fault::ReadOnly,
        Fault::BadSegments,
        Fault::BadFlags,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Fault::HeaderTooShort => "header_too_short",
            Fault::NoStatus => "no_status",
            Fault::UnsupportedType => "unsupported_type",
            Fault::Misaligned => "misaligned",
            Fault::OutOfRange => "out_of_range",
            Fault::TooLong => "too_long",
            Fault::ReadOnly => "read_only",
            Fault::BadSegments => "bad_segments",
            Fault::BadFlags => "bad_flags",
        }
    }
}
