//! A device on its way to another host: it rests, its state goes out by messages, and comes in.
//!
//! The state is what a successor of the worker would find in the ledger (configuration space, control
//! state, hot state), so a device that arrives begins as one whose worker died: by the way that every
//! restart tests.

use std::os::fd::AsFd;

use guest_memory::Window;
use request::Instant;
use vfio_user::{Header, LogState, Transition};

use super::dirty::DirtyLog;
use super::model::hot_of;
use super::slot::Slot;
use crate::vault;

/// What a slot's dirty log is kept as.
pub const DIRTY: &str = "dirty";

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
        self.config_dirty = true;
        self.set_memory();
        self.model.function_mut().memory_changed(&self.memory);
        self.model.function_mut().set_irq_mode(self.irqs.mode);
        self.sync_irq_mode();
        true
    }

    fn renew(&mut self, hot: Window) {
        self.model.renew(&self.spec, hot);
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
            self.saved = self.portable();
        }
        let piece = self.saved.get(from..).unwrap_or(&[]);
        for (into, byte) in into.iter_mut().zip(piece) {
            *into = *byte;
        }
    }

    /// From now on pages that are written are noted. `false`: they cannot be.
    pub(super) fn start_log(&mut self) -> bool {
        let Some(state) = &self.link.session.state.log else { return false };
        if self.outstanding > 0 {
            // A store hangs: what it still has to read would not be noted.
            return false;
        }
        let log = match DirtyLog::create(&self.link.name, state) {
            Ok(log) => log,
            Err(error) => {
                tracing::error!(slot = self.link.name, %error, "dirty pages cannot be noted");
                return false;
            }
        };
        self.link.vault().keep(&vault::name(&self.link.name, DIRTY), log.fd().as_fd());
        self.note_writes(Some(log));
        true
    }

    pub(super) fn stop_log(&mut self) {
        if self.dirty.is_some() {
            self.link.vault().forget(&vault::name(&self.link.name, DIRTY));
            self.note_writes(None);
        }
    }

    /// After a restart: the log as the last worker left it, if there was one.
    pub(super) fn resume_log(&mut self, kept: Option<std::os::fd::OwnedFd>) {
        let name = vault::name(&self.link.name, DIRTY);
        let Some(state) = self.link.session.state.log.clone() else {
            if kept.is_some() {
                self.link.vault().forget(&name);
            }
            return;
        };
        match kept.map(|fd| DirtyLog::open(fd, &state)) {
            Some(Ok(log)) => self.note_writes(Some(log)),
            _ => self.begin_with_all(&state, &name),
        }
    }

    /// The log is lost, and with it what was written: everything may have been.
    fn begin_with_all(&mut self, state: &LogState, name: &str) {
        tracing::error!(slot = self.link.name, "the log of dirty pages is lost; all of them are sent again");
        self.link.vault().forget(name);
        match DirtyLog::create(&self.link.name, state) {
            Ok(log) => {
                log.mark_all(state);
                self.link.vault().keep(name, log.fd().as_fd());
                self.note_writes(Some(log));
            }
            // The client's next question has an error for an answer.
            Err(_) => self.link.session.state.log = None,
        }
    }

    fn note_writes(&mut self, log: Option<DirtyLog>) {
        self.guest.log = log.as_ref().map(DirtyLog::marks);
        self.dirty = log;
        self.rebuild_memory(None);
    }

    pub(super) fn report_dirty(&self, address: u64, length: u64, page_size: u64, bitmap: &mut [u8]) {
        if let Some(log) = &self.dirty {
            log.take(address, length, page_size, bitmap);
        }
    }
}
