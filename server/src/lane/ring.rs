//! One ring of a slot with what the lane knows of it.

use host::event::PeerEvent;
use virtqueue::Queue;

/// One ring of a slot, as the lane serves it.
#[derive(Default)]
pub struct RingSlot {
    pub queue: Option<Queue>,
    pub kick: Option<(u32, PeerEvent)>,
    pub call: Option<(u32, PeerEvent)>,
    /// Requests that were taken and have not ended.
    pub in_flight: u32,
    /// Counts the ring's starts, so that a request which outlives a start finds no other ring.
    pub epoch: u32,
    /// In the lane's list of rings that are looked at every turn.
    pub active: bool,
    /// In the lane's list of rings with used elements to publish.
    pub staged: bool,
    /// When it last had work, for the decision to sleep.
    pub worked_at: u64,
    /// No request is taken until those in flight have ended: the front end waits for that.
    pub draining: bool,
    /// The guest broke the ring; counted once, served again when it is set up anew.
    pub broken: bool,
}

impl RingSlot {
    /// Tells the guest that used elements are there. `false`: whoever gave the descriptor for it has
    /// made us wait.
    #[must_use]
    pub fn signal(&self) -> bool {
        self.call.as_ref().is_none_or(|(_, call)| call.signal())
    }

    /// A ring that drains is served as long as it has requests that a dead worker had begun.
    pub fn is_served(&self) -> bool {
        !self.broken && self.queue.as_ref().is_some_and(|queue| !self.draining || queue.resubmits() > 0)
    }
}
