//! `UPT1_TxStats` and `UPT1_RxStats`: ten numbers each.

/// Numbers in the order in which a driver finds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics(pub [u64; Statistics::COUNT]);

/// Places of the numbers. Transmit queues count segmented packets first, receive queues coalesced
/// ones; then both count what went over the wire, by the kind of its destination.
pub const LARGE_PACKETS: usize = 0;
pub const LARGE_BYTES: usize = 1;
pub const UNICAST_PACKETS: usize = 2;
pub const MULTICAST_PACKETS: usize = 4;
pub const BROADCAST_PACKETS: usize = 6;
pub const TX_ERRORS: usize = 8;
pub const RX_OUT_OF_BUFFERS: usize = 8;

impl Statistics {
    pub const COUNT: usize = 10;
    pub const BYTES: usize = 8 * Self::COUNT;

    pub fn add(&mut self, place: usize, count: u64) {
        if let Some(number) = self.0.get_mut(place) {
            *number = number.wrapping_add(count);
        }
    }

    /// A frame that stands for so many on the wire.
    #[inline]
    pub fn frame(&mut self, destination: &[u8], packets: u64, bytes: u64) {
        let kind = match destination.first_chunk::<6>() {
            Some([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]) => BROADCAST_PACKETS,
            Some([first, ..]) if first & 1 != 0 => MULTICAST_PACKETS,
            _ => UNICAST_PACKETS,
        };
        self.0[kind] = self.0[kind].wrapping_add(packets);
        self.0[kind + 1] = self.0[kind + 1].wrapping_add(bytes);
    }

    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut raw = [0; Self::BYTES];
        for (bytes, number) in raw.chunks_exact_mut(8).zip(self.0) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        raw
    }
}
