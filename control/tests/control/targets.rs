//! Portals and targets over the API and the command line, and reservations.

use crate::api::Daemon;
use crate::cli::{bad, good, run};
use standpipe_control::site::Site;
use standpipe_control::step::Step;
use standpipe_control::{Applied, Kind, Problem};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

fn secret(daemon: &Daemon, name: &str, content: &str) {
    let path = daemon.path(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
}

/// With a shared volume, two portals and a target.
fn daemon() -> Daemon {
    let daemon = Daemon::with_site();
    secret(&daemon, "u.secret", "correct-horse-battery\n");
    secret(&daemon, "t.secret", "staple-and-wax-seal\n");
    good(&daemon, "disk create cluster --null --size 1GiB --shared --thin-threshold 80%");
    assert_eq!(good(&daemon, "portal add a 192.0.2.1"), "add portal a (192.0.2.1:3260)\n");
    good(&daemon, "portal add b [2001:db8::1]:3260");
    assert_eq!(
        good(
            &daemon,
            "target add backup --iqn iqn.2026-11.org.example:backup --portal a --portal b=non-optimized --lun 0=cluster --lun 4=spare --allow iqn.1993-08.org.debian:01:abc --mask 0 --chap u --secret-file @u.secret --mutual t --mutual-secret-file @t.secret"
        ),
        "put portal a, portal b into group disk.cluster\nadd target backup (iqn.2026-11.org.example:backup)\n"
    );
    daemon
}

#[test]
fn a_target_from_its_making_to_its_end() {
    let daemon = daemon();
    assert_eq!(
        good(&daemon, "target list"),
        "TARGET  NAME                            PORTALS            LUNS               SESSIONS
backup  iqn.2026-11.org.example:backup  a b=non-optimized  0=cluster 4=spare  1\n"
    );
    assert_eq!(
        good(&daemon, "portal list"),
        "PORTAL  ADDRESS             CONNECTIONS  TARGETS
a       192.0.2.1:3260      1            backup
b       [2001:db8::1]:3260  1            backup\n"
    );
    let show = good(&daemon, "target show backup");
    for words in [
        "backup: iqn.2026-11.org.example:backup\nLUNs: 0=cluster 4=spare\n\nPORTAL  TAG  PORT  PATH\n",
        "a       1    2     active\nb       2    3     non-optimized\n",
        "iqn.1993-08.org.debian:01:abc  0     CHAP u, mutual t\n",
        "iqn.1993-08.org.debian:01:abc  00023d000001  a       192.0.2.7:40000  ",
    ] {
        assert!(show.contains(words), "{show}");
    }
    let json: serde_json::Value = serde_json::from_str(&good(&daemon, "target show backup --json")).unwrap();
    assert_eq!(json["status"]["sessions"][0]["isid"], "00023d000001");
    assert_eq!(json["ports"][1]["path"], "non-optimized");

    let steps = [
        (
            "target change backup --detach 4 --lun 5=spare",
            "detach LUN 4 of target backup\nattach volume spare to target backup as LUN 5\n",
        ),
        ("target change backup --lun 5=spare", "nothing to do\n"),
        // Who may see less is told so before there is more to see.
        (
            "target change backup --detach 5 --allow iqn.1993-08.org.debian:01:abc",
            "detach LUN 5 of target backup\nchange target backup\n",
        ),
        (
            "target change backup --lun 5=spare --allow iqn.1993-08.org.debian:01:abc --mask 0",
            "change target backup\nattach volume spare to target backup as LUN 5\n",
        ),
        ("target change backup --leave b", "take target backup off portal b\n"),
        (
            "target change backup --portal b=standby --sessions-max 2",
            "put target backup, portal a, portal b into group disk.cluster\nchange target backup\n",
        ),
        ("target change backup --portal b", "change target backup\n"),
        ("target change backup --open --chap u --secret-file @u.secret", "change target backup\n"),
        ("target change backup --closed --no-chap", "change target backup\n"),
        ("target change backup --disallow iqn.1993-08.org.debian:01:ABC", "change target backup\n"),
        ("target reload backup", "change target backup\n"),
        ("portal change a 192.0.2.9:3261", "change portal a to 192.0.2.9:3261\n"),
        (
            "disk attach web1.disk0 cluster",
            "put slot web1.disk0, target backup, portal a, portal b into group disk.cluster\nattach volume cluster to web1.disk0 as LUN 1\n",
        ),
        ("disk set cluster --thin-threshold none", "change volume cluster\n"),
        ("disk set cluster --thin-threshold 90%", "change volume cluster\n"),
        ("disk path web1.disk0 standby", "change slot web1.disk0\n"),
        ("disk path web1.disk0 standby", "nothing to do\n"),
        ("target rm backup", "remove target backup\n"),
        ("portal remove b", "remove portal b\n"),
        ("disk set cluster --shared false", "change volume cluster\n"),
    ];
    for (line, said) in steps {
        assert_eq!(good(&daemon, line), said, "{line}");
    }
    let show = good(&daemon, "vm show web1");
    assert!(show.contains("virtio-scsi 0=root 1=cluster (standby path)  "), "{show}");
    let show = good(&daemon, "target list");
    assert_eq!(show.lines().count(), 1, "{show}");
    let site: Site = daemon.client.get("/v1/site").unwrap();
    assert_eq!(site.disk["cluster"].thin_threshold.unwrap().get(), 90);
    assert_eq!(site.identity.port["backup/b"], 3, "it is remembered");
}

/// Without an entry and without --open nobody gets in, and the operator is told.
#[test]
fn nobody_may_log_in_unless_it_is_said() {
    let daemon = Daemon::with_site();
    good(&daemon, "target add backup --iqn iqn.2026-11.org.example:backup");
    let show = good(&daemon, "target show backup");
    assert!(show.contains("nobody may log in: standpipe target change backup --allow NAME\n"), "{show}");
    assert_eq!(daemon.engine.world.lock().unwrap().targets["backup"].access, []);
    good(&daemon, "target change backup --open");
    let show = good(&daemon, "target show backup");
    assert!(show.contains("everybody else  all   no proof asked for\n"), "{show}");
}

#[test]
fn mistakes_are_explained() {
    let daemon = daemon();
    let cases = [
        (
            "disk attach web1.disk0 spare",
            "error: volume `spare` is used by web1.disk0 and target backup
  where: target.backup.luns
  hint: two hosts on one volume destroy its filesystem: take it out of one of them, make a second volume, or, if they have a cluster's filesystem, write `shared = true` at the volume\n",
        ),
        (
            "target change backup --lun 0=spare",
            "error: LUN 0 of target backup is volume `cluster`
  where: target.backup.luns
  hint: choose another LUN, or detach that one in the same change\n",
        ),
        (
            "target change backup --detach 9",
            "error: target backup has no LUN 9
  where: target.backup
  hint: `standpipe target show backup` shows what it has\n",
        ),
        (
            "target change backup --detach 0",
            "error: `iqn.1993-08.org.debian:01:abc` is to see LUN 0, which target backup does not have
  where: target.backup.allow.0.luns
  hint: add it to `luns` of [target.backup], or take it out here\n",
        ),
        (
            "target change backup --portal b=fast",
            "error: `fast` is no state of a path
  where: --portal b=fast
  hint: write active, non-optimized or standby\n",
        ),
        (
            "target change backup --lun spare",
            "error: `spare` names no LUN
  where: --lun spare
  hint: write --lun LUN=VOLUME, such as --lun 0=backup\n",
        ),
        (
            "target change backup --lun 16384=spare",
            "error: `16384` is not a LUN (0 to 16383)
  where: --lun 16384=spare
  hint: write --lun LUN=VOLUME, such as --lun 0=backup\n",
        ),
        (
            "target change nope --open",
            "error: there is no target `nope`
  where: nope
  hint: `standpipe target list` shows those that there are\n",
        ),
        (
            "portal rm a",
            "error: target backup is at portal `a`
  where: portal.a
  hint: take it off first: standpipe target change backup --leave a\n",
        ),
        (
            "portal change c 192.0.2.3",
            "error: there is no portal `c`
  where: c
  hint: `standpipe portal list` shows those that there are\n",
        ),
        (
            "portal add c 192.0.2.1",
            "error: portals `a` and `c` cannot both listen at 192.0.2.1:3260
  where: portal.c.listen
  hint: give one of them another address or port, or put their targets on one portal\n",
        ),
        (
            "disk rm spare",
            "error: volume `spare` is attached to target backup
  where: disk.spare
  hint: detach it first: standpipe target change backup --detach 4\n",
        ),
        (
            "disk clear-reservations nope",
            "error: there is no volume `nope`
  where: nope
  hint: `standpipe disk list` shows those that there are\n",
        ),
    ];
    for (line, said) in cases {
        assert_eq!(bad(&daemon, line), said, "{line}");
    }
    // The command line itself.
    for line in [
        "disk set root --thin-threshold 0%",
        "disk set root",
        "disk create x --null --size 1GiB --kind tape",
        "target add x --iqn backup",
        "target add x --iqn iqn.2026-11.org.example:x --mask 0",
        "target add x --iqn iqn.2026-11.org.example:x --chap u",
        "target change x --open --closed",
        "portal add x localhost",
    ] {
        assert_eq!(run(&daemon, line).0, 2, "{line}");
    }
    // A second user while it is shared, and then it is to be shared no more.
    good(&daemon, "disk attach web1.disk0 cluster");
    let said = bad(&daemon, "disk set cluster --shared false");
    assert!(said.starts_with("error: volume `cluster` is used by web1.disk0 and target backup\n"), "{said}");
}

/// The kinds that a command can make.
#[test]
fn kinds_of_volumes() {
    let daemon = Daemon::with_site();
    good(&daemon, "disk create iso --path @debian.iso --kind cdrom --shared");
    good(&daemon, "disk create stick --null --size 1GiB --removable --block-size 4096");
    good(&daemon, "disk create e512 --null --size 1GiB --physical-block-size 4096");
    let world = daemon.engine.world.lock().unwrap();
    let iso = &world.volumes["iso"];
    assert_eq!((iso.block_size, iso.read_only, iso.removable, iso.shared), (2048, true, true, true));
    assert!(world.volumes["stick"].removable);
    assert_eq!(world.volumes["e512"].physical_block_size, Some(4096));
}

/// A volume of a target with sessions is not written over.
#[test]
fn sessions_keep_a_volume_from_being_imported() {
    let daemon = daemon();
    good(&daemon, "target change backup --detach 4");
    good(&daemon, "vm rm web1");
    good(&daemon, "target change backup --lun 1=root");
    fs::write(daemon.path("image"), [1; 512]).unwrap();
    let said = bad(&daemon, "disk import root @image");
    assert!(
        said.starts_with(
            "error: volume `root` is attached to target backup, and iqn.1993-08.org.debian:01:abc is logged in\n"
        ),
        "{said}"
    );
    good(&daemon, "target rm backup");
    good(&daemon, "disk import root @image");
}

#[test]
fn what_a_dead_cluster_left_is_cleared() {
    let daemon = daemon();
    daemon.engine.reserved.lock().unwrap().insert("cluster".to_owned());
    let status = good(&daemon, "status");
    let line = "cluster  Write Exclusive, Registrants Only, held by iqn.1993-08.org.debian:01:abc,i,0x00023d000001; 2 registered, generation 7, kept over loss of power\n";
    assert!(status.contains(line), "{status}");
    assert!(status.contains("backup  1         iqn.1993-08.org.debian:01:abc\n"), "{status}");
    let counters = good(&daemon, "status --counters");
    assert!(counters.contains("login refused: not in the list  3\n"), "{counters}");
    let json: serde_json::Value = serde_json::from_str(&good(&daemon, "disk list --json")).unwrap();
    let reservation = &json["cluster"]["status"]["reservation"];
    assert_eq!(reservation["type"], "write-exclusive-registrants-only");
    assert_eq!(reservation["registrants"], 2);
    let metrics = daemon.client.text("/metrics").unwrap();
    for line in [
        "standpipe_volume_registrants{volume=\"cluster\"} 2",
        "standpipe_target_sessions{target=\"backup\"} 1",
        "standpipe_target_events_total{target=\"backup\",name=\"login refused: not in the list\"} 3",
        "standpipe_portal_connections{portal=\"a\"} 1",
        "standpipe_portal_events_total{portal=\"b\",name=\"accepted\"} 9",
    ] {
        assert!(metrics.lines().any(|there| there == line), "{line}\nin\n{metrics}");
    }
    assert_eq!(
        good(&daemon, "disk clear-reservations cluster"),
        "cleared: Write Exclusive, Registrants Only, held by iqn.1993-08.org.debian:01:abc,i,0x00023d000001; 2 registered, generation 7, kept over loss of power\n"
    );
    assert_eq!(good(&daemon, "disk clear-reservations cluster"), "there were no reservations on cluster\n");
    assert!(!good(&daemon, "status").contains("RESERVATION"));
}

/// An address that another portal has yet is not taken; one that becomes free in the same change is.
#[test]
fn addresses_are_passed_on() {
    let daemon = daemon();
    let site: Site = daemon.client.get("/v1/site").unwrap();
    let mut swapped = site.clone();
    let (a, b) = (site.portal["a"].clone(), site.portal["b"].clone());
    swapped.portal.insert("a".to_owned(), b);
    swapped.portal.insert("b".to_owned(), a.clone());
    let problem: Problem = daemon.client.put::<Applied>("/v1/site", &swapped).unwrap_err();
    assert_eq!(problem.kind, Kind::Conflict);
    assert_eq!(problem.others.len(), 1);
    assert_eq!(problem.what, "portal `a` is to take the address [2001:db8::1]:3260 that portal `b` has");
    let mut renamed = site.clone();
    renamed.portal.remove("a");
    renamed.portal.insert("c".to_owned(), a);
    let target = renamed.target.get_mut("backup").unwrap();
    target.portals.0.remove("a");
    target.portals.0.insert("c".to_owned(), standpipe_control::site::PathState::Active);
    let applied: Applied = daemon.client.put("/v1/site", &renamed).unwrap();
    let texts: Vec<String> = applied.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "take target backup off portal a",
            "put target backup, portal b into group disk.cluster",
            "remove portal a",
            "add portal c (192.0.2.1:3260)",
            "change target backup",
        ]
    );
    let Step::ChangeTarget(spec) = &applied.steps[4] else { panic!("{:?}", applied.steps) };
    let mut numbers: Vec<u16> = spec.portals.iter().map(|at| at.port_id).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [3, 4], "the port at c is a new one");
}
