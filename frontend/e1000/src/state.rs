//! Control state as bytes: a version, then what is not as after power on.

use alloc::vec::Vec;

use request::Instant;

use crate::eeprom::{WORDS, Wire};
use crate::model::E1000;
use crate::registers as r;

const VERSION: u32 = 1;

/// Reads numbers from the front of bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn u32(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*word))
    }

    fn u16(&mut self) -> Option<u16> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_le_bytes(*word))
    }

    fn u64(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }
}

impl E1000 {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2_048);
        let mut word = |value: u32| out.extend_from_slice(&value.to_le_bytes());
        word(VERSION);
        word(u32::from(self.config.model.layout().device));
        word(self.io_address);
        let flags = [self.uplink, self.phy.cable, self.phy.agreed_at.is_some()];
        word(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u32::from(*flag)));
        let wire = &self.eeprom.wire;
        for value in [wire.pins, wire.bits, wire.shifted, wire.out, wire.out_left] {
            word(value);
        }
        let flags = [wire.level, wire.write_enabled, wire.started];
        word(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u32::from(*flag)));
        let at = self.phy.agreed_at.map_or(0, Instant::nanos);
        out.extend_from_slice(&at.to_le_bytes());
        for half in self.eeprom.words.iter().chain(&self.phy.registers) {
            out.extend_from_slice(&half.to_le_bytes());
        }
        for (offset, value) in self.registers.changed() {
            out.extend_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(&value.to_le_bytes());
        }
        out
    }

    /// What cannot be read leaves the adapter as after power on.
    pub(crate) fn decode(&mut self, bytes: &[u8]) {
        if self.try_decode(bytes).is_none() {
            pci::Bars::reset(self);
        }
        self.dirty = false;
    }

    fn try_decode(&mut self, bytes: &[u8]) -> Option<()> {
        let mut from = Reader(bytes);
        if from.u32()? != VERSION || from.u32()? != u32::from(self.config.model.layout().device) {
            return None;
        }
        let io_address = from.u32()?;
        let flags = from.u32()?;
        let mut wire = Wire {
            pins: from.u32()?,
            bits: from.u32()?,
            shifted: from.u32()?,
            out: from.u32()?,
            out_left: from.u32()?,
            ..Wire::default()
        };
        let pins = from.u32()?;
        (wire.level, wire.write_enabled, wire.started) = (pins & 1 != 0, pins & 2 != 0, pins & 4 != 0);
        let at = Instant::from_nanos(from.u64()?);
        let mut words = [0; WORDS];
        for word in &mut words {
            *word = from.u16()?;
        }
        let mut phy = [0; 32];
        for register in &mut phy {
            *register = from.u16()?;
        }
        let mut registers = r::Registers::new();
        while let Some(offset) = from.u32() {
            let value = from.u32()?;
            // A register that this version does not have is nothing to it.
            if let Some(index) = r::find(self.config.model, u64::from(offset)) {
                registers[index] = value;
            }
        }
        self.io_address = io_address;
        self.uplink = flags & 1 != 0;
        self.phy.cable = flags & 2 != 0;
        self.phy.agreed_at = (flags & 4 != 0).then_some(at);
        self.phy.registers = phy;
        self.eeprom.wire = wire;
        self.eeprom.words = words;
        self.registers = registers;
        self.apply_all();
        Some(())
    }
}
