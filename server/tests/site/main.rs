//! The real binary under its keeper, over real sockets, without a virtual machine: the other end of
//! each slot is the driver of `bench`, or bytes that no driver would send.
#![forbid(unsafe_code)]

mod api;
mod bad_input;
mod broken_rings;
mod crash;
mod daemon;
mod doorbells;
mod driven;
mod emulated;
mod erasing;
mod flexible;
mod full_store;
mod handshake;
mod held_up;
mod hostile;
mod iscsi;
mod kept;
mod migration;
mod quarantine;
mod siege;
mod targets;
mod truncated;
mod unmasked;
