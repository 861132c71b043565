//! A look at the socket of an emulated slot: what its messages do.

use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Duration;

use host::given::Given;
use host::wait::{Interest, Wait};
use host::{poll, socket};
use pci::PowerState;
use request::Instant;
use vfio_user::numbers::{
    DEVICE_FEATURE, DEVICE_GET_REGION_INFO, DMA_MAP, DMA_UNMAP, HEADER_LEN, MESSAGE_MAX, REGION_CONFIG,
    REGION_READ, REGION_ROM, REGION_WRITE_MULTI, REPLY_MAX,
};
use vfio_user::{Drain, Effect, Header, Write, writes_to};

use super::super::slot::FLOODED;
use super::ledger::REPLIES_MAX;
use super::slot::Slot;

/// Messages that are followed in one look before others have their turn.
const MESSAGES_MAX: usize = 128;
/// So much of the stream is looked at, unless its first message is longer.
const GLANCE: usize = 8 << 10;
/// A client gives a device up that does not answer for 5 s (QEMU's x-msg-timeout). A message that
/// waits for requests to end waits for so long at most.
const PATIENCE: Duration = Duration::from_secs(4);

/// What the lane has to do after a look.
#[derive(Debug, Default)]
pub struct After {
    /// Messages were followed: there may be work.
    pub followed: bool,
    /// The device was reset, or its machine.
    pub reset: bool,
    /// The client left.
    pub gone: bool,
}

/// When a message that waits since then waits no more.
pub fn overdue_at(since: Instant) -> Instant {
    since.after(PATIENCE)
}

/// What a look has led to so far.
#[derive(Default)]
struct Batch {
    handled: usize,
    messages: usize,
    session: bool,
    dropped: Vec<u32>,
}

impl Slot {
    /// Follows what lies in the socket, a bound of it at most. `buffer` is room for the bytes.
    pub fn on_link(&mut self, wait: &Wait, now: Instant, buffer: &mut Vec<u8>) -> After {
        let mut after = After::default();
        if self.abandoned || !self.link.is_connected() {
            return after;
        }
        match self.link.settle() {
            Ok(true) => {}
            Ok(false) => {
                self.listen_for(wait, Interest { read: false, write: true, edge: false });
                return after;
            }
            Err(_) => return self.gone(wait, "the socket failed"),
        }
        let mut glance = GLANCE;
        loop {
            let (len, fds) = match self.peek(buffer, glance) {
                Ok(None) => {
                    self.listen_for(wait, Interest::READ);
                    return after;
                }
                Ok(Some((0, _))) => return self.gone(wait, "the client disconnected"),
                Ok(Some(peeked)) => peeked,
                Err(_) => return self.gone(wait, "the socket failed"),
            };
            let batch = match self.follow_all(&buffer[..len], fds, wait, now, &mut after) {
                Ok(batch) => batch,
                Err(why) => return self.gone(wait, why),
            };
            if batch.handled == 0 {
                if self.held.is_some() {
                    self.listen_for(wait, Interest::NONE);
                    return after;
                }
                if len == glance && glance < MESSAGE_MAX {
                    glance = MESSAGE_MAX;
                    continue;
                }
                if self.link.stream.as_ref().is_some_and(|stream| poll::is_hung_up(stream.as_fd())) {
                    return self.gone(wait, "the client disconnected in the middle of a message");
                }
                // Told once for each piece that comes: half a message that is never finished would
                // keep the lane awake otherwise.
                self.listen_for(wait, Interest::READ_EDGE);
                return after;
            }
            return self.conclude(batch, wait, after);
        }
    }

    fn peek(&self, buffer: &mut Vec<u8>, len: usize) -> std::io::Result<Option<(usize, Vec<Given>)>> {
        let Some(stream) = &self.link.stream else { return Ok(None) };
        buffer.resize(MESSAGE_MAX, 0);
        socket::peek_stranger(stream.as_fd(), &mut buffer[..len])
    }

    /// The messages at the head of the stream, as far as they are there and may be followed.
    fn follow_all(
        &mut self,
        bytes: &[u8],
        fds: Vec<Given>,
        wait: &Wait,
        now: Instant,
        after: &mut After,
    ) -> Result<Batch, &'static str> {
        const NONSENSE: &str = "the client does not speak vfio-user";
        let mut batch = Batch::default();
        let discard = self.link.session.state.discard as usize;
        if discard > 0 {
            // The rest of a message that was refused for its length.
            batch.handled = discard.min(bytes.len());
            self.link.session.discarded(batch.handled);
            batch.session = true;
            return Ok(batch);
        }
        // The kernel ends a look behind a piece with descriptors, so they are of the last message that
        // begins here.
        let last = last_head(bytes);
        let mut fds = Some(fds);
        while batch.messages < MESSAGES_MAX {
            let at = batch.handled;
            let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk::<HEADER_LEN>()) else { break };
            let header = match Header::parse(head) {
                Ok(header) => header,
                // What came before it holds.
                Err(_) if batch.messages > 0 => break,
                Err(_) => return Err(NONSENSE),
            };
            let end = at + if header.is_oversize() { HEADER_LEN } else { header.message_len() };
            let Some(payload) = bytes.get(at + HEADER_LEN..end) else { break };
            if self.link.replies.len() + REPLY_MAX > REPLIES_MAX {
                break;
            }
            // Its reply may bring a descriptor, which has to go with the first byte of a batch's replies.
            let alone = header.command == DEVICE_GET_REGION_INFO && self.link.doorbells.is_some();
            if alone && batch.messages > 0 {
                break;
            }
            if !self.may_follow(&header, payload, now) {
                if batch.messages > 0 {
                    // It is the first of the next look, then.
                    self.held = None;
                }
                break;
            }
            let given = if at == last { fds.take().unwrap_or_default() } else { Vec::new() };
            self.follow(&header, payload, given, &mut batch, wait, now, after);
            batch.handled = end;
            batch.messages += 1;
            after.followed = true;
            if alone || self.link.session.state.discard > 0 {
                break;
            }
        }
        Ok(batch)
    }

    /// Whether nothing is under way that a message has to wait for.
    fn may_follow(&mut self, header: &Header, payload: &[u8], now: Instant) -> bool {
        let settled = match self.link.session.drain(header, payload) {
            Drain::Memory { address, size } => {
                // New requests do not see it from now on; those under way hold what they use. Nothing is
                // begun within a look, so that without any under way the map may change later.
                if !self.guest.is_unused(&self.memory) {
                    self.rebuild_memory(Some((address, size)));
                }
                self.guest.is_settled()
            }
            // A device whose state goes elsewhere leaves no order half-way.
            Drain::All if header.command == DEVICE_FEATURE => {
                self.outstanding == 0 && !self.model.is_settling()
            }
            Drain::All => self.outstanding == 0,
            Drain::Nothing if may_wake(self.config.power_state(), header, payload) => self.outstanding == 0,
            Drain::Nothing => header.command != REGION_READ || !self.model.is_settling(),
        };
        if settled {
            self.held = None;
            return true;
        }
        let since = *self.held.get_or_insert(now);
        if now < overdue_at(since) {
            return false;
        }
        // A store hangs. Its requests go on into memory that they hold, and the next of a row of
        // messages does not wait for them once more.
        self.counters.overdue += 1;
        self.held = None;
        self.guest.forget_retired();
        true
    }

    /// Whether a message waits that nothing new may be begun before.
    pub fn is_stopping(&self) -> bool {
        self.held.is_some() && !self.model.is_settling()
    }

    #[expect(clippy::too_many_arguments, reason = "one caller, which has all of them at hand")]
    fn follow(
        &mut self,
        header: &Header,
        payload: &[u8],
        fds: Vec<Given>,
        batch: &mut Batch,
        wait: &Wait,
        now: Instant,
        after: &mut After,
    ) {
        self.counters.messages += 1;
        if header.command != DMA_MAP && header.command != DMA_UNMAP {
            self.refresh_memory();
        }
        let mut replies = std::mem::take(&mut self.link.replies);
        let start = replies.len();
        let described = std::mem::take(&mut self.described);
        let outcome = self.link.session.follow(&described, header, payload, fds.len(), &mut replies);
        self.link.keep_fds(&outcome.kept, fds);
        if self.link.is_flooded() {
            self.link.expel(FLOODED);
        }
        if let Some(fault) = outcome.fault {
            self.counters.faults[fault as usize] += 1;
            tracing::debug!(
                slot = self.link.name,
                ?header,
                fault = fault.name(),
                "a message was not followed"
            );
        }
        if outcome.fault.is_some() && header.command == DMA_UNMAP {
            // It was taken out of sight before it was judged.
            self.guest.is_stale = true;
        }
        batch.session |= outcome.changed;
        batch.dropped.extend(outcome.dropped);
        match outcome.effect {
            Effect::Nothing | Effect::RegionDescriptor { .. } => {}
            Effect::Read { region, offset, into } => self.read(now, region, offset, into, &mut replies),
            Effect::Write(write) => after.reset |= self.write(now, write),
            Effect::Writes(writes) => {
                for write in writes {
                    after.reset |= self.write(now, write);
                }
            }
            // Its neighbours may change the map as well.
            Effect::Memory => self.guest.is_stale = true,
            Effect::Irqs { index, trigger } => {
                self.irqs.sync(&self.link, self.index, wait);
                self.sync_irq_mode();
                self.counters.interrupts += self.irqs.trigger(&mut self.link, index, trigger);
            }
            Effect::Reset => {
                self.power_on();
                after.reset = true;
            }
            Effect::Migrate { transition, incoming } => {
                self.migrate(transition, &incoming, header, start, &mut replies, now);
            }
            Effect::Saved { from, into } => {
                if let Some(into) = replies.get_mut(into) {
                    self.give_saved(from, into);
                }
            }
            Effect::LogStart => {
                if !self.start_log() {
                    self.link.session.log_refused(header, start, &mut replies);
                }
            }
            Effect::LogStop => self.stop_log(),
            Effect::LogReport { address, length, page_size, into } => {
                if let Some(into) = replies.get_mut(into) {
                    self.report_dirty(address, length, page_size, into);
                }
            }
        }
        self.described = described;
        self.link.replies = replies;
    }

    fn read(&mut self, now: Instant, region: u32, offset: u64, into: Range<usize>, replies: &mut [u8]) {
        self.counters.reads += 1;
        let Some(into) = replies.get_mut(into) else { return };
        match region {
            REGION_CONFIG => {
                if !self.quarantined {
                    self.irqs.collect(self.model.function_mut().interrupts());
                }
                self.config.set_intx_status(self.irqs.level);
                self.config.read(usize::try_from(offset).unwrap_or(usize::MAX), into);
            }
            REGION_ROM => pci::read_rom(&self.rom, offset, into),
            // Nothing drives the bus.
            _ if self.quarantined => into.fill(0xff),
            // One of the six BARs: nothing can be read of the only other region (VGA), which is empty.
            bar => self.model.function_mut().read(now, bar as u8, offset, into),
        }
    }

    /// True: the device has lost its state by it.
    fn write(&mut self, now: Instant, write: Write<'_>) -> bool {
        self.counters.writes += 1;
        match write.region {
            REGION_CONFIG => {
                let offset = usize::try_from(write.offset).unwrap_or(usize::MAX);
                let change = self.config.write(offset, write.data);
                self.config_dirty |= change.any;
                if change.reset && !self.quarantined {
                    self.model.function_mut().reset();
                }
                self.set_memory();
                self.sync_irq_mode();
                change.reset
            }
            REGION_ROM => false,
            bar => {
                // A device that rests for its state to be read takes no orders that would change it.
                if !self.quarantined && !self.is_stopped() {
                    self.model.function_mut().write(now, &self.memory, bar as u8, write.offset, write.data);
                }
                false
            }
        }
    }

    /// What was followed holds from here on.
    fn conclude(&mut self, batch: Batch, wait: &Wait, after: After) -> After {
        self.counters.looks += 1;
        self.refresh_memory();
        let state = self.changed_state();
        let session = batch.session | std::mem::take(&mut self.irqs.unsaved);
        self.link.commit(batch.handled, session, state.as_deref());
        self.link.release(&batch.dropped);
        let settled = self.link.settle();
        self.signal();
        match settled {
            Ok(true) => self.listen_for(wait, Interest::READ),
            Ok(false) => self.listen_for(wait, Interest { read: false, write: true, edge: false }),
            Err(_) => return self.gone(wait, "the socket failed"),
        }
        after
    }

    fn gone(&mut self, wait: &Wait, why: &str) -> After {
        tracing::info!(slot = self.link.name, why, "disconnected");
        self.disconnect(wait);
        After { gone: true, reset: true, followed: false }
    }
}

/// Whether a message may take the function from D3 to D0, which resets it: PCI Bus Power Management 1.2,
/// 5.4.1. Several writes of one message may lead to D3 and back.
fn may_wake(power: PowerState, header: &Header, payload: &[u8]) -> bool {
    (power == PowerState::D3 || header.command == REGION_WRITE_MULTI)
        && writes_to(header, payload, REGION_CONFIG)
}

/// Where the last message begins that begins in these bytes.
fn last_head(bytes: &[u8]) -> usize {
    let (mut at, mut last) = (0, 0);
    while let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk::<HEADER_LEN>()) {
        last = at;
        match Header::parse(head) {
            Ok(header) => at += header.message_len(),
            Err(_) => break,
        }
    }
    if at < bytes.len() { at } else { last }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vfio_user::numbers::REGION_WRITE;

    /// Requests that a function began before would write into its guest's memory after the reset.
    #[test]
    fn whoever_wakes_a_function_waits_for_its_requests() {
        let header = |command| Header { id: 1, command, size: 0, flags: 0, error: 0 };
        let one = |region: u32| {
            [&0x44u64.to_le_bytes()[..], &region.to_le_bytes(), &4u32.to_le_bytes(), &[0; 4]].concat()
        };
        let two = |regions: [u32; 2]| {
            let entry = |region| [&one(region)[..], &[0; 4]].concat();
            [&2u64.to_le_bytes()[..], &entry(regions[0]), &entry(regions[1])].concat()
        };
        let (write, multi) = (header(REGION_WRITE), header(REGION_WRITE_MULTI));
        assert!(may_wake(PowerState::D3, &write, &one(REGION_CONFIG)));
        assert!(!may_wake(PowerState::D3, &write, &one(0)));
        assert!(!may_wake(PowerState::D0, &write, &one(REGION_CONFIG)));
        assert!(!may_wake(PowerState::D3, &header(REGION_READ), &one(REGION_CONFIG)));
        assert!(may_wake(PowerState::D0, &multi, &two([0, REGION_CONFIG])));
        assert!(!may_wake(PowerState::D0, &multi, &two([0, 1])));
        assert!(!may_wake(PowerState::D3, &write, &[0; 11]));
        assert!(!may_wake(PowerState::D0, &multi, &[0; 7]));
    }

    #[test]
    fn descriptors_are_of_the_last_message_that_begins() {
        let message = |len: u32| {
            let header = Header { id: 1, command: 10, size: len, flags: 0, error: 0 };
            let mut bytes = header.encode().to_vec();
            bytes.resize(len as usize, 0);
            bytes
        };
        let two = [message(20), message(40)].concat();
        assert_eq!(last_head(&two), 20);
        assert_eq!(last_head(&two[..59]), 20);
        assert_eq!(last_head(&two[..25]), 20);
        assert_eq!(last_head(&two[..20]), 0);
        assert_eq!(last_head(&message(16)), 0);
    }
}
