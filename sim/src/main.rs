//! Runs scenarios by seed until enough crash points were met.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use standpipe_sim::{Options, Report, cluster, run, table};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Guests with disks and NICs of their own.
    Guests,
    /// Initiators that share a volume, reserve it and fence each other.
    Cluster,
}

/// Runs the simulated world from seeds, and prints what held.
#[derive(Parser)]
struct Arguments {
    #[arg(long, value_enum, default_value_t = Scenario::Guests)]
    scenario: Scenario,
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
    match arguments.scenario {
        Scenario::Guests => guests(&arguments),
        Scenario::Cluster => shared(&arguments),
    }
}

fn complain(seed: u64, lost: u64, repeated: u64, wrong: &[String]) {
    eprintln!("seed {seed}: lost={lost} repeated={repeated}");
    wrong.iter().take(10).for_each(|what| eprintln!("  {what}"));
}

fn guests(arguments: &Arguments) -> ExitCode {
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
            complain(seed, report.lost, report.repeated, &report.wrong);
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

fn shared(arguments: &Arguments) -> ExitCode {
    let mut total = cluster::Report::default();
    let (mut seeds, mut seed) = (0u64, arguments.seeds.start);
    while seed < arguments.seeds.end || total.crash_points < arguments.crashes {
        let options = cluster::Options { turns: arguments.turns, ..cluster::Options::of_seed(seed) };
        let report = cluster::run(seed, options);
        if !report.is_sound() {
            complain(seed, report.lost, report.repeated, &report.wrong);
        }
        total.add(report);
        seeds += 1;
        seed += 1;
    }
    if arguments.ends {
        print!("{}", table(&total.ends));
    }
    println!(
        "crash_points={} seeds={seeds} power_cuts={} in_a_store={} commands={} wrong={} lost={} repeated={}",
        total.crash_points,
        total.power_cuts,
        total.cuts_in_a_store,
        total.commands,
        total.wrong.len(),
        total.lost,
        total.repeated,
    );
    if total.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
