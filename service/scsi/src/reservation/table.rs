//! The table: registrations and the reservation.

use alloc::vec::Vec;

use super::effects::Refusal;
use crate::nexus::Peer;
use crate::sense::Sense;

/// Registrations of one unit: as many as READ FULL STATUS can report at once, whatever their names:
/// 65,535 bytes of allocation length less a header of 8, by 24 bytes and a TransportID of at most
/// 248. More than the nexuses of a unit, since a registration outlives its nexus.
pub const REGISTRANTS_MAX: usize = 240;

/// RESERVATION KEY. Zero is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub u64);

impl Key {
    pub const NONE: Key = Key(0);
}

/// TYPE of a persistent reservation, SPC-4 6.15.3.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Type {
    WriteExclusive = 0x1,
    ExclusiveAccess = 0x3,
    WriteExclusiveRegistrantsOnly = 0x5,
    ExclusiveAccessRegistrantsOnly = 0x6,
    WriteExclusiveAllRegistrants = 0x7,
    ExclusiveAccessAllRegistrants = 0x8,
}

impl Type {
    pub const fn decode(code: u8) -> Option<Type> {
        match code {
            0x1 => Some(Type::WriteExclusive),
            0x3 => Some(Type::ExclusiveAccess),
            0x5 => Some(Type::WriteExclusiveRegistrantsOnly),
            0x6 => Some(Type::ExclusiveAccessRegistrantsOnly),
            0x7 => Some(Type::WriteExclusiveAllRegistrants),
            0x8 => Some(Type::ExclusiveAccessAllRegistrants),
            _ => None,
        }
    }

    /// Every registered nexus holds it.
    pub const fn is_all_registrants(self) -> bool {
        matches!(self, Type::WriteExclusiveAllRegistrants | Type::ExclusiveAccessAllRegistrants)
    }

    pub const fn is_registrants_only(self) -> bool {
        matches!(self, Type::WriteExclusiveRegistrantsOnly | Type::ExclusiveAccessRegistrantsOnly)
    }
}

/// The persistent reservation. Its scope is always LU_SCOPE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub kind: Type,
    /// Who holds it, which is registered; nobody in particular with an all registrants type.
    pub holder: Option<Peer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    pub peer: Peer,
    pub key: Key,
}

/// The reservations of one logical unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservations {
    /// In the order in which they were made. At most [`REGISTRANTS_MAX`], each peer once, under its
    /// canonical name.
    pub(super) registrations: Vec<Registration>,
    pub(super) held: Option<Held>,
    /// PRGENERATION.
    pub(super) generation: u32,
    /// The last valid APTPL bit.
    pub(super) aptpl: bool,
    /// The owner of a RESERVE of SPC-2; then there are no registrations.
    pub(super) reserved: Option<Peer>,
    /// What APTPL had kept cannot be read (SPC-4 5.13.5.3); then there is nothing else.
    pub(super) lost: bool,
}

impl Reservations {
    /// As after power on, with nothing kept.
    pub fn new() -> Reservations {
        Reservations::default()
    }

    /// As after power on, when what APTPL had kept is there and cannot be read: nobody reads or writes
    /// until an initiator has replaced it.
    pub fn lost() -> Reservations {
        Reservations { aptpl: true, lost: true, ..Reservations::new() }
    }

    /// A recoverable lost persistent reservation (SPC-4 5.13.5.3.2).
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// The type of the persistent reservation, if there is one.
    pub fn persistent(&self) -> Option<Type> {
        self.held.as_ref().map(|held| held.kind)
    }

    /// A RESERVE of SPC-2 is held.
    pub fn is_reserved(&self) -> bool {
        self.reserved.is_some()
    }

    /// Who has it reserved: the holder of the persistent reservation, if it is somebody in particular,
    /// or the owner of a RESERVE.
    pub fn owner(&self) -> Option<&Peer> {
        let holder = self.held.as_ref().and_then(|held| held.holder.as_ref());
        holder.or(self.reserved.as_ref())
    }

    /// PRGENERATION.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// APTPL: it survives a loss of power.
    pub fn is_kept(&self) -> bool {
        self.aptpl
    }

    /// Registered nexuses.
    pub fn registrants(&self) -> usize {
        self.registrations.len()
    }

    pub(super) fn key_of(&self, peer: &Peer) -> Option<Key> {
        self.registrations.iter().find(|entry| entry.peer == *peer).map(|entry| entry.key)
    }

    /// SPC-4 5.13.10.
    pub(super) fn is_holder(&self, peer: &Peer) -> bool {
        match &self.held {
            None => false,
            Some(Held { holder: Some(holder), .. }) => holder == peer,
            Some(Held { holder: None, .. }) => self.key_of(peer).is_some(),
        }
    }

    /// Registers a nexus, or gives it another key.
    pub(super) fn register(&mut self, peer: &Peer, key: Key) -> Result<(), Refusal> {
        if let Some(entry) = self.registrations.iter_mut().find(|entry| entry.peer == *peer) {
            entry.key = key;
            return Ok(());
        }
        if self.registrations.len() >= REGISTRANTS_MAX {
            return Err(Sense::INSUFFICIENT_REGISTRATION_RESOURCES.into());
        }
        self.registrations.push(Registration { peer: peer.clone(), key });
        Ok(())
    }

    /// Removes registrations, and with the holder's or the last one the reservation (SPC-4 table 71).
    pub(super) fn unregister(&mut self, mut goes: impl FnMut(&Registration) -> bool) {
        self.registrations.retain(|entry| !goes(entry));
        let stays = match &self.held {
            None => return,
            Some(Held { holder: Some(holder), .. }) => self.key_of(holder).is_some(),
            Some(Held { holder: None, .. }) => !self.registrations.is_empty(),
        };
        if !stays {
            self.held = None;
        }
    }

    /// The reservation becomes one of this type, held by a nexus that is registered.
    pub(super) fn hold(&mut self, kind: Type, peer: &Peer) {
        let holder = (!kind.is_all_registrants()).then(|| peer.clone());
        self.held = Some(Held { kind, holder });
    }

    /// Registered nexuses other than this one.
    pub(super) fn others<'a>(&'a self, peer: &'a Peer) -> impl Iterator<Item = &'a Peer> {
        self.registrations.iter().map(|entry| &entry.peer).filter(move |other| *other != peer)
    }

    /// What a power loss leaves is the same.
    pub(crate) fn keeps_the_same(&self, other: &Reservations) -> bool {
        match (self.aptpl, other.aptpl) {
            _ if self.lost != other.lost => false,
            (false, false) => true,
            (true, true) => self.registrations == other.registrations && self.held == other.held,
            _ => false,
        }
    }
}
