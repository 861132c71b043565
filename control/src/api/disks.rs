//! Volumes, and their bytes in and out.

use super::error::{Body, Params, ProblemDetails, Refusal};
use super::{Answer, DryRun, Shared, blocking};
use crate::controller::{Applied, Controller, no_such};
use crate::problem::Problem;
use crate::site::{Percent, Site, Size, SlotId, Volume};
use crate::status::{Status, VolumeStatus};
use crate::step::Backing;
use crate::transfer::{self, Image, Target, Transferred};
use axum::Json;
use axum::body::{Body as Stream, Bytes};
use axum::extract::{Path as UrlPath, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

/// Chunks between the network and the file; each has at most the size that
/// HTTP frames have here, so this bounds the memory of a transfer.
const CHUNKS_IN_FLIGHT: usize = 4;

/// How often a transfer looks whether a VM has come to use the volume.
const RECHECK: Duration = Duration::from_millis(500);

/// A volume with everything known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DiskView {
    pub name: String,
    pub volume: Volume,
    /// The file or device, or `null`.
    pub place: String,
    /// The slots that have it.
    pub used_by: Vec<SlotId>,
    /// The targets that have it.
    pub targets: Vec<String>,
    pub status: Option<VolumeStatus>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDisk {
    pub name: String,
    pub volume: Volume,
}

/// What to change of a volume while it is used. What is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskChange {
    /// Larger than it is; a running guest sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<bool>,
    /// A share such as `80%`, or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub thin_threshold: Option<Threshold>,
}

/// A threshold, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold(pub Option<Percent>);

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Threshold(None)) } else { text.parse().map(|share| Threshold(Some(share))) }
    }
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(share) => serializer.collect_str(&share),
            None => serializer.serialize_str("none"),
        }
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Deletion {
    #[serde(default)]
    #[param(required = false)]
    dry_run: bool,
    /// Also delete the file. Otherwise the data stays.
    #[serde(default)]
    #[param(required = false)]
    delete_data: bool,
}

/// Import from a raw image that the daemon can read.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Import {
    #[schema(value_type = String)]
    pub path: PathBuf,
}

/// Export to a new file that the daemon makes; without a path to the answer's body.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    #[schema(value_type = Option<String>)]
    pub path: Option<PathBuf>,
}

pub(super) fn there_is_a_volume(name: &str) -> Problem {
    Problem::conflict(format!("there is already a volume `{name}`"))
        .at(format!("disk.{name}"))
        .hint("choose another name, or resize that one")
}

fn view(site: &Site, status: &Status, name: &str) -> Option<DiskView> {
    Some(DiskView {
        name: name.to_owned(),
        volume: site.disk.get(name)?.clone(),
        place: match site.backing(name)? {
            Backing::Path { path } => path.display().to_string(),
            Backing::Null => "null".to_owned(),
        },
        used_by: site.users_of(name).into_iter().map(|(id, _)| id).collect(),
        targets: site.targets_of(name).into_iter().map(|(target, _)| target.to_owned()).collect(),
        status: status.volumes.get(name).cloned(),
    })
}

/// All volumes.
#[utoipa::path(get, path = "/v1/disks", tag = "disks", responses(
    (status = 200, body = BTreeMap<String, DiskView>),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(controller): Shared) -> Answer<Json<BTreeMap<String, DiskView>>> {
    let views = blocking(&controller, |c| {
        let (site, status) = (c.site(), c.status());
        let views = site.disk.keys();
        Ok(views.filter_map(|name| Some((name.clone(), view(&site, &status, name)?))).collect())
    });
    Ok(Json(views.await?))
}

/// A new volume.
#[utoipa::path(post, path = "/v1/disks", tag = "disks", params(DryRun), request_body = NewDisk, responses(
    (status = 201, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(controller): Shared,
    Params(query): Params<DryRun>,
    Body(new): Body<NewDisk>,
) -> Answer<(StatusCode, Json<Applied>)> {
    let applied = blocking(&controller, move |c| {
        c.change(query.dry_run, |site| {
            if site.disk.contains_key(&new.name) {
                return Err(there_is_a_volume(&new.name));
            }
            site.disk.insert(new.name, new.volume);
            Ok(())
        })
    });
    Ok((StatusCode::CREATED, Json(applied.await?)))
}

/// One volume.
#[utoipa::path(get, path = "/v1/disks/{disk}", tag = "disks", params(("disk" = String, Path)), responses(
    (status = 200, body = DiskView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn get(State(controller): Shared, UrlPath(name): UrlPath<String>) -> Answer<Json<DiskView>> {
    let view = blocking(&controller, move |c| {
        let found = view(&c.site(), &c.status(), &name);
        found.ok_or_else(|| no_such("volume", &name, "disk list"))
    });
    Ok(Json(view.await?))
}

/// Grow a volume, share it, or change its threshold; running guests go on.
#[utoipa::path(patch, path = "/v1/disks/{disk}", tag = "disks", params(("disk" = String, Path), DryRun), request_body = DiskChange, responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn change(
    State(controller): Shared,
    UrlPath(name): UrlPath<String>,
    Params(query): Params<DryRun>,
    Body(change): Body<DiskChange>,
) -> Answer<Json<Applied>> {
    let applied = blocking(&controller, move |c| {
        let known = c.status().volumes.get(&name).map(|v| v.size);
        c.change(query.dry_run, |site| {
            let volume = site.disk.get_mut(&name);
            let volume = volume.ok_or_else(|| no_such("volume", &name, "disk list"))?;
            // A volume without a size has that of its file, which the plan
            // cannot see.
            if let Some(size) = change.size
                && volume.size.is_none()
                && known.is_some_and(|known| size.0 < known)
            {
                return Err(Problem::conflict(format!("volume `{name}` cannot shrink"))
                    .at(format!("disk.{name}.size"))
                    .hint("shrinking would cut off data: make a smaller volume and copy the data to it from within a guest"));
            }
            volume.size = change.size.or(volume.size);
            volume.shared = change.shared.unwrap_or(volume.shared);
            if let Some(threshold) = change.thin_threshold {
                volume.thin_threshold = threshold.0;
            }
            Ok(())
        })
    });
    Ok(Json(applied.await?))
}

/// Take all reservations and registrations away from a volume, as a dead cluster left them. Who is
/// alive and had fenced another has to do so again.
#[utoipa::path(post, path = "/v1/disks/{disk}/clear-reservations", tag = "disks", params(("disk" = String, Path)), responses(
    (status = 204, description = "Nobody has registered with it or reserved it."),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn clear_reservations(
    State(controller): Shared,
    UrlPath(name): UrlPath<String>,
) -> Answer<StatusCode> {
    blocking(&controller, move |c| c.clear_reservations(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a volume. Its data stays, unless `delete_data` is true.
#[utoipa::path(delete, path = "/v1/disks/{disk}", tag = "disks", params(("disk" = String, Path), Deletion), responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn delete(
    State(controller): Shared,
    UrlPath(name): UrlPath<String>,
    Params(query): Params<Deletion>,
) -> Answer<Json<Applied>> {
    let applied = blocking(&controller, move |c| {
        let backing = c.site().backing(&name);
        let applied = c.change(query.dry_run, |site| {
            if let Some((slot, _)) = site.users_of(&name).first() {
                return Err(Problem::conflict(format!("volume `{name}` is attached to {slot}"))
                    .at(format!("disk.{name}"))
                    .hint(format!("detach it first: standpipe disk detach {slot} {name}")));
            }
            if let Some((target, lun)) = site.targets_of(&name).first() {
                return Err(Problem::conflict(format!("volume `{name}` is attached to target {target}"))
                    .at(format!("disk.{name}"))
                    .hint(format!("detach it first: standpipe target change {target} --detach {lun}")));
            }
            match site.disk.remove(&name) {
                Some(_) => Ok(()),
                None => Err(no_such("volume", &name, "disk list")),
            }
        })?;
        if query.delete_data
            && !query.dry_run
            && let Some(Backing::Path { path }) = backing
        {
            delete_file(&path)?;
        }
        Ok(applied)
    });
    Ok(Json(applied.await?))
}

fn delete_file(path: &Path) -> Result<(), Problem> {
    let place = path.display().to_string();
    let problem = |what: String, hint: &str| Problem::failed(what).at(&place).hint(hint);
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => std::fs::remove_file(path).map_err(|error| {
            problem(
                format!("the volume is removed, but its file could not be deleted: {error}"),
                "delete it by hand",
            )
        }),
        Ok(_) => Err(problem(
            "the volume is removed, but its data is not in a plain file and was left".to_owned(),
            "erase the device with its own tools if you want its data gone",
        )),
        Err(_) => Ok(()),
    }
}

/// The file of a volume whose bytes may be moved, and its declared size.
fn bytes_of(controller: &Controller, name: &str) -> Result<(PathBuf, Option<u64>), Problem> {
    let site = controller.site();
    let size = site.disk.get(name).and_then(|volume| volume.size);
    match site.backing(name) {
        Some(Backing::Path { path }) => Ok((path, size.map(|size| size.0))),
        Some(Backing::Null) => Err(Problem::conflict(format!("volume `{name}` is null and has no bytes"))
            .at(format!("disk.{name}"))
            .hint("import to and export from volumes with a store or a path")),
        None => Err(no_such("volume", name, "disk list")),
    }
}

/// Asks now and then whether a VM has come to use the volume.
fn guard<'a>(controller: &'a Controller, name: &'a str) -> impl FnMut() -> Result<(), Problem> + 'a {
    let mut last = Instant::now();
    move || {
        if last.elapsed() < RECHECK {
            return Ok(());
        }
        last = Instant::now();
        controller.refuse_running(name, &controller.site())
    }
}

fn incomplete(mut problem: Problem, name: &str) -> Problem {
    problem.what = format!("the import ended early and volume `{name}` is incomplete: {}", problem.what);
    problem
}

fn import_file(controller: &Controller, name: &str, from: &Path) -> Result<Transferred, Problem> {
    let _busy = controller.occupy(name)?;
    let (path, size) = bytes_of(controller, name)?;
    let mut image = Image::open(from)?;
    let same = |a: &Path, b: &Path| a.canonicalize().ok().zip(b.canonicalize().ok());
    if same(from, &path).is_some_and(|(a, b)| a == b) {
        return Err(Problem::invalid("the image is the volume's own file")
            .at(from.display().to_string())
            .hint("give another image"));
    }
    let size = Target::measure(&path, size)?;
    if image.length() > size {
        return Err(transfer::too_long(&path, size, Some(image.length())));
    }
    let mut target = Target::volume(&path, Some(size))?;
    transfer::copy(&mut image, from, &mut target, guard(controller, name))
        .and_then(|()| target.finish())
        .map_err(|problem| incomplete(problem, name))
}

/// What the network side hands to the file side.
enum Chunk {
    Data(Bytes),
    /// The client sent everything that it announced.
    End,
}

fn import_stream(
    controller: &Controller,
    name: &str,
    length: Option<u64>,
    chunks: &mut mpsc::Receiver<Chunk>,
) -> Result<Transferred, Problem> {
    let _busy = controller.occupy(name)?;
    let (path, size) = bytes_of(controller, name)?;
    let size = Target::measure(&path, size)?;
    if let Some(length) = length.filter(|length| *length > size) {
        return Err(transfer::too_long(&path, size, Some(length)));
    }
    let mut target = Target::volume(&path, Some(size))?;
    let mut check = guard(controller, name);
    let mut take = || loop {
        check()?;
        match chunks.blocking_recv() {
            Some(Chunk::Data(bytes)) => target.write(&bytes)?,
            Some(Chunk::End) => return Ok(()),
            None => {
                return Err(Problem::failed("the client went away")
                    .at(format!("disk.{name}"))
                    .hint("import again"));
            }
        }
    };
    take().and_then(|()| target.finish()).map_err(|problem| incomplete(problem, name))
}

/// Replace a volume's bytes by a raw image: the request's body
/// (`application/octet-stream`), or a file that the daemon can read. What the
/// image does not reach becomes zeros, and zeros become holes. No VM may be
/// using the volume.
#[utoipa::path(post, path = "/v1/disks/{disk}/import", tag = "disks", params(("disk" = String, Path)),
    request_body(content(
        (Import = "application/json"),
        (Vec<u8> = "application/octet-stream"),
    )),
    responses(
    (status = 200, body = Transferred),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn import(
    State(controller): Shared,
    UrlPath(name): UrlPath<String>,
    request: Request,
) -> Answer<Json<Transferred>> {
    use axum::extract::FromRequest;
    if !is_octets(&request) {
        let Body(import): Body<Import> = Body::from_request(request, &()).await?;
        let moved = blocking(&controller, move |c| import_file(c, &name, &import.path));
        return Ok(Json(moved.await?));
    }
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let (sender, mut receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let work = blocking(&controller, move |c| import_stream(c, &name, length, &mut receiver));
    let mut body = request.into_body();
    let receive = async |sender: &mpsc::Sender<Chunk>, body: &mut Stream| {
        loop {
            match body.frame().await {
                None => {
                    // If nobody receives any more, the other side has a result.
                    let _ = sender.send(Chunk::End).await;
                    return;
                }
                Some(Err(_)) => return,
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data()
                        && sender.send(Chunk::Data(bytes)).await.is_err()
                    {
                        return;
                    }
                }
            }
        }
    };
    let feed = async {
        receive(&sender, &mut body).await;
        // The end of the channel is how the other side learns of a broken stream.
        drop(sender);
    };
    let (moved, ()) = tokio::join!(work, feed);
    if moved.is_err() {
        // A connection that is closed while the client still sends loses the
        // answer on the way. So go on receiving until it has read why.
        tokio::spawn(async move { while let Some(Ok(_)) = body.frame().await {} });
    }
    Ok(Json(moved?))
}

fn is_octets(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/octet-stream"))
}

fn export_file(controller: &Controller, name: &str, to: &Path) -> Result<Transferred, Problem> {
    let _busy = controller.occupy(name)?;
    let (path, size) = bytes_of(controller, name)?;
    let mut image = Image::open(&path)?;
    let length = size.unwrap_or(image.length()).max(image.length());
    let mut target = Target::create(to, length)?;
    let moved = transfer::copy(&mut image, &path, &mut target, guard(controller, name))
        .and_then(|()| target.finish());
    if moved.is_err() {
        // Half an image is worse than none. The file is ours: it was made new.
        let _ = std::fs::remove_file(to);
    }
    moved
}

/// A body that comes out of a channel. Its end is only regular after
/// [`Chunk::End`]; otherwise the connection breaks off, and the client knows.
struct Outflow {
    chunks: mpsc::Receiver<Chunk>,
    left: u64,
}

impl http_body::Body for Outflow {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        match self.chunks.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Chunk::Data(bytes))) => {
                self.left = self.left.saturating_sub(bytes.len() as u64);
                Poll::Ready(Some(Ok(http_body::Frame::data(bytes))))
            }
            Poll::Ready(Some(Chunk::End)) => Poll::Ready(None),
            Poll::Ready(None) if self.left == 0 => Poll::Ready(None),
            Poll::Ready(None) => Poll::Ready(Some(Err(std::io::Error::other("export cut off")))),
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}

fn pour(
    controller: &Controller,
    name: &str,
    started: tokio::sync::oneshot::Sender<Result<u64, Problem>>,
    sender: &mpsc::Sender<Chunk>,
) {
    let open = || {
        let busy = controller.occupy(name)?;
        let (path, _) = bytes_of(controller, name)?;
        let image = Image::open(&path)?;
        Ok((busy, path, image))
    };
    let (_busy, path, mut image) = match open() {
        Ok(opened) => opened,
        Err(problem) => {
            // Fails only if the client has gone.
            let _ = started.send(Err(problem));
            return;
        }
    };
    if started.send(Ok(image.length())).is_err() {
        return;
    }
    let mut check = guard(controller, name);
    let poured = transfer::pour(&mut image, &path, |bytes| {
        check()?;
        let chunk = Chunk::Data(Bytes::copy_from_slice(bytes));
        sender.blocking_send(chunk).map_err(|_| Problem::failed("the client went away"))
    });
    if poured.is_ok() {
        let _ = sender.blocking_send(Chunk::End);
    }
}

/// A volume's bytes as a raw image: to a new file that the daemon makes, or,
/// without a path, as the answer's body. No VM may be using the volume.
#[utoipa::path(post, path = "/v1/disks/{disk}/export", tag = "disks", params(("disk" = String, Path)),
    request_body = Export,
    responses(
    (status = 200, description = "With a path: what was moved. Without: the image.", content(
        (Transferred = "application/json"),
        (Vec<u8> = "application/octet-stream"),
    )),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn export(
    State(controller): Shared,
    UrlPath(name): UrlPath<String>,
    Body(export): Body<Export>,
) -> Answer<Response> {
    if let Some(to) = export.path {
        let moved = blocking(&controller, move |c| export_file(c, &name, &to)).await?;
        return Ok(Json(moved).into_response());
    }
    let (started, start) = tokio::sync::oneshot::channel();
    let (sender, chunks) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let worker = Arc::clone(&controller);
    tokio::task::spawn_blocking(move || pour(&worker, &name, started, &sender));
    let length = start
        .await
        .map_err(|_| Refusal::from(Problem::failed("the export ended in a fault of the daemon")))??;
    let body = Stream::new(Outflow { chunks, left: length });
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}
