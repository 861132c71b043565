//! The adapter: its parts, and what a transport and a mover of frames ask of it.

use alloc::vec::Vec;
use core::time::Duration;

use frame::{Body, Drop, Frame, HEADER_MAX, Nic, Posted, Refused, Taken};
use guest_memory::{Memory, Window};
use pci::{Bars, Doorbells, Function, Interrupts, IrqMode, Lasting, Layout, Pages, Signals};
use request::{CHECKSUM_NONE, Gso, Instant, Rewrite};

use crate::arrival::{Arrival, Front, Scratch};
use crate::config::{BAR_REGISTERS, Config};
use crate::eeprom::Eeprom;
use crate::interrupt::{self, Causes, Rules};
use crate::phy::Phy;
use crate::receive::{self, Receive};
use crate::registers::{self as r, Registers};
use crate::ring::Ring;
use crate::rss;
use crate::split;
use crate::statistics;
use crate::transmit::{self, CONTEXTS_BYTES, Step, Transmit};

/// Bytes of hot state: four rings, causes and masks, transmit contexts of two queues, two notes.
pub const HOT_BYTES: usize = 256;

const RX_AT: [usize; 2] = [0, 8];
const TX_AT: [usize; 2] = [16, 24];
const CAUSES_AT: usize = 32;
const CONTEXTS_AT: [usize; 2] = [64, 64 + CONTEXTS_BYTES];

const NOTES_AT: [usize; 2] = [192, 200];

/// Queues each way that any member has.
pub(crate) const QUEUES: usize = 2;

/// Frames that come back in one call when the adapter is looped back.
const LOOPED_MAX: usize = 64;

/// Granularity of ITR and EITR, and of the delay timers (8254x SDM, 13.4.18, 13.4.30).
const ITR_NANOS: u64 = 256;
const DELAY_NANOS: u64 = 1_024;

// TCTL, RCTL, CTRL.
const TCTL_EN: u32 = 1 << 1;
const LOOPBACK_MODE: u32 = 3 << 6;
pub(crate) const CTRL_SLU: u32 = 1 << 6;
const CTRL_VME: u32 = 1 << 30;

/// Ends of frames, and misfortunes, for the operator.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub frames_out: u64,
    pub bytes_out: u64,
    pub frames_in: u64,
    pub bytes_in: u64,
    pub looped_back: u64,
    pub link_down: u64,
    pub rings_not_in_memory: u64,
    pub drops: [u64; Drop::COUNT],
    pub refused: [u64; Refused::COUNT],
    pub resets: u64,
}

/// An adapter of the E1000 family.
#[derive(Debug)]
pub struct E1000 {
    pub(crate) config: Config,
    pub(crate) registers: Registers,
    pub(crate) eeprom: Eeprom,
    pub(crate) phy: Phy,
    pub(crate) causes: Causes,
    pub(crate) rx: [Receive; QUEUES],
    pub(crate) tx: [Transmit; QUEUES],
    pub(crate) settings: receive::Settings,
    pub(crate) dirty: bool,
    /// The address behind the I/O BAR's window.
    pub(crate) io_address: u32,
    /// The link of the slot.
    pub(crate) uplink: bool,
    /// Interrupts that delay timers hold back.
    rx_timer: Option<Instant>,
    rx_limit: Option<Instant>,
    tx_timer: Option<Instant>,
    tx_limit: Option<Instant>,
    /// Causes that the timers raise, beside RXT0 and TXDW.
    rx_held: u32,
    tx_held: u32,
    /// A frame that comes back.
    looped: Posted,
    /// First bytes of a frame that is changed on its way in.
    scratch: Scratch,
    pub(crate) counters: Counters,
}

impl E1000 {
    /// An adapter as after power on, with the ring positions that are in `hot` ([`HOT_BYTES`],
    /// zeroed when new).
    pub fn new(config: Config, hot: Window) -> E1000 {
        let rx = |nth: usize| Receive::new(Ring::new(hot.clone(), RX_AT[nth]), NOTES_AT[nth]);
        let tx = |nth: usize| Transmit::new(hot.clone(), TX_AT[nth], CONTEXTS_AT[nth]);
        let mut nic = E1000 {
            registers: Registers::new(),
            eeprom: Eeprom::new(config.model, config.mac),
            phy: Phy::new(config.model),
            causes: Causes::new(hot.clone(), CAUSES_AT, config.model.is_82574()),
            rx: [rx(0), rx(1)],
            tx: [tx(0), tx(1)],
            settings: receive::Settings::default(),
            dirty: true,
            io_address: 0,
            uplink: true,
            rx_timer: None,
            rx_limit: None,
            tx_timer: None,
            tx_limit: None,
            rx_held: 0,
            tx_held: 0,
            looped: Posted::default(),
            scratch: [0; HEADER_MAX + 8],
            counters: Counters::default(),
            config,
        };
        nic.load_defaults();
        nic.apply_all();
        nic
    }

    /// Register values that depend on the model or come from the EEPROM.
    pub(crate) fn load_defaults(&mut self) {
        let new = self.config.model.is_82574();
        self.registers = Registers::new();
        let [a, b, c, d, e, f] = self.eeprom.mac();
        self.registers[r::RA] = u32::from_le_bytes([a, b, c, d]);
        self.registers[r::RA + 1] = 1 << 31 | u32::from(u16::from_le_bytes([e, f]));
        // Full duplex, 1,000 Mb/s, and a reserved bit that is 1 (13.4.1).
        self.registers[r::CTRL] = if new { 0x0010_0209 } else { 0x0000_0209 };
        if new {
            // Where the 82574 differs (10.2).
            self.registers[r::EERD] = 2;
            self.registers[r::TIPG] = 0x0060_2008;
            self.registers[r::LEDCTL] = 0x0006_8302;
            self.registers[r::PBA] = 0x0014_0014;
            self.registers[r::PBS] = 0x28;
            self.registers[r::RXCSUM] = 0x300;
        }
    }

    /// Everything that is worked out from registers, anew.
    pub(crate) fn apply_all(&mut self) {
        self.apply_receive();
        self.apply_interrupts();
        for queue in 0..QUEUES {
            self.apply_receive_ring(queue);
            self.apply_transmit_ring(queue);
        }
        self.registers[r::STATUS] = self.status();
    }

    pub(crate) fn apply_receive(&mut self) {
        self.settings = receive::Settings::new(&self.registers, self.config.model.is_82574());
    }

    pub(crate) fn apply_interrupts(&mut self) {
        let wait = |value: u32| Duration::from_nanos(u64::from(value & 0xffff) * ITR_NANOS);
        let control = self.registers[r::CTRL_EXT];
        let mut rules = Rules {
            interval: wait(self.registers[r::ITR]),
            ivar: self.registers[r::IVAR],
            eiac: self.registers[r::EIAC],
            iam: self.registers[r::IAM],
            masks_on_read: control & 1 << 27 != 0,
            masks_on_message: control & 1 << 24 != 0,
            ..Rules::default()
        };
        for (nth, interval) in rules.intervals.iter_mut().enumerate() {
            *interval = wait(self.registers[r::EITR + nth]);
        }
        self.causes.rules = rules;
    }

    /// Where a queue's receive ring is.
    pub(crate) fn apply_receive_ring(&mut self, queue: usize) {
        let first = if queue == 0 { r::RDBAL0 } else { r::RDBAL1 };
        let (base, bytes) = self.ring_registers(first);
        let stride = if self.settings.split.is_some() { split::STRIDE } else { 16 };
        self.rx[queue].configure(base, bytes, stride);
    }

    pub(crate) fn apply_transmit_ring(&mut self, queue: usize) {
        let first = if queue == 0 { r::TDBAL0 } else { r::TDBAL1 };
        let (base, bytes) = self.ring_registers(first);
        self.tx[queue].configure(base, bytes);
    }

    /// Base and bytes, from three registers in a row.
    fn ring_registers(&self, first: usize) -> (u64, u32) {
        let base = u64::from(self.registers[first + 1]) << 32 | u64::from(self.registers[first]);
        (base, self.registers[first + 2])
    }

    /// STATUS as it is now (13.4.2).
    pub(crate) fn status(&self) -> u32 {
        let new = self.config.model.is_82574();
        let control = self.registers[r::CTRL];
        let line = self.phy.line();
        let up = line.up && control & CTRL_SLU != 0;
        let speed = if control & 1 << 11 != 0 {
            control >> 8 & 3
        } else {
            match line.mbps {
                100 => 1,
                10 => 0,
                _ => 2,
            }
        };
        let full = if control & 1 << 12 != 0 || !line.up { control & 1 } else { u32::from(line.full_duplex) };
        let fixed = if new {
            // GIO master enable, unless software disabled it (82574: 10.2.2.2).
            if control & 1 << 2 == 0 { 1 << 19 } else { 0 }
        } else {
            // The MAC's clock is good.
            1 << 10
        };
        full | u32::from(up) << 1 | speed << 6 | speed << 8 | fixed
    }

    /// STATUS follows; a link that came or went is an interrupt's cause.
    pub(crate) fn link_changed(&mut self, now: Instant) {
        let was = self.registers[r::STATUS];
        let status = self.status();
        self.registers[r::STATUS] = status;
        if (was ^ status) & 1 << 1 != 0 {
            self.dirty = true;
            self.causes.raise(now, interrupt::LSC);
        }
    }

    fn is_up(&self) -> bool {
        self.registers[r::STATUS] & 1 << 1 != 0
    }

    fn loops_back(&self) -> bool {
        self.phy.loops_back() || self.registers[r::RCTL] & LOOPBACK_MODE != 0
    }

    /// Forgets what timers hold back, at a reset.
    pub(crate) fn stop_timers(&mut self) {
        (self.rx_timer, self.rx_limit, self.tx_timer, self.tx_limit) = (None, None, None, None);
        (self.rx_held, self.tx_held) = (0, 0);
    }

    /// RDTR's and TIDV's "flush": what is held back comes now.
    pub(crate) fn flush_receive(&mut self, now: Instant) {
        (self.rx_timer, self.rx_limit) = (None, None);
        let held = core::mem::take(&mut self.rx_held);
        self.causes.raise(now, held);
    }

    pub(crate) fn flush_transmit(&mut self, now: Instant) {
        (self.tx_timer, self.tx_limit) = (None, None);
        let held = core::mem::take(&mut self.tx_held);
        self.causes.raise(now, held);
    }

    fn hold_receive(&mut self, now: Instant, causes: u32) {
        let wait = |value: u32| Duration::from_nanos(u64::from(value) * DELAY_NANOS);
        let (delay, limit) = (self.registers[r::RDTR] & 0xffff, self.registers[r::RADV]);
        self.rx_held |= causes;
        if delay == 0 {
            self.flush_receive(now);
            return;
        }
        self.rx_timer = Some(now.after(wait(delay)));
        if limit != 0 && self.rx_limit.is_none() {
            self.rx_limit = Some(now.after(wait(limit)));
        }
    }

    fn hold_transmit(&mut self, now: Instant, causes: u32) {
        let wait = |value: u32| Duration::from_nanos(u64::from(value) * DELAY_NANOS);
        let (delay, limit) = (self.registers[r::TIDV], self.registers[r::TADV]);
        self.tx_held |= causes;
        if delay == 0 {
            self.flush_transmit(now);
            return;
        }
        self.tx_timer = Some(now.after(wait(delay)));
        if limit != 0 && self.tx_limit.is_none() {
            self.tx_limit = Some(now.after(wait(limit)));
        }
    }

    fn transmit_settings(&self) -> transmit::Settings {
        transmit::Settings {
            vlan: self.registers[r::CTRL] & CTRL_VME != 0,
            tag_type: self.registers[r::VET] as u16,
        }
    }

    fn count_drop(&mut self, drop: Drop) -> Taken {
        let count = &mut self.counters.drops[drop as usize];
        *count = count.wrapping_add(1);
        Taken::Dropped
    }

    fn accept(&mut self, memory: &Memory, frame: &Frame<'_>, rewrite: Rewrite) -> Result<u32, Refused> {
        if !self.settings.enabled {
            return Err(Refused::Filtered);
        }
        if frame.facts.gso != Gso::None {
            return Err(Refused::Offload);
        }
        let front = Front::new(&self.registers, &self.settings, frame, rewrite, &mut self.scratch)?;
        // Which receive queue, and the first half of its descriptor.
        let (queue, hash) = if self.settings.new && rss::is_on(&self.registers) {
            rss::steer(&self.registers, front.bytes)
        } else {
            (0, 0)
        };
        let mut group = [0; 6];
        group.copy_from_slice(&front.bytes[..6]);
        let arrival = Arrival { frame, front, hash };
        let bytes =
            self.rx[queue].deliver(memory, &self.settings, arrival).inspect_err(|refused| match refused {
                Refused::NoBuffer => statistics::count(&mut self.registers, r::RNBC),
                Refused::BufferTooSmall => statistics::count(&mut self.registers, r::ROC),
                _ => {}
            })?;
        statistics::received(&mut self.registers, u64::from(bytes), &group);
        Ok(bytes)
    }

    fn try_deliver(&mut self, memory: &Memory, frame: &Frame<'_>, rewrite: Rewrite) -> Result<u32, Refused> {
        let done = self.accept(memory, frame, rewrite);
        match done {
            Ok(bytes) => {
                self.counters.frames_in = self.counters.frames_in.wrapping_add(1);
                self.counters.bytes_in = self.counters.bytes_in.wrapping_add(u64::from(bytes));
            }
            Err(refused) => {
                let count = &mut self.counters.refused[refused as usize];
                *count = count.wrapping_add(1);
            }
        }
        done
    }

    /// Frames that the adapter sends come back to it.
    fn loop_back(&mut self, memory: &Memory, queue: usize) -> Taken {
        let settings = self.transmit_settings();
        let mut posted = core::mem::take(&mut self.looped);
        let mut done = Taken::Empty;
        for _ in 0..LOOPED_MAX {
            match self.tx[queue].take(memory, settings, &mut posted) {
                Step::Frame => {
                    statistics::sent(&mut self.registers, u64::from(posted.len), posted.header());
                    self.counters.looped_back = self.counters.looped_back.wrapping_add(1);
                    done = Taken::Dropped;
                    let frame = Frame {
                        header: posted.header(),
                        body: Body::Guest(memory, &posted.rest),
                        facts: posted.facts,
                    };
                    // One that does not fit is lost, as on any wire.
                    let _ = self.try_deliver(memory, &frame, Rewrite::Keep);
                }
                Step::Dropped(drop) => done = self.count_drop(drop),
                Step::Empty | Step::NoRing => break,
            }
        }
        self.looped = posted;
        done
    }
}

impl Bars for E1000 {
    fn layout(&self) -> &Layout {
        self.config.model.layout()
    }

    fn read(&mut self, now: Instant, bar: u8, offset: u64, into: &mut [u8]) {
        into.fill(0);
        match self.config.model.layout().bars.get(usize::from(bar)) {
            Some(_) if bar == BAR_REGISTERS => self.read_registers(now, offset, into),
            Some(pci::Bar::Io { .. }) => self.read_io(now, offset, into),
            // The flash is empty, and the table of MSI-X is its transport's.
            Some(pci::Bar::Memory32 { .. }) if bar == 1 => into.fill(0xff),
            _ => {}
        }
    }

    fn write(&mut self, now: Instant, memory: &Memory, bar: u8, offset: u64, bytes: &[u8]) {
        match self.config.model.layout().bars.get(usize::from(bar)) {
            Some(_) if bar == BAR_REGISTERS => self.write_registers(now, memory, offset, bytes),
            Some(pci::Bar::Io { .. }) => self.write_io(now, memory, offset, bytes),
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.phy.reset();
        self.phy.cable = self.uplink;
        self.io_address = 0;
        self.reset_mac();
    }
}

impl Signals for E1000 {
    fn set_irq_mode(&mut self, mode: IrqMode) {
        self.causes.set_mode(mode);
    }

    fn interrupts(&mut self) -> Interrupts {
        self.causes.take()
    }

    fn deadline(&self) -> Option<Instant> {
        [
            self.phy.agreed_at,
            self.causes.deadline(),
            self.rx_timer,
            self.rx_limit,
            self.tx_timer,
            self.tx_limit,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn expire(&mut self, now: Instant, _memory: &Memory) {
        let over = |timer: Option<Instant>| timer.is_some_and(|at| at <= now);
        if self.phy.expire(now) {
            self.dirty = true;
            self.link_changed(now);
        }
        if over(self.rx_timer) || over(self.rx_limit) {
            self.flush_receive(now);
        }
        if over(self.tx_timer) || over(self.tx_limit) {
            self.flush_transmit(now);
        }
        self.causes.expire(now);
    }
}

/// All are messages: docs/decisions/0008.
impl Doorbells for E1000 {
    fn pages(&self) -> Option<Pages> {
        None
    }

    fn share(&mut self, _pages: Option<Window>) {}

    fn gather(&mut self) {}

    fn spread(&mut self) {}

    fn look(&mut self, _now: Instant) -> bool {
        false
    }

    fn is_silent(&self) -> bool {
        false
    }

    fn is_hushed(&self) -> bool {
        false
    }
}

impl Lasting for E1000 {
    fn state(&self) -> Vec<u8> {
        self.encode()
    }

    fn restore(&mut self, bytes: &[u8]) {
        self.decode(bytes);
    }

    fn take_dirty(&mut self) -> bool {
        core::mem::take(&mut self.dirty)
    }

    fn resume(&mut self, memory: &Memory) {
        for queue in 0..QUEUES {
            self.tx[queue].resume(memory);
            self.rx[queue].resume(memory, &self.settings);
        }
        let queues = if self.config.model.is_82574() { 0xf * interrupt::RXQ0 } else { 0 };
        // Causes in masks that a driver set; if it set none, nothing is told.
        self.causes.resume(interrupt::RXT0 | interrupt::TXDW | queues);
    }
}

impl Function for E1000 {
    fn memory_changed(&mut self, _memory: &Memory) {
        for queue in 0..QUEUES {
            self.rx[queue].ring.forget_window();
            self.tx[queue].memory_changed();
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = &self.counters;
        let mut all = alloc::vec![
            ("frames_out", counters.frames_out),
            ("bytes_out", counters.bytes_out),
            ("frames_in", counters.frames_in),
            ("bytes_in", counters.bytes_in),
            ("looped_back", counters.looped_back),
            ("dropped_link_down", counters.link_down),
            ("rings_not_in_memory", counters.rings_not_in_memory),
            ("adapter_resets", counters.resets),
        ];
        let names = ["dropped_runt", "dropped_too_long", "dropped_bad_header", "dropped_not_negotiated"];
        let names = names.into_iter().chain(["dropped_bad_memory"]);
        all.extend(names.zip(counters.drops));
        let names = Refused::ALL.iter().map(|refused| match refused {
            Refused::NoBuffer => "refused_no_buffer",
            Refused::BufferTooSmall => "refused_buffer_too_small",
            Refused::Offload => "refused_offload",
            Refused::Filtered => "refused_filtered",
            Refused::BadMemory => "refused_bad_memory",
            Refused::Broken => "refused_broken",
            Refused::Malformed => "refused_malformed",
        });
        all.extend(names.zip(counters.refused));
        all
    }
}

impl Nic for E1000 {
    fn waiting(&self) -> u32 {
        if self.registers[r::TCTL] & TCTL_EN == 0 {
            return 0;
        }
        u32::from(self.tx[0].waiting()) | u32::from(self.tx[1].waiting()) << 1
    }

    fn transmit(&mut self, memory: &Memory, queue: u16, posted: &mut Posted) -> Taken {
        let queue = usize::from(queue);
        if queue >= QUEUES || self.registers[r::TCTL] & TCTL_EN == 0 {
            return Taken::Empty;
        }
        if self.loops_back() {
            return self.loop_back(memory, queue);
        }
        let settings = self.transmit_settings();
        match self.tx[queue].take(memory, settings, posted) {
            Step::Frame if !self.is_up() => {
                self.counters.link_down = self.counters.link_down.wrapping_add(1);
                Taken::Dropped
            }
            Step::Frame => {
                let bytes = u64::from(posted.len);
                statistics::sent(&mut self.registers, bytes, posted.header());
                if posted.facts.gso != Gso::None {
                    statistics::count(&mut self.registers, r::TSCTC);
                }
                self.counters.frames_out = self.counters.frames_out.wrapping_add(1);
                self.counters.bytes_out = self.counters.bytes_out.wrapping_add(bytes);
                Taken::Frame
            }
            Step::Dropped(drop) => self.count_drop(drop),
            Step::Empty => Taken::Empty,
            Step::NoRing => {
                self.counters.rings_not_in_memory = self.counters.rings_not_in_memory.wrapping_add(1);
                Taken::Empty
            }
        }
    }

    fn can_take(&self, frame: &Frame<'_>) -> bool {
        // A checksum left undone is finished here, if its place was copied out.
        frame.facts.gso == Gso::None
            && (frame.facts.checksum_start == CHECKSUM_NONE
                || usize::from(frame.facts.checksum_start) + usize::from(frame.facts.checksum_offset) + 2
                    <= frame.header.len())
    }

    fn deliver(&mut self, memory: &Memory, frame: &Frame<'_>, rewrite: Rewrite) -> Result<u32, Refused> {
        if !self.can_take(frame) {
            let count = &mut self.counters.refused[Refused::Offload as usize];
            *count = count.wrapping_add(1);
            return Err(Refused::Offload);
        }
        if !self.is_up() || self.loops_back() || !self.settings.enabled {
            let count = &mut self.counters.refused[Refused::Filtered as usize];
            *count = count.wrapping_add(1);
            return Err(Refused::Filtered);
        }
        self.try_deliver(memory, frame, rewrite)
    }

    fn publish(&mut self, now: Instant, memory: &Memory) {
        let new = self.config.model.is_82574();
        let mut at_once = 0;
        for queue in 0..self.config.model.queues() {
            let cause = |first: u32| if new { first << queue } else { 0 };
            let sent = self.tx[queue].publish(memory);
            if sent.any {
                at_once |= if sent.empty { interrupt::TXQE } else { 0 };
                let causes = interrupt::TXDW | cause(interrupt::TXQ0);
                if sent.report {
                    at_once |= causes;
                } else if sent.report_later {
                    self.hold_transmit(now, causes);
                }
            }
            let received = self.rx[queue].publish(memory, &self.settings);
            if received.any {
                at_once |= if received.low { interrupt::RXDMT0 } else { 0 };
                self.hold_receive(now, interrupt::RXT0 | cause(interrupt::RXQ0));
            }
        }
        if at_once != 0 {
            self.causes.raise(now, at_once);
        }
    }

    /// Its driver rings always.
    fn set_doorbells(&mut self, _now: Instant, _memory: &Memory, _wanted: bool) {}

    fn set_link(&mut self, now: Instant, up: bool, _mbps: u32) {
        if self.uplink == up {
            return;
        }
        self.uplink = up;
        self.dirty = true;
        self.phy.set_cable(now, up);
        self.link_changed(now);
    }
}
