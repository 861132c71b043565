//! What stands behind the BARs.

use alloc::vec::Vec;

use guest_memory::{Memory, Window};
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

/// Whole pages of a BAR that a guest may reach as memory, so that nobody is told of its accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    pub bar: u8,
    pub offset: u32,
    pub bytes: u32,
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

/// Registers that a driver writes again and again, which may be memory for it; and whether it writes
/// them at all.
pub trait Doorbells {
    /// Pages with nothing in them but such registers, none of which needs an answer; if there are some.
    fn pages(&self) -> Option<Pages>;

    /// From now on `pages` is what those registers are, and a driver may write there without a
    /// message. It outlives the process; a successor is given the same before its `restore`. `None`:
    /// accesses are messages.
    fn share(&mut self, pages: Option<Window>);

    /// Takes what shared pages say into the hot state, for a device of the same kind elsewhere.
    fn gather(&mut self);

    /// Makes shared pages say what the hot state says, of a device that was elsewhere before.
    fn spread(&mut self);

    /// Acts on what the driver wrote to shared pages since. True: something came of it.
    fn look(&mut self, now: Instant) -> bool;

    /// What a driver may want can come by shared pages alone, so that somebody has to look at it
    /// from time to time: by `look`, and whether work was posted.
    fn is_silent(&self) -> bool;

    /// The driver was told that it need not ring. Unlike `is_silent`, that can be taken back.
    fn is_hushed(&self) -> bool;
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
pub trait Function: Bars + Signals + Lasting + Doorbells {
    /// The guest's memory map is another, or bus mastering was switched (off: `memory` is empty).
    fn memory_changed(&mut self, memory: &Memory);

    /// Named ends, for the operator.
    fn counters(&self) -> Vec<(&'static str, u64)>;
}
