//! What the daemon says about itself.

use crate::site::{Model, SlotId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub worker: Worker,
    /// By `VM.SLOT`.
    pub slots: BTreeMap<String, SlotStatus>,
    pub volumes: BTreeMap<String, VolumeStatus>,
    pub networks: BTreeMap<String, NetworkStatus>,
    #[serde(default)]
    pub portals: BTreeMap<String, PortalStatus>,
    #[serde(default)]
    pub targets: BTreeMap<String, TargetStatus>,
    /// Devices that killed the worker again and again and are left alone.
    pub quarantined: Vec<Quarantined>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    pub pid: u32,
    pub version: String,
    /// Seconds since 1970-01-01 UTC.
    pub started: u64,
    /// Workers that the keeper has started before this one.
    pub restarts: u64,
    pub lanes: Vec<LaneStatus>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct LaneStatus {
    pub lane: u32,
    /// CPU time that the lane's thread has used.
    pub cpu_microseconds: u64,
    pub slots: u32,
    /// Polls, sleeps and the like, by name.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SlotStatus {
    pub model: Model,
    /// A front end is connected to the slot's socket.
    pub connected: bool,
    /// Queues that the guest has enabled.
    pub queues: u32,
    /// Every end that a request or frame can have, by name.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct VolumeStatus {
    pub size: u64,
    /// Bytes that are taken on the store; less than `size` for a sparse file.
    pub allocated: u64,
    pub used_by: Vec<SlotId>,
    /// The iSCSI targets that have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Who has registered with it or reserved it; nothing if nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Reservation>,
    /// Why the volume cannot be used, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

/// The type of a reservation: SPC-2's, and those of SPC-5, 5.13.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReservationType {
    /// RESERVE of SPC-2.
    Reserve,
    WriteExclusive,
    ExclusiveAccess,
    WriteExclusiveRegistrantsOnly,
    ExclusiveAccessRegistrantsOnly,
    WriteExclusiveAllRegistrants,
    ExclusiveAccessAllRegistrants,
}

/// The state of a volume's reservations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Reservation {
    /// `None`: there are registrations, and nobody has reserved it.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ReservationType>,
    /// The I_T nexus that holds it: a slot (`web1.disk0`), or an initiator's
    /// name with `,i,0x` and its ISID. `None` if there is none, or all
    /// registrants hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// I_T nexuses that are registered.
    pub registrants: u32,
    /// PRGENERATION.
    pub generation: u32,
    /// It survives loss of power (APTPL).
    pub aptpl: bool,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct PortalStatus {
    /// Connections, also of initiators that are about to log in.
    pub connections: u32,
    /// Why nobody can connect, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct TargetStatus {
    pub sessions: Vec<SessionStatus>,
    /// Why nobody can use it, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Every end that a login or a request can have, by name.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

/// An iSCSI session.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct SessionStatus {
    /// InitiatorName.
    pub initiator: String,
    /// 12 hex digits.
    pub isid: String,
    pub tsih: u16,
    pub portal: String,
    /// The initiator's address and port.
    pub address: String,
    /// Seconds since 1970-01-01 UTC.
    pub logged_in_since: u64,
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct NetworkStatus {
    /// Slots (`web1.nic0`) and uplinks (`uplink.host`).
    pub ports: Vec<PortStatus>,
    /// Learned addresses.
    pub fdb_size: u64,
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct PortStatus {
    pub name: String,
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Quarantined {
    pub slot: SlotId,
    pub reason: String,
}
