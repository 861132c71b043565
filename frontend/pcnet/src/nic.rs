//! The adapter: what drivers of lanes and transports call.

use alloc::boxed::Box;
use alloc::vec::Vec;

use frame::{Drop, Frame, Posted, Refused, Taken};
use guest_memory::{Memory, Window};
use pci::{Bars, Doorbells, Function, Interrupts, IrqMode, Lasting, Layout, Pages, Signals};
use request::{Instant, Rewrite, Span};

use crate::config::Config;
use crate::eeprom::Eeprom;
use crate::phy::Phy;
use crate::registers::{bcr, csr, csr0};
use crate::ring::{Direction, Ring};
use crate::state;
use crate::vmxnet::Vmxnet;

/// Hot state: where the receive and the transmit ring stand, eight bytes each.
pub const HOT_BYTES: usize = 64;

/// What happened, seen from the guest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub transmitted_frames: u64,
    pub transmitted_bytes: u64,
    pub received_frames: u64,
    pub received_bytes: u64,
    pub looped_frames: u64,
    /// Descriptors without STP where a frame should begin.
    pub stray_descriptors: u64,
    pub underflows: u64,
    /// Frames that the driver sent with the cable out.
    pub lost_carrier: u64,
    /// Rings or initialization blocks that are not in memory.
    pub memory_errors: u64,
    pub drops: [u64; Drop::COUNT],
    pub refused: [u64; Refused::COUNT],
}

/// One adapter: registers, rings, and the room that frames pass through.
pub struct Pcnet {
    pub(crate) config: Config,
    pub(crate) rap: u16,
    pub(crate) csr: Box<[u16; csr::COUNT]>,
    pub(crate) bcr: Box<[u16; bcr::COUNT]>,
    pub(crate) aprom: [u8; 16],
    pub(crate) eeprom: Eeprom,
    pub(crate) phy: Phy,
    pub(crate) rx: Ring,
    pub(crate) tx: Ring,
    /// TDMD: the driver says that there is something to send.
    pub(crate) demand: bool,
    /// When the transmit ring is looked at next without having been asked to.
    pub(crate) poll: Option<Instant>,
    /// How long until the look after that, in nanoseconds.
    pub(crate) poll_wait: u64,
    /// A frame whose next descriptor is not there yet: how far into it, and since when.
    pub(crate) stalled: Option<(u32, Option<Instant>)>,
    pub(crate) vmxnet: Vmxnet,
    /// When to see whether a VMXNET driver missed something.
    pub(crate) recheck: Option<Instant>,
    pub(crate) link: bool,
    pub(crate) dirty: bool,
    /// Whether a frame that was sent asks for TINT.
    pub(crate) sent: bool,
    pub(crate) received: bool,
    /// Something was given up or looped since the last publication, and no frame may come of it.
    pub(crate) settle: bool,
    pub(crate) hint: u32,
    pub(crate) spans: Vec<Span>,
    pub(crate) counters: Counters,
}

impl Pcnet {
    /// As after power on, with the rings where `hot` has them: zeroes for a new one.
    ///
    /// # Panics
    /// If the window has fewer than [`HOT_BYTES`] bytes.
    pub fn new(config: Config, hot: Window) -> Self {
        let part = |at| hot.sub(at, 8).expect("a window of HOT_BYTES");
        let mut nic = Self {
            config,
            rap: 0,
            csr: Box::new([0; csr::COUNT]),
            bcr: Box::new([0; bcr::COUNT]),
            aprom: crate::eeprom::aprom(config.mac),
            eeprom: Eeprom::new(config.mac),
            phy: Phy::new(),
            rx: Ring::new(part(0), Direction::Receive),
            tx: Ring::new(part(8), Direction::Transmit),
            demand: false,
            poll: None,
            poll_wait: 0,
            stalled: None,
            vmxnet: Vmxnet::default(),
            recheck: None,
            link: true,
            dirty: false,
            sent: false,
            received: false,
            settle: false,
            hint: 0,
            spans: Vec::with_capacity(16),
            counters: Counters::default(),
        };
        nic.hardware_reset();
        nic.dirty = false;
        nic
    }

    /// STRT is set, and the adapter is neither stopped nor suspended.
    pub(crate) fn running(&self) -> bool {
        self.csr[csr::STATUS] & (csr0::STRT | csr0::STOP) == csr0::STRT && !self.suspended()
    }

    /// Shows the driver what is done in both rings.
    pub(crate) fn give_back(&mut self, memory: &Memory) {
        self.settle = false;
        self.received |= self.rx.give_back(memory);
        self.tx.give_back(memory);
        if core::mem::take(&mut self.received) {
            self.csr[csr::STATUS] |= csr0::RINT;
        }
        if core::mem::take(&mut self.sent) {
            self.csr[csr::STATUS] |= csr0::TINT;
        }
    }

    pub(crate) fn dropped(&mut self, drop: Drop) {
        let count = &mut self.counters.drops[drop as usize];
        *count = count.wrapping_add(1);
    }
}

impl Bars for Pcnet {
    fn layout(&self) -> &Layout {
        self.config.layout()
    }

    fn read(&mut self, _now: Instant, bar: u8, offset: u64, into: &mut [u8]) {
        self.read_window(bar, offset, into);
    }

    fn write(&mut self, now: Instant, memory: &Memory, bar: u8, offset: u64, bytes: &[u8]) {
        self.write_window(now, memory, bar, offset, bytes);
        self.time_stall(now);
    }

    fn reset(&mut self) {
        self.hardware_reset();
    }
}

impl Signals for Pcnet {
    /// There is INTA alone.
    fn set_irq_mode(&mut self, _mode: IrqMode) {}

    fn interrupts(&mut self) -> Interrupts {
        Interrupts { level: self.asserted(), vectors: 0 }
    }

    fn deadline(&self) -> Option<Instant> {
        let stalled = self.stalled.and_then(|(_, until)| until);
        [self.poll, stalled, self.recheck].into_iter().flatten().min()
    }

    fn expire(&mut self, now: Instant, memory: &Memory) {
        self.expire_transmit(now, memory);
        self.expire_recheck(now, memory);
    }
}

/// All are messages: docs/decisions/0008.
impl Doorbells for Pcnet {
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

impl Lasting for Pcnet {
    fn state(&self) -> Vec<u8> {
        state::encode(self)
    }

    fn restore(&mut self, bytes: &[u8]) {
        if state::decode(self, bytes).is_none() {
            self.hardware_reset();
        }
        self.dirty = false;
    }

    fn take_dirty(&mut self) -> bool {
        core::mem::take(&mut self.dirty)
    }

    fn resume(&mut self, memory: &Memory) {
        self.rx.resume();
        self.tx.resume();
        self.locate_rings(memory);
        if self.running() {
            self.demand = true;
            if !self.is_vmxnet() {
                self.resume_polling();
            }
            self.csr[csr::STATUS] |= csr0::RINT | csr0::TINT;
        }
    }
}

impl Function for Pcnet {
    fn memory_changed(&mut self, memory: &Memory) {
        self.hint = 0;
        if !self.stopped() {
            self.locate_rings(memory);
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = &self.counters;
        let mut all = Vec::from([
            ("transmitted_frames", counters.transmitted_frames),
            ("transmitted_bytes", counters.transmitted_bytes),
            ("received_frames", counters.received_frames),
            ("received_bytes", counters.received_bytes),
            ("looped_frames", counters.looped_frames),
            ("stray_descriptors", counters.stray_descriptors),
            ("underflows", counters.underflows),
            ("lost_carrier", counters.lost_carrier),
            ("memory_errors", counters.memory_errors),
        ]);
        let names = Drop::ALL.iter().map(|drop| match drop {
            Drop::Runt => "dropped_runt",
            Drop::TooLong => "dropped_too_long",
            Drop::BadHeader => "dropped_bad_header",
            Drop::NotNegotiated => "dropped_not_negotiated",
            Drop::BadMemory => "dropped_bad_memory",
        });
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

impl frame::Nic for Pcnet {
    fn waiting(&self) -> u32 {
        u32::from(self.transmit_waits())
    }

    fn transmit(&mut self, memory: &Memory, queue: u16, posted: &mut Posted) -> Taken {
        if queue != 0 {
            return Taken::Empty;
        }
        self.next_frame(memory, posted)
    }

    fn can_take(&self, frame: &Frame<'_>) -> bool {
        crate::receive::is_finished(&frame.facts)
    }

    fn deliver(&mut self, memory: &Memory, frame: &Frame<'_>, rewrite: Rewrite) -> Result<u32, Refused> {
        let done = self.receive(memory, frame, rewrite);
        match done {
            Ok(bytes) => {
                self.counters.received_frames = self.counters.received_frames.wrapping_add(1);
                self.counters.received_bytes = self.counters.received_bytes.wrapping_add(u64::from(bytes));
            }
            Err(refused) => {
                let count = &mut self.counters.refused[refused as usize];
                *count = count.wrapping_add(1);
            }
        }
        done
    }

    fn publish(&mut self, now: Instant, memory: &Memory) {
        self.give_back(memory);
        self.time_stall(now);
    }

    /// Its driver rings always.
    fn set_doorbells(&mut self, _now: Instant, _memory: &Memory, _wanted: bool) {}

    fn set_link(&mut self, _now: Instant, up: bool, mbps: u32) {
        let before = (self.link, self.phy);
        self.link = up;
        self.phy.set_link(up, mbps);
        self.dirty |= before != (self.link, self.phy);
    }
}
