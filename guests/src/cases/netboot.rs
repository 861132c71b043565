//! iPXE's drivers for the emulated NICs: its ROM on the card boots a guest over the network.

use crate::cases::net::{address, reach};
use crate::guest::{Guest, KERNEL_WORDS, Start};
use crate::place::in_tree;
use crate::site::NicModel;
use crate::uplink::HostSide;
use crate::world::{Bench, World};
use crate::{During, Failure, Result, ensure};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Some 20 MiB come through the NIC, each byte of them moved by a driver that is emulated.
const BOOT_MAX: Duration = Duration::from_secs(400);

const HTTP_PORT: u16 = 8080;

pub fn e1000(bench: &Bench) -> Result<String> {
    boot_each(bench, NicModel::E1000)
}

/// There is no ROM for this card: iPXE comes as a kernel that QEMU starts.
pub fn e1000_82545em(bench: &Bench) -> Result<String> {
    let seconds = boot(bench, NicModel::E1000Em, "bios", Start::BiosRoot)?;
    Ok(format!("bios_boot_s={seconds:.1}"))
}

pub fn e1000e(bench: &Bench) -> Result<String> {
    boot_each(bench, NicModel::E1000e)
}

pub fn vlance(bench: &Bench) -> Result<String> {
    boot_each(bench, NicModel::Vlance)
}

pub fn vmxnet3(bench: &Bench) -> Result<String> {
    boot_each(bench, NicModel::Vmxnet3)
}

/// Boots from the ROM as SeaBIOS starts it, and as OVMF does.
fn boot_each(bench: &Bench, model: NicModel) -> Result<String> {
    let mut said = Vec::new();
    for (firmware, start) in [("bios", Start::BiosRoot), ("uefi", Start::UefiRoot)] {
        let seconds = boot(bench, model, firmware, start).during(firmware)?;
        said.push(format!("{firmware}_boot_s={seconds:.1}"));
    }
    Ok(said.join(" "))
}

/// ROMs of Debian's package ipxe-qemu, with an image for each firmware.
fn rom(model: NicModel) -> String {
    format!("usr/share/qemu/efi-{}.rom", if model == NicModel::Vlance { "pcnet" } else { model.name() })
}

fn boot(bench: &Bench, model: NicModel, firmware: &str, start: Start) -> Result<f64> {
    let host = HostSide::new(&format!("s{}{}", &firmware[..1], model.qemu().trim_start_matches("e1000-")))?;
    let tree = crate::place::tree_with_firmware()?;
    let rom = tree.join(rom(model));
    let world = World::open(bench, &format!("ipxe-{}-{firmware}", model.name()), |site| {
        let site = site.network("lan", 1500, Some(&host.tap)).nic_of(model, "web1", "nic0", "lan", 1);
        if model == NicModel::E1000Em { site } else { site.boots_from(&rom) }
    })?;
    host.configure()?;
    let folder = world.scratch.files.join("served");
    std::fs::create_dir_all(&folder).during("creating the folder of the files to boot")?;
    for file in ["vmlinuz", "initrd"] {
        std::fs::copy(bench.image.boot.join(file), folder.join(file)).during("copying the kernel")?;
    }
    // OVMF drives the card through the ROM's driver, and loads a program, not a script: an iPXE that has no
    // driver of its own and goes on with the one that loaded it.
    std::fs::copy(tree.join("usr/lib/ipxe/snponly.efi"), folder.join("snponly.efi"))
        .during("copying iPXE for UEFI")?;
    // A word that nobody else gives to a kernel.
    let word = format!("standpipe.booted={}-{}", model.name(), std::process::id());
    let address_of_host = host.address();
    // iPXE's driver of the PCnet takes a transmit ring that is full for an empty one, and never sends again. It
    // fills it in one go when a frame of a burst is lost: it answers each of those behind the gap. TFTP sends
    // one block at a time.
    let from = match model {
        NicModel::Vlance => format!("tftp://{address_of_host}"),
        _ => format!("http://{address_of_host}:{HTTP_PORT}"),
    };
    let script = format!(
        "#!ipxe\nkernel {from}/vmlinuz initrd=initrd {word} {KERNEL_WORDS}\ninitrd {from}/initrd\nboot\n"
    );
    std::fs::write(folder.join("boot.ipxe"), script).during("writing iPXE's script")?;
    let log = world.scratch.files.join("dnsmasq.log");
    let _services = Services::start(&host, &folder, &log)?;

    let worker = world.worker()?;
    let mut spec = world.spec("web1")?;
    spec.start = start;
    if model == NicModel::E1000Em {
        let commands = ["-kernel", "/usr/lib/ipxe/ipxe.lkrn", "-append", "dhcp && chain boot.ipxe"];
        spec.qemu_args.extend(commands.map(String::from));
    }
    let started = Instant::now();
    let guest = Guest::start(&bench.image, spec)?;
    guest.wait_boots(1, BOOT_MAX).map_err(|error| {
        let served = std::fs::read_to_string(&log).unwrap_or_default();
        Failure::new(format!("{error}\n{}", crate::guest::tail(&served, 15)))
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let words = guest.check("cat /proc/cmdline")?;
    ensure!(words.contains(&word), "the kernel's words are: {words}");
    let served = std::fs::read_to_string(&log).during("reading dnsmasq's log")?;
    ensure!(served.contains("DHCPACK") && served.contains("boot.ipxe"), "dnsmasq says: {served}");
    let uefi = guest.check("test -d /sys/firmware/efi && echo yes || echo no")?;
    ensure!((uefi.trim() == "yes") == (start == Start::UefiRoot), "UEFI: {uefi}");
    // Linux's driver takes the card over from iPXE's.
    address(&guest, &host.guest_address(1), 1500)?;
    reach(&guest, &address_of_host)?;
    world.unmoved(worker)?;
    guest.shutdown()?;
    Ok(seconds)
}

/// DHCP and TFTP of dnsmasq, and HTTP of busybox, on the host's end of the uplink.
struct Services(Vec<Child>);

impl Services {
    fn start(host: &HostSide, folder: &Path, log: &Path) -> Result<Services> {
        let mut services = Services(Vec::new());
        let output = std::fs::File::create(log).during("creating dnsmasq's log")?;
        let errors = output.try_clone().during("cloning dnsmasq's log")?;
        let (first, last) = (host.guest_address(20), host.guest_address(40));
        services.0.push(
            in_tree("dnsmasq")
                .args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=root"])
                .args(["--port=0", "--bind-interfaces", "--log-facility=-", "--log-dhcp", "--pid-file="])
                .args(["--leasefile-ro", "--dhcp-authoritative", "--enable-tftp"])
                // Option 175 is iPXE's own, and 7 is UEFI on x86-64 (RFC 4578, 2.1).
                .args(["--dhcp-match=set:ipxe,175", "--dhcp-match=set:uefi,option:client-arch,7"])
                .args(["--dhcp-boot=tag:ipxe,boot.ipxe", "--dhcp-boot=tag:!ipxe,tag:uefi,snponly.efi"])
                .arg(format!("--interface={}", host.tap))
                .arg(format!("--dhcp-range={first},{last},1h"))
                .arg(format!("--tftp-root={}", folder.display()))
                .stdin(Stdio::null())
                .stdout(output)
                .stderr(errors)
                .spawn()
                .during("starting dnsmasq")?,
        );
        services.0.push(
            in_tree("busybox")
                .args(["httpd", "-f", "-p", &format!("{}:{HTTP_PORT}", host.address()), "-h"])
                .arg(folder)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .during("starting busybox httpd")?,
        );
        Ok(services)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        for service in &mut self.0 {
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}
