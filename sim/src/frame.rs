//! Frames that say what they should be, and a reader that believes nothing.

use request::Mac;

pub const HEADER: usize = 12;
const ETHERNET: usize = 14;
const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
/// Local experimental EtherType (IEEE 802, clause 9.2.4).
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];
const TCP_HEADERS: usize = ETHERNET + 20 + 20;

/// A frame's payload at an offset.
fn pattern(id: u32, offset: usize) -> u8 {
    (id as usize).wrapping_mul(31).wrapping_add(offset.wrapping_mul(7)).wrapping_add(offset >> 8) as u8
}

/// One's complement sum (RFC 1071), written for reading.
fn checksum(mut sum: u32, bytes: &[u8]) -> u32 {
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

fn pseudo(packet: &[u8], len: usize) -> u32 {
    checksum(6 + len as u32, &packet[12..20])
}

/// A frame of an experimental protocol: its id, its length, its payload.
pub fn plain(id: u32, to: Mac, from: Mac, payload: usize) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    frame.extend(to.0);
    frame.extend(from.0);
    frame.extend(EXPERIMENTAL);
    frame.extend(id.to_be_bytes());
    frame.extend((payload as u32).to_be_bytes());
    frame.extend((0..payload).map(|offset| pattern(id, offset)));
    frame
}

/// A TCP segment whose checksum is left to somebody else; `segment` is not 0: its segmentation too.
/// The acknowledgement number is its id, and the sequence number counts its payload from 0.
pub fn tcp(id: u32, to: Mac, from: Mac, payload: usize, segment: u16) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    frame[0] = NEEDS_CSUM;
    if segment != 0 {
        frame[1] = GSO_TCPV4;
        frame[2..4].copy_from_slice(&(TCP_HEADERS as u16).to_le_bytes());
        frame[4..6].copy_from_slice(&segment.to_le_bytes());
    }
    frame[6..8].copy_from_slice(&((ETHERNET + 20) as u16).to_le_bytes());
    frame[8..10].copy_from_slice(&16u16.to_le_bytes());
    frame.extend(to.0);
    frame.extend(from.0);
    frame.extend([0x08, 0x00]);
    let total = (40 + payload) as u16;
    let mut ip = [0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, from.0[5], 10, 0, 0, to.0[5]];
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    let sum = !(checksum(0, &ip) as u16);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    let mut tcp = [0; 20];
    tcp[..4].copy_from_slice(&[0x30, 0x39, 0x00, 0x50]);
    tcp[8..12].copy_from_slice(&id.to_be_bytes());
    tcp[12] = 5 << 4;
    tcp[13] = 0x18;
    tcp[14..16].copy_from_slice(&0xffffu16.to_be_bytes());
    let partial = pseudo(&ip, 20 + payload) as u16;
    tcp[16..18].copy_from_slice(&partial.to_be_bytes());
    frame.extend(tcp);
    frame.extend((0..payload).map(|offset| pattern(id, offset)));
    frame
}

/// The id of a frame, by its first bytes.
pub fn id_of(frame: &[u8]) -> Option<u32> {
    let at = match frame.get(12..14)? {
        [0x08, 0x00] => ETHERNET + 20 + 8,
        _ => ETHERNET,
    };
    Some(u32::from_be_bytes(*frame.get(at..)?.first_chunk()?))
}

/// What a received frame is a part of.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    pub id: u32,
    pub offset: usize,
    pub len: usize,
}

/// Checks every byte of a received frame, its virtio header included. `checksums`: the receiver said
/// that it takes frames whose checksum is left to it; `segments`: whose segmentation is.
pub fn check(bytes: &[u8], mac: Mac, checksums: bool, segments: bool) -> Result<Part, String> {
    let Some((header, frame)) = bytes.split_at_checked(HEADER) else { return Err("no header".into()) };
    if frame.len() < ETHERNET + 8 {
        return Err(format!("a frame of {} bytes", frame.len()));
    }
    if frame[..6] != mac.0 && frame[0] & 1 == 0 {
        return Err(format!("a frame for {:x?}", &frame[..6]));
    }
    let undone = header[0] & NEEDS_CSUM != 0;
    if undone && !checksums || header[1] != 0 && !segments {
        return Err(format!("an offload that was not negotiated: {header:x?}"));
    }
    if frame[12..14] == EXPERIMENTAL {
        if undone || header[1] != 0 {
            return Err(format!("an offload that nobody asked for: {header:x?}"));
        }
        let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().expect("four bytes"));
        let (id, len) = (word(14), word(18) as usize);
        return payload(id, 0, &frame[22..], len);
    }
    if frame[12..14] != [0x08, 0x00] || frame.len() < TCP_HEADERS {
        return Err(format!("EtherType {:x?}", &frame[12..14]));
    }
    let packet = &frame[ETHERNET..];
    if packet.len() != usize::from(u16::from_be_bytes([packet[2], packet[3]])) {
        return Err("the packet's length".into());
    }
    if checksum(0, &packet[..20]) != 0xffff {
        return Err("the IP header's checksum".into());
    }
    let segment = &packet[20..];
    let field = u32::from(u16::from_be_bytes([segment[16], segment[17]]));
    let right = if undone {
        field == pseudo(packet, segment.len())
    } else {
        checksum(pseudo(packet, segment.len()), segment) == 0xffff
    };
    if !right {
        return Err("the TCP checksum".into());
    }
    let id = u32::from_be_bytes([segment[8], segment[9], segment[10], segment[11]]);
    let offset = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]) as usize;
    payload(id, offset, &segment[20..], segment.len() - 20)
}

fn payload(id: u32, offset: usize, bytes: &[u8], len: usize) -> Result<Part, String> {
    if bytes.len() != len {
        return Err(format!("{} payload bytes instead of {len}", bytes.len()));
    }
    match bytes.iter().enumerate().find(|(index, byte)| **byte != pattern(id, offset + index)) {
        Some((index, _)) => Err(format!("frame {id}: byte {} is wrong", offset + index)),
        None => Ok(Part { id, offset, len }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corrupted_frame_is_caught() {
        let (to, from) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        for frame in [plain(7, to, from, 300), tcp(9, to, from, 300, 0)] {
            assert!(check(&frame, to, true, true).is_ok());
            for at in HEADER..frame.len() {
                let mut bad = frame.clone();
                bad[at] ^= 1;
                let before = check(&frame, to, true, true).unwrap();
                // The addresses are the switch's matter.
                let address = (HEADER..HEADER + 12).contains(&at);
                // Fields of TCP that only its checksum guards, which here is left undone.
                let unguarded = bad[HEADER + 12] == 8 && (HEADER + 34..HEADER + TCP_HEADERS).contains(&at);
                let after = check(&bad, to, true, true);
                assert!(address || unguarded || after.is_err() || after != Ok(before), "byte {at}");
            }
        }
    }
}
