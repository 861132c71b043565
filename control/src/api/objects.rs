//! VMs, networks and slots.

use super::disks::there_is_a_volume;
use super::error::{Body, Params, ProblemDetails, Refusal};
use super::{Answer, DryRun, Shared, blocking};
use crate::controller::{Applied, no_such};
use crate::problem::Problem;
use crate::site::{LunAddress, Model, Network, PathState, Site, Slot, SlotId, SlotLuns, Vm, Volume};
use crate::status::{NetworkStatus, SlotStatus, Status};
use crate::step::SlotSpec;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A slot with its defaults resolved, and how it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SlotView {
    pub spec: SlotSpec,
    pub status: Option<SlotStatus>,
}

/// A VM: as declared, and its slots by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VmView {
    pub name: String,
    pub vm: Vm,
    pub slots: BTreeMap<String, SlotView>,
}

/// A network: as declared, the slots on it, and how it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NetworkView {
    pub name: String,
    pub network: Network,
    pub slots: Vec<SlotId>,
    pub status: Option<NetworkStatus>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVm {
    pub name: String,
    pub vm: Vm,
    /// Volumes that are made with it, in the same change.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub disks: BTreeMap<String, Volume>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewNetwork {
    pub name: String,
    #[serde(default)]
    pub network: Network,
}

/// What to change of a slot while it runs: of a nic its network and VLANs, of a
/// SCSI slot the state of its path. What is absent stays; `vlan` takes
/// the place of a trunk, and `trunk` (with `native`) that of a VLAN.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SlotChange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<Vec<u16>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathState>,
}

/// A volume to hot-plug.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    pub volume: String,
}

fn slot_view(site: &Site, status: &Status, id: &SlotId) -> Option<SlotView> {
    Some(SlotView { spec: site.slot_spec(id)?, status: status.slots.get(&id.to_string()).cloned() })
}

fn vm_view(site: &Site, status: &Status, name: &str) -> Option<VmView> {
    let vm = site.vm.get(name)?;
    let slots = vm.slots.keys().filter_map(|slot| {
        let view = slot_view(site, status, &SlotId::new(name, slot))?;
        Some((slot.clone(), view))
    });
    Some(VmView { name: name.to_owned(), vm: vm.clone(), slots: slots.collect() })
}

fn network_view(site: &Site, status: &Status, name: &str) -> Option<NetworkView> {
    let on_it = |(_, slot): &(SlotId, &Slot)| slot.network.as_deref() == Some(name);
    Some(NetworkView {
        name: name.to_owned(),
        network: site.network.get(name)?.clone(),
        slots: site.slots().filter(on_it).map(|(id, _)| id).collect(),
        status: status.networks.get(name).cloned(),
    })
}

fn slot_id(text: &str) -> Result<SlotId, Problem> {
    text.parse().map_err(|what: String| {
        Problem::not_found(what).hint("`standpipe vm list` shows the slots that there are")
    })
}

/// All VMs.
#[utoipa::path(get, path = "/v1/vms", tag = "vms", responses(
    (status = 200, body = BTreeMap<String, VmView>),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn list_vms(State(controller): Shared) -> Answer<Json<BTreeMap<String, VmView>>> {
    let views = blocking(&controller, |c| {
        let (site, status) = (c.site(), c.status());
        let names = site.vm.keys();
        Ok(names.filter_map(|name| Some((name.clone(), vm_view(&site, &status, name)?))).collect())
    });
    Ok(Json(views.await?))
}

/// One VM.
#[utoipa::path(get, path = "/v1/vms/{vm}", tag = "vms", params(("vm" = String, Path)), responses(
    (status = 200, body = VmView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn get_vm(State(controller): Shared, Path(name): Path<String>) -> Answer<Json<VmView>> {
    let view = blocking(&controller, move |c| {
        let found = vm_view(&c.site(), &c.status(), &name);
        found.ok_or_else(|| no_such("VM", &name, "vm list"))
    });
    Ok(Json(view.await?))
}

/// A new VM with its slots, and volumes for them.
#[utoipa::path(post, path = "/v1/vms", tag = "vms", params(DryRun), request_body = NewVm, responses(
    (status = 201, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn create_vm(
    State(controller): Shared,
    Params(query): Params<DryRun>,
    Body(new): Body<NewVm>,
) -> Answer<(StatusCode, Json<Applied>)> {
    let applied = blocking(&controller, move |c| {
        c.change(query.dry_run, |site| {
            if site.vm.contains_key(&new.name) {
                return Err(Problem::conflict(format!("there is already a VM `{}`", new.name))
                    .at(format!("vm.{}", new.name))
                    .hint("choose another name, or remove that one first"));
            }
            for (name, volume) in new.disks {
                if site.disk.contains_key(&name) {
                    return Err(there_is_a_volume(&name));
                }
                site.disk.insert(name, volume);
            }
            site.vm.insert(new.name, new.vm);
            Ok(())
        })
    });
    Ok((StatusCode::CREATED, Json(applied.await?)))
}

/// Remove a VM's slots. Its volumes stay.
#[utoipa::path(delete, path = "/v1/vms/{vm}", tag = "vms", params(("vm" = String, Path), DryRun), responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn delete_vm(
    State(controller): Shared,
    Path(name): Path<String>,
    Params(query): Params<DryRun>,
) -> Answer<Json<Applied>> {
    let applied = blocking(&controller, move |c| {
        c.change(query.dry_run, |site| match site.vm.remove(&name) {
            Some(_) => Ok(()),
            None => Err(no_such("VM", &name, "vm list")),
        })
    });
    Ok(Json(applied.await?))
}

/// All networks.
#[utoipa::path(get, path = "/v1/networks", tag = "networks", responses(
    (status = 200, body = BTreeMap<String, NetworkView>),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn list_networks(State(controller): Shared) -> Answer<Json<BTreeMap<String, NetworkView>>> {
    let views = blocking(&controller, |c| {
        let (site, status) = (c.site(), c.status());
        let names = site.network.keys();
        Ok(names.filter_map(|name| Some((name.clone(), network_view(&site, &status, name)?))).collect())
    });
    Ok(Json(views.await?))
}

/// One network.
#[utoipa::path(get, path = "/v1/networks/{network}", tag = "networks", params(("network" = String, Path)), responses(
    (status = 200, body = NetworkView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn get_network(
    State(controller): Shared,
    Path(name): Path<String>,
) -> Answer<Json<NetworkView>> {
    let view = blocking(&controller, move |c| {
        let found = network_view(&c.site(), &c.status(), &name);
        found.ok_or_else(|| no_such("network", &name, "network list"))
    });
    Ok(Json(view.await?))
}

/// A new network.
#[utoipa::path(post, path = "/v1/networks", tag = "networks", params(DryRun), request_body = NewNetwork, responses(
    (status = 201, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn create_network(
    State(controller): Shared,
    Params(query): Params<DryRun>,
    Body(new): Body<NewNetwork>,
) -> Answer<(StatusCode, Json<Applied>)> {
    let applied = blocking(&controller, move |c| {
        c.change(query.dry_run, |site| {
            if site.network.contains_key(&new.name) {
                let what = format!("there is already a network `{}`", new.name);
                return Err(Problem::conflict(what)
                    .at(format!("network.{}", new.name))
                    .hint("choose another name, or remove that one first"));
            }
            site.network.insert(new.name, new.network);
            Ok(())
        })
    });
    Ok((StatusCode::CREATED, Json(applied.await?)))
}

/// Remove a network that no slot is on.
#[utoipa::path(delete, path = "/v1/networks/{network}", tag = "networks", params(("network" = String, Path), DryRun), responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn delete_network(
    State(controller): Shared,
    Path(name): Path<String>,
    Params(query): Params<DryRun>,
) -> Answer<Json<Applied>> {
    let applied = blocking(&controller, move |c| {
        c.change(query.dry_run, |site| {
            let mut slots = site.slots();
            let user = slots.find(|(_, slot)| slot.network.as_deref() == Some(&name));
            if let Some((id, _)) = user {
                return Err(Problem::conflict(format!("slot {id} is on network `{name}`"))
                    .at(format!("network.{name}"))
                    .hint("move the slot to another network, or remove its VM first"));
            }
            drop(slots);
            match site.network.remove(&name) {
                Some(_) => Ok(()),
                None => Err(no_such("network", &name, "network list")),
            }
        })
    });
    Ok(Json(applied.await?))
}

/// All slots.
#[utoipa::path(get, path = "/v1/slots", tag = "slots", responses(
    (status = 200, body = BTreeMap<String, SlotView>),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn list_slots(State(controller): Shared) -> Answer<Json<BTreeMap<String, SlotView>>> {
    let views = blocking(&controller, |c| {
        let (site, status) = (c.site(), c.status());
        let slots = site.slots();
        Ok(slots.filter_map(|(id, _)| Some((id.to_string(), slot_view(&site, &status, &id)?))).collect())
    });
    Ok(Json(views.await?))
}

/// One slot.
#[utoipa::path(get, path = "/v1/slots/{slot}", tag = "slots", params(("slot" = SlotId, Path)), responses(
    (status = 200, body = SlotView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn get_slot(State(controller): Shared, Path(slot): Path<String>) -> Answer<Json<SlotView>> {
    let view = blocking(&controller, move |c| {
        let found = slot_view(&c.site(), &c.status(), &slot_id(&slot)?);
        found.ok_or_else(|| no_such("slot", &slot, "vm list"))
    });
    Ok(Json(view.await?))
}

/// Make a slot of an existing VM, or make it anew.
#[utoipa::path(put, path = "/v1/slots/{slot}", tag = "slots", params(("slot" = SlotId, Path), DryRun), request_body = Slot, responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn put_slot(
    State(controller): Shared,
    Path(slot): Path<String>,
    Params(query): Params<DryRun>,
    Body(new): Body<Slot>,
) -> Answer<Json<Applied>> {
    let applied = blocking(&controller, move |c| {
        let id = slot_id(&slot)?;
        c.change(query.dry_run, |site| {
            let vm = site.vm.get_mut(&id.vm);
            let vm = vm.ok_or_else(|| no_such("VM", &id.vm, "vm list"))?;
            vm.slots.insert(id.slot, new);
            Ok(())
        })
    });
    Ok(Json(applied.await?))
}

/// Move a running nic to another network or VLAN.
#[utoipa::path(patch, path = "/v1/slots/{slot}", tag = "slots", params(("slot" = SlotId, Path), DryRun), request_body = SlotChange, responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn patch_slot(
    State(controller): Shared,
    Path(slot): Path<String>,
    Params(query): Params<DryRun>,
    Body(change): Body<SlotChange>,
) -> Answer<Json<Applied>> {
    let applied = blocking(&controller, move |c| {
        let id = slot_id(&slot)?;
        c.change(query.dry_run, |site| {
            let slot = site.slot_mut(&id);
            let slot = slot.ok_or_else(|| no_such("slot", &id.to_string(), "vm list"))?;
            if change.path.is_some() {
                slot.path = change.path;
            }
            if change.network.is_some() {
                slot.network = change.network;
            }
            if change.vlan.is_some() {
                (slot.vlan, slot.trunk, slot.native) = (change.vlan, None, None);
            }
            if change.trunk.is_some() {
                (slot.trunk, slot.native) = (change.trunk, change.native);
                slot.vlan = change.vlan;
            } else if change.native.is_some() {
                slot.native = change.native;
            }
            Ok(())
        })
    });
    Ok(Json(applied.await?))
}

/// Remove a slot. Its volumes stay.
#[utoipa::path(delete, path = "/v1/slots/{slot}", tag = "slots", params(("slot" = SlotId, Path), DryRun), responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn delete_slot(
    State(controller): Shared,
    Path(slot): Path<String>,
    Params(query): Params<DryRun>,
) -> Answer<Json<Applied>> {
    let applied = blocking(&controller, move |c| {
        let id = slot_id(&slot)?;
        c.change(query.dry_run, |site| {
            let vm = site.vm.get_mut(&id.vm);
            match vm.and_then(|vm| vm.slots.remove(&id.slot)) {
                Some(_) => Ok(()),
                None => Err(no_such("slot", &id.to_string(), "vm list")),
            }
        })
    });
    Ok(Json(applied.await?))
}

/// A SCSI slot's model and its LUNs, to be changed.
fn luns_of<'a>(site: &'a mut Site, id: &SlotId) -> Result<(Model, &'a mut SlotLuns), Problem> {
    let slot = site.slot_mut(id);
    let slot = slot.ok_or_else(|| no_such("slot", &id.to_string(), "vm list"))?;
    if !slot.model.is_scsi() {
        return Err(Problem::conflict(format!("slot {id} is {}", slot.model.with_article()))
            .at(id.to_string())
            .hint("only a virtio-scsi or pvscsi slot takes volumes while it runs"));
    }
    Ok((slot.model, slot.volumes.get_or_insert_default()))
}

fn attach_volume(site: &mut Site, id: &SlotId, lun: Option<LunAddress>, volume: &str) -> Result<(), Problem> {
    if !site.disk.contains_key(volume) {
        return Err(no_such("volume", volume, "disk list"));
    }
    let (model, SlotLuns(luns)) = luns_of(site, id)?;
    let free = (0..=model.lun_max()).map(LunAddress::from).find(|lun| !luns.contains_key(lun));
    let lun = lun.or(free).ok_or_else(|| {
        Problem::conflict(format!("slot {id} has no free LUN"))
            .hint(format!("add another {model} slot to the VM"))
    })?;
    match luns.get(&lun) {
        Some(there) if there != volume => {
            Err(Problem::conflict(format!("LUN {lun} of {id} is volume `{there}`"))
                .at(id.to_string())
                .hint("choose another --lun, or leave it out and the first free one is taken"))
        }
        _ => {
            luns.insert(lun, volume.to_owned());
            Ok(())
        }
    }
}

/// Hot-plug a volume at the first free LUN of target 0.
#[utoipa::path(post, path = "/v1/slots/{slot}/luns", tag = "slots", params(("slot" = SlotId, Path), DryRun), request_body = Attach, responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn attach(
    State(controller): Shared,
    Path(slot): Path<String>,
    Params(query): Params<DryRun>,
    Body(attach): Body<Attach>,
) -> Answer<Json<Applied>> {
    let applied = blocking(&controller, move |c| {
        let id = slot_id(&slot)?;
        c.change(query.dry_run, |site| attach_volume(site, &id, None, &attach.volume))
    });
    Ok(Json(applied.await?))
}

fn lun_address(text: &str) -> Result<LunAddress, Refusal> {
    text.parse().map_err(|what: String| Problem::invalid(what).into())
}

/// Hot-plug a volume at a LUN.
#[utoipa::path(put, path = "/v1/slots/{slot}/luns/{lun}", tag = "slots", params(("slot" = SlotId, Path), ("lun" = LunAddress, Path), DryRun), request_body = Attach, responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn attach_at(
    State(controller): Shared,
    Path((slot, lun)): Path<(String, String)>,
    Params(query): Params<DryRun>,
    Body(attach): Body<Attach>,
) -> Answer<Json<Applied>> {
    let lun = lun_address(&lun)?;
    let applied = blocking(&controller, move |c| {
        let id = slot_id(&slot)?;
        c.change(query.dry_run, |site| attach_volume(site, &id, Some(lun), &attach.volume))
    });
    Ok(Json(applied.await?))
}

/// Hot-unplug a LUN. The volume stays.
#[utoipa::path(delete, path = "/v1/slots/{slot}/luns/{lun}", tag = "slots", params(("slot" = SlotId, Path), ("lun" = LunAddress, Path), DryRun), responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn detach(
    State(controller): Shared,
    Path((slot, lun)): Path<(String, String)>,
    Params(query): Params<DryRun>,
) -> Answer<Json<Applied>> {
    let lun = lun_address(&lun)?;
    let applied = blocking(&controller, move |c| {
        let id = slot_id(&slot)?;
        c.change(query.dry_run, |site| match luns_of(site, &id)?.1.0.remove(&lun) {
            Some(_) => Ok(()),
            None => Err(Problem::not_found(format!("slot {id} has no LUN {lun}"))
                .at(id.to_string())
                .hint(format!("`standpipe vm show {}` shows its LUNs", id.vm))),
        })
    });
    Ok(Json(applied.await?))
}
