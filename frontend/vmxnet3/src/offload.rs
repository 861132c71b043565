//! What a transmit descriptor leaves to the device, as facts that others understand.

use crate::bits::{Offload, TxDesc};
use crate::headers::{self, Headers, Network, fold, pseudo_header, sum};
use request::{FrameFacts, Gso};

/// Largest frame whose length fields can be right.
const PACKET_MAX: u32 = 65_535;

/// CWR, in the byte of TCP's flags (RFC 3168, 6.1).
const CWR: u8 = 0x80;

#[derive(Clone, Copy, Debug)]
pub struct Request {
    kind: Offload,
    header_len: u16,
    mss_or_offset: u16,
}

impl Request {
    pub fn new(first: TxDesc, _revision: u8) -> Request {
        Request {
            kind: first.offload(),
            header_len: first.header_len(),
            mss_or_offset: first.mss_or_offset(),
        }
    }
}

/// Makes facts, and mends the header's copy where the driver left things out. `None`: the request
/// contradicts the frame.
pub fn prepare(request: Request, header: &mut [u8], len: u32) -> Option<FrameFacts> {
    match request.kind {
        Offload::None => Some(FrameFacts::default()),
        Offload::Checksum => {
            let start = request.header_len;
            let offset = request.mss_or_offset.checked_sub(start)?;
            if u32::from(start) + u32::from(offset) + 2 > len || start < 14 {
                return None;
            }
            Some(FrameFacts { checksum_start: start, checksum_offset: offset, ..FrameFacts::default() })
        }
        Offload::Segmentation | Offload::Encapsulated => {
            segmentation(request.header_len, request.mss_or_offset, header, len)
        }
    }
}

/// TSO, and the same for UDP. A driver may have left lengths at 0 and the sum over the pseudo header
/// without a length (Linux does the latter, Windows both); others expect what a stack would send that
/// had segmentation from its own NIC, so all of it is computed anew.
fn segmentation(header_len: u16, segment: u16, header: &mut [u8], len: u32) -> Option<FrameFacts> {
    let found = headers::of_frame(header);
    let (gso, offset, least) = match (found.network, found.protocol) {
        (Network::V4, headers::TCP) => (Gso::TcpV4, 16, 20),
        (Network::V6, headers::TCP) => (Gso::TcpV6, 16, 20),
        (Network::V4 | Network::V6, headers::UDP) => (Gso::UdpL4, 6, 8),
        _ => return None,
    };
    let transport = found.transport_at;
    let header_len = usize::from(header_len);
    if segment == 0 || header_len < transport + least || header_len > header.len() {
        return None;
    }
    let payload = len.checked_sub(header_len as u32)?;
    mend_network(header, &found, len)?;
    let transport_len = len.checked_sub(transport as u32)?;
    if gso == Gso::UdpL4 {
        header[transport + 4..transport + 6].copy_from_slice(&(transport_len as u16).to_be_bytes());
    }
    let sum = fold(pseudo_header(header, &found, transport_len)?);
    header[transport + offset..transport + offset + 2].copy_from_slice(&sum.to_be_bytes());
    let facts = FrameFacts {
        checksum_start: transport as u16,
        checksum_offset: offset as u16,
        ..FrameFacts::default()
    };
    if payload <= u32::from(segment) {
        return Some(facts);
    }
    let ecn = gso != Gso::UdpL4 && header[transport + 13] & CWR != 0;
    Some(FrameFacts { gso, ecn, segment, header: header_len as u16, ..facts })
}

/// Length fields and the IPv4 header's own checksum.
fn mend_network(header: &mut [u8], found: &Headers, len: u32) -> Option<()> {
    let at = found.network_at;
    let packet = len.checked_sub(at as u32).filter(|packet| *packet <= PACKET_MAX)?;
    match found.network {
        Network::V4 => {
            header.get_mut(at + 2..at + 4)?.copy_from_slice(&(packet as u16).to_be_bytes());
            header.get_mut(at + 10..at + 12)?.fill(0);
            let checksum = !fold(sum(header.get(at..found.transport_at)?));
            header[at + 10..at + 12].copy_from_slice(&checksum.to_be_bytes());
        }
        Network::V6 => {
            let payload = (packet.checked_sub(40)?) as u16;
            header.get_mut(at + 4..at + 6)?.copy_from_slice(&payload.to_be_bytes());
        }
        Network::Other => return None,
    }
    Some(())
}
