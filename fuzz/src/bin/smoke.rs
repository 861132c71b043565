//! Runs every target on mutated seeds for a while, on any compiler. What libFuzzer would do better
//! it is still good for: each seed reaches deep, and each release is tried with millions of inputs.

#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use standpipe_fuzz::{TARGETS, Target};

/// libFuzzer's default.
const INPUT_MAX_BYTES: usize = 4096;

struct Arguments {
    seconds: u64,
    seed: u64,
    targets: Vec<String>,
    /// Where cargo-fuzz looks for inputs to begin with: DIRECTORY/TARGET/.
    write_seeds: Option<PathBuf>,
    /// DIRECTORY/TARGET/* become kept/TARGET.
    pack: Option<PathBuf>,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments { seconds: 5, seed: 1, targets: Vec::new(), write_seeds: None, pack: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("`{word}` wants a value"));
        let number = |text: String| text.parse().map_err(|_| format!("`{text}` is no number"));
        match word.as_str() {
            "--seconds" => found.seconds = number(value()?)?,
            "--seed" => found.seed = number(value()?)?,
            "--write-seeds" => found.write_seeds = Some(value()?.into()),
            "--pack" => found.pack = Some(value()?.into()),
            name if TARGETS.iter().any(|target| target.name == name) => found.targets.push(name.to_owned()),
            other => {
                let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
                return Err(format!(
                    "`{other}`: known are --seconds N, --seed N, --write-seeds DIRECTORY, --pack DIRECTORY and {}",
                    names.join(", ")
                ));
            }
        }
    }
    Ok(found)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("smoke: {why}");
            return ExitCode::from(2);
        }
    };
    let mut failed = false;
    for target in TARGETS {
        if let Some(directory) = &arguments.write_seeds {
            if let Err(error) = write_seeds(target, directory) {
                eprintln!("smoke: writing seeds to {}: {error}", directory.display());
                return ExitCode::FAILURE;
            }
            continue;
        }
        if let Some(directory) = &arguments.pack {
            if let Err(error) = pack(target, directory) {
                eprintln!("smoke: packing {}: {error}", directory.join(target.name).display());
                return ExitCode::FAILURE;
            }
            continue;
        }
        if arguments.targets.is_empty() || arguments.targets.iter().any(|name| name == target.name) {
            failed |= !run(target, arguments.seed, Duration::from_secs(arguments.seconds));
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn write_seeds(target: &Target, directory: &Path) -> std::io::Result<()> {
    let directory = directory.join(target.name);
    std::fs::create_dir_all(&directory)?;
    for (index, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(directory.join(format!("seed-{index:03}")), seed)?;
    }
    Ok(())
}

/// The inputs of a corpus in one file, in the order of their bytes, so that it does not change with
/// their names. A target without a corpus there is left as it is.
fn pack(target: &Target, directory: &Path) -> std::io::Result<()> {
    let directory = directory.join(target.name);
    if !directory.is_dir() {
        return Ok(());
    }
    let mut inputs = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let mut input = std::fs::read(entry?.path())?;
        input.truncate(INPUT_MAX_BYTES);
        inputs.push(input);
    }
    inputs.sort();
    let mut packed = Vec::new();
    for input in inputs {
        packed.extend((input.len() as u16).to_le_bytes());
        packed.extend(input);
    }
    std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("kept").join(target.name), packed)
}

fn run(target: &Target, seed: u64, time: Duration) -> bool {
    let seeds = (target.seeds)();
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (start, mut inputs) = (Instant::now(), 0u64);
    for input in &seeds {
        if !survives(target, input) {
            return false;
        }
    }
    while start.elapsed() < time {
        for _ in 0..64 {
            let input = mutate(&seeds, &mut dice);
            if !survives(target, &input) {
                return false;
            }
            inputs += 1;
        }
    }
    println!("target={} inputs={inputs} seeds={} failures=0", target.name, seeds.len());
    true
}

fn survives(target: &Target, input: &[u8]) -> bool {
    if catch_unwind(AssertUnwindSafe(|| (target.body)(input))).is_ok() {
        return true;
    }
    let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
    eprintln!("target={} failures=1 input={hex}", target.name);
    false
}

/// xorshift64*, Vigna 2016.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }
}

const INTERESTING: [u8; 10] = [0, 1, 2, 4, 7, 0x10, 0x7f, 0x80, 0xfe, 0xff];

/// A seed, or two joined, or nothing but noise, with a few changes.
fn mutate(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut input = match dice.below(8) {
        0 => (0..dice.below(600)).map(|_| dice.below(256) as u8).collect(),
        1 => {
            let (a, b) = (&seeds[dice.below(seeds.len())], &seeds[dice.below(seeds.len())]);
            [&a[..dice.below(a.len() + 1)], &b[dice.below(b.len() + 1)..]].concat()
        }
        _ => seeds[dice.below(seeds.len())].clone(),
    };
    for _ in 0..dice.below(9) {
        let at = dice.below(input.len() + 1);
        match dice.below(6) {
            0 if at < input.len() => input[at] ^= 1 << dice.below(8),
            1 if at < input.len() => input[at] = INTERESTING[dice.below(INTERESTING.len())],
            2 if at < input.len() => input[at] = input[at].wrapping_add(dice.below(9) as u8).wrapping_sub(4),
            3 => {
                let to = (at + 1 + dice.below(8)).min(input.len());
                input.drain(at.min(to)..to);
            }
            4 => {
                let more: Vec<u8> = (0..1 + dice.below(16)).map(|_| dice.below(256) as u8).collect();
                input.splice(at..at, more);
            }
            _ => {
                // A part again, somewhere else.
                let from = dice.below(input.len() + 1);
                let part = input[from..(from + dice.below(64)).min(input.len())].to_vec();
                input.splice(at..at, part);
            }
        }
    }
    input.truncate(INPUT_MAX_BYTES);
    input
}
