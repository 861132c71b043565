//! Registers, commands and descriptor fields, as `vmxnet3_defs.h` and `upt1_defs.h` of the open
//! drivers number them. Everything is little endian.

/// BAR 0: doorbells and masks, 8 bytes apart.
pub const IMR: u64 = 0x000;
/// Producer indices of the transmit queues, and of the first and second receive rings: 200h each,
/// from here on. Their values are not looked at, as the rings say the same.
pub const DOORBELLS: core::ops::Range<u64> = 0x600..0xc00;

/// The same in the layout with a page of their own, for drivers that chose `capability::LARGE_BAR`.
pub const LARGE_DOORBELLS: core::ops::Range<u64> = 0x1000..0x1c00;

/// Of BAR 0.
pub const PT_BYTES: u32 = 8192;

/// BAR 1.
pub const VRRS: u64 = 0x00;
pub const UVRS: u64 = 0x08;
pub const DSAL: u64 = 0x10;
pub const DSAH: u64 = 0x18;
pub const CMD: u64 = 0x20;
pub const MACL: u64 = 0x28;
pub const MACH: u64 = 0x30;
pub const ICR: u64 = 0x38;
pub const ECR: u64 = 0x40;
/// Device capabilities, and those of a pass-through device: from revision 7 on.
pub const DCR: u64 = 0x48;
pub const PTCR: u64 = 0x88;

/// Commands that set something.
pub mod set {
    pub const ACTIVATE: u32 = 0xcafe_0000;
    pub const QUIESCE: u32 = 0xcafe_0001;
    pub const RESET: u32 = 0xcafe_0002;
    pub const RX_MODE: u32 = 0xcafe_0003;
    pub const MAC_FILTERS: u32 = 0xcafe_0004;
    pub const VLAN_FILTERS: u32 = 0xcafe_0005;
    pub const RSSIDT: u32 = 0xcafe_0006;
    pub const IML: u32 = 0xcafe_0007;
    pub const PMCFG: u32 = 0xcafe_0008;
    pub const FEATURE: u32 = 0xcafe_0009;
    pub const COALESCE: u32 = 0xcafe_000e;
    pub const MEMREGS: u32 = 0xcafe_000f;
    pub const RSS_FIELDS: u32 = 0xcafe_0010;
    pub const RING_BUFFER_SIZE: u32 = 0xcafe_0013;
}

/// Commands that ask for something.
pub mod get {
    pub const QUEUE_STATUS: u32 = 0xf00d_0000;
    pub const STATS: u32 = 0xf00d_0001;
    pub const LINK: u32 = 0xf00d_0002;
    pub const PERM_MAC_LO: u32 = 0xf00d_0003;
    pub const PERM_MAC_HI: u32 = 0xf00d_0004;
    pub const DID_LO: u32 = 0xf00d_0005;
    pub const DID_HI: u32 = 0xf00d_0006;
    pub const DEV_EXTRA_INFO: u32 = 0xf00d_0007;
    pub const CONF_INTR: u32 = 0xf00d_0008;
    pub const ADAPTIVE_RING_INFO: u32 = 0xf00d_0009;
    pub const TXDATA_DESC_SIZE: u32 = 0xf00d_000a;
    pub const COALESCE: u32 = 0xf00d_000b;
    pub const RSS_FIELDS: u32 = 0xf00d_000c;
    pub const MAX_QUEUES_CONF: u32 = 0xf00d_000f;
    pub const MAX_CAPABILITIES: u32 = 0xf00d_0011;
    pub const DCR0: u32 = 0xf00d_0012;
    pub const TSRING_DESC_SIZE: u32 = 0xf00d_0013;
    pub const DISABLED_OFFLOADS: u32 = 0xf00d_0014;
}

/// Events, in the shared area and in the ECR.
pub mod event {
    pub const RQERR: u32 = 1;
    pub const TQERR: u32 = 1 << 1;
    pub const LINK: u32 = 1 << 2;
}

/// `uptFeatures`.
pub mod feature {
    pub const RXCSUM: u64 = 1;
    pub const RSS: u64 = 1 << 1;
    pub const RXVLAN: u64 = 1 << 2;
    pub const LRO: u64 = 1 << 3;
}

/// `rxMode`.
pub mod mode {
    pub const UNICAST: u32 = 1;
    pub const MULTICAST: u32 = 1 << 1;
    pub const BROADCAST: u32 = 1 << 2;
    pub const ALL_MULTI: u32 = 1 << 3;
    pub const PROMISCUOUS: u32 = 1 << 4;
}

/// Why a queue stands still.
pub mod error {
    /// The descriptors end before the packet does.
    pub const NO_EOP: u32 = 0x8000_0000;
    /// A packet in too many pieces.
    pub const BIG_PACKET: u32 = 0x8000_0002;
    pub const DESCRIPTOR_TYPE: u32 = 0x8000_0003;
    /// A head buffer of less than `HEAD_MIN` bytes.
    pub const SMALL_BUFFER: u32 = 0x8000_0004;
}

/// Smallest buffer for the beginning of a frame.
pub const HEAD_MIN: u32 = 128;

/// Generation bits within the second number of a descriptor.
pub const TX_GEN: u64 = 1 << 14;
pub const RX_GEN: u64 = 1 << 31;
pub const COMPLETION_GEN: u64 = 1 << 63;

/// Types of completions, at bit 56 of the second number.
pub const TYPE_RX: u64 = 3 << 56;
pub const TYPE_RX_LRO: u64 = 4 << 56;

/// Rings.
pub const RING_MAX: u32 = 4096;
pub const COMPLETIONS_MAX: u32 = 8192;
pub const DESCRIPTOR: usize = 16;

pub const TX_QUEUES: usize = 8;
pub const RX_QUEUES: usize = 16;
/// One for each queue, and one for events.
pub const VECTORS: usize = 25;

/// A transmit descriptor, without its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxDesc(pub u64);

impl TxDesc {
    /// 0 stands for 2^14.
    pub fn len(self) -> u32 {
        match self.0 as u32 & 0x3fff {
            0 => 0x4000,
            len => len,
        }
    }

    /// The checksum of the tunnel's own UDP header is left to the device.
    pub fn outer_checksum(self) -> bool {
        self.0 & 1 << 15 != 0
    }

    pub fn kind(self) -> bool {
        self.0 & 1 << 16 != 0
    }

    /// From revision 7 on: the offload is that of the headers within a tunnel.
    pub fn inner(self) -> bool {
        self.0 & 1 << 17 != 0
    }

    /// Segment size, or where the checksum goes.
    pub fn mss_or_offset(self) -> u16 {
        (self.0 >> 18) as u16 & 0x3fff
    }

    pub fn header_len(self) -> u16 {
        (self.0 >> 32) as u16 & 0x3ff
    }

    pub fn offload(self) -> Offload {
        match self.0 >> 42 & 3 {
            0 => Offload::None,
            1 => Offload::Encapsulated,
            2 => Offload::Checksum,
            _ => Offload::Segmentation,
        }
    }

    pub fn end_of_packet(self) -> bool {
        self.0 & 1 << 44 != 0
    }

    pub fn completion_wanted(self) -> bool {
        self.0 & 1 << 45 != 0
    }

    pub fn tag(self) -> Option<u16> {
        (self.0 & 1 << 47 != 0).then_some((self.0 >> 48) as u16)
    }
}

/// TxDesc.om
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    None,
    /// Revisions 4 to 6: what is within a tunnel.
    Encapsulated,
    Checksum,
    Segmentation,
}

/// A receive descriptor, without its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxDesc(pub u64);

impl RxDesc {
    pub fn len(self) -> u32 {
        self.0 as u32 & 0x3fff
    }

    /// For what follows the first buffer of a frame.
    pub fn is_body(self) -> bool {
        self.0 & 1 << 14 != 0
    }

    pub fn kind(self) -> bool {
        self.0 & 1 << 15 != 0
    }
}

/// Fields of a receive completion.
pub mod rcd {
    pub const EOP: u64 = 1 << 14;
    pub const SOP: u64 = 1 << 15;
    pub const QUEUE_SHIFT: u32 = 16;
    pub const RSS_SHIFT: u32 = 26;
    /// No checksum was looked at.
    pub const NOT_CALCULATED: u64 = 1 << 30;

    /// The second number. Its low half: length and tag.
    pub const TAG_STRIPPED: u64 = 1 << 15;
    pub const TCI_SHIFT: u32 = 16;
    /// Its high half.
    pub const MSS_SHIFT: u32 = 32;
    pub const L4_CORRECT: u64 = 1 << 48;
    pub const UDP: u64 = 1 << 49;
    pub const TCP: u64 = 1 << 50;
    pub const IP_CORRECT: u64 = 1 << 51;
    pub const V6: u64 = 1 << 52;
    pub const V4: u64 = 1 << 53;
    pub const FRAGMENT: u64 = 1 << 54;
    pub const FCS_CORRECT: u64 = 1 << 55;
}
