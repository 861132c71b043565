//! What the engine is asked to do: objects with every default resolved, and
//! the steps that lead from one site to another.

use crate::site::{
    Doorbells, IscsiName, Kind, LunAddress, Mac, Model, Naa, NicModel, PathState, ServerConfig, Size, SlotId,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use utoipa::ToSchema;

/// A volume, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeSpec {
    pub name: String,
    pub backing: Backing,
    /// In bytes, a multiple of `block_size`. `None`: the size of what is there.
    pub size: Option<u64>,
    /// A CD-ROM is read-only and removable here, whatever the site says.
    pub kind: Kind,
    /// 512 or 4096; 2048 for a CD-ROM.
    pub block_size: u32,
    /// At least `block_size`. `None`: what the store says.
    pub physical_block_size: Option<u32>,
    pub read_only: bool,
    pub removable: bool,
    /// It may have several users, all of which have the same `group`.
    pub shared: bool,
    /// Percent of `size`: tell the users when so much is allocated.
    pub thin_threshold: Option<u8>,
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

/// A volume of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotLun {
    pub lun: LunAddress,
    pub volume: String,
}

/// A volume of an iSCSI target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lun {
    pub lun: u16,
    pub volume: String,
}

/// What is in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    VirtioScsi {
        /// In ascending order; there may be none.
        luns: Vec<SlotLun>,
        /// RELATIVE TARGET PORT IDENTIFIER of the controller: 1 and above, of no other port of the
        /// host, kept for good.
        port_id: u16,
        path: PathState,
    },
    VirtioBlk {
        volume: String,
    },
    VirtioNet {
        network: String,
        mac: Mac,
        tagging: Tagging,
    },
    /// VMware's SCSI controller, over vfio-user.
    Pvscsi {
        /// In ascending order; there may be none. LUN n of the site is target n's LUN 0.
        luns: Vec<SlotLun>,
        /// As for virtio-scsi.
        port_id: u16,
        path: PathState,
        /// An option ROM.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        rom: Option<PathBuf>,
        /// Those that the guest may be given as memory.
        #[serde(default)]
        doorbells: Doorbells,
        /// `false`: the device has no MSI-X, though its hardware has.
        #[serde(default = "with_msix", skip_serializing_if = "is_with_msix")]
        msix: bool,
    },
    /// A network adapter of hardware that guests know, over vfio-user.
    Nic {
        model: NicModel,
        network: String,
        mac: Mac,
        tagging: Tagging,
        /// An option ROM.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        rom: Option<PathBuf>,
        /// Those that the guest may be given as memory.
        #[serde(default)]
        doorbells: Doorbells,
        /// `false`: the device has no MSI-X, though its hardware has.
        #[serde(default = "with_msix", skip_serializing_if = "is_with_msix")]
        msix: bool,
    },
}

fn with_msix() -> bool {
    true
}

fn is_with_msix(msix: &bool) -> bool {
    *msix
}

impl Device {
    pub fn model(&self) -> Model {
        match self {
            Device::VirtioScsi { .. } => Model::VirtioScsi,
            Device::VirtioBlk { .. } => Model::VirtioBlk,
            Device::VirtioNet { .. } => Model::VirtioNet,
            Device::Pvscsi { .. } => Model::Pvscsi,
            Device::Nic { model, .. } => Model::from(*model),
        }
    }

    /// The LUNs of a SCSI controller.
    pub fn luns(&self) -> Option<&[SlotLun]> {
        match self {
            Device::VirtioScsi { luns, .. } | Device::Pvscsi { luns, .. } => Some(luns),
            Device::VirtioBlk { .. } | Device::VirtioNet { .. } | Device::Nic { .. } => None,
        }
    }

    pub fn luns_mut(&mut self) -> Option<&mut Vec<SlotLun>> {
        match self {
            Device::VirtioScsi { luns, .. } | Device::Pvscsi { luns, .. } => Some(luns),
            Device::VirtioBlk { .. } | Device::VirtioNet { .. } | Device::Nic { .. } => None,
        }
    }

    /// The network that a nic is a port of.
    pub fn network(&self) -> Option<&str> {
        match self {
            Device::VirtioNet { network, .. } | Device::Nic { network, .. } => Some(network),
            Device::VirtioScsi { .. } | Device::VirtioBlk { .. } | Device::Pvscsi { .. } => None,
        }
    }

    /// The file of its option ROM.
    pub fn rom(&self) -> Option<&Path> {
        match self {
            Device::Pvscsi { rom, .. } | Device::Nic { rom, .. } => rom.as_deref(),
            Device::VirtioScsi { .. } | Device::VirtioBlk { .. } | Device::VirtioNet { .. } => None,
        }
    }

    /// Its doorbells are to be memory of the guest.
    pub fn maps_doorbells(&self) -> bool {
        match self {
            Device::Pvscsi { doorbells, .. } | Device::Nic { doorbells, .. } => {
                *doorbells == Doorbells::Mapped
            }
            Device::VirtioScsi { .. } | Device::VirtioBlk { .. } | Device::VirtioNet { .. } => false,
        }
    }

    /// `false`: MSI-X is taken from a device that has it.
    pub fn msix(&self) -> bool {
        match self {
            Device::Pvscsi { msix, .. } | Device::Nic { msix, .. } => *msix,
            Device::VirtioScsi { .. } | Device::VirtioBlk { .. } | Device::VirtioNet { .. } => true,
        }
    }

    /// The volumes that it is made of.
    pub fn volumes(&self) -> impl Iterator<Item = &str> {
        let one = match self {
            Device::VirtioBlk { volume } => Some(volume.as_str()),
            _ => None,
        };
        let luns = self.luns().unwrap_or_default().iter();
        one.into_iter().chain(luns.map(|lun| lun.volume.as_str()))
    }
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
    /// What it must be in one lane with: see [`GroupSpec`]. Each SCSI controller has one, if only for
    /// itself; others have none.
    pub group: Option<String>,
}

/// What is connected by shared volumes, targets and portals, so that one lane must have all of it. A
/// group's name is a function of the site alone, and the same after every restart; it changes when
/// groups come together or part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupSpec {
    pub name: String,
    pub slots: Vec<SlotId>,
    pub targets: Vec<String>,
    pub portals: Vec<String>,
}

/// A portal, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortalSpec {
    pub name: String,
    /// An IPv6 socket takes no IPv4 connections (IPV6_V6ONLY).
    #[schema(value_type = String)]
    pub listen: SocketAddr,
    pub group: String,
}

/// A target at one of its portals: a target port of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetPortal {
    pub portal: String,
    /// Target portal group tag: the portal's, whatever the target; 1 and above.
    pub tpgt: u16,
    /// RELATIVE TARGET PORT IDENTIFIER: 1 and above, of no other port of the host, kept for good.
    pub port_id: u16,
    pub path: PathState,
}

/// How one side proves who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChapSpec {
    /// CHAP_N.
    pub user: String,
    /// For [`crate::Secret::read`].
    #[schema(value_type = String)]
    pub secret_file: PathBuf,
}

/// Who may log in, and to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Access {
    /// `None`: all that have no entry of their own.
    pub initiator: Option<IscsiName>,
    /// The LUNs that are seen, ascending. `None`: all.
    pub luns: Option<Vec<u16>>,
    /// `None`: no authentication.
    pub chap: Option<ChapSpec>,
    /// The target proves itself too; only with `chap`.
    pub mutual: Option<ChapSpec>,
}

/// A target, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetSpec {
    pub name: String,
    pub iqn: IscsiName,
    /// In ascending order; there may be none.
    pub luns: Vec<Lun>,
    /// By the names of the portals; there may be none.
    pub portals: Vec<TargetPortal>,
    pub sessions_max: u16,
    /// One entry an initiator, and last the one for all others, if there is one.
    pub access: Vec<Access>,
    pub group: String,
}

impl TargetSpec {
    /// What an initiator may do here; `None`: it may not log in. Its name is compared without regard
    /// to case, as RFC 7143 (4.2.7.1) has it.
    pub fn access_of(&self, initiator: &str) -> Option<&Access> {
        let named = self.access.iter().find(|access| {
            access.initiator.as_ref().is_some_and(|name| name.as_str().eq_ignore_ascii_case(initiator))
        });
        named.or_else(|| self.access.iter().find(|access| access.initiator.is_none()))
    }
}

impl Access {
    /// Whether a LUN of the target is seen.
    pub fn sees(&self, lun: u16) -> bool {
        self.luns.as_ref().is_none_or(|luns| luns.contains(&lun))
    }
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
    /// Its threshold or whether it may be shared is new. I/O goes on.
    ChangeVolume(VolumeSpec),
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
    /// Same model, queues, socket and LUNs; the owner of the socket, network or
    /// VLANs of a nic, or the state of the path are new. I/O goes on.
    ChangeSlot(SlotSpec),
    /// Hot-plug.
    AttachLun {
        slot: SlotId,
        lun: LunAddress,
        volume: String,
    },
    /// Hot-unplug.
    DetachLun {
        slot: SlotId,
        lun: LunAddress,
    },
    RemoveSlot {
        slot: SlotId,
    },
    /// All of these are there, and belong together from now on under this name:
    /// bring them into one lane, if they are not in one. I/O goes on. What
    /// joins them in a later step names the group in its spec. Those that were
    /// with them before and are not named here share nothing with them any
    /// more.
    Regroup(GroupSpec),
    /// Listen.
    AddPortal(PortalSpec),
    /// Listen at another address. Connections of the old one go on.
    ChangePortal(PortalSpec),
    /// Listen no more. No target is at it any longer.
    RemovePortal {
        portal: String,
    },
    AddTarget(TargetSpec),
    /// Portals may have come, states of paths, access and the limit of sessions
    /// may be new, and so may the secrets in their files. The LUNs stay as they
    /// are: the spec has those that there will be when the steps after this one
    /// are done. A session that could not be opened as things are now ends; no
    /// other session loses I/O.
    ChangeTarget(TargetSpec),
    /// The sessions see one more volume.
    AttachTargetLun {
        target: String,
        lun: u16,
        volume: String,
    },
    /// The sessions see it no more.
    DetachTargetLun {
        target: String,
        lun: u16,
    },
    /// The target is at this portal no longer; its sessions there end.
    LeavePortal {
        target: String,
        portal: String,
    },
    /// Its sessions end.
    RemoveTarget {
        target: String,
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
                | Step::RemovePortal { .. }
                | Step::DetachTargetLun { .. }
                | Step::LeavePortal { .. }
                | Step::RemoveTarget { .. }
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
            Step::ChangeVolume(spec) => write!(f, "change volume {}", spec.name),
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
            Step::Regroup(spec) => {
                let slots = spec.slots.iter().map(|slot| format!("slot {slot}"));
                let targets = spec.targets.iter().map(|target| format!("target {target}"));
                let portals = spec.portals.iter().map(|portal| format!("portal {portal}"));
                let members: Vec<String> = slots.chain(targets).chain(portals).collect();
                write!(f, "put {} into group {}", members.join(", "), spec.name)
            }
            Step::AddPortal(spec) => write!(f, "add portal {} ({})", spec.name, spec.listen),
            Step::ChangePortal(spec) => write!(f, "change portal {} to {}", spec.name, spec.listen),
            Step::RemovePortal { portal } => write!(f, "remove portal {portal}"),
            Step::AddTarget(spec) => write!(f, "add target {} ({})", spec.name, spec.iqn),
            Step::ChangeTarget(spec) => write!(f, "change target {}", spec.name),
            Step::AttachTargetLun { target, lun, volume } => {
                write!(f, "attach volume {volume} to target {target} as LUN {lun}")
            }
            Step::DetachTargetLun { target, lun } => write!(f, "detach LUN {lun} of target {target}"),
            Step::LeavePortal { target, portal } => write!(f, "take target {target} off portal {portal}"),
            Step::RemoveTarget { target } => write!(f, "remove target {target}"),
        }
    }
}
