//! Frames from one guest's ring to another's.

mod driver;

use driver::{Buffer, Guest, Ring, readable, writable};
use proptest::prelude::*;
use request::{CHECKSUM_NONE, FrameFacts, Gso, Mac, Rewrite};
use standpipe_virtio_net::*;
use virtqueue::{Chain, Pop, Queue};

const OWN: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

fn config() -> Config {
    Config { mac: OWN, mac_changeable: true, mtu: Some(1500), pairs_max: 4, link: Link::Up, speed: 10_000 }
}

fn nic(features: u64) -> Nic {
    let mut nic = Nic::new(config());
    nic.negotiate(features);
    nic
}

/// A guest with one ring and a NIC.
struct End {
    guest: Guest,
    ring: Ring,
    queue: Queue,
    nic: Nic,
}

impl End {
    fn new(features: u64, packed: bool) -> End {
        let mut guest = Guest::new(8 << 20);
        let ring = Ring::new(&mut guest, 256, packed);
        let queue = ring.queue(&guest.memory, false);
        End { guest, ring, queue, nic: nic(features) }
    }

    /// Posts a frame cut into pieces of these sizes, the last one as long as is left.
    fn send(&mut self, bytes: &[u8], pieces: &[u32]) {
        let mut buffers = Vec::new();
        let mut rest = bytes;
        for piece in pieces.iter().map(|piece| *piece as usize).chain([usize::MAX]) {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            if !now.is_empty() {
                let at = self.guest.allocate(now.len() as u64);
                self.guest.write(at, now);
                buffers.push(readable(at, now.len() as u32));
            }
            rest = later;
        }
        self.ring.post(&buffers).unwrap();
    }

    fn take(&mut self, chain: &mut Chain, outgoing: &mut Outgoing) -> Result<(), Drop> {
        assert_eq!(self.queue.pop(&self.guest.memory, chain), Pop::Chain);
        let result = self.nic.next_frame(&self.guest.memory, chain, outgoing);
        self.queue.push(&self.guest.memory, chain.head, 0);
        self.queue.publish(&self.guest.memory);
        assert_eq!(self.ring.take_used().map(|(_, written)| written), Some(0));
        result
    }

    fn buffers(&mut self, shapes: &[&[u32]]) -> Vec<(u16, Vec<Buffer>)> {
        let mut posted = Vec::new();
        for shape in shapes {
            let pieces: Vec<Buffer> = shape
                .iter()
                .map(|len| {
                    // Sixteen bytes on each side that nobody may touch.
                    let at = self.guest.allocate(u64::from(*len) + 32) + 16;
                    self.guest.write(at - 16, &vec![0xa5; *len as usize + 32]);
                    writable(at, *len)
                })
                .collect();
            posted.push((self.ring.post(&pieces).unwrap(), pieces));
        }
        posted
    }

    /// What the driver finds in the buffers that came back, virtio header and all.
    fn received(&mut self, posted: &[(u16, Vec<Buffer>)]) -> Vec<Vec<u8>> {
        self.queue.publish(&self.guest.memory);
        let mut found = Vec::new();
        while let Some((id, written)) = self.ring.take_used() {
            let (_, pieces) = posted.iter().find(|(head, _)| *head == id).unwrap();
            let all: Vec<u8> = pieces.iter().flat_map(|p| self.guest.read(p.at, p.len)).collect();
            assert!(all[written as usize..].iter().all(|b| *b == 0xa5), "bytes behind the written ones");
            found.push(all[..written as usize].to_vec());
        }
        for piece in posted.iter().flat_map(|(_, pieces)| pieces) {
            assert_eq!(self.guest.read(piece.at - 16, 16), [0xa5; 16]);
            assert_eq!(self.guest.read(piece.at + u64::from(piece.len), 16), [0xa5; 16]);
        }
        found
    }

    fn deliver(&mut self, frame: &Frame<'_>, rewrite: Rewrite) -> Result<u32, Refused> {
        self.nic.deliver(&mut self.queue, &self.guest.memory, frame, rewrite)
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 256) as u8).collect()
}

fn plain(frame: &[u8]) -> Vec<u8> {
    [&[0; 12], frame].concat()
}

const PLAIN: FrameFacts = FrameFacts {
    checksum_start: CHECKSUM_NONE,
    checksum_offset: 0,
    checksum_valid: false,
    gso: Gso::None,
    ecn: false,
    segment: 0,
    header: 0,
};

#[test]
fn a_small_frame_in_one_piece() {
    for packed in [false, true] {
        let (mut a, mut b) = (End::new(OFFERED, packed), End::new(OFFERED, !packed));
        let posted = b.buffers(&[&[1536], &[1536]]);
        let (mut chain, mut outgoing) = (Chain::new(), Outgoing::default());
        for len in [14, 60, 64, 65, 128] {
            a.send(&plain(&bytes(len)), &[]);
            a.take(&mut chain, &mut outgoing).unwrap();
            assert_eq!(outgoing.header(), &bytes(len)[..len.min(64)]);
        }
        assert_eq!(b.deliver(&outgoing.frame(&a.guest.memory, &chain), Rewrite::Keep), Ok(128));
        let found = b.received(&posted);
        // num_buffers is 1; all else is zero.
        assert_eq!(found, [[&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], &bytes(128)[..]].concat()]);
        assert_eq!((a.nic.counters().transmitted_frames, b.nic.counters().received_bytes), (5, 128));
    }
}

#[test]
fn a_large_frame_over_many_buffers() {
    for packed in [false, true] {
        let (mut a, mut b) = (End::new(OFFERED, packed), End::new(OFFERED, packed));
        let shapes: Vec<&[u32]> = vec![&[1536]; 44];
        let posted = b.buffers(&shapes);
        // Flags 1, TCPv4, hdr_len 66, gso_size 1448, start 34, offset 16.
        let header = [1, 1, 66, 0, 0xa8, 0x05, 34, 0, 16, 0, 0, 0];
        let frame = bytes(65_226);
        a.send(&[&header, &frame[..]].concat(), &[12, 100, 30_000]);
        let (mut chain, mut outgoing) = (Chain::new(), Outgoing::default());
        a.take(&mut chain, &mut outgoing).unwrap();
        assert_eq!(outgoing.header(), &frame[..256]);
        assert_eq!(b.deliver(&outgoing.frame(&a.guest.memory, &chain), Rewrite::Keep), Ok(65_226));
        let found = b.received(&posted);
        assert_eq!(found.len(), 43);
        let all = found.concat();
        assert_eq!(all[..12], [1, 1, 66, 0, 0xa8, 0x05, 34, 0, 16, 0, 43, 0]);
        assert!(all[12..] == frame);
    }
}

#[test]
fn a_shortage_changes_nothing() {
    for packed in [false, true] {
        let mut b = End::new(OFFERED, packed);
        let frame = bytes(4000);
        let frame = Frame { header: &frame[..64], body: Body::Bytes(&frame[64..]), facts: PLAIN };
        assert_eq!(b.deliver(&frame, Rewrite::Keep), Err(Refused::NoBuffer));
        let posted = b.buffers(&[&[1536], &[1536]]);
        assert_eq!(b.deliver(&frame, Rewrite::Keep), Err(Refused::NoBuffer));
        assert!(b.received(&posted).is_empty());
        assert_eq!(b.queue.in_flight(), 0);
        // A shorter one takes the same buffers, and then there is room for the long one.
        let short = Frame { header: frame.header, body: Body::Bytes(&[]), facts: PLAIN };
        assert_eq!(b.deliver(&short, Rewrite::Keep), Ok(64));
        let more = b.buffers(&[&[1536], &[1536]]);
        assert_eq!(b.deliver(&frame, Rewrite::Keep), Ok(4000));
        let lengths: Vec<usize> = b.received(&[posted, more].concat()).iter().map(Vec::len).collect();
        assert_eq!(lengths, [76, 1536, 1536, 940]);
        assert_eq!(b.nic.counters().refused[Refused::NoBuffer as usize], 2);
        assert_eq!(b.nic.counters().received_buffers, 4);
    }
}

/// The worker dies after it copied frames and before it said so: the driver sees nothing of it,
/// and what the successor delivers comes in order, whole and once.
#[test]
fn a_successor_goes_on_at_the_used_index() {
    for packed in [false, true] {
        let mut b = End::new(OFFERED, packed);
        let shapes: Vec<&[u32]> = vec![&[300]; 40];
        let posted = b.buffers(&shapes);
        let frame = |len: usize| bytes(len + 64);
        let mut expected = Vec::new();
        for round in 0..5 {
            for lost in 0..round {
                let bytes = frame(500 + lost);
                let lost = Frame { header: &bytes[..64], body: Body::Bytes(&bytes[64..]), facts: PLAIN };
                b.deliver(&lost, Rewrite::Keep).unwrap();
            }
            b.queue = b.ring.queue(&b.guest.memory, true);
            let bytes = frame(round * 100);
            let kept = Frame { header: &bytes[..64], body: Body::Bytes(&bytes[64..]), facts: PLAIN };
            b.deliver(&kept, Rewrite::Keep).unwrap();
            b.queue.publish(&b.guest.memory);
            expected.extend(&bytes);
        }
        let mut found = Vec::new();
        while let Some((id, written)) = b.ring.take_used() {
            let (_, pieces) = posted.iter().find(|(head, _)| *head == id).unwrap();
            found.push(b.guest.read(pieces[0].at, written));
        }
        // 76, 176, 276, 376 and 476 bytes in buffers of 300.
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [76, 176, 276, 300, 76, 300, 176]);
        for first in [0, 1, 2, 3, 5] {
            found[first].drain(..12);
        }
        assert_eq!(found.concat(), expected);
    }
}

#[test]
fn crumbs_do_not_hold_the_lane() {
    let mut b = End::new(OFFERED, false);
    let shapes: Vec<&[u32]> = vec![&[1]; 200];
    let posted = b.buffers(&shapes);
    let frame = bytes(200);
    let frame = Frame { header: &frame[..64], body: Body::Bytes(&frame[64..]), facts: PLAIN };
    assert_eq!(b.deliver(&frame, Rewrite::Keep), Err(Refused::BufferTooSmall));
    assert!(b.received(&posted).is_empty());
    // Without MRG_RXBUF one buffer has to do.
    let mut b = End::new(OFFERED & !(1 << bit::MRG_RXBUF), false);
    let posted = b.buffers(&[&[12, 100], &[12, 300]]);
    assert_eq!(b.deliver(&frame, Rewrite::Keep), Err(Refused::BufferTooSmall));
    let short = Frame { header: frame.header, body: Body::Bytes(&[7; 36]), facts: PLAIN };
    assert_eq!(b.deliver(&short, Rewrite::Keep), Ok(100));
    assert_eq!(b.deliver(&frame, Rewrite::Keep), Ok(200));
    assert_eq!(b.received(&posted).iter().map(Vec::len).collect::<Vec<_>>(), [112, 212]);
}

#[test]
fn tags_are_changed_on_the_way_and_offsets_with_them() {
    let mut b = End::new(OFFERED, false);
    let posted = b.buffers(&[&[1536], &[20, 60, 1000], &[1536]]);
    let frame = bytes(300);
    let facts = FrameFacts { checksum_start: 34, checksum_offset: 6, ..PLAIN };
    let untagged = Frame { header: &frame[..80], body: Body::Bytes(&frame[80..]), facts };
    b.deliver(&untagged, Rewrite::Insert(0x6005)).unwrap();
    b.deliver(&untagged, Rewrite::Insert(0x6005)).unwrap();
    b.deliver(&untagged, Rewrite::Strip).unwrap();
    let found = b.received(&posted);
    let tagged = [&frame[..12], &[0x81, 0, 0x60, 5], &frame[12..]].concat();
    assert_eq!(found[0], [&[1, 0, 0, 0, 0, 0, 38, 0, 6, 0, 1, 0], &tagged[..]].concat());
    assert_eq!(found[1], found[0]);
    let stripped = [&frame[..12], &frame[16..]].concat();
    assert_eq!(found[2], [&[1, 0, 0, 0, 0, 0, 30, 0, 6, 0, 1, 0], &stripped[..]].concat());
}

#[test]
fn what_the_receiver_cannot_do_is_refused_and_then_done() {
    use offload::{HEADER_MAX, Plan, Sum};
    let (mut a, mut b) =
        (End::new(OFFERED, false), End::new(1 << bit::VERSION_1 | 1 << bit::MRG_RXBUF, true));
    // UDP with its checksum left out: typed in offload's tests; the whole one has c4 0d.
    let partial = [
        0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 0x21, 0, 7, 0x40, 0, 0x40, 0x11,
        0x4e, 0x89, 0xc0, 0, 2, 1, 0xc6, 0x33, 0x64, 7, 3, 0xe8, 7, 0xd0, 0, 0x0d, 0xec, 0x5a, b'h', b'e',
        b'l', b'l', b'o',
    ];
    a.send(&[&[1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0], &partial[..]].concat(), &[12, 45]);
    let (mut chain, mut outgoing) = (Chain::new(), Outgoing::default());
    a.take(&mut chain, &mut outgoing).unwrap();
    let posted = b.buffers(&[&[1536]]);
    let frame = outgoing.frame(&a.guest.memory, &chain);
    assert!(!b.nic.can_take(&frame));
    assert_eq!(b.deliver(&frame, Rewrite::Keep), Err(Refused::Offload));
    // What a lane does.
    let header = outgoing.header();
    let plan = Plan::new(&header[..header.len().min(HEADER_MAX)], &outgoing.facts, outgoing.len).unwrap();
    for index in 0..plan.count() {
        let mut segment = plan.segment(index);
        let mut payload = vec![0; segment.payload().len()];
        assert!(outgoing.copy(&a.guest.memory, &chain, segment.payload(), &mut payload));
        let mut sum = Sum::new();
        sum.add(&payload);
        segment.complete(sum);
        let frame = Frame { header: segment.header(), body: Body::Bytes(&payload), facts: PLAIN };
        b.deliver(&frame, Rewrite::Keep).unwrap();
    }
    let mut whole = partial;
    whole[40..42].copy_from_slice(&[0xc4, 0x0d]);
    assert_eq!(b.received(&posted)[0][12..], whole);
}

#[test]
fn a_driver_that_breaks_the_rules_hurts_itself() {
    let mut a = End::new(OFFERED & !(1 << bit::HOST_TSO4), false);
    let (mut chain, mut outgoing) = (Chain::new(), Outgoing::default());
    let mut fault = |bytes: &[u8]| {
        a.send(bytes, &[]);
        a.take(&mut chain, &mut outgoing)
    };
    assert_eq!(fault(&plain(&bytes(13))), Err(Drop::Runt));
    assert_eq!(fault(&[0; 11]), Err(Drop::Runt));
    assert_eq!(fault(&plain(&bytes(65_558))), Err(Drop::TooLong));
    assert_eq!(fault(&plain(&bytes(65_557))), Ok(()));
    let tso = [&[1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0], &bytes(3000)[..]].concat();
    assert_eq!(fault(&tso), Err(Drop::NotNegotiated));
    let tso6 = [&[0, 4, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0], &bytes(3000)[..]].concat();
    assert_eq!(fault(&tso6), Err(Drop::BadHeader));
    // Only writable buffers: there is no frame.
    a.buffers(&[&[2000]]);
    assert_eq!(a.take(&mut chain, &mut outgoing), Err(Drop::Runt));
    assert_eq!(a.nic.counters().drops, [3, 1, 1, 1, 0]);
    // A memory map that is gone under a popped chain.
    a.send(&plain(&bytes(100)), &[]);
    a.queue.pop(&a.guest.memory, &mut chain);
    let gone = guest_memory::Memory::empty();
    assert_eq!(a.nic.next_frame(&gone, &mut chain, &mut outgoing), Err(Drop::BadMemory));
    let mut b = End::new(OFFERED, false);
    b.buffers(&[&[2000], &[50], &[50]]);
    let frame = Frame { header: &[0; 64], body: Body::Guest(&gone, &[driver::span(0, 10)]), facts: PLAIN };
    assert_eq!(b.deliver(&frame, Rewrite::Keep), Err(Refused::BadMemory));
    assert_eq!(b.queue.in_flight(), 0);
    let long = [0; 257];
    let frame = Frame { header: &long, body: Body::Bytes(&[]), facts: PLAIN };
    assert_eq!(b.deliver(&frame, Rewrite::Keep), Err(Refused::Malformed));
    let frame = Frame { header: &long[..10], body: Body::Bytes(&[]), facts: PLAIN };
    assert_eq!(b.deliver(&frame, Rewrite::Strip), Err(Refused::Malformed));
}

#[test]
fn an_old_driver_has_the_short_header() {
    let mut a = End::new(1 << bit::CSUM, false);
    let frame = bytes(100);
    a.send(&[&[0; 10], &frame[..]].concat(), &[]);
    let (mut chain, mut outgoing) = (Chain::new(), Outgoing::default());
    a.take(&mut chain, &mut outgoing).unwrap();
    assert_eq!(outgoing.len, 100);
    let mut b = End::new(0, false);
    let posted = b.buffers(&[&[10, 1514]]);
    b.deliver(&outgoing.frame(&a.guest.memory, &chain), Rewrite::Keep).unwrap();
    assert_eq!(b.received(&posted), [[&[0; 10], &frame[..]].concat()]);
}

#[test]
fn a_reverse_arp_in_digits() {
    let expected =
        "ffffffffffff 525400000001 8035 0001 0800 06 04 0003 525400000001 00000000 525400000001 00000000";
    let text: String = frame::rarp(OWN)[..42].iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(text, expected.replace(' ', ""));
    assert_eq!(frame::rarp(OWN)[42..], [0; 18]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    /// Whatever the shapes of both sides, what arrives is what was sent.
    #[test]
    fn shapes_do_not_matter(
        frames in prop::collection::vec((14usize..5000, prop::collection::vec(0u32..900, 0..5), 0u8..4, any::<bool>()), 1..8),
        shapes in prop::collection::vec(prop::collection::vec(1u32..1700, 1..4), 1..40),
        mergeable: bool, packed: bool,
    ) {
        let features = if mergeable { OFFERED } else { OFFERED & !(1 << bit::MRG_RXBUF) };
        let (mut a, mut b) = (End::new(OFFERED, !packed), End::new(features, packed));
        let shapes: Vec<&[u32]> = shapes.iter().map(|shape| &shape[..]).collect();
        let posted = b.buffers(&shapes);
        let mut expected: Vec<Vec<u8>> = Vec::new();
        let (mut chain, mut outgoing) = (Chain::new(), Outgoing::default());
        for (len, pieces, tag, partial) in frames {
            let mut frame = bytes(len);
            let partial = partial && len > 60;
            let virtio = if partial { [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0] } else { [0; 12] };
            a.send(&[&virtio, &frame[..]].concat(), &pieces);
            a.take(&mut chain, &mut outgoing).unwrap();
            prop_assert_eq!(outgoing.len as usize, len);
            let mut copied = vec![0; len];
            for range in [0..len, len / 3..len, 5..len / 2 + 6] {
                let range = range.start as u32..range.end as u32;
                prop_assert!(outgoing.copy(&a.guest.memory, &chain, range.clone(), &mut copied));
                prop_assert_eq!(&copied[..range.len()], &frame[range.start as usize..range.end as usize]);
            }
            prop_assert!(!outgoing.copy(&a.guest.memory, &chain, 0..len as u32 + 1, &mut vec![0; len + 1]));
            let (rewrite, start) = match tag {
                0 if len >= 18 => { frame.drain(12..16); (Rewrite::Strip, 30) }
                1 => { frame.splice(12..12, [0x81, 0, 1, 2]); (Rewrite::Insert(0x102), 38) }
                2 if len >= 18 => { frame.splice(12..16, [0x81, 0, 1, 2]); (Rewrite::Replace(0x102), 34) }
                _ => (Rewrite::Keep, 34),
            };
            match b.deliver(&outgoing.frame(&a.guest.memory, &chain), rewrite) {
                Ok(count) => {
                    prop_assert_eq!(count as usize, frame.len());
                    let virtio: [u8; 10] = if partial { [1, 0, 0, 0, 0, 0, start, 0, 16, 0] } else { [0; 10] };
                    expected.push([&virtio[..], &frame].concat());
                }
                Err(refused) => prop_assert!(matches!(refused, Refused::NoBuffer | Refused::BufferTooSmall)),
            }
            prop_assert_eq!(b.queue.in_flight() as usize % 256, b.queue.in_flight() as usize);
        }
        let mut found = b.received(&posted).into_iter();
        for frame in expected {
            let mut got = found.next().unwrap();
            // The number may lie across buffers, if the first is a crumb.
            while got.len() < 12 {
                got.extend(found.next().unwrap());
            }
            let count = u16::from_le_bytes([got[10], got[11]]);
            while got.len() < frame.len() + 2 {
                got.extend(found.next().unwrap());
            }
            prop_assert!(count >= 1);
            prop_assert_eq!(&got[..10], &frame[..10]);
            prop_assert_eq!(&got[12..], &frame[10..]);
        }
        prop_assert!(found.next().is_none());
    }
}
