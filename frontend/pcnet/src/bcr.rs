//! Bus configuration registers: structure sizes, LEDs, EEPROM, MII.

use crate::Pcnet;
use crate::phy;
use crate::registers::{BCR, bcr};

/// BCR19.
mod eecas {
    pub const PVALID: u16 = 1 << 15;
    pub const PREAD: u16 = 1 << 14;
    pub const EEDET: u16 = 1 << 13;
    pub const EEN: u16 = 1 << 4;
    pub const ECS: u16 = 1 << 2;
    pub const ESK: u16 = 1 << 1;
    pub const EDI: u16 = 1 << 0;
}

/// BCR4 to BCR7: the LED is on; full duplex link; link.
const LEDOUT: u16 = 1 << 15;
const FDLSE: u16 = 1 << 8;
const LNKSTE: u16 = 1 << 6;

/// BCR32: what a driver may write.
const MIICAS_WRITABLE: u16 = 0xbffe;

impl Pcnet {
    pub(crate) fn reset_bcrs(&mut self) {
        self.bcr.fill(0);
        for (number, value, _) in BCR {
            self.bcr[*number] = *value;
        }
        // An EEPROM is there, and was read.
        self.bcr[bcr::EECAS] = eecas::PVALID | eecas::EEDET | eecas::ESK;
        self.bcr[bcr::SWS] = bcr::CSRPCNET;
        self.bcr[bcr::MIICAS] = bcr::MIIPD;
    }

    pub(crate) fn read_bcr(&mut self, number: usize) -> u16 {
        match number {
            bcr::LED0..=bcr::LED3 => {
                let value = self.bcr[number] & !LEDOUT;
                let full = self.bcr[bcr::FDC] & bcr::FDEN != 0;
                let lit = self.link && (value & LNKSTE != 0 || full && value & FDLSE != 0);
                if lit { value | LEDOUT } else { value }
            }
            bcr::EECAS => {
                let value = self.bcr[number];
                if value & eecas::EEN != 0 {
                    value & !eecas::EDI | u16::from(self.eeprom.output())
                } else {
                    value
                }
            }
            bcr::MIIMDR => {
                let address = self.bcr[bcr::MIIADDR];
                if address >> 5 & 0x1f != phy::ADDRESS {
                    return 0xffff;
                }
                // Reading the status may change what it reads next.
                let before = self.phy;
                let value = self.phy.read(address & 0x1f);
                self.dirty |= self.phy != before;
                value
            }
            _ => self.bcr.get(number).copied().unwrap_or(0),
        }
    }

    fn store_bcr(&mut self, number: usize, value: u16) {
        self.dirty |= self.bcr[number] != value;
        self.bcr[number] = value;
    }

    pub(crate) fn write_bcr(&mut self, number: usize, value: u16) {
        match number {
            bcr::SWS => {
                if !(self.stopped() || self.suspended()) {
                    return;
                }
                let sizes = match value & 0xff {
                    0 => bcr::CSRPCNET,
                    1 => bcr::SSIZE32 | 1,
                    style @ 2..=3 => bcr::SSIZE32 | bcr::CSRPCNET | style,
                    // Reserved. Linux writes 4 where it means 0.
                    _ => bcr::CSRPCNET,
                };
                self.store_bcr(number, sizes | value & bcr::APERREN);
            }
            bcr::EECAS => self.write_eecas(value),
            bcr::MIICAS => self.write_miicas(value),
            bcr::MIIMDR => {
                let address = self.bcr[bcr::MIIADDR];
                if address >> 5 & 0x1f == phy::ADDRESS {
                    self.phy.write(address & 0x1f, value);
                    self.dirty = true;
                }
            }
            _ => {
                if let Some((_, _, writable)) = BCR.iter().find(|(at, _, _)| *at == number) {
                    self.store_bcr(number, self.bcr[number] & !writable | value & writable);
                }
            }
        }
    }

    fn write_eecas(&mut self, value: u16) {
        self.dirty = true;
        if value & eecas::PREAD != 0 {
            for (pair, word) in self.aprom.chunks_exact_mut(2).zip(self.eeprom.words) {
                pair.copy_from_slice(&word.to_le_bytes());
            }
            self.bcr[bcr::EECAS] = eecas::PVALID | eecas::EEDET | eecas::ESK;
            return;
        }
        let enabled = value & eecas::EEN != 0;
        self.eeprom.drive(
            enabled && value & eecas::ECS != 0,
            value & eecas::ESK != 0,
            value & eecas::EDI != 0,
        );
        let pins = eecas::EEN | eecas::ECS | eecas::ESK | eecas::EDI;
        self.bcr[bcr::EECAS] = self.bcr[bcr::EECAS] & !pins | value & pins;
    }

    /// DANAS lets a driver set speed and duplex by hand, which come into force when it is cleared
    /// again.
    fn write_miicas(&mut self, value: u16) {
        let before = self.bcr[bcr::MIICAS];
        if value & bcr::XPHYRST != 0 {
            self.phy.reset();
            self.dirty = true;
        }
        if before & bcr::DANAS != 0 && value & bcr::DANAS == 0 {
            let negotiate = value & bcr::XPHYANE != 0;
            self.phy.set_mode(negotiate, value & bcr::XPHYSP != 0, value & bcr::XPHYFD != 0);
            self.dirty = true;
        }
        self.store_bcr(bcr::MIICAS, value & MIICAS_WRITABLE & !bcr::XPHYRST | bcr::MIIPD);
    }
}
