//! Places in a packed ring.

/// VIRTQ_DESC_F_AVAIL and VIRTQ_DESC_F_USED (2.8.1).
pub const AVAIL: u16 = 1 << 7;
pub const USED: u16 = 1 << 15;

const WRAP: u16 = 1 << 15;

/// A slot of a packed ring and the wrap counter that holds there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub index: u16,
    pub wrap: bool,
}

impl Position {
    /// The encoding of GET_VRING_BASE and of event suppression: 15 bits and the wrap counter.
    pub fn decode(word: u16) -> Self {
        Self { index: word & !WRAP, wrap: word & WRAP != 0 }
    }

    pub fn encode(self) -> u16 {
        self.index | if self.wrap { WRAP } else { 0 }
    }

    /// The slot `count` further on; a ring has at most 2^15 slots and `count` is at most its size.
    #[inline(always)]
    pub fn after(self, count: u16, size: u16) -> Self {
        let index = u32::from(self.index) + u32::from(count);
        if index >= u32::from(size) {
            Self { index: (index - u32::from(size)) as u16, wrap: !self.wrap }
        } else {
            Self { index: index as u16, wrap: self.wrap }
        }
    }

    /// The slot `count` back.
    pub fn before(self, count: u16, size: u16) -> Self {
        if count > self.index {
            let index = u32::from(self.index) + u32::from(size) - u32::from(count.min(size));
            Self { index: index as u16, wrap: !self.wrap }
        } else {
            Self { index: self.index - count, wrap: self.wrap }
        }
    }

    /// Whether a descriptor with these flags is available here: AVAIL is as the wrap counter says,
    /// and USED is not.
    #[inline(always)]
    pub fn is_available(self, flags: u16) -> bool {
        flags & (AVAIL | USED) == if self.wrap { AVAIL } else { USED }
    }

    /// Whether a descriptor with these flags was used here by the device.
    pub fn is_used(self, flags: u16) -> bool {
        flags & (AVAIL | USED) == self.used()
    }

    /// The flags of a used descriptor here.
    #[inline(always)]
    pub fn used(self) -> u16 {
        if self.wrap { AVAIL | USED } else { 0 }
    }

    /// The flags of an available descriptor here.
    pub fn available(self) -> u16 {
        if self.wrap { AVAIL } else { USED }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_on_and_back_meet() {
        for size in [1, 2, 3, 5, 8] {
            for index in 0..size {
                for count in 0..=size {
                    let from = Position { index, wrap: true };
                    let to = from.after(count, size);
                    assert!(to.index < size);
                    assert_eq!(to.before(count, size), from);
                    assert_eq!(Position::decode(to.encode()), to);
                }
            }
        }
    }
}
