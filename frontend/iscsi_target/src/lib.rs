//! An iSCSI target (RFC 7143), as far as its initiator sees it. An initiator is a guest that comes
//! by TCP.
//!
//! # The picture
//!
//! ```text
//!  socket ─► receive ring ─► PDUs ─► tasks ─► Event ─► (the caller: SCSI, disk) ─┐
//!     │           in place: data-out ─► a task's memory ◄── the disk, in place ──┤
//!     └────────◄ pieces, committed ◄── headers and the same memory ◄── respond ◄─┘
//! ```
//!
//! [`Connection`] is one TCP connection, and a session as well: MaxConnections is 1. It does no I/O.
//! It names places in its memory where the next bytes are to be received and places whose bytes are
//! to be sent, and hands out tasks. [`Directory`] says what there is on offer, and to whom;
//! [`Sessions`] says who is there.
//!
//! # The turn
//!
//! ```text
//!  receive_into ─► readv ─► received ─► next … next ─► respond, collect, answer ─► commit
//!                                                          transmit ─► sendmsg ─► sent
//! ```
//!
//! # Whose memory
//!
//! A connection has one file in memory, of which all is made (`layout.rs`): a control area, the
//! rings, and the data of its tasks. What a disk reads goes out from where the disk put it; what an
//! initiator writes is received where the disk takes it from, but for those bytes that came together
//! with a header, which are copied once. Each task has a slot, where immediate and unsolicited data
//! always has room; longer transfers take the rest from a pool that the tasks share. A task that must
//! wait for memory waits in order, behind those before it, and never in the stream, where it would
//! hold up the data of others.
//!
//! # The worker may die at any instruction
//!
//! What was done in a turn is written beside what was valid (the hot state and each task's entry
//! twice, with the number of the commit that wrote them), and one store of a number makes all of it
//! valid. Nothing leaves before that. A successor takes what is valid and two numbers that the kernel
//! knows, how many bytes were received and sent ([`Positions`]), and
//!
//! - finds every received byte: its place is a function of its position and of the valid commit;
//! - goes on sending at the exact byte: the pieces are committed, and the position is known;
//! - follows again the PDUs behind the committed position, and gives again the tasks that have no
//!   committed answer, marked as `resumed`.
//!
//! So nothing that a turn destroys may be needed to do that turn again. A slot, a piece of the pool, a
//! place in a ring is free from the commit on that knows it to be; an answer is not written over its
//! question. The tests let workers die at every store.
//!
//! # Faults
//!
//! A PDU that breaks a rule is answered by what the standard has for it (a login status, Reject, sense
//! data) and counted as a [`Fault`]. Only where the stream itself is in doubt, or before a login, the
//! connection ends. This is error recovery level 0: there is no SNACK, and a lost connection loses its
//! session.
//!
//! # Limits
//!
//! Everything that an initiator can make us keep is bounded ([`Limits`], `limits.rs`): commands by the
//! window, immediate commands, texts, the steps of a login, memory. An initiator that does not read is
//! not read from.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod bits;
mod chap;
mod codec;
mod config;
mod connection;
mod data_out;
mod digest;

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

pub use config::{Access, Allow, Credentials, Directory, Portal, Secret, Target};
pub use connection::{Connection, End, Event, Positions, SetupError, Turn};
pub use data_out::Collected;
pub use fault::Fault;
pub use keys::{Parameters, is_name};
pub use limits::{CDB_MAX_BYTES, Limits, RECEIVE_PIECES_MAX, SEND_PIECES_MAX, SENSE_MAX_BYTES};
pub use output::Outcome;
pub use pdu::{Header, Place};
pub use requests::{Answer, Attribute, Command, Function, Management};
pub use sessions::{Admission, Claim, ConnectionId, Sessions};
pub use task::Tag;
