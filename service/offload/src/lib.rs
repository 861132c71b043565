//! What a frame's sender left undone and its receiver cannot do: checksums and segmentation.
//!
//! Two guests of one host normally pass a frame on as it is, 64 KiB of TCP with its checksum left
//! out. [`measure`] checks such a frame's claims against a copy of its headers, and says how many
//! frames of what size it stands for. A receiver that did not negotiate it gets what would have
//! come off a wire: [`Plan::segment`] makes the headers of each frame. The payload
//! stays where it is: a [`Segment`] names the range of it, and whoever may read that memory sums it
//! up with a [`Sum`].
//!
//! The copy of the headers matters. A guest can change its memory while we look at it, so the bytes
//! that were checked are the bytes that are used and sent on.
//!
//! UDP fragmentation (`Gso::Udp`) is refused: the front ends do not offer it.

#![no_std]
#![forbid(unsafe_code)]

mod headers;
mod plan;
mod sum;

pub use headers::{Fault, HEADER_MAX};
pub use plan::{Measure, Plan, SEGMENTS_MAX, Segment, measure};
pub use sum::Sum;
