//! The API over a real unix socket.

use crate::engine::FakeEngine;
use standpipe_control::api::{self, ProblemDetails};
use standpipe_control::site::{self, Site};
use standpipe_control::status::Status;
use standpipe_control::{Applied, Client, Controller, Kind, Problem, Store};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

pub const MIB: u64 = 1 << 20;

/// A daemon with nothing behind it. Its thread ends with the test process.
pub struct Daemon {
    pub directory: TempDir,
    pub engine: Arc<FakeEngine>,
    pub client: Client,
}

impl Daemon {
    pub fn start() -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        let engine = Arc::new(FakeEngine { files: true, ..FakeEngine::default() });
        let store = Store::open(&directory.path().join("state")).unwrap();
        let controller = Arc::new(Controller::new(store, engine.clone()));
        assert_eq!(controller.start(None), []);
        let socket = directory.path().join("api.sock");
        let listener = api::listen(&socket, None).unwrap();
        std::thread::spawn(move || api::serve(listener, controller));
        fs::create_dir(directory.path().join("volumes")).unwrap();
        Daemon { client: Client::new(socket), directory, engine }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn toml(&self) -> String {
        format!(
            "[store.local]
directory = \"{}\"
[disk.root]
store = \"local\"
size = \"8MiB\"
[disk.spare]
null = true
size = \"1GiB\"
[network.lan]
[network.lan.uplink.host]
tap = \"sp-lan\"
[vm.web1.disk0]
model = \"virtio-scsi\"
volumes = [\"root\"]
[vm.web1.nic0]
model = \"virtio-net\"
network = \"lan\"
",
            self.path("volumes").display()
        )
    }

    pub fn site(&self) -> Site {
        site::parse("site.toml", &self.toml()).unwrap()
    }

    pub fn with_site() -> Daemon {
        let daemon = Daemon::start();
        let applied: Result<Applied, Problem> = daemon.client.put("/v1/site", &daemon.site());
        assert_eq!(applied.unwrap().steps.len(), 6);
        daemon
    }

    pub fn plug_in(&self, slot: &str) {
        let slot = slot.parse().unwrap();
        self.engine.connected.lock().unwrap().insert(slot);
    }

    /// What goes over the wire, without our client.
    fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.client.socket()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// Bytes that are no zeros and nowhere the same.
pub fn noise(length: u64) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&(state | 0x0101_0101_0101_0101).to_le_bytes());
    }
    bytes.truncate(length as usize);
    bytes
}

#[test]
fn a_site_goes_in_and_comes_out() {
    let daemon = Daemon::with_site();
    let site: Site = daemon.client.get("/v1/site").unwrap();
    assert!(site.disk["root"].naa.is_some());
    assert_eq!(site.vm, daemon.site().vm);
    let again: Applied = daemon.client.put("/v1/site", &site).unwrap();
    assert_eq!(again.steps, []);
    let empty: Applied = daemon.client.put("/v1/site?dry_run=true", &Site::default()).unwrap();
    assert_eq!(empty.steps.len(), 6);
    let status: Status = daemon.client.get("/v1/status").unwrap();
    assert_eq!(status.slots.len(), 2);
    assert_eq!(status.worker.restarts, 3);
}

#[test]
fn problems_are_rfc_9457() {
    let daemon = Daemon::with_site();
    let ask = |line: &str, headers: &str, body: &str| {
        let length = body.len();
        daemon.raw(&format!(
            "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
    };
    let json = "Content-Type: application/json\r\n";
    let cases = [
        (ask("GET /v1/disks/nope", "", ""), 404, "there is no volume `nope`"),
        (ask("GET /v2/site", "", ""), 404, "there is nothing at /v2/site"),
        (ask("PUT /v1/status", "", ""), 405, "PUT cannot be done to /v1/status"),
        (ask("PUT /v1/site", "", "{}"), 415, "Expected request with `Content-Type: application/json`"),
        (
            ask("PUT /v1/site", json, "{"),
            400,
            "Failed to parse the request body as JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            ask("PUT /v1/site", json, "{\"dusk\": {}}"),
            422,
            "Failed to deserialize the JSON body into the target type: dusk: unknown field `dusk`, expected one of `server`, `store`, `disk`, `network`, `vm`, `portal`, `target`, `identity` at line 1 column 7",
        ),
        (ask("DELETE /v1/disks/root", "", ""), 409, "volume `root` is attached to web1.disk0"),
        (
            ask("PATCH /v1/disks/root", json, "{\"size\": \"1MiB\"}"),
            409,
            "volume `root` cannot shrink from 8MiB to 1MiB",
        ),
        (
            ask("GET /v1/slots/web1", "", ""),
            404,
            "`web1` is not a slot; write VM.SLOT, such as web1.disk0 or web1.nic0",
        ),
        (
            ask("DELETE /v1/disks/root?delete_date=true", "", ""),
            400,
            "Failed to deserialize query string: delete_date: unknown field `delete_date`, expected `dry_run` or `delete_data`",
        ),
    ];
    for (answer, status, detail) in cases {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        let head = head.to_ascii_lowercase();
        assert!(head.contains("content-type: application/problem+json"), "{answer}");
        let details: ProblemDetails = serde_json::from_str(body).unwrap();
        assert_eq!(details.status, status);
        assert_eq!(details.detail, detail);
        assert!(details.hint.is_some(), "{answer}");
    }
}

#[test]
fn every_path_of_the_document_is_served() {
    let daemon = Daemon::with_site();
    let document: serde_json::Value = daemon.client.get("/v1/openapi.json").unwrap();
    let mut count = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = path
                .replace("{vm}", "x")
                .replace("{disk}", "x")
                .replace("{network}", "x")
                .replace("{portal}", "x")
                .replace("{target}", "x")
                .replace("{slot}", "x.disk0")
                .replace("{lun}", "0");
            let answer = daemon.raw(&format!(
                "{} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                method.to_uppercase()
            ));
            assert!(!answer.contains("there is nothing at"), "{method} {path}");
            assert!(!answer.starts_with("HTTP/1.1 405"), "{method} {path}");
            count += 1;
        }
    }
    assert_eq!(count, 42);
}

#[test]
fn metrics_are_openmetrics() {
    let daemon = Daemon::with_site();
    daemon.plug_in("web1.disk0");
    let text = daemon.client.text("/metrics").unwrap();
    for line in [
        "# TYPE standpipe_slot_events counter",
        "standpipe_slot_events_total{slot=\"web1.disk0\",model=\"virtio-scsi\",name=\"completed \\\"ok\\\"\"} 42",
        "standpipe_slot_connected{slot=\"web1.disk0\"} 1",
        "standpipe_slot_connected{slot=\"web1.nic0\"} 0",
        "standpipe_worker_restarts_total 3",
        "standpipe_port_events_total{network=\"lan\",port=\"uplink.host\",name=\"sent\"} 5",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\nin\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    let mut families: Vec<&str> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
    let all = families.len();
    families.sort_unstable();
    families.dedup();
    assert_eq!(families.len(), all, "a family is in one piece");
}

#[test]
fn images_keep_their_holes() {
    let daemon = Daemon::with_site();
    let file = daemon.path("volumes/root.raw");
    // Old data that the image does not reach must be gone.
    fs::write(&file, noise(8 * MIB)).unwrap();
    let mut image = noise(6 * MIB);
    image[MIB as usize..5 * MIB as usize].fill(0);
    let moved = daemon.client.import("root", image.as_slice(), Some(image.len() as u64), |_| {}).unwrap();
    assert_eq!((moved.bytes, moved.data), (6 * MIB, 2 * MIB));
    let found = fs::read(&file).unwrap();
    assert_eq!(found.len() as u64, 8 * MIB);
    assert!(found[..image.len()] == image);
    assert!(found[image.len()..].iter().all(|byte| *byte == 0));
    assert!(fs::metadata(&file).unwrap().blocks() * 512 <= 2 * MIB + 65536);

    let mut back = Vec::new();
    let length = daemon
        .client
        .export("root", |bytes, of| {
            assert_eq!(of, Some(8 * MIB));
            back.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
    assert_eq!(length, 8 * MIB);
    assert!(back == found);

    let to = daemon.path("copy.raw");
    let export = serde_json::json!({ "path": to });
    let moved: serde_json::Value = daemon.client.post("/v1/disks/root/export", &export).unwrap();
    assert_eq!(moved["bytes"], 8 * MIB);
    assert!(fs::read(&to).unwrap() == found);
    assert!(fs::metadata(&to).unwrap().blocks() * 512 <= 2 * MIB + 65536);
    let again: Result<serde_json::Value, _> = daemon.client.post("/v1/disks/root/export", &export);
    assert_eq!(again.unwrap_err().kind, Kind::Conflict);

    fs::write(&file, noise(8 * MIB)).unwrap();
    let import = serde_json::json!({ "path": to });
    let moved: serde_json::Value = daemon.client.post("/v1/disks/root/import", &import).unwrap();
    assert_eq!(moved["data"], 2 * MIB);
    assert!(fs::read(&file).unwrap() == found);
}

#[test]
fn images_that_do_not_fit_are_refused_before_anything_is_lost() {
    let daemon = Daemon::with_site();
    let file = daemon.path("volumes/root.raw");
    let before = noise(8 * MIB);
    fs::write(&file, &before).unwrap();
    let large = noise(9 * MIB);
    let length = Some(large.len() as u64);
    let problem = daemon.client.import("root", large.as_slice(), length, |_| {}).unwrap_err();
    assert_eq!(problem.what, "the image (9MiB) is larger than the volume (8MiB)");
    assert!(fs::read(&file).unwrap() == before);

    daemon.plug_in("web1.disk0");
    let length = Some(before.len() as u64);
    let problem = daemon.client.import("root", before.as_slice(), length, |_| {}).unwrap_err();
    assert_eq!(
        problem.to_string(),
        "error: volume `root` is attached to web1.disk0, and that VM is running
  where: disk.root
  hint: shut the VM down, or detach the volume first: standpipe disk detach web1.disk0 root"
    );
    let problem = daemon.client.export("root", |_, _| Ok(())).unwrap_err();
    assert_eq!(problem.kind, Kind::Conflict);
    let problem = daemon.client.export("spare", |_, _| Ok(())).unwrap_err();
    assert_eq!(problem.what, "volume `spare` is null and has no bytes");
    assert!(fs::read(&file).unwrap() == before);
}

#[test]
fn an_image_that_breaks_off_is_told() {
    let daemon = Daemon::with_site();
    struct Broken(u64);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::Error::other("the stick was pulled"));
            }
            self.0 -= 1;
            buffer.fill(7);
            Ok(buffer.len())
        }
    }
    let problem = daemon.client.import("root", Broken(2), Some(8 * MIB), |_| {}).unwrap_err();
    assert_eq!(problem.what, "cannot read the image: the stick was pulled");
    // The volume is free again: the next import is not told that it is busy.
    let image = noise(8 * MIB);
    for attempt in 0.. {
        match daemon.client.import("root", image.as_slice(), None, |_| {}) {
            Ok(moved) => {
                assert_eq!(moved.bytes, 8 * MIB);
                break;
            }
            Err(problem) => assert!(attempt < 50 && problem.kind == Kind::Conflict, "{problem}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn the_socket_is_private_and_not_stolen() {
    let daemon = Daemon::start();
    let socket = daemon.path("api.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let problem = api::listen(&socket, None).unwrap_err();
    assert_eq!(problem.what, "another daemon answers at the API's socket");

    let stale = daemon.path("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    api::listen(&stale, None).unwrap();

    let file = daemon.path("file");
    fs::write(&file, "precious").unwrap();
    let problem = api::listen(&file, None).unwrap_err();
    assert_eq!(problem.what, "there is something else than a socket at the API's path");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");

    let problem = api::listen(&daemon.path("x.sock"), Some("no-such-group")).unwrap_err();
    assert_eq!(problem.what, "there is no group `no-such-group`");
}

/// Needs another user to be one, so it does nothing when not run by root.
#[test]
fn other_users_are_turned_away() {
    use std::os::unix::process::CommandExt;
    let daemon = Daemon::with_site();
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("skipped: only root can become another user");
        return;
    }
    // As a slip of the administrator would have it.
    for path in [daemon.directory.path(), &daemon.path("api.sock")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let ask = |uid: u32, gid: u32| {
        // This test binary again, as a client with other credentials.
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "api::as_another_user", "--ignored", "--nocapture"])
            .env("STANDPIPE_TEST_SOCKET", daemon.path("api.sock"))
            .uid(uid)
            .gid(gid)
            .output();
        output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned() + &String::from_utf8_lossy(&o.stderr))
    };
    let Ok(said) = ask(65534, 65534) else {
        eprintln!("skipped: another user cannot run the test binary from here");
        return;
    };
    assert!(said.contains("user 65534 may not use this API"), "{said}");
    assert!(said.contains("set `api_group`"), "{said}");
    let mut site = daemon.site();
    site.server.api_group = Some("nogroup".to_owned());
    let _: Applied = daemon.client.put("/v1/site", &site).unwrap();
    let said = ask(65534, 65534).unwrap();
    assert!(said.contains("welcome"), "{said}");
}

#[test]
#[ignore = "run by other_users_are_turned_away, as another user"]
fn as_another_user() {
    let Some(socket) = std::env::var_os("STANDPIPE_TEST_SOCKET") else {
        return;
    };
    match Client::new(socket).get::<Site>("/v1/site") {
        Ok(_) => println!("welcome"),
        Err(problem) => println!("{problem}"),
    }
}
