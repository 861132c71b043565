//! VMXNET3.

use guest_memory::{Memory, Window};
use pci::Bars;
use request::Mac;
use vmxnet3::{Config, HOT_BYTES, REVISION_MAX, Vmxnet3};

use super::{MAC, Model, NOW, SEND_AT, get32, put, put32, traffic, write_op};

pub struct Vmware;

const SHARED: u64 = 0x1000;
const QUEUES: u64 = 0x2000;
const RSS: u64 = 0x3000;
const MULTICAST: u64 = 0x3400;
const VARIABLE: u64 = 0x3800;
const TX: u64 = 0x4000;
const RX: u64 = 0x6000;
/// What a queue's rings take: ring, second ring, completions.
const APART: u64 = 0x1000;
const SECOND: u64 = 0x400;
const DONE: u64 = 0x800;
const DATA: u64 = 0xa000;
const BUFFERS: u64 = 0x1_0000;
const COUNT: u32 = 32;

const ACTIVATE: u32 = 0xcafe_0000;

fn write(nic: &mut Vmxnet3, memory: &Memory, bar: u8, offset: u64, value: u32) {
    nic.write(NOW, memory, bar, offset, &value.to_le_bytes());
}

/// A descriptor of 16 bytes: address and two words.
fn describe(memory: &Memory, at: u64, address: u64, words: [u32; 2]) {
    put(memory, at, &address.to_le_bytes());
    put32(memory, at + 12, words[1]);
    put32(memory, at + 8, words[0]);
}

impl Model for Vmware {
    type Device = Vmxnet3;
    const HOT_BYTES: usize = HOT_BYTES;
    const QUEUES: u16 = 9;
    const REGISTERS: &'static [(u8, u64, usize)] = &[
        (0, 0x000, 4), // IMR
        (0, 0x008, 4),
        (0, 0x600, 4), // TXPROD
        (0, 0x800, 4), // RXPROD
        (0, 0xa00, 4), // RXPROD2
        (1, 0x00, 4),  // VRRS
        (1, 0x08, 4),  // UVRS
        (1, 0x10, 4),  // DSAL
        (1, 0x18, 4),  // DSAH
        (1, 0x20, 4),  // CMD
        (1, 0x28, 4),  // MACL
        (1, 0x30, 4),  // MACH
        (1, 0x38, 4),  // ICR
        (1, 0x40, 4),  // ECR
        (1, 0x48, 4),  // DCR
        (1, 0x50, 4),  // PTCR
    ];
    const PLACES: &'static [u64] = &[
        SHARED,
        SHARED + 120,
        QUEUES,
        QUEUES + 256,
        QUEUES + 512,
        RSS,
        VARIABLE,
        TX,
        TX + DONE,
        RX,
        RX + SECOND,
        RX + DONE,
        DATA,
        SEND_AT,
    ];
    const LOOPED: &'static str = "";

    fn new(kind: u8, hot: Window) -> Vmxnet3 {
        let revision = 1 + kind % REVISION_MAX;
        Vmxnet3::new(Config { mac: Mac(MAC), revision, ..Config::default() }, hot)
    }

    /// As Linux's vmxnet3. Bit 0: two queues each way and receive-side scaling, bit 1: LRO, bit 2:
    /// receive data rings, bit 3: small buffers, bits 4 to 7: the revision, 0: the highest.
    fn open(nic: &mut Vmxnet3, memory: &Memory, shape: u8) {
        let mut offered = [0; 4];
        nic.read(NOW, 1, 0, &mut offered);
        let offered = u32::from_le_bytes(offered);
        let wanted = if shape >> 4 == 0 { offered } else { offered & ((1 << (shape >> 4)) - 1) };
        write(nic, memory, 1, 0x00, wanted);
        write(nic, memory, 1, 0x08, 1);
        write(nic, memory, 1, 0x48, 0x2ff);
        let queues = 1 + u64::from(shape & 1);
        put(memory, SHARED, &[0; 800]);
        put(memory, QUEUES, &[0; 4 * 256]);
        put32(memory, SHARED, 3_133_079_265);
        put32(memory, SHARED + 4, 800);
        // RXCSUM, RXVLAN; RSS; LRO.
        let features = 1 | 4 | u32::from(shape & 1) << 1 | u32::from(shape & 2) << 2;
        put32(memory, SHARED + 24, features);
        put(memory, SHARED + 40, &QUEUES.to_le_bytes());
        put32(memory, SHARED + 52, queues as u32 * 512);
        put32(memory, SHARED + 56, 1500);
        put(memory, SHARED + 60, &[18, 0, queues as u8, queues as u8]);
        // Automatic masks; a vector for each queue and one for events.
        put(memory, SHARED + 80, &[1, 2 * queues as u8 + 1, 2 * queues as u8]);
        // Unicast, broadcast, promiscuous; VLAN 0.
        put32(memory, SHARED + 120, 0x01 | 0x04 | 0x08 | 0x10);
        put(memory, SHARED + 136, &[1]);
        put(memory, SHARED + 124, &[12, 0, 0, 0]);
        put(memory, SHARED + 128, &MULTICAST.to_le_bytes());
        // One RSS configuration: all hash types, Toeplitz, key of 40 bytes, table of 32.
        put32(memory, SHARED + 648, 1);
        put32(memory, SHARED + 652, 2 + 2 + 2 + 2 + 40 + 128);
        put(memory, SHARED + 656, &RSS.to_le_bytes());
        put(memory, RSS, &[15, 0, 1, 0, 40, 0, 32, 0]);
        put(memory, RSS + 8, &[0x6d; 40]);
        put(memory, RSS + 48, &[0, 1].repeat(16));
        for queue in 0..queues {
            let (base, at) = (TX + queue * APART, QUEUES + queue * 256);
            put(memory, base, &[0; APART as usize]);
            put(memory, at + 16, &base.to_le_bytes());
            put(memory, at + 24, &DATA.to_le_bytes());
            put(memory, at + 32, &(base + DONE).to_le_bytes());
            for (field, value) in [(56, COUNT), (60, COUNT), (64, COUNT), (72, queue as u32 | 128 << 16)] {
                put32(memory, at + field, value);
            }
            let (base, at) = (RX + queue * APART, QUEUES + (queues + queue) * 256);
            put(memory, base, &[0; APART as usize]);
            put(memory, at + 16, &base.to_le_bytes());
            put(memory, at + 24, &(base + SECOND).to_le_bytes());
            put(memory, at + 32, &(base + DONE).to_le_bytes());
            put(memory, at + 48, &(DATA + 0x2000).to_le_bytes());
            let data = if shape & 4 != 0 { 128 } else { 0 };
            let fields =
                [(56, COUNT), (60, COUNT), (64, 2 * COUNT), (72, (queues + queue) as u32 | data << 16)];
            for (field, value) in fields {
                put32(memory, at + field, value);
            }
            for index in 0..u64::from(COUNT) - 1 {
                let buffer = BUFFERS + (index % 16) * 4096 + queue * 2048;
                let len = if shape & 8 != 0 { 300 } else { 1522 };
                describe(memory, base + index * 16, buffer, [len | 1 << 31, 0]);
                let body = base + SECOND + index * 16;
                describe(memory, body, buffer + 0x600, [len | 1 << 14 | 1 << 31, 0]);
            }
        }
        write(nic, memory, 1, 0x10, SHARED as u32);
        write(nic, memory, 1, 0x18, 0);
        write(nic, memory, 1, 0x20, ACTIVATE);
        write(nic, memory, 1, 0x20, 0xcafe_0003);
        for vector in 0..5 {
            write(nic, memory, 0, vector * 8, 0);
        }
    }

    /// In the first descriptor whose generation bit is still that of an empty ring.
    fn send(nic: &mut Vmxnet3, memory: &Memory, len: u32) {
        let free = (0..u64::from(COUNT)).find(|index| get32(memory, TX + index * 16 + 8) >> 14 & 1 == 0);
        let at = TX + free.unwrap_or(0) * 16;
        // EOP, CQ.
        describe(memory, at, SEND_AT, [len & 0x3fff | 1 << 14, 3 << 12]);
        write(nic, memory, 0, 0x600, free.unwrap_or(0) as u32 + 1);
    }
}

pub fn vmxnet3(data: &[u8]) {
    super::run::<Vmware>(data);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut all = traffic(9, 16);
    let command = |value| write_op::<Vmware>(1, 0x20, value);
    for kind in [0, 3, 6, 8] {
        let mut orders = vec![kind, 7, 7];
        for number in 0..0x12 {
            orders.extend(command(0xcafe_0000 + number));
            orders.extend(command(0xf00d_0000 + number));
        }
        orders.extend([13, 10, 11, 2]);
        all.push(orders);
        // Coalescing by a variable configuration; a segmented frame of two pieces; one in the data ring.
        let mut variable = vec![kind, 7, 3, 6, 6, 0];
        variable.extend([3, 0, 0, 0, 0x10, 0x27, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        variable.extend([6, 0, 0x58]);
        variable.extend([&[1, 0, 0, 0, 16, 0, 0, 0][..], &VARIABLE.to_le_bytes()].concat());
        variable.extend(command(0xcafe_000a));
        variable.extend(command(0xf00d_000a));
        let piece = |index: u8, word: u32, flags: u32| {
            [&[6, 7, index * 2][..], &SEND_AT.to_le_bytes(), &word.to_le_bytes(), &flags.to_le_bytes()]
                .concat()
        };
        variable.extend(piece(0, 100 | 1 << 14 | 536 << 18, 54 | 3 << 10 | 1 << 15 | 7 << 16));
        variable.extend(piece(1, 2000 | 1 << 14, 3 << 12));
        variable.extend(piece(2, 128 | 1 << 14 | 50 << 18, 34 | 2 << 10 | 3 << 12));
        variable.extend([8, 0, 0, 10, 13, 8, 0, 0, 10]);
        all.push(variable);
    }
    [all, crate::kept(include_bytes!("../../kept/vmxnet3"))].concat()
}
