use request::{CHECKSUM_NONE, FrameFacts, Gso};

/// Bytes of a frame that are looked at. Ethernet with two tags, IPv4 and TCP with all options take
/// 142; the rest is for IPv6 extension headers.
pub const HEADER_MAX: usize = 256;

/// IPv6 extension headers that are walked, so that a chain of empty ones ends soon.
const EXTENSIONS_MAX: usize = 8;

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a sender's claims about its frame cannot be true. Each is a counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Fault { $($(#[$doc])* $variant,)* }

        impl Fault {
            pub const ALL: &[Fault] = &[$(Fault::$variant,)*];

            /// The operator's counter.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$variant => $name,)* }
            }
        }
    };
}

faults! {
    /// The frame ends within a header, or its headers are longer than `HEADER_MAX`.
    HeaderTooShort = "header_too_short",
    /// The checksum would be stored behind the frame's end or behind the headers.
    ChecksumOutside = "checksum_outside",
    /// Segmentation without a checksum at the transport header.
    ChecksumMissing = "checksum_missing",
    /// Segments of no bytes.
    SegmentZero = "segment_zero",
    /// More than `SEGMENTS_MAX`, or one that no IP packet can hold.
    SegmentCount = "segment_count",
    /// Not the network protocol that the kind of segmentation says.
    WrongNetwork = "wrong_network",
    /// Not the transport protocol that the kind of segmentation says.
    WrongTransport = "wrong_transport",
    /// A length or version within the IP header is impossible.
    BadNetworkHeader = "bad_network_header",
    /// The TCP data offset is impossible.
    BadTransportHeader = "bad_transport_header",
    /// A fragment cannot be segmented.
    Fragment = "fragment",
    /// UDP fragmentation, which was not offered, or a routing header in use.
    Unsupported = "unsupported",
}

/// Where a frame's headers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Headers {
    pub network: usize,
    pub transport: usize,
    /// Length of all headers.
    pub len: usize,
    pub v6: bool,
    pub tcp: bool,
}

fn word(bytes: &[u8], at: usize) -> Result<u16, Fault> {
    let pair = bytes.get(at..at + 2).ok_or(Fault::HeaderTooShort)?;
    Ok(u16::from_be_bytes([pair[0], pair[1]]))
}

fn byte(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    bytes.get(at).copied().map(usize::from).ok_or(Fault::HeaderTooShort)
}

/// The place of the network header, and its EtherType: behind at most two VLAN tags.
fn network(bytes: &[u8]) -> Result<(usize, u16), Fault> {
    let mut at = 12;
    for _ in 0..2 {
        match word(bytes, at)? {
            0x8100 | 0x88a8 | 0x9100 => at += 4,
            _ => break,
        }
    }
    Ok((at + 2, word(bytes, at)?))
}

impl Headers {
    /// Finds the headers of a frame that is to be segmented.
    pub fn parse(bytes: &[u8], gso: Gso) -> Result<Headers, Fault> {
        let (network, ether_type) = network(bytes)?;
        let (v6, transport, protocol) = match (ether_type, gso) {
            (0x0800, Gso::TcpV4 | Gso::UdpL4) => {
                let (transport, protocol) = v4(bytes, network)?;
                (false, transport, protocol)
            }
            (0x86dd, Gso::TcpV6 | Gso::UdpL4) => {
                let (transport, protocol) = v6(bytes, network)?;
                (true, transport, protocol)
            }
            _ => return Err(Fault::WrongNetwork),
        };
        let tcp = match (protocol, gso) {
            (6, Gso::TcpV4 | Gso::TcpV6) => true,
            (17, Gso::UdpL4) => false,
            _ => return Err(Fault::WrongTransport),
        };
        let own = if tcp { (byte(bytes, transport + 12)? >> 4) * 4 } else { 8 };
        if tcp && own < 20 {
            return Err(Fault::BadTransportHeader);
        }
        let len = transport + own;
        if len > bytes.len() || len > HEADER_MAX {
            return Err(Fault::HeaderTooShort);
        }
        Ok(Headers { network, transport, len, v6, tcp })
    }
}

fn v4(bytes: &[u8], network: usize) -> Result<(usize, usize), Fault> {
    let first = byte(bytes, network)?;
    let len = (first & 0xf) * 4;
    if first >> 4 != 4 || len < 20 {
        return Err(Fault::BadNetworkHeader);
    }
    // More fragments, or a fragment offset.
    if word(bytes, network + 6)? & 0x3fff != 0 {
        return Err(Fault::Fragment);
    }
    Ok((network + len, byte(bytes, network + 9)?))
}

fn v6(bytes: &[u8], network: usize) -> Result<(usize, usize), Fault> {
    if byte(bytes, network)? >> 4 != 6 {
        return Err(Fault::BadNetworkHeader);
    }
    let mut next = byte(bytes, network + 6)?;
    let mut at = network + 40;
    for _ in 0..EXTENSIONS_MAX {
        match next {
            // The pseudo header needs the final destination (RFC 8200 section 8.1), which a routing
            // header that is still in use has hidden in itself.
            43 if byte(bytes, at + 3)? != 0 => return Err(Fault::Unsupported),
            // Hop-by-hop options, routing, destination options (RFC 8200 section 4).
            0 | 43 | 60 => {
                next = byte(bytes, at)?;
                at += (byte(bytes, at + 1)? + 1) * 8;
            }
            44 => return Err(Fault::Fragment),
            _ => return Ok((at, next)),
        }
    }
    Err(Fault::BadNetworkHeader)
}

/// Checks the claims that do not depend on what is inside the frame.
pub(crate) fn checksum_place(facts: &FrameFacts, header: usize, total: u32) -> Result<Option<usize>, Fault> {
    if facts.checksum_start == CHECKSUM_NONE {
        return Ok(None);
    }
    let place = usize::from(facts.checksum_start) + usize::from(facts.checksum_offset);
    if place + 2 > header || place + 2 > total as usize {
        return Err(Fault::ChecksumOutside);
    }
    Ok(Some(place))
}
