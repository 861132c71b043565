//! The objects of a host as they are declared: in TOML by a person, in JSON
//! over the API. Every field is what was written; the `*Spec` types of
//! [`crate::step`] are the same with all defaults resolved.

mod check;
mod parse;
mod resolve;
mod values;

pub use parse::{parse, read};
pub use values::{LUN_MAX, Luns, Mac, Naa, Size, SlotId, is_name, is_slot_name, is_vm_name};

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
    /// Logical block size: 512 or 4096.
    #[serde(default = "default_block_size")]
    pub block_size: u32,
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// The volume's name for SCSI. Made at creation and kept; give it only to
    /// keep the name of a volume that comes from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub naa: Option<Naa>,
    /// Serial number, 1 to 20 printable ASCII characters. Made at creation and kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

fn default_block_size() -> u32 {
    512
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
            block_size: default_block_size(),
            read_only: false,
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

/// A virtual machine: an owner for its sockets, and slots named `diskN` and `nicN`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Vm {
    /// The user that owns the slots' sockets; by default the daemon's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(flatten)]
    pub slots: BTreeMap<String, Slot>,
}

/// What a guest sees in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    VirtioScsi,
    VirtioBlk,
    VirtioNet,
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Model::VirtioScsi => "virtio-scsi",
            Model::VirtioBlk => "virtio-blk",
            Model::VirtioNet => "virtio-net",
        })
    }
}

/// One device of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    pub model: Model,
    /// Request queues (disk) or queue pairs (nic).
    #[serde(default = "default_queues")]
    pub queues: u16,
    /// virtio-blk: its volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// virtio-scsi: its volumes by LUN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Luns>,
    /// virtio-net: the network that it is a port of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// virtio-net: by default derived from the VM's and the slot's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// virtio-net: access VLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// virtio-net: the VLANs that pass tagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<Vec<u16>>,
    /// virtio-net with `trunk`: the VLAN of untagged frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<u16>,
}

impl Slot {
    /// A slot of this model with nothing else said.
    pub fn new(model: Model) -> Self {
        Self {
            model,
            queues: default_queues(),
            volume: None,
            volumes: None,
            network: None,
            mac: None,
            vlan: None,
            trunk: None,
            native: None,
        }
    }

    /// The volumes that it names, with their LUNs (0 for virtio-blk).
    pub fn luns(&self) -> impl Iterator<Item = (u16, &str)> {
        let one = self.volume.iter().map(|name| (0, name.as_str()));
        let many = self.volumes.iter().flat_map(|luns| &luns.0);
        one.chain(many.map(|(lun, name)| (*lun, name.as_str())))
    }
}

/// The keys of a `[vm.NAME]` table. A type of its own, so that a wrong key is
/// reported at the key.
enum VmKey {
    User,
    Slot(String),
}

impl<'de> Deserialize<'de> for VmKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = String::deserialize(deserializer)?;
        match key.as_str() {
            "user" => Ok(VmKey::User),
            slot if is_slot_name(slot) => Ok(VmKey::Slot(key)),
            _ => Err(de::Error::unknown_field(&key, &["user", "disk0", "nic0"])),
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
                f.write_str("a table with `user` and slots named diskN and nicN")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vm, A::Error> {
                let mut vm = Vm::default();
                while let Some(key) = map.next_key::<VmKey>()? {
                    match key {
                        VmKey::User => vm.user = Some(map.next_value()?),
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

    /// The slots that name a volume, with the LUN that it has there.
    pub fn users_of(&self, volume: &str) -> Vec<(SlotId, u16)> {
        let mut users = Vec::new();
        for (id, slot) in self.slots() {
            let luns = slot.luns().filter(|(_, name)| *name == volume);
            users.extend(luns.map(|(lun, _)| (id.clone(), lun)));
        }
        users
    }
}
