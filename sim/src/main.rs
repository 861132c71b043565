//! Runs scenarios by seed until enough crash points were met.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use standpipe_sim::{Options, Report, run, table};

/// Runs the simulated world from seeds, and prints what held.
#[derive(Parser)]
struct Arguments {
    /// Seeds, as FROM..TO.
    #[arg(long, default_value = "0..100", value_parser = range)]
    seeds: std::ops::Range<u64>,
    /// Go on with further seeds until the worker has died this often.
    #[arg(long, default_value_t = 0)]
    crashes: u64,
    /// Turns of each world's life.
    #[arg(long, default_value_t = 300)]
    turns: u32,
    /// Print how often each named end was met.
    #[arg(long)]
    ends: bool,
}

fn range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number"));
    match text.split_once("..") {
        Some((from, to)) => Ok(number(from)?..number(to)?),
        None => number(text).map(|seed| seed..seed + 1),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut total = Report::default();
    let (mut seeds, mut seed) = (0u64, arguments.seeds.start);
    while seed < arguments.seeds.end || total.crash_points < arguments.crashes {
        let options = Options {
            turns: arguments.turns,
            crash_percent: 40,
            faults: seed % 2 == 1,
            power_cuts: (seed % 3) as u32,
            sabotage: None,
        };
        let report = run(seed, options);
        if !report.is_sound() {
            eprintln!("seed {seed}: lost={} repeated={}", report.lost, report.repeated);
            report.wrong.iter().take(10).for_each(|what| eprintln!("  {what}"));
        }
        total.add(report);
        seeds += 1;
        seed += 1;
    }
    if arguments.ends {
        print!("{}", table(&total.ends));
    }
    println!(
        "crash_points={} at_a_store={} seeds={seeds} power_cuts={} requests={} frames={} again_after_crash={} \
         wrong_bytes={} lost={} repeated={}",
        total.crash_points,
        total.at_a_store,
        total.power_cuts,
        total.requests,
        total.frames,
        total.again_after_crash,
        total.wrong.len(),
        total.lost,
        total.repeated,
    );
    if total.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
