//! Portals and targets, given to the lane of their group.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use control::Problem;
use control::status::{PortalStatus, Status, TargetStatus};
use control::step::{GroupSpec, PortalSpec, Step, TargetSpec};

use super::{Host, Objects, SETTLE_MAX};
use crate::lane::iscsi::{self, TargetPlan, connection_prefix, listener_name};
use crate::lane::objects::Use;

/// How long initiators have to log out when the server stops for good. docs/operating.md says so.
const GOODBYE_SECONDS: u16 = 4;

/// What the engine knows of iSCSI.
#[derive(Default)]
pub(super) struct Exports {
    portals: HashMap<String, (PortalSpec, usize)>,
    targets: HashMap<String, (TargetSpec, usize)>,
    /// What the last worker left of portals that could not be made.
    waiting: HashMap<String, HashMap<String, OwnedFd>>,
    /// Why a portal or a target cannot be used.
    portal_faults: HashMap<String, String>,
    /// By their names in the site, the iSCSI names of targets that could not be made.
    unmade: HashMap<String, String>,
    target_faults: HashMap<String, String>,
}

/// Portals and targets on their way from one lane to another.
#[derive(Default)]
pub(super) struct Released {
    portals: Vec<(PortalSpec, HashMap<String, OwnedFd>)>,
    targets: Vec<TargetSpec>,
}

impl Exports {
    /// Where the portals and targets of a group are.
    pub(super) fn lanes_of(&self, group: &GroupSpec) -> Vec<usize> {
        let portals = group.portals.iter().filter_map(|name| self.portals.get(name).map(|(_, lane)| *lane));
        let targets = group.targets.iter().filter_map(|name| self.targets.get(name).map(|(_, lane)| *lane));
        portals.chain(targets).collect()
    }

    pub(super) fn targets_of<'a>(&'a self, volume: &'a str) -> impl Iterator<Item = &'a str> {
        let uses = move |spec: &TargetSpec| spec.luns.iter().any(|lun| lun.volume == volume);
        let found = self.targets.iter().filter(move |(_, (spec, _))| uses(spec));
        found.map(|(name, _)| name.as_str())
    }
}

impl Host {
    /// Portals and targets. `None`: the step is about something else.
    pub(super) fn do_export(&self, objects: &mut Objects, step: &Step) -> Option<Result<(), Problem>> {
        let done = match step {
            Step::AddPortal(spec) => {
                let left = self.left_of_portal(objects, &spec.name);
                self.add_portal(objects, spec, left)
            }
            Step::ChangePortal(spec) => self.change_portal(objects, spec),
            Step::RemovePortal { portal } => self.remove_portal(objects, portal),
            Step::AddTarget(spec) => self.add_target(objects, spec),
            Step::ChangeTarget(spec) => self.change_target(objects, spec),
            Step::AttachTargetLun { target, lun, volume } => {
                self.attach_target_lun(objects, target, *lun, volume)
            }
            Step::DetachTargetLun { target, lun } => self
                .with_target(objects, target, {
                    let (name, lun) = (target.clone(), *lun);
                    move |lane| lane.detach_target_lun(&name, lun)
                })
                .inspect(|()| {
                    if let Some((spec, _)) = objects.exports.targets.get_mut(target) {
                        spec.luns.retain(|there| there.lun != *lun);
                    }
                }),
            Step::LeavePortal { target, portal } => self
                .with_target(objects, target, {
                    let (name, portal) = (target.clone(), portal.clone());
                    move |lane| lane.leave_portal(&name, &portal)
                })
                .inspect(|()| {
                    if let Some((spec, _)) = objects.exports.targets.get_mut(target) {
                        spec.portals.retain(|port| port.portal != *portal);
                    }
                }),
            Step::RemoveTarget { target } => {
                objects.exports.target_faults.remove(target);
                let name = target.clone();
                let removed = self.with_target(objects, target, move |lane| lane.remove_target(&name));
                objects.exports.targets.remove(target);
                if objects.exports.unmade.remove(target).is_some() {
                    self.end_strangers(objects);
                }
                removed
            }
            _ => return None,
        };
        Some(done)
    }

    fn left_of_portal(&self, objects: &mut Objects, name: &str) -> HashMap<String, OwnedFd> {
        if let Some(left) = objects.exports.waiting.remove(name) {
            return left;
        }
        let mut left = objects.estate.take_named(&connection_prefix(name));
        let listener = listener_name(name);
        if let Some(fd) = objects.estate.take(&listener) {
            left.insert(listener, fd);
        }
        left
    }

    fn add_portal(
        &self,
        objects: &mut Objects,
        spec: &PortalSpec,
        left: HashMap<String, OwnedFd>,
    ) -> Result<(), Problem> {
        if let Some(other) =
            objects.exports.portals.keys().find(|other| **other != spec.name && same_names(other, &spec.name))
        {
            return Err(Problem::conflict(format!("the keeper cannot tell `{}` from `{other}`", spec.name))
                .at(format!("portal.{}", spec.name))
                .hint("their names happen to have the same short form: give one portal another name"));
        }
        let lane = self.lane_of(objects, Some(&spec.group));
        let given = spec.clone();
        match self.lanes[lane].call(move |lane| lane.add_portal(given, left))? {
            Ok(()) => {
                objects.exports.portal_faults.remove(&spec.name);
                objects.exports.portals.insert(spec.name.clone(), (spec.clone(), lane));
                Ok(())
            }
            Err(unmade) => {
                objects.exports.portal_faults.insert(spec.name.clone(), unmade.problem.what.clone());
                if !unmade.left.is_empty() {
                    objects.exports.waiting.insert(spec.name.clone(), unmade.left);
                }
                Err(unmade.problem)
            }
        }
    }

    fn change_portal(&self, objects: &mut Objects, spec: &PortalSpec) -> Result<(), Problem> {
        let Some((_, lane)) = objects.exports.portals.get(&spec.name) else {
            let left = self.left_of_portal(objects, &spec.name);
            return self.add_portal(objects, spec, left);
        };
        let (given, lane) = (spec.clone(), *lane);
        self.lanes[lane].call(move |lane| lane.change_portal(given))??;
        objects.exports.portals.insert(spec.name.clone(), (spec.clone(), lane));
        Ok(())
    }

    fn remove_portal(&self, objects: &mut Objects, name: &str) -> Result<(), Problem> {
        objects.exports.portal_faults.remove(name);
        for kept in objects.exports.waiting.remove(name).unwrap_or_default().into_keys() {
            self.vault.forget(&kept);
        }
        let Some((_, lane)) = objects.exports.portals.remove(name) else { return Ok(()) };
        let name = name.to_owned();
        self.lanes[lane].call(move |lane| lane.remove_portal(&name))
    }

    /// The volumes of a target, ready to be opened in its lane.
    fn volumes_of_target(&self, objects: &mut Objects, spec: &TargetSpec) -> Result<Vec<Use>, Problem> {
        let mut volumes = Vec::new();
        for lun in &spec.luns {
            match self.use_of(objects, lun.lun.into(), &lun.volume) {
                Ok(of) => volumes.push(of),
                Err(problem) => {
                    Self::keep_units(objects, volumes);
                    return Err(problem);
                }
            }
        }
        // As for a slot: readers share their lock, so a successor waits for the dead lanes' rings.
        if volumes.iter().any(|volume| volume.spec.read_only)
            && let Err(error) = self.settle_fences(objects, SETTLE_MAX)
        {
            Self::keep_units(objects, volumes);
            return Err(Problem::failed(format!("the last worker's reads do not end: {error}"))
                .at(format!("target.{}", spec.name))
                .hint("a disk or its network path hangs; mend it, then apply the site again"));
        }
        Ok(volumes)
    }

    fn add_target(&self, objects: &mut Objects, spec: &TargetSpec) -> Result<(), Problem> {
        let made = self.make_target(objects, spec);
        let Exports { target_faults: faults, unmade, .. } = &mut objects.exports;
        match &made {
            Ok(lane) => {
                faults.remove(&spec.name);
                unmade.remove(&spec.name);
                objects.exports.targets.insert(spec.name.clone(), (spec.clone(), *lane));
            }
            Err(problem) => {
                faults.insert(spec.name.clone(), problem.what.clone());
                unmade.insert(spec.name.clone(), spec.iqn.as_str().to_owned());
                for lun in &spec.luns {
                    Self::keep_ledger(objects, &lun.volume);
                }
            }
        }
        made.map(|_| ())
    }

    fn make_target(&self, objects: &mut Objects, spec: &TargetSpec) -> Result<usize, Problem> {
        let plan = TargetPlan { allow: iscsi::allowed(spec)?, spec: spec.clone() };
        let volumes = self.volumes_of_target(objects, spec)?;
        let lane = self.lane_of(objects, Some(&spec.group));
        let made = self.lanes[lane].call(move |lane| lane.add_target(plan, volumes))?;
        Self::keep_unused(objects, made)?;
        Ok(lane)
    }

    fn change_target(&self, objects: &mut Objects, spec: &TargetSpec) -> Result<(), Problem> {
        let Some((old, lane)) = objects.exports.targets.get(&spec.name).cloned() else {
            let added = self.add_target(objects, spec);
            self.end_strangers(objects);
            return added;
        };
        let plan = TargetPlan { allow: iscsi::allowed(spec)?, spec: spec.clone() };
        self.lanes[lane].call(move |lane| lane.change_target(plan))??;
        let spec = TargetSpec { luns: old.luns, ..spec.clone() };
        objects.exports.targets.insert(spec.name.clone(), (spec, lane));
        Ok(())
    }

    fn attach_target_lun(
        &self,
        objects: &mut Objects,
        target: &str,
        lun: u16,
        volume: &str,
    ) -> Result<(), Problem> {
        let Some((_, lane)) = objects.exports.targets.get(target) else {
            return Err(Problem::failed(format!("target `{target}` could not be made"))
                .at(format!("target.{target}")));
        };
        let (name, lane) = (target.to_owned(), *lane);
        let volume_use = self.use_of(objects, lun.into(), volume)?;
        let attached = self.lanes[lane].call(move |lane| lane.attach_target_lun(&name, volume_use))?;
        Self::keep_unused(objects, attached)?;
        if let Some((spec, _)) = objects.exports.targets.get_mut(target) {
            spec.luns.retain(|there| there.lun != lun);
            spec.luns.push(control::step::Lun { lun, volume: volume.to_owned() });
        }
        Ok(())
    }

    /// Does something with a target where it is; nothing where it could not be made.
    fn with_target(
        &self,
        objects: &Objects,
        target: &str,
        run: impl FnOnce(&mut crate::lane::Lane) + Send + 'static,
    ) -> Result<(), Problem> {
        match objects.exports.targets.get(target) {
            Some((_, lane)) => self.lanes[*lane].call(run),
            None => Ok(()),
        }
    }

    /// The first half of bringing the portals and targets of a group into one lane: the others give
    /// them up as dying workers would.
    pub(super) fn release_exports(
        &self,
        objects: &mut Objects,
        group: &GroupSpec,
        to: usize,
    ) -> Result<Released, Problem> {
        let mut released = Released::default();
        for name in &group.portals {
            let Some((spec, lane)) = objects.exports.portals.get_mut(name) else { continue };
            spec.group.clone_from(&group.name);
            if *lane != to {
                let (spec, from, name) = (spec.clone(), *lane, name.clone());
                let left = self.lanes[from].call(move |lane| lane.release_portal(&name))??;
                objects.exports.portals.remove(&spec.name);
                released.portals.push((spec, left));
            }
        }
        for name in &group.targets {
            let Some((spec, lane)) = objects.exports.targets.get_mut(name) else { continue };
            spec.group.clone_from(&group.name);
            if *lane != to {
                let (spec, from, name) = (spec.clone(), *lane, name.clone());
                let units = self.lanes[from].call(move |lane| lane.release_target(&name))?;
                objects.exports.targets.remove(&spec.name);
                objects.units.extend(units);
                released.targets.push(spec);
            }
        }
        Ok(released)
    }

    /// The second half: they are taken up as by a successor.
    pub(super) fn take_up_exports(&self, objects: &mut Objects, released: Released) -> Result<(), Problem> {
        let mut first = Ok(());
        for (spec, left) in released.portals {
            let added = self.add_portal(objects, &spec, left);
            first = first.and(added);
        }
        for spec in released.targets {
            let added = self.add_target(objects, &spec);
            first = first.and(added);
        }
        first
    }

    /// The whole site is known: sessions that wait for a target which it does not have wait in vain.
    fn end_strangers(&self, objects: &Objects) {
        let exports = &objects.exports;
        let made = exports.targets.values().map(|(spec, _)| spec.iqn.as_str().to_owned());
        let known: Vec<String> = made.chain(exports.unmade.values().cloned()).collect();
        for lane in &self.lanes {
            let known = known.clone();
            lane.tell(move |lane| lane.end_strangers(&known));
        }
    }

    /// The stored site was taken up: initiators are let in.
    pub(super) fn open_portals(&self, objects: &Objects) {
        self.end_strangers(objects);
        for lane in &self.lanes {
            let _ = lane.call(|lane| lane.open_portals());
        }
    }

    /// The server stops for good: initiators are asked to log out, and are given some time for it.
    pub fn say_goodbye(&self) {
        let sessions =
            || self.lanes.iter().map(|lane| lane.call(|lane| lane.sessions()).unwrap_or(0)).sum::<usize>();
        if sessions() == 0 {
            return;
        }
        for lane in &self.lanes {
            let _ = lane.call(|lane| lane.ask_logouts(GOODBYE_SECONDS));
        }
        let asked = Instant::now();
        while sessions() > 0 && asked.elapsed() < Duration::from_secs(u64::from(GOODBYE_SECONDS)) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(super) fn export_faults(objects: &Objects, status: &mut Status) {
        for (name, fault) in &objects.exports.portal_faults {
            let portal: &mut PortalStatus = status.portals.entry(name.clone()).or_default();
            portal.fault = Some(fault.clone());
        }
        for (name, fault) in &objects.exports.target_faults {
            let target: &mut TargetStatus = status.targets.entry(name.clone()).or_default();
            target.fault = Some(fault.clone());
        }
    }
}

fn same_names(a: &str, b: &str) -> bool {
    connection_prefix(a) == connection_prefix(b)
}
