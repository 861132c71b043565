//! A virtio SCSI host device (virtio 1.2, 5.6), as far as its driver sees it.
//!
//! # The picture
//!
//! ```text
//!  request queues ─► parse ─► Task { place, cdb, data spans } ─► (the caller: SCSI, disk) ─► finish ─► used
//!  control queue  ─► control::parse ─► Control, a question ─► (the caller looks at its tasks) ─► answer ─► used
//!  event queue    ◄─ Events::deliver ◄─ Events::post (a LUN came or went, a capacity changed)
//!  configuration  ◄─► Config
//! ```
//!
//! A chain belongs to the request from the moment it is popped until its head is pushed. Parsing
//! cuts the chain's list of spans at the borders of the four parts, in place:
//!
//! ```text
//!  readable: [ header: lun id attributes cdb | data-out … ]   writable: [ response, sense | data-in … ]
//! ```
//!
//! A driver may lay the parts out over descriptors as it likes (2.7.4): a border that falls into a
//! span splits the span. The [`Task`] holds indices into the list and no memory, so the chain and
//! the task travel together and nothing is borrowed between parse and finish.
//!
//! # States
//!
//! A request is parsed, or [`Refused`]: then its answer is already written, as far as the driver
//! left room for one, and the chain is to be pushed with `Refused::written`. A parsed request is
//! finished exactly once. Nothing is remembered here about requests; whoever has them in flight
//! answers the task management functions.
//!
//! Events wait in [`Events`], a bounded list that is plain data for the ledger, until the driver
//! has a buffer. What does not fit is told as "events were missed", which makes a driver look at
//! everything.
//!
//! # Whose memory
//!
//! All access to the guest's memory goes through the snapshot that the caller passes in, with spans
//! that this very snapshot gave out. Nothing is read twice: what was checked is what is used.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod bits;
mod config;
pub mod control;
mod events;
mod fault;
mod model;
mod place;
mod request;

#[cfg(test)]
mod tests;

pub use config::{CONFIG_BYTES, Config, Sizes};
pub use control::{AsyncQuery, Control, Function, TaskManagement};
pub use events::{EVENTS_BYTES, Event, Events, Happening};
pub use fault::{Fault, Refused};
pub use model::{DEVICE_ID, QueueKind, features, queue_kind};
pub use place::Place;
pub use request::{Answer, Attribute, Cdb, Task, parse};
