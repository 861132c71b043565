//! An engine that is as strict as a real one: it refuses a step whose
//! prerequisites are not there, so a wrong order shows.

use standpipe_control::site::{Model, SlotId};
use standpipe_control::status::{
    LaneStatus, NetworkStatus, PortStatus, SlotStatus, Status, VolumeStatus, Worker,
};
use standpipe_control::step::{Backing, Device, NetworkSpec, SlotSpec, Step, UplinkSpec, VolumeSpec};
use standpipe_control::{Engine, Problem};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

#[derive(Debug, Default, Clone, PartialEq)]
pub struct World {
    pub volumes: BTreeMap<String, VolumeSpec>,
    pub networks: BTreeMap<String, NetworkSpec>,
    pub uplinks: BTreeMap<(String, String), UplinkSpec>,
    pub slots: BTreeMap<SlotId, SlotSpec>,
}

#[derive(Default)]
pub struct FakeEngine {
    pub world: Mutex<World>,
    pub performed: Mutex<Vec<Step>>,
    pub connected: Mutex<BTreeSet<SlotId>>,
    /// Fail when so many more steps have been performed.
    pub fail_after: Mutex<Option<usize>>,
    pub pid: Mutex<u32>,
    /// Whether volumes have files.
    pub files: bool,
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
                if let Some(id) = self.user(volume) {
                    return refuse(format!("{volume} is in {id}"));
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
                let port = self.slots.values().find(
                    |slot| matches!(&slot.device, Device::VirtioNet { network: on, .. } if on == network),
                );
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
                if !self.volumes.contains_key(volume) {
                    return refuse(format!("no volume {volume}"));
                }
                if let Some(user) = self.user(volume).filter(|user| user != slot) {
                    return refuse(format!("{volume} is in {user}"));
                }
                let Some(luns) = self.luns(slot) else {
                    return refuse(format!("no SCSI slot {slot}"));
                };
                let new = standpipe_control::step::Lun { lun: *lun, volume: volume.clone() };
                match luns.iter().find(|there| there.lun == *lun) {
                    Some(there) if *there == new => {}
                    Some(_) => return refuse(format!("LUN {lun} of {slot} is taken")),
                    None => {
                        luns.push(new);
                        luns.sort_by_key(|lun| lun.lun);
                    }
                }
            }
            Step::DetachLun { slot, lun } => {
                if let Some(luns) = self.luns(slot) {
                    luns.retain(|there| there.lun != *lun);
                }
            }
            Step::RemoveSlot { slot } => {
                self.slots.remove(slot);
            }
        }
        Ok(())
    }

    fn luns(&mut self, slot: &SlotId) -> Option<&mut Vec<standpipe_control::step::Lun>> {
        match &mut self.slots.get_mut(slot)?.device {
            Device::VirtioScsi { luns } => Some(luns),
            _ => None,
        }
    }

    fn user(&self, volume: &str) -> Option<SlotId> {
        let has = |slot: &&SlotSpec| match &slot.device {
            Device::VirtioScsi { luns } => luns.iter().any(|lun| lun.volume == volume),
            Device::VirtioBlk { volume: there } => there == volume,
            Device::VirtioNet { .. } => false,
        };
        self.slots.values().find(has).map(|slot| slot.id.clone())
    }

    fn fits(&self, spec: &SlotSpec) -> Result<(), Problem> {
        let volumes: Vec<&String> = match &spec.device {
            Device::VirtioScsi { luns } => luns.iter().map(|lun| &lun.volume).collect(),
            Device::VirtioBlk { volume } => vec![volume],
            Device::VirtioNet { network, .. } => {
                if !self.networks.contains_key(network) {
                    return refuse(format!("no network {network}"));
                }
                vec![]
            }
        };
        for volume in volumes {
            if !self.volumes.contains_key(volume) {
                return refuse(format!("no volume {volume}"));
            }
            if let Some(user) = self.user(volume).filter(|user| *user != spec.id) {
                return refuse(format!("{volume} is in {user}"));
            }
        }
        Ok(())
    }
}

impl Engine for FakeEngine {
    fn perform(&self, step: &Step) -> Result<(), Problem> {
        let mut fail_after = self.fail_after.lock().unwrap();
        if let Some(left) = fail_after.as_mut() {
            if *left == 0 {
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
                    model: match spec.device {
                        Device::VirtioScsi { .. } => Model::VirtioScsi,
                        Device::VirtioBlk { .. } => Model::VirtioBlk,
                        Device::VirtioNet { .. } => Model::VirtioNet,
                    },
                    connected: self.connected.lock().unwrap().contains(id),
                    queues: u32::from(spec.queues),
                    counters: BTreeMap::from([("completed \"ok\"".to_owned(), 42)]),
                },
            );
        }
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
                    used_by: world.user(name).into_iter().collect(),
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
}
