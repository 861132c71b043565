//! Who speaks to a unit: an initiator port, and the target port that it comes by.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// An I_T nexus as one unit knows it: the number that [`crate::Unit::attach`] gave, below
/// [`NEXUS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nexus(pub u32);

/// I_T nexuses that one unit can tell apart at a time: enough for a volume that a cluster of hosts
/// shares over two paths each.
pub const NEXUS_MAX: usize = 128;

/// RELATIVE TARGET PORT IDENTIFIER, SPC-5: 1 to 65,535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

/// The name of an initiator port, as SPC-5 7.6.4 lays TransportIDs out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportId(Box<[u8]>);

/// Bytes of the longest TransportID: an iSCSI name of 223 bytes with `,i,0x` and an ISID of 12
/// digits, a zero behind it, padded to a multiple of four, and the header.
pub const TRANSPORT_ID_MAX_BYTES: usize = 4 + 244;

const SAS: u8 = 0x06;
const ISCSI_NAME: u8 = 0x05;
const ISCSI_NAME_AND_ISID: u8 = 0x45;
const FIXED_BYTES: usize = 24;

impl TransportId {
    /// A controller of a VM. No transport protocol of SPC is meant for it; it goes by a SAS address
    /// (PROTOCOL IDENTIFIER 6h), as virtual SAS controllers have one.
    pub fn sas(address: [u8; 8]) -> TransportId {
        let mut bytes = [0; FIXED_BYTES];
        bytes[0] = SAS;
        bytes[4..12].copy_from_slice(&address);
        TransportId(Box::new(bytes))
    }

    /// An iSCSI initiator port: its name with the ISID of the session (TPID FORMAT 01b).
    /// `None`: the name is empty or longer than 223 bytes, or has a zero in it.
    pub fn iscsi(name: &str, isid: [u8; 6]) -> Option<TransportId> {
        if name.is_empty() || name.len() > 223 || name.bytes().any(|byte| byte == 0) {
            return None;
        }
        let mut text = Vec::from(name.as_bytes());
        text.extend_from_slice(b",i,0x");
        for byte in isid {
            for digit in [byte >> 4, byte & 0x0f] {
                text.push(b"0123456789abcdef"[usize::from(digit)]);
            }
        }
        text.push(0);
        text.resize(text.len().next_multiple_of(4).max(20), 0);
        let mut bytes = Vec::from([ISCSI_NAME_AND_ISID, 0]);
        bytes.extend_from_slice(&(text.len() as u16).to_be_bytes()); // at most 244
        bytes.extend_from_slice(&text);
        Some(TransportId(bytes.into()))
    }

    /// The TransportID at the head of `bytes`, and how many bytes it has. `None`: none that could be
    /// of one of our initiators (SAS and iSCSI), or cut short.
    pub fn parse(bytes: &[u8]) -> Option<(TransportId, usize)> {
        let first = *bytes.first()?;
        let len = match first {
            SAS => FIXED_BYTES,
            ISCSI_NAME | ISCSI_NAME_AND_ISID => {
                let additional = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
                // SPC-5: at least 20, and a multiple of four.
                if additional < 20 || additional % 4 != 0 || additional > TRANSPORT_ID_MAX_BYTES - 4 {
                    return None;
                }
                4 + additional
            }
            _ => return None,
        };
        let found = bytes.get(..len)?;
        Some((TransportId(found.into()), len))
    }

    /// The name of an iSCSI initiator port: `iqn…,i,0x…`, as far as it is text. `None`: another
    /// protocol's.
    pub fn iscsi_name(&self) -> Option<&str> {
        let (first, rest) = (self.0.first()?, self.0.get(4..)?);
        let text = rest.split(|byte| *byte == 0).next()?;
        matches!(*first, ISCSI_NAME | ISCSI_NAME_AND_ISID).then(|| core::str::from_utf8(text).ok())?
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this one, from a parameter list, names the initiator port `other`. An iSCSI name
    /// without an ISID (TPID FORMAT 00b) names all ports of that node (SPC-5 7.6.4.6).
    pub fn names(&self, other: &TransportId) -> bool {
        if self == other {
            return true;
        }
        let name = |id: &TransportId| -> Option<Vec<u8>> {
            let text = id.0.get(4..)?.split(|byte| *byte == 0).next()?;
            let end = text.windows(5).position(|part| part == b",i,0x").unwrap_or(text.len());
            // iSCSI names are compared without regard to case (RFC 7143 4.2.7).
            Some(text[..end].to_ascii_lowercase())
        };
        match (self.0.first(), other.0.first()) {
            (Some(&ISCSI_NAME), Some(&ISCSI_NAME_AND_ISID)) => name(self) == name(other),
            (Some(&ISCSI_NAME_AND_ISID), Some(&ISCSI_NAME_AND_ISID)) => {
                self.0.to_ascii_lowercase() == other.0.to_ascii_lowercase()
            }
            _ => false,
        }
    }
}

/// An I_T nexus by its names: what a reservation is held by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    pub initiator: TransportId,
    pub port: PortId,
}
