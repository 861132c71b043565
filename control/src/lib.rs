//! The control plane of Standpipe: what a host is to offer, as types; how one
//! state leads to another; how it is kept, served and asked for. It knows no
//! device: the daemon hands it an [`Engine`].
//!
//! - [`site`]: the declared objects ([`site::Site`]); [`site::read`] parses and
//!   checks a TOML file, [`site::Site::check`] finds every problem.
//! - [`step`]: the same objects with all defaults resolved
//!   ([`step::SlotSpec`], [`step::VolumeSpec`], …) and [`step::Step`], one
//!   idempotent change.
//! - [`Engine`]: what the daemon implements: `perform`, `status`, `upgrade`.
//! - [`status`]: what the daemon says about itself.
//! - [`plan`]: the steps from one site to another.
//! - [`Store`]: where the site is kept; [`Controller`]: store and engine as
//!   one. At start: `Store::open(state_dir)`, `Controller::new(store, engine)`,
//!   `controller.start(config)`.
//! - [`api`]: version 1 over HTTP and JSON. [`api::listen`] makes the socket,
//!   [`api::serve`] serves it in the calling thread, [`api::openapi_json`] is
//!   its document.
//! - [`client`]: [`Client`], blocking calls to it.
//! - [`cli`]: the command line. The binary is [`cli::run`] with a
//!   [`cli::Daemon`] for `serve` and `keep`.
//! - [`import`]: machines of other hypervisors, from a package to slots and volumes.
//! - [`transfer`]: raw images in and out of volumes, holes as holes.
//! - [`Problem`]: what is wrong, where, and how to mend it.
#![forbid(unsafe_code)]

pub mod api;
pub mod cli;
pub mod client;
mod controller;
mod engine;
pub mod identity;
pub mod import;
mod plan;
pub mod problem;
pub mod secret;
pub mod site;
pub mod status;
pub mod step;
pub mod store;
pub mod transfer;

pub use client::Client;
pub use controller::{Applied, Controller};
pub use engine::Engine;
pub use plan::plan;
pub use problem::{Kind, Problem};
pub use secret::Secret;
pub use store::Store;
