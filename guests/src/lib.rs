//! Real guests: boots stock Debian kernels under QEMU, talks to them while they run, and puts their
//! drivers on Standpipe's devices.
//!
//! - [`Guest`] is one virtual machine: commands run in it ([`Guest::run`], [`Guest::spawn`]), and
//!   QEMU is told things over QMP ([`Guest::qmp`]).
//! - [`Server`] is `standpipe keep -- standpipe serve`, whose worker can be killed.
//! - [`World`] is a site description with its server and guests. It can also be built from QEMU's
//!   own devices: a test that fails there is wrong itself.
//! - [`cases`] are the tests, [`torture`] the crash test, [`demo`] what `script/demo` shows.
//! - [`speed`] measures emulated models beside QEMU's own in the same guest.
//! - [`conformance`] needs no guest: libiscsi's suite on our iSCSI target.
//!
//! Everything here needs root: QEMU runs in a Debian tree, by chroot in a mount namespace.

#![forbid(unsafe_code)]

pub mod accel;
mod agent;
mod base64;
pub mod cases;
pub mod conformance;
mod cunit;
pub mod demo;
mod failure;
pub mod guest;
pub mod load;
pub mod place;
mod qmp;
pub mod server;
pub mod site;
pub mod speed;
pub mod steps;
pub mod torture;
pub mod uplink;
pub mod world;

pub use failure::{During, Failure, Result};
pub use guest::{Accel, Guest, GuestSpec, Job, Output};
pub use place::{Image, Kernel, Scratch};
pub use server::Server;
pub use world::{Against, Bench, World};
