//! What people get wrong, each with its whole message; everything else of the site is served.

use std::io::{Seek, SeekFrom, Write};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use bench::driver::disk::Kind;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::daemon::{BINARY, Daemon, disk, disk_slot, site, works};

const REFUSED: i32 = 78;

fn two_disks() -> String {
    disk_slot("web1", "virtio-blk", "root") + &disk_slot("web2", "virtio-scsi", "data")
}

#[test]
fn a_wrong_name_or_key_is_told_with_its_place() {
    let text = two_disks().replace("volume = \"root\"", "volume = \"rot\"");
    let mut daemon = Daemon::spawn(TempDir::new().unwrap(), &text);
    assert_eq!(daemon.wait_end().code(), Some(REFUSED));
    let wrong_name = "error: there is no volume `rot`\n  where: {dir}/FILE:11:1 (vm.web1.disk0.volume)\n  hint: did you mean `root`? Otherwise add [disk.rot]\n";
    assert_eq!(daemon.anonymous(&daemon.log()), wrong_name.replace("FILE", "site.toml"));

    // A server that runs is told the same, and goes on as it was.
    let daemon = Daemon::start(&two_disks());
    let mut root = disk(&daemon, "web1.disk0", Kind::Blk);
    let said = daemon.apply(&text);
    assert_eq!(said.status.code(), Some(1));
    assert_eq!(daemon.anonymous(&said.err), wrong_name.replace("FILE", "changed.toml"));
    let said = daemon.apply(&two_disks().replace("volume =", "volum ="));
    assert_eq!(
        daemon.anonymous(&said.err),
        "error: unknown key `volum`\n  where: {dir}/changed.toml:11:1\n  hint: did you mean `volume`? (known keys are model, queues, volume, volumes, path, network, mac, vlan, trunk, native, rom, doorbells, msix, boot_index)\n"
    );
    works(&mut root, 1);
}

#[test]
fn a_config_that_was_broken_meanwhile_takes_nothing_away() {
    let mut daemon = Daemon::start(&two_disks());
    let mut root = disk(&daemon, "web1.disk0", Kind::Blk);
    works(&mut root, 1);
    std::fs::write(&daemon.config, "[server\n").unwrap();
    daemon.replace_worker(Signal::KILL);
    works(&mut root, 2);
    let said = daemon.anonymous(&daemon.log());
    assert!(said.contains("where: {dir}/site.toml:1:8"), "{said}");
    assert!(daemon.stop().success());
}

#[test]
fn a_missing_file_costs_its_own_slot_only_until_it_is_there() {
    let text = "[disk.lost]\npath = \"{dir}/lost.raw\"\n[vm.web3.disk0]\nmodel = \"virtio-blk\"\nvolume = \"lost\"\n";
    let site = two_disks() + text;
    let daemon = Daemon::start(&site);
    works(&mut disk(&daemon, "web1.disk0", Kind::Blk), 1);
    works(&mut disk(&daemon, "web2.disk0", Kind::Scsi), 2);
    let why = "the file of volume `lost` is missing\n  where: {dir}/lost.raw\n  hint: correct `path`, or add `size` and the file is made\n";
    let said = daemon.anonymous(&daemon.log());
    assert!(said.contains(&format!("error: cannot create volume lost ({{dir}}/lost.raw): {why}")), "{said}");
    assert_eq!(daemon.status()["volumes"]["lost"]["fault"], "the file of volume `lost` is missing");
    std::fs::File::create(daemon.path().join("lost.raw")).unwrap().set_len(1 << 20).unwrap();
    let said = daemon.apply(&site);
    assert!(said.status.success(), "{}", said.err);
    assert!(said.out.contains("add slot web3.disk0"), "{}", said.out);
    works(&mut disk(&daemon, "web3.disk0", Kind::Blk), 3);
    assert_eq!(daemon.apply(&site).out, "nothing to do\n");
}

#[test]
fn a_volume_has_one_vm() {
    let daemon = Daemon::start(&two_disks());
    let said = daemon.apply(&(two_disks() + "[vm.web3.disk0]\nmodel = \"virtio-blk\"\nvolume = \"data\"\n"));
    assert_eq!(
        daemon.anonymous(&said.err),
        "error: volume `data` is used by two slots, web2.disk0 and web3.disk0\n  where: {dir}/changed.toml:20:1 (vm.web3.disk0.volume)\n  hint: two guests on one volume destroy its filesystem: take it out of one of them, make a second volume, or, if they have a cluster's filesystem, write `shared = true` at the volume\n"
    );
    assert_eq!(
        daemon.refused(&["vm", "add", "web3", "--blk", "data"]),
        "error: volume `data` is used by two slots, web2.disk0 and web3.disk0\n  where: vm.web3.disk0.volume\n  hint: two guests on one volume destroy its filesystem: take it out of one of them, make a second volume, or, if they have a cluster's filesystem, write `shared = true` at the volume\n"
    );
    works(&mut disk(&daemon, "web2.disk0", Kind::Scsi), 1);
}

#[test]
fn what_is_in_a_sockets_place_is_left_there() {
    let folder = TempDir::new().unwrap();
    let sockets = folder.path().join("s");
    std::fs::create_dir(&sockets).unwrap();
    std::fs::write(sockets.join("web1.disk0.sock"), "precious").unwrap();
    let other = UnixListener::bind(sockets.join("web2.disk0.sock")).unwrap();
    let site = two_disks() + &disk_slot("web3", "virtio-blk", "third");
    let daemon = Daemon::start_in(folder, &site);
    works(&mut disk(&daemon, "web3.disk0", Kind::Blk), 1);
    let said = daemon.anonymous(&daemon.log());
    for message in [
        "error: cannot add slot web1.disk0: a file that is no socket is in the way\n  where: {dir}/s/web1.disk0.sock\n  hint: move it away, or choose another path: nothing was changed\n",
        "error: cannot add slot web2.disk0: another program listens on this socket\n  where: {dir}/s/web2.disk0.sock\n  hint: is a server running already? `standpipe status` asks it; otherwise choose another path\n",
    ] {
        assert!(said.contains(message), "{message} is not in\n{said}");
    }
    assert_eq!(std::fs::read_to_string(daemon.socket("web1.disk0")).unwrap(), "precious");
    // The look at a live socket was a connection, and nothing else.
    drop(other);
    std::fs::remove_file(daemon.socket("web1.disk0")).unwrap();
    let said = daemon.apply(&site);
    assert!(said.status.success(), "{}", said.err);
    works(&mut disk(&daemon, "web1.disk0", Kind::Blk), 2);
    works(&mut disk(&daemon, "web2.disk0", Kind::Scsi), 3);
}

#[test]
fn a_file_that_another_process_uses_is_not_touched() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("volumes")).unwrap();
    let path = folder.path().join("volumes/root.raw");
    let file = std::fs::File::options().create_new(true).read(true).write(true).open(&path).unwrap();
    file.set_len(16 << 20).unwrap();
    assert!(host::file::lock(&file, false, Duration::ZERO).unwrap());
    let daemon = Daemon::start_in(folder, &two_disks());
    works(&mut disk(&daemon, "web2.disk0", Kind::Scsi), 1);
    let message = "error: cannot add slot web1.disk0: cannot open volume `root`: {dir}/volumes/root.raw: in use by another process; a volume has one user at a time\n  where: {dir}/volumes/root.raw\n  hint: a volume belongs to one server and one slot at a time, and its file must be there: mend that, then apply the site again\n";
    let said = daemon.anonymous(&daemon.log());
    assert!(said.contains(message), "{said}");
    drop(file);
    assert!(daemon.apply(&two_disks()).status.success());
    works(&mut disk(&daemon, "web1.disk0", Kind::Blk), 2);
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named() {
    // Root may write everywhere, but nobody below a file.
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("state"), "a file").unwrap();
    let mut daemon = Daemon::spawn(folder, &two_disks());
    assert_eq!(daemon.wait_end().code(), Some(REFUSED));
    assert_eq!(
        daemon.anonymous(&daemon.log()),
        "error: cannot make the state directory: File exists (os error 17)\n  where: {dir}/state\n  hint: run as root, or choose another directory with --state-dir\n"
    );
}

#[test]
fn a_state_directory_has_one_server() {
    let daemon = Daemon::start(&two_disks());
    let mut root = disk(&daemon, "web1.disk0", Kind::Blk);
    let before = daemon.log().len();
    let ended =
        daemon.run_another(&daemon.path().join("state"), &daemon.config, &daemon.path().join("other.sock"));
    assert_eq!(ended.code(), Some(REFUSED));
    assert_eq!(
        daemon.anonymous(&daemon.log()[before..]),
        "error: another server uses this state directory\n  where: {dir}/state\n  hint: stop it, or give this one another --state-dir\n"
    );
    // With a directory of its own it still has no socket.
    let before = daemon.log().len();
    let ended = daemon.run_another(&daemon.path().join("state2"), &daemon.config, &daemon.api);
    assert_eq!(ended.code(), Some(REFUSED));
    assert_eq!(
        daemon.anonymous(&daemon.log()[before..]),
        "error: another daemon answers at the API's socket\n  where: {dir}/api.sock\n  hint: stop it, or choose another path with --api\n"
    );
    works(&mut root, 1);
}

#[test]
fn a_damaged_store_is_left_as_it_is() {
    let mut daemon = Daemon::start(&two_disks());
    assert!(daemon.stop().success());
    let store = daemon.path().join("state/standpipe.redb");
    let mut file = std::fs::File::options().read(true).write(true).open(&store).unwrap();
    let length = file.seek(SeekFrom::End(0)).unwrap();
    file.seek(SeekFrom::Start(16)).unwrap();
    file.write_all(&vec![0xee; length as usize - 16]).unwrap();
    let damaged = std::fs::read(&store).unwrap();
    let folder = std::mem::replace(&mut daemon.folder, TempDir::new().unwrap());
    drop(daemon);
    std::fs::remove_file(folder.path().join("log")).unwrap();
    let mut daemon = Daemon::spawn(folder, &two_disks());
    assert_eq!(daemon.wait_end().code(), Some(REFUSED));
    let said = daemon.anonymous(&daemon.log());
    assert!(said.contains("error: the store is damaged ("), "{said}");
    assert!(
        said.ends_with(
            "it was left as it is\n  where: {dir}/state/standpipe.redb\n  hint: restore it from a backup, or move it away and apply the site's TOML file again: volumes keep their data, but get new SCSI names unless the file gives `naa` and `serial`\n"
        ),
        "{said}"
    );
    assert_eq!(std::fs::read(&store).unwrap(), damaged);
}

#[test]
fn a_worker_that_holds_connections_is_started_until_it_can_serve_them() {
    let mut daemon = Daemon::start(&two_disks());
    let mut root = disk(&daemon, "web1.disk0", Kind::Blk);
    works(&mut root, 1);
    // The store cannot be read for a while; the guests wait, and are not lost.
    let (store, away) = (daemon.path().join("state/standpipe.redb"), daemon.path().join("away"));
    std::fs::rename(&store, &away).unwrap();
    std::fs::write(&store, "not a store").unwrap();
    assert!(daemon.signal_worker(Signal::KILL));
    daemon.wait_log("the file is not a Standpipe store; it was left as it is");
    std::fs::remove_file(&store).unwrap();
    std::fs::rename(&away, &store).unwrap();
    works(&mut root, 2);
    assert!(daemon.stop().success());
}

#[test]
fn a_client_without_a_server_is_told_so() {
    let folder = TempDir::new().unwrap();
    let api = folder.path().join("api.sock");
    let output = std::process::Command::new(BINARY).args(["status", "--api"]).arg(&api).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: the daemon is not running: there is no socket\n"), "{said}");
    assert!(!site(folder.path(), "").contains("{dir}"));
}
