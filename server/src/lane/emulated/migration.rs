//! A device on its way to another host: it rests, its state goes out by messages, and comes in.
//!
//! The state is what a successor of the worker would find in the ledger (configuration space, control
//! state, hot state), so a device that arrives begins as one whose worker died: by the way that every
//! restart tests.

use guest_memory::{Log, Window};
use request::Instant;
use vfio_user::{Header, Transition};

use super::model::hot_of;
use super::slot::Slot;

/// `SPMIGRAT` in ASCII, then the form of what follows.
const MAGIC: [u8; 8] = *b"SPMIGRAT";
const VERSION: u32 = 1;
/// Magic, version, model, length of the hot state.
const HEAD: usize = 20;

impl Slot {
    /// The device does nothing by itself: its client has stopped it.
    pub fn is_stopped(&self) -> bool {
        !self.link.session.state.migration.is_running()
    }

    /// Goes from one migration state to another, which the session has gone to already. `reply` began
    /// at `start`.
    pub(super) fn migrate(
        &mut self,
        transition: Transition,
        incoming: &[u8],
        header: &Header,
        start: usize,
        reply: &mut Vec<u8>,
        now: Instant,
    ) {
        if transition.stops() {
            if !self.quarantined {
                self.model.publish(now, &self.memory);
                self.signal_now();
            }
            if self.outstanding > 0 || !self.model.is_at_rest() {
                // A store hangs. What it still has to write could land after the guest went on elsewhere.
                self.link.session.migration_refused(transition, header, start, reply);
                return;
            }
        }
        if transition.loads() && !self.load(incoming) {
            self.link.session.migration_failed(header, start, reply);
            return;
        }
        if transition.starts() {
            self.announces = transition.loads() || std::mem::take(&mut self.arrived);
            self.start_again();
        } else {
            self.arrived |= transition.loads();
        }
        if transition.saves() {
            self.model.function_mut().gather();
            self.saved = self.portable();
            self.link.session.saved(self.saved.len());
        }
    }

    /// The device's state, for another server.
    fn portable(&self) -> Vec<u8> {
        let (model, _, at_rest) = hot_of(&self.spec.device);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(model.to_le_bytes());
        bytes.extend((at_rest as u32).to_le_bytes());
        let start = bytes.len();
        bytes.resize(start + at_rest, 0);
        self.link.ledger.hot().read_bytes(0, &mut bytes[start..]);
        bytes.extend(self.state());
        bytes
    }

    /// Takes up a state that another server gave out. `false`: it is none of this device.
    fn load(&mut self, incoming: &[u8]) -> bool {
        let (model, bytes, at_rest) = hot_of(&self.spec.device);
        let parts = incoming.split_at_checked(HEAD).and_then(|(head, rest)| {
            let (hot, state) = rest.split_at_checked(at_rest)?;
            Some((head, hot, state))
        });
        let Some((head, hot, state)) = parts else { return false };
        let mut expected = MAGIC.to_vec();
        for word in [VERSION, model, at_rest as u32] {
            expected.extend(word.to_le_bytes());
        }
        if self.quarantined || head != expected {
            return false;
        }
        // A worker that dies in the middle of this leaves the message to its successor.
        let ledger = self.link.ledger.hot();
        ledger.write_bytes(0, &vec![0; bytes]);
        ledger.write_bytes(0, hot);
        self.renew(ledger);
        if !self.restore(state) {
            // Nothing of it may stay.
            self.link.ledger.hot().write_bytes(0, &vec![0; bytes]);
            self.renew(self.link.ledger.hot());
            self.power_on();
            return false;
        }
        self.model.function_mut().spread();
        self.config_dirty = true;
        self.set_memory();
        self.model.function_mut().memory_changed(&self.memory);
        self.model.function_mut().set_irq_mode(self.irqs.mode);
        self.sync_irq_mode();
        true
    }

    fn renew(&mut self, hot: Window) {
        self.model.renew(&self.spec, hot);
        self.share_doorbells();
        self.renewed = true;
    }

    /// As a successor of this worker would.
    fn start_again(&mut self) {
        if self.quarantined {
            return;
        }
        let state = self.model.function().state();
        self.renew(self.link.ledger.hot());
        let function = self.model.function_mut();
        function.restore(&state);
        function.resume(&self.memory);
        function.set_irq_mode(self.irqs.mode);
        self.config_dirty = true;
    }

    /// A piece of the state that goes out.
    pub(super) fn give_saved(&mut self, from: usize, into: &mut [u8]) {
        if self.saved.is_empty() {
            // A predecessor made it; the device has not moved since.
            self.model.function_mut().gather();
            self.saved = self.portable();
        }
        let piece = self.saved.get(from..).unwrap_or(&[]);
        for (into, byte) in into.iter_mut().zip(piece) {
            *into = *byte;
        }
    }

    /// From now on pages that are written are noted. `false`: they cannot be.
    pub(super) fn start_log(&mut self) -> bool {
        // If a store hangs, what it still has to read would not be noted.
        self.outstanding == 0 && self.note_writes()
    }

    pub(super) fn stop_log(&mut self) {
        if self.guest.log.take().is_some() {
            self.rebuild_memory(None);
        }
    }

    /// After a restart. Nobody knows what the last worker had written and not noted: all of it counts as
    /// written.
    pub(super) fn resume_log(&mut self) {
        if self.link.session.state.log.is_none() {
            return;
        }
        if self.note_writes() {
            self.guest.seen(true).mark_all();
        } else {
            // The client's next question has an error for an answer.
            self.link.session.state.log = None;
        }
    }

    fn note_writes(&mut self) -> bool {
        let Some(state) = &self.link.session.state.log else { return false };
        match Log::below(state.end()) {
            Ok(log) => self.guest.log = Some(log),
            Err(error) => {
                tracing::error!(slot = self.link.name, %error, "dirty pages cannot be noted");
                return false;
            }
        }
        self.rebuild_memory(None);
        true
    }

    /// Takes the marks of a range into a bitmap, one bit for `page_size` bytes.
    pub(super) fn report_dirty(&self, address: u64, length: u64, page_size: u64, bitmap: &mut [u8]) {
        let Some(log) = &self.guest.log else { return };
        log.take(address, length, |page| {
            let bit = page.saturating_sub(address) / page_size;
            let byte = usize::try_from(bit / 8).ok().and_then(|byte| bitmap.get_mut(byte));
            if let Some(byte) = byte {
                *byte |= 1 << (bit % 8);
            }
        });
    }
}
