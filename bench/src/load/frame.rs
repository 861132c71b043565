//! The frames that the network load sends: Ethernet, IPv4 and UDP or TCP around a stamp that
//! tells which frame it is and when it left.
//!
//! All offsets here are into a transmit or receive buffer, where the virtio-net header comes
//! first; that puts the stamp's two words on eight-byte boundaries.

use guest_memory::Window;

use crate::driver::net::{GSO_NONE, GSO_TCPV4, HDR_F_NEEDS_CSUM, HEADER_BYTES, Header};

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const TCP_BYTES: usize = 20;
const MAGIC: u16 = 0x5053;

/// What all frames of one direction have in common.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Bytes of the frame, without FCS.
    pub bytes: u32,
    /// TCP with segmentation offload, and the segment's size; otherwise UDP.
    pub mss: Option<u16>,
    pub from_port: u8,
    pub to_port: u8,
}

/// The MAC address of guest number `index` behind a port of the load.
pub fn mac(port: u8, index: u16) -> [u8; 6] {
    let [high, low] = index.to_be_bytes();
    // Locally administered.
    [0x02, b'S', b'P', port, high, low]
}

const DESTINATION_LOW_AT: usize = HEADER_BYTES + 4;
const SOURCE_PORT_AT: usize = HEADER_BYTES + ETHERNET_BYTES + IPV4_BYTES;
const FIRST_SOURCE_PORT: u16 = 1024;

impl Shape {
    /// The smallest frame that holds the stamp.
    pub fn bytes_min(mss: Option<u16>) -> u32 {
        (stamp_at(mss.is_some()) + 16 - HEADER_BYTES) as u32
    }

    /// The whole buffer, virtio-net header included; the payload is a function of its place.
    pub fn template(&self) -> Vec<u8> {
        let tcp = self.mss.is_some();
        let mut bytes: Vec<u8> = (0..self.bytes as usize + HEADER_BYTES).map(filler).collect();
        bytes[..HEADER_BYTES].fill(0);
        let frame = &mut bytes[HEADER_BYTES..];
        frame[0..6].copy_from_slice(&mac(self.to_port, 0));
        frame[6..12].copy_from_slice(&mac(self.from_port, 0));
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        let ip_bytes = frame.len() - ETHERNET_BYTES;
        let ip = &mut frame[ETHERNET_BYTES..ETHERNET_BYTES + IPV4_BYTES];
        ip.copy_from_slice(&[
            0x45,
            0,
            0,
            0,
            0,
            0,
            0x40,
            0,
            64,
            if tcp { 6 } else { 17 },
            0,
            0,
            10,
            83,
            80,
            self.from_port,
            10,
            83,
            80,
            self.to_port,
        ]);
        ip[2..4].copy_from_slice(&(ip_bytes as u16).to_be_bytes());
        let checksum = !ones_sum(ip, 0);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        let pseudo = ones_sum(&ip[12..20], ip[9] as u32 + (ip_bytes - IPV4_BYTES) as u32);
        let transport = &mut frame[ETHERNET_BYTES + IPV4_BYTES..];
        transport[0..2].copy_from_slice(&FIRST_SOURCE_PORT.to_be_bytes());
        transport[2..4].copy_from_slice(&9u16.to_be_bytes());
        if tcp {
            transport[4..TCP_BYTES]
                .copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
            // With NEEDS_CSUM the field holds the sum of the pseudo header.
            transport[16..18].copy_from_slice(&pseudo.to_be_bytes());
        } else {
            transport[4..6].copy_from_slice(&((ip_bytes - IPV4_BYTES) as u16).to_be_bytes());
            // No UDP checksum, as IPv4 allows.
            transport[6..8].fill(0);
        }
        let stamp = stamp_at(tcp);
        bytes[stamp - 2..stamp].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[stamp..stamp + 16].fill(0);
        bytes
    }

    /// The virtio-net header that goes with the template.
    pub fn header(&self) -> Header {
        match self.mss {
            None => Header { gso_type: GSO_NONE, ..Header::default() },
            Some(mss) => Header {
                flags: HDR_F_NEEDS_CSUM,
                gso_type: GSO_TCPV4,
                hdr_len: (ETHERNET_BYTES + IPV4_BYTES + TCP_BYTES) as u16,
                gso_size: mss,
                csum_start: (ETHERNET_BYTES + IPV4_BYTES) as u16,
                csum_offset: 16,
                num_buffers: 0,
            },
        }
    }
}

/// Where the stamp is: a sequence number and a time, eight bytes each, two bytes of magic before.
pub const fn stamp_at(tcp: bool) -> usize {
    let transport = if tcp { TCP_BYTES } else { UDP_BYTES };
    (HEADER_BYTES + ETHERNET_BYTES + IPV4_BYTES + transport + 2).next_multiple_of(8)
}

#[inline]
pub fn set_destination(buffer: &Window, index: u16) {
    buffer.store_u16(DESTINATION_LOW_AT, index.to_be());
}

#[inline]
pub fn set_flow(buffer: &Window, flow: u16) {
    buffer.store_u16(SOURCE_PORT_AT, FIRST_SOURCE_PORT.wrapping_add(flow).to_be());
}

#[inline]
pub fn set_stamp(buffer: &Window, stamp_at: usize, sequence: u64, time: u64) {
    buffer.store_u64(stamp_at, sequence);
    buffer.store_u64(stamp_at + 8, time);
}

/// The stamp of a received frame, unless it is none of ours.
#[inline]
pub fn stamp(buffer: &Window, stamp_at: usize) -> Option<(u64, u64)> {
    if buffer.load_u16(stamp_at - 2) != MAGIC {
        return None;
    }
    Some((buffer.load_u64(stamp_at), buffer.load_u64(stamp_at + 8)))
}

#[inline]
fn filler(at: usize) -> u8 {
    (at as u8).wrapping_mul(167) ^ (at >> 8) as u8
}

/// Whether the part of a frame behind the stamp is as it was sent. `frame` is without the
/// virtio-net header.
pub fn payload_is_right(frame: &[u8], stamp_at: usize) -> bool {
    let start = stamp_at + 16 - HEADER_BYTES;
    let rest = frame.get(start..).unwrap_or(&[]);
    rest.iter().enumerate().all(|(at, byte)| *byte == filler(HEADER_BYTES + start + at))
}

/// The ones' complement sum of RFC 1071, folded.
fn ones_sum(bytes: &[u8], start: u32) -> u16 {
    let words = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]) as u32);
    let mut sum = start + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sixty_byte_frame_holds_the_stamp_and_not_a_byte_more() {
        assert_eq!(Shape::bytes_min(None), 60);
        let template = Shape { bytes: 60, mss: None, from_port: 1, to_port: 2 }.template();
        assert_eq!(template.len(), 72);
        assert_eq!(&template[12..18], &[2, b'S', b'P', 2, 0, 0]);
        // RFC 1071: the sum over a header with its checksum is all ones.
        assert_eq!(ones_sum(&template[26..46], 0), 0xffff);
        // IP's and UDP's lengths: 46 and 26 bytes.
        assert_eq!((&template[28..30], &template[50..52]), (&[0, 46][..], &[0, 26][..]));
    }

    #[test]
    fn a_changed_payload_byte_is_seen() {
        let shape = Shape { bytes: 1514, mss: None, from_port: 1, to_port: 2 };
        let mut frame = shape.template().split_off(HEADER_BYTES);
        assert!(payload_is_right(&frame, stamp_at(false)));
        frame[1000] ^= 1;
        assert!(!payload_is_right(&frame, stamp_at(false)));
    }
}
