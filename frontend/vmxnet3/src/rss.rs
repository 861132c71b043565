//! Receive-side scaling: which queue a flow goes to, and the hash that says so.

use alloc::boxed::Box;

use crate::codec::{Reader, Writer};
use crate::headers::{ESP, Headers, Network};
use crate::shared::at;
use guest_memory::{Memory, Window};
use request::Address;

const KEY_BYTES: usize = 40;
const TABLE_MAX: usize = 128;
const CONF_BYTES: u32 = 8 + (KEY_BYTES + TABLE_MAX) as u32;

/// hashType
mod kind {
    pub const IPV4: u16 = 1;
    pub const TCP_IPV4: u16 = 2;
    pub const IPV6: u16 = 4;
    pub const TCP_IPV6: u16 = 8;
}

/// Fields that SET_RSS_FIELDS chooses, from revision 4 on.
pub mod fields {
    pub const TCP_IPV4: u32 = 1;
    pub const TCP_IPV6: u32 = 2;
    pub const UDP_IPV4: u32 = 4;
    pub const UDP_IPV6: u32 = 8;
    pub const ESP_IPV4: u32 = 16;
    pub const ESP_IPV6: u32 = 32;
    pub const ALL: u32 = 0x3f;
    /// What Linux finds and keeps.
    pub const DEFAULT: u32 = TCP_IPV4 | TCP_IPV6;
}

/// rssType of a completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Type {
    #[default]
    None = 0,
    Ipv4 = 1,
    TcpIpv4 = 2,
    Ipv6 = 3,
    TcpIpv6 = 4,
    UdpIpv4 = 5,
    UdpIpv6 = 6,
    EspIpv4 = 7,
    EspIpv6 = 8,
}

/// Longest input: two IPv6 addresses and two ports.
const INPUT_MAX: usize = 36;

/// What each half byte of the input adds to the hash.
type Parts = [[u32; 16]; 2 * INPUT_MAX];

#[derive(Clone)]
pub struct Rss {
    /// 0: off.
    kinds: u16,
    key: [u8; KEY_BYTES],
    table: [u8; TABLE_MAX],
    table_len: u8,
    pub fields: u32,
    parts: Option<Box<Parts>>,
}

impl Default for Rss {
    fn default() -> Self {
        Self {
            kinds: 0,
            key: [0; KEY_BYTES],
            table: [0; TABLE_MAX],
            table_len: 0,
            fields: fields::DEFAULT,
            parts: None,
        }
    }
}

impl Rss {
    pub fn off(&mut self) {
        *self = Rss { fields: self.fields, ..Rss::default() };
    }

    /// `UPT1_RSSConf`. `false`: it cannot be read or says nothing that could be done.
    pub fn read(&mut self, memory: &Memory, area: &Window) -> bool {
        self.off();
        if area.load_u32(at::RSS_BYTES) < CONF_BYTES {
            return false;
        }
        let Some(conf) = memory.window(Address(area.load_u64(at::RSS)), CONF_BYTES) else { return false };
        let (kinds, function) = (conf.load_u16(0), conf.load_u16(2));
        let (key, table) = (usize::from(conf.load_u16(4)), usize::from(conf.load_u16(6)));
        // UPT1_RSS_HASH_FUNC_TOEPLITZ is the only one.
        if function != 1 || !(1..=TABLE_MAX).contains(&table) || key > KEY_BYTES {
            return false;
        }
        conf.read_bytes(8, &mut self.key[..key]);
        conf.read_bytes(8 + KEY_BYTES, &mut self.table[..table]);
        self.kinds = kinds & 0xf;
        self.table_len = table as u8;
        self.prepare();
        true
    }

    fn prepare(&mut self) {
        self.parts = (self.kinds != 0 && self.table_len != 0).then(|| parts(&self.key));
    }

    /// Which input a frame has, if any.
    fn input(&self, headers: &Headers) -> Option<(Type, bool)> {
        let (base, tcp, shift, plain, with_tcp, with_udp, with_esp) = match headers.network {
            Network::V4 => {
                (kind::IPV4, kind::TCP_IPV4, 0, Type::Ipv4, Type::TcpIpv4, Type::UdpIpv4, Type::EspIpv4)
            }
            Network::V6 => {
                (kind::IPV6, kind::TCP_IPV6, 1, Type::Ipv6, Type::TcpIpv6, Type::UdpIpv6, Type::EspIpv6)
            }
            Network::Other => return None,
        };
        let chosen = |field: u32| self.fields & field << shift != 0;
        if headers.is_tcp() && self.kinds & tcp != 0 && chosen(fields::TCP_IPV4) {
            return Some((with_tcp, true));
        }
        if headers.is_udp() && chosen(fields::UDP_IPV4) {
            return Some((with_udp, true));
        }
        if headers.protocol == ESP && chosen(fields::ESP_IPV4) {
            return Some((with_esp, true));
        }
        (self.kinds & base != 0).then_some((plain, false))
    }

    /// Queue, kind of hash and hash.
    pub fn steer(&self, frame: &[u8], headers: &Headers, queues: usize) -> (usize, Type, u32) {
        let none = (0, Type::None, 0);
        let Some(parts) = &self.parts else { return none };
        let Some((kind, ports)) = self.input(headers) else { return none };
        let at = headers.network_at;
        let addresses = match headers.network {
            Network::V4 => frame.get(at + 12..at + 20),
            _ => frame.get(at + 8..at + 40),
        };
        // TCP's and UDP's ports and ESP's SPI are each the first four bytes.
        let behind =
            if ports { frame.get(headers.transport_at..headers.transport_at + 4) } else { Some(&[][..]) };
        let (Some(addresses), Some(behind)) = (addresses, behind) else { return none };
        let mut hash = 0;
        for (byte, pair) in addresses.iter().chain(behind).zip(parts.chunks_exact(2)) {
            hash ^= pair[0][usize::from(byte >> 4)] ^ pair[1][usize::from(byte & 0xf)];
        }
        let entry = self.table[hash as usize % usize::from(self.table_len.max(1))];
        (usize::from(entry) % queues.max(1), kind, hash)
    }

    pub fn encode(&self, out: &mut Writer) {
        out.u16(self.kinds);
        out.bytes(&self.key);
        out.bytes(&self.table);
        out.u8(self.table_len);
        out.u32(self.fields);
    }

    pub fn decode(from: &mut Reader<'_>) -> Option<Rss> {
        let mut rss = Rss {
            kinds: from.u16()?,
            key: from.array()?,
            table: from.array()?,
            table_len: from.u8()?,
            fields: from.u32()?,
            parts: None,
        };
        if usize::from(rss.table_len) > TABLE_MAX {
            return None;
        }
        rss.prepare();
        Some(rss)
    }
}

/// The Toeplitz hash adds, for each bit of the input that is set, the 32 bits of the key from there
/// on; so each value of each half byte adds a number of its own.
fn parts(key: &[u8; KEY_BYTES]) -> Box<Parts> {
    let bits_from = |at: usize| {
        let mut bits = 0u64;
        for index in at / 8..at / 8 + 5 {
            bits = bits << 8 | u64::from(key.get(index).copied().unwrap_or(0));
        }
        (bits >> (8 - at % 8)) as u32
    };
    let mut parts = Box::new([[0; 16]; 2 * INPUT_MAX]);
    for (half, values) in parts.iter_mut().enumerate() {
        for (value, part) in values.iter_mut().enumerate() {
            for bit in 0..4 {
                if value & 8 >> bit != 0 {
                    *part ^= bits_from(half * 4 + bit);
                }
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::headers::of_frame;
    use std::vec::Vec;

    /// The key and the values of Microsoft's "Verifying the RSS Hash Calculation".
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn rss(kinds: u16, fields: u32) -> Rss {
        let mut table = [0; TABLE_MAX];
        table[..4].copy_from_slice(&[0, 1, 2, 3]);
        let mut rss = Rss { kinds, key: KEY, table, table_len: 4, fields, parts: None };
        rss.prepare();
        rss
    }

    fn v4(protocol: u8) -> Vec<u8> {
        let mut frame = std::vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0]);
        frame.extend([66, 9, 149, 187, 161, 142, 100, 80]);
        frame.extend(2794u16.to_be_bytes());
        frame.extend(1766u16.to_be_bytes());
        frame
    }

    #[test]
    fn published_hashes_come_out() {
        let all = rss(0xf, fields::ALL);
        let steer = |rss: &Rss, frame: &[u8]| rss.steer(frame, &of_frame(frame), 4);
        assert_eq!(steer(&all, &v4(6)), (0, Type::TcpIpv4, 0x51cc_c178));
        assert_eq!(steer(&all, &v4(17)).1, Type::UdpIpv4);
        assert_eq!(steer(&all, &v4(1)), (2, Type::Ipv4, 0x323e_8fc2));
        let default = rss(0xf, fields::DEFAULT);
        assert_eq!(steer(&default, &v4(17)), (2, Type::Ipv4, 0x323e_8fc2));
        assert_eq!(steer(&default, &v4(50)).1, Type::Ipv4);
        assert_eq!(steer(&all, &v4(50)).1, Type::EspIpv4);
        assert_eq!(steer(&rss(0, fields::ALL), &v4(6)), (0, Type::None, 0));

        let mut frame = std::vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
        frame.extend([0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x1f, 0xff, 0, 0, 0, 0, 0, 0, 0, 7]);
        frame.extend([0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x00, 0x03, 0, 0, 0, 0, 0, 0, 0, 1]);
        frame.extend(2794u16.to_be_bytes());
        frame.extend(1766u16.to_be_bytes());
        assert_eq!(steer(&all, &frame).2, 0x4020_7d3d);
        let plain = rss(0x4, fields::ALL);
        assert_eq!(steer(&plain, &frame).1, Type::Ipv6);
        assert_eq!(steer(&plain, &frame).2, 0x2cc1_8cd5);
        for len in 0..frame.len() {
            steer(&all, &frame[..len]);
        }
    }
}
