//! The vhost-user wire as the front end speaks it ("Vhost-user Protocol", QEMU's
//! `docs/interop/vhost-user.rst`): numbers, flags and the bodies that are more than one integer.
//! It is written apart from `guest/vhost_user`, so that a mistake in one shows against the other.

use super::error::{Error, Result};

/// Front-end message types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Request {
    GetFeatures = 1,
    SetFeatures = 2,
    SetOwner = 3,
    SetMemTable = 5,
    SetLogBase = 6,
    SetLogFd = 7,
    SetVringNum = 8,
    SetVringAddr = 9,
    SetVringBase = 10,
    GetVringBase = 11,
    SetVringKick = 12,
    SetVringCall = 13,
    SetVringErr = 14,
    GetProtocolFeatures = 15,
    SetProtocolFeatures = 16,
    GetQueueNum = 17,
    SetVringEnable = 18,
    NetSetMtu = 20,
    SetBackendReqFd = 21,
    GetConfig = 24,
    SetConfig = 25,
    GetInflightFd = 31,
    SetInflightFd = 32,
    ResetDevice = 34,
    GetMaxMemSlots = 36,
    AddMemReg = 37,
    RemMemReg = 38,
    SetStatus = 39,
    GetStatus = 40,
}

/// Back-end message types, on the channel that SET_BACKEND_REQ_FD opens.
pub const BACKEND_CONFIG_CHANGE: u32 = 2;

/// Header flags: the version in the low two bits, then reply and need-reply.
pub const VERSION: u32 = 1;
pub const VERSION_MASK: u32 = 0x3;
pub const REPLY: u32 = 1 << 2;
pub const NEED_REPLY: u32 = 1 << 3;

pub const HEADER_BYTES: usize = 12;
/// A body larger than this is no reply to anything that we send; the limit keeps a mad back end
/// from making us allocate without bound.
pub const BODY_BYTES_MAX: usize = 4096;

/// "Invalid FD" flag of SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR.
pub const VRING_NO_FD: u64 = 1 << 8;

/// Protocol feature bits.
pub mod protocol {
    pub const MQ: u64 = 1 << 0;
    pub const LOG_SHMFD: u64 = 1 << 1;
    pub const REPLY_ACK: u64 = 1 << 3;
    pub const MTU: u64 = 1 << 4;
    pub const BACKEND_REQ: u64 = 1 << 5;
    pub const CONFIG: u64 = 1 << 9;
    pub const INFLIGHT_SHMFD: u64 = 1 << 12;
    pub const RESET_DEVICE: u64 = 1 << 13;
    pub const CONFIGURE_MEM_SLOTS: u64 = 1 << 15;
    pub const STATUS: u64 = 1 << 16;
}

/// Virtio feature bits that belong to the transport and the ring, not to a device.
pub mod feature {
    /// VHOST_F_LOG_ALL: the back end marks the pages that it writes.
    pub const LOG_ALL: u64 = 1 << 26;
    pub const INDIRECT_DESC: u64 = 1 << 28;
    pub const EVENT_IDX: u64 = 1 << 29;
    /// VHOST_USER_F_PROTOCOL_FEATURES.
    pub const PROTOCOL_FEATURES: u64 = 1 << 30;
    pub const VERSION_1: u64 = 1 << 32;
    pub const RING_PACKED: u64 = 1 << 34;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub request: u32,
    pub flags: u32,
    pub size: u32,
}

impl Header {
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.request.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.size.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Header {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Header { request: word(0), flags: word(4), size: word(8) }
    }
}

/// A region of guest memory, as SET_MEM_TABLE, ADD_MEM_REG and REM_MEM_REG carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryRegion {
    pub guest_address: u64,
    pub bytes: u64,
    pub user_address: u64,
    pub file_offset: u64,
}

impl MemoryRegion {
    pub fn encode(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (at, value) in
            [self.guest_address, self.bytes, self.user_address, self.file_offset].into_iter().enumerate()
        {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }
}

pub fn vring_state(index: u32, value: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&index.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_le_bytes());
    bytes
}

/// The three areas of a ring, in the front end's own addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingAddresses {
    pub descriptors: u64,
    /// The available ring, or the packed ring's driver event suppression.
    pub driver: u64,
    /// The used ring, or the packed ring's device event suppression.
    pub device: u64,
}

pub fn vring_addresses(index: u32, flags: u32, ring: RingAddresses, log: u64) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..4].copy_from_slice(&index.to_le_bytes());
    bytes[4..8].copy_from_slice(&flags.to_le_bytes());
    // The wire's order is descriptors, used, available.
    for (at, value) in [ring.descriptors, ring.device, ring.driver, log].into_iter().enumerate() {
        bytes[8 + at * 8..16 + at * 8].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// The region of memory in which the back end notes the requests in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inflight {
    pub bytes: u64,
    pub offset: u64,
    pub queues: u16,
    pub queue_size: u16,
}

impl Inflight {
    pub fn encode(self) -> [u8; 24] {
        // The structure is padded to a multiple of eight bytes, as C lays it out in QEMU.
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..18].copy_from_slice(&self.queues.to_le_bytes());
        bytes[18..20].copy_from_slice(&self.queue_size.to_le_bytes());
        bytes
    }

    pub fn decode(body: &[u8]) -> Result<Inflight> {
        Ok(Inflight {
            bytes: u64::from_le_bytes(part(body, 0)?),
            offset: u64::from_le_bytes(part(body, 8)?),
            queues: u16::from_le_bytes(part(body, 16)?),
            queue_size: u16::from_le_bytes(part(body, 18)?),
        })
    }
}

/// Reads `N` bytes of a reply, which the back end may have made too short.
pub fn part<const N: usize>(body: &[u8], at: usize) -> Result<[u8; N]> {
    body.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        Error::Protocol(format!("a reply of {} bytes is too short for {} at {at}", body.len(), N))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_three_little_endian_words() {
        let bytes =
            Header { request: Request::GetConfig as u32, flags: VERSION | NEED_REPLY, size: 0x0102 }.encode();
        assert_eq!(bytes, [0x18, 0, 0, 0, 0x09, 0, 0, 0, 0x02, 0x01, 0, 0]);
        assert_eq!(Header::decode(bytes), Header { request: 24, flags: 9, size: 258 });
    }

    #[test]
    fn vring_addresses_put_used_before_available() {
        let ring = RingAddresses { descriptors: 0x11, driver: 0x22, device: 0x33 };
        let bytes = vring_addresses(7, 1, ring, 0x44);
        let mut golden = vec![7, 0, 0, 0, 1, 0, 0, 0];
        for value in [0x11u8, 0x33, 0x22, 0x44] {
            golden.extend([value, 0, 0, 0, 0, 0, 0, 0]);
        }
        assert_eq!(bytes.to_vec(), golden);
    }

    #[test]
    fn a_short_reply_is_an_error_and_no_panic() {
        assert!(Inflight::decode(&[0; 19]).is_err());
        assert_eq!(
            Inflight::decode(&[0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 128, 0]).unwrap(),
            Inflight { bytes: 4096, offset: 0, queues: 2, queue_size: 128 }
        );
    }
}
