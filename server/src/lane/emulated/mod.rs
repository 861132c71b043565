//! Emulated slots of a lane: devices with registers, for guests that know nothing of us.
//!
//! # A turn
//!
//! A driver's register writes come as messages, posted, many at a time. A look at the socket follows a
//! bound of them, commits what they led to, and answers (`turn`, `link`); what they ask for is done
//! after that, a burst at a time, together with what other drivers ask for. A slot is *active* from a
//! message on until it has had nothing for a while; meanwhile its socket and its rings are looked at
//! every turn, and drivers that can be told so ring no doorbells. Then the lane's one wait has its
//! socket.

mod irqs;
mod ledger;
mod link;
mod memory;
mod migration;
mod model;
mod nic;
mod objects;
mod scsi;
mod slot;
mod turn;
mod watch;

use frame::Posted;
use pvscsi::Command;
use request::Instant;

use self::model::Model;
pub use self::slot::{Slot, blamed_as};
use self::watch::Watch;
use super::{Lane, SPIN_NANOS};
use crate::blame;

/// A look at a socket is a system call; what came meanwhile is followed together.
const LOOK_NANOS: u64 = 4_000;

/// A doorbell makes a guest wait for its hypervisor, which waits for us; a few looks cost less. So a driver
/// that rang so soon after it had been told to is left in peace for that long the next time.
const LINGER_NANOS: u64 = 4_000_000;

/// All emulated slots of a lane, and room that their work passes through.
#[derive(Default)]
pub struct Emulated {
    slots: Vec<Option<Box<Slot>>>,
    active: Vec<u32>,
    staged: Vec<u32>,
    /// Before this nobody's deadline comes.
    next: Option<Instant>,
    /// Slots that sleep and cannot say when there is work.
    watch: Watch,
    due: Vec<u32>,
    posted: Posted,
    command: Command,
    buffer: Vec<u8>,
}

impl Emulated {
    pub fn get(&mut self, index: u32) -> Option<&mut Slot> {
        self.slots.get_mut(index as usize)?.as_deref_mut()
    }

    pub fn is_busy(&self) -> bool {
        !self.active.is_empty() || !self.staged.is_empty()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        [self.next, self.watch.next()].into_iter().flatten().min()
    }

    fn expect(&mut self, deadline: Option<Instant>) {
        self.next = [self.next, deadline].into_iter().flatten().min();
    }

    fn network_of(&self, index: u32) -> Option<u32> {
        match &self.slots.get(index as usize)?.as_ref()?.model {
            Model::Nic(model) => Some(model.network),
            Model::Scsi(_) => None,
        }
    }

    pub fn count_malformed(&mut self, index: u32) {
        if let Some(slot) = self.get(index)
            && let Model::Nic(model) = &mut slot.model
        {
            model.malformed += 1;
        }
    }

    fn stage(&mut self, index: u32) {
        if let Some(slot) = self.get(index)
            && !slot.staged
        {
            slot.staged = true;
            self.staged.push(index);
        }
    }
}

impl Lane {
    pub(super) fn blame_emulated(&self, index: u32) {
        blame::turn_to(blamed_as(index));
    }

    pub(super) fn accept_emulated(&mut self, index: u32) {
        let wait = &self.wait;
        if let Some(slot) = self.emulated.get(index) {
            slot.accept(wait);
        }
        // A guest starts: it is to see what the uplink has now.
        if let Some(network) = self.emulated.network_of(index) {
            self.look_at_link(network);
        }
    }

    /// There is something in the socket, or what a message waits for may have ended.
    pub(super) fn on_emulated(&mut self, index: u32) {
        self.blame_emulated(index);
        let mut buffer = std::mem::take(&mut self.emulated.buffer);
        let (wait, now) = (&self.wait, self.now);
        let Some(slot) = self.emulated.get(index) else { return };
        slot.looked_at = now.nanos();
        let after = slot.on_link(wait, now, &mut buffer);
        // Work that waits for a message was rung for.
        if after.followed && slot.model.has_work() {
            slot.lingers |= now.nanos().wrapping_sub(slot.rested_at) < LINGER_NANOS;
        }
        let deadline = slot.deadline();
        let sees_another = std::mem::take(&mut slot.sees_another);
        self.emulated.buffer = buffer;
        self.emulated.expect(deadline);
        if after.reset {
            self.reset_emulated(index);
        }
        if after.gone {
            self.give_up_begun_emulated(index);
        }
        if sees_another {
            // What the model had no place for may have one now.
            self.emulated.stage(index);
        }
        if after.followed {
            self.activate_emulated(index);
            self.show_where(index);
        }
    }

    /// The hypervisor says that the guest has ended an interrupt.
    pub(super) fn on_unmask(&mut self, index: u32) {
        self.blame_emulated(index);
        let Some(slot) = self.emulated.get(index) else { return };
        if slot.link.session.is_intx_masked() {
            if !slot.irqs.is_unmasked() {
                return;
            }
            // In the ledger before it is taken: a successor would not hear of it again.
            slot.link.session.intx_unmasked();
            slot.link.save_session();
            slot.irqs.take_unmasked();
        } else {
            if !slot.irqs.take_unmasked() {
                return;
            }
            slot.link.session.intx_unmasked();
        }
        slot.signal();
    }

    /// From now on the slot is looked at every turn.
    pub(super) fn activate_emulated(&mut self, index: u32) {
        let now = self.now;
        let Some(slot) = self.emulated.get(index) else { return };
        slot.worked_at = now.nanos();
        if slot.active || slot.quarantined {
            return;
        }
        slot.active = true;
        if !slot.is_stopped() {
            slot.model.set_doorbells(now, &slot.memory, false);
        }
        self.emulated.active.push(index);
        self.emulated.watch.remove(index);
    }

    pub(super) fn serve_emulated(&mut self) {
        let mut at = 0;
        while at < self.emulated.active.len() {
            let index = self.emulated.active[at];
            if self.serve_emulated_slot(index) {
                at += 1;
            } else {
                self.emulated.active.swap_remove(at);
            }
        }
        if self.emulated.next.is_some_and(|next| next <= self.now) {
            self.expire_emulated();
        }
        if self.emulated.watch.next().is_some_and(|next| next <= self.now) {
            self.look_at_silent();
        }
    }

    /// Slots that sleep, whose drivers cannot say that there is work.
    fn look_at_silent(&mut self) {
        let mut due = std::mem::take(&mut self.emulated.due);
        self.emulated.watch.take_due(self.now, &mut due);
        for index in due.drain(..) {
            self.look_at_silent_slot(index);
        }
        self.emulated.due = due;
    }

    fn look_at_silent_slot(&mut self, index: u32) {
        let (now, quiet) = (self.now, self.quiet);
        self.blame_emulated(index);
        let Some(slot) = self.emulated.get(index) else { return self.emulated.watch.remove(index) };
        slot.counters.unasked += 1;
        let came = slot.look(now);
        let work = !quiet && !slot.is_stopping() && !slot.is_full() && slot.model.has_work();
        slot.counters.found += u64::from(came || work);
        let mut work = work;
        if !work && slot.is_hushed() && now.nanos().wrapping_sub(slot.worked_at) >= LINGER_NANOS {
            slot.lingers = false;
            work = slot.rest(now) && !quiet;
        }
        let (silent, deadline) = (slot.is_silent(), slot.deadline());
        self.emulated.expect(deadline);
        if work {
            self.activate_emulated(index);
        } else if !silent {
            self.emulated.watch.remove(index);
        } else if came {
            self.emulated.watch.closely(index, now);
        }
    }

    /// A slot that sleeps is watched if nobody will wake it.
    fn watch_emulated(&mut self, index: u32) {
        let now = self.now;
        if let Some(slot) = self.emulated.get(index)
            && !slot.active
            && slot.is_silent()
        {
            self.emulated.watch.closely(index, now);
        }
    }

    /// One look at one slot. `false`: it sleeps from now on.
    fn serve_emulated_slot(&mut self, index: u32) -> bool {
        let (now, quiet) = (self.now, self.quiet);
        let Some(slot) = self.emulated.get(index) else { return false };
        if now.nanos().wrapping_sub(slot.looked_at) >= LOOK_NANOS {
            self.on_emulated(index);
        } else {
            self.blame_emulated(index);
        }
        let Some(slot) = self.emulated.get(index) else { return false };
        if !slot.link.is_connected() {
            slot.active = false;
            return false;
        }
        if slot.link.doorbells.is_some() {
            slot.look(now);
            // What a driver opened may fall due later.
            let deadline = slot.deadline();
            self.emulated.expect(deadline);
        }
        let Some(slot) = self.emulated.get(index) else { return false };
        let begins = !quiet && !slot.is_stopping() && !slot.is_stopped() && !slot.is_full();
        if begins && slot.model.has_work() {
            slot.worked_at = self.now.nanos();
            match self.emulated.get(index).map(|slot| &slot.model) {
                Some(Model::Nic(_)) => self.transmit_emulated(index),
                Some(Model::Scsi(_)) => self.serve_adapter(index),
                None => {}
            }
            return true;
        }
        let now = self.now;
        let Some(slot) = self.emulated.get(index) else { return false };
        if now.nanos().wrapping_sub(slot.worked_at) < SPIN_NANOS {
            return true;
        }
        let lingers = slot.lingers && slot.is_hushed();
        if !lingers && slot.rest(now) && begins {
            slot.model.set_doorbells(now, &slot.memory, false);
            slot.worked_at = now.nanos();
            return true;
        }
        slot.active = false;
        let deadline = slot.deadline();
        self.emulated.expect(deadline);
        self.watch_emulated(index);
        false
    }

    fn expire_emulated(&mut self) {
        self.emulated.next = None;
        let now = self.now;
        for index in 0..self.emulated.slots.len() as u32 {
            let Some(slot) = self.emulated.get(index) else { continue };
            let Some(deadline) = slot.deadline() else { continue };
            if deadline > now {
                self.emulated.expect(Some(deadline));
                continue;
            }
            self.blame_emulated(index);
            let Some(slot) = self.emulated.get(index) else { continue };
            let due = slot.model.function().deadline().is_some_and(|deadline| deadline <= now);
            if due && !slot.is_stopped() {
                slot.model.function_mut().expire(now, &slot.memory);
                slot.save();
                slot.signal();
            }
            let (held, work) = (slot.held.is_some(), slot.model.has_work());
            if held {
                self.on_emulated(index);
            }
            if work {
                self.activate_emulated(index);
            }
            self.emulated.stage(index);
            let deadline = self.emulated.get(index).and_then(|slot| slot.deadline());
            self.emulated.expect(deadline);
        }
    }

    /// Drivers see what was done for them.
    pub(super) fn publish_emulated(&mut self) {
        let now = self.now;
        while let Some(index) = self.emulated.staged.pop() {
            let Some(slot) = self.emulated.get(index) else { continue };
            slot.staged = false;
            if slot.quarantined || slot.is_stopped() {
                continue;
            }
            self.blame_emulated(index);
            let Some(slot) = self.emulated.get(index) else { continue };
            slot.model.publish(now, &slot.memory);
            slot.save();
            slot.signal();
            let deadline = slot.deadline();
            self.emulated.expect(deadline);
            self.watch_emulated(index);
        }
    }
}
