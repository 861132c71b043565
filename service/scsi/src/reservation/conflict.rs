//! Who may do what.

use super::table::{Reservations, Type};
use crate::nexus::Peer;

/// How a command stands to reservations; each row of the command table carries one. The
/// documentation of [`crate::reservation`] has the table and the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Never conflicts.
    Always,
    /// Conflicts with a RESERVE of another nexus only.
    NotReserved,
    /// Reads the medium, or asks for what belongs to its user.
    Read,
    /// Changes the medium, or what others see of the unit.
    Write,
    /// START STOP UNIT.
    StartStop,
    /// PREVENT ALLOW MEDIUM REMOVAL.
    PreventAllow,
    /// PERSISTENT RESERVE IN and OUT, RESERVE, RELEASE: their own functions decide.
    Reservation,
}

impl Access {
    /// The access of one command, where it depends on the CDB.
    pub fn of(self, cdb: &[u8]) -> Access {
        let byte = cdb.get(4).copied().unwrap_or(0);
        let harmless = match self {
            // START one, POWER CONDITION 0h.
            Access::StartStop => byte & 0xf1 == 0x01,
            // PREVENT 00b.
            Access::PreventAllow => byte & 0x03 == 0,
            _ => return self,
        };
        if harmless { Access::Always } else { Access::Write }
    }

    const fn bit(self) -> u8 {
        match self {
            Access::Always => 1 << 0,
            Access::NotReserved => 1 << 1,
            Access::Read => 1 << 2,
            Access::Write | Access::StartStop | Access::PreventAllow => 1 << 3,
            Access::Reservation => 1 << 4,
        }
    }
}

/// All that one nexus may do under the present reservation: one byte to be kept beside the nexus, so
/// that a read or a write looks up no names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed(u8);

impl Allowed {
    pub const EVERYTHING: Allowed = Allowed(0x1f);
    const RESERVED: Allowed = Allowed(Access::Always.bit() | Access::Reservation.bit());
    const EXCLUSIVE_ACCESS: Allowed = Allowed(Allowed::RESERVED.0 | Access::NotReserved.bit());
    const WRITE_EXCLUSIVE: Allowed = Allowed(Allowed::EXCLUSIVE_ACCESS.0 | Access::Read.bit());

    /// Whether a command of this access goes on. START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL
    /// are to be looked into first by [`Access::of`]; taken as they are, they count as writes.
    pub const fn has(self, access: Access) -> bool {
        self.0 & access.bit() != 0
    }
}

/// Whether a command runs although the reservations are lost: those of SPC-4 5.13.5.2, and the one
/// that replaces them.
pub fn passes_loss(cdb: &[u8]) -> bool {
    let byte = |at: usize| cdb.get(at).copied().unwrap_or(0);
    match byte(0) {
        // REQUEST SENSE, INQUIRY, WRITE BUFFER, READ BUFFER(10), LOG SENSE, READ BUFFER(16), REPORT LUNS.
        0x03 | 0x12 | 0x3b | 0x3c | 0x4d | 0x9b | 0xa0 => true,
        0x1b => Access::StartStop.of(cdb) == Access::Always,
        // PERSISTENT RESERVE OUT, REPLACE LOST RESERVATION.
        0x5f => byte(1) & 0x1f == 0x08,
        // REPORT TARGET PORT GROUPS.
        0xa3 => byte(1) & 0x1f == 0x0a,
        _ => false,
    }
}

impl Reservations {
    /// What this nexus may do until the table changes.
    pub fn allowed(&self, peer: &Peer) -> Allowed {
        if !self.is_reserved() && self.persistent().is_none() {
            return Allowed::EVERYTHING;
        }
        self.allowed_named(&super::name::canonical(peer))
    }

    /// Whether this nexus may begin such a command.
    pub fn allows(&self, peer: &Peer, access: Access) -> bool {
        self.allowed(peer).has(access)
    }

    /// For a peer under its canonical name.
    pub(super) fn allowed_named(&self, peer: &Peer) -> Allowed {
        if let Some(owner) = &self.reserved {
            return if owner == peer { Allowed::EVERYTHING } else { Allowed::RESERVED };
        }
        let Some(kind) = self.persistent() else { return Allowed::EVERYTHING };
        let member = match kind {
            Type::WriteExclusive | Type::ExclusiveAccess => self.is_holder(peer),
            _ => self.key_of(peer).is_some(),
        };
        match (member, kind) {
            (true, _) => Allowed::EVERYTHING,
            (
                false,
                Type::WriteExclusive
                | Type::WriteExclusiveRegistrantsOnly
                | Type::WriteExclusiveAllRegistrants,
            ) => Allowed::WRITE_EXCLUSIVE,
            (
                false,
                Type::ExclusiveAccess
                | Type::ExclusiveAccessRegistrantsOnly
                | Type::ExclusiveAccessAllRegistrants,
            ) => Allowed::EXCLUSIVE_ACCESS,
        }
    }
}
