//! What a transmit descriptor leaves to the device, as facts that others understand.

use crate::bits::{Offload, TxDesc};
use crate::headers::{self, Headers, Network, fold, pseudo_header, sum};
use crate::tunnel;
use frame::HEADER_MAX;
use request::{FrameFacts, Gso};

/// Largest frame whose length fields can be right.
const PACKET_MAX: u32 = 65_535;

/// CWR, in the byte of TCP's flags (RFC 3168, 6.1).
const CWR: u8 = 0x80;

/// What a frame's first descriptor asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    None,
    /// From where to sum, and where the sum goes, both from the frame's first byte.
    Checksum {
        start: u16,
        place: u16,
    },
    Segmentation {
        header: u16,
        segment: u16,
    },
    /// The same within a tunnel; `header` reaches to the end of the inner headers.
    InnerChecksum {
        header: u16,
        outer_checksum: bool,
    },
    InnerSegmentation {
        header: u16,
        segment: u16,
        outer_checksum: bool,
    },
    /// What this revision does not have.
    Unknown,
}

impl Request {
    #[inline]
    pub fn new(first: TxDesc, revision: u8) -> Request {
        let (header, value) = (first.header_len(), first.mss_or_offset());
        let outer_checksum = first.outer_checksum();
        match first.offload() {
            Offload::None => Request::None,
            Offload::Checksum if revision >= 7 && first.inner() => {
                Request::InnerChecksum { header, outer_checksum }
            }
            Offload::Checksum => Request::Checksum { start: header, place: value },
            Offload::Segmentation if revision >= 7 && first.inner() => {
                Request::InnerSegmentation { header, segment: value, outer_checksum }
            }
            Offload::Segmentation => Request::Segmentation { header, segment: value },
            Offload::Encapsulated if revision < 4 => Request::Unknown,
            Offload::Encapsulated if value == 0 => Request::InnerChecksum { header, outer_checksum },
            Offload::Encapsulated => Request::InnerSegmentation { header, segment: value, outer_checksum },
        }
    }

    /// Bytes to copy out; no more than the headers where what follows is to be cut.
    pub fn wanted(self) -> usize {
        match self {
            Request::InnerSegmentation { header, .. } => usize::from(header).min(HEADER_MAX),
            _ => HEADER_MAX,
        }
    }
}

/// Makes facts, and mends the header's copy where the driver left things out. `None`: the request
/// contradicts the frame. (Segmentation within a tunnel is [`tunnel::Train`]'s.)
pub fn prepare(request: Request, header: &mut [u8], len: u32) -> Option<FrameFacts> {
    match request {
        Request::None => Some(FrameFacts::default()),
        Request::Checksum { start, place } => {
            let offset = place.checked_sub(start)?;
            if u32::from(place) + 2 > len || start < 14 {
                return None;
            }
            Some(FrameFacts { checksum_start: start, checksum_offset: offset, ..FrameFacts::default() })
        }
        Request::Segmentation { header: header_len, segment } => {
            segmentation(header_len, segment, header, len)
        }
        Request::InnerChecksum { header: header_len, outer_checksum } => {
            let layers = tunnel::layers(header, usize::from(header_len))?;
            if outer_checksum {
                layers.outer_checksum(header, len)?;
            }
            Some(layers.facts())
        }
        Request::InnerSegmentation { .. } | Request::Unknown => None,
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
pub fn mend_network(header: &mut [u8], found: &Headers, len: u32) -> Option<()> {
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
