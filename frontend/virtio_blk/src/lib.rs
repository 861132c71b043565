//! A virtio block device (virtio 1.2, 5.2), as far as its driver sees it.
//!
//! # The picture
//!
//! ```text
//!  request queues ─► parse ─► Work { operations, data span range } ─► (the caller: disk) ─► finish ─► used
//!                       └──► Answered: nothing to do but to push the chain
//!  configuration  ◄─► Config (capacity, limits; the driver may set writeback)
//! ```
//!
//! A request is a header (16 bytes), data either way, and a status byte, the very last that the
//! device may write. Parsing cuts the chain's list of spans at the borders, in place; a driver may
//! lay the parts out over descriptors as it likes (2.7.4), and a border that falls into a span
//! splits the span.
//!
//! ```text
//!  readable: [ header | data of a write … ]   writable: [ data of a read … | status ]
//! ```
//!
//! # States
//!
//! A request is parsed into [`Work`], or [`Answered`] at once: GET_ID, or a fault of the driver's,
//! which is counted under the name of its [`Fault`] and answered with IOERR or UNSUPP. Work is
//! finished exactly once. Nothing is remembered here about requests.
//!
//! # Blocks and sectors
//!
//! Positions and lengths on the wire are in sectors of 512 bytes whatever the block size (5.2.6).
//! A request that does not fall on blocks is refused: the driver was told the block size.
//!
//! # Durability
//!
//! With a volatile cache, a write is durable when it ends if the driver asked for write-through:
//! by `writeback` 0 where CONFIG_WCE was negotiated, else by not negotiating FLUSH (5.2.6.2).

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod bits;
mod config;
mod fault;
mod model;
mod request;

#[cfg(test)]
mod tests;

pub use config::{CONFIG_BYTES, Config, Limits, WritebackChange};
pub use fault::Fault;
pub use model::{DEVICE_ID, Mode, features};
pub use request::{Answered, Parsed, Work, parse, status_of};
