/// The Internet checksum's one's complement sum (RFC 1071), fed in pieces of any length.
///
/// Words are added in little-endian order, which RFC 1071 section 2(B) allows, and swapped at the
/// end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    total: u64,
    /// An odd number of bytes came so far: the next one is the second of its word.
    odd: bool,
}

impl Sum {
    pub const fn new() -> Sum {
        Sum { total: 0, odd: false }
    }

    pub fn add(&mut self, mut bytes: &[u8]) {
        if self.odd {
            let Some((first, rest)) = bytes.split_first() else { return };
            self.total = self.total.wrapping_add(u64::from(*first) << 8);
            bytes = rest;
        }
        self.odd = bytes.len() % 2 == 1;
        // Two sums of 32-bit words in 64 bits: neither overflows below 16 GiB.
        let (mut even, mut uneven) = (0u64, 0u64);
        let (pairs, rest) = bytes.as_chunks::<8>();
        for pair in pairs {
            let pair = u64::from_le_bytes(*pair);
            even = even.wrapping_add(pair & 0xffff_ffff);
            uneven = uneven.wrapping_add(pair >> 32);
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let last = u64::from_le_bytes(last);
        let sum = fold(even).wrapping_add(fold(uneven)).wrapping_add(fold(last));
        self.total = fold(self.total.wrapping_add(sum));
    }

    /// Adds a sum that was made of the bytes that follow.
    pub fn append(&mut self, next: Sum) {
        let folded = fold(next.total);
        // RFC 1071 section 2(B): at an odd place the sum comes with its bytes swapped.
        let folded = if self.odd { u64::from((folded as u16).swap_bytes()) } else { folded };
        self.total = fold(self.total.wrapping_add(folded));
        self.odd ^= next.odd;
    }

    /// The sum itself, as it stands in a field that somebody else will complete.
    pub fn folded(self) -> u16 {
        (fold(self.total) as u16).swap_bytes()
    }

    /// The checksum: the sum's complement.
    pub fn checksum(self) -> u16 {
        !self.folded()
    }
}

/// To 16 bits, carries added back.
fn fold(sum: u64) -> u64 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 section 3: the bytes 00 01 f2 03 f4 f5 f6 f7 add up to ddf2.
    #[test]
    fn the_example_of_rfc_1071() {
        let mut sum = Sum::new();
        sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), 0xddf2);
        assert_eq!(sum.checksum(), 0x220d);
    }

    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b));
            if sum > 0xffff {
                sum -= 0xffff;
            }
        }
        sum as u16
    }

    proptest! {
        #[test]
        fn pieces_add_up(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..8)) {
            let mut fed = Sum::new();
            let mut appended = Sum::new();
            for piece in &pieces {
                fed.add(piece);
                let mut own = Sum::new();
                own.add(piece);
                appended.append(own);
            }
            let expected = slow(&pieces.concat());
            prop_assert_eq!(fed.folded(), expected);
            prop_assert_eq!(appended.folded(), expected);
        }
    }
}
