//! Version 1 of the API: HTTP and JSON over a unix socket.
//!
//! One thread serves it; what may take long (files, the engine) is done by
//! tokio's blocking threads, so that `GET /v1/status` is always answered.

mod daemon;
mod disks;
mod error;
mod exports;
mod metrics;
mod objects;
mod peer;

pub use disks::{DiskChange, DiskView, Export, Import, NewDisk, Threshold};
pub use error::{PROBLEM_JSON, ProblemDetails};
pub use exports::{NewPortal, NewTarget, PortalView, TargetChange, TargetView};
pub use objects::{Attach, NetworkView, NewNetwork, NewVm, SlotChange, SlotView, VmView};

use crate::controller::Controller;
use crate::problem::Problem;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post, put};
use axum::{Extension, Router};
use error::Refusal;
use nix::unistd::{Gid, Group, chown};
use peer::Peer;
use serde::Deserialize;
use std::fs::Permissions;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use utoipa::{IntoParams, OpenApi};

/// Where the API's socket is if nothing else is said.
pub const SOCKET_DEFAULT: &str = "/run/standpipe/api.sock";

/// Requests that wait for files or the engine at once. The engine does one
/// change at a time; this leaves room for imports beside it.
const BLOCKING_THREADS_MAX: usize = 16;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Standpipe",
        description = "Control of a Standpipe server, over HTTP on a unix socket. Errors are RFC 9457 problem details.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        daemon::get_site,
        daemon::put_site,
        daemon::status,
        daemon::upgrade,
        daemon::openapi,
        daemon::metrics,
        objects::list_vms,
        objects::get_vm,
        objects::create_vm,
        objects::delete_vm,
        objects::list_networks,
        objects::create_network,
        objects::get_network,
        objects::delete_network,
        objects::list_slots,
        objects::get_slot,
        objects::put_slot,
        objects::patch_slot,
        objects::delete_slot,
        objects::attach,
        objects::attach_at,
        objects::detach,
        disks::list,
        disks::create,
        disks::get,
        disks::change,
        disks::delete,
        disks::clear_reservations,
        disks::import,
        disks::export,
        exports::list_portals,
        exports::create_portal,
        exports::get_portal,
        exports::put_portal,
        exports::delete_portal,
        exports::list_targets,
        exports::create_target,
        exports::get_target,
        exports::put_target,
        exports::patch_target,
        exports::delete_target,
        exports::reload,
    ),
    components(schemas(ProblemDetails))
)]
struct Document;

/// The OpenAPI document, as JSON text.
pub fn openapi_json() -> String {
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// `?dry_run=true`: say what would be done, and do nothing.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DryRun {
    #[serde(default)]
    #[param(required = false)]
    pub dry_run: bool,
}

type Shared = State<Arc<Controller>>;
type Answer<T> = Result<T, Refusal>;

/// Runs what may wait, away from the thread that answers.
async fn blocking<T: Send + 'static>(
    controller: &Arc<Controller>,
    work: impl FnOnce(&Controller) -> Result<T, Problem> + Send + 'static,
) -> Answer<T> {
    let controller = Arc::clone(controller);
    match tokio::task::spawn_blocking(move || work(&controller)).await {
        Ok(result) => result.map_err(Refusal::from),
        Err(_) => Err(Problem::failed("the request ended in a fault of the daemon")
            .hint("please report it, with the daemon's log")
            .into()),
    }
}

/// All routes, with the peer's credentials checked before any of them.
pub fn router(controller: Arc<Controller>) -> Router {
    Router::new()
        .route("/v1/site", get(daemon::get_site).put(daemon::put_site))
        .route("/v1/status", get(daemon::status))
        .route("/v1/upgrade", post(daemon::upgrade))
        .route("/v1/openapi.json", get(daemon::openapi))
        .route("/metrics", get(daemon::metrics))
        .route("/v1/vms", get(objects::list_vms).post(objects::create_vm))
        .route("/v1/vms/{vm}", get(objects::get_vm).delete(objects::delete_vm))
        .route("/v1/networks", get(objects::list_networks).post(objects::create_network))
        .route("/v1/networks/{network}", get(objects::get_network).delete(objects::delete_network))
        .route("/v1/slots", get(objects::list_slots))
        .route(
            "/v1/slots/{slot}",
            get(objects::get_slot)
                .put(objects::put_slot)
                .patch(objects::patch_slot)
                .delete(objects::delete_slot),
        )
        .route("/v1/slots/{slot}/luns", post(objects::attach))
        .route("/v1/slots/{slot}/luns/{lun}", put(objects::attach_at).delete(objects::detach))
        .route("/v1/disks", get(disks::list).post(disks::create))
        .route("/v1/disks/{disk}", get(disks::get).patch(disks::change).delete(disks::delete))
        .route("/v1/disks/{disk}/import", post(disks::import))
        .route("/v1/disks/{disk}/export", post(disks::export))
        .route("/v1/disks/{disk}/clear-reservations", post(disks::clear_reservations))
        .route("/v1/portals", get(exports::list_portals).post(exports::create_portal))
        .route(
            "/v1/portals/{portal}",
            get(exports::get_portal).put(exports::put_portal).delete(exports::delete_portal),
        )
        .route("/v1/targets", get(exports::list_targets).post(exports::create_target))
        .route(
            "/v1/targets/{target}",
            get(exports::get_target)
                .put(exports::put_target)
                .patch(exports::patch_target)
                .delete(exports::delete_target),
        )
        .route("/v1/targets/{target}/reload", post(exports::reload))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&controller), admit))
        .with_state(controller)
}

async fn no_such_path(request: Request) -> Refusal {
    let what = format!("there is nothing at {}", request.uri().path());
    Refusal::http(StatusCode::NOT_FOUND, what, "GET /v1/openapi.json lists the paths")
}

async fn no_such_method(request: Request) -> Refusal {
    let what = format!("{} cannot be done to {}", request.method(), request.uri().path());
    let hint = "GET /v1/openapi.json lists the methods of each path";
    Refusal::http(StatusCode::METHOD_NOT_ALLOWED, what, hint)
}

async fn admit(
    State(controller): Shared,
    peer: Option<Extension<ConnectInfo<Peer>>>,
    request: Request,
    next: Next,
) -> Answer<Response> {
    let peer = peer.map_or(Peer { ids: None }, |Extension(ConnectInfo(peer))| peer);
    // The group may be asked of a name service, and the site may be waiting
    // for a change to end: neither may hold up the thread.
    blocking(&controller, move |controller| peer.check(|| controller.api_group())).await?;
    Ok(next.run(request).await)
}

/// Makes the API's socket: a stale one of a dead daemon is taken away, a live
/// one is not. With a group, its members can connect.
pub fn listen(path: &Path, group: Option<&str>) -> Result<UnixListener, Problem> {
    let place = path.display().to_string();
    let failed = |what: String, hint: &str| Problem::failed(what).at(&place).hint(hint);
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(Problem::conflict("there is something else than a socket at the API's path")
                .at(&place)
                .hint("remove it, or choose another path with --api"));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(Problem::conflict("another daemon answers at the API's socket")
                .at(&place)
                .hint("stop it, or choose another path with --api"));
        }
        std::fs::remove_file(path).map_err(|error| {
            failed(format!("cannot remove the stale socket: {error}"), "remove it by hand")
        })?;
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(|error| {
            failed(
                format!("cannot make the socket's directory: {error}"),
                "choose another path with --api, or run as root",
            )
        })?;
    }
    let listener = UnixListener::bind(path).map_err(|error| {
        failed(
            format!("cannot make the API's socket: {error}"),
            "choose another path with --api (107 bytes at most), or run as root",
        )
    })?;
    let mode = match group {
        None => 0o600,
        Some(name) => {
            let group = Group::from_name(name).ok().flatten().ok_or_else(|| {
                Problem::invalid(format!("there is no group `{name}`"))
                    .at("server.api_group")
                    .hint(format!("make it (groupadd --system {name}), or leave api_group out"))
            })?;
            chown(path, None, Some(Gid::from_raw(group.gid.as_raw()))).map_err(|error| {
                failed(
                    format!("cannot give the socket to the group `{name}`: {error}"),
                    "run as root, or leave api_group out",
                )
            })?;
            0o660
        }
    };
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|error| failed(format!("cannot set the socket's mode: {error}"), "check its directory"))?;
    Ok(listener)
}

/// Serves the API in the calling thread. Returns only if it cannot go on.
pub fn serve(listener: UnixListener, controller: Arc<Controller>) -> Result<(), Problem> {
    let failed = |error: std::io::Error| {
        Problem::failed(format!("cannot serve the API: {error}"))
            .hint("see the kernel's log; the limit of open files may be too low")
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
        let service = router(controller).into_make_service_with_connect_info::<Peer>();
        axum::serve(listener, service).await.map_err(failed)
    })
}
