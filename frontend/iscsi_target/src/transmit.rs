//! What waits to be sent: a ring of pieces (places in the connection's memory), and a ring of
//! bytes for headers, digests and other small things.
//!
//! Positions in the stream only grow. A piece is reused when the commit that knows it to be sent is
//! valid, since a successor walks from the committed first piece to the position that the kernel
//! names.

use guest_memory::Window;
use request::Span;

use crate::layout::{HEADERS_BYTES, Layout, PIECES};

/// The longest small block: a header with its digest, 1 KiB of data (a rejected header with
/// additional segments, or sense), padding and digest.
pub(crate) const BLOCK_MAX_BYTES: usize = 2048;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Number of the first piece that is kept, and where in the stream it begins.
    pub first: u64,
    pub first_at: u64,
    /// Number of the next piece, and the position behind the last one.
    pub next: u64,
    pub end: u64,
    /// Bytes of small blocks ever made, with gaps; and those that are over.
    pub headers: u64,
    pub headers_over: u64,
}

#[derive(Debug)]
pub(crate) struct Transmit {
    layout: Layout,
    now: Marks,
    /// As of the valid commit.
    committed: Marks,
    /// Position up to which the socket has taken everything.
    sent: u64,
}

impl Transmit {
    pub fn new(layout: Layout) -> Transmit {
        Transmit { layout, now: Marks::default(), committed: Marks::default(), sent: 0 }
    }

    /// As of a commit, with the position that the kernel tells. `None`: it cannot be of this stream.
    pub fn resume(layout: Layout, marks: Marks, sent: u64, window: &Window) -> Option<Transmit> {
        if sent < marks.first_at || sent > marks.end || marks.next.wrapping_sub(marks.first) > PIECES {
            return None;
        }
        let mut transmit = Transmit { layout, now: marks, committed: marks, sent: marks.first_at };
        let more = u32::try_from(sent.wrapping_sub(marks.first_at)).ok()?;
        transmit.sent(more, window);
        Some(transmit)
    }

    pub fn marks(&self) -> Marks {
        self.now
    }

    /// The commit with these marks is valid.
    pub fn committed(&mut self) {
        self.committed = self.now;
    }

    pub fn is_dirty(&self) -> bool {
        self.now != self.committed
    }

    pub fn end(&self) -> u64 {
        self.now.end
    }

    pub fn sent_to(&self) -> u64 {
        self.sent
    }

    pub fn is_flushed(&self) -> bool {
        self.sent == self.now.end
    }

    /// Whether `pieces` and `blocks` of small blocks have room.
    pub fn has_room(&self, pieces: u64, blocks: u64) -> bool {
        let used = self.now.next.wrapping_sub(self.committed.first);
        let bytes = self.now.headers.wrapping_sub(self.committed.headers_over);
        let more = blocks.saturating_mul(BLOCK_MAX_BYTES as u64);
        used.saturating_add(pieces) <= PIECES && bytes.saturating_add(more) <= HEADERS_BYTES
    }

    fn piece_at(&self, number: u64) -> usize {
        self.layout.pieces.wrapping_add((number % PIECES).wrapping_mul(8) as usize)
    }

    fn piece(&self, number: u64, window: &Window) -> (u64, u32) {
        let word = window.load_u64(self.piece_at(number));
        (word & 0xffff_ffff, (word >> 32) as u32)
    }

    /// Puts a span of data at the end. It must stay as it is until it was sent.
    pub fn put(&mut self, span: Span, window: &Window) {
        if span.len == 0 {
            return;
        }
        // Pieces that are not committed may still grow: a header behind a header.
        if self.now.next > self.committed.next {
            let last = self.now.next.wrapping_sub(1);
            let (at, len) = self.piece(last, window);
            if at.wrapping_add(u64::from(len)) == span.offset
                && let Some(sum) = len.checked_add(span.len)
            {
                window.store_u64(self.piece_at(last), at | u64::from(sum) << 32);
                self.now.end = self.now.end.wrapping_add(u64::from(span.len));
                return;
            }
        }
        window.store_u64(self.piece_at(self.now.next), span.offset & 0xffff_ffff | u64::from(span.len) << 32);
        self.now.next = self.now.next.wrapping_add(1);
        self.now.end = self.now.end.wrapping_add(u64::from(span.len));
    }

    /// Puts a small block at the end; it is copied.
    pub fn put_bytes(&mut self, bytes: &[u8], window: &Window) {
        let len = bytes.len() as u64;
        let left = HEADERS_BYTES.wrapping_sub(self.now.headers % HEADERS_BYTES);
        if left < len {
            self.now.headers = self.now.headers.wrapping_add(left);
        }
        let at = self.layout.headers.wrapping_add((self.now.headers % HEADERS_BYTES) as usize);
        window.write_bytes(at, bytes);
        self.now.headers = self.now.headers.wrapping_add(len);
        self.put(Span { offset: at as u64, len: bytes.len() as u32, region: 0 }, window);
    }

    /// The next committed bytes, as pieces.
    pub fn pieces(&self, into: &mut [Span], window: &Window) -> usize {
        let mut count = 0;
        let mut begin = self.now.first_at;
        let mut number = self.now.first;
        while number < self.committed.next {
            let Some(place) = into.get_mut(count) else { break };
            let (offset, len) = self.piece(number, window);
            // The first one may be sent in part.
            let done = self.sent.saturating_sub(begin).min(u64::from(len)) as u32;
            begin = begin.wrapping_add(u64::from(len));
            number = number.wrapping_add(1);
            if let Some((_, rest)) = (Span { offset, len, region: 0 }).split_at(done)
                && rest.len > 0
            {
                *place = rest;
                count = count.saturating_add(1);
            }
        }
        count
    }

    /// The socket has taken so many bytes more.
    pub fn sent(&mut self, bytes: u32, window: &Window) {
        let to = self.sent.saturating_add(u64::from(bytes)).min(self.committed.end);
        self.sent = to;
        while self.now.first < self.committed.next {
            let (offset, len) = self.piece(self.now.first, window);
            let end = self.now.first_at.wrapping_add(u64::from(len));
            if end > to {
                break;
            }
            self.now.first = self.now.first.wrapping_add(1);
            self.now.first_at = end;
            self.forget_headers(offset, len);
        }
    }

    /// A piece of the ring of small blocks frees what lies before its end.
    fn forget_headers(&mut self, offset: u64, len: u32) {
        let base = self.layout.headers as u64;
        let Some(at) = offset.checked_sub(base).filter(|at| *at < HEADERS_BYTES) else { return };
        let end = at.wrapping_add(u64::from(len));
        let ahead = end.wrapping_sub(self.now.headers_over).rem_euclid(HEADERS_BYTES);
        // HEADERS_BYTES is a power of two, so the remainder holds over the wrap; a block never
        // fills all of it.
        self.now.headers_over = self.now.headers_over.wrapping_add(ahead).min(self.now.headers);
    }
}
