//! What stands behind the BARs.

use alloc::vec::Vec;

use guest_memory::Memory;
use request::Instant;

use crate::Layout;

/// How the guest takes interrupts at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IrqMode {
    #[default]
    Off,
    Intx,
    Msi,
    MsiX,
}

/// What is to be told to the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interrupts {
    /// The INTx pin is asserted.
    pub level: bool,
    /// Messages to send, once each: bit n is vector n; MSI with one vector has bit 0.
    pub vectors: u32,
}

/// Longest control state of a model.
pub const STATE_MAX: usize = 24 << 10;

/// What is behind the BARs.
pub trait Bars {
    fn layout(&self) -> &Layout;

    /// A read of a BAR; `into` is filled whatever the offset and the length are.
    fn read(&mut self, now: Instant, bar: u8, offset: u64, into: &mut [u8]);

    /// A write to a BAR. Work that it asks for is noted, and done when the model's own functions are
    /// called.
    fn write(&mut self, now: Instant, memory: &Memory, bar: u8, offset: u64, bytes: &[u8]);

    /// As after power on.
    fn reset(&mut self);
}

/// How a model makes itself heard, and when it wants to be called.
pub trait Signals {
    fn set_irq_mode(&mut self, mode: IrqMode);

    /// Vectors that are due since the last call, and the pin as it is now.
    fn interrupts(&mut self) -> Interrupts;

    /// When `expire` wants to be called.
    fn deadline(&self) -> Option<Instant>;

    fn expire(&mut self, now: Instant, memory: &Memory);
}

/// What outlives the process.
pub trait Lasting {
    /// Control state; the caller asks when `take_dirty` says so.
    fn state(&self) -> Vec<u8>;

    /// Takes up the control state that a predecessor left. What cannot be read leaves the model as
    /// after power on.
    fn restore(&mut self, bytes: &[u8]);

    /// Whether control state changed since the last call.
    fn take_dirty(&mut self) -> bool;

    /// After `restore`: goes on with the rings where the hot state says, and raises an interrupt, as
    /// one may have been lost.
    fn resume(&mut self, memory: &Memory);
}

/// A device model, as its transport drives it.
///
/// # What outlives the process
///
/// A model's state is in two places. *Control state* ([`Lasting::state`]) is plain data with a
/// version, at most [`STATE_MAX`] bytes: registers, tables, the configuration
/// of rings. Whoever drives the model keeps it in the ledger, in one step with the access that
/// changed it, so that an access with side effects takes place once. *Hot state* (ring positions,
/// what was begun) is in a window of the ledger that the model writes through as it works.
pub trait Function: Bars + Signals + Lasting {
    /// The guest's memory map is another, or bus mastering was switched (off: `memory` is empty).
    fn memory_changed(&mut self, memory: &Memory);

    /// Named ends, for the operator.
    fn counters(&self) -> Vec<(&'static str, u64)>;
}
