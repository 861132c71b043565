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

impl Facts {
    /// The same facts about the frame after its tag was changed.
    pub fn after(self, rewrite: Rewrite) -> Self {
        let shift = match rewrite {
            Rewrite::Keep | Rewrite::Replace(_) => return self,
            Rewrite::Strip => -4,
            Rewrite::Insert(_) => 4,
        };
        let moved = |place: u16| place.saturating_add_signed(shift);
        Self {
            checksum_start: if self.checksum_start == CHECKSUM_NONE {
                CHECKSUM_NONE
            } else {
                moved(self.checksum_start)
            },
            header: if self.header == 0 { 0 } else { moved(self.header) },
            ..self
        }
    }
}

/// What a copy of a frame does with the 802.1Q tag at offset 12.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rewrite {
    #[default]
    Keep,
    /// Take the four bytes of the tag out.
    Strip,
    /// Put 8100h and this tag control information in.
    Insert(u16),
    /// Store this tag control information in the tag that is there (it was a priority tag).
    Replace(u16),
}

impl Rewrite {
    /// Writes a frame's first bytes with the change made; returns how many there are now. `None`:
    /// the header ends before the tag does, or there is no room.
    #[inline]
    pub fn apply(self, header: &[u8], into: &mut [u8]) -> Option<usize> {
        let (kept, tag, cut) = match self {
            Rewrite::Keep => (header.len(), None, 0),
            Rewrite::Strip => (12, None, 4),
            Rewrite::Insert(tci) => (12, Some(tci), 0),
            Rewrite::Replace(tci) => (12, Some(tci), 4),
        };
        into.get_mut(..kept)?.copy_from_slice(header.get(..kept)?);
        let mut at = kept;
        if let Some(tci) = tag {
            into.get_mut(at..at + 2)?.copy_from_slice(&[0x81, 0x00]);
            into.get_mut(at + 2..at + 4)?.copy_from_slice(&tci.to_be_bytes());
            at += 4;
        }
        let rest = header.get(kept + cut..)?;
        into.get_mut(at..at + rest.len())?.copy_from_slice(rest);
        Some(at + rest.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_and_go_and_the_facts_move_with_them() {
        let plain = *b"ddddddssssss\x08\x00payload";
        let tagged = *b"ddddddssssss\x81\x00\x20\x0a\x08\x00payload";
        let mut out = [0; 32];
        let mut apply = |rewrite: Rewrite, header: &[u8]| {
            let len = rewrite.apply(header, &mut out)?;
            Some((out, len))
        };
        let is = |got: Option<([u8; 32], usize)>, wanted: &[u8]| {
            let (bytes, len) = got.unwrap();
            assert_eq!(&bytes[..len], wanted);
        };
        is(apply(Rewrite::Keep, &plain), &plain);
        is(apply(Rewrite::Insert(0x200a), &plain), &tagged);
        is(apply(Rewrite::Strip, &tagged), &plain);
        is(apply(Rewrite::Replace(0x200a), b"ddddddssssss\x81\x00\x20\x00\x08\x00payload"), &tagged);
        assert!(apply(Rewrite::Strip, &tagged[..15]).is_none());
        assert!(apply(Rewrite::Insert(1), &plain[..11]).is_none());
        assert!(Rewrite::Insert(1).apply(&plain, &mut [0; 24]).is_none());

        let facts = Facts { checksum_start: 34, header: 54, ..Facts::default() };
        let moved = facts.after(Rewrite::Insert(7));
        assert_eq!((moved.checksum_start, moved.header), (38, 58));
        assert_eq!(moved.after(Rewrite::Strip), facts);
        assert_eq!(Facts::default().after(Rewrite::Strip), Facts::default());
    }
}
