//! The adapter: taking requests from the ring, and what a successor takes up.

use alloc::collections::VecDeque;

use guest_memory::{Memory, Window};
use pci::IrqMode;
use request::Instant;

use crate::bits::{interrupt, state};
use crate::config::Config;
use crate::control::{Control, Order, Task};
use crate::fault::{Counters, Fault, count};
use crate::inflight::{Fate, InFlight, Stage};
use crate::publish::Staged;
use crate::request::{Answer, Command, KEPT};
use crate::rings::Rings;

/// What came of asking for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The command is filled, and its owner ends it.
    Command,
    /// There was a request, and it has ended already; `publish` is due.
    Ended,
    Empty,
}

/// One PVSCSI adapter.
pub struct Adapter {
    pub(crate) config: Config,
    pub(crate) control: Control,
    pub(crate) dirty: bool,
    pub(crate) in_flight: InFlight,
    pub(crate) rings: Option<Rings>,
    /// The driver's indices have to be brought to the counts once the rings are there.
    pub(crate) redo: bool,
    pub(crate) staged: VecDeque<Staged>,
    pub(crate) condemned: usize,
    pub(crate) mode: IrqMode,
    pub(crate) vectors: u32,
    pub(crate) retry: Option<Instant>,
    /// The producer index that was too far ahead, so that it is counted once.
    pub(crate) bad_producer: Option<u32>,
    pub(crate) counters: Counters,
    /// Kicks are stores to memory, and nobody is told.
    pub(crate) kicks_shared: bool,
    /// The driver was told that it need not kick.
    pub(crate) hushed: bool,
    /// The memory region that was hit last.
    hint: u32,
}

/// A name for a command that no other has: its count and its slot.
pub(crate) fn name(serial: u64, slot: u16) -> u64 {
    serial.wrapping_shl(16) | u64::from(slot)
}

impl Adapter {
    /// `hot` has [`crate::HOT_BYTES`] bytes, and is zeroed for an adapter that is new.
    pub fn new(config: Config, hot: Window) -> Adapter {
        let in_flight = InFlight::new(hot);
        let control = Control::new(in_flight.taken(), in_flight.published(), in_flight.messages());
        Adapter {
            config,
            control,
            dirty: false,
            in_flight,
            rings: None,
            redo: false,
            staged: VecDeque::new(),
            condemned: 0,
            mode: IrqMode::Off,
            vectors: 0,
            retry: None,
            bad_producer: None,
            counters: Counters::default(),
            kicks_shared: false,
            hushed: false,
            hint: 0,
        }
    }

    /// The slot has other devices now. The driver hears of it by messages.
    pub fn change(&mut self, config: Config) {
        self.config = config;
    }

    pub fn statistics(&self) -> &Counters {
        &self.counters
    }

    /// Index in the request ring of the next request.
    pub(crate) fn consumer(&self) -> u32 {
        self.in_flight.taken().wrapping_sub(self.control.taken_from) as u32
    }

    /// Requests that the driver posted and that were not taken. An index that is further ahead than
    /// the ring is long says nothing.
    pub(crate) fn posted(&self) -> u32 {
        let Some(rings) = &self.rings else { return 0 };
        let posted = rings.load(state::REQ_PROD).wrapping_sub(self.consumer());
        if posted > rings.requests.entries() { 0 } else { posted }
    }

    /// Those of them that come before the next order.
    fn ahead(&self) -> u32 {
        let posted = self.posted();
        match self.control.orders.front() {
            Some(order) => {
                let before = order.after.saturating_sub(self.in_flight.taken());
                posted.min(u32::try_from(before).unwrap_or(u32::MAX))
            }
            None => posted,
        }
    }

    /// The turn of an order has come: what was posted before it is taken, or taken back.
    pub(crate) fn is_due(&self, order: &Order) -> bool {
        order.after <= self.in_flight.taken() || self.posted() == 0
    }

    /// There is a request to take, or an order.
    #[inline]
    pub fn has_work(&self) -> bool {
        !self.in_flight.resumed.is_empty()
            || (self.ahead() != 0 && !self.in_flight.is_full())
            || self.control.orders.front().is_some_and(|order| self.is_due(order))
    }

    /// An abort or a reset is not through: its order waits, or commands that it ends are still
    /// running. A driver that reads a register after its order may take the reply for the end of
    /// it, so that the reply is better held until this is false.
    pub fn settling(&self) -> bool {
        self.condemned != 0 || !self.control.orders.is_empty()
    }

    /// No command is under way and no order waits: of the hot state only the
    /// [head](crate::HOT_AT_REST) counts.
    pub fn is_at_rest(&self) -> bool {
        !self.settling() && self.in_flight.slots.iter().all(|slot| slot.stage == Stage::Free)
    }

    /// Takes the next request. It is noted in the hot state before the driver can see that it was
    /// taken.
    pub fn next(&mut self, memory: &Memory, into: &mut Command) -> Taken {
        if self.ahead() == 0 {
            self.note_producer();
            return Taken::Empty;
        }
        let Some(slot) = self.in_flight.allocate() else { return Taken::Empty };
        let index = self.consumer();
        let mut bytes = [0; KEPT];
        let Some(rings) = &self.rings else { return Taken::Empty };
        rings.requests.read(index, &mut bytes);
        let descriptor = crate::request::Descriptor::decode(&bytes);
        let serial = self.in_flight.begin(slot, &bytes, &descriptor);
        rings.store(memory, state::REQ_CONS, index.wrapping_add(1));
        count(&mut self.counters.taken);
        self.hand_out(memory, slot, serial, &descriptor, false, into)
    }

    /// Commands that a dead worker had begun, in the order in which it took them. Those come first.
    pub fn next_resumed(&mut self, memory: &Memory, into: &mut Command) -> Taken {
        while let Some(slot) = self.in_flight.resumed.pop() {
            let known = self.in_flight.slot(slot);
            if known.stage != Stage::Resumed {
                continue;
            }
            let (_, descriptor) = self.in_flight.descriptor(slot);
            self.in_flight.set_stage(slot, Stage::Running);
            count(&mut self.counters.resumed);
            return self.hand_out(memory, slot, known.serial, &descriptor, true, into);
        }
        Taken::Empty
    }

    fn hand_out(
        &mut self,
        memory: &Memory,
        slot: u16,
        serial: u64,
        descriptor: &crate::request::Descriptor,
        resumed: bool,
        into: &mut Command,
    ) -> Taken {
        into.id = name(serial, slot);
        into.resumed = resumed;
        match descriptor.parse(memory, &mut self.hint, into) {
            Ok(()) => {
                self.in_flight.set_offered(slot, into.offered);
                Taken::Command
            }
            Err((fault, host_status)) => {
                self.counters.fault(fault);
                count(&mut self.counters.refused);
                self.stage(memory, slot, &Answer::failure(host_status));
                Taken::Ended
            }
        }
    }

    /// Counts an index that jumped, once for each value.
    fn note_producer(&mut self) {
        let Some(rings) = &self.rings else { return };
        let producer = rings.load(state::REQ_PROD);
        let ahead = producer.wrapping_sub(self.consumer());
        if ahead > rings.requests.entries() && self.bad_producer != Some(producer) {
            self.bad_producer = Some(producer);
            self.counters.fault(Fault::RequestIndex);
        }
    }

    /// Looks the rings up in this memory.
    pub(crate) fn attach(&mut self, memory: &Memory) {
        let messages = self.control.messages.as_ref();
        self.rings = self.control.rings.as_ref().and_then(|setup| Rings::new(memory, setup, messages));
        let Some(rings) = &self.rings else { return };
        if !core::mem::take(&mut self.redo) {
            return;
        }
        // A predecessor died between a count and the driver's index, or did not.
        let taken = self.in_flight.taken().wrapping_sub(self.control.taken_from) as u32;
        let published = self.in_flight.published().wrapping_sub(self.control.published_from) as u32;
        let messages = self.in_flight.messages().wrapping_sub(self.control.messages_from) as u32;
        for (field, value, entries) in [
            (state::REQ_CONS, taken, 1),
            (state::CMP_PROD, published, rings.completions.entries()),
            (state::MSG_PROD, messages, rings.messages.entries()),
        ] {
            let behind = value.wrapping_sub(rings.load(field));
            if behind != 0 && behind <= entries {
                rings.store(memory, field, value);
            }
        }
    }

    /// The rings are gone, and with them the answers to what came by them. True: commands are still
    /// running.
    pub(crate) fn drop_rings(&mut self) -> bool {
        let mut orphans = false;
        self.rings = None;
        self.redo = false;
        self.staged.clear();
        self.retry = None;
        self.bad_producer = None;
        self.in_flight.resumed.clear();
        for number in 0..self.in_flight.slots.len() {
            // Below COMMANDS_MAX.
            let slot = number as u16;
            let known = self.in_flight.slot(slot);
            match known.stage {
                Stage::Free | Stage::Orphan => {}
                Stage::Running => {
                    if known.fate == Fate::None {
                        self.condemned = self.condemned.saturating_add(1);
                    }
                    self.in_flight.set_stage(slot, Stage::Orphan);
                    orphans = true;
                }
                Stage::Resumed => {
                    count(&mut self.counters.ended_by_reset);
                    self.in_flight.release(slot);
                }
                // It is counted as what it was going to say.
                Stage::Ended => self.in_flight.release(slot),
            }
        }
        self.control.rings = None;
        self.control.messages = None;
        self.control.threshold = false;
        self.control.taken_from = self.in_flight.taken();
        self.control.published_from = self.in_flight.published();
        self.control.messages_from = self.in_flight.messages();
        self.control.next_message = self.in_flight.messages();
        self.control.waiting.clear();
        self.control.orders.retain(|order| order.task == Task::ResetAdapter);
        self.dirty = true;
        orphans
    }

    /// ADAPTER_RESET, and resets of the function.
    pub(crate) fn reset_adapter(&mut self) {
        self.drop_rings();
        self.control.intr_status = 0;
        self.control.intr_mask = 0;
        self.vectors = 0;
        self.order_reset();
    }

    /// Whoever runs commands is to end all of them; asking once is enough.
    pub(crate) fn order_reset(&mut self) {
        if self.control.orders.is_empty() {
            let after = self.in_flight.taken();
            self.control.orders.push_back(Order { task: Task::ResetAdapter, after });
        }
    }

    /// Those whose rings are gone need not be completed any more.
    pub(crate) fn forget_orphans(&mut self) {
        for number in 0..self.in_flight.slots.len() {
            // Below COMMANDS_MAX.
            let slot = number as u16;
            if self.in_flight.slot(slot).stage == Stage::Orphan {
                count(&mut self.counters.ended_by_reset);
                self.in_flight.release(slot);
            }
        }
        self.condemned = 0;
    }

    pub(crate) fn raise(&mut self, causes: u32) {
        self.control.intr_status |= causes;
        if self.control.intr_mask & causes & interrupt::ALL != 0 {
            count(&mut self.counters.interrupts);
            if matches!(self.mode, IrqMode::Msi | IrqMode::MsiX) {
                self.vectors |= 1;
            }
        }
    }
}
