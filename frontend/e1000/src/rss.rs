//! Receive side scaling of the 82574: a hash of addresses and ports chooses the queue (82574
//! datasheet, 7.1.8; Microsoft's RSS hash, "Toeplitz").

use crate::registers::{self as r, Registers};

// MRQC: 01b turns it on; what is hashed.
const TCP4: u32 = 1 << 16;
const IP4: u32 = 1 << 17;
const TCP6: u32 = 1 << 18;
const IP6: u32 = 1 << 20;

/// RXCSUM.PCSD: the hash takes the packet checksum's place.
const PCSD: u32 = 1 << 13;

/// What was hashed, as the descriptor names it (82574 datasheet, 7.1.5.1).
const TYPE_TCP4: u64 = 1;
const TYPE_IP4: u64 = 2;
const TYPE_TCP6: u64 = 3;
const TYPE_IP6: u64 = 5;

/// Whether frames are spread at all.
pub fn is_on(registers: &Registers) -> bool {
    registers[r::MRQC] & 3 == 1
}

/// The queue, and the first half of the descriptor: type, queue, hash.
pub fn steer(registers: &Registers, first: &[u8]) -> (usize, u64) {
    let Some((hash, kind)) = hash(registers, first) else { return (0, 0) };
    let entry = (hash & 0x7f) as usize;
    let word = registers[r::RETA + entry / 4];
    // Bit 7 of an entry of eight bits.
    let queue = (word >> (8 * (entry % 4) + 7) & 1) as usize;
    if registers[r::RXCSUM] & PCSD == 0 {
        return (queue, 0);
    }
    (queue, kind | (queue as u64) << 8 | u64::from(hash) << 32)
}

fn hash(registers: &Registers, first: &[u8]) -> Option<(u32, u64)> {
    let fields = registers[r::MRQC];
    let mut at = 12;
    if matches!(first.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8])) {
        at += 4;
    }
    let ip = first.get(at + 2..)?;
    let mut input = [0; 36];
    match first.get(at..at + 2)? {
        [0x08, 0x00] => {
            input[..8].copy_from_slice(ip.get(12..20)?);
            let len = usize::from(ip[0] & 0xf) * 4;
            let whole = ip[6] & 0x3f == 0 && ip[7] == 0;
            if ip[9] == 6
                && whole
                && fields & TCP4 != 0
                && let Some(ports) = ip.get(len..len + 4)
            {
                input[8..12].copy_from_slice(ports);
                return Some((toeplitz(registers, &input[..12]), TYPE_TCP4));
            }
            (fields & IP4 != 0).then(|| (toeplitz(registers, &input[..8]), TYPE_IP4))
        }
        [0x86, 0xdd] => {
            input[..32].copy_from_slice(ip.get(8..40)?);
            if ip[6] == 6
                && fields & TCP6 != 0
                && let Some(ports) = ip.get(40..44)
            {
                input[32..].copy_from_slice(ports);
                return Some((toeplitz(registers, &input), TYPE_TCP6));
            }
            (fields & IP6 != 0).then(|| (toeplitz(registers, &input[..32]), TYPE_IP6))
        }
        _ => None,
    }
}

/// Each bit of the input that is set adds the 32 bits of the key that begin at its place.
fn toeplitz(registers: &Registers, input: &[u8]) -> u32 {
    // Byte n of the key is byte n of RSSRK, its registers little-endian.
    let byte = |nth: usize| {
        if nth < 40 { (registers[r::RSSRK + nth / 4] >> (8 * (nth % 4))) as u8 } else { 0 }
    };
    let mut window = u32::from_be_bytes([byte(0), byte(1), byte(2), byte(3)]);
    let mut hash = 0;
    for (nth, value) in input.iter().enumerate() {
        let next = byte(nth + 4);
        for bit in (0..8).rev() {
            if value >> bit & 1 != 0 {
                hash ^= window;
            }
            window = window << 1 | u32::from(next >> bit & 1);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key and two of the results that Microsoft publishes to verify an implementation.
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    #[test]
    fn the_hash_is_the_published_one() {
        let mut registers = Registers::new();
        for (nth, word) in KEY.as_chunks::<4>().0.iter().enumerate() {
            registers[r::RSSRK + nth] = u32::from_le_bytes(*word);
        }
        // From 66.9.149.187 port 2794 to 161.142.100.80 port 1766.
        let input = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
        assert_eq!(toeplitz(&registers, &input), 0x51cc_c178);
        assert_eq!(toeplitz(&registers, &input[..8]), 0x323e_8fc2);

        registers[r::MRQC] = 1 | TCP4 | IP4;
        registers[r::RETA + (0x78 / 4)] = 0x80;
        registers[r::RXCSUM] = PCSD;
        let mut frame = [0; 64];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[23] = 6;
        frame[26..38].copy_from_slice(&input);
        assert_eq!(steer(&registers, &frame), (1, 0x51cc_c178_0000_0101));
        // A fragment has no ports.
        frame[20] = 0x20;
        assert_eq!(hash(&registers, &frame), Some((0x323e_8fc2, TYPE_IP4)));
    }
}
