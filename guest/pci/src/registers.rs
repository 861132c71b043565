//! Offsets and bits of the configuration space (PCI Local Bus 3.0, 6.1 and 6.2; capabilities by
//! their own specifications).

pub const COMMAND: usize = 0x04;
pub const STATUS: usize = 0x06;
pub const BARS: usize = 0x10;
pub const ROM: usize = 0x30;
pub const CAPABILITIES: usize = 0x34;

pub const COMMAND_IO: u16 = 1 << 0;
pub const COMMAND_MEMORY: u16 = 1 << 1;
pub const COMMAND_MASTER: u16 = 1 << 2;
pub const COMMAND_INVALIDATE: u16 = 1 << 4;
pub const COMMAND_PARITY: u16 = 1 << 6;
pub const COMMAND_SERR: u16 = 1 << 8;
pub const COMMAND_INTX_DISABLE: u16 = 1 << 10;

pub const STATUS_INTERRUPT: u16 = 1 << 3;
pub const STATUS_CAPABILITIES: u16 = 1 << 4;
/// DEVSEL timing: medium.
pub const STATUS_DEVSEL_MEDIUM: u16 = 1 << 9;
/// Errors that were seen: each is cleared by writing 1 to it.
pub const STATUS_ERRORS: u16 = 0xf900;

pub const CAP_POWER_MANAGEMENT: u8 = 0x01;
pub const CAP_MSI: u8 = 0x05;
pub const CAP_PCIE: u8 = 0x10;
pub const CAP_MSIX: u8 = 0x11;

pub const PMCSR_PME_ENABLE: u16 = 1 << 8;
pub const PMCSR_PME_STATUS: u16 = 1 << 15;

pub const MSI_ENABLE: u16 = 1 << 0;
pub const MSI_64: u16 = 1 << 7;
pub const MSI_MASKABLE: u16 = 1 << 8;

pub const MSIX_MASK: u16 = 1 << 14;
pub const MSIX_ENABLE: u16 = 1 << 15;
