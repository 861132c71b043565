//! Feature bits (virtio 1.2, 5.1.3).

pub mod bit {
    pub const CSUM: u32 = 0;
    pub const GUEST_CSUM: u32 = 1;
    pub const MTU: u32 = 3;
    pub const MAC: u32 = 5;
    pub const GUEST_TSO4: u32 = 7;
    pub const GUEST_TSO6: u32 = 8;
    pub const GUEST_ECN: u32 = 9;
    pub const HOST_TSO4: u32 = 11;
    pub const HOST_TSO6: u32 = 12;
    pub const HOST_ECN: u32 = 13;
    pub const MRG_RXBUF: u32 = 15;
    pub const STATUS: u32 = 16;
    pub const CTRL_VQ: u32 = 17;
    pub const CTRL_RX: u32 = 18;
    pub const CTRL_VLAN: u32 = 19;
    pub const CTRL_RX_EXTRA: u32 = 20;
    pub const GUEST_ANNOUNCE: u32 = 21;
    pub const MQ: u32 = 22;
    pub const CTRL_MAC_ADDR: u32 = 23;
    /// VIRTIO_F_VERSION_1 (6): not the device's own, but it fixes the header's length.
    pub const VERSION_1: u32 = 32;
    pub const GUEST_USO4: u32 = 54;
    pub const GUEST_USO6: u32 = 55;
    pub const HOST_USO: u32 = 56;
}

/// What the device offers. Ring features are the transport's to add.
///
/// Not offered: GUEST_UFO and HOST_UFO (IP fragments made of datagrams, which Linux gave up in
/// 4.14), CTRL_GUEST_OFFLOADS (see the crate's text), RSS and HASH_REPORT.
pub const OFFERED: u64 = 1 << bit::CSUM
    | 1 << bit::GUEST_CSUM
    | 1 << bit::MTU
    | 1 << bit::MAC
    | 1 << bit::GUEST_TSO4
    | 1 << bit::GUEST_TSO6
    | 1 << bit::GUEST_ECN
    | 1 << bit::HOST_TSO4
    | 1 << bit::HOST_TSO6
    | 1 << bit::HOST_ECN
    | 1 << bit::MRG_RXBUF
    | 1 << bit::STATUS
    | 1 << bit::CTRL_VQ
    | 1 << bit::CTRL_RX
    | 1 << bit::CTRL_VLAN
    | 1 << bit::CTRL_RX_EXTRA
    | 1 << bit::GUEST_ANNOUNCE
    | 1 << bit::MQ
    | 1 << bit::CTRL_MAC_ADDR
    | 1 << bit::VERSION_1
    | 1 << bit::GUEST_USO4
    | 1 << bit::GUEST_USO6
    | 1 << bit::HOST_USO;

/// What the driver accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub u64);

impl Features {
    #[inline]
    pub fn has(self, bit: u32) -> bool {
        self.0 >> bit & 1 != 0
    }

    /// Bytes of `struct virtio_net_hdr`: `num_buffers` is there with MRG_RXBUF, and always since
    /// version 1 (5.1.6.1).
    #[inline]
    pub fn header_len(self) -> usize {
        if self.has(bit::VERSION_1) || self.has(bit::MRG_RXBUF) { 12 } else { 10 }
    }

    /// Without the bits whose requirements are not met (5.1.3.1): a driver that accepts TSO
    /// without checksums is not offered what it cannot mean.
    pub fn consistent(self) -> Features {
        let mut kept = self.0;
        let mut needs = |feature: u32, any_of: &[u32]| {
            if !any_of.iter().any(|needed| kept >> needed & 1 != 0) {
                kept &= !(1 << feature);
            }
        };
        needs(bit::GUEST_TSO4, &[bit::GUEST_CSUM]);
        needs(bit::GUEST_TSO6, &[bit::GUEST_CSUM]);
        needs(bit::GUEST_USO4, &[bit::GUEST_CSUM]);
        needs(bit::GUEST_USO6, &[bit::GUEST_CSUM]);
        needs(bit::GUEST_ECN, &[bit::GUEST_TSO4, bit::GUEST_TSO6]);
        needs(bit::HOST_TSO4, &[bit::CSUM]);
        needs(bit::HOST_TSO6, &[bit::CSUM]);
        needs(bit::HOST_USO, &[bit::CSUM]);
        needs(bit::HOST_ECN, &[bit::HOST_TSO4, bit::HOST_TSO6]);
        for feature in [
            bit::CTRL_RX,
            bit::CTRL_VLAN,
            bit::CTRL_RX_EXTRA,
            bit::GUEST_ANNOUNCE,
            bit::MQ,
            bit::CTRL_MAC_ADDR,
        ] {
            needs(feature, &[bit::CTRL_VQ]);
        }
        Features(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offer_in_digits() {
        // Bits 0 1 3 5 7 8 9 11 12 13 15 to 23 32 54 55 56, typed from 5.1.3 and 6.
        assert_eq!(OFFERED, 0x01c0_0001_00ff_bbab);
        assert_eq!(Features(OFFERED).consistent(), Features(OFFERED));
    }

    #[test]
    fn requirements_are_kept() {
        let without = |bits: &[u32]| {
            let bits = bits.iter().fold(OFFERED, |all, bit| all & !(1 << bit));
            Features(bits).consistent()
        };
        assert!(!without(&[bit::CSUM]).has(bit::HOST_TSO4));
        assert!(!without(&[bit::CSUM]).has(bit::HOST_ECN));
        assert!(!without(&[bit::GUEST_CSUM]).has(bit::GUEST_USO6));
        assert!(without(&[bit::GUEST_TSO6]).has(bit::GUEST_ECN));
        assert!(!without(&[bit::CTRL_VQ]).has(bit::MQ));
    }

    #[test]
    fn the_header_is_short_only_for_old_drivers() {
        assert_eq!(Features(0).header_len(), 10);
        assert_eq!(Features(1 << 15).header_len(), 12);
        assert_eq!(Features(1 << 32).header_len(), 12);
    }
}
