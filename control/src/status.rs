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
    /// Why the volume cannot be used, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
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
