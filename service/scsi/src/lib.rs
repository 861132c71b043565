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

mod alua;
mod attention;
mod cdb;
mod copy;
mod diagnostic;
mod execute;
mod identifying;
mod inquiry;
mod journal;
mod limits;
mod log;
mod manage;
mod medium;
mod mmc;
mod mode;
mod nexus;
mod nexus_table;
mod plan;
mod primary;
mod profile;
mod provisioning;
mod removable;
mod report;
pub mod reservation;
mod rows;
mod sense;
mod state;
mod target;
mod task_set;
mod timestamp;
mod unit;
mod vpd;
mod work;

#[cfg(test)]
mod tests;

pub use attention::{Condition, Reset};
pub use copy::Visit;
pub use journal::JOURNAL_MAX;
pub use limits::{
    PARAMETERS_MAX_BYTES, TRANSFER_MAX_BYTES, UNMAP_DESCRIPTORS_MAX, UNMAP_MAX_BLOCKS, WRITE_SAME_MAX_BYTES,
};
pub use manage::{Function, Managed};
pub use medium::Allocation;
pub use nexus::{NEXUS_MAX, Nexus, Peer, PortId, TRANSPORT_ID_MAX_BYTES, TransportId};
pub use plan::Plan;
pub use profile::{AccessState, Kind, PortName, Profile, TargetPort};
pub use removable::Ejection;
pub use request::{Facts, Operation, Status};
pub use reservation::{Access, Type as ReservationKind};
pub use rows::{DataPhase, On, Row, rows, table};
pub use sense::{Format, Key, Pointer, Sense, SenseData};
pub use target::{bare_command, no_unit, well_known};
pub use task_set::{Abort, Attribute, Footprint, TASKS_MAX, TaskKey};
pub use unit::{Command, Counts, Ending, Outcome, Response, Settle, Unit, Verdict, status};
pub use work::{At, Buffers, Do, Neighbour, Place, Query, SCRATCH_BYTES, Work};
