//! A VM that comes from VMware: its disks by `qemu-img`, its package by `tar`, and its guest boots from them
//! as it is.

use crate::cases::disk::no_errors;
use crate::cases::net::{ONE, OTHER, address, reach};
use crate::guest::{Guest, Start};
use crate::load::VerifiedWrites;
use crate::place::{in_tree, repository};
use crate::site::MIB;
use crate::world::{Bench, World};
use crate::{During, Result, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

/// Firmware, boot loader and kernel, all of them emulated.
const BOOT_MAX: Duration = Duration::from_secs(600);
const STEP_MAX: Duration = Duration::from_secs(300);
const DATA_MIB: u64 = 48;
const MAC: &str = "00:50:56:5d:00:01";

/// The live CD of the tests with a master boot record, as a disk: isolinux starts from it, and the
/// initramfs finds its root on a SCSI disk. `xorriso` and the initramfs's own tools make it.
const HYBRID: &str = r#"set -e
cd "$1"; cd_image=$2; early_init=$3
xorriso -osirrox on -indev "$cd_image" -extract / root >xorriso.log 2>&1
chmod -R u+w root
release=$(ls root/lib/modules)
mkdir -p over/lib/modules/"$release"
cpio --quiet -i --to-stdout modules.list <root/isolinux/initrd >over/modules.list
modprobe -d "$PWD/root" -S "$release" --show-depends sd_mod | awk '$1 == "insmod" { print $2 }' | while read -r file; do
  cp "$file" over/lib/modules/"$release"/
  basename "$file" >>over/modules.list
done
# The kernel looks at disks side by side, and calls them by who is first.
sed 's|mount -t iso9660 -o ro /dev/sr0 /root|mount -t iso9660 -o ro /dev/sda /root 2>/dev/null \|\| mount -t iso9660 -o ro /dev/sdb /root|' "$early_init" >over/init
grep -q /dev/sdb over/init
chmod 755 over/init
(cd over && find . | cpio --quiet -o -H newc) >>root/isolinux/initrd
rm -f root/isolinux/boot.cat
xorriso -as mkisofs -quiet -R -V STANDPIPE -isohybrid-mbr /usr/lib/ISOLINUX/isohdpfx.bin \
  -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table -o system.raw root
rm -rf root over
"#;

/// Text, noise and nothing, of which no two MiB are the same.
const DATA: &str = r#"set -e
cd "$1"
truncate -s 48M data.raw
seq 1 400000 | dd of=data.raw conv=notrunc bs=1M seek=3 2>/dev/null
head -c 5000001 /dev/urandom | dd of=data.raw conv=notrunc bs=64k seek=333 2>/dev/null
echo the end | dd of=data.raw conv=notrunc bs=512 seek=98303 2>/dev/null
for disk in system data; do
  qemu-img convert -f raw -O vmdk -o subformat=streamOptimized,adapter_type=lsilogic $disk.raw app-$disk.vmdk
done
sha256sum app.ovf app-system.vmdk app-data.vmdk | awk '{ printf "SHA256(%s)= %s\n", $2, $1 }' >app.mf
tar -c --format=ustar -f app.ova app.ovf app.mf app-system.vmdk app-data.vmdk
rm system.raw
"#;

const FORMS: [&str; 5] =
    ["streamOptimized", "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"];

fn item(fields: &[(&str, &str)]) -> String {
    let fields: String =
        fields.iter().map(|(name, value)| format!("<rasd:{name}>{value}</rasd:{name}>")).collect();
    format!("<Item>{fields}</Item>\n")
}

/// In the form of VMware's ovftool.
fn ovf(system_bytes: u64) -> String {
    let disk = |number: &str, instance: &str| {
        item(&[
            ("AddressOnParent", number),
            ("ElementName", &format!("Hard Disk {number}")),
            ("HostResource", &format!("ovf:/disk/vmdisk{number}")),
            ("InstanceID", instance),
            ("Parent", "3"),
            ("ResourceType", "17"),
        ])
    };
    let items = [
        item(&[("InstanceID", "1"), ("ResourceType", "3"), ("VirtualQuantity", "1")]),
        item(&[
            ("AllocationUnits", "byte * 2^20"),
            ("InstanceID", "2"),
            ("ResourceType", "4"),
            ("VirtualQuantity", "256"),
        ]),
        item(&[
            ("Address", "0"),
            ("ElementName", "SCSI Controller 0"),
            ("InstanceID", "3"),
            ("ResourceSubType", "VirtualSCSI"),
            ("ResourceType", "6"),
        ]),
        disk("1", "5"),
        disk("0", "4"),
        item(&[
            ("AddressOnParent", "7"),
            ("Connection", "VM Network"),
            ("ElementName", "Ethernet 1"),
            ("InstanceID", "6"),
            ("ResourceSubType", "VmxNet3"),
            ("ResourceType", "10"),
        ]),
    ];
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
<References><File ovf:href="app-system.vmdk" ovf:id="file1"/><File ovf:href="app-data.vmdk" ovf:id="file2"/></References>
<DiskSection><Info>Virtual disk information</Info>
<Disk ovf:capacity="{system_bytes}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk0" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
<Disk ovf:capacity="{DATA_MIB}" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="vmdisk1" ovf:fileRef="file2" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
</DiskSection>
<NetworkSection><Info>The list of logical networks</Info><Network ovf:name="VM Network"><Description/></Network></NetworkSection>
<VirtualSystem ovf:id="vm"><Info>A virtual machine</Info><Name>Web 1</Name>
<OperatingSystemSection ovf:id="96"><Info/><Description>Debian GNU/Linux (64-bit)</Description></OperatingSystemSection>
<VirtualHardwareSection><Info>Virtual hardware requirements</Info>
<System><vssd:ElementName>Virtual Hardware Family</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID><vssd:VirtualSystemType>vmx-19</vssd:VirtualSystemType></System>
{}<vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="bios"/>
</VirtualHardwareSection></VirtualSystem></Envelope>
"#,
        items.concat()
    )
}

fn script(text: &str, arguments: &[&Path]) -> Result<()> {
    let output =
        in_tree("bash").args(["-c", text, "import"]).args(arguments).output().during("starting a shell")?;
    ensure!(
        output.status.success(),
        "making the package: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// QEMU's reader of VMDK finds the same bytes in its file as there are in ours.
fn same(ours: &Path, theirs: &Path) -> Result<()> {
    let output = in_tree("qemu-img")
        // The server has its lock on the volume.
        .args(["compare", "--image-opts"])
        .arg(format!("driver=raw,file.driver=file,file.locking=off,file.filename={}", ours.display()))
        .arg(format!("driver=vmdk,file.driver=file,file.filename={}", theirs.display()))
        .output()
        .during("starting qemu-img")?;
    ensure!(
        output.status.success(),
        "{} and {}: {}{}",
        ours.display(),
        theirs.display(),
        String::from_utf8_lossy(&output.stdout).trim(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

pub fn import(bench: &Bench) -> Result<String> {
    let world = World::open(bench, "import", |site| {
        site.volume("spare", DATA_MIB).network("lan", 1500, None).nic("web2", "nic0", "lan", 2, 1)
    })?;
    let folder = world.scratch.files.join("appliance");
    std::fs::create_dir_all(&folder).during("creating the package's folder")?;
    script(HYBRID, &[&folder, &bench.image.cd, &repository().join("guests/guest/early-init")])?;
    let system_bytes = std::fs::metadata(folder.join("system.raw")).during("reading the disk's size")?.len();
    std::fs::write(folder.join("app.ovf"), ovf(system_bytes)).during("writing the description")?;
    script(DATA, &[&folder])?;

    let ova = folder.join("app.ova").to_string_lossy().into_owned();
    let server = world.server();
    let mac = format!("nic0={MAC}");
    let line = ["vm", "import", &ova, "--network", "lan", "--name", "web1", "--mac", &mac];
    let would = server.cli(&[&line[..], &["--dry-run"]].concat())?;
    ensure!(would.starts_with("would make VM web1"), "a dry run says: {would}");
    ensure!(server.qemu_args("web1", 256).is_err(), "a dry run has made a VM");
    let started = Instant::now();
    let made = server.cli(&line)?;
    let imported = started.elapsed().as_secs_f64();
    ensure!(!made.contains("note:"), "the import says: {made}");
    // Volumes are numbered in the order of their addresses, and not in that of the description.
    for (volume, disk) in [("web1-disk0", "app-system"), ("web1-disk1", "app-data")] {
        same(&world.site.file(volume), &folder.join(format!("{disk}.vmdk")))?;
    }
    let allocated = world.allocated("web1-disk1")?;
    ensure!(allocated < 12 * MIB, "a disk with 8 MiB of data takes {allocated} bytes");

    // Every other form in which a disk comes, into a volume that is there.
    let raw = folder.join("data.raw").to_string_lossy().into_owned();
    for form in FORMS {
        let file = folder.join(format!("{form}.vmdk"));
        let output = in_tree("qemu-img")
            .args(["convert", "-f", "raw", "-O", "vmdk", "-o", &format!("subformat={form}"), &raw])
            .arg(&file)
            .output()
            .during("starting qemu-img")?;
        ensure!(output.status.success(), "qemu-img: {}", String::from_utf8_lossy(&output.stderr).trim());
        server.cli(&["disk", "import", "spare", &file.to_string_lossy()]).during(form)?;
        same(&world.site.file("spare"), &file).during(form)?;
    }

    let mut spec = world.spec("web1")?;
    spec.start = Start::Bios;
    let started = Instant::now();
    let guest = Guest::start(&bench.image, spec)?;
    let other = world.start("web2")?;
    guest.wait_boots(1, BOOT_MAX)?;
    let up = started.elapsed().as_secs_f64();
    other.wait_ready()?;
    let worker = world.worker()?;
    // Disks are where they were at their controller: targets 0 and 1.
    let disks =
        guest.check("cd /sys/bus/scsi/devices; basename *:0:0:0/block/*; basename *:0:1:0/block/*")?;
    let disks: Vec<&str> = disks.lines().collect();
    ensure!(disks.len() == 2, "the disks are {disks:?}");
    let (system, data) = (format!("/dev/{}", disks[0]), format!("/dev/{}", disks[1]));
    let root = guest.check("mount | grep ' / '")?;
    ensure!(root.contains(&system) && root.contains("iso9660"), "the root is: {root}");
    let hosts = guest.check("cat /sys/class/scsi_host/host*/proc_name; test ! -e /dev/nvme0")?;
    ensure!(hosts.trim() == "vmw_pvscsi", "the drivers of SCSI hosts are: {hosts}");
    let nic = guest
        .check("basename $(readlink /sys/class/net/eth0/device/driver); cat /sys/class/net/eth0/address")?;
    ensure!(nic == format!("vmxnet3\n{MAC}\n"), "the NIC is: {nic}");
    address(&guest, ONE, 1500)?;
    address(&other, OTHER, 1500)?;
    reach(&guest, OTHER)?;

    let sum = guest.check_within(&format!("md5sum <{data} | cut -c1-32"), STEP_MAX)?;
    let output = in_tree("md5sum").arg(&raw).output().during("starting md5sum")?;
    // A sum of nothing would fit any.
    let is_sum = sum.trim().len() == 32 && sum.trim().bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(is_sum, "the guest's sum of its disk is {sum:?}");
    let expected = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(expected.starts_with(sum.trim()), "the guest reads {sum}, and the file has {expected}");
    let load = VerifiedWrites { device: data, region_mib: 8, depth: 8, passes: 1 };
    let verdict = load.run(&guest, STEP_MAX)?;
    ensure!(verdict.clean(), "fio found {verdict:?}");
    no_errors(&guest)?;
    world.unmoved(worker)?;
    guest.shutdown()?;
    Ok(format!("import_s={imported:.1} boot_s={up:.1} forms={} requests={}", FORMS.len(), verdict.done))
}
