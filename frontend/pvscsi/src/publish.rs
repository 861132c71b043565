//! The other half: completions and messages.

use core::sync::atomic::{Ordering, fence};
use core::time::Duration;

use guest_memory::Memory;
use request::{Address, Instant};

use crate::adapter::{Adapter, name};
use crate::bits::{host_status, interrupt, message, size, state};
use crate::bytes::put;
use crate::control::{MESSAGES_MAX, Message};
use crate::fault::{Fault, count};
use crate::inflight::{Fate, Stage};
use crate::place::Place;
use crate::request::{Answer, Pieces};

/// How soon a full ring is looked at again: drivers do not tell that they made room.
const RETRY: Duration = Duration::from_millis(1);

/// How long after kicks are wanted again the ring is looked at once more: a driver's store of its
/// index may pass its load of the threshold (QUIRKS.md).
const SETTLE: Duration = Duration::from_micros(100);

/// The longest sense data (SPC-4).
const SENSE_MAX: usize = 252;

/// A completion that waits to be published.
pub(crate) struct Staged {
    slot: u16,
    bytes: [u8; size::COMPLETION],
}

/// A LUN that came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hotplug {
    Added { target: u8, lun: u16 },
    Removed { target: u8, lun: u16 },
}

impl Adapter {
    /// Ends a command. False: there is none of this name, as happens when it was ended before.
    pub fn complete(&mut self, memory: &Memory, id: u64, answer: &Answer<'_>) -> bool {
        let slot = id as u16;
        let known = self.in_flight.slot(slot);
        if known.serial == 0 || name(known.serial, slot) != id {
            return false;
        }
        match known.stage {
            Stage::Orphan => {
                self.condemned = self.condemned.saturating_sub(1);
                count(&mut self.counters.ended_by_reset);
                self.in_flight.release(slot);
                return true;
            }
            Stage::Running => {}
            Stage::Free | Stage::Resumed | Stage::Ended => return false,
        }
        if known.fate != Fate::None {
            self.condemned = self.condemned.saturating_sub(1);
        }
        match answer {
            Answer::Aborted => count(&mut self.counters.aborted),
            Answer::Ended { .. } => count(&mut self.counters.completed),
        }
        self.stage(memory, slot, answer);
        true
    }

    /// Writes the sense data and makes the completion ready.
    pub(crate) fn stage(&mut self, memory: &Memory, slot: u16, answer: &Answer<'_>) {
        let known = self.in_flight.slot(slot);
        let (host, scsi, sense, residual): (u16, u8, &[u8], u64) = match *answer {
            Answer::Ended { host_status, scsi_status, sense, residual } => {
                (host_status, scsi_status, sense, residual)
            }
            Answer::Aborted => match known.fate {
                Fate::Reset => (host_status::BUSRESET, 0, &[], u64::MAX),
                Fate::None | Fate::Abort => (host_status::ABORTQUEUE, 0, &[], u64::MAX),
            },
        };
        let room = usize::try_from(known.sense_len).unwrap_or(usize::MAX).min(SENSE_MAX);
        let sense = sense.get(..sense.len().min(room)).unwrap_or(&[]);
        let written = if sense.is_empty() || write(memory, Address(known.sense), sense) {
            sense.len() as u32
        } else {
            self.counters.fault(Fault::BadSense);
            0
        };
        let mut bytes = [0; size::COMPLETION];
        put(&mut bytes, 0, &known.context.to_le_bytes());
        put(&mut bytes, 8, &known.offered.saturating_sub(residual).to_le_bytes());
        put(&mut bytes, 16, &written.to_le_bytes());
        put(&mut bytes, 20, &host.to_le_bytes());
        put(&mut bytes, 22, &u16::from(scsi).to_le_bytes());
        self.in_flight.set_stage(slot, Stage::Ended);
        self.staged.push_back(Staged { slot, bytes });
    }

    /// Makes what is ready visible, as far as the driver made room, and raises the causes. Due after
    /// `complete`, `post_message`, [`Taken::Ended`](crate::Taken) and a change of the memory map.
    pub fn publish(&mut self, now: Instant, memory: &Memory) {
        if !self.staged.is_empty() {
            self.publish_completions(memory);
        }
        if !self.control.waiting.is_empty() {
            self.publish_messages(memory);
        }
        let waits = self.rings.is_some() && !(self.staged.is_empty() && self.control.waiting.is_empty());
        self.retry = match waits {
            true => Some(now.after(RETRY)),
            false => self.retry.filter(|retry| *retry > now),
        };
    }

    fn publish_completions(&mut self, memory: &Memory) {
        let Some(rings) = &self.rings else { return };
        let first = self.in_flight.published();
        let producer = first.wrapping_sub(self.control.published_from) as u32;
        let unread = producer.wrapping_sub(rings.load(state::CMP_CONS));
        let Some(room) = rings.completions.entries().checked_sub(unread) else {
            self.counters.fault(Fault::CompletionIndex);
            return;
        };
        let ready = self.staged.len().min(room as usize);
        if ready < self.staged.len() {
            count(&mut self.counters.held_back);
        }
        if ready == 0 {
            return;
        }
        let mut index = producer;
        let mut number = first;
        for staged in self.staged.iter().take(ready) {
            rings.completions.write(memory, index, &staged.bytes);
            self.in_flight.mark_done(staged.slot, number);
            index = index.wrapping_add(1);
            number = number.saturating_add(1);
        }
        self.in_flight.publish(number);
        rings.store(memory, state::CMP_PROD, index);
        for staged in self.staged.drain(..ready) {
            self.in_flight.release(staged.slot);
        }
        self.counters.published = self.counters.published.wrapping_add(ready as u64);
        self.raise(interrupt::CMPL_0);
    }

    /// Tells the driver of a LUN. False: there is no message ring, or more waits than can; such a
    /// driver finds out when it looks by itself.
    pub fn post_message(&mut self, hotplug: Hotplug) -> bool {
        let (added, target, lun) = match hotplug {
            Hotplug::Added { target, lun } => (true, target, lun),
            Hotplug::Removed { target, lun } => (false, target, lun),
        };
        if self.control.messages.is_none() || self.control.waiting.len() >= MESSAGES_MAX {
            count(&mut self.counters.messages_lost);
            return false;
        }
        self.control.waiting.push_back(Message { added, target, lun });
        self.dirty = true;
        true
    }

    fn publish_messages(&mut self, memory: &Memory) {
        let Some(rings) = &self.rings else { return };
        let mut number = self.in_flight.messages();
        let mut index = number.wrapping_sub(self.control.messages_from) as u32;
        let unread = index.wrapping_sub(rings.load(state::MSG_CONS));
        let Some(room) = rings.messages.entries().checked_sub(unread) else {
            self.counters.fault(Fault::MessageIndex);
            return;
        };
        let ready = self.control.waiting.len().min(room as usize);
        if ready == 0 {
            return;
        }
        for told in self.control.waiting.iter().take(ready) {
            let kind = if told.added { message::DEV_ADDED } else { message::DEV_REMOVED };
            let mut bytes = [0; size::MESSAGE];
            put(&mut bytes, 0, &kind.to_le_bytes());
            // Bus 0 is in bytes 4 to 7.
            put(&mut bytes, 8, &u32::from(told.target).to_le_bytes());
            put(&mut bytes, 12, &Place::encode_lun(told.lun));
            rings.messages.write(memory, index, &bytes);
            index = index.wrapping_add(1);
            number = number.saturating_add(1);
        }
        self.in_flight.publish_messages(number);
        rings.store(memory, state::MSG_PROD, index);
        self.control.waiting.drain(..ready);
        self.control.next_message = number;
        self.dirty = true;
        self.counters.messages = self.counters.messages.wrapping_add(ready as u64);
        self.raise(interrupt::MSG_0);
    }

    /// The ring is polled from now on: a driver that asked for the threshold need not kick. The
    /// next sleep is preceded by [`Adapter::want_kicks`].
    pub fn forgo_kicks(&mut self, memory: &Memory) {
        self.set_threshold(memory, u32::MAX);
        self.hushed = true;
    }

    /// Kicks are wanted. Whoever goes to sleep looks at `has_work` after this, and once more at
    /// the deadline that this sets.
    pub fn want_kicks(&mut self, now: Instant, memory: &Memory) {
        // A driver kicks if that many requests are not taken: one.
        self.set_threshold(memory, 1);
        self.hushed = false;
        // The caller's look at the producer index may not come before this store.
        fence(Ordering::SeqCst);
        if self.control.threshold && self.rings.is_some() {
            let soon = now.after(SETTLE);
            self.retry = Some(self.retry.map_or(soon, |retry| retry.min(soon)));
        }
    }

    fn set_threshold(&self, memory: &Memory, threshold: u32) {
        if self.control.threshold
            && let Some(rings) = &self.rings
        {
            rings.store(memory, state::REQ_CALL_THRESHOLD, threshold);
        }
    }
}

/// Writes at a guest's address, over region borders. False: not all of it is memory.
pub(crate) fn write(memory: &Memory, address: Address, bytes: &[u8]) -> bool {
    if let Some(span) = memory.locate(address, bytes.len() as u32, &mut 0) {
        return memory.write(span, bytes).is_some();
    }
    let mut spans = alloc::vec::Vec::new();
    let mut pieces = Pieces { memory, hint: &mut 0, spans: &mut spans };
    pieces.add(address, bytes.len() as u64).is_ok() && memory.scatter(&spans, bytes) == bytes.len()
}
