//! Rings whose entries carry a generation bit instead of an index that is told.

use alloc::vec::Vec;

use crate::bits::{COMPLETION_GEN, DESCRIPTOR};
use guest_memory::{Memory, Window};
use request::Address;

/// A place in a ring, and what the generation bit of a valid entry there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub index: u16,
    pub generation: bool,
}

impl Position {
    pub const START: Position = Position { index: 0, generation: true };

    /// 15 bits of index: a ring has 8,192 entries at most.
    pub fn encode(self) -> u16 {
        self.index & 0x7fff | (self.generation as u16) << 15
    }

    /// Whatever is read is a place in the ring.
    pub fn decode(raw: u16, size: u16) -> Position {
        let index = raw & 0x7fff;
        Position { index: if index < size { index } else { 0 }, generation: raw & 0x8000 != 0 }
    }

    #[inline]
    pub fn next(self, size: u16) -> Position {
        if self.index + 1 < size {
            Position { index: self.index + 1, ..self }
        } else {
            Position { index: 0, generation: !self.generation }
        }
    }

    /// The place behind an entry that lies ahead of this one.
    pub fn behind(self, index: u16, size: u16) -> Position {
        if index >= size {
            return self;
        }
        let wrapped = index < self.index;
        Position { index, generation: self.generation ^ wrapped }.next(size)
    }
}

/// Where a ring lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub base: u64,
    pub size: u16,
}

impl Place {
    fn window(&self, memory: &Memory) -> Option<Window> {
        memory.window(Address(self.base), u32::from(self.size) * DESCRIPTOR as u32)
    }

    fn mark(&self, memory: &Memory, index: u16) {
        let offset = u64::from(index) * DESCRIPTOR as u64;
        memory.mark_range(Address(self.base.wrapping_add(offset)), DESCRIPTOR as u32);
    }
}

/// A ring of descriptors that the driver fills.
pub struct Commands {
    place: Place,
    window: Option<Window>,
    /// The generation bit, in the second number of a descriptor.
    bit: u64,
    pub at: Position,
}

impl Commands {
    pub fn new(place: Place, bit: u64) -> Commands {
        Commands { place, window: None, bit, at: Position::START }
    }

    pub fn size(&self) -> u16 {
        self.place.size
    }

    /// Looks the ring up; `false` if it does not lie in one piece of memory.
    pub fn locate(&mut self, memory: &Memory) -> bool {
        self.window = if self.place.size == 0 { None } else { self.place.window(memory) };
        self.window.is_some() || self.place.size == 0
    }

    /// Has the driver filled this entry?
    #[inline]
    pub fn is_ready(&self, at: Position) -> bool {
        let Some(window) = &self.window else { return false };
        let control = window.load_u64(usize::from(at.index) * DESCRIPTOR + 8);
        (control & self.bit != 0) == at.generation
    }

    /// Address and control of an entry, if the driver has filled it.
    #[inline]
    pub fn entry(&self, at: Position) -> Option<(Address, u64)> {
        let window = self.window.as_ref()?;
        let offset = usize::from(at.index) * DESCRIPTOR;
        // The address is read behind the generation bit that vouches for it.
        let control = window.load_acquire_u64(offset + 8);
        if (control & self.bit != 0) != at.generation {
            return None;
        }
        Some((Address(window.load_u64(offset)), control))
    }
}

/// Completions that are told to the driver at once, at most.
pub const STAGED_MAX: usize = 256;

/// The ring of completions, and what is to be written to it.
///
/// # After a death
///
/// A driver reads the entry at its own position and goes on while the generation bit is right. So all
/// entries of a batch but the first are written first, and the first last: the driver sees all of the
/// batch or nothing of it. A successor reads the entry where the next batch was to begin. If it is
/// valid, everything valid behind it was seen, and says which descriptors are done. If not, the driver
/// has seen nothing, and what is valid behind it must be taken back before another batch begins there;
/// from the end, so that a second death leaves a run that again begins right behind that place.
pub struct Completions {
    place: Place,
    window: Option<Window>,
    pub at: Position,
    staged: Vec<[u64; 2]>,
}

impl Completions {
    pub fn new(place: Place) -> Completions {
        let capacity = STAGED_MAX.min(usize::from(place.size));
        Completions { place, window: None, at: Position::START, staged: Vec::with_capacity(capacity) }
    }

    pub fn size(&self) -> u16 {
        self.place.size
    }

    pub fn locate(&mut self, memory: &Memory) -> bool {
        self.window = self.place.window(memory);
        self.window.is_some()
    }

    /// Is there no room for this many more in the batch?
    #[inline]
    pub fn is_full(&self, more: usize) -> bool {
        self.staged.len() + more > STAGED_MAX.min(usize::from(self.place.size))
    }

    pub fn is_empty(&self) -> bool {
        self.staged.is_empty()
    }

    /// The generation bit is put in when it is written.
    #[inline]
    pub fn stage(&mut self, entry: [u64; 2]) {
        self.staged.push(entry);
    }

    /// Shows the driver what was staged; gives how many entries that are.
    pub fn publish(&mut self, memory: &Memory) -> usize {
        let count = self.staged.len();
        let Some(window) = &self.window else {
            self.staged.clear();
            return 0;
        };
        let Some((first, rest)) = self.staged.split_first() else { return 0 };
        let mut at = self.at;
        for entry in rest {
            at = at.next(self.place.size);
            let offset = usize::from(at.index) * DESCRIPTOR;
            window.store_u64(offset, entry[0]);
            // In order, so that what is valid behind the first is one run.
            window.store_release_u64(offset + 8, with_generation(entry[1], at.generation));
        }
        let offset = usize::from(self.at.index) * DESCRIPTOR;
        window.store_u64(offset, first[0]);
        window.store_release_u64(offset + 8, with_generation(first[1], self.at.generation));
        if memory.log().is_some() {
            let mut marked = self.at;
            for _ in 0..count {
                self.place.mark(memory, marked.index);
                marked = marked.next(self.place.size);
            }
        }
        self.at = at.next(self.place.size);
        self.staged.clear();
        count
    }

    /// A predecessor died: what had it told the driver beyond `at`? Each entry's first number is given
    /// to `seen`.
    pub fn recover(&mut self, memory: &Memory, mut seen: impl FnMut(u64)) {
        self.staged.clear();
        let Some(window) = &self.window else { return };
        let size = self.place.size;
        let valid = |at: Position| {
            let control = window.load_acquire_u64(usize::from(at.index) * DESCRIPTOR + 8);
            (control & COMPLETION_GEN != 0) == at.generation
        };
        let mut left = size;
        while left > 0 && valid(self.at) {
            seen(window.load_u64(usize::from(self.at.index) * DESCRIPTOR));
            self.at = self.at.next(size);
            left -= 1;
        }
        let mut run = [Position::START; STAGED_MAX];
        let mut count = 0;
        let mut at = self.at.next(size);
        while count < run.len().min(usize::from(size.saturating_sub(1))) && valid(at) {
            run[count] = at;
            count += 1;
            at = at.next(size);
        }
        for at in run[..count].iter().rev() {
            window.store_release_u64(
                usize::from(at.index) * DESCRIPTOR + 8,
                with_generation(0, !at.generation),
            );
            self.place.mark(memory, at.index);
        }
    }
}

#[inline]
fn with_generation(control: u64, generation: bool) -> u64 {
    if generation { control | COMPLETION_GEN } else { control & !COMPLETION_GEN }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use guest_memory::crash;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Entries from `at` on that a driver would take for valid, of all that there are.
    fn valid(ring: &Completions) -> usize {
        let window = ring.window.as_ref().unwrap();
        let mut at = ring.at;
        let mut count = 0;
        for _ in 0..ring.size() {
            let control = window.load_u64(usize::from(at.index) * DESCRIPTOR + 8);
            count += usize::from((control >> 63 == 1) == at.generation);
            at = at.next(ring.size());
        }
        count
    }

    fn dies(at: u64, work: impl FnOnce()) -> bool {
        crash::after(Some(at));
        let died = catch_unwind(AssertUnwindSafe(work)).is_err();
        crash::after(None);
        died
    }

    #[test]
    fn however_often_workers_die_nothing_valid_is_left_ahead() {
        let memory = Memory::anonymous(4096);
        for begin in [0u16, 3, 6] {
            for (first, second) in (0..12).flat_map(|first| (0..6).map(move |second| (first, second))) {
                let mut ring = Completions::new(Place { base: 0, size: 8 });
                let clean = [0; 8 * DESCRIPTOR];
                memory.window(Address(0), 128).unwrap().write_bytes(0, &clean);
                assert!(ring.locate(&memory));
                for _ in 0..begin {
                    ring.stage([1, 0]);
                    ring.publish(&memory);
                }
                let place = ring.at;
                (2..7).for_each(|number| ring.stage([number, 0]));
                let told = !dies(first, || {
                    ring.publish(&memory);
                });
                let mut seen = std::vec::Vec::new();
                let mut successor = Completions::new(Place { base: 0, size: 8 });
                successor.locate(&memory);
                successor.at = place;
                dies(second, || successor.recover(&memory, |number| seen.push(number)));
                seen.clear();
                successor.at = place;
                successor.recover(&memory, |number| seen.push(number));
                assert_eq!(valid(&successor), 0, "{begin} {first} {second}");
                assert_eq!(seen, if told { std::vec![2, 3, 4, 5, 6] } else { std::vec![] });
            }
        }
    }

    #[test]
    fn places_wrap_with_their_generation() {
        let last = Position { index: 7, generation: true };
        assert_eq!(last.next(8), Position { index: 0, generation: false });
        assert_eq!(last.behind(2, 8), Position { index: 3, generation: false });
        assert_eq!(last.behind(7, 8), Position { index: 0, generation: false });
        assert_eq!(Position::START.behind(7, 8), Position { index: 0, generation: false });
        assert_eq!(Position::START.behind(9, 8), Position::START);
        for raw in [0, 0x8003, 0x1fff] {
            assert_eq!(Position::decode(raw, 0x2000).encode(), raw);
        }
        assert_eq!(Position::decode(0x8009, 8), Position::START);
    }
}
