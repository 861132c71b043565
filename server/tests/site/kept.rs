//! What must not get lost while something cannot be made, and what its owner takes away for good.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bench::driver::iscsi::{Data, Initiator};
use rustix::process::Signal;

use crate::daemon::{Daemon, MIB, disk_slot};
use crate::iscsi::{IQN, login, options, portal};

const KEY: [u8; 8] = *b"our key!";

/// A target with two volumes, by `portal`.
fn two(portal: &str) -> String {
    format!(
        "[disk.one]\nstore = \"local\"\nsize = \"16MiB\"\nshared = true\n\
         [disk.two]\nstore = \"local\"\nsize = \"16MiB\"\nshared = true\n\
         [portal.a]\nlisten = \"{portal}\"\n\
         [target.t]\niqn = \"{IQN}\"\nportals = [\"a\"]\nopen = true\nluns = {{ 0 = \"one\", 1 = \"two\" }}\n"
    )
}

/// PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY.
fn register(session: &mut Initiator, aptpl: bool) {
    let mut list = [0; 24];
    list[8..16].copy_from_slice(&KEY);
    list[20] = u8::from(aptpl);
    let answer =
        session.command(0, &[0x5f, 0x06, 0, 0, 0, 0, 0, 0, 24, 0], Data::Out(list.to_vec())).unwrap();
    assert!(answer.is_good(), "{answer:?}");
}

/// PERSISTENT RESERVE IN, READ KEYS; behind what the unit has to tell.
fn keys(session: &mut Initiator) -> (Vec<u8>, Vec<(u8, u8)>) {
    let mut told = Vec::new();
    loop {
        let answer = session.command(0, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0], Data::In(64)).unwrap();
        if answer.is_good() {
            return (answer.data[8..].to_vec(), told);
        }
        let sense = answer.decoded_sense();
        assert_eq!(sense.key, 0x06, "{answer:?}");
        told.push((sense.asc, sense.ascq));
    }
}

/// A volume that cannot be opened to be written, since its file is a program that runs.
struct Busy {
    program: Child,
    path: PathBuf,
    kept: PathBuf,
}

impl Busy {
    fn make(path: &Path) -> Busy {
        let kept = path.with_extension("kept");
        std::fs::rename(path, &kept).unwrap();
        std::fs::copy("/bin/sleep", path).unwrap();
        std::fs::File::options().write(true).open(path).unwrap().set_len(16 * MIB).unwrap();
        let program = Command::new(path).arg("600").stdin(Stdio::null()).spawn().unwrap();
        Busy { program, path: path.to_owned(), kept }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
        let _ = std::fs::rename(&self.kept, &self.path);
    }
}

/// Nobody waits for a target that is not in the site any more.
#[test]
fn a_session_ends_with_a_target_that_could_not_be_made() {
    let portal = portal();
    let daemon = Daemon::start(&two(&portal));
    let mut session = login(&options(&portal));
    let _busy = Busy::make(&daemon.volume("two"));
    daemon.replace_worker(Signal::KILL);
    assert!(!session.wire().is_closed_within(Duration::from_millis(200)), "it waits for its target");
    let site = two(&portal);
    let said = daemon.apply(site.split("[target.t]").next().unwrap());
    assert!(said.status.success(), "{}", said.err);
    assert!(session.wire().is_closed_within(Duration::from_secs(10)));
}

/// A target that cannot be made because of one volume keeps what is left of the others.
fn comes_back(clear: bool) -> (Vec<u8>, Vec<(u8, u8)>) {
    let portal = portal();
    let daemon = Daemon::start(&two(&portal));
    let mut session = login(&options(&portal));
    register(&mut session, false);
    let busy = Busy::make(&daemon.volume("two"));
    daemon.replace_worker(Signal::KILL);
    let status = daemon.status();
    assert!(
        status["targets"]["t"]["fault"].as_str().is_some_and(|fault| fault.contains("two")),
        "{status:#}"
    );
    if clear {
        daemon.ok(&["disk", "clear-reservations", "one"]);
        // Nor does the next worker find them.
        daemon.replace_worker(Signal::KILL);
    }
    drop(busy);
    let said = daemon.apply(&two(&portal));
    assert!(said.status.success(), "{}", said.err);
    keys(&mut session)
}

#[test]
fn a_target_that_could_not_be_made_has_its_reservations_when_it_is() {
    let (keys, told) = comes_back(false);
    assert_eq!((keys, told), (KEY.to_vec(), Vec::new()));
}

#[test]
fn reservations_of_a_volume_that_waits_can_be_cleared() {
    let (keys, told) = comes_back(true);
    // RESERVATIONS PREEMPTED, as by CLEAR.
    assert_eq!((keys, told), (Vec::new(), vec![(0x2a, 0x03)]));
}

#[test]
fn reservations_that_were_cleared_are_not_on_stable_storage_any_more() {
    let portal = portal();
    let daemon = Daemon::start(&two(&portal));
    let mut session = login(&options(&portal));
    let stored = || -> usize {
        let folder = std::fs::read_dir(daemon.path().join("state/units")).unwrap();
        let files = folder.flatten().map(|entry| std::fs::read(entry.path()).unwrap_or_default());
        files.filter(|bytes| bytes.windows(8).any(|window| window == KEY)).count()
    };
    for _ in 0..10 {
        register(&mut session, true);
        assert_eq!(stored(), 1);
        daemon.ok(&["disk", "clear-reservations", "one"]);
        assert_eq!(stored(), 0, "a loss of power would bring them back");
        let (keys, told) = keys(&mut session);
        assert_eq!((keys, told), (Vec::new(), vec![(0x2a, 0x03)]));
    }
}

/// Two names with the same short form (`vault::key`) would have one ledger.
#[test]
fn names_that_the_keeper_cannot_tell_apart_are_refused() {
    let daemon = Daemon::start("");
    let volume = |name: &str| format!("[disk.{name}]\nstore = \"local\"\nsize = \"1MiB\"\n");
    let said = daemon.apply(&(volume("d55003") + &volume("d127754")));
    assert_eq!(said.status.code(), Some(1), "{}", said.out);
    assert!(said.err.contains("the keeper cannot tell `disk:"), "{}", said.err);
    assert!(said.err.contains("give one of them another name"), "{}", said.err);
    let said = daemon.apply(&disk_slot("v172966", "virtio-scsi", "d15196"));
    assert_eq!(said.status.code(), Some(1), "{}", said.out);
    assert!(said.err.contains("cannot tell `v172966.disk0` from `disk:d15196`"), "{}", said.err);
    // One goes, the other may come.
    for site in [volume("d55003"), String::new(), volume("d127754")] {
        let said = daemon.apply(&site);
        assert!(said.status.success(), "{}", said.err);
    }
}
