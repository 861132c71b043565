//! A small driver: what the open ones do, on memory of the test's own. Its numbers are typed from
//! VMware's headers, apart from the crate's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use guest_memory::{Memory, Window};
use pci::{Bars, Function, IrqMode, Lasting, Signals};
use request::{Instant, Span};

use crate::{Adapter, Answer, Command, Config, HOT_BYTES, Taken};

pub const NOW: Instant = Instant::from_nanos(1_000_000);

/// Where the driver keeps its things.
pub const STATE: u64 = 0x1000;
pub const REQUESTS: u64 = 0x10_0000;
pub const COMPLETIONS: u64 = 0x20_0000;
pub const MESSAGES: u64 = 0x30_0000;
pub const SENSE: u64 = 0x40_0000;
pub const LISTS: u64 = 0x50_0000;
pub const DATA: u64 = 0x60_0000;
pub const MEMORY: usize = 0x80_0000;

/// A completion as the driver reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    pub context: u64,
    pub data_len: u64,
    pub sense_len: u32,
    pub host_status: u16,
    pub scsi_status: u16,
}

/// A request descriptor, 128 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub context: u64,
    pub data: u64,
    pub data_len: u64,
    pub sense: u64,
    pub sense_len: u32,
    pub flags: u32,
    pub cdb: [u8; 16],
    pub cdb_len: u8,
    pub lun: [u8; 8],
    pub tag: u8,
    pub bus: u8,
    pub target: u8,
}

impl Request {
    /// READ(10) of 4 KiB into one buffer.
    pub fn read(context: u64) -> Request {
        Request {
            context,
            data: DATA,
            data_len: 4096,
            sense: SENSE,
            sense_len: 96,
            flags: 1 << 3,
            cdb: [0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0],
            cdb_len: 10,
            lun: [0; 8],
            tag: 0x20,
            bus: 0,
            target: 0,
        }
    }

    pub fn bytes(&self) -> [u8; 128] {
        let mut bytes = [0; 128];
        bytes[0..8].copy_from_slice(&self.context.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.data.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.data_len.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.sense.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.sense_len.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.flags.to_le_bytes());
        bytes[40..56].copy_from_slice(&self.cdb);
        bytes[56] = self.cdb_len;
        bytes[57..65].copy_from_slice(&self.lun);
        bytes[65] = self.tag;
        bytes[66] = self.bus;
        bytes[67] = self.target;
        bytes[68] = 3;
        bytes
    }
}

/// The guest's side.
pub struct Driver {
    pub memory: Arc<Memory>,
    pub ring_pages: u32,
    pub message_pages: u32,
    pub request_log2: u32,
    pub completion_log2: u32,
    pub message_log2: u32,
}

fn span(at: u64, len: usize) -> Span {
    Span { offset: at, len: len as u32, region: 0 }
}

impl Driver {
    pub fn new(ring_pages: u32) -> Driver {
        Driver {
            memory: Memory::anonymous(MEMORY),
            ring_pages,
            message_pages: 1,
            request_log2: 0,
            completion_log2: 0,
            message_log2: 0,
        }
    }

    pub fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write(span(at, bytes.len()), bytes).unwrap();
    }

    pub fn get<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory.read(span(at, N), &mut bytes).unwrap();
        bytes
    }

    pub fn word(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.get(at))
    }

    pub fn set_word(&self, at: u64, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    /// SETUP_RINGS as register writes.
    pub fn setup_rings(&self) -> Vec<u32> {
        let mut long = vec![STATE >> 12];
        for ring in [REQUESTS, COMPLETIONS] {
            for page in 0..32 {
                let number = (ring >> 12) + page;
                long.push(if page < u64::from(self.ring_pages) { number } else { 0 });
            }
        }
        let mut words = vec![self.ring_pages, self.ring_pages];
        words.extend(long.iter().flat_map(|long| [*long as u32, (*long >> 32) as u32]));
        words
    }

    pub fn setup_messages(&self) -> Vec<u32> {
        let mut words = vec![self.message_pages, 0];
        for page in 0..16 {
            let number = if page < u64::from(self.message_pages) { (MESSAGES >> 12) + page } else { 0 };
            words.extend([number as u32, 0]);
        }
        words
    }

    /// Probes as Linux does.
    pub fn start(&mut self, adapter: &mut Adapter) {
        self.memory.zero(span(STATE, 4096)).unwrap();
        command(adapter, &self.memory, 1, &[]);
        command(adapter, &self.memory, 3, &self.setup_rings());
        command(adapter, &self.memory, 8, &self.setup_messages());
        command(adapter, &self.memory, 10, &[1]);
        write(adapter, &self.memory, 0x2010, 0xf);
        self.learn();
        while adapter.take_task_management(&self.memory).is_some() {}
    }

    pub fn learn(&mut self) {
        self.request_log2 = self.word(STATE + 8);
        self.completion_log2 = self.word(STATE + 20);
        self.message_log2 = self.word(STATE + 136);
    }

    /// As Linux: false when as many requests are out as the request ring holds.
    pub fn post(&self, request: &Request) -> bool {
        let producer = self.word(STATE);
        if producer.wrapping_sub(self.word(STATE + 16)) >= 1 << self.request_log2 {
            return false;
        }
        let index = u64::from(producer & ((1 << self.request_log2) - 1));
        self.put(REQUESTS + 128 * index, &request.bytes());
        self.set_word(STATE, producer.wrapping_add(1));
        true
    }

    /// One completion, if there is one.
    pub fn consume(&self) -> Option<Completion> {
        let consumer = self.word(STATE + 16);
        if consumer == self.word(STATE + 12) {
            return None;
        }
        let index = u64::from(consumer & ((1 << self.completion_log2) - 1));
        let bytes: [u8; 32] = self.get(COMPLETIONS + 32 * index);
        self.set_word(STATE + 16, consumer.wrapping_add(1));
        Some(Completion {
            context: u64::from_le_bytes(bytes[0..8].try_into().unwrap()),
            data_len: u64::from_le_bytes(bytes[8..16].try_into().unwrap()),
            sense_len: u32::from_le_bytes(bytes[16..20].try_into().unwrap()),
            host_status: u16::from_le_bytes(bytes[20..22].try_into().unwrap()),
            scsi_status: u16::from_le_bytes(bytes[22..24].try_into().unwrap()),
        })
    }

    pub fn consume_all(&self) -> Vec<Completion> {
        core::iter::from_fn(|| self.consume()).collect()
    }
}

pub fn hot() -> Window {
    Window::anonymous(HOT_BYTES)
}

pub fn adapter(hot: &Window) -> Adapter {
    let mut adapter = Adapter::new(Config::default(), hot.clone());
    adapter.set_irq_mode(IrqMode::MsiX);
    adapter
}

/// A successor that takes up what was kept.
pub fn successor(hot: &Window, state: &[u8], memory: &Memory) -> Adapter {
    let mut adapter = adapter(hot);
    adapter.restore(state);
    adapter.resume(memory);
    adapter
}

pub fn write(adapter: &mut Adapter, memory: &Memory, at: u64, value: u32) {
    adapter.write(NOW, memory, 0, at, &value.to_le_bytes());
}

pub fn read(adapter: &mut Adapter, at: u64) -> u32 {
    let mut bytes = [0xee; 4];
    adapter.read(NOW, 0, at, &mut bytes);
    u32::from_le_bytes(bytes)
}

/// A command with its descriptor; returns COMMAND_STATUS.
pub fn command(adapter: &mut Adapter, memory: &Memory, number: u32, words: &[u32]) -> u32 {
    write(adapter, memory, 0, number);
    for word in words {
        write(adapter, memory, 4, *word);
    }
    read(adapter, 8)
}

pub const GOOD: Answer<'static> = Answer::Ended { host_status: 0, scsi_status: 0, sense: &[], residual: 0 };

/// Takes everything there is.
pub fn take(adapter: &mut Adapter, memory: &Memory) -> Vec<Command> {
    let mut all = Vec::new();
    loop {
        let mut command = Command::default();
        match adapter.next(memory, &mut command) {
            Taken::Command => all.push(command),
            Taken::Ended => {}
            Taken::Empty => return all,
        }
    }
}

pub fn take_resumed(adapter: &mut Adapter, memory: &Memory) -> Vec<Command> {
    let mut all = Vec::new();
    loop {
        let mut command = Command::default();
        match adapter.next_resumed(memory, &mut command) {
            Taken::Command => all.push(command),
            Taken::Ended => {}
            Taken::Empty => return all,
        }
    }
}

/// Runs everything there is with a good end.
pub fn run(adapter: &mut Adapter, memory: &Memory) {
    for command in take(adapter, memory) {
        assert!(adapter.complete(memory, command.id, &GOOD));
    }
    adapter.publish(NOW, memory);
}

pub fn counter(adapter: &Adapter, name: &str) -> u64 {
    let all: BTreeMap<_, _> = adapter.counters().into_iter().collect();
    all[name]
}
