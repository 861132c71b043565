//! The 32 bytes of registers: address PROM, and four ports two or four bytes apart.

use guest_memory::Memory;
use request::Instant;

use crate::registers::{bcr, csr};
use crate::{Chip, Pcnet, vmxnet};

const APROM_BYTES: u64 = 16;

/// The ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    /// Register data.
    Rdp,
    /// Register address.
    Rap,
    Reset,
    /// Bus configuration register data.
    Bdp,
}

const PORTS: [Port; 4] = [Port::Rdp, Port::Rap, Port::Reset, Port::Bdp];

impl Pcnet {
    fn is_dword(&self) -> bool {
        self.bcr[bcr::BSBC] & bcr::DWIO != 0
    }

    /// VMware's ports lie behind the vlance's in I/O space.
    fn has_morph(&self, bar: u8) -> bool {
        bar == 0 && self.config.chip == Chip::Flexible
    }

    /// The port that an access of this length hits. With word I/O it has 16 bits, with double word
    /// I/O 32; another access meets nothing. There is no vlance while the adapter is VMXNET.
    fn port(&self, offset: u64, len: usize) -> Option<Port> {
        if self.vmxnet.morphed {
            return None;
        }
        let step: usize = if self.is_dword() { 4 } else { 2 };
        let at = usize::try_from(offset.checked_sub(APROM_BYTES)?).ok()?;
        if len != step || !at.is_multiple_of(step) {
            return None;
        }
        PORTS.get(at / step).copied()
    }

    pub(crate) fn read_window(&mut self, bar: u8, offset: u64, into: &mut [u8]) {
        into.fill(0xff);
        if bar > 1 {
            return;
        }
        if offset < APROM_BYTES {
            for (byte, at) in into.iter_mut().zip(offset..APROM_BYTES) {
                *byte = self.aprom[at as usize];
            }
            return;
        }
        if self.has_morph(bar) && offset >= vmxnet::MORPH {
            self.read_morph(offset, into);
            return;
        }
        let Some(port) = self.port(offset, into.len()) else { return };
        let number = usize::from(self.rap);
        let value = match port {
            // The chip identification is the one register of 32 bits.
            Port::Rdp if number == csr::CHIP_LOW && into.len() == 4 => {
                u32::from(self.read_csr(csr::CHIP_HIGH)) << 16 | u32::from(self.read_csr(csr::CHIP_LOW))
            }
            Port::Rdp => u32::from(self.read_csr(number)),
            Port::Rap => u32::from(self.rap),
            Port::Reset => {
                self.software_reset();
                0
            }
            Port::Bdp => u32::from(self.read_bcr(number)),
        };
        let bytes = value.to_le_bytes();
        into.copy_from_slice(&bytes[..into.len()]);
    }

    pub(crate) fn write_window(&mut self, now: Instant, memory: &Memory, bar: u8, offset: u64, bytes: &[u8]) {
        if bar > 1 {
            return;
        }
        if offset < APROM_BYTES {
            if self.bcr[bcr::MC] & bcr::APROMWE != 0 {
                for (byte, at) in bytes.iter().zip(offset..APROM_BYTES) {
                    self.aprom[at as usize] = *byte;
                }
                self.dirty = true;
            }
            return;
        }
        if self.has_morph(bar) && offset >= vmxnet::MORPH {
            self.write_morph(now, memory, offset, bytes);
            return;
        }
        if self.vmxnet.morphed {
            return;
        }
        // A double word to RDP switches from word I/O to double word I/O, and does nothing else.
        if !self.is_dword() && offset == APROM_BYTES && bytes.len() == 4 {
            self.bcr[bcr::BSBC] |= bcr::DWIO;
            self.dirty = true;
            return;
        }
        let Some(port) = self.port(offset, bytes.len()) else { return };
        let [low, high, ..] = *bytes else { return };
        let value = u16::from_le_bytes([low, high]);
        let number = usize::from(self.rap);
        match port {
            Port::Rdp => self.write_csr(now, memory, number, value),
            Port::Rap => {
                let rap = value & 0x7f;
                self.dirty |= self.rap != rap;
                self.rap = rap;
            }
            Port::Reset => {}
            Port::Bdp => self.write_bcr(number, value),
        }
    }
}
