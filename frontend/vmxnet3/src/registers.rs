//! What accesses to the BARs do.

use alloc::vec::Vec;

use crate::bits::{self, VECTORS, get, set};
use crate::control::Control;
use crate::device::Vmxnet3;
use crate::interrupts::Coalescing;
use crate::layout::{DEVICE, DOORBELLS, LAYOUT, REVISION};
use crate::rss::fields;
use crate::shared::{self, at};
use frame::{Drop, Refused};
use guest_memory::{Memory, Window};
use pci::{Bars, Doorbells, Function, Interrupts, IrqMode, Lasting, Layout, Pages, Signals};
use request::{Address, Instant, Mac};

/// What reading CMD gives after a command that was not carried out. (ACTIVATE_DEV's failure is 1 in
/// QEMU; drivers ask only whether it is 0.)
const REFUSED: u32 = 1;

/// GET_CONF_INTR: type "auto", mask mode "auto".
const AUTO: u32 = 0;

/// "Adaptive rings" are not for the driver to make.
const ADAPTIVE_RING_DISABLED: u32 = 1;

/// Bytes of a transmit data ring's entries, and from revision 9 on of a receive data ring's.
const DATA_BYTES: u32 = 128;

/// Bytes of `Vmxnet3_CoalesceScheme`.
const SCHEME_BYTES: u32 = 16;

/// Device capabilities that may be chosen, from revision 7 on.
pub mod capability {
    pub const UDP_RSS: u32 = 1;
    pub const ESP_RSS_IPV4: u32 = 1 << 1;
    /// Geneve's and VXLAN's checksum and segmentation, and the checksum of the outer header.
    pub const TUNNELS: u32 = 0xfc;
    pub const ESP_RSS_IPV6: u32 = 1 << 9;
    pub const OFFERED: u32 = UDP_RSS | ESP_RSS_IPV4 | TUNNELS | ESP_RSS_IPV6;
    /// Doorbells have a page of their own, behind that of the masks.
    pub const LARGE_BAR: u32 = 1 << 16;
}

impl Vmxnet3 {
    fn read_register(&mut self, bar: u8, offset: u64) -> u32 {
        let control = &self.control;
        match (bar, offset) {
            (0, _) => match vector_of(offset) {
                Some(index) => self.vectors.is_masked(index).into(),
                None => 0,
            },
            (1, bits::VRRS) => self.config.revisions(),
            // UPT version 1.
            (1, bits::UVRS) => 1,
            (1, bits::DSAL) => control.shared as u32,
            (1, bits::DSAH) => (control.shared >> 32) as u32,
            (1, bits::CMD) => control.result,
            (1, bits::MACL) => low(control.mac),
            (1, bits::MACH) => high(control.mac),
            (1, bits::ICR) => self.vectors.read_cause(),
            (1, bits::ECR) => control.events,
            (1, bits::DCR) if control.revision >= 7 => self.offered(),
            (1, bits::PTCR) if control.revision >= 7 => capability::OFFERED,
            _ => 0,
        }
    }

    fn write_register(&mut self, now: Instant, memory: &Memory, bar: u8, offset: u64, value: u32) {
        if bar == 0 {
            match vector_of(offset) {
                Some(index) => {
                    let masked = value & 1 != 0;
                    self.hot.set_masked(index, masked);
                    self.vectors.set_mask(now, index, masked);
                }
                None => self.counters.doorbells += u64::from(is_doorbell(offset)),
            }
            return;
        }
        if bar != 1 {
            return;
        }
        self.dirty = true;
        let offered = self.offered();
        let control = &mut self.control;
        match offset {
            bits::VRRS => {
                // One bit is chosen.
                let chosen = value & self.config.revisions();
                if chosen != 0 {
                    control.revision = (chosen.ilog2() + 1) as u8;
                }
            }
            bits::DSAL => control.shared = control.shared & !0xffff_ffff | u64::from(value),
            bits::DSAH => control.shared = control.shared & 0xffff_ffff | u64::from(value) << 32,
            bits::CMD => {
                self.counters.commands += 1;
                match self.execute(memory, value) {
                    Some(result) => self.control.result = result,
                    None => {
                        self.counters.commands_refused += 1;
                        self.control.result = REFUSED;
                    }
                }
            }
            bits::MACL => control.mac_low = value,
            bits::MACH => {
                // Both halves count from here, as drivers write the high one last.
                let [a, b, c, d] = control.mac_low.to_le_bytes();
                let [e, f, ..] = value.to_le_bytes();
                control.mac = Mac([a, b, c, d, e, f]);
            }
            bits::ECR => {
                control.events &= !value;
                self.store_events(memory);
            }
            bits::DCR if control.revision >= 7 => control.capabilities = value & offered,
            _ => {}
        }
    }

    /// The page of the masks can be memory without the doorbells being it, so that these are rung when
    /// the lane sleeps; there is nothing else in it for the larger layout.
    fn offered(&self) -> u32 {
        capability::OFFERED | if self.vectors.is_shared() { capability::LARGE_BAR } else { 0 }
    }

    /// Doorbells are messages, although the masks are not.
    fn rings_apart(&self) -> bool {
        self.control.revision >= 7 && self.control.capabilities & capability::LARGE_BAR != 0
    }

    /// `None`: refused.
    fn execute(&mut self, memory: &Memory, command: u32) -> Option<u32> {
        match command {
            set::ACTIVATE => self.activate(memory).then_some(0),
            set::QUIESCE => {
                self.quiesce();
                Some(0)
            }
            set::RESET => {
                let revision = self.control.revision;
                let (mac, shared) = (self.control.mac, self.control.shared);
                self.clear();
                // A driver does not negotiate again.
                self.control.revision = revision;
                self.control.mac = mac;
                self.control.shared = shared;
                Some(0)
            }
            set::RX_MODE | set::MAC_FILTERS | set::VLAN_FILTERS | set::FEATURE | set::RSSIDT | set::IML => {
                self.update(memory, command)
            }
            // Nothing wakes up: the guest is awake or has no NIC.
            set::PMCFG => Some(0),
            // Hints that nothing here depends on.
            set::MEMREGS | set::RING_BUFFER_SIZE => Some(0),
            set::COALESCE if self.control.revision >= 3 => {
                let (at, _) = self.command_buffer(memory)?;
                let mut raw = [0; SCHEME_BYTES as usize];
                memory.read(memory.locate(at, SCHEME_BYTES, &mut 0)?, &mut raw)?;
                self.control.coalescing = Coalescing::decode(&raw)?;
                self.vectors.coalescing = self.control.coalescing;
                Some(0)
            }
            set::RSS_FIELDS if self.control.revision >= 4 => {
                let area = shared::area(memory, self.control.shared)?;
                self.control.rss.fields = self.allowed_fields(area.load_u32(at::COMMAND));
                Some(0)
            }
            _ => self.answer(memory, command),
        }
    }

    /// Something in the shared area is another.
    fn update(&mut self, memory: &Memory, command: u32) -> Option<u32> {
        self.control.setup.as_ref()?;
        let area = self.area.clone()?;
        match command {
            set::RX_MODE => self.control.filter.read_mode(&area),
            set::MAC_FILTERS => self.control.filter.read_multicast(memory, &area),
            set::VLAN_FILTERS => self.control.filter.read_vlans(&area),
            set::IML => {
                let setup = self.control.setup.as_mut()?;
                area.read_bytes(at::LEVELS, &mut setup.levels);
                self.vectors.set_levels(&setup.levels);
            }
            _ => self.read_features(memory, &area),
        }
        Some(0)
    }

    fn answer(&mut self, memory: &Memory, command: u32) -> Option<u32> {
        let control = &self.control;
        let revision = control.revision;
        Some(match command {
            get::QUEUE_STATUS => {
                self.store_status(memory);
                0
            }
            get::STATS => {
                self.store_statistics(memory);
                0
            }
            get::LINK => self.link(),
            get::PERM_MAC_LO => low(self.config.mac),
            get::PERM_MAC_HI => high(self.config.mac),
            get::DID_LO => DEVICE.into(),
            get::DID_HI => REVISION.into(),
            get::DEV_EXTRA_INFO => 0,
            get::CONF_INTR => AUTO,
            get::ADAPTIVE_RING_INFO => ADAPTIVE_RING_DISABLED,
            get::TXDATA_DESC_SIZE if revision >= 9 => DATA_BYTES | DATA_BYTES << 16,
            get::TXDATA_DESC_SIZE if revision >= 3 => DATA_BYTES,
            get::COALESCE if revision >= 3 => {
                let (at, _) = self.command_buffer(memory)?;
                memory.write(memory.locate(at, SCHEME_BYTES, &mut 0)?, &control.coalescing.encode())?;
                0
            }
            get::RSS_FIELDS if revision >= 4 => control.rss.fields,
            get::MAX_QUEUES_CONF if revision >= 6 => {
                let transmit = self.config.transmit_queues.clamp(1, bits::TX_QUEUES as u8);
                let receive = self.config.receive_queues.clamp(1, bits::RX_QUEUES as u8);
                u32::from(receive) << 8 | u32::from(transmit)
            }
            get::MAX_CAPABILITIES if revision >= 7 => self.offered(),
            get::DCR0 if revision >= 7 => control.capabilities,
            get::TSRING_DESC_SIZE | get::DISABLED_OFFLOADS if revision >= 9 => 0,
            _ => return None,
        })
    }

    /// Megabits a second. From revision 9 on drivers take less than 10,000 for gigabits, so that more
    /// than 65,535 can be said.
    fn link(&self) -> u32 {
        if !self.control.link_up {
            return 0;
        }
        let mbps = self.control.link_mbps;
        let speed = match (self.control.revision, mbps) {
            (9.., 10_000..=65_535) => mbps,
            (9.., _) => (mbps / 1000).clamp(1, 9_999),
            _ => mbps.min(65_535),
        };
        speed << 16 | 1
    }

    /// From revision 7 on what the driver did not choose as a capability is not done.
    fn allowed_fields(&self, wanted: u32) -> u32 {
        let mut allowed = wanted & fields::ALL;
        if self.control.revision < 5 {
            allowed &= !fields::ESP_IPV6;
        }
        if self.control.revision >= 7 {
            let has = |bit: u32| self.control.capabilities & bit != 0;
            if !has(capability::UDP_RSS) {
                allowed &= !(fields::UDP_IPV4 | fields::UDP_IPV6);
            }
            if !has(capability::ESP_RSS_IPV4) {
                allowed &= !fields::ESP_IPV4;
            }
            if !has(capability::ESP_RSS_IPV6) {
                allowed &= !fields::ESP_IPV6;
            }
        }
        allowed
    }

    /// `Vmxnet3_VariableLenConfDesc` of the command.
    fn command_buffer(&self, memory: &Memory) -> Option<(Address, u32)> {
        let area = shared::area(memory, self.control.shared)?;
        let len = area.load_u32(at::COMMAND + 4);
        (len >= SCHEME_BYTES).then(|| (Address(area.load_u64(at::COMMAND + 8)), len))
    }
}

fn vector_of(offset: u64) -> Option<usize> {
    let index = usize::try_from((offset - bits::IMR) / 8).ok()?;
    (offset.is_multiple_of(8) && index < VECTORS).then_some(index)
}

fn is_doorbell(offset: u64) -> bool {
    bits::DOORBELLS.contains(&offset) || bits::LARGE_DOORBELLS.contains(&offset)
}

/// Registers of a BAR end here.
fn end_of(bar: u8) -> u64 {
    if bar == 0 { bits::PT_BYTES.into() } else { 4096 }
}

fn low(mac: Mac) -> u32 {
    let [a, b, c, d, ..] = mac.0;
    u32::from_le_bytes([a, b, c, d])
}

fn high(mac: Mac) -> u32 {
    let [.., e, f] = mac.0;
    u32::from_le_bytes([e, f, 0, 0])
}

impl Bars for Vmxnet3 {
    fn layout(&self) -> &Layout {
        &LAYOUT
    }

    fn read(&mut self, _now: Instant, bar: u8, offset: u64, into: &mut [u8]) {
        into.fill(0);
        // Registers are 32 bits wide; an access of another width sees the bytes of those it touches.
        let end = offset.saturating_add(into.len() as u64);
        let mut register = offset & !3;
        while register < end && register < end_of(bar) {
            let bytes = self.read_register(bar, register).to_le_bytes();
            for (place, byte) in (register..).zip(bytes) {
                let index = place.checked_sub(offset).and_then(|index| usize::try_from(index).ok());
                if let Some(slot) = index.and_then(|index| into.get_mut(index)) {
                    *slot = byte;
                }
            }
            register += 4;
        }
    }

    fn write(&mut self, now: Instant, memory: &Memory, bar: u8, offset: u64, bytes: &[u8]) {
        // Narrower writes do not reach a register; of a wider one the upper half is reserved.
        if let Some(value) = bytes.first_chunk::<4>()
            && offset.is_multiple_of(4)
            && offset < end_of(bar)
        {
            self.write_register(now, memory, bar, offset, u32::from_le_bytes(*value));
        }
    }

    fn reset(&mut self) {
        self.clear();
    }
}

impl Signals for Vmxnet3 {
    fn set_irq_mode(&mut self, mode: IrqMode) {
        self.vectors.set_mode(mode);
    }

    fn interrupts(&mut self) -> Interrupts {
        self.vectors.take()
    }

    fn deadline(&self) -> Option<Instant> {
        if self.events_due != 0 {
            return Some(Instant::default());
        }
        match (self.vectors.deadline(), self.look_again) {
            (Some(due), Some(look)) => Some(due.min(look)),
            (due, look) => due.or(look),
        }
    }

    fn expire(&mut self, now: Instant, memory: &Memory) {
        self.tell_events(now, memory);
        self.vectors.expire(now);
        // Whoever calls looks at `waiting` afterwards.
        self.look_again = self.look_again.filter(|look| *look > now);
    }
}

impl Doorbells for Vmxnet3 {
    fn pages(&self) -> Option<Pages> {
        Some(DOORBELLS)
    }

    fn share(&mut self, pages: Option<Window>) {
        self.vectors.share(pages);
    }

    fn gather(&mut self) {
        if self.vectors.is_shared() {
            let open = (0..VECTORS).filter(|index| !self.vectors.is_masked(*index));
            self.hot.set_unmasked(open.fold(0, |all, index| all | 1 << index));
        }
    }

    fn spread(&mut self) {
        let open = self.hot.unmasked();
        (0..VECTORS).for_each(|index| self.vectors.store_mask(index, open >> index & 1 == 0));
    }

    fn look(&mut self, now: Instant) -> bool {
        let before = self.vectors.raised;
        if self.vectors.is_shared() {
            self.vectors.expire(now);
        }
        self.vectors.raised != before
    }

    /// Frames can be posted without a message by a driver whose doorbells lie with the masks.
    fn is_silent(&self) -> bool {
        self.control.setup.is_some()
            && (self.vectors.is_silent() || self.vectors.is_shared() && !self.rings_apart())
    }

    fn is_hushed(&self) -> bool {
        !self.doorbells && !self.transmit.is_empty()
    }
}

impl Lasting for Vmxnet3 {
    fn state(&self) -> Vec<u8> {
        self.control.encode()
    }

    fn restore(&mut self, bytes: &[u8]) {
        match Control::decode(bytes) {
            Some(control) => self.take_up(control),
            None => self.clear(),
        }
    }

    fn take_dirty(&mut self) -> bool {
        core::mem::take(&mut self.dirty)
    }

    fn resume(&mut self, memory: &Memory) {
        self.recover(memory);
    }
}

impl Function for Vmxnet3 {
    fn memory_changed(&mut self, memory: &Memory) {
        if self.control.setup.is_some() {
            self.locate(memory);
            self.store_thresholds(memory);
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counts = &self.counters;
        let mut all = alloc::vec![
            ("transmitted_frames", counts.transmitted_frames),
            ("transmitted_bytes", counts.transmitted_bytes),
            ("received_frames", counts.received_frames),
            ("received_bytes", counts.received_bytes),
            ("commands", counts.commands),
            ("commands_refused", counts.commands_refused),
            ("activations", counts.activations),
            ("doorbells", counts.doorbells),
            ("queues_stopped", counts.queues_stopped),
            ("interrupts", self.vectors.raised),
            ("interrupts_held_back", self.vectors.held_back),
        ];
        all.extend(Drop::ALL.iter().map(|drop| (drop.name(), counts.drops[*drop as usize])));
        for refused in Refused::ALL {
            let count = counts.refused[*refused as usize];
            // Both directions know memory that was taken away.
            match all.iter_mut().find(|(name, _)| *name == refused.name()) {
                Some((_, both)) => *both = both.wrapping_add(count),
                None => all.push((refused.name(), count)),
            }
        }
        all
    }
}
