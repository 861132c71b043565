//! What a guest can find in a slot.

use super::LUN_MAX;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// What a guest sees in a slot. The virtio models are reached over vhost-user, the others over
/// vfio-user: devices that guests know without any software of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    VirtioScsi,
    VirtioBlk,
    VirtioNet,
    /// VMware's paravirtual SCSI controller.
    Pvscsi,
    /// Intel 82540EM: what QEMU calls `e1000`.
    E1000,
    /// Intel 82545EM: what VMware calls E1000, and QEMU `e1000-82545em`.
    #[serde(rename = "e1000-82545em")]
    E1000Em,
    /// Intel 82574L: what VMware and QEMU call `e1000e`.
    E1000e,
    /// AMD Am79C970A: VMware's `vlance`, and QEMU's `pcnet`.
    Vlance,
    /// VMware's *flexible* adapter: a vlance that becomes VMXNET when that driver asks.
    Flexible,
    /// AMD Am79C973, with an MII: VirtualBox's "PCnet-FAST III".
    Am79c973,
    /// VMware's paravirtual network adapter, third generation.
    Vmxnet3,
}

impl Model {
    pub const ALL: [Model; 11] = [
        Model::VirtioScsi,
        Model::VirtioBlk,
        Model::VirtioNet,
        Model::Pvscsi,
        Model::E1000,
        Model::E1000Em,
        Model::E1000e,
        Model::Vlance,
        Model::Flexible,
        Model::Am79c973,
        Model::Vmxnet3,
    ];

    /// The name in a site.
    pub fn name(self) -> &'static str {
        match self {
            Model::VirtioScsi => "virtio-scsi",
            Model::VirtioBlk => "virtio-blk",
            Model::VirtioNet => "virtio-net",
            Model::Pvscsi => "pvscsi",
            Model::E1000 => "e1000",
            Model::E1000Em => "e1000-82545em",
            Model::E1000e => "e1000e",
            Model::Vlance => "vlance",
            Model::Flexible => "flexible",
            Model::Am79c973 => "am79c973",
            Model::Vmxnet3 => "vmxnet3",
        }
    }

    /// The name in a sentence: an e1000, a vmxnet3.
    pub(crate) fn with_article(self) -> String {
        let article = if self.name().starts_with(['a', 'e']) { "an" } else { "a" };
        format!("{article} {}", self.name())
    }

    /// A port of a network, in a slot named `nicN`.
    pub fn is_nic(self) -> bool {
        match self {
            Model::VirtioScsi | Model::VirtioBlk | Model::Pvscsi => false,
            Model::VirtioNet
            | Model::E1000
            | Model::E1000Em
            | Model::E1000e
            | Model::Vlance
            | Model::Flexible
            | Model::Am79c973
            | Model::Vmxnet3 => true,
        }
    }

    /// A SCSI controller, with volumes as LUNs that come and go while the guest runs.
    pub fn is_scsi(self) -> bool {
        matches!(self, Model::VirtioScsi | Model::Pvscsi)
    }

    /// A PCI function over vfio-user.
    pub fn is_emulated(self) -> bool {
        match self {
            Model::VirtioScsi | Model::VirtioBlk | Model::VirtioNet => false,
            Model::Pvscsi
            | Model::E1000
            | Model::E1000Em
            | Model::E1000e
            | Model::Vlance
            | Model::Flexible
            | Model::Am79c973
            | Model::Vmxnet3 => true,
        }
    }

    /// It has pages with nothing but doorbells, which may be memory.
    pub fn has_doorbell_pages(self) -> bool {
        matches!(self, Model::Pvscsi | Model::Vmxnet3)
    }

    /// Whether its hardware has MSI-X, which a slot may take away.
    pub fn has_msix(self) -> bool {
        matches!(self, Model::Pvscsi | Model::E1000e | Model::Vmxnet3)
    }

    /// The largest number without a target in the slot's `volumes`.
    pub fn lun_max(self) -> u16 {
        match self {
            // Its drivers look at LUN 0 of each of 64 targets, and a volume's number is the target's.
            Model::Pvscsi => 63,
            _ => LUN_MAX,
        }
    }

    /// Whether the slot's `volumes` may name a target and a LUN of it. A pvscsi slot's numbers are
    /// targets already.
    pub fn has_targets(self) -> bool {
        self == Model::VirtioScsi
    }

    /// How many queues (disk) or queue pairs (nic) a slot may ask for. Where it is one, the
    /// device has what its specification says, and nothing can be chosen.
    pub fn queues_max(self) -> u16 {
        match self {
            // More than a VM has vCPUs is of no use; the bound keeps a slip of the pen from
            // asking for thousands of rings.
            Model::VirtioScsi | Model::VirtioBlk | Model::VirtioNet => 64,
            // VMXNET3_DEVICE_MAX_TX_QUEUES of its drivers.
            Model::Vmxnet3 => 8,
            Model::Pvscsi
            | Model::E1000
            | Model::E1000Em
            | Model::E1000e
            | Model::Vlance
            | Model::Flexible
            | Model::Am79c973 => 1,
        }
    }
}

/// How a driver's doorbells reach the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Doorbells {
    /// Each is a message of the hypervisor.
    #[default]
    Trapped,
    /// They are stores to a page of memory, which the lane looks at: every turn while it is busy, from
    /// time to time otherwise.
    Mapped,
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An emulated network adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NicModel {
    /// Intel 82540EM.
    E1000,
    /// Intel 82545EM.
    #[serde(rename = "e1000-82545em")]
    E1000Em,
    /// Intel 82574L.
    E1000e,
    /// AMD Am79C970A.
    Vlance,
    /// AMD Am79C970A, or VMXNET if the guest's driver turns it over.
    Flexible,
    /// AMD Am79C973.
    Am79c973,
    Vmxnet3,
}

impl From<NicModel> for Model {
    fn from(model: NicModel) -> Model {
        match model {
            NicModel::E1000 => Model::E1000,
            NicModel::E1000Em => Model::E1000Em,
            NicModel::E1000e => Model::E1000e,
            NicModel::Vlance => Model::Vlance,
            NicModel::Flexible => Model::Flexible,
            NicModel::Am79c973 => Model::Am79c973,
            NicModel::Vmxnet3 => Model::Vmxnet3,
        }
    }
}
