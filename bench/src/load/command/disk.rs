//! `standpipe-load disk`.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{PatternArgument, WaitArgument, figure, print_disk, size};
use crate::driver::disk::{Disk, DiskOptions, Kind};
use crate::driver::emulated::pvscsi::PvscsiQueue;
use crate::driver::error::Result;
use crate::load::daemon;
use crate::load::disk::{DiskFigures, DiskLoad, Pattern, run, run_on};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArgument {
    Blk,
    Scsi,
    Pvscsi,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example: standpipe-load disk --socket /run/standpipe/sockets/web1.disk0.sock --kind scsi --depth 32"
)]
pub struct DiskArguments {
    /// The back end's socket
    #[arg(long)]
    socket: PathBuf,
    #[arg(long, value_enum, default_value_t = KindArgument::Blk)]
    kind: KindArgument,
    /// What to do; verify writes, reads, flushes, discards and zeroes, and checks every byte
    #[arg(long, value_enum, default_value_t = PatternArgument::Randread)]
    rw: PatternArgument,
    /// Reads in a hundred requests of randrw
    #[arg(long, default_value_t = 70, value_parser = clap::value_parser!(u8).range(0..=100))]
    reads: u8,
    /// Bytes of one request
    #[arg(long, default_value = "4k", value_parser = size)]
    bs: u64,
    /// Requests in flight on each queue
    #[arg(long, default_value_t = 32)]
    depth: u16,
    #[arg(long, default_value_t = 1)]
    queues: u16,
    #[arg(long, default_value_t = 256)]
    ring: u16,
    /// Seconds to measure
    #[arg(long, default_value_t = 3.0)]
    secs: f64,
    #[arg(long, value_enum, default_value_t = WaitArgument::Poll)]
    wait: WaitArgument,
    /// Give data in buffers of this size (0: in one)
    #[arg(long, default_value = "0", value_parser = size)]
    segment: u64,
    /// Use only this much of the disk (0: all; verify: 64m)
    #[arg(long, default_value = "0", value_parser = size)]
    span: u64,
    #[arg(long)]
    packed: bool,
    #[arg(long)]
    no_indirect: bool,
    #[arg(long)]
    no_event_idx: bool,
    /// Memory regions of the guest
    #[arg(long, default_value_t = 1)]
    regions: usize,
    /// Guest memory of 2 MiB pages
    #[arg(long)]
    huge: bool,
    #[arg(long, default_value_t = 0)]
    target: u8,
    #[arg(long, default_value_t = 0)]
    lun: u16,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Give up after so many seconds without a completion
    #[arg(long, default_value_t = 30.0)]
    stall: f64,
    /// Processes of the server, for its CPU time
    #[arg(long = "pid")]
    pids: Vec<u32>,
}

impl DiskArguments {
    fn options(&self) -> DiskOptions {
        DiskOptions {
            queues: self.queues,
            depth: self.depth,
            ring_size: self.ring,
            bytes_max: self.bs as u32,
            segment_bytes: self.segment as u32,
            packed: self.packed,
            indirect: !self.no_indirect,
            event_idx: !self.no_event_idx,
            regions: self.regions,
            huge_pages: self.huge,
            target: self.target,
            lun: self.lun,
            ..DiskOptions::new(match self.kind {
                KindArgument::Blk => Kind::Blk,
                KindArgument::Scsi | KindArgument::Pvscsi => Kind::Scsi,
            })
        }
    }

    fn load(&self) -> DiskLoad {
        let pattern = self.rw.pattern(self.reads);
        let span_bytes = if pattern == Pattern::Verify && self.span == 0 { 64 << 20 } else { self.span };
        DiskLoad {
            pattern,
            block_bytes: self.bs as u32,
            depth: self.depth,
            seconds: self.secs,
            poll: self.wait == WaitArgument::Poll,
            span_bytes,
            seed: self.seed,
            stall: Duration::from_secs_f64(self.stall),
        }
    }

    /// True when nothing was wrong with what came back.
    pub fn run(&self) -> Result<bool> {
        let (figures, cpu_ns) =
            if matches!(self.kind, KindArgument::Pvscsi) { self.run_pvscsi()? } else { self.run_virtio()? };
        let cpu_ns = (!self.pids.is_empty()).then_some(cpu_ns);
        print_disk(&figures, self.bs, cpu_ns, matches!(self.rw, PatternArgument::Verify));
        Ok(figures.errors == 0 && figures.wrong_lengths == 0 && figures.wrong_bytes == 0)
    }

    fn run_virtio(&self) -> Result<(DiskFigures, u64)> {
        let mut disk = Disk::open(&self.socket, &self.options())?;
        figure("disk_bytes", disk.facts.bytes);
        figure("features", format_args!("{:#x}", disk.session.features()));
        let before = daemon::usage(&self.pids);
        let figures = run(&mut disk, &self.load(), &AtomicU64::new(0))?;
        let cpu_ns = daemon::usage(&self.pids).cpu_ns_since(&before);
        disk.stop()?;
        Ok((figures, cpu_ns))
    }

    fn run_pvscsi(&self) -> Result<(DiskFigures, u64)> {
        let (queue, facts) = PvscsiQueue::open(&self.socket, &self.options())?;
        figure("disk_bytes", facts.bytes);
        let (mut queues, sent) = ([queue], |queue: &PvscsiQueue| queue.messages());
        let (before, messages) = (daemon::usage(&self.pids), sent(&queues[0]));
        let figures = run_on(facts, &mut queues, &self.load(), &AtomicU64::new(0))?;
        let cpu_ns = daemon::usage(&self.pids).cpu_ns_since(&before);
        let each = (sent(&queues[0]) - messages) as f64 / figures.ios.max(1) as f64;
        figure("messages_per_io", format_args!("{each:.4}"));
        Ok((figures, cpu_ns))
    }
}
