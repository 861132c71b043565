//! From what was written to what is meant: defaults filled in, stores turned
//! into paths. These assume a site that [`Site::check`] found nothing in;
//! on any other they give `None`.

use super::export::port_key;
use super::group::Groups;
use super::{
    Chap, Kind, Mac, Model, Network, NicModel, PathState, Percent, Site, Slot, SlotId, Target, Uplink, Vm,
};
use crate::step::{
    Access, Backing, ChapSpec, Device, Lun, NetworkSpec, PortalSpec, SlotLun, SlotSpec, Tagging,
    TargetPortal, TargetSpec, UplinkSpec, VolumeSpec,
};
use std::path::PathBuf;

/// The VLAN of a port that names none: IEEE 802.1Q's default PVID.
const VLAN_DEFAULT: u16 = 1;

pub(super) fn tagging(vlan: Option<u16>, trunk: Option<&Vec<u16>>, native: Option<u16>) -> Tagging {
    match trunk {
        Some(vlans) => {
            let mut vlans = vlans.clone();
            vlans.sort_unstable();
            vlans.dedup();
            Tagging::Trunk { vlans, native }
        }
        None => Tagging::Access(vlan.unwrap_or(VLAN_DEFAULT)),
    }
}

fn resolved_luns(slot: &Slot) -> Vec<SlotLun> {
    slot.luns().map(|(lun, volume)| SlotLun { lun, volume: volume.to_owned() }).collect()
}

fn nic(model: NicModel, id: &SlotId, slot: &Slot) -> Option<Device> {
    Some(Device::Nic {
        model,
        network: slot.network.clone()?,
        mac: slot.mac.unwrap_or_else(|| Mac::derived(&id.vm, &id.slot)),
        tagging: tagging(slot.vlan, slot.trunk.as_ref(), slot.native),
        rom: slot.rom.clone(),
        doorbells: slot.doorbells.unwrap_or_default(),
        msix: slot.msix.unwrap_or(true),
    })
}

impl Site {
    /// Where a volume's bytes are.
    pub fn backing(&self, name: &str) -> Option<Backing> {
        let volume = self.disk.get(name)?;
        match (&volume.store, &volume.path, volume.null) {
            (Some(store), None, false) => {
                let directory = &self.store.get(store)?.directory;
                let path = directory.join(format!("{name}.raw"));
                Some(Backing::Path { path })
            }
            (None, Some(path), false) => Some(Backing::Path { path: path.clone() }),
            (None, None, true) => Some(Backing::Null),
            _ => None,
        }
    }

    /// The volume with its identity, which must have been assigned.
    pub fn volume_spec(&self, name: &str) -> Option<VolumeSpec> {
        let volume = self.disk.get(name)?;
        let naa = volume.naa?;
        Some(VolumeSpec {
            name: name.to_owned(),
            backing: self.backing(name)?,
            size: volume.size.map(|size| size.0),
            kind: volume.kind,
            block_size: volume.block_size(),
            physical_block_size: volume.physical_block_size,
            read_only: volume.read_only || volume.kind == Kind::Cdrom,
            removable: volume.removable || volume.kind == Kind::Cdrom,
            shared: volume.shared,
            thin_threshold: volume.thin_threshold.map(Percent::get),
            naa,
            serial: volume.serial.clone().unwrap_or_else(|| naa.serial()),
        })
    }

    pub fn socket(&self, id: &SlotId) -> PathBuf {
        self.server.socket_dir.join(format!("{id}.sock"))
    }

    /// The slot with its port's number, which must have been given. Where many are resolved, use
    /// [`Site::slot_spec_in`] with the groups found once.
    pub fn slot_spec(&self, id: &SlotId) -> Option<SlotSpec> {
        self.slot_spec_in(id, &self.groups())
    }

    pub(crate) fn slot_spec_in(&self, id: &SlotId, groups: &Groups) -> Option<SlotSpec> {
        let vm = self.vm.get(&id.vm)?;
        let slot = vm.slots.get(&id.slot)?;
        Some(SlotSpec {
            id: id.clone(),
            socket: self.socket(id),
            user: vm.user.clone(),
            queues: slot.queues,
            device: self.device(id, slot)?,
            group: groups.of_slot(id).map(str::to_owned),
        })
    }

    fn device(&self, id: &SlotId, slot: &Slot) -> Option<Device> {
        Some(match slot.model {
            Model::VirtioScsi => Device::VirtioScsi {
                luns: resolved_luns(slot),
                port_id: self.port_id(id)?,
                path: slot.path.unwrap_or_default(),
            },
            Model::VirtioBlk => Device::VirtioBlk { volume: slot.volume.clone()? },
            Model::VirtioNet => Device::VirtioNet {
                network: slot.network.clone()?,
                mac: slot.mac.unwrap_or_else(|| Mac::derived(&id.vm, &id.slot)),
                tagging: tagging(slot.vlan, slot.trunk.as_ref(), slot.native),
            },
            Model::Pvscsi => Device::Pvscsi {
                luns: resolved_luns(slot),
                port_id: self.port_id(id)?,
                path: slot.path.unwrap_or_default(),
                rom: slot.rom.clone(),
                doorbells: slot.doorbells.unwrap_or_default(),
                msix: slot.msix.unwrap_or(true),
            },
            Model::E1000 => nic(NicModel::E1000, id, slot)?,
            Model::E1000Em => nic(NicModel::E1000Em, id, slot)?,
            Model::E1000e => nic(NicModel::E1000e, id, slot)?,
            Model::Vlance => nic(NicModel::Vlance, id, slot)?,
            Model::Flexible => nic(NicModel::Flexible, id, slot)?,
            Model::Am79c973 => nic(NicModel::Am79c973, id, slot)?,
            Model::Vmxnet3 => nic(NicModel::Vmxnet3, id, slot)?,
        })
    }

    /// RELATIVE TARGET PORT IDENTIFIER of a SCSI controller.
    fn port_id(&self, id: &SlotId) -> Option<u16> {
        self.identity.port.get(&id.to_string()).copied()
    }

    pub fn portal_spec(&self, name: &str) -> Option<PortalSpec> {
        self.portal_spec_in(name, &self.groups())
    }

    pub(crate) fn portal_spec_in(&self, name: &str, groups: &Groups) -> Option<PortalSpec> {
        let portal = self.portal.get(name)?;
        Some(PortalSpec {
            name: name.to_owned(),
            listen: portal.listen.0,
            group: groups.of_portal(name)?.to_owned(),
        })
    }

    /// The target with its ports' numbers, which must have been given.
    pub fn target_spec(&self, name: &str) -> Option<TargetSpec> {
        self.target_spec_in(name, &self.groups())
    }

    pub(crate) fn target_spec_in(&self, name: &str, groups: &Groups) -> Option<TargetSpec> {
        let target = self.target.get(name)?;
        let portal = |(portal, path): (&String, &PathState)| {
            Some(TargetPortal {
                portal: portal.clone(),
                tpgt: *self.identity.portal_group.get(portal)?,
                port_id: *self.identity.port.get(&port_key(name, portal))?,
                path: *path,
            })
        };
        let luns = target.luns.0.iter();
        Some(TargetSpec {
            name: name.to_owned(),
            iqn: target.iqn.clone(),
            luns: luns.map(|(lun, volume)| Lun { lun: *lun, volume: volume.clone() }).collect(),
            portals: target.portals.0.iter().map(portal).collect::<Option<_>>()?,
            sessions_max: target.sessions_max,
            access: target.access()?,
            group: groups.of_target(name)?.to_owned(),
        })
    }
}

impl Target {
    fn access(&self) -> Option<Vec<Access>> {
        let mut access = Vec::new();
        for entry in &self.allow {
            let luns = entry.luns.clone().map(|mut luns| {
                luns.sort_unstable();
                luns.dedup();
                luns
            });
            access.push(Access {
                initiator: Some(entry.initiator.clone()),
                luns,
                chap: spec(entry.chap.as_ref().or(self.chap.as_ref()))?,
                mutual: spec(entry.mutual.as_ref().or(self.mutual.as_ref()))?,
            });
        }
        if self.open {
            access.push(Access {
                initiator: None,
                luns: None,
                chap: spec(self.chap.as_ref())?,
                mutual: spec(self.mutual.as_ref())?,
            });
        }
        Some(access)
    }
}

/// `None`: its secret is in no file yet.
fn spec(chap: Option<&Chap>) -> Option<Option<ChapSpec>> {
    let Some(chap) = chap else { return Some(None) };
    Some(Some(ChapSpec { user: chap.user.clone(), secret_file: chap.secret_file.clone()? }))
}

impl Vm {
    /// The address that a slot of this VM has, given or derived.
    pub fn mac(&self, id: &SlotId) -> Option<Mac> {
        let slot = self.slots.get(&id.slot)?;
        Some(slot.mac.unwrap_or_else(|| Mac::derived(&id.vm, &id.slot)))
    }
}

impl Network {
    pub fn spec(&self, name: &str) -> NetworkSpec {
        NetworkSpec {
            name: name.to_owned(),
            mtu: self.mtu,
            flood_limit_pps: self.flood_limit_pps.filter(|limit| *limit != 0),
            age_seconds: self.age_seconds,
        }
    }
}

impl Uplink {
    pub fn spec(&self, network: &str, name: &str) -> UplinkSpec {
        UplinkSpec {
            network: network.to_owned(),
            name: name.to_owned(),
            tap: self.tap.clone(),
            queues: self.queues,
            tagging: tagging(self.vlan, self.trunk.as_ref(), self.native),
        }
    }
}
