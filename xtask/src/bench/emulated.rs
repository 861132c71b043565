//! `bench emulated`: each emulated adapter beside the virtio device of its kind, on the same server,
//! by the same load generator: what a frame or a command costs on one core, and how many messages
//! it takes. Then each beside QEMU's own model in the same guest, with `standpipe-guests`.

use std::process::Command;

use super::figures::{Better, Figures, Key, Measured};
use super::machine::Machine;
use super::ours::Server;
use super::{Options, Side};

const VIRTIO_NET: &str = "virtio-net";
const NICS: &[&str] = &[VIRTIO_NET, "vmxnet3", "e1000", "e1000e", "vlance"];

const NET_KEYS: &[Key] = &[
    Key { name: "rx_mpps", better: Better::Higher },
    Key { name: "loss_pct", better: Better::Neither },
    Key { name: "server_cycles_per_packet", better: Better::Lower },
    Key { name: "messages_per_packet", better: Better::Neither },
    Key { name: "latency_p50_us", better: Better::Lower },
    Key { name: "latency_p99_us", better: Better::Lower },
];

const DISK_KEYS: &[Key] = &[
    Key { name: "iops", better: Better::Higher },
    Key { name: "p50_us", better: Better::Lower },
    Key { name: "p99_us", better: Better::Lower },
    Key { name: "server_us_per_io", better: Better::Lower },
    Key { name: "messages_per_io", better: Better::Neither },
];

/// Who sends to whom: the other end is of the same model, or virtio-net.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Same,
    ToVirtio,
    FromVirtio,
}

struct Row {
    name: &'static str,
    ends: Ends,
    arguments: &'static [&'static str],
}

const NET_ROWS: &[Row] = &[
    Row { name: "64B", ends: Ends::Same, arguments: &["--size", "64"] },
    Row { name: "1518B", ends: Ends::Same, arguments: &["--size", "1518"] },
    Row { name: "64B_to_virtio", ends: Ends::ToVirtio, arguments: &["--size", "64"] },
    Row { name: "64B_from_virtio", ends: Ends::FromVirtio, arguments: &["--size", "64"] },
    Row { name: "64B_doorbell_each", ends: Ends::Same, arguments: &["--size", "64", "--doorbell-each"] },
    Row { name: "64B_echo", ends: Ends::Same, arguments: &["--size", "64", "--direction", "echo"] },
];

const DISK_ROWS: &[(&str, &[&str])] = &[
    ("randread_4k_depth1", &["--rw", "randread", "--bs", "4k", "--depth", "1"]),
    ("randread_4k_depth32", &["--rw", "randread", "--bs", "4k", "--depth", "32"]),
    ("randread_4k_depth64", &["--rw", "randread", "--bs", "4k", "--depth", "64"]),
    ("read_128k_depth8", &["--rw", "read", "--bs", "128k", "--depth", "8"]),
];

/// Against our own virtio devices outside of guests, and against QEMU's models in one.
pub fn run(machine: &Machine, options: &Options) -> Result<(), String> {
    if options.runs(Side::Ours) {
        outside_guests(machine, options)?;
    }
    if options.runs(Side::Peer) {
        in_guests(machine, options)?;
    }
    Ok(())
}

/// `standpipe-guests speed`, whose lines are printed as they come.
fn in_guests(machine: &Machine, options: &Options) -> Result<(), String> {
    let program = machine.program("standpipe-guests", options)?;
    let status = Command::new(&program)
        .arg("speed")
        .args(["--rounds", &options.rounds.to_string()])
        .args(["--secs", &options.secs.ceil().to_string()])
        .args(["--model", &options.rows])
        .env("STANDPIPE_BINARY", &machine.server_program)
        .env("STANDPIPE_CACHE", &machine.cache)
        .current_dir(&machine.repository)
        .status()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if status.success() { Ok(()) } else { Err(format!("{} speed ended with {status}", program.display())) }
}

fn outside_guests(machine: &Machine, options: &Options) -> Result<(), String> {
    let (site, slots) = site();
    let server = Server::start(machine, &site, &slots)?;
    let mut figures = Figures::default();
    let rows: Vec<&Row> = NET_ROWS.iter().filter(|row| row.name.contains(&options.rows)).collect();
    let disk_rows: Vec<_> = DISK_ROWS.iter().filter(|(name, _)| name.contains(&options.rows)).collect();
    for round in 1..=options.rounds {
        for row in &rows {
            eprintln!("round {round} of {}: {}", options.rounds, row.name);
            for model in NICS {
                let ends = match row.ends {
                    Ends::Same => [model, model],
                    Ends::ToVirtio => [model, &VIRTIO_NET],
                    Ends::FromVirtio => [&VIRTIO_NET, model],
                };
                let mut arguments = vec!["net".to_owned()];
                for (end, side) in ends.into_iter().zip(["a", "b"]) {
                    let socket = server.socket(&format!("{end}-{side}.nic0"));
                    arguments.extend(["--socket".into(), socket.to_string_lossy().into_owned()]);
                    arguments.extend(["--model".into(), end.to_string()]);
                }
                let measured = measure(machine, options, &server, arguments, row.arguments)?;
                figures.add(row.name, model, &measured, NET_KEYS.iter().map(|key| key.name));
            }
        }
        for (name, pattern) in &disk_rows {
            eprintln!("round {round} of {}: {name}", options.rounds);
            for kind in ["scsi", "pvscsi"] {
                let socket = server.socket(&format!("{kind}.disk0")).to_string_lossy().into_owned();
                let arguments = vec!["disk".into(), "--kind".into(), kind.into(), "--socket".into(), socket];
                let measured = measure(machine, options, &server, arguments, pattern)?;
                figures.add(name, kind, &measured, DISK_KEYS.iter().map(|key| key.name));
            }
        }
    }
    for row in &rows {
        figures.print(row.name, &NICS[1..], VIRTIO_NET, NET_KEYS);
        for model in &NICS[1..] {
            print_times(&figures, row.name, model, VIRTIO_NET, "server_cycles_per_packet");
        }
    }
    for (name, _) in &disk_rows {
        figures.print(name, &["pvscsi"], "scsi", DISK_KEYS);
        print_times(&figures, name, "pvscsi", "scsi", "server_us_per_io");
    }
    Ok(())
}

fn measure(
    machine: &Machine,
    options: &Options,
    server: &Server,
    mut arguments: Vec<String>,
    row: &[&str],
) -> Result<Measured, String> {
    arguments.extend(["--pid".into(), server.pid().to_string(), "--secs".into(), options.secs.to_string()]);
    arguments.extend(row.iter().map(|word| word.to_string()));
    Ok(Measured::parse(&machine.load(&arguments)?))
}

/// How many times virtio's cost, as the aims are put: 1.3 for VMXNET3.
fn print_times(figures: &Figures, row: &str, model: &str, virtio: &str, key: &str) {
    let (ours, theirs) = (figures.median(row, model, key), figures.median(row, virtio, key));
    if let (Some(ours), Some(theirs)) = (ours, theirs)
        && theirs > 0.0
    {
        println!("{row}.{model}.times_virtio={:.2}", ours / theirs);
    }
}

/// A pair of VMs for each model on one network, and a disk of nothing behind each controller.
fn site() -> (String, Vec<String>) {
    let mut site = "[network.lan]\nmtu = 1500\n".to_owned();
    let mut slots = Vec::new();
    for model in NICS {
        for side in ["a", "b"] {
            site += &format!("[vm.{model}-{side}.nic0]\nmodel = \"{model}\"\nnetwork = \"lan\"\n");
            slots.push(format!("{model}-{side}.nic0"));
        }
    }
    for (kind, model) in [("scsi", "virtio-scsi"), ("pvscsi", "pvscsi")] {
        site += &format!("[disk.{kind}]\nnull = true\nsize = \"1GiB\"\n");
        site += &format!("[vm.{kind}.disk0]\nmodel = \"{model}\"\nvolumes = [\"{kind}\"]\n");
        slots.push(format!("{kind}.disk0"));
    }
    (site, slots)
}
