//! Where a controller has its volumes: targets and LUNs, in files, over the API, on the command line.

use crate::api::Daemon;
use crate::cli::{bad, good, run};
use standpipe_control::site::{self, LunAddress, Site, SlotId};
use standpipe_control::step::{SlotSpec, Step};

const SITE: &str = r#"
[disk.a]
null = true
size = "1MiB"
[disk.b]
null = true
size = "1MiB"
[disk.c]
null = true
size = "1MiB"
[vm.web1.disk0]
model = "virtio-scsi"
volumes = { 3 = "a", "1:0" = "b", "255:16383" = "c" }
"#;

fn id() -> SlotId {
    "web1.disk0".parse().unwrap()
}

#[test]
fn a_site_names_targets_and_luns() {
    let read = site::parse("site.toml", SITE).unwrap();
    let luns: Vec<_> = read.slot(&id()).unwrap().luns().collect();
    let at = LunAddress::new;
    assert_eq!(luns, [(at(0, 3), "a"), (at(1, 0), "b"), (at(255, 16_383), "c")]);

    // As it is kept and answered: target 0 as it always was.
    let json = serde_json::to_value(&read).unwrap();
    let volumes = &json["vm"]["web1"]["disk0"]["volumes"];
    assert_eq!(*volumes, serde_json::json!({ "3": "a", "1:0": "b", "255:16383": "c" }));
    assert_eq!(serde_json::from_value::<Site>(json).unwrap(), read);

    let mut named = read.clone();
    named.assign_identities(&Site::default(), || Ok(site::Naa([1; 16]))).unwrap();
    let spec = named.slot_spec(&id()).unwrap();
    let json = serde_json::to_value(&spec).unwrap();
    assert_eq!(
        json["device"]["virtio-scsi"]["luns"],
        serde_json::json!([
            { "lun": 3, "volume": "a" },
            { "lun": "1:0", "volume": "b" },
            { "lun": "255:16383", "volume": "c" },
        ])
    );
    assert_eq!(serde_json::from_value::<SlotSpec>(json).unwrap(), spec);

    // A list is of target 0.
    let list = SITE.replace("{ 3 = \"a\", \"1:0\" = \"b\", \"255:16383\" = \"c\" }", "[\"b\", \"a\"]");
    let read = site::parse("site.toml", &list).unwrap();
    let luns: Vec<_> = read.slot(&id()).unwrap().luns().collect();
    assert_eq!(luns, [(at(0, 0), "b"), (at(0, 1), "a")]);
}

#[test]
fn steps_of_earlier_releases_are_read() {
    let kept = r#"{"attach-lun":{"slot":"web1.disk0","lun":3,"volume":"a"}}"#;
    let step: Step = serde_json::from_str(kept).unwrap();
    assert_eq!(step, Step::AttachLun { slot: id(), lun: LunAddress::new(0, 3), volume: "a".to_owned() });
    assert_eq!(serde_json::to_string(&step).unwrap(), kept);
    let new = r#"{"detach-lun":{"slot":"web1.disk0","lun":"7:5"}}"#;
    let step: Step = serde_json::from_str(new).unwrap();
    assert_eq!(step.to_string(), "detach LUN 7:5 of web1.disk0");
    assert_eq!(serde_json::to_string(&step).unwrap(), new);
    for wrong in ["-1", "16384", "\"256:0\"", "\"1:16384\"", "\"1:2:3\"", "\":1\"", "\"1:\"", "1.5"] {
        let text = format!(r#"{{"detach-lun":{{"slot":"web1.disk0","lun":{wrong}}}}}"#);
        assert!(serde_json::from_str::<Step>(&text).is_err(), "{wrong}");
    }
}

/// Each case: what is replaced in the good site, by what, and all that is said.
#[test]
fn wrong_places_are_explained() {
    let target = "[portal.p]\nlisten = \"192.0.2.1\"\n[target.t]\niqn = \"iqn.2026-11.org.example:t\"\nportals = [\"p\"]\nopen = true\nluns = { \"1:0\" = \"a\" }\n[vm.web1.disk0]";
    let cases = [
        (
            "\"1:0\"",
            "\"256:0\"",
            "error: `256:0` is not a LUN
  where: site.toml:13:11
  hint: write 0 to 16383, or TARGET:LUN with a target from 0 to 255, such as \"1:0\"",
        ),
        (
            "\"1:0\"",
            "\"1:16384\"",
            "error: `1:16384` is not a LUN
  where: site.toml:13:11
  hint: write 0 to 16383, or TARGET:LUN with a target from 0 to 255, such as \"1:0\"",
        ),
        (
            "\"1:0\"",
            "\"0:3\"",
            "error: LUN 3 is given twice\n  where: site.toml:13:11\n  hint: remove one of the two",
        ),
        (
            "virtio-scsi",
            "pvscsi",
            "error: a pvscsi has no place for `1:0`
  where: site.toml:13:1 (vm.web1.disk0.volumes)
  hint: its numbers are targets, each with LUN 0 only: write `1`",
        ),
        (
            "[vm.web1.disk0]",
            target,
            "error: `1:0` names a target of a controller, and an iSCSI target is one itself
  where: site.toml:17:8
  hint: write a LUN, 0 to 16383",
        ),
    ];
    for (from, to, said) in cases {
        let text = SITE.replace(from, to);
        let problem = site::parse("site.toml", &text).unwrap_err().to_string();
        assert_eq!(problem, said, "{to}");
    }
}

#[test]
fn a_slot_has_an_end() {
    let volumes: String = (0..16_385).map(|at| format!("\"{}:{}\" = \"a\"\n", at % 256, at / 256)).collect();
    let text = SITE.replace(
        "volumes = { 3 = \"a\", \"1:0\" = \"b\", \"255:16383\" = \"c\" }",
        "[vm.web1.disk0.volumes]\n",
    ) + &volumes;
    let problem = site::parse("site.toml", &text).unwrap_err().to_string();
    let said = "16385 volumes are too many for one slot, which takes 16384";
    assert!(problem.contains(said), "{}", &problem[problem.len() - 400..]);
}

#[test]
fn volumes_come_and_go_at_other_targets() {
    let daemon = Daemon::with_site();
    let attached = good(&daemon, "disk attach web1.disk0 spare --lun 7:5");
    assert_eq!(attached, "attach volume spare to web1.disk0 as LUN 7:5\n");
    let show = good(&daemon, "vm show web1");
    assert!(show.contains("virtio-scsi 0=root 7:5=spare"), "{show}");
    let json: serde_json::Value = serde_json::from_str(&good(&daemon, "vm show web1 --json")).unwrap();
    assert!(json.to_string().contains(r#"{"lun":"7:5","volume":"spare"}"#), "{json}");
    // Twice is as good as once; another volume is not.
    assert_eq!(good(&daemon, "disk attach web1.disk0 spare --lun 7:5"), "nothing to do\n");
    good(&daemon, "disk create more --null --size 1MiB");
    assert_eq!(
        bad(&daemon, "disk attach web1.disk0 more --lun 7:5"),
        "error: LUN 7:5 of web1.disk0 is volume `spare`
  where: web1.disk0
  hint: choose another --lun, or leave it out and the first free one is taken\n"
    );
    // The same number of another target is free, and the first that is free is of target 0.
    let attached = good(&daemon, "disk attach web1.disk0 more");
    assert_eq!(attached, "attach volume more to web1.disk0 as LUN 1\n");
    assert_eq!(good(&daemon, "disk detach web1.disk0 spare"), "detach LUN 7:5 of web1.disk0\n");
    let (code, _, said) = run(&daemon, "disk attach web1.disk0 spare --lun 256:0");
    assert_eq!(code, 2);
    assert!(said.contains("`256:0` is not a LUN; write 0 to 16383, or TARGET:LUN"), "{said}");
}
