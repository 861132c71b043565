//! A virtual machine's hardware: the items of its VirtualHardwareSection, and what VMware and VirtualBox
//! write beside them.

use super::xml::{attribute, child, children, text_of, unit};
use super::{Bus, Controller, Drive, Envelope, Firmware, LocalName, Machine, Medium, Nic};
use crate::Fault;
use roxmltree::Node;
use std::collections::BTreeSet;

/// An Item (RASD), StorageItem or EthernetPortItem, in a form in which all of them are one.
struct Item<'a, 'input> {
    instance: &'a str,
    kind: u32,
    subtype: &'a str,
    name: &'a str,
    parent: Option<&'a str>,
    address_on_parent: Option<&'a str>,
    address: Option<&'a str>,
    host_resource: Option<&'a str>,
    connection: Option<&'a str>,
    quantity: Option<&'a str>,
    units: Option<&'a str>,
    node: Node<'a, 'input>,
}

impl Item<'_, '_> {
    /// Found when an error is made only: it is a walk through the text from its beginning.
    fn line(&self) -> u32 {
        line(self.node)
    }
}

fn line(node: Node<'_, '_>) -> u32 {
    node.document().text_pos_at(node.range().start).row
}

/// VMware's VMs have at most some 300 devices, a quarter of a thousand of them disks.
const ITEMS_MAX: usize = 1024;

/// CIM_ResourceAllocationSettingData.ResourceType.
mod kind {
    pub const OTHER: u32 = 1;
    pub const PROCESSOR: u32 = 3;
    pub const MEMORY: u32 = 4;
    pub const IDE: u32 = 5;
    pub const SCSI: u32 = 6;
    pub const ETHERNET: u32 = 10;
    pub const FLOPPY: u32 = 14;
    pub const CD: u32 = 15;
    pub const DVD: u32 = 16;
    pub const DISK: u32 = 17;
    pub const OTHER_STORAGE: u32 = 20;
    pub const GRAPHICS: u32 = 24;
}

fn item<'a, 'input>(node: Node<'a, 'input>) -> Result<Item<'a, 'input>, Fault> {
    let value = |name| child(node, name).and_then(text_of);
    let kind = value("ResourceType").and_then(|text| text.parse().ok());
    Ok(Item {
        instance: value("InstanceID").unwrap_or_default(),
        kind: kind
            .ok_or_else(|| Fault::new(format!("line {}: a device without a ResourceType", line(node))))?,
        subtype: value("ResourceSubType").unwrap_or_default(),
        name: value("ElementName").or_else(|| value("Caption")).unwrap_or_default(),
        parent: value("Parent"),
        address_on_parent: value("AddressOnParent"),
        address: value("Address"),
        host_resource: value("HostResource"),
        connection: value("Connection"),
        quantity: value("VirtualQuantity"),
        units: value("AllocationUnits").or_else(|| value("VirtualQuantityUnits")),
        node,
    })
}

/// The items that count for the chosen size: an item of a size takes the place of the one with its
/// instance that is for all (DSP0243, 9.8). Those with `bound` are limits and no values.
fn items<'a, 'input>(
    section: Node<'a, 'input>,
    configuration: Option<&str>,
) -> Result<Vec<Item<'a, 'input>>, Fault> {
    const NAMES: [&str; 3] = ["Item", "StorageItem", "EthernetPortItem"];
    let mut items: Vec<(bool, Item<'a, 'input>)> = Vec::new();
    let nodes = section.children().filter(|node| NAMES.iter().any(|name| node.has_tag_name_local(name)));
    for node in nodes.filter(|node| attribute(*node, "bound").is_none()) {
        let own = match attribute(node, "configuration") {
            None => false,
            Some(list) => {
                if !list.split_ascii_whitespace().any(|id| Some(id) == configuration) {
                    continue;
                }
                true
            }
        };
        let item = item(node)?;
        if items.len() == ITEMS_MAX {
            return Err(Fault::new(format!("a machine has more than {ITEMS_MAX} devices")));
        }
        let same =
            items.iter().position(|(_, there)| !item.instance.is_empty() && there.instance == item.instance);
        match same {
            Some(at) if own && !items[at].0 => items[at] = (own, item),
            Some(at) if items[at].0 && !own => {}
            Some(_) => {
                return Err(Fault::new(format!(
                    "line {}: two devices have the instance {}",
                    item.line(),
                    item.instance
                )));
            }
            None => items.push((own, item)),
        }
    }
    Ok(items.into_iter().map(|(_, item)| item).collect())
}

pub(super) fn machine(node: Node<'_, '_>, envelope: &mut Envelope) -> Result<Machine, Fault> {
    let id = attribute(node, "id").unwrap_or_default().to_owned();
    let mut machine = Machine {
        name: child(node, "Name").and_then(text_of).map(str::to_owned),
        system: child(node, "OperatingSystemSection")
            .and_then(|section| child(section, "Description"))
            .and_then(text_of)
            .map(str::to_owned),
        id,
        ..Machine::default()
    };
    let mut sections = children(node, "VirtualHardwareSection");
    let Some(section) = sections.next() else {
        return Err(Fault::new(format!("machine `{}` has no hardware (VirtualHardwareSection)", machine.id)));
    };
    if sections.next().is_some() {
        machine.left_out.push("other hardware to choose from: the first of the package was taken".into());
    }
    machine.hypervisor = child(section, "System")
        .and_then(|system| child(system, "VirtualSystemType"))
        .and_then(text_of)
        .map(str::to_owned);
    let items = items(section, envelope.configuration.as_deref())?;
    for item in &items {
        scalar(item, &mut machine)?;
    }
    controllers(&items, envelope, &mut machine)?;
    settings(node, section, &mut machine);
    properties(node, &mut machine);
    Ok(machine)
}

fn scalar(item: &Item<'_, '_>, machine: &mut Machine) -> Result<(), Fault> {
    let quantity = || -> Result<u64, Fault> {
        let text = item.quantity.unwrap_or_default();
        text.parse().map_err(|_| Fault::new(format!("line {}: `{text}` is no quantity", item.line())))
    };
    match item.kind {
        kind::PROCESSOR => {
            let cpus = quantity()?;
            let cpus = u32::try_from(cpus).ok().filter(|cpus| (1..=4096).contains(cpus));
            machine.cpus =
                Some(cpus.ok_or_else(|| Fault::new(format!("line {}: so many CPUs has none", item.line())))?);
        }
        kind::MEMORY => {
            let units = item.units.unwrap_or("byte * 2^20");
            let bytes = unit(units).and_then(|unit| quantity().ok()?.checked_mul(unit));
            machine.memory = Some(bytes.filter(|bytes| *bytes > 0).ok_or_else(|| {
                Fault::new(format!(
                    "line {}: memory of `{}` `{units}`",
                    item.line(),
                    item.quantity.unwrap_or_default()
                ))
            })?);
        }
        kind::ETHERNET => machine.nics.push(Nic {
            instance: item.instance.to_owned(),
            name: item.name.to_owned(),
            adapters: item.subtype.split_ascii_whitespace().map(str::to_owned).collect(),
            network: item.connection.map(str::to_owned),
            mac: item.address.map(str::to_owned),
        }),
        kind::IDE | kind::SCSI | kind::OTHER_STORAGE | kind::DISK | kind::CD | kind::DVD => {}
        // A screen and VMware's own channel between host and guest are no loss.
        kind::GRAPHICS => {}
        kind::OTHER if item.subtype.to_ascii_lowercase().starts_with("vmware.vmci") => {}
        kind::FLOPPY => machine.left_out.push(format!("{} (floppy drive)", named(item))),
        _ => machine.left_out.push(named(item)),
    }
    Ok(())
}

fn named(item: &Item<'_, '_>) -> String {
    let name = if item.name.is_empty() { "a device" } else { item.name };
    if item.subtype.is_empty() { name.to_owned() } else { format!("{name} ({})", item.subtype) }
}

fn bus(item: &Item<'_, '_>) -> Option<Bus> {
    let known = |word: &str| {
        let word = word.to_ascii_lowercase();
        Some(match word.as_str() {
            "virtualscsi" | "pvscsi" => Bus::Pvscsi,
            "virtio-scsi" | "virtioscsi" => Bus::VirtioScsi,
            "virtio" | "virtio-blk" => Bus::VirtioBlk,
            "lsilogicsas" => Bus::LsiLogicSas,
            "lsilogic" => Bus::LsiLogic,
            "buslogic" => Bus::BusLogic,
            "ahci" | "vmware.sata.ahci" | "sata" => Bus::Sata,
            "nvme" | "vmware.nvme.controller" => Bus::Nvme,
            "piix3" | "piix4" | "ich6" => Bus::Ide,
            _ => return None,
        })
    };
    let words: Vec<Bus> = item.subtype.split_ascii_whitespace().filter_map(known).collect();
    // Any of them will do for the guest: what can be served as it is comes first.
    let served = words.iter().find(|bus| matches!(bus, Bus::Pvscsi | Bus::VirtioScsi | Bus::VirtioBlk));
    match (served.or(words.first()), item.kind) {
        (Some(bus), _) => Some(bus.clone()),
        (None, kind::IDE) => Some(Bus::Ide),
        (None, kind::SCSI) => Some(Bus::Scsi(item.subtype.to_owned())),
        (None, _) => None,
    }
}

fn controllers(items: &[Item<'_, '_>], envelope: &Envelope, machine: &mut Machine) -> Result<(), Fault> {
    for item in items.iter().filter(|item| matches!(item.kind, kind::IDE | kind::SCSI | kind::OTHER_STORAGE))
    {
        match bus(item) {
            Some(bus) => machine.controllers.push(Controller {
                instance: item.instance.to_owned(),
                name: named(item),
                bus,
                drives: Vec::new(),
            }),
            None => machine.left_out.push(named(item)),
        }
    }
    for item in items.iter().filter(|item| matches!(item.kind, kind::DISK | kind::CD | kind::DVD)) {
        let medium = medium(item, envelope)?;
        let address = item.address_on_parent.map(|text| {
            text.parse()
                .map_err(|_| Fault::new(format!("line {}: the address `{text}` is no number", item.line())))
        });
        let drive = Drive {
            instance: item.instance.to_owned(),
            name: item.name.to_owned(),
            address: address.transpose()?,
            medium,
        };
        let parent = machine
            .controllers
            .iter_mut()
            .find(|controller| Some(controller.instance.as_str()) == item.parent);
        match (parent, &drive.medium) {
            (Some(controller), _) => controller.drives.push(drive),
            (None, Medium::Cd(None)) => machine.left_out.push(format!("{} (CD drive)", named(item))),
            (None, _) => {
                return Err(Fault::new(format!(
                    "line {}: {} is at a controller that is not there (Parent {})",
                    item.line(),
                    named(item),
                    item.parent.unwrap_or("is missing")
                )));
            }
        }
    }
    for controller in &mut machine.controllers {
        controller.drives.sort_by_key(|drive| drive.address.unwrap_or(u32::MAX));
    }
    Ok(())
}

/// `ovf:/disk/ID`, `ovf:/file/ID`; `/disk/ID` in older exports.
fn medium(item: &Item<'_, '_>, envelope: &Envelope) -> Result<Medium, Fault> {
    let resource = item.host_resource.map(|text| text.strip_prefix("ovf:").unwrap_or(text));
    let resource = resource.map(|text| text.trim_start_matches('/'));
    let missing = |what: &str| Fault::new(format!("line {}: there is no {what} in the package", item.line()));
    let is_disk = item.kind == kind::DISK;
    match resource.and_then(|text| text.split_once('/')) {
        Some(("disk", id)) if is_disk => match envelope.disks.contains_key(id) {
            true => Ok(Medium::Disk(id.to_owned())),
            false => Err(missing(&format!("disk `{id}`"))),
        },
        // VirtualBox has CDs in its DiskSection.
        Some(("disk", id)) => {
            let disk = envelope.disks.get(id).ok_or_else(|| missing(&format!("disk `{id}`")))?;
            Ok(Medium::Cd(disk.file.clone()))
        }
        Some(("file", id)) if !is_disk => match envelope.files.contains_key(id) {
            true => Ok(Medium::Cd(Some(id.to_owned()))),
            false => Err(missing(&format!("file `{id}`"))),
        },
        _ if is_disk => Err(Fault::new(format!(
            "line {}: {} names no disk of the package (HostResource `{}`)",
            item.line(),
            named(item),
            item.host_resource.unwrap_or_default()
        ))),
        _ => Ok(Medium::Cd(None)),
    }
}

/// What VMware's and VirtualBox's own elements say.
fn settings(node: Node<'_, '_>, section: Node<'_, '_>, machine: &mut Machine) {
    for config in children(section, "Config") {
        let value = attribute(config, "value").unwrap_or_default();
        match attribute(config, "key").unwrap_or_default() {
            "firmware" if value.eq_ignore_ascii_case("efi") => machine.firmware = Firmware::Efi,
            "bootOptions.efiSecureBootEnabled" if value.eq_ignore_ascii_case("true") => {
                machine.secure_boot = true
            }
            _ => {}
        }
    }
    for boot in children(node, "BootOrderSection") {
        machine.boot.extend(attribute(boot, "instanceId").map(str::to_owned));
    }
    if machine.boot.is_empty() {
        boot_devices(node, machine);
    }
    let Some(own) = child(node, "Machine") else { return };
    let firmware = own.descendants().find(|node| node.has_tag_name_local("Firmware"));
    let firmware = firmware.and_then(|node| attribute(node, "type")).unwrap_or_default();
    if firmware.to_ascii_uppercase().starts_with("EFI") {
        machine.firmware = Firmware::Efi;
    }
    // Its items have no addresses; its own adapters that are on have, in the same order.
    let adapters = own.descendants().filter(|node| node.has_tag_name_local("Adapter"));
    let on = adapters.filter(|node| attribute(*node, "enabled") != Some("false"));
    let macs: Vec<Option<&str>> = on
        .filter(|node| attribute(*node, "slot").is_some())
        .map(|node| attribute(node, "MACAddress"))
        .collect();
    if macs.len() == machine.nics.len() {
        for (nic, mac) in machine.nics.iter_mut().zip(macs) {
            nic.mac = nic.mac.take().or(mac.map(str::to_owned));
        }
    }
}

/// The order in which OVF 2 has devices tried (DSP0243, BootDeviceSection). A source is a device of the
/// machine, by its instance, or every device of a kind.
fn boot_devices(node: Node<'_, '_>, machine: &mut Machine) {
    let Some(section) = child(node, "BootDeviceSection") else { return };
    let mut orders = children(section, "CIM_BootConfigSetting");
    let Some(order) = orders.next() else { return };
    for other in orders.take(ITEMS_MAX) {
        let name = child(other, "Caption").and_then(text_of).unwrap_or("no name");
        machine.left_out.push(format!("another boot order ({name}): the first of the package was taken"));
    }
    let mut seen = BTreeSet::new();
    for source in children(order, "CIM_BootSourceSetting").take(ITEMS_MAX) {
        let value = |name| child(source, name).and_then(text_of);
        let devices = match (value("InstanceID"), value("StructuredBootString")) {
            (Some(instance), _) if devices(machine, None).any(|there| there == instance) => {
                vec![instance.to_owned()]
            }
            (_, Some(kind)) => devices_of(machine, kind),
            _ => Vec::new(),
        };
        if devices.is_empty() {
            let name = ["Caption", "StructuredBootString", "InstanceID"].into_iter().find_map(value);
            machine.left_out.push(format!("{} of its boot order", name.unwrap_or("a source")));
        }
        machine.boot.extend(devices.into_iter().filter(|device| seen.insert(device.clone())));
    }
}

/// `CIM:Hard-Disk:1`, the first of a kind; without the number all of them (DSP1012).
fn devices_of(machine: &Machine, source: &str) -> Vec<String> {
    let mut words = source.split(':').skip(1);
    let kind = match words.next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "hard-disk" => Kind::Disk,
        "cd/dvd" => Kind::Cd,
        "network" => Kind::Network,
        _ => return Vec::new(),
    };
    let all = devices(machine, Some(kind)).map(str::to_owned);
    match words.next().map(str::parse::<usize>) {
        None => all.collect(),
        Some(Ok(number @ 1..)) => all.skip(number - 1).take(1).collect(),
        Some(_) => Vec::new(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Disk,
    Cd,
    Network,
}

/// The instances of devices that a machine could boot from.
fn devices<'a>(machine: &'a Machine, kind: Option<Kind>) -> impl Iterator<Item = &'a str> {
    let drives = machine.controllers.iter().flat_map(|controller| &controller.drives).map(|drive| {
        let kind = if matches!(drive.medium, Medium::Disk(_)) { Kind::Disk } else { Kind::Cd };
        (kind, drive.instance.as_str())
    });
    let nics = machine.nics.iter().map(|nic| (Kind::Network, nic.instance.as_str()));
    let wanted = move |(is, instance): (Kind, &'a str)| {
        (kind.is_none_or(|kind| kind == is) && !instance.is_empty()).then_some(instance)
    };
    drives.chain(nics).filter_map(wanted)
}

/// A guest that asks for its settings by the OVF environment is not given one.
fn properties(node: Node<'_, '_>, machine: &mut Machine) {
    let sections = children(node, "ProductSection").flat_map(|section| children(section, "Property"));
    let asked = sections.filter(|node| attribute(*node, "userConfigurable") == Some("true")).count();
    if asked > 0 {
        machine.left_out.push(format!(
            "{asked} properties that its guest reads at its first start (OVF environment): set it up from within"
        ));
    }
}
