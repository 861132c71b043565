//! The PCnet, and what VMware's flexible adapter becomes.

use ::pcnet::{Chip, Config, HOT_BYTES, Pcnet};
use guest_memory::{Memory, Window};
use pci::Bars;
use request::Mac;

use super::{MAC, Model, NOW, SEND_AT, get32, put, put32, traffic, write_op};

pub struct Vlance;

const INIT: u64 = 0x1000;
const RX: u64 = 0x2000;
const TX: u64 = 0x3000;
/// VMXNET's shared area, and what lies behind it.
const AREA: u64 = 0x4000;
const AREA_RX: u64 = 176;
const AREA_TX: u64 = AREA_RX + (COUNT + 1) * 24;
const BUFFERS: u64 = 0x8000;
const LOG: u32 = 3;
const COUNT: u64 = 1 << LOG;

fn outw(nic: &mut Pcnet, memory: &Memory, offset: u64, value: u16) {
    nic.write(NOW, memory, 0, offset, &value.to_le_bytes());
}

fn outl(nic: &mut Pcnet, memory: &Memory, offset: u64, value: u32) {
    nic.write(NOW, memory, 0, offset, &value.to_le_bytes());
}

fn inl(nic: &mut Pcnet, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    nic.read(NOW, 0, offset, &mut bytes);
    u32::from_le_bytes(bytes)
}

fn inw(nic: &mut Pcnet, offset: u64) -> u16 {
    let mut bytes = [0; 2];
    nic.read(NOW, 0, offset, &mut bytes);
    u16::from_le_bytes(bytes)
}

fn csr(nic: &mut Pcnet, memory: &Memory, number: u16, value: u16) {
    outw(nic, memory, 0x12, number);
    outw(nic, memory, 0x10, value);
}

fn read_csr(nic: &mut Pcnet, memory: &Memory, number: u16) -> u16 {
    outw(nic, memory, 0x12, number);
    inw(nic, 0x10)
}

fn read_bcr(nic: &mut Pcnet, memory: &Memory, number: u16) -> u16 {
    outw(nic, memory, 0x12, number);
    inw(nic, 0x16)
}

fn post(memory: &Memory, ring: u64, index: u64, style: u16, address: u64, len: u64, status: u16) {
    let count = (len as u16).wrapping_neg() | 0xf000;
    let [count_low, count_high] = count.to_le_bytes();
    let [status_low, status_high] = status.to_le_bytes();
    let [a, b, c, ..] = address.to_le_bytes();
    match style {
        0 => put(memory, ring + index * 8, &[a, b, c, status_high, count_low, count_high, 0, 0]),
        _ => {
            let at = ring + index * 16;
            let address = (address as u32).to_le_bytes();
            let middle = [count_low, count_high, status_low, status_high];
            let (first, last) = if style == 3 { ([0; 4], address) } else { (address, [0; 4]) };
            put(memory, at, &[first, middle, last, [0; 4]].concat());
        }
    }
}

/// As OpenBSD's vic(4).
fn open_vmxnet(nic: &mut Pcnet, memory: &Memory) {
    inw(nic, 0x14);
    let morph = inl(nic, 0x20);
    outl(nic, memory, 0x20, morph & 0xffff_0000 | 0x4392);
    for (at, value) in [
        (0, 0xbabe_864f_u32),
        (4, COUNT as u32),
        (8, 0),
        (12, 1),
        (16, 0),
        (24, 2 | 4),
        (40, COUNT as u32),
        (44, 0),
        (48, 0),
        (92, 0),
        (96, 0),
        (100, 0),
        (104, 0x1000),
        (108, AREA_RX as u32),
        (112, (AREA_RX + COUNT * 24) as u32),
        (116, AREA_TX as u32),
    ] {
        put32(memory, AREA + at, value);
    }
    for index in 0..COUNT {
        let at = AREA + AREA_RX + index * 24;
        put(memory, at, &(BUFFERS + index * 2048).to_le_bytes());
        put(memory, at + 8, &[0, 8, 0, 0, 0, 0, 0, 0, 2, 0]);
    }
    outl(nic, memory, 0x24, AREA as u32);
    outl(nic, memory, 0x28, 0x1000);
    for command in [2, 4, 0x40] {
        outl(nic, memory, 0x30, command);
    }
}

impl Model for Vlance {
    type Device = Pcnet;
    const HOT_BYTES: usize = HOT_BYTES;
    const QUEUES: u16 = 2;
    const REGISTERS: &'static [(u8, u64, usize)] = &[
        (0, 0x10, 2), // RDP
        (0, 0x12, 2), // RAP
        (0, 0x14, 2), // RESET
        (0, 0x16, 2), // BDP
        (0, 0x10, 4),
        (0, 0x14, 4),
        (0, 0x18, 4),
        (0, 0x1c, 4),
        (1, 0x10, 2),
        (1, 0x12, 2),
        (1, 0x16, 2),
        (0, 0x00, 1),
        (0, 0x20, 4), // The morph port, and VMXNET's registers behind it.
        (0, 0x24, 4),
        (0, 0x28, 4),
        (0, 0x2c, 4),
        (0, 0x30, 4),
        (0, 0x34, 4),
        (0, 0x44, 4),
        (0, 0x4c, 4),
    ];
    const PLACES: &'static [u64] = &[RX, TX, INIT, AREA, AREA + AREA_RX, AREA + AREA_TX, SEND_AT];
    const LOOPED: &'static str = "looped_frames";

    fn new(kind: u8, hot: Window) -> Pcnet {
        let chip = [Chip::Am79C970A, Chip::Flexible, Chip::Am79C973][usize::from(kind % 3)];
        Pcnet::new(Config { mac: Mac(MAC), chip }, hot)
    }

    /// As Linux's pcnet32: the low two bits are the software style, 2 in place of 0 and the other way
    /// round; bit 2: VMXNET, bit 3: short buffers, bit 4: looped back.
    fn open(nic: &mut Pcnet, memory: &Memory, shape: u8) {
        // Back from VMXNET and from double word I/O.
        let morph = inl(nic, 0x20);
        outl(nic, memory, 0x20, morph & 0xffff_0000 | 0x2934);
        inw(nic, 0x14);
        inl(nic, 0x18);
        if shape & 4 != 0 {
            return open_vmxnet(nic, memory);
        }
        let style = u16::from(shape & 3 ^ 2);
        outw(nic, memory, 0x12, 20);
        outw(nic, memory, 0x16, style);
        // PROM, and LOOP.
        let mode: u16 = 0x8000 | if shape & 16 != 0 { 4 } else { 0 };
        let mut block = mode.to_le_bytes().to_vec();
        if style == 0 {
            block.extend(MAC);
            block.extend([0; 8]);
            block.extend((RX as u32 | LOG << 29).to_le_bytes());
            block.extend((TX as u32 | LOG << 29).to_le_bytes());
        } else {
            block.extend([(LOG << 4) as u8, (LOG << 4) as u8]);
            block.extend(MAC);
            block.extend([0; 2 + 8]);
            block.extend((RX as u32).to_le_bytes());
            block.extend((TX as u32).to_le_bytes());
        }
        put(memory, INIT, &block);
        let buffer = if shape & 8 != 0 { 256 } else { 2048 };
        for index in 0..COUNT {
            post(memory, RX, index, style, BUFFERS + index * 2048, buffer, 0x8000);
            post(memory, TX, index, style, 0, 1, 0);
        }
        csr(nic, memory, 1, INIT as u16);
        csr(nic, memory, 2, 0);
        csr(nic, memory, 4, 0x0915);
        csr(nic, memory, 0, 0x0001);
        csr(nic, memory, 0, 0x0142);
    }

    /// In the descriptor where the device is, by CSR74 and CSR78; VMXNET's by its own index.
    fn send(nic: &mut Pcnet, memory: &Memory, len: u32) {
        if inl(nic, 0x20) & 0xffff == 0x4392 {
            let index = u64::from(get32(memory, AREA + 48)) % COUNT;
            let at = AREA + AREA_TX + index * 64;
            put(memory, at + 14, &[1, 0]);
            put32(memory, at + 16, SEND_AT as u32);
            put(memory, at + 20, &[0, 0]);
            put(memory, at + 22, &(len as u16).to_le_bytes());
            put(memory, at, &[1, 0, 2, 0]);
            put32(memory, AREA + 48, ((index + 1) % COUNT) as u32);
            inl(nic, 0x2c);
            return;
        }
        let (left, count) = (read_csr(nic, memory, 74), read_csr(nic, memory, 78));
        let style = read_bcr(nic, memory, 20) & 3;
        let index = u64::from(count.wrapping_neg().wrapping_sub(left.wrapping_neg())) % COUNT;
        post(memory, TX, index, style, SEND_AT, len.into(), 0x8300);
        csr(nic, memory, 0, 0x0048);
    }

    /// CSR0: RINT and TINT.
    fn equalize(state: &mut [u8]) {
        state[8] &= !0x06;
    }
}

pub fn pcnet(data: &[u8]) {
    super::run::<Vlance>(data);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut all = traffic(3, 32);
    for kind in 0..3 {
        let set = |port: u64, number: u16, value: u16| {
            let mut op = write_op::<Vlance>(0, 0x12, number.into());
            op.extend(write_op::<Vlance>(0, port, value.into()));
            op
        };
        let mut registers = vec![kind, 7, 0];
        for (number, value) in
            [(3, 0x0420), (5, 1), (7, 0x3000), (15, 0x8040), (58, 3), (76, 0xfff8), (0, 4), (0, 0x43)]
        {
            registers.extend(set(0x10, number, value));
        }
        for (number, value) in [(2, 0x102), (9, 1), (19, 5), (20, 3), (32, 0x8000), (33, 0x20), (34, 0x9000)]
        {
            registers.extend(set(0x16, number, value));
        }
        registers.extend([10, 13, 11, 3, 7, 1, 15, 0, 80, 0, 8, 0, 0, 10]);
        all.push(registers);
    }
    [all, crate::kept(include_bytes!("../../kept/pcnet"))].concat()
}
