//! AMD PCnet-PCI II and PCnet-FAST III, as VMware's vlance.
//!
//! Section and register names are those of AMD's data sheets 19436 (Am79C970A) and 21510
//! (Am79C973). What they leave open stands in `QUIRKS.md`.
//!
//! A frame's way: [`Pcnet`] decodes a register access (`access`, `csr`, `bcr`), finds descriptors in
//! its two rings (`ring`), lends what the driver posted (`transmit`) or fills what it posted
//! (`receive`, `filter`), and gives descriptors back once for many frames.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod access;
mod bcr;
mod config;
mod crc;
mod csr;
mod eeprom;
mod filter;
mod nic;
mod phy;
mod receive;
mod registers;
mod ring;
mod state;
mod transmit;
mod vmxnet;

pub use config::{Chip, Config};
pub use nic::{HOT_BYTES, Pcnet};
