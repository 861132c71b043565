//! Segmentation and checksums within a tunnel, as Linux asks for them from revision 4 on.

mod driver;

use driver::{Guest, MAC, Send, Shape, ones, v4};
use request::{FrameFacts, Gso};

/// VXLAN: Ethernet, IPv4, UDP, 8 bytes, and a frame.
fn vxlan(inner: &[u8]) -> Vec<u8> {
    let udp = 16 + inner.len();
    let mut frame = MAC.to_vec();
    frame.extend([2, 0, 0, 0, 0, 9, 8, 0]);
    frame.extend([0x45, 0]);
    frame.extend((20 + udp as u16).to_be_bytes());
    frame.extend([0, 100, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let checksum = !ones(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame.extend([0xc0, 0, 0x12, 0xb5]);
    frame.extend((udp as u16).to_be_bytes());
    frame.extend([0, 0, 0x08, 0, 0, 0, 0, 0, 42, 0]);
    frame.extend(inner);
    frame
}

/// Does what the facts leave undone.
fn finish(bytes: &mut [u8], facts: &FrameFacts) {
    let start = usize::from(facts.checksum_start);
    let at = start + usize::from(facts.checksum_offset);
    let checksum = !ones(&bytes[start..]);
    bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// A transport's checksum over IPv4 is right.
fn is_right(bytes: &[u8], network: usize) -> bool {
    let transport = network + 20;
    let mut covered = bytes[network + 12..network + 20].to_vec();
    covered.extend([0, bytes[network + 9]]);
    covered.extend((bytes.len() as u16 - transport as u16).to_be_bytes());
    covered.extend(&bytes[transport..]);
    ones(&covered) == 0xffff
}

fn large() -> Vec<u8> {
    let mut inner = v4(6, 5000, 9);
    // FIN, PSH, ACK and CWR.
    inner[47] = 0x99;
    vxlan(&inner)
}

#[test]
fn a_large_frame_leaves_in_segments() {
    for (revision, oco, tag) in [(4, false, None), (7, true, None), (9, true, Some(0x0123))] {
        let mut guest = Guest::open(Shape { revision, ..Shape::default() });
        let (om, ext1) = if revision >= 7 { (3, true) } else { (1, false) };
        let bytes = large();
        guest.send(
            0,
            Send {
                bytes: &bytes,
                copied: 104,
                piece: 1000,
                om,
                ext1,
                oco,
                tag,
                hlen: 104,
                msscof: 1400,
                ..Send::default()
            },
        );
        let frames = guest.take_all(0);
        assert_eq!(frames.len(), 4);
        let mut payload: Vec<u8> = Vec::new();
        for (index, (frame, facts)) in frames.iter().enumerate() {
            let shift = if tag.is_some() { 4 } else { 0 };
            assert_eq!(facts.gso, Gso::None);
            assert_eq!((facts.checksum_start, facts.checksum_offset), (84 + shift as u16, 16));
            let mut frame = frame.clone();
            finish(&mut frame, facts);
            if shift > 0 {
                assert_eq!(frame[12..16], [0x81, 0, 0x01, 0x23]);
                frame.drain(12..16);
            }
            for network in [14, 64] {
                assert_eq!(ones(&frame[network..network + 20]), 0xffff);
                let length = frame.len() - network;
                assert_eq!(frame[network + 2..network + 4], (length as u16).to_be_bytes());
            }
            assert_eq!(frame[18..20], (100 + index as u16).to_be_bytes(), "outer identification");
            assert_eq!(frame[38..40], (frame.len() as u16 - 34).to_be_bytes(), "outer UDP length");
            assert!(is_right(&frame, 64), "inner checksum");
            if oco {
                assert!(is_right(&frame, 14), "outer checksum");
            } else {
                assert_eq!(frame[40..42], [0, 0]);
            }
            assert_eq!(frame[88..92], (1 + index as u32 * 1400).to_be_bytes(), "sequence number");
            let flags = [0x90, 0x10, 0x10, 0x19][index];
            assert_eq!(frame[97], flags);
            payload.extend(&frame[104..]);
        }
        assert_eq!(payload, bytes[104..]);
        guest.publish();
        assert_eq!(guest.reap(0), 1);
    }
}

#[test]
fn its_descriptors_are_used_only_when_the_last_segment_is_taken() {
    use frame::{Nic, Taken};
    use pci::Function;
    let mut guest = Guest::open(Shape::default());
    let bytes = large();
    let send = Send { bytes: &bytes, om: 3, ext1: true, hlen: 104, msscof: 1400, ..Send::default() };
    guest.send(0, send);
    for _ in 0..3 {
        assert_eq!(guest.nic.transmit(&guest.memory, 0, &mut guest.posted), Taken::Frame);
        assert_eq!(guest.nic.waiting(), 1);
        guest.publish();
        assert_eq!(guest.reap(0), 0);
    }
    // The memory map is another meanwhile: it begins anew.
    let memory = guest.memory.clone();
    guest.nic.memory_changed(&memory);
    assert_eq!(guest.take_all(0).len(), 4);
    guest.publish();
    assert_eq!(guest.reap(0), 1);
}

#[test]
fn checksums_within_a_tunnel_are_facts() {
    let inner = v4(6, 400, 1);
    let bytes = vxlan(&inner);
    for (revision, om, ext1, msscof) in [(4, 1, false, 0), (7, 2, true, 100)] {
        let mut guest = Guest::open(Shape { revision, ..Shape::default() });
        guest.send(0, Send { bytes: &bytes, om, ext1, hlen: 104, msscof, ..Send::default() });
        let (frame, facts) = guest.take_all(0).remove(0);
        assert_eq!(frame, bytes);
        assert_eq!((facts.checksum_start, facts.checksum_offset, facts.gso), (84, 16, Gso::None));
    }
}

#[test]
fn what_is_no_tunnel_is_dropped() {
    let mut guest = Guest::open(Shape { revision: 4, ..Shape::default() });
    let plain = v4(6, 3000, 1);
    guest.send(0, Send { bytes: &plain, om: 1, hlen: 54, msscof: 1000, ..Send::default() });
    let tunnel = large();
    guest.send(0, Send { bytes: &tunnel, om: 1, hlen: 103, msscof: 1000, ..Send::default() });
    assert!(guest.take_all(0).is_empty());
    guest.publish();
    assert_eq!(guest.reap(0), 2);
    // Before revision 4 there is no such mode.
    let mut old = Guest::open(Shape { revision: 3, ..Shape::default() });
    old.send(0, Send { bytes: &tunnel, om: 1, hlen: 104, msscof: 1000, ..Send::default() });
    assert!(old.take_all(0).is_empty());
    old.publish();
    assert_eq!(old.reap(0), 1);
}

#[test]
fn the_driver_is_offered_what_there_is() {
    let mut guest = Guest::new(Shape::default());
    guest.negotiate();
    // UDP and ESP RSS, Geneve and VXLAN.
    assert_eq!((guest.read(1, 0x48), guest.read(1, 0x88)), (0x2ff, 0x2ff));
    guest.write(1, 0x48, 0xffff_ffff);
    assert_eq!(guest.command(0xf00d_0012), 0x2ff);
    guest.write(1, 0x48, 0xfc);
    assert_eq!(guest.command(0xf00d_0012), 0xfc);
}
