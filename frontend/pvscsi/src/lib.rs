//! VMware's PVSCSI adapter, as its driver sees it.
//!
//! There is no specification; what was read instead, and what was decided, is in QUIRKS.md.
//!
//! # The picture
//!
//! ```text
//!  registers      ─► write ─► Control (command words, where the rings are, orders) ─► state()
//!  request ring   ─► next ─► Command { place, cdb, data spans } ─► (the caller: SCSI, disk) ─► complete
//!  completion ring ◄─ publish ◄─ staged completions ◄┘
//!  message ring    ◄─ publish ◄─ post_message (a LUN came or went)
//!  ABORT, RESET   ─► orders ─► take_task_management ─► (the caller ends tasks) ─► complete(Aborted)
//! ```
//!
//! The caller's turn: register accesses as they come; then `next_resumed` and `next` until they are
//! empty; `take_task_management`, and `next` again where there was an order; `complete` for what has
//! ended; `publish` once for many; `interrupts`.
//!
//! # What outlives the process
//!
//! *Control state* is registers, ring addresses and what waits; it is kept with the register access
//! that changed it. *Hot state* is the in-flight table (`inflight.rs`): the descriptor of each
//! command is copied there before the driver sees that it was taken, and is struck out after its
//! completion is visible. Three counts commit: of requests taken, completions published, messages
//! published. They never go back; setting up rings only notes where they stood.
//!
//! ```text
//!  next:     descriptor, serial ► TAKEN ► reqConsIdx
//!  complete: sense data (nothing else: a death before publication runs the command again)
//!  publish:  completions into the ring, marks ► PUBLISHED ► cmpProdIdx ► entries struck out
//! ```
//!
//! A successor finds what was taken and not published, and gives it out again in its order; it
//! brings the driver's indices to the counts; and it ends at once what was ordered to end. So each
//! command ends exactly once for the driver, and may run more than once, which `Command::resumed`
//! says.
//!
//! # Whose memory
//!
//! Rings are looked up once and held as windows; data and sense buffers go through the snapshot
//! that the caller passes in. A descriptor is copied once, and what was checked is what is used. A
//! list of data is followed for a bounded number of elements. Nothing is allocated for a request
//! once the lists have grown.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod adapter;
pub mod bits;
mod bytes;
mod command;
mod config;
mod control;
mod fault;
mod function;
mod inflight;
mod place;
mod publish;
mod request;
mod rings;

#[cfg(test)]
mod tests;

pub use adapter::{Adapter, Taken};
pub use command::Management;
pub use config::Config;
pub use fault::{Counters, Fault};
pub use function::DOORBELLS;
pub use inflight::{COMMANDS_MAX, HOT_AT_REST, HOT_BYTES};
pub use place::Place;
pub use publish::Hotplug;
pub use request::{Answer, Attribute, Cdb, Command, Direction, ELEMENTS_MAX, SPANS_MAX};
