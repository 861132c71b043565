//! Numbers of the vhost-user protocol (QEMU, docs/interop/vhost-user.rst) and of virtio 1.2 that
//! the transport itself looks at.

/// Header: request, flags, size; 32 bits each.
pub const HEADER_LEN: usize = 12;
/// The longest payload that this back end takes: SET_MEM_TABLE with as many regions as there are
/// slots; SET_CONFIG with its 256 bytes stays far below.
pub const PAYLOAD_MAX: usize = 8 + 32 * MEM_SLOTS_MAX;

pub const VERSION: u32 = 0x1;
pub const VERSION_MASK: u32 = 0x3;
pub const FLAG_REPLY: u32 = 0x4;
pub const FLAG_NEED_REPLY: u32 = 0x8;

macro_rules! requests {
    ($($name:ident = $number:literal),* $(,)?) => {
        $(pub const $name: u32 = $number;)*
        /// The protocol's name of a request.
        pub fn request_name(number: u32) -> &'static str {
            match number { $($number => stringify!($name),)* _ => "UNKNOWN" }
        }
    };
}

requests! {
    GET_FEATURES = 1, SET_FEATURES = 2, SET_OWNER = 3, RESET_OWNER = 4, SET_MEM_TABLE = 5,
    SET_LOG_BASE = 6, SET_LOG_FD = 7, SET_VRING_NUM = 8, SET_VRING_ADDR = 9, SET_VRING_BASE = 10,
    GET_VRING_BASE = 11, SET_VRING_KICK = 12, SET_VRING_CALL = 13, SET_VRING_ERR = 14,
    GET_PROTOCOL_FEATURES = 15, SET_PROTOCOL_FEATURES = 16, GET_QUEUE_NUM = 17,
    SET_VRING_ENABLE = 18, SEND_RARP = 19, NET_SET_MTU = 20, SET_BACKEND_REQ_FD = 21,
    GET_CONFIG = 24, SET_CONFIG = 25, GET_INFLIGHT_FD = 31, SET_INFLIGHT_FD = 32,
    RESET_DEVICE = 34, GET_MAX_MEM_SLOTS = 36, ADD_MEM_REG = 37, REM_MEM_REG = 38,
    SET_STATUS = 39, GET_STATUS = 40,
}

/// Requests in the other direction, on the socket of SET_BACKEND_REQ_FD.
pub const BACKEND_CONFIG_CHANGE_MSG: u32 = 2;

pub const PROTOCOL_F_MQ: u64 = 1 << 0;
pub const PROTOCOL_F_LOG_SHMFD: u64 = 1 << 1;
pub const PROTOCOL_F_RARP: u64 = 1 << 2;
pub const PROTOCOL_F_REPLY_ACK: u64 = 1 << 3;
pub const PROTOCOL_F_MTU: u64 = 1 << 4;
pub const PROTOCOL_F_BACKEND_REQ: u64 = 1 << 5;
pub const PROTOCOL_F_CONFIG: u64 = 1 << 9;
pub const PROTOCOL_F_INFLIGHT_SHMFD: u64 = 1 << 12;
pub const PROTOCOL_F_RESET_DEVICE: u64 = 1 << 13;
pub const PROTOCOL_F_CONFIGURE_MEM_SLOTS: u64 = 1 << 15;
pub const PROTOCOL_F_STATUS: u64 = 1 << 16;

/// What every device of this back end offers.
pub const PROTOCOL_FEATURES: u64 = PROTOCOL_F_MQ
    | PROTOCOL_F_LOG_SHMFD
    | PROTOCOL_F_REPLY_ACK
    | PROTOCOL_F_BACKEND_REQ
    | PROTOCOL_F_INFLIGHT_SHMFD
    | PROTOCOL_F_RESET_DEVICE
    | PROTOCOL_F_CONFIGURE_MEM_SLOTS;

/// SET_FEATURES: log every write to guest memory.
pub const F_LOG_ALL: u64 = 1 << 26;
pub const F_PROTOCOL_FEATURES: u64 = 1 << 30;
/// virtio 1.2, 6: feature bits of every device.
pub const F_INDIRECT_DESC: u64 = 1 << 28;
pub const F_EVENT_IDX: u64 = 1 << 29;
pub const F_VERSION_1: u64 = 1 << 32;
pub const F_RING_PACKED: u64 = 1 << 34;

/// What the transport itself offers beside the device's own features. Not VIRTIO_F_RING_RESET: QEMU
/// 11.1.3 lets a NIC's driver have it, and then tells a vhost-user back end nothing of the reset.
pub const TRANSPORT_FEATURES: u64 =
    F_LOG_ALL | F_PROTOCOL_FEATURES | F_INDIRECT_DESC | F_EVENT_IDX | F_VERSION_1 | F_RING_PACKED;

/// SET_VRING_ADDR: writes to the used ring are logged at the log address.
pub const VRING_F_LOG: u32 = 1;
/// SET_VRING_KICK, _CALL, _ERR: no descriptor comes along.
pub const VRING_NOFD: u64 = 1 << 8;
pub const VRING_INDEX_MASK: u64 = 0xff;

/// Queues of one device: 64 pairs of a NIC and its control queue.
pub const QUEUES_MAX: usize = 129;
/// Memory slots that GET_MAX_MEM_SLOTS promises.
pub const MEM_SLOTS_MAX: usize = 64;
/// The largest ring, virtio 1.2, 2.7: 32768; QEMU asks for at most 1024 (4096 for user's choice).
pub const RING_SIZE_MAX: u32 = 32768;
/// Device configuration space that GET_CONFIG may ask for.
pub const CONFIG_MAX: u32 = 256;
