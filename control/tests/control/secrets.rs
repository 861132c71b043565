//! Secrets: where they may be, and where they never are.

use crate::api::Daemon;
use standpipe_control::site::Site;
use standpipe_control::store::FILE_NAME;
use standpipe_control::{Applied, Problem, Secret};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const ONE: &str = "correct-horse-battery";
const OTHER: &str = "staple-and-wax-seal";

fn file(directory: &Path, name: &str, content: &str, mode: u32) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn files_are_read_with_care() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    for (content, expected) in [
        ("correct-horse-battery", ONE),
        ("correct-horse-battery\n", ONE),
        ("correct-horse-battery\r\n", ONE),
        ("twelve bytes\n", "twelve bytes"),
    ] {
        let path = file(at, "good", content, 0o640);
        assert_eq!(Secret::read(&path).unwrap().expose(), expected.as_bytes());
    }
    let longest = "x".repeat(100);
    let path = file(at, "good", &format!("{longest}\r\n"), 0o600);
    assert_eq!(Secret::read(&path).unwrap().expose(), longest.as_bytes());

    let place = at.display();
    let hint = "take 12 to 100 random letters and digits, such as from `openssl rand -hex 16`";
    let cases = [
        ("eleven-byte\n", 0o600, "the secret is shorter than 12 bytes (96 bits)", hint.to_owned()),
        ("", 0o600, "the secret is shorter than 12 bytes (96 bits)", hint.to_owned()),
        (&format!("{longest}x"), 0o600, "the secret is longer than 100 bytes", hint.to_owned()),
        (&longest.repeat(100), 0o600, "the secret is longer than 100 bytes", hint.to_owned()),
        (
            "correct-horse-battery\n\n",
            0o600,
            "the secret has control characters, or more than one line, in it",
            hint.to_owned(),
        ),
        (
            ONE,
            0o644,
            "everybody on this host may open the file of the secret (its mode is 0644)",
            format!("chmod 600 {place}/bad, and take a new secret if others can have read this one"),
        ),
        (
            ONE,
            0o602,
            "everybody on this host may open the file of the secret (its mode is 0602)",
            format!("chmod 600 {place}/bad, and take a new secret if others can have read this one"),
        ),
    ];
    for (content, mode, what, hint) in cases {
        let path = file(at, "bad", content, mode);
        let problem = Secret::read(&path).unwrap_err();
        assert_eq!(problem.to_string(), format!("error: {what}\n  where: {place}/bad\n  hint: {hint}"));
    }
    assert_eq!(
        Secret::read(&at.join("none")).unwrap_err().to_string(),
        format!(
            "error: cannot read the secret: No such file or directory (os error 2)
  where: {place}/none
  hint: make it, or correct `secret_file`; the daemon must see it too"
        )
    );
    assert_eq!(Secret::read(at).unwrap_err().what, "a secret is kept in a plain file, and this is none");
}

#[test]
fn a_secret_does_not_show() {
    let secret = Secret::new(ONE.into()).unwrap();
    assert_eq!(format!("{secret:?} {secret:#?}"), "(secret) (secret)");
    assert_eq!(serde_json::to_string(&secret).unwrap(), "\"(secret)\"");
    for text in [
        "\"battery\"",
        "271828182845904523",
        "-271828182845904523",
        "27.1828182845",
        "true",
        "[\"correct-horse-battery\"]",
        "{\"correct-horse-battery\": 1}",
    ] {
        let said = serde_json::from_str::<Secret>(text).unwrap_err().to_string();
        assert!(!said.contains("battery") && !said.contains("2718") && !said.contains("27.1"), "{said}");
    }
}

fn target(daemon: &Daemon, chap: &serde_json::Value) -> Result<Applied, Problem> {
    let target = serde_json::json!({
        "name": "backup",
        "target": {
            "iqn": "iqn.2026-11.org.example:backup",
            "luns": { "0": "spare" },
            "allow": [{ "initiator": "iqn.1993-08.org.debian:01:abc", "chap": chap }],
        },
    });
    daemon.client.post("/v1/targets", &target)
}

/// All that the daemon says, and all that it keeps but the files of the secrets.
fn everything(daemon: &Daemon) -> Vec<u8> {
    let mut all = Vec::new();
    for path in ["/v1/site", "/v1/status", "/v1/targets", "/v1/targets/backup", "/metrics"] {
        all.extend(daemon.client.text(path).unwrap().into_bytes());
    }
    all.extend(fs::read(daemon.path("state").join(FILE_NAME)).unwrap());
    all
}

fn kept(daemon: &Daemon) -> Vec<PathBuf> {
    let Ok(there) = fs::read_dir(daemon.path("state/secrets")) else { return Vec::new() };
    there.map(|entry| entry.unwrap().path()).collect()
}

/// In over the API, and nowhere out.
#[test]
fn a_secret_over_the_api_is_kept_apart() {
    let daemon = Daemon::with_site();
    let applied = target(&daemon, &serde_json::json!({ "user": "u", "secret": ONE })).unwrap();
    assert!(!serde_json::to_string(&applied).unwrap().contains(ONE));
    let has = |text: &str| everything(&daemon).windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!has(ONE));
    let [path] = &kept(&daemon)[..] else { panic!("{:?}", kept(&daemon)) };
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(Secret::read(path).unwrap().expose(), ONE.as_bytes());
    assert!(has(path.file_name().unwrap().to_str().unwrap()), "its path is what is listed");

    // What came out goes in again, and nothing changes.
    let site: Site = daemon.client.get("/v1/site").unwrap();
    let applied: Applied = daemon.client.put("/v1/site", &site).unwrap();
    assert_eq!(applied.steps, []);
    assert_eq!(kept(&daemon), std::slice::from_ref(path));

    // Only tried: nothing is left of it.
    let entry = |secret: &str| {
        serde_json::json!({ "allow": [{
            "initiator": "iqn.1993-08.org.debian:01:abc",
            "chap": { "user": "u", "secret": secret },
        }] })
    };
    let url = "/v1/targets/backup";
    let _: Applied = daemon.client.patch(&format!("{url}?dry_run=true"), &entry(OTHER)).unwrap();
    assert_eq!(kept(&daemon), std::slice::from_ref(path));

    // A new one takes its place, and the old one is gone.
    let applied: Applied = daemon.client.patch(url, &entry(OTHER)).unwrap();
    assert_eq!(applied.steps.len(), 1);
    let [new] = &kept(&daemon)[..] else { panic!("{:?}", kept(&daemon)) };
    assert_ne!(new, path);
    assert_eq!(Secret::read(new).unwrap().expose(), OTHER.as_bytes());
    assert!(!has(ONE) && !has(OTHER));

    // A change that fails leaves none.
    *daemon.engine.fail_after.lock().unwrap() = Some(0);
    let failed: Result<Applied, Problem> = daemon.client.patch(url, &entry(ONE));
    let said = format!("{:?}", failed.unwrap_err());
    assert!(said.contains("the disk is on fire") && !said.contains(ONE), "{said}");
    *daemon.engine.fail_after.lock().unwrap() = None;
    assert_eq!(kept(&daemon), std::slice::from_ref(new));

    let _: Applied = daemon.client.delete(url).unwrap();
    assert_eq!(kept(&daemon), Vec::<PathBuf>::new());
}

/// What is wrong with a secret is told before anything is done.
#[test]
fn bad_secrets_change_nothing() {
    let daemon = Daemon::with_site();
    let before = daemon.engine.performed.lock().unwrap().len();
    let path = file(daemon.directory.path(), "u.secret", ONE, 0o644);
    let problem = target(&daemon, &serde_json::json!({ "user": "u", "secret_file": path })).unwrap_err();
    assert_eq!(problem.what, "everybody on this host may open the file of the secret (its mode is 0644)");
    let both = serde_json::json!({ "user": "u", "secret_file": path, "secret": ONE });
    let problem = target(&daemon, &both).unwrap_err();
    assert_eq!(problem.what, "the secret of user `u` is given in two ways");
    let problem = target(&daemon, &serde_json::json!({ "user": "u", "secret": "short" })).unwrap_err();
    assert!(problem.what.contains("the secret is shorter than 12 bytes"), "{problem}");
    assert!(!problem.what.contains("\"short\""), "{problem}");
    let wrong = serde_json::json!({ "user": "u", "secret": 271_828_182_845_904_523_u64 });
    let problem = target(&daemon, &wrong).unwrap_err();
    assert!(!problem.to_string().contains("2718"), "{problem}");

    // Two files, one secret (RFC 7143, 9.2.1).
    let here = daemon.directory.path();
    let (chap, mutual) = (file(here, "u.secret", ONE, 0o600), file(here, "t.secret", ONE, 0o600));
    let target = serde_json::json!({ "name": "backup", "target": {
        "iqn": "iqn.2026-11.org.example:backup",
        "open": true,
        "chap": { "user": "u", "secret_file": chap },
        "mutual": { "user": "t", "secret_file": mutual },
    } });
    let problem: Problem = daemon.client.post::<Applied>("/v1/targets", &target).unwrap_err();
    assert_eq!(problem.what, "initiator and target are to have the same secret");
    assert_eq!(daemon.engine.performed.lock().unwrap().len(), before);

    file(here, "t.secret", OTHER, 0o600);
    let _: Applied = daemon.client.post("/v1/targets", &target).unwrap();
    // Files with other secrets in them are read again when that is asked for.
    let applied: Applied = daemon.client.post("/v1/targets/backup/reload", &()).unwrap();
    let texts: Vec<String> = applied.steps.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["change target backup"]);
    fs::remove_file(&mutual).unwrap();
    let problem = daemon.client.post::<Applied>("/v1/targets/backup/reload", &()).unwrap_err();
    assert_eq!(problem.place.as_deref(), mutual.to_str());
    // An old trouble with one target does not keep others from being changed.
    let grow = serde_json::json!({ "size": "2GiB" });
    let _: Applied = daemon.client.patch("/v1/disks/spare", &grow).unwrap();
}
