//! The server under its keeper, as a process of the host that tests can kill the worker of.

use crate::guest::tail;
use crate::place::{Scratch, repository};
use crate::site::Site;
use crate::{During, Failure, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The keeper starts a worker within milliseconds; the bound is for a machine that is busy.
const START_MAX: Duration = Duration::from_secs(20);

pub struct Server {
    keeper: Mutex<Child>,
    keeper_pid: u32,
    binary: PathBuf,
    config: PathBuf,
    api: PathBuf,
    log: PathBuf,
}

/// The program under test: `STANDPIPE_BINARY`, or else the newest that cargo has built here.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("STANDPIPE_BINARY") {
        return Ok(PathBuf::from(path));
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    ["release", "debug"]
        .iter()
        .map(|profile| target.join(profile).join("standpipe"))
        .filter_map(|path| Some((std::fs::metadata(&path).ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
        .during("there is no standpipe program yet: run cargo build --release")
}

impl Server {
    /// Starts keeper and worker on a site, and waits until the API answers.
    pub fn start(scratch: &Scratch, site: &Site) -> Result<Server> {
        for folder in [&site.store, &site.sockets] {
            std::fs::create_dir_all(folder).during(format!("creating {}", folder.display()))?;
        }
        Server::start_with(scratch, &site.toml())
    }

    /// The same on the text of a site, whose folders are there.
    pub fn start_with(scratch: &Scratch, site: &str) -> Result<Server> {
        let binary = binary()?;
        let state = scratch.files.join("state");
        let config = scratch.files.join("site.toml");
        let log = scratch.files.join("server.log");
        std::fs::create_dir_all(&state).during(format!("creating {}", state.display()))?;
        std::fs::write(&config, site).during(format!("writing {}", config.display()))?;
        let output = File::create(&log).during(format!("creating {}", log.display()))?;
        let errors = output.try_clone().during("cloning the server's log")?;
        let api = scratch.sockets.join("api.sock");
        let keeper = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&binary)
            .args(["keep", "--"])
            .arg(&binary)
            .args(["serve", "--state-dir"])
            .arg(&state)
            .arg("--config")
            .arg(&config)
            .arg("--api")
            .arg(&api)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .during("starting standpipe keep")?;
        let server = Server { keeper_pid: keeper.id(), keeper: Mutex::new(keeper), binary, config, api, log };
        server.wait_answer()?;
        Ok(server)
    }

    /// Waits until `standpipe status` answers.
    pub fn wait_answer(&self) -> Result<Value> {
        let deadline = Instant::now() + START_MAX;
        loop {
            let error = match self.status() {
                Ok(status) => return Ok(status),
                Err(error) => error,
            };
            let exited = self.keeper.lock().expect("no holder of this lock panics").try_wait();
            if let Ok(Some(status)) = exited {
                return Err(Failure::new(format!(
                    "the keeper ended with {status}\n{}",
                    tail(&self.log(), 20)
                )));
            }
            if Instant::now() > deadline {
                return Err(Failure::new(format!(
                    "the server does not answer: {error}\n{}",
                    tail(&self.log(), 20)
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn keeper_pid(&self) -> u32 {
        self.keeper_pid
    }

    pub fn keeper_alive(&self) -> bool {
        matches!(self.keeper.lock().expect("no holder of this lock panics").try_wait(), Ok(None))
    }

    /// Runs a sub-command of `standpipe` that has to succeed, and gives what it printed.
    pub fn cli(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.binary)
            .args(arguments)
            .arg("--api")
            .arg(&self.api)
            .stdin(Stdio::null())
            .output()
            .during("starting standpipe")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(format!("standpipe {}: {}", arguments.join(" "), said.trim())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub fn status(&self) -> Result<Value> {
        let text = self.cli(&["status", "--json"])?;
        serde_json::from_str(&text).during("reading the JSON of standpipe status")
    }

    /// The worker that serves now, as the API says.
    pub fn worker(&self) -> Result<u32> {
        let status = self.wait_answer()?;
        status["worker"]["pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok())
            .during("standpipe status names no worker.pid")
    }

    /// The keeper's youngest child, read from /proc: a worker that has just begun has no API yet, and
    /// that is a moment to kill it at, too.
    pub fn youngest_worker(&self) -> Option<u32> {
        let keeper = self.keeper_pid.to_string();
        let mut youngest = None;
        for entry in std::fs::read_dir("/proc").ok()?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            // proc(5): the fields after the command's closing bracket are state, ppid, ..., and
            // starttime is the 20th of them.
            let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
            let fields: Vec<&str> = rest.split(' ').collect();
            let (Some(state), Some(parent), Some(start)) = (fields.first(), fields.get(1), fields.get(19))
            else {
                continue;
            };
            let Ok(start) = start.parse::<u64>() else { continue };
            if *parent == keeper && *state != "Z" && youngest.is_none_or(|(when, _)| start >= when) {
                youngest = Some((start, pid));
            }
        }
        youngest.map(|(_, pid)| pid)
    }

    /// `kill -9` of the worker, wherever it is; gives the pid that was killed.
    pub fn kill_worker(&self) -> Result<u32> {
        let deadline = Instant::now() + START_MAX;
        loop {
            if let Some(pid) = self.youngest_worker()
                && let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw)
                && kill_process(target, Signal::KILL).is_ok()
            {
                return Ok(pid);
            }
            if !self.keeper_alive() || Instant::now() > deadline {
                return Err(Failure::new(format!("there is no worker to kill\n{}", tail(&self.log(), 20))));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Makes the server serve this site: what changed is changed, what stayed goes on.
    pub fn apply(&self, site: &Site) -> Result<()> {
        std::fs::write(&self.config, site.toml()).during(format!("writing {}", self.config.display()))?;
        let config = self.config.to_string_lossy().into_owned();
        self.cli(&["apply", &config]).map(drop)
    }

    /// What the server says QEMU has to be given for a VM.
    pub fn qemu_args(&self, vm: &str, memory_mib: u32) -> Result<Vec<String>> {
        let text = self.cli(&["qemu-args", vm, "--memory", &format!("{memory_mib}MiB")])?;
        Ok(text.split_whitespace().map(String::from).collect())
    }

    /// `kill -9` of keeper and worker: nothing of either is done in order.
    pub fn kill(&self) {
        let worker = self.youngest_worker();
        for pid in [Some(self.keeper_pid), worker].into_iter().flatten() {
            if let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(target, Signal::KILL);
            }
        }
        let _ = self.keeper.lock().expect("no holder of this lock panics").wait();
    }

    /// Ends the keeper, and with it the worker.
    pub fn stop(&self) {
        let worker = self.youngest_worker();
        let mut keeper = self.keeper.lock().expect("no holder of this lock panics");
        if matches!(keeper.try_wait(), Ok(None)) {
            let target = i32::try_from(self.keeper_pid).ok().and_then(Pid::from_raw);
            if let Some(target) = target {
                let _ = kill_process(target, Signal::TERM);
            }
            let deadline = Instant::now() + Duration::from_secs(5);
            while Instant::now() < deadline && matches!(keeper.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
        // A worker whose keeper was killed must not go on either.
        if let Some(pid) = worker
            && std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.windows(5).any(|part| part == b"serve"))
            && let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(target, Signal::KILL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
