//! Frames both ways, as drivers post and consume them.

mod driver;

use std::sync::Arc;
use std::time::Duration;

use driver::*;
use frame::{Body, Frame, Nic, Posted, Refused, Taken};
use guest_memory::Memory;
use pci::{Function, Signals};
use request::{FrameFacts, Gso, Mac, Rewrite};
use standpipe_pcnet::{Chip, Pcnet};

const PEER: Mac = Mac([2, 0, 0, 0, 0, 7]);

fn open(style: u16, log: u32, mode: u16) -> (Driver, Arc<Memory>, Pcnet) {
    let driver = Driver::new(style, log);
    let mut nic = Pcnet::new(config(Chip::Am79C970A), hot());
    driver.open(&mut nic, mode);
    let memory = Arc::clone(&driver.memory);
    (driver, memory, nic)
}

fn counter(nic: &Pcnet, name: &str) -> u64 {
    nic.counters().iter().find(|(at, _)| *at == name).expect("a counter of that name").1
}

#[test]
fn frames_go_out_in_order_lap_after_lap() {
    for style in [0, 1, 2, 3] {
        let (mut driver, memory, mut nic) = open(style, 2, 0);
        let mut next = 0;
        for lap in 0..9 {
            for _ in 0..=lap % 4 {
                assert!(driver.send(PEER, 60 + 150 * (lap as usize % 10)));
            }
            outw(&mut nic, &memory, 0x10, 0x0048);
            for bytes in drain(&mut nic, &memory) {
                assert_eq!(bytes, frame_of(PEER, next, bytes.len()));
                next += 1;
            }
            assert!(driver.reap().is_empty(), "nothing is given back before it was delivered");
            nic.publish(NOW, &memory);
            let seen = driver.reap();
            assert_eq!(seen.len(), lap as usize % 4 + 1);
            assert!(seen.iter().all(|seen| seen.status == 0x0300));
            assert!(nic.interrupts().level);
            assert_eq!(inw(&mut nic, 0x10) & 0x0688, 0x0280, "TINT and INTR");
            outw(&mut nic, &memory, 0x10, 0x0240);
            assert!(!nic.interrupts().level);
        }
        assert_eq!(next, driver.number);
        assert_eq!(nic.waiting(), 0);
    }
}

#[test]
fn frames_come_in_with_room_for_their_check_sequence() {
    for style in [0, 2, 3] {
        let (mut driver, memory, mut nic) = open(style, 2, 0);
        for (number, len) in [(0, 60), (1, 1514), (2, 64), (3, 65), (4, 1000)] {
            assert_eq!(deliver(&mut nic, &memory, &frame_of(MAC, number, len)), Ok(len as u32));
            assert_eq!(driver.consume(), 0);
            nic.publish(NOW, &memory);
            let seen = driver.seen(RX_AT, driver.next_rx);
            let own = if style == 0 { 0 } else { 0x40 };
            assert_eq!(seen.status, 0x0300 | own, "STP ENP PAM");
            assert_eq!(seen.detail & 0xfff, len as u32 + 4);
            assert_eq!(driver.consume(), 1);
            assert_eq!(driver.received[number as usize], frame_of(MAC, number, len));
        }
        // A short one has a pad of zeroes.
        deliver(&mut nic, &memory, &frame_of(MAC, 5, 42)).unwrap();
        nic.publish(NOW, &memory);
        driver.consume();
        let mut wanted = frame_of(MAC, 5, 42);
        wanted.resize(60, 0);
        assert_eq!(driver.received[5], wanted);
    }
}

#[test]
fn a_ring_that_is_full_misses() {
    let (mut driver, memory, mut nic) = open(2, 2, 0);
    write_csr(&mut nic, &memory, 0, 0x0140);
    for number in 0..6 {
        let done = deliver(&mut nic, &memory, &frame_of(MAC, number, 100));
        assert_eq!(done, if number < 4 { Ok(100) } else { Err(Refused::NoBuffer) });
    }
    nic.publish(NOW, &memory);
    assert_eq!(read_csr(&mut nic, &memory, 0), 0x94f3, "ERR MISS RINT INTR IENA RXON TXON STRT INIT");
    assert_eq!(read_csr(&mut nic, &memory, 112), 2);
    assert_eq!(driver.consume(), 4);
    deliver(&mut nic, &memory, &frame_of(MAC, 9, 100)).unwrap();
    nic.publish(NOW, &memory);
    assert_eq!(driver.consume(), 1);
    assert_eq!(number_of(&driver.received[4]), 9);
}

#[test]
fn large_frames_are_chained_both_ways() {
    for style in [0, 2, 3] {
        let (mut driver, memory, mut nic) = open(style, 3, 0);
        // Three buffers of 100 bytes take 296 and the check sequence.
        for index in 0..8 {
            driver.post(RX_AT, index, RX_BUFFERS + index * BUFFER, 100, 0x8000);
        }
        let bytes = frame_of(MAC, 1, 296);
        deliver(&mut nic, &memory, &bytes).unwrap();
        nic.publish(NOW, &memory);
        let states: Vec<u16> = (0..4).map(|index| driver.seen(RX_AT, index).status & 0xff00).collect();
        assert_eq!(states, [0x0200, 0x0000, 0x0100, 0x8000]);
        assert_eq!(driver.seen(RX_AT, 2).detail & 0xfff, 300);
        let mut seen = Vec::new();
        for index in 0..3 {
            seen.extend(driver.read(RX_BUFFERS + index * BUFFER, 100));
        }
        assert_eq!(seen[..296], bytes);
        // More than all of the ring is refused and nothing is used.
        let long = frame_of(MAC, 2, 900);
        assert_eq!(deliver(&mut nic, &memory, &long), Err(Refused::NoBuffer));
        assert_eq!(driver.seen(RX_AT, 3).status & 0x8000, 0x8000);

        // Out: the first descriptor is handed over last.
        let bytes = frame_of(PEER, 7, 250);
        driver.write(TX_BUFFERS, &bytes);
        for (index, at, len, status) in [(2, 200, 50, 0x8100), (1, 20, 180, 0x8000), (0, 0, 20, 0x8200)] {
            assert_eq!(nic.waiting(), 0);
            driver.post(TX_AT, index, TX_BUFFERS + at, len, status);
        }
        driver.next_tx = 3;
        assert_eq!(drain(&mut nic, &memory), [bytes]);
        nic.publish(NOW, &memory);
        let states: Vec<u16> = driver.reap().iter().map(|seen| seen.status).collect();
        assert_eq!(states, [0x0200, 0x0000, 0x0100]);
    }
}

#[test]
fn descriptors_may_come_one_after_another_but_not_never() {
    let (mut driver, memory, mut nic) = open(2, 3, 0);
    driver.write(TX_BUFFERS, &frame_of(PEER, 7, 250));
    driver.post(TX_AT, 0, TX_BUFFERS, 100, 0x8200);
    driver.next_tx = 1;
    assert!(drain(&mut nic, &memory).is_empty());
    nic.publish(NOW, &memory);
    assert_eq!(nic.waiting(), 0, "it is not asked for again and again");
    let deadline = nic.deadline().unwrap();
    driver.post(TX_AT, 1, TX_BUFFERS + 100, 150, 0x8100);
    driver.next_tx = 2;
    assert_eq!(nic.waiting(), 1);
    assert_eq!(drain(&mut nic, &memory), [frame_of(PEER, 7, 250)]);
    nic.publish(NOW, &memory);
    assert_eq!(driver.reap().len(), 2);
    nic.expire(deadline, &memory);
    assert_eq!(counter(&nic, "underflows"), 0);

    // BUFF and UFLO, and the transmitter is off.
    driver.post(TX_AT, 2, TX_BUFFERS, 100, 0x8200);
    driver.next_tx = 3;
    assert!(drain(&mut nic, &memory).is_empty());
    nic.publish(NOW, &memory);
    nic.expire(NOW.after(Duration::from_millis(10)), &memory);
    let seen = driver.reap();
    assert_eq!((seen[0].status, seen[0].detail), (0x4200, 0xc000_0000));
    assert_eq!(read_csr(&mut nic, &memory, 0) & 0x0010, 0);
    assert_eq!(counter(&nic, "underflows"), 1);
}

#[test]
fn faults_of_the_driver_are_dropped_and_counted() {
    let (mut driver, memory, mut nic) = open(2, 4, 0);
    let mut posted = Posted::default();
    // The middle of a frame; a runt; a buffer nowhere; a frame within a frame; too long; then good.
    driver.post(TX_AT, 0, TX_BUFFERS, 100, 0x8100);
    driver.post(TX_AT, 1, TX_BUFFERS, 13, 0x8300);
    driver.post(TX_AT, 2, 0xf000_0000, 100, 0x8300);
    driver.post(TX_AT, 3, TX_BUFFERS, 100, 0x8200);
    driver.post(TX_AT, 4, TX_BUFFERS, 100, 0x8300);
    for _ in 0..4 {
        assert_eq!(nic.transmit(&memory, 0, &mut posted), Taken::Dropped);
    }
    assert_eq!(nic.transmit(&memory, 0, &mut posted), Taken::Frame);
    assert_eq!(nic.transmit(&memory, 0, &mut posted), Taken::Empty);
    nic.publish(NOW, &memory);
    driver.next_tx = 5;
    let states: Vec<u16> = driver.reap().iter().map(|seen| seen.status).collect();
    assert_eq!(states, [0x0100, 0x0300, 0x0300, 0x4200, 0x0300]);
    assert_eq!(read_csr(&mut nic, &memory, 0) & 0x8800, 0x8800, "MERR");
    assert_eq!(counter(&nic, "memory_errors"), 1);
    assert_eq!(counter(&nic, "stray_descriptors"), 1);
    for (name, count) in [("dropped_runt", 1), ("dropped_bad_memory", 1), ("dropped_bad_header", 2)] {
        assert_eq!(counter(&nic, name), count, "{name}");
    }
    let mut names: Vec<_> = nic.counters().iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), nic.counters().len(), "a name for each end");

    // Longer than any IP packet: 16 descriptors of 4,096 bytes are; the rest has no beginning.
    let (driver, memory, mut nic) = open(2, 5, 0);
    for index in 0..20 {
        let status = if index == 0 { 0x8200 } else { 0x8000 };
        driver.post(TX_AT, index, TX_BUFFERS, 4096, status);
    }
    assert_eq!(nic.transmit(&memory, 0, &mut posted), Taken::Dropped);
    for _ in 17..20 {
        assert_eq!(nic.transmit(&memory, 0, &mut posted), Taken::Dropped);
    }
    assert_eq!(nic.transmit(&memory, 0, &mut posted), Taken::Empty);
    // A look at another queue finds nothing.
    assert_eq!(nic.transmit(&memory, 1, &mut posted), Taken::Empty);
}

#[test]
fn pads_and_check_sequences() {
    let (mut driver, memory, mut nic) = open(2, 2, 0);
    // APAD_XMT is set by `open`.
    driver.send(PEER, 42);
    let mut wanted = frame_of(PEER, 0, 42);
    wanted.resize(60, 0);
    assert_eq!(drain(&mut nic, &memory), [wanted]);
    nic.publish(NOW, &memory);
    driver.reap();
    write_csr(&mut nic, &memory, 4, 0x0115);
    driver.send(PEER, 42);
    assert_eq!(drain(&mut nic, &memory), [frame_of(PEER, 1, 42)]);
    nic.publish(NOW, &memory);

    // DXMTFCS: the last four bytes are the sequence, unless ADD_FCS.
    let (mut driver, memory, mut nic) = open(2, 2, 0x0008);
    driver.send(PEER, 104);
    driver.write(TX_BUFFERS + BUFFER, &frame_of(PEER, 1, 100));
    driver.post(TX_AT, 1, TX_BUFFERS + BUFFER, 100, 0xa300);
    let frames = drain(&mut nic, &memory);
    assert_eq!(frames, [frame_of(PEER, 0, 104)[..100].to_vec(), frame_of(PEER, 1, 100)]);

    // ASTRP_RCV: a length field below 46 says what is pad.
    let (mut driver, memory, mut nic) = open(2, 2, 0);
    write_csr(&mut nic, &memory, 4, 0x0515);
    let mut bytes = frame_of(MAC, 3, 60);
    bytes[12..14].copy_from_slice(&[0, 20]);
    deliver(&mut nic, &memory, &bytes).unwrap();
    nic.publish(NOW, &memory);
    assert_eq!(driver.seen(RX_AT, 0).detail & 0xfff, 34);
    assert_eq!(driver.read(RX_BUFFERS, 34), bytes[..34]);
    driver.consume();
    deliver(&mut nic, &memory, &frame_of(MAC, 4, 60)).unwrap();
    nic.publish(NOW, &memory);
    assert_eq!(driver.seen(RX_AT, 1).detail & 0xfff, 64);
}

#[test]
fn babble_is_told_and_sent() {
    let (mut driver, memory, mut nic) = open(2, 2, 0);
    driver.send(PEER, 1514);
    assert_eq!(drain(&mut nic, &memory).len(), 1);
    assert_eq!(read_csr(&mut nic, &memory, 0) & 0x4000, 0);
    driver.send(PEER, 1515);
    assert_eq!(drain(&mut nic, &memory).len(), 1);
    assert_eq!(read_csr(&mut nic, &memory, 0) & 0xc000, 0xc000);
}

#[test]
fn filters() {
    let (_, memory, mut nic) = open(2, 5, 0);
    let broadcast = Mac([0xff; 6]);
    let all_hosts = Mac([0x01, 0x00, 0x5e, 0x00, 0x00, 0x01]);
    let all_nodes = Mac([0x33, 0x33, 0x00, 0x00, 0x00, 0x01]);
    let try_all = |nic: &mut Pcnet| {
        [MAC, PEER, broadcast, all_hosts, all_nodes].map(|to| {
            let done = deliver(nic, &memory, &frame_of(to, 0, 60));
            assert!(matches!(done, Ok(60) | Err(Refused::Filtered)), "{done:?}");
            done.is_ok()
        })
    };
    assert_eq!(try_all(&mut nic), [true, false, true, false, false]);
    // Suspended, the mode and the filter may change (CSR5, SPND).
    let set = |nic: &mut Pcnet, number: u16, value: u16| {
        write_csr(nic, &memory, 5, 1);
        write_csr(nic, &memory, number, value);
        write_csr(nic, &memory, 5, 0);
    };
    for number in 8..12 {
        set(&mut nic, number, 0xffff);
    }
    assert_eq!(try_all(&mut nic), [true, false, true, true, true]);
    set(&mut nic, 15, 0x4000);
    assert_eq!(try_all(&mut nic), [true, false, false, true, true]);
    set(&mut nic, 15, 0x2000);
    assert_eq!(try_all(&mut nic), [false, false, true, true, true]);
    set(&mut nic, 15, 0xe000);
    assert_eq!(try_all(&mut nic), [true; 5]);
}

#[test]
fn what_cannot_be_told_to_this_driver_is_refused() {
    let (_, memory, mut nic) = open(2, 2, 0);
    let bytes = frame_of(MAC, 0, 100);
    let facts = [
        FrameFacts { checksum_start: 34, checksum_offset: 16, ..FrameFacts::default() },
        FrameFacts { gso: Gso::TcpV4, segment: 1448, ..FrameFacts::default() },
    ];
    for facts in facts {
        let frame = Frame { header: &bytes, body: Body::Bytes(&[]), facts };
        assert!(!nic.can_take(&frame));
        assert_eq!(nic.deliver(&memory, &frame, Rewrite::Keep), Err(Refused::Offload));
    }
    let frame = Frame {
        header: &bytes,
        body: Body::Bytes(&[]),
        facts: FrameFacts { checksum_valid: true, ..FrameFacts::default() },
    };
    assert!(nic.can_take(&frame));
    assert_eq!(nic.deliver(&memory, &frame, Rewrite::Insert(5)), Ok(104));
    assert_eq!(deliver(&mut nic, &memory, &frame_of(MAC, 0, 4092)), Err(Refused::BufferTooSmall));
}

/// As `ethtool -t` of Linux's pcnet32: four frames of 75 bytes to itself, posted before the start.
#[test]
fn linux_loopback_test() {
    let (mut driver, memory, mut nic) = open(2, 5, 0);
    write_csr(&mut nic, &memory, 0, 0x0004);
    inw(&mut nic, 0x14);
    write_csr(&mut nic, &memory, 4, 0x0915);
    write_bcr(&mut nic, &memory, 20, 2);
    write_csr(&mut nic, &memory, 0, 0x0001);
    write_csr(&mut nic, &memory, 0, 0x0000);
    write_csr(&mut nic, &memory, 0, 0x0004);
    for _ in 0..4 {
        driver.send(MAC, 75);
    }
    let miicas = read_bcr(&mut nic, &memory, 32);
    write_bcr(&mut nic, &memory, 32, miicas | 2);
    let mode = read_csr(&mut nic, &memory, 15) & 0xfffc;
    write_csr(&mut nic, &memory, 15, mode | 0x0044);
    write_csr(&mut nic, &memory, 0, 0x0002);
    assert!(drain(&mut nic, &memory).is_empty(), "nothing leaves");
    for index in 0..4 {
        let seen = driver.seen(RX_AT, index);
        assert_eq!((seen.status & 0xff00, seen.detail & 0xfff), (0x0300, 79));
        let bytes = driver.read(RX_BUFFERS + index * BUFFER, 79);
        assert_eq!(bytes[..75], frame_of(MAC, index, 75));
        // The remainder over a frame with its right check sequence is always this.
        let crc =
            bytes.iter().fold(u32::MAX, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                    if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
                })
            });
        assert_eq!(crc, 0xdebb_20e3);
    }
    assert_eq!(driver.reap().len(), 4);
    // Nothing from outside meanwhile.
    assert_eq!(deliver(&mut nic, &memory, &frame_of(MAC, 9, 64)), Err(Refused::Filtered));
}

#[test]
fn loopback_finds_a_wrong_check_sequence() {
    // LOOP, INTL, DXMTFCS: the driver's own sequence is checked.
    let (driver, memory, mut nic) = open(2, 2, 0x004c);
    let mut bytes = frame_of(MAC, 0, 64);
    bytes.extend([1, 2, 3, 4]);
    driver.write(TX_BUFFERS, &bytes);
    driver.post(TX_AT, 0, TX_BUFFERS, 68, 0x8300);
    assert!(drain(&mut nic, &memory).is_empty());
    let seen = driver.seen(RX_AT, 0);
    assert_eq!((seen.status & 0xff00, seen.detail & 0xfff), (0x4b00, 68), "ERR CRC STP ENP");
}

#[test]
fn without_a_cable_the_carrier_is_lost() {
    let (mut driver, memory, mut nic) = open(2, 2, 0);
    nic.set_link(NOW, false, 0);
    driver.send(PEER, 100);
    assert!(drain(&mut nic, &memory).is_empty());
    nic.publish(NOW, &memory);
    let seen = driver.reap();
    assert_eq!((seen[0].status, seen[0].detail), (0x4300, 0x0800_0000), "ERR, LCAR");
    assert_eq!(read_csr(&mut nic, &memory, 0) & 0xa000, 0xa000, "CERR");
    assert_eq!(counter(&nic, "lost_carrier"), 1);
}

#[test]
fn interrupts_of_sent_frames_can_be_chosen() {
    let (mut driver, memory, mut nic) = open(2, 2, 0);
    write_csr(&mut nic, &memory, 0, 0x0140);
    // TOKINTD; LTINTEN; both.
    for chosen in [0x8000, 0x4000, 0xc000] {
        write_csr(&mut nic, &memory, 5, chosen);
        driver.send(PEER, 100);
        drain(&mut nic, &memory);
        nic.publish(NOW, &memory);
        assert!(!nic.interrupts().level, "{chosen:x}");
        assert_eq!(driver.reap().len(), 1);
    }
    driver.write(TX_BUFFERS + 3 * BUFFER, &frame_of(PEER, 3, 100));
    driver.post(TX_AT, 3, TX_BUFFERS + 3 * BUFFER, 100, 0x9300);
    drain(&mut nic, &memory);
    nic.publish(NOW, &memory);
    assert!(nic.interrupts().level);
    // The bit is MORE on the way back, and is clear.
    assert_eq!(driver.seen(TX_AT, 3).status, 0x0300);
}

#[test]
fn a_driver_that_does_not_demand_is_polled() {
    let (mut driver, memory, mut nic) = open(2, 2, 0);
    let first = nic.deadline().expect("the ring is looked at");
    assert_eq!(first, NOW.after(Duration::from_millis(2)));
    nic.expire(first, &memory);
    assert_eq!(nic.deadline(), Some(first.after(Duration::from_millis(4))));
    let mut at = first;
    for _ in 0..20 {
        at = nic.deadline().unwrap();
        nic.expire(at, &memory);
    }
    assert_eq!(nic.deadline(), Some(at.after(Duration::from_millis(128))));
    driver.send(PEER, 100);
    let at = nic.deadline().unwrap();
    nic.expire(at, &memory);
    assert_eq!((nic.waiting(), nic.deadline()), (1, Some(at.after(Duration::from_millis(2)))));
    // One that demands is not.
    write_csr(&mut nic, &memory, 0, 0x0048);
    assert_eq!(nic.deadline(), None);
    // With TXDPOLL nothing is looked at unasked.
    assert_eq!(drain(&mut nic, &memory).len(), 1);
    write_csr(&mut nic, &memory, 4, 0x1915);
    driver.send(PEER, 100);
    assert_eq!(nic.waiting(), 0);
    write_csr(&mut nic, &memory, 0, 0x0048);
    assert_eq!(nic.waiting(), 1);
}

#[test]
fn suspended_and_stopped_adapters_rest() {
    let (mut driver, memory, mut nic) = open(2, 2, 0);
    driver.send(PEER, 100);
    write_csr(&mut nic, &memory, 5, 1);
    assert_eq!(nic.waiting(), 0);
    assert_eq!(deliver(&mut nic, &memory, &frame_of(MAC, 0, 60)), Err(Refused::NoBuffer));
    assert_eq!(read_csr(&mut nic, &memory, 112), 0, "that is no miss");
    write_csr(&mut nic, &memory, 5, 0);
    assert_eq!(drain(&mut nic, &memory).len(), 1);
    nic.publish(NOW, &memory);
    driver.reap();
    driver.send(PEER, 100);
    write_csr(&mut nic, &memory, 0, 4);
    assert_eq!(nic.waiting(), 0);
    assert_eq!(deliver(&mut nic, &memory, &frame_of(MAC, 0, 60)), Err(Refused::NoBuffer));
    assert!(!nic.interrupts().level);
    // Started again without initialization it goes on where it was.
    write_csr(&mut nic, &memory, 0, 2);
    assert_eq!(drain(&mut nic, &memory).len(), 1);
}

#[test]
fn without_bus_mastering_nothing_is_touched() {
    let (mut driver, memory, mut nic) = open(2, 2, 0);
    driver.send(PEER, 100);
    write_csr(&mut nic, &memory, 4, 0x1915);
    write_csr(&mut nic, &memory, 0, 0x0048);
    nic.memory_changed(&Memory::empty());
    assert_eq!(nic.waiting(), 0);
    assert!(drain(&mut nic, &Memory::empty()).is_empty());
    nic.publish(NOW, &Memory::empty());
    nic.memory_changed(&memory);
    assert_eq!(nic.waiting(), 1, "the demand stands");
    assert_eq!(drain(&mut nic, &memory).len(), 1);
}
