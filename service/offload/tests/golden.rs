//! Frames typed in digits; their checksums were computed apart from this code.

use request::{FrameFacts, Gso};
use standpipe_offload::*;

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn gso(gso: Gso, segment: u16, start: u16, offset: u16) -> FrameFacts {
    FrameFacts { checksum_start: start, checksum_offset: offset, gso, segment, ..FrameFacts::default() }
}

/// Cuts a frame up as a lane would.
fn cut(frame: &[u8], facts: &FrameFacts) -> Result<Vec<Vec<u8>>, Fault> {
    let total = frame.len() as u32;
    let header = &frame[..frame.len().min(HEADER_MAX)];
    let plan = Plan::new(header, facts, total)?;
    assert_eq!(
        measure(header, facts, total),
        Ok(Measure { segments: plan.count(), largest: plan.largest() })
    );
    let frames = (0..plan.count()).map(|index| {
        let mut segment = plan.segment(index);
        let payload = &frame[segment.payload().start as usize..segment.payload().end as usize];
        let mut sum = Sum::new();
        sum.add(payload);
        segment.complete(sum);
        [segment.header(), payload].concat()
    });
    Ok(frames.collect())
}

/// TCP with FIN, PSH and CWR, nine bytes, identification FFFFh, sequence FFFFFFFEh: everything
/// that counts wraps.
const TCP: &str = "
   52 54 00 00 00 02 52 54 00 00 00 01 08 00 45 00
   00 31 ff ff 40 00 40 06 4e 8b c0 00 02 01 c6 33
   64 07 12 34 00 50 ff ff ff fe 01 02 03 04 50 99
   20 00 ec 5f 00 00 73 74 61 6e 64 70 69 70 65";

#[test]
fn tcp_in_three() {
    let segments = cut(&hex(TCP), &gso(Gso::TcpV4, 4, 34, 16)).unwrap();
    let expected = [
        "52 54 00 00 00 02 52 54 00 00 00 01 08 00 45 00
         00 2c ff ff 40 00 40 06 4e 90 c0 00 02 01 c6 33
         64 07 12 34 00 50 ff ff ff fe 01 02 03 04 50 90
         20 00 b7 a8 00 00 73 74 61 6e",
        "52 54 00 00 00 02 52 54 00 00 00 01 08 00 45 00
         00 2c 00 00 40 00 40 06 4e 90 c0 00 02 01 c6 33
         64 07 12 34 00 50 00 00 00 02 01 02 03 04 50 10
         20 00 bf 27 00 00 64 70 69 70",
        "52 54 00 00 00 02 52 54 00 00 00 01 08 00 45 00
         00 29 00 01 40 00 40 06 4e 92 c0 00 02 01 c6 33
         64 07 12 34 00 50 00 00 00 06 01 02 03 04 50 19
         20 00 27 fe 00 00 65",
    ];
    assert_eq!(segments, expected.map(hex));
}

#[test]
fn a_checksum_that_was_left_out() {
    let partial = hex("52 54 00 00 00 02 52 54 00 00 00 01 08 00 45 00
                       00 21 00 07 40 00 40 11 4e 89 c0 00 02 01 c6 33
                       64 07 03 e8 07 d0 00 0d ec 5a 68 65 6c 6c 6f");
    let whole = hex("52 54 00 00 00 02 52 54 00 00 00 01 08 00 45 00
                     00 21 00 07 40 00 40 11 4e 89 c0 00 02 01 c6 33
                     64 07 03 e8 07 d0 00 0d c4 0d 68 65 6c 6c 6f");
    let facts = gso(Gso::None, 0, 34, 6);
    assert_eq!(cut(&partial, &facts).unwrap()[0], whole);
    // The copy of the headers may end anywhere behind the field, at odd places too.
    for header in 42..=partial.len() {
        let plan = Plan::new(&partial[..header], &facts, partial.len() as u32).unwrap();
        let mut segment = plan.segment(0);
        assert_eq!(segment.payload(), header as u32..partial.len() as u32);
        let mut sum = Sum::new();
        sum.add(&partial[header..]);
        segment.complete(sum);
        assert_eq!(segment.header(), &whole[..header]);
    }
    assert_eq!(Plan::new(&partial[..41], &facts, 47).err(), Some(Fault::ChecksumOutside));
}

#[test]
fn a_checksum_can_stay_with_the_receiver() {
    let plan = Plan::new(&hex(TCP), &gso(Gso::TcpV4, 4, 34, 16), 63).unwrap();
    let mut segment = plan.segment(1);
    let facts = segment.leave();
    assert_eq!((facts.checksum_start, facts.checksum_offset, facts.gso), (34, 16, Gso::None));
    // The sum of c000 0201 c633 6407 0006 0018, by hand: 1EC59h, EC5Ah with its carry.
    let header = segment.header().to_vec();
    assert_eq!(&header[50..52], [0xec, 0x5a]);
    // Whoever completes it later gets what we would have stored.
    let whole = [header, b"dpip".to_vec()].concat();
    assert_eq!(cut(&whole, &facts).unwrap()[0][50..52], [0xbf, 0x27]);
}

#[test]
fn a_frame_that_needs_nothing_is_left_alone() {
    let frame = hex(TCP);
    assert_eq!(cut(&frame, &FrameFacts::default()).unwrap(), [frame]);
    assert!(!Plan::new(&hex(TCP), &FrameFacts::default(), 63).unwrap().segment(0).wants_sum());
    assert_eq!(cut(&[], &FrameFacts::default()).unwrap(), [vec![]]);
}

#[test]
fn headers_without_payload_are_one_frame() {
    let frame = hex(TCP)[..54].to_vec();
    let segments = cut(&frame, &gso(Gso::TcpV4, 1460, 34, 16)).unwrap();
    assert_eq!(segments.len(), 1);
    assert_eq!(segments[0][16..18], [0, 40]);
    assert_eq!(segments[0][47], 0x99);
}

#[test]
fn claims_that_cannot_be_true() {
    let frame = hex(TCP);
    let with = |at: usize, value: u8| {
        let mut frame = frame.clone();
        frame[at] = value;
        frame
    };
    let tcp = gso(Gso::TcpV4, 4, 34, 16);
    let fault = |frame: &[u8], facts: FrameFacts| cut(frame, &facts).unwrap_err();
    assert_eq!(fault(&frame, gso(Gso::TcpV4, 0, 34, 16)), Fault::SegmentZero);
    assert_eq!(fault(&frame, gso(Gso::TcpV4, 4, 33, 17)), Fault::ChecksumMissing);
    assert_eq!(fault(&frame, gso(Gso::TcpV4, 4, 34, 6)), Fault::ChecksumMissing);
    assert_eq!(
        fault(&frame, FrameFacts { gso: Gso::TcpV4, segment: 4, ..FrameFacts::default() }),
        Fault::ChecksumMissing
    );
    assert_eq!(fault(&frame, gso(Gso::TcpV4, 4, 34, 40)), Fault::ChecksumOutside);
    assert_eq!(fault(&frame, gso(Gso::None, 0, 65534, 65535)), Fault::ChecksumOutside);
    assert_eq!(fault(&frame, gso(Gso::None, 0, 61, 1)), Fault::ChecksumOutside);
    assert_eq!(fault(&frame, gso(Gso::TcpV6, 4, 34, 16)), Fault::WrongNetwork);
    assert_eq!(fault(&frame, gso(Gso::UdpL4, 4, 34, 6)), Fault::WrongTransport);
    assert_eq!(fault(&frame, gso(Gso::Udp, 4, 34, 6)), Fault::Unsupported);
    assert_eq!(fault(&with(14, 0x44), tcp), Fault::BadNetworkHeader);
    assert_eq!(fault(&with(14, 0x65), tcp), Fault::BadNetworkHeader);
    assert_eq!(fault(&with(20, 0x20), tcp), Fault::Fragment);
    assert_eq!(fault(&with(21, 0x01), tcp), Fault::Fragment);
    assert_eq!(fault(&with(23, 17), tcp), Fault::WrongTransport);
    assert_eq!(fault(&with(46, 0x40), tcp), Fault::BadTransportHeader);
    assert_eq!(fault(&with(46, 0xf0), tcp), Fault::HeaderTooShort);
    let mut long = frame.clone();
    long.resize(54 + 1025, 0);
    assert_eq!(fault(&long, gso(Gso::TcpV4, 1, 34, 16)), Fault::SegmentCount);
    long.resize(70_000, 0);
    assert_eq!(fault(&long, gso(Gso::TcpV4, 65_500, 34, 16)), Fault::SegmentCount);
    for short in 0..54 {
        assert!(cut(&frame[..short], &tcp).is_err(), "{short}");
    }
}
