//! What a frame costs the adapter each way, in this thread alone:
//! `cargo run --release -p standpipe-pcnet --example rings [ROUNDS]`.
//!
//! Prints nanoseconds a frame, the best of several rounds. The driver's part is a store a frame and
//! a write of TDMD a burst; the rings have 512 descriptors as with Linux's largest setting.

use std::hint::black_box;
use std::time::Instant as Clock;

use frame::{Body, Frame, Nic, Posted, Taken};
use guest_memory::{Memory, Window};
use pci::Bars;
use request::{Address, FrameFacts, Instant, Mac, Rewrite};
use standpipe_pcnet::{Chip, Config, HOT_BYTES, Pcnet};

const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const LOG: u32 = 9;
const COUNT: u32 = 1 << LOG;
const BURST: u32 = 32;
const FRAMES: u32 = 8192;
const INIT_AT: usize = 0x1000;
const RINGS: [u32; 2] = [0x1_0000, 0x2_0000];
const BUFFERS: [u32; 2] = [0x10_0000, 0x30_0000];
const BUFFER: u32 = 2048;

fn out(nic: &mut Pcnet, memory: &Memory, offset: u64, value: u16) {
    nic.write(Instant::default(), memory, 0, offset, &value.to_le_bytes());
}

fn csr(nic: &mut Pcnet, memory: &Memory, number: u16, value: u16) {
    out(nic, memory, 0x12, number);
    out(nic, memory, 0x10, value);
}

/// Gives a descriptor of the PCnet-PCI style to the adapter.
fn post(window: &Window, ring: usize, index: u32, len: u32, status: u16) {
    let at = (RINGS[ring] + index * 16) as usize;
    window.store_u32(at, BUFFERS[ring] + index * BUFFER);
    window.store_u16(at + 4, (len as u16).wrapping_neg());
    window.store_release_u16(at + 6, status);
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(50);
    let memory = Memory::anonymous(8 << 20);
    let window = memory.window(Address(0), 8 << 20).expect("all of it");
    let mut nic = Pcnet::new(Config { mac: MAC, chip: Chip::Am79C970A }, Window::anonymous(HOT_BYTES));
    let mut block = vec![0, 0, (LOG << 4) as u8, (LOG << 4) as u8];
    block.extend(MAC.0);
    block.extend([0; 10]);
    block.extend(RINGS.map(u32::to_le_bytes).concat());
    window.write_bytes(INIT_AT, &block);
    for index in 0..COUNT {
        post(&window, 0, index, BUFFER, 0x8000);
    }
    out(&mut nic, &memory, 0x12, 20);
    out(&mut nic, &memory, 0x16, 2);
    for (number, value) in [(1, INIT_AT as u16), (2, 0), (4, 0x0915), (0, 0x0001), (0, 0x0042)] {
        csr(&mut nic, &memory, number, value);
    }
    for len in [60u32, 1514] {
        let mut bytes = vec![0x5a; len as usize];
        bytes[..6].copy_from_slice(&MAC.0);
        for index in 0..COUNT {
            window.write_bytes((BUFFERS[1] + index * BUFFER) as usize, &bytes);
        }
        let mut best = [u128::MAX; 2];
        let mut posted = Posted::default();
        let (mut sent, mut received) = (0, 0);
        for _ in 0..rounds {
            let start = Clock::now();
            for _ in 0..FRAMES / BURST {
                for _ in 0..BURST {
                    post(&window, 1, sent % COUNT, len, 0x8300);
                    sent += 1;
                }
                out(&mut nic, &memory, 0x10, 0x0048);
                while nic.waiting() != 0 && nic.transmit(&memory, 0, &mut posted) == Taken::Frame {
                    black_box(&posted);
                }
                nic.publish(Instant::default(), &memory);
            }
            best[0] = best[0].min(start.elapsed().as_nanos());
            let start = Clock::now();
            for _ in 0..FRAMES / BURST {
                let (header, body) = bytes.split_at(60);
                let frame = Frame { header, body: Body::Bytes(body), facts: FrameFacts::default() };
                for _ in 0..BURST {
                    nic.deliver(&memory, &frame, Rewrite::Keep).expect("room in the ring");
                }
                nic.publish(Instant::default(), &memory);
                for _ in 0..BURST {
                    post(&window, 0, received % COUNT, BUFFER, 0x8000);
                    received += 1;
                }
            }
            best[1] = best[1].min(start.elapsed().as_nanos());
        }
        for (way, nanos) in ["transmit", "receive"].into_iter().zip(best) {
            println!("{len:>5} bytes  {way:<9} {:>7.1} ns a frame", nanos as f64 / f64::from(FRAMES));
        }
    }
}
