//! What a driver can do wrong, each under the name of its counter.

/// A rule that the driver broke in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The readable part does not hold a request.
    RequestTooShort,
    /// The writable part does not hold a response; nobody hears of it but the counter.
    ResponseTooShort,
    /// Data both ways, which was not negotiated.
    BothDirections,
    /// The `lun` field has a form that names nothing.
    BadLun,
    /// A control request of an unknown type.
    UnknownControlType,
    /// A task management function that does not exist.
    UnknownFunction,
    /// An event buffer that does not hold an event.
    EventBufferTooShort,
}

impl Fault {
    pub const ALL: [Fault; 7] = [
        Fault::RequestTooShort,
        Fault::ResponseTooShort,
        Fault::BothDirections,
        Fault::BadLun,
        Fault::UnknownControlType,
        Fault::UnknownFunction,
        Fault::EventBufferTooShort,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Fault::RequestTooShort => "request_too_short",
            Fault::ResponseTooShort => "response_too_short",
            Fault::BothDirections => "both_directions",
            Fault::BadLun => "bad_lun",
            Fault::UnknownControlType => "unknown_control_type",
            Fault::UnknownFunction => "unknown_function",
            Fault::EventBufferTooShort => "event_buffer_too_short",
        }
    }
}

/// A request that ended where it began. Its answer is written; push its chain with `written`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub fault: Fault,
    /// Bytes written into the writable part.
    pub written: u32,
}
