//! From what was written to what is meant: defaults filled in, stores turned
//! into paths. These assume a site that [`Site::check`] found nothing in;
//! on any other they give `None`.

use super::{Mac, Model, Network, Site, Slot, SlotId, Uplink, Vm};
use crate::step::{Backing, Device, Lun, NetworkSpec, SlotSpec, Tagging, UplinkSpec, VolumeSpec};
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
            block_size: volume.block_size,
            read_only: volume.read_only,
            naa,
            serial: volume.serial.clone().unwrap_or_else(|| naa.serial()),
        })
    }

    pub fn socket(&self, id: &SlotId) -> PathBuf {
        self.server.socket_dir.join(format!("{id}.sock"))
    }

    pub fn slot_spec(&self, id: &SlotId) -> Option<SlotSpec> {
        let vm = self.vm.get(&id.vm)?;
        let slot = vm.slots.get(&id.slot)?;
        Some(SlotSpec {
            id: id.clone(),
            socket: self.socket(id),
            user: vm.user.clone(),
            queues: slot.queues,
            device: slot.device(id)?,
        })
    }
}

impl Vm {
    /// The address that a slot of this VM has, given or derived.
    pub fn mac(&self, id: &SlotId) -> Option<Mac> {
        let slot = self.slots.get(&id.slot)?;
        Some(slot.mac.unwrap_or_else(|| Mac::derived(&id.vm, &id.slot)))
    }
}

impl Slot {
    fn device(&self, id: &SlotId) -> Option<Device> {
        Some(match self.model {
            Model::VirtioScsi => Device::VirtioScsi {
                luns: self.luns().map(|(lun, volume)| Lun { lun, volume: volume.to_owned() }).collect(),
            },
            Model::VirtioBlk => Device::VirtioBlk { volume: self.volume.clone()? },
            Model::VirtioNet => Device::VirtioNet {
                network: self.network.clone()?,
                mac: self.mac.unwrap_or_else(|| Mac::derived(&id.vm, &id.slot)),
                tagging: tagging(self.vlan, self.trunk.as_ref(), self.native),
            },
        })
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
