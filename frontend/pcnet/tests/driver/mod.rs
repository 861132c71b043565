//! A driver of the PCnet, as far as rings go: posts, consumes, reposts.
#![allow(dead_code, reason = "each test uses a part")]

use std::sync::Arc;

use frame::{Body, Frame, Nic, Posted, Refused, Taken};
use guest_memory::{Memory, Window};
use pci::Bars;
use request::{Address, FrameFacts, Instant, Mac, Rewrite};
use standpipe_pcnet::{Chip, Config, HOT_BYTES, Pcnet};

pub const MAC: Mac = Mac([0x52, 0x54, 0x00, 0x12, 0x34, 0x56]);
pub const NOW: Instant = Instant::from_nanos(1_000_000_000);

pub const MEMORY: usize = 1 << 20;
pub const INIT_AT: u32 = 0x1000;
pub const RX_AT: u32 = 0x2000;
pub const TX_AT: u32 = 0x4000;
pub const RX_BUFFERS: u32 = 0x1_0000;
pub const TX_BUFFERS: u32 = 0x8_0000;
pub const BUFFER: u32 = 2048;

pub fn config(chip: Chip) -> Config {
    Config { mac: MAC, chip }
}

pub fn hot() -> Window {
    Window::anonymous(HOT_BYTES)
}

pub fn inw(nic: &mut Pcnet, offset: u64) -> u16 {
    let mut bytes = [0; 2];
    nic.read(NOW, 0, offset, &mut bytes);
    u16::from_le_bytes(bytes)
}

pub fn inl(nic: &mut Pcnet, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    nic.read(NOW, 0, offset, &mut bytes);
    u32::from_le_bytes(bytes)
}

pub fn outw(nic: &mut Pcnet, memory: &Memory, offset: u64, value: u16) {
    nic.write(NOW, memory, 0, offset, &value.to_le_bytes());
}

pub fn outl(nic: &mut Pcnet, memory: &Memory, offset: u64, value: u32) {
    nic.write(NOW, memory, 0, offset, &value.to_le_bytes());
}

/// Word I/O: RDP at 10h, RAP at 12h, RESET at 14h, BDP at 16h.
pub fn read_csr(nic: &mut Pcnet, memory: &Memory, number: u16) -> u16 {
    outw(nic, memory, 0x12, number);
    inw(nic, 0x10)
}

pub fn write_csr(nic: &mut Pcnet, memory: &Memory, number: u16, value: u16) {
    outw(nic, memory, 0x12, number);
    outw(nic, memory, 0x10, value);
}

pub fn read_bcr(nic: &mut Pcnet, memory: &Memory, number: u16) -> u16 {
    outw(nic, memory, 0x12, number);
    inw(nic, 0x16)
}

pub fn write_bcr(nic: &mut Pcnet, memory: &Memory, number: u16, value: u16) {
    outw(nic, memory, 0x12, number);
    outw(nic, memory, 0x16, value);
}

/// A frame to `to` with a number in it.
pub fn frame_of(to: Mac, number: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes[..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    bytes[14..18].copy_from_slice(&number.to_le_bytes());
    for (at, byte) in bytes.iter_mut().enumerate().skip(18) {
        *byte = (at as u8).wrapping_mul(7).wrapping_add(number as u8);
    }
    bytes
}

pub fn deliver(nic: &mut Pcnet, memory: &Memory, bytes: &[u8]) -> Result<u32, Refused> {
    let (header, body) = bytes.split_at(bytes.len().min(64));
    let frame = Frame { header, body: Body::Bytes(body), facts: FrameFacts::default() };
    nic.deliver(memory, &frame, Rewrite::Keep)
}

/// All of a posted frame.
pub fn bytes_of(posted: &Posted, memory: &Memory) -> Vec<u8> {
    let mut bytes = posted.header().to_vec();
    let mut rest = vec![0; posted.len as usize - bytes.len()];
    assert_eq!(memory.gather(&posted.rest, &mut rest), rest.len());
    bytes.extend(rest);
    bytes
}

/// Takes frames until the ring is empty; gives their bytes.
pub fn drain(nic: &mut Pcnet, memory: &Memory) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut posted = Posted::default();
    while nic.waiting() & 1 == 1 {
        match nic.transmit(memory, 0, &mut posted) {
            Taken::Frame => frames.push(bytes_of(&posted, memory)),
            Taken::Dropped => {}
            Taken::Empty => break,
        }
    }
    frames
}

/// What stands in a descriptor, whatever its style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub status: u16,
    pub detail: u32,
}

/// The driver's side of the rings.
pub struct Driver {
    pub memory: Arc<Memory>,
    window: Window,
    pub style: u16,
    pub log: u32,
    pub next_rx: u32,
    pub next_tx: u32,
    pub dirty_tx: u32,
    /// Sets OWN and leaves all else as it finds it.
    pub sloppy: bool,
    /// Length of its receive buffers.
    pub buffer: u32,
    /// Descriptors that each of its own frames is spread over, handed over from the last to the first.
    pub parts: u32,
    /// Number of the next frame to be sent.
    pub number: u32,
    pub received: Vec<Vec<u8>>,
}

impl Driver {
    pub fn new(style: u16, log: u32) -> Self {
        let memory = Memory::anonymous(MEMORY);
        let window = memory.window(Address(0), MEMORY as u32).unwrap();
        let driver = Self {
            memory,
            window,
            style,
            log,
            next_rx: 0,
            next_tx: 0,
            dirty_tx: 0,
            sloppy: false,
            buffer: BUFFER,
            parts: 1,
            number: 0,
            received: Vec::new(),
        };
        driver.clear_rings();
        driver
    }

    pub fn count(&self) -> u32 {
        1 << self.log
    }

    fn place(&self, ring: u32, index: u32) -> usize {
        let bytes = if self.style == 0 { 8 } else { 16 };
        (ring + (index % self.count()) * bytes) as usize
    }

    pub fn read(&self, at: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.window.read_bytes(at as usize, &mut bytes);
        bytes
    }

    pub fn write(&self, at: u32, bytes: &[u8]) {
        self.window.write_bytes(at as usize, bytes);
    }

    /// Writes a descriptor, OWN last.
    pub fn post(&self, ring: u32, index: u32, address: u32, len: u32, status: u16) {
        let at = self.place(ring, index);
        let count = (len as u16).wrapping_neg() | 0xf000;
        let window = &self.window;
        match self.style {
            0 => {
                window.store_u16(at, address as u16);
                window.store_u8(at + 2, (address >> 16) as u8);
                window.store_u16(at + 4, count);
                window.store_release_u8(at + 3, (status >> 8) as u8);
            }
            style => {
                let place = if style == 3 { 8 } else { 0 };
                window.store_u32(at + place, address);
                window.store_u16(at + 4, count);
                window.store_release_u16(at + 6, status);
            }
        }
    }

    pub fn seen(&self, ring: u32, index: u32) -> Seen {
        let at = self.place(ring, index);
        let window = &self.window;
        match self.style {
            0 => Seen {
                status: u16::from(window.load_u8(at + 3)) << 8,
                detail: u32::from(window.load_u16(at + 6)),
            },
            style => Seen {
                status: window.load_u16(at + 6),
                detail: window.load_u32(if style == 3 { at } else { at + 8 }),
            },
        }
    }

    fn clear_rings(&self) {
        for index in 0..self.count() {
            self.post(TX_AT, index, 0, 4096, 0);
            self.repost_rx(index);
        }
    }

    fn repost_rx(&self, index: u32) {
        let index = index % self.count();
        let mut status = 0x8000;
        if self.sloppy {
            status |= self.seen(RX_AT, index).status;
        }
        self.post(RX_AT, index, RX_BUFFERS + index * BUFFER, self.buffer, status);
    }

    /// Writes the initialization block of the style, with `mode` in it.
    pub fn write_init_block(&self, mode: u16) {
        let [low, high] = mode.to_le_bytes();
        let mut block = vec![low, high];
        if self.style == 0 {
            block.extend(MAC.0);
            block.extend([0; 8]);
            block.extend((RX_AT | self.log << 29).to_le_bytes());
            block.extend((TX_AT | self.log << 29).to_le_bytes());
        } else {
            block.extend([(self.log << 4) as u8, (self.log << 4) as u8]);
            block.extend(MAC.0);
            block.extend([0; 2 + 8]);
            block.extend(RX_AT.to_le_bytes());
            block.extend(TX_AT.to_le_bytes());
        }
        self.write(INIT_AT, &block);
    }

    /// Reset, software style, initialization, start: as Linux opens the device.
    pub fn open(&self, nic: &mut Pcnet, mode: u16) {
        let memory = &*self.memory;
        inw(nic, 0x14);
        write_bcr(nic, memory, 20, self.style);
        self.write_init_block(mode);
        write_csr(nic, memory, 1, INIT_AT as u16);
        write_csr(nic, memory, 2, (INIT_AT >> 16) as u16);
        write_csr(nic, memory, 4, 0x0915);
        write_csr(nic, memory, 0, 0x0001);
        assert_eq!(read_csr(nic, memory, 0) & 0x0100, 0x0100, "IDON");
        write_csr(nic, memory, 0, 0x0142);
    }

    /// All receive buffers have this length from now on.
    pub fn shorten(&mut self, buffer: u32) {
        self.buffer = buffer;
        self.clear_rings();
    }

    /// Posts the next frame, if there are descriptors left.
    pub fn send(&mut self, to: Mac, len: usize) -> bool {
        if self.next_tx - self.dirty_tx + self.parts > self.count() {
            return false;
        }
        let at = TX_BUFFERS + self.next_tx % self.count() * BUFFER;
        self.write(at, &frame_of(to, self.number, len));
        self.number += 1;
        let share = len as u32 / self.parts;
        for part in (0..self.parts).rev() {
            let first = part == 0;
            let last = part + 1 == self.parts;
            let mut status = 0x8000 | if first { 0x0200 } else { 0 } | if last { 0x0100 } else { 0 };
            if self.sloppy && self.parts == 1 {
                status |= self.seen(TX_AT, self.next_tx).status;
            }
            let part_len = if last { len as u32 - share * part } else { share };
            self.post(TX_AT, self.next_tx + part, at + share * part, part_len, status);
        }
        self.next_tx += self.parts;
        true
    }

    /// Takes back what was sent; gives the states of these descriptors.
    pub fn reap(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        while self.dirty_tx != self.next_tx {
            let now = self.seen(TX_AT, self.dirty_tx);
            if now.status & 0x8000 != 0 {
                break;
            }
            seen.push(now);
            self.dirty_tx += 1;
        }
        seen
    }

    /// Consumes received frames that are whole, and posts their buffers again.
    pub fn consume(&mut self) -> usize {
        let mut count = 0;
        while count < self.count() as usize {
            let mut parts = 0;
            let last = loop {
                let now = self.seen(RX_AT, self.next_rx + parts);
                if now.status & 0x8000 != 0 || parts == self.count() {
                    return count;
                }
                // STP in the first, nothing in the middle, ENP in the last; no error.
                let first = if parts == 0 { 0x0200 } else { 0 };
                assert_eq!(now.status & 0xfe00, first, "part {parts} of a frame without an error");
                parts += 1;
                if now.status & 0x0100 != 0 {
                    break now;
                }
            };
            let mut left = last.detail & 0xfff;
            let mut bytes = Vec::new();
            for part in 0..parts {
                let at = RX_BUFFERS + (self.next_rx + part) % self.count() * BUFFER;
                let len = left.min(self.buffer);
                bytes.extend(self.read(at, len as usize));
                self.write(at, &vec![0xee; BUFFER as usize]);
                left -= len;
            }
            // Less the check sequence.
            bytes.truncate(bytes.len() - 4);
            self.received.push(bytes);
            for part in 0..parts {
                self.repost_rx(self.next_rx + part);
            }
            self.next_rx += parts;
            count += 1;
        }
        count
    }
}

/// The number in a frame of `frame_of`.
pub fn number_of(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[14..18].try_into().unwrap())
}
