//! `standpipe-load iscsi-fuzz`.

use clap::Args;

use super::figure;
use super::iscsi::LoginArguments;
use crate::driver::error::Result;
use crate::driver::iscsi::{Options, Url};
use crate::load::hostile::{HostileFigures, SiegeLoad, besiege};
use crate::load::iscsi::IscsiFigures;

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
        let hostile_url = self.hostile_url.as_ref().unwrap_or(&self.login.url);
        let siege = besiege(&SiegeLoad {
            healthy: Options { tolerant: false, ..self.login.options() },
            healthy_lun: self.login.url.lun,
            hostile: Options {
                initiator_name: self.hostile_initiator.clone(),
                ..Options::from_url(hostile_url)
            },
            hostile_lun: hostile_url.lun,
            seconds: self.secs,
            seed: self.seed,
            held: self.held,
            depth: self.depth,
        })?;
        print(&siege.healthy, &siege.hostile);
        figure("login_afterwards", u8::from(siege.locked_out.is_none()));
        for (what, error) in
            [("no further connection", &siege.unreachable), ("a login afterwards", &siege.locked_out)]
        {
            if let Some(error) = error {
                eprintln!("{what}: {error}");
            }
        }
        Ok(siege.is_unnoticed())
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
