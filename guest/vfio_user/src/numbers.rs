//! Numbers of the vfio-user protocol (QEMU, docs/interop/vfio-user.rst) and of `<linux/vfio.h>`,
//! from which it takes most of them.

/// Header: id and command (16 bits each), size, flags, error (32 bits each).
pub const HEADER_LEN: usize = 16;

/// The longest message that is looked at as a whole. A session that sends a longer one gets an
/// error, and the bytes are thrown away as they come.
pub const MESSAGE_MAX: usize = 64 << 10;

/// The longest reply, so that a reply has a bound wherever it is kept. A read that asks for more is
/// answered with less, which the protocol allows.
pub const REPLY_MAX: usize = 32 << 10;

pub const VERSION_MAJOR: u16 = 0;
/// The latest minor version that is spoken; the answer is never above what the client proposed.
pub const VERSION_MINOR: u16 = 1;

macro_rules! commands {
    ($($name:ident = $number:literal),* $(,)?) => {
        $(pub const $name: u16 = $number;)*
        /// The protocol's name of a command.
        pub fn command_name(number: u16) -> &'static str {
            match number { $($number => stringify!($name),)* _ => "UNKNOWN" }
        }
    };
}

commands! {
    VERSION = 1, DMA_MAP = 2, DMA_UNMAP = 3, DEVICE_GET_INFO = 4, DEVICE_GET_REGION_INFO = 5,
    DEVICE_GET_REGION_IO_FDS = 6, DEVICE_GET_IRQ_INFO = 7, DEVICE_SET_IRQS = 8, REGION_READ = 9,
    REGION_WRITE = 10, DMA_READ = 11, DMA_WRITE = 12, DEVICE_RESET = 13, DIRTY_PAGES = 14,
    REGION_WRITE_MULTI = 15, DEVICE_FEATURE = 16, MIG_DATA_READ = 17, MIG_DATA_WRITE = 18,
}

pub const FLAG_TYPE_MASK: u32 = 0xf;
pub const TYPE_COMMAND: u32 = 0;
pub const TYPE_REPLY: u32 = 1;
pub const FLAG_NO_REPLY: u32 = 1 << 4;
pub const FLAG_ERROR: u32 = 1 << 5;

/// Regions of a PCI device: six BARs, the option ROM, the configuration space, and VGA's.
pub const REGIONS: usize = 9;
pub const REGION_ROM: u32 = 6;
pub const REGION_CONFIG: u32 = 7;

/// Interrupts of a PCI device.
pub const IRQS: usize = 5;
pub const IRQ_INTX: u32 = 0;
pub const IRQ_MSI: u32 = 1;
pub const IRQ_MSIX: u32 = 2;
pub const IRQ_ERR: u32 = 3;

/// Vectors of one kind of interrupt: no model here has more, and masks fit into a word.
pub const VECTORS_MAX: u32 = 32;

pub const MAP_READ: u32 = 1 << 0;
pub const MAP_WRITE: u32 = 1 << 1;
pub const UNMAP_ALL: u32 = 1 << 1;

pub const DEVICE_FLAG_RESET: u32 = 1 << 0;
pub const DEVICE_FLAG_PCI: u32 = 1 << 1;

pub const REGION_FLAG_READ: u32 = 1 << 0;
pub const REGION_FLAG_WRITE: u32 = 1 << 1;
pub const REGION_FLAG_MMAP: u32 = 1 << 2;
pub const REGION_FLAG_CAPS: u32 = 1 << 3;
pub const REGION_CAP_SPARSE_MMAP: u16 = 1;

pub const IRQ_INFO_EVENTFD: u32 = 1 << 0;
pub const IRQ_INFO_MASKABLE: u32 = 1 << 1;
pub const IRQ_INFO_AUTOMASKED: u32 = 1 << 2;
pub const IRQ_INFO_NORESIZE: u32 = 1 << 3;

pub const IRQ_SET_DATA_NONE: u32 = 1 << 0;
pub const IRQ_SET_DATA_BOOL: u32 = 1 << 1;
pub const IRQ_SET_DATA_EVENTFD: u32 = 1 << 2;
pub const IRQ_SET_ACTION_MASK: u32 = 1 << 3;
pub const IRQ_SET_ACTION_UNMASK: u32 = 1 << 4;
pub const IRQ_SET_ACTION_TRIGGER: u32 = 1 << 5;

pub const FEATURE_MASK: u32 = 0xffff;
pub const FEATURE_GET: u32 = 1 << 16;
pub const FEATURE_SET: u32 = 1 << 17;
pub const FEATURE_PROBE: u32 = 1 << 18;
pub const FEATURE_MIGRATION: u32 = 1;
pub const FEATURE_MIG_DEVICE_STATE: u32 = 2;
pub const FEATURE_DMA_LOGGING_START: u32 = 6;
pub const FEATURE_DMA_LOGGING_STOP: u32 = 7;
pub const FEATURE_DMA_LOGGING_REPORT: u32 = 8;

pub const MIGRATION_STOP_COPY: u64 = 1 << 0;
pub const MIGRATION_PRE_COPY: u64 = 1 << 2;

/// Errors in replies: `errno` of Linux.
pub const ENOENT: u32 = 2;
pub const EIO: u32 = 5;
pub const E2BIG: u32 = 7;
pub const EBUSY: u32 = 16;
pub const EEXIST: u32 = 17;
pub const EINVAL: u32 = 22;
pub const ENOTTY: u32 = 25;
pub const ENOSPC: u32 = 28;
pub const ENOTSUP: u32 = 95;

/// What this server tells of itself.
pub mod offer {
    /// Descriptors in one message: as many as QEMU ever sends.
    pub const MAX_MSG_FDS: u64 = 16;
    /// Bytes of one read or write. QEMU asks for an option ROM in one read, and not at all if it is
    /// longer than this; it takes a shorter answer and asks for the rest.
    pub const MAX_DATA_XFER_SIZE: u64 = 1 << 20;
    /// Maps that are valid at once: thirty times what a boot of QEMU was seen to make.
    pub const MAX_DMA_MAPS: u64 = 512;
    pub const PGSIZES: u64 = 4096;
    /// Bytes of a dirty bitmap in one reply.
    pub const MAX_BITMAP_SIZE: u64 = 16 << 10;
}
