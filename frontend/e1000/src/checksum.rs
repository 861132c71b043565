//! The Internet checksum (RFC 1071), over pieces.

/// A sum that goes on from piece to piece.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    sum: u64,
    /// The next byte is the second of a pair.
    odd: bool,
}

impl Sum {
    #[inline]
    pub fn add(&mut self, mut bytes: &[u8]) {
        if self.odd
            && let Some((first, rest)) = bytes.split_first()
        {
            self.sum += u64::from(*first);
            self.odd = false;
            bytes = rest;
        }
        let (quads, rest) = bytes.as_chunks::<4>();
        let mut sum = self.sum;
        for quad in quads {
            // Two big-endian pairs as one number; folding adds its halves. A piece is less than
            // 4 GiB, so the sum has room.
            sum += u64::from(u32::from_be_bytes(*quad));
        }
        self.sum = sum;
        for pair in rest.chunks(2) {
            match *pair {
                [high, low] => self.sum += u64::from(u16::from_be_bytes([high, low])),
                [high] => {
                    self.sum += u64::from(high) << 8;
                    self.odd = true;
                }
                _ => {}
            }
        }
    }

    pub fn add_number(&mut self, number: u32) {
        self.sum += u64::from(number);
    }

    /// Folded, not complemented: what a checksum field holds before it is finished.
    pub fn folded(self) -> u16 {
        let mut sum = self.sum;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    pub fn finished(self) -> u16 {
        !self.folded()
    }
}
