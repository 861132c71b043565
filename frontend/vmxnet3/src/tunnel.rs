//! Segmentation and checksums within a tunnel (VXLAN, Geneve): from revision 4 on.
//!
//! Nobody else's facts can say "segment what is in the tunnel", so it is cut here, into frames that
//! leave no more than the inner checksum undone.

use alloc::vec::Vec;

use crate::headers::{self, Headers, Network, fold, pseudo_header, sum};
use crate::offload::mend_network;
use frame::{HEADER_MAX, Posted};
use request::{FrameFacts, Span};

const ETHERNET: usize = 14;
const UDP_HEADER: usize = 8;
/// Of VXLAN (RFC 7348, 5), and of Geneve without options (RFC 8926, 3.4).
const TUNNEL_HEADER: usize = 8;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Headers of both layers; all offsets count from the frame's first byte.
#[derive(Clone, Copy, Debug)]
pub struct Layers {
    outer: Headers,
    inner: Headers,
}

/// Finds what is within a tunnel. `end`: where the inner fourth layer's header ends, which tells how
/// long the tunnel's own header is, whatever its port.
pub fn layers(header: &[u8], end: usize) -> Option<Layers> {
    let outer = headers::of_frame(header);
    if !outer.is_udp() {
        return None;
    }
    let tunnel = outer.transport_at + UDP_HEADER;
    let options = usize::from(*header.get(tunnel)? & 0x3f) * 4;
    for begin in [tunnel + TUNNEL_HEADER, tunnel + TUNNEL_HEADER + options] {
        let Some(within) = header.get(begin..) else { continue };
        let mut inner = headers::of_frame(within);
        inner.network_at += begin;
        inner.transport_at += begin;
        let length = match inner.protocol {
            headers::TCP => usize::from(header.get(inner.transport_at + 12).copied().unwrap_or(0) >> 4) * 4,
            headers::UDP => UDP_HEADER,
            _ => continue,
        };
        if length >= UDP_HEADER && inner.transport_at + length == end && begin >= ETHERNET {
            return Some(Layers { outer, inner });
        }
    }
    None
}

impl Layers {
    fn checksum_offset(&self) -> usize {
        if self.inner.is_tcp() { 16 } else { 6 }
    }

    pub fn facts(&self) -> FrameFacts {
        FrameFacts {
            checksum_start: self.inner.transport_at as u16,
            checksum_offset: self.checksum_offset() as u16,
            ..FrameFacts::default()
        }
    }

    /// The outer UDP checksum of a frame whose inner one is yet to be done. What that covers will sum
    /// up to the complement of its pseudo header, so the payload need not be looked at.
    pub fn outer_checksum(&self, header: &mut [u8], len: u32) -> Option<()> {
        let (outer, inner) = (self.outer.transport_at, self.inner.transport_at);
        header.get_mut(outer + 6..outer + 8)?.fill(0);
        let pseudo = pseudo_header(header, &self.outer, len.checked_sub(outer as u32)?)?;
        let within = pseudo_header(header, &self.inner, len.checked_sub(inner as u32)?)?;
        let covered = sum(header.get(outer..inner)?);
        let checksum = !fold(u32::from(fold(pseudo)) + u32::from(fold(covered)) + u32::from(!fold(within)));
        // RFC 768: 0 means "none".
        let checksum = if checksum == 0 { 0xffff } else { checksum };
        header[outer + 6..outer + 8].copy_from_slice(&checksum.to_be_bytes());
        Some(())
    }
}

/// A large frame on its way out, a segment at a time.
pub struct Train {
    header: [u8; HEADER_MAX],
    header_len: usize,
    layers: Layers,
    payload: Vec<Span>,
    left: u32,
    segment: u16,
    index: u32,
    outer_checksum: bool,
}

impl Train {
    /// `posted` has the headers copied out, and nothing but them.
    pub fn new(posted: &mut Posted, segment: u16, outer_checksum: bool) -> Option<Train> {
        let header_len = posted.header_len;
        let mut header = [0; HEADER_MAX];
        header.get_mut(..header_len)?.copy_from_slice(posted.header());
        let layers = layers(posted.header(), header_len)?;
        if segment == 0 || !layers.inner.is_tcp() {
            return None;
        }
        let left = posted.len.checked_sub(header_len as u32)?;
        let payload = core::mem::take(&mut posted.rest);
        Some(Train { header, header_len, layers, payload, left, segment, index: 0, outer_checksum })
    }

    /// Frames that are left to be sent.
    pub fn remaining(&self) -> u32 {
        self.left.div_ceil(u32::from(self.segment)).max(1)
    }

    /// The next frame; the second value says that it is the last one.
    pub fn next(&mut self, posted: &mut Posted) -> Option<bool> {
        let now = self.left.min(u32::from(self.segment));
        let last = now == self.left;
        let len = self.header_len as u32 + now;
        posted.rest.clear();
        let mut wanted = now;
        while wanted > 0 {
            let span = self.payload.first_mut()?;
            let count = wanted.min(span.len);
            let (head, tail) = span.split_at(count)?;
            posted.rest.push(head);
            *span = tail;
            wanted -= count;
            if tail.len == 0 {
                self.payload.remove(0);
            }
        }
        let header = posted.raw.get_mut(..self.header_len)?;
        header.copy_from_slice(self.header.get(..self.header_len)?);
        posted.header_len = self.header_len;
        posted.len = len;
        posted.facts = self.layers.facts();

        let Layers { outer, inner } = self.layers;
        for network in [&outer, &inner] {
            if network.network == Network::V4 {
                let at = network.network_at + 4;
                let id = headers::word(header, at)?.wrapping_add(self.index as u16);
                header[at..at + 2].copy_from_slice(&id.to_be_bytes());
            }
            mend_network(header, network, len)?;
        }
        let udp_len = len.checked_sub(outer.transport_at as u32)? as u16;
        header
            .get_mut(outer.transport_at + 4..outer.transport_at + 6)?
            .copy_from_slice(&udp_len.to_be_bytes());

        let tcp = header.get_mut(inner.transport_at..)?;
        let sequence = u32::from_be_bytes(*tcp.get(4..)?.first_chunk()?);
        let sequence = sequence.wrapping_add(self.index.wrapping_mul(u32::from(self.segment)));
        tcp.get_mut(4..8)?.copy_from_slice(&sequence.to_be_bytes());
        let flags = tcp.get_mut(13)?;
        if !last {
            *flags &= !(FIN | PSH);
        }
        if self.index > 0 {
            *flags &= !CWR;
        }
        let partial = fold(pseudo_header(header, &inner, len.checked_sub(inner.transport_at as u32)?)?);
        let at = inner.transport_at + self.layers.checksum_offset();
        header.get_mut(at..at + 2)?.copy_from_slice(&partial.to_be_bytes());
        if self.outer_checksum {
            self.layers.outer_checksum(header, len)?;
        } else {
            header.get_mut(outer.transport_at + 6..outer.transport_at + 8)?.fill(0);
        }
        self.left -= now;
        self.index += 1;
        Some(last)
    }
}
