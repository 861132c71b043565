//! What outlives the worker of a session: version 1.

use alloc::vec::Vec;

use crate::bits::{MEM_SLOTS_MAX, QUEUES_MAX};
use crate::wire::{InflightDescription, RegionDescription, RingAddresses};

const VERSION: u32 = 1;

/// A memory region and the generation of its descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionState {
    pub description: RegionDescription,
    pub fd: u32,
}

/// One ring. A generation of 0 means that there is no descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueState {
    pub size: u32,
    pub base: u32,
    pub addresses: RingAddresses,
    pub kick: u32,
    pub call: u32,
    pub err: u32,
    /// A kick descriptor came after the last GET_VRING_BASE.
    pub started: bool,
    pub enabled: bool,
    /// The front end set addresses since the ring was last reset.
    pub placed: bool,
}

/// The in-flight region: ours or the front end's, by its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InflightState {
    pub description: InflightDescription,
    pub fd: u32,
}

/// The dirty log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogState {
    pub size: u64,
    pub offset: u64,
    pub fd: u32,
}

/// A session, as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub features: u64,
    pub protocol_features: u64,
    pub status: u8,
    pub mtu: u16,
    /// The last generation that was given out; never goes back, not even when a client leaves.
    pub generation: u32,
    pub backend_channel: u32,
    pub regions: Vec<RegionState>,
    pub queues: Vec<QueueState>,
    pub inflight: Option<InflightState>,
    pub log: Option<LogState>,
}

/// Why bytes are not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// Written by a version that this program does not know.
    Version(u32),
    Short,
    Count,
}

struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(StateError::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, StateError> {
        Ok(self.take::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, StateError> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, StateError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, StateError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn count(&mut self, max: usize) -> Result<usize, StateError> {
        let count = self.u32()? as usize;
        if count > max { Err(StateError::Count) } else { Ok(count) }
    }
}

impl State {
    /// The longest encoding, in bytes.
    pub const ENCODED_MAX: usize = 128 + MEM_SLOTS_MAX * 36 + QUEUES_MAX * 64;

    pub fn new(queues: usize) -> Self {
        Self { queues: alloc::vec![QueueState::default(); queues], ..Self::default() }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(512));
        out.u32(VERSION);
        out.u64(self.features);
        out.u64(self.protocol_features);
        out.u8(self.status);
        out.u16(self.mtu);
        out.u32(self.generation);
        out.u32(self.backend_channel);
        let inflight =
            self.inflight.unwrap_or(InflightState { description: InflightDescription::default(), fd: 0 });
        out.u64(inflight.description.mmap_size);
        out.u64(inflight.description.mmap_offset);
        out.u16(inflight.description.queues);
        out.u16(inflight.description.queue_size);
        out.u32(inflight.fd);
        let log = self.log.unwrap_or(LogState { size: 0, offset: 0, fd: 0 });
        out.u64(log.size);
        out.u64(log.offset);
        out.u32(log.fd);
        out.u32(self.regions.len() as u32);
        for region in &self.regions {
            out.u64(region.description.guest);
            out.u64(region.description.size);
            out.u64(region.description.user);
            out.u64(region.description.mmap_offset);
            out.u32(region.fd);
        }
        out.u32(self.queues.len() as u32);
        for queue in &self.queues {
            out.u32(queue.size);
            out.u32(queue.base);
            out.u32(queue.addresses.flags);
            out.u64(queue.addresses.descriptors);
            out.u64(queue.addresses.used);
            out.u64(queue.addresses.available);
            out.u64(queue.addresses.log);
            out.u32(queue.kick);
            out.u32(queue.call);
            out.u32(queue.err);
            out.u8(u8::from(queue.started) | u8::from(queue.enabled) << 1 | u8::from(queue.placed) << 2);
        }
        out.0
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let mut from = Reader(bytes);
        let version = from.u32()?;
        if version != VERSION {
            return Err(StateError::Version(version));
        }
        let mut state = Self {
            features: from.u64()?,
            protocol_features: from.u64()?,
            status: from.u8()?,
            mtu: from.u16()?,
            generation: from.u32()?,
            backend_channel: from.u32()?,
            ..Self::default()
        };
        let description = InflightDescription {
            mmap_size: from.u64()?,
            mmap_offset: from.u64()?,
            queues: from.u16()?,
            queue_size: from.u16()?,
        };
        let fd = from.u32()?;
        state.inflight = (fd != 0).then_some(InflightState { description, fd });
        let (size, offset, fd) = (from.u64()?, from.u64()?, from.u32()?);
        state.log = (fd != 0).then_some(LogState { size, offset, fd });
        for _ in 0..from.count(MEM_SLOTS_MAX)? {
            let description = RegionDescription {
                guest: from.u64()?,
                size: from.u64()?,
                user: from.u64()?,
                mmap_offset: from.u64()?,
            };
            state.regions.push(RegionState { description, fd: from.u32()? });
        }
        for _ in 0..from.count(QUEUES_MAX)? {
            let mut queue = QueueState {
                size: from.u32()?,
                base: from.u32()?,
                addresses: RingAddresses {
                    flags: from.u32()?,
                    descriptors: from.u64()?,
                    used: from.u64()?,
                    available: from.u64()?,
                    log: from.u64()?,
                },
                kick: from.u32()?,
                call: from.u32()?,
                err: from.u32()?,
                ..QueueState::default()
            };
            let bits = from.u8()?;
            queue.started = bits & 1 != 0;
            queue.enabled = bits & 2 != 0;
            queue.placed = bits & 4 != 0;
            state.queues.push(queue);
        }
        Ok(state)
    }

    /// Every generation that the state names.
    pub fn generations(&self) -> impl Iterator<Item = u32> + '_ {
        let queues = self.queues.iter().flat_map(|queue| [queue.kick, queue.call, queue.err]);
        let single = [
            self.backend_channel,
            self.inflight.map_or(0, |inflight| inflight.fd),
            self.log.map_or(0, |log| log.fd),
        ];
        self.regions.iter().map(|region| region.fd).chain(queues).chain(single).filter(|&fd| fd != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_its_encoding() {
        let mut state = State::new(3);
        state.features = 0x1_7000_0000;
        state.generation = 77;
        state.backend_channel = 9;
        state.regions.push(RegionState {
            description: RegionDescription { guest: 1 << 32, size: 4096, user: 7, mmap_offset: 8 },
            fd: 3,
        });
        state.queues[1] =
            QueueState { size: 256, base: 5, started: true, placed: true, kick: 4, ..QueueState::default() };
        state.queues[2].enabled = true;
        state.inflight = Some(InflightState { description: InflightDescription::default(), fd: 12 });
        let bytes = state.encode();
        assert!(bytes.len() <= State::ENCODED_MAX);
        assert_eq!(State::decode(&bytes), Ok(state.clone()));
        assert_eq!(state.generations().collect::<Vec<_>>(), [3, 4, 9, 12]);
        for cut in 0..bytes.len() {
            assert!(State::decode(&bytes[..cut]).is_err());
        }
    }

    /// Typed by hand from the layout above, so that yesterday's bytes stay readable.
    #[test]
    fn version_1_bytes() {
        let mut bytes = alloc::vec![1, 0, 0, 0];
        bytes.extend([0, 0, 0, 0x40, 1, 0, 0, 0]);
        bytes.extend([8, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([0x0f, 0xdc, 0x05, 2, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([0; 24]);
        bytes.extend([0; 20]);
        bytes.extend([0; 8]);
        let state = State::decode(&bytes).unwrap();
        assert_eq!((state.features, state.protocol_features), (0x1_4000_0000, 8));
        assert_eq!((state.status, state.mtu, state.generation), (15, 1500, 2));
    }

    #[test]
    fn a_later_version_is_refused() {
        assert_eq!(State::decode(&[2, 0, 0, 0]), Err(StateError::Version(2)));
    }
}
