//! What is written through while rings are worked on, and found by a successor.

use crate::bits::{RX_QUEUES, TX_QUEUES};
use crate::ring::Position;
use crate::statistics::Statistics;
use guest_memory::Window;

const MASKS: usize = 0;
const TRANSMIT: usize = 16;
const RECEIVE: usize = TRANSMIT + 8 * TX_QUEUES;
const STATISTICS: usize = RECEIVE + 8 * RX_QUEUES;

/// Size of the window that a device is given.
pub const HOT_BYTES: usize = STATISTICS + Statistics::BYTES * (TX_QUEUES + RX_QUEUES);

/// The window, by name. A number is one store: it is there or not.
#[derive(Clone)]
pub struct Hot(Window);

impl Hot {
    pub fn new(window: Window) -> Hot {
        Hot(window)
    }

    /// Interrupt masks as the driver set them, one bit each: set is open, so that a new window has all
    /// closed. What the device masked when it fired is not in it: a worker may die before the
    /// interrupt is told, and a successor that found it masked would wait for the driver forever.
    pub fn unmasked(&self) -> u32 {
        self.0.load_u32(MASKS)
    }

    pub fn set_unmasked(&self, unmasked: u32) {
        self.0.store_u32(MASKS, unmasked);
    }

    pub fn set_masked(&self, index: usize, masked: bool) {
        let others = self.unmasked() & !(1 << index);
        self.set_unmasked(others | u32::from(!masked) << index);
    }

    /// Places in the ring and in that of completions.
    pub fn transmit(&self, queue: usize) -> [u16; 2] {
        let raw = self.0.load_u64(TRANSMIT + 8 * queue);
        [raw as u16, (raw >> 16) as u16]
    }

    pub fn set_transmit(&self, queue: usize, places: [Position; 2]) {
        let [ring, done] = places.map(|place| u64::from(place.encode()));
        self.0.store_u64(TRANSMIT + 8 * queue, ring | done << 16);
    }

    /// Places in both rings and in that of completions.
    pub fn receive(&self, queue: usize) -> [u16; 3] {
        let raw = self.0.load_u64(RECEIVE + 8 * queue);
        [raw as u16, (raw >> 16) as u16, (raw >> 32) as u16]
    }

    pub fn set_receive(&self, queue: usize, places: [Position; 3]) {
        let [first, second, done] = places.map(|place| u64::from(place.encode()));
        self.0.store_u64(RECEIVE + 8 * queue, first | second << 16 | done << 32);
    }

    /// Transmit queues come first.
    pub fn statistics(&self, queue: usize) -> Statistics {
        let at = STATISTICS + Statistics::BYTES * queue;
        let mut numbers = [0; Statistics::COUNT];
        for (index, number) in numbers.iter_mut().enumerate() {
            *number = self.0.load_u64(at + 8 * index);
        }
        Statistics(numbers)
    }

    /// Stores the numbers that changed.
    pub fn set_statistics(&self, queue: usize, from: &Statistics, to: &Statistics) {
        let at = STATISTICS + Statistics::BYTES * queue;
        for (index, (old, new)) in from.0.iter().zip(&to.0).enumerate() {
            if old != new {
                self.0.store_u64(at + 8 * index, *new);
            }
        }
    }
}
