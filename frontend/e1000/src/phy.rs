//! The copper PHY behind MDIC: 88E1011 (8254x) or 88E1149-like "BM" (82574), IEEE 802.3 clause 22
//! registers and the vendor's (8254x SDM, 14).

use core::time::Duration;

use request::Instant;

use crate::Model;

pub const CONTROL: usize = 0;
pub const STATUS: usize = 1;
const ID1: usize = 2;
const ID2: usize = 3;
const ADVERTISE: usize = 4;
const PARTNER: usize = 5;
const EXPANSION: usize = 6;
const NEXT_PAGE: usize = 7;
const GIGABIT_CONTROL: usize = 9;
const GIGABIT_STATUS: usize = 10;
const EXTENDED_STATUS: usize = 15;
const SPECIFIC_CONTROL: usize = 16;
const SPECIFIC_STATUS: usize = 17;
const INTERRUPT_ENABLE: usize = 18;
const INTERRUPT_STATUS: usize = 19;
const EXTENDED_CONTROL: usize = 20;
const ERRORS: usize = 21;

// Control register.
const RESET: u16 = 1 << 15;
const LOOPBACK: u16 = 1 << 14;
const SPEED_LOW: u16 = 1 << 13;
const AUTONEGOTIATION: u16 = 1 << 12;
const POWER_DOWN: u16 = 1 << 11;
const RESTART: u16 = 1 << 9;
const DUPLEX: u16 = 1 << 8;
const SPEED_HIGH: u16 = 1 << 6;

// Status register.
const COMPLETE: u16 = 1 << 5;
const LINK: u16 = 1 << 2;

/// How long two partners take to agree. The real ones need a second or two; drivers poll or wait
/// for the interrupt.
const NEGOTIATION: Duration = Duration::from_millis(50);

/// Speeds and duplexes of the wire, as the MAC's STATUS register has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    pub up: bool,
    /// 10, 100 or 1,000.
    pub mbps: u16,
    pub full_duplex: bool,
}

/// Plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phy {
    pub registers: [u16; 32],
    /// The cable is plugged, and somebody is at its other end.
    pub cable: bool,
    /// Negotiation ends then; `None`: it is over, or waits for a cable.
    pub agreed_at: Option<Instant>,
    new: bool,
}

impl Phy {
    pub fn new(model: Model) -> Phy {
        let mut phy = Phy { registers: [0; 32], cable: true, agreed_at: None, new: model.is_82574() };
        phy.reset();
        phy
    }

    /// Register values after a hardware reset. Negotiation is as if over.
    pub fn reset(&mut self) {
        let r = &mut self.registers;
        *r = [0; 32];
        r[CONTROL] = AUTONEGOTIATION | DUPLEX | SPEED_HIGH;
        // Abilities: all of 10 and 100 Mb/s, extended status, preamble suppression, negotiation.
        r[STATUS] = 0x7949;
        r[ID1] = 0x0141;
        r[ID2] = if self.new { 0x0cb1 } else { 0x0c20 };
        r[ADVERTISE] = 0x0de1;
        r[EXPANSION] = 0x0004;
        r[NEXT_PAGE] = 0x2001;
        r[GIGABIT_CONTROL] = if self.new { 0x0f00 } else { 0x0e00 };
        r[EXTENDED_STATUS] = 0x3000;
        r[SPECIFIC_CONTROL] = if self.new { 0x3360 } else { 0x0068 };
        r[EXTENDED_CONTROL] = 0x0d60;
        self.agreed_at = None;
        self.settle();
    }

    /// Bits of a register that software may set.
    fn mask(register: usize) -> u16 {
        match register {
            CONTROL => 0x7dc0,
            ADVERTISE => 0xbfff,
            NEXT_PAGE => 0xb7ff,
            GIGABIT_CONTROL => 0xff00,
            SPECIFIC_CONTROL | INTERRUPT_ENABLE | EXTENDED_CONTROL => 0xffff,
            STATUS | ID1 | ID2 | PARTNER | EXPANSION | 8 | GIGABIT_STATUS => 0,
            EXTENDED_STATUS | SPECIFIC_STATUS | INTERRUPT_STATUS | ERRORS => 0,
            // Pages, LEDs, cable tests, the vendor's undocumented places: kept as written.
            _ => 0xffff,
        }
    }

    pub fn read(&mut self, register: usize) -> u16 {
        let register = register % 32;
        let value = self.registers[register];
        match register {
            INTERRUPT_STATUS => self.registers[INTERRUPT_STATUS] = 0,
            // The page was received.
            EXPANSION => self.registers[EXPANSION] &= !2,
            _ => {}
        }
        value
    }

    pub fn write(&mut self, now: Instant, register: usize, value: u16) {
        let register = register % 32;
        let mask = Self::mask(register);
        let was = self.registers[register];
        self.registers[register] = (was & !mask) | (value & mask);
        if register != CONTROL {
            return;
        }
        if value & RESET != 0 {
            // A software reset keeps what a driver may write, and negotiates anew.
            self.restart(now);
        } else if value & RESTART != 0 || (was ^ value) & (AUTONEGOTIATION | POWER_DOWN) != 0 {
            self.restart(now);
        } else {
            self.settle();
        }
    }

    /// Begins to negotiate.
    pub fn restart(&mut self, now: Instant) {
        let control = self.registers[CONTROL];
        self.agreed_at = None;
        if self.cable && control & AUTONEGOTIATION != 0 && control & (POWER_DOWN | LOOPBACK) == 0 {
            self.agreed_at = Some(now.after(NEGOTIATION));
        }
        self.settle();
    }

    pub fn set_cable(&mut self, now: Instant, plugged: bool) {
        if self.cable != plugged {
            self.cable = plugged;
            self.restart(now);
        }
    }

    /// Ends negotiation if its time has come.
    pub fn expire(&mut self, now: Instant) -> bool {
        let over = self.agreed_at.is_some_and(|at| at <= now);
        if over {
            self.agreed_at = None;
            self.settle();
        }
        over
    }

    pub fn loops_back(&self) -> bool {
        self.registers[CONTROL] & (LOOPBACK | POWER_DOWN) == LOOPBACK
    }

    /// What the wire is like now.
    pub fn line(&self) -> Line {
        let control = self.registers[CONTROL];
        if control & POWER_DOWN != 0 || self.agreed_at.is_some() || !(self.cable || self.loops_back()) {
            return Line::default();
        }
        if control & AUTONEGOTIATION != 0 && !self.loops_back() {
            // The partner can do all; the best that is advertised is taken (802.3, 28B.3).
            let offered = self.registers[ADVERTISE];
            let (mbps, full_duplex) = if self.registers[GIGABIT_CONTROL] & 0x200 != 0 {
                (1_000, true)
            } else if offered & 0x100 != 0 {
                (100, true)
            } else if offered & 0x80 != 0 {
                (100, false)
            } else if offered & 0x40 != 0 {
                (10, true)
            } else if offered & 0x20 != 0 {
                (10, false)
            } else {
                return Line::default();
            };
            return Line { up: true, mbps, full_duplex };
        }
        let mbps = match (control & SPEED_HIGH != 0, control & SPEED_LOW != 0) {
            (true, _) => 1_000,
            (false, true) => 100,
            (false, false) => 10,
        };
        Line { up: true, mbps, full_duplex: control & DUPLEX != 0 }
    }

    /// Makes the status registers say what the line is.
    fn settle(&mut self) {
        let line = self.line();
        let negotiated = line.up && self.registers[CONTROL] & AUTONEGOTIATION != 0;
        let r = &mut self.registers;
        let was_up = r[STATUS] & LINK != 0;
        r[STATUS] &= !(COMPLETE | LINK);
        r[PARTNER] = 0;
        r[GIGABIT_STATUS] = 0;
        r[SPECIFIC_STATUS] = 0;
        if line.up {
            r[STATUS] |= LINK;
            // Speed (15:14), duplex (13), resolved (11), link (10).
            let speed = match line.mbps {
                1_000 => 2,
                100 => 1,
                _ => 0,
            };
            r[SPECIFIC_STATUS] = speed << 14 | u16::from(line.full_duplex) << 13 | 1 << 11 | 1 << 10;
        }
        if negotiated {
            r[STATUS] |= COMPLETE;
            r[EXPANSION] |= 0x3;
            // All abilities, both directions of pause, acknowledged.
            r[PARTNER] = 0x4de1;
            // The partner has 1000BASE-T in both duplexes; both receivers are well.
            r[GIGABIT_STATUS] = 0x3c00;
        }
        if was_up != line.up {
            // Link status changed.
            r[INTERRUPT_STATUS] |= 1 << 10;
        }
        if negotiated && !was_up {
            // Speed and duplex changed, negotiation complete.
            r[INTERRUPT_STATUS] |= 1 << 14 | 1 << 13 | 1 << 11;
        }
    }
}
