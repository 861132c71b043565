//! The PHY behind BCR33 and BCR34 (IEEE 802.3, 22.2.4).

/// Where the PHY answers: the address of the Am79C973's own one.
pub const ADDRESS: u16 = 0x1e;

mod control {
    pub const RESET: u16 = 1 << 15;
    pub const LOOPBACK: u16 = 1 << 14;
    pub const SPEED_100: u16 = 1 << 13;
    pub const AUTONEG: u16 = 1 << 12;
    pub const POWER_DOWN: u16 = 1 << 11;
    pub const ISOLATE: u16 = 1 << 10;
    pub const RESTART: u16 = 1 << 9;
    pub const FULL_DUPLEX: u16 = 1 << 8;
    pub const WRITABLE: u16 = 0x7d80;
}

mod status {
    /// 100BASE-X and 10 Mb/s, both duplexes; autonegotiation; preamble suppression.
    pub const ABILITIES: u16 = 0x7849;
    pub const AUTONEG_DONE: u16 = 1 << 5;
    pub const LINK: u16 = 1 << 2;
}

/// Advertised, and what the partner has: 802.3, 10 and 100 Mb/s, both duplexes.
const ALL_SPEEDS: u16 = 0x01e1;
const ACKNOWLEDGE: u16 = 0x4000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phy {
    pub control: u16,
    pub advertisement: u16,
    /// The cable is in.
    link: bool,
    /// The link was lost since the status was read.
    pub lost: bool,
}

impl Phy {
    pub fn new() -> Self {
        Self {
            control: control::SPEED_100 | control::AUTONEG | control::FULL_DUPLEX,
            advertisement: ALL_SPEEDS,
            link: true,
            lost: false,
        }
    }

    /// As after power on, with the same cable.
    pub fn reset(&mut self) {
        *self = Self { link: self.link, ..Self::new() };
    }

    /// Whatever the uplink does, this end is a 100 Mb/s one.
    pub fn set_link(&mut self, up: bool, _mbps: u32) {
        self.lost |= !up;
        self.link = up;
    }

    /// As the MAC manages it (BCR32).
    pub fn set_mode(&mut self, negotiate: bool, fast: bool, full: bool) {
        let choose = |choice: bool, bit: u16| if choice { bit } else { 0 };
        self.control = if negotiate {
            control::SPEED_100 | control::AUTONEG | control::FULL_DUPLEX
        } else {
            choose(fast, control::SPEED_100) | choose(full, control::FULL_DUPLEX)
        };
    }

    fn is_up(&self) -> bool {
        self.link && self.control & (control::POWER_DOWN | control::ISOLATE) == 0
    }

    pub fn loops(&self) -> bool {
        self.control & control::LOOPBACK != 0
    }

    pub fn read(&mut self, register: u16) -> u16 {
        match register {
            0 => self.control,
            1 => {
                let mut value = status::ABILITIES;
                if self.is_up() {
                    if self.control & control::AUTONEG != 0 {
                        value |= status::AUTONEG_DONE;
                    }
                    // Link status latches low until it is read (22.2.4.2.13).
                    if !self.lost {
                        value |= status::LINK;
                    }
                }
                self.lost = !self.is_up();
                value
            }
            2 => 0x0022,
            3 => 0x561b,
            4 => self.advertisement,
            5 if self.is_up() && self.control & control::AUTONEG != 0 => ALL_SPEEDS | ACKNOWLEDGE,
            // The partner can negotiate.
            6 if self.is_up() && self.control & control::AUTONEG != 0 => 0x0001,
            _ => 0,
        }
    }

    pub fn write(&mut self, register: u16, value: u16) {
        match register {
            0 if value & control::RESET != 0 => self.reset(),
            // RESTART clears itself: negotiation takes no time here.
            0 => self.control = value & control::WRITABLE & !control::RESTART,
            4 => self.advertisement = value & 0x2fff | 0x0001,
            _ => {}
        }
    }
}
