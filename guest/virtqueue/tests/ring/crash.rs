//! The worker may die between any two stores; the guest must get each request's end exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::driver::{BUFFERS, Buffer, Driver, Kind, Layout};
use guest_memory::{Window, crash};
use proptest::prelude::*;
use standpipe_virtqueue::{Chain, Order, Pop, Queue};

/// xorshift64*: enough to choose steps.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// What the device's owner knows; all of it dies with it.
struct Worker {
    queue: Queue,
    held: Vec<Chain>,
}

struct World {
    driver: Driver,
    inflight: Window,
    worker: Option<Worker>,
    dice: Dice,
    next_token: u64,
    posted: BTreeMap<u64, Vec<Buffer>>,
    /// Tokens that some worker's `pop` returned.
    begun: BTreeSet<u64>,
    ended: Vec<u64>,
    crashes: u64,
}

/// A request is recognised by its first buffer's address.
fn token_of(chain: &Chain) -> u64 {
    (chain.spans[0].offset - BUFFERS) / 0x100
}

const TOKENS: u64 = 2500;

impl World {
    fn new(kind: Kind, seed: u64) -> Self {
        let inflight = Window::anonymous(Queue::inflight_bytes(kind.size, kind.packed));
        Self {
            driver: Driver::new(kind),
            inflight,
            worker: None,
            dice: Dice(seed | 1),
            next_token: 0,
            posted: BTreeMap::new(),
            begun: BTreeSet::new(),
            ended: Vec::new(),
            crashes: 0,
        }
    }

    fn post_some(&mut self) {
        for _ in 0..self.dice.below(6) {
            if self.next_token == TOKENS {
                return;
            }
            let token = self.next_token;
            let count = 1 + self.dice.below(4) as usize;
            let readable = self.dice.below(count as u64 + 1) as usize;
            let buffers: Vec<Buffer> = (0..count)
                .map(|index| Buffer {
                    address: BUFFERS + token * 0x100 + 0x40 * index as u64,
                    len: 1 + self.dice.below(0x40) as u32,
                    write: index >= readable,
                })
                .collect();
            let layout = match self.dice.below(4) {
                0 => Layout::Indirect,
                1 if count > 1 => Layout::Mixed(1 + self.dice.below(count as u64 - 1) as usize),
                _ => Layout::Direct,
            };
            if !self.driver.has_room(count, layout) {
                return;
            }
            self.driver.post(token, &buffers, layout);
            self.posted.insert(token, buffers);
            self.next_token += 1;
        }
    }

    /// One turn of the worker, in which it may die: `stores` further stores are done at most.
    fn turn(&mut self, stores: Option<u64>) -> bool {
        crash::after(stores);
        let result = catch_unwind(AssertUnwindSafe(|| self.work()));
        crash::after(None);
        if let Err(payload) = result {
            if !payload.is::<crash::Crashed>() {
                std::panic::resume_unwind(payload);
            }
            self.worker = None;
            self.crashes += 1;
            return true;
        }
        false
    }

    fn work(&mut self) {
        let memory = &self.driver.memory;
        if self.worker.is_none() {
            let resume = !self.begun.is_empty() || self.crashes > 0;
            let queue =
                Queue::new(self.driver.setup(&self.inflight, resume), memory).expect("a sound set-up");
            assert_eq!(queue.fault(), None);
            self.worker = Some(Worker { queue, held: Vec::new() });
        }
        let worker = self.worker.as_mut().expect("made above");
        for _ in 0..self.dice.below(4) {
            let again = worker.queue.resubmits() > 0;
            let mut chain = Chain::new();
            match worker.queue.pop(memory, &mut chain) {
                Pop::Chain => {}
                Pop::Empty => break,
                Pop::Broken(fault) => panic!("the driver did no wrong: {fault:?}"),
            }
            let token = token_of(&chain);
            check_spans(&chain, &self.posted[&token]);
            if self.driver.kind.order == Order::InOrder && self.dice.below(5) == 0 {
                worker.queue.unpop(&chain);
                continue;
            }
            if again {
                assert!(worker.held.iter().all(|held| token_of(held) < token), "out of the original order");
            } else if self.driver.kind.order == Order::Any {
                assert!(self.begun.insert(token), "{token} was begun and came as new");
            }
            self.begun.insert(token);
            worker.held.push(chain);
        }
        for _ in 0..self.dice.below(5) {
            if worker.held.is_empty() {
                break;
            }
            let pick = match self.driver.kind.order {
                Order::Any => self.dice.below(worker.held.len() as u64) as usize,
                Order::InOrder => 0,
            };
            let chain = worker.held.remove(pick);
            let written = chain.writable().iter().map(|span| span.len).sum();
            worker.queue.push(memory, chain.head, written);
        }
        if self.dice.below(3) != 0 {
            worker.queue.publish(memory);
        }
    }

    /// What the guest sees must be what it asked for, once; and what was begun and not ended must
    /// come again from a fresh queue, first and in order.
    fn look(&mut self) {
        for (token, written) in self.driver.take_used() {
            let writable: u32 =
                self.posted[&token].iter().filter(|buffer| buffer.write).map(|buffer| buffer.len).sum();
            assert_eq!(written, writable);
            self.ended.push(token);
            self.begun.insert(token);
        }
    }

    fn check_after_crash(&mut self) {
        self.look();
        let ended: BTreeSet<u64> = self.ended.iter().copied().collect();
        let due: Vec<u64> = self.begun.difference(&ended).copied().collect();
        // A copy of nothing: opening a queue is what a successor does first, and may do twice.
        let memory = &self.driver.memory;
        let setup = self.driver.setup(&self.inflight, true);
        let mut queue = Queue::new(setup, memory).expect("a sound set-up");
        if self.driver.kind.order == Order::Any {
            let mut again = Vec::new();
            while queue.resubmits() > 0 {
                let mut chain = Chain::new();
                assert_eq!(queue.pop(memory, &mut chain), Pop::Chain);
                let token = token_of(&chain);
                check_spans(&chain, &self.posted[&token]);
                again.push(token);
            }
            // The last one may have been noted and not handed out any more.
            let mut noted = due.clone();
            if again.len() == due.len() + 1 {
                noted.push(due.last().map_or_else(|| again[0], |last| (last + 1).max(again[due.len()])));
                self.begun.insert(again[due.len()]);
            }
            assert_eq!(again, noted, "to be done again");
        } else {
            let mut chain = Chain::new();
            let next = self.driver.outstanding().first().copied();
            match queue.pop(memory, &mut chain) {
                Pop::Chain => assert_eq!(Some(token_of(&chain)), next),
                Pop::Empty => assert_eq!(next, None),
                Pop::Broken(fault) => panic!("the driver did no wrong: {fault:?}"),
            }
        }
        assert!(queue.publish(memory), "a successor interrupts once, whatever happened");
    }

    fn finish(mut self) -> u64 {
        for _ in 0..100_000 {
            if self.driver.outstanding().is_empty() {
                assert_eq!(self.ended.len() as u64, self.next_token, "each ends once");
                return self.crashes;
            }
            self.turn(None);
            self.look();
        }
        panic!("lost: {:?}", self.driver.outstanding());
    }
}

fn check_spans(chain: &Chain, buffers: &[Buffer]) {
    let spans: Vec<(u64, u32)> = chain.spans.iter().map(|span| (span.offset, span.len)).collect();
    let want: Vec<(u64, u32)> = buffers.iter().map(|buffer| (buffer.address, buffer.len)).collect();
    assert_eq!(spans, want);
    assert_eq!(chain.writable_from, buffers.iter().filter(|buffer| !buffer.write).count());
}

fn kinds() -> impl Iterator<Item = Kind> {
    [false, true].into_iter().flat_map(|packed| {
        [Order::Any, Order::InOrder]
            .into_iter()
            .flat_map(move |order| [4, 8, 64].map(move |size| Kind { packed, event_idx: true, order, size }))
    })
}

fn live(kind: Kind, seed: u64, turns: u32, crash_within: u64) -> u64 {
    let mut world = World::new(kind, seed);
    for _ in 0..turns {
        world.post_some();
        let stores = world.dice.below(crash_within);
        if world.turn(Some(stores)) {
            world.check_after_crash();
        }
        if world.dice.below(3) != 0 {
            world.look();
        }
    }
    world.finish()
}

#[test]
fn each_request_ends_once_however_often_the_worker_dies() {
    let mut crashes = 0;
    for kind in kinds() {
        for seed in 1..100u64 {
            crashes += live(kind, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), 120, 30);
        }
    }
    assert!(crashes > 10_000, "only {crashes} crashes");
}

/// Every store of some turns, one after the other: no boundary is left to chance.
#[test]
fn every_store_of_a_turn_is_a_place_to_die() {
    let mut places = 0;
    for kind in kinds() {
        for seed in 1..30u64 {
            let mut stores = 0;
            loop {
                let mut world = World::new(kind, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                for _ in 0..9 {
                    world.post_some();
                    world.turn(None);
                    if world.dice.below(2) == 0 {
                        world.look();
                    }
                }
                world.post_some();
                let died = world.turn(Some(stores));
                if died {
                    // The successor dies as well, at each of its first stores.
                    world.turn(Some(stores % 7));
                    world.check_after_crash();
                }
                world.finish();
                if !died {
                    break;
                }
                stores += 1;
            }
            places += stores;
        }
    }
    assert!(places > 1000, "only {places} places");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn any_ring_any_shape(
        seed in any::<u64>(), packed: bool, event_idx: bool, any_order: bool, bits in 2u32..8, within in 1u64..80,
    ) {
        let order = if any_order { Order::Any } else { Order::InOrder };
        let size = if packed { (1 << bits) - 1 } else { 1 << bits };
        live(Kind { packed, event_idx, order, size }, seed, 80, within);
    }
}
