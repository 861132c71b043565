//! What a change of the reservations asks of the unit and of the server.

use alloc::vec::Vec;

use crate::nexus::Peer;
use crate::sense::Sense;

/// A unit attention condition, UNIT ATTENTION with ADDITIONAL SENSE CODE 2Ah.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// 2A/03: another nexus cleared the reservation and all registrations.
    ReservationsPreempted,
    /// 2A/04: the reservation is released, or is of another type now.
    ReservationsReleased,
    /// 2A/05: another nexus removed this one's registration.
    RegistrationsPreempted,
}

/// What is to be done before and with the response of a command that was not refused. Peers that
/// are not attached are named too, as the table knows no difference; for these there is nothing to
/// do (the condition that the loss of a nexus establishes tells them that anything may have
/// changed).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Conditions to establish, each for the one nexus named.
    pub attentions: Vec<(Peer, Attention)>,
    /// PREEMPT AND ABORT: every task of these nexuses is aborted except the command itself, and has
    /// ended before the response. As with a PREVENT ALLOW MEDIUM REMOVAL with PREVENT zero, they no
    /// longer prevent the removal of the medium.
    pub abort: Vec<Peer>,
    /// PREEMPT AND ABORT: all copy operations of the unit are aborted too (SPC-4 5.13.11.2.6 d).
    pub abort_copies: bool,
    /// Attached nexuses that might write before and may not now, and are not in `abort`: their tasks
    /// that were begun have ended before the response. Tasks that were not begun meet the new
    /// reservation when they begin.
    pub fenced: Vec<Peer>,
    /// What survives a power loss is another: it is on stable storage before the response.
    pub durable: bool,
    /// The table changed: the state is to be saved, and [`super::Allowed`] asked for again.
    pub changed: bool,
}

/// Why a command is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// RESERVATION CONFLICT status.
    Conflict,
    /// CHECK CONDITION status.
    Check(Sense),
}

impl From<Sense> for Refusal {
    fn from(sense: Sense) -> Refusal {
        Refusal::Check(sense)
    }
}
