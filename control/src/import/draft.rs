//! What becomes of a machine: slots of ours for its controllers and adapters. What is not served here
//! as it was is never replaced without having been asked for, and everything that changes is told.

use super::birth;
use crate::problem::{Kind, Problem};
use crate::site::{self, LunAddress, Mac, Model, Site, Size, Slot, SlotLuns, is_vm_name};
use appliance::ovf::{Bus, Controller, Drive, Envelope, Firmware, Machine, Medium, Nic};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What was asked for.
pub struct Wishes {
    /// Names of VMs, by the name in the package; without one for the only VM.
    pub names: Vec<(Option<String>, String)>,
    /// Networks of ours, by the package's; without one for all others.
    pub networks: Vec<(Option<String>, String)>,
    pub macs: Vec<(String, Mac)>,
    /// In the place of controllers and adapters that are not served.
    pub disks: Option<Model>,
    pub nics: Option<Model>,
    pub user: Option<String>,
    pub place: Place,
}

/// Where the volumes are to be.
pub enum Place {
    Store { name: String, directory: PathBuf },
    Directory(PathBuf),
}

impl Place {
    pub fn directory(&self) -> &Path {
        match self {
            Place::Store { directory, .. } | Place::Directory(directory) => directory,
        }
    }

    fn file(&self, volume: &str) -> PathBuf {
        self.directory().join(format!("{volume}.raw"))
    }

    /// A volume of this size there.
    pub fn volume(&self, volume: &NewVolume, size: u64) -> site::Volume {
        let kind = if volume.is_cd { site::Kind::Cdrom } else { site::Kind::Disk };
        let (store, path) = match self {
            Place::Store { name, .. } => (Some(name.clone()), None),
            Place::Directory(_) => (None, Some(volume.path.clone())),
        };
        site::Volume { store, path, size: Some(Size(size)), kind, ..site::Volume::default() }
    }
}

pub struct Draft {
    pub machines: Vec<NewMachine>,
    pub notes: Vec<String>,
}

pub struct NewMachine {
    pub name: String,
    pub system: Option<String>,
    pub firmware: Firmware,
    pub vm: site::Vm,
    pub volumes: Vec<NewVolume>,
    pub notes: Vec<String>,
}

pub struct NewVolume {
    pub name: String,
    pub path: PathBuf,
    pub from: Origin,
    pub is_cd: bool,
}

/// Where a volume's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A disk of the package, by its id.
    Disk(String),
    /// A file, by its id: the image of a CD.
    File(String),
}

/// A name of ours that is near to one of theirs.
fn near(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    // Its volumes are named after it: room for `-disk255`.
    name.truncate(54);
    name.trim_end_matches('-').to_owned()
}

/// All machines of a package. `stem` is the package's own name.
pub fn draft(envelope: &Envelope, wishes: &Wishes, site: &Site, stem: &str) -> Result<Draft, Problem> {
    let mut problems = Vec::new();
    let mut made = Draft { machines: Vec::new(), notes: envelope.notes.clone() };
    let mut used = BTreeMap::new();
    for machine in &envelope.machines {
        let alone = envelope.machines.len() == 1;
        let name = match name(machine, wishes, alone, stem) {
            Ok(name) => name,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        if site.vm.contains_key(&name) || made.machines.iter().any(|other| other.name == name) {
            problems.push(
                Problem::conflict(format!("there is already a VM `{name}`"))
                    .at(format!("vm.{name}"))
                    .hint("give it another name with --name, or remove that one first"),
            );
        }
        let mut builder = Builder {
            machine,
            wishes,
            site,
            alone,
            problems: &mut problems,
            made: NewMachine {
                system: machine.system.clone(),
                firmware: machine.firmware,
                vm: site::Vm {
                    user: wishes.user.clone(),
                    // Guests have whole pages.
                    memory: machine.memory.and_then(|bytes| bytes.checked_next_multiple_of(4096)).map(Size),
                    cpus: machine.cpus,
                    ..site::Vm::default()
                },
                volumes: Vec::new(),
                notes: Vec::new(),
                name,
            },
            slots_of: BTreeMap::new(),
        };
        builder.disks();
        builder.nics();
        builder.boot();
        builder.notes();
        for volume in &builder.made.volumes {
            *used.entry(volume.from.clone()).or_insert(0) += 1;
        }
        made.machines.push(builder.made);
    }
    for (id, _) in envelope.disks.iter().filter(|(id, _)| !used.contains_key(&Origin::Disk((*id).clone()))) {
        made.notes.push(format!("disk `{id}` of the package is at no machine and was left out"));
    }
    for (origin, count) in used.iter().filter(|(_, count)| **count > 1) {
        let (Origin::Disk(id) | Origin::File(id)) = origin;
        made.notes.push(format!("`{id}` of the package is in {count} places: each has a copy of its own"));
    }
    for (network, _) in wishes.networks.iter().filter_map(|(theirs, ours)| Some((theirs.as_ref()?, ours))) {
        let mut nics = envelope.machines.iter().flat_map(|machine| &machine.nics);
        if !nics.any(|nic| nic.network.as_ref() == Some(network)) {
            problems.push(unknown(
                "network",
                network,
                envelope.machines.iter().flat_map(|m| &m.nics).filter_map(|n| n.network.clone()),
            ));
        }
    }
    problems.extend(macs(wishes, &made.machines, problems.is_empty()));
    for theirs in wishes.names.iter().filter_map(|(theirs, _)| theirs.as_ref()) {
        if !envelope.machines.iter().any(|machine| known_as(machine, theirs)) {
            problems.push(unknown("VM", theirs, envelope.machines.iter().map(|m| m.id.clone())));
        }
    }
    Problem::from_list(problems).map_or(Ok(made), Err)
}

/// What is wrong with the addresses that were asked for. `whole`: every slot has been made.
fn macs(wishes: &Wishes, machines: &[NewMachine], whole: bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut given = BTreeSet::new();
    for (id, _) in &wishes.macs {
        let (vm, nic) = id.split_once('.').map_or((None, id.as_str()), |(vm, nic)| (Some(vm), nic));
        let is_nic =
            |machine: &NewMachine| machine.vm.slots.get(nic).is_some_and(|slot| slot.network.is_some());
        let named = machines.iter().filter(|machine| vm.is_none_or(|vm| vm == machine.name));
        let names: Vec<&str> =
            named.filter(|machine| is_nic(machine)).map(|machine| machine.name.as_str()).collect();
        match names.as_slice() {
            [] if whole => problems.push(
                Problem::invalid(format!("--mac names {id}, and there is no NIC in such a slot"))
                    .hint("--dry-run shows the slots; of several VMs write VM.SLOT=ADDRESS"),
            ),
            [] => {}
            [one] if given.insert((*one, nic)) => {}
            [one] => problems.push(Problem::invalid(format!("--mac gives {one}.{nic} two addresses"))),
            [first, ..] => problems.push(
                Problem::invalid(format!(
                    "--mac names {id}, and the VMs {} have a NIC there",
                    names.join(", ")
                ))
                .hint(format!("say whose it is: --mac {first}.{nic}=ADDRESS")),
            ),
        }
    }
    problems
}

fn unknown(what: &str, name: &str, known: impl Iterator<Item = String>) -> Problem {
    let known: BTreeSet<String> = known.collect();
    let list: Vec<String> = known.into_iter().map(|name| format!("`{name}`")).collect();
    Problem::invalid(format!("the package has no {what} `{name}`")).hint(if list.is_empty() {
        "it has none".to_owned()
    } else {
        format!("it has {}", list.join(", "))
    })
}

fn known_as(machine: &Machine, name: &str) -> bool {
    machine.id == name || machine.name.as_deref() == Some(name)
}

fn name(machine: &Machine, wishes: &Wishes, alone: bool, stem: &str) -> Result<String, Problem> {
    let mut wished = wishes.names.iter();
    let wished = wished.find(|(theirs, _)| theirs.as_ref().map_or(alone, |theirs| known_as(machine, theirs)));
    if let Some((_, name)) = wished {
        if is_vm_name(name) && name.len() <= 54 {
            return Ok(name.clone());
        }
        return Err(Problem::invalid(format!("`{name}` cannot be the name of a VM"))
            .hint("use a to z, 0 to 9, `_` and `-`, begin with a letter or digit, 54 characters at most: its volumes are named after it"));
    }
    if !alone && wishes.names.iter().any(|(theirs, _)| theirs.is_none()) {
        return Err(Problem::invalid("the package has several VMs, and --name is for one of them")
            .hint(format!("write --name {}=NAME", machine.id)));
    }
    // `vm` is what exporters write if they have nothing to say.
    let said = machine.name.as_deref().into_iter().chain((machine.id != "vm").then_some(machine.id.as_str()));
    let name = said.chain([stem]).map(near).find(|name| !name.is_empty());
    name.ok_or_else(|| Problem::invalid("the package gives its VM no name").hint("give it one with --name"))
}

struct Builder<'a> {
    machine: &'a Machine,
    wishes: &'a Wishes,
    site: &'a Site,
    /// It is the package's only one.
    alone: bool,
    problems: &'a mut Vec<Problem>,
    made: NewMachine,
    /// Where each device of the package is now.
    slots_of: BTreeMap<String, String>,
}

/// What is served as it was.
fn served(bus: &Bus) -> Option<Model> {
    match bus {
        Bus::Pvscsi => Some(Model::Pvscsi),
        Bus::VirtioScsi => Some(Model::VirtioScsi),
        Bus::VirtioBlk => Some(Model::VirtioBlk),
        Bus::LsiLogic
        | Bus::LsiLogicSas
        | Bus::BusLogic
        | Bus::Scsi(_)
        | Bus::Sata
        | Bus::Ide
        | Bus::Nvme => None,
    }
}

fn bus_name(bus: &Bus) -> String {
    match bus {
        Bus::Pvscsi => "PVSCSI".into(),
        Bus::VirtioScsi => "virtio-scsi".into(),
        Bus::VirtioBlk => "virtio-blk".into(),
        Bus::LsiLogic => "LSI Logic".into(),
        Bus::LsiLogicSas => "LSI Logic SAS".into(),
        Bus::BusLogic => "BusLogic".into(),
        Bus::Scsi(kind) if kind.is_empty() => "SCSI of no kind that is said".into(),
        Bus::Scsi(kind) => format!("SCSI `{kind}`"),
        Bus::Sata => "SATA".into(),
        Bus::Ide => "IDE".into(),
        Bus::Nvme => "NVMe".into(),
    }
}

impl Builder<'_> {
    fn note(&mut self, text: String) {
        self.made.notes.push(text);
    }

    fn free_slot(&self, kind: &str) -> String {
        let mut names = (0..).map(|number| format!("{kind}{number}"));
        names.find(|name| !self.made.vm.slots.contains_key(name)).unwrap_or_default()
    }

    fn disks(&mut self) {
        let mut loose = Vec::new();
        let mut empty = 0;
        for controller in &self.machine.controllers {
            let is_disk = |drive: &&Drive| matches!(drive.medium, Medium::Disk(_));
            empty += controller.drives.iter().filter(|drive| drive.medium == Medium::Cd(None)).count();
            let (disks, cds): (Vec<&Drive>, Vec<&Drive>) = controller.drives.iter().partition(is_disk);
            let cds: Vec<&Drive> = cds.into_iter().filter(|drive| drive.medium != Medium::Cd(None)).collect();
            let as_was = served(&controller.bus);
            let model = match as_was.or(self.wishes.disks) {
                // A CD can be anywhere: a guest that can read one at all finds it behind any controller that
                // it has a driver for.
                _ if disks.is_empty() && as_was.is_none_or(|model| !model.is_scsi()) => {
                    loose.extend(cds);
                    continue;
                }
                Some(model) => model,
                None => {
                    self.refuse_controller(controller);
                    continue;
                }
            };
            if model.is_scsi() {
                let slot = self.scsi_slot(model, controller, disks.into_iter().chain(cds));
                if as_was.is_none() {
                    self.changed(controller, model, &slot);
                }
                continue;
            }
            loose.extend(cds);
            for drive in disks {
                let slot = self.free_slot("disk");
                let mut made = Slot::new(model);
                made.volume = self.volume(drive);
                self.slots_of.insert(drive.instance.clone(), slot.clone());
                self.made.vm.slots.insert(slot.clone(), made);
                if as_was.is_none() {
                    self.changed(controller, model, &slot);
                }
            }
        }
        self.loose_cds(loose);
        if empty > 0 {
            self.note("its empty CD drive is left out: make a volume of an ISO image when one is needed (standpipe disk create NAME --path ISO --kind cdrom), and plug it into a SCSI slot (standpipe disk attach)".into());
        }
    }

    fn changed(&mut self, controller: &Controller, model: Model, slot: &str) {
        let article = model.with_article();
        self.note(format!(
            "{} ({}) is not served here: its disks are at {slot}, {article}, and the guest must have that driver to boot",
            controller.name,
            bus_name(&controller.bus)
        ));
    }

    fn refuse_controller(&mut self, controller: &Controller) {
        let what = format!(
            "VM `{}` has disks at {} ({}), which is not served here",
            self.made.name,
            controller.name,
            bus_name(&controller.bus)
        );
        self.problems.push(Problem::invalid(what).hint(
            "say what it is to become, one that the guest has a driver for when it boots: --disks pvscsi, --disks virtio-scsi or --disks virtio-blk",
        ));
    }

    fn scsi_slot<'a>(
        &mut self,
        model: Model,
        controller: &Controller,
        drives: impl Iterator<Item = &'a Drive>,
    ) -> String {
        let slot = self.free_slot("disk");
        let mut luns = BTreeMap::new();
        for drive in drives {
            let address = drive.address.and_then(|address| u16::try_from(address).ok());
            let address =
                address.filter(|address| *address <= model.lun_max() && !luns.contains_key(address));
            let lun = address.or_else(|| (0..=model.lun_max()).find(|lun| !luns.contains_key(lun)));
            let Some((lun, volume)) = lun.zip(self.volume(drive)) else {
                self.problems.push(Problem::invalid(format!("{} has too many disks", controller.name)));
                break;
            };
            if drive.address.is_some_and(|address| u32::from(lun) != address) {
                self.note(format!("{} of {} is number {lun} of {slot}", drive.name, controller.name));
            }
            luns.insert(lun, volume);
            self.slots_of.insert(drive.instance.clone(), slot.clone());
        }
        let mut made = Slot::new(model);
        let luns = luns.into_iter().map(|(lun, volume)| (LunAddress::from(lun), volume));
        made.volumes = Some(SlotLuns(luns.collect()));
        self.made.vm.slots.insert(slot.clone(), made);
        slot
    }

    /// CDs whose controller is not here.
    fn loose_cds(&mut self, drives: Vec<&Drive>) {
        for drive in drives {
            let scsi = |(name, slot): (&String, &Slot)| slot.model.is_scsi().then(|| name.clone());
            let slot = self.made.vm.slots.iter().find_map(scsi).unwrap_or_else(|| {
                let model = self.wishes.disks.filter(|model| model.is_scsi()).unwrap_or(Model::VirtioScsi);
                let name = self.free_slot("disk");
                self.made.vm.slots.insert(name.clone(), Slot::new(model));
                name
            });
            let Some(volume) = self.volume(drive) else { continue };
            let Some(made) = self.made.vm.slots.get_mut(&slot) else { continue };
            let model = made.model;
            let SlotLuns(luns) = made.volumes.get_or_insert_default();
            let mut numbers = (0..=model.lun_max()).map(LunAddress::from);
            let Some(lun) = numbers.find(|lun| !luns.contains_key(lun)) else { continue };
            luns.insert(lun, volume);
            self.slots_of.insert(drive.instance.clone(), slot.clone());
            self.note(format!("{}: the CD in it is at {slot}, {}", drive.name, model.with_article()));
        }
    }

    fn volume(&mut self, drive: &Drive) -> Option<String> {
        let (from, is_cd) = match &drive.medium {
            Medium::Disk(id) => (Origin::Disk(id.clone()), false),
            Medium::Cd(Some(id)) => (Origin::File(id.clone()), true),
            Medium::Cd(None) => return None,
        };
        let same = self.made.volumes.iter().filter(|volume| volume.is_cd == is_cd).count();
        let name = format!("{}-{}{same}", self.made.name, if is_cd { "cd" } else { "disk" });
        if self.site.disk.contains_key(&name) {
            self.problems.push(
                Problem::conflict(format!("there is already a volume `{name}`"))
                    .at(format!("disk.{name}"))
                    .hint("give the VM another name with --name, or remove that volume first"),
            );
        }
        let path = self.wishes.place.file(&name);
        self.problems.extend(birth::refuse_existing(&path).err());
        self.made.volumes.push(NewVolume { name: name.clone(), path, from, is_cd });
        Some(name)
    }

    fn nics(&mut self) {
        for nic in &self.machine.nics {
            let slot = self.free_slot("nic");
            let Some(model) = self.nic_model(nic, &slot) else { continue };
            let Some(network) = self.network(nic) else { continue };
            let mut made = Slot::new(model);
            made.network = Some(network);
            made.mac = self.mac(nic, &slot);
            self.slots_of.insert(nic.instance.clone(), slot.clone());
            self.made.vm.slots.insert(slot, made);
        }
    }

    fn nic_model(&mut self, nic: &Nic, slot: &str) -> Option<Model> {
        let virtualbox = self.machine.hypervisor.as_deref().is_some_and(|kind| kind.contains("virtualbox"));
        let known = |word: &String| {
            Some(match word.to_ascii_lowercase().as_str() {
                "vmxnet3" => Model::Vmxnet3,
                "e1000e" => Model::E1000e,
                // VirtualBox's is the 82540EM unless it was told otherwise, VMware's the 82545EM.
                "e1000" if virtualbox => Model::E1000,
                "e1000" => Model::E1000Em,
                "flexible" => Model::Flexible,
                // VirtualBox's is the PCnet-FAST III unless it was told otherwise.
                "pcnet32" | "pcnet" if virtualbox => Model::Am79c973,
                "pcnet32" | "pcnet" | "vlance" => Model::Vlance,
                "virtio" | "virtio-net" => Model::VirtioNet,
                _ => return None,
            })
        };
        let found = nic.adapters.iter().find_map(known);
        if found.is_some() {
            return found;
        }
        let what = match nic.adapters.as_slice() {
            [] => "of no kind that is said".to_owned(),
            words => words.join(" "),
        };
        let Some(model) = self.wishes.nics else {
            self.problems.push(
                Problem::invalid(format!("VM `{}` has {} ({what}), which is not served here", self.made.name, nic.name)).hint(
                    "say what it is to become, one that the guest has a driver for: --nics e1000-82545em, --nics vmxnet3, --nics virtio-net, …",
                ),
            );
            return None;
        };
        self.note(format!(
            "{} ({what}) is not served here: it is at {slot}, {}, and the guest must have that driver",
            nic.name,
            model.with_article()
        ));
        Some(model)
    }

    fn network(&mut self, nic: &Nic) -> Option<String> {
        let theirs = nic.network.as_deref();
        let mapped = |wanted: Option<&str>| {
            let mut list = self.wishes.networks.iter();
            list.find(|(from, _)| from.as_deref() == wanted).map(|(_, ours)| ours.clone())
        };
        let same = theirs
            .map(|name| if self.site.network.contains_key(name) { name.to_owned() } else { near(name) });
        let same = same.filter(|name| self.site.network.contains_key(name));
        let found = theirs.and_then(|theirs| mapped(Some(theirs))).or_else(|| mapped(None)).or(same);
        let shown = theirs.unwrap_or_default();
        match found {
            Some(name) if self.site.network.contains_key(&name) => Some(name),
            Some(name) => {
                self.problems.push(crate::controller::no_such("network", &name, "network list"));
                None
            }
            None => {
                let ours: Vec<&str> = self.site.network.keys().map(String::as_str).collect();
                let hint = match ours.first() {
                    None => "make one first: standpipe network add lan --tap sp-lan".to_owned(),
                    Some(first) => format!(
                        "say which network of yours it is: --network \"{shown}={first}\" (there are {}), or --network {first} for all",
                        ours.join(", ")
                    ),
                };
                self.problems.push(
                    Problem::invalid(format!(
                        "{} of VM `{}` is on network `{shown}`, which is not here",
                        nic.name, self.made.name
                    ))
                    .hint(hint),
                );
                None
            }
        }
    }

    fn mac(&mut self, nic: &Nic, slot: &str) -> Option<Mac> {
        let own = format!("{}.{slot}", self.made.name);
        let mut wished = self.wishes.macs.iter();
        if let Some((_, mac)) = wished.find(|(id, _)| id == slot || *id == own) {
            return Some(*mac);
        }
        let id = if self.alone { slot } else { &own };
        let Some(text) = &nic.mac else {
            self.note(format!(
                "{slot} has an address of its own, as the package gives none: guests may take it for another adapter. Give the one that it had with --mac {id}=ADDRESS"
            ));
            return None;
        };
        let digits: String = text.chars().filter(|c| !":-.".contains(*c)).collect();
        let pairs = (0..6).map(|at| digits.get(2 * at..2 * at + 2)).collect::<Option<Vec<&str>>>();
        match pairs.filter(|_| digits.len() == 12).and_then(|pairs| pairs.join(":").parse().ok()) {
            Some(mac) => Some(mac),
            None => {
                self.problems.push(
                    Problem::new(
                        Kind::Invalid,
                        format!("{} of VM `{}` has the address `{text}`", nic.name, self.made.name),
                    )
                    .hint(format!("give it one with --mac {id}=ADDRESS")),
                );
                None
            }
        }
    }

    fn boot(&mut self) {
        let said = self.machine.boot.iter().filter_map(|instance| self.slots_of.get(instance));
        let mut order: Vec<String> = Vec::new();
        for slot in said {
            if !order.contains(slot) {
                order.push(slot.clone());
            }
        }
        if order.is_empty() {
            let drives = self.machine.controllers.iter().flat_map(|controller| &controller.drives);
            let mut disks = drives.filter(|drive| matches!(drive.medium, Medium::Disk(_)));
            order.extend(disks.find_map(|drive| self.slots_of.get(&drive.instance)).cloned());
        }
        for (index, slot) in (1..).zip(order) {
            if let Some(slot) = self.made.vm.slots.get_mut(&slot) {
                slot.boot_index = Some(index);
            }
        }
    }

    fn notes(&mut self) {
        if self.machine.firmware == Firmware::Efi {
            let secure = if self.machine.secure_boot { " with Secure Boot" } else { "" };
            self.note(format!("it boots by UEFI{secure}: give QEMU OVMF (-drive if=pflash,…, twice: the code, and a copy of the variables for this VM). The boot entries of its old firmware do not come along; choose the loader's file in OVMF's boot manager if it does not find it by itself"));
        }
        for what in &self.machine.left_out {
            self.made.notes.push(format!("left out: {what}"));
        }
        if self.made.vm.slots.is_empty() && self.problems.is_empty() {
            self.problems.push(Problem::invalid(format!("VM `{}` has no disk and no NIC", self.made.name)));
        }
    }
}
