//! The area that driver and device share (`Vmxnet3_DriverShared`), and the queue descriptors that it
//! points to. What a driver set up with ACTIVATE_DEV is read once, and checked.

use alloc::vec::Vec;

use crate::bits::{COMPLETIONS_MAX, RING_MAX, RX_QUEUES, TX_QUEUES, VECTORS};
use crate::codec::{Reader, Writer};
use crate::ring::Place;
use guest_memory::{Memory, Window};
use request::Address;

/// Places in the shared area.
pub mod at {
    pub const MAGIC: usize = 0;
    pub const FEATURES: usize = 24;
    pub const QUEUES: usize = 40;
    pub const QUEUES_BYTES: usize = 52;
    pub const MTU: usize = 56;
    pub const RX_PIECES: usize = 60;
    pub const TX_QUEUES: usize = 62;
    pub const RX_QUEUES: usize = 63;
    pub const AUTO_MASK: usize = 80;
    pub const EVENT_VECTOR: usize = 82;
    pub const LEVELS: usize = 83;
    pub const RX_MODE: usize = 120;
    pub const MULTICAST_BYTES: usize = 124;
    pub const MULTICAST: usize = 128;
    pub const VLANS: usize = 136;
    pub const RSS_BYTES: usize = 652;
    pub const RSS: usize = 656;
    pub const EVENTS: usize = 696;
    pub const COMMAND: usize = 704;
    /// As revision 1 has it; later ones append to it what is not used here.
    pub const END: usize = 720;
}

/// Places in a queue's descriptor, of which many are the same in both directions.
pub mod queue {
    pub const BYTES: usize = 256;
    pub const TX_THRESHOLD: usize = 4;
    pub const RING: usize = 16;
    /// Receive: of the second ring.
    pub const RING_2: usize = 24;
    pub const COMPLETIONS: usize = 32;
    pub const RX_DATA: usize = 48;
    pub const RING_SIZE: usize = 56;
    pub const RING_2_SIZE: usize = 60;
    pub const COMPLETIONS_SIZE: usize = 64;
    pub const VECTOR: usize = 72;
    pub const RX_DATA_BYTES: usize = 74;
    pub const STATUS: usize = 80;
    pub const STATISTICS: usize = 88;
}

/// `VMXNET3_REV1_MAGIC`, which later revisions kept.
pub const MAGIC: u32 = 3_133_079_265;

/// Largest buffer of a receive data ring, and what its size is a multiple of.
const RX_DATA_MAX: u16 = 2048;
const RX_DATA_STEP: u16 = 64;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransmitSetup {
    pub ring: Place,
    pub completions: Place,
    pub vector: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveSetup {
    pub rings: [Place; 2],
    pub completions: Place,
    /// Small frames go here; 0 bytes: there is no such ring.
    pub data: u64,
    pub data_bytes: u16,
    pub vector: u8,
}

/// What ACTIVATE_DEV found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    pub mtu: u32,
    /// Buffers that a coalesced frame may take; 0: as many as it needs.
    pub rx_pieces: u16,
    pub auto_mask: bool,
    pub event_vector: u8,
    pub levels: [u8; VECTORS],
    /// Where the queues' descriptors lie.
    pub queues: u64,
    pub transmit: Vec<TransmitSetup>,
    pub receive: Vec<ReceiveSetup>,
}

impl Setup {
    /// `None`: nothing that could be worked with.
    pub fn read(memory: &Memory, shared: u64, revision: u8) -> Option<Setup> {
        let area = area(memory, shared)?;
        if area.load_u32(at::MAGIC) != MAGIC {
            return None;
        }
        let mut levels = [0; VECTORS];
        area.read_bytes(at::LEVELS, &mut levels);
        let mut setup = Setup {
            mtu: area.load_u32(at::MTU),
            rx_pieces: area.load_u16(at::RX_PIECES),
            auto_mask: area.load_u8(at::AUTO_MASK) != 0,
            event_vector: area.load_u8(at::EVENT_VECTOR),
            levels,
            queues: area.load_u64(at::QUEUES),
            ..Setup::default()
        };
        let transmit = usize::from(area.load_u8(at::TX_QUEUES));
        let receive = usize::from(area.load_u8(at::RX_QUEUES));
        if !(1..=TX_QUEUES).contains(&transmit)
            || !(1..=RX_QUEUES).contains(&receive)
            || usize::from(setup.event_vector) >= VECTORS
            || (area.load_u32(at::QUEUES_BYTES) as usize) < (transmit + receive) * queue::BYTES
        {
            return None;
        }
        let queues = setup.queue_area(memory, transmit + receive)?;
        for index in 0..transmit {
            let descriptor = queues.sub(index * queue::BYTES, queue::BYTES)?;
            setup.transmit.push(read_transmit(&descriptor)?);
        }
        for index in transmit..transmit + receive {
            let descriptor = queues.sub(index * queue::BYTES, queue::BYTES)?;
            setup.receive.push(read_receive(&descriptor, revision)?);
        }
        Some(setup)
    }

    fn queue_area(&self, memory: &Memory, count: usize) -> Option<Window> {
        // At most 24 of 256 bytes each.
        memory.window(Address(self.queues), (count * queue::BYTES) as u32)
    }

    /// All the queues' descriptors, transmit queues first.
    pub fn descriptors(&self, memory: &Memory) -> Option<Window> {
        self.queue_area(memory, self.transmit.len() + self.receive.len())
    }

    pub fn encode(&self, out: &mut Writer) {
        out.u32(self.mtu);
        out.u16(self.rx_pieces);
        out.u8(self.auto_mask.into());
        out.u8(self.event_vector);
        out.bytes(&self.levels);
        out.u64(self.queues);
        out.u8(self.transmit.len() as u8);
        out.u8(self.receive.len() as u8);
        let place = |out: &mut Writer, place: &Place| {
            out.u64(place.base);
            out.u16(place.size);
        };
        for queue in &self.transmit {
            place(out, &queue.ring);
            place(out, &queue.completions);
            out.u8(queue.vector);
        }
        for queue in &self.receive {
            queue.rings.iter().for_each(|ring| place(out, ring));
            place(out, &queue.completions);
            out.u64(queue.data);
            out.u16(queue.data_bytes);
            out.u8(queue.vector);
        }
    }

    pub fn decode(from: &mut Reader<'_>) -> Option<Setup> {
        let mut setup = Setup {
            mtu: from.u32()?,
            rx_pieces: from.u16()?,
            auto_mask: from.bool()?,
            event_vector: from.u8()?,
            levels: from.array()?,
            queues: from.u64()?,
            ..Setup::default()
        };
        let (transmit, receive) = (from.u8()?, from.u8()?);
        if usize::from(transmit) > TX_QUEUES
            || usize::from(receive) > RX_QUEUES
            || usize::from(setup.event_vector) >= VECTORS
        {
            return None;
        }
        for _ in 0..transmit {
            setup.transmit.push(TransmitSetup {
                ring: place(from, RING_MAX)?,
                completions: place(from, COMPLETIONS_MAX)?,
                vector: vector(from.u8()?)?,
            });
        }
        for _ in 0..receive {
            setup.receive.push(ReceiveSetup {
                rings: [place(from, RING_MAX)?, place(from, RING_MAX)?],
                completions: place(from, COMPLETIONS_MAX)?,
                data: from.u64()?,
                data_bytes: from.u16()?,
                vector: vector(from.u8()?)?,
            });
        }
        Some(setup)
    }
}

/// The shared area itself.
pub fn area(memory: &Memory, shared: u64) -> Option<Window> {
    memory.window(Address(shared), at::END as u32)
}

fn vector(index: u8) -> Option<u8> {
    (usize::from(index) < VECTORS).then_some(index)
}

fn place(from: &mut Reader<'_>, max: u32) -> Option<Place> {
    let place = Place { base: from.u64()?, size: from.u16()? };
    (u32::from(place.size) <= max).then_some(place)
}

/// A ring's size must be one that positions can count.
fn sized(base: u64, size: u32, max: u32) -> Option<Place> {
    (1..=max).contains(&size).then_some(Place { base, size: size as u16 })
}

fn read_transmit(descriptor: &Window) -> Option<TransmitSetup> {
    Some(TransmitSetup {
        ring: sized(descriptor.load_u64(queue::RING), descriptor.load_u32(queue::RING_SIZE), RING_MAX)?,
        completions: sized(
            descriptor.load_u64(queue::COMPLETIONS),
            descriptor.load_u32(queue::COMPLETIONS_SIZE),
            COMPLETIONS_MAX,
        )?,
        vector: vector(descriptor.load_u8(queue::VECTOR))?,
    })
}

fn read_receive(descriptor: &Window, revision: u8) -> Option<ReceiveSetup> {
    let second = match descriptor.load_u32(queue::RING_2_SIZE) {
        // iPXE has no second ring.
        0 => Place::default(),
        size => sized(descriptor.load_u64(queue::RING_2), size, RING_MAX)?,
    };
    // The field was padding before revision 3.
    let data_bytes = match descriptor.load_u16(queue::RX_DATA_BYTES) {
        bytes if revision >= 3 && bytes <= RX_DATA_MAX && bytes.is_multiple_of(RX_DATA_STEP) => bytes,
        _ => 0,
    };
    Some(ReceiveSetup {
        rings: [
            sized(descriptor.load_u64(queue::RING), descriptor.load_u32(queue::RING_SIZE), RING_MAX)?,
            second,
        ],
        completions: sized(
            descriptor.load_u64(queue::COMPLETIONS),
            descriptor.load_u32(queue::COMPLETIONS_SIZE),
            COMPLETIONS_MAX,
        )?,
        data: if data_bytes == 0 { 0 } else { descriptor.load_u64(queue::RX_DATA) },
        data_bytes,
        vector: vector(descriptor.load_u8(queue::VECTOR))?,
    })
}
