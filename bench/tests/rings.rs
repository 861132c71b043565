//! The driver's rings against the device's rings of this project, which were written apart from
//! them: whatever either side does, in whatever order, every chain comes back once, with the token
//! it went out with, and nobody sleeps through work.

#![forbid(unsafe_code)]

use std::sync::Arc;

use guest_memory::Memory;
use standpipe_bench::driver::error::Violation;
use standpipe_bench::driver::message::feature;
use standpipe_bench::driver::queue::{Buffer, Queue, QueueShape};
use standpipe_bench::driver::ram::{Ram, RamOptions};
use standpipe_bench::load::random::Random;
use virtqueue::{Chain, Order, Pop, Setup};

const CHAIN_MAX: u16 = 5;

#[derive(Debug, Clone, Copy)]
struct Kind {
    packed: bool,
    indirect: bool,
    event_idx: bool,
    size: u16,
}

fn features(kind: Kind) -> u64 {
    let bit = |wanted: bool, bit: u64| if wanted { bit } else { 0 };
    bit(kind.packed, feature::RING_PACKED)
        | bit(kind.indirect, feature::INDIRECT_DESC)
        | bit(kind.event_idx, feature::EVENT_IDX)
}

struct Pair {
    driver: Queue,
    device: virtqueue::Queue,
    memory: Arc<Memory>,
    ram: Ram,
}

fn pair(kind: Kind) -> Pair {
    let mut ram = Ram::new(RamOptions { regions: 2, ..RamOptions::new(1 << 20) }).unwrap();
    let shape = QueueShape { size: kind.size, chain_max: CHAIN_MAX };
    let driver = Queue::new(&mut ram, 0, shape, features(kind)).unwrap();
    let memory = ram.memory();
    let size = kind.size as u32;
    let (available, used) = if kind.packed { (4, 4) } else { (6 + 2 * size, 6 + 8 * size) };
    let setup = Setup {
        size: kind.size,
        packed: kind.packed,
        event_idx: kind.event_idx,
        indirect: kind.indirect,
        desc: memory.user_window(driver.addresses.descriptors, 16 * size).unwrap(),
        driver: memory.user_window(driver.addresses.driver, available).unwrap(),
        device: memory.user_window(driver.addresses.device, used).unwrap(),
        log: None,
        inflight: None,
        order: Order::Any,
        base: driver.base(),
        resume: false,
    };
    let device = virtqueue::Queue::new(setup, &memory).unwrap();
    Pair { driver, device, memory, ram }
}

fn converse(kind: Kind, seed: u64) {
    let Pair { mut driver, mut device, memory, mut ram } = pair(kind);
    let buffers = ram.allocate(4096, 64).unwrap();
    let mut random = Random::new(seed);
    // By token: the writable bytes of the chain that is out under it.
    let mut given: Vec<Option<u32>> = vec![None; kind.size as usize];
    let mut at_device: Vec<(u16, u32)> = Vec::new();
    let (mut given_bytes, mut taken_bytes) = (0u64, 0u64);
    let (mut came_back, mut went_out) = (0u64, 0u64);
    let (mut device_sleeps, mut driver_sleeps) = (false, false);
    let mut chain = Chain::new();
    for _ in 0..2000 {
        match random.below(6) {
            0 | 1 => {
                for _ in 0..random.below(4) {
                    let Some(token) = given.iter().position(Option::is_none) else { break };
                    let parts = 1 + random.below(CHAIN_MAX as u64) as usize;
                    let readable = random.below(parts as u64 + 1) as usize;
                    let list: Vec<Buffer> = (0..parts)
                        .map(|part| Buffer {
                            address: buffers.address() + 64 * part as u64,
                            length: 1 + random.below(64) as u32,
                            device_writes: part >= readable,
                        })
                        .collect();
                    let writable =
                        list.iter().filter(|part| part.device_writes).map(|part| part.length).sum();
                    let had_room = driver.has_room(parts);
                    assert_eq!(driver.add(token as u16, &list), had_room);
                    if had_room {
                        given[token] = Some(writable);
                        given_bytes += list.iter().map(|part| part.length as u64).sum::<u64>();
                        went_out += 1;
                    }
                }
                let kicks = driver.kicks;
                driver.publish();
                // A device that went to sleep had seen all there was: whatever is there is new.
                if device_sleeps && device.has_work() {
                    assert!(driver.kicks > kicks, "{kind:?} seed {seed}: the device was not woken");
                    device_sleeps = false;
                }
            }
            2 => {
                for _ in 0..random.below(5) {
                    match device.pop(&memory, &mut chain) {
                        Pop::Chain => {
                            let writable = chain.writable().iter().map(|span| span.len).sum();
                            let all: u32 = chain.spans.iter().map(|span| span.len).sum();
                            at_device.push((chain.head, writable));
                            taken_bytes += all as u64;
                        }
                        Pop::Empty => break,
                        Pop::Broken(fault) => panic!("{kind:?} seed {seed}: {fault:?}"),
                    }
                }
            }
            3 => {
                for _ in 0..random.below(5) {
                    if at_device.is_empty() {
                        break;
                    }
                    let (head, writable) =
                        at_device.swap_remove(random.below(at_device.len() as u64) as usize);
                    device.push(&memory, head, writable);
                }
                let interrupt = device.publish(&memory);
                if driver_sleeps && driver.pending().unwrap() {
                    assert!(interrupt, "{kind:?} seed {seed}: the driver was not woken");
                    driver_sleeps = false;
                }
            }
            4 => {
                while let Some(used) = driver.pop().unwrap() {
                    let writable = given[used.token as usize].take().expect("a token comes back once");
                    assert_eq!(used.written, writable, "{kind:?} seed {seed}");
                    came_back += 1;
                }
                driver_sleeps = random.below(2) == 0;
                if driver.set_interrupts(driver_sleeps).unwrap() {
                    driver_sleeps = false;
                }
            }
            _ => {
                device_sleeps = random.below(2) == 0;
                if !device_sleeps {
                    device.disable_kicks();
                } else if device.enable_kicks() {
                    device_sleeps = false;
                }
            }
        }
    }
    while let Pop::Chain = device.pop(&memory, &mut chain) {
        taken_bytes += chain.spans.iter().map(|span| span.len as u64).sum::<u64>();
    }
    assert_eq!(taken_bytes, given_bytes, "{kind:?} seed {seed}: buffers went missing on the way");
    assert!(came_back > 100, "{kind:?} seed {seed}: only {came_back} of {went_out} came back");
}

#[test]
fn every_chain_comes_back_once_and_nobody_sleeps_through_work() {
    for packed in [false, true] {
        for indirect in [false, true] {
            for event_idx in [false, true] {
                for size in if packed { [8, 13] } else { [8, 32] } {
                    for seed in 1..=20 {
                        converse(Kind { packed, indirect, event_idx, size }, seed);
                    }
                }
            }
        }
    }
}

#[test]
fn the_split_ring_refuses_what_a_mad_device_says() {
    let kind = Kind { packed: false, indirect: false, event_idx: false, size: 8 };
    // Used element 0 as the device writes it, the used index, and what the driver makes of it.
    let cases = [
        (0u32, 0u32, 2u16, Violation::UsedIndexAhead { index: 2, expected_at_most: 1 }),
        (8, 0, 1, Violation::UnknownDescriptor { id: 8 }),
        (1, 0, 1, Violation::NotOutstanding { id: 1 }),
        (0, 65, 1, Violation::WrittenTooMuch { id: 0, written: 65, writable: 64 }),
    ];
    for (id, written, index, violation) in cases {
        let Pair { mut driver, memory, mut ram, .. } = pair(kind);
        let buffer = ram.allocate(64, 64).unwrap();
        assert!(driver.add(3, &[Buffer::writable(buffer.address(), 64)]));
        driver.publish();
        let used = memory.user_window(driver.addresses.device, 6 + 8 * 8).unwrap();
        used.store_u32(4, id);
        used.store_u32(8, written);
        used.store_u16(2, index);
        assert_eq!(driver.pop(), Err(violation));
    }
}

#[test]
fn the_packed_ring_refuses_what_a_mad_device_says() {
    let kind = Kind { packed: true, indirect: false, event_idx: false, size: 8 };
    // AVAIL, USED and WRITE set: used in the first round, with a length.
    let used_flags = 1 << 7 | 1 << 15 | 2;
    let cases = [
        (8, 0, Violation::UnknownDescriptor { id: 8 }),
        (1, 0, Violation::NotOutstanding { id: 1 }),
        (0, 65, Violation::WrittenTooMuch { id: 0, written: 65, writable: 64 }),
    ];
    for (id, written, violation) in cases {
        let Pair { mut driver, memory, mut ram, .. } = pair(kind);
        let buffer = ram.allocate(64, 64).unwrap();
        assert!(driver.add(3, &[Buffer::writable(buffer.address(), 64)]));
        driver.publish();
        let ring = memory.user_window(driver.addresses.descriptors, 16 * 8).unwrap();
        ring.store_u32(8, written);
        ring.store_u16(12, id);
        ring.store_u16(14, used_flags);
        assert_eq!(driver.pop(), Err(violation));
    }
}
