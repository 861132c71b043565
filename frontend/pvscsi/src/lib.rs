//! VMware's PVSCSI.

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
mod config_page;
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
pub use config_page::Config;
pub use fault::{Counters, Fault};
pub use inflight::{COMMANDS_MAX, HOT_BYTES};
pub use place::Place;
pub use publish::Hotplug;
pub use request::{Answer, Attribute, Cdb, Command, Direction, ELEMENTS_MAX, SPANS_MAX};
