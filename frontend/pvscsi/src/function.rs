//! The adapter as a PCI function.

use alloc::vec::Vec;

use guest_memory::{Memory, Window};
use pci::{Bar, Bars, Cap, Doorbells, Function, Interrupts, IrqMode, Lasting, Layout, Pages, Signals};
use request::Instant;

use crate::adapter::Adapter;
use crate::bits::{bar, interrupt, register};
use crate::bytes::le32;
use crate::control::Control;
use crate::fault::{Fault, count};
use crate::inflight::{Fate, Stage};
use crate::request::Answer;

/// The pages of the kicks, with DEBUG, which does nothing: they may be given to the guest as memory.
pub const DOORBELLS: Pages = Pages { bar: 0, offset: 0x3000, bytes: 0x2000 };

/// As VMware's, but for BAR0: there it is an I/O window, and memory is BAR1. SeaBIOS and OVMF take
/// BAR0 for the memory; other drivers take the first memory BAR that is large enough.
const LAYOUT: Layout = Layout {
    vendor: 0x15ad,
    device: 0x07c0,
    revision: 2,
    // Mass storage, Serial Attached SCSI.
    class: [0x01, 0x07, 0x00],
    subsystem_vendor: 0x15ad,
    subsystem: 0x07c0,
    interrupt_pin: 1,
    min_grant: 0,
    max_latency: 0,
    bars: [
        Bar::Memory32 { bytes: bar::BYTES, prefetchable: false },
        Bar::None,
        Bar::None,
        Bar::None,
        Bar::None,
        Bar::None,
    ],
    caps: &[
        (0x40, Cap::PowerManagement { d1: false, d2: false, pme: 0 }),
        (0x84, Cap::Msi { vectors: 1, addr64: true, maskable: false }),
        (
            0x9c,
            Cap::MsiX {
                vectors: bar::MSIX_VECTORS,
                table_bar: 0,
                table_offset: bar::MSIX_TABLE,
                pba_bar: 0,
                pba_offset: bar::MSIX_PBA,
            },
        ),
    ],
};

impl Adapter {
    fn register(&self, at: u64) -> u32 {
        match at {
            register::COMMAND_STATUS => self.control.status,
            register::INTR_STATUS => self.control.intr_status,
            register::INTR_MASK => self.control.intr_mask,
            // The others are for writing, or unknown (LAST_STS).
            _ => 0,
        }
    }

    fn set_register(&mut self, memory: &Memory, at: u64, value: u32) {
        match at {
            register::COMMAND => self.begin_command(memory, value),
            register::COMMAND_DATA => self.add_command_data(memory, value),
            register::INTR_STATUS => {
                self.control.intr_status &= !value;
                self.dirty = true;
            }
            register::INTR_MASK => {
                self.control.intr_mask = value & interrupt::ALL;
                self.dirty = true;
                self.signal_pending();
            }
            register::KICK_NON_RW_IO | register::KICK_RW_IO => count(&mut self.counters.kicks),
            _ => {}
        }
    }

    /// Causes that became due otherwise than by being raised.
    fn signal_pending(&mut self) {
        if self.control.intr_status & self.control.intr_mask != 0
            && matches!(self.mode, IrqMode::Msi | IrqMode::MsiX)
        {
            self.vectors |= 1;
        }
    }
}

impl Bars for Adapter {
    fn layout(&self) -> &Layout {
        &LAYOUT
    }

    /// Registers have 32 bits; a part of one is read from it.
    fn read(&mut self, _now: Instant, bar: u8, offset: u64, into: &mut [u8]) {
        into.fill(0);
        if bar != 0 {
            return;
        }
        for (index, byte) in into.iter_mut().enumerate() {
            let at = offset.saturating_add(index as u64);
            let value = self.register(at & !3).to_le_bytes();
            *byte = value.get((at & 3) as usize).copied().unwrap_or(0);
        }
    }

    /// Only whole registers are written. More than one word goes to registers that follow one
    /// another.
    fn write(&mut self, _now: Instant, memory: &Memory, bar: u8, offset: u64, bytes: &[u8]) {
        if bar != 0 || !offset.is_multiple_of(4) {
            return;
        }
        for (index, word) in bytes.chunks_exact(4).enumerate() {
            let at = offset.saturating_add((index as u64).saturating_mul(4));
            self.set_register(memory, at, le32(word, 0));
        }
    }

    /// Commands that are running are forgotten at once: whoever resets the function, or loses its
    /// guest, waits for its own.
    fn reset(&mut self) {
        self.reset_adapter();
        self.forget_orphans();
        self.control.command = 0;
        self.control.words.clear();
        self.control.status = 0;
    }
}

impl Signals for Adapter {
    fn set_irq_mode(&mut self, mode: IrqMode) {
        if self.mode != mode {
            self.mode = mode;
            self.vectors = 0;
            self.signal_pending();
        }
    }

    fn interrupts(&mut self) -> Interrupts {
        let level = self.control.intr_status & self.control.intr_mask != 0;
        Interrupts { level, vectors: core::mem::take(&mut self.vectors) }
    }

    fn deadline(&self) -> Option<Instant> {
        self.retry
    }

    fn expire(&mut self, now: Instant, memory: &Memory) {
        if self.retry.is_some_and(|retry| retry <= now) {
            self.publish(now, memory);
        }
    }
}

/// What is written to the pages says nothing that the rings do not say.
impl Doorbells for Adapter {
    fn pages(&self) -> Option<Pages> {
        Some(DOORBELLS)
    }

    fn share(&mut self, pages: Option<Window>) {
        self.kicks_shared = pages.is_some();
    }

    fn gather(&mut self) {}

    fn spread(&mut self) {}

    fn look(&mut self, _now: Instant) -> bool {
        false
    }

    fn is_silent(&self) -> bool {
        self.kicks_shared && self.rings.is_some()
    }

    fn is_hushed(&self) -> bool {
        self.hushed && self.rings.is_some() && self.control.threshold
    }
}

impl Lasting for Adapter {
    fn state(&self) -> Vec<u8> {
        self.control.encode()
    }

    fn restore(&mut self, bytes: &[u8]) {
        let (taken, published) = (self.in_flight.taken(), self.in_flight.published());
        let messages = self.in_flight.messages();
        // Counts that are ahead of the hot state are not of it.
        let control = Control::decode(bytes).filter(|control| {
            control.taken_from <= taken
                && control.published_from <= published
                && control.messages_from <= messages
        });
        self.control = control.unwrap_or_else(|| Control::new(taken, published, messages));
        // Messages that went out after the state was kept.
        while self.control.next_message < messages && self.control.waiting.pop_front().is_some() {
            self.control.next_message = self.control.next_message.saturating_add(1);
        }
        self.control.next_message = messages;
    }

    fn take_dirty(&mut self) -> bool {
        core::mem::take(&mut self.dirty)
    }

    fn resume(&mut self, memory: &Memory) {
        self.staged.clear();
        self.in_flight.resume(self.control.taken_from);
        self.redo = true;
        self.attach(memory);
        // Those that were told to end before do not run again.
        for number in 0..self.in_flight.slots.len() {
            // Below COMMANDS_MAX.
            let slot = number as u16;
            let known = self.in_flight.slot(slot);
            if known.stage == Stage::Resumed && known.fate != Fate::None {
                count(&mut self.counters.aborted);
                self.stage(memory, slot, &Answer::Aborted);
            }
        }
        if self.control.rings.is_some() {
            self.raise(interrupt::CMPL_0);
        }
        if self.control.messages.is_some() {
            self.raise(interrupt::MSG_0);
        }
    }
}

impl Function for Adapter {
    fn memory_changed(&mut self, memory: &Memory) {
        self.attach(memory);
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = &self.counters;
        let mut all = alloc::vec![
            ("taken", counters.taken),
            ("resumed", counters.resumed),
            ("published", counters.published),
            ("completed", counters.completed),
            ("refused", counters.refused),
            ("aborted", counters.aborted),
            ("ended_by_reset", counters.ended_by_reset),
            ("kicks", counters.kicks),
            ("interrupts", counters.interrupts),
            ("held_back", counters.held_back),
            ("ring_messages", counters.messages),
            ("ring_messages_lost", counters.messages_lost),
        ];
        let faults = Fault::ALL.iter().zip(counters.faults);
        all.extend(faults.map(|(fault, count)| (fault.name(), count)));
        all
    }
}
