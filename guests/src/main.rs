//! `standpipe-guests`: the tests in real guests, one by one or all, and the crash test.

#![forbid(unsafe_code)]

use standpipe_guests::cases::{self, Case};
use standpipe_guests::site::DiskModel;
use standpipe_guests::speed::{Plan, speed};
use standpipe_guests::torture::{Model, torture};
use standpipe_guests::{
    Against, Bench, During, Failure, Image, Kernel, Result, World, accel, conformance, demo,
};
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const USAGE: &str = "usage:
  standpipe-guests list                          the tests and what they show
  standpipe-guests test [OPTIONS] NAME...|all    run tests
      --long              longer runs, 200 kills in the crash tests, and the emulated adapters with `all`
      --kernel 6.1|6.12|7|all
                          Debian 12's kernel, 13's (without it), that of 13's backports, or each in turn
      --jobs N            so many tests at once, each with its own server and guests; as a default one for
                          each processor, two at most. Tests whose figures are times run by themselves.
      --against qemu      QEMU's own devices instead of Standpipe: checks the tests themselves
  standpipe-guests run [--against qemu] COMMAND  boot a guest with two disks and a NIC, run a shell command in it
  standpipe-guests torture --model MODEL|all|emulated --kills N
                                                 kill the worker under verified load; all are the virtio models
  standpipe-guests speed [--rounds N] [--secs S] [--model TEXT] [--doorbells trapped|mapped]
                                                 emulated models beside QEMU's own in the same guest
  standpipe-guests iscsi-suite [--long] [SUITE...]
                                                 libiscsi's conformance suite on our iSCSI target, without a guest
      --long              all of it on disks of 512e and 4Kn, too
  standpipe-guests demo                          what script/demo shows
STANDPIPE_BINARY names the program to test; STANDPIPE_ACCEL=kvm|tcg skips the probe of KVM;
STANDPIPE_SEED repeats the moments of the kills.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["list"] => {
            for case in cases::known() {
                println!("{:18} {}", case.name, case.about);
            }
            Ok(true)
        }
        ["test", rest @ ..] => test(rest),
        ["run", command] => run(command, Against::Standpipe),
        ["run", "--against", "qemu", command] => run(command, Against::Qemu),
        ["iscsi-suite", rest @ ..] => conformance::conformance(rest),
        ["demo"] => demo::demo().map(|()| true),
        ["torture", rest @ ..] => torture_command(rest),
        ["speed", rest @ ..] => speed_command(rest),
        _ => Err(Failure::new(USAGE)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn prepare(kernel: Kernel, against: Against, long: bool) -> Result<Bench> {
    let image = Image::get(kernel)?;
    let (accel, why) = accel::probe(&image, |what| eprintln!("  {what}"))?;
    eprintln!("  guests run with {why}");
    Ok(Bench { image, accel, against, long })
}

fn test(words: &[&str]) -> Result<bool> {
    let (mut against, mut long, mut names) = (Against::Standpipe, false, Vec::new());
    let mut jobs = std::thread::available_parallelism().map_or(1, |processors| processors.get().min(2));
    let mut kernels = vec![Kernel::V6_12];
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--long" => long = true,
            "--kernel" => {
                let named = words.next().copied().unwrap_or("");
                kernels = Kernel::ALL
                    .into_iter()
                    .filter(|kernel| named == "all" || kernel.name() == named)
                    .collect();
                if kernels.is_empty() {
                    return Err(Failure::new("--kernel takes 6.1, 6.12, 7 or all"));
                }
            }
            "--jobs" => {
                let number = words.next().and_then(|word| word.parse().ok());
                jobs = number
                    .filter(|number| (1..=64).contains(number))
                    .ok_or_else(|| Failure::new("--jobs takes a number from 1 to 64"))?;
            }
            "--against" => {
                against = match words.next() {
                    Some(&"qemu") => Against::Qemu,
                    Some(&"standpipe") => Against::Standpipe,
                    _ => return Err(Failure::new("--against takes standpipe or qemu")),
                };
            }
            name => names.push(name),
        }
    }
    let mut chosen: Vec<&Case> = Vec::new();
    for name in names {
        match (name, cases::find(name)) {
            ("all", _) => {
                let more = if long { cases::LONG } else { &[] };
                chosen.extend(cases::ALL.iter().chain(more).filter(|case| case.fits(against)));
            }
            (_, Some(case)) if case.fits(against) => chosen.push(case),
            (_, Some(_)) => return Err(Failure::new(format!("{name} needs Standpipe"))),
            (_, None) => {
                return Err(Failure::new(format!("there is no test {name}; see: standpipe-guests list")));
            }
        }
    }
    if chosen.is_empty() {
        return Err(Failure::new(USAGE));
    }
    let mut failures = 0;
    let mut passes = 0;
    for kernel in &kernels {
        let bench = prepare(*kernel, against, long)?;
        if kernels.len() > 1 {
            println!("Linux {}", bench.image.release);
        }
        let (count, failed) = run_cases(&chosen, &bench, jobs);
        failures += failed;
        passes += count - failed;
    }
    println!("guests: {passes} passed, {failures} failed");
    Ok(failures == 0)
}

/// Runs cases on one image, and gives their number and that of those that failed.
fn run_cases(chosen: &[&Case], bench: &Bench, jobs: usize) -> (u32, u32) {
    let (beside, alone): (Vec<&Case>, Vec<&Case>) = chosen.iter().partition(|case| !case.alone);
    let count = AtomicU32::new(0);
    let failed = AtomicU32::new(0);
    let one = |case: &Case| {
        count.fetch_add(1, Ordering::Relaxed);
        if !told(case, bench) {
            failed.fetch_add(1, Ordering::Relaxed);
        }
    };
    let next = AtomicUsize::new(0);
    // A guest ends with the thread that started it, which is why each runs tests until none is left.
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(case) = beside.get(next.fetch_add(1, Ordering::Relaxed)) {
                    one(case);
                }
            });
        }
    });
    alone.into_iter().for_each(one);
    (count.into_inner(), failed.into_inner())
}

/// Runs a case and prints what came of it, as lines that hang together.
fn told(case: &Case, bench: &Bench) -> bool {
    let started = Instant::now();
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| (case.run)(bench)))
        .unwrap_or_else(|_| Err(Failure::new("the test panicked; its message is above")));
    let seconds = started.elapsed().as_secs_f64();
    let (word, said) = match &result {
        Ok(figures) => ("ok    ", figures.clone()),
        Err(error) => ("FAILED", error.to_string()),
    };
    println!("{word} {:18} {seconds:6.1} s  {said}", case.name);
    result.is_ok()
}

fn run(command: &str, against: Against) -> Result<bool> {
    let bench = prepare(Kernel::V6_12, against, false)?;
    let world = World::open(&bench, "run", |site| {
        site.volume("first", 256)
            .volume("second", 256)
            .network("lan", 1500, None)
            .disk("web1", "disk0", DiskModel::Scsi, &["first"])
            .disk("web1", "disk1", DiskModel::Blk, &["second"])
            .nic("web1", "nic0", "lan", 1, 1)
    })?;
    let guest = world.boot("web1")?;
    let output = guest.run(command, Duration::from_secs(3600))?;
    print!("{}", output.stdout);
    guest.shutdown()?;
    Ok(output.status == 0)
}

fn speed_command(words: &[&str]) -> Result<bool> {
    let mut plan = Plan { rounds: 3, seconds: 5, models: String::new(), doorbells: "trapped" };
    for pair in words.chunks(2) {
        let [name, value] = pair else { return Err(Failure::new(USAGE)) };
        let number = || value.parse::<u32>().ok().filter(|number| *number > 0);
        match *name {
            "--rounds" => plan.rounds = number().during("--rounds takes a number above 0")?,
            "--secs" => plan.seconds = number().during("--secs takes a number above 0")?,
            "--doorbells" if *value == "trapped" => plan.doorbells = "trapped",
            "--doorbells" if *value == "mapped" => plan.doorbells = "mapped",
            "--model" => plan.models = value.to_string(),
            _ => return Err(Failure::new(USAGE)),
        }
    }
    speed(&prepare(Kernel::V6_12, Against::Standpipe, false)?, &plan)?;
    Ok(true)
}

fn torture_command(words: &[&str]) -> Result<bool> {
    let (mut models, mut kills) = (Model::VIRTIO.to_vec(), 200u32);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().copied().unwrap_or("");
        match *word {
            "--model" if value == "all" => models = Model::VIRTIO.to_vec(),
            "--model" if value == "emulated" => models = Model::EMULATED.to_vec(),
            "--model" => {
                let mut known = Model::VIRTIO.into_iter().chain(Model::EMULATED);
                let model = known.clone().find(|model| model.name() == value);
                models = vec![model.ok_or_else(|| {
                    let names: Vec<&str> = known.by_ref().map(Model::name).collect();
                    Failure::new(format!("--model takes {}, all or emulated", names.join(", ")))
                })?];
            }
            "--kills" => kills = value.parse().map_err(|_| Failure::new("--kills takes a number"))?,
            _ => return Err(Failure::new(USAGE)),
        }
    }
    let bench = prepare(Kernel::V6_12, Against::Standpipe, true)?;
    let mut clean = true;
    for model in models {
        let toll = torture(&bench, model, kills, &mut |kill| {
            if kill % 10 == 0 {
                eprintln!("  {}: {kill} of {kills} kills", model.name());
            }
        })?;
        println!("{toll}");
        clean &= toll.clean();
    }
    Ok(clean)
}
