//! A virtqueue of either kind with its two eventfds.

use std::os::fd::AsFd;
use std::time::Duration;

use host::event::Event;

use super::error::{Error, Result, Violation, doing};
use super::message::{RingAddresses, feature};
use super::packed::{EVENT_BYTES, Packed};
use super::ram::{Area, Ram};
use super::split::Split;

/// One buffer of a chain, by guest address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    pub address: u64,
    pub length: u32,
    pub device_writes: bool,
}

impl Buffer {
    pub fn readable(address: u64, length: u32) -> Buffer {
        Buffer { address, length, device_writes: false }
    }
    pub fn writable(address: u64, length: u32) -> Buffer {
        Buffer { address, length, device_writes: true }
    }
}

/// A chain that the device gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// What the driver called the chain when it added it.
    pub token: u16,
    /// Bytes that the device says it wrote.
    pub written: u32,
}

/// Room for one chain in an indirect table.
#[derive(Debug, Clone, Copy)]
pub struct QueueShape {
    pub size: u16,
    /// Buffers of the longest chain; 0 or 1 needs no tables.
    pub chain_max: u16,
}

pub enum Ring {
    Split(Split),
    Packed(Packed),
}

macro_rules! either {
    ($self:expr, $ring:ident => $body:expr) => {
        match $self {
            Ring::Split($ring) => $body,
            Ring::Packed($ring) => $body,
        }
    };
}

pub struct Queue {
    pub index: u32,
    pub size: u16,
    ring: Ring,
    pub addresses: RingAddresses,
    pub kick: Event,
    pub call: Event,
    /// Notifications sent to the device, and sleeps taken: both are figures of the benchmarks.
    pub kicks: u64,
    pub sleeps: u64,
}

impl Queue {
    /// Lays a ring out in guest memory, in the form that the negotiated `features` call for.
    pub fn new(ram: &mut Ram, index: u32, shape: QueueShape, features: u64) -> Result<Queue> {
        let size = shape.size;
        let packed = features & feature::RING_PACKED != 0;
        if size == 0 || size > 32768 || (!packed && !size.is_power_of_two()) {
            return Err(Error::Unsupported(format!(
                "a ring of {size}: a power of two up to 32768 is needed"
            )));
        }
        let event_idx = features & feature::EVENT_IDX != 0;
        let indirect = if features & feature::INDIRECT_DESC != 0 && shape.chain_max > 1 {
            Some((ram.allocate(size as usize * shape.chain_max as usize * 16, 4096)?, shape.chain_max))
        } else {
            None
        };
        let bytes = if packed {
            [Packed::descriptor_bytes(size), EVENT_BYTES, EVENT_BYTES]
        } else {
            [Split::descriptor_bytes(size), Split::available_bytes(size), Split::used_bytes(size)]
        };
        // Each area starts a cache line pair of its own, so that the two sides' writes do not meet.
        let areas: [Area; 3] =
            [ram.allocate(bytes[0], 4096)?, ram.allocate(bytes[1], 128)?, ram.allocate(bytes[2], 4096)?];
        let addresses = RingAddresses {
            descriptors: ram.user_address(areas[0].address()),
            driver: ram.user_address(areas[1].address()),
            device: ram.user_address(areas[2].address()),
        };
        let ring = if packed {
            Ring::Packed(Packed::new(size, areas, indirect, event_idx))
        } else {
            Ring::Split(Split::new(size, areas, indirect, event_idx))
        };
        let eventfd = || Event::new().map_err(doing("making an eventfd"));
        Ok(Queue { index, size, ring, addresses, kick: eventfd()?, call: eventfd()?, kicks: 0, sleeps: 0 })
    }

    /// Makes a chain available; it becomes visible with `publish`. False: no room, nothing changed.
    #[inline]
    pub fn add(&mut self, token: u16, chain: &[Buffer]) -> bool {
        either!(&mut self.ring, ring => ring.add(token, chain))
    }

    /// Shows the device what was added and notifies it if it wants that.
    #[inline]
    pub fn publish(&mut self) {
        if either!(&mut self.ring, ring => ring.publish()) {
            self.kick();
        }
    }

    /// Notifies the device whether it asked or not, as a driver does that has lost count.
    pub fn kick(&mut self) {
        self.kicks += 1;
        self.kick.signal();
    }

    #[inline]
    pub fn pop(&mut self) -> Result<Option<Used>, Violation> {
        either!(&mut self.ring, ring => ring.pop())
    }

    #[inline]
    pub fn pending(&mut self) -> Result<bool, Violation> {
        either!(&mut self.ring, ring => ring.pending())
    }

    pub fn set_interrupts(&mut self, wanted: bool) -> Result<bool, Violation> {
        either!(&mut self.ring, ring => ring.set_interrupts(wanted))
    }

    /// Sleeps until the device interrupts, something is there already, or the time is over.
    /// False when the time was over.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool> {
        if self.set_interrupts(true)? {
            return Ok(true);
        }
        self.sleeps += 1;
        let woken =
            host::poll::readable(&[self.call.as_fd()], timeout).map_err(doing("waiting for a queue"))?;
        self.call.clear();
        Ok(woken > 0)
    }

    /// Chains that are with the device.
    pub fn outstanding(&self) -> u16 {
        either!(&self.ring, ring => ring.outstanding())
    }

    /// Whether a chain of `buffers` fits now.
    pub fn has_room(&self, buffers: usize) -> bool {
        either!(&self.ring, ring => ring.cost(buffers) <= ring.free())
    }

    /// Forgets everything with the device; only after the device was reset or the queue stopped.
    pub fn reset(&mut self) {
        either!(&mut self.ring, ring => ring.reset())
    }

    /// Where the ring stands when nothing is in flight, as SET_VRING_BASE takes it.
    pub fn base(&self) -> u32 {
        either!(&self.ring, ring => ring.base())
    }
}
