//! A ring of descriptors, and how ownership goes back to the driver.
//!
//! # Giving back
//!
//! A descriptor whose OWN bit is cleared belongs to the driver at once, and may be back in our hands
//! before the next instruction of ours. So from OWN alone a successor cannot tell a descriptor that
//! its predecessor had not given back from one that came back already. Therefore a burst of
//! descriptors is given back in three steps:
//!
//! 1. each gets its final content with OWN and a *mark* still set, a bit that is never set together
//!    with a cleared OWN: no driver looks at it, and none can bring it back;
//! 2. the hot state tells that `left` descriptors from `position` on are being given back;
//! 3. of each OWN and the mark are cleared in one store, and the hot state follows.
//!
//! A successor that finds `left` above zero knows that step 1 was done for all of them: the first
//! one was given back if and only if it has no mark, whoever owns it by now; the others were not.
//! It carries the burst to its end.

use alloc::vec::Vec;

use guest_memory::{Memory, Window};
use request::Address;

/// RMD1, TMD1: the upper half of the second double word (style 0: its upper byte).
pub mod status {
    pub const OWN: u16 = 1 << 15;
    pub const ERR: u16 = 1 << 14;
    pub const CRC: u16 = 1 << 11;
    pub const STP: u16 = 1 << 9;
    pub const ENP: u16 = 1 << 8;
    pub const PAM: u16 = 1 << 6;
    pub const LAFM: u16 = 1 << 5;
    pub const BAM: u16 = 1 << 4;
    /// TMD1: append the frame check sequence whatever DXMTFCS says.
    pub const ADD_FCS: u16 = 1 << 13;
    /// TMD1, written by the driver: an interrupt for this frame (with LTINTEN).
    pub const LTINT: u16 = 1 << 12;
    /// TMD1: what the controller tells of a frame sent: MORE, ONE, DEF, BPE.
    pub const SENT: u16 = 1 << 12 | 1 << 11 | 1 << 10 | 1 << 7;
    /// FRAM of a received frame, which none of ours has.
    pub const RECEIVE_MARK: u16 = 1 << 13;
    /// DEF of a sent frame: nothing is ever deferred here.
    pub const TRANSMIT_MARK: u16 = 1 << 10;
}

/// BCR20: how descriptors and the initialization block look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// 0: LANCE, 8 bytes, 24-bit addresses.
    #[default]
    Lance,
    /// 2: PCnet-PCI, 16 bytes. Style 1 (ILACC) has the same places for all that is used.
    Pci,
    /// 3: as 2, with the first and the third double word exchanged.
    Burst,
    /// VMXNET's own: 24 bytes to receive, 64 to transmit, and a number that tells the owner.
    Vmxnet,
}

impl Style {
    pub fn of(sws: u16) -> Self {
        match sws & 0xff {
            1 | 2 => Style::Pci,
            3 => Style::Burst,
            _ => Style::Lance,
        }
    }

    fn bytes(self, direction: Direction) -> u32 {
        match (self, direction) {
            (Style::Lance, _) => 8,
            (Style::Pci | Style::Burst, _) => 16,
            (Style::Vmxnet, Direction::Receive) => 24,
            (Style::Vmxnet, Direction::Transmit) => 64,
        }
    }
}

/// Who owns a VMXNET descriptor.
mod owner {
    pub const DRIVER: u16 = 0;
    pub const NIC: u16 = 2;
    pub const NIC_PENDING: u16 = 3;
}

/// Which way a ring goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Receive,
    Transmit,
}

/// What a descriptor is to say when it goes back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub status: u16,
    /// RMD2 or TMD2, if it is to be written.
    pub detail: Option<u32>,
}

/// One of the two rings. Where it lies is control state (CSR24, CSR30, CSR76, CSR78, BCR20).
pub struct Ring {
    hot: Window,
    direction: Direction,
    style: Style,
    base: u32,
    count: u32,
    window: Option<Window>,
    /// The oldest descriptor that was not given back; the hot state has it too.
    position: u32,
    /// Those from there on that were used and are to be given back.
    done: Vec<Done>,
}

/// With so many, a ring does not wait for the publication; one frame has at most 64.
const DONE_MAX: usize = 256;

impl Ring {
    /// `hot`: eight bytes, position and number of those that are being given back.
    pub fn new(hot: Window, direction: Direction) -> Self {
        let done = Vec::with_capacity(DONE_MAX + 64);
        let mut ring =
            Self { hot, direction, style: Style::Lance, base: 0, count: 0, window: None, position: 0, done };
        ring.position = ring.note().0;
        ring
    }

    fn bytes(&self) -> u32 {
        self.style.bytes(self.direction)
    }

    /// The oldest descriptor that was not given back.
    pub fn position(&self) -> u32 {
        self.position
    }

    fn note(&self) -> (u32, u32) {
        let note = self.hot.load_u64(0);
        (note as u32, (note >> 32) as u32)
    }

    fn set_note(&self, position: u32, left: u32) {
        self.hot.store_release_u64(0, u64::from(left) << 32 | u64::from(position));
    }

    fn mark(&self) -> u16 {
        match self.direction {
            Direction::Receive => status::RECEIVE_MARK,
            Direction::Transmit => status::TRANSMIT_MARK,
        }
    }

    /// The ring lies there now. The position stays.
    pub fn locate(&mut self, memory: &Memory, style: Style, base: u32, count: u32) {
        self.style = style;
        self.base = match style {
            Style::Vmxnet => base,
            _ => base & !(self.bytes() - 1),
        };
        self.count = count;
        self.window = match count.checked_mul(self.bytes()) {
            None | Some(0) => None,
            Some(bytes) => memory.window(Address(u64::from(self.base)), bytes),
        };
        if self.position >= count.max(1) {
            self.position = 0;
        }
        let left = self.note().1;
        if left > 0 {
            self.finish(memory, left);
        }
    }

    /// There is no ring.
    pub fn forget(&mut self) {
        self.window = None;
        self.count = 0;
        self.done.clear();
    }

    /// What was used and not given back is as if it never was.
    pub fn abandon(&mut self) {
        self.done.clear();
    }

    /// Begins at this descriptor.
    pub fn seek(&mut self, position: u32) {
        self.done.clear();
        self.position = position;
        self.set_note(position, 0);
    }

    pub fn is_there(&self) -> bool {
        self.window.is_some()
    }

    pub fn count(&self) -> u32 {
        self.count
    }

    /// The descriptor that comes next, and `ahead` more.
    pub fn index(&self, ahead: u32) -> u32 {
        if self.count == 0 {
            return 0;
        }
        // No division: nobody looks more than a ring's length ahead, but of a ring of one.
        let mut index = self.position as usize + self.done.len() + ahead as usize;
        while index >= self.count as usize {
            index -= self.count as usize;
        }
        index as u32
    }

    /// How many descriptors may be looked at: those that were used are ours still, whatever they
    /// say.
    pub fn free(&self) -> u32 {
        self.count.saturating_sub(self.done.len() as u32)
    }

    pub fn address_of(&self, index: u32) -> u32 {
        self.base.wrapping_add(index.wrapping_mul(self.bytes()))
    }

    fn place(&self, index: u32) -> usize {
        index as usize * self.bytes() as usize
    }

    /// OWN, STP and the rest; nothing is owned where there is no memory.
    #[inline]
    pub fn status(&self, index: u32) -> u16 {
        let Some(window) = &self.window else { return 0 };
        let at = self.place(index);
        match self.style {
            Style::Lance => u16::from(window.load_acquire_u8(at + 3)) << 8,
            Style::Pci | Style::Burst => window.load_acquire_u16(at + 6),
            Style::Vmxnet => match window.load_acquire_u16(at + self.owner_place()) {
                owner::NIC => status::OWN | status::STP | status::ENP,
                owner::NIC_PENDING => status::OWN | self.mark() | status::STP | status::ENP,
                _ => 0,
            },
        }
    }

    /// The driver gave us the descriptor `ahead` of the next one.
    #[inline]
    pub fn owned(&self, ahead: u32) -> Option<u16> {
        if ahead >= self.free() {
            return None;
        }
        let status = self.status(self.index(ahead));
        (status & status::OWN != 0).then_some(status)
    }

    /// Where the buffer is, without CSR2's share of a 24-bit address, and its length.
    #[inline]
    pub fn buffer(&self, index: u32) -> (u32, u32) {
        let Some(window) = &self.window else { return (0, 0) };
        let at = self.place(index);
        let address = match self.style {
            Style::Lance => window.load_u32(at) & 0x00ff_ffff,
            Style::Pci => window.load_u32(at),
            Style::Burst => window.load_u32(at + 8),
            Style::Vmxnet => return (window.load_u32(at), window.load_u32(at + 8)),
        };
        (address, 4096 - u32::from(window.load_u16(at + 4) & 0x0fff))
    }

    fn owner_place(&self) -> usize {
        match self.direction {
            Direction::Receive => 16,
            Direction::Transmit => 2,
        }
    }

    /// How many pieces a VMXNET transmit descriptor has.
    pub fn pieces(&self, index: u32) -> u16 {
        self.window.as_ref().map_or(0, |window| window.load_u16(self.place(index) + 14))
    }

    /// One of them: address and length.
    pub fn piece(&self, index: u32, piece: u16) -> (u32, u32) {
        let Some(window) = &self.window else { return (0, 0) };
        let at = self.place(index) + 16 + usize::from(piece) * 8;
        (window.load_u32(at), u32::from(window.load_u16(at + 6)))
    }

    /// The 16 bits of BCNT with its ones, as CSR40 and others show it.
    pub fn byte_count(&self, index: u32) -> u16 {
        self.window.as_ref().map_or(0, |window| window.load_u16(self.place(index) + 4))
    }

    fn store_status(&self, window: &Window, index: u32, status: u16) {
        let at = self.place(index);
        match self.style {
            Style::Lance => window.store_release_u8(at + 3, (status >> 8) as u8),
            Style::Pci | Style::Burst => window.store_release_u16(at + 6, status),
            Style::Vmxnet => {
                // The mark is an owner of its own there.
                let owner = if status & status::OWN != 0 { owner::NIC_PENDING } else { owner::DRIVER };
                window.store_release_u16(at + self.owner_place(), owner);
            }
        }
    }

    fn store_detail(&self, window: &Window, index: u32, detail: u32) {
        let at = self.place(index);
        match (self.style, self.direction) {
            (Style::Lance, Direction::Receive) => window.store_u16(at + 6, detail as u16),
            (Style::Lance, Direction::Transmit) => window.store_u16(at + 6, (detail >> 16) as u16),
            (Style::Pci, _) => window.store_u32(at + 8, detail),
            (Style::Burst, _) => window.store_u32(at, detail),
            (Style::Vmxnet, Direction::Receive) => window.store_u32(at + 12, detail),
            (Style::Vmxnet, Direction::Transmit) => {}
        }
    }

    /// The next descriptor was used and is to say this.
    #[inline]
    pub fn push(&mut self, done: Done) {
        self.done.push(done);
    }

    /// So many were used that the driver should have some back.
    pub fn is_long(&self) -> bool {
        self.done.len() >= DONE_MAX
    }

    /// Gives back what was used; `false`: there was nothing.
    pub fn give_back(&mut self, memory: &Memory) -> bool {
        if self.done.is_empty() {
            return false;
        }
        let (Some(window), true) = (&self.window, self.count != 0) else {
            self.done.clear();
            return false;
        };
        let mark = self.mark() | status::OWN;
        let mut index = self.position;
        for done in &self.done {
            if let Some(detail) = done.detail {
                self.store_detail(window, index, detail);
            }
            self.store_status(window, index, done.status | mark);
            index = self.after(index);
        }
        let mut left = self.done.len() as u32;
        self.set_note(self.position, left);
        let mut index = self.position;
        for done in &self.done {
            self.store_status(window, index, done.status & !mark);
            memory.mark_range(Address(u64::from(self.address_of(index))), self.bytes());
            index = self.after(index);
            left -= 1;
            self.set_note(index, left);
        }
        self.position = index;
        self.done.clear();
        true
    }

    fn after(&self, index: u32) -> u32 {
        if index + 1 >= self.count { 0 } else { index + 1 }
    }

    /// Takes up the position that a predecessor left in the hot state. What it was giving back is
    /// carried to its end once the ring is located.
    pub fn resume(&mut self) {
        self.done.clear();
        self.position = self.note().0;
    }

    /// Carries a burst to its end that a predecessor began to give back.
    #[cold]
    fn finish(&mut self, memory: &Memory, left: u32) {
        let Some(window) = &self.window else { return };
        let mark = self.mark() | status::OWN;
        let mut index = self.position;
        for left in (0..left.min(self.count)).rev() {
            let status = self.status(index);
            if status & mark == mark {
                self.store_status(window, index, status & !mark);
                memory.mark_range(Address(u64::from(self.address_of(index))), self.bytes());
            }
            index = self.after(index);
            self.set_note(index, left);
        }
        self.position = index;
    }
}
