//! Frames both ways with 8254x descriptors.

mod driver;

use driver::*;
use frame::{Body, Frame, Nic, Refused, Taken};
use pci::{Function, IrqMode, Lasting, Signals};
use request::{FrameFacts, Gso, Rewrite};
use standpipe_e1000::Model;

const RS: u64 = 8;
const EOP: u64 = 1;
const IFCS: u64 = 2;
const DEXT: u64 = 0x20;
const VLE: u64 = 0x40;
const TSE: u64 = 4;

fn open() -> Bench {
    let mut bench = Bench::new(Model::I82540em);
    bench.nic.set_irq_mode(IrqMode::Intx);
    bench.open();
    bench.read(ICR);
    bench
}

fn post_receive(bench: &mut Bench, count: u16) {
    for index in 0..count {
        bench.set_descriptor(RX_RING, index, [RX_BUFFERS + u64::from(index) * BUFFER, 0]);
    }
    bench.write(RDT, count.into());
}

/// TCP over IPv4 with options absent: 54 bytes of headers.
fn tcp4(payload: usize) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    bytes.extend_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend_from_slice(&[0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
    bytes.extend((0..payload).map(|nth| nth as u8));
    bytes
}

/// The Internet checksum, written down once more.
fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// IPv4 pseudo header of `tcp4`, without and with the length.
fn pseudo(len: u32) -> u16 {
    sum(&[10, 0, 0, 1, 10, 0, 0, 2, 0, 6], len)
}

#[test]
fn legacy_frames_go_out_in_pieces_and_are_reported() {
    let mut bench = open();
    let frame = numbered(7, 300);
    bench.put(TX_BUFFERS, &frame);
    // Two pieces, the second alone reports.
    bench.set_descriptor(TX_RING, 0, [TX_BUFFERS, 100 | IFCS << 24]);
    bench.set_descriptor(TX_RING, 1, [TX_BUFFERS + 100, 200 | (EOP | IFCS | RS) << 24]);
    bench.write(TDT, 1);
    assert!(bench.sent().is_empty(), "not all of it is posted");
    assert_eq!(bench.nic.waiting(), 0, "and there is nothing to come back for");
    bench.write(TDT, 2);
    assert_eq!(bench.nic.waiting(), 1);
    assert_eq!(bench.sent(), [frame]);
    assert_eq!(bench.descriptor(TX_RING, 0)[1] >> 32, 0, "no report was asked for");
    assert_eq!(bench.descriptor(TX_RING, 1)[1] >> 32, 1, "DD");
    assert_eq!(bench.read(TDH), 2);
    assert!(bench.nic.interrupts().level);
    assert_eq!(bench.read(ICR), 3, "TXDW, TXQE");
    // GPTC, TPT, 64-bit octets with FCS; cleared by the read.
    assert_eq!((bench.read(0x4080), bench.read(0x40d4), bench.read(0x40f4)), (1, 1, 1));
    assert_eq!((bench.read(0x4090), bench.read(0x4094)), (304, 0));
    assert_eq!((bench.read(0x4080), bench.read(0x4090)), (0, 0));
}

#[test]
fn reports_can_wait_for_the_delay_timer() {
    let mut bench = open();
    bench.write(0x3820, 64);
    bench.write(0x382c, 100);
    bench.put(TX_BUFFERS, &numbered(1, 64));
    for index in 0..3 {
        bench.set_descriptor(TX_RING, index, [TX_BUFFERS, 64 | (EOP | IFCS | RS | 0x80) << 24]);
        bench.write(TDT, u32::from(index) + 1);
        bench.write(IMC, 2);
        assert_eq!(bench.sent().len(), 1);
        assert_eq!(bench.descriptor(TX_RING, index)[1] >> 32, 1, "DD is there at once");
        assert!(!bench.nic.interrupts().level);
        bench.pass(40 * 1_024);
    }
    // 64 units after the last, or 100 after the first: the latter, 20 units ago.
    assert!(bench.nic.interrupts().level);
    assert_eq!(bench.read(ICR) & 1, 1);
}

#[test]
fn tags_are_put_in_where_descriptors_say_so() {
    let mut bench = open();
    let frame = numbered(9, 100);
    bench.put(TX_BUFFERS, &frame);
    let descriptor = [TX_BUFFERS, 100 | (EOP | IFCS | RS | VLE) << 24 | 0x6064 << 48];
    bench.set_descriptor(TX_RING, 0, descriptor);
    bench.set_descriptor(TX_RING, 1, descriptor);
    bench.write(TDT, 1);
    assert_eq!(bench.sent(), vec![frame.clone()], "not without CTRL.VME");
    let ctrl = bench.read(CTRL);
    bench.write(CTRL, ctrl | 1 << 30);
    bench.write(TDT, 2);
    let tagged = [&frame[..12], &[0x81, 0, 0x60, 0x64], &frame[12..]].concat();
    assert_eq!(bench.sent(), [tagged]);
}

#[test]
fn a_checksum_context_becomes_facts() {
    let mut bench = open();
    let mut frame = tcp4(100);
    let seed = pseudo(120);
    frame[50..52].copy_from_slice(&seed.to_be_bytes());
    frame[16..18].copy_from_slice(&140u16.to_be_bytes());
    bench.put(TX_BUFFERS, &frame);
    // IPCSS 14, IPCSO 24, IPCSE 33; TUCSS 34, TUCSO 50, TUCSE 0.
    let context = [14 | 24 << 8 | 33 << 16 | 34 << 32 | 50 << 40, (DEXT | 3) << 24];
    bench.set_descriptor(TX_RING, 0, context);
    let data = [TX_BUFFERS, 154 | 1 << 20 | (EOP | IFCS | RS | DEXT) << 24 | 3 << 40];
    bench.set_descriptor(TX_RING, 1, data);
    bench.write(TDT, 2);
    assert_eq!(bench.nic.transmit(&bench.memory, 0, &mut bench.posted), Taken::Frame);
    let facts = bench.posted.facts;
    assert_eq!((facts.checksum_start, facts.checksum_offset, facts.gso), (34, 16, Gso::None));
    let bytes = whole(&bench.memory, &bench.posted);
    assert_eq!(sum(&bytes[14..34], 0), 0xffff, "the IP header is whole");
    assert_eq!(bytes[50..52], seed.to_be_bytes());
    bench.publish();
    // The context outlives the process.
    let state = bench.nic.state();
    bench.successor(&state);
    bench.set_descriptor(TX_RING, 2, data);
    bench.write(TDT, 3);
    assert_eq!(bench.nic.transmit(&bench.memory, 0, &mut bench.posted), Taken::Frame);
    assert_eq!((bench.posted.facts.checksum_start, bench.posted.facts.checksum_offset), (34, 16));
    // What facts cannot say is done here: an end before the frame's.
    let context = [14 | 24 << 8 | 33 << 16 | 34 << 32 | 50 << 40 | 143 << 48, (DEXT | 3) << 24];
    bench.set_descriptor(TX_RING, 3, context);
    bench.set_descriptor(TX_RING, 4, data);
    bench.write(TDT, 5);
    assert_eq!(bench.nic.transmit(&bench.memory, 0, &mut bench.posted), Taken::Frame);
    assert_eq!(bench.posted.facts, FrameFacts::default());
    let bytes = whole(&bench.memory, &bench.posted);
    assert_eq!(sum(&bytes[34..144], u32::from(seed)), 0xffff, "seeded");
}

#[test]
fn a_legacy_checksum_becomes_facts() {
    let mut bench = open();
    bench.put(TX_BUFFERS, &tcp4(50));
    // CSO 50, CSS 34, IC.
    bench.set_descriptor(TX_RING, 0, [TX_BUFFERS, 104 | 50 << 16 | (EOP | IFCS | RS | 4) << 24 | 34 << 40]);
    bench.write(TDT, 1);
    assert_eq!(bench.nic.transmit(&bench.memory, 0, &mut bench.posted), Taken::Frame);
    assert_eq!((bench.posted.facts.checksum_start, bench.posted.facts.checksum_offset), (34, 16));
}

#[test]
fn segmentation_passes_whole_with_lengths_put_in() {
    let mut bench = open();
    let mut frame = tcp4(40_000);
    // As Linux leaves it: no length, no header checksum, a pseudo header without the length.
    frame[50..52].copy_from_slice(&pseudo(0).to_be_bytes());
    frame[47] = 0x98;
    let len = frame.len() as u64;
    bench.put(TX_BUFFERS, &frame);
    let context = [
        14 | 24 << 8 | 33 << 16 | 34 << 32 | 50 << 40,
        40_000 | (DEXT | TSE | RS | 3) << 24 | 54 << 40 | 1_448 << 48,
    ];
    bench.set_descriptor(TX_RING, 0, context);
    let command = IFCS | DEXT | TSE;
    bench.set_descriptor(TX_RING, 1, [TX_BUFFERS, 54 | 1 << 20 | command << 24 | 3 << 40]);
    bench.set_descriptor(TX_RING, 2, [TX_BUFFERS + 54, 4_000 | 1 << 20 | command << 24 | 3 << 40]);
    let last = (command | EOP | RS) << 24;
    bench.set_descriptor(TX_RING, 3, [TX_BUFFERS + 4_054, (len - 4_054) | 1 << 20 | last | 3 << 40]);
    bench.write(TDT, 4);
    assert_eq!(bench.nic.transmit(&bench.memory, 0, &mut bench.posted), Taken::Frame);
    let facts = bench.posted.facts;
    assert_eq!((facts.gso, facts.segment, facts.header), (Gso::TcpV4, 1_448, 54));
    assert_eq!((facts.checksum_start, facts.checksum_offset, facts.ecn), (34, 16, true));
    let bytes = whole(&bench.memory, &bench.posted);
    assert_eq!(bytes[16..18], 40_040u16.to_be_bytes());
    assert_eq!(sum(&bytes[14..34], 0), 0xffff);
    assert_eq!(bytes[50..52], pseudo(40_020).to_be_bytes());
    assert_eq!(bytes[54..], frame[54..]);
    bench.publish();
    assert_eq!(bench.descriptor(TX_RING, 0)[1] >> 32 & 1, 1, "the context reports, too");
    assert_eq!(bench.descriptor(TX_RING, 3)[1] >> 32 & 1, 1);
    // One that is no longer than a segment is a plain frame.
    bench.set_descriptor(TX_RING, 4, [TX_BUFFERS, 600 | 1 << 20 | last | 3 << 40]);
    bench.write(TDT, 5);
    assert_eq!(bench.nic.transmit(&bench.memory, 0, &mut bench.posted), Taken::Frame);
    assert_eq!((bench.posted.facts.gso, bench.posted.facts.segment), (Gso::None, 0));
    assert_eq!(bench.posted.facts.checksum_start, 34);
}

#[test]
fn a_drivers_own_fcs_is_cut_off() {
    let mut bench = open();
    let frame = numbered(3, 104);
    bench.put(TX_BUFFERS, &frame);
    bench.set_descriptor(TX_RING, 0, [TX_BUFFERS, 104 | (EOP | RS) << 24]);
    bench.set_descriptor(TX_RING, 1, [TX_BUFFERS, 10 | (EOP | IFCS | RS) << 24]);
    bench.set_descriptor(TX_RING, 2, [1 << 40, 100 | (EOP | IFCS | RS) << 24]);
    bench.write(TDT, 3);
    assert_eq!(bench.sent(), [frame[..100].to_vec()]);
    let counters = bench.nic.counters();
    assert!(counters.contains(&("dropped_runt", 1)));
    assert!(counters.contains(&("dropped_bad_memory", 1)));
    assert_eq!(bench.descriptor(TX_RING, 2)[1] >> 32, 1, "their descriptors end all the same");
}

#[test]
fn frames_come_in_with_status_length_and_padding() {
    let mut bench = open();
    post_receive(&mut bench, 4);
    let frame = numbered(1, 40);
    assert_eq!(bench.deliver(&frame), Ok(40));
    assert_eq!(bench.descriptor(RX_RING, 0)[1] >> 32 & 1, 0, "not shown yet");
    bench.publish();
    let second = bench.descriptor(RX_RING, 0)[1];
    assert_eq!(second & 0xffff, 60, "padded");
    assert_eq!(second >> 32, 0x07, "DD, EOP, IXSM");
    let mut padded = frame.clone();
    padded.resize(60, 0);
    assert_eq!(bench.get(RX_BUFFERS, 60), padded);
    assert_eq!(bench.read(RDH), 1);
    assert!(bench.nic.interrupts().level);
    assert_eq!(bench.read(ICR) & 0x80, 0x80);
    // With FCS: four bytes more. In four buffers of 256.
    bench.write(RCTL, 1 << 1 | 1 << 15 | 3 << 16);
    assert_eq!(bench.deliver(&numbered(2, 509)), Ok(509));
    bench.publish();
    let lengths = [1, 2, 3].map(|index| bench.descriptor(RX_RING, index)[1]);
    assert_eq!(lengths.map(|second| second & 0xffff), [256, 256, 1]);
    assert_eq!(lengths.map(|second| second >> 32 & 3), [1, 1, 3], "DD, and EOP at the end");
    assert_eq!(bench.deliver(&frame), Err(Refused::NoBuffer));
    assert_eq!(bench.read(0x40a0), 1, "RNBC");
    assert_eq!((bench.read(0x4074), bench.read(0x4078)), (2, 2), "good, and broadcast");
}

#[test]
fn long_frames_need_long_packet_enable() {
    let mut bench = open();
    post_receive(&mut bench, 4);
    assert_eq!(bench.deliver(&numbered(1, 1_518)), Ok(1_518));
    assert_eq!(bench.deliver(&numbered(1, 1_519)), Err(Refused::BufferTooSmall));
    let rctl = bench.read(RCTL);
    bench.write(RCTL, rctl | 1 << 5);
    assert_eq!(bench.deliver(&numbered(1, 4_000)), Ok(4_000));
}

#[test]
fn filters_are_as_the_registers_say() {
    let mut bench = open();
    post_receive(&mut bench, 7);
    let to = |address: [u8; 6]| [&address[..], &numbered(1, 100)[6..]].concat();
    let other = to([2, 0, 0, 0, 0, 77]);
    let group = to([0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb]);
    assert_eq!(bench.deliver(&to(MAC)), Ok(100));
    assert_eq!(bench.deliver(&other), Err(Refused::Filtered));
    assert_eq!(bench.deliver(&group), Err(Refused::Filtered));
    // Hash with MO 00b: bits 47:36, of bytes 00 FB: FB0h, word 125, bit 16.
    bench.write(0x5200 + 4 * 125, 1 << 16);
    assert_eq!(bench.deliver(&group), Ok(100));
    bench.publish();
    assert_eq!(bench.descriptor(RX_RING, 1)[1] >> 32 & 0x83, 0x83, "PIF");
    let rctl = bench.read(RCTL);
    bench.write(RCTL, rctl & !(1 << 15));
    assert_eq!(bench.deliver(&numbered(1, 100)), Err(Refused::Filtered), "BAM");
    bench.write(RCTL, rctl | 1 << 3);
    assert_eq!(bench.deliver(&other), Ok(100), "UPE");
    // VLAN 100 only, and its tag out of the frame.
    bench.write(RCTL, rctl | 1 << 18);
    bench.write(0x5600 + 4 * 3, 1 << 4);
    let ctrl = bench.read(CTRL);
    bench.write(CTRL, ctrl | 1 << 30);
    let plain = to(MAC);
    let tagged = |tag: u8| [&plain[..12], &[0x81, 0, 0x60, tag], &plain[12..]].concat();
    assert_eq!(bench.deliver(&tagged(101)), Err(Refused::Filtered));
    assert_eq!(bench.deliver(&tagged(100)), Ok(100));
    // A tag that the switch puts in counts.
    let frame = Frame { header: &plain[..20], body: Body::Bytes(&plain[20..]), facts: FrameFacts::default() };
    assert_eq!(bench.nic.deliver(&bench.memory, &frame, Rewrite::Insert(100)), Ok(100));
    bench.publish();
    let second = bench.descriptor(RX_RING, 3)[1];
    assert_eq!((second >> 48, second & 0xffff, second >> 32 & 0xb), (0x6064, 100, 0xb), "VP");
    assert_eq!(bench.get(RX_BUFFERS + 3 * BUFFER, 100), plain);
    assert_eq!(bench.get(RX_BUFFERS + 4 * BUFFER, 100), plain);
    // RCTL off: nothing.
    bench.write(RCTL, 0);
    assert_eq!(bench.deliver(&plain), Err(Refused::Filtered));
}

#[test]
fn checksums_are_finished_and_vouched_for() {
    let mut bench = open();
    post_receive(&mut bench, 4);
    bench.write(0x5000, 0x300);
    let mut frame = tcp4(333);
    frame[..6].fill(0xff);
    frame[16..18].copy_from_slice(&373u16.to_be_bytes());
    let header = !sum(&frame[14..34], 0);
    frame[24..26].copy_from_slice(&header.to_be_bytes());
    frame[50..52].copy_from_slice(&pseudo(353).to_be_bytes());
    let facts = FrameFacts { checksum_start: 34, checksum_offset: 16, ..FrameFacts::default() };
    assert_eq!(bench.deliver_with(&frame, facts), Ok(387));
    bench.publish();
    assert_eq!(bench.descriptor(RX_RING, 0)[1] >> 32, 0x63, "IPCS, TCPCS, EOP, DD");
    let bytes = bench.get(RX_BUFFERS, 387);
    assert_eq!(sum(&bytes[34..], u32::from(pseudo(353))), 0xffff, "whole");
    // Nobody looked at this one's transport checksum.
    assert_eq!(bench.deliver(&bytes), Ok(387));
    // And this one's header is bad.
    frame[24] ^= 1;
    assert_eq!(bench.deliver_with(&frame, facts), Ok(387));
    bench.publish();
    assert_eq!(bench.descriptor(RX_RING, 1)[1] >> 32, 0x43);
    assert_eq!(bench.descriptor(RX_RING, 2)[1] >> 32, 0x07);
    let facts = FrameFacts { gso: Gso::TcpV4, segment: 1_448, ..facts };
    assert_eq!(bench.deliver_with(&frame, facts), Err(Refused::Offload), "segments are made elsewhere");
}

#[test]
fn receive_interrupts_can_wait_and_low_buffers_are_told() {
    let mut bench = open();
    bench.write(0x2820, 32);
    bench.write(0x282c, 50);
    post_receive(&mut bench, 6);
    bench.deliver(&numbered(1, 100)).unwrap();
    bench.publish();
    assert!(!bench.nic.interrupts().level);
    bench.pass(30 * 1_024);
    bench.deliver(&numbered(2, 100)).unwrap();
    bench.publish();
    assert!(bench.nic.interrupts().level, "four of eight are left: RXDMT0 is not delayed");
    assert_eq!(bench.read(ICR), 0x10);
    bench.pass(20 * 1_024);
    assert!(bench.nic.interrupts().level, "RADV");
    assert_eq!(bench.read(ICR), 0x80);
    assert_eq!(bench.nic.deadline(), None);
}

#[test]
fn the_loopback_test_of_ethtool_passes() {
    for mac in [false, true] {
        let mut bench = open();
        if mac {
            bench.write(RCTL, 1 << 1 | 1 << 15 | 1 << 6);
        } else {
            bench.write(RCTL, 1 << 1 | 1 << 15);
            bench.phy_write(16, 0x0808);
            bench.phy_write(0, 0x9140);
            bench.phy_write(0, 0x8140);
            bench.phy_write(0, 0x4140);
        }
        post_receive(&mut bench, 7);
        let frame = numbered(5, 1_024);
        for index in 0..5 {
            bench.put(TX_BUFFERS + u64::from(index) * BUFFER, &frame);
            let at = TX_BUFFERS + u64::from(index) * BUFFER;
            bench.set_descriptor(TX_RING, index, [at, 1_024 | (EOP | IFCS | RS) << 24]);
        }
        bench.write(TDT, 5);
        assert!(bench.sent().is_empty(), "nothing leaves");
        for index in 0..5 {
            assert_eq!(bench.get(RX_BUFFERS + u64::from(index) * BUFFER, 1_024), frame);
            assert_eq!(bench.descriptor(RX_RING, index)[1] & 0xffff, 1_028);
        }
        assert_eq!(bench.deliver(&frame), Err(Refused::Filtered), "and nothing comes in");
    }
}

#[test]
fn staged_completions_outlive_a_change_of_the_memory_map() {
    let mut bench = open();
    post_receive(&mut bench, 4);
    bench.put(TX_BUFFERS, &numbered(1, 64));
    bench.set_descriptor(TX_RING, 0, [TX_BUFFERS, 64 | (EOP | IFCS | RS) << 24]);
    bench.write(TDT, 1);
    assert_eq!(bench.nic.transmit(&bench.memory, 0, &mut bench.posted), Taken::Frame);
    bench.deliver(&numbered(1, 100)).unwrap();
    let (now, nothing) = (bench.now, guest_memory::Memory::empty());
    bench.nic.memory_changed(&nothing);
    bench.nic.publish(now, &nothing);
    assert_eq!(bench.descriptor(TX_RING, 0)[1] >> 32, 0);
    // A doorbell meanwhile leads nowhere, and nobody is to come back for it.
    bench.write(TDT, 2);
    assert_eq!(bench.nic.transmit(&nothing, 0, &mut bench.posted), Taken::Empty);
    assert_eq!(bench.nic.waiting(), 0);
    bench.nic.memory_changed(&bench.memory);
    assert_eq!(bench.nic.waiting(), 1);
    bench.publish();
    assert_eq!(bench.descriptor(TX_RING, 0)[1] >> 32, 1);
    assert_eq!(bench.descriptor(RX_RING, 0)[1] >> 32, 7);
}

#[test]
fn without_a_link_frames_are_dropped_and_their_descriptors_end() {
    let mut bench = open();
    let now = bench.now;
    bench.nic.set_link(now, false, 0);
    bench.put(TX_BUFFERS, &numbered(1, 64));
    bench.set_descriptor(TX_RING, 0, [TX_BUFFERS, 64 | (EOP | IFCS | RS) << 24]);
    bench.write(TDT, 1);
    assert!(bench.sent().is_empty());
    assert_eq!(bench.descriptor(TX_RING, 0)[1] >> 32, 1);
    assert!(bench.nic.counters().contains(&("dropped_link_down", 1)));
}
