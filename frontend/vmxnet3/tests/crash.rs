//! The worker dies at each of its stores, the driver goes on, and another worker takes over.

mod driver;

use driver::{Guest, Send, Shape, v4};
use guest_memory::crash;
use pci::Lasting;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Numbers of what was sent and what came in, in a frame's payload.
fn numbered(number: u64, len: usize) -> Vec<u8> {
    let mut frame = v4(17, len.max(8), 0);
    frame[42..50].copy_from_slice(&number.to_le_bytes());
    for (index, byte) in frame[50..].iter_mut().enumerate() {
        *byte = (number as u8).wrapping_mul(31).wrapping_add(index as u8);
    }
    frame
}

fn number(frame: &[u8]) -> u64 {
    u64::from_le_bytes(frame[42..50].try_into().unwrap())
}

struct World {
    guest: Guest,
    state: Vec<u8>,
    sent: u64,
    taken: Vec<u64>,
    offered: u64,
    accepted: u64,
    received: Vec<u64>,
}

fn shape() -> Shape {
    Shape { tx_size: 16, rx_size: 12, rx2_size: 10, mtu: 9000, ..Shape::default() }
}

impl World {
    fn new() -> World {
        let guest = Guest::open(shape());
        let state = guest.nic.state();
        World { guest, state, sent: 0, taken: Vec::new(), offered: 0, accepted: 0, received: Vec::new() }
    }

    /// What the driver does between two turns of the lane.
    fn drive(&mut self) {
        self.guest.reap(0);
        for frame in self.guest.receive(0) {
            let number = number(&frame.bytes);
            assert_eq!(frame.bytes, numbered(number, frame.bytes.len() - 42), "frame {number}");
            self.received.push(number);
        }
        for _ in 0..3 {
            if self.guest.tx[0].ring.available() < 4 {
                break;
            }
            let bytes = numbered(self.sent, 40 + (self.sent % 5) as usize * 300);
            let quiet = self.sent % 4 == 2;
            let copied = if self.sent.is_multiple_of(2) { 54 } else { 0 };
            self.guest
                .send(0, Send { bytes: &bytes, copied, piece: 400, quiet, id: self.sent, ..Send::default() });
            self.sent += 1;
        }
    }

    /// A turn of the lane.
    fn turn(&mut self) {
        for (bytes, _) in self.guest.take_all(0) {
            assert_eq!(bytes, numbered(number(&bytes), bytes.len() - 42));
            self.taken.push(number(&bytes));
        }
        for _ in 0..3 {
            let len = [20, 1000, 60, 5000, 9, 3000, 1400][self.offered as usize % 7];
            self.accepted += u64::from(self.guest.deliver(&numbered(self.offered, len)).is_ok());
            self.offered += 1;
        }
        self.guest.publish();
    }

    fn accepts_one(&mut self) {
        self.accepted += u64::from(self.guest.deliver(&numbered(self.offered, 100)).is_ok());
        self.offered += 1;
        self.guest.publish();
    }

    /// `true`: it died.
    fn turn_or_die(&mut self, stores: u64) -> bool {
        crash::after(Some(stores));
        let done = catch_unwind(AssertUnwindSafe(|| self.turn()));
        crash::after(None);
        match done {
            Ok(()) => false,
            Err(cause) if cause.is::<crash::Crashed>() => true,
            Err(cause) => std::panic::resume_unwind(cause),
        }
    }

    /// `true`: it died while it took over.
    fn take_over_or_die(&mut self, stores: Option<u64>) -> bool {
        let state = self.state.clone();
        crash::after(stores);
        let done = catch_unwind(AssertUnwindSafe(|| self.guest.die(&state)));
        crash::after(None);
        match done {
            Ok(()) => false,
            Err(cause) if cause.is::<crash::Crashed>() => true,
            Err(cause) => std::panic::resume_unwind(cause),
        }
    }

    /// Long enough for all rings to go round, and then all is told.
    fn finish(&mut self) {
        let before = (self.sent, self.received.len());
        // A batch of one frame, behind which nothing may be left of what a predecessor wrote.
        self.accepts_one();
        self.drive();
        self.accepts_one();
        for _ in 0..60 {
            self.drive();
            self.turn();
        }
        self.drive();
        self.turn();
        self.guest.reap(0);
        assert!(self.sent > before.0 + 100, "the transmit ring goes on");
        assert!(self.received.len() > before.1 + 100, "the receive rings go on");
        // Everything was sent, in order; some of it again.
        let mut next = 0;
        for number in &self.taken {
            assert!(*number <= next, "frame {next} was not sent");
            next = next.max(number + 1);
        }
        assert_eq!(next, self.sent);
        // `reap` looks at the order. All were completed that wanted it.
        let completed = &self.guest.tx[0].completed;
        let wanted: Vec<u64> = (0..self.sent).filter(|number| number % 4 != 2).collect();
        assert_eq!(*completed, wanted);
        // What came in is in order, and nothing comes twice.
        assert!(self.received.windows(2).all(|pair| pair[0] < pair[1]));
    }
}

/// Some turns of different kinds, and enough of them that the places wrap.
const TURNS: [usize; 9] = [0, 1, 2, 3, 4, 5, 6, 7, 11];

#[test]
fn a_worker_may_die_at_any_store() {
    let mut deaths = 0;
    for turns in TURNS {
        for stores in 0.. {
            let mut world = World::new();
            for _ in 0..turns {
                world.drive();
                world.turn();
            }
            world.drive();
            if !world.turn_or_die(stores) {
                break;
            }
            deaths += 1;
            // The driver goes on with what it sees, before or after the next worker is there.
            if stores.is_multiple_of(2) {
                world.drive();
            }
            assert!(!world.take_over_or_die(None));
            world.finish();
        }
    }
    assert!(deaths > 150, "{deaths}");
}

#[test]
fn its_successor_may_die_as_well() {
    let mut deaths = 0;
    for turns in [1, 3, 6] {
        for stores in 0.. {
            let mut ended = false;
            for again in 0.. {
                let mut world = World::new();
                for _ in 0..turns {
                    world.drive();
                    world.turn();
                }
                world.drive();
                if !world.turn_or_die(stores) {
                    ended = true;
                    break;
                }
                world.drive();
                if !world.take_over_or_die(Some(again)) {
                    break;
                }
                deaths += 1;
                assert!(!world.take_over_or_die(None));
                world.finish();
            }
            if ended {
                break;
            }
        }
    }
    assert!(deaths > 15, "{deaths}");
}

#[test]
fn a_successor_that_finds_everything_told_only_interrupts() {
    let mut world = World::new();
    for _ in 0..10 {
        world.drive();
        world.turn();
    }
    world.guest.reap(0);
    world.guest.receive(0);
    world.guest.vectors();
    let state = world.guest.nic.state();
    world.guest.die(&state);
    assert_eq!(world.guest.nic.state(), state);
    world.guest.unmask();
    world.guest.pass(1);
    assert_eq!(world.guest.vectors(), 0b111);
    assert!(world.guest.take_all(0).is_empty());
    assert_eq!(world.guest.reap(0), 0);
}

#[test]
fn what_is_not_a_state_leaves_a_device_that_is_off() {
    let mut world = World::new();
    let state = world.guest.nic.state();
    for len in 0..state.len() {
        world.guest.die(&state[..len]);
        assert!(world.guest.deliver(&numbered(1, 60)).is_err());
    }
    world.guest.die(&state);
    assert!(world.guest.deliver(&numbered(1, 60)).is_ok());
}

/// A vector that opens with something pending fires at once, which masks it. The worker dies before
/// the interrupt is told: nobody but its successor can tell it, and the driver waits for that.
#[test]
fn an_interrupt_that_was_not_told_is_told_by_the_successor() {
    const RECEIVE: u64 = 1; // Behind that of the one transmit queue.
    let mut guest = Guest::open(shape());
    guest.unmask();
    guest.write(0, 8 * RECEIVE, 1);
    guest.deliver(&numbered(1, 60)).unwrap();
    guest.publish();
    assert_eq!(guest.vectors() & 1 << RECEIVE, 0);
    let state = guest.nic.state();
    guest.write(0, 8 * RECEIVE, 0);
    assert_eq!(guest.read(0, 8 * RECEIVE), 1, "masked by the device");
    guest.die(&state);
    guest.pass(1);
    assert_ne!(guest.vectors() & 1 << RECEIVE, 0);
}
