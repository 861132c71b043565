//! Where a frame's headers begin.

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ESP: u8 = 50;

/// Extension headers that are stepped over; a frame with more has no fourth layer here.
const EXTENSIONS_MAX: usize = 8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    #[default]
    Other,
    V4,
    V6,
}

/// What was found; offsets count from the frame's first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    pub network: Network,
    pub network_at: usize,
    /// 0 if there is none that is known, and in every fragment.
    pub protocol: u8,
    pub transport_at: usize,
    pub fragment: bool,
}

impl Headers {
    pub fn is_tcp(&self) -> bool {
        self.protocol == TCP
    }

    pub fn is_udp(&self) -> bool {
        self.protocol == UDP
    }
}

/// Reads an Ethernet frame's headers behind at most two tags.
pub fn of_frame(frame: &[u8]) -> Headers {
    let mut at = 12;
    for _ in 0..2 {
        if matches!(word(frame, at), Some(0x8100 | 0x88a8)) {
            at += 4;
        }
    }
    match word(frame, at) {
        Some(0x0800) => of_v4(frame, at + 2),
        Some(0x86dd) => of_v6(frame, at + 2),
        _ => Headers::default(),
    }
}

fn of_v4(frame: &[u8], at: usize) -> Headers {
    let Some(ip) = frame.get(at..).and_then(|ip| ip.first_chunk::<20>()) else {
        return Headers::default();
    };
    let length = usize::from(ip[0] & 0xf) * 4;
    if ip[0] >> 4 != 4 || length < 20 {
        return Headers::default();
    }
    let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
    Headers {
        network: Network::V4,
        network_at: at,
        protocol: if fragment { 0 } else { ip[9] },
        transport_at: at + length,
        fragment,
    }
}

fn of_v6(frame: &[u8], at: usize) -> Headers {
    let Some(ip) = frame.get(at..).and_then(|ip| ip.first_chunk::<40>()) else {
        return Headers::default();
    };
    let mut found =
        Headers { network: Network::V6, network_at: at, protocol: 0, transport_at: at + 40, fragment: false };
    let mut next = ip[6];
    for _ in 0..EXTENSIONS_MAX {
        let unit = match next {
            // Hop-by-hop options, routing, destination options (RFC 8200, 4.3 to 4.6).
            0 | 43 | 60 => 8,
            // Authentication (RFC 4302, 2.2) counts in words, without two.
            51 => 4,
            44 => {
                found.fragment = true;
                return found;
            }
            protocol => {
                found.protocol = protocol;
                return found;
            }
        };
        let Some([following, length]) =
            frame.get(found.transport_at..).and_then(|extension| extension.first_chunk::<2>())
        else {
            return found;
        };
        next = *following;
        found.transport_at +=
            if unit == 8 { (usize::from(*length) + 1) * 8 } else { (usize::from(*length) + 2) * 4 };
    }
    found
}

pub fn word(frame: &[u8], at: usize) -> Option<u16> {
    frame.get(at..at.checked_add(2)?).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Sum of 16-bit words, not yet folded (RFC 1071). An odd byte counts as a word's first.
pub fn sum(bytes: &[u8]) -> u32 {
    let mut total = 0u32;
    let mut pairs = bytes.chunks_exact(2);
    for pair in &mut pairs {
        total += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    if let [last] = pairs.remainder() {
        total += u32::from(*last) << 8;
    }
    total
}

pub fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Sum over addresses, protocol and length: what a checksum begins with (RFC 9293, 3.1; RFC 8200,
/// 8.1).
pub fn pseudo_header(frame: &[u8], headers: &Headers, length: u32) -> Option<u32> {
    let at = headers.network_at;
    let addresses = match headers.network {
        Network::V4 => frame.get(at + 12..at + 20)?,
        Network::V6 => frame.get(at + 8..at + 40)?,
        Network::Other => return None,
    };
    Some(sum(addresses) + u32::from(headers.protocol) + (length >> 16) + (length & 0xffff))
}

/// Is the IPv4 header's own checksum right?
pub fn network_checksum_correct(frame: &[u8], headers: &Headers) -> bool {
    frame.get(headers.network_at..headers.transport_at).is_some_and(|ip| fold(sum(ip)) == 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_found_behind_tags_options_and_extensions() {
        let mut frame = [0u8; 96];
        frame[12..16].copy_from_slice(&[0x81, 0, 0, 7]);
        frame[16..18].copy_from_slice(&[0x08, 0]);
        frame[18] = 0x46;
        frame[27] = TCP;
        let found = of_frame(&frame);
        assert_eq!((found.network, found.network_at, found.transport_at), (Network::V4, 18, 42));
        assert!(found.is_tcp() && !found.fragment);
        frame[24] = 0x20;
        assert!(of_frame(&frame).fragment && !of_frame(&frame).is_tcp());
        frame[18] = 0x44;
        assert_eq!(of_frame(&frame), Headers::default());

        let mut frame = [0u8; 96];
        frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
        frame[20] = 60;
        frame[54] = 51;
        frame[55] = 0;
        frame[62] = UDP;
        frame[63] = 1;
        let found = of_frame(&frame);
        assert_eq!((found.network, found.transport_at, found.protocol), (Network::V6, 74, UDP));
        for len in 0..frame.len() {
            of_frame(&frame[..len]);
        }
    }

    #[test]
    fn a_header_from_a_book() {
        // The example of RFC 1071's folklore: 192.168.0.1 to 192.168.0.199, UDP, checksum B861h.
        let ip = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01,
            0xc0, 0xa8, 0x00, 0xc7,
        ];
        let mut frame = [0u8; 34];
        frame[12] = 8;
        frame[14..].copy_from_slice(&ip);
        let found = of_frame(&frame);
        assert!(network_checksum_correct(&frame, &found));
        frame[30] ^= 1;
        assert!(!network_checksum_correct(&frame, &found));
    }
}
