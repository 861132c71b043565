//! What can go wrong on the driver's side, told apart by whose fault it is.

use std::fmt;
use std::io;

/// A failure of the driver side, with what it was doing.
#[derive(Debug)]
pub enum Error {
    /// A system call failed on this machine.
    System { doing: &'static str, source: io::Error },
    /// The back end broke the vhost-user protocol, or refused a request.
    Protocol(String),
    /// An emulated adapter, or the vfio-user server behind it, did what none does.
    Device(String),
    /// The device broke the ring's rules.
    Ring(Violation),
    /// What was asked for cannot be done with this device or this much memory.
    Unsupported(String),
    /// Nothing came back for too long.
    Stalled(String),
    /// The iSCSI target refused the login (RFC 7143 11.13.5).
    Refused { class: u8, detail: u8 },
    /// The iSCSI target broke a rule of its protocol, or ended the session by its rules.
    Session(String),
    /// The connection was closed or reset by the other side.
    Closed(String),
}

/// A rule of the virtqueue that the device broke. Each is fatal to the run: a driver that went on
/// would hand the same buffer out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// The used index ran past the number of buffers that were made available.
    UsedIndexAhead { index: u16, expected_at_most: u16 },
    /// A used element names a descriptor that does not exist.
    UnknownDescriptor { id: u32 },
    /// A used element names a descriptor that the device does not hold: used twice, or never given.
    NotOutstanding { id: u32 },
    /// More bytes are said to be written than the chain had for writing.
    WrittenTooMuch { id: u32, written: u32, writable: u32 },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::UsedIndexAhead { index, expected_at_most } => {
                write!(f, "the used index {index} is ahead of {expected_at_most}, the last one that could be")
            }
            Violation::UnknownDescriptor { id } => write!(f, "used descriptor {id} does not exist"),
            Violation::NotOutstanding { id } => write!(f, "used descriptor {id} was not with the device"),
            Violation::WrittenTooMuch { id, written, writable } => {
                write!(f, "used descriptor {id} reports {written} bytes written into {writable}")
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::System { doing, source } => write!(f, "{doing}: {source}"),
            Error::Protocol(what) => write!(f, "vhost-user: {what}"),
            Error::Device(what) => write!(f, "vfio-user: {what}"),
            Error::Ring(violation) => write!(f, "virtqueue: {violation}"),
            Error::Unsupported(what) => write!(f, "{what}"),
            Error::Stalled(what) => write!(f, "stalled: {what}"),
            Error::Refused { class, detail } => {
                write!(f, "login refused with status {class:02x}{detail:02x}h")
            }
            Error::Session(what) => write!(f, "iSCSI: {what}"),
            Error::Closed(what) => write!(f, "connection lost: {what}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::System { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Error {
        Error::Ring(violation)
    }
}

/// `.map_err(doing("..."))` gives a system call's failure its context.
pub fn doing(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { doing, source }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
