//! From a frame to a receive queue's buffers.

use crate::features::{Features, bit};
use crate::header;
use alloc::vec::Vec;
use frame::{Body, Frame, HEADER_MAX, Refused};
use guest_memory::Memory;
use request::{Rewrite, Span, advance, total};
use virtqueue::{Chain, Pop, Queue};

/// Buffers that one frame may be spread over (5.1.6.3.2: MRG_RXBUF). Linux posts 1,536 bytes or
/// more, of which a frame of 64 KiB takes 43; a driver that posts crumbs gets short frames only.
const MERGE_MAX: usize = 128;

/// Header, tag and virtio header of a frame, as they are written in one piece.
const FIRST_MAX: usize = 12 + HEADER_MAX + 4;

/// Room that is used for each frame again.
pub(crate) struct Scratch {
    first: [u8; FIRST_MAX],
    buffers: Vec<Chain>,
    spans: Vec<Span>,
}

impl Scratch {
    pub fn new() -> Scratch {
        let mut buffers = Vec::with_capacity(MERGE_MAX);
        buffers.resize_with(MERGE_MAX, Chain::new);
        Scratch { first: [0; FIRST_MAX], buffers, spans: Vec::with_capacity(MERGE_MAX) }
    }

    /// Copies the frame into buffers of the queue and stages them as used. `publish` is the
    /// caller's to call, once for many. Gives the number of frame bytes and of buffers.
    #[inline]
    pub fn deliver(
        &mut self,
        features: Features,
        queue: &mut Queue,
        memory: &Memory,
        frame: &Frame<'_>,
        rewrite: Rewrite,
    ) -> Result<(u32, u32), Refused> {
        let start = features.header_len();
        if frame.header.len() > HEADER_MAX {
            return Err(Refused::Malformed);
        }
        let body_len = frame.body.len();
        let change = match rewrite {
            Rewrite::Keep | Rewrite::Replace(_) => 0,
            Rewrite::Strip => -4,
            Rewrite::Insert(_) => 4,
        };
        let header = frame.header.len().checked_add_signed(change).ok_or(Refused::Malformed)?;
        let first_len = start + header;
        let needed = body_len.saturating_add(first_len as u64);
        if needed > u64::from(u32::MAX) {
            return Err(Refused::Malformed);
        }
        let virtio = header::encode(&frame.facts.after(rewrite), features);

        let [buffer, ..] = &mut self.buffers[..] else { return Err(Refused::NoBuffer) };
        match queue.pop(memory, buffer) {
            Pop::Chain => {}
            Pop::Empty => return Err(Refused::NoBuffer),
            Pop::Broken(_) => return Err(Refused::Broken),
        }
        // Nearly always the frame stays as it is, and one buffer in one piece is large enough.
        if let [span] = buffer.writable()
            && rewrite == Rewrite::Keep
            && start == 12
            && u64::from(span.len) >= needed
            && let Some((front, rest)) = span.split_at(12)
            && let Some((now, rest)) = rest.split_at(header as u32)
        {
            let written = memory.write(front, &virtio).is_some()
                && memory.write(now, frame.header).is_some()
                && (body_len == 0 || frame.body.copy(memory, &[rest]) == body_len);
            if !written {
                queue.unpop(buffer);
                return Err(Refused::BadMemory);
            }
            queue.push(memory, buffer.head, needed as u32);
            return Ok(((needed - 12) as u32, 1));
        }
        self.first[..start].copy_from_slice(&virtio[..start]);
        if rewrite.apply(frame.header, &mut self.first[start..]) != Some(header) {
            queue.unpop(&self.buffers[0]);
            return Err(Refused::Malformed);
        }
        self.spread(features, queue, memory, frame.body, first_len, needed)
    }

    /// The general case: a buffer in pieces, or several buffers. The first is popped already.
    fn spread(
        &mut self,
        features: Features,
        queue: &mut Queue,
        memory: &Memory,
        body: Body<'_>,
        first_len: usize,
        needed: u64,
    ) -> Result<(u32, u32), Refused> {
        let limit = if features.has(bit::MRG_RXBUF) { MERGE_MAX } else { 1 };
        let mut count = 1;
        let mut room = total(self.buffers[0].writable());
        let refused = loop {
            if room >= needed {
                break None;
            }
            if count == limit {
                break Some(Refused::BufferTooSmall);
            }
            match queue.pop(memory, &mut self.buffers[count]) {
                Pop::Chain => {}
                Pop::Empty => break Some(Refused::NoBuffer),
                Pop::Broken(_) => break Some(Refused::Broken),
            }
            room = room.saturating_add(total(self.buffers[count].writable()));
            count += 1;
        };
        let start = features.header_len();
        if refused.is_none() {
            // In the first buffer with all of `num_buffers`, as 5.1.6.4 wants it: a driver whose
            // first buffer is shorter than the header finds the number in the next.
            if start == 12 {
                self.first[10..12].copy_from_slice(&(count as u16).to_le_bytes());
            }
            self.spans.clear();
            for buffer in &self.buffers[..count] {
                self.spans.extend_from_slice(buffer.writable());
            }
        }
        let refused = refused.or_else(|| {
            let first = &self.first[..first_len];
            let body_len = needed - first_len as u64;
            let written = memory.scatter(&self.spans, first) == first_len
                && advance(&mut self.spans, first_len as u64)
                    .is_some_and(|rest| body.copy(memory, rest) == body_len);
            (!written).then_some(Refused::BadMemory)
        });
        if let Some(refused) = refused {
            for buffer in self.buffers[..count].iter().rev() {
                queue.unpop(buffer);
            }
            return Err(refused);
        }
        let mut left = needed;
        for buffer in &self.buffers[..count] {
            let written = total(buffer.writable()).min(left);
            left -= written;
            queue.push(memory, buffer.head, written as u32);
        }
        Ok(((needed - start as u64) as u32, count as u32))
    }
}
