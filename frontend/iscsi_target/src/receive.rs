//! What came and was not yet followed: the receive ring.
//!
//! The byte at position `p` of the stream lies at `p % ring` of the ring, unless it belongs to a
//! data segment that is received straight into its task's memory. Both places follow from the
//! committed state, so that a successor knows where its predecessor received to.

use guest_memory::{Memory, Window};
use request::Span;

use crate::bits::HEADER_BYTES;
use crate::layout::Layout;
use crate::pdu::Header;

/// The data segment that is being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub header: Header,
    /// Whose memory it goes to; `None`: it is dropped.
    pub slot: Option<u16>,
    /// Where in the task's data it begins, and how long it is.
    pub offset: u32,
    pub len: u32,
    pub done: u32,
}

impl Body {
    pub fn left(&self) -> u32 {
        self.len.saturating_sub(self.done)
    }
}

#[derive(Debug)]
pub(crate) struct Receive {
    ring: u64,
    /// A power of two.
    ring_bytes: u64,
    /// Positions: what was followed, and what came.
    pub followed: u64,
    pub received: u64,
    pub body: Option<Body>,
    /// Up to here a predecessor had taken bytes.
    pub inherited: u64,
    /// Up to here what came was taken for a sign of life.
    pub noticed: u64,
    /// As of the valid commit: where in the stream a segment is received in place, and until where
    /// bytes have room.
    direct: (u64, u64),
    direct_to: [Span; 2],
    limit: u64,
}

impl Receive {
    pub fn new(layout: &Layout) -> Receive {
        let ring_bytes = u64::from(layout.limits.ring_bytes);
        Receive {
            ring: layout.ring as u64,
            ring_bytes,
            followed: 0,
            received: 0,
            body: None,
            inherited: 0,
            noticed: 0,
            direct: (0, 0),
            direct_to: [Span::default(); 2],
            limit: ring_bytes,
        }
    }

    /// The commit that knows `followed` and `body` is valid; `place` is where the rest of the body
    /// goes.
    pub fn committed(&mut self, place: [Span; 2]) {
        let left = self.body.map_or(0, |body| if body.slot.is_some() { body.left() } else { 0 });
        let end = self.followed.wrapping_add(u64::from(left));
        self.direct = (self.followed, end);
        self.direct_to = place;
        self.limit = end.wrapping_add(self.ring_bytes);
    }

    /// Bytes that came and were not followed.
    pub fn available(&self) -> u64 {
        self.received.saturating_sub(self.followed)
    }

    /// Of what lies at `followed`, so much was received in place.
    pub fn in_place(&self) -> u64 {
        if self.followed < self.direct.0 {
            return 0;
        }
        self.direct.1.min(self.received).saturating_sub(self.followed)
    }

    /// Where the bytes from a position on lie in the ring.
    fn spans(&self, at: u64, len: u64) -> [Span; 2] {
        let begin = at & self.ring_bytes.wrapping_sub(1);
        let first = len.min(self.ring_bytes.wrapping_sub(begin));
        [
            Span { offset: self.ring.wrapping_add(begin), len: first as u32, region: 0 },
            Span { offset: self.ring, len: len.wrapping_sub(first) as u32, region: 0 },
        ]
    }

    /// Bytes at `followed + skip`.
    pub fn ring(&self, skip: u64, len: u32) -> [Span; 2] {
        self.spans(self.followed.wrapping_add(skip), u64::from(len))
    }

    pub fn peek(&self, skip: u64, into: &mut [u8], memory: &Memory) {
        memory.gather(&self.ring(skip, into.len() as u32), into);
    }

    /// Where the next bytes go.
    pub fn plan(&self, into: &mut [Span]) -> usize {
        let mut count = 0;
        let mut put = |span: Span| {
            if span.len > 0
                && let Some(place) = into.get_mut(count)
            {
                *place = span;
                count = count.saturating_add(1);
            }
        };
        let mut at = self.received;
        if at >= self.direct.0 && at < self.direct.1 {
            let mut skip = at.wrapping_sub(self.direct.0);
            for span in self.direct_to {
                let skipped = skip.min(u64::from(span.len));
                skip = skip.wrapping_sub(skipped);
                if let Some((_, rest)) = span.split_at(skipped as u32) {
                    put(rest);
                }
            }
            at = self.direct.1;
        }
        for span in self.spans(at, self.limit.saturating_sub(at).min(self.ring_bytes)) {
            put(span);
        }
        count
    }

    /// The most that may come by the valid plan.
    pub fn room(&self) -> u64 {
        self.limit.saturating_sub(self.received)
    }
}

/// Words of the hot state.
pub(crate) fn save_body(body: Option<&Body>) -> [u64; 8] {
    let mut words = [0; 8];
    let Some(body) = body else { return words };
    words[0] =
        1 | u64::from(body.slot.map_or(u32::from(u16::MAX), u32::from)) << 16 | u64::from(body.offset) << 32;
    words[1] = u64::from(body.len) | u64::from(body.done) << 32;
    for (word, chunk) in words[2..].iter_mut().zip(body.header.0.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    words
}

pub(crate) fn load_body(window: &Window, at: usize) -> Option<Body> {
    let word = |index: usize| window.load_u64(at.wrapping_add(index.wrapping_mul(8)));
    if word(0) & 1 == 0 {
        return None;
    }
    let mut bytes = [0; HEADER_BYTES];
    for (index, chunk) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *chunk = word(index.wrapping_add(2)).to_le_bytes();
    }
    let slot = (word(0) >> 16 & 0xffff) as u16;
    Some(Body {
        header: Header(bytes),
        slot: (slot != u16::MAX).then_some(slot),
        offset: (word(0) >> 32) as u32,
        len: (word(1) & 0xffff_ffff) as u32,
        done: (word(1) >> 32) as u32,
    })
}
