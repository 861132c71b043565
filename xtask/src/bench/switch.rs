//! `bench switch`: frames from one virtio-net port to another, through ours and through Open
//! vSwitch with DPDK.

use std::path::Path;

use super::figures::{Better, Figures, Key, Measured};
use super::machine::Machine;
use super::ours::Server;
use super::ovs::{self, Ovs};
use super::{Options, Side};

const KEYS: &[Key] = &[
    Key { name: "rx_mpps", better: Better::Higher },
    Key { name: "rx_gbps", better: Better::Neither },
    Key { name: "loss_pct", better: Better::Neither },
    Key { name: "server_cycles_per_packet", better: Better::Lower },
    Key { name: "latency_p50_us", better: Better::Lower },
    Key { name: "latency_p99_us", better: Better::Lower },
];

struct Row {
    name: &'static str,
    arguments: &'static [&'static str],
}

const ROWS: &[Row] = &[
    Row { name: "64B_oneway", arguments: &["--size", "64"] },
    Row { name: "64B_both", arguments: &["--size", "64", "--direction", "both"] },
    Row { name: "1518B_oneway", arguments: &["--size", "1518"] },
    Row { name: "1518B_both", arguments: &["--size", "1518", "--direction", "both"] },
    Row { name: "64B_1000flows", arguments: &["--size", "64", "--flows", "1000"] },
    Row { name: "64B_1024macs", arguments: &["--size", "64", "--macs", "1024"] },
    Row { name: "64B_echo", arguments: &["--size", "64", "--direction", "echo"] },
];

pub fn run(machine: &Machine, options: &Options) -> Result<(), String> {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| row.name.contains(&options.rows)).collect();
    let ours = if options.runs(Side::Ours) {
        let mut site = "[network.lan]\nmtu = 1500\n".to_owned();
        for vm in ["a", "b"] {
            site += &format!("[vm.{vm}.nic0]\nmodel = \"virtio-net\"\nnetwork = \"lan\"\n");
        }
        Some(Server::start(machine, &site, &["a.nic0".into(), "b.nic0".into()])?)
    } else {
        None
    };
    let peer = if options.runs(Side::Peer) {
        machine.need_tree(ovs::PROGRAMS)?;
        let peer = Ovs::start(machine)?;
        peer.hold(true)?;
        Some(peer)
    } else {
        None
    };
    let mut figures = Figures::default();
    for round in 1..=options.rounds {
        for row in &rows {
            eprintln!("round {round} of {}: {}", options.rounds, row.name);
            let mut measure =
                |contender: &str, sockets: [&Path; 2], listen: bool, pid: u32| -> Result<(), String> {
                    let mut arguments = vec!["net".to_owned()];
                    for socket in sockets {
                        arguments.extend(["--socket".into(), socket.to_string_lossy().into_owned()]);
                    }
                    if listen {
                        arguments.push("--listen".into());
                    }
                    arguments.extend([
                        "--pid".into(),
                        pid.to_string(),
                        "--secs".into(),
                        options.secs.to_string(),
                    ]);
                    arguments.extend(row.arguments.iter().map(|word| word.to_string()));
                    let measured = Measured::parse(&machine.load(&arguments)?);
                    figures.add(row.name, contender, &measured, KEYS.iter().map(|key| key.name));
                    Ok(())
                };
            if let Some(server) = &ours {
                let (a, b) = (server.socket("a.nic0"), server.socket("b.nic0"));
                measure("ours", [&a, &b], false, server.pid())?;
            }
            if let Some(ovs) = &peer {
                ovs.hold(false)?;
                let measured = measure("ovs", [&ovs.sockets[0], &ovs.sockets[1]], true, ovs.pid());
                ovs.hold(true)?;
                measured?;
            }
        }
    }
    for row in &rows {
        figures.print(row.name, &["ours"], "ovs", KEYS);
    }
    Ok(())
}
