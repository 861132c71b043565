//! What verify mode writes: every 8 bytes are a function of their place, the generation of the
//! write and the seed of the run. So a block that is stale, misplaced, torn between two writes or
//! of another run is told from the right one at each word.

use guest_memory::Window;

/// The word at `at` (in bytes) of a disk, written in `generation`.
#[inline]
fn word(seed: u64, at: u64, generation: u32) -> u64 {
    let mut x = seed ^ at.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((generation as u64) << 40);
    x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 29)
}

/// Fills the first `bytes` of a buffer that is to be written at byte `start` of the disk.
pub fn fill(data: &Window, bytes: usize, seed: u64, start: u64, generation: u32) {
    for at in (0..bytes).step_by(8) {
        data.store_u64(at, word(seed, start + at as u64, generation));
    }
}

/// How many bytes of the buffer are not what `generation` wrote there.
pub fn differing(data: &Window, bytes: usize, seed: u64, start: u64, generation: u32) -> u64 {
    let differs = |at: &usize| data.load_u64(*at) != word(seed, start + *at as u64, generation);
    (0..bytes).step_by(8).filter(differs).count() as u64 * 8
}

/// How many bytes of the buffer are not zero, counted in words.
pub fn non_zero(data: &Window, bytes: usize) -> u64 {
    (0..bytes).step_by(8).filter(|at| data.load_u64(*at) != 0).count() as u64 * 8
}

/// The same three for a buffer that is no guest's, a whole number of words long.
pub fn fill_bytes(data: &mut [u8], seed: u64, start: u64, generation: u32) {
    for (at, bytes) in data.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&word(seed, start + 8 * at as u64, generation).to_le_bytes());
    }
}

pub fn differing_bytes(data: &[u8], seed: u64, start: u64, generation: u32) -> u64 {
    let words = data.chunks_exact(8).enumerate();
    let differs =
        |at: usize, bytes: &[u8]| bytes != word(seed, start + 8 * at as u64, generation).to_le_bytes();
    words.filter(|(at, bytes)| differs(*at, bytes)).count() as u64 * 8
}

pub fn non_zero_bytes(data: &[u8]) -> u64 {
    data.chunks_exact(8).filter(|bytes| **bytes != [0; 8]).count() as u64 * 8
}

/// Overwrites a buffer before a read, so that a read that moved nothing is not taken for right.
pub fn poison(data: &Window, bytes: usize) {
    for at in (0..bytes).step_by(8) {
        data.store_u64(at, 0xa5a5_a5a5_a5a5_a5a5);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_place_generation_seed_or_byte_is_seen() {
        let data = Window::anonymous(4096);
        fill(&data, 4096, 1, 8192, 5);
        assert_eq!(differing(&data, 4096, 1, 8192, 5), 0);
        assert_eq!(differing(&data, 4096, 2, 8192, 5), 4096);
        assert_eq!(differing(&data, 4096, 1, 4096, 5), 4096);
        assert_eq!(differing(&data, 4096, 1, 8192, 4), 4096);
        data.store_u8(77, !data.load_u8(77));
        assert_eq!(differing(&data, 4096, 1, 8192, 5), 8);
        assert_eq!(non_zero(&data, 4096), 4096);
    }

    #[test]
    fn bytes_and_windows_have_the_same_pattern() {
        let window = Window::anonymous(4096);
        fill(&window, 4096, 9, 512, 3);
        let mut bytes = [0; 4096];
        fill_bytes(&mut bytes, 9, 512, 3);
        assert!(bytes.iter().enumerate().all(|(at, byte)| window.load_u8(at) == *byte));
        assert_eq!(differing_bytes(&bytes, 9, 512, 3), 0);
        assert_eq!(differing_bytes(&bytes, 9, 512, 4), 4096);
        bytes[4000] ^= 1;
        assert_eq!(differing_bytes(&bytes, 9, 512, 3), 8);
        assert_eq!(non_zero_bytes(&bytes), 4096);
        assert_eq!(non_zero_bytes(&[0; 64]), 0);
    }
}
