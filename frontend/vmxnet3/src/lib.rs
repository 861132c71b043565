//! VMware's VMXNET3: the NIC of guests that came from there.
//!
//! ```text
//!   transmit ring ── Nic::transmit ──> Posted: headers copied out, payload left in place
//!   completion ring <── publish ── what was taken
//!   receive rings <── Nic::deliver ── Frame: headers, payload in the sender's memory, facts
//!   completion ring <── publish ── what lies in them
//! ```
//!
//! There is no specification in the open; what is here was learned from the drivers (Linux, FreeBSD,
//! DPDK, iPXE) and from QEMU's model. `QUIRKS.md` says what they leave open and what was decided.
//!
//! Rings have generation bits instead of indices: neither side tells the other how far it is. A
//! successor finds what its predecessor told the driver from the bits in the completion rings
//! (`ring::Completions`).

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bits;
mod codec;
mod config;
mod control;
mod deliver;
mod device;
mod filter;
mod headers;
mod hot;
mod interrupts;
mod layout;
mod offload;
mod receive;
mod registers;
mod ring;
mod rss;
mod shared;
mod statistics;
mod transmit;
mod tunnel;

pub use config::{Config, REVISION_MAX};
pub use device::{Counters, Vmxnet3};
pub use hot::HOT_BYTES;
pub use layout::{DOORBELLS, LAYOUT};
