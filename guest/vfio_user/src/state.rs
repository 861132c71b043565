//! What outlives the worker of a session: version 1.

use alloc::vec::Vec;

use crate::migration::MigrationState;
use crate::numbers::{IRQS, VECTORS_MAX, offer};

const VERSION: u32 = 1;

/// Ranges that a client may ask to have its dirty pages noted in.
pub const LOG_RANGES_MAX: usize = 64;

/// Above this no dirty pages are noted, which bounds the log: 4 TiB.
pub const LOG_END: u64 = 1 << 42;

/// Bytes of a device's state that a client may bring: what [`State::ENCODED_MAX`] leaves room for,
/// and more than a model's control state and configuration space have.
pub const INCOMING_MAX: usize = 40 << 10;

/// What the client said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientState {
    pub minor: u16,
    pub max_msg_fds: u32,
    pub max_data_xfer_size: u32,
    pub write_multiple: bool,
}

/// Memory that the client lets us reach. A generation of 0: no descriptor came, and the memory is
/// reached by messages only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapState {
    pub address: u64,
    pub size: u64,
    /// Where the memory is in the descriptor's file.
    pub offset: u64,
    pub fd: u32,
    /// `MAP_READ` and `MAP_WRITE`.
    pub flags: u32,
}

/// One kind of interrupt. A generation of 0 means that there is no descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IrqState {
    /// To be signalled, by vector.
    pub triggers: [u32; VECTORS_MAX as usize],
    /// By which a client would mask the interrupt. It is held for the client and not watched: nobody is
    /// known to use one.
    pub mask_event: u32,
    /// To be watched: somebody unmasks the interrupt (INTx, the hypervisor's end of interrupt).
    pub unmask_event: u32,
    pub masked: u32,
    /// Asked for while masked.
    pub pending: u32,
}

/// Dirty pages are noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    pub page_size: u64,
    /// Address and length; none at all means everything.
    pub ranges: Vec<(u64, u64)>,
}

impl LogState {
    /// The end of what is noted.
    pub fn end(&self) -> u64 {
        let ends = self.ranges.iter().map(|(address, length)| address.saturating_add(*length));
        ends.max().unwrap_or(LOG_END).min(LOG_END)
    }
}

/// A session, as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The last generation that was given out; never goes back, not even when a client leaves.
    pub generation: u32,
    /// Bytes of the stream that belong to a message that was refused for its length.
    pub discard: u32,
    /// `None` before VERSION.
    pub client: Option<ClientState>,
    /// By address; they do not overlap.
    pub maps: Vec<MapState>,
    pub irqs: [IrqState; IRQS],
    pub migration: MigrationState,
    /// Bytes of the device's state to be read, and how many were.
    pub saved_len: u32,
    pub saved_read: u32,
    /// Bytes of a device's state that came so far.
    pub incoming: Vec<u8>,
    pub log: Option<LogState>,
}

/// Why bytes are not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// Written by a version that this program does not know.
    Version(u32),
    Short,
    /// Longer than what it says it holds.
    Long,
    /// More of something than there can be.
    Count,
    /// Maps that overlap, or a value outside of its set.
    Value,
}

struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], StateError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(StateError::Short)?;
        self.0 = rest;
        Ok(head)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(StateError::Short)?;
        self.0 = rest;
        Ok(*head)
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
    pub const ENCODED_MAX: usize = 128
        + offer::MAX_DMA_MAPS as usize * 32
        + IRQS * 4 * (VECTORS_MAX as usize + 4)
        + LOG_RANGES_MAX * 16
        + INCOMING_MAX;

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(1024 + self.maps.len() * 32 + self.incoming.len()));
        out.u32(VERSION);
        out.u32(self.generation);
        out.u32(self.discard);
        out.u32(u32::from(self.client.is_some()));
        if let Some(client) = &self.client {
            out.u32(u32::from(client.minor));
            out.u32(client.max_msg_fds);
            out.u32(client.max_data_xfer_size);
            out.u32(u32::from(client.write_multiple));
        }
        out.u32(self.maps.len() as u32);
        for map in &self.maps {
            out.u64(map.address);
            out.u64(map.size);
            out.u64(map.offset);
            out.u32(map.fd);
            out.u32(map.flags);
        }
        for irq in &self.irqs {
            irq.triggers.iter().for_each(|&trigger| out.u32(trigger));
            out.u32(irq.mask_event);
            out.u32(irq.unmask_event);
            out.u32(irq.masked);
            out.u32(irq.pending);
        }
        out.u32(self.migration as u32);
        out.u32(self.saved_len);
        out.u32(self.saved_read);
        out.u32(self.incoming.len() as u32);
        out.0.extend(&self.incoming);
        out.u32(u32::from(self.log.is_some()));
        if let Some(log) = &self.log {
            out.u64(log.page_size);
            out.u32(log.ranges.len() as u32);
            for &(address, length) in &log.ranges {
                out.u64(address);
                out.u64(length);
            }
        }
        out.0
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let mut from = Reader(bytes);
        let version = from.u32()?;
        if version != VERSION {
            return Err(StateError::Version(version));
        }
        let mut state = Self { generation: from.u32()?, discard: from.u32()?, ..Self::default() };
        if from.count(1)? == 1 {
            state.client = Some(ClientState {
                minor: u16::try_from(from.u32()?).map_err(|_| StateError::Value)?,
                max_msg_fds: from.u32()?,
                max_data_xfer_size: from.u32()?,
                write_multiple: from.count(1)? == 1,
            });
        }
        let mut free = 0;
        for _ in 0..from.count(offer::MAX_DMA_MAPS as usize)? {
            let map = MapState {
                address: from.u64()?,
                size: from.u64()?,
                offset: from.u64()?,
                fd: from.u32()?,
                flags: from.u32()?,
            };
            if map.size == 0 || map.address < free {
                return Err(StateError::Value);
            }
            free = map.address.checked_add(map.size).ok_or(StateError::Value)?;
            state.maps.push(map);
        }
        for irq in &mut state.irqs {
            for trigger in &mut irq.triggers {
                *trigger = from.u32()?;
            }
            irq.mask_event = from.u32()?;
            irq.unmask_event = from.u32()?;
            irq.masked = from.u32()?;
            irq.pending = from.u32()?;
        }
        state.migration = MigrationState::from_number(from.u32()?).ok_or(StateError::Value)?;
        state.saved_len = from.u32()?;
        state.saved_read = from.u32()?;
        if state.saved_read > state.saved_len {
            return Err(StateError::Value);
        }
        let len = from.count(INCOMING_MAX)?;
        state.incoming = from.bytes(len)?.to_vec();
        if from.count(1)? == 1 {
            let page_size = from.u64()?;
            let mut ranges = Vec::new();
            for _ in 0..from.count(LOG_RANGES_MAX)? {
                ranges.push((from.u64()?, from.u64()?));
            }
            state.log = Some(LogState { page_size, ranges });
        }
        if from.0.is_empty() { Ok(state) } else { Err(StateError::Long) }
    }

    /// Every generation that the state names.
    pub fn generations(&self) -> impl Iterator<Item = u32> + '_ {
        let irqs = self
            .irqs
            .iter()
            .flat_map(|irq| irq.triggers.iter().copied().chain([irq.mask_event, irq.unmask_event]));
        self.maps.iter().map(|map| map.fd).chain(irqs).filter(|&fd| fd != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> State {
        let mut state = State { generation: 77, discard: 5, ..State::default() };
        state.client = Some(ClientState {
            minor: 1,
            max_msg_fds: 16,
            max_data_xfer_size: 1 << 20,
            write_multiple: true,
        });
        state.maps.push(MapState { address: 0x1000, size: 0x1000, offset: 1 << 33, fd: 3, flags: 3 });
        state.maps.push(MapState { address: 0x2000, size: 0x1000, offset: 0, fd: 0, flags: 1 });
        state.irqs[2].triggers[31] = 4;
        state.irqs[0].unmask_event = 5;
        state.irqs[2].masked = 2;
        state.irqs[2].pending = 2;
        state.migration = MigrationState::Resuming;
        (state.saved_len, state.saved_read) = (10, 9);
        state.incoming = alloc::vec![1, 2, 3];
        state.log = Some(LogState { page_size: 4096, ranges: alloc::vec![(0, 1), (2, 3)] });
        state
    }

    #[test]
    fn a_state_survives_its_encoding() {
        let state = sample();
        let bytes = state.encode();
        assert_eq!(State::decode(&bytes), Ok(state.clone()));
        assert_eq!(state.generations().collect::<Vec<_>>(), [3, 5, 4]);
        for cut in 0..bytes.len() {
            assert!(State::decode(&bytes[..cut]).is_err());
        }
        assert_eq!(State::decode(&[&bytes[..], &[0]].concat()), Err(StateError::Long));
        const { assert!(State::ENCODED_MAX <= 64 << 10) };
    }

    #[test]
    fn the_longest_state() {
        let mut state = sample();
        state.maps = (0..512).map(|at| MapState { address: at, size: 1, ..MapState::default() }).collect();
        state.incoming = alloc::vec![7; INCOMING_MAX];
        state.log = Some(LogState { page_size: 1, ranges: alloc::vec![(1, 1); LOG_RANGES_MAX] });
        let bytes = state.encode();
        assert!(bytes.len() <= State::ENCODED_MAX);
        assert_eq!(State::decode(&bytes), Ok(state));
    }

    /// Typed by hand from the layout above, so that yesterday's bytes stay readable.
    #[test]
    fn version_1_bytes() {
        let mut bytes = alloc::vec![1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        bytes.extend([0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 16, 0, 1, 0, 0, 0]);
        bytes.extend([1, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0]);
        bytes.extend([7, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 3, 0, 0, 0]);
        bytes.extend([0; 5 * 36 * 4]);
        bytes.extend([2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let state = State::decode(&bytes).unwrap();
        assert_eq!(state.generation, 9);
        assert_eq!(state.client.map(|client| (client.max_msg_fds, client.write_multiple)), Some((8, true)));
        let map = MapState { address: 0x1000, size: 0x2000, offset: 7, fd: 6, flags: 3 };
        assert_eq!((state.maps, state.migration), (alloc::vec![map], MigrationState::Running));
    }

    #[test]
    fn what_cannot_be_a_state() {
        assert_eq!(State::decode(&[2, 0, 0, 0]), Err(StateError::Version(2)));
        let mut state = sample();
        state.maps.swap(0, 1);
        assert_eq!(State::decode(&state.encode()), Err(StateError::Value));
        state.maps.clear();
        state.saved_read = 11;
        assert_eq!(State::decode(&state.encode()), Err(StateError::Value));
    }
}
