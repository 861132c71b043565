//! The site as a whole, and the daemon itself.

use super::error::{Body, Params, ProblemDetails};
use super::{Answer, DryRun, Shared, blocking, metrics as text};
use crate::controller::Applied;
use crate::site::Site;
use crate::status::Status;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

/// Everything that is offered.
#[utoipa::path(get, path = "/v1/site", tag = "site", responses(
    (status = 200, body = Site),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn get_site(State(controller): Shared) -> Answer<Json<Site>> {
    let site = blocking(&controller, |c| Ok(c.site())).await?;
    Ok(Json(site))
}

/// Offer this and nothing else. The same site twice changes nothing the
/// second time. A volume's identity stays, whether it is given or not.
#[utoipa::path(put, path = "/v1/site", tag = "site", params(DryRun), request_body = Site, responses(
    (status = 200, body = Applied),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn put_site(
    State(controller): Shared,
    Params(query): Params<DryRun>,
    Body(site): Body<Site>,
) -> Answer<Json<Applied>> {
    let applied = blocking(&controller, move |c| c.apply(site, query.dry_run)).await?;
    Ok(Json(applied))
}

/// What is going on.
#[utoipa::path(get, path = "/v1/status", tag = "daemon", responses(
    (status = 200, body = Status),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn status(State(controller): Shared) -> Answer<Json<Status>> {
    let status = blocking(&controller, |c| Ok(c.status())).await?;
    Ok(Json(status))
}

/// Put the binary on disk in place of the running worker. Guests do not notice.
#[utoipa::path(post, path = "/v1/upgrade", tag = "daemon", responses(
    (status = 202, description = "On its way; `worker.pid` in the status tells when it is done."),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn upgrade(State(controller): Shared) -> Answer<StatusCode> {
    blocking(&controller, |c| c.upgrade()).await?;
    Ok(StatusCode::ACCEPTED)
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "daemon", responses(
    (status = 200, body = serde_json::Value),
))]
pub(super) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], super::openapi_json())
}

/// Counters as OpenMetrics text.
#[utoipa::path(get, path = "/metrics", tag = "daemon", responses(
    (status = 200, body = String, content_type = "application/openmetrics-text"),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn metrics(State(controller): Shared) -> Answer<impl IntoResponse> {
    let status = blocking(&controller, |c| Ok(c.status())).await?;
    Ok(([(header::CONTENT_TYPE, text::CONTENT_TYPE)], text::render(&status)))
}
