//! Many queues, their hashes, moderation and doorbells.

mod driver;

use driver::{COALESCE, Guest, QUEUES, RSS, RSS_CONF, RXCSUM, SHARED, Send, Shape, v4};
use frame::Nic;
use pci::{Lasting, Signals};

const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
    0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
    0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

fn wide() -> Guest {
    let shape = Shape { tx_queues: 8, rx_queues: 8, features: RXCSUM | RSS, ..Shape::default() };
    let mut guest = Guest::new(shape);
    guest.negotiate();
    guest.setup();
    // Types, Toeplitz, sizes, key, table.
    guest.put(RSS_CONF, &[0xf, 0, 1, 0, 40, 0, 32, 0]);
    guest.put(RSS_CONF + 8, &KEY);
    let table: Vec<u8> = (0..32).map(|entry| entry % 8).collect();
    guest.put(RSS_CONF + 48, &table);
    guest.put(SHARED + 648, &[1, 0, 0, 0, 176, 0, 0, 0]);
    guest.put_u64(SHARED + 656, RSS_CONF);
    assert_eq!(guest.command(0xcafe_0000), 0);
    guest.rx_mode(0x05);
    guest.unmask();
    guest
}

/// From 66.9.149.187 port 2794 to 161.142.100.80 port 1766, of Microsoft's table.
fn published(protocol: u8) -> Vec<u8> {
    let mut frame = v4(protocol, 100, 1);
    frame[26..34].copy_from_slice(&[66, 9, 149, 187, 161, 142, 100, 80]);
    frame[34..38].copy_from_slice(&[0x0a, 0xea, 0x06, 0xe6]);
    frame
}

#[test]
fn hashes_choose_queues_and_are_told() {
    let mut guest = wide();
    assert!(guest.deliver(&published(6)).is_ok());
    assert!(guest.deliver(&published(17)).is_ok());
    guest.publish();
    // 51CCC178h and 323E8FC2h, over 32 entries: 18h and 2.
    let tcp = guest.receive(0).remove(0);
    assert_eq!((tcp.first[1], tcp.first[0] >> 26 & 0xf), (0x51cc_c178, 2));
    let udp = guest.receive(2).remove(0);
    assert_eq!((udp.first[1], udp.first[0] >> 26 & 0xf), (0x323e_8fc2, 1));
    assert_eq!(guest.vectors(), 1 << 8 | 1 << 10);

    // UDP's ports count when the driver says so and has chosen the capability.
    guest.put_u32(SHARED + 704, 0xf);
    assert_eq!(guest.command(0xcafe_0010), 0);
    assert_eq!(guest.command(0xf00d_000c), 3);
    guest.write(1, 0x48, 1);
    assert_eq!(guest.command(0xcafe_0010), 0);
    assert_eq!(guest.command(0xf00d_000c), 0xf);
    assert!(guest.deliver(&published(17)).is_ok());
    guest.publish();
    let udp = guest.receive(0).remove(0);
    assert_eq!((udp.first[1], udp.first[0] >> 26 & 0xf), (0x51cc_c178, 5));

    // Another table.
    guest.put(RSS_CONF + 48, &[7; 32]);
    assert_eq!(guest.command(0xcafe_0006), 0);
    assert!(guest.deliver(&published(6)).is_ok());
    guest.publish();
    assert_eq!(guest.receive(7).len(), 1);
    // It outlives the worker.
    let state = guest.nic.state();
    guest.die(&state);
    assert!(guest.deliver(&published(6)).is_ok());
    guest.publish();
    assert_eq!(guest.receive(7).len(), 1);
}

#[test]
fn transmit_queues_are_apart() {
    let mut guest = wide();
    let bytes = v4(17, 100, 1);
    for queue in [0, 3, 7] {
        guest.send(queue, Send { bytes: &bytes, id: 1, ..Send::default() });
    }
    assert_eq!(guest.nic.waiting(), 0b1000_1001);
    assert_eq!(guest.take_all(3).len(), 1);
    assert_eq!(guest.nic.waiting(), 0b1000_0001);
    guest.publish();
    assert_eq!((guest.reap(0), guest.reap(3), guest.reap(7)), (0, 1, 0));
    assert!(guest.take_all(8).is_empty());
}

#[test]
fn doorbells_are_switched_by_the_threshold() {
    let mut guest = wide();
    let threshold = |guest: &Guest, queue: u64| guest.u32_at(QUEUES + queue * 256 + 4);
    assert_eq!(threshold(&guest, 7), 0);
    guest.nic.set_doorbells(guest.now, &guest.memory, false);
    assert_eq!((threshold(&guest, 0), threshold(&guest, 7)), (u32::MAX, u32::MAX));
    assert_eq!(guest.nic.deadline(), None);
    guest.nic.set_doorbells(guest.now, &guest.memory, true);
    assert_eq!(threshold(&guest, 7), 0);
    assert!(guest.nic.deadline().is_some(), "a second look");
    guest.pass(100_000);
    assert_eq!(guest.nic.deadline(), None);
    // Whoever dies with doorbells off leaves a successor that has them on.
    guest.nic.set_doorbells(guest.now, &guest.memory, false);
    let state = guest.nic.state();
    guest.die(&state);
    assert_eq!(threshold(&guest, 7), 0);
    // So does one that ends its rings and begins others behind the same descriptors.
    guest.nic.set_doorbells(guest.now, &guest.memory, false);
    assert_eq!(guest.command(0xcafe_0001), 0);
    assert_eq!(threshold(&guest, 7), u32::MAX);
    assert_eq!(guest.command(0xcafe_0000), 0);
    assert_eq!((threshold(&guest, 0), threshold(&guest, 7)), (0, 0));
    guest.write(0, 0x600, 1);
    guest.write(0, 0x838, 1);
    guest.write(0, 0xc00, 1);
    assert_eq!(guest.nic.counts().doorbells, 2);
}

fn frames_and_publish(guest: &mut Guest, count: usize) {
    for _ in 0..count {
        guest.deliver(&v4(17, 60, 1)).unwrap();
    }
    guest.publish();
    guest.receive(0);
}

#[test]
fn adaptive_moderation_holds_back_floods_only() {
    let mut guest = Guest::new(Shape { rx_size: 512, ..Shape::default() });
    guest.negotiate();
    guest.setup();
    // UPT1_IML_ADAPTIVE for all.
    guest.put(SHARED + 83, &[8; 25]);
    assert_eq!(guest.command(0xcafe_0000), 0);
    guest.rx_mode(0x05);
    guest.unmask();
    for _ in 0..3 {
        frames_and_publish(&mut guest, 1);
        assert_eq!(guest.vectors(), 0b10, "a lone frame is told at once");
        guest.write(0, 8, 0);
    }
    frames_and_publish(&mut guest, 40);
    assert_eq!(guest.vectors(), 0b10);
    guest.write(0, 8, 0);
    frames_and_publish(&mut guest, 40);
    assert_eq!(guest.vectors(), 0);
    guest.pass(49_000);
    assert_eq!(guest.vectors(), 0);
    guest.pass(1_000);
    assert_eq!(guest.vectors(), 0b10);
    // Sent frames wait for others.
    let bytes = v4(17, 60, 1);
    guest.send(0, Send { bytes: &bytes, ..Send::default() });
    guest.take_all(0);
    guest.publish();
    assert_eq!(guest.vectors(), 0);
    guest.pass(64_000);
    assert_eq!(guest.vectors(), 0b1);
    guest.write(0, 0, 0);
    for _ in 0..32 {
        guest.send(0, Send { bytes: &bytes, ..Send::default() });
    }
    guest.take_all(0);
    guest.publish();
    assert_eq!(guest.vectors(), 0b1);
}

#[test]
fn coalescing_is_set_and_told() {
    let mut guest = Guest::open(Shape::default());
    guest.put(SHARED + 704, &[1, 0, 0, 0, 16, 0, 0, 0]);
    guest.put_u64(SHARED + 712, COALESCE);
    assert_eq!(guest.command(0xf00d_000b), 0);
    assert_eq!(guest.u32_at(COALESCE), 1, "adaptive");
    // 10,000 a second.
    guest.put(COALESCE, &[3, 0, 0, 0, 0x10, 0x27, 0, 0]);
    assert_eq!(guest.command(0xcafe_000e), 0);
    frames_and_publish(&mut guest, 1);
    assert_eq!(guest.vectors(), 0b10);
    guest.write(0, 8, 0);
    frames_and_publish(&mut guest, 1);
    assert_eq!(guest.vectors(), 0);
    guest.pass(99_999);
    assert_eq!(guest.vectors(), 0);
    guest.pass(1);
    assert_eq!(guest.vectors(), 0b10);
    guest.write(0, 8, 0);
    // After 64 sent, 64 sent and told, 4 received.
    guest.put(COALESCE, &[2, 0, 0, 0, 64, 0, 0, 0, 64, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(guest.command(0xcafe_000e), 0);
    let state = guest.nic.state();
    guest.die(&state);
    guest.pass(1);
    guest.vectors();
    guest.write(0, 8, 0);
    frames_and_publish(&mut guest, 3);
    assert_eq!(guest.vectors(), 0);
    frames_and_publish(&mut guest, 1);
    assert_eq!(guest.vectors(), 0b10);
    guest.write(0, 8, 0);
    frames_and_publish(&mut guest, 1);
    guest.pass(100_000);
    assert_eq!(guest.vectors(), 0b10, "nobody waits for ever");
    for bad in [[2, 0, 0, 0, 129, 0, 0, 0], [3, 0, 0, 0, 99, 0, 0, 0], [4, 0, 0, 0, 0, 0, 0, 0]] {
        guest.put(COALESCE, &bad);
        assert_ne!(guest.command(0xcafe_000e), 0);
    }
    guest.put(COALESCE, &[0; 16]);
    assert_eq!(guest.command(0xcafe_000e), 0);
    guest.put(SHARED + 708, &[15, 0, 0, 0]);
    assert_ne!(guest.command(0xcafe_000e), 0, "a scheme that is too short");
}
