//! The command line against a daemon, as a person would use it.

use crate::api::{Daemon, MIB, noise};
use standpipe_control::Problem;
use standpipe_control::cli::{self, Keep, Serve};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// What the server binary does for the command line.
struct Recorder;

impl cli::Daemon for Recorder {
    fn serve(&self, args: &Serve, api: &Path) -> Result<(), Problem> {
        Err(Problem::failed(format!("{:?} {:?} {api:?}", args.config, args.state_dir)))
    }
    fn keep(&self, args: &Keep) -> Result<u8, Problem> {
        Ok(args.command.len() as u8)
    }
}

/// Runs one command: exit status, standard output, standard error.
pub fn run(daemon: &Daemon, line: &str) -> (u8, String, String) {
    let socket = daemon.path("api.sock");
    let mut args: Vec<OsString> = vec!["standpipe".into(), "--api".into(), socket.into()];
    args.extend(line.split(' ').map(|word| word.replace("@", &daemon.path("").display().to_string()).into()));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = cli::run_with(args, &Recorder, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code, text(out), text(err))
}

pub fn good(daemon: &Daemon, line: &str) -> String {
    let (code, out, err) = run(daemon, line);
    assert_eq!((code, err.as_str()), (0, ""), "{line}");
    out
}

pub fn bad(daemon: &Daemon, line: &str) -> String {
    let (code, out, err) = run(daemon, line);
    assert_eq!((code, out.as_str()), (1, ""), "{line}: {err}");
    err
}

#[test]
fn from_nothing_to_a_vm() {
    let daemon = Daemon::start();
    fs::write(daemon.path("site.toml"), daemon.toml()).unwrap();
    let would = good(&daemon, "apply @site.toml --dry-run");
    assert!(would.starts_with("would create volume root (8MiB, "), "{would}");
    assert_eq!(would.lines().count(), 6);
    assert!(good(&daemon, "apply @site.toml").ends_with("add slot web1.nic0\n"));
    assert_eq!(good(&daemon, "apply @site.toml"), "nothing to do\n");

    assert_eq!(good(&daemon, "disk create db --store local --size 4MiB").lines().count(), 1);
    assert_eq!(good(&daemon, "network add san --mtu 9000"), "add network san\n");
    assert_eq!(
        good(&daemon, "vm add db1 --scsi db,spare --nic san,vlan=7,mac=52:54:00:00:00:07 --queues 2"),
        "add slot db1.disk0\nadd slot db1.nic0\n"
    );
    assert_eq!(good(&daemon, "disk detach db1.disk0 spare"), "detach LUN 1 of db1.disk0\n");
    assert_eq!(
        good(&daemon, "disk attach db1.disk0 spare --lun 5"),
        "attach volume spare to db1.disk0 as LUN 5\n"
    );
    assert_eq!(good(&daemon, "disk resize db 8MiB"), "grow volume db to 8MiB\n");
    assert_eq!(good(&daemon, "nic set db1.nic0 --trunk 10,20 --native 1"), "change slot db1.nic0\n");
    daemon.plug_in("db1.nic0");
    daemon.plug_in("db1.disk0");
    assert_eq!(
        good(&daemon, "vm list"),
        "VM    STATE    SLOTS\ndb1   running  disk0 nic0\nweb1  off      disk0 nic0\n"
    );
    let show = good(&daemon, "vm show db1");
    for words in [
        "disk0  connected  2       virtio-scsi 0=db 5=spare  ",
        "virtio-net san 52:54:00:00:00:07 trunk 10,20 native 1  /run/standpipe/db1.nic0.sock",
    ] {
        assert!(show.contains(words), "{show}");
    }
    let disks = good(&daemon, "disk list");
    assert!(disks.contains("\nspare   1GiB  0B         512    db1.disk0   null\n"), "{disks}");
    let networks = good(&daemon, "network list");
    assert!(networks.contains("\nlan      1500  host=sp-lan  web1.nic0\n"), "{networks}");
    let status = good(&daemon, "status --counters");
    assert!(status.starts_with("worker 0, version 9.9.9, up "), "{status}");
    assert!(status.contains("db1.nic0    virtio-net   connected  2\n"), "{status}");
    assert!(status.contains("  completed \"ok\"  42\n"), "{status}");

    assert_eq!(good(&daemon, "vm rm db1"), "remove slot db1.disk0\nremove slot db1.nic0\n");
    assert_eq!(good(&daemon, "network rm san"), "remove network san\n");
    let file = daemon.path("volumes/db.raw");
    assert!(file.exists());
    assert_eq!(good(&daemon, "disk rm db --delete-data"), "let go of volume db\n");
    assert!(!file.exists());
    assert_eq!(good(&daemon, "upgrade"), "upgraded: worker 1 (9.9.9) took over from 0 (9.9.9)\n");
}

#[test]
fn images_by_file_and_by_the_server() {
    let daemon = Daemon::with_site();
    let mut image = noise(3 * MIB);
    image[MIB as usize..2 * MIB as usize].fill(0);
    fs::write(daemon.path("image.raw"), &image).unwrap();
    let said = "imported 3MiB into root (2MiB of data, the rest holes)\n";
    assert_eq!(good(&daemon, "disk import root @image.raw"), said);
    assert_eq!(good(&daemon, "disk import root @image.raw --on-server"), said);
    let said = good(&daemon, "disk export root @out.raw");
    assert!(said.starts_with("exported 8MiB of root to "), "{said}");
    assert!(said.ends_with("(2MiB of data, the rest holes)\n"), "{said}");
    good(&daemon, "disk export root @out2.raw --on-server");
    let out = fs::read(daemon.path("out.raw")).unwrap();
    assert!(out[..image.len()] == image && out.len() as u64 == 8 * MIB);
    assert!(fs::read(daemon.path("out2.raw")).unwrap() == out);
    let err = bad(&daemon, "disk export root @out.raw");
    assert!(err.starts_with("error: cannot make the file: File exists"), "{err}");
    assert!(fs::read(daemon.path("out.raw")).unwrap() == out, "it was left alone");
    daemon.plug_in("web1.disk0");
    let err = bad(&daemon, "disk export root @out3.raw");
    assert!(err.contains("and that VM is running"), "{err}");
    assert!(!daemon.path("out3.raw").exists());
    let err = bad(&daemon, "disk import root @image.raw");
    assert!(err.contains("and that VM is running"), "{err}");
}

#[test]
fn problems_say_where_and_what_to_do() {
    let daemon = Daemon::with_site();
    assert_eq!(
        bad(&daemon, "vm add db1 --blk root"),
        "error: volume `root` is used by two slots, db1.disk0 and web1.disk0
  where: vm.web1.disk0.volumes
  hint: two guests on one volume destroy its filesystem: take it out of one of them, make a second volume, or, if they have a cluster's filesystem, write `shared = true` at the volume\n"
    );
    assert_eq!(
        bad(&daemon, "vm add db1 --nic lan,vlan=x"),
        "error: `x` is not a VLAN
  where: --nic lan,vlan=x
  hint: write --nic NETWORK[,model=MODEL][,vlan=ID][,mac=ADDRESS], such as --nic lan,vlan=10\n"
    );
    assert_eq!(
        bad(&daemon, "qemu-args web2"),
        "error: there is no VM `web2`
  where: web2
  hint: `standpipe vm list` shows those that there are\n"
    );
    let err = bad(&daemon, "--json disk rm root");
    let problem: Problem = serde_json::from_str(&err).unwrap();
    assert_eq!(problem.what, "volume `root` is attached to web1.disk0");
    let text = daemon.toml().replace("size = \"8MiB\"", "size = \"8MB\"");
    fs::write(daemon.path("site.toml"), text).unwrap();
    let err = bad(&daemon, "apply @site.toml");
    assert!(err.contains("site.toml:5:8\n"), "{err}");
    let (code, out, err) = run(&daemon, "disk create x --store local --null");
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("cannot be used with"), "{err}");
    let mut err = Vec::new();
    let args = ["standpipe", "--api", "/nonexistent/api.sock", "status"];
    let code = cli::run_with(args.map(OsString::from), &Recorder, &mut Vec::new(), &mut err);
    let err = String::from_utf8(err).unwrap();
    assert_eq!(code, 1);
    assert!(err.starts_with("error: the daemon is not running: there is no socket\n"), "{err}");
}

#[test]
fn every_list_has_json() {
    let daemon = Daemon::with_site();
    for line in [
        "vm list",
        "vm show web1",
        "disk list",
        "network list",
        "status",
        "qemu-args web1",
        "libvirt-xml web1",
    ] {
        let out = good(&daemon, &format!("{line} --json"));
        let _: serde_json::Value = serde_json::from_str(&out).expect(line);
    }
}

#[test]
fn what_qemu_and_libvirt_are_told() {
    let daemon = Daemon::with_site();
    good(&daemon, "network add san --mtu 9000");
    good(&daemon, "vm add db1 --blk spare --nic san,mac=52:54:00:00:00:07 --queues 4");
    let scsi = good(&daemon, "qemu-args web1");
    assert!(
        scsi.contains("\n-device vhost-user-scsi-pci,id=disk0,chardev=sp-disk0,num_queues=1\n"),
        "{scsi}"
    );
    assert_eq!(
        good(&daemon, "qemu-args db1 --memory 512MiB"),
        "-object memory-backend-memfd,id=mem,size=536870912,share=on
-machine memory-backend=mem
-m 512M
-chardev socket,id=sp-disk0,path=/run/standpipe/db1.disk0.sock,reconnect-ms=100
-device vhost-user-blk-pci,id=disk0,chardev=sp-disk0,num-queues=4
-chardev socket,id=sp-nic0,path=/run/standpipe/db1.nic0.sock,reconnect-ms=100
-netdev vhost-user,id=net-nic0,chardev=sp-nic0,queues=4
-device virtio-net-pci,id=nic0,netdev=net-nic0,mac=52:54:00:00:00:07,mq=on,vectors=10,host_mtu=9000
"
    );
    let list: Vec<String> = serde_json::from_str(&good(&daemon, "qemu-args db1 --json")).unwrap();
    assert_eq!(list[..2], ["-object", "memory-backend-memfd,id=mem,size=1073741824,share=on"]);
    let xml = good(&daemon, "libvirt-xml db1");
    for line in [
        "    <disk type='vhostuser' device='disk'>",
        "      <source type='unix' path='/run/standpipe/db1.disk0.sock'>",
        "      <target dev='vda' bus='virtio'/>",
        "      <source type='unix' path='/run/standpipe/db1.nic0.sock' mode='client'>",
        "      <driver queues='4'/>",
        "      <mtu size='9000'/>",
    ] {
        assert!(xml.lines().any(|there| there == line), "{line} in {xml}");
    }
    assert!(!xml.contains("qemu:commandline"));
    let xml = good(&daemon, "libvirt-xml web1");
    assert!(
        xml.contains("<qemu:arg value='vhost-user-scsi-pci,id=disk0,chardev=sp-disk0,num_queues=1'/>"),
        "{xml}"
    );
}

/// vfio-user-pci takes its socket in JSON alone, and as one word of what a shell splits at blanks.
#[test]
fn emulated_devices_are_told_in_json() {
    let daemon = Daemon::start();
    for disk in ["root", "data", "more"] {
        good(&daemon, &format!("disk create {disk} --null --size 1MiB"));
    }
    good(&daemon, "network add lan");
    good(
        &daemon,
        "vm add old1 --pvscsi root,data --blk more --nic lan,model=vmxnet3,vlan=7 --nic lan,model=e1000-82545em --queues 2",
    );
    assert_eq!(
        good(&daemon, "qemu-args old1"),
        "-object memory-backend-memfd,id=mem,size=1073741824,share=on
-machine memory-backend=mem
-m 1024M
-device {\"driver\":\"vfio-user-pci\",\"id\":\"disk0\",\"socket\":{\"type\":\"unix\",\"path\":\"/run/standpipe/old1.disk0.sock\"},\"x-msg-timeout\":60000,\"x-no-posted-writes\":true}
-chardev socket,id=sp-disk1,path=/run/standpipe/old1.disk1.sock,reconnect-ms=100
-device vhost-user-blk-pci,id=disk1,chardev=sp-disk1,num-queues=2
-device {\"driver\":\"vfio-user-pci\",\"id\":\"nic0\",\"socket\":{\"type\":\"unix\",\"path\":\"/run/standpipe/old1.nic0.sock\"},\"x-msg-timeout\":60000,\"x-no-posted-writes\":true}
-device {\"driver\":\"vfio-user-pci\",\"id\":\"nic1\",\"socket\":{\"type\":\"unix\",\"path\":\"/run/standpipe/old1.nic1.sock\"},\"x-msg-timeout\":60000}
"
    );
    let xml = good(&daemon, "libvirt-xml old1");
    assert!(
        xml.contains("    <qemu:arg value='{\"driver\":\"vfio-user-pci\",\"id\":\"nic0\",\"socket\":{\"type\":\"unix\",\"path\":\"/run/standpipe/old1.nic0.sock\"},\"x-msg-timeout\":60000,\"x-no-posted-writes\":true}'/>\n"),
        "{xml}"
    );
    // The queues went where there is a choice.
    let shown: Vec<String> = good(&daemon, "vm show old1").lines().map(str::to_owned).collect();
    let row = |slot: &str| {
        let line = shown.iter().find(|line| line.starts_with(slot));
        line.expect(slot).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("disk0")[2..6], ["1", "pvscsi", "0=root", "1=data"]);
    assert_eq!(row("disk1")[2..4], ["2", "virtio-blk"]);
    assert_eq!(row("nic0")[2..5], ["2", "vmxnet3", "lan"]);
    assert_eq!(row("nic1")[2..5], ["1", "e1000-82545em", "lan"]);

    assert_eq!(
        bad(&daemon, "vm add old2 --nic lan,model=rtl8139"),
        "error: `rtl8139` is not a model of a nic (virtio-net, e1000, e1000-82545em, e1000e, vlance, flexible, am79c973, vmxnet3)
  where: --nic lan,model=rtl8139
  hint: write --nic NETWORK[,model=MODEL][,vlan=ID][,mac=ADDRESS], such as --nic lan,vlan=10\n"
    );

    // The order of a boot, and a path that a shell would take apart.
    let text = format!(
        "[server]\nsocket_dir = \"/run/a b*\"\n{}[vm.old1.nic0]\nmodel = \"vlance\"\nnetwork = \"lan\"\nrom = \"/usr/share/qemu/pxe-pcnet.rom\"\nboot_index = 2\n[vm.old1.disk0]\nmodel = \"virtio-scsi\"\nboot_index = 1\n[vm.old1.disk1]\nmodel = \"virtio-blk\"\nvolume = \"v\"\nboot_index = 3\n[vm.old1.nic1]\nmodel = \"virtio-net\"\nnetwork = \"lan\"\nmac = \"52:54:00:00:00:09\"\nboot_index = 4\n",
        "[network.lan]\n[disk.v]\nnull = true\nsize = \"1MiB\"\n"
    );
    fs::write(daemon.path("boot.toml"), text).unwrap();
    good(&daemon, "apply @boot.toml");
    let told = good(&daemon, "qemu-args old1");
    for line in [
        "-device vhost-user-scsi-pci,id=disk0,chardev=sp-disk0,num_queues=1,bootindex=1",
        "-device {\"driver\":\"vfio-user-pci\",\"id\":\"nic0\",\"socket\":{\"type\":\"unix\",\"path\":\"/run/a\\u0020b\\u002a/old1.nic0.sock\"},\"x-msg-timeout\":60000,\"x-no-posted-writes\":true,\"bootindex\":2}",
        "-device vhost-user-blk-pci,id=disk1,chardev=sp-disk1,num-queues=1,bootindex=3",
        "-device virtio-net-pci,id=nic1,netdev=net-nic1,mac=52:54:00:00:00:09,bootindex=4",
    ] {
        assert!(told.lines().any(|there| there == line), "{line} in {told}");
    }
    let xml = good(&daemon, "libvirt-xml old1");
    for line in ["      <boot order='3'/>", "      <boot order='4'/>"] {
        assert!(xml.lines().any(|there| there == line), "{line} in {xml}");
    }
}

#[test]
fn the_binary_does_the_rest() {
    let daemon = Daemon::start();
    let err = bad(&daemon, "serve --config /x.toml --state-dir /s");
    assert!(err.starts_with("error: Some(\"/x.toml\") \"/s\" \""), "{err}");
    assert_eq!(run(&daemon, "keep -- standpipe serve --config x").0, 4);
    assert!(good(&daemon, "completions bash").contains("_standpipe()"));
    assert!(good(&daemon, "man").contains(".TH standpipe 1"));
    good(&daemon, "man --directory @volumes");
    assert!(daemon.path("volumes/standpipe-disk-import.1").exists());
}
