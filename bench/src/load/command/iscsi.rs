//! `standpipe-load iscsi`.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use clap::Args;

use super::{PatternArgument, WaitArgument, figure, print_disk, size};
use crate::driver::error::Result;
use crate::driver::iscsi::{Credentials, Initiator, Options, Url};
use crate::load::daemon;
use crate::load::disk::{DiskLoad, Pattern};
use crate::load::iscsi::{Lun, run};

/// How to log in, for every load that does.
#[derive(Debug, Args)]
pub struct LoginArguments {
    /// iscsi://[user%secret@]host[:port]/iqn[/lun]
    #[arg(long)]
    pub url: Url,
    /// Our name
    #[arg(long, default_value = "iqn.2026-11.org.standpipe:load")]
    pub initiator: String,
    /// What the target has to prove who it is with: user%secret
    #[arg(long, value_parser = credentials)]
    pub mutual: Option<Credentials>,
    /// Ask for digests of headers and data
    #[arg(long)]
    pub digests: bool,
    /// Let the target ask for each write's data (InitialR2T=Yes, ImmediateData=No)
    #[arg(long)]
    pub solicited: bool,
}

fn credentials(text: &str) -> std::result::Result<Credentials, String> {
    let (user, secret) = text.split_once('%').ok_or("user%secret")?;
    Ok(Credentials { user: user.into(), secret: secret.as_bytes().to_vec() })
}

impl LoginArguments {
    /// Other than any other's session of this name.
    pub fn options(&self) -> Options {
        let mut options = Options::from_url(&self.url);
        options.initiator_name = self.initiator.clone();
        options.mutual = self.mutual.clone();
        options.isid[2..].copy_from_slice(&std::process::id().to_be_bytes());
        if self.digests {
            (options.header_digest, options.data_digest) = ("CRC32C".into(), "CRC32C".into());
        }
        if self.solicited {
            (options.initial_r2t, options.immediate_data) = (true, false);
        }
        options.tolerant = true;
        options
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example: standpipe-load iscsi --url iscsi://127.0.0.1/iqn.2026-11.org.example:backup/0 --depth 32"
)]
pub struct IscsiArguments {
    #[command(flatten)]
    login: LoginArguments,
    /// What to do; verify writes, reads, compares, flushes, unmaps and zeroes, and checks every byte
    #[arg(long, value_enum, default_value_t = PatternArgument::Randread)]
    rw: PatternArgument,
    /// Reads in a hundred requests of randrw
    #[arg(long, default_value_t = 70, value_parser = clap::value_parser!(u8).range(0..=100))]
    reads: u8,
    /// Bytes of one request
    #[arg(long, default_value = "4k", value_parser = size)]
    bs: u64,
    /// Commands in flight
    #[arg(long, default_value_t = 32)]
    depth: u16,
    #[arg(long, default_value_t = 3.0)]
    secs: f64,
    #[arg(long, value_enum, default_value_t = WaitArgument::Poll)]
    wait: WaitArgument,
    /// Bytes of the disk that are used (verify: 64M unless given)
    #[arg(long, default_value = "0", value_parser = size)]
    span: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds without an answer after which the run has failed
    #[arg(long, default_value_t = 20.0)]
    stall: f64,
    /// Processes of the server, for its CPU time
    #[arg(long = "pid")]
    pids: Vec<u32>,
}

impl IscsiArguments {
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

    /// True when nothing was wrong with what came back, and the connection held.
    pub fn run(&self) -> Result<bool> {
        let mut session = Initiator::login(&self.login.options())?;
        let lun = Lun::find(&mut session, self.login.url.lun)?;
        figure("disk_bytes", lun.bytes());
        let before = daemon::usage(&self.pids);
        let figures = run(session, &lun, &self.load(), &AtomicU64::new(0), &AtomicBool::new(false))?;
        let cpu_ns = daemon::usage(&self.pids).cpu_ns_since(&before);
        let cpu_ns = (!self.pids.is_empty()).then_some(cpu_ns);
        print_disk(&figures.disk, self.bs, cpu_ns, self.rw == PatternArgument::Verify);
        figure("receives_per_io", format_args!("{:.4}", figures.receives_per_io));
        figure("connections_lost", u8::from(figures.lost.is_some()));
        if let Some(lost) = &figures.lost {
            eprintln!("{lost}");
        }
        Ok(figures.is_faultless())
    }
}
