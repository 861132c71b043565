//! NICs: guest to guest and guest to host.

use crate::guest::Guest;
use crate::load::{Stream, iperf3, iperf3_server};
use crate::site::NicModel;
use crate::uplink::HostSide;
use crate::world::{Against, Bench, World};
use crate::{Result, ensure};
use std::time::Duration;

const STREAM_MAX: Duration = Duration::from_secs(180);

pub const ONE: &str = "10.9.0.1";
pub const OTHER: &str = "10.9.0.2";

/// Gives the first NIC of a guest an address.
pub fn address(guest: &Guest, address: &str, mtu: u32) -> Result<()> {
    guest
        .check(&format!(
            "ip link set eth0 mtu {mtu} && ip addr replace {address}/24 dev eth0 && ip link set eth0 up"
        ))
        .map(drop)
}

/// Waits until a guest reaches an address.
pub fn reach(guest: &Guest, address: &str) -> Result<()> {
    guest.check(&format!("for i in $(seq 30); do ping -n -q -c 1 -W 1 {address} >/dev/null 2>&1 && exit 0; done; ip addr; ip neigh; exit 1")).map(drop)
}

pub fn two_guests(bench: &Bench, name: &str, mtu: u32) -> Result<(World, Guest, Guest)> {
    guest_and_other(bench, name, NicModel::Virtio, mtu)
}

/// A guest with a NIC of this model, and one with a virtio-net to talk to.
pub fn guest_and_other(
    bench: &Bench,
    name: &str,
    model: NicModel,
    mtu: u32,
) -> Result<(World, Guest, Guest)> {
    let world = World::open(bench, name, |site| {
        let site = site.network("lan", mtu, None);
        site.nic_of(model, "web1", "nic0", "lan", 1).nic("web2", "nic0", "lan", 2, 1)
    })?;
    let (one, other) = world.boot_two("web1", "web2")?;
    address(&one, ONE, mtu)?;
    address(&other, OTHER, mtu)?;
    reach(&one, OTHER)?;
    Ok((world, one, other))
}

pub fn payload(bench: &Bench) -> Result<String> {
    let (world, one, other) = two_guests(bench, "payload", 9000)?;
    let worker = world.worker()?;
    let stream = Stream { mib: if bench.long { 256 } else { 3 }, port: 5001 };
    let mut bytes = 0;
    for mtu in [1500, 9000] {
        for offload in ["on", "off"] {
            for guest in [&one, &other] {
                guest.check(&format!("ip link set eth0 mtu {mtu}; ethtool -K eth0 tx {offload} sg {offload} tso {offload} gso {offload} gro {offload} 2>/dev/null || true"))?;
                let shown = guest.check("ethtool -k eth0 | grep tcp-segmentation-offload:")?;
                // A QEMU that has no vnet header on its cable offers no offloads at all.
                if world.bench.against == Against::Standpipe {
                    ensure!(shown.contains(offload), "TSO should be {offload} and is: {shown}");
                }
                let size = mtu - 28;
                let address = if std::ptr::eq(guest, &one) { OTHER } else { ONE };
                guest.check(&format!("ping -n -q -M do -s {size} -c 3 -i 0.05 -W 5 {address}"))?;
            }
            for (from, to, address) in [(&one, &other, OTHER), (&other, &one, ONE)] {
                let verdict = stream.send(from, to, address, STREAM_MAX)?;
                ensure!(
                    verdict.clean(),
                    "MTU {mtu}, TSO {offload}, {} to {}: {verdict:?}",
                    from.name(),
                    to.name()
                );
                bytes += verdict.done;
            }
        }
    }
    for guest in [&one, &other] {
        let errors = checksum_errors(guest)?;
        ensure!(errors == 0, "{} counted {errors} TCP checksum errors", guest.name());
    }
    world.unmoved(worker)?;
    Ok(format!("bytes={bytes} wrong_bytes=0"))
}

/// TCP segments that the guest's kernel has dropped for a wrong checksum.
pub fn checksum_errors(guest: &Guest) -> Result<u64> {
    let text = guest.check("awk '/^Tcp:/ { if (n++) for (i = 1; i <= NF; i++) if (name[i] == \"InCsumErrors\") print $i; else; else for (i = 1; i <= NF; i++) name[i] = $i }' /proc/net/snmp")?;
    text.trim()
        .parse()
        .map_err(|_| crate::Failure::new(format!("/proc/net/snmp has no InCsumErrors: {text}")))
}

pub fn corrupted(bench: &Bench) -> Result<String> {
    let (world, one, other) = two_guests(bench, "corrupted", 1500)?;
    // netem completes the checksum in the sender and flips one bit of the frame after that: if anything
    // on the way vouched for the frame, the receiver would take it.
    one.check("modprobe sch_netem && tc qdisc replace dev eth0 root netem corrupt 2%")?;
    let verdict = Stream { mib: 8, port: 5001 }.send(&one, &other, OTHER, STREAM_MAX)?;
    ensure!(verdict.clean(), "a corrupted frame reached the receiver's program: {verdict:?}");
    let caught = checksum_errors(&other)?;
    ensure!(caught > 0, "frames were corrupted and the receiver's TCP found no wrong checksum");
    drop(world);
    Ok(format!("corrupted_frames_caught={caught} wrong_bytes=0"))
}

pub fn throughput(bench: &Bench) -> Result<String> {
    let (_world, one, other) = two_guests(bench, "iperf3", 1500)?;
    iperf3_server(&other)?;
    let seconds = if bench.long { 20 } else { 3 };
    let there = iperf3(&one, OTHER, "", seconds)?;
    let back = iperf3(&one, OTHER, "-R", seconds)?;
    let datagrams = iperf3(&one, OTHER, "-u -b 50M", seconds)?;
    ensure!(
        there > 1.0 && back > 1.0 && datagrams > 1.0,
        "there {there}, back {back}, UDP {datagrams} Mbit/s"
    );
    Ok(format!("tcp_mbps={there:.0} tcp_reverse_mbps={back:.0} udp_mbps={datagrams:.0}"))
}

pub fn uplink(bench: &Bench) -> Result<String> {
    let host = HostSide::new("sp-test")?;
    let world = World::open(bench, "uplink", |site| {
        site.network("lan", 1500, Some(&host.tap)).nic("web1", "nic0", "lan", 1, 1)
    })?;
    host.configure()?;
    let guest = world.boot("web1")?;
    address(&guest, &host.guest_address(1), 1500)?;
    reach(&guest, &host.address())?;
    host.ping(&host.guest_address(1))?;
    let mut listener = host.iperf3_server()?;
    let seconds = if bench.long { 20 } else { 3 };
    let result = iperf3(&guest, &host.address(), "", seconds)
        .and_then(|there| Ok((there, iperf3(&guest, &host.address(), "-R", seconds)?)));
    let _ = listener.kill();
    let _ = listener.wait();
    let (there, back) = result?;
    ensure!(there > 1.0 && back > 1.0, "to the host {there}, from the host {back} Mbit/s");
    Ok(format!("to_host_mbps={there:.0} from_host_mbps={back:.0}"))
}
