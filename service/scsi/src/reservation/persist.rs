//! The table as bytes: for the ledger, which a death of the worker leaves, and for stable storage,
//! which a power loss leaves.
//!
//! Version 1, all numbers big-endian:
//!
//! ```text
//!  0  "SPRV"   5  flags: see below                           8  PRGENERATION    14  holder, FFFFh: none
//!  4  version  6  TYPE, or zero                             12  registrations   16  registrations,
//!              7  zero                                                              the RESERVE's owner
//!
//!  flags: bit 0 APTPL, 1 a reservation, 2 a RESERVE, 3 lost.
//!  registration: key (8), then a peer.   peer: port (2), length (2), TransportID.
//!  At the end: CRC-32C of all before it (4).
//! ```
//!
//! The bytes may have been damaged in any way: whatever is not exactly a table that this module could
//! have written is refused, with the reason. Then the caller must not serve the volume as if nothing
//! had been reserved.

use alloc::vec::Vec;
use core::cell::OnceCell;
use core::fmt;
use core::ops::{Deref, DerefMut};

use super::name::{Name, name};
use super::table::{Held, Key, REGISTRANTS_MAX, Registration, Reservations, Type};
use crate::nexus::{Peer, PortId, TRANSPORT_ID_MAX_BYTES, TransportId};

const MAGIC: [u8; 4] = *b"SPRV";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 16;
const PEER_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 4;
const NO_HOLDER: u16 = 0xffff;

const APTPL: u8 = 1 << 0;
const HELD: u8 = 1 << 1;
const RESERVED: u8 = 1 << 2;
const LOST: u8 = 1 << 3;

/// The longest state. (A RESERVE and registrations are never there together.)
pub const STATE_MAX_BYTES: usize =
    HEADER_BYTES + REGISTRANTS_MAX * (8 + PEER_BYTES + TRANSPORT_ID_MAX_BYTES) + CHECKSUM_BYTES;

/// Why bytes are no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corrupt {
    /// Too short, or not of this kind.
    NotReservations,
    /// Written by a version that is not known.
    Version(u8),
    Checksum,
    /// The checksum is right, but not the contents.
    Contents,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Corrupt::NotReservations => f.write_str("these are no reservations"),
            Corrupt::Version(version) => write!(f, "reservations of the unknown version {version}"),
            Corrupt::Checksum => f.write_str("the checksum of the reservations is wrong"),
            Corrupt::Contents => f.write_str("the reservations contradict themselves"),
        }
    }
}

impl Reservations {
    /// All of it, for a successor of this process.
    pub fn state(&self) -> Vec<u8> {
        let mut out = Vec::from(MAGIC);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.aptpl, APTPL)
            | flag(self.held.is_some(), HELD)
            | flag(self.is_reserved(), RESERVED)
            | flag(self.lost, LOST);
        let holder = self.held.as_ref().and_then(|held| held.holder.as_ref());
        let holder = holder.and_then(|peer| self.registrations.iter().position(|entry| entry.peer == *peer));
        out.extend_from_slice(&[VERSION, flags, self.persistent().map_or(0, |kind| kind as u8), 0]);
        out.extend_from_slice(&self.generation.to_be_bytes());
        // Both below REGISTRANTS_MAX + 1.
        out.extend_from_slice(&(self.registrations.len() as u16).to_be_bytes());
        out.extend_from_slice(&holder.map_or(NO_HOLDER, |at| at as u16).to_be_bytes());
        for entry in &self.registrations {
            out.extend_from_slice(&entry.key.0.to_be_bytes());
            push_peer(&mut out, &entry.peer);
        }
        if let Some(owner) = &self.reserved {
            push_peer(&mut out, owner);
        }
        let sum = crc32c(&out);
        out.extend_from_slice(&sum.to_be_bytes());
        out
    }

    /// What is to be on stable storage: the table as a power loss leaves it. The same bytes for as
    /// long as [`super::Effects::durable`] asks for nothing.
    pub fn kept(&self) -> Vec<u8> {
        let mut kept = self.clone();
        kept.power_lost();
        kept.state()
    }

    /// From the bytes of [`Reservations::state`]; from those of [`Reservations::kept`] the table as
    /// after power on.
    pub fn restore(bytes: &[u8]) -> Result<Reservations, Corrupt> {
        let Some((&MAGIC, _)) = bytes.split_first_chunk() else { return Err(Corrupt::NotReservations) };
        let Some((body, sum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err(Corrupt::NotReservations);
        };
        match body.get(4) {
            Some(&VERSION) => {}
            Some(&version) => return Err(Corrupt::Version(version)),
            None => return Err(Corrupt::NotReservations),
        }
        if u32::from_be_bytes(*sum) != crc32c(body) {
            return Err(Corrupt::Checksum);
        }
        let table = decode(body).ok_or(Corrupt::Contents)?;
        // One way to write a table: then what was not looked at is as it should be too.
        if table.state() == bytes { Ok(table) } else { Err(Corrupt::Contents) }
    }
}

fn push_peer(out: &mut Vec<u8>, peer: &Peer) {
    let id = peer.initiator.as_bytes();
    out.extend_from_slice(&peer.port.0.to_be_bytes());
    out.extend_from_slice(&(id.len() as u16).to_be_bytes()); // at most TRANSPORT_ID_MAX_BYTES
    out.extend_from_slice(id);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn peer(&mut self) -> Option<Peer> {
        let port = PortId(self.u16()?);
        let len = usize::from(self.u16()?);
        let bytes = self.take(len)?;
        let (initiator, _) = TransportId::parse(bytes).filter(|(_, used)| *used == bytes.len())?;
        // Only canonical names are in a table, else a nexus would miss its own registration.
        (name(&initiator)? == Name::Port(initiator.clone())).then_some(Peer { initiator, port })
    }
}

fn decode(body: &[u8]) -> Option<Reservations> {
    let mut reader = Reader(body.get(5..)?);
    let [flags, kind, _] = reader.array()?;
    let mut table = Reservations::new();
    table.aptpl = flags & APTPL != 0;
    table.generation = reader.array().map(u32::from_be_bytes)?;
    let count = usize::from(reader.u16()?);
    let holder = reader.u16()?;
    if count > REGISTRANTS_MAX {
        return None;
    }
    for _ in 0..count {
        let key = Key(reader.array().map(u64::from_be_bytes)?);
        let peer = reader.peer()?;
        if key == Key::NONE || table.key_of(&peer).is_some() {
            return None;
        }
        table.registrations.push(Registration { peer, key });
    }
    if flags & HELD != 0 {
        let kind = Type::decode(kind)?;
        let holder = match kind.is_all_registrants() {
            true => None,
            false => Some(table.registrations.get(usize::from(holder))?.peer.clone()),
        };
        if table.registrations.is_empty() {
            return None;
        }
        table.held = Some(Held { kind, holder });
    }
    if flags & RESERVED != 0 {
        if !table.registrations.is_empty() {
            return None;
        }
        table.reserved = Some(reader.peer()?);
    }
    if flags & LOST != 0 {
        table.lost = true;
        if table != Reservations::lost() {
            return None;
        }
    }
    reader.0.is_empty().then_some(table)
}

/// The table of a unit, with its bytes as they were last asked for: the state of a unit is stored much
/// oftener than somebody registers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    table: Reservations,
    state: OnceCell<Vec<u8>>,
}

impl Kept {
    /// [`Reservations::state`].
    pub fn encoded(&self) -> &[u8] {
        self.state.get_or_init(|| self.table.state())
    }
}

impl From<Reservations> for Kept {
    fn from(table: Reservations) -> Kept {
        Kept { table, state: OnceCell::new() }
    }
}

impl Deref for Kept {
    type Target = Reservations;

    fn deref(&self) -> &Reservations {
        &self.table
    }
}

/// Whoever could change the table voids its bytes, so that none can be stored of another table.
impl DerefMut for Kept {
    fn deref_mut(&mut self) -> &mut Reservations {
        self.state.take();
        &mut self.table
    }
}

/// CRC-32C (Castagnoli, reflected), by bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| crc >> 8 ^ CRC32C[((crc ^ u32::from(*byte)) & 0xff) as usize];
    !bytes.iter().fold(u32::MAX, step)
}

static CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};
