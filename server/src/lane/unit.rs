//! The logical unit of a volume, as the lane keeps it: the unit itself, its ledger, its ports.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use control::Problem;
use control::site::{Kind, PathState};
use control::step::VolumeSpec;
use guest_memory::Window;
use scsi::{AccessState, Facts, PortId, Profile, TargetPort, TransportId, Unit};

use crate::ledger::Record;
use crate::vault::{self, Vault};

/// The name under which a unit's ledger is kept, behind `unit_key`.
const LEDGER: &str = "unit";

/// Longest state of a unit: 128 nexuses and 240 registrants by names of the greatest length (33 and 62 KiB),
/// a line of the journal for each of 4096 tasks and for answers that were not seen (140 KiB), tokens and
/// results of copies (70 KiB), and what is short. Pages that are not written take no memory.
const STATE_MAX: usize = 512 << 10;

/// What the names of volumes' descriptors begin with: no slot has such a name.
pub const UNIT_PREFIX: &str = "disk:";

/// What engine and lane know a volume's descriptors by.
pub fn unit_key(volume: &str) -> String {
    format!("{UNIT_PREFIX}{volume}")
}

/// The name under which the ledger of a volume's unit is kept.
pub fn ledger_name(volume: &str) -> String {
    vault::name(&unit_key(volume), LEDGER)
}

/// What is left of a volume's unit when it is opened again.
#[derive(Debug, Default)]
pub struct Left {
    /// The ledger of a worker that died.
    pub ledger: Option<OwnedFd>,
    /// What was on stable storage when the server was started.
    pub persistent: Option<Vec<u8>>,
}

/// A unit, its ledger, and who reaches it by which port.
pub struct LogicalUnit {
    pub unit: Unit,
    ledger: Option<(Record, OwnedFd)>,
    volume: String,
    ports: Vec<TargetPort>,
}

pub fn profile_of(spec: &VolumeSpec) -> Profile {
    Profile {
        kind: match spec.kind {
            Kind::Disk => scsi::Kind::Disk,
            Kind::Cdrom => scsi::Kind::CdRom,
        },
        removable: spec.removable,
        thin_threshold_percent: spec.thin_threshold,
    }
}

pub fn state_of(path: PathState) -> AccessState {
    match path {
        PathState::Active => AccessState::ActiveOptimized,
        PathState::NonOptimized => AccessState::ActiveNonOptimized,
        PathState::Standby => AccessState::Standby,
    }
}

/// The SAS address of a VM's controller, as initiator and as target port: locally assigned (NAA 3h),
/// made from the slot's name, so that it is the same on every host.
pub fn sas_address(slot: &str, end: &str) -> [u8; 8] {
    // FNV-1a, 64 bits.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in slot.bytes().chain(end.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    (0x3 << 60 | hash >> 4).to_be_bytes()
}

/// The peer that a VM's controller is.
pub fn peer_of_slot(slot: &str, port: u16) -> scsi::Peer {
    scsi::Peer { initiator: TransportId::sas(sas_address(slot, "/initiator")), port: PortId(port) }
}

/// What an operator is told of a unit's reservations. `slots`: whose controllers have which peer.
pub fn reservation_status(
    unit: &Unit,
    slots: &BTreeMap<scsi::Peer, String>,
) -> Option<control::status::Reservation> {
    use control::status::ReservationType;
    use scsi::ReservationKind as Kind;
    let held = unit.reservations();
    if held.registrants() == 0 && !held.is_reserved() && !held.is_lost() {
        return None;
    }
    let kind = match held.persistent() {
        None => held.is_reserved().then_some(ReservationType::Reserve),
        Some(Kind::WriteExclusive) => Some(ReservationType::WriteExclusive),
        Some(Kind::ExclusiveAccess) => Some(ReservationType::ExclusiveAccess),
        Some(Kind::WriteExclusiveRegistrantsOnly) => Some(ReservationType::WriteExclusiveRegistrantsOnly),
        Some(Kind::ExclusiveAccessRegistrantsOnly) => Some(ReservationType::ExclusiveAccessRegistrantsOnly),
        Some(Kind::WriteExclusiveAllRegistrants) => Some(ReservationType::WriteExclusiveAllRegistrants),
        Some(Kind::ExclusiveAccessAllRegistrants) => Some(ReservationType::ExclusiveAccessAllRegistrants),
    };
    let holder = held.owner().map(|peer| match slots.get(peer) {
        Some(slot) => slot.clone(),
        None => peer.initiator.iscsi_name().unwrap_or("a controller that is gone").to_owned(),
    });
    Some(control::status::Reservation {
        kind,
        holder,
        registrants: held.registrants() as u32,
        generation: held.generation(),
        aptpl: held.is_kept(),
    })
}

fn is_ledger(fd: &OwnedFd) -> bool {
    host::memfd::size(fd).is_ok_and(|size| size == Record::size(STATE_MAX) as u64)
}

impl Left {
    /// Of a unit that nobody can use now: its reservations go, and nothing else.
    pub fn clear_reservations(&mut self) {
        self.persistent = None;
        let Some(fd) = self.ledger.as_ref().filter(|fd| is_ledger(fd)) else { return };
        let Ok(window) = Window::of_file(fd.as_fd(), 0, Record::size(STATE_MAX)) else { return };
        let record = Record::new(window, STATE_MAX);
        if let Some(cleared) = Unit::clear_reservations_of(&record.load()) {
            record.save(&cleared);
        }
    }
}

impl LogicalUnit {
    /// If that fails, what was left is left.
    pub fn new(spec: &VolumeSpec, facts: Facts, left: &mut Left, vault: &Vault) -> Result<Self, Problem> {
        let profile = profile_of(spec);
        let failed = |error: std::io::Error| {
            Problem::failed(format!("cannot make the ledger of volume `{}`: {error}", spec.name))
                .at(format!("disk.{}", spec.name))
        };
        let bytes = Record::size(STATE_MAX);
        let found = left.ledger.as_ref().filter(|fd| is_ledger(fd));
        let fresh = found.is_none();
        let fd = match found {
            Some(fd) => fd.try_clone().map_err(failed)?,
            None => {
                host::memfd::create(&format!("standpipe-unit-{}", spec.name), bytes as u64).map_err(failed)?
            }
        };
        let window = Window::of_file(fd.as_fd(), 0, bytes).map_err(failed)?;
        let record = Record::new(window, STATE_MAX);
        let unit = match (fresh, &left.persistent) {
            (false, _) => Unit::restore(facts, profile, &record.load()),
            (true, Some(stored)) => Unit::recover(facts, profile, stored),
            (true, None) => Unit::new(facts, profile),
        };
        let logical = Self { unit, ledger: Some((record, fd)), volume: spec.name.clone(), ports: Vec::new() };
        if fresh {
            // Kept when it says what the unit is, not before: a successor that found it empty would take
            // up a unit that nobody has reserved.
            logical.save();
            if let Some((_, fd)) = &logical.ledger {
                vault.keep(&ledger_name(&spec.name), fd.as_fd());
            }
        }
        Ok(logical)
    }

    /// Puts the state where a successor finds it.
    pub fn save(&self) {
        if let Some((record, _)) = &self.ledger {
            record.save(&self.unit.state());
        }
    }

    /// One more way to the unit, or another state of one.
    pub fn set_port(&mut self, port: TargetPort) {
        self.ports.retain(|there| there.id != port.id);
        self.ports.push(port);
        self.ports.sort_by_key(|port| port.id);
        self.unit.set_ports(self.ports.clone());
    }

    pub fn remove_port(&mut self, id: PortId) {
        self.ports.retain(|there| there.id != id);
        self.unit.set_ports(self.ports.clone());
    }

    /// Nobody uses the volume any more.
    pub fn close(self, vault: &Vault) {
        vault.forget(&ledger_name(&self.volume));
    }

    /// For another lane to take up.
    pub fn release(self) -> Left {
        self.save();
        Left { ledger: self.ledger.map(|(_, fd)| fd), persistent: None }
    }
}
