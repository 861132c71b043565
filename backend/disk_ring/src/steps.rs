//! How requests of more than one step go on.

use std::sync::Arc;

use disk::Data;
use guest_memory::Memory;
use host::errno;
use host::ring::{Failure, Outcome, WriteFlags};
use request::{Span, Status, advance};

use crate::failure::Way;
use crate::request_table::Step;
use crate::{BOUNCE_BYTES, BOUNCES, DiscardBy, DiskRing, FILL_MAX_BYTES};

impl DiskRing {
    /// The kernel has answered; says how the request ended, if it did.
    pub(crate) fn advance(&mut self, index: u32, outcome: Outcome) -> Option<Status> {
        let step = self.requests.get(index).step;
        if let Err(failure) = outcome {
            if is_refusal(failure) && self.step_down(index, step) {
                return None;
            }
            let status = self.failed(index, failure);
            self.release_bounce(index);
            return Some(status);
        }
        match step {
            Step::Free => unreachable!("nobody asked the kernel for a request that is free"),
            Step::Ended(status) => Some(status),
            Step::Straight(_) => {
                let request = self.requests.get(index);
                if let Some(memory) = &request.memory {
                    request.spans.iter().for_each(|&span| memory.mark(span));
                }
                Some(Status::Good)
            }
            Step::Bounce(way) => self.bounced(index, way),
            Step::Fill { zeroes } => {
                self.piece_done(index);
                if self.requests.get(index).left > 0 {
                    self.fill(index, zeroes);
                    return None;
                }
                self.release_bounce(index);
                self.finish_writing(index)
            }
            Step::Hole | Step::ZeroRange => self.finish_writing(index),
            Step::Discard | Step::Sync => Some(Status::Good),
        }
    }

    pub(crate) fn sync(&mut self, index: u32) {
        self.requests.get(index).step = Step::Sync;
        self.ring.sync(self.client, index, &self.backing.file, true);
    }

    /// What has no FUA of its own is followed by a flush, if it was asked for.
    fn finish_writing(&mut self, index: u32) -> Option<Status> {
        if self.requests.get(index).flags.dsync {
            self.sync(index);
            return None;
        }
        Some(Status::Good)
    }

    pub(crate) fn discard(&mut self, index: u32) {
        match self.backing.discard {
            DiscardBy::Nothing => self.end(index, Status::Unsupported),
            DiscardBy::Hole => self.hole(index),
            DiscardBy::Command => {
                let request = self.requests.get(index);
                request.step = Step::Discard;
                let (offset, len) = (request.offset, request.left);
                self.ring.discard(self.client, index, &self.backing.file, offset, len);
            }
        }
    }

    pub(crate) fn write_zeroes(&mut self, index: u32, unmap: bool) {
        if unmap && self.punches {
            self.hole(index);
        } else if self.zeroes_ranges {
            let request = self.requests.get(index);
            request.step = Step::ZeroRange;
            let (offset, len) = (request.offset, request.left);
            let mode = host::file::ZERO_RANGE;
            self.ring.allocate(self.client, index, &self.backing.file, mode, offset, len);
        } else {
            self.requests.get(index).step = Step::Fill { zeroes: true };
            self.fill(index, true);
        }
    }

    fn hole(&mut self, index: u32) {
        let request = self.requests.get(index);
        request.step = Step::Hole;
        let (offset, len) = (request.offset, request.left);
        let mode = host::file::PUNCH_HOLE;
        self.ring.allocate(self.client, index, &self.backing.file, mode, offset, len);
    }

    /// The backing cannot do what it was asked for: remembers it, and takes the next best way. False
    /// if there is none.
    fn step_down(&mut self, index: u32, step: Step) -> bool {
        match step {
            Step::Hole => self.punches = false,
            Step::ZeroRange => self.zeroes_ranges = false,
            _ => return false,
        }
        self.write_zeroes(index, false);
        true
    }

    pub(crate) fn write_same(&mut self, index: u32, data: Data<'_>) {
        let mut block = [0; 4096];
        let block = &mut block[..self.facts.block_size as usize];
        if data.memory.gather(data.spans, block) < block.len() {
            return self.end(index, Status::Aborted);
        }
        // Linux asks for zeroes in this way on devices without another.
        if block.iter().all(|&byte| byte == 0) {
            return self.write_zeroes(index, false);
        }
        let request = self.requests.get(index);
        request.step = Step::Fill { zeroes: false };
        request.memory = Some(Arc::clone(data.memory));
        request.spans.extend_from_slice(data.spans);
        self.bounce_or_wait(index);
    }

    /// Writes the next piece of zeroes, or of the block that the bounce buffer is full of.
    fn fill(&mut self, index: u32, zeroes: bool) {
        let source = if zeroes { self.zeroes() } else { self.bounce() };
        let request = self.requests.get(index);
        let from = if zeroes { 0 } else { bounce_offset(request.bounce) };
        let piece = request.left.min(FILL_MAX_BYTES);
        request.piece = piece as u32;
        let mut spans = [Span::default(); (FILL_MAX_BYTES / BOUNCE_BYTES as u64) as usize];
        let (mut count, mut left) = (0, request.piece);
        while left > 0 {
            let len = left.min(BOUNCE_BYTES);
            spans[count] = Span { offset: from, len, region: 0 };
            count += 1;
            left -= len;
        }
        let offset = request.offset;
        let flags = WriteFlags::default();
        self.ring.write(self.client, index, &self.backing.file, offset, &source, &spans[..count], flags);
    }

    /// Starts a request that needs a bounce buffer, or lets it wait for one.
    pub(crate) fn bounce_or_wait(&mut self, index: u32) {
        match self.bounces_free.pop() {
            Some(bounce) => self.start_bounce(index, bounce),
            None => self.waiting.push_back(index),
        }
    }

    fn start_bounce(&mut self, index: u32, bounce: u32) {
        self.requests.get(index).bounce = Some(bounce);
        match self.requests.get(index).step {
            Step::Bounce(way) => self.next_piece(index, way),
            Step::Fill { .. } => self.start_fill(index),
            other => unreachable!("{other:?} needs no bounce buffer"),
        }
    }

    /// Fills the bounce buffer with copies of one block.
    fn start_fill(&mut self, index: u32) {
        let buffer = self.bounce();
        let block = self.facts.block_size;
        let request = self.requests.get(index);
        let Some(memory) = &request.memory else { return };
        let mut bytes = [0; 4096];
        let bytes = &mut bytes[..block as usize];
        let got = memory.gather(&request.spans, bytes);
        let start = bounce_offset(request.bounce);
        let needed = request.left.min(u64::from(BOUNCE_BYTES)) as u32;
        let copies = (0..needed / block).map(|copy| Span {
            offset: start + u64::from(copy * block),
            len: block,
            region: 0,
        });
        if got < bytes.len() || copies.map(|span| buffer.write(span, bytes)).any(|done| done.is_none()) {
            self.release_bounce(index);
            return self.end(index, Status::Aborted);
        }
        self.fill(index, false);
    }

    /// Sends the next piece of an unaligned transfer on its way.
    fn next_piece(&mut self, index: u32, way: Way) {
        let buffer = self.bounce();
        let request = self.requests.get(index);
        let piece = request.left.min(u64::from(BOUNCE_BYTES)) as u32;
        request.piece = piece;
        let span = Span { offset: bounce_offset(request.bounce), len: piece, region: 0 };
        let (offset, flags) = (request.offset, request.flags);
        match way {
            Way::Read => self.ring.read(self.client, index, &self.backing.file, offset, &buffer, &[span]),
            Way::Write => {
                let Some(memory) = &request.memory else { return };
                let copied = memory.copy(&request.spans[request.first..], &buffer, &[span]);
                if copied < u64::from(piece) {
                    self.release_bounce(index);
                    return self.end(index, Status::Aborted);
                }
                self.ring.write(self.client, index, &self.backing.file, offset, &buffer, &[span], flags);
            }
        }
    }

    fn bounced(&mut self, index: u32, way: Way) -> Option<Status> {
        let buffer = self.bounce();
        let request = self.requests.get(index);
        if way == Way::Read {
            let span = Span { offset: bounce_offset(request.bounce), len: request.piece, region: 0 };
            let memory = request.memory.as_ref()?;
            if buffer.copy(&[span], memory, &request.spans[request.first..]) < u64::from(request.piece) {
                let status = self.failed(index, Failure::BadSpan);
                self.release_bounce(index);
                return Some(status);
            }
        }
        self.piece_done(index);
        if self.requests.get(index).left > 0 {
            self.next_piece(index, way);
            return None;
        }
        self.release_bounce(index);
        Some(Status::Good)
    }

    fn piece_done(&mut self, index: u32) {
        let request = self.requests.get(index);
        let piece = u64::from(request.piece);
        request.offset += piece;
        request.left -= piece;
        if matches!(request.step, Step::Bounce(_)) {
            let rest = advance(&mut request.spans[request.first..], piece).map_or(0, |rest| rest.len());
            request.first = request.spans.len() - rest;
        }
    }

    fn release_bounce(&mut self, index: u32) {
        let Some(bounce) = self.requests.get(index).bounce.take() else { return };
        match self.waiting.pop_front() {
            Some(next) => self.start_bounce(next, bounce),
            None => self.bounces_free.push(bounce),
        }
    }

    fn bounce(&mut self) -> Arc<Memory> {
        let len = (BOUNCE_BYTES * BOUNCES) as usize;
        Arc::clone(self.bounce.get_or_insert_with(|| Memory::anonymous(len)))
    }

    fn zeroes(&mut self) -> Arc<Memory> {
        Arc::clone(self.zeroes.get_or_insert_with(|| Memory::anonymous(BOUNCE_BYTES as usize)))
    }
}

fn bounce_offset(bounce: Option<u32>) -> u64 {
    u64::from(bounce.expect("it was given a bounce buffer")) * u64::from(BOUNCE_BYTES)
}

fn is_refusal(failure: Failure) -> bool {
    matches!(failure, Failure::Errno(errno::EOPNOTSUPP | errno::ENOSYS))
}
