//! The PCI function, as VMware shows it.

use crate::bits::{PT_BYTES, VECTORS};
use pci::{Bar, Cap, Layout, Pages};

pub const VENDOR: u16 = 0x15ad;
pub const DEVICE: u16 = 0x07b0;
pub const REVISION: u8 = 1;

/// What may be given to the guest as memory: the masks, and the doorbells of drivers that do not choose
/// the larger layout.
pub const DOORBELLS: Pages = Pages { bar: 0, offset: 0, bytes: 4096 };

pub static LAYOUT: Layout = Layout {
    vendor: VENDOR,
    device: DEVICE,
    revision: REVISION,
    class: [0x02, 0x00, 0x00],
    subsystem_vendor: VENDOR,
    subsystem: DEVICE,
    interrupt_pin: 1,
    min_grant: 0,
    max_latency: 0,
    bars: [
        Bar::Memory32 { bytes: PT_BYTES, prefetchable: false },
        Bar::Memory32 { bytes: 4096, prefetchable: false },
        Bar::Memory32 { bytes: 8192, prefetchable: false },
        Bar::None,
        Bar::None,
        Bar::None,
    ],
    caps: &[
        (0x40, Cap::PowerManagement { d1: false, d2: false, pme: 0 }),
        (0x48, Cap::Pcie { integrated: false }),
        (0x84, Cap::Msi { vectors: 1, addr64: true, maskable: false }),
        (
            0x9c,
            Cap::MsiX {
                vectors: VECTORS as u16,
                table_bar: 2,
                table_offset: 0,
                pba_bar: 2,
                pba_offset: 0x1000,
            },
        ),
    ],
};
