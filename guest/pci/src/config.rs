//! The configuration space of a function.

use alloc::vec::Vec;

use crate::function::IrqMode;
use crate::layout::{Bar, Cap, Layout};
use crate::registers::*;

/// Bytes of the configuration space of a function without, and with, a PCI Express capability.
const CONVENTIONAL_BYTES: usize = 256;
const EXPRESS_BYTES: usize = 4096;

/// PCI Express: the extended space holds no capability of ours, and reads as zero.
const HELD_BYTES: usize = CONVENTIONAL_BYTES;

const STATE_VERSION: u8 = 1;

/// The smallest area that an expansion ROM's register can ask for: PCI 3.0, 6.2.5.2.
const ROM_BYTES_MIN: u32 = 2048;

/// PCI Bus Power Management 1.2, 3.2.4: states of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PowerState {
    #[default]
    D0,
    D1,
    D2,
    D3,
}

/// What a write to the configuration space changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Bus mastering, or which address spaces answer: from the command register or the power state.
    pub command: bool,
    /// How the function may interrupt: the mode, or a mask.
    pub interrupts: bool,
    /// The function came from D3hot to D0 and has lost its state (PCI Bus Power Management
    /// 1.2).
    pub reset: bool,
    /// Any bit of the space.
    pub any: bool,
}

/// A configuration space: what it shows, and which of its bits a write may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    bytes: [u8; HELD_BYTES],
    /// What the space is after a reset.
    initial: [u8; HELD_BYTES],
    /// Bits that take what is written.
    writable: [u8; HELD_BYTES],
    /// Bits that are cleared by writing 1.
    clearing: [u8; HELD_BYTES],
    len: usize,
    interrupt_pin: u8,
    /// Places of the capabilities; 0: there is none.
    power: usize,
    /// PMCSR: the states that can be entered, bit n for Dn.
    states: u8,
    msi: usize,
    msi_vectors: u32,
    msix: usize,
}

impl Config {
    /// The space of a function after power on. `rom_bytes` is the size of its option ROM, 0 if it
    /// has none.
    ///
    /// # Panics
    ///
    /// If the table is not a function: capabilities that overlap, sizes that are no power of two.
    pub fn new(layout: &Layout, rom_bytes: u32) -> Self {
        let express = layout.caps.iter().any(|(_, cap)| matches!(cap, Cap::Pcie { .. }));
        let mut config = Self {
            bytes: [0; HELD_BYTES],
            initial: [0; HELD_BYTES],
            writable: [0; HELD_BYTES],
            clearing: [0; HELD_BYTES],
            len: if express { EXPRESS_BYTES } else { CONVENTIONAL_BYTES },
            interrupt_pin: layout.interrupt_pin,
            power: 0,
            states: 0,
            msi: 0,
            msi_vectors: 0,
            msix: 0,
        };
        config.put_header(layout, express);
        config.put_bars(layout, rom_bytes);
        config.put_capabilities(layout);
        config.initial = config.bytes;
        config
    }

    fn put16(&mut self, at: usize, value: u16, writable: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        self.writable[at..at + 2].copy_from_slice(&writable.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32, writable: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self.writable[at..at + 4].copy_from_slice(&writable.to_le_bytes());
    }

    fn put_header(&mut self, layout: &Layout, express: bool) {
        self.put16(0x00, layout.vendor, 0);
        self.put16(0x02, layout.device, 0);
        // Which address spaces answer is settled with the BARs. Special cycles, palette snooping,
        // stepping and fast back-to-back: not there.
        self.put16(
            COMMAND,
            0,
            COMMAND_MASTER
                | COMMAND_INVALIDATE
                | COMMAND_PARITY
                | COMMAND_SERR
                | if layout.interrupt_pin == 0 { 0 } else { COMMAND_INTX_DISABLE },
        );
        let timing = if express { 0 } else { STATUS_DEVSEL_MEDIUM };
        let capabilities = if layout.caps.is_empty() { 0 } else { STATUS_CAPABILITIES };
        self.put16(STATUS, timing | capabilities, 0);
        self.clearing[STATUS..STATUS + 2].copy_from_slice(&STATUS_ERRORS.to_le_bytes());
        self.bytes[0x08] = layout.revision;
        let [class, subclass, interface] = layout.class;
        self.bytes[0x09..0x0c].copy_from_slice(&[interface, subclass, class]);
        // The size of a cache line may be set on either bus; a latency timer is for the older one.
        self.writable[0x0c] = 0xff;
        self.writable[0x0d] = if express { 0 } else { 0xf8 };
        self.put16(0x2c, layout.subsystem_vendor, 0);
        self.put16(0x2e, layout.subsystem, 0);
        self.writable[0x3c] = 0xff;
        self.bytes[0x3d] = layout.interrupt_pin;
        self.bytes[0x3e] = layout.min_grant;
        self.bytes[0x3f] = layout.max_latency;
    }

    /// PCI 3.0, 6.2.5: bits below the size are zero whatever is written, which is how a driver
    /// learns the size.
    fn put_bars(&mut self, layout: &Layout, rom_bytes: u32) {
        let mut spaces = 0;
        for (index, bar) in layout.bars.iter().enumerate() {
            let at = BARS + 4 * index;
            match *bar {
                Bar::None => {}
                Bar::Memory32 { bytes, prefetchable } => {
                    assert!(bytes.is_power_of_two() && bytes >= 16, "BAR {index} has {bytes} bytes");
                    self.put32(at, u32::from(prefetchable) << 3, !(bytes - 1));
                    spaces |= COMMAND_MEMORY;
                }
                Bar::Io { bytes } => {
                    assert!(bytes.is_power_of_two() && bytes >= 4, "BAR {index} has {bytes} bytes");
                    self.put32(at, 1, !(bytes - 1));
                    spaces |= COMMAND_IO;
                }
            }
        }
        if rom_bytes != 0 {
            let size = rom_bytes.next_power_of_two().max(ROM_BYTES_MIN);
            self.put32(ROM, 0, !(size - 1) | 1);
            spaces |= COMMAND_MEMORY;
        }
        let writable = u16::from_le_bytes([self.writable[COMMAND], self.writable[COMMAND + 1]]) | spaces;
        self.writable[COMMAND..COMMAND + 2].copy_from_slice(&writable.to_le_bytes());
    }

    fn put_capabilities(&mut self, layout: &Layout) {
        let mut link = CAPABILITIES;
        let mut taken = [false; HELD_BYTES];
        taken[..0x40].fill(true);
        for &(place, cap) in layout.caps {
            let at = usize::from(place);
            let room = layout.caps.iter().map(|&(other, _)| usize::from(other)).filter(|&other| other > at);
            let room = room.min().unwrap_or(HELD_BYTES) - at;
            let bytes = self.put_capability(at, cap, room);
            let fits = at.is_multiple_of(4)
                && taken.get(at..at + bytes).is_some_and(|place| place.iter().all(|taken| !taken));
            assert!(fits, "the capability at {at:#x} has no room for its {bytes} bytes");
            taken[at..at + bytes].fill(true);
            self.bytes[link] = place;
            link = at + 1;
        }
    }

    /// Puts a capability, without its link, and gives its size.
    fn put_capability(&mut self, at: usize, cap: Cap, room: usize) -> usize {
        match cap {
            Cap::PowerManagement { d1, d2, pme } => {
                self.bytes[at] = CAP_POWER_MANAGEMENT;
                // Version 3: PCI Bus Power Management 1.2.
                let pmc = 3 | u16::from(d1) << 9 | u16::from(d2) << 10 | u16::from(pme & 0x1f) << 11;
                self.put16(at + 2, pmc, 0);
                self.put16(at + 4, 0, 3 | if pme & 0x1f == 0 { 0 } else { PMCSR_PME_ENABLE });
                if pme & 0x1f != 0 {
                    self.clearing[at + 5] = (PMCSR_PME_STATUS >> 8) as u8;
                }
                self.power = at;
                self.states = 0b1001 | u8::from(d1) << 1 | u8::from(d2) << 2;
                8
            }
            Cap::Msi { vectors, addr64, maskable } => {
                assert!(vectors.is_power_of_two() && vectors <= 32, "MSI with {vectors} vectors");
                self.bytes[at] = CAP_MSI;
                let control = (vectors.trailing_zeros() as u16) << 1
                    | if addr64 { MSI_64 } else { 0 }
                    | if maskable { MSI_MASKABLE } else { 0 };
                self.put16(at + 2, control, MSI_ENABLE | 0x70);
                self.put32(at + 4, 0, !3);
                let data = if addr64 { at + 12 } else { at + 8 };
                if addr64 {
                    self.put32(at + 8, 0, !0);
                }
                self.put16(data, 0, 0xffff);
                self.msi = at;
                self.msi_vectors = u32::from(vectors);
                if !maskable {
                    return data + 2 - at;
                }
                self.put32(data + 4, 0, ((1u64 << vectors) - 1) as u32);
                data + 12 - at
            }
            Cap::MsiX { vectors, table_bar, table_offset, pba_bar, pba_offset } => {
                assert!((1..=2048).contains(&vectors), "MSI-X with {vectors} vectors");
                self.bytes[at] = CAP_MSIX;
                self.put16(at + 2, vectors - 1, MSIX_ENABLE | MSIX_MASK);
                self.put32(at + 4, table_offset & !7 | u32::from(table_bar & 7), 0);
                self.put32(at + 8, pba_offset & !7 | u32::from(pba_bar & 7), 0);
                self.msix = at;
                12
            }
            Cap::Pcie { integrated } => self.put_express(at, integrated, room),
        }
    }

    /// PCI Express Base 2.1, 7.8: version 2 of the structure where there is room for its 3Ch bytes,
    /// else version 1, whose registers end with those of the link (or, for what has no link, with
    /// those of the device).
    fn put_express(&mut self, at: usize, integrated: bool, room: usize) -> usize {
        self.bytes[at] = CAP_PCIE;
        let version = if room >= 0x3c { 2 } else { 1 };
        // Root complex integrated endpoint: 1001b, legacy endpoint: 0001b.
        let port = if integrated { 9 } else { 1 };
        self.put16(at + 2, version | port << 4, 0);
        // Payloads of 128 bytes; role-based error reporting.
        self.put32(at + 4, 1 << 15, 0);
        // Error reporting, relaxed ordering, payload, no snoop and read request size; relaxed
        // ordering, no snoop and 512 byte requests are on after a reset.
        self.put16(at + 8, 0x2810, 0x78ff);
        self.clearing[at + 10] = 0x0f;
        if !integrated {
            // 2.5 GT/s, one lane, which is up.
            self.put32(at + 0x0c, 0x11, 0);
            self.put16(at + 0x10, 0, 0x00c3);
            self.put16(at + 0x12, 0x11, 0);
        }
        match (version, integrated) {
            (2, _) => 0x3c,
            (_, true) => 0x0c,
            (_, false) => 0x14,
        }
    }

    /// Bytes of the space: 256, or 4096 with PCI Express.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Any offset and length; what is not there reads as zero.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        into.fill(0);
        let from = self.bytes.get(offset..).unwrap_or(&[]);
        let len = from.len().min(into.len());
        into[..len].copy_from_slice(&from[..len]);
    }

    /// Any offset and length; bits that are not there, or read-only, stay.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Change {
        let before = self.clone();
        let len = HELD_BYTES.saturating_sub(offset).min(bytes.len());
        for (index, &byte) in bytes[..len].iter().enumerate() {
            let at = offset + index;
            let writable = self.writable[at];
            let kept = self.bytes[at] & !writable & !(byte & self.clearing[at]);
            self.bytes[at] = kept | byte & writable;
        }
        let mut reset = false;
        if self.power != 0 {
            let (was, now) = (before.power_state(), self.power_state());
            if self.states & 1 << now as u8 == 0 {
                // PCI Bus Power Management 1.2, 3.2.4: a state that is not there is discarded.
                let at = self.power + 4;
                self.bytes[at] = self.bytes[at] & !3 | before.bytes[at] & 3;
            } else if was == PowerState::D3 && now == PowerState::D0 {
                reset = true;
                self.soft_reset();
            }
        }
        Change {
            command: self.decodes() != before.decodes(),
            interrupts: self.interrupt_facts() != before.interrupt_facts(),
            reset,
            any: self.bytes != before.bytes,
        }
    }

    /// The space as after a reset, but for PME, which is to outlast it.
    fn soft_reset(&mut self) {
        let pme = self.bytes[self.power + 5];
        self.bytes = self.initial;
        self.bytes[self.power + 5] = pme;
    }

    fn get16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn get32(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.bytes[at..at + 4]);
        u32::from_le_bytes(bytes)
    }

    fn decodes(&self) -> (bool, bool, bool) {
        (self.bus_master(), self.memory_enabled(), self.io_enabled())
    }

    fn interrupt_facts(&self) -> (IrqMode, u32, u32, bool) {
        (self.irq_mode(), self.msi_enabled_vectors(), self.msi_masked(), self.msix_masked())
    }

    fn has_command(&self, bit: u16) -> bool {
        self.get16(COMMAND) & bit != 0 && self.power_state() == PowerState::D0
    }

    /// The function may read and write memory: only in D0, and only when it was told so.
    pub fn bus_master(&self) -> bool {
        self.has_command(COMMAND_MASTER)
    }

    /// Memory BARs answer.
    pub fn memory_enabled(&self) -> bool {
        self.has_command(COMMAND_MEMORY)
    }

    /// I/O BARs answer.
    pub fn io_enabled(&self) -> bool {
        self.has_command(COMMAND_IO)
    }

    pub fn intx_disabled(&self) -> bool {
        self.get16(COMMAND) & COMMAND_INTX_DISABLE != 0
    }

    pub fn power_state(&self) -> PowerState {
        if self.power == 0 {
            return PowerState::D0;
        }
        match self.bytes[self.power + 4] & 3 {
            0 => PowerState::D0,
            1 => PowerState::D1,
            2 => PowerState::D2,
            _ => PowerState::D3,
        }
    }

    /// The address that a BAR was given, whether or not it answers; `None` if there is no such BAR.
    pub fn bar_address(&self, index: usize) -> Option<u32> {
        if index >= 6 {
            return None;
        }
        let at = BARS + 4 * index;
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.writable[at..at + 4]);
        let mask = u32::from_le_bytes(mask);
        (mask != 0).then(|| self.get32(at) & mask)
    }

    pub fn msi_enabled(&self) -> bool {
        self.msi != 0 && self.get16(self.msi + 2) & MSI_ENABLE != 0
    }

    pub fn msix_enabled(&self) -> bool {
        self.msix != 0 && self.get16(self.msix + 2) & MSIX_ENABLE != 0
    }

    /// Every MSI-X vector is masked at once.
    pub fn msix_masked(&self) -> bool {
        self.msix != 0 && self.get16(self.msix + 2) & MSIX_MASK != 0
    }

    /// Vectors that MSI was given: never more than the function asked for.
    pub fn msi_enabled_vectors(&self) -> u32 {
        if !self.msi_enabled() {
            return 0;
        }
        (1 << (self.get16(self.msi + 2) >> 4 & 7)).min(self.msi_vectors)
    }

    /// Where the mask bits of MSI are.
    fn msi_mask_at(&self) -> Option<usize> {
        let control = if self.msi == 0 { 0 } else { self.get16(self.msi + 2) };
        let data = if control & MSI_64 == 0 { 8 } else { 12 };
        (control & MSI_MASKABLE != 0).then_some(self.msi + data + 4)
    }

    /// MSI vectors that are masked.
    pub fn msi_masked(&self) -> u32 {
        self.msi_mask_at().map_or(0, |at| self.get32(at))
    }

    /// MSI vectors that wait for their mask to be taken away.
    pub fn set_msi_pending(&mut self, vectors: u32) {
        if let Some(at) = self.msi_mask_at() {
            self.bytes[at + 4..at + 8].copy_from_slice(&vectors.to_le_bytes());
        }
    }

    /// How the function tells of interrupts now. PCI 3.0, 6.8: MSI-X and MSI are not to be
    /// enabled at once; with either, INTx is silent.
    pub fn irq_mode(&self) -> IrqMode {
        if self.power_state() != PowerState::D0 {
            IrqMode::Off
        } else if self.msix_enabled() {
            IrqMode::MsiX
        } else if self.msi_enabled() {
            IrqMode::Msi
        } else if self.interrupt_pin != 0 && !self.intx_disabled() {
            IrqMode::Intx
        } else {
            IrqMode::Off
        }
    }

    /// The state of the INTx pin before it is disabled: PCI 3.0, 6.2.3, interrupt status.
    pub fn set_intx_status(&mut self, level: bool) {
        let bit = STATUS_INTERRUPT as u8;
        self.bytes[STATUS] = self.bytes[STATUS] & !bit | if level { bit } else { 0 };
    }

    /// The function asks to be woken for. Gives whether PME is asserted.
    pub fn set_pme_status(&mut self) -> bool {
        if self.power == 0 || self.clearing[self.power + 5] == 0 {
            return false;
        }
        self.bytes[self.power + 5] |= (PMCSR_PME_STATUS >> 8) as u8;
        self.get16(self.power + 4) & PMCSR_PME_ENABLE != 0
    }

    /// Power on, or a reset of the bus.
    pub fn reset(&mut self) {
        self.bytes = self.initial;
    }

    /// Plain data with a version.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + HELD_BYTES);
        out.push(STATE_VERSION);
        out.extend(self.bytes);
        out
    }

    /// What was encoded for a function of the same table. Bits that this table has as read-only stay
    /// as they are, whatever the bytes say.
    pub fn decode(layout: &Layout, rom_bytes: u32, bytes: &[u8]) -> Option<Self> {
        let (&STATE_VERSION, bytes) = bytes.split_first()? else { return None };
        if bytes.len() != HELD_BYTES {
            return None;
        }
        let mut config = Self::new(layout, rom_bytes);
        let pending = config.msi_mask_at().map(|at| at + 4);
        for (at, &byte) in bytes.iter().enumerate() {
            let mut held = config.writable[at] | config.clearing[at];
            if at == STATUS {
                held |= STATUS_INTERRUPT as u8;
            }
            if pending.is_some_and(|pending| (pending..pending + 4).contains(&at)) {
                held = 0xff;
            }
            config.bytes[at] = config.initial[at] & !held | byte & held;
        }
        Some(config)
    }
}

#[cfg(test)]
mod tests;
