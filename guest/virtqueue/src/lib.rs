//! The device's side of virtqueues: split (virtio 1.2, 2.7) and packed (2.8) rings.
//!
//! A [`Queue`] takes chains of descriptors out of a guest's ring as lists of spans, and puts used
//! elements back. It keeps what must outlive the process in shared memory while it works, so that
//! a successor that opens the same ring goes on exactly where a killed worker stopped:
//!
//! - [`Order::Any`] (disks): requests end in any order. What is in flight stands in a table with
//!   the layout of vhost-user's INFLIGHT_SHMFD, and a new `Queue` hands these out first.
//! - [`Order::InOrder`] (networks): requests end in the order in which they were taken. The split
//!   ring's own used index says where to go on; a packed ring needs a few notes.
//!
//! The guest may write anything into its rings. A chain that breaks a rule breaks the queue: it
//! gives out nothing more until it is set up anew, and says why in one [`Fault`].

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod chain;
mod event;
mod fault;
mod inflight_packed;
mod inflight_split;
mod packed;
mod position;
mod queue;
mod setup;
mod split;
mod undo;
mod walk;

pub use chain::{Chain, Pop};
pub use fault::Fault;
pub use queue::{Counters, Queue};
pub use setup::{Order, SIZE_MAX, Setup, SetupError};
pub use walk::SPANS_MAX;
