//! Descriptions in the forms in which VMware's ovftool and VirtualBox write them, and one of OVF 2.

use standpipe_appliance::ovf::{self, Bus, Envelope, Firmware, Medium};

const ESXI: &str = include_str!("packages/esxi.ovf");
const ESXI8: &str = include_str!("packages/esxi8.ovf");
const VIRTUALBOX: &str = include_str!("packages/virtualbox.ovf");
const PAIR: &str = include_str!("packages/pair.ovf");

fn disks(envelope: &Envelope, machine: usize, controller: usize) -> Vec<(Option<u32>, Medium)> {
    let controller = &envelope.machines[machine].controllers[controller];
    controller.drives.iter().map(|drive| (drive.address, drive.medium.clone())).collect()
}

#[test]
fn vmware() {
    let envelope = ovf::parse(ESXI, None).unwrap();
    assert_eq!(envelope.files["file1"].href, "old app-disk1.vmdk");
    assert_eq!(envelope.disks["vmdisk1"].capacity, Some(8 << 20));
    assert_eq!(envelope.disks["vmdisk2"].capacity, Some(2 << 30));
    assert_eq!(envelope.disks["vmdisk2"].file, None);
    let [machine] = envelope.machines.as_slice() else { panic!("{:?}", envelope.machines) };
    assert_eq!(machine.name.as_deref(), Some("Old App"));
    assert_eq!(machine.system.as_deref(), Some("Debian GNU/Linux 10 (64-bit)"));
    assert_eq!((machine.cpus, machine.memory), (Some(2), Some(4 << 30)));
    assert_eq!(machine.firmware, Firmware::Bios);
    let buses: Vec<&Bus> = machine.controllers.iter().map(|controller| &controller.bus).collect();
    assert_eq!(buses, [&Bus::Pvscsi, &Bus::Ide]);
    let disk = |id: &str| Medium::Disk(id.into());
    assert_eq!(disks(&envelope, 0, 0), [(Some(0), disk("vmdisk1")), (Some(1), disk("vmdisk2"))]);
    assert_eq!(disks(&envelope, 0, 1), [(Some(0), Medium::Cd(Some("file2".into())))]);
    let nics: Vec<(&str, Option<&str>)> =
        machine.nics.iter().map(|nic| (nic.adapters[0].as_str(), nic.mac.as_deref())).collect();
    assert_eq!(nics, [("VmxNet3", None), ("E1000", Some("00:50:56:9a:00:17"))]);
    assert_eq!(machine.left_out, ["Floppy 1 (vmware.floppy.remotedevice) (floppy drive)"]);
}

/// As large as machines are in practice: the bounds are far away.
#[test]
fn a_large_machine_of_vmwares() {
    assert!(16 * ESXI8.len() as u64 <= ovf::DESCRIPTION_MAX_BYTES);
    let envelope = ovf::parse(ESXI8, None).unwrap();
    assert_eq!((envelope.files.len(), envelope.disks.len()), (47, 45));
    let [machine] = envelope.machines.as_slice() else { panic!("{:?}", envelope.machines) };
    assert_eq!((machine.cpus, machine.memory), (Some(32), Some(256 << 30)));
    assert_eq!((machine.firmware, machine.secure_boot), (Firmware::Efi, true));
    let drives: Vec<(&Bus, usize)> =
        machine.controllers.iter().map(|one| (&one.bus, one.drives.len())).collect();
    let pvscsi = |count| (&Bus::Pvscsi, count);
    let others = [(&Bus::Sata, 1), (&Bus::Ide, 0), (&Bus::Ide, 0)];
    assert_eq!(drives, [&[pvscsi(12), pvscsi(12), pvscsi(12), pvscsi(9)][..], &others[..]].concat());
    let addresses: Vec<Option<u32>> =
        disks(&envelope, 0, 0).into_iter().map(|(address, _)| address).collect();
    assert_eq!(addresses, [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12].map(Some));
    assert_eq!(machine.nics.len(), 6);
    assert_eq!(machine.nics[2].network.as_deref(), Some("DPG-vMotion & Co"));
    assert_eq!(machine.boot, ["14", "60", "13"]);
    assert_eq!(
        machine.left_out,
        ["USB xHCI controller (vmware.usb.xhci)", "Floppy 1 (vmware.floppy.remotedevice) (floppy drive)"]
    );
}

#[test]
fn virtualbox() {
    let envelope = ovf::parse(VIRTUALBOX, None).unwrap();
    let [machine] = envelope.machines.as_slice() else { panic!("{:?}", envelope.machines) };
    assert_eq!((machine.cpus, machine.memory), (Some(1), Some(1 << 30)));
    assert_eq!(machine.hypervisor.as_deref(), Some("virtualbox-2.2"));
    assert_eq!(machine.firmware, Firmware::Efi);
    let buses: Vec<&Bus> = machine.controllers.iter().map(|controller| &controller.bus).collect();
    assert_eq!(buses, [&Bus::Ide, &Bus::Sata]);
    assert_eq!(disks(&envelope, 0, 0), [(Some(0), Medium::Cd(None))]);
    assert_eq!(disks(&envelope, 0, 1), [(Some(0), Medium::Disk("vmdisk1".into()))]);
    assert_eq!(machine.nics[0].mac.as_deref(), Some("080027C0FFEE"));
    assert_eq!(machine.left_out, ["usb", "sound (ensoniq1371)"]);
}

#[test]
fn two_machines_in_two_sizes() {
    let large = ovf::parse(PAIR, None).unwrap();
    assert_eq!(large.configuration.as_deref(), Some("large"));
    let [web, db] = large.machines.as_slice() else { panic!("{:?}", large.machines) };
    assert_eq!((web.cpus, web.memory), (Some(8), Some(16 << 30)));
    assert_eq!(web.controllers[0].bus, Bus::Pvscsi, "what can be served comes first");
    assert_eq!(disks(&large, 0, 0), [(Some(2), Medium::Disk("d1".into()))]);
    assert_eq!(web.nics[0].adapters, ["PCNet32", "E1000"]);
    assert_eq!(web.boot, ["5", "4"]);
    assert!(web.left_out[0].starts_with("1 properties"), "{:?}", web.left_out);
    assert_eq!(db.controllers[0].bus, Bus::Nvme);
    assert_eq!((db.firmware, db.secure_boot), (Firmware::Efi, true));
    assert_eq!(db.boot, ["3", "2"]);
    assert_eq!(
        db.left_out,
        ["another boot order (Repair): the first of the package was taken", "A stick of its boot order"]
    );
    assert_eq!((large.files["f1"].chunk, large.files["f2"].gzip), (Some(1536), true));
    assert_eq!((large.disks["d1"].capacity, large.disks["d3"].capacity), (Some(4096), None));

    let small = ovf::parse(PAIR, Some("small")).unwrap();
    assert_eq!((small.machines[0].cpus, small.machines[0].memory), (Some(1), Some(2 << 30)));
    let fault = ovf::parse(PAIR, Some("huge")).unwrap_err();
    assert_eq!(fault.to_string(), "the package has no configuration `huge` (it has small, large)");
}

/// DSP0243, BootDeviceSection: devices by their instance, and kinds of devices, all or one of them.
#[test]
fn boot_devices() {
    let boot = |sources: &[(&str, &str)]| {
        let source = |(tag, value): &(&str, &str)| {
            format!("<CIM_BootSourceSetting><{tag}>{value}</{tag}></CIM_BootSourceSetting>")
        };
        let sources: String = sources.iter().map(source).collect();
        let section = format!(
            "<BootDeviceSection><CIM_BootConfigSetting>{sources}</CIM_BootConfigSetting></BootDeviceSection>"
        );
        let text = ESXI.replace("<AnnotationSection", &format!("{section}<AnnotationSection"));
        let machine = ovf::parse(&text, None).unwrap().machines.remove(0);
        // The floppy drive comes before what is of the boot order.
        (machine.boot, machine.left_out[1..].to_vec())
    };
    let (id, kind) = ("InstanceID", "StructuredBootString");
    let order = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<String>>();
    assert_eq!(boot(&[]), (order(&[]), order(&[])));
    assert_eq!(boot(&[(id, "12"), (kind, "CIM:Hard-Disk")]).0, ["12", "9"]);
    assert_eq!(boot(&[(kind, "CIM:CD/DVD:1"), (kind, "CIM:Hard-Disk:2"), (id, "13")]).0, ["8", "12", "13"]);
    assert_eq!(boot(&[(kind, "CIM:Network"), (kind, "CIM:Network:1")]).0, ["11", "13"]);
    let nowhere = ["CIM:Network:3", "CIM:Network:0", "CIM:Network:x", "CIM:Floppy", "CIM", ""];
    let (found, left_out) = boot(&nowhere.map(|source| (kind, source)));
    assert_eq!((found.len(), left_out.len()), (0, nowhere.len()));
    // A controller is no device to boot from.
    assert_eq!(boot(&[(id, "3")]), (order(&[]), order(&["3 of its boot order"])));
}

#[test]
fn what_is_wrong_is_told() {
    let fault = |from: &str, to: &str| {
        assert!(ESXI.contains(from), "{from}");
        ovf::parse(&ESXI.replace(from, to), None).unwrap_err().to_string()
    };
    for (from, to, said) in [
        ("<Envelope", "<!DOCTYPE a [<!ENTITY b \"c\">]><Envelope", "not XML that can be read: XML with DTD"),
        ("/ovf/envelope/1", "/ovf/envelope/9", "is no OVF 1 or 2"),
        ("<VirtualSystem ovf:id=\"Old App\">", "<VirtualSystem ovf:id=\"Old App\"><Name>", "not XML"),
        ("ovf:/disk/vmdisk2", "ovf:/disk/vmdisk3", "there is no disk `vmdisk3`"),
        ("ovf:/file/file2", "ovf:/file/file9", "there is no file `file9`"),
        (
            "<rasd:Parent>3</rasd:Parent>",
            "<rasd:Parent>33</rasd:Parent>",
            "a controller that is not there (Parent 33)",
        ),
        ("ovf:diskId=\"vmdisk2\"", "ovf:diskId=\"vmdisk1\"", "two disks have the id `vmdisk1`"),
        ("ovf:capacity=\"8\"", "ovf:capacity=\"8\" ovf:parentRef=\"vmdisk2\"", "a difference to another"),
        ("ovf:capacity=\"8\"", "ovf:capacity=\"18446744073709551615\"", "has a capacity of"),
        ("2^30", "2^99", "has a capacity of"),
        (
            "ovf:href=\"old app-disk1.vmdk\"",
            "ovf:compression=\"bzip2\" ovf:href=\"a\"",
            "compressed by `bzip2`",
        ),
        ("<rasd:VirtualQuantity>2<", "<rasd:VirtualQuantity>0<", "so many CPUs"),
        ("<rasd:InstanceID>12<", "<rasd:InstanceID>9<", "two devices have the instance 9"),
    ] {
        let found = fault(from, to);
        assert!(found.contains(said), "{found}");
    }
}

/// The parser's time would grow with the third power of these, or the second.
#[test]
fn crowds_do_no_harm() {
    let deep: String = (0..1000).map(|n| format!("<a xmlns:n{n}=\"u{n}\">")).collect();
    let fault = ovf::parse(&format!("{deep}{}", "</a>".repeat(1000)), None).unwrap_err();
    assert!(fault.what.contains("more namespaces"), "{fault}");
    let wide: String = (0..300).map(|n| format!(" a{n}='>'")).collect();
    let fault = ovf::parse(&format!("<!-- don't --><a{wide}/>"), None).unwrap_err();
    assert!(fault.what.contains("more attributes"), "{fault}");
    // Quotes in a text are no attributes.
    let text = format!("<VirtualSystem ovf:id=\"Old App\"><Info>{}</Info>", "\"'".repeat(1000));
    ovf::parse(&ESXI.replace("<VirtualSystem ovf:id=\"Old App\">", &text), None).unwrap();
    let devices = (0..1100).map(|n| {
        format!(
            "<Item><rasd:InstanceID>x{n}</rasd:InstanceID><rasd:ResourceType>24</rasd:ResourceType></Item>"
        )
    });
    let from = "<VirtualHardwareSection>";
    let text = ESXI.replace(from, &format!("{from}{}", devices.collect::<String>()));
    let fault = ovf::parse(&text, None).unwrap_err();
    assert_eq!(fault.what, "a machine has more than 1024 devices");
}

/// A tree of elements as deep as the file is long.
#[test]
fn depth_does_no_harm() {
    let deep = 200_000;
    let text = format!("{}{}", "<a>".repeat(deep), "</a>".repeat(deep));
    assert!(ovf::parse(&text, None).unwrap_err().what.contains("no OVF 1 or 2"));
    let open = "<a>".repeat(deep);
    assert!(ovf::parse(&open, None).is_err());
}
