//! The machine that the benchmarks run on: which cores, where things lie, what is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Options;

pub struct Machine {
    pub repository: PathBuf,
    pub cache: PathBuf,
    /// Scratch of this run, removed at its end.
    pub scratch: PathBuf,
    pub load_program: PathBuf,
    pub server_program: PathBuf,
    /// The core of the load generator, and that of whoever is measured.
    pub load_core: usize,
    pub server_core: usize,
}

impl Machine {
    pub fn new(options: &Options) -> Result<Machine, String> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("xtask lies in the repository")
            .to_path_buf();
        let cache = match std::env::var_os("STANDPIPE_CACHE") {
            Some(cache) => PathBuf::from(cache),
            None => {
                let home = || {
                    PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache")
                };
                std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("standpipe")
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if cores < 2 {
            return Err("two cores are needed: one for the load, one for what is measured".into());
        }
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(target) => PathBuf::from(target),
            None => repository.join("target"),
        };
        let mut packages = vec!["standpipe-bench"];
        if options.needs_server() && options.server.is_none() {
            packages.push("standpipe-server");
        }
        if options.build {
            build(&repository, &packages)?;
        }
        let scratch = cache.join(format!("run/bench-{}", std::process::id()));
        fs::create_dir_all(&scratch)
            .map_err(|error| format!("cannot make {}: {error}", scratch.display()))?;
        Ok(Machine {
            load_program: target.join("release/standpipe-load"),
            server_program: options.server.clone().unwrap_or_else(|| target.join("release/standpipe")),
            repository,
            cache,
            scratch,
            load_core: 0,
            server_core: 1,
        })
    }

    /// The path of another program of ours, built first unless that was switched off.
    pub fn program(&self, package: &str, options: &Options) -> Result<PathBuf, String> {
        if options.build {
            build(&self.repository, &[package])?;
        }
        Ok(self.load_program.with_file_name(package))
    }

    /// What a reader of the figures must know of the machine.
    pub fn describe(&self) {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
        println!("machine.cpu={}", model.trim_start_matches([' ', '\t', ':']));
        println!("machine.load_core={}", self.load_core);
        println!("machine.server_core={}", self.server_core);
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or("").to_owned();
        println!("machine.load_average_before={load}");
        if load.parse::<f64>().is_ok_and(|load| load > 0.5) {
            eprintln!(
                "note: other work is going on here (load average {load}): trust the ratios, not the figures"
            );
        }
    }

    /// Fails with what is missing and how to get it, unless the tree has all these programs.
    pub fn need_tree(&self, programs: &[&str]) -> Result<(), String> {
        let tree = self.cache.join("debian13");
        let lacks = |program: &&&str| !tree.join(program.trim_start_matches('/')).exists();
        let missing: Vec<_> = programs.iter().filter(lacks).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!(
            "missing in {}: {}\n  get it with: script/tree --bench   (or STANDPIPE_CACHE=folder with a debian13 tree in it)",
            tree.display(),
            missing.join(", ")
        ))
    }

    /// A command in the Debian tree; its process is the program itself.
    pub fn in_tree(&self, program: &str) -> Vec<String> {
        let script = self.repository.join("script/in-tree");
        vec![script.to_string_lossy().into_owned(), program.to_owned()]
    }

    /// The STANDPIPE_CACHE that `script/in-tree` must see.
    fn prepared(&self, mut command: Command) -> Command {
        command.env("STANDPIPE_CACHE", &self.cache);
        command
    }

    /// Runs a program of the tree to its end and returns its output.
    pub fn output_in_tree(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let words = self.in_tree(program);
        let mut command = self.prepared(Command::new(&words[0]));
        command.arg(&words[1]).args(arguments).stdin(Stdio::null());
        let output = command.output().map_err(|error| format!("{program}: {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "{program} {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a daemon on the server's core, before all other work; it ends with us. What it
    /// prints goes to a log.
    pub fn daemon(&self, name: &str, words: &[String]) -> Result<Daemon, String> {
        let log = self.scratch.join(format!("{name}.log"));
        let file = fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = file.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
        let mut command = self.prepared(first_in_line(self.server_core));
        command.args(words).stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
        Ok(Daemon { name: name.to_owned(), child, log })
    }

    /// Runs the load generator on its core; returns its output.
    pub fn load(&self, arguments: &[String]) -> Result<String, String> {
        let mut words = vec![self.load_program.to_string_lossy().into_owned()];
        words.extend_from_slice(arguments);
        self.on_load_core(&words)
    }

    /// Runs any program on the load generator's core; returns its output.
    pub fn on_load_core(&self, words: &[String]) -> Result<String, String> {
        let mut command = self.prepared(first_in_line(self.load_core));
        command.args(words).stdin(Stdio::null());
        let output = command.output().map_err(|error| format!("{}: {error}", words[0]))?;
        if !output.status.success() {
            let (out, errors) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            return Err(format!("{} failed: {errors}{out}", words.join(" ")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.scratch) {
            eprintln!("{} stays behind: {error}", self.scratch.display());
        }
    }
}

/// A command that runs on one core, in a scheduling group of its own that goes before others, and
/// that ends when we do.
fn first_in_line(core: usize) -> Command {
    const SCRIPT: &str = "echo -20 >/proc/self/autogroup 2>/dev/null || :\n\
        exec nice -n -20 setpriv --pdeathsig TERM taskset -c \"$0\" \"$@\"";
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", SCRIPT]).arg(core.to_string());
    command
}

fn build(repository: &Path, packages: &[&str]) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(repository).args(["build", "--release"]);
    for package in packages {
        command.args(["--package", package]);
    }
    let status = command.status().map_err(|error| format!("cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{} did not build", packages.join(" and "))) }
}

/// A TCP port of the loopback that nobody listens on.
pub fn free_port() -> Result<u16, String> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|error| format!("no TCP port to be had: {error}"))
}

pub fn is_listening(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// A child that is ended when it is dropped.
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready` is true.
    pub fn wait_for(&mut self, what: &str, ready: impl Fn() -> bool) -> Result<(), String> {
        const PATIENCE: Duration = Duration::from_secs(30);
        let start = Instant::now();
        while !ready() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} ended ({status}) before {what}:\n{}", self.name, self.end_of_log()));
            }
            if start.elapsed() > PATIENCE {
                return Err(format!(
                    "{}: {what} did not come in {PATIENCE:?}:\n{}",
                    self.name,
                    self.end_of_log()
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub fn end_of_log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Holds it where it is, or lets it go on: a peer that polls would take the core from us.
    pub fn hold(&self, held: bool) -> Result<(), String> {
        self.signal(if held { "STOP" } else { "CONT" })
    }

    fn signal(&self, signal: &str) -> Result<(), String> {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.pid().to_string()).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            _ => Err(format!("cannot send {signal} to {}", self.name)),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        const GRACE: Duration = Duration::from_secs(3);
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        let _ = self.signal("CONT");
        let _ = self.signal("TERM");
        let start = Instant::now();
        while start.elapsed() < GRACE {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reserved 2 MiB pages, given back at the end.
pub struct HugePages {
    before: u64,
}

const NR_HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";

impl HugePages {
    /// Makes sure that `pages` are free.
    pub fn reserve(pages: u64) -> Result<HugePages, String> {
        let read = |name: &str| -> u64 {
            let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
            line.split_whitespace().next().and_then(|count| count.parse().ok()).unwrap_or(0)
        };
        let (before, free) = (read("HugePages_Total:"), read("HugePages_Free:"));
        if free < pages {
            let write = fs::write(NR_HUGEPAGES, format!("{}", before + pages - free));
            write.map_err(|error| format!("{NR_HUGEPAGES}: {error} (the peer needs {pages} huge pages)"))?;
        }
        let pages_now = HugePages { before };
        let free = read("HugePages_Free:");
        if free < pages {
            return Err(format!(
                "only {free} of {pages} huge pages could be had: memory is short or fragmented"
            ));
        }
        Ok(pages_now)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if let Err(error) = fs::write(NR_HUGEPAGES, self.before.to_string()) {
            eprintln!("{NR_HUGEPAGES} could not be put back to {}: {error}", self.before);
        }
    }
}
