//! What a frame costs from one E1000's transmit ring into another's receive buffers, in this thread
//! alone: `cargo run --release -p standpipe-e1000 --example pair [ROUNDS]`.
//!
//! Prints nanoseconds a frame, the best of several rounds, for frames of 60 and of 1,514 bytes. The
//! drivers' part is two stores of a tail a burst, and clearing the status that a real driver would
//! clear, too.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant as Clock;

use frame::{Nic, Posted, Taken};
use guest_memory::{Memory, Window};
use pci::{Bars, Signals};
use request::{Address, Instant, Mac, Rewrite};
use standpipe_e1000::{Config, E1000, HOT_BYTES, Model};

const RING: u32 = 256;
const BURST: u32 = 32;
const BUFFER: u64 = 2_048;
const BURSTS: u32 = 256;

struct Side {
    nic: E1000,
    memory: Arc<Memory>,
    receive: Window,
    transmit: Window,
    tail: u32,
}

impl Side {
    fn new(model: Model, len: u64) -> Side {
        let hot = Window::anonymous(HOT_BYTES);
        let mut nic = E1000::new(Config { model, mac: Mac([2, 0, 0, 0, 0, 1]) }, hot);
        let memory = Memory::anonymous(4 << 20);
        let now = Instant::from_nanos(1);
        let bytes = RING * 16;
        let set_up = [
            (0x0000, 0x240),
            (0x3800, 0x1_0000),
            (0x3808, bytes),
            (0x0400, 2),
            (0x2800, 0x2_0000),
            (0x2808, bytes),
            (0x0100, 1 << 1 | 1 << 15 | 1 << 26),
        ];
        for (offset, value) in set_up {
            nic.write(now, &memory, 0, offset, &u32::to_le_bytes(value));
        }
        let window = |at: u64| memory.window(Address(at), bytes).expect("within the memory");
        let (transmit, receive) = (window(0x1_0000), window(0x2_0000));
        for index in 0..u64::from(RING) {
            let (out, into) = (0x10_0000 + index * BUFFER, 0x20_0000 + index * BUFFER);
            let at = index as usize * 16;
            transmit.store_u64(at, out);
            transmit.store_u64(at + 8, len | 0x0b << 24);
            receive.store_u64(at, into);
            let span = memory.locate(Address(out), 14, &mut 0).expect("within the memory");
            let frame = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
            memory.write(span, &frame).expect("within the memory");
        }
        Side { nic, memory, receive, transmit, tail: 0 }
    }

    fn doorbell(&mut self, offset: u64, value: u32) {
        let memory = Arc::clone(&self.memory);
        self.nic.write(Instant::from_nanos(1), &memory, 0, offset, &(value % RING).to_le_bytes());
    }
}

fn round(from: &mut Side, to: &mut Side, posted: &mut Posted) -> f64 {
    let now = Instant::from_nanos(1);
    let mut frames = 0;
    let start = Clock::now();
    for _ in 0..BURSTS {
        for nth in 0..BURST {
            let at = ((from.tail + nth) % RING) as usize * 16;
            from.transmit.store_u32(at + 12, 0);
            to.receive.store_u8(at + 12, 0);
        }
        from.tail = (from.tail + BURST) % RING;
        let tail = from.tail;
        from.doorbell(0x3818, tail);
        to.doorbell(0x2818, tail + 1);
        while from.nic.transmit(&from.memory, 0, posted) == Taken::Frame {
            let frame = posted.frame(&from.memory);
            to.nic.deliver(&to.memory, black_box(&frame), Rewrite::Keep).expect("a posted buffer");
            frames += 1;
        }
        from.nic.publish(now, &from.memory);
        to.nic.publish(now, &to.memory);
        black_box((from.nic.interrupts(), to.nic.interrupts()));
    }
    assert_eq!(frames, BURST * BURSTS);
    start.elapsed().as_nanos() as f64 / f64::from(frames)
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(40);
    for model in [Model::I82540em, Model::I82574l] {
        for len in [60, 1_514] {
            let (mut from, mut to) = (Side::new(model, len), Side::new(model, len));
            let mut posted = Posted::default();
            let best = (0..rounds).map(|_| round(&mut from, &mut to, &mut posted)).fold(f64::MAX, f64::min);
            println!("{model:?}, frames of {len} bytes: {best:.1} ns");
        }
    }
}
