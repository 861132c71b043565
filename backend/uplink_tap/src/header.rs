//! The virtio-net header (VIRTIO 1.3, 5.1.6), as the kernel's TAP reads and writes it.

use host::tap::HEADER_BYTES;
use request::{CHECKSUM_NONE, FrameFacts, Gso};

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_UDP: u8 = 3;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// The header of a frame of `len` bytes.
pub(crate) fn encode(facts: FrameFacts, len: u64, into: &mut [u8]) {
    let needs = facts.checksum_start != CHECKSUM_NONE;
    let gso = match facts.gso {
        Gso::None => GSO_NONE,
        Gso::TcpV4 => GSO_TCPV4,
        Gso::TcpV6 => GSO_TCPV6,
        Gso::Udp => GSO_UDP,
        Gso::UdpL4 => GSO_UDP_L4,
    };
    into[0] = if needs { NEEDS_CSUM } else { 0 } | if facts.checksum_valid { DATA_VALID } else { 0 };
    into[1] = gso | if facts.ecn && gso != GSO_NONE { GSO_ECN } else { 0 };
    // A hint, and the kernel refuses one that is longer than the frame.
    let header = u64::from(facts.header).min(len) as u16;
    let (start, offset) = if needs { (facts.checksum_start, facts.checksum_offset) } else { (0, 0) };
    let segment = if gso == GSO_NONE { 0 } else { facts.segment };
    for (index, field) in [header, segment, start, offset, 0].into_iter().enumerate() {
        into[2 + 2 * index..4 + 2 * index].copy_from_slice(&field.to_le_bytes());
    }
}

/// What a header says of a frame of `len` bytes; `None` if it makes no sense.
pub(crate) fn decode(header: &[u8], len: usize) -> Option<FrameFacts> {
    let header: &[u8; HEADER_BYTES] = header.try_into().ok()?;
    let field = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let gso = match header[1] & !GSO_ECN {
        GSO_NONE => Gso::None,
        GSO_TCPV4 => Gso::TcpV4,
        GSO_TCPV6 => Gso::TcpV6,
        GSO_UDP => Gso::Udp,
        GSO_UDP_L4 => Gso::UdpL4,
        _ => return None,
    };
    let (start, offset) = match header[0] & NEEDS_CSUM {
        0 => (CHECKSUM_NONE, 0),
        _ => (field(6), field(8)),
    };
    if start != CHECKSUM_NONE && usize::from(start) + usize::from(offset) + 2 > len {
        return None;
    }
    let segment = if gso == Gso::None { 0 } else { field(4) };
    if gso != Gso::None && segment == 0 {
        return None;
    }
    Some(FrameFacts {
        checksum_start: start,
        checksum_offset: offset,
        checksum_valid: header[0] & DATA_VALID != 0,
        gso,
        ecn: header[1] & GSO_ECN != 0,
        segment,
        header: field(2),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Typed from VIRTIO 1.3, 5.1.6: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset,
    /// num_buffers.
    const TCP: [u8; 12] = [1, 0x81, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];

    fn tcp() -> FrameFacts {
        FrameFacts {
            checksum_start: 34,
            checksum_offset: 16,
            checksum_valid: false,
            gso: Gso::TcpV4,
            ecn: true,
            segment: 1448,
            header: 66,
        }
    }

    #[test]
    fn a_header_is_written_and_read_as_the_specification_has_it() {
        let mut bytes = [0xff; 12];
        encode(tcp(), 9000, &mut bytes);
        assert_eq!(bytes, TCP);
        assert_eq!(decode(&TCP, 9000), Some(tcp()));

        encode(FrameFacts { checksum_valid: true, ..FrameFacts::default() }, 60, &mut bytes);
        assert_eq!(bytes, [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode(&[0; 12], 60), Some(FrameFacts::default()));
    }

    #[test]
    fn a_header_hint_is_no_longer_than_its_frame() {
        let mut bytes = [0; 12];
        encode(tcp(), 60, &mut bytes);
        assert_eq!(bytes[2..4], [60, 0]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(decode(&TCP, 51), None, "the checksum lies behind the end");
        assert!(decode(&TCP, 52).is_some());
        let with = |at: usize, value: u8| {
            let mut bytes = TCP;
            bytes[at] = value;
            decode(&bytes, 9000)
        };
        assert_eq!(with(1, 2), None);
        assert_eq!(with(1, 6), None);
        assert!(with(1, 5).is_some());
        let mut bytes = TCP;
        bytes[4..6].fill(0);
        assert_eq!(decode(&bytes, 9000), None, "segments of nothing");
    }
}
