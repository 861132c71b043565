//! The objects of a host as they are declared: in TOML by a person, in JSON
//! over the API. Every field is what was written; the `*Spec` types of
//! [`crate::step`] are the same with all defaults resolved.

mod check;
pub(crate) mod export;
pub(crate) mod group;
mod luns;
mod model;
mod parse;
mod resolve;
mod values;

pub use export::{Allow, Chap, IscsiName, Listen, PathState, Portal, SESSIONS_MAX, Target, TargetPortals};
pub use luns::{LUN_MAX, LunAddress, Luns, SLOT_VOLUMES_MAX, SlotLuns};
pub use model::{Doorbells, Model, NicModel};
pub use parse::{parse, read};
pub use values::{Mac, Naa, Percent, Size, SlotId, is_name, is_slot_name, is_vm_name};

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use utoipa::ToSchema;

/// Everything that one host is to offer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Site {
    #[serde(default)]
    pub server: ServerConfig,
    /// Places where volumes are kept.
    #[serde(default)]
    pub store: BTreeMap<String, Store>,
    /// Volumes.
    #[serde(default)]
    pub disk: BTreeMap<String, Volume>,
    #[serde(default)]
    pub network: BTreeMap<String, Network>,
    #[serde(default)]
    pub vm: BTreeMap<String, Vm>,
    /// Addresses that iSCSI initiators connect to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub portal: BTreeMap<String, Portal>,
    /// iSCSI targets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub target: BTreeMap<String, Target>,
    /// Numbers that initiators and reservations remember.
    #[serde(default, skip_serializing_if = "Identity::is_empty")]
    pub identity: Identity,
}

/// The numbers by which ports are known to initiators, made when an object is first seen and kept,
/// also of objects that are gone: a reservation may remember them. Give them only to keep the
/// numbers of a site that moves to another host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Relative target port identifiers: of virtio-scsi and pvscsi slots by `VM.SLOT`, of targets at their
    /// portals by `TARGET/PORTAL`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub port: BTreeMap<String, u16>,
    /// Target portal group tags, by portal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub portal_group: BTreeMap<String, u16>,
}

impl Identity {
    fn is_empty(&self) -> bool {
        self.port.is_empty() && self.portal_group.is_empty()
    }
}

/// The daemon's own settings. A change of `lanes` takes effect at its next start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Worker threads; by default one per core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<u32>,
    /// Where the slots' sockets are: `<socket_dir>/<vm>.<slot>.sock`.
    #[serde(default = "default_socket_dir")]
    #[schema(value_type = String)]
    pub socket_dir: PathBuf,
    /// A group whose members may use the API, beside root and the daemon's own user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_group: Option<String>,
}

fn default_socket_dir() -> PathBuf {
    PathBuf::from("/run/standpipe")
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { lanes: None, socket_dir: default_socket_dir(), api_group: None }
    }
}

/// A directory of volumes: volume `name` is the file `<directory>/<name>.raw`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Store {
    #[schema(value_type = String)]
    pub directory: PathBuf,
}

/// A volume. Exactly one of `store`, `path` and `null` says where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// The store that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// A file or a block device of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub path: Option<PathBuf>,
    /// No bytes at all: reads give zeros, writes are forgotten. For benchmarks.
    #[serde(default, skip_serializing_if = "is_false")]
    pub null: bool,
    /// Required for `store` and `null`; for `path` the size of what is there,
    /// unless it is given (a missing file is then made).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    #[serde(default, skip_serializing_if = "Kind::is_disk")]
    pub kind: Kind,
    /// Logical block size: 512 (the default) or 4096; 2048 for a CD-ROM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u32>,
    /// 512 or 4096; by default what the store says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub physical_block_size: Option<u32>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// Several virtio-scsi and pvscsi slots and iSCSI targets may use it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shared: bool,
    /// Guests see a medium that can be taken out. A CD-ROM always is.
    #[serde(default, skip_serializing_if = "is_false")]
    pub removable: bool,
    /// Warn the users by a unit attention when so much of the size is allocated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thin_threshold: Option<Percent>,
    /// The volume's name for SCSI. Made at creation and kept; give it only to
    /// keep the name of a volume that comes from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub naa: Option<Naa>,
    /// Serial number, 1 to 20 printable ASCII characters. Made at creation and kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

/// What a SCSI initiator finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A direct access block device.
    #[default]
    Disk,
    /// A CD or DVD drive with a medium in it: read-only, removable, blocks of 2048 bytes.
    Cdrom,
}

impl Kind {
    fn is_disk(&self) -> bool {
        *self == Kind::Disk
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Disk => "disk",
            Kind::Cdrom => "cdrom",
        })
    }
}

impl Volume {
    /// The logical block size, given or that of its kind.
    pub fn block_size(&self) -> u32 {
        self.block_size.unwrap_or(match self.kind {
            Kind::Disk => 512,
            Kind::Cdrom => 2048,
        })
    }
}

fn is_false(value: &bool) -> bool {
    !*value
}

impl Default for Volume {
    fn default() -> Self {
        Self {
            store: None,
            path: None,
            null: false,
            size: None,
            kind: Kind::Disk,
            block_size: None,
            physical_block_size: None,
            read_only: false,
            shared: false,
            removable: false,
            thin_threshold: None,
            naa: None,
            serial: None,
        }
    }
}

/// A broadcast domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    #[serde(default = "default_mtu")]
    pub mtu: u32,
    /// Broadcast, multicast and unknown unicast frames per second that a port
    /// may flood; 0 or absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flood_limit_pps: Option<u32>,
    /// After this long without a frame a learned address is forgotten.
    #[serde(default = "default_age_seconds")]
    pub age_seconds: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub uplink: BTreeMap<String, Uplink>,
}

fn default_mtu() -> u32 {
    1500
}

/// IEEE 802.1Q-2022, table 8-6: recommended ageing time.
fn default_age_seconds() -> u32 {
    300
}

impl Default for Network {
    fn default() -> Self {
        Self {
            mtu: default_mtu(),
            flood_limit_pps: None,
            age_seconds: default_age_seconds(),
            uplink: BTreeMap::new(),
        }
    }
}

/// A port of a network that leads out of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// A TAP device of the host; made if it is missing.
    pub tap: String,
    #[serde(default = "default_queues")]
    pub queues: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<Vec<u16>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<u16>,
}

fn default_queues() -> u16 {
    1
}

/// A virtual machine: an owner for its sockets, its size for who starts it, and slots named `diskN` and `nicN`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Vm {
    /// The user that owns the slots' sockets; by default the daemon's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The guest's memory. Only `standpipe qemu-args` and `libvirt-xml` use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// The guest's processors. Only `standpipe qemu-args` and `libvirt-xml` use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    #[serde(flatten)]
    pub slots: BTreeMap<String, Slot>,
}

/// One device of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    pub model: Model,
    /// Request queues (virtio-scsi, virtio-blk) or queue pairs (virtio-net, vmxnet3).
    #[serde(default = "default_queues")]
    pub queues: u16,
    /// virtio-blk: its volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// virtio-scsi: its volumes by LUN of target 0 (`3`), or by target and LUN (`1:3`); pvscsi: by
    /// target number (0 to 63), each as LUN 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<SlotLuns>,
    /// virtio-scsi and pvscsi: the state of the path through this controller to its volumes (ALUA).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathState>,
    /// Nics: the network that it is a port of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Nics: by default derived from the VM's and the slot's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Nics: access VLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Nics: the VLANs that pass tagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<Vec<u16>>,
    /// Nics with `trunk`: the VLAN of untagged frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<u16>,
    /// Emulated models: a file of the host that is the device's option ROM, such as iPXE's for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub rom: Option<PathBuf>,
    /// vmxnet3 and pvscsi: whether doorbells are messages ("trapped") or memory ("mapped"). As a
    /// default they are messages. A change counts from the guest's next connection on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doorbells: Option<Doorbells>,
    /// e1000e, vmxnet3, pvscsi: `false` for a device without MSI-X, which interrupts by MSI or INTx. QEMU
    /// aborts when a device with MSI-X is unplugged from a running guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub msix: Option<bool>,
    /// The place in the order in which firmware tries to boot; the lowest comes first. Only
    /// `standpipe qemu-args` and `libvirt-xml` use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_index: Option<u16>,
}

impl Slot {
    /// A slot of this model with nothing else said.
    pub fn new(model: Model) -> Self {
        Self {
            model,
            queues: default_queues(),
            volume: None,
            volumes: None,
            path: None,
            network: None,
            mac: None,
            vlan: None,
            trunk: None,
            native: None,
            rom: None,
            doorbells: None,
            msix: None,
            boot_index: None,
        }
    }

    /// The volumes that it names, with their LUNs (0 for virtio-blk).
    pub fn luns(&self) -> impl Iterator<Item = (LunAddress, &str)> {
        let one = self.volume.iter().map(|name| (LunAddress::default(), name.as_str()));
        let many = self.volumes.iter().flat_map(|luns| &luns.0);
        one.chain(many.map(|(lun, name)| (*lun, name.as_str())))
    }
}

/// The keys of a `[vm.NAME]` table. A type of its own, so that a wrong key is
/// reported at the key.
enum VmKey {
    User,
    Memory,
    Cpus,
    Slot(String),
}

impl<'de> Deserialize<'de> for VmKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = String::deserialize(deserializer)?;
        match key.as_str() {
            "user" => Ok(VmKey::User),
            "memory" => Ok(VmKey::Memory),
            "cpus" => Ok(VmKey::Cpus),
            slot if is_slot_name(slot) => Ok(VmKey::Slot(key)),
            _ => Err(de::Error::unknown_field(&key, &["user", "memory", "cpus", "disk0", "nic0"])),
        }
    }
}

/// By hand, since serde's `flatten` would lose the positions of errors.
impl<'de> Deserialize<'de> for Vm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VmVisitor;
        impl<'de> Visitor<'de> for VmVisitor {
            type Value = Vm;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table with `user`, `memory`, `cpus` and slots named diskN and nicN")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vm, A::Error> {
                let mut vm = Vm::default();
                while let Some(key) = map.next_key::<VmKey>()? {
                    match key {
                        VmKey::User => vm.user = Some(map.next_value()?),
                        VmKey::Memory => vm.memory = Some(map.next_value()?),
                        VmKey::Cpus => vm.cpus = Some(map.next_value()?),
                        VmKey::Slot(name) => {
                            let slot = map.next_value()?;
                            if vm.slots.insert(name.clone(), slot).is_some() {
                                let again = format!("slot `{name}` is given twice");
                                return Err(de::Error::custom(again));
                            }
                        }
                    }
                }
                Ok(vm)
            }
        }
        deserializer.deserialize_map(VmVisitor)
    }
}

impl Site {
    /// The same with a default that was not always kept as one written out, to compare what was meant.
    pub(crate) fn plain(&self) -> Site {
        let mut site = self.clone();
        for volume in site.disk.values_mut() {
            volume.block_size = Some(volume.block_size());
        }
        site
    }

    /// All slots, in the order of their names.
    pub fn slots(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        self.vm.iter().flat_map(|(vm, declared)| {
            let slots = declared.slots.iter();
            slots.map(move |(name, slot)| (SlotId::new(vm, name), slot))
        })
    }

    pub fn slot(&self, id: &SlotId) -> Option<&Slot> {
        self.vm.get(&id.vm)?.slots.get(&id.slot)
    }

    pub fn slot_mut(&mut self, id: &SlotId) -> Option<&mut Slot> {
        self.vm.get_mut(&id.vm)?.slots.get_mut(&id.slot)
    }

    /// One that names a volume, for people.
    pub(crate) fn user_of(&self, volume: &str) -> Option<String> {
        let slot = self.users_of(volume).into_iter().next().map(|(id, _)| id.to_string());
        slot.or_else(|| self.targets_of(volume).first().map(|(target, _)| format!("target {target}")))
    }

    /// The targets that name a volume, with the LUN that it has there.
    pub fn targets_of(&self, volume: &str) -> Vec<(&str, u16)> {
        let targets = self.target.iter();
        let luns = targets.flat_map(|(target, declared)| {
            declared.luns.0.iter().map(move |(lun, name)| (target.as_str(), *lun, name))
        });
        luns.filter(|(_, _, name)| *name == volume).map(|(target, lun, _)| (target, lun)).collect()
    }

    /// The slots that name a volume, with the LUN that it has there.
    pub fn users_of(&self, volume: &str) -> Vec<(SlotId, LunAddress)> {
        let mut users = Vec::new();
        for (id, slot) in self.slots() {
            let luns = slot.luns().filter(|(_, name)| *name == volume);
            users.extend(luns.map(|(lun, _)| (id.clone(), lun)));
        }
        users
    }
}
