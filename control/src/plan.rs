//! From one site to another: the ordered steps, and what each has reached.
//!
//! The order is the one in which every step finds what it needs: what uses a
//! thing goes before the thing goes, and comes after it has come. LUNs, slots
//! and targets leave first; what is to be together is brought together; then
//! uplinks, volumes and portals go; volumes, networks and portals come, then
//! uplinks, then slots, targets and LUNs; a network goes last, when no port is
//! left on it.

mod export;

use crate::problem::Problem;
use crate::site::group::Groups;
use crate::site::{Site, SlotId};
use crate::step::{Device, SlotLun, SlotSpec, Step, VolumeSpec};

/// The steps that lead from `current` to `desired`; none if they mean the
/// same. Volumes must have their identity (see [`Site::assign_identities`]).
pub fn plan(current: &Site, desired: &Site) -> Result<Vec<Step>, Problem> {
    if let Some(problem) = Problem::from_list(desired.check()) {
        return Err(problem);
    }
    let mut plan = Plan::default();
    plan.stores(current, desired);
    plan.volumes(current, desired);
    plan.networks(current, desired);
    let groups = (current.groups(), desired.groups());
    plan.portals(current, desired, &groups.1);
    plan.slots(current, desired, &groups);
    plan.targets(current, desired, &groups);
    plan.groups(current, desired, &groups.1);
    if let Some(problem) = Problem::from_list(plan.problems) {
        return Err(problem);
    }
    let mut steps = Vec::new();
    if current.server != desired.server {
        steps.push(Step::ConfigureServer(desired.server.clone()));
    }
    steps.extend(plan.leave);
    steps.extend(plan.together);
    steps.extend(plan.close);
    steps.extend(plan.open);
    steps.extend(plan.arrive);
    steps.extend(plan.last);
    Ok(steps)
}

#[derive(Default)]
struct Plan {
    /// Slots, targets and LUNs that go.
    leave: Vec<Step>,
    /// Groups that come together.
    together: Vec<Step>,
    /// Uplinks, volumes and portals that go.
    close: Vec<Step>,
    /// Volumes, networks, uplinks and portals that come or change.
    open: Vec<Step>,
    /// Slots, targets and LUNs that come or change.
    arrive: Vec<Step>,
    /// Networks that go.
    last: Vec<Step>,
    problems: Vec<Problem>,
}

fn without_number(sort: &str, name: &str) -> Problem {
    Problem::failed(format!("{sort} `{name}` has a port without a number"))
        .at(name)
        .hint("there are more than 65,535 ports, or this is a fault in Standpipe: numbers are given before a plan is made")
}

fn without_identity(name: &str) -> Problem {
    Problem::failed(format!("volume `{name}` has no identity"))
        .at(format!("disk.{name}"))
        .hint("this is a fault in Standpipe: identities are assigned before a plan is made")
}

impl Plan {
    fn stores(&mut self, current: &Site, desired: &Site) {
        for (name, store) in &desired.store {
            let old = current.store.get(name);
            let holds = |(_, volume): &(&String, &crate::site::Volume)| {
                volume.store.as_deref() == Some(name.as_str())
            };
            if let Some(old) = old
                && old.directory != store.directory
                && let Some((volume, _)) = current.disk.iter().find(holds)
            {
                self.problems.push(
                    Problem::conflict(format!(
                        "the directory of store `{name}` cannot change while it holds volumes, such as `{volume}`"
                    ))
                    .at(format!("store.{name}.directory"))
                    .hint("remove the volumes (their data stays), move the files, then add the volumes with the new directory"),
                );
            }
        }
    }

    fn volumes(&mut self, current: &Site, desired: &Site) {
        for name in current.disk.keys() {
            if !desired.disk.contains_key(name) {
                self.close.push(Step::RemoveVolume { volume: name.clone() });
            }
        }
        for name in desired.disk.keys() {
            let Some(new) = desired.volume_spec(name) else {
                self.problems.push(without_identity(name));
                continue;
            };
            if !current.disk.contains_key(name) {
                self.open.push(Step::CreateVolume(new));
                continue;
            }
            match current.volume_spec(name) {
                Some(old) => self.volume(current, desired, &old, new),
                None => self.problems.push(without_identity(name)),
            }
        }
    }

    fn volume(&mut self, current: &Site, desired: &Site, old: &VolumeSpec, new: VolumeSpec) {
        let name = &new.name;
        if let (Some(before), Some(after)) = (old.size, new.size)
            && after < before
            && old.backing == new.backing
        {
            let (before, after) = (crate::site::Size(before), crate::site::Size(after));
            self.problems.push(
                Problem::conflict(format!(
                    "volume `{name}` cannot shrink from {before} to {after}"
                ))
                .at(format!("disk.{name}.size"))
                .hint("shrinking would cut off data: make a smaller volume and copy the data to it from within a guest"),
            );
            return;
        }
        let same_policy =
            VolumeSpec { shared: new.shared, thin_threshold: new.thin_threshold, ..old.clone() };
        let in_place = VolumeSpec { size: new.size, ..same_policy.clone() };
        if in_place == new {
            if same_policy != *old {
                self.open.push(Step::ChangeVolume(VolumeSpec { size: old.size, ..new.clone() }));
            }
            match (old.size, new.size) {
                (before, Some(size)) if before != Some(size) => {
                    self.open.push(Step::GrowVolume { volume: name.clone(), size });
                }
                _ => {}
            }
            return;
        }
        if let Some(user) = current.user_of(name)
            && desired.user_of(name).is_some()
        {
            let mut changed = Vec::new();
            if old.backing != new.backing {
                changed.push("place");
            }
            if old.kind != new.kind {
                changed.push("kind");
            }
            if old.block_size != new.block_size {
                changed.push("block_size");
            }
            if old.physical_block_size != new.physical_block_size {
                changed.push("physical_block_size");
            }
            if old.removable != new.removable && old.kind == new.kind {
                changed.push("removable");
            }
            if old.read_only != new.read_only {
                changed.push("read_only");
            }
            if old.naa != new.naa {
                changed.push("naa");
            }
            if old.serial != new.serial {
                changed.push("serial");
            }
            self.problems.push(
                Problem::conflict(format!(
                    "volume `{name}` cannot change its {} while it is attached to {user}",
                    changed.join(", ")
                ))
                .at(format!("disk.{name}"))
                .hint(format!("take it out of {user} and apply, then change it, attach it again and apply")),
            );
            return;
        }
        self.close.push(Step::RemoveVolume { volume: name.clone() });
        self.open.push(Step::CreateVolume(new));
    }

    fn networks(&mut self, current: &Site, desired: &Site) {
        for (name, network) in &current.network {
            let new = desired.network.get(name);
            for uplink in network.uplink.keys() {
                let kept = new.and_then(|n| n.uplink.get(uplink));
                let old = network.uplink.get(uplink).map(|u| u.spec(name, uplink));
                let same_port = kept.map(|u| u.spec(name, uplink)).zip(old);
                if !same_port.is_some_and(|(new, old)| new.tap == old.tap && new.queues == old.queues) {
                    self.close.push(Step::RemoveUplink { network: name.clone(), uplink: uplink.clone() });
                }
            }
            if new.is_none() {
                self.last.push(Step::RemoveNetwork { network: name.clone() });
            }
        }
        for (name, network) in &desired.network {
            let old = current.network.get(name);
            let spec = network.spec(name);
            match old {
                None => self.open.push(Step::AddNetwork(spec)),
                Some(old) if old.spec(name) != spec => self.open.push(Step::ChangeNetwork(spec)),
                Some(_) => {}
            }
            for (uplink_name, uplink) in &network.uplink {
                let spec = uplink.spec(name, uplink_name);
                let old = old.and_then(|n| n.uplink.get(uplink_name)).map(|u| u.spec(name, uplink_name));
                match old {
                    Some(old) if old == spec => {}
                    Some(old) if old.tap == spec.tap && old.queues == spec.queues => {
                        self.open.push(Step::ChangeUplink(spec));
                    }
                    _ => self.open.push(Step::AddUplink(spec)),
                }
            }
        }
    }

    fn slots(&mut self, current: &Site, desired: &Site, groups: &(Groups, Groups)) {
        for (id, _) in current.slots() {
            if desired.slot(&id).is_none() {
                self.leave.push(Step::RemoveSlot { slot: id });
            }
        }
        for (id, _) in desired.slots() {
            let Some(new) = desired.slot_spec_in(&id, &groups.1) else {
                self.problems.push(without_number("slot", &id.to_string()));
                continue;
            };
            match current.slot_spec_in(&id, &groups.0) {
                None => self.arrive.push(Step::AddSlot(new)),
                Some(old) => self.slot(&id, old, new),
            }
        }
    }

    fn slot(&mut self, id: &SlotId, old: SlotSpec, new: SlotSpec) {
        if old == new {
            return;
        }
        let same_place = old.socket == new.socket
            && old.queues == new.queues
            && old.device.rom() == new.device.rom()
            && old.device.msix() == new.device.msix();
        match (&old.device, &new.device) {
            (
                Device::VirtioScsi { luns: before, port_id: was, path: from },
                Device::VirtioScsi { luns: after, port_id: is, path: to },
            )
            | (
                Device::Pvscsi { luns: before, port_id: was, path: from, .. },
                Device::Pvscsi { luns: after, port_id: is, path: to, .. },
            ) if same_place && was == is => {
                let changed = old.user != new.user
                    || from != to
                    || old.device.maps_doorbells() != new.device.maps_doorbells();
                self.luns(id, before, after);
                if changed {
                    self.arrive.push(Step::ChangeSlot(new));
                }
            }
            (Device::VirtioBlk { volume: before }, Device::VirtioBlk { volume: after })
                if same_place && before == after =>
            {
                self.arrive.push(Step::ChangeSlot(new));
            }
            (Device::VirtioNet { mac: before, .. }, Device::VirtioNet { mac: after, .. })
                if same_place && before == after =>
            {
                self.arrive.push(Step::ChangeSlot(new));
            }
            (Device::Nic { model: was, mac: before, .. }, Device::Nic { model: is, mac: after, .. })
                if same_place && was == is && before == after =>
            {
                self.arrive.push(Step::ChangeSlot(new));
            }
            _ => {
                self.leave.push(Step::RemoveSlot { slot: id.clone() });
                self.arrive.push(Step::AddSlot(new));
            }
        }
    }

    fn luns(&mut self, id: &SlotId, before: &[SlotLun], after: &[SlotLun]) {
        for lun in before.iter().filter(|lun| !after.contains(lun)) {
            self.leave.push(Step::DetachLun { slot: id.clone(), lun: lun.lun });
        }
        for lun in after.iter().filter(|lun| !before.contains(lun)) {
            self.arrive.push(Step::AttachLun { slot: id.clone(), lun: lun.lun, volume: lun.volume.clone() });
        }
    }
}

impl Site {
    /// Takes into `self`, which stands between two sites, what a performed
    /// step has brought from `desired`. If the steps end early, planning from
    /// here to `desired` gives the rest. What belongs to many steps at once
    /// (the server's settings, a VM's user) is only new when all are done, so
    /// that none of its steps is forgotten.
    pub(crate) fn advance(&mut self, desired: &Site, step: &Step) {
        for (name, store) in &desired.store {
            let stores = &mut self.store;
            stores.entry(name.clone()).or_insert_with(|| store.clone());
        }
        match step {
            Step::ConfigureServer(_) => {}
            Step::CreateVolume(spec) => self.take_volume(desired, &spec.name),
            Step::ChangeVolume(spec) => {
                // Its size may be yet to come.
                let old = self.disk.get(&spec.name).map(|volume| volume.size);
                self.take_volume(desired, &spec.name);
                if let (Some(volume), Some(old)) = (self.disk.get_mut(&spec.name), old) {
                    volume.size = old;
                }
            }
            Step::GrowVolume { volume, .. } => self.take_volume(desired, volume),
            Step::RemoveVolume { volume } => {
                self.disk.remove(volume);
            }
            Step::AddNetwork(spec) | Step::ChangeNetwork(spec) => {
                if let Some(new) = desired.network.get(&spec.name) {
                    let uplink = self.network.remove(&spec.name).map(|old| old.uplink);
                    let mut network = new.clone();
                    network.uplink = uplink.unwrap_or_default();
                    self.network.insert(spec.name.clone(), network);
                }
            }
            Step::RemoveNetwork { network } => {
                self.network.remove(network);
            }
            Step::AddUplink(spec) | Step::ChangeUplink(spec) => {
                let new = desired.network.get(&spec.network);
                let new = new.and_then(|network| network.uplink.get(&spec.name));
                if let (Some(network), Some(new)) = (self.network.get_mut(&spec.network), new) {
                    network.uplink.insert(spec.name.clone(), new.clone());
                }
            }
            Step::RemoveUplink { network, uplink } => {
                if let Some(network) = self.network.get_mut(network) {
                    network.uplink.remove(uplink);
                }
            }
            Step::AddSlot(spec) | Step::ChangeSlot(spec) => {
                let Some(new) = desired.vm.get(&spec.id.vm) else {
                    return;
                };
                let vm = self.vm.entry(spec.id.vm.clone()).or_insert_with(|| {
                    let mut vm = new.clone();
                    vm.slots.clear();
                    vm
                });
                if let Some(slot) = new.slots.get(&spec.id.slot) {
                    vm.slots.insert(spec.id.slot.clone(), slot.clone());
                }
                self.take_port(desired, &spec.id.to_string());
            }
            Step::RemoveSlot { slot } => {
                if let Some(vm) = self.vm.get_mut(&slot.vm) {
                    vm.slots.remove(&slot.slot);
                }
            }
            Step::AttachLun { slot, lun, volume } => {
                if let Some(slot) = self.slot_mut(slot) {
                    let luns = slot.volumes.get_or_insert_default();
                    luns.0.insert(*lun, volume.clone());
                }
            }
            Step::DetachLun { slot, lun } => {
                if let Some(luns) = self.slot_mut(slot).and_then(|slot| slot.volumes.as_mut()) {
                    luns.0.remove(lun);
                }
            }
            // What is together follows from the rest.
            Step::Regroup(_) => {}
            Step::AddPortal(_)
            | Step::ChangePortal(_)
            | Step::RemovePortal { .. }
            | Step::AddTarget(_)
            | Step::ChangeTarget(_)
            | Step::AttachTargetLun { .. }
            | Step::DetachTargetLun { .. }
            | Step::LeavePortal { .. }
            | Step::RemoveTarget { .. } => self.advance_exports(desired, step),
        }
    }

    fn take_volume(&mut self, desired: &Site, name: &str) {
        if let Some(volume) = desired.disk.get(name) {
            self.disk.insert(name.to_owned(), volume.clone());
        }
    }
}
