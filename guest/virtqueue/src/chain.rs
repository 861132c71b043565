use alloc::vec::Vec;

use request::Span;

use crate::Fault;

/// A request as the guest posted it: buffers to read, then buffers to write. One is used again and
/// again, so that its list grows once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Names the request towards its queue: less than the queue's size, and with `Order::Any`
    /// unlike any other that is in flight. (Split: the head descriptor's index. Packed: a place in a table;
    /// the buffer id is the guest's choice and may repeat.)
    pub head: u16,
    /// Ring slots that the chain took: 1 for split rings.
    pub count: u16,
    /// Readable spans, then writable ones. None is empty.
    pub spans: Vec<Span>,
    /// Index of the first writable span.
    pub writable_from: usize,
}

impl Chain {
    pub fn new() -> Self {
        Self::default()
    }

    /// What the device reads.
    pub fn readable(&self) -> &[Span] {
        self.spans.get(..self.writable_from).unwrap_or(&[])
    }

    /// What the device writes.
    pub fn writable(&self) -> &[Span] {
        self.spans.get(self.writable_from..).unwrap_or(&[])
    }

    pub fn readable_mut(&mut self) -> &mut [Span] {
        self.split_mut().0
    }

    pub fn writable_mut(&mut self) -> &mut [Span] {
        self.split_mut().1
    }

    /// Both lists at once, to cut headers off them in place.
    pub fn split_mut(&mut self) -> (&mut [Span], &mut [Span]) {
        let at = self.writable_from.min(self.spans.len());
        self.spans.split_at_mut(at)
    }
}

/// What a queue has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pop {
    /// The caller's [`Chain`] holds a request.
    Chain,
    Empty,
    /// The guest broke a rule; nothing more comes until the queue is set up anew.
    Broken(Fault),
}

/// What a ring has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Popped {
    New,
    /// Handed out before: by a predecessor, or given back.
    Again,
    Nothing,
}
