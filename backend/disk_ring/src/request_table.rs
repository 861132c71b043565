//! Requests that have not ended. Their places are used again, with the lists that they have grown.

use std::sync::Arc;

use guest_memory::Memory;
use host::ring::WriteFlags;
use request::{Span, Status};

use crate::failure::Way;

/// What a request waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Step {
    #[default]
    Free,
    /// The kernel moves the bytes.
    Straight(Way),
    /// Piece by piece through a bounce buffer, or for one to become free.
    Bounce(Way),
    /// One block, or zeroes, written again and again; or for a bounce buffer to repeat it from.
    Fill {
        zeroes: bool,
    },
    Hole,
    ZeroRange,
    Discard,
    Sync,
    /// Nothing any more.
    Ended(Status),
}

#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) tag: u32,
    pub(crate) step: Step,
    pub(crate) flags: WriteFlags,
    /// Of the first byte that is not done.
    pub(crate) offset: u64,
    pub(crate) left: u64,
    /// Bytes that are under way, of a request that goes piece by piece.
    pub(crate) piece: u32,
    /// The bounce buffer that it has.
    pub(crate) bounce: Option<u32>,
    pub(crate) memory: Option<Arc<Memory>>,
    pub(crate) spans: Vec<Span>,
    /// The first span that is not done.
    pub(crate) first: usize,
}

#[derive(Debug, Default)]
pub(crate) struct RequestTable {
    requests: Vec<Request>,
    free: Vec<u32>,
}

impl RequestTable {
    pub(crate) fn take(&mut self, tag: u32, offset: u64, left: u64) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.requests.push(Request::default());
            (self.requests.len() - 1) as u32
        });
        let request = &mut self.requests[index as usize];
        request.tag = tag;
        request.offset = offset;
        request.left = left;
        index
    }

    pub(crate) fn get(&mut self, index: u32) -> &mut Request {
        &mut self.requests[index as usize]
    }

    /// Lets go of what the request holds; returns its tag.
    pub(crate) fn give_back(&mut self, index: u32) -> u32 {
        let request = &mut self.requests[index as usize];
        assert!(request.step != Step::Free, "a request ends once");
        request.step = Step::Free;
        request.flags = WriteFlags::default();
        request.memory = None;
        request.spans.clear();
        request.first = 0;
        self.free.push(index);
        request.tag
    }
}
