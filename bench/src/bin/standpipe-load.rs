//! `standpipe-load`: puts load on a vhost-user back end from the guest's side, or on an iSCSI target
//! from the initiator's, and measures it.
//! Results are `key=value` lines on stdout; everything else goes to stderr.

#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use standpipe_bench::load::command::{crowd, disk, iscsi, iscsi_fuzz, net};

#[derive(Parser)]
#[command(version, about, after_help = "Exit status: 0 measured and no fault seen, 1 a fault or a failure.")]
struct Arguments {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Reads and writes on one virtio-blk or virtio-scsi disk
    Disk(disk::DiskArguments),
    /// Reads and writes on one LUN of an iSCSI target
    Iscsi(iscsi::IscsiArguments),
    /// Hostile initiators beside a healthy session, which must not notice
    IscsiFuzz(iscsi_fuzz::IscsiFuzzArguments),
    /// Frames between two virtio-net ports
    Net(net::NetArguments),
    /// Many VMs, each with one NIC and one disk
    Crowd(crowd::CrowdArguments),
}

fn main() -> std::process::ExitCode {
    let outcome = match Arguments::parse().load {
        Load::Disk(arguments) => arguments.run(),
        Load::Iscsi(arguments) => arguments.run(),
        Load::IscsiFuzz(arguments) => arguments.run(),
        Load::Net(arguments) => arguments.run(),
        Load::Crowd(arguments) => arguments.run(),
    };
    match outcome {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(error) => {
            eprintln!("standpipe-load: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
