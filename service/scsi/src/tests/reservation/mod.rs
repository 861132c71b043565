//! Reservations against SPC-4 5.13, 6.15 and 6.16, SBC-4 table 13, and SPC-2. Numbers are typed from
//! these.

mod actions;
mod conformance;
mod golden;
mod lists;
mod lost;
mod matrix;
mod oracle;
mod persist;
mod preempt;
mod spc2;
mod unit;

use alloc::vec::Vec;

use crate::nexus::{Peer, PortId, TransportId};
use crate::reservation::{Attention, Effects, Known, Out, Refusal, Reservations};

const REGISTER: u8 = 0x00;
const RESERVE: u8 = 0x01;
const RELEASE: u8 = 0x02;
const CLEAR: u8 = 0x03;
const PREEMPT: u8 = 0x04;
const PREEMPT_AND_ABORT: u8 = 0x05;
const REGISTER_AND_IGNORE: u8 = 0x06;
const REGISTER_AND_MOVE: u8 = 0x07;
const REPLACE_LOST: u8 = 0x08;

const WE: u8 = 0x1;
const EA: u8 = 0x3;
const WE_RO: u8 = 0x5;
const EA_RO: u8 = 0x6;
const WE_AR: u8 = 0x7;
const EA_AR: u8 = 0x8;
const TYPES: [u8; 6] = [WE, EA, WE_RO, EA_RO, WE_AR, EA_AR];

const APTPL: u8 = 0x01;
const ALL_TG_PT: u8 = 0x04;
const SPEC_I_PT: u8 = 0x08;

/// A VM's controller.
fn vm(number: u8, port: u16) -> Peer {
    Peer { initiator: TransportId::sas([0x52, 0x5e, 0x41, 0x10, 0, 0, 0, number]), port: PortId(port) }
}

/// An iSCSI session.
fn session(name: &str, isid: u8, port: u16) -> Peer {
    let initiator = TransportId::iscsi(name, [0x00, 0x02, 0x3d, 0, 0, isid]).expect("a name");
    Peer { initiator, port: PortId(port) }
}

/// The basic parameter list.
fn list(key: u64, new: u64, flags: u8) -> Vec<u8> {
    let mut list = Vec::new();
    list.extend_from_slice(&key.to_be_bytes());
    list.extend_from_slice(&new.to_be_bytes());
    list.extend_from_slice(&[0, 0, 0, 0, flags, 0, 0, 0]);
    list
}

/// The parameter list of REGISTER AND MOVE.
fn move_list(key: u64, new: u64, flags: u8, target: &Peer) -> Vec<u8> {
    let id = target.initiator.as_bytes();
    let mut list = Vec::new();
    list.extend_from_slice(&key.to_be_bytes());
    list.extend_from_slice(&new.to_be_bytes());
    list.extend_from_slice(&[0, flags]);
    list.extend_from_slice(&target.port.0.to_be_bytes());
    list.extend_from_slice(&(id.len() as u32).to_be_bytes());
    list.extend_from_slice(id);
    list
}

/// A table with the world around it.
#[derive(Clone)]
struct Bench {
    table: Reservations,
    peers: Vec<Peer>,
    ports: Vec<PortId>,
}

impl Bench {
    fn new(peers: &[Peer]) -> Bench {
        Bench {
            table: Reservations::new(),
            peers: Vec::from(peers),
            ports: Vec::from([PortId(1), PortId(2), PortId(3)]),
        }
    }

    fn send(&mut self, peer: &Peer, action: u8, scope_type: u8, list: &[u8]) -> Result<Effects, Refusal> {
        let mut cdb = [0x5f, action, scope_type, 0, 0, 0, 0, 0, 0, 0];
        cdb[5..9].copy_from_slice(&(list.len() as u32).to_be_bytes());
        let out = Out::parse(&cdb);
        let known = Known { peers: &self.peers, ports: &self.ports };
        match self.table.out_list(peer, &out) {
            Ok(len) => assert_eq!(len, list.len()),
            Err(refusal) => {
                // What is refused early is refused late too, in the same way.
                assert_eq!(self.table.clone().out(&known, peer, &out, list), Err(refusal));
                return Err(refusal);
            }
        }
        self.table.out(&known, peer, &out, list)
    }

    fn out(&mut self, peer: &Peer, action: u8, kind: u8, key: u64, new: u64) -> Result<Effects, Refusal> {
        self.send(peer, action, kind, &list(key, new, 0))
    }

    /// Must succeed.
    fn ok(&mut self, peer: &Peer, action: u8, kind: u8, key: u64, new: u64) -> Effects {
        self.out(peer, action, kind, key, new).expect("it is allowed")
    }

    fn register(&mut self, peer: &Peer, key: u64) {
        self.ok(peer, REGISTER_AND_IGNORE, 0, 0, key);
    }

    fn keys(&self) -> Vec<u64> {
        let data = self.table.read(0x00).expect("READ KEYS");
        data[8..].chunks(8).map(|key| u64::from_be_bytes(key.try_into().unwrap())).collect()
    }

    /// Who is registered with which key, by READ FULL STATUS.
    fn registered(&self) -> Vec<(Peer, u64)> {
        let data = self.table.read(0x03).expect("READ FULL STATUS");
        let mut rest = &data[8..];
        let mut found = Vec::new();
        while !rest.is_empty() {
            let (initiator, len) = TransportId::parse(&rest[24..]).expect("a TransportID");
            let port = PortId(u16::from_be_bytes([rest[18], rest[19]]));
            found.push((Peer { initiator, port }, u64::from_be_bytes(rest[..8].try_into().unwrap())));
            rest = &rest[24 + len..];
        }
        found
    }

    fn generation(&self) -> u32 {
        u32::from_be_bytes(self.table.read(0x00).expect("READ KEYS")[..4].try_into().unwrap())
    }

    /// Key and type by READ RESERVATION.
    fn reservation(&self) -> Option<(u64, u8)> {
        let data = self.table.read(0x01).expect("READ RESERVATION");
        (data.len() > 8).then(|| (u64::from_be_bytes(data[8..16].try_into().unwrap()), data[21]))
    }
}

/// What a refusal is for an initiator: `None` for RESERVATION CONFLICT, else key, code, qualifier.
fn code(refusal: Refusal) -> Option<(u8, u8, u8)> {
    match refusal {
        Refusal::Conflict => None,
        Refusal::Check(sense) => Some((sense.key as u8, sense.asc, sense.ascq)),
    }
}

const CONFLICT: Option<(u8, u8, u8)> = None;
const LENGTH_ERROR: Option<(u8, u8, u8)> = Some((0x05, 0x1a, 0x00));
const IN_CDB: Option<(u8, u8, u8)> = Some((0x05, 0x24, 0x00));
const IN_LIST: Option<(u8, u8, u8)> = Some((0x05, 0x26, 0x00));
const INVALID_RELEASE: Option<(u8, u8, u8)> = Some((0x05, 0x26, 0x04));
const NO_RESOURCES: Option<(u8, u8, u8)> = Some((0x05, 0x55, 0x04));

/// Conditions as additional sense code qualifiers of 2Ah.
fn told(effects: &Effects) -> Vec<(Peer, u8)> {
    let qualifier = |attention: Attention| match attention {
        Attention::ReservationsPreempted => 0x03,
        Attention::ReservationsReleased => 0x04,
        Attention::RegistrationsPreempted => 0x05,
    };
    effects.attentions.iter().map(|(peer, attention)| (peer.clone(), qualifier(*attention))).collect()
}
