//! The EEPROM: 64 words behind a serial interface of four wires (8254x SDM, 5.2 to 5.6; the 93C46's
//! Microwire commands), or behind the register EERD.

use request::Mac;

use crate::Model;

/// Words of the EEPROM.
pub const WORDS: usize = 64;

/// All words together give this (8254x SDM, 5.6.35).
const SUM: u16 = 0xbaba;

const ADDRESS_BITS: u32 = 6;

// EECD (13.4.4).
const SK: u32 = 1 << 0;
const CS: u32 = 1 << 1;
const DI: u32 = 1 << 2;
const DO: u32 = 1 << 3;
const REQ: u32 = 1 << 6;
const GNT: u32 = 1 << 7;
const PRES: u32 = 1 << 8;
/// What software sets: the pins, the flash's write enable, the request.
const WRITABLE: u32 = SK | CS | DI | 0x30 | REQ;
/// 82574: the NVM was read after the reset, and it is a flash.
const NEW: u32 = 1 << 9 | 3 << 15;

/// Where the state machine of the serial interface stands; plain data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// The pins and the request, as last written.
    pub pins: u32,
    /// Bits of the command so far, behind its start bit.
    pub bits: u32,
    pub shifted: u32,
    /// What is to come out, from the top.
    pub out: u32,
    pub out_left: u32,
    /// DO.
    pub level: bool,
    pub write_enabled: bool,
    /// The start bit was seen.
    pub started: bool,
}

#[derive(Clone, Debug)]
pub struct Eeprom {
    pub words: [u16; WORDS],
    pub wire: Wire,
    new: bool,
}

impl Eeprom {
    pub fn new(model: Model, mac: Mac) -> Eeprom {
        let layout = model.layout();
        let mut words = [0xffff; WORDS];
        let [a, b, c, d, e, f] = mac.0;
        words[0] = u16::from_le_bytes([a, b]);
        words[1] = u16::from_le_bytes([c, d]);
        words[2] = u16::from_le_bytes([e, f]);
        // Compatibility, ID LED settings (default), version 1.0, assembly number.
        words[3] = 0;
        words[4] = 0xffff;
        words[5] = 0x1000;
        words[8] = 0;
        words[9] = 0;
        // Initialization control 1: signature 01b, subsystem and device IDs are loaded.
        words[0x0a] = 0x4003;
        words[0x0b] = layout.subsystem;
        words[0x0c] = layout.subsystem_vendor;
        words[0x0d] = layout.device;
        words[0x0e] = layout.vendor;
        // Initialization control 2: pause both ways. 82574: bit 0 says no deep smart power down, bits
        // 14:13 no management.
        words[0x0f] = if model.is_82574() { 0x1041 } else { 0x3040 };
        // Initialization control 3: no advanced power management wake-up.
        words[0x14] = 0;
        if model.is_82574() {
            // What Linux's driver mends, and writes back, where it is missing.
            words[0x10] = 0x0010;
            words[0x23] = 0x8000;
        }
        words[0x24] = 0;
        let sum = words[..WORDS - 1].iter().fold(0u16, |sum, word| sum.wrapping_add(*word));
        words[WORDS - 1] = SUM.wrapping_sub(sum);
        Eeprom { words, wire: Wire::default(), new: model.is_82574() }
    }

    /// The address that is loaded into RA after a reset.
    pub fn mac(&self) -> [u8; 6] {
        let [a, b] = self.words[0].to_le_bytes();
        let [c, d] = self.words[1].to_le_bytes();
        let [e, f] = self.words[2].to_le_bytes();
        [a, b, c, d, e, f]
    }

    /// The words stay; what was going on does not.
    pub fn reset(&mut self) {
        self.wire = Wire::default();
    }

    /// EERD and the 82574's EEPROM mode read a word; what is not there reads as erased.
    pub fn word(&self, address: u32) -> u16 {
        self.words.get(address as usize).copied().unwrap_or(0xffff)
    }

    pub fn set_word(&mut self, address: u32, value: u16) {
        if let Some(word) = self.words.get_mut(address as usize) {
            *word = value;
        }
    }

    pub fn read_eecd(&self) -> u32 {
        let wire = &self.wire;
        let granted = if wire.pins & REQ != 0 { GNT } else { 0 };
        let level = if wire.level { DO } else { 0 };
        wire.pins | granted | level | PRES | if self.new { NEW } else { 0 }
    }

    pub fn write_eecd(&mut self, value: u32) {
        let was = self.wire.pins;
        let now = value & WRITABLE;
        self.wire.pins = now;
        if self.new {
            return;
        }
        if now & CS == 0 {
            // Deselected: the command is over. Whatever was written is there at once, and so DO
            // says "ready" when the chip is selected again.
            let write_enabled = self.wire.write_enabled;
            self.wire = Wire { pins: now, write_enabled, level: true, ..Wire::default() };
            return;
        }
        if was & SK == 0 && now & SK != 0 {
            self.clock(now & DI != 0);
        }
    }

    /// A rising edge of SK.
    fn clock(&mut self, bit: bool) {
        let wire = &mut self.wire;
        if wire.out_left > 0 {
            wire.level = wire.out & 0x8000 != 0;
            wire.out = (wire.out << 1) & 0xffff;
            wire.out_left -= 1;
            if wire.out_left == 0 {
                // Sequential read: the next word follows.
                let next = (wire.bits + 1) % WORDS as u32;
                wire.bits = next;
                wire.out = u32::from(self.words[next as usize % WORDS]);
                wire.out_left = 16;
            }
            return;
        }
        if !wire.started {
            wire.started = bit;
            return;
        }
        // A finished command takes no more bits.
        if wire.shifted >= 2 + ADDRESS_BITS + 16 {
            return;
        }
        wire.bits = wire.bits << 1 | u32::from(bit);
        wire.shifted += 1;
        let opcode = if wire.shifted >= 2 { wire.bits >> (wire.shifted - 2) & 3 } else { 0 };
        if wire.shifted == 2 + ADDRESS_BITS {
            let address = wire.bits & 0x3f;
            match opcode {
                // READ: a zero bit comes first.
                0b10 => {
                    wire.level = false;
                    wire.bits = address;
                    wire.out = u32::from(self.words[address as usize % WORDS]);
                    wire.out_left = 16;
                }
                // EWEN, EWDS and, beside them, ERAL.
                0b00 => match address >> 4 {
                    0b11 => wire.write_enabled = true,
                    0b00 => wire.write_enabled = false,
                    0b10 if wire.write_enabled => self.words = [0xffff; WORDS],
                    _ => {}
                },
                // ERASE.
                0b11 if wire.write_enabled => self.words[address as usize % WORDS] = 0xffff,
                _ => {}
            }
        } else if wire.shifted == 2 + ADDRESS_BITS + 16 && wire.write_enabled {
            let data = wire.bits as u16;
            let address = (wire.bits >> 16 & 0x3f) as usize;
            match opcode {
                // WRITE, and WRAL.
                0b01 => self.words[address % WORDS] = data,
                0b00 if address >> 4 == 0b01 => self.words = [data; WORDS],
                _ => {}
            }
        }
    }
}
