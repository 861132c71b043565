//! Death at any store to the rings or to the hot state, with a driver that goes on meanwhile.

mod driver;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use driver::*;
use frame::{Nic, Posted, Taken};
use guest_memory::{Window, crash};
use pci::Lasting;
use standpipe_pcnet::{Chip, Pcnet};

const PEER: request::Mac = request::Mac([2, 0, 0, 0, 0, 7]);

/// What outlives the worker, and what the world saw.
struct World {
    driver: Driver,
    hot: Window,
    state: Vec<u8>,
    /// Numbers of frames that left, in order.
    sent: Vec<u32>,
    /// Numbers of frames that were handed to the adapter.
    offered: u32,
}

impl World {
    fn new(style: u16, log: u32, sloppy: bool, parts: u32) -> Self {
        let mut driver = Driver::new(style, log);
        driver.sloppy = sloppy;
        driver.parts = parts;
        if parts > 1 {
            // A frame of 100 bytes and its check sequence.
            driver.shorten(104_u32.div_ceil(parts));
        }
        let hot = hot();
        let mut nic = Pcnet::new(config(Chip::Am79C970A), hot.clone());
        driver.open(&mut nic, 0);
        Self { driver, hot, state: nic.state(), sent: Vec::new(), offered: 0 }
    }

    fn start(&self) -> Pcnet {
        let mut nic = Pcnet::new(config(Chip::Am79C970A), self.hot.clone());
        nic.restore(&self.state);
        nic.resume(&self.driver.memory);
        nic
    }

    /// A worker's life: resumes, sends what is posted, delivers, publishes. `true`: it died.
    fn live(&mut self, stores: Option<u64>, deliveries: u32) -> bool {
        crash::after(stores);
        let end = catch_unwind(AssertUnwindSafe(|| {
            let mut nic = self.start();
            let memory = &*self.driver.memory;
            let mut posted = Posted::default();
            while nic.waiting() != 0 {
                assert_eq!(nic.transmit(memory, 0, &mut posted), Taken::Frame);
                self.sent.push(number_of(posted.header()));
            }
            for _ in 0..deliveries {
                let bytes = frame_of(MAC, self.offered, 100);
                self.offered += 1;
                // A full ring loses the frame.
                let _ = deliver(&mut nic, memory, &bytes);
            }
            nic.publish(NOW, memory);
        }));
        crash::after(None);
        match end {
            Ok(()) => false,
            Err(crashed) if crashed.is::<crash::Crashed>() => true,
            Err(other) => resume_unwind(other),
        }
    }

    /// The driver consumes and reaps what it sees as done, and posts as much as it can.
    fn driver_goes_on(&mut self, frames: u32) {
        self.driver.consume();
        for seen in self.driver.reap() {
            assert_eq!(seen.status & 0xc000, 0);
        }
        for _ in 0..frames {
            self.driver.send(PEER, 80);
        }
    }

    /// Without further deaths all goes its way.
    fn must_be_sound(&mut self) {
        // A successor may carry a burst to its end first, whose frames take buffers.
        assert!(!self.live(None, 0));
        let offered = self.offered;
        let count = self.driver.count() / self.driver.parts;
        for _ in 0..3 {
            self.driver_goes_on(count);
            assert!(!self.live(None, count));
        }
        self.driver_goes_on(0);
        assert_eq!(self.driver.dirty_tx, self.driver.next_tx, "all that was posted came back");
        // Each frame was sent, at least once, the first time in order.
        let mut next = 0;
        for number in &self.sent {
            assert!(*number <= next, "{number} before {next}");
            if *number == next {
                next += 1;
            }
        }
        assert_eq!(next, self.driver.number, "every frame was sent");
        // No frame came twice or out of order; none was lost after the deaths.
        let received: Vec<u32> = self.driver.received.iter().map(|bytes| number_of(bytes)).collect();
        assert!(received.windows(2).all(|pair| pair[0] < pair[1]), "{received:?}");
        assert!((offered..self.offered).all(|number| received.contains(&number)), "{received:?}");
        for bytes in &self.driver.received {
            assert_eq!(*bytes, frame_of(MAC, number_of(bytes), 100));
        }
    }
}

/// Dies after each number of stores; the driver posts `posted` frames, `frames` more while nobody is
/// there, and is offered `deliveries`.
fn each_store(style: u16, log: u32, sloppy: bool, posted: u32, deliveries: u32) {
    each_store_of(1, style, log, sloppy, posted, deliveries);
}

/// The same with frames of several descriptors.
fn each_store_of(parts: u32, style: u16, log: u32, sloppy: bool, posted: u32, deliveries: u32) {
    let mut first = 0;
    loop {
        let mut second = 0;
        let mut died = false;
        loop {
            let mut world = World::new(style, log, sloppy, parts);
            world.driver_goes_on(posted);
            died |= world.live(Some(first), deliveries);
            world.driver_goes_on(world.driver.count());
            // Its successor dies as well.
            let died_again = world.live(Some(second), deliveries);
            world.must_be_sound();
            if !died_again {
                break;
            }
            second += 1;
        }
        assert!(second > 0);
        if !died {
            break;
        }
        first += 1;
    }
    assert!(first > u64::from(posted + deliveries), "stores were counted: {first}");
}

#[test]
fn full_rings_of_32_bit_descriptors() {
    each_store(2, 2, false, 4, 4);
    each_store(2, 2, true, 4, 4);
}

#[test]
fn full_rings_of_16_bit_descriptors() {
    each_store(0, 2, false, 4, 4);
    each_store(0, 2, true, 4, 4);
}

#[test]
fn full_rings_of_burst_descriptors() {
    each_store(3, 2, false, 4, 4);
}

#[test]
fn half_full_rings() {
    each_store(2, 3, false, 3, 2);
    each_store(0, 3, true, 2, 3);
}

#[test]
fn rings_of_one_and_two() {
    for log in [0, 1] {
        each_store(2, log, false, 1, 1);
        each_store(0, log, true, 1, 1);
    }
}

#[test]
fn frames_of_several_descriptors() {
    for style in [0, 2, 3] {
        each_store_of(2, style, 2, false, 2, 2);
    }
    each_store_of(3, 2, 3, false, 2, 2);
    each_store_of(2, 0, 3, true, 3, 3);
}
