//! What a function is, as a table.

/// A base address register, and what is behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bar {
    #[default]
    None,
    /// 32-bit memory space; `bytes` is a power of two, 16 at least.
    Memory32 { bytes: u32, prefetchable: bool },
    /// I/O space; `bytes` is a power of two, 4 at least.
    Io { bytes: u32 },
}

impl Bar {
    pub fn bytes(self) -> u32 {
        match self {
            Bar::None => 0,
            Bar::Memory32 { bytes, .. } | Bar::Io { bytes } => bytes,
        }
    }
}

/// A capability, in the order in which they are chained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// PCI Bus Power Management 1.2, 3.2: states beside D0 and D3hot, and from which PME comes.
    PowerManagement { d1: bool, d2: bool, pme: u8 },
    /// PCI 3.0, 6.8.1. `vectors` is a power of two.
    Msi { vectors: u8, addr64: bool, maskable: bool },
    /// PCI 3.0, 6.8.2.
    MsiX { vectors: u16, table_bar: u8, table_offset: u32, pba_bar: u8, pba_offset: u32 },
    /// PCI Express Base, 7.8: a legacy endpoint, or a root complex integrated one.
    Pcie { integrated: bool },
}

/// A function, as its configuration space shows it after a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub vendor: u16,
    pub device: u16,
    pub revision: u8,
    /// Class, subclass, programming interface.
    pub class: [u8; 3],
    pub subsystem_vendor: u16,
    pub subsystem: u16,
    /// 0: none, 1: INTA.
    pub interrupt_pin: u8,
    /// MIN_GNT and MAX_LAT.
    pub min_grant: u8,
    pub max_latency: u8,
    pub bars: [Bar; 6],
    /// Each with its place in the configuration space.
    pub caps: &'static [(u8, Cap)],
}

impl Layout {
    /// The same function with the capabilities before the one for MSI-X, which is the last in the tables
    /// that have it.
    pub fn without_msix(self) -> Self {
        let msix = self.caps.iter().position(|(_, cap)| matches!(cap, Cap::MsiX { .. }));
        let (before, _) = self.caps.split_at(msix.unwrap_or(self.caps.len()));
        Self { caps: before, ..self }
    }

    /// Messages that MSI asks for; 0 without it.
    pub fn msi_vectors(&self) -> u32 {
        let vectors = self.caps.iter().map(|(_, cap)| match cap {
            Cap::Msi { vectors, .. } => u32::from(*vectors),
            _ => 0,
        });
        vectors.max().unwrap_or(0)
    }

    /// Entries of the MSI-X table; 0 without it.
    pub fn msix_vectors(&self) -> u32 {
        let vectors = self.caps.iter().map(|(_, cap)| match cap {
            Cap::MsiX { vectors, .. } => u32::from(*vectors),
            _ => 0,
        });
        vectors.max().unwrap_or(0)
    }
}
