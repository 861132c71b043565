//! Frames on their way between the NICs of guests, whatever those are.
//!
//! A [`Frame`] is its first bytes, which were copied out once and are what is judged and delivered,
//! and the rest where its sender has it. A [`Nic`] is a device model with registers that sends and
//! receives them.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod announce;
mod frame;
mod nic;
mod reasons;

pub use announce::rarp;
pub use frame::{Body, FRAME_MAX, Frame, HEADER_MAX};
pub use nic::{Nic, Posted, Taken};
pub use reasons::{Drop, Refused};
