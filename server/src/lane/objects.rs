//! What the control plane does to a lane: slots, LUNs, networks and uplinks come, change and go.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use control::Problem;
use control::site::{LunAddress, Model, SlotId};
use control::status::{NetworkStatus, PortStatus, Quarantined, SlotStatus};
use control::step::{Device as DeviceSpec, NetworkSpec, SlotSpec, UplinkSpec, VolumeSpec};
use host::wait::Interest;
use request::Mac;
use switch::{Config as SwitchConfig, PortId, Reason, Switch};
use uplink_tap::UplinkTap;

use super::Lane;
use super::device::{BlkDevice, Device, LUNS_MAX, Lun, NetDevice, ScsiDevice};
use super::net::{ENTRIES_MAX, LINK_MBPS, Network, PORTS_MAX, Target, Uplink};
use super::requests::Origin;
use super::slot::Slot;
use super::token::Token;
use super::unit::{Left, peer_of_slot};
use crate::blame;
use crate::engine::Report;

/// A slot that could not be made, with what the last worker left of it.
pub struct Unmade {
    pub problem: Problem,
    pub left: HashMap<String, OwnedFd>,
    /// What is left of its volumes' units.
    pub units: Vec<Use>,
}

/// A volume of a slot or target, at its LUN, with what is left of its unit.
pub struct Use {
    pub lun: LunAddress,
    pub spec: VolumeSpec,
    pub left: Left,
}

/// Something could not be made, and nothing of these units may get lost by that.
pub struct Unused {
    pub problem: Problem,
    pub units: Vec<Use>,
}

impl Unused {
    pub fn one(problem: Problem, of: Use) -> Box<Unused> {
        Box::new(Unused { problem, units: vec![of] })
    }
}

/// A place of a table that nobody has, and nobody's requests still name.
pub(super) fn free_place<T>(table: &mut Vec<Option<T>>, is_named: impl Fn(u32) -> bool) -> u32 {
    let free = (0..table.len() as u32).find(|at| table[*at as usize].is_none() && !is_named(*at));
    free.unwrap_or_else(|| {
        table.push(None);
        table.len() as u32 - 1
    })
}

impl Lane {
    pub(super) fn find_slot(&self, id: &SlotId) -> Option<u32> {
        let same = |slot: &Option<Box<Slot>>| slot.as_ref().is_some_and(|slot| slot.spec.id == *id);
        self.slots.iter().position(same).map(|index| index as u32)
    }

    /// Makes a slot; with what the last worker left of it, goes on where that stopped. If it cannot,
    /// what was left comes back.
    pub fn add_slot(
        &mut self,
        spec: SlotSpec,
        volumes: Vec<Use>,
        mut left: HashMap<String, OwnedFd>,
    ) -> Result<(), Box<Unmade>> {
        if spec.device.model().is_emulated() {
            return self.add_emulated(spec, volumes, left);
        }
        let resumed = !left.is_empty();
        // A place whose last slot still has requests at a disk is not given away: their ends would be
        // taken for the new slot's.
        let requests = &self.requests;
        let index = free_place(&mut self.slots, |at| requests.has_of_slot(at));
        let mut opened = Vec::new();
        // What was left is given back if there is no device for it: its guest waits for one.
        let spec_given = spec.clone();
        let mut unused = Vec::new();
        let made = match self.make_device(index, &spec, volumes, resumed, &mut opened, &mut unused) {
            Err(problem) => Err(problem),
            Ok(device) => Slot::new(index, spec, device, &mut left, &self.vault, &self.wait),
        };
        self.blame_nobody();
        match made {
            Ok(slot) => {
                self.slots[index as usize] = Some(Box::new(slot));
                self.take_bequest(index);
                self.give_up_begun(index);
                self.look_at_rings(index);
                Ok(())
            }
            Err(problem) => {
                self.forget_port(Target::Slot(index));
                Err(self.unmade(&spec_given, resumed, opened, Unused { problem, units: unused }, left))
            }
        }
    }

    /// Everything that was taken for a slot which cannot be made, to be given back.
    pub(super) fn unmade(
        &mut self,
        spec: &SlotSpec,
        resumed: bool,
        opened: Vec<u32>,
        unused: Unused,
        left: HashMap<String, OwnedFd>,
    ) -> Box<Unmade> {
        let mut unused = Box::new(unused);
        for volume in opened {
            if !resumed {
                self.leave_unit_of_slot(spec, volume);
            }
            unused = self.give_up_volume(volume, unused);
        }
        let Unused { problem, units } = *unused;
        Box::new(Unmade { problem, left, units })
    }

    /// One user less, of whom nothing came. A unit that nobody else has waits, as a dying worker would
    /// leave it.
    pub(super) fn give_up_volume(&mut self, volume: u32, mut unused: Box<Unused>) -> Box<Unused> {
        let of = self.volumes.get(volume).map(|open| open.spec.clone());
        if let (Some(spec), Some(left)) = (of, self.volumes.release_unit(volume)) {
            unused.units.retain(|there| there.spec.name != spec.name);
            unused.units.push(Use { lun: LunAddress::default(), spec, left });
        }
        self.volumes.close(volume);
        unused
    }

    /// If no ring of a slot has anything left that a dead worker had begun, then nothing of it comes
    /// again: others do not wait for it. So it is with a slot in quarantine, for one.
    pub(super) fn give_up_begun(&mut self, index: u32) {
        let Some(Some(slot)) = self.slots.get(index as usize) else { return };
        let Device::Scsi(device) = &slot.device else { return };
        if slot.has_resumed() {
            return;
        }
        let view = std::rc::Rc::clone(&device.view);
        for (_, volume, nexus) in view.units.iter() {
            if let Some(logical) = self.volumes.unit(*volume) {
                logical.unit.comes_no_more(*nexus);
                self.unit_changed(*volume);
            }
        }
    }

    fn make_device(
        &mut self,
        index: u32,
        spec: &SlotSpec,
        volumes: Vec<Use>,
        resumed: bool,
        opened: &mut Vec<u32>,
        unused: &mut Vec<Use>,
    ) -> Result<Device, Problem> {
        for volume in &volumes {
            match self.volumes.open(&volume.spec, resumed) {
                Ok(index) => opened.push(index),
                Err(problem) => {
                    unused.extend(volumes);
                    return Err(problem);
                }
            }
        }
        match &spec.device {
            DeviceSpec::VirtioScsi { port_id, path, .. } => {
                if volumes.len() > LUNS_MAX {
                    unused.extend(volumes);
                    return Err(Problem::invalid(format!("a controller has at most {LUNS_MAX} LUNs"))
                        .at(spec.id.to_string())
                        .hint("add a second disk slot of model virtio-scsi for the others"));
                }
                let mut device = ScsiDevice::new(spec.queues);
                let mut luns = Vec::with_capacity(volumes.len());
                let mut volumes = volumes.into_iter().zip(opened.iter());
                while let Some((mut at, volume)) = volumes.next() {
                    match self.join_unit(&spec.id, *volume, &mut at.left, *port_id, *path) {
                        Ok(nexus) => luns.push((at.lun, Lun { volume: *volume, nexus })),
                        Err(problem) => {
                            unused.push(at);
                            unused.extend(volumes.map(|(rest, _)| rest));
                            return Err(problem);
                        }
                    }
                }
                device.insert_all(luns);
                Ok(Device::Scsi(Box::new(device)))
            }
            DeviceSpec::Pvscsi { .. } | DeviceSpec::Nic { .. } => {
                unreachable!("`add_emulated` makes these")
            }
            DeviceSpec::VirtioBlk { .. } => {
                let volume = opened.first().copied().unwrap_or(u32::MAX);
                let Some(open) = self.volumes.get(volume) else {
                    return Err(Problem::failed("the slot has no volume").at(spec.id.to_string()));
                };
                Ok(Device::Blk(Box::new(BlkDevice::new(volume, open.facts().clone(), spec.queues))))
            }
            DeviceSpec::VirtioNet { network, mac, tagging } => {
                let Some(number) = self.networks.find(network) else {
                    return Err(Problem::failed(format!("network `{network}` is not in this lane"))
                        .at(spec.id.to_string()));
                };
                let mac = Mac(mac.0);
                let Some(found) = self.networks.get(number) else { unreachable!("it was just found") };
                let config = found.port_config(tagging, Some(mac));
                let port = found
                    .switch
                    .add_port(config)
                    .map_err(|refused| no_port(&spec.id.to_string(), &refused))?;
                found.set_target(port, Target::Slot(index), &spec.id.to_string());
                let config = virtio_net::Config {
                    mac,
                    mac_changeable: true,
                    mtu: u16::try_from(found.spec.mtu).ok().filter(|mtu| *mtu != 1500),
                    pairs_max: spec.queues,
                    link: virtio_net::Link::Up,
                    speed: u32::MAX,
                };
                Ok(Device::Net(Box::new(NetDevice::new(config, number, port))))
            }
        }
    }

    pub(super) fn forget_port(&mut self, of: Target) {
        for network in self.networks.list.iter_mut().flatten() {
            if let Some(at) = network.targets.iter().position(|target| *target == of) {
                let port = network.switch.ports().map(|(id, _, _)| id).find(|id| id.index() == at);
                if let Some(port) = port {
                    network.switch.remove_port(port);
                }
                network.targets[at] = Target::Nobody;
            }
        }
    }

    /// A NIC that has stopped receiving is not flooded to; the port itself stays.
    pub(super) fn rings_changed(&mut self, index: u32) {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        if let Device::Scsi(device) = &slot.device
            && device.events.is_waiting()
        {
            self.deliver_events(index);
        }
    }

    /// Takes a slot out of the lane; its volumes stay open.
    fn take_slot(&mut self, id: &SlotId) -> Option<(Box<Slot>, Vec<u32>)> {
        let index = self.find_slot(id)?;
        let slot = self.slots[index as usize].take()?;
        blame::strike_off(index);
        self.forget_port(Target::Slot(index));
        self.active.retain(|(slot, _)| *slot != index);
        self.staged.retain(|(slot, _)| *slot != index);
        let volumes: Vec<u32> = match &slot.device {
            Device::Scsi(device) => device.luns().values().map(|lun| lun.volume).collect(),
            Device::Blk(device) => vec![device.volume],
            Device::Net(_) => Vec::new(),
        };
        Some((slot, volumes))
    }

    pub fn remove_slot(&mut self, id: &SlotId) {
        if let Some(index) = self.find_emulated(id) {
            self.remove_emulated(index);
            return;
        }
        if let Some((slot, volumes)) = self.take_slot(id) {
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

    /// Gives a slot up as a dying worker would: its descriptors, by the names that they are kept under,
    /// and the units of its volumes. What it has at the disks ends first, as far as it does so soon.
    #[expect(clippy::type_complexity, reason = "two maps, named in the sentence above")]
    pub fn release_slot(
        &mut self,
        id: &SlotId,
    ) -> Result<(HashMap<String, OwnedFd>, HashMap<String, Left>), Problem> {
        if let Some(index) = self.find_emulated(id) {
            return self.release_emulated(index);
        }
        if let Some(index) = self.find_slot(id) {
            self.rest_slot(index)?;
        }
        self.publish();
        let Some((slot, volumes)) = self.take_slot(id) else {
            return Err(Problem::failed(format!("there is no slot `{id}`")));
        };
        let mut units = HashMap::new();
        for volume in volumes {
            let name = self.volumes.get(volume).map(|open| open.spec.name.clone());
            if let (Some(name), Some(left)) = (name, self.volumes.release_unit(volume)) {
                units.insert(name, left);
            }
            self.volumes.close(volume);
        }
        let left = slot.release(&self.wait).map_err(|error| {
            Problem::failed(format!("cannot move slot `{id}`: {error}"))
                .hint("the server has too many descriptors open; raise LimitNOFILE= in its unit")
        })?;
        Ok((left, units))
    }

    /// Nothing new is begun for a slot, and what is under way at the disks ends.
    fn rest_slot(&mut self, index: u32) -> Result<(), Problem> {
        self.active.retain(|(slot, _)| *slot != index);
        if self.rest(|origin| matches!(origin, Origin::Ring { slot, .. } if slot == index)) {
            return Ok(());
        }
        self.look_at_rings(index);
        Err(Problem::failed("the slot's requests do not end; a store hangs")
            .hint("mend the store, then apply the site again"))
    }

    pub fn change_slot(&mut self, spec: SlotSpec) -> Result<(), Problem> {
        if let Some(index) = self.find_emulated(&spec.id) {
            return self.change_emulated(index, spec);
        }
        let Some(index) = self.find_slot(&spec.id) else {
            return Err(Problem::failed(format!("there is no slot `{}`", spec.id)));
        };
        let Some(slot) = self.slots[index as usize].as_mut() else { return Ok(()) };
        if let Some(user) = &spec.user
            && slot.spec.user.as_ref() != Some(user)
        {
            host::process::give_to_user(&spec.socket, user).map_err(|error| {
                Problem::failed(format!("cannot give the socket to `{user}`: {error}"))
                    .at(spec.id.to_string())
            })?;
        }
        if let (Device::Net(device), DeviceSpec::VirtioNet { network, mac, tagging }) =
            (&mut slot.device, &spec.device)
        {
            let Some(number) = self.networks.find(network) else {
                return Err(Problem::failed(format!("network `{network}` is not in this lane")));
            };
            let name = spec.id.to_string();
            let mac = Mac(mac.0);
            if number == device.network {
                let Some(network) = self.networks.get(number) else { unreachable!("it was just found") };
                let config = network.port_config(tagging, Some(mac));
                network
                    .switch
                    .change_port(device.port, config)
                    .map_err(|refused| no_port(&name, &refused))?;
            } else {
                let Some(network) = self.networks.get(number) else { unreachable!("it was just found") };
                let config = network.port_config(tagging, Some(mac));
                let port = network.switch.add_port(config).map_err(|refused| no_port(&name, &refused))?;
                network.set_target(port, Target::Slot(index), &name);
                if let Some(old) = self.networks.get(device.network) {
                    old.switch.remove_port(device.port);
                    old.set_target(device.port, Target::Nobody, "");
                }
                device.network = number;
                device.port = port;
            }
            let changed = virtio_net::Config { mac, ..*device.nic.config() };
            device.nic.change(changed);
        }
        slot.spec = spec.clone();
        if let DeviceSpec::VirtioScsi { port_id, path, .. } = &spec.device {
            self.set_path(index, *port_id, *path);
        }
        Ok(())
    }

    pub fn add_network(&mut self, spec: NetworkSpec) -> Result<(), Problem> {
        let mut seed = [0; 8];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut source| std::io::Read::read_exact(&mut source, &mut seed))
            .map_err(|error| {
                Problem::failed(format!("cannot read random numbers: {error}")).at("/dev/urandom")
            })?;
        let switch = Switch::new(SwitchConfig {
            entries_max: ENTRIES_MAX,
            ports_max: PORTS_MAX,
            ageing: std::time::Duration::from_secs(u64::from(spec.age_seconds)),
            seed: u64::from_le_bytes(seed),
        });
        let network = Network { spec, switch, targets: Vec::new(), names: Vec::new(), link_mbps: LINK_MBPS };
        match self.networks.list.iter().position(Option::is_none) {
            Some(index) => self.networks.list[index] = Some(network),
            None => self.networks.list.push(Some(network)),
        }
        Ok(())
    }

    /// MTU and limits change; frames go on. The ageing time is taken over by new networks only.
    pub fn change_network(&mut self, spec: NetworkSpec) -> Result<(), Problem> {
        let Some(number) = self.networks.find(&spec.name) else { return self.add_network(spec) };
        let Some(network) = self.networks.get(number) else { return Ok(()) };
        network.spec = spec;
        let ports: Vec<(PortId, switch::PortConfig)> =
            network.switch.ports().map(|(id, config, _)| (id, config.clone())).collect();
        let fresh = network.port_config(&control::step::Tagging::Access(1), None);
        for (port, config) in ports {
            let changed = switch::PortConfig { mtu: fresh.mtu, storm: fresh.storm, ..config };
            network
                .switch
                .change_port(port, changed)
                .map_err(|refused| no_port(&network.spec.name, &refused))?;
        }
        Ok(())
    }

    pub fn remove_network(&mut self, name: &str) {
        if let Some(number) = self.networks.find(name) {
            for index in 0..self.networks.uplinks.len() {
                let gone = self.networks.uplinks[index].take_if(|uplink| uplink.network == number);
                if let Some(uplink) = gone {
                    self.close_uplink(uplink);
                }
            }
            self.networks.list[number as usize] = None;
        }
    }

    pub fn add_uplink(&mut self, spec: UplinkSpec) -> Result<(), Problem> {
        let Some(number) = self.networks.find(&spec.network) else {
            return Err(Problem::failed(format!("network `{}` is not in this lane", spec.network)));
        };
        let place = format!("network.{}.uplink.{}", spec.network, spec.name);
        if self
            .networks
            .uplinks
            .iter()
            .flatten()
            .any(|uplink| uplink.network == number && uplink.spec.name == spec.name)
        {
            return Ok(());
        }
        let mtu = self.networks.get(number).map_or(1500, |network| network.spec.mtu);
        let taps = self.open_taps(&spec, mtu).map_err(|error| {
            Problem::failed(format!("cannot open the TAP `{}`: {error}", spec.tap)).at(place.clone()).hint(
                "the server needs CAP_NET_ADMIN and /dev/net/tun, or a TAP that was made for its user with `ip tuntap add mode tap multi_queue vnet_hdr`",
            )
        })?;
        let index = match self.networks.uplinks.iter().position(Option::is_none) {
            Some(index) => index as u32,
            None => {
                self.networks.uplinks.push(None);
                self.networks.uplinks.len() as u32 - 1
            }
        };
        let Some(network) = self.networks.get(number) else { unreachable!("it was just found") };
        let config = network.port_config(&spec.tagging, None);
        let port = network.switch.add_port(config).map_err(|refused| no_port(&place, &refused))?;
        network.set_target(port, Target::Uplink(index), &format!("uplink.{}", spec.name));
        for (queue, tap) in taps.iter().enumerate() {
            let token = Token::Uplink { uplink: index, queue: queue as u32 };
            self.wait.add(tap.as_fd(), token.into(), Interest::READ).map_err(|error| {
                Problem::failed(format!("cannot wait for frames: {error}")).at(place.clone())
            })?;
        }
        let taps = taps.into_iter().map(Some).collect();
        self.networks.uplinks[index as usize] = Some(Uplink { spec, taps, network: number, port });
        self.look_at_link(number);
        Ok(())
    }

    /// The queues that the last worker left, or new ones. The keeper holds them, so that the interface
    /// and what the host put on it stay when the worker goes.
    fn open_taps(&mut self, spec: &UplinkSpec, mtu: u32) -> std::io::Result<Vec<UplinkTap>> {
        let queues = usize::from(spec.queues.max(1));
        let left: Vec<OwnedFd> =
            (0..queues).filter_map(|queue| self.estate.remove(&tap_name(spec, queue))).collect();
        if left.len() == queues {
            return left.into_iter().map(UplinkTap::adopt).collect();
        }
        let (taps, _) = uplink_tap::open(&spec.tap, spec.queues, mtu)?;
        for (queue, tap) in taps.iter().enumerate() {
            self.vault.keep(&tap_name(spec, queue), tap.as_fd());
        }
        Ok(taps)
    }

    /// Descriptors of uplinks that the last worker left, by their names at the keeper.
    pub fn inherit(&mut self, left: HashMap<String, OwnedFd>) {
        self.estate.extend(left);
    }

    pub fn change_uplink(&mut self, spec: UplinkSpec) -> Result<(), Problem> {
        let number = self.networks.find(&spec.network);
        let found = self.networks.uplinks.iter().position(|uplink| {
            uplink
                .as_ref()
                .is_some_and(|uplink| Some(uplink.network) == number && uplink.spec.name == spec.name)
        });
        let Some(index) = found else { return self.add_uplink(spec) };
        let Some(uplink) = self.networks.uplinks[index].as_mut() else { return Ok(()) };
        let port = uplink.port;
        uplink.spec = spec.clone();
        if let Some(network) = number.and_then(|number| self.networks.get(number)) {
            let config = network.port_config(&spec.tagging, None);
            network.switch.change_port(port, config).map_err(|refused| no_port(&spec.name, &refused))?;
        }
        number.inspect(|number| self.look_at_link(*number));
        Ok(())
    }

    pub fn remove_uplink(&mut self, network: &str, name: &str) {
        let number = self.networks.find(network);
        for index in 0..self.networks.uplinks.len() {
            let gone = self.networks.uplinks[index]
                .take_if(|uplink| Some(uplink.network) == number && uplink.spec.name == name);
            if let Some(uplink) = gone {
                let number = uplink.network;
                self.close_uplink(uplink);
                self.look_at_link(number);
            }
        }
    }

    fn close_uplink(&mut self, uplink: Uplink) {
        for (queue, tap) in uplink.taps.iter().flatten().enumerate() {
            let _ = self.wait.delete(tap.as_fd());
            self.vault.forget(&tap_name(&uplink.spec, queue));
        }
        if let Some(network) = self.networks.get(uplink.network) {
            network.switch.remove_port(uplink.port);
            network.set_target(uplink.port, Target::Nobody, "");
        }
    }

    pub(super) fn report_objects(&self, report: &mut Report) {
        for slot in self.slots.iter().flatten() {
            let name = slot.link.name.clone();
            if slot.quarantined {
                report.quarantined.push(Quarantined {
                    slot: slot.spec.id.clone(),
                    reason: format!(
                        "its device brought the server down {} times within a minute",
                        blame::DEATHS_MAX
                    ),
                });
            }
            let mut counters: std::collections::BTreeMap<String, u64> = slot.counters().collect();
            counters.extend(slot.device.counters());
            let mut queues = 0;
            for ring in &slot.rings {
                let Some(queue) = &ring.queue else { continue };
                queues += 1;
                let of_ring = queue.counters();
                for (name, value) in [
                    ("requests", of_ring.popped),
                    ("requests_resumed", of_ring.resubmitted),
                    ("requests_ended", of_ring.pushed),
                    ("batches", of_ring.batches),
                    ("interrupts", of_ring.interrupts),
                ] {
                    *counters.entry(name.to_owned()).or_default() += value;
                }
            }
            let model: Model = slot.spec.device.model();
            report
                .slots
                .insert(name, SlotStatus { model, connected: slot.link.is_connected(), queues, counters });
        }
        for network in self.networks.list.iter().flatten() {
            let mut status = NetworkStatus {
                fdb_size: network.switch.known(self.now).count() as u64,
                ..NetworkStatus::default()
            };
            for (port, _, counters) in network.switch.ports() {
                let name = network.names.get(port.index()).cloned().unwrap_or_default();
                let reasons = Reason::ALL.iter().flat_map(|reason| {
                    [
                        (format!("entry_{}", reason.name()), counters.entry[*reason as usize]),
                        (format!("exit_{}", reason.name()), counters.exit[*reason as usize]),
                    ]
                });
                let counters = [
                    ("received_frames", counters.received.frames),
                    ("received_bytes", counters.received.bytes),
                    ("sent_frames", counters.sent.frames),
                    ("sent_bytes", counters.sent.bytes),
                    ("unicast", counters.unicast),
                    ("flooded", counters.flooded),
                    ("copies", counters.copies),
                    ("not_learned", counters.not_learned),
                    ("moved_in", counters.moved_in),
                    ("claims_refused", counters.claims_refused),
                ]
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .chain(reasons)
                .collect();
                status.ports.push(PortStatus { name, counters });
            }
            report.networks.insert(network.spec.name.clone(), status);
        }
        let mut peers = std::collections::BTreeMap::new();
        for slot in self.slots.iter().flatten() {
            if let DeviceSpec::VirtioScsi { port_id, .. } = &slot.spec.device {
                let name = slot.spec.id.to_string();
                peers.insert(peer_of_slot(&name, *port_id), name);
            }
        }
        self.volumes.report(&peers, &mut report.volumes);
    }
}

/// The name under which a queue of an uplink is kept.
fn tap_name(spec: &UplinkSpec, queue: usize) -> String {
    format!("{}/{}.{}.{queue}", crate::lane::UPLINK, spec.network, spec.name)
}

pub(super) fn no_port(place: &str, refused: &switch::Refused) -> Problem {
    let what = match refused {
        switch::Refused::Full => format!("a network has at most {PORTS_MAX} ports"),
        switch::Refused::MacTaken(_) => "another port of the network has this MAC address".to_owned(),
        switch::Refused::UnknownPort => "the port is gone".to_owned(),
    };
    Problem::conflict(what).at(place.to_owned()).hint("give the nic another `mac`, or another network")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::link::{INFLIGHT, LISTENER};
    use crate::vault::Vault;
    use host::wait::Wait;

    #[test]
    fn a_slot_that_cannot_be_made_leaves_all_that_was_left_of_it() {
        let folder = tempfile::TempDir::new().unwrap();
        let spec = SlotSpec {
            id: "web1.disk0".parse().unwrap(),
            socket: folder.path().join("s"),
            user: None,
            queues: 1,
            group: None,
            device: DeviceSpec::VirtioBlk { volume: "root".to_owned() },
        };
        let (vault, wait) = (Vault::default(), Wait::new(16).unwrap());
        let mut estate = HashMap::new();
        let make = |estate: &mut HashMap<String, OwnedFd>| {
            let device = Device::Scsi(Box::new(ScsiDevice::new(1)));
            Slot::new(0, spec.clone(), device, estate, &vault, &wait)
        };
        drop(make(&mut estate).unwrap());
        let listener = estate[LISTENER].try_clone().unwrap();
        // A table of requests in flight that cannot be mapped.
        let bad = host::event::Event::new().unwrap().into_fd();
        let mut estate: HashMap<String, OwnedFd> =
            [(LISTENER.to_owned(), listener), (INFLIGHT.to_owned(), bad)].into();
        for name in ["ledger", "out", "conn", "g1"] {
            estate.insert(name.to_owned(), host::memfd::create("other", 4096).unwrap());
        }
        let problem = make(&mut estate).err().expect("a slot without a table");
        assert!(problem.what.contains("table of requests in flight"), "{problem}");
        assert_eq!(estate.len(), 6, "{estate:?}");
    }
}
