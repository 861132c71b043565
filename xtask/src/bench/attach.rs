//! `bench attach`: many VMs on one server, each with one NIC and one disk: what one costs when it
//! is attached, when all rest, and what is left of the rate when many work.

use super::figures::Measured;
use super::machine::Machine;
use super::ours::Server;
use super::{Options, Side};

pub fn run(machine: &Machine, options: &Options) -> Result<(), String> {
    if !options.runs(Side::Ours) {
        return Err("attach has no peer: no other server takes both a NIC and a disk".into());
    }
    let mut site = "[network.lan]\nmtu = 1500\n".to_owned();
    let mut slots = Vec::new();
    for vm in 0..options.vms {
        site += &format!("[disk.n{vm}]\nnull = true\nsize = \"1GiB\"\n");
        site += &format!("[vm.v{vm}.disk0]\nmodel = \"virtio-blk\"\nvolume = \"n{vm}\"\n");
        site += &format!("[vm.v{vm}.nic0]\nmodel = \"virtio-net\"\nnetwork = \"lan\"\n");
        slots.extend([format!("v{vm}.disk0"), format!("v{vm}.nic0")]);
    }
    let server = Server::start(machine, &site, &slots)?;
    // Some rest is needed to see a hundredth of a core among the ticks of a timer.
    let rest = if options.rounds > 1 { 10.0 } else { 3.0 };
    let active: Vec<String> =
        [1, 16, 256].iter().filter(|n| **n <= options.vms).map(|n| n.to_string()).collect();
    let arguments = [
        "crowd".to_owned(),
        "--socket-dir".into(),
        server.sockets.to_string_lossy().into_owned(),
        "--vms".into(),
        options.vms.to_string(),
        "--active".into(),
        active.join(","),
        "--secs".into(),
        options.secs.to_string(),
        "--rest".into(),
        rest.to_string(),
        "--pid".into(),
        server.pid().to_string(),
    ];
    // One round: attaching is what is measured, and each run starts from a server without VMs.
    let measured = Measured::parse(&machine.load(&arguments)?);
    let mut figures = super::figures::Figures::default();
    figures.add("attach", "ours", &measured, measured.keys());
    for key in measured.keys() {
        if let Some(value) = figures.median("attach", "ours", key) {
            println!("attach.ours.{key}={value}");
        }
    }
    Ok(())
}
