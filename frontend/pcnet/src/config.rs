//! What one adapter is.

use pci::{Bar, Cap, Layout};
use request::Mac;

/// Which chip the driver finds (CSR88, CSR89).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chip {
    /// PCnet-PCI II: what VMware calls vlance. No MII; the link shows in BCR4.
    #[default]
    Am79C970A,
    /// VMware's "flexible" adapter: an Am79C970A that a VMXNET driver turns into its own device.
    Flexible,
    /// PCnet-FAST III: drivers look for a PHY behind BCR33 and BCR34.
    Am79C973,
}

/// One adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    pub mac: Mac,
    pub chip: Chip,
}

impl Config {
    /// Low half of the chip identification: the part number's low four bits, the manufacturer
    /// (AMD, 001h) and a one.
    pub(crate) fn csr88(&self) -> u16 {
        match self.chip {
            Chip::Am79C970A | Chip::Flexible => 0x1003,
            Chip::Am79C973 => 0x5003,
        }
    }

    pub(crate) fn layout(&self) -> &'static Layout {
        match self.chip {
            Chip::Am79C970A => &AM79C970A,
            Chip::Flexible => &FLEXIBLE,
            Chip::Am79C973 => &AM79C973,
        }
    }
}

/// Bytes of the register window, in I/O space and in memory space.
pub(crate) const REGISTER_BYTES: u32 = 32;

const AM79C970A: Layout = Layout {
    vendor: 0x1022,
    device: 0x2000,
    revision: 0x10,
    class: [0x02, 0x00, 0x00],
    subsystem_vendor: 0x1022,
    subsystem: 0x2000,
    interrupt_pin: 1,
    min_grant: 0x06,
    max_latency: 0xff,
    bars: [
        Bar::Io { bytes: REGISTER_BYTES },
        Bar::Memory32 { bytes: REGISTER_BYTES, prefetchable: false },
        Bar::None,
        Bar::None,
        Bar::None,
        Bar::None,
    ],
    caps: &[],
};

/// OpenBSD knows the flexible adapter by the size of its I/O space.
const FLEXIBLE: Layout = Layout {
    bars: [
        Bar::Io { bytes: 128 },
        Bar::Memory32 { bytes: REGISTER_BYTES, prefetchable: false },
        Bar::None,
        Bar::None,
        Bar::None,
        Bar::None,
    ],
    ..AM79C970A
};

const AM79C973: Layout = Layout {
    revision: 0x40,
    caps: &[(0x40, Cap::PowerManagement { d1: true, d2: true, pme: 0x1f })],
    ..AM79C970A
};
