//! Rings that a guest writes anything into, while the device goes on.

use arbitrary::{Result, Unstructured};
use guest_memory::Window;
use request::Address;
use virtqueue::{Chain, Order, Pop, Queue, SPANS_MAX, Setup};

use crate::posted::{MEMORY_BYTES, memory};

const DESC: u64 = 0;
const DRIVER: u64 = 0x1000;
const DEVICE: u64 = 0x2000;

pub fn split_ring(data: &[u8]) {
    // Bytes that end too early are a short story, not a fault.
    let _ = run(false, &mut Unstructured::new(data));
}

pub fn packed_ring(data: &[u8]) {
    let _ = run(true, &mut Unstructured::new(data));
}

fn run(packed: bool, input: &mut Unstructured<'_>) -> Result<()> {
    let memory = memory();
    let size = if packed { input.int_in_range(1..=40)? } else { 1 << input.int_in_range(0..=6)? };
    let order = if input.arbitrary()? { Order::Any } else { Order::InOrder };
    let window = |at, len| memory.window(Address(at), len).expect("within the memory");
    let inflight = Window::anonymous(Queue::inflight_bytes(size, packed));
    let mut setup = Setup {
        size,
        packed,
        event_idx: input.arbitrary()?,
        indirect: input.arbitrary()?,
        desc: window(DESC, 0x1000),
        driver: window(DRIVER, 0x1000),
        device: window(DEVICE, 0x1000),
        log: Some(Address(DEVICE)),
        inflight: input.ratio(7, 8)?.then_some(inflight),
        order,
        base: Queue::base_of_fresh(packed),
        resume: false,
    };
    let first = input.bytes(input.len().min(512).min(16 * usize::from(size)))?;
    setup.desc.write_bytes(0, first);
    let mut queue = Queue::new(setup.clone(), &memory).expect("a sound set-up");
    let mut held: Vec<Chain> = Vec::new();
    let mut chain = Chain::new();
    while !input.is_empty() {
        match input.int_in_range(0..=9)? {
            0 | 1 => match queue.pop(&memory, &mut chain) {
                Pop::Chain => {
                    check(&chain, size);
                    // In-order requests need no name: a guest may post one twice.
                    assert!(order == Order::InOrder || held.iter().all(|other| other.head != chain.head));
                    held.push(chain.clone());
                }
                Pop::Empty => assert!(queue.fault().is_none()),
                Pop::Broken(fault) => assert_eq!(queue.fault(), Some(fault)),
            },
            2 if !held.is_empty() => {
                let pick = if order == Order::Any { input.choose_index(held.len())? } else { 0 };
                let chain = held.remove(pick);
                queue.push(&memory, chain.head, input.arbitrary()?);
            }
            3 => {
                queue.publish(&memory);
            }
            4 => {
                if let Some(chain) = held.pop() {
                    queue.unpop(&chain);
                }
            }
            5 => {
                queue.disable_kicks();
                let _ = (queue.enable_kicks(), queue.pending(), queue.has_work(), queue.base());
            }
            6 => {
                // A successor: what was held is with it, or forgotten.
                setup.resume = true;
                queue = Queue::new(setup.clone(), &memory).expect("a sound set-up");
                assert!(queue.resubmits() <= usize::from(size));
                held.clear();
            }
            7 => {
                // Makes something available in an orderly way, so that there is work to do.
                let at = setup.driver.load_u16(2);
                setup.driver.store_u16(4 + 2 * usize::from(at % size), input.int_in_range(0..=size - 1)?);
                setup.driver.store_u16(2, at.wrapping_add(1));
            }
            8 => {
                let at = 16 * usize::from(input.int_in_range(0..=size - 1)?);
                let bytes = input.bytes(16)?;
                setup.desc.write_bytes(at, bytes);
            }
            _ => {
                let target = [&setup.desc, &setup.driver, &setup.device][input.choose_index(3)?];
                target.store_u8(input.int_in_range(0..=0x3ff)?, input.arbitrary()?);
            }
        }
        assert!(held.len() <= usize::from(size), "more in flight than the ring holds");
    }
    Ok(())
}

fn check(chain: &Chain, size: u16) {
    assert!(chain.head < size && chain.count >= 1 && chain.count <= size);
    assert!(chain.spans.len() <= SPANS_MAX && chain.writable_from <= chain.spans.len());
    for span in &chain.spans {
        assert!(span.len > 0 && span.offset + u64::from(span.len) <= MEMORY_BYTES as u64);
    }
}

pub fn split_seeds() -> Vec<Vec<u8>> {
    seeds(3, [((1, 1), (2, 0)), ((0, 0), (0, 0)), ((4, 0), (7, 0))])
}

pub fn packed_seeds() -> Vec<Vec<u8>> {
    seeds(7, [((0, 0x81), (1, 0x82)), ((2, 0x80), (3, 0x82)), ((4, 0x84), (5, 0x80))])
}

/// The third and fourth number of two descriptors, for a ring of eight.
fn seeds(size: u8, pairs: [((u16, u16), (u16, u16)); 3]) -> Vec<Vec<u8>> {
    let descriptor = |address: u64, len: u32, third: u16, fourth: u16| {
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend(third.to_le_bytes());
        bytes.extend(fourth.to_le_bytes());
        bytes
    };
    let mut seeds = Vec::new();
    for order in [0, 1] {
        for (a, b) in pairs {
            let mut seed = vec![size, order, 1, 1, 0];
            for index in 0..4u16 {
                // A split chain goes on with the descriptor behind; a packed one does so anyway.
                let next = if size == 3 && a.0 & 1 != 0 { 2 * index + 1 } else { a.1 };
                let address = 0x3000 + 256 * u64::from(index);
                seed.extend(descriptor(address, 32, a.0, next));
                seed.extend(descriptor(address + 0x800, 32, b.0, b.1));
            }
            for _ in 0..6 {
                seed.extend([7, 0, 7, 2, 0, 0, 2, 0, 9, 9, 9, 9, 3, 6, 0, 2, 0, 1, 1, 1, 1, 3]);
            }
            seeds.push(seed);
        }
    }
    seeds
}
