//! The API's client: blocking calls over the unix socket.

use crate::api::{PROBLEM_JSON, ProblemDetails};
use crate::problem::{Kind, Problem};
use crate::transfer::{CHUNK_BYTES, Transferred};
use axum::body::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// No answer that is held in memory is larger than this: a status of a
/// thousand slots takes a few MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Chunks read ahead of the socket.
const CHUNKS_IN_FLIGHT: usize = 4;

/// Talks to one daemon.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// A path segment, percent-encoded (RFC 3986, 2.3: all but the unreserved).
pub fn segment(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

impl Client {
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.json(Method::GET, path, None::<&()>)
    }

    pub fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Problem> {
        self.json(Method::PUT, path, Some(body))
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Problem> {
        self.json(Method::POST, path, Some(body))
    }

    pub fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Problem> {
        self.json(Method::PATCH, path, Some(body))
    }

    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.json(Method::DELETE, path, None::<&()>)
    }

    /// A request whose answer has no body.
    pub fn command(&self, path: &str) -> Result<(), Problem> {
        self.bytes(Method::POST, path, None::<&()>).map(|_| ())
    }

    /// A request whose answer is text.
    pub fn text(&self, path: &str) -> Result<String, Problem> {
        let bytes = self.bytes(Method::GET, path, None::<&()>)?;
        String::from_utf8(bytes.into()).map_err(|_| self.garbled("its answer is not text"))
    }

    fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Problem> {
        let bytes = self.bytes(method, path, body)?;
        serde_json::from_slice(&bytes).map_err(|error| self.garbled(&error.to_string()))
    }

    fn bytes(&self, method: Method, path: &str, body: Option<&impl Serialize>) -> Result<Bytes, Problem> {
        let body = match body {
            None => Bytes::new(),
            Some(body) => {
                let text = serde_json::to_vec(body);
                Bytes::from(text.map_err(|error| self.garbled(&error.to_string()))?)
            }
        };
        let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        let request = request(method, path, "application/json", body)?;
        self.run(async {
            let response = self.send(request).await?;
            self.collect(response).await
        })
    }

    /// Sends a raw image. `progress` hears how many bytes have been read.
    pub fn import(
        &self,
        disk: &str,
        mut image: impl Read + Send,
        length: Option<u64>,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<Transferred, Problem> {
        let (sender, chunks) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let path = format!("/v1/disks/{}/import", segment(disk));
        let body = Upload { chunks, length }.boxed_unsync();
        let request = request(Method::POST, &path, "application/octet-stream", body)?;
        // What the reader said: to the connection it is an error like any other.
        let mut unread = None;
        let failed = &mut unread;
        let moved = std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut sent = 0;
                loop {
                    let mut buffer = vec![0; CHUNK_BYTES];
                    let item = match image.read(&mut buffer) {
                        Ok(0) => Ok(None),
                        Ok(bytes) => {
                            sent += bytes as u64;
                            buffer.truncate(bytes);
                            Ok(Some(Bytes::from(buffer)))
                        }
                        Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                        Err(error) => {
                            *failed = Some(format!("cannot read the image: {error}"));
                            Err(error)
                        }
                    };
                    let last = !matches!(item, Ok(Some(_)));
                    // Nobody listens any more when the daemon has refused.
                    if sender.blocking_send(item).is_err() || last {
                        return;
                    }
                    progress(sent);
                }
            });
            self.run(async {
                let response = self.send(request).await?;
                let bytes = self.collect(response).await?;
                serde_json::from_slice(&bytes).map_err(|error| self.garbled(&error.to_string()))
            })
        });
        match unread {
            Some(what) => Err(Problem::invalid(what)
                .hint("nothing more of it was sent; the volume has what was read before")),
            None => moved,
        }
    }

    /// Receives a raw image in pieces. Returns its length. The second
    /// argument of `sink` is the whole length, if the daemon told it.
    pub fn export(
        &self,
        disk: &str,
        mut sink: impl FnMut(&[u8], Option<u64>) -> Result<(), Problem>,
    ) -> Result<u64, Problem> {
        let path = format!("/v1/disks/{}/export", segment(disk));
        let body = Full::new(Bytes::from_static(b"{}"));
        let body = body.map_err(|never| match never {}).boxed_unsync();
        let request = request(Method::POST, &path, "application/json", body)?;
        self.run(async {
            let response = self.send(request).await?;
            if !response.status().is_success() {
                return match self.collect(response).await {
                    Err(problem) => Err(problem),
                    Ok(_) => Err(self.garbled("it refused without saying why")),
                };
            }
            let length = response.headers().get(header::CONTENT_LENGTH);
            let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
            let mut body = response.into_body();
            let mut received = 0;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.broken(&error))?;
                if let Ok(bytes) = frame.into_data() {
                    received += bytes.len() as u64;
                    sink(&bytes, length)?;
                }
            }
            Ok(received)
        })
    }

    fn run<T>(&self, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(|error| Problem::failed(format!("cannot wait for sockets: {error}")))?;
        runtime.block_on(work)
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Problem> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // Its errors also come out of the request.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        sender.send_request(request).await.map_err(|error| self.broken(&error))
    }

    /// The whole answer, if it is a good one; else the problem in it.
    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, Problem> {
        let status = response.status();
        let kind = response.headers().get(header::CONTENT_TYPE);
        let is_problem = kind.is_some_and(|kind| kind.as_bytes() == PROBLEM_JSON.as_bytes());
        let body = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let bytes = body.collect().await;
        let bytes = bytes.map_err(|error| self.garbled(&error.to_string()))?;
        let bytes = bytes.to_bytes();
        if status.is_success() {
            return Ok(bytes);
        }
        if is_problem && let Ok(details) = serde_json::from_slice::<ProblemDetails>(&bytes) {
            return Err(details.into());
        }
        Err(self.garbled(&format!("it answered {status}")))
    }

    fn place(&self) -> String {
        self.socket.display().to_string()
    }

    fn unreachable(&self, error: &std::io::Error) -> Problem {
        let (what, hint) = match error.kind() {
            ErrorKind::NotFound => (
                "the daemon is not running: there is no socket".to_owned(),
                "start it (systemctl start standpipe, or standpipe serve), or name its socket with --api",
            ),
            ErrorKind::ConnectionRefused => (
                "the daemon is not running: nobody answers at its socket".to_owned(),
                "start it (systemctl start standpipe, or standpipe serve)",
            ),
            ErrorKind::PermissionDenied => (
                "you may not talk to the daemon".to_owned(),
                "run as root, or join the group that `api_group` in the site's [server] table names",
            ),
            _ => (format!("cannot reach the daemon: {error}"), "check the socket with --api"),
        };
        Problem::new(Kind::Unreachable, what).at(self.place()).hint(hint)
    }

    fn broken(&self, error: &hyper::Error) -> Problem {
        Problem::new(Kind::Unreachable, format!("the connection to the daemon broke off: {error}"))
            .at(self.place())
            .hint("the daemon may have restarted: look with `standpipe status`, then try again")
    }

    fn garbled(&self, how: &str) -> Problem {
        Problem::failed(format!("the daemon's answer is not understood: {how}"))
            .at(self.place())
            .hint("use the same version of `standpipe` as the daemon, and check --api")
    }
}

fn request(method: Method, path: &str, content: &'static str, body: Body) -> Result<Request<Body>, Problem> {
    Request::builder()
        .method(method)
        .uri(path)
        // RFC 9112, 3.2: there must be one; over a unix socket it says nothing.
        .header(header::HOST, "standpipe")
        .header(header::CONTENT_TYPE, content)
        .body(body)
        .map_err(|error| Problem::invalid(format!("cannot ask for {path}: {error}")))
}

/// A request body fed by another thread; `Ok(None)` is its end.
struct Upload {
    chunks: mpsc::Receiver<std::io::Result<Option<Bytes>>>,
    length: Option<u64>,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        match self.chunks.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(Some(bytes)))) => Poll::Ready(Some(Ok(http_body::Frame::data(bytes)))),
            Poll::Ready(Some(Ok(None)) | None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.length.map_or_else(http_body::SizeHint::new, http_body::SizeHint::with_exact)
    }
}
