//! LUNs come, go and change: of controllers, and of everybody else who sees the same volume.

use control::Problem;
use control::site::{LunAddress, PathState, SlotId};
use control::step::{Device as DeviceSpec, SlotSpec, VolumeSpec};
use crossbeam_channel::Receiver;
use scsi::{Condition, Nexus, PortId, PortName, TargetPort};
use virtio_scsi::{Event, Happening};

use super::Lane;
use super::device::{Device, LUNS_MAX, Lun};
use super::objects::{Unused, Use};
use super::requests::Origin;
use super::stable::stable_name;
use super::unit::{Left, peer_of_slot, profile_of, sas_address, state_of};

/// The target port that a controller is: a group of its own.
pub(super) fn port_of(slot: &str, port_id: u16, path: PathState) -> TargetPort {
    TargetPort {
        id: PortId(port_id),
        group: port_id,
        name: PortName::Sas(sas_address(slot, "/target")),
        state: state_of(path),
    }
}

impl Lane {
    /// A controller becomes a nexus of the volume's unit, by a target port of its own.
    pub(super) fn join_unit(
        &mut self,
        slot: &SlotId,
        volume: u32,
        left: &mut Left,
        port_id: u16,
        path: PathState,
    ) -> Result<Nexus, Problem> {
        self.volumes.make_unit(volume, left)?;
        let name = slot.to_string();
        let Some(logical) = self.volumes.unit(volume) else {
            return Err(Problem::failed("the volume has no unit").at(name));
        };
        logical.set_port(port_of(&name, port_id, path));
        let nexus = logical.unit.attach(peer_of_slot(&name, port_id)).ok_or_else(|| {
            Problem::conflict(format!("a volume has at most {} initiators at a time", scsi::NEXUS_MAX))
                .at(name.clone())
                .hint("detach it from another slot, or end iSCSI sessions")
        })?;
        self.volumes.dirty(volume);
        // The last worker may have died in the middle of a SANITIZE.
        self.wakers.push(volume);
        Ok(nexus)
    }

    /// Whether an initiator is still this nexus of a unit: meanwhile its LUN may have been taken away,
    /// and the number given to somebody else.
    pub(super) fn is_seen(&mut self, origin: Origin, volume: u32, nexus: Nexus) -> bool {
        let view = match origin {
            Origin::Server => return false,
            Origin::Ring { slot, .. } => match self.slots.get(slot as usize) {
                Some(Some(slot)) => match &slot.device {
                    Device::Scsi(device) => &device.view,
                    _ => return false,
                },
                _ => return false,
            },
            Origin::Adapter { slot, .. } => return self.sees_emulated(slot, volume, nexus),
            Origin::Session { connection, .. } => match self.iscsi.view(connection) {
                Some(view) => view,
                None => return false,
            },
        };
        view.units.iter().any(|(_, of, there)| (*of, *there) == (volume, nexus))
    }

    /// The owner likes a slot's path more or less than before (ALUA).
    pub(super) fn set_path(&mut self, index: u32, port_id: u16, path: PathState) {
        let Some(Some(slot)) = self.slots.get(index as usize) else { return };
        let Device::Scsi(device) = &slot.device else { return };
        let (name, view) = (slot.spec.id.to_string(), std::rc::Rc::clone(&device.view));
        for (_, volume, _) in view.units.iter() {
            if let Some(logical) = self.volumes.unit(*volume) {
                logical.set_port(port_of(&name, port_id, path));
                self.volumes.dirty(*volume);
            }
        }
    }

    /// So much of a volume has a place in its store.
    pub fn volume_allocated(&mut self, name: &str, bytes: u64) {
        let Some(volume) = self.volumes.find(name) else { return };
        if let Some(logical) = self.volumes.unit(volume) {
            let blocks = bytes >> logical.unit.facts().shift();
            logical.unit.allocated(blocks);
            if logical.unit.take_dirty() {
                self.volumes.dirty(volume);
            }
        }
    }

    /// See [`scsi::Unit::all_have_come`].
    pub fn all_have_come(&mut self) {
        for volume in self.volumes.indices() {
            if let Some(logical) = self.volumes.unit(volume) {
                logical.unit.all_have_come();
            }
            self.unit_changed(volume);
        }
    }

    /// A controller is a nexus of the volume's unit no longer.
    pub(super) fn leave_unit_of_slot(&mut self, spec: &SlotSpec, volume: u32) {
        let (DeviceSpec::VirtioScsi { port_id, .. } | DeviceSpec::Pvscsi { port_id, .. }) = &spec.device
        else {
            return;
        };
        let peer = peer_of_slot(&spec.id.to_string(), *port_id);
        if let Some(logical) = self.volumes.unit(volume) {
            let found = logical.unit.nexuses().find(|(_, there)| **there == peer).map(|(nexus, _)| nexus);
            if let Some(nexus) = found {
                let _ = logical.unit.detach(nexus);
            }
            logical.remove_port(PortId(*port_id));
            self.volumes.dirty(volume);
            if !self.wakers.contains(&volume) {
                self.wakers.push(volume);
            }
        }
        // What waited there ends while the unit is there to say so.
        self.run_woken();
    }

    /// Modes of units that a worker of an earlier release kept with the controller.
    pub(super) fn take_bequest(&mut self, index: u32) {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        let Device::Scsi(device) = &mut slot.device else { return };
        let view = std::rc::Rc::clone(&device.view);
        for (lun, state) in std::mem::take(&mut device.bequest) {
            if let Some((volume, _)) = view.find(lun)
                && let Some(logical) = self.volumes.unit(volume)
            {
                logical.unit.inherit(&state);
                self.volumes.dirty(volume);
            }
        }
    }

    /// The machine behind a slot was powered on anew.
    pub(super) fn reset_nexuses(&mut self, index: u32) {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        let Device::Scsi(device) = &slot.device else { return };
        let view = std::rc::Rc::clone(&device.view);
        for (_, volume, nexus) in view.units.iter() {
            if let Some(logical) = self.volumes.unit(*volume) {
                // What it still has at the disks ends into memory that is held for it.
                let _ = logical.unit.nexus_reset(*nexus, Condition::POWER_ON);
                self.volumes.dirty(*volume);
                if !self.wakers.contains(volume) {
                    self.wakers.push(*volume);
                }
            }
        }
    }

    /// Hot-plug: the guest is told, and finds the LUN.
    pub fn attach_lun(&mut self, id: &SlotId, mut spec: Use) -> Result<(), Box<Unused>> {
        let number = spec.lun;
        if let Some(index) = self.find_emulated(id) {
            return self.attach_to_emulated(index, spec);
        }
        let Some(index) = self.find_slot(id) else {
            return Err(Unused::one(Problem::failed(format!("there is no slot `{id}`")), spec));
        };
        let Some(Device::Scsi(device)) = self.slots[index as usize].as_ref().map(|slot| &slot.device) else {
            let problem = Problem::invalid(format!("`{id}` is no SCSI controller"));
            return Err(Unused::one(problem.hint("LUNs go to slots of model virtio-scsi"), spec));
        };
        if device.luns().len() >= LUNS_MAX {
            let problem = Problem::invalid(format!("a controller has at most {LUNS_MAX} LUNs"))
                .at(id.to_string())
                .hint("add another slot of model virtio-scsi");
            return Err(Unused::one(problem, spec));
        }
        if let Some(there) = device.luns().get(&number)
            && self.volumes.get(there.volume).is_some_and(|volume| volume.spec.name == spec.spec.name)
        {
            return Ok(());
        }
        let volume = match self.volumes.open(&spec.spec, false) {
            Ok(volume) => volume,
            Err(problem) => return Err(Unused::one(problem, spec)),
        };
        let joined = match &self.slots[index as usize].as_ref().map(|slot| slot.spec.device.clone()) {
            Some(DeviceSpec::VirtioScsi { port_id, path, .. }) => {
                self.join_unit(id, volume, &mut spec.left, *port_id, *path)
            }
            _ => Err(Problem::failed("the slot is no controller").at(id.to_string())),
        };
        let nexus = match joined {
            Ok(nexus) => nexus,
            Err(problem) => return Err(self.give_up_volume(volume, Unused::one(problem, spec))),
        };
        if let Some(slot) = self.slots[index as usize].as_mut()
            && let Device::Scsi(device) = &mut slot.device
        {
            device.insert(number, Lun { volume, nexus });
        }
        self.luns_changed(index, number, Happening::Added);
        Ok(())
    }

    /// Hot-unplug: requests under way end, the guest is told that the LUN is gone.
    pub fn detach_lun(&mut self, id: &SlotId, number: LunAddress) -> Result<(), Problem> {
        if let Some(index) = self.find_emulated(id) {
            self.detach_from_emulated(index, number.lun);
            return Ok(());
        }
        let Some(index) = self.find_slot(id) else { return Ok(()) };
        let removed = match self.slots[index as usize].as_mut().map(|slot| &mut slot.device) {
            Some(Device::Scsi(device)) => device.remove(number),
            _ => None,
        };
        if let Some(lun) = removed {
            if let Some(spec) = self.slots[index as usize].as_ref().map(|slot| slot.spec.clone()) {
                self.leave_unit_of_slot(&spec, lun.volume);
            }
            // What the unit held back is named by it, and ends, before the unit goes.
            self.end_woken();
            self.volumes.close(lun.volume);
            self.luns_changed(index, number, Happening::Removed);
        }
        Ok(())
    }

    fn luns_changed(&mut self, index: u32, at: LunAddress, happening: Happening) {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        let mut others = Vec::new();
        if let Device::Scsi(device) = &mut slot.device {
            // The inventory is a target's own.
            let there = device.luns().iter().filter(|(other, _)| other.target == at.target && **other != at);
            others = there.map(|(_, lun)| *lun).collect();
            if slot.link.is_connected() {
                device.events.post(Event { target: at.target, lun: at.lun, happening });
            }
            device.dirty = true;
        }
        for lun in others {
            if let Some(logical) = self.volumes.unit(lun.volume) {
                logical.unit.luns_changed(lun.nexus);
                self.volumes.dirty(lun.volume);
            }
        }
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        slot.link.ledger.model.save(&slot.device.state());
        self.deliver_events(index);
    }

    /// A volume of this lane may have grown: its guest is told.
    pub fn volume_resized(&mut self, spec: &VolumeSpec) {
        let Some((volume, facts)) = self.volumes.resize(spec) else { return };
        if let Some(logical) = self.volumes.unit(volume) {
            logical.unit.resized(facts.clone());
            self.volumes.dirty(volume);
        }
        for index in 0..self.slots.len() as u32 {
            let Some(Some(slot)) = self.slots.get_mut(index as usize) else { continue };
            match &mut slot.device {
                Device::Blk(device) => {
                    let told = device.volume == volume && device.resized(facts.clone());
                    if told {
                        slot.link.notify_config_change();
                    }
                }
                Device::Scsi(_) => self.tell_slot(index, volume, Happening::Capacity),
                Device::Net(_) => {}
            }
        }
    }

    /// Something about a volume is new, which the driver of a controller should look at.
    fn tell_slot(&mut self, index: u32, volume: u32, happening: Happening) {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        let Device::Scsi(device) = &mut slot.device else { return };
        let places: Vec<LunAddress> =
            device.luns().iter().filter(|(_, lun)| lun.volume == volume).map(|(at, _)| *at).collect();
        if places.is_empty() {
            return;
        }
        for at in places {
            device.events.post(Event { target: at.target, lun: at.lun, happening });
        }
        device.dirty = true;
        slot.link.ledger.model.save(&slot.device.state());
        self.deliver_events(index);
    }

    /// The owner shows a volume differently, or lets others use it too.
    pub fn change_volume(&mut self, spec: &VolumeSpec) {
        let Some(index) = self.volumes.respecify(spec) else { return };
        if let Some(logical) = self.volumes.unit(index) {
            logical.unit.set_profile(profile_of(spec));
            self.volumes.dirty(index);
        }
    }

    /// The owner takes all reservations of a volume away. Whoever waits is told whether that is on
    /// stable storage. `None`: the volume is not open here.
    pub fn clear_reservations(&mut self, name: &str) -> Option<Receiver<bool>> {
        let volume = self.volumes.find(name)?;
        let stable_name = stable_name(&self.volumes.get(volume)?.spec);
        let logical = self.volumes.unit(volume)?;
        logical.unit.clear_reservations();
        logical.save();
        let state = logical.unit.persistent();
        self.volumes.dirty(volume);
        Some(self.stable.store_and_tell(stable_name, state))
    }
}
