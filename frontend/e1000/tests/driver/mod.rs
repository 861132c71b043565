//! A driver in the shape of Linux's e1000: legacy descriptors, rings of eight.

#![allow(dead_code)]

use std::collections::VecDeque;
use std::sync::Arc;

use frame::{Body, Frame, Nic, Posted, Refused, Taken};
use guest_memory::{Memory, Window};
use pci::{Bars, Lasting, Signals};
use request::{Address, FrameFacts, Instant, Mac, Rewrite};
use standpipe_e1000::{Config, E1000, HOT_BYTES, Model};

pub const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

pub const CTRL: u64 = 0x0000;
pub const STATUS: u64 = 0x0008;
pub const EECD: u64 = 0x0010;
pub const MDIC: u64 = 0x0020;
pub const ICR: u64 = 0x00c0;
pub const ICS: u64 = 0x00c8;
pub const IMS: u64 = 0x00d0;
pub const IMC: u64 = 0x00d8;
pub const RCTL: u64 = 0x0100;
pub const TCTL: u64 = 0x0400;
pub const RDBAL: u64 = 0x2800;
pub const RDLEN: u64 = 0x2808;
pub const RDH: u64 = 0x2810;
pub const RDT: u64 = 0x2818;
pub const TDBAL: u64 = 0x3800;
pub const TDLEN: u64 = 0x3808;
pub const TDH: u64 = 0x3810;
pub const TDT: u64 = 0x3818;

pub const RX_RING: u64 = 0x1000;
pub const TX_RING: u64 = 0x2000;
pub const RX_BUFFERS: u64 = 0x10_000;
pub const TX_BUFFERS: u64 = 0x40_000;
pub const COUNT: u16 = 8;
pub const BUFFER: u64 = 2_048;
const MEMORY: usize = 1 << 20;

pub fn config(model: Model) -> Config {
    Config { model, mac: Mac(MAC) }
}

pub struct Bench {
    pub model: Model,
    pub nic: E1000,
    pub memory: Arc<Memory>,
    pub hot: Window,
    pub now: Instant,
    pub posted: Posted,
}

impl Bench {
    pub fn new(model: Model) -> Bench {
        let hot = Window::anonymous(HOT_BYTES);
        Bench {
            model,
            nic: E1000::new(config(model), hot.clone()),
            memory: Memory::anonymous(MEMORY),
            hot,
            now: Instant::from_nanos(1_000_000_000),
            posted: Posted::default(),
        }
    }

    pub fn pass(&mut self, nanos: u64) {
        self.now = Instant::from_nanos(self.now.nanos() + nanos);
        while self.nic.deadline().is_some_and(|at| at <= self.now) {
            self.nic.expire(self.now, &self.memory);
        }
    }

    pub fn read(&mut self, offset: u64) -> u32 {
        let mut word = [0; 4];
        self.nic.read(self.now, 0, offset, &mut word);
        u32::from_le_bytes(word)
    }

    pub fn write(&mut self, offset: u64, value: u32) {
        self.nic.write(self.now, &self.memory, 0, offset, &value.to_le_bytes());
    }

    pub fn phy_write(&mut self, register: u32, value: u16) {
        self.write(MDIC, 1 << 26 | 1 << 21 | register << 16 | u32::from(value));
        assert_eq!(self.read(MDIC) >> 28 & 5, 1);
    }

    pub fn phy_read(&mut self, register: u32) -> u16 {
        self.write(MDIC, 2 << 26 | 1 << 21 | register << 16);
        let value = self.read(MDIC);
        assert_eq!(value >> 28 & 5, 1);
        value as u16
    }

    pub fn get(&self, address: u64, len: u32) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        let span = self.memory.locate(Address(address), len, &mut 0).unwrap();
        self.memory.read(span, &mut bytes).unwrap();
        bytes
    }

    pub fn put(&self, address: u64, bytes: &[u8]) {
        let span = self.memory.locate(Address(address), bytes.len() as u32, &mut 0).unwrap();
        self.memory.write(span, bytes).unwrap();
    }

    pub fn descriptor(&self, ring: u64, index: u16) -> [u64; 2] {
        let bytes = self.get(ring + 16 * u64::from(index), 16);
        [0, 8].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()))
    }

    pub fn set_descriptor(&self, ring: u64, index: u16, value: [u64; 2]) {
        let bytes: Vec<u8> = value.iter().flat_map(|half| half.to_le_bytes()).collect();
        self.put(ring + 16 * u64::from(index), &bytes);
    }

    /// Rings of eight, everything on, FCS stripped, link up.
    pub fn open(&mut self) {
        let ctrl = self.read(CTRL);
        self.write(CTRL, ctrl | 1 << 6);
        self.write(TDBAL, TX_RING as u32);
        self.write(TDBAL + 4, 0);
        self.write(TDLEN, u32::from(COUNT) * 16);
        self.write(TDH, 0);
        self.write(TDT, 0);
        self.write(TCTL, 0x0003_f0fa);
        self.write(RDLEN, u32::from(COUNT) * 16);
        self.write(RDBAL, RX_RING as u32);
        self.write(RDBAL + 4, 0);
        self.write(RDH, 0);
        self.write(RDT, 0);
        // EN, BAM, SECRC.
        self.write(RCTL, 1 << 1 | 1 << 15 | 1 << 26);
        self.write(IMS, 0x9d);
    }

    /// All frames that the device would send now.
    pub fn sent(&mut self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while self.nic.waiting() & 1 != 0 {
            match self.nic.transmit(&self.memory, 0, &mut self.posted) {
                Taken::Frame => all.push(whole(&self.memory, &self.posted)),
                Taken::Dropped => {}
                Taken::Empty => break,
            }
        }
        self.nic.publish(self.now, &self.memory);
        all
    }

    pub fn deliver(&mut self, bytes: &[u8]) -> Result<u32, Refused> {
        self.deliver_with(bytes, FrameFacts::default())
    }

    pub fn deliver_with(&mut self, bytes: &[u8], facts: FrameFacts) -> Result<u32, Refused> {
        let (header, body) = bytes.split_at(bytes.len().min(64));
        let frame = Frame { header, body: Body::Bytes(body), facts };
        self.nic.deliver(&self.memory, &frame, Rewrite::Keep)
    }

    pub fn publish(&mut self) {
        self.nic.publish(self.now, &self.memory);
    }

    pub fn successor(&mut self, state: &[u8]) {
        self.nic = E1000::new(config(self.model), self.hot.clone());
        self.nic.restore(state);
        self.nic.resume(&self.memory);
    }
}

pub fn whole(memory: &Memory, posted: &Posted) -> Vec<u8> {
    let mut bytes = posted.header().to_vec();
    let at = bytes.len();
    bytes.resize(posted.len as usize, 0);
    assert_eq!(memory.gather(&posted.rest, &mut bytes[at..]), posted.len as usize - at);
    bytes
}

/// A frame to everybody with a number in it.
pub fn numbered(number: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xff; 6];
    bytes.extend_from_slice(&[2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
    bytes.extend_from_slice(&number.to_le_bytes());
    while bytes.len() < len {
        bytes.push(number as u8 ^ bytes.len() as u8);
    }
    bytes
}

pub fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[14..18].try_into().unwrap())
}

/// The driver's own side of the rings: works on memory alone; doorbells are queued messages.
#[derive(Default)]
pub struct Driver {
    pub doorbells: VecDeque<(u64, u32)>,
    tx_use: u16,
    tx_clean: u16,
    /// Of each transmit descriptor, the number that it carries.
    carried: [Option<u32>; COUNT as usize],
    pub next_number: u32,
    pub completed: Vec<u32>,
    rx_use: u16,
    rx_clean: u16,
    pub received: Vec<u32>,
}

impl Driver {
    pub fn fill_receive(&mut self, bench: &Bench) {
        while (self.rx_use + 1) % COUNT != self.rx_clean {
            let at = RX_BUFFERS + u64::from(self.rx_use) * BUFFER;
            // As Linux: only the address is written anew, the status was cleared at the clean-up.
            bench.put(RX_RING + 16 * u64::from(self.rx_use), &at.to_le_bytes());
            self.rx_use = (self.rx_use + 1) % COUNT;
        }
        self.doorbells.push_back((RDT, self.rx_use.into()));
    }

    /// Takes what is done; `check` says what a frame of a number is.
    pub fn clean_receive(&mut self, bench: &Bench, keeps_status: bool) {
        while self.rx_clean != self.rx_use {
            let [address, second] = bench.descriptor(RX_RING, self.rx_clean);
            let status = (second >> 32) as u8;
            if status & 1 == 0 {
                break;
            }
            assert_eq!(status & 2, 2, "a frame in one buffer ends there");
            assert_eq!(second >> 40 & 0xff, 0, "errors");
            let bytes = bench.get(address, second as u32 & 0xffff);
            let number = number(&bytes);
            assert_eq!(bytes, numbered(number, bytes.len()), "payload");
            self.received.push(number);
            // Some drivers take away "done" alone.
            let cleared = if keeps_status { second & !(1 << 32) } else { second & !(0xff << 32) };
            bench.put(RX_RING + 16 * u64::from(self.rx_clean) + 8, &cleared.to_le_bytes());
            self.rx_clean = (self.rx_clean + 1) % COUNT;
        }
    }

    /// Posts frames while there is room, all of the same bytes and buffers lap by lap if `same`.
    pub fn send(&mut self, bench: &Bench, mut count: u32) {
        while count > 0 && (self.tx_use + 1) % COUNT != self.tx_clean {
            let at = TX_BUFFERS + u64::from(self.tx_use) * BUFFER;
            let number = self.next_number;
            self.next_number += 1;
            bench.put(at, &numbered(number, 80));
            // EOP, IFCS, RS.
            bench.set_descriptor(TX_RING, self.tx_use, [at, 80 | 0x0b << 24]);
            self.carried[usize::from(self.tx_use)] = Some(number);
            self.tx_use = (self.tx_use + 1) % COUNT;
            count -= 1;
        }
        self.doorbells.push_back((TDT, self.tx_use.into()));
    }

    /// Takes what is sent back; each must have been on the wire.
    pub fn clean_transmit(&mut self, bench: &Bench, wire: &[u32], clears: bool) {
        while self.tx_clean != self.tx_use {
            let [address, second] = bench.descriptor(TX_RING, self.tx_clean);
            if second >> 32 & 1 == 0 {
                break;
            }
            let number = self.carried[usize::from(self.tx_clean)].take().unwrap();
            assert!(wire.contains(&number), "{number} was said to be sent, and was not");
            self.completed.push(number);
            if clears {
                bench.set_descriptor(TX_RING, self.tx_clean, [address, second & 0xffff_ffff]);
            }
            self.tx_clean = (self.tx_clean + 1) % COUNT;
        }
    }
}
