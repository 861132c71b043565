//! RESERVE and RELEASE of SPC-2, and what ends either kind of reservation without a command.

use alloc::vec::Vec;

use super::effects::{Effects, Refusal};
use super::name::canonical;
use super::out::Known;
use super::table::{Reservations, Type};
use crate::nexus::Peer;
use crate::sense::Sense;

impl Reservations {
    /// RESERVE(6) and RESERVE(10) of the whole unit. From its owner again: as if for the first time.
    pub fn reserve(&mut self, known: &Known<'_>, peer: &Peer) -> Result<Effects, Refusal> {
        let peer = canonical(peer);
        if self.passes_over(&peer)? || self.reserved.as_ref() == Some(&peer) {
            return Ok(Effects::default());
        }
        if self.is_reserved() {
            return Err(Refusal::Conflict);
        }
        let before = self.clone();
        self.reserved = Some(peer);
        let mut effects = Effects::default();
        effects.compare(&before, self, known);
        Ok(effects)
    }

    /// RELEASE(6) and RELEASE(10). From anybody but the owner: GOOD, and nothing is released.
    pub fn release(&mut self, peer: &Peer) -> Result<Effects, Refusal> {
        let peer = canonical(peer);
        let mut effects = Effects::default();
        if !self.passes_over(&peer)? && self.reserved.as_ref() == Some(&peer) {
            self.reserved = None;
            effects.changed = true;
        }
        Ok(effects)
    }

    /// A reset of the logical unit or of the target. True: the table changed.
    pub fn reset(&mut self) -> bool {
        self.reserved.take().is_some()
    }

    /// Releases a RESERVE whose owner is none of these. True: the table changed.
    pub fn release_unless(&mut self, is_attached: impl FnOnce(&Peer) -> bool) -> bool {
        if self.reserved.as_ref().is_none_or(is_attached) {
            return false;
        }
        self.reserved = None;
        true
    }

    /// The I_T nexus is gone. True: the table changed.
    pub fn nexus_lost(&mut self, peer: &Peer) -> bool {
        if self.reserved.as_ref() != Some(&canonical(peer)) {
            return false;
        }
        self.reserved = None;
        true
    }

    /// Everything ends by the owner's wish. Who was registered; PRGENERATION counts it as one CLEAR.
    pub fn clear(&mut self) -> Vec<Peer> {
        let before = core::mem::take(self);
        self.generation = before.generation.wrapping_add(1);
        before.registrations.into_iter().map(|entry| entry.peer).collect()
    }

    /// Power was off (SPC-4 5.13.5): what APTPL does not keep is gone, and PRGENERATION is zero.
    pub fn power_lost(&mut self) {
        let kept = core::mem::take(self);
        if kept.aptpl {
            *self = Reservations { generation: 0, reserved: None, ..kept };
        }
    }

    /// True: GOOD and no effect, the exceptions of SPC-4 5.13.3. Refused: SPC-2 5.5.1.
    fn passes_over(&self, peer: &Peer) -> Result<bool, Refusal> {
        if self.is_lost() {
            return Err(Sense::PERSISTENT_RESERVATION_INFORMATION_LOST.into());
        }
        let registered = self.key_of(peer).is_some();
        match self.persistent() {
            Some(Type::WriteExclusive | Type::ExclusiveAccess) if self.is_holder(peer) => Ok(true),
            Some(Type::WriteExclusive | Type::ExclusiveAccess) => Err(Refusal::Conflict),
            Some(_) if registered => Ok(true),
            _ if self.registrants() > 0 => Err(Refusal::Conflict),
            _ => Ok(false),
        }
    }
}
