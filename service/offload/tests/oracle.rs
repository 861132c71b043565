//! Segmentation against frames that are built one by one from what they should say.

use proptest::prelude::*;
use request::{FrameFacts, Gso};
use standpipe_offload::*;

#[derive(Clone, Debug)]
struct Flow {
    tags: usize,
    v6: bool,
    tcp: bool,
    /// Bytes of IPv4 options, TCP options, and IPv6 extension headers (units of 4, 4, 8).
    ip_options: usize,
    tcp_options: usize,
    extensions: usize,
    addresses: [u8; 32],
    identification: u16,
    sequence: u32,
    flags: u8,
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) * 256 + pair.get(1).map_or(0, |b| u64::from(*b));
    }
    while sum > 0xffff {
        sum = sum % 0x1_0000 + sum / 0x1_0000;
    }
    !(sum as u16)
}

impl Flow {
    fn start(&self) -> usize {
        let network = if self.v6 { 40 + self.extensions * 8 } else { 20 + self.ip_options * 4 };
        14 + self.tags * 4 + network
    }

    fn header(&self) -> usize {
        self.start() + if self.tcp { 20 + self.tcp_options * 4 } else { 8 }
    }

    /// The frame that stands at `at` of the stream and carries `payload`.
    fn frame(&self, index: usize, at: usize, payload: &[u8], first: bool, last: bool) -> Vec<u8> {
        let protocol = if self.tcp { 6u8 } else { 17 };
        let mut transport = Vec::new();
        transport.extend(0x1234u16.to_be_bytes());
        transport.extend(80u16.to_be_bytes());
        if self.tcp {
            transport.extend(self.sequence.wrapping_add(at as u32).to_be_bytes());
            transport.extend([1, 2, 3, 4, (5 + self.tcp_options as u8) << 4]);
            let mut flags = self.flags;
            if !last {
                flags &= !0x09;
            }
            if !first {
                flags &= !0x80;
            }
            transport.extend([flags, 0x20, 0, 0, 0, 0, 0]);
            transport.extend(vec![1; self.tcp_options * 4]);
        } else {
            transport.extend((8 + payload.len() as u16).to_be_bytes());
            transport.extend([0, 0]);
        }
        transport.extend(payload);
        let addresses = &self.addresses[..if self.v6 { 32 } else { 8 }];
        let mut covered = addresses.to_vec();
        covered.extend((transport.len() as u32).to_be_bytes());
        covered.extend([0, 0, 0, protocol]);
        covered.extend(&transport);
        let sum = match checksum(&covered) {
            0 => 0xffff,
            other => other,
        };
        let place = if self.tcp { 16 } else { 6 };
        transport[place..place + 2].copy_from_slice(&sum.to_be_bytes());

        let mut frame = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1];
        for tag in 0..self.tags {
            frame.extend(if tag + 1 == self.tags { [0x81, 0x00, 0x20, 0x0a] } else { [0x88, 0xa8, 0, 7] });
        }
        if self.v6 {
            frame.extend([0x86, 0xdd, 0x60, 1, 2, 3]);
            frame.extend(((self.extensions * 8 + transport.len()) as u16).to_be_bytes());
            let kinds = [0u8, 60, 43, 60];
            let chain: Vec<u8> = kinds[..self.extensions].iter().copied().chain([protocol]).collect();
            frame.extend([chain[0], 64]);
            frame.extend(addresses);
            for next in &chain[1..] {
                frame.extend([*next, 0, 1, 0, 0, 0, 0, 0]);
            }
        } else {
            frame.extend([0x08, 0x00]);
            let mut ip = vec![0x45 + self.ip_options as u8, 0];
            ip.extend(((20 + self.ip_options * 4 + transport.len()) as u16).to_be_bytes());
            ip.extend(self.identification.wrapping_add(index as u16).to_be_bytes());
            ip.extend([0x40, 0, 64, protocol, 0, 0]);
            ip.extend(addresses);
            ip.extend(vec![1; self.ip_options * 4]);
            let sum = checksum(&ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend(ip);
        }
        frame.extend(transport);
        frame
    }
}

fn flow() -> impl Strategy<Value = Flow> {
    (
        (0usize..3, any::<bool>(), any::<bool>()),
        (0usize..=10, 0usize..=10, 0usize..=4),
        any::<[u8; 32]>(),
        any::<u16>(),
        any::<u32>(),
        any::<u8>(),
    )
        .prop_map(
            |(
                (tags, v6, tcp),
                (ip_options, tcp_options, extensions),
                addresses,
                identification,
                sequence,
                flags,
            )| {
                Flow {
                    tags,
                    v6,
                    tcp,
                    ip_options,
                    tcp_options,
                    extensions,
                    addresses,
                    identification,
                    sequence,
                    flags,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn segments_are_what_they_should_be(flow in flow(), payload in prop::collection::vec(any::<u8>(), 0..5000), segment in 5u16..2000) {
        let mut whole = flow.frame(0, 0, &payload, true, true);
        // What a sender leaves in the field must not matter.
        let place = flow.start() + if flow.tcp { 16 } else { 6 };
        whole[place] ^= 0x5a;
        let gso = match (flow.tcp, flow.v6) {
            (true, false) => Gso::TcpV4,
            (true, true) => Gso::TcpV6,
            (false, _) => Gso::UdpL4,
        };
        let facts = FrameFacts {
            checksum_start: flow.start() as u16,
            checksum_offset: (place - flow.start()) as u16,
            gso, segment, ..FrameFacts::default()
        };
        let plan = Plan::new(&whole[..whole.len().min(HEADER_MAX)], &facts, whole.len() as u32).unwrap();
        let mut expected: Vec<&[u8]> = payload.chunks(usize::from(segment)).collect();
        if expected.is_empty() {
            expected.push(&[]);
        }
        prop_assert_eq!(plan.count() as usize, expected.len());
        let mut at = 0;
        let mut largest = 0;
        for (index, piece) in expected.iter().enumerate() {
            let mut segment = plan.segment(index as u32);
            let body = whole[segment.payload().start as usize..segment.payload().end as usize].to_vec();
            let left = segment.clone().leave();
            let mut sum = Sum::new();
            // Fed in odd pieces.
            body.chunks(7).for_each(|chunk| sum.add(chunk));
            segment.complete(sum);
            let last = index + 1 == expected.len();
            let frame = [segment.header(), &body].concat();
            let wanted = flow.frame(index, at, piece, index == 0, last);
            prop_assert_eq!(&frame, &wanted);
            // Left to the receiver and done there, it is the same.
            let mut partial = plan.segment(index as u32);
            partial.leave();
            let bytes = [partial.header(), &body].concat();
            let header = &bytes[..bytes.len().min(HEADER_MAX)];
            let mut done = Plan::new(header, &left, bytes.len() as u32).unwrap().segment(0);
            let mut sum = Sum::new();
            sum.add(&bytes[done.payload().start as usize..]);
            done.complete(sum);
            prop_assert_eq!(done.header(), &wanted[..header.len()]);
            at += piece.len();
            largest = largest.max(frame.len());
        }
        prop_assert_eq!(plan.largest() as usize, largest);
        prop_assert_eq!(flow.header(), plan.segment(0).header().len());
    }

    /// Whatever the bytes and the claims are, there is an answer, and it stays within the frame.
    #[test]
    fn anything_has_an_answer(
        mut header in prop::collection::vec(any::<u8>(), 0..300), kind in 0u8..5, ether_type in 0u8..4, total in 0u32..70_000,
        start in prop_oneof![0u16..100, any::<u16>()], offset in prop_oneof![Just(6u16), Just(16), any::<u16>()], segment: u16,
    ) {
        let types: [&[u8]; 4] = [&[8, 0, 0x45], &[0x86, 0xdd, 0x60], &[0x81, 0, 0, 1, 8, 0], &[0x88, 0xa8]];
        if header.len() > 40 {
            let bytes = types[usize::from(ether_type)];
            header[12..12 + bytes.len()].copy_from_slice(bytes);
        }
        let gso = [Gso::None, Gso::TcpV4, Gso::TcpV6, Gso::Udp, Gso::UdpL4][usize::from(kind)];
        let facts = FrameFacts { checksum_start: start, checksum_offset: offset, gso, segment, ..FrameFacts::default() };
        if let Ok(plan) = Plan::new(&header, &facts, total) {
            let mut at = plan.segment(0).payload().start;
            for index in 0..plan.count() {
                let mut segment = plan.segment(index);
                prop_assert_eq!(segment.payload().start, at);
                at = segment.payload().end;
                segment.complete(Sum::new());
                segment.leave();
            }
            prop_assert_eq!(at, total);
        }
    }
}
