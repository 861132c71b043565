//! The commands of the command register, and the orders that come of some.

use guest_memory::Memory;
use request::Address;

use crate::adapter::{Adapter, name};
use crate::bits::{TARGETS_MAX, command, size, state, words};
use crate::config;
use crate::control::{ORDERS_MAX, Order, Task, words_of};
use crate::fault::{Fault, count};
use crate::inflight::{Fate, Stage};
use crate::place::Place;
use crate::publish::write;
use crate::request::Answer;
use crate::rings::{Pages, Rings, Setup};

/// What the driver ordered. Commands that it ends are completed with [`Answer::Aborted`], or as
/// they end by themselves meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Management {
    /// End the command of this name.
    Abort { id: u64 },
    /// Reset one logical unit; this adapter's commands there end.
    ResetDevice { place: Place },
    /// Reset every logical unit; all commands of this adapter end.
    ResetBus,
    /// All commands of this adapter end, and the driver will hear of none of them.
    ResetAdapter,
    /// The guest wants to be rid of a LUN. To be answered with [`Adapter::answer_unplug`].
    Unplug { place: Place, reply: Address },
}

impl Adapter {
    /// COMMAND.
    pub(crate) fn begin_command(&mut self, memory: &Memory, number: u32) {
        self.dirty = true;
        self.control.words.clear();
        self.control.command = 0;
        match words_of(number) {
            None => {
                self.counters.fault(Fault::UnknownCommand);
                self.control.status = command::FAILED;
            }
            Some(0) => self.control.status = self.carry_out(memory, number),
            // "If it's supported the status register returns the size of the descriptor in words."
            Some(words) => {
                self.control.command = number;
                self.control.status = words as u32;
            }
        }
    }

    /// COMMAND_DATA.
    pub(crate) fn add_command_data(&mut self, memory: &Memory, word: u32) {
        let number = self.control.command;
        let Some(wanted) = words_of(number) else { return };
        self.dirty = true;
        self.control.words.push(word);
        if self.control.words.len() >= wanted {
            self.control.command = 0;
            self.control.status = self.carry_out(memory, number);
            self.control.words.clear();
        }
    }

    fn word(&self, at: usize) -> u32 {
        self.control.words.get(at).copied().unwrap_or(0)
    }

    fn long(&self, at: usize) -> u64 {
        u64::from(self.word(at)) | u64::from(self.word(at.saturating_add(1))).wrapping_shl(32)
    }

    fn lun(&self, at: usize) -> [u8; 8] {
        self.long(at).to_le_bytes()
    }

    fn pages(&self, count: u32, at: usize) -> Pages {
        let mut pages = Pages { count, ..Pages::default() };
        for (index, number) in pages.numbers.iter_mut().enumerate().take(count as usize) {
            *number = self.long(at.saturating_add(index.saturating_mul(2)));
        }
        pages
    }

    fn fail(&mut self, fault: Fault) -> u32 {
        self.counters.fault(fault);
        command::FAILED
    }

    /// Returns the command status.
    fn carry_out(&mut self, memory: &Memory, number: u32) -> u32 {
        match number {
            command::ADAPTER_RESET => {
                self.reset_adapter();
                command::SUCCEEDED
            }
            command::SETUP_RINGS => self.setup_rings(memory),
            command::SETUP_MSG_RING => self.setup_messages(memory),
            command::SETUP_REQCALLTHRESHOLD => {
                self.control.threshold = self.word(0) != 0 && self.rings.is_some();
                if let Some(rings) = &self.rings {
                    rings.store(memory, state::REQ_CALL_THRESHOLD, u32::from(self.control.threshold));
                }
                u32::from(self.control.threshold)
            }
            command::GET_MAX_TARGETS => u32::from(TARGETS_MAX),
            command::CONFIG => {
                let page = config::page(&self.config, self.word(4), self.long(2));
                match write(memory, Address(self.long(0)), &page) {
                    true => command::SUCCEEDED,
                    false => self.fail(Fault::BadCommandData),
                }
            }
            command::RESET_BUS => self.order(Task::ResetBus),
            command::RESET_DEVICE => match (u8::try_from(self.word(0)), self.lun(1)) {
                (Ok(target), lun) if Place::decode(target, lun).is_some() => {
                    self.order(Task::ResetDevice { target, lun })
                }
                _ => self.fail(Fault::BadCommandData),
            },
            command::ABORT_CMD => match u8::try_from(self.word(2)) {
                Ok(target) => self.order(Task::Abort { context: self.long(0), target }),
                Err(_) => self.fail(Fault::BadCommandData),
            },
            command::DEVICE_UNPLUG => match (self.word(2), u8::try_from(self.word(3)), self.lun(4)) {
                (0, Ok(target), lun) if Place::decode(target, lun).is_some() => {
                    self.order(Task::Unplug { target, lun, reply: self.long(0) })
                }
                _ => self.fail(Fault::BadCommandData),
            },
            _ => self.fail(Fault::UnknownCommand),
        }
    }

    fn setup_rings(&mut self, memory: &Memory) -> u32 {
        let (requests, completions) = (self.word(0), self.word(1));
        let setup = Setup {
            state: self.long(2),
            requests: self.pages(requests, 4),
            completions: self.pages(completions, 4_usize.saturating_add(size::RING_PAGES_MAX * 2)),
        };
        let sound =
            setup.requests.is_sound(size::RING_PAGES_MAX) && setup.completions.is_sound(size::RING_PAGES_MAX);
        let rings = if sound { Rings::new(memory, &setup, None) } else { None };
        let Some(rings) = rings else { return self.fail(Fault::BadRings) };
        if self.drop_rings() {
            self.order_reset();
        }
        rings.announce(memory);
        self.rings = Some(rings);
        self.control.rings = Some(setup);
        command::SUCCEEDED
    }

    /// Without rings it does nothing, and says what it says with them.
    fn setup_messages(&mut self, memory: &Memory) -> u32 {
        let Some(setup) = &self.control.rings else { return words::SETUP_MSG_RING as u32 };
        let pages = self.pages(self.word(0), 2);
        let sound = pages.is_sound(size::MESSAGE_PAGES_MAX);
        let rings = if sound { Rings::new(memory, setup, Some(&pages)) } else { None };
        let Some(rings) = rings else { return self.fail(Fault::BadRings) };
        rings.announce_messages(memory);
        self.rings = Some(rings);
        self.control.messages = Some(pages);
        self.control.messages_from = self.in_flight.messages();
        self.control.next_message = self.in_flight.messages();
        self.control.waiting.clear();
        words::SETUP_MSG_RING as u32
    }

    /// An order waits until the requests that were posted before it are taken: drivers abort what
    /// they have just posted.
    fn order(&mut self, task: Task) -> u32 {
        if self.control.orders.len() >= ORDERS_MAX {
            return self.fail(Fault::TooManyOrders);
        }
        let after = self.in_flight.taken().saturating_add(u64::from(self.posted()));
        self.control.orders.push_back(Order { task, after });
        command::SUCCEEDED
    }

    /// The next order whose turn has come, after `next` has given all that was posted before it.
    /// What it ends is noted in the hot state, so that a successor does not run it. Whoever carried
    /// it out keeps what came of it first, and then the control state: an order may come again after a
    /// death, and may not be lost.
    pub fn take_task_management(&mut self, memory: &Memory) -> Option<Management> {
        while let Some(order) = self.control.orders.front().copied() {
            if !self.is_due(&order) {
                return None;
            }
            let found = match order.task {
                Task::Abort { context, target } => {
                    let id = self.condemn(memory, Fate::Abort, order.after, |slot| {
                        slot.context == context && slot.target == target
                    });
                    id.map(|id| Management::Abort { id })
                }
                Task::ResetDevice { target, lun } => Place::decode(target, lun).map(|place| {
                    self.condemn(memory, Fate::Reset, order.after, |slot| {
                        Place::decode(slot.target, slot.lun) == Some(place)
                    });
                    Management::ResetDevice { place }
                }),
                Task::ResetBus => {
                    self.condemn(memory, Fate::Reset, order.after, |_| true);
                    Some(Management::ResetBus)
                }
                Task::ResetAdapter => Some(Management::ResetAdapter),
                Task::Unplug { target, lun, reply } => Place::decode(target, lun)
                    .map(|place| Management::Unplug { place, reply: Address(reply) }),
            };
            self.control.orders.pop_front();
            self.dirty = true;
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Marks the commands that an order ends. Those that a predecessor had begun and that were not
    /// given out again end here. What was posted after the order is not meant: a successor may find
    /// an order again that was carried out. Returns the last one that is running.
    fn condemn(
        &mut self,
        memory: &Memory,
        fate: Fate,
        after: u64,
        meant: impl Fn(&crate::inflight::Slot) -> bool,
    ) -> Option<u64> {
        let mut found = None;
        for number in 0..self.in_flight.slots.len() {
            // Below COMMANDS_MAX.
            let slot = number as u16;
            let known = self.in_flight.slot(slot);
            let alive = matches!(known.stage, Stage::Running | Stage::Resumed);
            if !alive || known.serial > after || !meant(&known) {
                continue;
            }
            self.in_flight.condemn(slot, fate);
            if known.stage == Stage::Resumed {
                count(&mut self.counters.aborted);
                self.stage(memory, slot, &Answer::Aborted);
                continue;
            }
            if known.fate == Fate::None {
                self.condemned = self.condemned.saturating_add(1);
            }
            found = Some(name(known.serial, slot));
        }
        found
    }

    /// Whether a LUN that the guest wanted to be rid of is gone: one of
    /// [`crate::bits::host_status`].
    pub fn answer_unplug(&mut self, memory: &Memory, reply: Address, host_status: u16) {
        if !write(memory, reply, &host_status.to_le_bytes()) {
            self.counters.fault(Fault::BadCommandData);
        }
    }
}
