//! The device as a whole.

use crate::bits::feature;

/// Device type, virtio 1.2 section 5.
pub const DEVICE_ID: u16 = 8;

/// Which queue is which, 5.6.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    Control,
    Event,
    Request,
}

pub fn queue_kind(index: u16) -> QueueKind {
    match index {
        0 => QueueKind::Control,
        1 => QueueKind::Event,
        _ => QueueKind::Request,
    }
}

/// What is offered beyond the transport's own features. Not INOUT, since no command of a disk has
/// data both ways, and not T10_PI.
pub fn features() -> u64 {
    feature::HOTPLUG | feature::CHANGE
}
