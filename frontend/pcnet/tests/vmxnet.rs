//! The flexible adapter as OpenBSD's vic(4) drives it.

mod driver;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use driver::{MAC, MEMORY, NOW, deliver, drain, frame_of, hot, inl, inw, number_of, outl, outw, read_csr};
use frame::{Nic, Refused};
use guest_memory::{Memory, Window, crash};
use pci::{Bar, Bars, Lasting, Signals};
use request::{Address, Mac};
use standpipe_pcnet::{Chip, Config, Pcnet};

const PEER: Mac = Mac([2, 0, 0, 0, 0, 7]);
const AREA: u32 = 0x3000;
const RX_OFFSET: u32 = 176;
const RX_BUFFERS: u32 = 0x1_0000;
const TX_BUFFERS: u32 = 0x8_0000;
const BUFFER: u32 = 2048;
const MAGIC: u32 = 0xbabe_864f;

/// VMXNET's registers in the flexible adapter's I/O space.
const DATA_ADDR: u64 = 0x24;
const DATA_LENGTH: u64 = 0x28;
const TX_ADDR: u64 = 0x2c;
const CMD: u64 = 0x30;
const STATUS: u64 = 0x44;

struct Vic {
    memory: Arc<Memory>,
    window: Window,
    count: u32,
    tx_pending: u32,
    number: u32,
    received: Vec<Vec<u8>>,
}

impl Vic {
    fn new(count: u32) -> Self {
        let memory = Memory::anonymous(MEMORY);
        let window = memory.window(Address(0), MEMORY as u32).unwrap();
        Self { memory, window, count, tx_pending: 0, number: 0, received: Vec::new() }
    }

    fn word(&self, at: u32) -> u32 {
        self.window.load_u32((AREA + at) as usize)
    }

    fn set_word(&self, at: u32, value: u32) {
        self.window.store_u32((AREA + at) as usize, value);
    }

    fn rx(&self, index: u32) -> usize {
        (AREA + RX_OFFSET + index * 24) as usize
    }

    fn tx_offset(&self) -> u32 {
        RX_OFFSET + (self.count + 1) * 24
    }

    fn tx(&self, index: u32) -> usize {
        (AREA + self.tx_offset() + index * 64) as usize
    }

    fn post_rx(&self, index: u32) {
        let at = self.rx(index);
        self.window.store_u64(at, u64::from(RX_BUFFERS + index * BUFFER));
        self.window.store_u32(at + 8, BUFFER);
        self.window.store_u32(at + 12, 0);
        self.window.store_release_u16(at + 16, 2);
    }

    fn morph(&self, nic: &mut Pcnet) {
        let morph = inl(nic, 0x20);
        assert_eq!(morph & 0xffff, 0x2934);
        outl(nic, &self.memory, 0x20, morph & 0xffff_0000 | 0x4392);
        assert_eq!(inl(nic, 0x20) & 0xffff, 0x4392);
    }

    fn query(&self, nic: &mut Pcnet, command: u32) -> u32 {
        outl(nic, &self.memory, CMD, command);
        inl(nic, CMD)
    }

    fn init(&self, nic: &mut Pcnet) {
        for (at, value) in [
            (0, MAGIC),
            (4, self.count),
            (8, 0),
            (12, 1),
            (16, 0),
            (40, self.count),
            (44, 0),
            (48, 0),
            (92, 0),
            (96, 0),
            (100, 0),
            (104, self.tx_offset() + self.count * 64),
            (108, RX_OFFSET),
            (112, RX_OFFSET + self.count * 24),
            (116, self.tx_offset()),
        ] {
            self.set_word(at, value);
        }
        for index in 0..self.count {
            self.post_rx(index);
        }
        outl(nic, &self.memory, DATA_ADDR, AREA);
        outl(nic, &self.memory, DATA_LENGTH, self.word(104));
        self.filter(nic, 2 | 4, [0, 0]);
        outl(nic, &self.memory, CMD, 0x40);
    }

    fn filter(&self, nic: &mut Pcnet, flags: u32, groups: [u32; 2]) {
        self.set_word(28, groups[0]);
        self.set_word(32, groups[1]);
        outl(nic, &self.memory, CMD, 2);
        self.set_word(24, flags);
        outl(nic, &self.memory, CMD, 4);
    }

    /// Posts a frame in two pieces.
    fn send(&mut self, len: usize) -> bool {
        if self.tx_pending == self.count {
            return false;
        }
        let index = self.word(48);
        let at = self.tx(index);
        let buffer = TX_BUFFERS + index * BUFFER;
        self.window.write_bytes(buffer as usize, &frame_of(PEER, self.number, len));
        self.number += 1;
        self.window.store_u16(at + 14, 2);
        for (piece, (start, bytes)) in [(0, 20), (20, len as u32 - 20)].into_iter().enumerate() {
            self.window.store_u32(at + 16 + piece * 8, buffer + start);
            self.window.store_u16(at + 22 + piece * 8, bytes as u16);
        }
        self.window.store_u16(at, 1);
        self.window.store_release_u16(at + 2, 2);
        self.tx_pending += 1;
        self.set_word(48, (index + 1) % self.count);
        true
    }

    fn reap(&mut self) -> u32 {
        let mut count = 0;
        while self.tx_pending > 0 && self.window.load_u16(self.tx(self.word(44)) + 2) == 0 {
            self.tx_pending -= 1;
            self.set_word(44, (self.word(44) + 1) % self.count);
            count += 1;
        }
        count
    }

    fn consume(&mut self) -> u32 {
        let mut count = 0;
        while count < self.count {
            let index = self.word(8);
            let at = self.rx(index);
            if self.window.load_u16(at + 16) != 0 {
                break;
            }
            let len = self.window.load_u32(at + 12);
            let mut bytes = vec![0; len as usize];
            let buffer = (RX_BUFFERS + index * BUFFER) as usize;
            self.window.read_bytes(buffer, &mut bytes);
            self.window.write_bytes(buffer, &[0xee; BUFFER as usize]);
            self.received.push(bytes);
            self.post_rx(index);
            self.set_word(8, (index + 1) % self.count);
            count += 1;
        }
        count
    }
}

fn config() -> Config {
    Config { mac: MAC, chip: Chip::Flexible }
}

fn open(count: u32) -> (Vic, Arc<Memory>, Pcnet) {
    let vic = Vic::new(count);
    let mut nic = Pcnet::new(config(), hot());
    vic.morph(&mut nic);
    vic.init(&mut nic);
    let memory = Arc::clone(&vic.memory);
    (vic, memory, nic)
}

#[test]
fn it_is_a_vlance_until_it_is_asked() {
    let vic = Vic::new(4);
    let memory = &*vic.memory;
    let mut nic = Pcnet::new(config(), hot());
    assert_eq!(nic.layout().bars[0], Bar::Io { bytes: 128 });
    assert_eq!(read_csr(&mut nic, memory, 88), 0x1003);
    // Nothing of VMXNET is there, and nonsense changes nothing.
    assert_eq!(inl(&mut nic, 0x40), 0xffff_ffff);
    outl(&mut nic, memory, 0x20, 0x1234);
    outl(&mut nic, memory, 0x20, 0xabcd_2934);
    assert_eq!(inl(&mut nic, 0x20), 0xabcd_2934);
    vic.morph(&mut nic);
    assert_eq!(inl(&mut nic, 0x20), 0xabcd_4392);
    assert_eq!(inw(&mut nic, 0x10), 0xffff);
    assert_eq!(inw(&mut nic, 0), 0x5452);
    // Lowest and highest version.
    assert_eq!((inl(&mut nic, 0x3c), inl(&mut nic, 0x40)), (MAGIC, MAGIC));
    assert_eq!((vic.query(&mut nic, 0x200), vic.query(&mut nic, 0x400)), (128, 128));
    assert_eq!((vic.query(&mut nic, 0x1000), vic.query(&mut nic, 0x2000)), (0x101, 0));
    // The virtual PROM, byte by byte, and from there to the address.
    for (at, byte) in MAC.0.into_iter().enumerate() {
        let mut one = [0];
        nic.read(NOW, 0, 0x4c + at as u64, &mut one);
        assert_eq!(one, [byte]);
        nic.write(NOW, memory, 0, 0x34 + at as u64, &[byte ^ 1]);
        nic.read(NOW, 0, 0x34 + at as u64, &mut one);
        assert_eq!(one, [byte ^ 1]);
    }
    assert_eq!(inl(&mut nic, STATUS), 1);
    nic.set_link(NOW, false, 0);
    assert_eq!(inl(&mut nic, STATUS), 0);
    // Back again, as FreeBSD leaves it.
    outl(&mut nic, memory, 0x20, 0x2934);
    assert_eq!(read_csr(&mut nic, memory, 0), 4);
    // As VMware's driver for Linux turns it over and back, by the lower half.
    outl(&mut nic, memory, 0x20, 0xabcd_2934);
    for kind in [0x4392, 0x2934] {
        outw(&mut nic, memory, 0x20, kind);
        assert_eq!((inw(&mut nic, 0x20), inl(&mut nic, 0x20)), (kind, 0xabcd_0000 | u32::from(kind)));
    }
    vic.morph(&mut nic);
    nic.reset();
    assert_eq!(inl(&mut nic, 0x20), 0x2934);
    // Others have nothing there.
    let mut plain = Pcnet::new(Config { chip: Chip::Am79C970A, ..config() }, hot());
    assert_eq!(inl(&mut plain, 0x20), 0xffff_ffff);
}

#[test]
fn frames_both_ways() {
    let (mut vic, memory, mut nic) = open(4);
    assert_eq!(inl(&mut nic, STATUS), 3);
    assert!(!nic.interrupts().level);
    for lap in 0..7 {
        assert!(vic.send(60 + 200 * lap as usize));
        inl(&mut nic, TX_ADDR);
        assert_eq!(nic.waiting(), 1);
        assert_eq!(drain(&mut nic, &memory), [frame_of(PEER, lap, 60 + 200 * lap as usize)]);
        assert_eq!(vic.reap(), 0);
        nic.publish(NOW, &memory);
        assert!(nic.interrupts().level);
        outl(&mut nic, &memory, CMD, 1);
        assert!(!nic.interrupts().level);
        assert_eq!(vic.reap(), 1);

        // Lengths are without a check sequence.
        assert_eq!(deliver(&mut nic, &memory, &frame_of(MAC, lap, 1514)), Ok(1514));
        assert_eq!(vic.consume(), 0);
        nic.publish(NOW, &memory);
        assert!(nic.interrupts().level);
        outl(&mut nic, &memory, CMD, 1);
        assert_eq!(vic.consume(), 1);
        assert_eq!(vic.received[lap as usize], frame_of(MAC, lap, 1514));
    }
    // A buffer too small is no reason to take two.
    assert_eq!(deliver(&mut nic, &memory, &frame_of(MAC, 9, 2049)), Err(Refused::BufferTooSmall));
    for _ in 0..4 {
        deliver(&mut nic, &memory, &frame_of(MAC, 9, 60)).unwrap();
    }
    assert_eq!(deliver(&mut nic, &memory, &frame_of(MAC, 9, 60)), Err(Refused::NoBuffer));
    nic.publish(NOW, &memory);
    outl(&mut nic, &memory, CMD, 0x20);
    assert!(!nic.interrupts().level);
    outl(&mut nic, &memory, CMD, 0x40);
    assert!(nic.interrupts().level);
    // Stopped.
    outl(&mut nic, &memory, DATA_ADDR, 0);
    assert!(!nic.interrupts().level);
    assert_eq!(inl(&mut nic, STATUS), 1);
    assert_eq!(deliver(&mut nic, &memory, &frame_of(MAC, 9, 60)), Err(Refused::NoBuffer));
}

#[test]
fn interrupts_are_on_from_the_start() {
    let (_vic, memory, mut nic) = open(4);
    // VMware's driver for Linux does not ask for them.
    outl(&mut nic, &memory, DATA_ADDR, AREA);
    outl(&mut nic, &memory, DATA_LENGTH, 0x1000);
    assert_eq!((inl(&mut nic, STATUS), inl(&mut nic, DATA_LENGTH)), (3, 0x1000));
    deliver(&mut nic, &memory, &frame_of(MAC, 0, 60)).unwrap();
    nic.publish(NOW, &memory);
    assert!(nic.interrupts().level);
}

#[test]
fn filters_come_from_the_shared_area() {
    let (mut vic, memory, mut nic) = open(16);
    let group = Mac([0x85, 0, 0, 0, 0, 0]);
    let wants = |nic: &mut Pcnet, vic: &mut Vic| {
        let heard =
            [MAC, PEER, Mac([0xff; 6]), group].map(|to| deliver(nic, &memory, &frame_of(to, 0, 60)).is_ok());
        nic.publish(NOW, &memory);
        vic.consume();
        heard
    };
    assert_eq!(wants(&mut nic, &mut vic), [true, false, true, false]);
    // Place 0 of the table.
    vic.filter(&mut nic, 2 | 4, [1, 0]);
    assert_eq!(wants(&mut nic, &mut vic), [true, false, true, true]);
    vic.filter(&mut nic, 2, [1, 0]);
    assert_eq!(wants(&mut nic, &mut vic), [true, false, true, false]);
    vic.filter(&mut nic, 0, [0, 0]);
    assert_eq!(wants(&mut nic, &mut vic), [true, false, false, false]);
    vic.filter(&mut nic, 1, [0, 0]);
    assert_eq!(wants(&mut nic, &mut vic), [true; 4]);
}

#[test]
fn who_acknowledges_late_is_told_again() {
    let (mut vic, memory, mut nic) = open(4);
    deliver(&mut nic, &memory, &frame_of(MAC, 0, 60)).unwrap();
    nic.publish(NOW, &memory);
    // The driver looked before, and acknowledges now.
    outl(&mut nic, &memory, CMD, 1);
    assert!(!nic.interrupts().level);
    let deadline = nic.deadline().unwrap();
    assert_eq!(deadline, NOW.after(Duration::from_millis(1)));
    nic.expire(deadline, &memory);
    assert!(nic.interrupts().level);
    assert_eq!(vic.consume(), 1);
    outl(&mut nic, &memory, CMD, 1);
    assert_eq!(nic.deadline(), None, "nothing is left to be seen");
}

#[test]
fn areas_that_are_none_are_refused() {
    for (at, value) in [(0, 1), (4, 0), (4, 513), (40, 0), (108, u32::MAX), (116, 0xf_f000)] {
        let vic = Vic::new(4);
        let mut nic = Pcnet::new(config(), hot());
        vic.morph(&mut nic);
        vic.init(&mut nic);
        assert_eq!(inl(&mut nic, STATUS), 3);
        vic.set_word(at, value);
        outl(&mut nic, &vic.memory, DATA_ADDR, AREA);
        outl(&mut nic, &vic.memory, DATA_LENGTH, 0x1000);
        assert_eq!(inl(&mut nic, STATUS), 1, "{at}: {value:x}");
        assert_eq!(inl(&mut nic, DATA_LENGTH), 0, "FreeBSD's and Solaris' drivers look at it");
    }
    let vic = Vic::new(4);
    let mut nic = Pcnet::new(config(), hot());
    vic.morph(&mut nic);
    outl(&mut nic, &vic.memory, DATA_ADDR, 0xffff_fff0);
    outl(&mut nic, &vic.memory, DATA_LENGTH, 0x1000);
    assert_eq!(inl(&mut nic, STATUS), 1);
}

/// Faults of pieces: no length, an address nowhere, more pieces than there is room for.
#[test]
fn bad_pieces_are_dropped() {
    let (mut vic, memory, mut nic) = open(4);
    for fault in 0..3 {
        vic.send(100);
        let at = vic.tx(fault);
        match fault {
            0 => vic.window.store_u16(at + 14, 0),
            1 => vic.window.store_u32(at + 24, 0xf000_0000),
            _ => vic.window.store_u16(at + 14, 0xffff),
        }
    }
    vic.send(100);
    // The third has four pieces of no length behind its two.
    let numbers: Vec<u32> = drain(&mut nic, &memory).iter().map(|bytes| number_of(bytes)).collect();
    assert_eq!(numbers, [2, 3]);
    nic.publish(NOW, &memory);
    assert_eq!(vic.reap(), 4);
}

/// Dies at each store, and its successor at each; the driver goes on meanwhile.
#[test]
fn each_store() {
    let mut deaths = 0;
    for first in 0.. {
        let mut died = false;
        for second in 0.. {
            let mut vic = Vic::new(4);
            let hot = hot();
            let mut nic = Pcnet::new(config(), hot.clone());
            vic.morph(&mut nic);
            vic.init(&mut nic);
            let state = nic.state();
            drop(nic);
            let (mut sent, mut offered) = (Vec::new(), 0);
            let mut live = |vic: &mut Vic, stores: Option<u64>, deliveries: u32| {
                crash::after(stores);
                let end = catch_unwind(AssertUnwindSafe(|| {
                    let mut nic = Pcnet::new(config(), hot.clone());
                    nic.restore(&state);
                    nic.resume(&vic.memory);
                    assert!(nic.interrupts().level);
                    let frames = drain(&mut nic, &vic.memory);
                    sent.extend(frames.iter().map(|bytes| number_of(bytes)));
                    for _ in 0..deliveries {
                        let _ = deliver(&mut nic, &vic.memory, &frame_of(MAC, offered, 90));
                        offered += 1;
                    }
                    nic.publish(NOW, &vic.memory);
                }));
                crash::after(None);
                match end {
                    Ok(()) => false,
                    Err(crashed) if crashed.is::<crash::Crashed>() => true,
                    Err(other) => resume_unwind(other),
                }
            };
            let goes_on = |vic: &mut Vic| {
                vic.consume();
                vic.reap();
                while vic.send(80) {}
            };
            goes_on(&mut vic);
            died |= live(&mut vic, Some(first), 4);
            goes_on(&mut vic);
            let again = live(&mut vic, Some(second), 4);
            for deliveries in [0, 4, 4] {
                goes_on(&mut vic);
                assert!(!live(&mut vic, None, deliveries));
            }
            vic.consume();
            vic.reap();
            assert_eq!(vic.tx_pending, 0);
            let mut next = 0;
            for number in sent {
                assert!(number <= next);
                next = next.max(number + 1);
            }
            assert_eq!(next, vic.number);
            let received: Vec<u32> = vic.received.iter().map(|bytes| number_of(bytes)).collect();
            assert!(received.windows(2).all(|pair| pair[0] < pair[1]), "{received:?}");
            assert!((offered - 8..offered).all(|number| received.contains(&number)), "{received:?}");
            deaths += u32::from(again);
            if !again {
                break;
            }
        }
        if !died {
            break;
        }
    }
    assert!(deaths > 100, "{deaths}");
}
