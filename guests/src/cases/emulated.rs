//! The emulated models under Linux's own drivers for the hardware that they are: e1000, e1000e, pcnet32,
//! vmxnet3 and vmw_pvscsi.

use crate::cases::disk::no_errors;
use crate::cases::net::{ONE, OTHER, address, checksum_errors, reach};
use crate::guest::{COMMAND_MAX, Guest, GuestSpec};
use crate::load::{Stream, VerifiedWrites};
use crate::site::{DiskModel, NicModel};
use crate::torture::{Model, disk_under_kills, net_under_kills};
use crate::world::{Against, Bench, World, eventually};
use crate::{During, Failure, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;

const STEP_MAX: Duration = Duration::from_secs(300);

/// The VLAN that passes the guests' ports tagged.
const VLAN: u16 = 10;
const ONE_TAGGED: &str = "10.10.0.1";
const OTHER_TAGGED: &str = "10.10.0.2";

pub fn e1000(bench: &Bench) -> Result<String> {
    nic(bench, NicModel::E1000)
}

pub fn e1000_82545em(bench: &Bench) -> Result<String> {
    nic(bench, NicModel::E1000Em)
}

pub fn e1000e(bench: &Bench) -> Result<String> {
    nic(bench, NicModel::E1000e)
}

pub fn vlance(bench: &Bench) -> Result<String> {
    nic(bench, NicModel::Vlance)
}

pub fn flexible(bench: &Bench) -> Result<String> {
    nic(bench, NicModel::Flexible)
}

pub fn am79c973(bench: &Bench) -> Result<String> {
    nic(bench, NicModel::Am79c973)
}

pub fn vmxnet3(bench: &Bench) -> Result<String> {
    nic(bench, NicModel::Vmxnet3)
}

pub fn vmxnet3_mapped(bench: &Bench) -> Result<String> {
    nic_as(bench, "emulated-vmxnet3-mapped", NicModel::Vmxnet3, "mapped")
}

fn nic(bench: &Bench, model: NicModel) -> Result<String> {
    nic_as(bench, &format!("emulated-{}", model.name()), model, "trapped")
}

fn nic_as(bench: &Bench, name: &str, model: NicModel, doorbells: &'static str) -> Result<String> {
    let ours = bench.against == Against::Standpipe;
    // PCnet takes no frame that is longer than Ethernet's.
    let mtu = if is_pcnet(model) { 1500 } else { 9000 };
    let world = World::open(bench, name, |site| {
        let site = site
            .network("lan", mtu, None)
            .nic_of(model, "web1", "nic0", "lan", 1)
            .nic("web2", "nic0", "lan", 2, 1)
            .tagged("web1", "nic0", &[VLAN])
            .tagged("web2", "nic0", &[VLAN]);
        if model == NicModel::Vmxnet3 { site.doorbells("web1", "nic0", doorbells) } else { site }
    })?;
    let (one, other) = world.boot_two("web1", "web2")?;
    address(&one, ONE, 1500)?;
    address(&other, OTHER, 1500)?;
    reach(&one, OTHER).map_err(|error| told(&one, error))?;
    let worker = world.worker()?;

    let driver = one.check("basename $(readlink /sys/class/net/eth0/device/driver)")?;
    ensure!(driver.trim() == model.driver(), "the driver is {}", driver.trim());
    let mac = one.check("cat /sys/class/net/eth0/address")?;
    ensure!(mac.trim() == "52:54:00:5d:00:01", "the address is {}", mac.trim());
    let link = one.check("ethtool eth0 2>/dev/null; cat /sys/class/net/eth0/carrier")?;
    ensure!(link.contains("Link detected: yes") && link.ends_with("1\n"), "the link is: {link}");

    if is_pcnet(model) {
        // Runts are told of to those only that ask (NETIF_MSG_RX_ERR).
        one.check("ethtool -s eth0 msglvl rx_err on")?;
    }
    let nics = Nics { bench, one: &one, other: &other };
    let mut bytes = nics.streams(OTHER, ONE)?;
    for state in ["off", "on"] {
        offloads(&one, state)?;
        // Some drivers begin anew with each of them.
        link_is_back(&one)?;
        reach(&one, OTHER)?;
        bytes += nics.streams(OTHER, ONE).during(format!("with offloads {state}"))?;
    }
    if mtu > 1500 {
        for guest in [&one, &other] {
            guest.check(&format!("ip link set eth0 mtu {mtu}"))?;
        }
        reach(&one, OTHER)?;
        one.check(&format!("ping -n -q -M do -s {} -c 3 -i 0.05 -W 5 {OTHER}", mtu - 28))?;
        bytes += nics.streams(OTHER, ONE)?;
        for guest in [&one, &other] {
            guest.check("ip link set eth0 mtu 1500")?;
        }
        reach(&one, OTHER)?;
    }
    nics.multicast().during("multicast")?;
    bytes += nics.vlan().during("VLANs")?;
    rings(&one, model).during("rings of other sizes")?;
    reach(&one, OTHER)?;
    if ours {
        self_test(&one, model)?;
        reach(&one, OTHER).during("after the self test")?;
    }
    let sleeps = match bench.image.agent_outlives_suspend() {
        true if bench.long => 10,
        outlives => u32::from(outlives),
    };
    for _ in 0..sleeps {
        suspend(&one).during("suspending and resuming")?;
        link_is_back(&one).map_err(|error| told(&one, error))?;
        reach(&one, OTHER).during("after the resume").map_err(|error| told(&one, error))?;
    }
    bytes += nics.streams(OTHER, ONE).during("after the resume")?;
    if !is_pcnet(model) {
        quiet(bench, &one, model).during("before the reloads")?;
    }
    let rounds = if bench.long { 100 } else { 2 };
    for _ in 0..rounds {
        reload(&one, model)?;
        reach(&one, OTHER).during("after the driver's reload")?;
    }
    bytes += nics.streams(OTHER, ONE)?;
    quiet(bench, &one, model)?;
    for guest in [&one, &other] {
        let errors = checksum_errors(guest)?;
        ensure!(errors == 0, "{} counted {errors} TCP checksum errors", guest.name());
    }
    world.unmoved(worker)?;

    let mut figures = format!("bytes={bytes} wrong_bytes=0 sleeps={sleeps} reloads={rounds}");
    if ours {
        let kills = if bench.long { 200 } else { 6 };
        let toll = net_under_kills(&world, &one, &other, Model::Nic(model), kills, &mut |_| {})?;
        ensure!(toll.clean(), "{toll}");
        quiet(bench, &one, model)?;
        figures = format!("{figures} {toll}");
    }
    Ok(figures)
}

fn is_pcnet(model: NicModel) -> bool {
    model.driver() == "pcnet32"
}

struct Nics<'a> {
    bench: &'a Bench,
    one: &'a Guest,
    other: &'a Guest,
}

impl Nics<'_> {
    /// A stream each way, compared byte by byte; gives the bytes.
    fn streams(&self, to: &str, back: &str) -> Result<u64> {
        let stream = Stream { mib: if self.bench.long { 64 } else { 1 }, port: 5001 };
        let mut bytes = 0;
        for (from, to, address) in [(self.one, self.other, to), (self.other, self.one, back)] {
            let verdict = stream.send(from, to, address, STEP_MAX)?;
            ensure!(verdict.clean(), "{} to {}: {verdict:?}", from.name(), to.name());
            bytes += verdict.done;
        }
        Ok(bytes)
    }

    /// Frames to groups: those that the driver has asked for arrive, by its filter and without one.
    fn multicast(&self) -> Result<()> {
        self.one.check("echo 0 >/proc/sys/net/ipv4/icmp_echo_ignore_broadcasts")?;
        // RFC 4291, 2.7.1: all nodes. The answers come to the one that asked.
        let mac = self
            .one
            .check("ip -6 -o addr show dev eth0 scope link | awk '{ sub(\"/.*\", \"\", $4); print $4 }'")?;
        let neighbour = mac.trim();
        ensure!(!neighbour.is_empty(), "{} has no link-local address", self.one.name());
        for mode in
            ["allmulticast off promisc off", "allmulticast on", "promisc on", "allmulticast off promisc off"]
        {
            self.one.check(&format!("ip link set eth0 {mode}"))?;
            self.other.check(&format!(
                "ip -6 neigh flush dev eth0; ping -6 -n -q -c 2 -i 0.1 -W 10 {neighbour}%eth0"
            ))?;
            self.other.check("ping -n -q -c 2 -i 0.1 -W 10 -I eth0 224.0.0.1")?;
        }
        Ok(())
    }

    /// Tagged frames, with the tags made and taken by the device and by the kernel.
    fn vlan(&self) -> Result<u64> {
        for (guest, address) in [(self.one, ONE_TAGGED), (self.other, OTHER_TAGGED)] {
            guest.check(&format!(
                "modprobe 8021q; ip link add link eth0 name eth0.{VLAN} mtu 1496 type vlan id {VLAN} && ip addr add {address}/24 dev eth0.{VLAN} && ip link set eth0.{VLAN} up"
            ))?;
        }
        let mut bytes = 0;
        for state in ["on", "off"] {
            // Not every device can do without; the kernel says so.
            self.one.run(&format!("ethtool -K eth0 rxvlan {state} txvlan {state}"), COMMAND_MAX)?;
            reach(self.one, OTHER_TAGGED)?;
            bytes += self.streams(OTHER_TAGGED, ONE_TAGGED)?;
        }
        for guest in [self.one, self.other] {
            guest.check(&format!("ip link del eth0.{VLAN}"))?;
        }
        Ok(bytes)
    }
}

/// Turns everything on or off that the driver lets be changed.
fn offloads(guest: &Guest, state: &str) -> Result<()> {
    guest
        .check(&format!(
            "for feature in rx tx sg tso gso gro lro rxvlan txvlan rxhash; do ethtool -K eth0 $feature {state} >/dev/null 2>&1; done; ethtool -k eth0"
        ))
        .map(drop)
}

fn rings(guest: &Guest, model: NicModel) -> Result<()> {
    // What each driver allows: multiples of 8, powers of two, multiples of 32.
    let sizes: &[&str] = match model {
        NicModel::Vlance | NicModel::Flexible | NicModel::Am79c973 => &["rx 16 tx 16", "rx 64 tx 64"],
        NicModel::Vmxnet3 => &["rx 64 tx 64", "rx 512 tx 512"],
        _ => &["rx 80 tx 80", "rx 512 tx 512"],
    };
    for size in sizes {
        guest.check(&format!("ethtool -G eth0 {size}"))?;
        link_is_back(guest)?;
        guest.check(&format!("ping -n -q -c 3 -i 0.05 -W 10 {OTHER}"))?;
    }
    Ok(())
}

/// The driver's own test of the hardware, where it has one: registers, EEPROM, interrupts, loopback.
fn self_test(guest: &Guest, model: NicModel) -> Result<()> {
    if model == NicModel::Vmxnet3 {
        return Ok(());
    }
    for kind in ["online", "offline"] {
        let said = guest.run(&format!("ethtool -t eth0 {kind}"), COMMAND_MAX)?;
        ensure!(said.status == 0 && said.stdout.contains("PASS"), "ethtool -t {kind}: {}", said.stdout);
    }
    link_is_back(guest)
}

fn link_is_back(guest: &Guest) -> Result<()> {
    eventually("the link is back", COMMAND_MAX, || {
        guest.check("cat /sys/class/net/eth0/carrier").map(|carrier| carrier.trim() == "1")
    })
}

/// All devices go to sleep with their drivers, into PCI's D3 as well, and wake up again: all of
/// suspend to RAM but the firmware's part. Asleep, the kernel counts out its time in a loop: where the
/// guest has little of the host's processor, a watchdog would take that for a lockup.
fn suspend(guest: &Guest) -> Result<()> {
    let said = guest.check_within(
        "set -e; echo going to sleep >/dev/kmsg
         echo 1 >/sys/module/suspend/parameters/pm_test_delay; echo 0 >/proc/sys/kernel/watchdog
         echo platform >/sys/power/pm_test; echo mem >/sys/power/state; echo none >/sys/power/pm_test
         echo 1 >/proc/sys/kernel/watchdog
         dmesg | awk '/going to sleep/ { said = \"\" } { said = said $0 \"\\n\" } END { printf \"%s\", said }'",
        STEP_MAX,
    )?;
    ensure!(said.contains("PM: suspend exit"), "no suspend in what the kernel says: {said}");
    let failed = ["fail", "error -", "Call Trace", "timed out"];
    ensure!(!failed.iter().any(|word| said.contains(word)), "suspending, the kernel says: {said}");
    Ok(())
}

pub(super) fn reload(guest: &Guest, model: NicModel) -> Result<()> {
    let driver = model.driver();
    guest.check_within(
        &format!(
            "modprobe -r {driver} && [ ! -e /sys/class/net/eth0 ] && modprobe {driver}
             for i in $(seq 100); do [ -e /sys/class/net/eth0 ] && exit 0; usleep 100000; done; exit 1"
        ),
        STEP_MAX,
    )?;
    address(guest, ONE, 1500)
}

/// An error with what the driver and the device have counted.
pub(super) fn told(guest: &Guest, error: Failure) -> Failure {
    let said = guest.check(
        "dmesg | grep -B 6 -A 24 'Call Trace' | head -n 40; dmesg | grep -iE 'eth0|pcnet|e1000|vmxnet' | tail -n 20; grep -E 'eth0|pcnet' /proc/interrupts
         ethtool -S eth0 2>/dev/null | grep -v ': 0$'; true",
    );
    Failure::new(format!("{error}\n{}", said.unwrap_or_default()))
}

/// Linux's own, whatever the device is: when rings are to have another size, pcnet32_set_ringparam frees
/// the old ones (dma_free_coherent) under its lock with interrupts off, and dma_free_attrs warns of that.
const PCNET32_WARNS: [&str; 2] = ["dma_free_attrs", "pcnet32_set_ringparam"];

/// The driver has had nothing to complain of, and has counted no error.
pub(super) fn quiet(bench: &Bench, guest: &Guest, model: NicModel) -> Result<()> {
    let lengths = match bench.against {
        // pcnet32 counts an error for each interrupt that tells of frames without a buffer, and shows the
        // chip's own count of those, which begins anew when the driver stops it.
        Against::Standpipe if is_pcnet(model) => "rx_length_errors rx_over_errors rx_fifo_errors",
        Against::Standpipe => "rx_errors rx_length_errors",
        // QEMU's 82574L counts the other guest's frames without their padding as too short.
        Against::Qemu => "",
    };
    if is_pcnet(model) {
        let counts = guest.check("cd /sys/class/net/eth0/statistics && cat rx_errors rx_missed_errors")?;
        let counts: Vec<u64> = counts.lines().filter_map(|line| line.trim().parse().ok()).collect();
        ensure!(
            counts.len() == 2 && counts[0] <= counts[1],
            "errors of received frames, and frames missed: {counts:?}"
        );
    }
    let warnings = if is_pcnet(model) {
        let [first, second] = PCNET32_WARNS;
        format!("if (said ~ /{first}/ && said ~ /{second}/) said = \"\"; ")
    } else {
        String::new()
    };
    // e1000 resets the adapter once more when it has put frames into the ring between the resume and the link
    // (e1000_watchdog): its queue may run still, as Linux stops that up to a second after the carrier.
    let said = guest.check(&format!(
        "dmesg | awk '/going to sleep/ {{ wakes = 1 }} /Link is Up/ {{ wakes = 0 }} wakes && /e1000 .*Reset adapter/ {{ next }}
                      /cut here/ {{ held = 1; said = \"\" }} held {{ said = said $0 \"\\n\" }} !held {{ print }} /end trace/ && held {{ held = 0; {warnings}printf \"%s\", said }}' |
         grep -E 'eth0.*(Hang|hung|timed out|[Rr]eset adapter|error|Runt|Impossible)|NETDEV WATCHDOG|BUG:|Call Trace|nobody cared' || true
         cd /sys/class/net/eth0/statistics && grep -H . {lengths} rx_frame_errors rx_crc_errors tx_errors tx_aborted_errors tx_carrier_errors | grep -v ':0$' || true",
    )    )?;
    if said.trim().is_empty() {
        return Ok(());
    }
    Err(told(guest, Failure::new(format!("{}'s driver says: {}", guest.name(), said.trim()))))
}

pub fn pvscsi(bench: &Bench) -> Result<String> {
    adapter(bench, "emulated-pvscsi", "trapped")
}

pub fn pvscsi_mapped(bench: &Bench) -> Result<String> {
    adapter(bench, "emulated-pvscsi-mapped", "mapped")
}

fn adapter(bench: &Bench, name: &str, doorbells: &'static str) -> Result<String> {
    let ours = bench.against == Against::Standpipe;
    let mut world = World::open(bench, name, |site| {
        site.volume("data", 128)
            .volume("second", 64)
            .volume("extra", 64)
            .disk("web1", "disk0", DiskModel::Pvscsi, &["data", "second"])
            .doorbells("web1", "disk0", doorbells)
    })?;
    let guest = world.boot("web1")?;
    let worker = world.worker()?;

    let hosts = guest.check("cat /sys/class/scsi_host/host*/proc_name")?;
    ensure!(hosts.contains("vmw_pvscsi"), "the drivers of SCSI hosts are: {hosts}");
    // A volume's number is that of its target.
    let list = guest.check("lsscsi | grep -v /dev/nvme")?;
    for at in [":0:0:0]", ":0:1:0]"] {
        ensure!(list.lines().any(|line| line.contains(at)), "lsscsi shows no {at}: {list}");
    }
    let inquiry = guest.check("sg_inq /dev/sda")?;
    ensure!(inquiry.contains("Peripheral device type: disk"), "sg_inq shows no disk: {inquiry}");
    let names = ["sda", "sdb"].map(|disk| guest.check(&format!("sg_vpd -p di /dev/{disk}")));
    let [first, second] = names;
    ensure!(first? != second?, "two volumes have the same designators");
    if ours {
        reservations(&guest)?;
    }

    let load = VerifiedWrites {
        device: "/dev/sda".into(),
        region_mib: if bench.long { 64 } else { 8 },
        depth: 32,
        passes: 1,
    };
    let mut verdict = load.run(&guest, STEP_MAX)?;
    ensure!(verdict.clean(), "fio found {verdict:?}");

    // Under writes that do not end, a disk comes and goes, and all kinds of resets are asked for.
    let load = VerifiedWrites { passes: 100_000, depth: 16, ..load };
    let job = load.start(&guest)?;
    hot_plug(&mut world, &guest)?;
    if bench.image.agent_outlives_suspend() {
        suspend(&guest).during("suspending under the load")?;
    }
    let resets = if bench.long { 50 } else { 2 };
    for _ in 0..resets {
        for kind in ["device", "bus", "host"] {
            std::thread::sleep(Duration::from_millis(300));
            guest.check_within(&format!("sg_reset --no-escalate --{kind} /dev/sda"), STEP_MAX)?;
        }
    }
    let under = load.stop(&guest, job).during("stopping the load")?;
    ensure!(under.clean(), "with resets under it, the load came to {under:?}");
    verdict.done += under.done;

    let rounds = if bench.long { 100 } else { 2 };
    for _ in 0..rounds {
        guest.check_within(
            "modprobe -r vmw_pvscsi && [ ! -e /sys/block/sda ] && modprobe vmw_pvscsi
             for i in $(seq 100); do [ -b /dev/sda ] && [ -b /dev/sdb ] && break; usleep 100000; done
             dd if=/dev/sda of=/dev/null bs=1M count=4 iflag=direct 2>/dev/null && dd if=/dev/sdb of=/dev/null bs=1M count=4 iflag=direct 2>/dev/null",
            STEP_MAX,
        )?;
    }
    no_errors(&guest)?;
    world.unmoved(worker)?;
    let mut figures = format!("requests={} resets={} reloads={rounds}", verdict.done, 3 * resets);
    if ours {
        let (kills, region_mib) = if bench.long { (200, 32) } else { (6, 8) };
        let under = (DiskModel::Pvscsi, region_mib);
        let toll = disk_under_kills(&world, &guest, Model::Pvscsi, under, kills, &mut |_| {})?;
        ensure!(toll.clean(), "{toll}");
        figures = format!("{figures} {toll}");
    }
    guest.shutdown()?;
    Ok(figures)
}

/// What the hypervisor has to say for the work of a slot, by how its doorbells reach us.
pub fn doorbells(bench: &Bench) -> Result<String> {
    let mut figures = Vec::new();
    let mut rates = Vec::new();
    for how in ["trapped", "mapped"] {
        let world = World::open(bench, &format!("doorbells-{how}"), |site| {
            site.volume("data", 64)
                .network("lan", 1500, None)
                .nic_of(NicModel::Vmxnet3, "web1", "nic0", "lan", 1)
                .disk("web1", "disk0", DiskModel::Pvscsi, &["data"])
                .nic("web2", "nic0", "lan", 2, 1)
                .doorbells("web1", "nic0", how)
                .doorbells("web1", "disk0", how)
        })?;
        let (one, other) = world.boot_two("web1", "web2")?;
        address(&one, ONE, 1500)?;
        address(&other, OTHER, 1500)?;
        reach(&one, OTHER)?;
        let counters = |slot: &str, names: &[&str]| -> Result<u64> {
            let status = world.server().status()?;
            let all = &status["slots"][slot]["counters"];
            names.iter().map(|name| all[name].as_u64().during(format!("{slot} has no {name}: {all}"))).sum()
        };
        let mut figure = |what: &str, slot: &str, work: &[&str], run: &dyn Fn() -> Result<()>| {
            let count = || Ok::<_, Failure>((counters(slot, &["messages"])?, counters(slot, work)?));
            let before = count()?;
            run()?;
            let after = count()?;
            let rate = (after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64;
            figures.push(format!("{what}_{how}={rate:.4}"));
            rates.push(rate);
            Ok::<_, Failure>(())
        };
        let nics = Nics { bench, one: &one, other: &other };
        let frames = ["transmitted_frames", "received_frames"];
        figure("stream", "web1.nic0", &frames, &|| nics.streams(OTHER, ONE).map(drop))?;
        let ping = format!("ping -n -q -c 200 -i 0.02 -W 5 {OTHER}");
        figure("ping", "web1.nic0", &frames, &|| one.check(&ping).map(drop))?;
        for depth in [1, 32] {
            let load = VerifiedWrites { device: "/dev/sda".into(), region_mib: 8, depth, passes: 1 };
            figure(&format!("disk{depth}"), "web1.disk0", &["taken"], &|| {
                let verdict = load.run(&one, STEP_MAX)?;
                ensure!(verdict.clean(), "fio found {verdict:?}");
                Ok(())
            })?;
        }
        let mapped =
            counters("web1.nic0", &["doorbells_mapped"])? + counters("web1.disk0", &["doorbells_mapped"])?;
        ensure!(mapped == if how == "mapped" { 2 } else { 0 }, "{mapped} slots are mapped when {how}");
    }
    let figures = figures.join(" ");
    let (trapped, mapped) = rates.split_at(rates.len() / 2);
    ensure!(
        trapped.iter().zip(mapped).all(|(trapped, mapped)| mapped < trapped),
        "messages for each: {figures}"
    );
    Ok(format!("messages for each frame or request: {figures}"))
}

/// A persistent reservation is made, seen and released.
fn reservations(guest: &Guest) -> Result<()> {
    let said = guest.check(
        "set -e; persist() { sg_persist -n \"$@\" -d /dev/sdb; }
         persist --out --register --param-sark=0x5d
         persist --out --reserve --param-rk=0x5d --prout-type=5
         persist --in -k; persist --in -r; persist --in -s
         persist --out --release --param-rk=0x5d --prout-type=5
         persist --out --register --param-rk=0x5d --param-sark=0
         echo after; persist --in -k",
    )?;
    let (before, after) = said.split_once("after").during(format!("sg_persist said: {said}"))?;
    ensure!(
        before.contains("0x5d") && before.contains("Write Exclusive, registrants only"),
        "the reservation is not shown: {said}"
    );
    ensure!(after.contains("NO registered"), "the registration stayed: {said}");
    Ok(())
}

fn hot_plug(world: &mut World, guest: &Guest) -> Result<()> {
    let there = |guest: &Guest| guest.run("test -b /dev/sdc", COMMAND_MAX).map(|output| output.status == 0);
    for _ in 0..2 {
        world.plug_lun(guest, "disk0", "extra")?;
        eventually("the new disk is in the guest", Duration::from_secs(30), || there(guest))?;
        guest.check_within(
            "mkfs.ext4 -q -F /dev/sdc && mkdir -p /mnt/e && mount -t ext4 /dev/sdc /mnt/e && seq 1 50000 >/mnt/e/f && umount /mnt/e && e2fsck -f -n /dev/sdc",
            STEP_MAX,
        )?;
        world.unplug_lun(guest, "disk0")?;
        eventually("the disk has left the guest", Duration::from_secs(30), || {
            there(guest).map(|there| !there)
        })?;
    }
    Ok(())
}

/// Takes the emulated devices out of a guest's arguments and gives it a root port for each, so that they
/// can come and go.
pub fn behind_ports(spec: &mut GuestSpec) -> Vec<Value> {
    let mut devices: Vec<Value> = Vec::new();
    let mut kept = Vec::new();
    for pair in spec.qemu_args.chunks(2) {
        match (pair[0].as_str(), serde_json::from_str(&pair[1])) {
            ("-device", Ok(device)) => devices.push(device),
            _ => kept.extend_from_slice(pair),
        }
    }
    for (port, device) in devices.iter_mut().enumerate() {
        kept.extend([
            "-device".to_string(),
            format!("pcie-root-port,id=port{port},chassis={port},slot={port}"),
        ]);
        device["bus"] = json!(format!("port{port}"));
    }
    spec.qemu_args = kept;
    devices
}
