//! The part of a plan that is about portals, targets and groups.

use super::{Plan, without_number};
use crate::problem::Problem;
use crate::site::Site;
use crate::site::export::port_key;
use crate::site::group::Groups;
use crate::step::{GroupSpec, Lun, Step, TargetSpec};
use std::collections::{BTreeMap, BTreeSet};

impl Plan {
    pub(super) fn portals(&mut self, current: &Site, desired: &Site, groups: &Groups) {
        for name in current.portal.keys() {
            if !desired.portal.contains_key(name) {
                self.close.push(Step::RemovePortal { portal: name.clone() });
            }
        }
        let mut fresh = Vec::new();
        for (name, portal) in &desired.portal {
            let Some(spec) = desired.portal_spec_in(name, groups) else {
                continue;
            };
            let Some(old) = current.portal.get(name) else {
                fresh.push(Step::AddPortal(spec));
                continue;
            };
            if old.listen == portal.listen {
                continue;
            }
            // One that goes is gone by then; one that changes may not be.
            let mut others = current.portal.iter().filter(|(other, _)| *other != name);
            let taken = others.find(|(other, there)| {
                desired.portal.contains_key(*other) && there.listen.overlaps(portal.listen)
            });
            if let Some((other, _)) = taken {
                self.problems.push(
                    Problem::conflict(format!(
                        "portal `{name}` is to take the address {} that portal `{other}` has",
                        portal.listen
                    ))
                    .at(format!("portal.{name}.listen"))
                    .hint(format!(
                        "give portal `{other}` its new address and apply, then this one and apply"
                    )),
                );
                continue;
            }
            self.open.push(Step::ChangePortal(spec));
        }
        // After those that make room.
        self.open.extend(fresh);
    }

    pub(super) fn targets(&mut self, current: &Site, desired: &Site, groups: &(Groups, Groups)) {
        for name in current.target.keys() {
            if !desired.target.contains_key(name) {
                self.leave.push(Step::RemoveTarget { target: name.clone() });
            }
        }
        for name in desired.target.keys() {
            let Some(new) = desired.target_spec_in(name, &groups.1) else {
                self.problems.push(without_number("target", name));
                continue;
            };
            match current.target_spec_in(name, &groups.0) {
                None => self.arrive.push(Step::AddTarget(new)),
                Some(old) => self.target(old, new),
            }
        }
    }

    fn target(&mut self, old: TargetSpec, new: TargetSpec) {
        let target = || new.name.clone();
        let renumbered = old.portals.iter().any(|was| {
            let is = new.portals.iter().find(|is| is.portal == was.portal);
            is.is_some_and(|is| (is.tpgt, is.port_id) != (was.tpgt, was.port_id))
        });
        if old.iqn != new.iqn || renumbered {
            self.leave.push(Step::RemoveTarget { target: target() });
            self.arrive.push(Step::AddTarget(new));
            return;
        }
        for was in &old.portals {
            if !new.portals.iter().any(|is| is.portal == was.portal) {
                self.leave.push(Step::LeavePortal { target: target(), portal: was.portal.clone() });
            }
        }
        let missing = |lun: &&Lun, from: &[Lun]| !from.contains(lun);
        for lun in old.luns.iter().filter(|lun| missing(lun, &new.luns)) {
            self.leave.push(Step::DetachTargetLun { target: target(), lun: lun.lun });
        }
        let mut left = old.clone();
        left.portals.retain(|was| new.portals.iter().any(|is| is.portal == was.portal));
        left.luns.clone_from(&new.luns);
        left.group.clone_from(&new.group);
        if left != new {
            // Before the LUNs, so that nobody sees one that it is not to see.
            self.arrive.push(Step::ChangeTarget(new.clone()));
        }
        for lun in new.luns.iter().filter(|lun| missing(lun, &old.luns)) {
            self.arrive.push(Step::AttachTargetLun {
                target: target(),
                lun: lun.lun,
                volume: lun.volume.clone(),
            });
        }
    }

    /// Brings together what stays and is to be joined: by each other, or by
    /// what comes. What is there by itself and stays so has nobody to be with,
    /// whatever the name of its group is now. The steps must have been planned.
    pub(super) fn groups(&mut self, current: &Site, desired: &Site, groups: &Groups) {
        // Groups that something new comes to, and groups with new ties.
        let (mut enlarged, mut tied) = (BTreeSet::new(), BTreeSet::new());
        let mut stay: BTreeMap<String, GroupSpec> = BTreeMap::new();
        let mut new = BTreeSet::new();
        for step in self.open.iter().chain(&self.arrive) {
            match step {
                Step::AddSlot(spec) => {
                    enlarged.extend(spec.group.clone());
                    new.insert(format!("slot {}", spec.id));
                }
                Step::AddPortal(spec) => {
                    enlarged.insert(spec.group.clone());
                    new.insert(format!("portal {}", spec.name));
                }
                Step::AddTarget(spec) => {
                    enlarged.insert(spec.group.clone());
                    new.insert(format!("target {}", spec.name));
                }
                Step::ChangeTarget(spec) => {
                    let before = current.target.get(&spec.name);
                    let comes = |portal: &String| before.is_none_or(|b| !b.portals.0.contains_key(portal));
                    if spec.portals.iter().any(|portal| comes(&portal.portal)) {
                        tied.insert(spec.group.clone());
                    }
                }
                Step::AttachLun { slot, volume, .. } if desired.is_shared(volume) => {
                    tied.extend(groups.of_slot(slot).map(str::to_owned));
                }
                Step::AttachTargetLun { target, volume, .. } if desired.is_shared(volume) => {
                    tied.extend(groups.of_target(target).map(str::to_owned));
                }
                _ => {}
            }
        }
        let mut member = |group: Option<&str>, add: &mut dyn FnMut(&mut GroupSpec)| {
            if let Some(name) = group {
                add(stay.entry(name.to_owned()).or_insert_with(|| GroupSpec {
                    name: name.to_owned(),
                    slots: Vec::new(),
                    targets: Vec::new(),
                    portals: Vec::new(),
                }));
            }
        };
        for (id, _) in current.slots().filter(|(id, _)| !new.contains(&format!("slot {id}"))) {
            member(groups.of_slot(&id), &mut |group| group.slots.push(id.clone()));
        }
        for name in current.target.keys().filter(|name| !new.contains(&format!("target {name}"))) {
            member(groups.of_target(name), &mut |group| group.targets.push(name.clone()));
        }
        for name in current.portal.keys() {
            member(groups.of_portal(name), &mut |group| group.portals.push(name.clone()));
        }
        stay.retain(|name, group| {
            let members = group.slots.len() + group.targets.len() + group.portals.len();
            enlarged.contains(name) || tied.contains(name) && members > 1
        });
        self.together.extend(stay.into_values().map(Step::Regroup));
    }
}

impl Site {
    fn is_shared(&self, volume: &str) -> bool {
        self.disk.get(volume).is_some_and(|volume| volume.shared)
    }

    /// [`Site::advance`] for portals and targets.
    pub(super) fn advance_exports(&mut self, desired: &Site, step: &Step) {
        match step {
            Step::AddPortal(spec) | Step::ChangePortal(spec) => {
                if let Some(portal) = desired.portal.get(&spec.name) {
                    self.portal.insert(spec.name.clone(), portal.clone());
                    take(&mut self.identity.portal_group, &desired.identity.portal_group, &spec.name);
                }
            }
            Step::RemovePortal { portal } => {
                self.portal.remove(portal);
            }
            Step::AddTarget(spec) | Step::ChangeTarget(spec) => {
                let Some(target) = desired.target.get(&spec.name) else {
                    return;
                };
                let mut target = target.clone();
                if matches!(step, Step::ChangeTarget(_))
                    && let Some(old) = self.target.get(&spec.name)
                {
                    target.luns = old.luns.clone();
                }
                for portal in target.portals.0.keys() {
                    self.take_port(desired, &port_key(&spec.name, portal));
                }
                self.target.insert(spec.name.clone(), target);
            }
            Step::AttachTargetLun { target, lun, volume } => {
                if let Some(target) = self.target.get_mut(target) {
                    target.luns.0.insert(*lun, volume.clone());
                }
            }
            Step::DetachTargetLun { target, lun } => {
                if let Some(target) = self.target.get_mut(target) {
                    target.luns.0.remove(lun);
                }
            }
            Step::LeavePortal { target, portal } => {
                if let Some(target) = self.target.get_mut(target) {
                    target.portals.0.remove(portal);
                }
            }
            Step::RemoveTarget { target } => {
                self.target.remove(target);
            }
            _ => {}
        }
    }

    /// The number of a port, which nothing else has then.
    pub(super) fn take_port(&mut self, desired: &Site, key: &str) {
        take(&mut self.identity.port, &desired.identity.port, key);
    }
}

fn take(into: &mut BTreeMap<String, u16>, from: &BTreeMap<String, u16>, key: &str) {
    if let Some(id) = from.get(key) {
        into.retain(|_, there| there != id);
        into.insert(key.to_owned(), *id);
    }
}
