//! Death at every store, with a driver that goes on meanwhile.

mod driver;

use std::panic::{AssertUnwindSafe, catch_unwind};

use driver::*;
use frame::{Nic, Refused, Taken};
use guest_memory::crash;
use pci::{Lasting, Signals};
use standpipe_e1000::Model;

struct World {
    bench: Bench,
    driver: Driver,
    state: Vec<u8>,
    /// Numbers of frames that were sent.
    wire: Vec<u32>,
    /// Number of the next frame to deliver.
    next_in: u32,
    /// Bits of how the driver behaves.
    clears: bool,
    keeps_status: bool,
}

impl World {
    fn new(clears: bool, keeps_status: bool) -> World {
        let mut bench = Bench::new(Model::I82540em);
        bench.open();
        let state = bench.nic.state();
        let mut driver = Driver::default();
        driver.fill_receive(&bench);
        World { bench, driver, state, wire: Vec::new(), next_in: 0, clears, keeps_status }
    }

    /// One turn of the worker. A message is gone once it was handled.
    fn work(&mut self) {
        while let Some((register, value)) = self.driver.doorbells.front().copied() {
            self.bench.write(register, value);
            self.driver.doorbells.pop_front();
        }
        for _ in 0..5 {
            match self.bench.nic.transmit(&self.bench.memory, 0, &mut self.bench.posted) {
                Taken::Frame => {
                    let bytes = whole(&self.bench.memory, &self.bench.posted);
                    assert_eq!(bytes, numbered(number(&bytes), 80), "a frame is whole");
                    self.wire.push(number(&bytes));
                }
                _ => break,
            }
        }
        for _ in 0..3 {
            match self.bench.deliver(&numbered(self.next_in, 90)) {
                Ok(bytes) => assert_eq!(bytes, 90),
                Err(refused) => {
                    assert_eq!(refused, Refused::NoBuffer);
                    break;
                }
            }
            self.next_in += 1;
        }
        self.bench.publish();
        let _ = self.bench.nic.interrupts();
    }

    fn drive(&mut self, send: u32) {
        self.driver.clean_transmit(&self.bench, &self.wire, self.clears);
        self.driver.clean_receive(&self.bench, self.keeps_status);
        self.driver.fill_receive(&self.bench);
        self.driver.send(&self.bench, send);
    }
}

/// Lives through a death after `stores`; `false` if the death did not come.
fn die_after(stores: u64, clears: bool, keeps_status: bool, meanwhile: u32) -> bool {
    let mut world = World::new(clears, keeps_status);
    world.drive(6);
    crash::after(Some(stores));
    let died = catch_unwind(AssertUnwindSafe(|| {
        for turn in 0..5 {
            world.work();
            if turn % 2 == 0 {
                world.drive(7);
            }
        }
    }))
    .is_err();
    crash::after(None);
    // The driver does all it can without anybody at the other end, more than once.
    for _ in 0..meanwhile {
        world.drive(7);
    }
    let received = world.driver.received.len();
    let state = world.state.clone();
    world.bench.successor(&state);
    assert!(world.bench.nic.interrupts().level, "an interrupt may have been lost");
    // Those that were shown by the successor come next; then several laps.
    world.drive(7);
    for _ in 0..20 {
        world.work();
        world.drive(5);
    }
    for _ in 0..4 {
        world.work();
        world.drive(0);
    }
    let driver = &world.driver;
    let all: Vec<u32> = (0..driver.next_number).collect();
    assert_eq!(driver.completed, all, "each frame ends once, in order (death after {stores})");
    assert!(all.iter().all(|number| world.wire.contains(number)));
    assert!(driver.received.is_sorted_by(|a, b| a < b), "{:?} {stores}", driver.received);
    // Lost frames are those of one burst.
    let lost = world.next_in as usize - driver.received.len();
    assert!(lost <= 3, "{lost} lost after {stores}");
    assert!(driver.received.len() > received + 20, "the ring goes on");
    died
}

#[test]
fn a_death_at_any_store_loses_no_transmission_and_wedges_no_ring() {
    std::panic::set_hook(Box::new(|_| {}));
    let _ = std::panic::take_hook();
    for (clears, keeps_status) in [(true, false), (false, false), (true, true), (false, true)] {
        for meanwhile in 0..3 {
            let mut stores = 0;
            while die_after(stores, clears, keeps_status, meanwhile) {
                stores += 1;
            }
            assert!(stores > 40, "only {stores} stores were tried");
        }
    }
}
