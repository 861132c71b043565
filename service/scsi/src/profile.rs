//! What kind of device a volume is shown as.

use alloc::string::String;

use crate::nexus::PortId;

/// PERIPHERAL DEVICE TYPE, as far as there are models of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// 00h, direct access block device (SBC).
    #[default]
    Disk,
    /// 05h, CD/DVD device (MMC).
    CdRom,
}

/// What the owner of a volume chose about how it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub kind: Kind,
    /// RMB: the medium can be ejected and loaded. Always so with a CD.
    pub removable: bool,
    /// Initiators are told when so many percent of the blocks are allocated in the store.
    pub thin_threshold_percent: Option<u8>,
}

impl Profile {
    pub fn is_removable(&self) -> bool {
        self.removable || self.kind == Kind::CdRom
    }
}

/// ASYMMETRIC ACCESS STATE of a target port group, SPC-5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum AccessState {
    #[default]
    ActiveOptimized = 0x0,
    ActiveNonOptimized = 0x1,
    Standby = 0x2,
    Unavailable = 0x3,
}

impl AccessState {
    pub fn from_code(code: u8) -> Option<AccessState> {
        [
            AccessState::ActiveOptimized,
            AccessState::ActiveNonOptimized,
            AccessState::Standby,
            AccessState::Unavailable,
        ]
        .into_iter()
        .find(|state| *state as u8 == code)
    }
}

/// How a target port is named in designators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortName {
    /// Of a VM's controller: a SAS address (NAA).
    Sas([u8; 8]),
    /// Of an iSCSI target: its name, and the tag of the portal group.
    Iscsi { target: String, tag: u16 },
}

/// A target port by which initiators reach the unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetPort {
    pub id: PortId,
    /// TARGET PORT GROUP.
    pub group: u16,
    pub name: PortName,
    /// What the group has by the owner's choice, until an initiator or the owner changes it.
    pub state: AccessState,
}
