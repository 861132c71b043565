//! Our server with a configuration of the benchmark's own.

use std::fs;
use std::path::PathBuf;

use super::machine::{Daemon, Machine};

pub struct Server {
    daemon: Daemon,
    pub sockets: PathBuf,
}

impl Server {
    /// Starts the server with one lane and waits for its slots' sockets. `site` is everything but
    /// the `[server]` table.
    pub fn start(machine: &Machine, site: &str, slots: &[String]) -> Result<Server, String> {
        let home = machine.scratch.join("standpipe");
        let sockets = home.join("sockets");
        let make = |folder: &PathBuf| {
            fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
        };
        make(&home.join("state"))?;
        make(&sockets)?;
        let config = home.join("site.toml");
        let text = format!("[server]\nlanes = 1\nsocket_dir = {:?}\n\n{site}", sockets.display().to_string());
        fs::write(&config, text).map_err(|error| format!("{}: {error}", config.display()))?;
        if !machine.server_program.exists() {
            return Err(format!("there is no server at {}", machine.server_program.display()));
        }
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let words = [
            text(&machine.server_program),
            "serve".into(),
            "--state-dir".into(),
            text(&home.join("state")),
            "--config".into(),
            text(&config),
        ];
        let mut daemon = machine.daemon("standpipe", &words)?;
        let paths: Vec<PathBuf> = slots.iter().map(|slot| sockets.join(format!("{slot}.sock"))).collect();
        daemon.wait_for("its slots' sockets", || paths.iter().all(|path| path.exists()))?;
        Ok(Server { daemon, sockets })
    }

    pub fn socket(&self, slot: &str) -> PathBuf {
        self.sockets.join(format!("{slot}.sock"))
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }
}
