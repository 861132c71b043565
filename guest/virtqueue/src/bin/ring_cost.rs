//! What a request costs: takes and ends requests of three descriptors, in batches, with as little
//! around it as can be, for an instruction counter:
//!
//! ```text
//! cargo build --release -p standpipe-virtqueue --bin ring_cost
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null \
//!     --toggle-collect='ring_cost::device_turn' target/release/ring_cost split any
//! ```
//!
//! prints `requests=`; divide the instructions that were collected by it. The arguments are `split`
//! or `packed`, then `any` or `in-order`, then possibly `indirect`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use guest_memory::{Memory, Window};
use request::Address;
use standpipe_virtqueue::{Chain, Order, Pop, Queue, Setup};

const SIZE: u16 = 256;
const BATCH: u16 = 32;
const ROUNDS: u16 = 2000;

const DESC: u64 = 0x0000;
const DRIVER: u64 = 0x2000;
const DEVICE: u64 = 0x3000;
const TABLES: u64 = 0x4000;
const BUFFERS: u64 = 0x8000;
const MEMORY_BYTES: usize = 0x20000;

struct Shape {
    packed: bool,
    indirect: bool,
    order: Order,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    if !(has("split") || has("packed")) || !(has("any") || has("in-order")) {
        eprintln!("usage: ring_cost split|packed any|in-order [indirect]");
        return ExitCode::FAILURE;
    }
    let order = if has("any") { Order::Any } else { Order::InOrder };
    run(&Shape { packed: has("packed"), indirect: has("indirect"), order });
    ExitCode::SUCCESS
}

fn run(shape: &Shape) {
    let memory = Memory::anonymous(MEMORY_BYTES);
    let window = |at, len| memory.window(Address(at), len).expect("part of the memory");
    let setup = Setup {
        size: SIZE,
        packed: shape.packed,
        event_idx: true,
        indirect: true,
        desc: window(DESC, 0x1000),
        driver: window(DRIVER, 0x1000),
        device: window(DEVICE, 0x1000),
        log: None,
        inflight: Some(Window::anonymous(Queue::inflight_bytes(SIZE, shape.packed))),
        order: shape.order,
        base: Queue::base_of_fresh(shape.packed),
        resume: false,
    };
    let mut queue = Queue::new(setup, &memory).expect("a queue");
    let mut chains = vec![Chain::new(); usize::from(BATCH)];
    let mut requests = 0;
    let mut driver =
        Driver { desc: window(DESC, 0x1000), avail: window(DRIVER, 0x1000), next: 0, wrap: true };
    for _ in 0..ROUNDS {
        driver.make_available(shape, &memory);
        requests += device_turn(&mut queue, &memory, &mut chains);
    }
    assert_eq!(requests, u32::from(BATCH) * u32::from(ROUNDS));
    println!("requests={requests}");
}

#[inline(never)]
fn device_turn(queue: &mut Queue, memory: &Memory, chains: &mut [Chain]) -> u32 {
    let mut count = 0;
    for chain in chains.iter_mut() {
        match queue.pop(memory, chain) {
            Pop::Chain => count += 1,
            Pop::Empty | Pop::Broken(_) => break,
        }
    }
    for chain in &chains[..count] {
        queue.push(memory, chain.head, 512);
    }
    queue.publish(memory);
    count as u32
}

struct Driver {
    desc: Window,
    avail: Window,
    next: u16,
    wrap: bool,
}

impl Driver {
    fn make_available(&mut self, shape: &Shape, memory: &Memory) {
        for request in 0..BATCH {
            let buffers: Vec<(u64, u32, bool)> = [(0u64, 16u32, false), (16, 4096, true), (4112, 1, true)]
                .map(|(offset, len, write)| (BUFFERS + u64::from(request) * 0x200 + offset, len, write))
                .to_vec();
            let descriptors = if shape.indirect {
                let table = TABLES + u64::from(request) * 64;
                let window = memory.window(Address(table), 48).expect("a table");
                for (index, (address, len, write)) in buffers.iter().enumerate() {
                    let flags = if *write { 2u64 } else { 0 };
                    let word = if shape.packed {
                        u64::from(*len) | flags << 48
                    } else {
                        let next = if index < 2 { 1 } else { 0 };
                        u64::from(*len) | (flags | next) << 32 | (index as u64 + 1) << 48
                    };
                    window.store_u64(16 * index, *address);
                    window.store_u64(16 * index + 8, word);
                }
                vec![(table, 48, 4u64)]
            } else {
                let flags = |index, write| if write { 2 } else { 0 } | if index < 2 { 1u64 } else { 0 };
                buffers
                    .iter()
                    .enumerate()
                    .map(|(index, (address, len, write))| (*address, *len, flags(index, *write)))
                    .collect()
            };
            if shape.packed {
                for (address, len, flags) in descriptors {
                    let ring = if self.wrap { 0x80u64 } else { 0x8000 };
                    let at = 16 * usize::from(self.next);
                    self.desc.store_u64(at, address);
                    let word = u64::from(len) | u64::from(request) << 32 | (flags | ring) << 48;
                    self.desc.store_u64(at + 8, word);
                    self.next += 1;
                    if self.next == SIZE {
                        self.next = 0;
                        self.wrap = !self.wrap;
                    }
                }
            } else {
                let head = request * 3;
                for (index, (address, len, flags)) in descriptors.into_iter().enumerate() {
                    let at = 16 * (usize::from(head) + index);
                    self.desc.store_u64(at, address);
                    let next = u64::from(head) + index as u64 + 1;
                    self.desc.store_u64(at + 8, u64::from(len) | flags << 32 | next << 48);
                }
                self.avail.store_u16(4 + 2 * usize::from(self.next % SIZE), head);
                self.next = self.next.wrapping_add(1);
                self.avail.store_release_u16(2, self.next);
            }
        }
    }
}
