//! The system calls: the only folder that makes any.
//!
//! Everything here is a thin, safe face of one kernel facility. No decisions, no protocol.

mod buffer;
pub mod counted;
pub mod errno;
pub mod event;
pub mod extents;
pub mod file;
pub mod given;
pub mod map;
pub mod memfd;
mod nudge;
pub mod poll;
pub mod process;
pub mod random;
pub mod ring;
pub mod socket;
pub mod stable;
pub mod tap;
pub mod tcp;
pub mod wait;

pub use buffer::Buffer;
