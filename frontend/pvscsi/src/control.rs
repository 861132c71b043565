//! Control state: registers, the command in the making, where the rings are, what waits.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::bits::{command, size, words};
use crate::bytes::{le32, le64};
use crate::rings::{Pages, Setup};

/// Orders that can wait. Drivers give one and look at its outcome before the next.
pub(crate) const ORDERS_MAX: usize = 16;

/// Messages that can wait for room: one for each target, there and gone again.
pub(crate) const MESSAGES_MAX: usize = 128;

const VERSION: u8 = 1;

/// What a driver ordered, to be done once the requests that it posted before are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Abort { context: u64, target: u8 },
    ResetDevice { target: u8, lun: [u8; 8] },
    ResetBus,
    ResetAdapter,
    Unplug { target: u8, lun: [u8; 8], reply: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub task: Task,
    /// Count of taken requests that comes first.
    pub after: u64,
}

/// A LUN came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub added: bool,
    pub target: u8,
    pub lun: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Control {
    pub command: u32,
    /// Words of its descriptor that came so far.
    pub words: Vec<u32>,
    pub status: u32,
    pub intr_status: u32,
    pub intr_mask: u32,
    pub rings: Option<Setup>,
    pub messages: Option<Pages>,
    pub threshold: bool,
    /// Counts of the hot state when the rings were set up.
    pub taken_from: u64,
    pub published_from: u64,
    pub messages_from: u64,
    pub orders: VecDeque<Order>,
    /// Messages that wait; the first has the number `next_message`.
    pub waiting: VecDeque<Message>,
    pub next_message: u64,
}

impl Control {
    /// As after power on, with these counts.
    pub fn new(taken: u64, published: u64, messages: u64) -> Control {
        Control {
            taken_from: taken,
            published_from: published,
            messages_from: messages,
            next_message: messages,
            ..Control::default()
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut into = Vec::with_capacity(2048);
        into.push(VERSION);
        for word in [self.command, self.status, self.intr_status, self.intr_mask] {
            into.extend_from_slice(&word.to_le_bytes());
        }
        let counts = [self.taken_from, self.published_from, self.messages_from, self.next_message];
        for count in counts {
            into.extend_from_slice(&count.to_le_bytes());
        }
        into.push(u8::from(self.threshold));
        // None of these lists has more than 255 elements.
        into.push(self.words.len() as u8);
        for word in &self.words {
            into.extend_from_slice(&word.to_le_bytes());
        }
        into.push(u8::from(self.rings.is_some()));
        if let Some(setup) = &self.rings {
            into.extend_from_slice(&setup.state.to_le_bytes());
            encode_pages(&mut into, &setup.requests);
            encode_pages(&mut into, &setup.completions);
        }
        into.push(u8::from(self.messages.is_some()));
        if let Some(pages) = &self.messages {
            encode_pages(&mut into, pages);
        }
        into.push(self.orders.len() as u8);
        for order in &self.orders {
            let (kind, target, lun, value) = match order.task {
                Task::Abort { context, target } => (1, target, [0; 8], context),
                Task::ResetDevice { target, lun } => (2, target, lun, 0),
                Task::ResetBus => (3, 0, [0; 8], 0),
                Task::ResetAdapter => (4, 0, [0; 8], 0),
                Task::Unplug { target, lun, reply } => (5, target, lun, reply),
            };
            into.extend_from_slice(&[kind, target]);
            into.extend_from_slice(&lun);
            into.extend_from_slice(&value.to_le_bytes());
            into.extend_from_slice(&order.after.to_le_bytes());
        }
        into.push(self.waiting.len() as u8);
        for message in &self.waiting {
            into.extend_from_slice(&[u8::from(message.added), message.target]);
            into.extend_from_slice(&message.lun.to_le_bytes());
        }
        into
    }

    /// `None`: not of this version, or not whole.
    pub fn decode(bytes: &[u8]) -> Option<Control> {
        let mut from = Reader { bytes };
        if from.byte()? != VERSION {
            return None;
        }
        let mut control = Control {
            command: from.word()?,
            status: from.word()?,
            intr_status: from.word()?,
            intr_mask: from.word()?,
            taken_from: from.long()?,
            published_from: from.long()?,
            messages_from: from.long()?,
            next_message: from.long()?,
            threshold: from.byte()? != 0,
            ..Control::default()
        };
        for _ in 0..from.byte()? {
            control.words.push(from.word()?);
        }
        if control.words.len() > words::MAX {
            return None;
        }
        if from.byte()? != 0 {
            let state = from.long()?;
            let requests = from.pages(size::RING_PAGES_MAX)?;
            let completions = from.pages(size::RING_PAGES_MAX)?;
            control.rings = Some(Setup { state, requests, completions });
        }
        if from.byte()? != 0 {
            control.messages = Some(from.pages(size::MESSAGE_PAGES_MAX)?);
        }
        for _ in 0..from.byte()? {
            let (kind, target) = (from.byte()?, from.byte()?);
            let (lun, value) = (from.long()?.to_le_bytes(), from.long()?);
            let task = match kind {
                1 => Task::Abort { context: value, target },
                2 => Task::ResetDevice { target, lun },
                3 => Task::ResetBus,
                4 => Task::ResetAdapter,
                5 => Task::Unplug { target, lun, reply: value },
                _ => return None,
            };
            control.orders.push_back(Order { task, after: from.long()? });
        }
        for _ in 0..from.byte()? {
            let (added, target) = (from.byte()? != 0, from.byte()?);
            let lun = u16::from_le_bytes([from.byte()?, from.byte()?]);
            control.waiting.push_back(Message { added, target, lun });
        }
        from.bytes.is_empty().then_some(control)
    }
}

fn encode_pages(into: &mut Vec<u8>, pages: &Pages) {
    into.push(pages.count as u8);
    for number in pages.iter() {
        into.extend_from_slice(&number.to_le_bytes());
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let (head, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn word(&mut self) -> Option<u32> {
        Some(le32(self.take(4)?, 0))
    }

    fn long(&mut self) -> Option<u64> {
        Some(le64(self.take(8)?, 0))
    }

    fn pages(&mut self, max: usize) -> Option<Pages> {
        let mut pages = Pages { count: u32::from(self.byte()?), ..Pages::default() };
        if !pages.is_sound(max) {
            return None;
        }
        for index in 0..pages.count as usize {
            let number = self.long()?;
            if let Some(into) = pages.numbers.get_mut(index) {
                *into = number;
            }
        }
        Some(pages)
    }
}

/// Words of a command's descriptor; `None`: it is not served.
pub(crate) fn words_of(command: u32) -> Option<usize> {
    Some(match command {
        command::ADAPTER_RESET | command::RESET_BUS | command::GET_MAX_TARGETS => 0,
        command::SETUP_RINGS => words::SETUP_RINGS,
        command::RESET_DEVICE => words::RESET_DEVICE,
        command::ABORT_CMD => words::ABORT_CMD,
        command::CONFIG => words::CONFIG,
        command::SETUP_MSG_RING => words::SETUP_MSG_RING,
        command::DEVICE_UNPLUG => words::DEVICE_UNPLUG,
        command::SETUP_REQCALLTHRESHOLD => words::SETUP_REQCALLTHRESHOLD,
        // ISSUE_SCSI would have to be finished while the driver's write waits (QUIRKS.md).
        _ => return None,
    })
}
