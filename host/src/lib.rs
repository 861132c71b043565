//! The system calls: the only folder that makes any.
//!
//! Everything here is a thin, safe face of one kernel facility. No decisions, no protocol.

mod buffer;
pub mod event;
pub mod map;
pub mod memfd;
pub mod socket;

pub use buffer::Buffer;
