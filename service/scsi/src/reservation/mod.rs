//! Reservations: who may do what to the unit while one of its I_T nexuses has it reserved.
//!
//! # The picture
//!
//! ```text
//!  every command ──► row's Access ──► Allowed of its nexus ──► RESERVATION CONFLICT
//!                                          ▲                └► go on
//!                                          │ (asked again after each change)
//!  PERSISTENT RESERVE OUT, RESERVE, RELEASE ──► Reservations ──► Effects: who is told, whose
//!  resets, a nexus that is gone ──────────────►    (table)       tasks end, what is made durable
//!  PERSISTENT RESERVE IN  ◄── parameter data ──────┘
//! ```
//!
//! [`Reservations`] is the table of one logical unit: registrations, the persistent reservation if
//! there is one, the generation counter, the APTPL bit, and the nexus that holds a RESERVE of
//! SPC-2. Everything is keyed by [`crate::nexus::Peer`]: a nexus that is away keeps its registration. Nothing
//! here knows of tasks, of unit attention queues or of files; a change answers with [`Effects`],
//! which name exactly the nexuses that the standard names, and the caller does it.
//!
//! A change is all or nothing: it is made on a copy of the table, which replaces the table when
//! nothing was refused.
//!
//! # A fenced write never lands
//!
//! SPC-5 lets a command that was begun before a PREEMPT run to its end at any time after. Here the
//! response of a command that takes the right to write from a nexus waits until the commands of
//! that nexus that were begun have ended ([`Effects::fenced`]): whoever got GOOD for a PREEMPT may
//! rely on it that nothing of the preempted nexus reaches the medium any more.
//!
//! # Lost reservations
//!
//! If what APTPL had kept on stable storage is there and cannot be read, the unit is in the condition
//! of SPC-4 5.13.5.3.2: all commands but those of [`passes_loss`] are told so, until an initiator has
//! sent REPLACE LOST RESERVATION. That is better than to let a fenced node write.
//!
//! # RESERVE and RELEASE of SPC-2
//!
//! Both are served, with compatible reservation handling (CRH, SPC-4 5.13.3): GOOD and no effect
//! from a nexus that holds the persistent reservation, or that is registered where its type is
//! registrants only or all registrants. Otherwise SPC-2 5.5.1 holds: while anybody is registered
//! they conflict, and while a RESERVE is held every PERSISTENT RESERVE IN and OUT conflicts, its
//! owner's too. So the two kinds of reservation never stand side by side. A third party and an
//! extent cannot be named (the bits are obsolete, and refused by the rows' masks). A RESERVE is
//! released by its owner, by the loss of its owner's nexus, by a reset of the unit or of the target,
//! and by a power loss; a persistent reservation by none of these, except by a power loss
//! while APTPL is zero.
//!
//! # Every command's access
//!
//! Allowed (A) or conflict (C), in the columns of SPC-4 table 65 and SBC-4 table 13: reserved by
//! another nexus as Write Exclusive, as Exclusive Access; from a registered nexus under a
//! registrants only or all registrants type; from one not registered under Write Exclusive of such
//! a type, under Exclusive Access of such a type; and last under a RESERVE of another nexus
//! (SPC-2 table 9 and its annex B; commands younger than SPC-2 as its rule for their kind says).
//!
//! | access | WE | EA | RR | WE-RR | EA-RR | RESERVE |
//! |---|---|---|---|---|---|---|
//! | [`Access::Always`] | A | A | A | A | A | A |
//! | [`Access::NotReserved`] | A | A | A | A | A | C |
//! | [`Access::Read`] | A | C | A | A | C | C |
//! | [`Access::Write`] | C | C | A | C | C | C |
//! | [`Access::Reservation`] | decided by this module | | | | | |
//!
//! * `Always`: INQUIRY, REQUEST SENSE, REPORT LUNS, LOG SENSE, REPORT TARGET PORT GROUPS, REPORT
//!   TIMESTAMP, REPORT IDENTIFYING INFORMATION, REPORT ALIASES, REPORT PRIORITY (SPC-4 table 65);
//!   READ CAPACITY(10) and (16), REPORT REFERRALS, REPORT PROVISIONING INITIALIZATION PATTERN (SBC-4
//!   table 13). Of MMC, which has no such table that this server follows: GET CONFIGURATION, GET
//!   EVENT STATUS NOTIFICATION and MECHANISM STATUS, which say nothing of the medium's contents.
//! * `NotReserved`: TEST UNIT READY, RECEIVE COPY RESULTS (all service actions of LID1: COPY STATUS,
//!   RECEIVE DATA, OPERATING PARAMETERS, FAILED SEGMENT DETAILS; and RECEIVE COPY STATUS, RECEIVE
//!   COPY DATA of LID4), RECEIVE ROD TOKEN INFORMATION, REPORT ALL ROD TOKENS (SPC-4 table 65).
//! * `Read`: MODE SENSE(6) and (10), READ BUFFER, RECEIVE DIAGNOSTIC RESULTS, REPORT SUPPORTED
//!   OPERATION CODES, REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS, READ ATTRIBUTE, SECURITY PROTOCOL
//!   IN (SPC-4 table 65); READ(6) to (32), VERIFY(10) to (32), PRE-FETCH(10) and (16), GET LBA
//!   STATUS, READ DEFECT DATA(10) and (12), POPULATE TOKEN (SBC-4 table 13). Of MMC: READ TOC/PMA/ATIP,
//!   READ DISC INFORMATION, READ TRACK INFORMATION, READ DISC STRUCTURE, READ CD, GET PERFORMANCE.
//! * `Write`: MODE SELECT(6) and (10), LOG SELECT, SEND DIAGNOSTIC, WRITE BUFFER, SET TARGET PORT
//!   GROUPS, SET TIMESTAMP, SET IDENTIFYING INFORMATION, SET PRIORITY, CHANGE ALIASES, EXTENDED
//!   COPY (LID1 and LID4), COPY OPERATION ABORT, SECURITY PROTOCOL OUT (SPC-4 table 65); WRITE(6) to
//!   (32), WRITE AND VERIFY, WRITE SAME, WRITE ATOMIC, WRITE LONG, ORWRITE, COMPARE AND WRITE, UNMAP,
//!   SANITIZE, FORMAT UNIT, SYNCHRONIZE CACHE(10) and (16), REASSIGN BLOCKS, WRITE USING TOKEN
//!   (SBC-4 table 13).
//! * [`Access::StartStop`]: START STOP UNIT, `Always` with START one and POWER CONDITION 0h, else
//!   `Write`. [`Access::PreventAllow`]: PREVENT ALLOW MEDIUM REMOVAL, `Always` with PREVENT zero, else
//!   `Write` (both SBC-4 table 13).
//! * `Reservation`: PERSISTENT RESERVE IN and OUT (SPC-4 tables 65 and 66), RESERVE(6) and (10),
//!   RELEASE(6) and (10) (SPC-4 5.13.3, SPC-2 5.5.1).

mod commands;
mod conflict;
mod effects;
mod name;
mod out;
mod persist;
mod read;
mod spc2;
mod stored;
mod table;

pub(crate) use commands::{persistent_reserve_in, persistent_reserve_out, release, reserve};
pub use conflict::{Access, Allowed, passes_loss};
pub use effects::{Attention, Effects, Refusal};
pub(crate) use name::canonical;
pub use out::{Known, LIST_MAX_BYTES, Out};
pub(crate) use persist::Kept;
pub use persist::{Corrupt, STATE_MAX_BYTES};
pub(crate) use stored::Stored;
pub use table::{Key, REGISTRANTS_MAX, Reservations, Type};
