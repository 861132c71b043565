//! Names of initiator ports, made equal where they mean the same. A TransportID in a parameter list
//! may be padded, or written in capitals, otherwise than the one that a frontend made of a login.

use alloc::string::String;

use crate::nexus::{Peer, TransportId};

/// What a TransportID of a parameter list means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// One initiator port.
    Port(TransportId),
    /// All known ports of the iSCSI node with this name, in lower case (TPID FORMAT 00b).
    Node(String),
}

const SAS: u8 = 0x06;
const ISCSI_NODE: u8 = 0x05;
const ISCSI_PORT: u8 = 0x45;
const SEPARATOR: &str = ",i,0x";

/// `None`: nothing that could be a name.
pub(super) fn name(id: &TransportId) -> Option<Name> {
    let bytes = id.as_bytes();
    match *bytes.first()? {
        SAS => {
            let address: [u8; 8] = bytes.get(4..12)?.try_into().ok()?;
            Some(Name::Port(TransportId::sas(address)))
        }
        ISCSI_NODE => {
            let text = text(bytes)?;
            (!text.is_empty()).then_some(Name::Node(text))
        }
        ISCSI_PORT => {
            let text = text(bytes)?;
            let (node, isid) = text.rsplit_once(SEPARATOR)?;
            Some(Name::Port(TransportId::iscsi(node, hex(isid)?)?))
        }
        _ => None,
    }
}

/// A peer under the name that the table knows it by. A name that says nothing stays as it is.
pub(crate) fn canonical(peer: &Peer) -> Peer {
    let initiator = match name(&peer.initiator) {
        Some(Name::Port(id)) => id,
        Some(Name::Node(_)) | None => peer.initiator.clone(),
    };
    Peer { initiator, port: peer.port }
}

/// The iSCSI node name of an initiator port under its canonical name.
pub(super) fn node(id: &TransportId) -> Option<String> {
    let text = match *id.as_bytes().first()? {
        ISCSI_PORT => text(id.as_bytes())?,
        _ => return None,
    };
    text.rsplit_once(SEPARATOR).map(|(node, _)| String::from(node))
}

/// The text up to its first zero, in lower case: iSCSI names are compared without regard to case
/// (RFC 7143 4.2.7).
fn text(bytes: &[u8]) -> Option<String> {
    let text = bytes.get(4..)?.split(|byte| *byte == 0).next()?;
    Some(core::str::from_utf8(text).ok()?.to_ascii_lowercase())
}

/// An ISID: one to twelve hexadecimal digits, the last of them the lowest.
fn hex(digits: &str) -> Option<[u8; 6]> {
    if digits.is_empty() || digits.len() > 12 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let value = u64::from_str_radix(digits, 16).ok()?;
    let [_, _, isid @ ..] = value.to_be_bytes();
    Some(isid)
}
