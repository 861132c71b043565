//! Portals and targets: what is offered over iSCSI.

use super::error::{Body, Params, ProblemDetails};
use super::{Answer, DryRun, Shared, blocking};
use crate::controller::{Applied, no_such};
use crate::problem::Problem;
use crate::site::{Allow, Chap, IscsiName, Luns, Portal, Site, Target, TargetPortals};
use crate::status::{PortalStatus, Status, TargetStatus};
use crate::step::TargetPortal;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A portal: as declared, the targets at it, and how it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PortalView {
    pub name: String,
    pub portal: Portal,
    pub targets: Vec<String>,
    pub status: Option<PortalStatus>,
}

/// A target: as declared, its ports, and how it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TargetView {
    pub name: String,
    pub target: Target,
    pub ports: Vec<TargetPortal>,
    pub status: Option<TargetStatus>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPortal {
    pub name: String,
    pub portal: Portal,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTarget {
    pub name: String,
    pub target: Target,
}

/// What to change of a target while it runs. What is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetChange {
    /// Portals that it is to leave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leave: Vec<String>,
    /// Portals that it is to be at, or whose path changes.
    #[serde(default, skip_serializing_if = "is_empty_portals")]
    pub portals: TargetPortals,
    /// LUNs to take away. It is done before others are added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detach: Vec<u16>,
    /// Volumes to add, by LUN.
    #[serde(default, skip_serializing_if = "is_empty_luns")]
    pub attach: Luns,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_max: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
    /// Null: none any more.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    #[schema(value_type = Option<Chap>)]
    pub chap: Option<Option<Chap>>,
    /// Null: none any more.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    #[schema(value_type = Option<Chap>)]
    pub mutual: Option<Option<Chap>>,
    /// Initiators that may log in no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disallow: Vec<IscsiName>,
    /// Entries to add, or to put in the place of those of the same initiators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Allow>,
}

fn is_empty_portals(portals: &TargetPortals) -> bool {
    portals.0.is_empty()
}

fn is_empty_luns(luns: &Luns) -> bool {
    luns.0.is_empty()
}

/// Tells null from absent.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Chap>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl TargetChange {
    fn apply(self, name: &str, target: &mut Target) -> Result<(), Problem> {
        let missing = |what: String| {
            Problem::not_found(what)
                .at(format!("target.{name}"))
                .hint(format!("`standpipe target show {name}` shows what it has"))
        };
        for portal in &self.leave {
            if target.portals.0.remove(portal).is_none() {
                return Err(missing(format!("target {name} is not at portal `{portal}`")));
            }
        }
        target.portals.0.extend(self.portals.0);
        for lun in &self.detach {
            if target.luns.0.remove(lun).is_none() {
                return Err(missing(format!("target {name} has no LUN {lun}")));
            }
        }
        for (lun, volume) in self.attach.0 {
            if let Some(there) = target.luns.0.get(&lun).filter(|there| **there != volume) {
                return Err(Problem::conflict(format!("LUN {lun} of target {name} is volume `{there}`"))
                    .at(format!("target.{name}.luns"))
                    .hint("choose another LUN, or detach that one in the same change"));
            }
            target.luns.0.insert(lun, volume);
        }
        target.sessions_max = self.sessions_max.unwrap_or(target.sessions_max);
        target.open = self.open.unwrap_or(target.open);
        if let Some(chap) = self.chap {
            target.chap = chap;
        }
        if let Some(mutual) = self.mutual {
            target.mutual = mutual;
        }
        for initiator in &self.disallow {
            let before = target.allow.len();
            target.allow.retain(|entry| entry.initiator != *initiator);
            if target.allow.len() == before {
                return Err(missing(format!("target {name} has no entry for `{initiator}`")));
            }
        }
        for entry in self.allow {
            match target.allow.iter_mut().find(|there| there.initiator == entry.initiator) {
                Some(there) => *there = entry,
                None => target.allow.push(entry),
            }
        }
        Ok(())
    }
}

fn portal_view(site: &Site, status: &Status, name: &str) -> Option<PortalView> {
    let at_it = |(_, target): &(&String, &Target)| target.portals.0.contains_key(name);
    Some(PortalView {
        name: name.to_owned(),
        portal: site.portal.get(name)?.clone(),
        targets: site.target.iter().filter(at_it).map(|(target, _)| target.clone()).collect(),
        status: status.portals.get(name).cloned(),
    })
}

fn target_view(site: &Site, status: &Status, name: &str) -> Option<TargetView> {
    Some(TargetView {
        name: name.to_owned(),
        target: site.target.get(name)?.clone(),
        ports: site.target_spec(name)?.portals,
        status: status.targets.get(name).cloned(),
    })
}

/// All portals.
#[utoipa::path(get, path = "/v1/portals", tag = "targets", responses(
    (status = 200, body = BTreeMap<String, PortalView>),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn list_portals(State(controller): Shared) -> Answer<Json<BTreeMap<String, PortalView>>> {
    let views = blocking(&controller, |c| {
        let (site, status) = (c.site(), c.status());
        let names = site.portal.keys();
        Ok(names.filter_map(|name| Some((name.clone(), portal_view(&site, &status, name)?))).collect())
    });
    Ok(Json(views.await?))
}

/// A new portal.
#[utoipa::path(post, path = "/v1/portals", tag = "targets", params(DryRun), request_body = NewPortal, responses(
    (status = 201, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn create_portal(
    State(controller): Shared,
    Params(query): Params<DryRun>,
    Body(new): Body<NewPortal>,
) -> Answer<(StatusCode, Json<Applied>)> {
    let applied = blocking(&controller, move |c| {
        c.change(query.dry_run, |site| {
            if site.portal.contains_key(&new.name) {
                return Err(Problem::conflict(format!("there is already a portal `{}`", new.name))
                    .at(format!("portal.{}", new.name))
                    .hint("choose another name"));
            }
            site.portal.insert(new.name, new.portal);
            Ok(())
        })
    });
    Ok((StatusCode::CREATED, Json(applied.await?)))
}

/// One portal.
#[utoipa::path(get, path = "/v1/portals/{portal}", tag = "targets", params(("portal" = String, Path)), responses(
    (status = 200, body = PortalView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn get_portal(
    State(controller): Shared,
    Path(name): Path<String>,
) -> Answer<Json<PortalView>> {
    let view = blocking(&controller, move |c| {
        let found = portal_view(&c.site(), &c.status(), &name);
        found.ok_or_else(|| no_such("portal", &name, "portal list"))
    });
    Ok(Json(view.await?))
}

/// Give a portal another address, or make it. Connections of the old address go on.
#[utoipa::path(put, path = "/v1/portals/{portal}", tag = "targets", params(("portal" = String, Path), DryRun), request_body = Portal, responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn put_portal(
    State(controller): Shared,
    Path(name): Path<String>,
    Params(query): Params<DryRun>,
    Body(portal): Body<Portal>,
) -> Answer<Json<Applied>> {
    let applied = blocking(&controller, move |c| {
        c.change(query.dry_run, |site| {
            site.portal.insert(name, portal);
            Ok(())
        })
    });
    Ok(Json(applied.await?))
}

/// Remove a portal that no target is at.
#[utoipa::path(delete, path = "/v1/portals/{portal}", tag = "targets", params(("portal" = String, Path), DryRun), responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn delete_portal(
    State(controller): Shared,
    Path(name): Path<String>,
    Params(query): Params<DryRun>,
) -> Answer<Json<Applied>> {
    let applied = blocking(&controller, move |c| {
        c.change(query.dry_run, |site| {
            let at_it = |(_, target): &(&String, &Target)| target.portals.0.contains_key(&name);
            if let Some((target, _)) = site.target.iter().find(at_it) {
                return Err(Problem::conflict(format!("target {target} is at portal `{name}`"))
                    .at(format!("portal.{name}"))
                    .hint(format!("take it off first: standpipe target change {target} --leave {name}")));
            }
            match site.portal.remove(&name) {
                Some(_) => Ok(()),
                None => Err(no_such("portal", &name, "portal list")),
            }
        })
    });
    Ok(Json(applied.await?))
}

/// All targets.
#[utoipa::path(get, path = "/v1/targets", tag = "targets", responses(
    (status = 200, body = BTreeMap<String, TargetView>),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn list_targets(State(controller): Shared) -> Answer<Json<BTreeMap<String, TargetView>>> {
    let views = blocking(&controller, |c| {
        let (site, status) = (c.site(), c.status());
        let names = site.target.keys();
        Ok(names.filter_map(|name| Some((name.clone(), target_view(&site, &status, name)?))).collect())
    });
    Ok(Json(views.await?))
}

/// A new target.
#[utoipa::path(post, path = "/v1/targets", tag = "targets", params(DryRun), request_body = NewTarget, responses(
    (status = 201, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn create_target(
    State(controller): Shared,
    Params(query): Params<DryRun>,
    Body(new): Body<NewTarget>,
) -> Answer<(StatusCode, Json<Applied>)> {
    let applied = blocking(&controller, move |c| {
        c.change(query.dry_run, |site| {
            if site.target.contains_key(&new.name) {
                return Err(Problem::conflict(format!("there is already a target `{}`", new.name))
                    .at(format!("target.{}", new.name))
                    .hint("choose another name, or change that one"));
            }
            site.target.insert(new.name, new.target);
            Ok(())
        })
    });
    Ok((StatusCode::CREATED, Json(applied.await?)))
}

/// One target, with its sessions.
#[utoipa::path(get, path = "/v1/targets/{target}", tag = "targets", params(("target" = String, Path)), responses(
    (status = 200, body = TargetView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn get_target(
    State(controller): Shared,
    Path(name): Path<String>,
) -> Answer<Json<TargetView>> {
    let view = blocking(&controller, move |c| {
        let found = target_view(&c.site(), &c.status(), &name);
        found.ok_or_else(|| no_such("target", &name, "target list"))
    });
    Ok(Json(view.await?))
}

/// Make a target what this says. Its sessions go on as far as it still allows them.
#[utoipa::path(put, path = "/v1/targets/{target}", tag = "targets", params(("target" = String, Path), DryRun), request_body = Target, responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn put_target(
    State(controller): Shared,
    Path(name): Path<String>,
    Params(query): Params<DryRun>,
    Body(target): Body<Target>,
) -> Answer<Json<Applied>> {
    let applied = blocking(&controller, move |c| {
        c.change(query.dry_run, |site| {
            site.target.insert(name, target);
            Ok(())
        })
    });
    Ok(Json(applied.await?))
}

/// Change a target while it runs. Sessions that it still allows lose no I/O.
#[utoipa::path(patch, path = "/v1/targets/{target}", tag = "targets", params(("target" = String, Path), DryRun), request_body = TargetChange, responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn patch_target(
    State(controller): Shared,
    Path(name): Path<String>,
    Params(query): Params<DryRun>,
    Body(change): Body<TargetChange>,
) -> Answer<Json<Applied>> {
    let applied = blocking(&controller, move |c| {
        c.change(query.dry_run, |site| match site.target.get_mut(&name) {
            Some(target) => change.apply(&name, target),
            None => Err(no_such("target", &name, "target list")),
        })
    });
    Ok(Json(applied.await?))
}

/// Remove a target. Its sessions end; its volumes stay.
#[utoipa::path(delete, path = "/v1/targets/{target}", tag = "targets", params(("target" = String, Path), DryRun), responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn delete_target(
    State(controller): Shared,
    Path(name): Path<String>,
    Params(query): Params<DryRun>,
) -> Answer<Json<Applied>> {
    let applied = blocking(&controller, move |c| {
        c.change(query.dry_run, |site| match site.target.remove(&name) {
            Some(_) => Ok(()),
            None => Err(no_such("target", &name, "target list")),
        })
    });
    Ok(Json(applied.await?))
}

/// Read the secrets of a target again, because what is in their files has changed.
#[utoipa::path(post, path = "/v1/targets/{target}/reload", tag = "targets", params(("target" = String, Path)), responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn reload(State(controller): Shared, Path(name): Path<String>) -> Answer<Json<Applied>> {
    let applied = blocking(&controller, move |c| c.reload_secrets(&name));
    Ok(Json(applied.await?))
}
