//! The back end's side of vhost-user: bytes to requests, requests to a session's state.
//!
//! # Theory
//!
//! A [`Session`] is a function: it takes one [`Request`] and answers with an [`Outcome`], the reply
//! to send and what the lane has to do (map memory, start or stop a ring). It owns no descriptor;
//! every descriptor that arrives gets a *generation*, a number that never comes twice in a slot's
//! life, and the lane keeps the descriptor under that name. The whole of a session is a [`State`],
//! plain data with a version, which the lane puts into the slot's ledger after every request.
//!
//! Applying a request twice gives the same state as applying it once (with newer generations), so a
//! worker that dies between acting on a request and taking it from the socket does no harm: its
//! successor finds the request and acts again. Only a reply must not be given twice; see
//! `host::socket`.
//!
//! A request that takes something away from requests under way (a ring, a piece of memory) has to
//! wait for them: [`Session::drain`] tells which, and the lane leaves the message in the socket
//! until nothing is left.
//!
//! Specification: QEMU, docs/interop/vhost-user.rst.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bits;
mod session;
mod state;
mod wire;

pub use session::{Device, Drain, Effect, Fault, Outcome, Session};
pub use state::{InflightState, LogState, QueueState, RegionState, State, StateError};
pub use wire::{
    Header, InflightDescription, RegionDescription, Reply, Request, RingAddresses, WireError,
    encode_config_change, encode_reply,
};
