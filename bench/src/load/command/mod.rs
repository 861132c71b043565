//! The sub-commands of `standpipe-load`: arguments in, `key=value` lines out.

pub mod crowd;
pub mod disk;
pub mod iscsi;
pub mod iscsi_fuzz;
pub mod net;

use std::fmt::Display;

use clap::ValueEnum;

use crate::load::disk::{DiskFigures, Pattern};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PatternArgument {
    Randread,
    Randwrite,
    Randrw,
    Read,
    Write,
    Verify,
}

impl PatternArgument {
    fn pattern(self, reads_percent: u8) -> Pattern {
        match self {
            PatternArgument::Randread => Pattern::RandomRead,
            PatternArgument::Randwrite => Pattern::RandomWrite,
            PatternArgument::Randrw => Pattern::RandomMixed { reads_percent },
            PatternArgument::Read => Pattern::SequentialRead,
            PatternArgument::Write => Pattern::SequentialWrite,
            PatternArgument::Verify => Pattern::Verify,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WaitArgument {
    /// Spin on what is to come, interrupts off
    Poll,
    /// Sleep until it comes
    Event,
}

/// One line of the result.
fn figure(key: &str, value: impl Display) {
    println!("{key}={value}");
}

/// The lines of a disk's load. `cpu_ns`: what the server's processes used, where they are known.
fn print_disk(figures: &DiskFigures, block_bytes: u64, cpu_ns: Option<u64>, is_verified: bool) {
    let ios = figures.ios.max(1) as f64;
    let rate = figures.ios as f64 / figures.seconds;
    figure("ios", figures.ios);
    figure("iops", format_args!("{rate:.0}"));
    figure("mb_per_s", format_args!("{:.1}", rate * block_bytes as f64 / 1e6));
    figure("p50_us", format_args!("{:.2}", figures.latencies.percentile_us(50.0)));
    figure("p99_us", format_args!("{:.2}", figures.latencies.percentile_us(99.0)));
    figure("p999_us", format_args!("{:.2}", figures.latencies.percentile_us(99.9)));
    figure("max_us", format_args!("{:.1}", figures.latencies.max_us()));
    figure("pause_max_ms", format_args!("{:.3}", figures.pause_max.as_secs_f64() * 1e3));
    figure("kicks_per_io", format_args!("{:.4}", figures.kicks as f64 / ios));
    figure("sleeps_per_io", format_args!("{:.4}", figures.sleeps as f64 / ios));
    if let Some(cpu_ns) = cpu_ns {
        figure("server_us_per_io", format_args!("{:.3}", cpu_ns as f64 / 1e3 / ios));
        figure("server_cores", format_args!("{:.3}", cpu_ns as f64 / 1e9 / figures.seconds));
    }
    figure("errors", figures.errors);
    figure("wrong_lengths", figures.wrong_lengths);
    if is_verified {
        figure("blocks_checked", figures.blocks_checked);
        figure("wrong_bytes", figures.wrong_bytes);
    }
    if let Some(error) = &figures.first_error {
        eprintln!("first fault: {error}");
    }
}

/// A size such as 4096, 4k, 128KiB, 1G.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1u64 << 40,
        _ => return Err(format!("{text}: a number with k, m, g or t")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text}: a number with k, m, g or t"))?;
    number.checked_mul(unit).ok_or_else(|| format!("{text} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("4k"), Ok(4096));
        assert_eq!(size("128KiB"), Ok(131072));
        assert_eq!(size("1G"), Ok(1 << 30));
        assert!(size("12x").is_err());
        assert!(size("k").is_err());
        assert!(size("99999999999T").is_err());
    }
}
