//! What the control plane does to the iSCSI side of a lane.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;

use control::step::{ChapSpec, PortalSpec, TargetSpec};
use control::{Problem, Secret};
use iscsi_target::{Allow, Claim, ConnectionId, Credentials};
use scsi::{Nexus, Peer, PortId, PortName, TargetPort, TransportId};

use super::super::Lane;
use super::super::objects::{Unused, Use};
use super::super::requests::Origin;
use super::super::scsi::View;
use super::super::unit::{Left, state_of};
use super::portal::{Portal, connection_prefix, listener_name};
use super::session::{Phase, Session};
use super::{Counters, Target};
use crate::engine::Report;

/// A target with the secrets of its access list.
pub struct TargetPlan {
    pub spec: TargetSpec,
    pub allow: Vec<Allow>,
}

/// A portal that could not be made, with what the last worker left of it.
pub struct Unlistened {
    pub problem: Problem,
    pub left: HashMap<String, OwnedFd>,
}

/// Reads the secrets of a target. Not on a lane's thread: files may be slow.
pub fn allowed(spec: &TargetSpec) -> Result<Vec<Allow>, Problem> {
    let credentials = |chap: &Option<ChapSpec>| match chap {
        None => Ok(None),
        Some(chap) => {
            let secret = Secret::read(&chap.secret_file)?;
            let secret = iscsi_target::Secret::new(secret.expose());
            Ok::<_, Problem>(Some(Credentials { user: chap.user.clone(), secret }))
        }
    };
    spec.access
        .iter()
        .map(|access| {
            Ok(Allow {
                initiator: access.initiator.as_ref().map_or("*", |name| name.as_str()).to_owned(),
                luns: access.luns.clone(),
                chap: credentials(&access.chap)?,
                mutual: credentials(&access.mutual)?,
            })
        })
        .collect()
}

impl Lane {
    /// Listens; with what the last worker left, its connections are held until their targets are there.
    pub fn add_portal(
        &mut self,
        spec: PortalSpec,
        mut left: HashMap<String, OwnedFd>,
    ) -> Result<(), Box<Unlistened>> {
        if let Some(index) = self.iscsi.find_portal(&spec.name) {
            return self
                .change_listener(index, spec)
                .map_err(|problem| Box::new(Unlistened { problem, left }));
        }
        let free = self.iscsi.portals.iter().position(Option::is_none);
        let index = free.unwrap_or(self.iscsi.portals.len()) as u32;
        let name = spec.name.clone();
        let portal = match Portal::open(spec, index, &mut left, &self.vault, &self.wait) {
            Ok(portal) => portal,
            Err(problem) => return Err(Box::new(Unlistened { problem, left })),
        };
        match free {
            Some(free) => self.iscsi.portals[free] = Some(portal),
            None => self.iscsi.portals.push(Some(portal)),
        }
        for (kept, envelope) in left {
            if kept.starts_with(&connection_prefix(&name)) {
                self.take_up_connection(&name, &kept, &envelope);
            }
        }
        self.directory_changed();
        if self.iscsi.open {
            self.open_portals();
        }
        Ok(())
    }

    fn take_up_connection(&mut self, portal: &str, name: &str, envelope: &OwnedFd) {
        let Some(index) = self.iscsi.free_index() else {
            self.vault.forget(name);
            return;
        };
        // Names that are kept stay as they are, and none is given twice; numbers are this lane's own,
        // as what comes together here may have been in two lanes before.
        if let Some(number) = Session::number_in(portal, name) {
            self.iscsi.next_id = self.iscsi.next_id.max(number.saturating_add(1));
        }
        let id = ConnectionId(self.iscsi.next_id);
        self.iscsi.next_id = self.iscsi.next_id.saturating_add(1);
        let taken = Session::resume(envelope, index, id, (portal, name), &self.vault, self.now);
        let session = match taken {
            Ok(session) => session,
            Err(untaken) => {
                tracing::warn!(
                    portal,
                    name,
                    why = untaken.why,
                    "a connection of the last worker is not taken up"
                );
                self.vault.forget(name);
                return;
            }
        };
        if session.link.is_established()
            && let Some(claim) = session.link.claim()
        {
            self.iscsi.registry.insert(claim);
        }
        if let Err(error) = session.watch(&self.wait) {
            tracing::error!(portal, name, %error, "a connection of the last worker cannot be watched");
            session.close(&self.wait, &self.vault);
            return;
        }
        self.iscsi.table[index as usize] = Some(Box::new(session));
    }

    /// The whole site is there: who comes is let in, and connections that have no target yet go on.
    pub fn open_portals(&mut self) {
        self.iscsi.open = true;
        for index in 0..self.iscsi.table.len() as u32 {
            let Some(session) = self.iscsi.session(index) else { continue };
            if session.phase != Phase::Held {
                continue;
            }
            let established = session.link.is_established();
            let discovery = session.link.claim().is_some_and(|claim| claim.discovery);
            if !established || discovery {
                session.phase = if established { Phase::Established } else { Phase::Login };
                self.iscsi.activate(index, self.now);
            }
        }
        for index in 0..self.iscsi.portals.len() as u32 {
            self.on_portal(index);
        }
    }

    /// Sessions that wait for a target which the site does not have any more end. `known`: the names of
    /// all that it has, those that cannot be made at the moment too.
    pub fn end_strangers(&mut self, known: &[String]) {
        self.end_sessions(|session| {
            session.phase == Phase::Held
                && session.link.is_established()
                && session.link.claim().is_some_and(|claim| {
                    !claim.discovery && !known.iter().any(|name| claim.target.eq_ignore_ascii_case(name))
                })
        });
    }

    /// Another address. Connections by the old one go on.
    fn change_listener(&mut self, index: u32, spec: PortalSpec) -> Result<(), Problem> {
        let Some(slot) = self.iscsi.portals.get_mut(index as usize) else { return Ok(()) };
        if slot.as_ref().is_some_and(|portal| portal.spec == spec) {
            return Ok(());
        }
        if slot.as_ref().is_some_and(|portal| portal.spec.listen == spec.listen) {
            if let Some(portal) = slot {
                portal.spec = spec;
            }
            return Ok(());
        }
        let portal = Portal::open(spec, index, &mut HashMap::new(), &self.vault, &self.wait)?;
        if let Some(old) = slot.replace(portal) {
            let counters = old.counters;
            drop(old.release(&self.wait));
            if let Some(portal) = slot {
                portal.counters = counters;
            }
        }
        self.directory_changed();
        Ok(())
    }

    pub fn change_portal(&mut self, spec: PortalSpec) -> Result<(), Problem> {
        match self.iscsi.find_portal(&spec.name) {
            Some(index) => self.change_listener(index, spec),
            None => self.add_portal(spec, HashMap::new()).map_err(|unmade| unmade.problem),
        }
    }

    /// Listens no more; whoever came by it is sent away.
    pub fn remove_portal(&mut self, name: &str) {
        let Some(index) = self.iscsi.find_portal(name) else { return };
        if let Some(portal) = self.iscsi.portals[index as usize].take() {
            portal.end(&self.wait);
            self.vault.forget(&listener_name(name));
        }
        self.end_sessions(|session| session.portal == name);
        self.directory_changed();
    }

    /// Gives a portal and its connections up as a dying worker would: what the keeper has of them, by
    /// name. Its sessions have no task at a disk any more.
    pub fn release_portal(&mut self, name: &str) -> Result<HashMap<String, OwnedFd>, Problem> {
        let mut left = HashMap::new();
        let Some(index) = self.iscsi.find_portal(name) else { return Ok(left) };
        self.rest_sessions(name)?;
        let failed = |error: std::io::Error| {
            Problem::failed(format!("cannot move portal `{name}`: {error}"))
                .at(format!("portal.{name}"))
                .hint("the server has too many descriptors open; raise LimitNOFILE= in its unit")
        };
        for at in 0..self.iscsi.table.len() {
            if self.iscsi.table[at].as_ref().is_none_or(|session| session.portal != name) {
                continue;
            }
            let Some(session) = self.iscsi.table[at].take() else { continue };
            self.iscsi.active.retain(|other| *other != session.index);
            self.iscsi.touched.retain(|other| *other != session.index);
            self.iscsi.registry.remove(session.id);
            let (kept, envelope) = session.release(&self.wait).map_err(failed)?;
            left.insert(kept, envelope);
        }
        if let Some(portal) = self.iscsi.portals[index as usize].take()
            && let Some(listener) = portal.release(&self.wait)
        {
            left.insert(listener_name(name), listener);
        }
        Ok(left)
    }

    /// Nothing new is begun for the sessions of a portal, and what is under way at the disks ends.
    fn rest_sessions(&mut self, portal: &str) -> Result<(), Problem> {
        let mut theirs = Vec::new();
        for session in self.iscsi.table.iter_mut().flatten().filter(|session| session.portal == portal) {
            session.active = false;
            theirs.push(session.index);
        }
        self.iscsi.active.retain(|index| !theirs.contains(index));
        let of =
            |origin| matches!(origin, Origin::Session { connection, .. } if theirs.contains(&connection));
        if !self.rest(of) {
            for index in theirs {
                self.iscsi.activate(index, self.now);
            }
            return Err(Problem::failed("the requests of its sessions do not end; a store hangs")
                .at(format!("portal.{portal}"))
                .hint("mend the store, then apply the site again"));
        }
        self.publish();
        Ok(())
    }

    /// Offers a target; sessions that a predecessor had with it go on.
    pub fn add_target(&mut self, plan: TargetPlan, volumes: Vec<Use>) -> Result<(), Box<Unused>> {
        if self.iscsi.targets.contains_key(&plan.spec.name) {
            let changed = self.change_target(plan);
            return changed.map_err(|problem| Box::new(Unused { problem, units: volumes }));
        }
        let resumed = self.iscsi.table.iter().flatten().any(|session| {
            let claim = session.link.claim();
            claim.is_some_and(|claim| claim.target.eq_ignore_ascii_case(plan.spec.iqn.as_str()))
        });
        let mut opened = BTreeMap::new();
        let mut volumes = volumes.into_iter();
        while let Some(volume) = volumes.next() {
            let lun = volume.lun.lun;
            match self.open_unit(volume, resumed) {
                Ok(index) => opened.insert(lun, index),
                Err(mut unused) => {
                    unused.units.extend(volumes);
                    for index in opened.into_values() {
                        unused = self.give_up_volume(index, unused);
                    }
                    return Err(unused);
                }
            };
        }
        let TargetPlan { spec, allow } = plan;
        let name = spec.name.clone();
        let target = Target { spec, allow, volumes: opened, counters: Counters::default() };
        self.iscsi.targets.insert(name.clone(), target);
        self.ports_changed(&name);
        self.directory_changed();
        self.take_up_sessions(&name);
        self.forget_the_dead(&name);
        Ok(())
    }

    /// Opens a volume with its unit, or counts one more user.
    fn open_unit(&mut self, mut volume: Use, resumed: bool) -> Result<u32, Box<Unused>> {
        let opened = self.volumes.open(&volume.spec, resumed || volume.left.ledger.is_some());
        let made = opened.and_then(|index| match self.volumes.make_unit(index, &mut volume.left) {
            Ok(()) => Ok(index),
            Err(problem) => {
                self.volumes.close(index);
                Err(problem)
            }
        });
        made.map_err(|problem| Unused::one(problem, volume))
    }

    /// Its units are told of the ports by which a target can be reached now.
    fn ports_changed(&mut self, name: &str) {
        let Some(target) = self.iscsi.targets.get(name) else { return };
        for volume in target.volumes.values() {
            let Some(logical) = self.volumes.unit(*volume) else { continue };
            for port in &target.spec.portals {
                logical.set_port(TargetPort {
                    id: PortId(port.port_id),
                    group: port.port_id,
                    name: PortName::Iscsi { target: target.spec.iqn.as_str().to_owned(), tag: port.tpgt },
                    state: state_of(port.path),
                });
            }
            self.volumes.dirty(*volume);
        }
    }

    fn remove_ports(&mut self, volume: u32, ports: &[u16]) {
        if let Some(logical) = self.volumes.unit(volume) {
            for port in ports {
                logical.remove_port(PortId(*port));
            }
            self.volumes.dirty(volume);
        }
    }

    /// Sessions that waited for this target go on.
    fn take_up_sessions(&mut self, name: &str) {
        for index in 0..self.iscsi.table.len() as u32 {
            let Some(session) = self.iscsi.session(index) else { continue };
            if session.phase != Phase::Held || !session.link.is_established() {
                continue;
            }
            let Some(claim) = session.link.claim() else { continue };
            if self.iscsi.target_by_iqn(&claim.target) != Some(name) {
                continue;
            }
            let bound = self.bind(index);
            let Some(session) = self.iscsi.session(index) else { continue };
            session.phase = Phase::Established;
            if !bound {
                session.link.displaced();
            }
            self.iscsi.activate(index, self.now);
            self.iscsi.touch(index);
        }
    }

    /// Nexuses of sessions that did not live to see this worker are lost.
    fn forget_the_dead(&mut self, name: &str) {
        let Some(target) = self.iscsi.targets.get(name) else { return };
        let ports: Vec<u16> = target.spec.portals.iter().map(|port| port.port_id).collect();
        for volume in target.volumes.values().copied().collect::<Vec<_>>() {
            let Some(logical) = self.volumes.unit(volume) else { continue };
            let theirs = logical.unit.nexuses().filter(|(_, peer)| ports.contains(&peer.port.0));
            let there: Vec<Nexus> = theirs.map(|(nexus, _)| nexus).collect();
            let lives = |nexus: &Nexus| {
                let mut units =
                    self.iscsi.table.iter().flatten().flat_map(|session| session.view.units.iter());
                units.any(|(_, of, there)| *of == volume && there == nexus)
            };
            let dead: Vec<Nexus> = there.into_iter().filter(|nexus| !lives(nexus)).collect();
            let units = dead.into_iter().map(|nexus| (0, volume, nexus));
            for unit in units {
                self.leave(&View::of(vec![unit]), |_| true);
            }
        }
    }

    /// A login is over.
    pub(super) fn establish(&mut self, index: u32) {
        let bound = self.bind(index);
        let Some(session) = self.iscsi.session(index) else { return };
        session.phase = Phase::Established;
        session.note_since();
        let discovery = session.link.claim().is_some_and(|claim| claim.discovery);
        if !bound && !discovery {
            // The target went away in this very turn.
            session.link.displaced();
        }
        let target = session.target.clone();
        if let Some(target) = target.and_then(|name| self.iscsi.targets.get_mut(&name)) {
            target.counters.sessions_opened += 1;
        }
    }

    /// Makes the session an I_T nexus of each logical unit that it sees. `false`: its target is not
    /// here, or not by this portal.
    fn bind(&mut self, index: u32) -> bool {
        let Some(claim) = self.iscsi.session(index).and_then(|session| session.link.claim()) else {
            return false;
        };
        // A discovery session proves nothing about its initiator, and is a nexus of no unit.
        if claim.discovery {
            return false;
        }
        let Some(name) = self.iscsi.target_by_iqn(&claim.target).map(str::to_owned) else { return false };
        let Some(peer) = self.peer(&name, &claim) else { return false };
        if let Some(session) = self.iscsi.session(index) {
            session.target = Some(name);
        }
        self.see(index, &peer);
        true
    }

    fn peer(&self, target: &str, claim: &Claim) -> Option<Peer> {
        let ports = &self.iscsi.targets.get(target)?.spec.portals;
        let port = ports.iter().find(|port| port.tpgt == claim.portal)?;
        let initiator = TransportId::iscsi(&claim.initiator, claim.isid)?;
        Some(Peer { initiator, port: PortId(port.port_id) })
    }

    /// Attaches the session to the units that it sees by now, and detaches it from the others.
    fn see(&mut self, index: u32, peer: &Peer) {
        let Some(Some(session)) = self.iscsi.table.get(index as usize) else { return };
        let visible = session.link.luns(&self.iscsi.directory);
        let Some(target) = session.target.as_ref().and_then(|name| self.iscsi.targets.get_mut(name)) else {
            return;
        };
        let old = std::rc::Rc::clone(&session.view);
        let mut units = Vec::new();
        for lun in visible {
            let Some(volume) = target.volumes.get(&lun).copied() else { continue };
            let Some(logical) = self.volumes.unit(volume) else { continue };
            match logical.unit.attach(peer.clone()) {
                Some(nexus) => units.push((lun, volume, nexus)),
                None => target.counters.nexus_refused += 1,
            }
            self.volumes.dirty(volume);
        }
        let kept: Vec<u32> = units.iter().map(|(_, volume, _)| *volume).collect();
        if let Some(session) = self.iscsi.session(index) {
            session.view = View::of(units);
        }
        self.leave(&old, |volume| !kept.contains(&volume));
    }

    /// Portals, access or limits are new. Its LUNs are those that it has.
    pub fn change_target(&mut self, plan: TargetPlan) -> Result<(), Problem> {
        let TargetPlan { spec, allow } = plan;
        let name = spec.name.clone();
        let Some(target) = self.iscsi.targets.get_mut(&name) else {
            return Err(Problem::failed(format!("there is no target `{name}`")).at(format!("target.{name}")));
        };
        let luns = std::mem::take(&mut target.spec.luns);
        target.spec = TargetSpec { luns, ..spec };
        target.allow = allow;
        self.ports_changed(&name);
        self.directory_changed();
        let Some(target) = self.iscsi.targets.get(&name) else { return Ok(()) };
        let spec = target.spec.clone();
        self.end_sessions(|session| {
            session.target.as_ref() == Some(&name)
                && session.link.claim().is_some_and(|claim| spec.access_of(&claim.initiator).is_none())
        });
        self.see_again(&name);
        Ok(())
    }

    /// The LUNs of a target, or who sees which, are new.
    fn see_again(&mut self, target: &str) {
        for index in 0..self.iscsi.table.len() as u32 {
            let Some(session) = self.iscsi.session(index) else { continue };
            if session.phase != Phase::Established || session.target.as_deref() != Some(target) {
                continue;
            }
            let before = session.view.numbers.clone();
            let Some(claim) = session.link.claim() else { continue };
            let Some(peer) = self.peer(target, &claim) else { continue };
            self.see(index, &peer);
            let Some(session) = self.iscsi.session(index) else { continue };
            if session.view.numbers != before {
                let view = std::rc::Rc::clone(&session.view);
                for (lun, volume, nexus) in view.units.iter() {
                    if before.contains(lun)
                        && let Some(logical) = self.volumes.unit(*volume)
                    {
                        logical.unit.luns_changed(*nexus);
                        self.volumes.dirty(*volume);
                    }
                }
            }
            self.iscsi.activate(index, self.now);
            self.iscsi.touch(index);
        }
        self.run_woken();
    }

    pub fn attach_target_lun(&mut self, name: &str, volume: Use) -> Result<(), Box<Unused>> {
        let Some(target) = self.iscsi.targets.get(name) else {
            let problem = Problem::failed(format!("there is no target `{name}`"));
            return Err(Unused::one(problem.at(format!("target.{name}")), volume));
        };
        let lun = volume.lun.lun;
        if target.volumes.contains_key(&lun) {
            return Ok(());
        }
        let volume_name = volume.spec.name.clone();
        let index = self.open_unit(volume, false)?;
        if let Some(target) = self.iscsi.targets.get_mut(name) {
            target.volumes.insert(lun, index);
            target.spec.luns.push(control::step::Lun { lun, volume: volume_name });
            target.spec.luns.sort_by_key(|lun| lun.lun);
        }
        self.ports_changed(name);
        self.directory_changed();
        self.see_again(name);
        Ok(())
    }

    pub fn detach_target_lun(&mut self, name: &str, lun: u16) {
        let Some(target) = self.iscsi.targets.get_mut(name) else { return };
        target.spec.luns.retain(|there| there.lun != lun);
        let Some(volume) = target.volumes.remove(&lun) else { return };
        let ports = ports_of(&target.spec);
        self.directory_changed();
        self.see_again(name);
        self.remove_ports(volume, &ports);
        self.volumes.close(volume);
    }

    /// The target is not at this portal any more.
    pub fn leave_portal(&mut self, name: &str, portal: &str) {
        let Some(target) = self.iscsi.targets.get_mut(name) else { return };
        let (left, stay): (Vec<_>, Vec<_>) =
            target.spec.portals.drain(..).partition(|port| port.portal == portal);
        target.spec.portals = stay;
        let volumes: Vec<u32> = target.volumes.values().copied().collect();
        self.end_sessions(|session| session.target.as_deref() == Some(name) && session.portal == portal);
        for volume in volumes {
            self.remove_ports(volume, &left.iter().map(|port| port.port_id).collect::<Vec<_>>());
        }
        self.directory_changed();
    }

    /// Its sessions end. What they still have at the disks ends into memory that is held for it.
    pub fn remove_target(&mut self, name: &str) {
        let Some(target) = self.iscsi.targets.remove(name) else { return };
        self.directory_changed();
        for index in 0..self.iscsi.table.len() as u32 {
            let Some(session) = self.iscsi.session(index) else { continue };
            if session.target.as_deref() == Some(name) {
                let id = session.id;
                self.leave_units(index);
                self.displace(id);
            }
        }
        self.run_woken();
        let ports = ports_of(&target.spec);
        for volume in target.volumes.into_values() {
            self.remove_ports(volume, &ports);
            self.volumes.close(volume);
        }
    }

    /// For a target that goes on in another lane: its sessions were released with their portals. What
    /// is left of its units, by volume.
    pub fn release_target(&mut self, name: &str) -> HashMap<String, Left> {
        let mut units = HashMap::new();
        let Some(target) = self.iscsi.targets.remove(name) else { return units };
        self.directory_changed();
        for volume in target.volumes.into_values() {
            let of = self.volumes.get(volume).map(|open| open.spec.name.clone());
            if let (Some(of), Some(left)) = (of, self.volumes.release_unit(volume)) {
                units.insert(of, left);
            }
            self.volumes.close(volume);
        }
        units
    }

    fn end_sessions(&mut self, which: impl Fn(&Session) -> bool) {
        let ending: Vec<_> = self
            .iscsi
            .table
            .iter()
            .flatten()
            .filter(|session| which(session))
            .map(|session| session.id)
            .collect();
        for id in ending {
            self.displace(id);
        }
    }

    /// What is on offer, as `frontend/iscsi_target` is told.
    fn directory_changed(&mut self) {
        let iscsi = &mut self.iscsi;
        let portals = iscsi.portals.iter().flatten();
        let portals = portals.filter_map(|portal| {
            let tag = iscsi.tag_of(&portal.spec.name);
            (tag != 0).then(|| iscsi_target::Portal { address: portal.spec.listen.to_string(), tag })
        });
        let targets = iscsi.targets.values().map(|target| iscsi_target::Target {
            name: target.spec.iqn.as_str().to_owned(),
            alias: Some(target.spec.name.clone()),
            portals: target.spec.portals.iter().map(|port| port.tpgt).collect(),
            luns: target.volumes.keys().copied().collect(),
            allow: target.allow.clone(),
            open: false,
            sessions_max: u32::from(target.spec.sessions_max),
            leaving: false,
        });
        iscsi.directory = iscsi_target::Directory {
            portals: portals.collect(),
            targets: targets.collect(),
            discovery: Vec::new(),
        };
    }

    /// The server stops for good: initiators are asked to log out within so many seconds.
    pub fn ask_logouts(&mut self, seconds: u16) {
        self.iscsi.open = false;
        for at in 0..self.iscsi.table.len() as u32 {
            let now = self.now;
            let Some(session) = self.iscsi.session(at) else { continue };
            if session.phase == Phase::Established {
                session.link.ask_logout(now, seconds);
                self.iscsi.touch(at);
                self.iscsi.activate(at, now);
            }
        }
    }

    /// Sessions that are logged in.
    pub fn sessions(&self) -> usize {
        self.iscsi.table.iter().flatten().filter(|session| session.phase == Phase::Established).count()
    }

    pub(in super::super) fn report_iscsi(&self, report: &mut Report) {
        for portal in self.iscsi.portals.iter().flatten() {
            let name = &portal.spec.name;
            let connections = self.iscsi.table.iter().flatten().filter(|session| session.portal == *name);
            report.portals.insert(name.clone(), portal.status(connections.count() as u32));
        }
        for (name, target) in &self.iscsi.targets {
            report.targets.insert(name.clone(), self.iscsi.target_status(name, target));
        }
    }
}

fn ports_of(spec: &TargetSpec) -> Vec<u16> {
    spec.portals.iter().map(|port| port.port_id).collect()
}
