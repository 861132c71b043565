//! What the keeper holds while there is no worker: the places where rings lie, the ledger, the media.

use std::sync::Arc;

use bench::driver::queue::Queue as DriverQueue;
use disk_memory::Medium;
use guest_memory::{Memory, Window};
use request::{Blocks, Discard, Facts, Identity, Mac};
use virtqueue::{Order, Queue, Setup};

use crate::ledger::Ledger;
use crate::oracle::BLOCK;

/// One ring of a device.
pub struct Ring {
    setup: Setup,
    /// Whether a worker ever got as far as to serve it.
    pub started: bool,
    /// The worker raised its interrupt and the guest has not looked yet.
    pub interrupt: bool,
}

impl Ring {
    pub fn new(memory: &Memory, driver: &DriverQueue, packed: bool, event_idx: bool, order: Order) -> Self {
        let size = driver.size;
        let entries = u32::from(size);
        let window =
            |user, len| memory.user_window(user, len).expect("the driver's rings lie in the guest's memory");
        let lens =
            if packed { [16 * entries, 4, 4] } else { [16 * entries, 6 + 2 * entries, 6 + 8 * entries] };
        let setup = Setup {
            size,
            packed,
            event_idx,
            indirect: true,
            desc: window(driver.addresses.descriptors, lens[0]),
            driver: window(driver.addresses.driver, lens[1]),
            device: window(driver.addresses.device, lens[2]),
            log: None,
            inflight: Some(Window::anonymous(Queue::inflight_bytes(size, packed))),
            order,
            base: Queue::base_of_fresh(packed),
            resume: false,
        };
        Self { setup, started: false, interrupt: false }
    }

    /// See `Sabotage::ForgetInflight`.
    pub fn forget(&self) {
        if let Some(inflight) = &self.setup.inflight
            && self.setup.order == Order::Any
        {
            (0..inflight.len()).for_each(|at| inflight.store_u8(at, 0));
        }
    }

    pub fn setup(&self) -> Setup {
        Setup { resume: self.started, ..self.setup.clone() }
    }
}

pub enum Model {
    Blk { medium: Medium },
    Scsi { medium: Medium },
    Net { mac: Mac, features: u64 },
}

/// A device's place in the server: all of it outlives the worker.
pub struct Slot {
    pub memory: Arc<Memory>,
    pub rings: Vec<Ring>,
    /// The unit's state, as the worker last stored it.
    pub ledger: Ledger,
    pub model: Model,
}

impl Slot {
    pub fn new(memory: Arc<Memory>, rings: Vec<Ring>, model: Model) -> Self {
        Self { memory, rings, ledger: Ledger::new(), model }
    }
}

pub fn facts(blocks: u64) -> Facts {
    Facts {
        block_size: BLOCK as u32,
        blocks: Blocks(blocks),
        physical_exponent: 0,
        optimal: Blocks(0),
        read_only: false,
        rotational: false,
        write_cache: true,
        discard: Some(Discard { granularity: Blocks(1), zeroes: true }),
        atomic: None,
        identity: Identity { naa: [0x30; 16], serial: "sim".into(), name: "sim".into() },
    }
}
