//! What an operator decides about a NIC.

use request::Mac;

/// Highest revision of the device that there is here.
pub const REVISION_MAX: u8 = 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The address that the driver finds.
    pub mac: Mac,
    /// The highest revision that is shown, 1 to `REVISION_MAX`.
    pub revision: u8,
    /// Queues that a driver of revision 6 or newer is advised to use; older ones do not ask, and may
    /// use 8 each way.
    pub transmit_queues: u8,
    pub receive_queues: u8,
    /// The link, until `set_link` says otherwise.
    pub link_up: bool,
    pub link_mbps: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mac: Mac::default(),
            revision: REVISION_MAX,
            transmit_queues: 8,
            receive_queues: 8,
            link_up: true,
            link_mbps: 10_000,
        }
    }
}

impl Config {
    /// One bit for each revision (VRRS).
    pub(crate) fn revisions(&self) -> u32 {
        (1 << u32::from(self.revision.clamp(1, REVISION_MAX))) - 1
    }
}
