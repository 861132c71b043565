//! Emulated slots come, change and go.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;

use control::Problem;
use control::site::SlotId;
use control::status::{Quarantined, SlotStatus};
use control::step::{Device as DeviceSpec, SlotSpec};
use pvscsi::Hotplug;
use request::Mac;

use super::super::Lane;
use super::super::device::Lun;
use super::super::luns::port_of;
use super::super::net::Target;
use super::super::objects::{Unmade, Unused, Use, free_place, no_port};
use super::super::requests::Origin;
use super::super::unit::Left;
use super::model::{Model, ScsiModel};
use super::slot::{Slot, blamed_as};
use crate::blame;
use crate::engine::Report;

/// Targets of one controller.
const TARGETS_MAX: u16 = 64;

impl Lane {
    pub(in super::super) fn find_emulated(&self, id: &SlotId) -> Option<u32> {
        let same = |slot: &Option<Box<Slot>>| slot.as_ref().is_some_and(|slot| slot.spec.id == *id);
        self.emulated.slots.iter().position(same).map(|index| index as u32)
    }

    pub(in super::super) fn add_emulated(
        &mut self,
        spec: SlotSpec,
        volumes: Vec<Use>,
        mut left: HashMap<String, OwnedFd>,
    ) -> Result<(), Box<Unmade>> {
        let resumed = !left.is_empty();
        let requests = &self.requests;
        let index = free_place(&mut self.emulated.slots, |at| requests.has_of_emulated(at));
        let mut opened = Vec::new();
        let mut unused = Vec::new();
        let given = spec.clone();
        let made = self.make_emulated(index, spec, volumes, resumed, &mut left, &mut opened, &mut unused);
        self.blame_nobody();
        match made {
            Ok(slot) => {
                let begun = slot.link.is_connected() && !slot.quarantined;
                self.emulated.slots[index as usize] = Some(Box::new(slot));
                self.tell_link(index);
                if begun {
                    self.activate_emulated(index);
                    self.emulated.stage(index);
                } else {
                    self.give_up_begun_emulated(index);
                }
                Ok(())
            }
            Err(problem) => {
                self.forget_port(Target::Emulated(index));
                Err(self.unmade(&given, resumed, opened, Unused { problem, units: unused }, left))
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one caller, whose variables these are")]
    fn make_emulated(
        &mut self,
        index: u32,
        spec: SlotSpec,
        volumes: Vec<Use>,
        resumed: bool,
        left: &mut HashMap<String, OwnedFd>,
        opened: &mut Vec<u32>,
        unused: &mut Vec<Use>,
    ) -> Result<Slot, Problem> {
        let now = self.now;
        let name = spec.id.to_string();
        match &spec.device {
            DeviceSpec::Nic { network, mac, tagging, .. } => {
                let Some(number) = self.networks.find(network) else {
                    return Err(Problem::failed(format!("network `{network}` is not in this lane")).at(name));
                };
                let Some(found) = self.networks.get(number) else { unreachable!("it was just found") };
                let config = found.port_config(tagging, Some(Mac(mac.0)));
                let port = found.switch.add_port(config).map_err(|refused| no_port(&name, &refused))?;
                found.set_target(port, Target::Emulated(index), &name);
                let given = spec.clone();
                let make = move |hot| {
                    Model::nic(&given, number, port, hot).expect("the device of the slot is a NIC")
                };
                Slot::new(index, spec, make, left, &self.vault, &self.wait, now)
            }
            DeviceSpec::Pvscsi { port_id, path, .. } => {
                let mut volumes = volumes.into_iter();
                let mut luns = Vec::new();
                while let Some(mut at) = volumes.next() {
                    let joined = match self.volumes.open(&at.spec, resumed) {
                        Ok(volume) => {
                            opened.push(volume);
                            let nexus = self.join_unit(&spec.id, volume, &mut at.left, *port_id, *path);
                            nexus.map(|nexus| (at.lun.lun, Lun { volume, nexus }))
                        }
                        Err(problem) => Err(problem),
                    };
                    match joined {
                        Ok(lun) => luns.push(lun),
                        Err(problem) => {
                            unused.push(at);
                            unused.extend(volumes);
                            return Err(problem);
                        }
                    }
                }
                let make = |hot| Model::Scsi(Box::new(ScsiModel::new(&name, hot, luns)));
                Slot::new(index, spec, make, left, &self.vault, &self.wait, now)
            }
            _ => unreachable!("the caller asks for emulated devices only"),
        }
    }

    /// Takes a slot out of the lane; its volumes stay open.
    fn take_emulated(&mut self, index: u32) -> Option<(Box<Slot>, Vec<u32>)> {
        let mut slot = self.emulated.slots.get_mut(index as usize)?.take()?;
        blame::strike_off(blamed_as(index));
        self.forget_port(Target::Emulated(index));
        self.emulated.active.retain(|there| *there != index);
        self.emulated.staged.retain(|there| *there != index);
        self.emulated.watch.remove(index);
        let luns = slot.scsi().map(|model| model.luns().values().map(|lun| lun.volume).collect());
        Some((slot, luns.unwrap_or_default()))
    }

    pub(in super::super) fn remove_emulated(&mut self, index: u32) {
        if let Some((slot, volumes)) = self.take_emulated(index) {
            for volume in &volumes {
                self.leave_unit_of_slot(&slot.spec, *volume);
            }
            // What the units held back is named by them, and ends, before they go.
            self.end_woken();
            for volume in volumes {
                self.volumes.close(volume);
            }
            slot.remove(&self.wait);
        }
    }

    /// Gives a slot up as a dying worker would.
    #[expect(clippy::type_complexity, reason = "two maps: descriptors by name, units by volume")]
    pub(in super::super) fn release_emulated(
        &mut self,
        index: u32,
    ) -> Result<(HashMap<String, OwnedFd>, HashMap<String, Left>), Problem> {
        self.emulated.active.retain(|there| *there != index);
        if let Some(slot) = self.emulated.get(index) {
            slot.active = false;
        }
        self.emulated.watch.remove(index);
        if !self.rest(|origin| matches!(origin, Origin::Adapter { slot, .. } if slot == index)) {
            self.activate_emulated(index);
            return Err(Problem::failed("the slot's requests do not end; a store hangs")
                .hint("mend the store, then apply the site again"));
        }
        self.publish();
        let Some((slot, volumes)) = self.take_emulated(index) else {
            return Err(Problem::failed("there is no such slot"));
        };
        let mut units = HashMap::new();
        for volume in volumes {
            let name = self.volumes.get(volume).map(|open| open.spec.name.clone());
            if let (Some(name), Some(left)) = (name, self.volumes.release_unit(volume)) {
                units.insert(name, left);
            }
            self.volumes.close(volume);
        }
        Ok((slot.release(&self.wait), units))
    }

    pub(in super::super) fn change_emulated(&mut self, index: u32, spec: SlotSpec) -> Result<(), Problem> {
        let Some(slot) = self.emulated.slots[index as usize].as_mut() else { return Ok(()) };
        if let Some(user) = &spec.user
            && slot.spec.user.as_ref() != Some(user)
        {
            host::process::give_to_user(&spec.socket, user).map_err(|error| {
                Problem::failed(format!("cannot give the socket to `{user}`: {error}"))
                    .at(spec.id.to_string())
            })?;
        }
        let name = spec.id.to_string();
        if let (Model::Nic(model), DeviceSpec::Nic { network, mac, tagging, .. }) =
            (&mut slot.model, &spec.device)
        {
            let Some(number) = self.networks.find(network) else {
                return Err(Problem::failed(format!("network `{network}` is not in this lane")));
            };
            let Some(found) = self.networks.get(number) else { unreachable!("it was just found") };
            let config = found.port_config(tagging, Some(Mac(mac.0)));
            if number == model.network {
                let changed = found.switch.change_port(model.port, config);
                changed.map_err(|refused| no_port(&name, &refused))?;
            } else {
                let port = found.switch.add_port(config).map_err(|refused| no_port(&name, &refused))?;
                found.set_target(port, Target::Emulated(index), &name);
                if let Some(old) = self.networks.get(model.network) {
                    old.switch.remove_port(model.port);
                    old.set_target(model.port, Target::Nobody, "");
                }
                (model.network, model.port) = (number, port);
                self.tell_link(index);
            }
        }
        let Some(slot) = self.emulated.slots[index as usize].as_mut() else { return Ok(()) };
        slot.spec = spec.clone();
        if let DeviceSpec::Pvscsi { port_id, path, .. } = &spec.device {
            for (volume, _) in self.nexuses_of_emulated(index) {
                if let Some(logical) = self.volumes.unit(volume) {
                    logical.set_port(port_of(&name, *port_id, *path));
                    self.volumes.dirty(volume);
                }
            }
        }
        Ok(())
    }

    /// Hot-plug: the guest is told, and finds the target.
    pub(in super::super) fn attach_to_emulated(
        &mut self,
        index: u32,
        mut of: Use,
    ) -> Result<(), Box<Unused>> {
        // The site's number is the target's.
        let target = of.lun.lun;
        let spec = self.emulated.get(index).map(|slot| slot.spec.clone());
        let Some((id, DeviceSpec::Pvscsi { port_id, path, .. })) = spec.map(|spec| (spec.id, spec.device))
        else {
            return Err(Unused::one(Problem::invalid("the slot is no SCSI controller"), of));
        };
        if target >= TARGETS_MAX {
            let problem = Problem::invalid(format!("a controller has at most {TARGETS_MAX} targets"));
            return Err(Unused::one(problem.at(id.to_string()).hint("add another slot"), of));
        }
        let there = self
            .emulated
            .get(index)
            .and_then(Slot::scsi)
            .and_then(|model| model.luns().get(&target).map(|lun| lun.volume));
        if let Some(volume) = there
            && self.volumes.get(volume).is_some_and(|volume| volume.spec.name == of.spec.name)
        {
            return Ok(());
        }
        let volume = match self.volumes.open(&of.spec, false) {
            Ok(volume) => volume,
            Err(problem) => return Err(Unused::one(problem, of)),
        };
        let nexus = match self.join_unit(&id, volume, &mut of.left, port_id, path) {
            Ok(nexus) => nexus,
            Err(problem) => return Err(self.give_up_volume(volume, Unused::one(problem, of))),
        };
        if let Some(model) = self.emulated.get(index).and_then(Slot::scsi) {
            model.insert(target, Lun { volume, nexus });
        }
        self.tell_adapter(index, Hotplug::Added { target: target as u8, lun: 0 });
        Ok(())
    }

    /// Hot-unplug: requests under way end, the guest is told that the target is gone.
    pub(in super::super) fn detach_from_emulated(&mut self, index: u32, target: u16) {
        let Some(slot) = self.emulated.get(index) else { return };
        let spec = slot.spec.clone();
        let Some(lun) = slot.scsi().and_then(|model| model.remove(target)) else { return };
        self.leave_unit_of_slot(&spec, lun.volume);
        // What the unit held back is named by it, and ends, before the unit goes.
        self.end_woken();
        self.volumes.close(lun.volume);
        self.tell_adapter(index, Hotplug::Removed { target: target as u8, lun: 0 });
    }

    fn tell_adapter(&mut self, index: u32, hotplug: Hotplug) {
        if let Some(slot) = self.emulated.get(index)
            && !slot.quarantined
            && slot.link.is_connected()
            && let Some(model) = slot.scsi()
        {
            model.adapter.post_message(hotplug);
            slot.save();
            self.emulated.stage(index);
        }
    }

    pub(in super::super) fn report_emulated(&self, report: &mut Report) {
        for slot in self.emulated.slots.iter().flatten() {
            if slot.quarantined {
                report.quarantined.push(Quarantined {
                    slot: slot.spec.id.clone(),
                    reason: format!(
                        "its device brought the server down {} times within a minute",
                        blame::DEATHS_MAX
                    ),
                });
            }
            let counters: BTreeMap<String, u64> = slot.report().collect();
            let model = slot.spec.device.model();
            let connected = slot.link.is_connected();
            let status = SlotStatus { model, connected, queues: slot.spec.queues.into(), counters };
            report.slots.insert(slot.link.name.clone(), status);
        }
    }
}
