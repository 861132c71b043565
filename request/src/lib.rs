//! The nouns of a request's path. Every station may name this crate; it names nobody.
//!
//! A request is made of plain numbers here: a [`Span`] says *which* bytes of a guest's memory are
//! meant and is harmless in anybody's hands, because only `guest/memory` can turn it into bytes,
//! and does so against a memory snapshot that checks it again (docs/decisions/0001).

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod block;
mod frame;
mod span;
mod time;

pub use block::{
    Atomic, Blocks, Discard, Extent, Facts, Identity, Lba, Operation, Provisioning, Run, Status,
};
pub use frame::{CHECKSUM_NONE, Facts as FrameFacts, Gso, Mac, Rewrite};
pub use span::{Address, Span, advance, cut, total};
pub use time::Instant;
