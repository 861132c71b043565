//! Reads and writes of the registers, and of the I/O window to them.

use guest_memory::Memory;
use request::Instant;

use crate::interrupt;
use crate::model::{E1000, QUEUES};
use crate::registers::{self as r};

const CTRL_RST: u32 = 1 << 26;
const CTRL_PHY_RST: u32 = 1 << 31;
const CTRL_EXT_EE_RST: u32 = 1 << 13;

// EERD and EEWR.
const START: u32 = 1 << 0;
const DONE_OLD: u32 = 1 << 4;
const DONE_NEW: u32 = 1 << 1;

// MDIC (13.4.7).
const MDIC_READY: u32 = 1 << 28;
const MDIC_INTERRUPT: u32 = 1 << 29;
const MDIC_ERROR: u32 = 1 << 30;

/// SWSM: a read that finds it clear sets it.
const SMBI: u32 = 1 << 0;

/// RDTR and TIDV: what is held back comes now.
const FLUSH: u32 = 1 << 31;

/// IOADDR and IODATA in the I/O BAR (13.2.2).
const IOADDR: u64 = 0;
const IODATA: u64 = 4;

/// Packet memory, in KiB.
const PACKET_MEMORY_OLD: u32 = 64;
const PACKET_MEMORY_NEW: u32 = 40;

impl E1000 {
    /// Registers are of 32 bits. Parts of one are given out of it; its side effects take place.
    pub(crate) fn read_registers(&mut self, now: Instant, offset: u64, into: &mut [u8]) {
        let mut done = 0;
        while done < into.len() {
            let at = offset.wrapping_add(done as u64);
            let within = (at % 4) as usize;
            let count = (4 - within).min(into.len() - done);
            let value = self.read_register(now, at & !3).to_le_bytes();
            into[done..done + count].copy_from_slice(&value[within..within + count]);
            done += count;
        }
    }

    /// Whole registers only, as the device's own bus has no byte enables for them.
    pub(crate) fn write_registers(&mut self, now: Instant, memory: &Memory, offset: u64, bytes: &[u8]) {
        if !offset.is_multiple_of(4) {
            return;
        }
        let (words, _) = bytes.as_chunks::<4>();
        for (nth, word) in words.iter().enumerate() {
            let at = offset.wrapping_add(4 * nth as u64);
            self.write_register(now, memory, at, u32::from_le_bytes(*word));
        }
    }

    pub(crate) fn read_io(&mut self, now: Instant, offset: u64, into: &mut [u8]) {
        let within = (offset % 4) as usize;
        let value = match offset & !3 {
            IOADDR => self.io_address,
            IODATA if within + into.len() <= 4 => self.read_register(now, u64::from(self.io_address)),
            _ => 0,
        };
        let value = value.to_le_bytes();
        let count = into.len().min(4 - within);
        into[..count].copy_from_slice(&value[within..within + count]);
    }

    pub(crate) fn write_io(&mut self, now: Instant, memory: &Memory, offset: u64, bytes: &[u8]) {
        let Ok(word) = <[u8; 4]>::try_from(bytes) else { return };
        let value = u32::from_le_bytes(word);
        match offset {
            IOADDR => {
                self.io_address = value;
                self.dirty = true;
            }
            IODATA => self.write_register(now, memory, u64::from(self.io_address & !3), value),
            _ => {}
        }
    }

    fn read_register(&mut self, now: Instant, offset: u64) -> u32 {
        let Some(index) = r::find(self.config.model, offset) else { return 0 };
        match index {
            r::EECD => self.eeprom.read_eecd(),
            r::ICR => self.causes.read(now),
            r::IMS => self.causes.ims(),
            r::RDH0 => self.rx[0].ring.head_register(),
            r::RDT0 => self.rx[0].ring.tail_register(),
            r::RDH1 => self.rx[1].ring.head_register(),
            r::RDT1 => self.rx[1].ring.tail_register(),
            r::TDH0 => self.tx[0].ring.head_register(),
            r::TDT0 => self.tx[0].ring.tail_register(),
            r::TDH1 => self.tx[1].ring.head_register(),
            r::TDT1 => self.tx[1].ring.tail_register(),
            r::SWSM => {
                let value = self.registers[index];
                if value & SMBI == 0 {
                    self.registers[index] |= SMBI;
                    self.dirty = true;
                }
                value
            }
            _ => self.read_plain(index),
        }
    }

    /// What is stored; statistics are cleared, pairs of 64 bits when the upper half is read.
    fn read_plain(&mut self, index: usize) -> u32 {
        let value = self.registers[index];
        if r::row(index).is_some_and(|row| row.clears) {
            if matches!(index, r::GORCH | r::GOTCH | r::TORH | r::TOTH) {
                self.dirty |= self.registers[index - 1] != 0;
                self.registers[index - 1] = 0;
            }
            self.dirty |= value != 0;
            self.registers[index] = 0;
        }
        value
    }

    fn write_register(&mut self, now: Instant, memory: &Memory, offset: u64, value: u32) {
        let _ = memory;
        let Some(index) = r::find(self.config.model, offset) else { return };
        // Those whose state is hot: no copy of the control state is due.
        match index {
            r::TDT0 => return self.tx[0].set_tail(value as u16),
            r::RDT0 => return self.rx[0].ring.set_tail(value as u16),
            r::TDT1 => return self.tx[1].set_tail(value as u16),
            r::RDT1 => return self.rx[1].ring.set_tail(value as u16),
            r::RDH0 => return self.rx[0].set_head(value as u16),
            r::RDH1 => return self.rx[1].set_head(value as u16),
            r::TDH0 => return self.tx[0].set_head(value as u16),
            r::TDH1 => return self.tx[1].set_head(value as u16),
            r::ICR => return self.causes.acknowledge(now, value),
            r::ICS => return self.causes.raise(now, value),
            r::IMS => return self.causes.enable(now, value),
            r::IMC => return self.causes.disable(now, value),
            _ => {}
        }
        self.dirty = true;
        match index {
            r::CTRL => self.write_ctrl(now, value),
            r::EECD => self.eeprom.write_eecd(value),
            r::EERD => self.write_eerd(value),
            r::EEWR => self.write_eewr(value),
            r::MDIC => self.write_mdic(now, value),
            r::CTRL_EXT => {
                self.registers.store(index, value);
                if value & CTRL_EXT_EE_RST != 0 {
                    self.reload_address();
                }
                self.apply_interrupts();
            }
            r::RDTR => {
                self.registers.store(index, value);
                if value & FLUSH != 0 {
                    self.flush_receive(now);
                }
            }
            r::TIDV => {
                self.registers.store(index, value);
                if value & FLUSH != 0 {
                    self.flush_transmit(now);
                }
            }
            r::PBA => {
                let all = if self.config.model.is_82574() { PACKET_MEMORY_NEW } else { PACKET_MEMORY_OLD };
                let receive = (value & 0xffff).min(all);
                self.registers[index] = (all - receive) << 16 | receive;
            }
            // The upper half of a receive address (13.5.2).
            _ if (r::RA..r::RA + 32).contains(&index) && (index - r::RA) % 2 == 1 => {
                self.registers[index] = value & 0x8003_ffff;
            }
            // What woke the host: bits written as one are cleared.
            r::WUS => self.registers[index] &= !value,
            _ => {
                self.registers.store(index, value);
                self.apply(index);
            }
        }
    }

    /// A stored register's effect on what is worked out from it.
    fn apply(&mut self, index: usize) {
        match index {
            r::RCTL | r::RFCTL | r::PSRCTL | r::RXCSUM => {
                let was = self.settings.split.is_some();
                self.apply_receive();
                // Another kind of descriptor has another length.
                if self.settings.split.is_some() != was {
                    for queue in 0..QUEUES {
                        self.apply_receive_ring(queue);
                    }
                }
            }
            r::ITR | r::EIAC | r::IAM | r::IVAR => self.apply_interrupts(),
            _ if (r::EITR..r::EITR + interrupt::VECTORS).contains(&index) => self.apply_interrupts(),
            r::RDBAL0 | r::RDBAH0 | r::RDLEN0 => self.apply_receive_ring(0),
            r::RDBAL1 | r::RDBAH1 | r::RDLEN1 => self.apply_receive_ring(1),
            r::TDBAL0 | r::TDBAH0 | r::TDLEN0 => self.apply_transmit_ring(0),
            r::TDBAL1 | r::TDBAH1 | r::TDLEN1 => self.apply_transmit_ring(1),
            _ => {}
        }
    }

    fn write_ctrl(&mut self, now: Instant, value: u32) {
        if value & CTRL_RST != 0 {
            self.counters.resets = self.counters.resets.wrapping_add(1);
            self.reset_mac();
            return;
        }
        let was = self.registers[r::CTRL];
        self.registers.store(r::CTRL, value);
        if value & !was & CTRL_PHY_RST != 0 {
            self.phy.reset();
            self.phy.restart(now);
        }
        self.apply_receive();
        self.link_changed(now);
    }

    /// CTRL.RST, and power on: all but the PHY, the EEPROM's words and what PCI keeps (13.4.1).
    pub(crate) fn reset_mac(&mut self) {
        for queue in 0..QUEUES {
            self.rx[queue].reset();
            self.tx[queue].reset();
        }
        self.causes.reset();
        self.stop_timers();
        self.eeprom.reset();
        self.load_defaults();
        self.apply_all();
        self.dirty = true;
    }

    /// The address in the EEPROM takes the place of what software wrote.
    fn reload_address(&mut self) {
        let [a, b, c, d, e, f] = self.eeprom.mac();
        self.registers[r::RA] = u32::from_le_bytes([a, b, c, d]);
        self.registers[r::RA + 1] = 1 << 31 | u32::from(u16::from_le_bytes([e, f]));
    }

    fn write_eerd(&mut self, value: u32) {
        let new = self.config.model.is_82574();
        let (address, done) =
            if new { (value >> 2 & 0x3fff, DONE_NEW) } else { (value >> 8 & 0xff, DONE_OLD) };
        self.registers[r::EERD] = if value & START != 0 {
            u32::from(self.eeprom.word(address)) << 16 | (value & 0xffff & !START) | done
        } else {
            value & 0xffff & !done
        };
    }

    fn write_eewr(&mut self, value: u32) {
        if value & START != 0 {
            self.eeprom.set_word(value >> 2 & 0x3fff, (value >> 16) as u16);
        }
        self.registers[r::EEWR] = (value & !START) | DONE_NEW;
    }

    fn write_mdic(&mut self, now: Instant, value: u32) {
        let register = (value >> 16 & 0x1f) as usize;
        let mut done = value & !(MDIC_ERROR | 0xffff) | MDIC_READY;
        match (value >> 21 & 0x1f, value >> 26 & 3) {
            (1, 0b01) => {
                self.phy.write(now, register, value as u16);
                done |= value & 0xffff;
                self.link_changed(now);
            }
            (1, 0b10) => done |= u32::from(self.phy.read(register)),
            // Nobody answers at another address.
            _ => done |= MDIC_ERROR,
        }
        self.registers[r::MDIC] = done;
        if value & MDIC_INTERRUPT != 0 {
            self.causes.raise(now, interrupt::MDAC);
        }
    }
}
