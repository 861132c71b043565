//! A PCI function as a transport sees it: configuration space, capabilities, BARs, interrupts.
//!
//! What a device is stands in a table, its [`Layout`]; what it does behind its BARs is a
//! [`Function`]; [`Config`] is the configuration space that the table makes. No transport is named
//! here: vfio-user brings the accesses today.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod function;
mod layout;
mod registers;
mod rom;

pub use config::{Change, Config, PowerState};
pub use function::{Bars, Doorbells, Function, Interrupts, IrqMode, Lasting, Pages, STATE_MAX, Signals};
pub use layout::{Bar, Cap, Layout};
pub use rom::{Image, RomError, check_rom, read_rom, rom_images};
