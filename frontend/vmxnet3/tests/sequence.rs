//! What Linux's driver does, in its order.

mod driver;

use driver::{Guest, LRO, MAC, QUEUES, RXCSUM, RXVLAN, SHARED, Send, Shape, ones, v4};
use frame::{Nic, Refused};
use pci::{Bars, Function, IrqMode, Lasting, Signals};
use request::{FrameFacts, Gso, Rewrite};

#[test]
fn registers_after_power_on() {
    let mut guest = Guest::new(Shape::default());
    assert_eq!(guest.read(1, 0x00), 0x1ff, "revisions 1 to 9");
    assert_eq!(guest.read(1, 0x08), 1);
    assert_eq!(guest.read(1, 0x28), 0x0156_5000);
    assert_eq!(guest.read(1, 0x30), 0x0302);
    // Before revision 7 there are no capability registers.
    assert_eq!((guest.read(1, 0x48), guest.read(1, 0x88)), (0, 0));
    for vector in 0..25 {
        assert_eq!(guest.read(0, vector * 8), 1, "masked");
    }
    assert_eq!(guest.read(0, 25 * 8), 0);
    assert_eq!(guest.command(0xf00d_0002), 10_000 << 16 | 1);
    assert_eq!(guest.command(0xf00d_0003), 0x0156_5000);
    assert_eq!(guest.command(0xf00d_0004), 0x0302);
    assert_eq!(guest.command(0xf00d_0005), 0x07b0);
    assert_eq!(guest.command(0xf00d_0006), 1);
    assert_eq!(guest.command(0xf00d_0007), 0);
    assert_eq!(guest.command(0xf00d_0008), 0, "type auto, mask mode auto");
    assert_eq!(guest.command(0xf00d_0009), 1, "no adaptive rings");
    assert_ne!(guest.command(0xcafe_000b), 0, "no plug-ins");
    assert_ne!(guest.command(0xcafe_000a), 0);
    assert_ne!(guest.command(0xf00d_000a), 0x80, "not before revision 3");
    assert_ne!(guest.command(0x1234_5678), 0);
    // Bytes of a register, and a wide access.
    let mut bytes = [0; 8];
    guest.nic.read(guest.now, 1, 0x28, &mut bytes);
    assert_eq!(bytes, [0x00, 0x50, 0x56, 0x01, 0, 0, 0, 0]);
    guest.nic.read(guest.now, 1, 0x29, &mut bytes[..2]);
    assert_eq!(bytes[..2], [0x50, 0x56]);
}

#[test]
fn revisions_bring_their_commands() {
    let answers = |revision: u8| {
        let mut guest = Guest::new(Shape { revision, ..Shape::default() });
        guest.negotiate();
        [0xf00d_000a, 0xf00d_000c, 0xf00d_000f, 0xf00d_0012, 0xf00d_0013, 0xf00d_0014]
            .map(|command| guest.command(command))
    };
    assert_eq!(answers(1), [1, 1, 1, 1, 1, 1]);
    assert_eq!(answers(3), [128, 1, 1, 1, 1, 1]);
    assert_eq!(answers(4), [128, 3, 1, 1, 1, 1]);
    assert_eq!(answers(6), [128, 3, 0x0808, 1, 1, 1]);
    assert_eq!(answers(7), [128, 3, 0x0808, 0, 1, 1]);
    assert_eq!(answers(9), [128 << 16 | 128, 3, 0x0808, 0, 0, 0]);
}

#[test]
fn the_links_speed_is_that_of_the_uplink() {
    let speed = |revision: u8, mbps: u32| {
        let mut guest = Guest::new(Shape { revision, ..Shape::default() });
        guest.negotiate();
        guest.nic.set_link(guest.now, true, mbps);
        let answer = guest.command(0xf00d_0002);
        assert_eq!(answer & 0xffff, 1);
        let speed = answer >> 16;
        // What Linux makes of it.
        if revision >= 9 && speed < 10_000 { speed * 1000 } else { speed }
    };
    assert_eq!(speed(1, 1_000), 1_000);
    assert_eq!(speed(7, 25_000), 25_000);
    assert_eq!(speed(7, 100_000), 65_535);
    assert_eq!(speed(9, 25_000), 25_000);
    assert_eq!(speed(9, 100_000), 100_000);
    assert_eq!(speed(9, 1_000), 1_000);
    assert_eq!(speed(9, 400_000), 400_000);
}

#[test]
fn frames_go_out_and_are_completed_in_order() {
    let mut guest = Guest::open(Shape::default());
    let frames: Vec<Vec<u8>> = (0..150).map(|n: u32| v4(17, (n * 37 % 1400) as usize, n as u8)).collect();
    let mut sent = 0;
    let mut seen = Vec::new();
    while seen.len() < frames.len() {
        while sent < frames.len() && guest.tx[0].ring.available() >= 4 {
            let bytes = &frames[sent];
            let copied = bytes.len().min(if sent % 2 == 0 { 54 } else { 128 });
            let piece = [0, 500, 700][sent % 3];
            guest.send(0, Send { bytes, copied, piece, id: sent as u64, ..Send::default() });
            sent += 1;
        }
        assert_eq!(guest.nic.waiting(), 1);
        seen.extend(guest.take_all(0));
        assert_eq!(guest.nic.waiting(), 0);
        assert_eq!(guest.reap(0), 0, "nothing is told before `publish`");
        guest.publish();
        assert!(guest.reap(0) > 0);
    }
    assert_eq!(guest.tx[0].completed, (0..150).collect::<Vec<u64>>());
    for (got, wanted) in seen.iter().zip(&frames) {
        assert_eq!((&got.0, got.1), (wanted, FrameFacts::default()));
    }
    // Statistics: unicast packets and bytes, then no errors.
    assert_eq!(guest.command(0xf00d_0001), 0);
    assert_eq!(guest.u64_at(QUEUES + 88 + 16), 150);
    assert_eq!(guest.u64_at(QUEUES + 88 + 24), frames.iter().map(|frame| frame.len() as u64).sum());
    assert_eq!(guest.u64_at(QUEUES + 88 + 64), 0);
}

#[test]
fn a_completion_comes_only_where_it_is_wanted() {
    let mut guest = Guest::open(Shape::default());
    let bytes = v4(17, 100, 1);
    for id in 0..3 {
        guest.send(0, Send { bytes: &bytes, quiet: id < 2, id, ..Send::default() });
    }
    assert_eq!(guest.take_all(0).len(), 3);
    guest.publish();
    let done = guest.tx[0].done.base;
    assert_eq!(guest.u32_at(done), 2, "index of the last descriptor");
    assert_eq!(guest.u32_at(done + 12), 1 << 31);
    assert_eq!(guest.u32_at(done + 28), 0);
}

#[test]
fn offloads_become_facts() {
    let mut guest = Guest::open(Shape::default());
    let tcp = v4(6, 1000, 1);
    guest.send(0, Send { bytes: &tcp, copied: 54, om: 2, hlen: 34, msscof: 50, ..Send::default() });
    // With a tag that the device is to insert.
    let tag = Some(0x2005);
    guest.send(0, Send { bytes: &tcp, copied: 54, om: 2, hlen: 34, msscof: 50, tag, ..Send::default() });
    let frames = guest.take_all(0);
    assert_eq!(frames[0].0, tcp);
    assert_eq!((frames[0].1.checksum_start, frames[0].1.checksum_offset), (34, 16));
    assert_eq!(frames[1].0[..12], tcp[..12]);
    assert_eq!(frames[1].0[12..16], [0x81, 0x00, 0x20, 0x05]);
    assert_eq!(frames[1].0[16..], tcp[12..]);
    assert_eq!((frames[1].1.checksum_start, frames[1].1.checksum_offset), (38, 16));

    // 64 KiB of TCP as Linux leaves it: no header checksum, a pseudo header without a length.
    let mut large = v4(6, 60_000, 2);
    large[24..26].fill(0);
    large[50..52].copy_from_slice(&ones(&[192, 0, 2, 1, 192, 0, 2, 2, 0, 6]).to_be_bytes());
    let send =
        Send { bytes: &large, copied: 54, piece: 16_384, om: 3, hlen: 54, msscof: 1448, ..Send::default() };
    guest.send(0, send);
    let (bytes, facts) = guest.take_all(0).remove(0);
    let wanted = FrameFacts {
        checksum_start: 34,
        checksum_offset: 16,
        checksum_valid: false,
        gso: Gso::TcpV4,
        ecn: false,
        segment: 1448,
        header: 54,
    };
    assert_eq!(facts, wanted);
    assert_eq!(ones(&bytes[14..34]), 0xffff, "a right header checksum");
    let len = (60_020u16).to_be_bytes();
    let pseudo = ones(&[192, 0, 2, 1, 192, 0, 2, 2, 0, 6, len[0], len[1]]);
    assert_eq!(bytes[50..52], pseudo.to_be_bytes());
    assert_eq!(bytes[54..], large[54..]);
    guest.publish();
    assert_eq!(guest.reap(0), 3);
    // 42 segments.
    assert_eq!(guest.command(0xf00d_0001), 0);
    assert_eq!(guest.u64_at(QUEUES + 88), 42);

    // UDP in segments, and a request that is none: too short for more than one.
    let udp = v4(17, 5000, 3);
    guest.send(0, Send { bytes: &udp, copied: 42, om: 3, hlen: 42, msscof: 1200, ..Send::default() });
    let tiny = v4(6, 100, 4);
    guest.send(0, Send { bytes: &tiny, om: 3, hlen: 54, msscof: 1448, ..Send::default() });
    let frames = guest.take_all(0);
    assert_eq!((frames[0].1.gso, frames[0].1.checksum_offset), (Gso::UdpL4, 6));
    assert_eq!((frames[1].1.gso, frames[1].1.checksum_start), (Gso::None, 34));
    assert_eq!(frames[0].0[38..40], 5008u16.to_be_bytes());

    // Contradictions are dropped, and completed.
    let before = guest.nic.counts().drops;
    guest.send(0, Send { bytes: &tiny, om: 2, hlen: 34, msscof: 33, ..Send::default() });
    guest.send(0, Send { bytes: &tiny, om: 2, hlen: 34, msscof: 1000, ..Send::default() });
    guest.send(0, Send { bytes: &tiny, om: 3, hlen: 20, msscof: 1000, ..Send::default() });
    guest.send(0, Send { bytes: &tiny, om: 3, hlen: 54, msscof: 0, ..Send::default() });
    guest.send(0, Send { bytes: &tiny[..10], ..Send::default() });
    assert!(guest.take_all(0).is_empty());
    guest.publish();
    assert_eq!(guest.reap(0), 7);
    let drops = guest.nic.counts().drops;
    assert_eq!(drops.iter().sum::<u64>() - before.iter().sum::<u64>(), 5);
}

#[test]
fn frames_come_in_through_data_ring_head_and_bodies() {
    let mut guest = Guest::open(Shape { mtu: 9000, ..Shape::default() });
    let sizes = [60usize, 128, 129, 600, 1500, 1522, 1523, 5000, 9000];
    let mut wanted = Vec::new();
    for round in 0..20 {
        for size in sizes {
            let frame = v4(17, size - 42, round);
            assert_eq!(guest.deliver(&frame), Ok(size as u32));
            wanted.push(frame);
        }
        assert!(guest.receive(0).is_empty(), "nothing is told before `publish`");
        guest.publish();
        let frames = guest.receive(0);
        for (frame, size) in frames.iter().zip(sizes) {
            let pieces = if size <= 1522 { 1 } else { 1 + (size - 1522).div_ceil(4096) };
            assert_eq!(frame.pieces, pieces);
            let in_data_ring = frame.first[0] >> 16 & 0x3ff == 2;
            assert_eq!(in_data_ring, size <= 128);
            assert_eq!(frame.first[3] >> 24 & 0x7f, 3);
        }
        assert!(frames.into_iter().map(|frame| frame.bytes).eq(wanted.drain(..)));
    }
    assert_eq!(guest.command(0xf00d_0001), 0);
    assert_eq!(guest.u64_at(QUEUES + 256 + 88 + 16), 180);
}

#[test]
fn jumbo_frames_use_the_bodies_of_the_first_ring() {
    let shape = Shape { mtu: 9000, per_packet: 3, rx_size: 63, rx2_size: 32, ..Shape::default() };
    let mut guest = Guest::open(shape);
    for round in 0..100u32 {
        let size = [9000usize, 1000, 2000][round as usize % 3];
        let frame = v4(17, size - 42, round as u8);
        assert_eq!(guest.deliver(&frame), Ok(size as u32));
        guest.publish();
        let frames = guest.receive(0);
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].bytes, frame);
        assert!(frames[0].pieces <= 3);
    }
}

#[test]
fn without_buffers_nothing_changes() {
    let mut guest = Guest::open(Shape::default());
    let frame = v4(17, 1000, 1);
    let mut count = 0;
    while guest.deliver(&frame).is_ok() {
        count += 1;
    }
    assert_eq!(count, 63, "one is kept back");
    assert_eq!(guest.deliver(&frame), Err(Refused::NoBuffer));
    guest.publish();
    assert_eq!(guest.receive(0).len(), 63);
    assert_eq!(guest.deliver(&frame), Ok(1042));
    assert_eq!(guest.deliver(&v4(17, 1600, 1)), Err(Refused::BufferTooSmall), "beyond the MTU");
    assert_eq!(guest.command(0xf00d_0001), 0);
    assert_eq!(guest.u64_at(QUEUES + 256 + 88 + 64), 2, "pktsRxOutOfBuf");
}

#[test]
fn checksums_are_spoken_of_only_where_they_are_known() {
    let mut guest = Guest::open(Shape::default());
    let valid = FrameFacts { checksum_valid: true, ..FrameFacts::default() };
    let undone = FrameFacts { checksum_start: 34, checksum_offset: 16, ..FrameFacts::default() };
    let tcp = v4(6, 400, 1);
    let mut broken = tcp.clone();
    broken[24] ^= 1;
    let mut fragment = v4(17, 400, 1);
    fragment[20] = 0x20;
    assert!(guest.deliver(&tcp).is_ok());
    assert!(guest.deliver_with(&tcp, valid, Rewrite::Keep).is_ok());
    assert!(guest.deliver_with(&tcp, undone, Rewrite::Keep).is_ok());
    let datagram = FrameFacts { checksum_offset: 6, ..undone };
    assert_eq!(guest.deliver_with(&v4(17, 400, 1), datagram, Rewrite::Keep), Err(Refused::Offload));
    assert!(guest.deliver_with(&broken, valid, Rewrite::Keep).is_ok());
    assert!(guest.deliver_with(&fragment, valid, Rewrite::Keep).is_ok());
    assert!(guest.deliver_with(&v4(1, 40, 1), valid, Rewrite::Keep).is_ok());
    guest.publish();
    let seen: Vec<(u32, u32)> = guest
        .receive(0)
        .iter()
        // cnc; tuc, udp, tcp, ipc, v6, v4, frg.
        .map(|frame| (frame.last[0] >> 30 & 1, frame.last[3] >> 16 & 0x7f))
        .collect();
    let (tcp_v4, good) = (0b010_0100, 0b010_1101);
    let wanted = [(1, tcp_v4), (0, good), (0, good), (0, 0b010_0101), (1, 0b110_0000), (1, 0b010_0000)];
    assert_eq!(seen, wanted);
}

#[test]
fn large_frames_pass_whole_where_the_driver_coalesces() {
    let facts = FrameFacts {
        checksum_start: 34,
        checksum_offset: 16,
        gso: Gso::TcpV4,
        segment: 1448,
        header: 54,
        ..FrameFacts::default()
    };
    let large = v4(6, 60_000, 5);
    let mut guest = Guest::open(Shape::default());
    assert_eq!(guest.deliver_with(&large, facts, Rewrite::Keep), Ok(60_054));
    guest.publish();
    let frame = guest.receive(0).remove(0);
    assert_eq!(frame.bytes, large);
    assert_eq!(frame.pieces, 1 + (60_054usize - 1522).div_ceil(4096));
    assert_eq!(frame.first[3] >> 24 & 0x7f, 4, "a completion of the type LRO");
    assert_eq!(frame.first[1] & 0xff, 42, "segments");
    assert_eq!(frame.first[0] >> 26 & 0xf, 0, "no hash where they are");
    assert_eq!(frame.first[3] & 0xffff, 1448);
    assert_eq!(frame.last[3] >> 24 & 0x7f, 3);
    assert_eq!(frame.last[3] >> 16 & 0x7f, 0b010_1101);

    // Revision 1 does not know that type.
    let mut old = Guest::open(Shape { revision: 1, data_bytes: 0, ..Shape::default() });
    assert!(old.deliver_with(&large, facts, Rewrite::Keep).is_ok());
    old.publish();
    assert_eq!(old.receive(0)[0].first[3] >> 24 & 0x7f, 3);

    // Nor does a driver without LRO take them, or what was left undone.
    let undone = FrameFacts { gso: Gso::None, segment: 0, ..facts };
    for features in [0, RXCSUM, LRO] {
        let mut plain = Guest::open(Shape { features, ..Shape::default() });
        assert_eq!(plain.deliver_with(&large, facts, Rewrite::Keep), Err(Refused::Offload));
        let small = v4(6, 400, 1);
        assert_eq!(plain.deliver_with(&small, undone, Rewrite::Keep), Err(Refused::Offload));
        assert!(plain.deliver(&small).is_ok());
    }
    // UDP in segments is nothing that a completion could tell.
    let udp = FrameFacts { gso: Gso::UdpL4, checksum_offset: 6, ..facts };
    assert_eq!(guest.deliver_with(&v4(17, 5000, 1), udp, Rewrite::Keep), Err(Refused::Offload));
    // More pieces than the driver wants to see.
    guest.put_u16(SHARED + 60, 4);
    assert_eq!(guest.command(0xcafe_0001), 0);
    guest.setup();
    guest.put_u16(SHARED + 60, 4);
    assert_eq!(guest.command(0xcafe_0000), 0);
    guest.rx_mode(0x1f);
    assert_eq!(guest.deliver_with(&large, facts, Rewrite::Keep), Err(Refused::BufferTooSmall));
}

#[test]
fn tags_are_stripped_into_the_completion() {
    let plain = v4(17, 300, 1);
    let mut tagged = plain[..12].to_vec();
    tagged.extend([0x81, 0x00, 0x60, 0x05]);
    tagged.extend(&plain[12..]);
    let mut guest = Guest::open(Shape::default());
    assert_eq!(guest.deliver(&tagged), Err(Refused::Filtered), "VLAN 5 is not in the table");
    guest.put(SHARED + 136, &[0x21]);
    assert_eq!(guest.command(0xcafe_0005), 0);
    let keep = FrameFacts::default();
    assert!(guest.deliver(&tagged).is_ok());
    assert!(guest.deliver_with(&plain, keep, Rewrite::Insert(0x6005)).is_ok());
    assert!(guest.deliver_with(&tagged, keep, Rewrite::Strip).is_ok());
    assert!(guest.deliver_with(&tagged, keep, Rewrite::Replace(0x2005)).is_ok());
    assert_eq!(guest.deliver_with(&plain, keep, Rewrite::Strip), Err(Refused::Malformed));
    assert_eq!(guest.deliver_with(&plain, keep, Rewrite::Insert(6)), Err(Refused::Filtered));
    guest.publish();
    let frames = guest.receive(0);
    assert!(frames.iter().all(|frame| frame.bytes == plain));
    let tags: Vec<u32> = frames.iter().map(|frame| frame.last[2] >> 15).collect();
    assert_eq!(tags, [0x6005 << 1 | 1, 0x6005 << 1 | 1, 0, 0x2005 << 1 | 1]);

    // A driver that wants its tags gets them.
    let mut raw = Guest::open(Shape { features: RXCSUM, ..Shape::default() });
    raw.rx_mode(0x10);
    assert!(raw.deliver(&tagged).is_ok());
    assert!(raw.deliver_with(&plain, keep, Rewrite::Insert(0x6005)).is_ok());
    raw.publish();
    let frames = raw.receive(0);
    assert!(frames.iter().all(|frame| frame.bytes == tagged && frame.last[2] >> 15 & 1 == 0));
    // UPDATE_FEATURE switches it on.
    raw.put(SHARED + 24, &[RXVLAN as u8]);
    assert_eq!(raw.command(0xcafe_0009), 0);
    assert!(raw.deliver(&tagged).is_ok());
    raw.publish();
    assert_eq!(raw.receive(0)[0].bytes, plain);
}

#[test]
fn filters_and_the_address_follow_commands() {
    let mut guest = Guest::open(Shape::default());
    let to = |address: [u8; 6]| {
        let mut frame = v4(17, 60, 1);
        frame[..6].copy_from_slice(&address);
        frame
    };
    let group = [0x01, 0x00, 0x5e, 0, 0, 0xfb];
    guest.rx_mode(0x03);
    assert_eq!(guest.deliver(&to(group)), Err(Refused::Filtered));
    guest.put(driver::MULTICAST, &[0x33, 0x33, 0, 0, 0, 1, 0x01, 0x00, 0x5e, 0, 0, 0xfb]);
    guest.put_u16(SHARED + 124, 12);
    guest.put_u64(SHARED + 128, driver::MULTICAST);
    assert_eq!(guest.command(0xcafe_0004), 0);
    assert!(guest.deliver(&to(group)).is_ok());
    assert_eq!(guest.deliver(&to([0xff; 6])), Err(Refused::Filtered));
    let other = [0x00, 0x50, 0x56, 0xaa, 0, 1];
    assert_eq!(guest.deliver(&to(other)), Err(Refused::Filtered));
    guest.write(1, 0x28, 0xaa56_5000);
    guest.write(1, 0x30, 0x0100);
    assert!(guest.deliver(&to(other)).is_ok());
    assert_eq!(guest.deliver(&to(MAC)), Err(Refused::Filtered));
    assert_eq!(guest.command(0xf00d_0003), 0x0156_5000, "the permanent one is another");
}

#[test]
fn quiesce_reset_and_activate_again() {
    let mut guest = Guest::open(Shape::default());
    for round in 0..100 {
        let bytes = v4(17, 200, round);
        guest.send(0, Send { bytes: &bytes, ..Send::default() });
        assert_eq!(guest.take_all(0).len(), 1);
        assert!(guest.deliver(&bytes).is_ok());
        guest.publish();
        assert_eq!((guest.reap(0), guest.receive(0).len()), (1, 1));
        assert_eq!(guest.command(0xcafe_0001), 0);
        assert_eq!(guest.deliver(&bytes), Err(Refused::NoBuffer));
        assert_eq!(guest.nic.waiting(), 0);
        if round % 2 == 0 {
            assert_eq!(guest.command(0xcafe_0002), 0);
        }
        guest.setup();
        assert_eq!(guest.command(0xcafe_0000), 0);
        guest.rx_mode(0x05);
        guest.unmask();
    }
}

#[test]
fn what_cannot_be_activated_is_not() {
    type Spoil = fn(&mut Guest);
    let spoils: [(&str, Spoil); 9] = [
        ("magic", |guest| guest.put_u32(SHARED, 1)),
        ("no queues", |guest| guest.put(SHARED + 62, &[0, 1])),
        ("too many queues", |guest| guest.put(SHARED + 62, &[9, 1])),
        ("short table", |guest| guest.put_u32(SHARED + 52, 511)),
        ("ring beyond memory", |guest| guest.put_u64(QUEUES + 16, u64::MAX - 64)),
        ("ring without entries", |guest| guest.put_u32(QUEUES + 56, 0)),
        ("ring too large", |guest| guest.put_u32(QUEUES + 256 + 56, 4097)),
        ("vector", |guest| guest.put(QUEUES + 72, &[25])),
        ("shared area", |guest| guest.write(1, 0x18, 0xffff)),
    ];
    for (name, spoil) in spoils {
        let mut guest = Guest::new(Shape::default());
        guest.negotiate();
        guest.setup();
        spoil(&mut guest);
        assert_ne!(guest.command(0xcafe_0000), 0, "{name}");
        assert_eq!(guest.deliver(&v4(17, 60, 1)), Err(Refused::NoBuffer));
        guest.setup();
        assert_eq!(guest.command(0xcafe_0000), 0, "{name}, mended");
    }
}

#[test]
fn a_queue_that_errs_stands_still_and_says_why() {
    let mut guest = Guest::open(Shape::default());
    let ring = guest.tx[0].ring.base;
    // A first descriptor without an end.
    guest.put_u64(ring, 0x80_0000);
    guest.put_u32(ring + 8, 64 | 1 << 14);
    assert!(guest.take_all(0).is_empty());
    assert_eq!(guest.nic.waiting(), 0);
    guest.publish();
    assert_eq!(guest.u32_at(SHARED + 696), 2, "TQERR");
    assert_eq!(guest.vectors(), 1 << 2, "the events' vector");
    assert_eq!(guest.command(0xf00d_0000), 0);
    assert_eq!((guest.u32_at(QUEUES + 80), guest.u32_at(QUEUES + 84)), (1, 0x8000_0000));
    assert_eq!(guest.u32_at(QUEUES + 256 + 80), 0);
    guest.write(1, 0x40, 2);
    assert_eq!(guest.u32_at(SHARED + 696), 0);
    // The state outlives a worker.
    let state = guest.nic.state();
    guest.die(&state);
    assert_eq!(guest.command(0xf00d_0000), 0);
    assert_eq!(guest.u32_at(QUEUES + 80), 1);
    // A receive buffer that is too small for a head.
    let ring = guest.rx[0].rings[0].base;
    guest.put_u32(ring + 8, 127 | 1 << 31);
    assert_eq!(guest.deliver(&v4(17, 200, 1)), Err(Refused::Broken));
    guest.pass(1);
    assert_eq!(guest.u32_at(SHARED + 696), 1, "RQERR");
    assert_eq!(guest.command(0xf00d_0000), 0);
    assert_eq!((guest.u32_at(QUEUES + 256 + 80), guest.u32_at(QUEUES + 256 + 84)), (1, 0x8000_0004));
    assert_eq!(guest.command(0xcafe_0001), 0);
    guest.setup();
    assert_eq!(guest.command(0xcafe_0000), 0);
    guest.rx_mode(5);
    assert!(guest.deliver(&v4(17, 200, 1)).is_ok());
}

#[test]
fn the_cable_is_an_event() {
    let mut guest = Guest::open(Shape::default());
    guest.nic.set_link(guest.now, false, 10_000);
    guest.pass(1);
    assert_eq!(guest.u32_at(SHARED + 696), 4);
    assert_eq!(guest.vectors(), 1 << 2);
    assert_eq!(guest.read(1, 0x40), 4);
    guest.write(1, 0x40, 4);
    guest.write(0, 2 * 8, 0);
    assert_eq!(guest.command(0xf00d_0002), 0);
    guest.nic.set_link(guest.now, false, 10_000);
    guest.pass(1);
    assert_eq!((guest.u32_at(SHARED + 696), guest.vectors()), (0, 0), "nothing new");
    guest.nic.set_link(guest.now, true, 2_500);
    guest.publish();
    assert_eq!((guest.u32_at(SHARED + 696), guest.vectors()), (4, 1 << 2));
    assert_eq!(guest.command(0xf00d_0002), 2_500 << 16 | 1);
}

#[test]
fn interrupts_mask_themselves_and_come_once() {
    let mut guest = Guest::open(Shape::default());
    let bytes = v4(17, 60, 1);
    guest.deliver(&bytes).unwrap();
    guest.deliver(&bytes).unwrap();
    guest.publish();
    assert_eq!(guest.vectors(), 1 << 1);
    assert_eq!(guest.read(0, 8), 1, "masked by itself");
    guest.deliver(&bytes).unwrap();
    guest.publish();
    assert_eq!(guest.vectors(), 0);
    guest.write(0, 8, 0);
    assert_eq!(guest.vectors(), 1 << 1, "what came meanwhile");
    guest.write(0, 8, 0);
    assert_eq!(guest.vectors(), 0);

    // INTx: the pin stays until the cause is read.
    guest.nic.set_irq_mode(IrqMode::Intx);
    guest.deliver(&bytes).unwrap();
    guest.publish();
    assert!(guest.nic.interrupts().level);
    assert!(guest.nic.interrupts().level);
    assert_eq!(guest.read(1, 0x38), 1);
    assert_eq!(guest.read(1, 0x38), 0);
    assert!(!guest.nic.interrupts().level);
    // MSI has one message.
    guest.nic.set_irq_mode(IrqMode::Msi);
    guest.write(0, 8, 0);
    guest.deliver(&bytes).unwrap();
    guest.publish();
    assert_eq!(guest.vectors(), 1);
    // With interrupts off nothing is lost.
    guest.nic.set_irq_mode(IrqMode::Off);
    guest.write(0, 8, 0);
    guest.deliver(&bytes).unwrap();
    guest.publish();
    assert_eq!((guest.vectors(), guest.nic.deadline()), (0, None));
    guest.nic.set_irq_mode(IrqMode::MsiX);
    guest.pass(0);
    assert_eq!(guest.vectors(), 1 << 1);
}

#[test]
fn the_function_is_the_one_that_drivers_look_for() {
    use pci::{Bar, Cap};
    let guest = Guest::new(Shape::default());
    let layout = guest.nic.layout();
    assert_eq!((layout.vendor, layout.device, layout.revision), (0x15ad, 0x07b0, 1));
    assert_eq!((layout.subsystem_vendor, layout.subsystem), (0x15ad, 0x07b0));
    assert_eq!((layout.class, layout.interrupt_pin), ([2, 0, 0], 1));
    let sizes = layout.bars.map(Bar::bytes);
    assert_eq!(sizes, [8192, 4096, 8192, 0, 0, 0]);
    let msix = layout.caps.iter().find_map(|(_, cap)| match cap {
        Cap::MsiX { vectors, table_bar, table_offset, pba_bar, pba_offset } => {
            Some((*vectors, *table_bar, *table_offset, *pba_bar, *pba_offset))
        }
        _ => None,
    });
    // 8 to send, 16 to receive, 1 for events.
    assert_eq!(msix, Some((25, 2, 0, 2, 0x1000)));
    assert_eq!(layout.caps.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0x40, 0x48, 0x84, 0x9c]);
    // The transport makes a configuration space of it.
    let space = pci::Config::new(layout, 0);
    let mut id = [0; 4];
    space.read(0, &mut id);
    assert_eq!(id, [0xad, 0x15, 0xb0, 0x07]);
}

#[test]
fn buffers_may_straddle_regions() {
    use guest_memory::{Memory, Region};
    let mut guest = Guest::open(Shape::default());
    // The same memory in two regions, whose border lies in the middle of a buffer that is sent and of
    // one that is received into.
    let whole = guest.memory.clone();
    let parts = |border: u64| {
        let whole = guest.memory.regions()[0].clone();
        let low = Region { len: border, ..whole.clone() };
        let high = Region { guest: border, len: whole.len - border, offset: border, user: border, ..whole };
        Memory::new(vec![low, high], None).unwrap()
    };
    let (sending, receiving) = (parts(0x80_0000 + 500), parts(0xa0_0000 + 700));
    let bytes = v4(17, 1200, 3);
    guest.nic.memory_changed(&sending);
    guest.send(0, Send { bytes: &bytes, ..Send::default() });
    guest.memory = sending;
    assert_eq!(guest.take_all(0), [(bytes.clone(), FrameFacts::default())]);
    guest.publish();
    guest.nic.memory_changed(&receiving);
    guest.memory = receiving;
    assert!(guest.deliver(&bytes).is_ok());
    guest.publish();
    guest.memory = whole;
    assert_eq!((guest.receive(0).remove(0).bytes, guest.reap(0)), (bytes, 1));
}
