//! `standpipe-load iscsi-fuzz`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use super::figure;
use super::iscsi::LoginArguments;
use crate::driver::error::Result;
use crate::driver::iscsi::{Initiator, Options, Url};
use crate::load::disk::{DiskLoad, Pattern};
use crate::load::hostile::{Hostile, HostileFigures, HostileLoad, Leash};
use crate::load::iscsi::{IscsiFigures, Lun, run};

#[derive(Debug, Args)]
#[command(
    after_help = "Example: standpipe-load iscsi-fuzz --url iscsi://127.0.0.1/iqn.x:y/0 --hostile-url iscsi://127.0.0.1/iqn.x:y/1 --seed 7"
)]
pub struct IscsiFuzzArguments {
    /// The healthy session's login; the lower half of its LUN (64M at most) is overwritten
    #[command(flatten)]
    login: LoginArguments,
    /// Where hostile sessions log in: the same by default. With another LUN they may do anything to it
    #[arg(long)]
    hostile_url: Option<Url>,
    /// The hostile initiators' name
    #[arg(long, default_value = "iqn.2026-11.org.standpipe:hostile")]
    hostile_initiator: String,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 10.0)]
    secs: f64,
    /// Hostile connections that are held open without an end
    #[arg(long, default_value_t = 16)]
    held: usize,
    /// Commands of the healthy session in flight
    #[arg(long, default_value_t = 8)]
    depth: u16,
}

impl IscsiFuzzArguments {
    /// True when the healthy session noticed nothing, and another can log in afterwards.
    pub fn run(&self) -> Result<bool> {
        let healthy = Options { tolerant: false, ..self.login.options() };
        let mut session = Initiator::login(&healthy)?;
        let lun = Lun::find(&mut session, self.login.url.lun)?;
        let span = (lun.bytes() / 2).min(64 << 20);
        let hostile_url = self.hostile_url.as_ref().unwrap_or(&self.login.url);
        let hostile = HostileLoad {
            options: Options {
                initiator_name: self.hostile_initiator.clone(),
                // Their own violations of the rules are no faults of the target's.
                tolerant: true,
                ..Options::from_url(hostile_url)
            },
            leash: Leash {
                lun: hostile_url.lun,
                healthy_lun: self.login.url.lun,
                first_block: (span / u64::from(lun.block_bytes)) as u32,
            },
            seed: self.seed,
            held: self.held,
        };
        let load = DiskLoad {
            pattern: Pattern::Verify,
            block_bytes: 4096.max(lun.block_bytes),
            depth: self.depth,
            // Until it is stopped.
            seconds: 1e6,
            poll: false,
            span_bytes: span,
            seed: self.seed,
            stall: Duration::from_secs(20),
        };
        let (progress, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let (healthy_figures, hostile_figures, outcome) = std::thread::scope(|scope| {
            let worker = scope.spawn(|| run(session, &lun, &load, &progress, &stop));
            let mut hostile = Hostile::new(&hostile);
            let end = Instant::now() + Duration::from_secs_f64(self.secs);
            let mut outcome = Ok(());
            while Instant::now() < end && outcome.is_ok() && !worker.is_finished() {
                outcome = hostile.strike();
            }
            stop.store(true, Ordering::Relaxed);
            let figures = worker.join().expect("a load thread does not panic");
            figures.map(|figures| (figures, hostile.figures, outcome))
        })?;
        if let Err(error) = &outcome {
            eprintln!("no further connection: {error}");
        }
        let again = Initiator::login(&healthy);
        if let Err(error) = &again {
            eprintln!("a login afterwards: {error}");
        }
        print(&healthy_figures, &hostile_figures);
        figure("login_afterwards", u8::from(again.is_ok()));
        Ok(healthy_figures.is_faultless() && hostile_figures.stalled == 0 && outcome.is_ok() && again.is_ok())
    }
}

fn print(healthy: &IscsiFigures, hostile: &HostileFigures) {
    figure("hostile_connections", hostile.connections);
    figure("hostile_not_connected", hostile.not_connected);
    figure("hostile_logins", hostile.logins);
    figure("hostile_login_refusals", hostile.login_refusals);
    figure("hostile_stalled_logins", hostile.stalled);
    figure("hostile_pdus", hostile.pdus);
    figure("hostile_bytes", hostile.bytes);
    figure("hostile_answers", hostile.answers);
    figure("hostile_rejects", hostile.rejects);
    figure("hostile_check_conditions", hostile.check_conditions);
    figure("hostile_closed_by_target", hostile.closed_by_target);
    let disk = &healthy.disk;
    figure("healthy_ios", disk.ios);
    figure("healthy_blocks_checked", disk.blocks_checked);
    figure("healthy_p99_us", format_args!("{:.2}", disk.latencies.percentile_us(99.0)));
    figure("healthy_pause_max_ms", format_args!("{:.3}", disk.pause_max.as_secs_f64() * 1e3));
    figure("healthy_errors", disk.errors);
    figure("healthy_wrong_lengths", disk.wrong_lengths);
    figure("healthy_wrong_bytes", disk.wrong_bytes);
    figure("healthy_connections_lost", u8::from(healthy.lost.is_some()));
    if let Some(error) = &disk.first_error {
        eprintln!("first fault: {error}");
    }
    if let Some(lost) = &healthy.lost {
        eprintln!("the healthy session: {lost}");
    }
}
