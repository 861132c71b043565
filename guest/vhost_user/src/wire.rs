//! Bytes to requests and replies to bytes. Nothing is believed here but the layout.

use alloc::vec::Vec;

use crate::bits::*;

/// The head of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub request: u32,
    pub flags: u32,
    pub size: u32,
}

/// What makes a stream unreadable; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// A protocol version other than 1.
    Version,
    /// A reply where a request was due.
    Reply,
    /// A payload longer than any request has.
    TooLong,
}

impl Header {
    pub fn parse(bytes: [u8; HEADER_LEN]) -> Result<Self, WireError> {
        let mut reader = Reader(&bytes);
        let header = Self { request: reader.u32(), flags: reader.u32(), size: reader.u32() };
        if header.flags & VERSION_MASK != VERSION {
            return Err(WireError::Version);
        }
        if header.flags & FLAG_REPLY != 0 {
            return Err(WireError::Reply);
        }
        if header.size as usize > PAYLOAD_MAX {
            return Err(WireError::TooLong);
        }
        Ok(header)
    }

    pub fn wants_reply(&self) -> bool {
        self.flags & FLAG_NEED_REPLY != 0
    }

    /// Header and payload.
    pub fn message_len(&self) -> usize {
        HEADER_LEN + self.size as usize
    }
}

/// A memory region as the front end describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionDescription {
    pub guest: u64,
    pub size: u64,
    pub user: u64,
    pub mmap_offset: u64,
}

/// Where a ring lies, in the front end's virtual addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingAddresses {
    pub flags: u32,
    pub descriptors: u64,
    pub used: u64,
    pub available: u64,
    pub log: u64,
}

/// GET_INFLIGHT_FD and SET_INFLIGHT_FD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InflightDescription {
    pub mmap_size: u64,
    pub mmap_offset: u64,
    pub queues: u16,
    pub queue_size: u16,
}

/// A request of the front end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    GetFeatures,
    SetFeatures(u64),
    SetOwner,
    ResetOwner,
    SetMemTable(Vec<RegionDescription>),
    SetLogBase {
        size: u64,
        offset: u64,
    },
    SetLogFd,
    SetVringNum {
        index: u32,
        size: u32,
    },
    SetVringAddr {
        index: u32,
        addresses: RingAddresses,
    },
    SetVringBase {
        index: u32,
        base: u32,
    },
    GetVringBase {
        index: u32,
    },
    SetVringKick {
        index: u32,
        has_fd: bool,
    },
    SetVringCall {
        index: u32,
        has_fd: bool,
    },
    SetVringErr {
        index: u32,
        has_fd: bool,
    },
    GetProtocolFeatures,
    SetProtocolFeatures(u64),
    GetQueueNum,
    SetVringEnable {
        index: u32,
        enable: bool,
    },
    SendRarp([u8; 6]),
    NetSetMtu(u64),
    SetBackendReqFd,
    GetConfig {
        offset: u32,
        size: u32,
        flags: u32,
    },
    SetConfig {
        offset: u32,
        flags: u32,
        bytes: Vec<u8>,
    },
    GetInflightFd(InflightDescription),
    SetInflightFd(InflightDescription),
    ResetDevice,
    GetMaxMemSlots,
    AddMemReg(RegionDescription),
    RemMemReg(RegionDescription),
    SetStatus(u64),
    GetStatus,
    /// A request that this back end does not know.
    Unknown(u32),
    /// The payload is not what the request has.
    Malformed(u32),
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let len = N.min(self.0.len());
        out[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        out
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn region(&mut self) -> RegionDescription {
        RegionDescription { guest: self.u64(), size: self.u64(), user: self.u64(), mmap_offset: self.u64() }
    }

    fn inflight(&mut self) -> InflightDescription {
        InflightDescription {
            mmap_size: self.u64(),
            mmap_offset: self.u64(),
            queues: self.u16(),
            queue_size: self.u16(),
        }
    }
}

/// The shortest payload that a request has; a longer one is cut, as later versions may add to it.
fn payload_min(request: u32) -> usize {
    match request {
        SET_FEATURES
        | SET_VRING_NUM
        | SET_VRING_BASE
        | GET_VRING_BASE
        | SET_VRING_KICK
        | SET_VRING_CALL
        | SET_VRING_ERR
        | SET_PROTOCOL_FEATURES
        | SET_VRING_ENABLE
        | SEND_RARP
        | NET_SET_MTU
        | SET_STATUS
        | SET_MEM_TABLE => 8,
        SET_LOG_BASE => 16,
        SET_VRING_ADDR | ADD_MEM_REG | REM_MEM_REG => 40,
        GET_CONFIG | SET_CONFIG => 12,
        GET_INFLIGHT_FD | SET_INFLIGHT_FD => 20,
        _ => 0,
    }
}

impl Request {
    /// Reads a payload. Total: whatever does not fit becomes `Unknown` or `Malformed`.
    pub fn parse(request: u32, payload: &[u8]) -> Self {
        if payload.len() < payload_min(request) {
            return Self::Malformed(request);
        }
        let mut reader = Reader(payload);
        let ring_fd = |value: u64| ((value & VRING_INDEX_MASK) as u32, value & VRING_NOFD == 0);
        match request {
            GET_FEATURES => Self::GetFeatures,
            SET_FEATURES => Self::SetFeatures(reader.u64()),
            SET_OWNER => Self::SetOwner,
            RESET_OWNER => Self::ResetOwner,
            SET_MEM_TABLE => {
                let count = reader.u32() as usize;
                reader.u32();
                if reader.0.len() < count.saturating_mul(32) {
                    return Self::Malformed(request);
                }
                Self::SetMemTable((0..count).map(|_| reader.region()).collect())
            }
            SET_LOG_BASE => Self::SetLogBase { size: reader.u64(), offset: reader.u64() },
            SET_LOG_FD => Self::SetLogFd,
            SET_VRING_NUM => Self::SetVringNum { index: reader.u32(), size: reader.u32() },
            SET_VRING_ADDR => {
                let index = reader.u32();
                let addresses = RingAddresses {
                    flags: reader.u32(),
                    descriptors: reader.u64(),
                    used: reader.u64(),
                    available: reader.u64(),
                    log: reader.u64(),
                };
                Self::SetVringAddr { index, addresses }
            }
            SET_VRING_BASE => Self::SetVringBase { index: reader.u32(), base: reader.u32() },
            GET_VRING_BASE => Self::GetVringBase { index: reader.u32() },
            SET_VRING_KICK => {
                let (index, has_fd) = ring_fd(reader.u64());
                Self::SetVringKick { index, has_fd }
            }
            SET_VRING_CALL => {
                let (index, has_fd) = ring_fd(reader.u64());
                Self::SetVringCall { index, has_fd }
            }
            SET_VRING_ERR => {
                let (index, has_fd) = ring_fd(reader.u64());
                Self::SetVringErr { index, has_fd }
            }
            GET_PROTOCOL_FEATURES => Self::GetProtocolFeatures,
            SET_PROTOCOL_FEATURES => Self::SetProtocolFeatures(reader.u64()),
            GET_QUEUE_NUM => Self::GetQueueNum,
            SET_VRING_ENABLE => Self::SetVringEnable { index: reader.u32(), enable: reader.u32() != 0 },
            SEND_RARP => Self::SendRarp(reader.take()),
            NET_SET_MTU => Self::NetSetMtu(reader.u64()),
            SET_BACKEND_REQ_FD => Self::SetBackendReqFd,
            GET_CONFIG | SET_CONFIG => {
                let (offset, size, flags) = (reader.u32(), reader.u32(), reader.u32());
                if size > CONFIG_MAX || offset > CONFIG_MAX - size || reader.0.len() < size as usize {
                    return Self::Malformed(request);
                }
                if request == GET_CONFIG {
                    Self::GetConfig { offset, size, flags }
                } else {
                    Self::SetConfig { offset, flags, bytes: reader.0[..size as usize].to_vec() }
                }
            }
            GET_INFLIGHT_FD => Self::GetInflightFd(reader.inflight()),
            SET_INFLIGHT_FD => Self::SetInflightFd(reader.inflight()),
            RESET_DEVICE => Self::ResetDevice,
            GET_MAX_MEM_SLOTS => Self::GetMaxMemSlots,
            ADD_MEM_REG => {
                reader.u64();
                Self::AddMemReg(reader.region())
            }
            REM_MEM_REG => {
                reader.u64();
                Self::RemMemReg(reader.region())
            }
            SET_STATUS => Self::SetStatus(reader.u64()),
            GET_STATUS => Self::GetStatus,
            other => Self::Unknown(other),
        }
    }
}

/// What a reply carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    U64(u64),
    RingState {
        index: u32,
        base: u32,
    },
    Config {
        offset: u32,
        flags: u32,
        bytes: Vec<u8>,
    },
    Inflight(InflightDescription),
    /// No payload: an error, where a request has a reply of its own.
    Empty,
}

/// The reply to a request with this head, ready to send.
pub fn encode_reply(to: &Header, reply: &Reply) -> Vec<u8> {
    let mut payload = Vec::with_capacity(64);
    match reply {
        Reply::Empty => {}
        Reply::U64(value) => payload.extend(value.to_le_bytes()),
        Reply::RingState { index, base } => {
            payload.extend(index.to_le_bytes());
            payload.extend(base.to_le_bytes());
        }
        Reply::Config { offset, flags, bytes } => {
            payload.extend(offset.to_le_bytes());
            payload.extend((bytes.len() as u32).to_le_bytes());
            payload.extend(flags.to_le_bytes());
            payload.extend(bytes);
        }
        Reply::Inflight(description) => {
            payload.extend(description.mmap_size.to_le_bytes());
            payload.extend(description.mmap_offset.to_le_bytes());
            payload.extend(description.queues.to_le_bytes());
            payload.extend(description.queue_size.to_le_bytes());
            // The specification leaves open whether the structure is padded. QEMU pads it to 24
            // bytes and refuses 20; other front ends do the opposite: each gets what it sent.
            if to.size as usize > payload.len() {
                payload.resize((to.size as usize).min(PAYLOAD_MAX), 0);
            }
        }
    }
    message(to.request, VERSION | FLAG_REPLY, &payload)
}

/// The notice that the configuration space changed, for the socket of SET_BACKEND_REQ_FD.
pub fn encode_config_change() -> Vec<u8> {
    message(BACKEND_CONFIG_CHANGE_MSG, VERSION, &[])
}

fn message(request: u32, flags: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN + payload.len());
    out.extend(request.to_le_bytes());
    out.extend(flags.to_le_bytes());
    out.extend((payload.len() as u32).to_le_bytes());
    out.extend(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_checked() {
        let header = |request: u32, flags: u32, size: u32| {
            let mut bytes = [0; HEADER_LEN];
            bytes[..4].copy_from_slice(&request.to_le_bytes());
            bytes[4..8].copy_from_slice(&flags.to_le_bytes());
            bytes[8..].copy_from_slice(&size.to_le_bytes());
            Header::parse(bytes)
        };
        assert_eq!(header(1, 1, 0).unwrap().message_len(), 12);
        assert!(header(1, 9, 8).unwrap().wants_reply());
        assert_eq!(header(1, 2, 0), Err(WireError::Version));
        assert_eq!(header(1, 5, 0), Err(WireError::Reply));
        assert_eq!(header(1, 1, 1 << 30), Err(WireError::TooLong));
    }

    #[test]
    fn short_payloads_are_malformed_and_none_panics() {
        for request in 0..64 {
            for len in 0..64 {
                let parsed = Request::parse(request, &alloc::vec![0xff; len]);
                if len < payload_min(request) {
                    assert_eq!(parsed, Request::Malformed(request));
                }
            }
        }
    }

    #[test]
    fn ring_descriptors_carry_their_index_in_the_low_byte() {
        let kick = Request::parse(SET_VRING_KICK, &0x0103u64.to_le_bytes());
        assert_eq!(kick, Request::SetVringKick { index: 3, has_fd: false });
    }

    #[test]
    fn the_inflight_reply_is_as_long_as_its_request() {
        for (size, want) in [(20, 32), (24, 36), (0, 32)] {
            let to = Header { request: GET_INFLIGHT_FD, flags: VERSION, size };
            assert_eq!(encode_reply(&to, &Reply::Inflight(InflightDescription::default())).len(), want);
        }
    }

    #[test]
    fn config_requests_stay_within_the_space() {
        let mut payload = [0u8; 12];
        payload[..4].copy_from_slice(&250u32.to_le_bytes());
        payload[4..8].copy_from_slice(&7u32.to_le_bytes());
        assert_eq!(Request::parse(GET_CONFIG, &payload), Request::Malformed(GET_CONFIG));
    }
}
