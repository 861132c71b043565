//! Which adapter it is, and what its configuration space says.

use pci::{Bar, Cap, Layout};
use request::Mac;

/// The members of the family that are modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// PRO/1000 MT Desktop.
    I82540em,
    /// PRO/1000 MT Server: what VMware calls "E1000".
    I82545em,
    /// 82574L: what VMware calls "E1000e". PCI Express, MSI-X, two queues each way.
    I82574l,
}

/// What an adapter has burnt in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    pub model: Model,
    /// The address in the EEPROM of a new adapter.
    pub mac: Mac,
}

/// Registers and memory (8254x SDM, 4.1; 82574 datasheet, 9.3).
pub const BAR_REGISTERS: u8 = 0;

const REGISTERS: Bar = Bar::Memory32 { bytes: 128 << 10, prefetchable: false };

/// Where PCI power management lies in the configuration space of an 8254x (8254x SDM, 4.1).
const CAPS_8254X: &[(u8, Cap)] = &[(0xdc, Cap::PowerManagement { d1: false, d2: false, pme: 0 })];

/// 82574 datasheet, 9.1: the order in which the capabilities are chained.
const CAPS_82574: &[(u8, Cap)] = &[
    (0xc8, Cap::PowerManagement { d1: false, d2: false, pme: 0 }),
    (0xd0, Cap::Msi { vectors: 1, addr64: true, maskable: false }),
    (0xe0, Cap::Pcie { integrated: false }),
    (0xa0, Cap::MsiX { vectors: 5, table_bar: 3, table_offset: 0, pba_bar: 3, pba_offset: 0x2000 }),
];

const I82540EM: Layout = Layout {
    vendor: 0x8086,
    device: 0x100e,
    revision: 2,
    class: [2, 0, 0],
    subsystem_vendor: 0x8086,
    subsystem: 0x001e,
    interrupt_pin: 1,
    min_grant: 255,
    max_latency: 0,
    bars: [REGISTERS, Bar::None, Bar::Io { bytes: 64 }, Bar::None, Bar::None, Bar::None],
    caps: CAPS_8254X,
};

const I82545EM: Layout =
    Layout { device: 0x100f, revision: 1, subsystem_vendor: 0x15ad, subsystem: 0x0750, ..I82540EM };

const I82574L: Layout = Layout {
    vendor: 0x8086,
    device: 0x10d3,
    revision: 0,
    class: [2, 0, 0],
    subsystem_vendor: 0x15ad,
    subsystem: 0x07d0,
    interrupt_pin: 1,
    min_grant: 0,
    max_latency: 0,
    bars: [
        REGISTERS,
        Bar::Memory32 { bytes: 128 << 10, prefetchable: false },
        Bar::Io { bytes: 32 },
        Bar::Memory32 { bytes: 16 << 10, prefetchable: false },
        Bar::None,
        Bar::None,
    ],
    caps: CAPS_82574,
};

impl Model {
    pub const ALL: [Model; 3] = [Model::I82540em, Model::I82545em, Model::I82574l];

    pub fn layout(self) -> &'static Layout {
        match self {
            Model::I82540em => &I82540EM,
            Model::I82545em => &I82545EM,
            Model::I82574l => &I82574L,
        }
    }

    pub fn is_82574(self) -> bool {
        self == Model::I82574l
    }

    /// Descriptor queues each way.
    pub fn queues(self) -> usize {
        if self.is_82574() { 2 } else { 1 }
    }
}
