//! Problems as RFC 9457 problem details, also those of the HTTP layer itself.

use crate::problem::{Kind, Problem};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of RFC 9457.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// RFC 9457 problem details. `where`, `hint` and `others` are extension members.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ProblemDetails {
    /// `urn:standpipe:problem:` and the kind.
    pub r#type: String,
    pub title: String,
    pub status: u16,
    /// What is wrong.
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#where: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Further problems found in the same request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Problem>,
}

const TYPE_PREFIX: &str = "urn:standpipe:problem:";

/// One row a kind: its name in `type`, its title, its status.
const KINDS: [(Kind, &str, &str, StatusCode); 6] = [
    (Kind::Invalid, "invalid", "The request is wrong", StatusCode::UNPROCESSABLE_ENTITY),
    (Kind::NotFound, "not-found", "There is no such object", StatusCode::NOT_FOUND),
    (Kind::Conflict, "conflict", "It does not fit the present state", StatusCode::CONFLICT),
    (Kind::Forbidden, "forbidden", "You may not do this", StatusCode::FORBIDDEN),
    (Kind::Failed, "failed", "The daemon could not do it", StatusCode::INTERNAL_SERVER_ERROR),
    (Kind::Unreachable, "unreachable", "Something needed is not there", StatusCode::SERVICE_UNAVAILABLE),
];

impl From<Problem> for ProblemDetails {
    fn from(problem: Problem) -> Self {
        let row = KINDS.iter().find(|row| row.0 == problem.kind);
        let (_, name, title, status) = row.unwrap_or(&KINDS[4]);
        ProblemDetails {
            r#type: format!("{TYPE_PREFIX}{name}"),
            title: (*title).to_owned(),
            status: status.as_u16(),
            detail: problem.what,
            r#where: problem.place,
            hint: problem.hint,
            others: problem.others,
        }
    }
}

impl From<ProblemDetails> for Problem {
    fn from(details: ProblemDetails) -> Self {
        let name = details.r#type.strip_prefix(TYPE_PREFIX);
        let row = KINDS.iter().find(|row| Some(row.1) == name);
        Problem {
            kind: row.map_or(Kind::Failed, |row| row.0),
            what: details.detail,
            place: details.r#where,
            hint: details.hint,
            others: details.others,
        }
    }
}

/// A problem on its way to a client.
#[derive(Debug)]
pub struct Refusal(pub Problem, Option<StatusCode>);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Refusal(problem, None)
    }
}

impl Refusal {
    /// A problem of the HTTP layer, which has a status of its own.
    pub fn http(status: StatusCode, what: impl Into<String>, hint: &str) -> Self {
        Refusal(Problem::invalid(what).hint(hint), Some(status))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut details = ProblemDetails::from(self.0);
        if let Some(status) = self.1 {
            details.status = status.as_u16();
        }
        let status = StatusCode::from_u16(details.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(details)).into_response();
        let value = HeaderValue::from_static(PROBLEM_JSON);
        response.headers_mut().insert(header::CONTENT_TYPE, value);
        response
    }
}

/// A JSON body, whose faults are told as problem details.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Body(value)),
            Err(rejection) => Err(refuse_body(&rejection)),
        }
    }
}

fn refuse_body(rejection: &JsonRejection) -> Refusal {
    let hint = match rejection {
        JsonRejection::MissingJsonContentType(_) => "send `Content-Type: application/json`",
        JsonRejection::JsonSyntaxError(_) => "send well-formed JSON",
        JsonRejection::JsonDataError(_) => "see /v1/openapi.json for the fields of this request",
        _ => "send a whole body of at most 2 MiB",
    };
    Refusal::http(rejection.status(), rejection.body_text(), hint)
}

/// Query parameters, likewise.
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Params(value)),
            Err(rejection) => Err(Refusal::http(
                rejection.status(),
                rejection.body_text(),
                "see /v1/openapi.json for the parameters of this request",
            )),
        }
    }
}
