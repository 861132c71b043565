//! What a SCSI command means.
//!
//! # The picture
//!
//! ```text
//!  CDB ──► row (rows.rs) ──► attention? ──► usage mask ──► decode (one function a family)
//!                                                             │
//!            Respond: status, sense, data-in bytes  ◄─────────┤
//!            Parameters: come again with so many bytes  ◄─────┤
//!            Medium: operations for a backend  ◄──────────────┘ … finish(status) ──► Respond
//! ```
//!
//! A [`Unit`] is one logical unit as all of its initiators see it: the [`Facts`] of its volume,
//! the mode parameters that an initiator may change, whether it is stopped, and the unit attention
//! conditions that wait for each I_T nexus. It owns nothing else. Data of reads and writes never
//! comes here: a [`Plan`] says how many bytes the command moves and which operations move them,
//! and the caller joins them with its buffers.
//!
//! # Who makes which transition
//!
//! * [`Unit::execute`] is called once for a command, or twice when it answered
//!   [`Verdict::Parameters`]; the second call repeats the whole decision, so nothing is remembered
//!   between the two.
//! * Several commands may lie between `execute` and [`Unit::finish`] at the same time; they share
//!   no state here. The operations of one plan run one after the other and end at the first that
//!   fails.
//! * The world's events come by [`Unit::resized`], [`Unit::reset`], [`Unit::nexus_lost`] and
//!   [`Unit::luns_changed`].
//!
//! # What outlives the process
//!
//! [`State`] is plain data with a version. Its words do not depend on one another, so a worker
//! that dies between two stores of them leaves a state that is valid. It is to be stored *after*
//! the guest can see the response that changed it: a unit attention that is reported twice is
//! harmless, one that is lost is not.
//!
//! # Standards
//!
//! SAM-5, SPC-4 (with the time-outs and the report of SPC-5 where named), SBC-3. docs/scsi.md is
//! made from the rows.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod attention;
mod cdb;
mod inquiry;
mod limits;
mod medium;
mod mode;
mod plan;
mod provisioning;
mod report;
mod rows;
mod sense;
mod state;
mod target;
mod unit;
mod vpd;

#[cfg(test)]
mod tests;

pub use attention::{NEXUS_MAX, Nexus, Reset};
pub use limits::{
    PARAMETERS_MAX_BYTES, TRANSFER_MAX_BYTES, UNMAP_DESCRIPTORS_MAX, UNMAP_MAX_BYTES, WRITE_SAME_MAX_BYTES,
};
pub use plan::Plan;
pub use request::{Facts, Operation, Status};
pub use rows::{DataPhase, Row, rows, table};
pub use sense::{Format, Key, Pointer, Sense, SenseData};
pub use state::{STATE_BYTES, State};
pub use target::{no_unit, well_known};
pub use unit::{Command, Response, Unit, Verdict, status};
