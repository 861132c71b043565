//! An engine that is as strict as a real one: it refuses a step whose
//! prerequisites are not there, so a wrong order shows.

use standpipe_control::site::SlotId;
use standpipe_control::status::{
    LaneStatus, NetworkStatus, PortStatus, PortalStatus, Reservation, ReservationType, SessionStatus,
    SlotStatus, Status, TargetStatus, VolumeStatus, Worker,
};
use standpipe_control::step::{
    Backing, Lun, NetworkSpec, PortalSpec, SlotLun, SlotSpec, Step, TargetSpec, UplinkSpec, VolumeSpec,
};
use standpipe_control::{Engine, Problem};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

#[derive(Debug, Default, Clone, PartialEq)]
pub struct World {
    pub volumes: BTreeMap<String, VolumeSpec>,
    pub networks: BTreeMap<String, NetworkSpec>,
    pub uplinks: BTreeMap<(String, String), UplinkSpec>,
    pub slots: BTreeMap<SlotId, SlotSpec>,
    pub portals: BTreeMap<String, PortalSpec>,
    pub targets: BTreeMap<String, TargetSpec>,
    pub lanes: Lanes,
}

/// Where things are. Each unknown group gets a lane of its own, so that whatever the steps do not
/// bring together is apart.
#[derive(Debug, Default, Clone)]
pub struct Lanes {
    of_group: BTreeMap<String, u32>,
    /// By `slot web1.disk0`, `target t`, `portal p`.
    of: BTreeMap<String, u32>,
    count: u32,
}

/// Which lane something is in does not matter, only what it is with.
impl PartialEq for Lanes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Lanes {
    fn fresh(&mut self) -> u32 {
        self.count += 1;
        self.count
    }

    fn place(&mut self, who: String, group: &str) {
        let fresh = self.fresh();
        let lane = *self.of_group.entry(group.to_owned()).or_insert(fresh);
        self.of.insert(who, lane);
    }

    fn regroup(&mut self, group: &str, members: &[String]) -> Result<(), Problem> {
        let lane = self.fresh();
        for member in members {
            match self.of.get_mut(member) {
                Some(there) => *there = lane,
                None => return refuse(format!("no {member}")),
            }
        }
        self.of_group.insert(group.to_owned(), lane);
        Ok(())
    }
}

#[derive(Default)]
pub struct FakeEngine {
    pub world: Mutex<World>,
    pub performed: Mutex<Vec<Step>>,
    pub connected: Mutex<BTreeSet<SlotId>>,
    /// Fail when so many more steps have been performed.
    pub fail_after: Mutex<Option<usize>>,
    /// And then no more.
    pub fail_once: Mutex<bool>,
    pub pid: Mutex<u32>,
    /// Whether volumes have files.
    pub files: bool,
    /// Volumes with a reservation.
    pub reserved: Mutex<BTreeSet<String>>,
}

fn refuse(what: String) -> Result<(), Problem> {
    Err(Problem::failed(what))
}

impl World {
    pub fn perform(&mut self, step: &Step) -> Result<(), Problem> {
        match step {
            Step::ConfigureServer(_) => {}
            Step::CreateVolume(spec) => {
                let clash = self
                    .volumes
                    .values()
                    .find(|other| other.backing == spec.backing && spec.backing != Backing::Null)
                    .filter(|other| other.name != spec.name);
                if let Some(other) = clash {
                    return refuse(format!("{} is still open", other.name));
                }
                self.volumes.insert(spec.name.clone(), spec.clone());
            }
            Step::GrowVolume { volume, size } => match self.volumes.get_mut(volume) {
                Some(spec) if spec.size.is_none_or(|old| old <= *size) => spec.size = Some(*size),
                _ => return refuse(format!("cannot grow {volume}")),
            },
            Step::RemoveVolume { volume } => {
                if let Some(user) = self.users(volume).first() {
                    return refuse(format!("{volume} is in {user}"));
                }
                self.volumes.remove(volume);
            }
            Step::AddNetwork(spec) => {
                self.networks.insert(spec.name.clone(), spec.clone());
            }
            Step::ChangeNetwork(spec) => match self.networks.get_mut(&spec.name) {
                Some(network) => *network = spec.clone(),
                None => return refuse(format!("no network {}", spec.name)),
            },
            Step::RemoveNetwork { network } => {
                let port = self.slots.values().find(|slot| slot.device.network() == Some(network));
                if port.is_some() || self.uplinks.keys().any(|(on, _)| on == network) {
                    return refuse(format!("{network} has ports"));
                }
                self.networks.remove(network);
            }
            Step::AddUplink(spec) => {
                let key = (spec.network.clone(), spec.name.clone());
                let mut others = self.uplinks.iter().filter(|(other, _)| **other != key);
                if others.any(|(_, other)| other.tap == spec.tap) {
                    return refuse(format!("{} is taken", spec.tap));
                }
                if !self.networks.contains_key(&spec.network) {
                    return refuse(format!("no network {}", spec.network));
                }
                self.uplinks.insert(key, spec.clone());
            }
            Step::ChangeUplink(spec) => {
                let key = (spec.network.clone(), spec.name.clone());
                match self.uplinks.get_mut(&key) {
                    Some(uplink) if uplink.tap == spec.tap => *uplink = spec.clone(),
                    _ => return refuse(format!("no uplink {key:?}")),
                }
            }
            Step::RemoveUplink { network, uplink } => {
                self.uplinks.remove(&(network.clone(), uplink.clone()));
            }
            Step::AddSlot(spec) => {
                self.fits(spec)?;
                if let Some(group) = &spec.group
                    && !self.slots.contains_key(&spec.id)
                {
                    self.lanes.place(format!("slot {}", spec.id), group);
                }
                self.slots.insert(spec.id.clone(), spec.clone());
            }
            Step::ChangeSlot(spec) => {
                self.fits(spec)?;
                match self.slots.get_mut(&spec.id) {
                    Some(slot) if slot.queues == spec.queues && slot.socket == spec.socket => {
                        *slot = spec.clone();
                    }
                    _ => return refuse(format!("cannot change {}", spec.id)),
                }
            }
            Step::AttachLun { slot, lun, volume } => {
                self.free(volume, &format!("slot {slot}"))?;
                let Some(luns) = self.luns(slot) else {
                    return refuse(format!("no SCSI slot {slot}"));
                };
                attach(luns, SlotLun { lun: *lun, volume: volume.clone() }, |there| there.lun)?;
            }
            Step::DetachLun { slot, lun } => {
                if let Some(luns) = self.luns(slot) {
                    luns.retain(|there| there.lun != *lun);
                }
            }
            Step::RemoveSlot { slot } => {
                self.slots.remove(slot);
                self.lanes.of.remove(&format!("slot {slot}"));
            }
            Step::ChangeVolume(spec) => {
                let Some(volume) = self.volumes.get_mut(&spec.name) else {
                    return refuse(format!("no volume {}", spec.name));
                };
                let policy =
                    VolumeSpec { shared: spec.shared, thin_threshold: spec.thin_threshold, ..volume.clone() };
                if policy != *spec {
                    return refuse(format!("{} is to change more than its policy", spec.name));
                }
                *volume = policy;
            }
            Step::Regroup(spec) => {
                let slots = spec.slots.iter().map(|slot| format!("slot {slot}"));
                let targets = spec.targets.iter().map(|target| format!("target {target}"));
                let portals = spec.portals.iter().map(|portal| format!("portal {portal}"));
                let members: Vec<String> = slots.chain(targets).chain(portals).collect();
                self.lanes.regroup(&spec.name, &members)?;
            }
            Step::AddPortal(spec) => {
                let mut others = self.portals.values().filter(|other| other.name != spec.name);
                if let Some(other) = others.find(|other| other.listen == spec.listen) {
                    return refuse(format!("{} has this address", other.name));
                }
                if !self.portals.contains_key(&spec.name) {
                    self.lanes.place(format!("portal {}", spec.name), &spec.group);
                }
                self.portals.insert(spec.name.clone(), spec.clone());
            }
            Step::ChangePortal(spec) => {
                let mut others = self.portals.values().filter(|other| other.name != spec.name);
                if let Some(other) = others.find(|other| other.listen == spec.listen) {
                    return refuse(format!("{} has this address", other.name));
                }
                match self.portals.get_mut(&spec.name) {
                    Some(portal) => portal.listen = spec.listen,
                    None => return refuse(format!("no portal {}", spec.name)),
                }
            }
            Step::RemovePortal { portal } => {
                let at = |target: &&TargetSpec| target.portals.iter().any(|at| at.portal == *portal);
                if let Some(target) = self.targets.values().find(at) {
                    return refuse(format!("{} is at {portal}", target.name));
                }
                self.portals.remove(portal);
                self.lanes.of.remove(&format!("portal {portal}"));
            }
            Step::AddTarget(spec) => {
                let mut others = self.targets.values().filter(|other| other.name != spec.name);
                if let Some(other) = others.find(|other| other.iqn == spec.iqn) {
                    return refuse(format!("{} has this name", other.name));
                }
                self.portals_are_there(spec)?;
                for lun in &spec.luns {
                    self.free(&lun.volume, &format!("target {}", spec.name))?;
                }
                if !self.targets.contains_key(&spec.name) {
                    self.lanes.place(format!("target {}", spec.name), &spec.group);
                }
                self.targets.insert(spec.name.clone(), spec.clone());
            }
            Step::ChangeTarget(spec) => {
                self.portals_are_there(spec)?;
                match self.targets.get_mut(&spec.name) {
                    Some(target) if target.iqn == spec.iqn => {
                        let numbers = |target: &TargetSpec| -> Vec<(String, u16, u16)> {
                            let ports = target.portals.iter();
                            ports.map(|at| (at.portal.clone(), at.tpgt, at.port_id)).collect()
                        };
                        let there = numbers(spec);
                        if !numbers(target).iter().all(|port| there.contains(port)) {
                            return refuse(format!("{} is to lose a port", spec.name));
                        }
                        *target = TargetSpec { luns: std::mem::take(&mut target.luns), ..spec.clone() };
                    }
                    _ => return refuse(format!("cannot change {}", spec.name)),
                }
            }
            Step::AttachTargetLun { target, lun, volume } => {
                self.free(volume, &format!("target {target}"))?;
                let Some(target) = self.targets.get_mut(target) else {
                    return refuse(format!("no target {target}"));
                };
                attach(&mut target.luns, Lun { lun: *lun, volume: volume.clone() }, |there| there.lun)?;
            }
            Step::DetachTargetLun { target, lun } => {
                if let Some(target) = self.targets.get_mut(target) {
                    target.luns.retain(|there| there.lun != *lun);
                }
            }
            Step::LeavePortal { target, portal } => {
                if let Some(target) = self.targets.get_mut(target) {
                    target.portals.retain(|at| at.portal != *portal);
                }
            }
            Step::RemoveTarget { target } => {
                self.targets.remove(target);
                self.lanes.of.remove(&format!("target {target}"));
            }
        }
        self.is_together()
    }

    fn luns(&mut self, slot: &SlotId) -> Option<&mut Vec<SlotLun>> {
        self.slots.get_mut(slot)?.device.luns_mut()
    }

    fn portals_are_there(&self, spec: &TargetSpec) -> Result<(), Problem> {
        let missing = spec.portals.iter().find(|at| !self.portals.contains_key(&at.portal));
        missing.map_or(Ok(()), |at| refuse(format!("no portal {}", at.portal)))
    }

    /// Slots and targets that have a volume.
    pub fn users(&self, volume: &str) -> Vec<String> {
        let slots = self.slots.values().filter(|slot| slot.device.volumes().any(|there| there == volume));
        let targets = self.targets.values();
        let targets = targets.filter(|target| target.luns.iter().any(|lun| lun.volume == volume));
        slots
            .map(|slot| format!("slot {}", slot.id))
            .chain(targets.map(|target| format!("target {}", target.name)))
            .collect()
    }

    /// Whether `user` can have the volume.
    fn free(&self, volume: &str, user: &str) -> Result<(), Problem> {
        let Some(spec) = self.volumes.get(volume) else {
            return refuse(format!("no volume {volume}"));
        };
        let users = self.users(volume);
        match users.iter().find(|other| *other != user) {
            Some(other) if !spec.shared => refuse(format!("{volume} is in {other}")),
            _ => Ok(()),
        }
    }

    /// All users of a shared volume are in one lane, and a target is where its portals are.
    fn is_together(&self) -> Result<(), Problem> {
        for volume in self.volumes.keys() {
            let users = self.users(volume);
            let lanes: BTreeSet<_> = users.iter().map(|user| self.lanes.of.get(user)).collect();
            if lanes.len() > 1 {
                return refuse(format!("{} are in lanes {lanes:?}", users.join(", ")));
            }
        }
        for target in self.targets.values() {
            let lane = self.lanes.of.get(&format!("target {}", target.name));
            for at in &target.portals {
                if self.lanes.of.get(&format!("portal {}", at.portal)) != lane {
                    return refuse(format!("{} and {} are apart", target.name, at.portal));
                }
            }
        }
        Ok(())
    }

    fn fits(&self, spec: &SlotSpec) -> Result<(), Problem> {
        if let Some(network) = spec.device.network()
            && !self.networks.contains_key(network)
        {
            return refuse(format!("no network {network}"));
        }
        let user = format!("slot {}", spec.id);
        spec.device.volumes().try_for_each(|volume| self.free(volume, &user))
    }
}

fn attach<L: PartialEq, N: Ord + Display>(
    luns: &mut Vec<L>,
    new: L,
    number: fn(&L) -> N,
) -> Result<(), Problem> {
    let lun = number(&new);
    match luns.iter().find(|there| number(there) == lun) {
        Some(there) if *there == new => {}
        Some(_) => return refuse(format!("LUN {lun} is taken")),
        None => {
            luns.push(new);
            luns.sort_by_key(number);
        }
    }
    Ok(())
}

impl World {
    /// What is compared. A group's name is brought up to date only where it matters, which the lanes
    /// tell; so it is left out.
    pub fn plain(&self) -> World {
        let mut world = self.clone();
        world.slots.values_mut().for_each(|slot| slot.group = None);
        world.portals.values_mut().for_each(|portal| portal.group.clear());
        world.targets.values_mut().for_each(|target| target.group.clear());
        world
    }
}

impl Engine for FakeEngine {
    fn perform(&self, step: &Step) -> Result<(), Problem> {
        let mut fail_after = self.fail_after.lock().unwrap();
        if let Some(left) = fail_after.as_mut() {
            if *left == 0 {
                if *self.fail_once.lock().unwrap() {
                    *fail_after = None;
                }
                return Err(Problem::failed("the disk is on fire").hint("call the fire brigade"));
            }
            *left -= 1;
        }
        self.world.lock().unwrap().perform(step)?;
        self.performed.lock().unwrap().push(step.clone());
        if self.files
            && let Step::CreateVolume(VolumeSpec {
                backing: Backing::Path { path }, size: Some(size), ..
            }) = step
        {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
            let file = file.map_err(|error| Problem::failed(error.to_string()))?;
            if file.metadata().unwrap().len() < *size {
                file.set_len(*size).unwrap();
            }
        }
        Ok(())
    }

    fn status(&self) -> Status {
        let world = self.world.lock().unwrap();
        let mut status = Status {
            worker: Worker {
                pid: *self.pid.lock().unwrap(),
                version: "9.9.9".to_owned(),
                started: 1_700_000_000,
                restarts: 3,
                lanes: vec![LaneStatus {
                    lane: 0,
                    cpu_microseconds: 1_500_000,
                    slots: 1,
                    counters: BTreeMap::from([("sleeps".to_owned(), 7)]),
                }],
            },
            ..Status::default()
        };
        for (id, spec) in &world.slots {
            status.slots.insert(
                id.to_string(),
                SlotStatus {
                    model: spec.device.model(),
                    connected: self.connected.lock().unwrap().contains(id),
                    queues: u32::from(spec.queues),
                    counters: BTreeMap::from([("completed \"ok\"".to_owned(), 42)]),
                },
            );
        }
        for name in world.portals.keys() {
            let portal = PortalStatus {
                connections: 1,
                counters: BTreeMap::from([("accepted".to_owned(), 9)]),
                ..PortalStatus::default()
            };
            status.portals.insert(name.clone(), portal);
        }
        for (name, spec) in &world.targets {
            let sessions = spec.portals.first().map(|at| SessionStatus {
                initiator: "iqn.1993-08.org.debian:01:abc".to_owned(),
                isid: "00023d000001".to_owned(),
                tsih: 1,
                portal: at.portal.clone(),
                address: "192.0.2.7:40000".to_owned(),
                logged_in_since: 1_700_000_100,
                counters: BTreeMap::from([("read".to_owned(), 11)]),
            });
            let target = TargetStatus {
                sessions: sessions.into_iter().collect(),
                counters: BTreeMap::from([("login refused: not in the list".to_owned(), 3)]),
                ..TargetStatus::default()
            };
            status.targets.insert(name.clone(), target);
        }
        let users = |volume: &str, sort: &str| -> Vec<String> {
            let users = world.users(volume);
            users.iter().filter_map(|user| user.strip_prefix(sort).map(str::to_owned)).collect()
        };
        for (name, spec) in &world.volumes {
            let found = match &spec.backing {
                Backing::Path { path } => std::fs::metadata(path).ok(),
                Backing::Null => None,
            };
            status.volumes.insert(
                name.clone(),
                VolumeStatus {
                    size: spec.size.or(found.as_ref().map(|f| f.len())).unwrap_or(0),
                    allocated: found.map_or(0, |f| f.blocks() * 512),
                    used_by: users(name, "slot ").iter().map(|id| id.parse().unwrap()).collect(),
                    targets: users(name, "target "),
                    reservation: self.reserved.lock().unwrap().contains(name).then(|| Reservation {
                        kind: Some(ReservationType::WriteExclusiveRegistrantsOnly),
                        holder: Some("iqn.1993-08.org.debian:01:abc,i,0x00023d000001".to_owned()),
                        registrants: 2,
                        generation: 7,
                        aptpl: true,
                    }),
                    ..VolumeStatus::default()
                },
            );
        }
        for name in world.networks.keys() {
            let port = PortStatus {
                name: "uplink.host".to_owned(),
                counters: BTreeMap::from([("sent".to_owned(), 5)]),
            };
            status.networks.insert(
                name.clone(),
                NetworkStatus { ports: vec![port], fdb_size: 2, ..NetworkStatus::default() },
            );
        }
        status
    }

    fn upgrade(&self) -> Result<(), Problem> {
        *self.pid.lock().unwrap() += 1;
        Ok(())
    }

    fn clear_reservations(&self, volume: &str) -> Result<(), Problem> {
        self.reserved.lock().unwrap().remove(volume);
        Ok(())
    }
}
