//! Our server with a configuration of the benchmark's own.

use std::fs;
use std::path::PathBuf;

use super::machine::{self, Daemon, Machine};

pub struct Server {
    daemon: Daemon,
    pub sockets: PathBuf,
}

impl Server {
    /// Starts the server with one lane and waits for its slots' sockets. `site` is everything but
    /// the `[server]` table.
    pub fn start(machine: &Machine, site: &str, slots: &[String]) -> Result<Server, String> {
        let mut server = Server::launch(machine, site)?;
        let sockets = &server.sockets;
        let paths: Vec<PathBuf> = slots.iter().map(|slot| sockets.join(format!("{slot}.sock"))).collect();
        server.daemon.wait_for("its slots' sockets", || paths.iter().all(|path| path.exists()))?;
        Ok(server)
    }

    /// The same, waiting for a TCP port of this host that the site has a portal on.
    pub fn start_at_port(machine: &Machine, site: &str, port: u16) -> Result<Server, String> {
        let mut server = Server::launch(machine, site)?;
        server.daemon.wait_for("its portal", || machine::is_listening(port))?;
        Ok(server)
    }

    fn launch(machine: &Machine, site: &str) -> Result<Server, String> {
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
            // Another daemon of this host has the usual one.
            "--api".into(),
            text(&home.join("api.sock")),
        ];
        let daemon = machine.daemon("standpipe", &words)?;
        Ok(Server { daemon, sockets })
    }

    pub fn socket(&self, slot: &str) -> PathBuf {
        self.sockets.join(format!("{slot}.sock"))
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }
}
