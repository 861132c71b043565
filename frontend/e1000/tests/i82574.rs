//! What the 82574 has beyond: extended and packet split descriptors, MSI-X, two queues.

mod driver;

use std::panic::{AssertUnwindSafe, catch_unwind};

use driver::*;
use frame::{Nic, Refused, Taken};
use guest_memory::crash;
use pci::{IrqMode, Lasting, Signals};
use request::FrameFacts;
use standpipe_e1000::Model;

const RFCTL: u64 = 0x5008;
const EXSTEN: u32 = 1 << 15;
const RXQ0: u32 = 1 << 20;
const TXQ0: u32 = 1 << 22;
const OTHER: u32 = 1 << 24;

/// As Linux's e1000e sets up: vector 0 receives, 1 transmits, 2 is for the rest.
fn open() -> Bench {
    let mut bench = Bench::new(Model::I82574l);
    bench.nic.set_irq_mode(IrqMode::MsiX);
    bench.open();
    bench.write(IMC, 0xffff_ffff);
    bench.read(ICR);
    bench.write(RFCTL, EXSTEN);
    bench.write(0xe4, 0x8000_0000 | 8 | 9 << 8 | 10 << 16);
    let control = bench.read(0x18);
    bench.write(0x18, control | 1 << 31 | 1 << 24);
    bench.write(0xdc, RXQ0 | TXQ0);
    bench.write(IMS, RXQ0 | TXQ0 | OTHER | 4);
    let _ = bench.nic.interrupts();
    bench
}

fn post(bench: &mut Bench, ring: u64, tail: u64, buffers: u64, count: u16) {
    for index in 0..count {
        bench.set_descriptor(ring, index, [buffers + u64::from(index) * BUFFER, 0]);
    }
    bench.write(tail, count.into());
}

#[test]
fn extended_descriptors_are_written_back() {
    let mut bench = open();
    post(&mut bench, RX_RING, RDT, RX_BUFFERS, 4);
    bench.deliver(&numbered(1, 200)).unwrap();
    assert_eq!(bench.descriptor(RX_RING, 0)[0], RX_BUFFERS, "the address stays until it is shown");
    bench.publish();
    let [first, second] = bench.descriptor(RX_RING, 0);
    assert_eq!(first, 0, "no hash");
    assert_eq!(second & 0xffff_ffff, 7, "DD, EOP, IXSM");
    assert_eq!(second >> 32, 200, "length, and no tag");
    assert_eq!(bench.get(RX_BUFFERS, 200), numbered(1, 200));
}

#[test]
fn each_cause_has_its_vector_and_masks_itself() {
    let mut bench = open();
    post(&mut bench, RX_RING, RDT, RX_BUFFERS, 6);
    for expected in [1, 0] {
        bench.deliver(&numbered(1, 200)).unwrap();
        bench.publish();
        assert_eq!(bench.nic.interrupts().vectors, expected, "masked while the driver polls");
    }
    assert_eq!(bench.read(IMS), TXQ0 | OTHER | 4);
    // What came meanwhile is told when the driver enables the vector again.
    bench.write(IMS, RXQ0);
    assert_eq!(bench.nic.interrupts().vectors, 1);
    bench.put(TX_BUFFERS, &numbered(1, 64));
    bench.set_descriptor(TX_RING, 0, [TX_BUFFERS, 64 | 0x0b << 24]);
    bench.write(TDT, 1);
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(bench.nic.interrupts().vectors, 2);
    let now = bench.now;
    bench.nic.set_link(now, false, 0);
    assert_eq!(bench.nic.interrupts().vectors, 4);
    // Linux's handler of the other causes: read, clear, enable.
    assert_eq!(bench.read(ICR) & 0x8100_0004, 0x8100_0004);
    bench.write(IMS, OTHER | 4);
    assert_eq!(bench.nic.interrupts().vectors, 0, "no storm");
}

#[test]
fn vectors_keep_their_distance() {
    let mut bench = open();
    bench.write(0xe8, 200);
    post(&mut bench, RX_RING, RDT, RX_BUFFERS, 6);
    bench.deliver(&numbered(1, 200)).unwrap();
    bench.publish();
    assert_eq!(bench.nic.interrupts().vectors, 1);
    bench.write(IMS, RXQ0);
    bench.deliver(&numbered(1, 200)).unwrap();
    bench.publish();
    assert_eq!(bench.nic.interrupts().vectors, 0);
    bench.pass(200 * 256);
    assert_eq!(bench.nic.interrupts().vectors, 1);
    assert_eq!(bench.nic.deadline(), None);
}

#[test]
fn two_queues_send_and_a_hash_spreads_what_comes_in() {
    let mut bench = open();
    // Queue 1: its rings lie behind those of queue 0.
    let (rx1, tx1) = (RX_RING + 0x800, TX_RING + 0x800);
    for (register, value) in [(0x2900, rx1), (0x3900, tx1), (0x2908, 128), (0x3908, 128)] {
        bench.write(register, value as u32);
    }
    post(&mut bench, RX_RING, RDT, RX_BUFFERS, 4);
    post(&mut bench, rx1, 0x2918, RX_BUFFERS + 0x8000, 4);
    bench.put(TX_BUFFERS, &numbered(4, 64));
    bench.set_descriptor(tx1, 0, [TX_BUFFERS, 64 | 0x0b << 24]);
    bench.write(0x3918, 1);
    assert_eq!(bench.nic.waiting(), 2);
    assert_eq!(bench.nic.transmit(&bench.memory, 1, &mut bench.posted), Taken::Frame);
    bench.publish();
    assert_eq!(bench.descriptor(tx1, 0)[1] >> 32, 1);
    // RSS over IPv4 with a key of ones: the hash depends on the number of ones in the addresses.
    bench.write(0x5818, 1 | 1 << 17);
    for nth in 0..10 {
        bench.write(0x5c80 + 4 * nth, 0xffff_ffff);
    }
    for nth in 16..32 {
        bench.write(0x5c00 + 4 * nth, 0x8080_8080);
    }
    bench.write(0x5000, 1 << 13);
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.resize(60, 0);
    bench.deliver(&frame).unwrap();
    frame[26] = 1;
    bench.deliver(&frame).unwrap();
    bench.publish();
    assert_eq!(bench.descriptor(RX_RING, 0)[0], 2, "IPv4, queue 0, hash 0");
    assert_eq!(bench.descriptor(rx1, 0)[0], 0xffff_ffff_0000_0102, "IPv4, queue 1");
    assert_eq!((bench.read(0x2810), bench.read(0x2910)), (1, 1));
}

/// Packet split: 256 bytes, then three pages.
fn open_split() -> Bench {
    let mut bench = open();
    bench.write(0x2170, 2 | 4 << 8 | 4 << 16 | 4 << 24);
    bench.write(RCTL, 1 << 1 | 1 << 5 | 1 << 15 | 1 << 26 | 1 << 10);
    bench.write(RDLEN, 8 * 32);
    bench
}

fn split_buffers(index: u16) -> [u64; 4] {
    let at = 0x60_000 + u64::from(index) * 0x4000;
    [at, at + 0x1000, at + 0x2000, at + 0x3000]
}

fn post_split(bench: &Bench, index: u16) {
    for (nth, address) in split_buffers(index).into_iter().enumerate() {
        bench.put(RX_RING + 32 * u64::from(index) + 8 * nth as u64, &address.to_le_bytes());
    }
}

/// The frame of a descriptor that is done; `None`: not done.
fn split_frame(bench: &Bench, index: u16) -> Option<Vec<u8>> {
    let bytes = bench.get(RX_RING + 32 * u64::from(index), 32);
    let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    if bytes[8] & 1 == 0 {
        return None;
    }
    let lengths = [word(12), word(18), word(20), word(22)];
    let parts = split_buffers(index).into_iter().zip(lengths);
    Some(parts.flat_map(|(at, len)| bench.get(at, len.into())).collect())
}

#[test]
fn a_jumbo_frame_fills_the_buffers_of_a_split_descriptor() {
    let mut bench = open_split();
    for index in 0..7 {
        post_split(&bench, index);
    }
    bench.write(RDT, 7 * 2);
    assert_eq!(bench.deliver(&numbered(1, 9_000)), Ok(9_000));
    assert_eq!(bench.deliver(&numbered(2, 100)), Ok(100));
    assert_eq!(bench.deliver(&numbered(3, 12_545)), Err(Refused::BufferTooSmall));
    bench.publish();
    assert_eq!(bench.nic.interrupts().vectors, 1);
    assert_eq!(split_frame(&bench, 0), Some(numbered(1, 9_000)));
    assert_eq!(split_frame(&bench, 1), Some(numbered(2, 100)));
    assert_eq!(bench.get(RX_RING + 16, 16), [0, 0, 0, 16, 0, 16, 0x28, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(split_frame(&bench, 2), None);
    assert_eq!(bench.read(RDH), 2 * 2);
    assert_eq!(bench.read(RDT), 7 * 2);
}

/// Descriptors of Linux's ring here, and of how many it tells the device at once.
const LINUX_COUNT: u16 = 32;
const LINUX_STEP: u16 = 16;

/// As Linux posts: all but one, told at each sixteenth descriptor, which RDT counts as two.
fn post_as_linux(bench: &mut Bench, next: &mut u16, clean: u16) {
    while (*next + 1) % LINUX_COUNT != clean {
        post_split(bench, *next);
        if next.is_multiple_of(LINUX_STEP) {
            bench.write(RDT, u32::from(*next) << 1);
        }
        *next = (*next + 1) % LINUX_COUNT;
    }
}

/// What `ip link set mtu 9000` comes to: a reset, then 128 bytes and three pages for each frame.
#[test]
fn linux_goes_to_split_descriptors_for_a_long_mtu() {
    let mut bench = open();
    post(&mut bench, RX_RING, RDT, RX_BUFFERS, 4);
    bench.deliver(&numbered(1, 200)).unwrap();
    bench.publish();
    bench.write(CTRL, 1 << 26);
    let control = bench.read(CTRL);
    bench.write(CTRL, control | 1 << 6);
    bench.write(RFCTL, EXSTEN);
    bench.write(0x2170, 1 | 4 << 8 | 4 << 16 | 4 << 24);
    let rctl = 1 << 1 | 1 << 5 | 1 << 15 | 1 << 26 | 1 << 10;
    bench.write(RCTL, rctl);
    bench.write(RCTL, rctl & !(1 << 1));
    bench.write(RDBAL, RX_RING as u32);
    bench.write(RDBAL + 4, 0);
    bench.write(RDLEN, u32::from(LINUX_COUNT) * 32);
    bench.write(RDH, 0);
    bench.write(RDT, 0);
    bench.write(RCTL, rctl);
    let (mut next, mut clean) = (0, 0);
    post_as_linux(&mut bench, &mut next, clean);
    assert_eq!(bench.read(RDT), 32);
    // More than three laps.
    for nth in 0..100 {
        let lens = [60, 128, 129, 1_514, 4_224, 4_225, 9_014];
        let len = lens[nth as usize % lens.len()];
        assert_eq!(bench.deliver(&numbered(nth, len)), Ok(len as u32), "frame {nth}");
        bench.publish();
        assert_eq!(split_frame(&bench, clean), Some(numbered(nth, len)), "frame {nth}");
        // Linux clears the status byte and then writes all addresses anew.
        bench.put(RX_RING + 32 * u64::from(clean) + 8, &[0]);
        clean = (clean + 1) % LINUX_COUNT;
        assert_eq!(bench.read(RDH), u32::from(clean) << 1);
        post_as_linux(&mut bench, &mut next, clean);
    }
    // The driver stops: what it told is used up, and no more is taken.
    let told = (0..).take_while(|nth| bench.deliver(&numbered(*nth, 60)).is_ok()).count();
    assert_eq!(told as u32, (bench.read(RDT) / 2 + 32 - u32::from(clean)) % 32);
    assert_eq!(bench.read(RDH), bench.read(RDT));
}

/// A driver that takes frames and posts the descriptors again.
fn take_split(bench: &Bench, next: &mut u16, seen: &mut Vec<u32>) {
    while let Some(bytes) = split_frame(bench, *next) {
        if !bytes.is_empty() {
            let number = number(&bytes);
            assert_eq!(bytes, numbered(number, bytes.len()));
            seen.push(number);
        }
        bench.put(RX_RING + 32 * u64::from(*next) + 8, &[0; 8]);
        post_split(bench, *next);
        *next = (*next + 1) % 8;
    }
}

#[test]
fn a_death_in_a_split_write_back_loses_a_frame_at_most() {
    let mut stores = 0;
    loop {
        let mut bench = open_split();
        for index in 0..8 {
            post_split(&bench, index);
        }
        let state = bench.nic.state();
        let (mut next, mut seen, mut number) = (0, Vec::new(), 0);
        bench.write(RDT, 7 * 2);
        crash::after(Some(stores));
        let died = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..3 {
                bench.deliver(&numbered(number, 5_000)).unwrap();
                number += 1;
            }
            bench.publish();
        }))
        .is_err();
        crash::after(None);
        number += 1;
        take_split(&bench, &mut next, &mut seen);
        bench.successor(&state);
        bench.nic.set_irq_mode(IrqMode::MsiX);
        for _ in 0..20 {
            take_split(&bench, &mut next, &mut seen);
            bench.write(RDT, u32::from((next + 7) % 8) * 2);
            bench.deliver(&numbered(number, 5_000)).unwrap();
            number += 1;
            bench.publish();
        }
        take_split(&bench, &mut next, &mut seen);
        assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
        assert!(number as usize - seen.len() <= 2, "{seen:?} of {number}");
        if !died {
            break;
        }
        stores += 1;
    }
    assert!(stores >= 27, "{stores}");
}

/// As `crash.rs` has it for legacy descriptors: the driver takes what is shown while nobody is there.
#[test]
fn a_death_while_extended_descriptors_are_shown_wedges_nothing() {
    let mut stores = 0;
    loop {
        let mut bench = open();
        post(&mut bench, RX_RING, RDT, RX_BUFFERS, 8);
        bench.write(RDT, 7);
        let state = bench.nic.state();
        crash::after(Some(stores));
        let died = catch_unwind(AssertUnwindSafe(|| {
            for number in 0..5 {
                bench.deliver(&numbered(number, 100)).unwrap();
            }
            bench.publish();
        }))
        .is_err();
        crash::after(None);
        let (mut next, mut seen) = (0u16, Vec::new());
        let mut take = |bench: &Bench, seen: &mut Vec<u32>| {
            loop {
                let second = bench.descriptor(RX_RING, next)[1];
                if second & 1 == 0 {
                    return next;
                }
                // The write-back took the address; the driver knows its buffer.
                let at = RX_BUFFERS + u64::from(next) * BUFFER;
                let bytes = bench.get(at, (second >> 32) as u16 as u32);
                assert_eq!(bytes, numbered(number(&bytes), 100));
                seen.push(number(&bytes));
                bench.set_descriptor(RX_RING, next, [at, second & !0xff]);
                next = (next + 1) % 8;
            }
        };
        take(&bench, &mut seen);
        bench.successor(&state);
        bench.nic.set_irq_mode(IrqMode::MsiX);
        assert_eq!(bench.nic.interrupts().vectors & 1, 1, "an interrupt may have been lost");
        for number in 5..40 {
            let at = take(&bench, &mut seen);
            bench.write(RDT, u32::from((at + 7) % 8));
            bench.deliver_with(&numbered(number, 100), FrameFacts::default()).unwrap();
            bench.publish();
        }
        take(&bench, &mut seen);
        assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
        assert_eq!(seen[seen.len() - 35..], (5..40).collect::<Vec<_>>());
        if !died {
            break;
        }
        stores += 1;
    }
    assert!(stores >= 17, "{stores}");
}
