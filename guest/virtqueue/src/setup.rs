use guest_memory::Window;
use request::Address;

/// The largest queue of either kind (2.7, 2.8).
pub const SIZE_MAX: u16 = 1 << 15;

/// The order in which requests end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any: those in flight are noted in a table of vhost-user's layout.
    Any,
    /// As they were taken. The caller ends what it took before it waits for anything.
    InOrder,
}

/// All that a queue must know.
#[derive(Clone, Debug)]
pub struct Setup {
    pub size: u16,
    /// VIRTIO_F_RING_PACKED.
    pub packed: bool,
    /// VIRTIO_F_EVENT_IDX.
    pub event_idx: bool,
    /// VIRTIO_F_INDIRECT_DESC.
    pub indirect: bool,
    /// Descriptor table, or descriptor ring.
    pub desc: Window,
    /// Available ring, or driver event suppression.
    pub driver: Window,
    /// Used ring, or device event suppression.
    pub device: Window,
    /// Guest address of the used ring (split) or of the descriptor ring (packed), where writes to
    /// it are to be noted in the dirty log. Event suppression is not noted: whoever takes the ring
    /// over writes its own.
    pub log: Option<Address>,
    /// What outlives the process: [`crate::Queue::inflight_bytes`] of memory. Without it, a ring
    /// whose requests were in flight cannot be resumed.
    pub inflight: Option<Window>,
    pub order: Order,
    /// SET_VRING_BASE's number: where to begin, unless the shared memory knows better.
    pub base: u32,
    /// A predecessor died while it worked on this ring: go on where it stopped.
    pub resume: bool,
}

/// Why a queue cannot be set up: the front end's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// Zero, too large, or (split) no power of two.
    Size,
    /// Too short, or not aligned as 2.7 and 2.8 want it.
    DescriptorArea,
    DriverArea,
    DeviceArea,
    InflightRegion,
    /// The base lies outside of the ring.
    Base,
}

impl Setup {
    pub(crate) fn check(&self) -> Result<(), SetupError> {
        let size = usize::from(self.size);
        if size == 0 || self.size > SIZE_MAX || (!self.packed && !self.size.is_power_of_two()) {
            return Err(SetupError::Size);
        }
        let event = if self.event_idx { 2 } else { 0 };
        let (driver, driver_align, device) =
            if self.packed { (4, 4, 4) } else { (4 + 2 * size + event, 2, 4 + 8 * size + event) };
        let fits =
            |window: &Window, len: usize, align: usize| window.len() >= len && window.is_aligned(align);
        if !fits(&self.desc, 16 * size, 16) {
            return Err(SetupError::DescriptorArea);
        }
        if !fits(&self.driver, driver, driver_align) {
            return Err(SetupError::DriverArea);
        }
        if !fits(&self.device, device, 4) {
            return Err(SetupError::DeviceArea);
        }
        if let Some(inflight) = &self.inflight
            && !fits(inflight, crate::Queue::inflight_bytes(self.size, self.packed), 8)
        {
            return Err(SetupError::InflightRegion);
        }
        Ok(())
    }
}
