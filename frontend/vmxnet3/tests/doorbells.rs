//! Masks and doorbells that are memory of the guest: what the driver stores there, nobody is told.

mod driver;

use driver::{Guest, Send, Shape, v4};
use frame::Nic;
use guest_memory::{Window, crash};
use pci::{Bars, Doorbells, IrqMode, Lasting, Pages, Signals};
use standpipe_vmxnet3::Vmxnet3;
use std::panic::{AssertUnwindSafe, catch_unwind};

const LARGE_BAR: u32 = 1 << 16;

/// A driver that takes interrupts as Linux's does: it reads what there is until there is no more, opens
/// its vector, and does not look again.
struct World {
    guest: Guest,
    page: Window,
    state: Vec<u8>,
    delivered: u64,
    received: u64,
    interrupts: u64,
}

impl World {
    fn new(large: bool) -> World {
        let page = Window::anonymous(4096);
        let mut guest = Guest::new(Shape::default());
        guest.nic.share(Some(page.clone()));
        guest.nic.reset();
        guest.negotiate();
        assert_eq!(guest.read(1, 0x48) & LARGE_BAR, LARGE_BAR);
        if large {
            guest.write(1, 0x48, LARGE_BAR);
            assert_eq!(guest.command(0xf00d_0012), LARGE_BAR);
        }
        guest.setup();
        assert_eq!(guest.command(0xcafe_0000), 0, "activate");
        guest.rx_mode(0x01 | 0x04 | 0x08);
        let state = guest.nic.state();
        let mut world = World { guest, page, state, delivered: 0, received: 0, interrupts: 0 };
        (0..3).for_each(|vector| world.open(vector));
        world
    }

    fn open(&mut self, vector: usize) {
        self.page.store_release_u32(8 * vector, 0);
    }

    fn is_masked(&self, vector: usize) -> bool {
        self.page.load_acquire_u32(8 * vector) & 1 != 0
    }

    /// A turn of a lane: a frame comes in, and the driver is told.
    fn turn(&mut self) -> u32 {
        self.delivered += u64::from(self.guest.deliver(&v4(17, 60, 1)).is_ok());
        self.guest.publish();
        self.guest.vectors()
    }

    fn die(&mut self) {
        self.guest.nic = Vmxnet3::new(self.guest.config, self.guest.hot.clone());
        self.guest.nic.share(Some(self.page.clone()));
        self.guest.nic.restore(&self.state);
        self.guest.nic.set_irq_mode(IrqMode::MsiX);
        self.guest.nic.resume(&self.guest.memory);
    }

    /// The driver's handler, if it was interrupted. Vector 1 is that of the receive queue.
    fn interrupt(&mut self, vectors: u32) {
        if vectors & 0b10 != 0 {
            self.interrupts += 1;
            self.received += self.guest.receive(0).len() as u64;
            self.open(1);
        }
    }

    /// A lane that sleeps, and does what it said it would: looks if the device is silent, and heeds the
    /// device's deadline.
    fn rest(&mut self) {
        for _ in 0..10 {
            let silent = self.guest.nic.is_silent();
            if !silent && self.guest.nic.deadline().is_none() {
                return;
            }
            self.guest.pass(1_000_000);
            if silent {
                self.guest.nic.look(self.guest.now);
            }
            let vectors = self.guest.vectors();
            self.interrupt(vectors);
        }
    }

    /// Runs, and dies at a store; gives what was signalled before.
    fn turn_or_die(&mut self, stores: u64) -> Option<u32> {
        crash::after(Some(stores));
        let done = catch_unwind(AssertUnwindSafe(|| self.turn()));
        crash::after(None);
        match done {
            Ok(vectors) => Some(vectors),
            Err(cause) if cause.is::<crash::Crashed>() => None,
            Err(cause) => std::panic::resume_unwind(cause),
        }
    }
}

#[test]
fn masks_are_what_lies_in_memory() {
    let mut world = World::new(true);
    assert_eq!(world.guest.nic.pages(), Some(Pages { bar: 0, offset: 0, bytes: 4096 }));
    let vectors = world.turn();
    assert_eq!(vectors, 0b10);
    assert!(world.is_masked(1) && !world.is_masked(0) && !world.is_masked(2), "the device masks it");
    assert_eq!((world.guest.read(0, 0), world.guest.read(0, 8)), (0, 1));
    assert!(!world.guest.nic.look(world.guest.now));

    // The driver is at work still: the next one is told when it opens the vector.
    assert_eq!(world.turn(), 0);
    assert!(world.guest.nic.is_silent());
    assert_eq!(world.guest.nic.deadline(), None);
    assert!(!world.guest.nic.look(world.guest.now));
    world.interrupt(vectors);
    assert!(world.guest.nic.look(world.guest.now));
    assert_eq!(world.guest.vectors(), 0b10);

    // Some clients stop the mapping for a while: then it is a message, to the same place.
    world.guest.write(0, 8, 0);
    assert!(!world.is_masked(1));
    world.guest.write(0, 8, 1);
    assert!(world.is_masked(1));
    world.open(1);
    world.guest.nic.reset();
    assert!((0..25).all(|vector| world.is_masked(vector)));
}

#[test]
fn a_reset_by_the_driver_masks_all() {
    let mut world = World::new(true);
    assert!(!world.is_masked(0));
    assert_eq!(world.guest.command(0xcafe_0002), 0);
    assert!((0..25).all(|vector| world.is_masked(vector)));
    assert!(!world.guest.nic.is_silent());
}

#[test]
fn who_has_to_be_looked_at() {
    // Doorbells on a page of their own are messages: nothing to look for at rest.
    let mut large = World::new(true);
    assert!(!large.guest.nic.is_silent());
    large.guest.write(0, 0x1000, 1);
    assert_eq!(large.guest.nic.counts().doorbells, 1);
    large.turn();
    large.turn();
    assert!(large.guest.nic.is_silent(), "it waits for the vector");
    large.guest.command(0xcafe_0001);
    assert!(!large.guest.nic.is_silent(), "no driver is at work");

    // Those of a driver that does not know of it lie with the masks.
    let mut small = World::new(false);
    assert!(small.guest.nic.is_silent());
    let bytes = v4(17, 60, 1);
    small.guest.send(0, Send { bytes: &bytes, id: 1, ..Send::default() });
    assert_eq!(small.guest.nic.waiting(), 1, "found without a doorbell");
    small.guest.command(0xcafe_0001);
    assert!(!small.guest.nic.is_silent());

    // And without a page there is nothing silent, and no larger layout.
    let mut plain = Guest::open(Shape::default());
    assert!(!plain.nic.is_silent());
    plain.deliver(&bytes).unwrap();
    plain.publish();
    plain.deliver(&bytes).unwrap();
    plain.publish();
    assert!(!plain.nic.is_silent());
    assert_eq!(plain.read(1, 0x48) & LARGE_BAR, 0);
    plain.write(1, 0x48, LARGE_BAR);
    assert_eq!(plain.command(0xf00d_0012), 0);
}

/// The worker dies at each store of a turn, and behind it before the interrupt is told; its successor
/// dies again as it takes over. Wherever that is, and wherever the driver is, in the end it has been told
/// of every frame, with at most a few interrupts too many.
#[test]
fn no_interrupt_is_lost_with_a_worker() {
    for large in [true, false] {
        for driver_is_late in [false, true] {
            let mut at = 0;
            loop {
                let mut world = World::new(large);
                let first = world.turn();
                if !driver_is_late {
                    world.interrupt(first);
                }
                let told = world.turn_or_die(at);
                let over = told.is_some();
                // Of what was told at the very end nobody knows whether it was heard.
                world.state = world.guest.nic.state();
                crash::after(Some(at / 2));
                let again = catch_unwind(AssertUnwindSafe(|| world.die()));
                crash::after(None);
                if again.is_err() {
                    world.die();
                }
                if driver_is_late {
                    world.interrupt(first);
                }
                world.rest();
                // A frame that was begun and not told of is lost, and no more.
                assert!(
                    world.guest.receive(0).is_empty(),
                    "not told of what is there, after a death at {at}"
                );
                let missing = world.delivered - world.received;
                assert!(missing <= 1, "{missing} at {at}");
                let vectors = world.turn();
                world.interrupt(vectors);
                world.rest();
                assert!(world.delivered - world.received <= missing, "stuck after a death at {at}");
                assert!(world.interrupts <= 6);
                if over {
                    break;
                }
                at += 1;
            }
            assert!(at > 3, "there were stores to die at");
        }
    }
}
