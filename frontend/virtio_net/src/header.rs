//! `struct virtio_net_hdr` (5.1.6): ten bytes, and two for `num_buffers`.

use crate::features::{Features, bit};
use frame::Drop;
use request::{CHECKSUM_NONE, FrameFacts, Gso};

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

const GSO_TCPV4: u8 = 1;
const GSO_UDP: u8 = 3;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// Nothing left undone, nothing to be read.
#[inline]
pub fn is_plain(raw: &[u8; 10]) -> bool {
    raw[0] & NEEDS_CSUM == 0 && raw[1] == 0
}

/// Reads what a driver says of its frame, and holds it to what was negotiated (5.1.6.2.1).
pub fn parse(raw: &[u8; 10], features: Features) -> Result<FrameFacts, Drop> {
    if is_plain(raw) {
        return Ok(FrameFacts::default());
    }
    let word = |at: usize| u16::from_le_bytes([raw[at], raw[at + 1]]);
    let mut facts = FrameFacts::default();
    if raw[0] & NEEDS_CSUM != 0 {
        if !features.has(bit::CSUM) {
            return Err(Drop::NotNegotiated);
        }
        facts.checksum_start = word(6);
        facts.checksum_offset = word(8);
        // A frame is not that long; the number means "none" from here on.
        if facts.checksum_start == CHECKSUM_NONE {
            return Err(Drop::BadHeader);
        }
    }
    let (gso, needed) = match raw[1] & !GSO_ECN {
        0 => return Ok(facts),
        GSO_TCPV4 => (Gso::TcpV4, bit::HOST_TSO4),
        GSO_TCPV6 => (Gso::TcpV6, bit::HOST_TSO6),
        GSO_UDP_L4 => (Gso::UdpL4, bit::HOST_USO),
        GSO_UDP => return Err(Drop::NotNegotiated),
        _ => return Err(Drop::BadHeader),
    };
    let ecn = raw[1] & GSO_ECN != 0;
    if !features.has(needed) || (ecn && !features.has(bit::HOST_ECN)) {
        return Err(Drop::NotNegotiated);
    }
    // 5.1.6.2.1: with a gso_type, NEEDS_CSUM is set.
    if facts.checksum_start == CHECKSUM_NONE || (ecn && gso == Gso::UdpL4) {
        return Err(Drop::BadHeader);
    }
    facts.gso = gso;
    facts.ecn = ecn;
    facts.header = word(2);
    facts.segment = word(4);
    Ok(facts)
}

/// What a driver must have accepted to be given a frame with these facts; `v6` tells the two kinds
/// of UDP segmentation apart.
#[inline]
pub fn can_take(features: Features, facts: &FrameFacts, v6: bool) -> bool {
    if facts.checksum_start != CHECKSUM_NONE && !features.has(bit::GUEST_CSUM) {
        return false;
    }
    let kind = match facts.gso {
        Gso::None => return true,
        Gso::TcpV4 => bit::GUEST_TSO4,
        Gso::TcpV6 => bit::GUEST_TSO6,
        Gso::UdpL4 if v6 => bit::GUEST_USO6,
        Gso::UdpL4 => bit::GUEST_USO4,
        Gso::Udp => return false,
    };
    features.has(kind) && (!facts.ecn || features.has(bit::GUEST_ECN))
}

/// Writes the header of a frame for a driver that can take it. `num_buffers` is 1 for now.
#[inline]
pub fn encode(facts: &FrameFacts, features: Features) -> [u8; 12] {
    let mut raw = [0; 12];
    raw[10] = 1;
    if facts.checksum_start != CHECKSUM_NONE {
        raw[0] = NEEDS_CSUM;
        raw[6..8].copy_from_slice(&facts.checksum_start.to_le_bytes());
        raw[8..10].copy_from_slice(&facts.checksum_offset.to_le_bytes());
    } else if facts.checksum_valid && features.has(bit::GUEST_CSUM) {
        raw[0] = DATA_VALID;
    }
    if facts.gso != Gso::None {
        raw[1] = match facts.gso {
            Gso::None => 0,
            Gso::TcpV4 => GSO_TCPV4,
            Gso::TcpV6 => GSO_TCPV6,
            Gso::Udp => GSO_UDP,
            Gso::UdpL4 => GSO_UDP_L4,
        };
        if facts.ecn {
            raw[1] |= GSO_ECN;
        }
        raw[2..4].copy_from_slice(&facts.header.to_le_bytes());
        raw[4..6].copy_from_slice(&facts.segment.to_le_bytes());
    }
    raw
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OFFERED;

    const ALL: Features = Features(OFFERED);

    /// Flags 1, gso 81h (TCPv4, ECN), hdr_len 54, gso_size 1448, csum_start 34, csum_offset 16.
    const TSO: [u8; 10] = [0x01, 0x81, 0x36, 0x00, 0xa8, 0x05, 0x22, 0x00, 0x10, 0x00];

    #[test]
    fn a_header_in_digits() {
        let facts = parse(&TSO, ALL).unwrap();
        let expected = FrameFacts {
            checksum_start: 34,
            checksum_offset: 16,
            checksum_valid: false,
            gso: Gso::TcpV4,
            ecn: true,
            segment: 1448,
            header: 54,
        };
        assert_eq!(facts, expected);
        assert_eq!(encode(&facts, ALL)[..10], TSO);
        assert_eq!(encode(&FrameFacts::default(), ALL), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        let valid = FrameFacts { checksum_valid: true, ..FrameFacts::default() };
        assert_eq!(encode(&valid, ALL)[0], 2);
        assert_eq!(encode(&valid, Features(0))[0], 0);
    }

    #[test]
    fn what_was_not_negotiated_is_refused() {
        let without = |bit: u32| Features(OFFERED & !(1 << bit));
        for bit in [bit::CSUM, bit::HOST_TSO4, bit::HOST_ECN] {
            assert_eq!(parse(&TSO, without(bit)), Err(Drop::NotNegotiated));
        }
        let with = |at: usize, value: u8| {
            let mut raw = TSO;
            raw[at] = value;
            parse(&raw, ALL)
        };
        assert_eq!(with(0, 0), Err(Drop::BadHeader));
        assert_eq!(with(1, 3), Err(Drop::NotNegotiated));
        assert_eq!(with(1, 2), Err(Drop::BadHeader));
        assert_eq!(with(1, 0x85), Err(Drop::BadHeader));
        assert_eq!(with(1, 5).unwrap().gso, Gso::UdpL4);
        assert_eq!(with(1, 4).unwrap().gso, Gso::TcpV6);
        assert_eq!(parse(&[1, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0], ALL), Err(Drop::BadHeader));
    }

    #[test]
    fn a_receiver_takes_what_it_negotiated() {
        let facts = parse(&TSO, ALL).unwrap();
        assert!(can_take(ALL, &facts, false));
        for bit in [bit::GUEST_CSUM, bit::GUEST_TSO4, bit::GUEST_ECN] {
            assert!(!can_take(Features(OFFERED & !(1 << bit)), &facts, false));
        }
        let uso = FrameFacts { gso: Gso::UdpL4, ecn: false, ..facts };
        assert!(!can_take(Features(OFFERED & !(1 << bit::GUEST_USO6)), &uso, true));
        assert!(can_take(Features(OFFERED & !(1 << bit::GUEST_USO6)), &uso, false));
        assert!(can_take(Features(0), &FrameFacts::default(), false));
    }
}
