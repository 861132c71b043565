//! `vm import`: packages of other hypervisors, honest and hostile.

use crate::api::{Daemon, MIB, noise};
use crate::cli::{bad, good};
use standpipe_control::site::{LunAddress, Model, Site};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

const ESXI: &str = include_str!("../../../appliance/tests/packages/esxi.ovf");
const ESXI8: &str = include_str!("../../../appliance/tests/packages/esxi8.ovf");
const VIRTUALBOX: &str = include_str!("../../../appliance/tests/packages/virtualbox.ovf");
const PAIR: &str = include_str!("../../../appliance/tests/packages/pair.ovf");
/// 1 MiB and three sectors; its last sector holds data.
const STREAM: &[u8] = include_bytes!("../../../appliance/tests/disks/stream.vmdk");
const STREAM_BYTES: u64 = MIB + 1536;

fn sh(folder: &Path, script: &str) {
    let status = Command::new("sh").args(["-ec", script]).current_dir(folder).status().unwrap();
    assert!(status.success(), "{script}");
}

/// A folder with the package of an ESXi host, and the digests of its files by sha256sum.
fn esxi(daemon: &Daemon) -> std::path::PathBuf {
    let folder = daemon.path("appliance");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("old-app.ovf"), ESXI).unwrap();
    fs::write(folder.join("old app-disk1.vmdk"), STREAM).unwrap();
    fs::write(folder.join("old app-file1.iso"), noise(40960)).unwrap();
    sh(
        &folder,
        "for f in *; do printf 'SHA256(%s)= %s\\n' \"$f\" \"$(sha256sum \"$f\" | cut -c1-64)\"; done >../old-app.mf; mv ../old-app.mf .",
    );
    folder
}

/// The same as tar(1) packs it.
fn ova(daemon: &Daemon) {
    let folder = esxi(daemon);
    sh(&folder, "tar -c --format=ustar -f ../old.ova old-app.ovf old-app.mf *.vmdk *.iso");
}

fn without_sizes() -> String {
    ESXI.replace(" ovf:size=\"133120\"", "").replace(" ovf:size=\"40960\"", "")
}

fn site(daemon: &Daemon) -> Site {
    daemon.client.get("/v1/site").unwrap()
}

/// Files of the store that no import of a test has made.
fn volumes(daemon: &Daemon) -> Vec<String> {
    let entries = fs::read_dir(daemon.path("volumes")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The bytes of the disk, by qemu-img's own rules known: the first sector's, and the last.
fn is_the_disk(bytes: &[u8]) {
    assert_eq!(bytes[..2], [11, 0]);
    assert_eq!((bytes[7], bytes[14]), (48, 85));
    let last = (STREAM_BYTES - 512) as usize;
    assert_eq!(bytes[last..last + 3], [2, 3, 4], "sector 2050, which is 802h");
    assert!(bytes[65536..200 << 10].iter().all(|byte| *byte == 0));
}

#[test]
fn a_vm_comes_from_esxi() {
    let daemon = Daemon::with_site();
    ova(&daemon);
    let before = site(&daemon);
    let would = good(&daemon, "vm import @old.ova --network lan --dry-run");
    assert!(
        would.starts_with(
            "would make VM old-app: Debian GNU/Linux 10 (64-bit), 2 CPUs, 4GiB of memory, BIOS\n"
        ),
        "{would}"
    );
    assert!(!would.contains("next:"), "{would}");
    assert_eq!((site(&daemon), volumes(&daemon)), (before, vec!["root.raw".to_owned()]));

    let made = good(&daemon, "vm import @old.ova --network lan --mac nic0=00:50:56:00:00:01");
    for words in [
        "made VM old-app: ",
        "\ndisk0  pvscsi         1     0=old-app-disk0 1=old-app-disk1 2=old-app-cd0\n",
        "\nnic0   vmxnet3        -     lan 00:50:56:00:00:01\n",
        "\nnic1   e1000-82545em  -     lan 00:50:56:9a:00:17\n",
        "note: CD-ROM 1: the CD in it is at disk0, a pvscsi\n",
        "note: left out: Floppy 1 ",
        "note: old-app-disk0: the description says 8MiB, and the disk has ",
        "\nnext: qemu-system-x86_64 -machine q35 -accel kvm $(standpipe qemu-args old-app)\n",
    ] {
        assert!(made.contains(words), "{words:?} is not in: {made}");
    }
    for no in ["signature", "manifest"] {
        assert!(!made.contains(no), "{made}");
    }
    assert_eq!(volumes(&daemon), ["old-app-cd0.raw", "old-app-disk0.raw", "old-app-disk1.raw", "root.raw"]);
    let disk = fs::read(daemon.path("volumes/old-app-disk0.raw")).unwrap();
    assert_eq!(disk.len() as u64, 8 * MIB, "what the description says, as it is more");
    is_the_disk(&disk);
    let found = fs::metadata(daemon.path("volumes/old-app-disk0.raw")).unwrap();
    assert!(
        found.blocks() * 512 <= 64 << 10,
        "{} bytes of a disk with 4 blocks of data",
        found.blocks() * 512
    );
    assert!(fs::read(daemon.path("volumes/old-app-cd0.raw")).unwrap() == noise(40960));
    assert_eq!(fs::metadata(daemon.path("volumes/old-app-disk1.raw")).unwrap().len(), 2 << 30);

    let after = site(&daemon);
    let vm = &after.vm["old-app"];
    assert_eq!((vm.cpus, vm.memory.map(|size| size.0)), (Some(2), Some(4 << 30)));
    assert_eq!(vm.slots["disk0"].boot_index, Some(1));
    assert!(after.disk.values().all(|disk| disk.naa.is_some()));
    let arguments = good(&daemon, "qemu-args old-app");
    assert!(arguments.contains("\n-m 4096M\n-smp 2\n"), "{arguments}");
    assert!(good(&daemon, "qemu-args old-app --memory 1G").contains("\n-m 1024M\n"));
    let xml = good(&daemon, "libvirt-xml old-app");
    assert!(xml.contains("<memory unit='b'>4294967296</memory>\n  <vcpu>2</vcpu>"), "{xml}");

    let err = bad(&daemon, "vm import @old.ova --network lan");
    assert!(
        err.contains("there is already a VM `old-app`") && err.contains("there is already a volume"),
        "{err}"
    );
    let json = good(
        &daemon,
        "vm import @appliance --network lan --name second --mac nic1=00:50:56:00:00:02 --no-msix --json",
    );
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["vms"][0]["name"], "second");
    assert_eq!(json["vms"][0]["volumes"][0]["size"], 8 * MIB);
    let msix_of = |vm: &str| -> Vec<_> {
        let slots = site(&daemon).vm[vm].slots.clone();
        slots.into_values().map(|slot| (slot.model, slot.msix)).collect()
    };
    let own = [Model::Pvscsi, Model::Vmxnet3, Model::E1000Em];
    assert_eq!(msix_of("old-app"), own.map(|model| (model, None)));
    assert_eq!(msix_of("second"), [(own[0], Some(false)), (own[1], Some(false)), (own[2], None)]);
}

#[test]
fn a_large_vm_fits() {
    let daemon = Daemon::with_site();
    let folder = daemon.path("erp");
    fs::create_dir(&folder).unwrap();
    let text = (1..=45).fold(ESXI8.to_owned(), |text, disk| {
        fs::write(folder.join(format!("erp-db01-{disk}.vmdk")), STREAM).unwrap();
        text.replace(&format!("ovf:size=\"{}\"", 70144 + 512 * (disk - 1)), "")
    });
    fs::write(folder.join("erp.ovf"), text).unwrap();
    fs::write(folder.join("erp-db01-file1.iso"), noise(40960)).unwrap();
    let would = good(&daemon, "vm import @erp --network lan --dry-run");
    for words in [
        "\ndisk0  pvscsi   1     0=erp-db01-disk0 1=erp-db01-disk1 2=erp-db01-disk2 3=erp-db01-disk3 4=erp-db01-disk4 5=erp-db01-disk5 6=erp-db01-disk6 7=erp-db01-cd0 8=erp-db01-disk7 9=",
        "\ndisk3  pvscsi   -     0=erp-db01-disk36 ",
        "\nnic0   vmxnet3  2     lan",
        "\nnic5   vmxnet3  -     lan",
    ] {
        assert!(would.contains(words), "{words:?} is not in: {would}");
    }
}

#[test]
fn what_is_not_served_is_not_replaced_unasked() {
    let daemon = Daemon::with_site();
    fs::write(daemon.path("lab.ovf"), VIRTUALBOX).unwrap();
    fs::write(daemon.path("lab-disk001.vmdk"), STREAM).unwrap();
    let err = bad(&daemon, "vm import @lab.ovf");
    assert!(
        err.contains("VM `lab` has disks at sataController0 (AHCI) (SATA), which is not served here"),
        "{err}"
    );
    assert!(err.contains("--disks pvscsi"), "{err}");
    assert!(
        err.contains("is on network `NAT`, which is not here") && err.contains("--network \"NAT=lan\""),
        "{err}"
    );
    assert!(
        bad(&daemon, "vm import @lab.ovf --network nat=lan --disks pvscsi")
            .contains("the package has no network `nat`")
    );
    assert!(
        bad(&daemon, "vm import @lab.ovf --network NAT=wan --disks pvscsi")
            .contains("there is no network `wan`")
    );
    for (model, name) in [("virtio-scsi", "a"), ("virtio-blk", "b"), ("pvscsi", "c")] {
        let made = good(
            &daemon,
            &format!(
                "vm import @lab.ovf --network NAT=lan --disks {model} --name {name} --mac nic0=00:50:56:00:00:0{name}"
            ),
        );
        let said = format!("its disks are at disk0, a {model}, and the guest must have that driver to boot");
        assert!(made.contains(&said) && made.contains("it boots by UEFI"), "{made}");
        assert!(made.contains("note: the package has no manifest"), "{made}");
        is_the_disk(&fs::read(daemon.path(&format!("volumes/{name}-disk0.raw"))).unwrap());
    }
    let site = site(&daemon);
    assert_eq!(site.vm["a"].slots["nic0"].model, Model::E1000, "VirtualBox's is the 82540EM");
    assert_eq!(site.vm["b"].slots["disk0"].volume.as_deref(), Some("b-disk0"));
}

/// Two machines of a folder: one disk in chunks, one compressed; NVMe and an adapter that we have not.
#[test]
fn two_vms_of_one_package() {
    let daemon = Daemon::with_site();
    let folder = daemon.path("pair");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("pair.ovf"), PAIR).unwrap();
    fs::write(folder.join("disk.raw"), noise(4096)).unwrap();
    fs::write(folder.join("disk.vmdk"), STREAM).unwrap();
    sh(&folder, "split -b 1536 -d -a 9 disk.raw disk.raw.; rm disk.raw; gzip disk.vmdk");
    let err = bad(&daemon, "vm import @pair --network lan");
    assert!(
        err.contains("NVMe 0 (vmware.nvme.controller) (NVMe)") && err.contains("eth0 (VmxNet2)"),
        "{err}"
    );
    let line = "vm import @pair --network lan --disks virtio-scsi --nics vmxnet3 --name web=front --directory @volumes";
    for (macs, said) in [
        ("--mac nic0=00:50:56:00:00:07", "--mac names nic0, and the VMs front, db have a NIC there"),
        ("--mac disk0=00:50:56:00:00:07", "--mac names disk0, and there is no NIC in such a slot"),
        ("--mac web.nic0=00:50:56:00:00:07", "--mac names web.nic0, and there is no NIC"),
        (
            "--mac db.nic0=00:50:56:00:00:07 --mac db.nic0=00:50:56:00:00:08",
            "--mac gives db.nic0 two addresses",
        ),
    ] {
        let err = bad(&daemon, &format!("{line} {macs}"));
        assert!(err.contains(said) && err.contains("error: "), "{said}: {err}");
    }
    assert!(
        bad(&daemon, &format!("{line} --mac nic0=00:50:56:00:00:07")).contains("--mac front.nic0=ADDRESS")
    );
    let would = good(&daemon, &format!("{line} --dry-run"));
    assert!(would.contains("Give the one that it had with --mac db.nic0=ADDRESS"), "{would}");
    let made = good(&daemon, &format!("{line} --mac db.nic0=00:50:56:00:00:07"));
    assert_eq!(
        site(&daemon).vm["db"].slots["nic0"].mac.map(|mac| mac.to_string()).as_deref(),
        Some("00:50:56:00:00:07")
    );
    for words in [
        "1 properties that its guest reads",
        "--configuration: small (Small), large (Large); this is large",
        "with Secure Boot",
        "disk `d3` of the package is at no machine",
    ] {
        assert!(made.contains(words), "{words}: {made}");
    }
    let after = site(&daemon);
    let front = &after.vm["front"];
    assert_eq!(front.cpus, Some(8));
    assert_eq!((front.slots["nic0"].model, front.slots["nic0"].boot_index), (Model::Vlance, Some(1)));
    assert_eq!((front.slots["disk0"].model, front.slots["disk0"].boot_index), (Model::Pvscsi, Some(2)));
    assert_eq!(front.slots["disk0"].luns().collect::<Vec<_>>(), [(LunAddress::from(2), "front-disk0")]);
    let db = &after.vm["db"];
    assert_eq!((db.slots["nic0"].model, db.slots["nic0"].boot_index), (Model::Vmxnet3, Some(1)));
    assert_eq!((db.slots["disk0"].model, db.slots["disk0"].boot_index), (Model::VirtioScsi, Some(2)));
    assert_eq!(after.disk["db-disk0"].path.as_deref(), Some(daemon.path("volumes/db-disk0.raw").as_path()));
    assert!(fs::read(daemon.path("volumes/front-disk0.raw")).unwrap() == noise(4096));
    is_the_disk(&fs::read(daemon.path("volumes/db-disk0.raw")).unwrap());

    fs::remove_file(folder.join("disk.raw.000000002")).unwrap();
    let err = bad(
        &daemon,
        "vm import @pair --network lan --disks virtio-scsi --nics vmxnet3 --name web=x --name db=y",
    );
    assert!(err.contains("the chunks of `disk.raw` have together 3072 bytes"), "{err}");
    let bomb = "head -c 200M /dev/zero | gzip >disk.vmdk.gz; printf x >disk.raw.000000002; truncate -s 1024 disk.raw.000000002";
    sh(&folder, bomb);
    let err = bad(
        &daemon,
        "vm import @pair --network lan --disks virtio-scsi --nics vmxnet3 --name web=x --name db=y",
    );
    assert!(err.contains("bytes come out of the compressed file"), "{err}");
    assert_eq!(volumes(&daemon), ["db-disk0.raw", "front-disk0.raw", "root.raw"], "nothing is left of it");
}

#[test]
fn damaged_packages_leave_nothing() {
    let daemon = Daemon::with_site();
    let folder = esxi(&daemon);
    let before = site(&daemon);
    let refused = |said: &str| {
        let err = bad(&daemon, "vm import @appliance --network lan");
        assert!(err.contains(said), "{said} is not in: {err}");
        assert_eq!((site(&daemon), volumes(&daemon)), (before.clone(), vec!["root.raw".to_owned()]));
    };
    let disk = folder.join("old app-disk1.vmdk");
    // One bit of a grain: the manifest knows.
    let mut bytes = STREAM.to_vec();
    let at = bytes.windows(2).position(|two| two == [0x78, 0x9c]).unwrap() + 40;
    bytes[at] ^= 4;
    fs::write(&disk, &bytes).unwrap();
    refused("the file is not the one of the manifest: its SHA256 is another");
    // Without a manifest the grain's own sum does.
    fs::remove_file(folder.join("old-app.mf")).unwrap();
    refused("is damaged");
    fs::write(&disk, &STREAM[..67600]).unwrap();
    refused("has 67600 bytes, and the description says 133120");
    fs::write(folder.join("old-app.ovf"), without_sizes()).unwrap();
    // Its last grain is from byte 67584 on.
    fs::write(&disk, &STREAM[..67600]).unwrap();
    refused("the file ends within a grain of the disk");
    fs::write(&disk, b"QFI\xfb and so on").unwrap();
    refused("the disk is in the format qcow2");
    fs::write(&disk, noise(4096)).unwrap();
    refused("the disk is in a format that is not known");
    fs::remove_file(&disk).unwrap();
    refused("the package has no file `old app-disk1.vmdk`");
    fs::write(folder.join("old-app.mf"), "SHA256(gone)= 00").unwrap();
    fs::write(&disk, STREAM).unwrap();
    refused("the manifest has a line that is no digest");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let daemon = Daemon::with_site();
    let folder = esxi(&daemon);
    fs::remove_file(folder.join("old-app.mf")).unwrap();
    fs::write(daemon.path("secret"), noise(4096)).unwrap();
    let secret = daemon.path("secret").display().to_string();
    for href in [
        "../secret",
        &secret,
        "x/../../secret",
        "%2e%2e/secret",
        "file:///etc/passwd",
        "http://localhost/x",
        "",
    ] {
        fs::write(folder.join("old-app.ovf"), without_sizes().replace("old app-file1.iso", href)).unwrap();
        let err = bad(&daemon, "vm import @appliance --network lan");
        assert!(
            err.contains("leads out of the package") || err.contains("a file elsewhere"),
            "{href}: {err}"
        );
    }
    fs::write(folder.join("old-app.ovf"), without_sizes()).unwrap();
    fs::remove_file(folder.join("old app-file1.iso")).unwrap();
    std::os::unix::fs::symlink("../secret", folder.join("old app-file1.iso")).unwrap();
    let err = bad(&daemon, "vm import @appliance --network lan");
    assert!(err.contains("a link that leads out of the package's folder"), "{err}");
    // In an archive it is no file at all; and a descriptor of a disk has no other way out either.
    sh(&folder, "tar -c -f ../links.ova old-app.ovf *.vmdk *.iso");
    let err = bad(&daemon, "vm import @links.ova --network lan");
    assert!(err.contains("the package has no file `old app-file1.iso`"), "{err}");
    fs::remove_file(folder.join("old app-file1.iso")).unwrap();
    fs::write(folder.join("old app-file1.iso"), noise(2048)).unwrap();
    let text = "# Disk DescriptorFile\nparentCID=ffffffff\nRW 8 FLAT \"../secret\" 0\n";
    fs::write(folder.join("old app-disk1.vmdk"), text).unwrap();
    let err = bad(&daemon, "vm import @appliance --network lan");
    assert!(err.contains("`../secret` leads out of the package"), "{err}");
}

/// A daemon that fails at each of its steps, and after that works again.
#[test]
fn what_the_daemon_cannot_make_is_taken_back() {
    let daemon = Daemon::with_site();
    ova(&daemon);
    let before = site(&daemon);
    *daemon.engine.fail_once.lock().unwrap() = true;
    for steps in 0..6 {
        *daemon.engine.fail_after.lock().unwrap() = Some(steps);
        let err = bad(&daemon, "vm import @old.ova --network lan");
        assert!(err.contains("error: cannot ") && err.contains("call the fire brigade"), "{err}");
        assert_eq!(*daemon.engine.fail_after.lock().unwrap(), None, "it has failed");
        let after = site(&daemon);
        assert_eq!((&after.vm, &after.disk), (&before.vm, &before.disk), "after {steps} steps");
        assert_eq!(volumes(&daemon), ["root.raw"], "after {steps} steps");
    }
    // One that goes on to fail keeps what it has, and the files stay with it.
    *daemon.engine.fail_once.lock().unwrap() = false;
    *daemon.engine.fail_after.lock().unwrap() = Some(2);
    let err = bad(&daemon, "vm import @old.ova --network lan");
    assert!(err.contains("what was made; the volumes are whole, in "), "{err}");
    assert_eq!(volumes(&daemon).len(), 4);
    *daemon.engine.fail_after.lock().unwrap() = None;
    good(&daemon, "vm import @old.ova --network lan --name other");
}

#[test]
fn a_disk_alone_goes_into_a_volume() {
    let daemon = Daemon::with_site();
    fs::write(daemon.path("disk.vmdk"), STREAM).unwrap();
    let err = bad(&daemon, "vm import @disk.vmdk");
    assert!(
        err.contains("a disk without the description of a VM") && err.contains("standpipe disk import"),
        "{err}"
    );
    let said = good(&daemon, "disk import root @disk.vmdk");
    assert_eq!(said, "imported 1MiB into root (13.5KiB of data, the rest holes)\n");
    is_the_disk(&fs::read(daemon.path("volumes/root.raw")).unwrap());
    let err = bad(&daemon, "disk import root @disk.vmdk --on-server");
    assert!(err.contains("the daemon reads raw images only"), "{err}");
    let flat = "# Disk DescriptorFile\nparentCID=ffffffff\nRW 8 FLAT \"d-flat.vmdk\" 0\n";
    fs::write(daemon.path("d.vmdk"), flat).unwrap();
    fs::write(daemon.path("d-flat.vmdk"), noise(4096)).unwrap();
    good(&daemon, "disk import root @d.vmdk");
    assert!(fs::read(daemon.path("volumes/root.raw")).unwrap()[..4096] == noise(4096));
    fs::write(daemon.path("d.vmdk"), flat.replace("d-flat.vmdk", "../d-flat.vmdk")).unwrap();
    assert!(bad(&daemon, "disk import root @d.vmdk").contains("is not beside it"));
    fs::write(daemon.path("d.vmdk"), flat.replace("RW 8 ", "RW 999999 ")).unwrap();
    assert!(bad(&daemon, "disk import root @d.vmdk").contains("is shorter than the descriptor says"));

    // A raw image whose guest wrote a VMDK's first bytes is raw; and extents are no links out.
    fs::write(daemon.path("disk.raw"), [b"KDMV", &noise(4092)[..]].concat()).unwrap();
    good(&daemon, "disk import root @disk.raw");
    assert_eq!(fs::read(daemon.path("volumes/root.raw")).unwrap()[..4], *b"KDMV");
    fs::create_dir(daemon.path("alone")).unwrap();
    fs::write(daemon.path("alone/d.vmdk"), flat).unwrap();
    std::os::unix::fs::symlink("../d-flat.vmdk", daemon.path("alone/d-flat.vmdk")).unwrap();
    assert!(bad(&daemon, "disk import root @alone/d.vmdk").contains("a link that leads out of its folder"));

    // What is wrong with the disk is said, and not what that did to the connection.
    let mut bytes = STREAM.to_vec();
    let at = bytes.windows(2).position(|two| two == [0x78, 0x9c]).unwrap() + 40;
    bytes[at] ^= 4;
    fs::write(daemon.path("disk.vmdk"), &bytes).unwrap();
    let err = bad(&daemon, "disk import root @disk.vmdk");
    assert!(err.contains("cannot read the image: the grain at byte ") && err.contains("is damaged"), "{err}");
}

/// A descriptor's extent that the manifest passes over, and a compressed disk that is not the one of the
/// manifest.
#[test]
fn the_manifest_is_for_every_file_and_comes_first() {
    let daemon = Daemon::with_site();
    let folder = esxi(&daemon);
    let manifest = fs::read_to_string(folder.join("old-app.mf")).unwrap();
    let without = manifest.lines().filter(|line| line.contains(".iso")).collect::<String>() + "\n";
    fs::write(folder.join("old-app.mf"), &without).unwrap();
    let flat = "# Disk DescriptorFile\nparentCID=ffffffff\nRW 8 FLAT \"flat.vmdk\" 0\n";
    fs::write(folder.join("old app-disk1.vmdk"), flat).unwrap();
    fs::write(folder.join("flat.vmdk"), noise(4096)).unwrap();
    let description = without_sizes().replace("Debian GNU", "Debian&#x9b;2J GNU");
    fs::write(folder.join("old-app.ovf"), &description).unwrap();
    let made = good(&daemon, "vm import @appliance --network lan");
    assert!(
        made.contains("the manifest says nothing of flat.vmdk, old app-disk1.vmdk, old-app.ovf\n"),
        "{made}"
    );
    assert!(made.contains("Debian?2J GNU"), "a terminal obeys it: {made}");

    let gzip =
        description.replace("ovf:href=\"old app-disk1.vmdk\"", "ovf:href=\"d.gz\" ovf:compression=\"gzip\"");
    fs::write(folder.join("old-app.ovf"), gzip).unwrap();
    sh(&folder, "head -c 200M /dev/zero | gzip >d.gz");
    fs::write(folder.join("old-app.mf"), format!("{without}SHA1(d.gz)= {}\n", "0".repeat(40))).unwrap();
    let err = bad(&daemon, "vm import @appliance --network lan --name second");
    assert!(err.contains("its SHA1 is another") && !err.contains("come out"), "{err}");
    good(&daemon, "vm import @appliance --network lan --name second --mac nic1=00:50:56:00:00:02 --dry-run");
}
