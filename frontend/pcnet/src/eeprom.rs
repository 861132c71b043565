//! The address PROM, and the serial EEPROM that it was loaded from (BCR19, a 93C46 at 16 bits).

use request::Mac;

/// The first 16 bytes of the I/O space.
pub fn aprom(mac: Mac) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&mac.0);
    // Hardware identification, and "WW": what AMD's own drivers look for.
    bytes[9] = 0x11;
    bytes[14] = b'W';
    bytes[15] = b'W';
    // Bytes 12 and 13 are the sum of the others.
    let sum = bytes.iter().fold(0u16, |sum, byte| sum.wrapping_add(u16::from(*byte)));
    bytes[12..14].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Where the serial protocol stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    /// Start bit seen: so many bits of operation and address, and their value.
    Command(u8, u16),
    /// So many bits of a word are still to come out.
    Reading(u8, u8),
    /// Address, bits still to come in, their value.
    Writing(u8, u8, u16),
}

pub const WORDS: usize = 64;

/// The EEPROM. It is written to by set-up programs only, and forgets that at power off.
#[derive(Clone, Debug)]
pub struct Eeprom {
    pub words: [u16; WORDS],
    phase: Phase,
    clock: bool,
    output: bool,
    write_enabled: bool,
}

impl Eeprom {
    pub fn new(mac: Mac) -> Self {
        let mut words = [0; WORDS];
        let prom = aprom(mac);
        for (word, pair) in words.iter_mut().zip(prom.chunks_exact(2)) {
            *word = u16::from_le_bytes([pair[0], pair[1]]);
        }
        // Byte 31 makes the sum of the first 32 bytes FFh.
        let sum = prom.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        words[15] = u16::from(0xffu8.wrapping_sub(sum)) << 8;
        Self { words, phase: Phase::Idle, clock: false, output: true, write_enabled: false }
    }

    /// EDO.
    pub fn output(&self) -> bool {
        self.output
    }

    /// ECS, ESK and EDI as BCR19 drives them.
    pub fn drive(&mut self, select: bool, clock: bool, input: bool) {
        if !select {
            self.phase = Phase::Idle;
            self.clock = clock;
            // Busy no more, as seen when selected again.
            self.output = true;
            return;
        }
        let rising = clock && !self.clock;
        self.clock = clock;
        if rising {
            self.shift(input);
        }
    }

    fn shift(&mut self, input: bool) {
        let bit = u16::from(input);
        self.phase = match self.phase {
            Phase::Idle if input => Phase::Command(0, 0),
            Phase::Idle => Phase::Idle,
            Phase::Command(7, value) => self.command(value << 1 | bit),
            Phase::Command(count, value) => Phase::Command(count + 1, value << 1 | bit),
            Phase::Reading(address, left) => {
                let left = left - 1;
                self.output = self.words[usize::from(address) % WORDS] >> left & 1 == 1;
                if left == 0 {
                    Phase::Reading(address.wrapping_add(1) % WORDS as u8, 16)
                } else {
                    Phase::Reading(address, left)
                }
            }
            Phase::Writing(address, 1, value) => {
                if self.write_enabled {
                    self.words[usize::from(address) % WORDS] = value << 1 | bit;
                }
                Phase::Idle
            }
            Phase::Writing(address, left, value) => Phase::Writing(address, left - 1, value << 1 | bit),
        };
    }

    /// Two bits of operation, six of address.
    fn command(&mut self, value: u16) -> Phase {
        let address = (value & 0x3f) as u8;
        match value >> 6 & 3 {
            0b10 => {
                // A dummy zero comes before the first bit.
                self.output = false;
                Phase::Reading(address, 16)
            }
            0b01 => Phase::Writing(address, 16, 0),
            0b11 => {
                if self.write_enabled {
                    self.words[usize::from(address)] = 0xffff;
                }
                Phase::Idle
            }
            _ => {
                match address >> 4 {
                    0b11 => self.write_enabled = true,
                    0b00 => self.write_enabled = false,
                    _ => {}
                }
                Phase::Idle
            }
        }
    }

    /// The protocol's place as five bytes.
    pub fn encode(&self) -> [u8; 6] {
        let (kind, first, second, value) = match self.phase {
            Phase::Idle => (0, 0, 0, 0),
            Phase::Command(count, value) => (1, count, 0, value),
            Phase::Reading(address, left) => (2, address, left, 0),
            Phase::Writing(address, left, value) => (3, address, left, value),
        };
        let pins = u8::from(self.clock) | u8::from(self.output) << 1 | u8::from(self.write_enabled) << 2;
        let [low, high] = value.to_le_bytes();
        [kind, first, second, low, high, pins]
    }

    pub fn decode(&mut self, bytes: [u8; 6]) {
        let [kind, first, second, low, high, pins] = bytes;
        let value = u16::from_le_bytes([low, high]);
        self.phase = match kind {
            1 => Phase::Command(first.min(7), value),
            2 => Phase::Reading(first, second.clamp(1, 16)),
            3 => Phase::Writing(first, second.clamp(1, 16), value),
            _ => Phase::Idle,
        };
        self.clock = pins & 1 != 0;
        self.output = pins & 2 != 0;
        self.write_enabled = pins & 4 != 0;
    }
}
