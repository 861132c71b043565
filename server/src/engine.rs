//! What the control plane asks for, given to the lanes. Which lane has what is decided here, once.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use control::site::{LunAddress, SlotId};
use control::status::{
    NetworkStatus, PortalStatus, Quarantined, SlotStatus, Status, TargetStatus, VolumeStatus, Worker,
};
use control::step::{Backing, Device, GroupSpec, NetworkSpec, SlotSpec, Step, UplinkSpec, VolumeSpec};
use control::{Engine, Problem};

use crate::lane::objects::{Unused, Use};
use crate::lane::stable::Folder;
use crate::lane::unit::{self, Left};
use crate::lane::volume;
use crate::lane::{LANE_FENCE, LISTENER, LaneHandle, UPLINK};
use crate::vault::{self, Estate, Vault};

mod exports;

#[derive(Default)]
struct Objects {
    volumes: BTreeMap<String, VolumeSpec>,
    slots: BTreeMap<String, (SlotSpec, usize)>,
    networks: BTreeMap<String, (NetworkSpec, usize)>,
    uplinks: BTreeMap<(String, String), UplinkSpec>,
    estate: Estate,
    /// Fences of the last worker's lanes: see `host::ring::settle`.
    fences: HashMap<String, OwnedFd>,
    /// What the last worker left of slots that could not be taken up: their guests wait until what is
    /// in the way is mended.
    waiting: HashMap<String, HashMap<String, OwnedFd>>,
    /// Why a volume cannot be used.
    faults: BTreeMap<String, String>,
    /// Units on their way from one lane to another, by volume.
    units: HashMap<String, Left>,
    /// The lane of each group of slots, targets and portals.
    groups: HashMap<String, usize>,
    exports: exports::Exports,
    /// Slots and volumes by the short forms of their names.
    names: HashMap<String, String>,
}

impl Objects {
    /// The keeper knows slots and volumes by short forms of their names, and must tell each from all
    /// others. `name` as `vault::key` takes it.
    fn tell_apart(&mut self, name: &str, place: String) -> Result<(), Problem> {
        let key = vault::key(name);
        let is_there = |other: &str| match other.strip_prefix(unit::UNIT_PREFIX) {
            Some(volume) => self.volumes.contains_key(volume),
            None => self.slots.contains_key(other) || self.waiting.contains_key(other),
        };
        if let Some(other) = self.names.get(&key).filter(|other| *other != name && is_there(other)) {
            return Err(Problem::conflict(format!("the keeper cannot tell `{name}` from `{other}`"))
                .at(place)
                .hint("their names happen to have the same short form: give one of them another name"));
        }
        self.names.insert(key, name.to_owned());
        Ok(())
    }
}

/// The volumes that a device is made of.
fn volumes_of(device: &Device) -> Vec<String> {
    device.volumes().map(str::to_owned).collect()
}

/// How long the last requests of a worker that died may be out at a disk that is only read.
const SETTLE_MAX: Duration = Duration::from_secs(25);

/// The daemon behind the control plane.
pub struct Host {
    lanes: Vec<LaneHandle>,
    vault: Vault,
    /// Where units' lasting state is.
    stable: Folder,
    objects: Mutex<Objects>,
    started: u64,
    /// Says that the worker is to end; the main thread does it.
    restart: crossbeam_channel::Sender<()>,
}

impl Host {
    pub fn new(
        lanes: Vec<LaneHandle>,
        vault: Vault,
        stable: Folder,
        mut estate: Estate,
        restart: crossbeam_channel::Sender<()>,
    ) -> Self {
        let fences = estate.take_all(LANE_FENCE);
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Self {
            lanes,
            vault,
            stable,
            objects: Mutex::new(Objects { estate, fences, ..Objects::default() }),
            started,
            restart,
        }
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After the stored site was taken up: what the last worker left and nobody claimed is closed.
    pub fn settle_estate(&self) {
        let objects = &mut *self.objects();
        std::mem::take(&mut objects.estate).settle(&self.vault);
        // Nobody has to wait for these any more; those that are not at rest yet stay for whoever does.
        let _ = self.settle_fences(objects, Duration::ZERO);
        self.all_have_come();
        self.open_portals(objects);
    }

    /// Every nexus that comes again after a restart or a move has come: units wait for no other's
    /// commands that had begun.
    fn all_have_come(&self) {
        for lane in &self.lanes {
            lane.tell(|lane| lane.all_have_come());
        }
    }

    /// How full the stores of thin volumes are, for those whose users want to be told: now and then.
    pub fn look_at_thresholds(&self) {
        let watched: Vec<VolumeSpec> =
            self.objects().volumes.values().filter(|spec| spec.thin_threshold.is_some()).cloned().collect();
        for spec in watched {
            // Asks the file system, which may take its time; no lane waits for it.
            let (_, allocated) = volume::sizes(&spec);
            for lane in &self.lanes {
                let name = spec.name.clone();
                lane.tell(move |lane| lane.volume_allocated(&name, allocated));
            }
        }
    }

    /// Every lane finishes what is under way at the disks and takes no more.
    pub fn quiesce(&self) {
        for lane in &self.lanes {
            let _ = lane.call(|lane| lane.quiesce());
        }
    }

    /// The lane with the fewest slots, as disks can go anywhere.
    fn quietest(&self, objects: &Objects) -> usize {
        let mut load = vec![0; self.lanes.len()];
        for (_, lane) in objects.slots.values() {
            load[*lane] += 1;
        }
        (0..load.len()).min_by_key(|lane| load[*lane]).unwrap_or(0)
    }

    /// Slots that were apart belong together: they move to the lane that most of them are in, as a
    /// slot moves to another network. All are given up before the first is taken up again, since
    /// two lanes cannot have a volume open.
    fn regroup(&self, objects: &mut Objects, group: &GroupSpec) -> Result<(), Problem> {
        let mut found: Vec<(SlotSpec, usize)> = Vec::new();
        for slot in &group.slots {
            if let Some((spec, lane)) = objects.slots.get(&slot.to_string()) {
                found.push((SlotSpec { group: Some(group.name.clone()), ..spec.clone() }, *lane));
            }
        }
        let exports = objects.exports.lanes_of(group);
        let most = (0..self.lanes.len())
            .max_by_key(|lane| {
                let slots = found.iter().filter(|(_, at)| at == lane).count();
                slots + exports.iter().filter(|at| *at == lane).count()
            })
            .unwrap_or(0);
        objects.groups.insert(group.name.clone(), most);
        let mut moved = Vec::new();
        for (spec, lane) in found {
            let name = spec.id.to_string();
            if lane == most {
                objects.slots.insert(name, (spec, lane));
                continue;
            }
            let id = spec.id.clone();
            match self.lanes[lane].call(move |lane| lane.release_slot(&id))? {
                Ok((left, units)) => {
                    objects.slots.remove(&name);
                    objects.units.extend(units);
                    moved.push((spec, left, lane));
                }
                Err(problem) => {
                    self.put_back(objects, group, moved);
                    return Err(problem);
                }
            }
        }
        let released = match self.release_exports(objects, group, most) {
            Ok(released) => released,
            Err(problem) => {
                self.put_back(objects, group, moved);
                return Err(problem);
            }
        };
        let mut first = Ok(());
        for (spec, left, _) in moved {
            let added = self.add_slot(objects, &spec, left);
            first = first.and(added);
        }
        let first = first.and(self.take_up_exports(objects, released));
        self.all_have_come();
        first
    }

    /// Not all of a group could be given up: what was goes on in the lane that it came from.
    fn put_back(
        &self,
        objects: &mut Objects,
        group: &GroupSpec,
        moved: Vec<(SlotSpec, HashMap<String, OwnedFd>, usize)>,
    ) {
        for (spec, left, lane) in moved {
            objects.groups.insert(group.name.clone(), lane);
            if let Err(problem) = self.add_slot(objects, &spec, left) {
                tracing::error!("a slot could not be put back: {problem}");
            }
        }
        objects.groups.remove(&group.name);
    }

    /// The lane of a group; of a new one, or of none, the quietest.
    fn lane_of(&self, objects: &mut Objects, group: Option<&str>) -> usize {
        let quietest = self.quietest(objects);
        match group {
            Some(group) => *objects.groups.entry(group.to_owned()).or_insert(quietest),
            None => quietest,
        }
    }

    /// A volume with what is left of its unit: by a worker that died, or on stable storage.
    fn use_of(&self, objects: &mut Objects, lun: LunAddress, name: &str) -> Result<Use, Problem> {
        let spec = Self::volume(objects, name)?;
        if let Some(left) = objects.units.remove(name) {
            return Ok(Use { lun, spec, left });
        }
        let ledger = objects.estate.take(&unit::ledger_name(name));
        let persistent = match ledger {
            // It goes before what is stored, which is for a ledger that cannot be used.
            Some(_) => self.stable.read(&spec).unwrap_or_default(),
            None => self.stable.read(&spec)?,
        };
        Ok(Use { lun, spec, left: Left { ledger, persistent } })
    }

    /// What is left of units that nobody could take up waits with their slots: reservations must not be
    /// forgotten because a disk could not be opened.
    fn keep_units(objects: &mut Objects, uses: impl IntoIterator<Item = Use>) {
        for of in uses {
            if of.left.ledger.is_some() {
                objects.units.insert(of.spec.name, of.left);
            }
        }
    }

    /// The same for what a lane gives back.
    fn keep_unused(objects: &mut Objects, done: Result<(), Box<Unused>>) -> Result<(), Problem> {
        done.map_err(|unused| {
            let Unused { problem, units } = *unused;
            Self::keep_units(objects, units);
            problem
        })
    }

    fn keep_ledger(objects: &mut Objects, volume: &str) {
        if let Some(ledger) = objects.estate.take(&unit::ledger_name(volume)) {
            objects.units.insert(volume.to_owned(), Left { ledger: Some(ledger), persistent: None });
        }
    }

    fn volume(objects: &Objects, name: &str) -> Result<VolumeSpec, Problem> {
        objects.volumes.get(name).cloned().ok_or_else(|| {
            Problem::failed(format!("volume `{name}` could not be opened"))
                .at(format!("disk.{name}"))
                .hint("`standpipe status` says why; mend it and apply the site again")
        })
    }

    fn network(objects: &Objects, name: &str) -> Result<usize, Problem> {
        objects.networks.get(name).map(|(_, lane)| *lane).ok_or_else(|| {
            Problem::failed(format!("network `{name}` could not be made")).at(format!("network.{name}"))
        })
    }

    /// Makes a slot, or takes up what was left of it. If that fails, what was left waits.
    fn add_slot(
        &self,
        objects: &mut Objects,
        spec: &SlotSpec,
        left: HashMap<String, OwnedFd>,
    ) -> Result<(), Problem> {
        let name = spec.id.to_string();
        let (problem, left) = match self.place_slot(objects, spec) {
            Err(problem) => (problem, left),
            Ok((lane, volumes)) => {
                let given = spec.clone();
                match self.lanes[lane].call(move |lane| lane.add_slot(given, volumes, left))? {
                    Err(unmade) => {
                        Self::keep_units(objects, unmade.units);
                        (unmade.problem, unmade.left)
                    }
                    Ok(()) => {
                        for volume in volumes_of(&spec.device) {
                            objects.faults.remove(&volume);
                        }
                        objects.slots.insert(name, (spec.clone(), lane));
                        return Ok(());
                    }
                }
            }
        };
        for volume in volumes_of(&spec.device) {
            Self::keep_ledger(objects, &volume);
            objects.faults.entry(volume).or_insert_with(|| problem.what.clone());
        }
        if !left.is_empty() {
            objects.waiting.insert(name, left);
        }
        Err(problem)
    }

    /// The lane for a slot, and the volumes that it needs there.
    fn place_slot(&self, objects: &mut Objects, spec: &SlotSpec) -> Result<(usize, Vec<Use>), Problem> {
        let (lane, volumes) = match &spec.device {
            Device::VirtioScsi { luns, .. } | Device::Pvscsi { luns, .. } => {
                let mut volumes = Vec::new();
                for lun in luns {
                    match self.use_of(objects, lun.lun, &lun.volume) {
                        Ok(of) => volumes.push(of),
                        Err(problem) => {
                            Self::keep_units(objects, volumes);
                            return Err(problem);
                        }
                    }
                }
                (self.lane_of(objects, spec.group.as_deref()), volumes)
            }
            Device::VirtioBlk { volume } => {
                let spec = Self::volume(objects, volume)?;
                (
                    self.quietest(objects),
                    vec![Use { lun: LunAddress::default(), spec, left: Left::default() }],
                )
            }
            Device::VirtioNet { network, .. } | Device::Nic { network, .. } => {
                (Self::network(objects, network)?, Vec::new())
            }
        };
        // The lock of a volume that is written is its own fence, and the quicker one. Readers share
        // theirs, so a successor has to wait until the dead lanes' rings have come to rest.
        if volumes.iter().any(|volume| volume.spec.read_only)
            && let Err(error) = self.settle_fences(objects, SETTLE_MAX)
        {
            Self::keep_units(objects, volumes);
            return Err(Problem::failed(format!("the last worker's reads do not end: {error}"))
                .at(spec.id.to_string())
                .hint("a disk or its network path hangs; mend it, then apply the site again"));
        }
        Ok((lane, volumes))
    }

    /// Waits until the lanes of dead workers have come to rest. A fence is kept until then, for a
    /// successor has to wait for it as well.
    fn settle_fences(&self, objects: &mut Objects, patience: Duration) -> std::io::Result<()> {
        let names: Vec<String> = objects.fences.keys().cloned().collect();
        for name in names {
            if let Some(fence) = objects.fences.get(&name) {
                host::ring::settle(fence.as_fd(), patience)?;
            }
            objects.fences.remove(&name);
            self.vault.forget(&format!("{LANE_FENCE}/{name}"));
        }
        Ok(())
    }

    /// What waits for a slot that could not be taken up.
    fn take_left(objects: &mut Objects, slot: &SlotId) -> HashMap<String, OwnedFd> {
        let name = slot.to_string();
        let waiting = objects.waiting.remove(&name);
        waiting.unwrap_or_else(|| objects.estate.take_all(&vault::key(&name)))
    }

    /// A slot that was never taken up is removed: its guest waits no more.
    fn let_go(&self, objects: &mut Objects, slot: &SlotId) {
        for (what, fd) in objects.waiting.remove(&slot.to_string()).unwrap_or_default() {
            if what == LISTENER {
                let address = std::os::unix::net::UnixListener::from(fd).local_addr();
                if let Some(path) = address.ok().as_ref().and_then(|address| address.as_pathname()) {
                    let _ = std::fs::remove_file(path);
                }
            }
            self.vault.forget(&vault::name(&slot.to_string(), &what));
        }
    }

    /// A nic moves with its network: the lane gives up the slot as a dying worker would, and the
    /// other one takes it up as its successor would.
    fn change_slot(&self, objects: &mut Objects, spec: &SlotSpec) -> Result<(), Problem> {
        let Some((old, from)) = objects.slots.get(&spec.id.to_string()).cloned() else {
            let left = Self::take_left(objects, &spec.id);
            return self.add_slot(objects, spec, left);
        };
        let to = match spec.device.network() {
            Some(network) => Self::network(objects, network)?,
            None => from,
        };
        if to == from {
            let given = spec.clone();
            self.lanes[from].call(move |lane| lane.change_slot(given))??;
            objects.slots.insert(spec.id.to_string(), (spec.clone(), from));
            return Ok(());
        }
        let id = spec.id.clone();
        let (left, _) = self.lanes[from].call(move |lane| lane.release_slot(&id))??;
        objects.slots.remove(&spec.id.to_string());
        let moved = self.add_slot(objects, spec, left);
        if moved.is_err()
            && let Some(left) = objects.waiting.remove(&spec.id.to_string())
        {
            // Back to where it was; that it had room there is known.
            self.add_slot(objects, &old, left)?;
        }
        moved
    }

    fn with_slot<T: Send + 'static>(
        &self,
        objects: &Objects,
        slot: &SlotId,
        run: impl FnOnce(&mut crate::lane::Lane) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let Some((_, lane)) = objects.slots.get(&slot.to_string()) else {
            return Err(no_slot(slot));
        };
        self.lanes[*lane].call(run)?
    }

    fn grow(&self, objects: &mut Objects, name: &str, size: u64) -> Result<(), Problem> {
        let Some(spec) = objects.volumes.get(name) else {
            return Err(Problem::failed(format!("volume `{name}` is not open")).at(format!("disk.{name}")));
        };
        let spec = VolumeSpec { size: Some(size), ..spec.clone() };
        volume::grow(&spec)?;
        objects.volumes.insert(name.to_owned(), spec.clone());
        for lane in &self.lanes {
            let spec = spec.clone();
            lane.call(move |lane| lane.volume_resized(&spec))?;
        }
        Ok(())
    }

    fn do_step(&self, step: &Step) -> Result<(), Problem> {
        let objects = &mut *self.objects();
        if let Some(done) = self.do_export(objects, step) {
            return done;
        }
        match step {
            Step::ConfigureServer(_) => Ok(()),
            Step::CreateVolume(spec) => {
                objects.tell_apart(&unit::unit_key(&spec.name), format!("disk.{}", spec.name))?;
                if let Err(problem) = volume::create(spec) {
                    objects.faults.insert(spec.name.clone(), problem.what.clone());
                    return Err(problem);
                }
                objects.faults.remove(&spec.name);
                objects.volumes.insert(spec.name.clone(), spec.clone());
                Ok(())
            }
            Step::GrowVolume { volume, size } => self.grow(objects, volume, *size),
            Step::RemoveVolume { volume } => {
                objects.volumes.remove(volume);
                objects.faults.remove(volume);
                if objects.units.remove(volume).is_some() {
                    self.vault.forget(&unit::ledger_name(volume));
                }
                Ok(())
            }
            Step::AddNetwork(spec) => {
                if objects.networks.contains_key(&spec.name) {
                    return Ok(());
                }
                let mut load = vec![0; self.lanes.len()];
                for (_, lane) in objects.networks.values() {
                    load[*lane] += 1;
                }
                // From the last lane down, as disks begin with the first.
                let lane = (0..load.len()).rev().min_by_key(|lane| load[*lane]).unwrap_or(0);
                let given = spec.clone();
                self.lanes[lane].call(move |lane| lane.add_network(given))??;
                objects.networks.insert(spec.name.clone(), (spec.clone(), lane));
                Ok(())
            }
            Step::ChangeNetwork(spec) => {
                let lane = Self::network(objects, &spec.name)?;
                let given = spec.clone();
                self.lanes[lane].call(move |lane| lane.change_network(given))??;
                objects.networks.insert(spec.name.clone(), (spec.clone(), lane));
                Ok(())
            }
            Step::RemoveNetwork { network } => {
                let Some((_, lane)) = objects.networks.remove(network) else { return Ok(()) };
                let name = network.clone();
                self.lanes[lane].call(move |lane| lane.remove_network(&name))
            }
            Step::AddUplink(spec) => {
                let lane = Self::network(objects, &spec.network)?;
                let given = spec.clone();
                let prefix = format!("{UPLINK}/{}.{}.", spec.network, spec.name);
                let left = objects.estate.take_named(&prefix);
                self.lanes[lane].call(move |lane| {
                    lane.inherit(left);
                    lane.add_uplink(given)
                })??;
                objects.uplinks.insert((spec.network.clone(), spec.name.clone()), spec.clone());
                Ok(())
            }
            Step::ChangeUplink(spec) => {
                let lane = Self::network(objects, &spec.network)?;
                let given = spec.clone();
                self.lanes[lane].call(move |lane| lane.change_uplink(given))?
            }
            Step::RemoveUplink { network, uplink } => {
                objects.uplinks.remove(&(network.clone(), uplink.clone()));
                let Some((_, lane)) = objects.networks.get(network) else { return Ok(()) };
                let (network, uplink) = (network.clone(), uplink.clone());
                self.lanes[*lane].call(move |lane| lane.remove_uplink(&network, &uplink))
            }
            Step::AddSlot(spec) => {
                if objects.slots.contains_key(&spec.id.to_string()) {
                    return Ok(());
                }
                let name = spec.id.to_string();
                objects.tell_apart(&name, format!("vm.{name}"))?;
                let left = Self::take_left(objects, &spec.id);
                self.add_slot(objects, spec, left)
            }
            Step::ChangeSlot(spec) => self.change_slot(objects, spec),
            Step::AttachLun { slot, lun, volume } => {
                let Some((_, lane)) = objects.slots.get(&slot.to_string()) else {
                    return Err(no_slot(slot));
                };
                let (lane, id, lun) = (*lane, slot.clone(), *lun);
                let spec = self.use_of(objects, lun, volume)?;
                let attached = self.lanes[lane].call(move |lane| lane.attach_lun(&id, spec))?;
                Self::keep_unused(objects, attached)?;
                if let Some((spec, _)) = objects.slots.get_mut(&slot.to_string())
                    && let Some(luns) = spec.device.luns_mut()
                {
                    luns.retain(|there| there.lun != lun);
                    luns.push(control::step::SlotLun { lun, volume: volume.clone() });
                }
                Ok(())
            }
            Step::DetachLun { slot, lun } => {
                let (id, lun) = (slot.clone(), *lun);
                self.with_slot(objects, slot, move |lane| lane.detach_lun(&id, lun))?;
                if let Some((spec, _)) = objects.slots.get_mut(&slot.to_string())
                    && let Some(luns) = spec.device.luns_mut()
                {
                    luns.retain(|there| there.lun != lun);
                }
                Ok(())
            }
            Step::ChangeVolume(spec) => {
                objects.volumes.insert(spec.name.clone(), spec.clone());
                for lane in &self.lanes {
                    let spec = spec.clone();
                    lane.call(move |lane| lane.change_volume(&spec))?;
                }
                Ok(())
            }
            Step::Regroup(group) => self.regroup(objects, group),
            Step::AddPortal(_)
            | Step::ChangePortal(_)
            | Step::RemovePortal { .. }
            | Step::AddTarget(_)
            | Step::ChangeTarget(_)
            | Step::AttachTargetLun { .. }
            | Step::DetachTargetLun { .. }
            | Step::LeavePortal { .. }
            | Step::RemoveTarget { .. } => unreachable!("`do_export` does these"),
            Step::RemoveSlot { slot } => {
                let Some((_, lane)) = objects.slots.remove(&slot.to_string()) else {
                    self.let_go(objects, slot);
                    return Ok(());
                };
                let id = slot.clone();
                self.lanes[lane].call(move |lane| lane.remove_slot(&id))
            }
        }
    }
}

impl Engine for Host {
    fn perform(&self, step: &Step) -> Result<(), Problem> {
        self.do_step(step)
    }

    fn status(&self) -> Status {
        let objects = self.objects();
        let mut status = Status {
            worker: Worker {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started: self.started,
                restarts: std::env::var("STANDPIPE_RESTARTS")
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(0),
                lanes: Vec::new(),
            },
            ..Status::default()
        };
        for (index, lane) in self.lanes.iter().enumerate() {
            let Ok(report) = lane.call(|lane| lane.report()) else { continue };
            status.worker.lanes.push(control::status::LaneStatus { lane: index as u32, ..report.lane });
            status.slots.extend(report.slots);
            status.quarantined.extend(report.quarantined);
            status.networks.extend(report.networks);
            status.volumes.extend(report.volumes);
            status.portals.extend(report.portals);
            status.targets.extend(report.targets);
        }
        for (name, spec) in &objects.volumes {
            let volume = status.volumes.entry(name.clone()).or_default();
            let (size, allocated) = volume::sizes(spec);
            volume.size = size;
            volume.allocated = allocated;
        }
        for (spec, _) in objects.slots.values() {
            for name in volumes_of(&spec.device) {
                if let Some(volume) = status.volumes.get_mut(&name) {
                    volume.used_by.push(spec.id.clone());
                }
            }
        }
        for (name, volume) in &mut status.volumes {
            volume.targets = objects.exports.targets_of(name).map(str::to_owned).collect();
            volume.targets.sort();
        }
        Self::export_faults(&objects, &mut status);
        for (name, fault) in &objects.faults {
            status.volumes.entry(name.clone()).or_default().fault = Some(fault.clone());
        }
        status
    }

    fn clear_reservations(&self, volume: &str) -> Result<(), Problem> {
        let spec = Self::volume(&self.objects(), volume)?;
        let mut cleared = Vec::new();
        for lane in &self.lanes {
            let name = volume.to_owned();
            cleared.extend(lane.call(move |lane| lane.clear_reservations(&name))?);
        }
        if cleared.is_empty() {
            // Nobody has the volume open: what is stored is all there is, and what waits for somebody
            // who can open it.
            if let Some(left) = self.objects().units.get_mut(volume) {
                left.clear_reservations();
            }
            return self.stable.remove(&spec);
        }
        if cleared.into_iter().all(|durable| durable.recv() == Ok(true)) {
            return Ok(());
        }
        Err(Problem::failed(format!("the reservations of volume `{volume}` are gone until the power fails"))
            .at(format!("disk.{volume}"))
            .hint("the server's log says why they cannot be removed from stable storage: mend that, then clear them again"))
    }

    fn upgrade(&self) -> Result<(), Problem> {
        if !self.vault.is_kept() {
            return Err(Problem::conflict("nobody keeps the guests' connections while the worker is away")
                .hint("start the server by `standpipe keep -- standpipe serve`, or by the systemd unit"));
        }
        let program = binary_on_disk()?;
        // A binary that cannot run must not take the place of one that does.
        let tried = std::process::Command::new(&program).arg("--version").output();
        match tried {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                return Err(Problem::failed(format!("the new binary does not run: {}", output.status))
                    .at(program.display().to_string())
                    .hint("install a working binary at this path, then upgrade again; the old one goes on meanwhile"));
            }
            Err(error) => {
                return Err(Problem::failed(format!("the new binary cannot be started: {error}"))
                    .at(program.display().to_string())
                    .hint("install a working binary at this path, then upgrade again; the old one goes on meanwhile"));
            }
        }
        let _ = self.restart.try_send(());
        Ok(())
    }
}

fn no_slot(slot: &SlotId) -> Problem {
    Problem::failed(format!("slot `{slot}` could not be made")).at(slot.to_string())
}

/// Where the keeper will find the next worker's binary: the path of ours, even if another file has
/// taken its place since we started.
fn binary_on_disk() -> Result<PathBuf, Problem> {
    let path = std::env::current_exe()
        .map_err(|error| Problem::failed(format!("cannot find the server's own binary: {error}")))?;
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or(path.clone(), PathBuf::from))
}

/// What a lane says of itself.
#[derive(Default)]
pub struct Report {
    pub lane: control::status::LaneStatus,
    pub slots: BTreeMap<String, SlotStatus>,
    pub networks: BTreeMap<String, NetworkStatus>,
    pub volumes: BTreeMap<String, VolumeStatus>,
    pub portals: BTreeMap<String, PortalStatus>,
    pub targets: BTreeMap<String, TargetStatus>,
    pub quarantined: Vec<Quarantined>,
}

/// Where a volume's bytes are, for people.
pub fn place_of(spec: &VolumeSpec) -> String {
    match &spec.backing {
        Backing::Path { path } => path.display().to_string(),
        Backing::Null => format!("disk.{}", spec.name),
    }
}
