//! Which frames the driver wants: physical address, logical address filter, broadcast.

use crate::Pcnet;
use crate::crc;
use crate::registers::{csr, mode};
use crate::ring::status;

/// The place of a group address in the logical address filter: the upper six bits of the remainder.
pub fn hash(address: &[u8; 6]) -> u32 {
    crc::remainder(address) >> 26
}

impl Pcnet {
    /// The bits of RMD1 that say why a frame was taken; `None`: it is not.
    pub(crate) fn wants(&self, destination: &[u8; 6]) -> Option<u16> {
        if self.mode(mode::PROM) {
            return Some(0);
        }
        if *destination == [0xff; 6] {
            return (!self.mode(mode::DRCVBC)).then_some(status::BAM);
        }
        if destination[0] & 1 != 0 {
            let hash = hash(destination);
            let word = self.csr[csr::LADRF + (hash >> 4) as usize];
            return (word >> (hash & 15) & 1 == 1).then_some(status::LAFM);
        }
        let [a, b, c] = [0, 1, 2].map(|at| self.csr[csr::PADR + at].to_le_bytes());
        let own = [a[0], a[1], b[0], b[1], c[0], c[1]];
        (*destination == own && !self.mode(mode::DRCVPA)).then_some(status::PAM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first half of the data sheet's table "Mapping of Logical Address to Filter Mask".
    #[test]
    fn places_in_the_filter() {
        let first = [0x85, 0xa5, 0xe5, 0xc5, 0x45, 0x65, 0x25, 0x05, 0x2b, 0x0b, 0x4b, 0x6b, 0xeb, 0xcb];
        for (place, first) in first.into_iter().enumerate() {
            assert_eq!(hash(&[first, 0, 0, 0, 0, 0]), place as u32, "{first:x}");
        }
    }
}
