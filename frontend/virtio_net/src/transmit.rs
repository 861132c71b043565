//! From a transmit queue's chain to a frame that others can judge and deliver.

use crate::features::Features;
use crate::header;
use core::ops::Range;
use frame::{Body, Drop, FRAME_MAX, Frame, HEADER_MAX};
use guest_memory::Memory;
use request::{FrameFacts, Span, total};
use virtqueue::Chain;

/// Bytes that are copied out of any other frame: the addresses, the tag, and for a small frame
/// all of it.
const PEEK: usize = 64;

const ETHERNET_HEADER: u32 = 14;

const VIRTIO_HEADER_MAX: usize = 12;

/// A frame taken from a transmit queue. One is used again and again.
#[derive(Clone)]
pub struct Outgoing {
    raw: [u8; VIRTIO_HEADER_MAX + HEADER_MAX],
    /// Where the frame begins and ends in `raw`.
    start: usize,
    end: usize,
    /// The first span of the chain that is not in `raw`.
    rest_from: usize,
    /// Bytes of the whole frame.
    pub len: u32,
    pub facts: FrameFacts,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            raw: [0; VIRTIO_HEADER_MAX + HEADER_MAX],
            start: 0,
            end: 0,
            rest_from: 0,
            len: 0,
            facts: FrameFacts::default(),
        }
    }
}

impl Outgoing {
    /// The frame's first bytes: at least 64 of them, or all; up to `HEADER_MAX` if it left
    /// something undone.
    #[inline]
    pub fn header(&self) -> &[u8] {
        &self.raw[self.start..self.end]
    }

    /// What follows `header`, in the sender's memory.
    #[inline]
    pub fn rest<'a>(&self, chain: &'a Chain) -> &'a [Span] {
        chain.readable().get(self.rest_from..).unwrap_or(&[])
    }

    /// The frame as a receiver wants it.
    #[inline]
    pub fn frame<'a>(&'a self, memory: &'a Memory, chain: &'a Chain) -> Frame<'a> {
        Frame { header: self.header(), body: Body::Guest(memory, self.rest(chain)), facts: self.facts }
    }

    /// Copies a range of the frame out, for whoever must sum or segment it. `false`: it is not all
    /// there.
    pub fn copy(&self, memory: &Memory, chain: &Chain, range: Range<u32>, into: &mut [u8]) -> bool {
        let (mut skip, end) = (range.start as usize, range.end as usize);
        let Some(mut into) = end.checked_sub(skip).and_then(|count| into.get_mut(..count)) else {
            return false;
        };
        let header = self.header();
        if let Some(from) = header.get(skip..) {
            let count = from.len().min(into.len());
            into[..count].copy_from_slice(&from[..count]);
            into = &mut into[count..];
            skip = 0;
        } else {
            skip = skip.saturating_sub(header.len());
        }
        for span in self.rest(chain) {
            if into.is_empty() {
                break;
            }
            if skip >= span.len as usize {
                skip -= span.len as usize;
                continue;
            }
            // Less than a 32-bit length.
            let Some((_, span)) = span.split_at(skip as u32) else { return false };
            skip = 0;
            let count = (span.len as usize).min(into.len());
            let (now, later) = into.split_at_mut(count);
            if memory.read(Span { len: count as u32, ..span }, now).is_none() {
                return false;
            }
            into = later;
        }
        into.is_empty()
    }

    #[inline]
    pub(crate) fn take(
        &mut self,
        memory: &Memory,
        chain: &mut Chain,
        features: Features,
    ) -> Result<(), Drop> {
        self.start = features.header_len();
        let first = chain.readable().first().copied().unwrap_or_default();
        let bytes = if chain.writable_from == 1 { u64::from(first.len) } else { total(chain.readable()) };
        let start = self.start as u32;
        let Some(len) = bytes.checked_sub(u64::from(start)) else { return Err(Drop::Runt) };
        if len < u64::from(ETHERNET_HEADER) {
            return Err(Drop::Runt);
        }
        if len > u64::from(FRAME_MAX) {
            return Err(Drop::TooLong);
        }
        self.len = len as u32;
        let wanted = start as usize + (self.len as usize).min(PEEK);
        self.read(memory, chain, 0, wanted)?;
        let mut raw = [0; 10];
        raw.copy_from_slice(&self.raw[..10]);
        // Nearly every small frame. (Asking `facts` afterwards would wait for its bytes to be
        // stored: a sixth of this path's time.)
        if header::is_plain(&raw) {
            self.facts = FrameFacts::default();
            return Ok(());
        }
        self.facts = header::parse(&raw, features)?;
        let all = start as usize + (self.len as usize).min(HEADER_MAX);
        if all > wanted {
            self.read(memory, chain, wanted, all)?;
        }
        Ok(())
    }

    /// Fills `raw` from `from` to `to` and cuts that off the chain's readable spans.
    #[inline]
    fn read(&mut self, memory: &Memory, chain: &mut Chain, from: usize, to: usize) -> Result<(), Drop> {
        if from == 0 {
            self.rest_from = 0;
        }
        let spans = chain.readable_mut();
        let mut at = from;
        while at < to {
            let span = spans.get_mut(self.rest_from).ok_or(Drop::BadMemory)?;
            let count = (span.len as usize).min(to - at);
            // `count` is no more than the span's length.
            let (now, later) = span.split_at(count as u32).ok_or(Drop::BadMemory)?;
            memory.read(now, &mut self.raw[at..at + count]).ok_or(Drop::BadMemory)?;
            at += count;
            *span = later;
            if later.len == 0 {
                self.rest_from += 1;
            }
        }
        self.end = to;
        Ok(())
    }
}
