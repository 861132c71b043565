//! `standpipe-load crowd`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::{figure, size};
use crate::driver::disk::{DiskOptions, Kind};
use crate::driver::error::{Error, Result};
use crate::driver::net::NetOptions;
use crate::load::crowd::{Crowd, CrowdOptions, Rate, Sockets};
use crate::load::daemon;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArgument {
    Blk,
    Scsi,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example: standpipe-load crowd --socket-dir /run/standpipe/sockets --vms 256 --pid $(pidof standpipe)"
)]
pub struct CrowdArguments {
    /// The folder with the sockets VM.nic0.sock and VM.disk0.sock
    #[arg(long)]
    socket_dir: PathBuf,
    /// How many VMs: v0, v1 and so on
    #[arg(long, default_value_t = 256)]
    vms: usize,
    /// The letters before a VM's number
    #[arg(long, default_value = "v")]
    prefix: String,
    #[arg(long, value_enum, default_value_t = KindArgument::Blk)]
    kind: KindArgument,
    /// How many of them work at once, one run for each number
    #[arg(long, value_delimiter = ',', default_value = "1,16,256")]
    active: Vec<usize>,
    #[arg(long, default_value_t = 8)]
    depth: u16,
    #[arg(long, default_value = "4k", value_parser = size)]
    bs: u64,
    /// Bytes of a frame, FCS included
    #[arg(long, default_value_t = 64)]
    size: u32,
    /// Seconds of each run
    #[arg(long, default_value_t = 3.0)]
    secs: f64,
    /// Seconds of rest to measure
    #[arg(long, default_value_t = 10.0)]
    rest: f64,
    /// The size of every ring
    #[arg(long, default_value_t = 256)]
    ring: u16,
    /// Processes of the server, for its memory and CPU time
    #[arg(long = "pid", required = true)]
    pids: Vec<u32>,
}

impl CrowdArguments {
    pub fn run(&self) -> Result<bool> {
        let sockets: Vec<Sockets> = (0..self.vms)
            .map(|at| {
                let socket = |slot: &str| self.socket_dir.join(format!("{}{at}.{slot}.sock", self.prefix));
                Sockets { nic: socket("nic0"), disk: socket("disk0") }
            })
            .collect();
        if let Some(active) = self.active.iter().find(|active| **active == 0) {
            return Err(Error::Unsupported(format!("{active} VMs cannot work")));
        }
        let kind = match self.kind {
            KindArgument::Blk => Kind::Blk,
            KindArgument::Scsi => Kind::Scsi,
        };
        let options = CrowdOptions {
            disk: DiskOptions {
                depth: self.depth,
                bytes_max: self.bs as u32,
                ring_size: self.ring,
                ..DiskOptions::new(kind)
            },
            net: NetOptions {
                ring_size: self.ring,
                frame_bytes_max: self.size.saturating_sub(4),
                ..NetOptions::default()
            },
            frame_bytes: self.size.saturating_sub(4),
            pids: self.pids.clone(),
        };
        let before = daemon::usage(&self.pids);
        let start = Instant::now();
        let mut crowd = Crowd::attach(&sockets, options)?;
        let attach = start.elapsed();
        let after = crowd.usage();
        let vms = self.vms.max(1) as f64;
        figure("vms", self.vms);
        figure("attach_ms_per_vm", format_args!("{:.2}", attach.as_secs_f64() * 1e3 / vms));
        let kib =
            |after: u64, before: u64| format!("{:.1}", after.saturating_sub(before) as f64 / 1024.0 / vms);
        figure("server_kib_per_vm", kib(after.anonymous_bytes, before.anonymous_bytes));
        figure("server_shared_kib_per_vm", kib(after.shared_bytes, before.shared_bytes));
        figure("server_kib_before", before.anonymous_bytes / 1024);
        let rest = Duration::from_secs_f64(self.rest);
        figure("rest_cores", format_args!("{:.5}", crowd.rest(rest)?));
        let time = Duration::from_secs_f64(self.secs);
        let mut good = true;
        for active in self.active.iter().map(|active| (*active).min(self.vms)) {
            let read = crowd.read(active, time)?;
            good &= read.errors == 0;
            print("disk", active, &read);
            figure(&format!("disk_{active}_errors"), read.errors);
            if self.vms > 1 {
                let sent = crowd.send(active, time)?;
                print("net", active, &sent);
                figure(&format!("net_{active}_lost"), sent.lost);
            }
        }
        let worked = crowd.usage();
        figure("server_kib_per_vm_after_work", kib(worked.anonymous_bytes, before.anonymous_bytes));
        figure("server_shared_kib_per_vm_after_work", kib(worked.shared_bytes, before.shared_bytes));
        figure("rest_cores_after_work", format_args!("{:.5}", crowd.rest(rest)?));
        crowd.detach()?;
        Ok(good)
    }
}

fn print(what: &str, active: usize, rate: &Rate) {
    let key = |name: &str| format!("{what}_{active}_{name}");
    figure(&key("per_s"), format_args!("{:.0}", rate.count as f64 / rate.seconds));
    let cost = rate.server_cpu_ns as f64 / rate.count.max(1) as f64;
    figure(&key("server_ns_each"), format_args!("{cost:.0}"));
    // 1 when everybody got the same, 0 when somebody got nothing.
    figure(&key("fairness"), format_args!("{:.3}", rate.least as f64 / rate.most.max(1) as f64));
}
