//! Which receive queue a flow goes to.

/// A number that is the same for all frames of a flow, to be taken modulo the active pairs. Of a
/// frame that is neither IPv4 nor IPv6 only the addresses count; of a fragment not the ports, which
/// only the first one has.
pub fn steer(header: &[u8]) -> u32 {
    let mut at = 12;
    let mut ether_type = word(header, at);
    for _ in 0..2 {
        if matches!(ether_type, 0x8100 | 0x88a8) {
            at += 4;
            ether_type = word(header, at);
        }
    }
    at += 2;
    let (addresses, ports) = match ether_type {
        0x0800 => {
            let length = usize::from(header.get(at).copied().unwrap_or(0) & 0xf) * 4;
            let protocol = header.get(at + 9).copied().unwrap_or(0);
            let whole = word(header, at + 6) & 0x3fff == 0;
            let ports = (whole && matches!(protocol, 6 | 17)).then_some(at + length);
            (header.get(at + 12..at + 20), ports)
        }
        0x86dd => {
            let protocol = header.get(at + 6).copied().unwrap_or(0);
            (header.get(at + 8..at + 40), matches!(protocol, 6 | 17).then_some(at + 40))
        }
        _ => (header.get(0..12), None),
    };
    let ports = ports.and_then(|at| header.get(at..at + 4)).unwrap_or(&[]);
    let mut hash = 0x9e37_79b9u32;
    for chunk in addresses.unwrap_or(&[]).chunks_exact(4).chain(ports.chunks_exact(4)) {
        let value = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        hash = (hash ^ value).wrapping_mul(0x85eb_ca6b);
        hash ^= hash >> 15;
    }
    // A product's low bits know nothing of its factors' high ones, where the destination port is, and
    // only the low bits choose among a few pairs: so the high ones are folded down once more.
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

fn word(header: &[u8], at: usize) -> u16 {
    match header.get(at..at + 2) {
        Some([high, low]) => u16::from_be_bytes([*high, *low]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    fn udp(port: u16, fragment: u16, tagged: bool) -> Vec<u8> {
        let mut frame = std::vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        if tagged {
            frame.extend([0x81, 0, 0, 5]);
        }
        frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 1]);
        frame.extend(fragment.to_be_bytes());
        frame.extend([64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        frame.extend(port.to_be_bytes());
        frame.extend([0, 53, 0, 20, 0, 0]);
        frame
    }

    #[test]
    fn flows_stay_together_and_spread() {
        assert_eq!(steer(&udp(1000, 0, false)), steer(&udp(1000, 0x4000, true)));
        assert_eq!(steer(&udp(1000, 0x2000, false)), steer(&udp(1001, 0x0010, false)));
        for pairs in [2, 4, 8] {
            let hit: BTreeSet<u32> = (1000..1064).map(|port| steer(&udp(port, 0, false)) % pairs).collect();
            assert_eq!(hit.len(), pairs as usize);
            // The answers of one server: only the destination port differs, and a Linux client connects
            // from even ones.
            let answer = |port: u16| {
                let mut frame = udp(53, 0, false);
                frame[36..38].copy_from_slice(&port.to_be_bytes());
                frame
            };
            let hit: BTreeSet<u32> =
                (32768..32832).step_by(2).map(|port| steer(&answer(port)) % pairs).collect();
            assert_eq!(hit.len(), pairs as usize);
        }
        for len in 0..46 {
            steer(&udp(1000, 0, true)[..len]);
        }
    }
}
