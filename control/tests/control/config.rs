//! What a person reads who wrote something wrong.

use standpipe_control::site::{self, LunAddress, Mac, Model, Naa, Size, SlotId};
use standpipe_control::step::{Device, SlotSpec};

const GOOD: &str = r#"
[server]
lanes = 2
socket_dir = "/run/standpipe"
[store.local]
directory = "/var/lib/standpipe/volumes"
[disk.web1-root]
store = "local"
size = "20GiB"
[disk.web1-data]
path = "/dev/sdb"
block_size = 4096
[disk.web1-blk]
null = true
size = 1048576
[network.lan]
mtu = 9000
[network.lan.uplink.host]
tap = "sp-lan"
[vm.web1]
user = "libvirt-qemu"
[vm.web1.disk0]
model = "virtio-scsi"
volumes = { 0 = "web1-root", 3 = "web1-data" }
[vm.web1.disk1]
model = "virtio-blk"
volume = "web1-blk"
queues = 4
[vm.web1.nic0]
model = "virtio-net"
network = "lan"
trunk = [20, 10]
native = 1
"#;

fn problems(text: &str) -> String {
    match site::parse("site.toml", text) {
        Ok(_) => panic!("this was taken for good:\n{text}"),
        Err(problem) => problem.to_string(),
    }
}

#[test]
fn a_good_site_is_read() {
    let site = site::parse("site.toml", GOOD).unwrap();
    assert_eq!(site.disk["web1-root"].size.unwrap().0, 21_474_836_480);
    let id: SlotId = "web1.disk0".parse().unwrap();
    let luns: Vec<_> = site.slot(&id).unwrap().luns().collect();
    assert_eq!(luns, [(LunAddress::new(0, 0), "web1-root"), (LunAddress::new(0, 3), "web1-data")]);
    let json = serde_json::to_string(&site).unwrap();
    let back: site::Site = serde_json::from_str(&json).unwrap();
    assert_eq!(site, back);
}

/// Each case: what is replaced in the good site, by what, and all that is said.
#[test]
fn every_mistake_is_explained() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "mtu = 9000",
            "mtuu = 9000",
            "error: unknown key `mtuu`
  where: site.toml:17:1
  hint: did you mean `mtu`? (known keys are mtu, flood_limit_pps, age_seconds, uplink)",
        ),
        (
            "[vm.web1.disk1]",
            "[vm.web1.disc1]",
            "error: unknown key `disc1`
  where: site.toml:25:10
  hint: did you mean `disk0`? (known keys are user, memory, cpus, disk0, nic0)",
        ),
        (
            "model = \"virtio-blk\"",
            "model = \"virtio-blck\"",
            "error: unknown model `virtio-blck`
  where: site.toml:26:9
  hint: did you mean `virtio-blk`? (models are virtio-scsi, virtio-blk, virtio-net, pvscsi, e1000, e1000-82545em, e1000e, vlance, flexible, am79c973, vmxnet3)",
        ),
        (
            "model = \"virtio-blk\"\n",
            "",
            "error: the key `model` is missing
  where: site.toml:25:1
  hint: add `model = …` to this table",
        ),
        (
            "volume = \"web1-blk\"",
            "volume = \"web1-root\"",
            "error: volume `web1-root` is used by two slots, web1.disk0 and web1.disk1
  where: site.toml:27:1 (vm.web1.disk1.volume)
  hint: two guests on one volume destroy its filesystem: take it out of one of them, make a second volume, or, if they have a cluster's filesystem, write `shared = true` at the volume",
        ),
        (
            "volume = \"web1-blk\"",
            "volume = \"web1-blc\"",
            "error: there is no volume `web1-blc`
  where: site.toml:27:1 (vm.web1.disk1.volume)
  hint: did you mean `web1-blk`? Otherwise add [disk.web1-blc]",
        ),
        (
            "network = \"lan\"",
            "network = \"wan2\"",
            "error: there is no network `wan2`
  where: site.toml:31:1 (vm.web1.nic0.network)
  hint: add [network.wan2]",
        ),
        (
            "store = \"local\"",
            "store = \"lokal\"",
            "error: there is no store `lokal`
  where: site.toml:8:1 (disk.web1-root.store)
  hint: did you mean `local`? Otherwise add [store.lokal]",
        ),
        (
            "size = \"20GiB\"\n",
            "",
            "error: volume `web1-root` has no size
  where: site.toml:7:7 (disk.web1-root)
  hint: add a size, such as `size = \"20GiB\"`; only a volume with `path` can go without",
        ),
        (
            "\"20GiB\"",
            "\"20 gigs\"",
            "error: `20 gigs` is not a size
  where: site.toml:9:8
  hint: write a whole number with a unit, such as \"512MiB\", \"20GiB\" or \"1TiB\", or plain bytes",
        ),
        (
            "size = 1048576",
            "size = 1000",
            "error: a size of 1000 bytes is not a whole number of blocks of 512 bytes
  where: site.toml:15:1 (disk.web1-blk.size)
  hint: write a multiple of 512, such as 1024",
        ),
        (
            "block_size = 4096",
            "block_size = 2048",
            "error: 2048 is not a block size
  where: site.toml:12:1 (disk.web1-data.block_size)
  hint: write 512 or 4096",
        ),
        (
            "path = \"/dev/sdb\"",
            "path = \"/var/lib/standpipe/volumes/web1-root.raw\"",
            "error: volumes `web1-data` and `web1-root` are both at /var/lib/standpipe/volumes/web1-root.raw
  where: site.toml:7:7 (disk.web1-root)
  hint: two volumes on one path destroy each other's data: give one another path, or remove it",
        ),
        (
            "path = \"/dev/sdb\"",
            "path = \"/dev/sdb\"\nstore = \"local\"",
            "error: volume `web1-data` says in more than one way where its bytes are
  where: site.toml:10:7 (disk.web1-data)
  hint: write one of `store = \"NAME\"`, `path = \"/dev/…\"` and `null = true`",
        ),
        (
            "native = 1",
            "native = 1\n[vm.web2.nic0]\nmodel = \"virtio-net\"\nnetwork = \"lan\"\nmac = \"52:54:00:00:00:01\"\n[vm.web3.nic0]\nmodel = \"virtio-net\"\nnetwork = \"lan\"\nmac = \"52:54:00:00:00:01\"",
            "error: slots web2.nic0 and web3.nic0 have the same MAC address 52:54:00:00:00:01
  where: site.toml:41:1 (vm.web3.nic0.mac)
  hint: give one of them another, or leave `mac` out and one is derived from the slot's name",
        ),
        (
            "trunk = [20, 10]",
            "vlan = 4095",
            "error: 4095 is not a VLAN
  where: site.toml:32:1 (vm.web1.nic0.vlan)
  hint: VLANs are 1 to 4094 (0 and 4095 are reserved by IEEE 802.1Q)
error: `native` is of use only with `trunk`
  where: site.toml:33:1 (vm.web1.nic0.native)
  hint: write `vlan` for the VLAN of a port without tags",
        ),
        (
            "lanes = 2",
            "lanes = \"two\"",
            "error: wrong type of value: string \"two\", expected u32
  where: site.toml:3:9
  hint: write text in quotes, numbers and true or false without",
        ),
        (
            "queues = 4",
            "queues = 70000",
            "error: value out of range: integer `70000`, expected u16
  where: site.toml:28:10
  hint: write a value in the range of this key",
        ),
        (
            "tap = \"sp-lan\"",
            "tap = \"a-name-too-long-for-linux\"",
            "error: \"a-name-too-long-for-linux\" cannot be the name of a network interface
  where: site.toml:19:1 (network.lan.uplink.host.tap)
  hint: use 1 to 15 characters without spaces, `/`, `:` and `%`",
        ),
        (
            "[store.local]",
            "[store.local",
            "error: unclosed table, expected `]`
  where: site.toml:5:13
  hint: mend the TOML here; strings need quotes, tables are [like.this]",
        ),
    ];
    let mut wrong = Vec::new();
    for (good, bad, said) in cases {
        assert_eq!(GOOD.matches(good).count(), 1, "{good}");
        let found = problems(&GOOD.replace(good, bad));
        if found != *said {
            wrong.push(found);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Emulated models take the keys of the virtio model in whose place they stand, and no others.
#[test]
fn keys_of_emulated_models_are_checked() {
    const EMULATED: &str = r#"
[disk.a]
null = true
size = "1MiB"
[disk.b]
null = true
size = "1MiB"
[network.lan]
[vm.old1.disk0]
model = "pvscsi"
volumes = { 0 = "a", 63 = "b" }
path = "non-optimized"
rom = "/rom/pvscsi.rom"
boot_index = 1
[vm.old1.nic0]
model = "MODEL"
network = "lan"
vlan = 10
mac = "00:50:56:00:00:01"
rom = "/rom/nic.rom"
boot_index = 2
"#;
    for model in ["e1000", "e1000-82545em", "e1000e", "vlance", "flexible", "am79c973", "vmxnet3"] {
        let text = EMULATED.replace("MODEL", model);
        let site = site::parse("site.toml", &text).unwrap();
        let id: SlotId = "old1.nic0".parse().unwrap();
        let Some(Device::Nic { rom: Some(rom), .. }) = site.slot_spec(&id).map(|spec| spec.device) else {
            panic!("{model} is no nic")
        };
        assert_eq!(rom, std::path::Path::new("/rom/nic.rom"));
        let model = site.slot(&id).unwrap().model;
        let json = serde_json::to_string(&model).unwrap();
        assert_eq!(json, format!("\"{model}\""));
        assert_eq!(site.slot_spec(&id).unwrap().device.model(), model);
        let json = serde_json::to_string(&site.slot_spec(&id).unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<SlotSpec>(&json).unwrap(), site.slot_spec(&id).unwrap());
    }
    for model in Model::ALL {
        assert_eq!(serde_json::to_string(&model).unwrap(), format!("\"{}\"", model.name()));
    }

    let vmxnet3 = EMULATED.replace("MODEL", "vmxnet3");
    for (slot, said, mapped) in [
        ("old1.nic0", "", false),
        ("old1.disk0", "", false),
        ("old1.nic0", "doorbells = \"mapped\"\n", true),
        ("old1.disk0", "doorbells = \"mapped\"\n", true),
    ] {
        let section = format!("[vm.{slot}]\n");
        let text = vmxnet3.replace(&section, &format!("{section}{said}"));
        let site = site::parse("", &format!("{text}[identity.port]\n\"old1.disk0\" = 1\n")).unwrap();
        let spec = site.slot_spec(&slot.parse().unwrap()).unwrap();
        assert_eq!(spec.device.maps_doorbells(), mapped, "{slot} {said}");
    }
    for (given, resolved) in [("", true), ("\nmsix = true", true), ("\nmsix = false", false)] {
        for at in ["path = \"non-optimized\"", "vlan = 10"] {
            let text = vmxnet3.replace(at, &format!("{at}{given}"));
            let mut site = site::parse("site.toml", &text).unwrap();
            site.identity.port.insert("old1.disk0".to_owned(), 1);
            let slot = if at == "vlan = 10" { "old1.nic0" } else { "old1.disk0" };
            let spec = site.slot_spec(&slot.parse().unwrap()).unwrap();
            assert_eq!(spec.device.msix(), resolved);
            let json = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<SlotSpec>(&json).unwrap(), spec);
        }
    }
    assert!(site::parse("", &vmxnet3.replace("vlan = 10", "vlan = 10\nqueues = 8")).is_ok());
    let cases = [
        (
            vmxnet3.replace("vlan = 10", "vlan = 10\nqueues = 9"),
            "error: 9 queues are out of range for a vmxnet3
  where: site.toml:19:1 (vm.old1.nic0.queues)
  hint: write 1 to 8; one per vCPU is plenty",
        ),
        (
            EMULATED.replace("MODEL", "vlance").replace("vlan = 10", "vlan = 10\nqueues = 2"),
            "error: the queues of a vlance cannot be chosen
  where: site.toml:19:1 (vm.old1.nic0.queues)
  hint: leave `queues` out",
        ),
        (
            EMULATED.replace("MODEL", "e1000").replace("network = \"lan\"\n", ""),
            "error: slot old1.nic0 has no network
  where: site.toml:15:10 (vm.old1.nic0)
  hint: add `network = \"NAME\"`",
        ),
        (
            EMULATED
                .replace("MODEL", "e1000")
                .replace("network = \"lan\"", "network = \"lan\"\nvolumes = []"),
            "error: `volumes` is not for an e1000
  where: site.toml:18:1 (vm.old1.nic0.volumes)
  hint: it takes `network`, `mac`, `vlan`, `trunk` and `native`",
        ),
        (
            EMULATED.replace("MODEL", "virtio-net"),
            "error: `rom` is not for a virtio-net
  where: site.toml:20:1 (vm.old1.nic0.rom)
  hint: QEMU itself gives its own devices their ROM: use its `romfile`",
        ),
        (
            EMULATED.replace("MODEL", "e1000").replace("rom = \"/rom/nic.rom\"", "doorbells = \"mapped\""),
            "error: `doorbells` is not for an e1000
  where: site.toml:20:1 (vm.old1.nic0.doorbells)
  hint: leave it out: only vmxnet3 and pvscsi have pages with nothing but doorbells",
        ),
        (
            EMULATED.replace("MODEL", "vlance").replace("vlan = 10", "msix = false"),
            "error: `msix` is not for a vlance
  where: site.toml:18:1 (vm.old1.nic0.msix)
  hint: it is for e1000e, vmxnet3 and pvscsi: leave it out",
        ),
        (
            vmxnet3.replace("vlan = 10", "vlan = 10\nqueues = 2\nmsix = false"),
            "error: 2 queues want MSI-X, which `msix = false` takes away
  where: site.toml:19:1 (vm.old1.nic0.queues)
  hint: leave one of the two out: by MSI or INTx there is one queue",
        ),
        (
            vmxnet3.replace("/rom/nic.rom", "nic.rom"),
            "error: `nic.rom` is not an absolute path
  where: site.toml:20:1 (vm.old1.nic0.rom)
  hint: the daemon has no current directory: write the whole path from `/`, without `..`",
        ),
        (
            vmxnet3.replace("63 = \"b\"", "64 = \"b\""),
            "error: a pvscsi has no place for number 64
  where: site.toml:11:1 (vm.old1.disk0.volumes)
  hint: write 0 to 63, and add another slot for more volumes",
        ),
        (
            vmxnet3.replace("path = \"non-optimized\"", "network = \"lan\""),
            "error: `network` is not for a pvscsi
  where: site.toml:12:1 (vm.old1.disk0.network)
  hint: write `volumes = [\"NAME\"]`",
        ),
        (
            vmxnet3.replace("boot_index = 2", "boot_index = 1"),
            "error: slots `disk0` and `nic0` have the same place 1 in the boot order
  where: site.toml:21:1 (vm.old1.nic0.boot_index)
  hint: QEMU refuses that: give each its own, or leave `boot_index` out of one",
        ),
        (
            vmxnet3.replace("boot_index = 2", "boot_index = 0"),
            "error: the boot order begins with 1
  where: site.toml:21:1 (vm.old1.nic0.boot_index)
  hint: write 1 for what is tried first",
        ),
        (
            vmxnet3.replace("[vm.old1.nic0]", "[vm.old1.disk1]"),
            "error: a vmxnet3 cannot be in a slot named `disk1`
  where: site.toml:15:10 (vm.old1.disk1)
  hint: name it nic0, nic1, …",
        ),
    ];
    for (text, said) in cases {
        assert_eq!(problems(&text), said);
    }
}

#[test]
fn all_problems_are_told_in_the_order_of_the_file() {
    let text = GOOD
        .replace("lanes = 2", "lanes = 0")
        .replace("mtu = 9000", "mtu = 67")
        .replace("queues = 4", "queues = 65");
    let said = problems(&text);
    let places: Vec<&str> = said.lines().filter(|l| l.starts_with("  where")).collect();
    assert_eq!(
        places,
        [
            "  where: site.toml:3:1 (server.lanes)",
            "  where: site.toml:17:1 (network.lan.mtu)",
            "  where: site.toml:28:1 (vm.web1.disk1.queues)",
        ]
    );
}

#[test]
fn sizes() {
    let good = [
        ("512MiB", 536_870_912),
        ("20GiB", 21_474_836_480),
        ("1TiB", 1_099_511_627_776),
        ("4k", 4096),
        ("1 GiB", 1_073_741_824),
        ("1048576", 1_048_576),
        ("0", 0),
    ];
    for (text, bytes) in good {
        assert_eq!(text.parse::<Size>().unwrap().0, bytes, "{text}");
    }
    for text in ["", "GiB", "1.5GiB", "-1", "1GB", "16EiB", "9999999PiB", "18446744073709551616"] {
        assert!(text.parse::<Size>().is_err(), "{text}");
    }
    assert_eq!(Size(21_474_836_480).to_string(), "20GiB");
    assert_eq!(Size(1536).to_string(), "1536");
    assert_eq!(Size(0).to_string(), "0");
}

#[test]
fn derived_addresses_are_stable_and_local() {
    // These were computed apart, in Python, from the FNV-1a definition.
    let golden = [("web1", "nic0", "ee:5f:83:11:a5:39"), ("web1", "nic1", "f2:5f:83:11:a7:8a")];
    for (vm, slot, address) in golden {
        assert_eq!(Mac::derived(vm, slot).to_string(), address);
    }
    let mut seen = std::collections::BTreeSet::new();
    for vm in 0..256 {
        for slot in 0..4 {
            let mac = Mac::derived(&format!("vm{vm}"), &format!("nic{slot}"));
            assert_eq!(mac.0[0] & 3, 2, "locally administered unicast");
            assert!(seen.insert(mac));
        }
    }
}

#[test]
fn names_for_scsi() {
    let all = Naa::from_random([0xff; 16]);
    assert_eq!(all.to_string(), "6fefffffffffffffffffffffffffffff");
    let none = Naa::from_random([0; 16]);
    assert_eq!(none.to_string(), "60200000000000000000000000000000");
    assert_eq!(none.serial(), "0000000000000000");
    assert_eq!("naa.60200000000000000000000000000000".parse(), Ok(none));
    assert!("50200000000000000000000000000000".parse::<Naa>().is_err());
    assert!("6020".parse::<Naa>().is_err());
}

#[test]
fn a_missing_file_is_named() {
    let problem = site::read(std::path::Path::new("/nonexistent/site.toml")).unwrap_err();
    assert_eq!(
        problem.to_string(),
        "error: cannot read the file: No such file or directory (os error 2)
  where: /nonexistent/site.toml
  hint: check the path; it is looked up from the current directory"
    );
}
