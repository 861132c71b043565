//! A frame that somebody is to receive.

use guest_memory::Memory;
use request::{FrameFacts, Span, total};

/// Bytes of a frame that are copied out when it left something undone: what segmentation needs.
pub const HEADER_MAX: usize = 256;

/// A frame may be as long as an IP packet, an Ethernet header and two tags.
pub const FRAME_MAX: u32 = 65_535 + 14 + 8;

/// What follows a frame's header.
#[derive(Clone, Copy)]
pub enum Body<'a> {
    /// In another guest's memory, or the same one's.
    Guest(&'a Memory, &'a [Span]),
    Bytes(&'a [u8]),
}

/// A frame that somebody is to receive.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// Its first bytes: 18 at least if there are as many, `HEADER_MAX` at most.
    pub header: &'a [u8],
    pub body: Body<'a>,
    pub facts: FrameFacts,
}

impl Frame<'_> {
    pub fn len(&self) -> u64 {
        self.body.len().saturating_add(self.header.len() as u64)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Body<'_> {
    /// The one copy of a payload. Gives the number of bytes.
    #[inline]
    pub fn copy(&self, memory: &Memory, to: &[Span]) -> u64 {
        match self {
            Body::Guest(from_memory, from) => from_memory.copy(from, memory, to),
            Body::Bytes(bytes) => memory.scatter(to, bytes) as u64,
        }
    }

    pub fn len(&self) -> u64 {
        match self {
            Body::Guest(_, spans) => total(spans),
            Body::Bytes(bytes) => bytes.len() as u64,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
