//! The tests that run in real guests. Each is one function with a scratch folder of its own, and can
//! be run alone: `cargo run -p standpipe-guests -- test NAME`.

mod cdrom;
mod disk;
mod dpdk;
mod emulated;
mod graduation;
mod hotplug;
mod import;
mod initiator;
mod life;
mod multi;
mod net;
mod netboot;
mod reserve;
mod shared;
mod space;
mod suite;
mod tools;
mod vmxnet3;

pub(crate) use net::{OTHER, address, guest_and_other as reach_two, reach};

use crate::Result;
use crate::world::{Against, Bench};

/// A case gives back its figures in one line, or the sentence that was false.
pub type Run = fn(&Bench) -> Result<String>;

pub struct Case {
    pub name: &'static str,
    pub about: &'static str,
    /// Needs what only Standpipe has; not run against QEMU's own devices.
    pub standpipe_only: bool,
    /// Its figures are times or rates, which another test beside it would change: it has the machine for
    /// itself.
    pub alone: bool,
    pub run: Run,
}

const fn case(name: &'static str, about: &'static str, run: Run) -> Case {
    Case { name, about, standpipe_only: false, alone: false, run }
}

const fn own(name: &'static str, about: &'static str, run: Run) -> Case {
    Case { name, about, standpipe_only: true, alone: false, run }
}

const fn alone(case: Case) -> Case {
    Case { alone: true, ..case }
}

pub const ALL: &[Case] = &[
    case("agent", "the harness itself: several commands at once, exit codes, long outputs", life::agent),
    case(
        "scsi-identity",
        "sg_inq, sg_vpd -p di, lsscsi, sg_opcodes, sg_luns, sg_readcap and mode pages are sane",
        disk::identity,
    ),
    case(
        "scsi-filesystems",
        "ext4 and XFS made, mounted, filled, read back and checked on virtio-scsi",
        disk::filesystems_scsi,
    ),
    case("blk-filesystems", "the same on virtio-blk", disk::filesystems_blk),
    case("scsi-verify", "fio --verify=crc32c random writes on virtio-scsi", disk::verify_scsi),
    case("blk-verify", "the same on virtio-blk", disk::verify_blk),
    case("scsi-fstrim", "fstrim frees blocks in the host's file, virtio-scsi", disk::fstrim_scsi),
    case("blk-fstrim", "the same on virtio-blk", disk::fstrim_blk),
    case(
        "scsi-resize",
        "a mounted guest sees its disk grow, and grows its file system, virtio-scsi",
        disk::resize_scsi,
    ),
    case("blk-resize", "the same on virtio-blk", disk::resize_blk),
    own(
        "scsi-targets",
        "LUNs of other targets than 0 are found at boot and by their event, used, and go",
        disk::targets,
    ),
    case("lun-hotplug", "a LUN comes, is used and goes while the guest works on another", disk::hotplug),
    case(
        "tcp-payload",
        "guest to guest TCP, both ways, every byte compared; TSO on and off, MTU 1500 and 9000",
        net::payload,
    ),
    case("corrupted-frame", "frames with flipped bits are caught by the receiver's checksum", net::corrupted),
    alone(case("iperf3", "guest to guest throughput, TCP both ways and UDP", net::throughput)),
    alone(own("uplink", "a guest and the host reach each other through the TAP uplink", net::uplink)),
    own(
        "scsi-full-store",
        "a full store is told as ENOSPC, and writes go on when there is space, virtio-scsi",
        space::full_scsi,
    ),
    own("blk-full-store", "the same on virtio-blk, as EIO", space::full_blk),
    case(
        "cdrom",
        "a CD is read in a guest: its commands, its files, and that nothing writes to it",
        cdrom::cdrom,
    ),
    case(
        "cd-boot",
        "a guest's firmware boots from a CD, which is its root: as an installer starts",
        cdrom::boot,
    ),
    own(
        "scsi-tools",
        "sg3_utils, sdparm, ddpt and lsscsi: what the disk is, every command of its, copies, modes, erasing",
        tools::scsi,
    ),
    case(
        "scsi-volumes",
        "LVM, mdraid, XFS, blkdiscard, fstrim, wipefs on disks of 512n, 512e and 4Kn",
        tools::volumes,
    ),
    own("scsi-suite", "libiscsi's conformance suite in a guest, skips counted apart", suite::suite),
    case("shared-disk", "two guests write one disk; COMPARE AND WRITE loses no update", shared::data),
    case(
        "reservations",
        "every service action and type of persistent reservations, between two guests",
        shared::reservations,
    ),
    case(
        "clusters",
        "what fence_scsi and a Windows failover cluster do; no write of a fenced node lands",
        shared::clusters,
    ),
    own("reservations-kept", "reservations over kills of the worker, and over power cuts", shared::outlive),
    alone(case(
        "iscsi-initiator",
        "open-iscsi and multipathd in a guest: CHAP both ways, digests, two portals, each cut under verified load",
        initiator::initiator,
    )),
    case("driver-reload", "each driver is unbound and bound again while others work", life::driver_reload),
    case("queue-reset", "SCSI task management resets and NIC ring changes under load", life::queue_reset),
    case("guest-reboot", "the guest reboots in the middle of writes; the next boot works", life::reboot),
    case(
        "guest-panic",
        "the guest's kernel panics in the middle of writes; the next boot works",
        life::panic,
    ),
    case(
        "power-cut",
        "QEMU is killed in the middle of writes; a new one on the same sockets works",
        life::power_cut,
    ),
    case(
        "memory-hotplug",
        "memory is plugged in and out while writes run: the memory map changes under them",
        life::memory_hotplug,
    ),
    // Four streams of two guests with two processors each want the machine.
    alone(own(
        "multi-queue",
        "two processors and two queues of each device: every queue works, also after a kill of the worker",
        multi::multi_queue,
    )),
    own(
        "packed",
        "packed rings on all three devices, under verified load and kills of the worker",
        multi::packed,
    ),
    own(
        "import",
        "an OVA with disks by qemu-img is imported, and its guest boots by SeaBIOS from PVSCSI, unchanged",
        import::import,
    ),
    alone(own("crash-scsi", "the worker is killed under verified writes on virtio-scsi", crash_scsi)),
    alone(own("crash-blk", "the same on virtio-blk", crash_blk)),
    alone(own("crash-net", "the worker is killed under a verified stream and iperf3", crash_net)),
];

/// Run when they are named, and with `all` only if that may take long: together they need as much time
/// as all of the others.
pub const LONG: &[Case] = &[
    case(
        "emulated-e1000",
        "82540EM with Linux's e1000: payload, offloads, VLANs, multicast, self test, rings, suspend, reload, kills",
        emulated::e1000,
    ),
    case("emulated-82545em", "the same for 82545EM", emulated::e1000_82545em),
    case("emulated-e1000e", "the same for 82574L with e1000e", emulated::e1000e),
    // QEMU's own brings no frame from the other guest by the cable that they have here.
    own("emulated-vlance", "the same for Am79C970A with pcnet32", emulated::vlance),
    own("emulated-flexible", "the same for the flexible adapter while it is a vlance", emulated::flexible),
    own("emulated-am79c973", "the same for Am79C973, which has an MII", emulated::am79c973),
    case("emulated-vmxnet3", "the same for VMXNET3 with vmxnet3", emulated::vmxnet3),
    case(
        "emulated-pvscsi",
        "PVSCSI with vmw_pvscsi: identity, reservations, hot-plug, suspend and resets under load, reload, kills",
        emulated::pvscsi,
    ),
    own(
        "vmxnet3-driver",
        "two queues each way and RSS, every offload flipped under traffic, coalescing, rings of all sizes, tunnels, INTx",
        vmxnet3::driver,
    ),
    own("emulated-vmxnet3-mapped", "emulated-vmxnet3 with masks that are memory", emulated::vmxnet3_mapped),
    own("emulated-pvscsi-mapped", "emulated-pvscsi with kicks that are memory", emulated::pvscsi_mapped),
    own(
        "doorbells",
        "vmxnet3 and pvscsi with doorbells trapped and mapped: messages for each frame and request",
        emulated::doorbells,
    ),
    case(
        "pvscsi-boot",
        "a guest's firmware boots from a CD behind PVSCSI, which is its root",
        cdrom::boot_pvscsi,
    ),
    own(
        "pvscsi-boot-uefi",
        "OVMF boots a guest from a CD behind PVSCSI, by edk2's driver from an option ROM",
        cdrom::boot_pvscsi_uefi,
    ),
    own(
        "ipxe-e1000",
        "iPXE's ROM on an e1000 boots a kernel over the network, from SeaBIOS and from OVMF",
        netboot::e1000,
    ),
    own("ipxe-82545em", "iPXE without a ROM boots a kernel through an 82545EM", netboot::e1000_82545em),
    own("ipxe-e1000e", "iPXE's ROM on an e1000e, as on an e1000", netboot::e1000e),
    own("ipxe-vlance", "the same on a vlance", netboot::vlance),
    own("ipxe-vmxnet3", "the same on a vmxnet3", netboot::vmxnet3),
    own("dpdk-e1000", "DPDK's driver for 82540EM: pings answered, and frames in a circle", dpdk::e1000),
    own("dpdk-82545em", "the same for 82545EM", dpdk::e1000_82545em),
    own("dpdk-e1000e", "the same for 82574L", dpdk::e1000e),
    own("dpdk-vmxnet3", "the same for VMXNET3", dpdk::vmxnet3),
    own(
        "emulated-hotplug",
        "each emulated model is plugged into a running guest over QMP, used, and plugged out again",
        hotplug::every_model,
    ),
    own(
        "graduation",
        "one volume on pvscsi and virtio-scsi at once is one multipath disk, which works on without the former",
        graduation::disk,
    ),
    own(
        "nic-handover",
        "a vmxnet3 and a virtio-net are one NIC of the guest, which works on without the former",
        graduation::nic,
    ),
];

/// All that there are.
pub fn known() -> impl Iterator<Item = &'static Case> {
    ALL.iter().chain(LONG)
}

pub fn find(name: &str) -> Option<&'static Case> {
    known().find(|case| case.name == name)
}

impl Case {
    pub fn fits(&self, against: Against) -> bool {
        against == Against::Standpipe || !self.standpipe_only
    }
}

fn crash(bench: &Bench, model: crate::torture::Model) -> Result<String> {
    let kills = if bench.long { 200 } else { 12 };
    let toll = crate::torture::torture(bench, model, kills, &mut |_| {})?;
    crate::ensure!(toll.clean(), "{toll}");
    Ok(toll.to_string())
}

fn crash_scsi(bench: &Bench) -> Result<String> {
    crash(bench, crate::torture::Model::Scsi)
}

fn crash_blk(bench: &Bench) -> Result<String> {
    crash(bench, crate::torture::Model::Blk)
}

fn crash_net(bench: &Bench) -> Result<String> {
    crash(bench, crate::torture::Model::Net)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let all: Vec<&Case> = known().collect();
        for (at, case) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| other.name != case.name), "{} is there twice", case.name);
        }
    }
}
