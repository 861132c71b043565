//! A guest with a driver that works as Linux's does, and is as strict: where that one has a BUG_ON,
//! this one asserts. All numbers are typed from the drivers' headers, apart from the crate's.
#![allow(dead_code)]

use frame::{Body, Frame, HEADER_MAX, Nic, Posted, Refused, Taken};
use guest_memory::{Memory, Window};
use pci::{Bars, IrqMode, Lasting, Signals};
use request::{Address, FrameFacts, Instant, Mac, Rewrite};
use standpipe_vmxnet3::{Config, HOT_BYTES, Vmxnet3};
use std::sync::Arc;

pub const SHARED: u64 = 0x1000;
pub const QUEUES: u64 = 0x2000;
pub const RSS_CONF: u64 = 0x4000;
pub const MULTICAST: u64 = 0x5000;
pub const COALESCE: u64 = 0x6000;
const TX: u64 = 0x10_0000;
const RX: u64 = 0x30_0000;
const BUFFERS: u64 = 0x80_0000;
pub const MEMORY: usize = 16 << 20;

pub const HEAD_BYTES: u32 = 1522;
pub const BODY_BYTES: u32 = 4096;

pub const MAC: [u8; 6] = [0x00, 0x50, 0x56, 0x01, 0x02, 0x03];

pub const RXCSUM: u64 = 1;
pub const RSS: u64 = 2;
pub const RXVLAN: u64 = 4;
pub const LRO: u64 = 8;

/// What the driver sets up.
#[derive(Clone, Copy)]
pub struct Shape {
    pub revision: u8,
    pub tx_queues: usize,
    pub rx_queues: usize,
    pub tx_size: u32,
    pub rx_size: u32,
    pub rx2_size: u32,
    pub data_bytes: u16,
    pub features: u64,
    /// Buffers in the first ring for one frame of the MTU.
    pub per_packet: u32,
    pub mtu: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            revision: 7,
            tx_queues: 1,
            rx_queues: 1,
            tx_size: 64,
            rx_size: 64,
            rx2_size: 32,
            data_bytes: 128,
            features: RXCSUM | RXVLAN | LRO,
            per_packet: 1,
            mtu: 1500,
        }
    }
}

pub struct Ring {
    pub base: u64,
    pub size: u32,
    pub fill: u32,
    pub comp: u32,
    pub gen_bit: bool,
    /// Receive: descriptors that the device may use.
    owned: Vec<bool>,
}

impl Ring {
    fn new(base: u64, size: u32) -> Ring {
        Ring { base, size, fill: 0, comp: 0, gen_bit: true, owned: vec![false; size as usize] }
    }

    fn advance(&mut self) {
        self.fill += 1;
        if self.fill == self.size {
            self.fill = 0;
            self.gen_bit = !self.gen_bit;
        }
    }

    pub fn available(&self) -> u32 {
        (if self.comp > self.fill { 0 } else { self.size }) + self.comp - self.fill - 1
    }
}

pub struct TxQueue {
    pub ring: Ring,
    pub done: Ring,
    /// The last descriptor of a frame knows the first, the frame, and whether it wants a completion.
    frames: Vec<Option<(u32, u64, bool)>>,
    /// In the order in which they were completed.
    pub completed: Vec<u64>,
}

pub struct RxQueue {
    pub rings: [Ring; 2],
    pub done: Ring,
    pub data: u64,
    /// A frame of which the beginning was seen.
    partial: Option<Received>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    pub bytes: Vec<u8>,
    /// The four words of the first and the last completion.
    pub first: [u32; 4],
    pub last: [u32; 4],
    pub pieces: usize,
}

/// A frame to send.
#[derive(Clone, Copy, Default)]
pub struct Send<'a> {
    pub bytes: &'a [u8],
    /// Bytes in the data ring.
    pub copied: usize,
    /// Largest piece of the rest; 0: one.
    pub piece: usize,
    pub om: u32,
    pub hlen: u32,
    pub msscof: u32,
    pub oco: bool,
    pub ext1: bool,
    pub tag: Option<u16>,
    pub quiet: bool,
    pub id: u64,
}

pub struct Guest {
    pub memory: Arc<Memory>,
    pub hot: Window,
    pub config: Config,
    pub nic: Vmxnet3,
    pub now: Instant,
    pub shape: Shape,
    pub tx: Vec<TxQueue>,
    pub rx: Vec<RxQueue>,
    pub posted: Posted,
    next_buffer: u64,
}

impl Guest {
    pub fn new(shape: Shape) -> Guest {
        let memory = Memory::anonymous(MEMORY);
        let hot = Window::anonymous(HOT_BYTES);
        let config = Config { mac: Mac(MAC), ..Config::default() };
        let mut guest = Guest {
            nic: Vmxnet3::new(config, hot.clone()),
            memory,
            hot,
            config,
            now: Instant::from_nanos(1_000_000_000),
            shape,
            tx: Vec::new(),
            rx: Vec::new(),
            posted: Posted::default(),
            next_buffer: BUFFERS,
        };
        guest.nic.set_irq_mode(IrqMode::MsiX);
        guest
    }

    /// Up and running, with everything received.
    pub fn open(shape: Shape) -> Guest {
        let mut guest = Guest::new(shape);
        guest.negotiate();
        guest.setup();
        assert_eq!(guest.command(0xcafe_0000), 0, "activate");
        guest.rx_mode(0x01 | 0x04 | 0x08);
        guest.unmask();
        guest
    }

    pub fn window(&self) -> Window {
        self.memory.window(Address(0), MEMORY as u32).unwrap()
    }

    pub fn u32_at(&self, address: u64) -> u32 {
        self.window().load_u32(address as usize)
    }

    pub fn u64_at(&self, address: u64) -> u64 {
        self.window().load_u64(address as usize)
    }

    pub fn put(&self, address: u64, bytes: &[u8]) {
        let mut hint = 0;
        let span = self.memory.locate(Address(address), bytes.len() as u32, &mut hint).unwrap();
        self.memory.write(span, bytes).unwrap();
    }

    pub fn put_u16(&self, address: u64, value: u16) {
        self.put(address, &value.to_le_bytes());
    }

    pub fn put_u32(&self, address: u64, value: u32) {
        self.put(address, &value.to_le_bytes());
    }

    pub fn put_u64(&self, address: u64, value: u64) {
        self.put(address, &value.to_le_bytes());
    }

    pub fn get(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.window().read_bytes(address as usize, &mut bytes);
        bytes
    }

    pub fn write(&mut self, bar: u8, offset: u64, value: u32) {
        self.nic.write(self.now, &self.memory, bar, offset, &value.to_le_bytes());
    }

    pub fn read(&mut self, bar: u8, offset: u64) -> u32 {
        let mut bytes = [0xaa; 4];
        self.nic.read(self.now, bar, offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// CMD
    pub fn command(&mut self, command: u32) -> u32 {
        self.write(1, 0x20, command);
        self.read(1, 0x20)
    }

    pub fn negotiate(&mut self) {
        let offered = self.read(1, 0x00);
        let bit = 1 << (self.shape.revision - 1);
        assert_ne!(offered & bit, 0);
        self.write(1, 0x00, bit);
        assert_eq!(self.read(1, 0x08) & 1, 1);
        self.write(1, 0x08, 1);
    }

    /// Rings as after vmxnet3_tq_init and vmxnet3_rq_init, and the shared area.
    pub fn setup(&mut self) {
        let shape = self.shape;
        self.put(SHARED, &[0; 800]);
        self.put(QUEUES, &[0; 24 * 256]);
        self.tx.clear();
        self.rx.clear();
        self.put_u32(SHARED, 3_133_079_265);
        self.put_u32(SHARED + 4, 800);
        self.put_u64(SHARED + 24, shape.features);
        self.put_u64(SHARED + 40, QUEUES);
        self.put_u32(SHARED + 52, (shape.tx_queues + shape.rx_queues) as u32 * 256);
        self.put_u32(SHARED + 56, shape.mtu);
        self.put_u16(SHARED + 60, if shape.features & LRO != 0 { 18 } else { 0 });
        self.put(SHARED + 62, &[shape.tx_queues as u8, shape.rx_queues as u8]);
        // autoMask, numIntrs, eventIntrIdx, no moderation.
        let vectors = (shape.tx_queues + shape.rx_queues) as u8;
        self.put(SHARED + 80, &[1, vectors + 1, vectors]);
        // VLAN 0.
        self.put(SHARED + 136, &[1]);
        for index in 0..shape.tx_queues {
            let base = TX + index as u64 * 0x2_0000;
            let descriptor = QUEUES + index as u64 * 256;
            self.put(base, &vec![0; 0x8000]);
            self.put_u64(descriptor + 16, base);
            self.put_u64(descriptor + 24, base + 0x8000);
            self.put_u64(descriptor + 32, base + 0x4000);
            self.put_u32(descriptor + 56, shape.tx_size);
            self.put_u32(descriptor + 60, shape.tx_size);
            self.put_u32(descriptor + 64, shape.tx_size);
            self.put(descriptor + 72, &[index as u8]);
            self.put_u16(descriptor + 74, 128);
            self.tx.push(TxQueue {
                ring: Ring::new(base, shape.tx_size),
                done: Ring::new(base + 0x4000, shape.tx_size),
                frames: vec![None; shape.tx_size as usize],
                completed: Vec::new(),
            });
        }
        for index in 0..shape.rx_queues {
            let base = RX + index as u64 * 0x4_0000;
            let descriptor = QUEUES + (shape.tx_queues + index) as u64 * 256;
            let completions = shape.rx_size + shape.rx2_size;
            self.put(base, &vec![0; 0x2_0000]);
            self.put_u64(descriptor + 16, base);
            self.put_u64(descriptor + 24, base + 0x8000);
            self.put_u64(descriptor + 32, base + 0x1_0000);
            self.put_u64(descriptor + 48, base + 0x2_0000);
            self.put_u32(descriptor + 56, shape.rx_size);
            self.put_u32(descriptor + 60, shape.rx2_size);
            self.put_u32(descriptor + 64, completions);
            self.put(descriptor + 72, &[(shape.tx_queues + index) as u8]);
            self.put_u16(descriptor + 74, shape.data_bytes);
            let mut queue = RxQueue {
                rings: [Ring::new(base, shape.rx_size), Ring::new(base + 0x8000, shape.rx2_size)],
                done: Ring::new(base + 0x1_0000, completions),
                data: base + 0x2_0000,
                partial: None,
            };
            for ring in 0..2 {
                self.fill(&mut queue, index, ring);
            }
            self.rx.push(queue);
        }
        self.write(1, 0x10, SHARED as u32);
        self.write(1, 0x18, (SHARED >> 32) as u32);
    }

    fn rx_buffer(&self, queue: usize, ring: usize, index: u32) -> (u64, u32) {
        let base = BUFFERS + 0x20_0000 + queue as u64 * 0x8_0000;
        if ring == 0 {
            let head = index.is_multiple_of(self.shape.per_packet);
            (base + u64::from(index) * 4096, if head { HEAD_BYTES } else { BODY_BYTES })
        } else {
            (base + 0x4_0000 + u64::from(index) * 4096, BODY_BYTES)
        }
    }

    /// All but one, whose generation bit stays wrong.
    fn fill(&self, queue: &mut RxQueue, number: usize, ring_number: usize) {
        let count = queue.rings[ring_number].size;
        let ring = &mut queue.rings[ring_number];
        for done in 0..count {
            let (address, len) = self.rx_buffer(number, ring_number, ring.fill);
            let body = ring_number == 1 || !ring.fill.is_multiple_of(self.shape.per_packet);
            let at = ring.base + u64::from(ring.fill) * 16;
            let valid = (done + 1 < count) == ring.gen_bit;
            self.put_u64(at, address);
            self.put_u32(at + 8, len | u32::from(body) << 14 | u32::from(valid) << 31);
            if done + 1 < count {
                ring.owned[ring.fill as usize] = true;
                ring.advance();
            }
        }
    }

    pub fn rx_mode(&mut self, mode: u32) {
        self.put_u32(SHARED + 120, mode);
        assert_eq!(self.command(0xcafe_0003), 0);
    }

    pub fn rx_mode_unchecked(&mut self, mode: u32) {
        self.put_u32(SHARED + 120, mode);
        self.command(0xcafe_0003);
    }

    pub fn unmask(&mut self) {
        for vector in 0..self.shape.tx_queues + self.shape.rx_queues + 1 {
            self.write(0, vector as u64 * 8, 0);
        }
    }

    /// vmxnet3_tq_xmit, without the doorbell.
    pub fn send(&mut self, queue: usize, send: Send<'_>) {
        let q = &mut self.tx[queue];
        let sop = q.ring.fill;
        let sop_at = q.ring.base + u64::from(sop) * 16;
        let mut descriptors = Vec::new();
        let mut gen_now = !q.ring.gen_bit;
        let mut place = |ring: &mut Ring, address: u64, len: usize| {
            let at = ring.base + u64::from(ring.fill) * 16;
            let word = (len as u32 & 0x3fff) | u32::from(gen_now) << 14;
            descriptors.push((at, address, word, ring.fill));
            ring.advance();
            gen_now = ring.gen_bit;
        };
        let mut pieces = Vec::new();
        if send.copied > 0 {
            let slot = q.ring.base + 0x8000 + u64::from(sop) * 128;
            pieces.push((slot, &send.bytes[..send.copied]));
        }
        let rest = &send.bytes[send.copied..];
        let piece = if send.piece == 0 { rest.len().max(1) } else { send.piece };
        for part in rest.chunks(piece) {
            if self.next_buffer + part.len() as u64 > BUFFERS + 0x1f_0000 {
                self.next_buffer = BUFFERS;
            }
            pieces.push((self.next_buffer, part));
            self.next_buffer += part.len() as u64 + 3;
        }
        assert!(pieces.len() as u32 <= q.ring.available(), "the driver looks for room first");
        for (address, bytes) in &pieces {
            place(&mut q.ring, *address, bytes.len());
        }
        let eop = descriptors.last().unwrap().3;
        q.frames[eop as usize] = Some((sop, send.id, send.quiet));
        for (address, bytes) in &pieces {
            self.put(*address, bytes);
        }
        for (index, (at, address, word, _)) in descriptors.iter().enumerate() {
            self.put_u64(*at, *address);
            let last = index + 1 == descriptors.len();
            let mut flags = if last { 1 << 12 | u32::from(!send.quiet) << 13 } else { 0 };
            let mut word = *word;
            if index == 0 {
                word |= u32::from(send.oco) << 15 | u32::from(send.ext1) << 17 | send.msscof << 18;
                flags |= send.hlen | send.om << 10;
                if let Some(tci) = send.tag {
                    flags |= 1 << 15 | u32::from(tci) << 16;
                }
            }
            self.put_u32(*at + 12, flags);
            self.put_u32(*at + 8, word);
        }
        // The first one becomes valid last.
        let word = self.u32_at(sop_at + 8);
        self.put_u32(sop_at + 8, word ^ 1 << 14);
    }

    /// vmxnet3_tq_tx_complete; gives the number of frames.
    pub fn reap(&mut self, queue: usize) -> usize {
        let window = self.window();
        let q = &mut self.tx[queue];
        let mut count = 0;
        loop {
            let at = q.done.base as usize + q.done.fill as usize * 16;
            if (window.load_u32(at + 12) >> 31 == 1) != q.done.gen_bit {
                return count;
            }
            let eop = window.load_u32(at) & 0xfff;
            let (sop, id, quiet) =
                q.frames[eop as usize].take().expect("a completion for a frame that was sent");
            assert!(!quiet, "a completion that was not asked for");
            // Frames that asked for none are done with the next that did, as FreeBSD has it.
            let mut expected = q.ring.comp;
            while expected != sop {
                if let Some((_, _, quiet)) = q.frames[expected as usize].take() {
                    assert!(quiet, "no out of order completion");
                }
                expected = (expected + 1) % q.ring.size;
                assert_ne!(expected, (eop + 1) % q.ring.size, "a frame that begins behind its end");
            }
            q.ring.comp = (eop + 1) % q.ring.size;
            q.completed.push(id);
            q.done.advance();
            count += 1;
        }
    }

    /// Frames that the device takes off a queue, with what was published after each.
    pub fn take_all(&mut self, queue: u16) -> Vec<(Vec<u8>, FrameFacts)> {
        let mut frames = Vec::new();
        loop {
            match self.nic.transmit(&self.memory, queue, &mut self.posted) {
                Taken::Frame => frames.push((self.posted_bytes(), self.posted.facts)),
                Taken::Dropped => {}
                Taken::Empty => return frames,
            }
        }
    }

    pub fn posted_bytes(&self) -> Vec<u8> {
        assert!(self.posted.header_len <= HEADER_MAX, "receivers take no longer header");
        let mut bytes = self.posted.header().to_vec();
        for span in &self.posted.rest {
            let mut part = vec![0; span.len as usize];
            self.memory.read(*span, &mut part).unwrap();
            bytes.extend(part);
        }
        assert_eq!(bytes.len(), self.posted.len as usize);
        bytes
    }

    pub fn publish(&mut self) {
        self.nic.publish(self.now, &self.memory);
    }

    /// Something comes in, with only the first bytes copied out.
    pub fn deliver_with(
        &mut self,
        bytes: &[u8],
        facts: FrameFacts,
        rewrite: Rewrite,
    ) -> Result<u32, Refused> {
        let (header, body) = bytes.split_at(bytes.len().min(64));
        let frame = Frame { header, body: Body::Bytes(body), facts };
        self.nic.deliver(&self.memory, &frame, rewrite)
    }

    pub fn deliver(&mut self, bytes: &[u8]) -> Result<u32, Refused> {
        self.deliver_with(bytes, FrameFacts::default(), Rewrite::Keep)
    }

    /// vmxnet3_rq_rx_complete
    pub fn receive(&mut self, queue: usize) -> Vec<Received> {
        let window = self.window();
        let queues = self.shape.rx_queues as u32;
        let mut frames = Vec::new();
        loop {
            let q = &self.rx[queue];
            let at = q.done.base as usize + q.done.fill as usize * 16;
            let words = [0, 4, 8, 12].map(|word| window.load_u32(at + word));
            if (words[3] >> 31 == 1) != q.done.gen_bit {
                return frames;
            }
            let (index, number, len) = (words[0] & 0xfff, words[0] >> 16 & 0x3ff, words[2] & 0x3fff);
            let (eop, sop) = (words[0] >> 14 & 1 == 1, words[0] >> 15 & 1 == 1);
            assert_eq!(number % queues, queue as u32);
            let ring_number = usize::from(number / queues == 1);
            let in_data_ring = number / queues == 2;
            let descriptor = (q.rings[ring_number].base + u64::from(index) * 16) as usize;
            let (address, buffer) = self.rx_buffer(queue, ring_number, index);
            assert_eq!(window.load_u64(descriptor), address);
            let body = window.load_u32(descriptor + 8) >> 14 & 1 == 1;
            let source = if in_data_ring {
                assert!(len <= u32::from(self.shape.data_bytes));
                q.data + u64::from(index) * u64::from(self.shape.data_bytes)
            } else {
                assert!(len <= buffer);
                address
            };
            assert_eq!(words[3] >> 23 & 1, 1, "frame check sequence");
            let bytes = self.get(source, len as usize);
            let q = &mut self.rx[queue];
            if sop {
                assert!(!body && ring_number == 0);
                assert!(q.partial.is_none(), "a frame begins within another");
                q.partial = Some(Received { bytes, first: words, last: words, pieces: 1 });
            } else {
                assert!(body);
                let partial = q.partial.as_mut().expect("the beginning of a frame");
                partial.bytes.extend(bytes);
                partial.last = words;
                partial.pieces += 1;
            }
            if eop {
                frames.extend(q.partial.take());
            }
            // The device may have passed over some: all up to this one are given again.
            let ring = &mut q.rings[ring_number];
            assert!(ring.owned[index as usize], "a buffer that is the driver's");
            ring.owned[index as usize] = false;
            ring.comp = index;
            for _ in 0..ring.available() {
                let control = (ring.base + u64::from(ring.fill) * 16) as usize + 8;
                let word = window.load_u32(control) & !(1 << 31);
                window.store_u32(control, word | u32::from(ring.gen_bit) << 31);
                ring.owned[ring.fill as usize] = true;
                ring.advance();
            }
            q.done.advance();
        }
    }

    /// The worker dies, and another one goes on with what it left.
    pub fn die(&mut self, state: &[u8]) {
        self.nic = Vmxnet3::new(self.config, self.hot.clone());
        self.nic.set_irq_mode(IrqMode::MsiX);
        self.nic.restore(state);
        self.nic.resume(&self.memory);
    }

    /// Vectors that were signalled, as bits.
    pub fn vectors(&mut self) -> u32 {
        self.nic.interrupts().vectors
    }

    pub fn pass(&mut self, nanos: u64) {
        self.now = Instant::from_nanos(self.now.nanos() + nanos);
        if self.nic.deadline().is_some_and(|due| due <= self.now) {
            self.nic.expire(self.now, &self.memory);
        }
    }
}

/// An Ethernet frame with IPv4 and a protocol's header, `len` bytes of payload, and a right header
/// checksum.
pub fn v4(protocol: u8, len: usize, seed: u8) -> Vec<u8> {
    let transport: &[u8] = match protocol {
        6 => &[0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0],
        17 => &[0x30, 0x39, 0, 53, 0, 0, 0, 0],
        _ => &[],
    };
    let total = 20 + transport.len() + len;
    let mut frame = MAC.to_vec();
    frame.extend([0x02, 0, 0, 0, 0, 9, 8, 0]);
    frame.extend([0x45, 0, (total >> 8) as u8, total as u8, 0, seed, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend([192, 0, 2, 1, 192, 0, 2, 2]);
    let checksum = !ones(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(transport);
    frame.extend((0..len).map(|index| (index as u8).wrapping_mul(7).wrapping_add(seed)));
    frame
}

/// Sum of big-endian words, folded.
pub fn ones(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
