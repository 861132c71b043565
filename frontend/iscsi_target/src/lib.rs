//! An iSCSI target (RFC 7143), as far as its initiator sees it.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod bits;
mod chap;
mod codec;
mod connection;
mod data_out;
mod digest;
mod directory;
mod establish;
mod fault;
mod input;
mod keys;
mod layout;
mod limits;
mod liveness;
mod login;
mod negotiate;
mod output;
mod pdu;
mod receive;
mod requests;
mod sessions;
mod task;
mod text;
mod textual;
mod transmit;

#[cfg(test)]
mod tests;

pub use connection::{Connection, End, Event, Positions, SetupError, Turn};
pub use data_out::Collected;
pub use directory::{Access, Allow, Credentials, Directory, Portal, Secret, Target};
pub use fault::Fault;
pub use keys::{Parameters, is_name};
pub use limits::{CDB_MAX_BYTES, Limits, RECEIVE_PIECES_MAX, SEND_PIECES_MAX, SENSE_MAX_BYTES};
pub use output::Outcome;
pub use pdu::{Header, Place};
pub use requests::{Answer, Attribute, Command, Function, Management};
pub use sessions::{Admission, Claim, ConnectionId, Sessions};
pub use task::Tag;
