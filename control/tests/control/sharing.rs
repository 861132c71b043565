//! Shared volumes, CD-ROMs, portals and targets as they are declared: what a
//! person reads who wrote something wrong, and what comes out of what is right.

use standpipe_control::site::{self, IscsiName, Kind, Listen, PathState, Percent, Site};
use standpipe_control::step::{Access, Device, TargetSpec};

const GOOD: &str = r#"
[disk.cluster]
path = "/dev/sdb"
shared = true
physical_block_size = 4096
thin_threshold = "80%"
[disk.iso]
path = "/srv/debian.iso"
kind = "cdrom"
[disk.root]
path = "/dev/sdc"
block_size = 4096
[disk.usb]
path = "/dev/sdd"
removable = true
[vm.web1.disk0]
model = "virtio-scsi"
volumes = ["root", "cluster"]
[vm.web1.disk1]
model = "virtio-scsi"
volumes = ["usb"]
path = "standby"
[portal.a]
listen = "192.0.2.1"
[portal.b]
listen = "[2001:db8::1]:3261"
[target.backup]
iqn = "IQN.2026-11.org.Example:backup"
portals = { a = "active", b = "non-optimized" }
luns = { 0 = "cluster", 5 = "iso" }
mutual = { user = "t", secret_file = "/etc/standpipe/t.secret" }
chap = { user = "all", secret_file = "/etc/standpipe/all.secret" }
[[target.backup.allow]]
initiator = "iqn.1993-08.org.debian:01:abc"
luns = [0]
chap = { user = "u", secret_file = "/etc/standpipe/u.secret" }
[[target.backup.allow]]
initiator = "iqn.1991-05.com.microsoft:win_1"
"#;

fn problems(text: &str) -> String {
    match site::parse("site.toml", text) {
        Ok(_) => panic!("this was taken for good:\n{text}"),
        Err(problem) => problem.to_string(),
    }
}

fn good() -> Site {
    let mut site = site::parse("site.toml", GOOD).unwrap();
    let mut count = 0;
    let fresh = || {
        count += 1;
        Ok(standpipe_control::site::Naa::from_random([count; 16]))
    };
    site.assign_identities(&Site::default(), fresh).unwrap();
    site
}

#[test]
fn a_good_site_is_resolved() {
    let site = good();
    let volume = site.volume_spec("iso").unwrap();
    assert_eq!((volume.kind, volume.block_size), (Kind::Cdrom, 2048));
    assert!(volume.read_only && volume.removable && !volume.shared);
    let volume = site.volume_spec("cluster").unwrap();
    assert_eq!((volume.block_size, volume.physical_block_size), (512, Some(4096)));
    assert_eq!((volume.shared, volume.thin_threshold), (true, Some(80)));
    let volume = site.volume_spec("root").unwrap();
    assert_eq!((volume.block_size, volume.physical_block_size, volume.removable), (4096, None, false));
    assert_eq!(site.portal_spec("a").unwrap().listen.to_string(), "192.0.2.1:3260");
    assert_eq!(site.portal_spec("b").unwrap().listen.to_string(), "[2001:db8::1]:3261");
    let slot = site.slot_spec(&"web1.disk1".parse().unwrap()).unwrap();
    assert!(matches!(slot.device, Device::VirtioScsi { path: PathState::Standby, .. }));

    let target = site.target_spec("backup").unwrap();
    assert_eq!(target.iqn.as_str(), "iqn.2026-11.org.example:backup");
    let ports: Vec<_> = target.portals.iter().map(|at| (at.portal.as_str(), at.tpgt, at.path)).collect();
    assert_eq!(ports, [("a", 1, PathState::Active), ("b", 2, PathState::NonOptimized)]);
    let chap = |access: &Access| access.chap.clone().unwrap().user;
    let debian = target.access_of("iqn.1993-08.ORG.debian:01:abc").unwrap();
    assert_eq!((chap(debian).as_str(), debian.sees(0), debian.sees(5)), ("u", true, false));
    assert_eq!(debian.mutual.as_ref().unwrap().user, "t");
    let windows = target.access_of("iqn.1991-05.com.microsoft:win_1").unwrap();
    assert_eq!((chap(windows).as_str(), windows.sees(0), windows.sees(5)), ("all", true, true));
    assert_eq!(target.access_of("iqn.1993-08.org.debian:01:abcd"), None);
    let mut open = site.clone();
    open.target.get_mut("backup").unwrap().open = true;
    let target = open.target_spec("backup").unwrap();
    let other = target.access_of("iqn.1993-08.org.debian:01:abcd").unwrap();
    assert_eq!((other.initiator.as_ref(), chap(other).as_str()), (None, "all"));

    let json = serde_json::to_string(&site).unwrap();
    assert_eq!(serde_json::from_str::<Site>(&json).unwrap(), site);
}

/// Each case: what is replaced in the good site, by what, and all that is said.
#[test]
fn every_mistake_is_explained() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "block_size = 4096\n[disk.usb]",
            "block-size = 4096\n[disk.usb]",
            "error: unknown key `block-size`
  where: site.toml:12:1
  hint: did you mean `block_size`? (known keys are store, path, null, size, kind, block_size, physical_block_size, read_only, shared, removable, thin_threshold, naa, serial)",
        ),
        (
            "kind = \"cdrom\"",
            "kind = \"cdrm\"",
            "error: unknown value `cdrm`
  where: site.toml:9:8
  hint: did you mean `cdrom`? (values are disk, cdrom)",
        ),
        (
            "kind = \"cdrom\"",
            "kind = \"cdrom\"\nblock_size = 512\nphysical_block_size = 512\nthin_threshold = \"5%\"",
            "error: 512 is not a block size
  where: site.toml:10:1 (disk.iso.block_size)
  hint: a CD-ROM has blocks of 2048 bytes: leave `block_size` out
error: a CD-ROM has no physical block size
  where: site.toml:11:1 (disk.iso.physical_block_size)
  hint: leave `physical_block_size` out
error: a CD-ROM is not written, so it has no threshold
  where: site.toml:12:1 (disk.iso.thin_threshold)
  hint: leave `thin_threshold` out",
        ),
        (
            "block_size = 4096\n[disk.usb]",
            "block_size = 4096\nphysical_block_size = 512\n[disk.usb]",
            "error: a physical block of 512 bytes is smaller than a logical block of 4096
  where: site.toml:13:1 (disk.root.physical_block_size)
  hint: 512 and 512 is 512n, 512 and 4096 is 512e, 4096 and 4096 is 4Kn",
        ),
        (
            "physical_block_size = 4096",
            "physical_block_size = 2048",
            "error: 2048 is not a physical block size
  where: site.toml:5:1 (disk.cluster.physical_block_size)
  hint: write 512 or 4096, or leave it out for what the store says",
        ),
        (
            "\"80%\"",
            "\"101%\"",
            "error: `101%` is not a share
  where: site.toml:6:18
  hint: write 1 to 100 with a percent sign, such as \"80%\"",
        ),
        (
            "shared = true\n",
            "",
            "error: volume `cluster` is used by web1.disk0 and target backup
  where: site.toml:29:1 (target.backup.luns)
  hint: two hosts on one volume destroy its filesystem: take it out of one of them, make a second volume, or, if they have a cluster's filesystem, write `shared = true` at the volume",
        ),
        (
            "volumes = [\"usb\"]",
            "volumes = [\"usb\", \"root\"]",
            "error: volume `root` is used by two slots, web1.disk0 and web1.disk1
  where: site.toml:21:1 (vm.web1.disk1.volumes)
  hint: two guests on one volume destroy its filesystem: take it out of one of them, make a second volume, or, if they have a cluster's filesystem, write `shared = true` at the volume",
        ),
        (
            "model = \"virtio-scsi\"\nvolumes = [\"usb\"]\npath = \"standby\"",
            "model = \"virtio-blk\"\nvolume = \"usb\"",
            "error: volume `usb` is removable, and a virtio-blk slot cannot have it (web1.disk1)
  where: site.toml:21:1 (vm.web1.disk1.volume)
  hint: use a virtio-scsi slot (`model = \"virtio-scsi\"`, `volumes = [\"usb\"]`), or take `removable` away from it",
        ),
        (
            "model = \"virtio-scsi\"\nvolumes = [\"usb\"]\npath = \"standby\"",
            "model = \"virtio-blk\"\nvolume = \"cluster\"",
            "error: volume `cluster` is shared, and a virtio-blk slot cannot have it (web1.disk1)
  where: site.toml:21:1 (vm.web1.disk1.volume)
  hint: use a virtio-scsi slot (`model = \"virtio-scsi\"`, `volumes = [\"cluster\"]`), or take `shared` away from it",
        ),
        (
            "model = \"virtio-scsi\"\nvolumes = [\"usb\"]\npath = \"standby\"",
            "model = \"virtio-blk\"\nvolume = \"usb\"\npath = \"active\"",
            "error: volume `usb` is removable, and a virtio-blk slot cannot have it (web1.disk1)
  where: site.toml:21:1 (vm.web1.disk1.volume)
  hint: use a virtio-scsi slot (`model = \"virtio-scsi\"`, `volumes = [\"usb\"]`), or take `removable` away from it
error: `path` is not for a virtio-blk
  where: site.toml:22:1 (vm.web1.disk1.path)
  hint: write `volume = \"NAME\"`",
        ),
        (
            "5 = \"iso\"",
            "5 = \"iso\", 6 = \"cluster\"",
            "error: volume `cluster` is twice in target backup
  where: site.toml:30:1 (target.backup.luns)
  hint: remove one; a second path to it at LUN 6 is of no use, a second portal is",
        ),
        (
            "5 = \"iso\"",
            "5 = \"isso\"",
            "error: there is no volume `isso`
  where: site.toml:30:1 (target.backup.luns)
  hint: did you mean `iso`? Otherwise add [disk.isso]",
        ),
        (
            "\"192.0.2.1\"",
            "\"storage.example.org\"",
            "error: `storage.example.org` is not an address to listen at
  where: site.toml:24:10
  hint: write an IP address and a port, such as \"192.0.2.1:3260\", \"[2001:db8::1]:3260\" or \"0.0.0.0:3260\"",
        ),
        (
            "\"192.0.2.1\"",
            "\"192.0.2.1:0\"",
            "error: port 0 is no port
  where: site.toml:24:10
  hint: write 3260, which initiators try by themselves, or another",
        ),
        (
            "\"192.0.2.1\"",
            "\"[::]:3261\"",
            "error: portals `a` and `b` cannot both listen at [2001:db8::1]:3261
  where: site.toml:26:1 (portal.b.listen)
  hint: give one of them another address or port, or put their targets on one portal",
        ),
        (
            "b = \"non-optimized\"",
            "c = \"non-optimized\"",
            "error: there is no portal `c`
  where: site.toml:29:1 (target.backup.portals)
  hint: did you mean `a`? Otherwise add [portal.c]",
        ),
        (
            "b = \"non-optimized\"",
            "b = \"optimised\"",
            "error: unknown value `optimised`
  where: site.toml:29:31
  hint: values are active, non-optimized, standby",
        ),
        (
            "{ a = \"active\", b = \"non-optimized\" }",
            "[\"a\", \"a\"]",
            "error: portal `a` is given twice
  where: site.toml:29:11
  hint: write it once",
        ),
        (
            "\"IQN.2026-11.org.Example:backup\"",
            "\"backup\"",
            "error: `backup` is not an iSCSI name: it begins with iqn., eui. or naa.
  where: site.toml:28:7
  hint: write iqn., the year and month in which you had a domain, the domain from its end, a colon and a name, such as \"iqn.2026-11.org.example:backup\" (eui. and naa. names are taken too)",
        ),
        (
            "iqn = \"IQN.2026-11.org.Example:backup\"\n",
            "",
            "error: the key `iqn` is missing
  where: site.toml:27:1
  hint: add `iqn = …` to this table",
        ),
        (
            "luns = [0]",
            "luns = [0, 7]",
            "error: `iqn.1993-08.org.debian:01:abc` is to see LUN 7, which target backup does not have
  where: site.toml:35:1 (target.backup.allow.0.luns)
  hint: add it to `luns` of [target.backup], or take it out here",
        ),
        (
            "\"iqn.1991-05.com.microsoft:win_1\"",
            "\"iqn.1993-08.org.debian:01:ABC\"",
            "error: initiator `iqn.1993-08.org.debian:01:abc` is allowed twice
  where: site.toml:38:1 (target.backup.allow.1.initiator)
  hint: put what it may do into one entry",
        ),
        (
            "secret_file = \"/etc/standpipe/u.secret\"",
            "secret = \"correct-horse-battery\"",
            "error: a secret does not belong into the site's file
  where: site.toml:36:22 (target.backup.allow.0.chap.secret)
  hint: put it into a file of its own (chmod 600), write `secret_file = \"/…\"`, and take a new secret if others can have read this one",
        ),
        (
            "secret_file = \"/etc/standpipe/u.secret\"",
            "secret = \"tooshort\"",
            "error: the secret is shorter than 12 bytes (96 bits)
  where: site.toml:36:31
  hint: take 12 to 100 random letters and digits, such as from `openssl rand -hex 16`",
        ),
        (
            "secret_file = \"/etc/standpipe/u.secret\"",
            "secret = 271828182845904523",
            "error: a secret is text
  where: site.toml:36:31
  hint: write it in quotes",
        ),
        (
            "user = \"u\", secret_file = \"/etc/standpipe/u.secret\"",
            "user = \"\"",
            "error: there is no secret for user ``
  where: site.toml:36:1 (target.backup.allow.0.chap)
  hint: add `secret_file = \"/…\"`: a file with one line that others cannot read (chmod 600)
error: this cannot be the name of a user
  where: site.toml:36:10 (target.backup.allow.0.chap.user)
  hint: write 1 to 255 bytes without control characters",
        ),
        (
            "\"/etc/standpipe/u.secret\"",
            "\"u.secret\"",
            "error: `u.secret` is not an absolute path
  where: site.toml:36:22 (target.backup.allow.0.chap.secret_file)
  hint: the daemon has no current directory: write the whole path from `/`, without `..`",
        ),
        (
            "\"/etc/standpipe/u.secret\"",
            "\"/etc/standpipe/t.secret\"",
            "error: initiator `iqn.1993-08.org.debian:01:abc` and the target have the same secret
  where: site.toml:34:1 (target.backup.allow.0.initiator)
  hint: give `mutual` a secret file of its own",
        ),
        (
            "chap = { user = \"all\", secret_file = \"/etc/standpipe/all.secret\" }",
            "sessions_max = 0",
            "error: `mutual` is of use only with `chap`
  where: site.toml:31:1 (target.backup.mutual)
  hint: the initiator proves itself first: add `chap = { user = \"NAME\", secret_file = \"/…\" }`
error: 0 sessions are out of range
  where: site.toml:32:1 (target.backup.sessions_max)
  hint: write 1 to 1024",
        ),
        (
            "[portal.a]",
            "[identity.port]\n\"web1.disk0\" = 3\n\"backup/a\" = 3\n\"gone.disk0\" = 0\n[portal.a]",
            "error: `backup/a` and `web1.disk0` have the same number 3
  where: site.toml:24:1 (identity.port.\"web1.disk0\")
  hint: initiators would take them for one port: leave one of them out and it gets another
error: 0 is no number of a port
  where: site.toml:26:1 (identity.port.\"gone.disk0\")
  hint: write 1 to 65535, or leave it out and one is given",
        ),
    ];
    let mut wrong = Vec::new();
    for (good, bad, said) in cases {
        assert_eq!(GOOD.matches(good).count(), 1, "{good}");
        let found = problems(&GOOD.replace(good, bad));
        if found != *said {
            wrong.push(format!("{bad}\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// RFC 7143, 4.2.7, and examples from there.
#[test]
fn names_for_iscsi() {
    let good = [
        "iqn.2001-04.com.example:storage:diskarrays-sn-a8675309",
        "iqn.2001-04.com.example",
        "iqn.2001-04.com.example:storage.tape1.sys1.xyz",
        "iqn.1991-05.com.microsoft:host_name",
        "eui.02004567A425678D",
        "naa.52004567BA64678D",
        "naa.62004567BA64678D0123456789ABCDEF",
    ];
    for text in good {
        let name: IscsiName = text.parse().unwrap();
        assert_eq!(name.as_str(), text.to_ascii_lowercase());
    }
    let longest = format!("iqn.2001-04.com.example:{}", "x".repeat(223 - 24));
    assert_eq!(longest.parse::<IscsiName>().unwrap().as_str().len(), 223);
    let bad = [
        "",
        "iqn",
        "iqn.",
        "iqn.2001.com.example",
        "iqn.2001-13.com.example",
        "iqn.2001-00.com.example",
        "iqn.201-04.com.example",
        "iqn.2001-04.",
        "iqn.2001-04.com..example",
        "iqn.2001-04.-com.example",
        "iqn.2001-04:x",
        "iqn.2001-04.com.example:two words",
        "iqn.2001-04.com.example:a/b",
        "iqn.2001-04.com.example:\u{e9}",
        "eui.02004567A425678",
        "eui.02004567A425678G",
        "naa.52004567BA64678D0",
        "wwn.52004567BA64678D",
        &format!("{longest}x"),
    ];
    for text in bad {
        assert!(text.parse::<IscsiName>().is_err(), "{text}");
    }
}

#[test]
fn addresses_to_listen_at() {
    let good = [
        ("192.0.2.1:3260", "192.0.2.1:3260"),
        ("192.0.2.1", "192.0.2.1:3260"),
        ("0.0.0.0:860", "0.0.0.0:860"),
        ("::", "[::]:3260"),
        ("[::1]", "[::1]:3260"),
        ("[2001:db8::1]:3260", "[2001:db8::1]:3260"),
    ];
    for (text, address) in good {
        assert_eq!(text.parse::<Listen>().unwrap().to_string(), address);
    }
    for text in [
        "",
        "3260",
        ":3260",
        "localhost:3260",
        "192.0.2.1:",
        "192.0.2.1:65536",
        "224.0.0.1:3260",
        "[ff02::1]",
    ] {
        assert!(text.parse::<Listen>().is_err(), "{text}");
    }
    assert_eq!("80 %".parse::<Percent>().unwrap().get(), 80);
    for text in ["", "%", "80", "0%", "101%", "-1%", "8.5%"] {
        assert!(text.parse::<Percent>().is_err(), "{text}");
    }
}

fn group(site: &Site, slot: &str) -> String {
    site.slot_spec(&slot.parse().unwrap()).unwrap().group.unwrap()
}

/// Everything that shared volumes, targets and portals connect is one group,
/// and nothing else is in it.
#[test]
fn groups_are_what_is_connected() {
    let site = good();
    let backup: TargetSpec = site.target_spec("backup").unwrap();
    // web1.disk0 - cluster - target backup - portals a and b.
    assert_eq!(group(&site, "web1.disk0"), "disk.cluster");
    assert_eq!(backup.group, "disk.cluster");
    assert_eq!(site.portal_spec("a").unwrap().group, "disk.cluster");
    assert_eq!(site.portal_spec("b").unwrap().group, "disk.cluster");
    assert_eq!(group(&site, "web1.disk1"), "vm.web1.disk1");

    let mut apart = site.clone();
    apart.target.get_mut("backup").unwrap().luns.0.remove(&0);
    apart.target.get_mut("backup").unwrap().portals.0.remove("b");
    assert_eq!(group(&apart, "web1.disk0"), "disk.cluster");
    assert_eq!(apart.target_spec("backup").unwrap().group, "portal.a");
    assert_eq!(apart.portal_spec("a").unwrap().group, "portal.a");
    assert_eq!(apart.portal_spec("b").unwrap().group, "portal.b");
    apart.target.get_mut("backup").unwrap().portals.0.clear();
    assert_eq!(apart.target_spec("backup").unwrap().group, "target.backup");
    // A volume that is not shared brings nothing together: it has one user.
    let slot = apart.slot_mut(&"web1.disk0".parse().unwrap()).unwrap();
    slot.volumes.as_mut().unwrap().0.remove(&1.into());
    assert_eq!(group(&apart, "web1.disk0"), "vm.web1.disk0");
}

/// Numbers of ports stay with what has them, also while it is gone, and are not
/// given to anything else.
#[test]
fn ports_keep_their_numbers() {
    let fresh = || panic!("all volumes have names");
    let first = good();
    let port = &first.identity.port;
    let mut numbers: Vec<u16> = port.values().copied().collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4]);
    let mut gone = first.clone();
    gone.vm.clear();
    gone.target.get_mut("backup").unwrap().portals.0.remove("a");
    gone.identity = site::Identity::default();
    gone.assign_identities(&first, fresh).unwrap();
    assert_eq!(gone.identity, first.identity);
    // Something new in between.
    let mut other = gone.clone();
    let target = first.target["backup"].clone();
    other.target.insert("second".to_owned(), target);
    other.assign_identities(&gone, fresh).unwrap();
    assert_eq!(other.identity.port["second/a"], 5);
    assert_eq!(other.identity.port["second/b"], 6);
    let mut back = first.clone();
    back.identity = site::Identity::default();
    back.assign_identities(&other, fresh).unwrap();
    assert_eq!(back.identity.port["web1.disk0"], port["web1.disk0"]);
    assert_eq!(back.identity.port["backup/a"], port["backup/a"]);
    assert_eq!(back.identity.port["second/a"], 5, "it is gone, and remembered");
    // The site's own word counts, and what is gone gives way.
    let mut given = first.clone();
    given.identity = site::Identity::default();
    given.identity.port.insert("web1.disk0".to_owned(), 5);
    given.assign_identities(&other, fresh).unwrap();
    assert_eq!(given.identity.port["web1.disk0"], 5);
    assert_eq!(given.identity.port.get("second/a"), None);
    assert_eq!(given.identity.port["backup/a"], port["backup/a"]);
}

/// After 65,535 numbers those of what is gone are given again, and never one
/// that something has.
#[test]
fn numbers_that_run_out_are_taken_from_what_is_gone() {
    let mut known = good();
    known.identity.port.retain(|name, _| name == "web1.disk0");
    known.identity.port.insert("web1.disk0".to_owned(), 65_535);
    let taken: Vec<u16> = (1..65_534).collect();
    for id in &taken {
        known.identity.port.insert(format!("old{id}.disk0"), *id);
    }
    let mut site = good();
    site.identity = site::Identity::default();
    site.assign_identities(&known, || panic!("all volumes have names")).unwrap();
    let port = &site.identity.port;
    assert_eq!(port["web1.disk0"], 65_535);
    // One was never given; the others come from names that are gone.
    let mut numbers: Vec<u16> = port.values().copied().collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=65_535).collect::<Vec<u16>>());
    assert_eq!(port["backup/a"], 65_534);
    assert!(port.contains_key("backup/b") && port.contains_key("web1.disk1"));
    assert_eq!(site.check(), []);
}
