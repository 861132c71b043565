//! Intel 8254x and 82574: the E1000 family.
//!
//! An [`E1000`] is a PCI function ([`pci::Function`]) and a NIC ([`frame::Nic`]). `registers` is the
//! table of what there is; `access` is what a read or a write does; `transmit` and `receive` walk
//! the rings, whose positions outlive the process by `ring`'s rules.
//!
//! Sections are those of Intel's "PCI/PCI-X Family of Gigabit Ethernet Controllers Software
//! Developer's Manual" (8254x SDM) and of the "82574 GbE Controller Family Datasheet".

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod access;
mod arrival;
mod checksum;
mod config;
mod eeprom;
mod filter;
mod interrupt;
mod model;
mod phy;
mod receive;
mod registers;
mod ring;
mod rss;
mod split;
mod state;
mod statistics;
mod transmit;

pub use config::{Config, Model};
pub use model::{E1000, HOT_BYTES};
pub use registers::register_name;
