//! The server's side of vfio-user: bytes to a session's state, effects and replies.
//!
//! # Theory
//!
//! A [`Session`] is a function: it takes one message (a [`Header`] and its payload), appends the
//! reply to a buffer of the caller's, if one is due, and answers with an [`Outcome`]: what the lane
//! has to do (an access to a region, a changed memory map, an interrupt). It owns no descriptor;
//! every descriptor that arrives gets a *generation*, a number that never comes twice in a slot's
//! life, and the lane keeps the descriptor under that name. The whole of a session is a [`State`],
//! plain data with a version, which the lane keeps in the slot's ledger.
//!
//! A client sends on without waiting for replies, and posts writes that get none. So the stream is
//! never lost: whatever a message holds, its length is that of its head; a message that is too long
//! to be looked at is refused by its head and the rest of it thrown away ([`State::discard`]).
//!
//! A message that takes memory away, stops the device or resets it has to wait for the requests
//! under way: [`Session::drain`] tells for which, and the lane leaves the message in the socket
//! until nothing is left.
//!
//! Which message a descriptor came with: a read of the socket (a look at it as well) stops behind
//! the piece of the stream that carried descriptors, and clients send a message in one piece. So
//! descriptors belong to the last message that began in the bytes of their read, and not to the
//! first that could have some.
//!
//! Specification: QEMU, docs/interop/vfio-user.rst.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod capabilities;
mod device;
mod fault;
mod interrupts;
mod memory;
mod migration;
pub mod numbers;
mod session;
mod state;
mod wire;

pub use device::{Area, Device, Region};
pub use fault::Fault;
pub use migration::{MigrationState, Transition};
pub use session::{Drain, Effect, Outcome, Session, Write, Writes, writes_to};
pub use state::{
    ClientState, INCOMING_MAX, IrqState, LOG_END, LOG_RANGES_MAX, LogState, MapState, State, StateError,
};
pub use wire::{Header, WireError, brings_descriptor};
