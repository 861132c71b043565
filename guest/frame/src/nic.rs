//! What a NIC model with registers is for whoever moves frames.

use alloc::vec::Vec;

use guest_memory::Memory;
use request::{FrameFacts, Instant, Rewrite, Span};

use crate::{Frame, HEADER_MAX, Refused};

/// A frame that a driver posted. One is used again and again.
#[derive(Clone, Debug)]
pub struct Posted {
    /// Room for the first bytes, and for a tag that the device puts in.
    pub raw: [u8; HEADER_MAX + 4],
    /// How many of them there are.
    pub header_len: usize,
    /// What follows, in the sender's memory.
    pub rest: Vec<Span>,
    /// Bytes of the whole frame.
    pub len: u32,
    /// What the sender leaves to others.
    pub facts: FrameFacts,
}

impl Default for Posted {
    fn default() -> Self {
        Self {
            raw: [0; HEADER_MAX + 4],
            header_len: 0,
            rest: Vec::new(),
            len: 0,
            facts: FrameFacts::default(),
        }
    }
}

impl Posted {
    pub fn header(&self) -> &[u8] {
        self.raw.get(..self.header_len).unwrap_or(&[])
    }

    /// The frame as a receiver wants it.
    pub fn frame<'a>(&'a self, memory: &'a Memory) -> Frame<'a> {
        Frame { header: self.header(), body: crate::Body::Guest(memory, &self.rest), facts: self.facts }
    }
}

/// What came of a look at a transmit queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Frame,
    /// It goes nowhere, by its driver's fault; there may be more.
    Dropped,
    Empty,
}

/// A NIC whose driver works with registers and rings of the device's own kind.
///
/// What was taken or delivered is told to the driver with [`Nic::publish`], once for many.
pub trait Nic: pci::Function {
    /// Bit n: transmit queue n has something that was not taken.
    fn waiting(&self) -> u32;

    /// The next frame of a transmit queue. It is done with when the next call or `publish` comes.
    fn transmit(&mut self, memory: &Memory, queue: u16, posted: &mut Posted) -> Taken;

    /// Can the driver take the frame with what its sender left undone? If not, `deliver` refuses it
    /// with `Refused::Offload`, and it is to come again, finished.
    fn can_take(&self, frame: &Frame<'_>) -> bool;

    /// Copies a frame into posted buffers, if the filters want it; gives the frame's bytes.
    fn deliver(&mut self, memory: &Memory, frame: &Frame<'_>, rewrite: Rewrite) -> Result<u32, Refused>;

    /// Shows the driver what is done, and raises the causes of interrupts.
    fn publish(&mut self, now: Instant, memory: &Memory);

    /// Whether the driver is to ring when it posts frames. `false` while somebody looks at `waiting`
    /// again and again; before he sleeps he says `true` and looks once more. A model whose driver rings
    /// always does nothing.
    fn set_doorbells(&mut self, now: Instant, memory: &Memory, wanted: bool);

    /// The cable is plugged or pulled. `mbps`: what the uplink has.
    fn set_link(&mut self, now: Instant, up: bool, mbps: u32);
}
