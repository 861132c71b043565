//! The worker may die between any two stores; the driver must hear of each command's end once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::vec::Vec;

use guest_memory::{Window, crash};
use pci::{Bars, Lasting};
use request::Span;

use super::driver::{Driver, GOOD, MESSAGES, NOW, Request, STATE, adapter, hot, successor, take_resumed};
use crate::{Adapter, Answer, Command, Hotplug, Management, Taken};

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

/// What dies with a worker.
struct Worker {
    adapter: Adapter,
    running: Vec<Command>,
    told_to_end: Vec<u64>,
}

struct World {
    driver: Driver,
    hot: Window,
    /// Control state as it was kept last.
    state: Vec<u8>,
    worker: Worker,
    /// Register writes that were not handled and kept yet.
    socket: VecDeque<(u64, u32)>,
    dice: Dice,
    next_context: u64,
    /// Contexts that the driver waits for, with how often the device ran them.
    out: BTreeMap<u64, u32>,
    /// Contexts that the driver ordered to end.
    unwanted: BTreeSet<u64>,
    ended: u64,
    told: u8,
    heard: u8,
    /// Where the first worker dies, and each one after it.
    second: Option<u64>,
    crashes: u32,
}

impl World {
    fn new(seed: u64, first: u64, second: Option<u64>) -> World {
        let hot = hot();
        let mut driver = Driver::new(1);
        let mut adapter = adapter(&hot);
        driver.start(&mut adapter);
        let state = adapter.state();
        adapter.take_dirty();
        crash::after(Some(first));
        World {
            driver,
            hot,
            state,
            worker: Worker { adapter, running: Vec::new(), told_to_end: Vec::new() },
            socket: VecDeque::new(),
            dice: Dice(seed | 1),
            next_context: 1,
            out: BTreeMap::new(),
            unwanted: BTreeSet::new(),
            ended: 0,
            told: 0,
            heard: 0,
            second,
            crashes: 0,
        }
    }

    /// The worker does something, and may die of it.
    fn device(&mut self, work: impl Fn(&mut World)) -> bool {
        match catch_unwind(AssertUnwindSafe(|| work(self))) {
            Ok(()) => true,
            Err(cause) => {
                assert!(cause.is::<crash::Crashed>(), "the worker panicked by itself");
                self.restart();
                false
            }
        }
    }

    fn restart(&mut self) {
        loop {
            self.crashes += 1;
            crash::after(self.second.take());
            // The driver goes on while nobody is there.
            let goes_on = self.dice.below(4);
            for _ in 0..goes_on {
                self.drive();
            }
            let begun = catch_unwind(AssertUnwindSafe(|| {
                let mut adapter = successor(&self.hot, &self.state, &self.driver.memory);
                let running = take_resumed(&mut adapter, &self.driver.memory);
                Worker { adapter, running, told_to_end: Vec::new() }
            }));
            match begun {
                Ok(worker) => {
                    let ids: Vec<u64> = worker.running.iter().map(|command| command.id >> 16).collect();
                    assert!(ids.is_sorted(), "resumed in another order than begun");
                    assert!(worker.running.iter().all(|command| command.resumed));
                    self.worker = worker;
                    return;
                }
                Err(cause) => assert!(cause.is::<crash::Crashed>(), "the successor panicked by itself"),
            }
        }
    }

    /// The guest's side of the world.
    fn drive(&mut self) {
        match self.dice.below(4) {
            0 | 1 => {
                let request =
                    Request { target: (self.next_context % 3) as u8, ..Request::read(self.next_context) };
                if self.driver.post(&request) {
                    self.out.insert(self.next_context, 0);
                    self.next_context += 1;
                }
            }
            2 => self.consume(),
            _ => self.listen(),
        }
    }

    fn consume(&mut self) {
        while let Some(end) = self.driver.consume() {
            let runs = self.out.remove(&end.context).expect("an end that nobody waits for");
            match end.host_status {
                0 => assert!(runs > 0, "ended well without having been run"),
                0x25 | 0x26 => assert!(self.unwanted.contains(&end.context), "ended without an order"),
                other => panic!("host status {other:#x}"),
            }
            self.ended += 1;
        }
    }

    fn listen(&mut self) {
        let producer = self.driver.word(STATE + 128);
        let mut consumer = self.driver.word(STATE + 132);
        while consumer != producer {
            let at = MESSAGES + 128 * u64::from(consumer & 31);
            assert_eq!(self.driver.word(at + 8), u32::from(self.heard % 64), "a message twice, or lost");
            self.heard = self.heard.wrapping_add(1);
            consumer = consumer.wrapping_add(1);
        }
        self.driver.set_word(STATE + 132, consumer);
    }

    fn keep(&mut self) {
        if self.worker.adapter.take_dirty() {
            self.state = self.worker.adapter.state();
        }
    }

    /// One message of the socket, handled and kept in one step.
    fn handle(&mut self) {
        let Some((at, value)) = self.socket.front().copied() else { return };
        let memory = &self.driver.memory;
        self.worker.adapter.write(NOW, memory, 0, at, &value.to_le_bytes());
        self.keep();
        self.socket.pop_front();
    }

    fn order(&mut self, number: u32, words: &[u32]) {
        self.socket.push_back((0, number));
        self.socket.extend(words.iter().map(|word| (4, *word)));
        // The driver's writes wait for their replies.
        while !self.socket.is_empty() {
            self.device(World::handle);
        }
    }

    fn take(&mut self) {
        let mut command = Command::default();
        match self.worker.adapter.next(&self.driver.memory, &mut command) {
            Taken::Command => self.worker.running.push(command),
            Taken::Ended => panic!("a sound request was refused"),
            Taken::Empty => {}
        }
    }

    fn manage(&mut self) {
        while let Some(order) = self.worker.adapter.take_task_management(&self.driver.memory) {
            let running = self.worker.running.iter();
            let told = &mut self.worker.told_to_end;
            match order {
                Management::Abort { id } => told.push(id),
                Management::ResetDevice { place } => told
                    .extend(running.filter(|command| command.place == Some(place)).map(|command| command.id)),
                Management::ResetBus | Management::ResetAdapter => {
                    told.extend(running.map(|command| command.id));
                }
                Management::Unplug { .. } => panic!("nobody asked for it"),
            }
            self.keep();
        }
    }

    fn complete(&mut self) {
        if self.worker.running.is_empty() {
            return;
        }
        let index = self.dice.below(self.worker.running.len() as u64) as usize;
        let command = self.worker.running.remove(index);
        let answer = match self.worker.told_to_end.contains(&command.id) {
            true => Answer::Aborted,
            false => {
                if let Some(runs) = self.out.get_mut(&command.context) {
                    *runs += 1;
                }
                GOOD
            }
        };
        assert!(self.worker.adapter.complete(&self.driver.memory, command.id, &answer));
    }

    fn publish(&mut self) {
        self.worker.adapter.publish(NOW, &self.driver.memory);
        self.keep();
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..30 => self.drive(),
            30..50 => _ = self.device(World::take),
            50..68 => _ = self.device(World::complete),
            68..80 => _ = self.device(World::publish),
            80..91 => _ = self.device(World::manage),
            91..95 => {
                if self.worker.adapter.post_message(Hotplug::Added { target: self.told % 64, lun: 0 }) {
                    self.told = self.told.wrapping_add(1);
                    self.keep();
                }
            }
            95..98 => {
                let context = self.out.keys().next().copied().unwrap_or(1);
                self.unwanted.insert(context);
                self.order(6, &[context as u32, 0, (context % 3) as u32, 0]);
            }
            98 if self.dice.below(2) == 0 => {
                self.unwanted.extend(self.out.keys().filter(|context| **context % 3 == 1));
                self.order(5, &[1, 0, 0]);
            }
            98 => {
                self.unwanted.extend(self.out.keys());
                self.order(4, &[]);
            }
            _ => {
                // Linux's host reset.
                self.order(1, &[]);
                self.consume();
                self.out.clear();
                self.driver.memory.zero(Span { offset: STATE, len: 4096, region: 0 }).unwrap();
                self.heard = self.told;
                let (rings, messages) = (self.driver.setup_rings(), self.driver.setup_messages());
                self.order(3, &rings);
                self.order(8, &messages);
            }
        }
    }

    /// Everybody goes on without a crash until nothing is left.
    fn settle(&mut self) {
        crash::after(None);
        for _ in 0..400 {
            self.device(World::take);
            self.device(World::manage);
            self.device(World::complete);
            self.device(World::publish);
            self.consume();
            self.listen();
            if self.out.is_empty() && self.heard == self.told && !self.worker.adapter.settling() {
                break;
            }
        }
        assert!(self.out.is_empty(), "never ended: {:?}", self.out);
        assert_eq!(self.heard, self.told);
        assert!(!self.worker.adapter.settling());
        assert!(!self.worker.adapter.has_work());
        // reqConsIdx has come to reqProdIdx, and cmpConsIdx to cmpProdIdx.
        assert_eq!(self.driver.word(STATE + 4), self.driver.word(STATE));
        assert_eq!(self.driver.word(STATE + 16), self.driver.word(STATE + 12));
    }
}

/// Runs a world; false: it was over before the worker died.
fn run(seed: u64, first: u64, second: Option<u64>) -> bool {
    let mut world = World::new(seed, first, second);
    for _ in 0..320 {
        world.step();
    }
    let crashed = world.crashes > 0;
    world.settle();
    crashed
}

#[test]
fn each_command_ends_once_wherever_the_worker_dies() {
    let mut deaths = 0;
    for seed in 1..=10 {
        let mut first = 0;
        while run(seed * 7919, first, None) {
            first += 1;
        }
        assert!(first > 150, "a world with few stores shows little");
        deaths += first;
    }
    assert!(deaths > 2000);
}

#[test]
fn a_successor_may_die_as_well() {
    for seed in 1..=3 {
        for second in 0..24 {
            let mut first = second % 5;
            while run(seed * 104_729, first, Some(second)) {
                first += 5;
            }
        }
    }
}
