//! The contract between a volume's user and the place where its bytes end.
//!
//! # Who does what
//!
//! * The user checks addresses: an [`Extent`](request::Extent) lies within the volume, and the data
//!   of a request has exactly the bytes that its operation names. A backend checks neither again;
//!   a length that differs is a bug of ours and stops the worker.
//! * A request is named by a `tag` that is not in use. Each ends exactly once, in a `poll`, in any
//!   order, and its tag is free from then on. `submit` itself never ends one.
//! * A backend holds the memory snapshot of a request until the request has ended, so that a guest
//!   which takes memory away meanwhile takes it from later requests only.
//! * A backend marks in that snapshot's dirty log what it wrote into guest memory, before the
//!   request ends.
//! * Ordering between overlapping requests that are in flight together is the guest's duty, as it
//!   is with every disk: only a `Flush` promises something, and only about writes that had ended
//!   before it was submitted.
//!
//! * A `WriteAtomic` is one that `Facts::atomic` covers: another is a bug of ours too.
//!
//! # When to poll
//!
//! Once after each turn that submitted to it (some requests end without asking anybody), whenever
//! the ring that it uses names it as ready, and when `next_deadline` has come.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::sync::Arc;

use guest_memory::Memory;
use request::{Facts, Instant, Lba, Operation, Run, Span, Status};

/// The bytes of a request, as places in a guest's memory.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    pub memory: &'a Arc<Memory>,
    pub spans: &'a [Span],
}

/// A volume's bytes.
pub trait Disk {
    /// What is true of the volume now. Only `resize` changes it.
    fn facts(&self) -> &Facts;

    /// Takes a request. It ends in a later `poll`.
    fn submit(&mut self, now: Instant, tag: u32, operation: Operation, data: Data<'_>);

    /// Names the requests that have ended.
    fn poll(&mut self, now: Instant, done: &mut dyn FnMut(u32, Status));

    /// When `poll` must be called although nobody named the disk as ready.
    fn next_deadline(&self) -> Option<Instant>;

    /// Looks at the backing again. True if the capacity has changed, and `facts` with it. A backing
    /// that is smaller than it was promised to be is a fault and not a new capacity: requests end
    /// with `NotReady` until it has its size again.
    fn resize(&mut self) -> bool;

    /// Whether the blocks from `from` on, which lies within the volume, have a place in the store.
    /// The answer is quick, may cost a system call, and is about what had ended before.
    fn allocation(&mut self, from: Lba) -> Run;

    /// What went wrong first since this was asked last, with place, operation and reason. For the
    /// operator: a guest never sees it.
    fn take_cause(&mut self) -> Option<String>;
}
