//! The world in one thread, from a seed.
//!
//! Three guests with two disks and a NIC each drive the stations through real rings in memory; a
//! worker joins the stations as a lane of the server does. It dies between turns and at stores to
//! shared memory, again and again; the host's power goes. What must hold is checked all the time:
//!
//! - a read finds what was last acknowledged ([`oracle`]), and after a power cut what was flushed;
//! - each request ends exactly once, and each end has a name;
//! - a frame arrives intact, once, or was dropped under a name; only one that was on its way when a
//!   worker died may be lost or come twice;
//! - nobody sleeps over work: at the end everything comes to rest by kicks and interrupts alone.
//!
//! Time is a number that the scenario moves on. A failure is its seed.

#![forbid(unsafe_code)]

pub mod cluster;
mod dice;
pub mod frame;
mod guest_disk;
mod guest_net;
mod ledger;
mod lun;
mod network;
pub mod oracle;
mod rude;
mod scenario;
mod slot;
mod worker;

pub use scenario::{Options, Report, run, table};
pub use worker::Sabotage;
