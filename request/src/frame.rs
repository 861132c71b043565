/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// The group bit: broadcast or multicast.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

/// `Facts::checksum_start` of a frame whose checksums are all complete.
pub const CHECKSUM_NONE: u16 = u16::MAX;

/// Segmentation that the sender left to somebody behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gso {
    #[default]
    None,
    TcpV4,
    TcpV6,
    /// UDP fragmentation offload (whole datagrams, IPv4 fragments).
    Udp,
    /// UDP segmentation (USO): many datagrams of `segment` bytes.
    UdpL4,
}

/// What the sender of a frame left undone, or vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The checksum from here to the end is to be stored `checksum_offset` bytes further on;
    /// [`CHECKSUM_NONE`] if nothing is left to do.
    pub checksum_start: u16,
    pub checksum_offset: u16,
    /// Checksums were verified by somebody trustworthy (VIRTIO_NET_HDR_F_DATA_VALID).
    pub checksum_valid: bool,
    pub gso: Gso,
    /// ECN bits need care when segmenting (VIRTIO_NET_HDR_GSO_ECN).
    pub ecn: bool,
    /// Payload bytes of each segment; 0 without GSO.
    pub segment: u16,
    /// Length of the headers that are repeated; a hint, 0 if unknown.
    pub header: u16,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            checksum_start: CHECKSUM_NONE,
            checksum_offset: 0,
            checksum_valid: false,
            gso: Gso::None,
            ecn: false,
            segment: 0,
            header: 0,
        }
    }
}
