//! What the engine is asked to do: objects with every default resolved, and
//! the steps that lead from one site to another.

use crate::site::{Mac, Naa, ServerConfig, Size, SlotId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use utoipa::ToSchema;

/// A volume, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeSpec {
    pub name: String,
    pub backing: Backing,
    /// In bytes, a multiple of `block_size`. `None`: the size of what is there.
    pub size: Option<u64>,
    pub block_size: u32,
    pub read_only: bool,
    pub naa: Naa,
    pub serial: String,
}

/// Where a volume's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Backing {
    /// A file or block device. A missing file is made (sparse) if the spec has a size.
    Path {
        #[schema(value_type = String)]
        path: PathBuf,
    },
    Null,
}

/// A network, resolved; its uplinks come apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkSpec {
    pub name: String,
    pub mtu: u32,
    /// `None`: no limit.
    pub flood_limit_pps: Option<u32>,
    pub age_seconds: u32,
}

/// Which frames a port passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tagging {
    /// Untagged frames only, of this VLAN (1 if the site gives none).
    Access(u16),
    /// Tagged frames of these VLANs, sorted; untagged ones are of VLAN
    /// `native`, or refused if there is none.
    Trunk { vlans: Vec<u16>, native: Option<u16> },
}

/// An uplink, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UplinkSpec {
    pub network: String,
    pub name: String,
    pub tap: String,
    pub queues: u16,
    pub tagging: Tagging,
}

/// A volume at a LUN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lun {
    pub lun: u16,
    pub volume: String,
}

/// What is in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// LUNs in ascending order; there may be none.
    VirtioScsi {
        luns: Vec<Lun>,
    },
    VirtioBlk {
        volume: String,
    },
    VirtioNet {
        network: String,
        mac: Mac,
        tagging: Tagging,
    },
}

/// A slot, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotSpec {
    pub id: SlotId,
    #[schema(value_type = String)]
    pub socket: PathBuf,
    /// The socket's owner; `None`: the daemon's user.
    pub user: Option<String>,
    /// Request queues (disk) or queue pairs (nic).
    pub queues: u16,
    pub device: Device,
}

/// One change. Every step is idempotent: performing it when its outcome
/// already holds succeeds and changes nothing, so that a list of steps that
/// was cut off by a crash can be performed again from its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Settings of the daemon itself. Never the first time (it starts with
    /// them); later only `api_group` takes effect at once.
    ConfigureServer(ServerConfig),
    /// Open the volume; make its file if it is missing and a size is given;
    /// grow the file if it is smaller than that size; never shrink it.
    CreateVolume(VolumeSpec),
    /// Make the volume this large and tell its users.
    GrowVolume {
        volume: String,
        size: u64,
    },
    /// Close the volume. Its data stays.
    RemoveVolume {
        volume: String,
    },
    AddNetwork(NetworkSpec),
    ChangeNetwork(NetworkSpec),
    RemoveNetwork {
        network: String,
    },
    AddUplink(UplinkSpec),
    /// VLANs of an uplink changed; its TAP and queues are as before.
    ChangeUplink(UplinkSpec),
    RemoveUplink {
        network: String,
        uplink: String,
    },
    AddSlot(SlotSpec),
    /// Same model, queues and socket; the owner of the socket, or network,
    /// VLANs of a nic are new. I/O goes on.
    ChangeSlot(SlotSpec),
    /// Hot-plug.
    AttachLun {
        slot: SlotId,
        lun: u16,
        volume: String,
    },
    /// Hot-unplug.
    DetachLun {
        slot: SlotId,
        lun: u16,
    },
    RemoveSlot {
        slot: SlotId,
    },
}

impl Step {
    /// Takes an object away. Performing it when there is none changes nothing.
    pub fn removes(&self) -> bool {
        matches!(
            self,
            Step::RemoveVolume { .. }
                | Step::RemoveNetwork { .. }
                | Step::RemoveUplink { .. }
                | Step::DetachLun { .. }
                | Step::RemoveSlot { .. }
        )
    }
}

/// What the step does, for people.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::ConfigureServer(_) => write!(f, "configure the server"),
            Step::CreateVolume(spec) => {
                write!(f, "create volume {}", spec.name)?;
                match (&spec.backing, spec.size) {
                    (Backing::Path { path }, Some(size)) => {
                        write!(f, " ({}, {})", Size(size), path.display())
                    }
                    (Backing::Path { path }, None) => write!(f, " ({})", path.display()),
                    (Backing::Null, Some(size)) => write!(f, " ({}, null)", Size(size)),
                    (Backing::Null, None) => write!(f, " (null)"),
                }
            }
            Step::GrowVolume { volume, size } => {
                write!(f, "grow volume {volume} to {}", Size(*size))
            }
            Step::RemoveVolume { volume } => write!(f, "let go of volume {volume}"),
            Step::AddNetwork(spec) => write!(f, "add network {}", spec.name),
            Step::ChangeNetwork(spec) => write!(f, "change network {}", spec.name),
            Step::RemoveNetwork { network } => write!(f, "remove network {network}"),
            Step::AddUplink(spec) => {
                write!(f, "add uplink {}.{} ({})", spec.network, spec.name, spec.tap)
            }
            Step::ChangeUplink(spec) => write!(f, "change uplink {}.{}", spec.network, spec.name),
            Step::RemoveUplink { network, uplink } => {
                write!(f, "remove uplink {network}.{uplink}")
            }
            Step::AddSlot(spec) => write!(f, "add slot {}", spec.id),
            Step::ChangeSlot(spec) => write!(f, "change slot {}", spec.id),
            Step::AttachLun { slot, lun, volume } => {
                write!(f, "attach volume {volume} to {slot} as LUN {lun}")
            }
            Step::DetachLun { slot, lun } => write!(f, "detach LUN {lun} of {slot}"),
            Step::RemoveSlot { slot } => write!(f, "remove slot {slot}"),
        }
    }
}
