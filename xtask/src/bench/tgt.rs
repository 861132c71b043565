//! The iSCSI peer: tgtd, with one target whose LUNs are numbered from 1.

use std::path::PathBuf;

use super::machine::{self, Daemon, Machine};

pub const PROGRAM: &str = "/usr/sbin/tgtd";
const ADMIN: &str = "/usr/sbin/tgtadm";
const IQN: &str = "iqn.2026-11.org.standpipe:peer";

/// What the target is set to beyond its defaults, so that a large transfer needs as few PDUs as it
/// does with us.
const PARAMETERS: &[(&str, &str)] = &[
    ("InitialR2T", "No"),
    ("FirstBurstLength", "262144"),
    ("MaxBurstLength", "1048576"),
    ("MaxRecvDataSegmentLength", "262144"),
    ("MaxXmitDataSegmentLength", "262144"),
];

pub struct Tgt {
    daemon: Daemon,
    port: u16,
}

/// What a LUN stands on.
pub struct Lun {
    pub file: PathBuf,
    /// tgt's kind of backing store.
    pub kind: &'static str,
    pub direct: bool,
}

impl Tgt {
    pub fn start(machine: &Machine, luns: &[Lun]) -> Result<Tgt, String> {
        let port = machine::free_port()?;
        // Names its control socket, below 32768; another tgtd of this host has another.
        let control = (port % 32768).to_string();
        let mut words = machine.in_tree(PROGRAM);
        let portal = format!("portal=127.0.0.1:{port}");
        for word in ["-f", "-C", &control, "--iscsi", &portal] {
            words.push(word.to_owned());
        }
        let mut daemon = machine.daemon("tgtd", &words)?;
        daemon.wait_for("its portal", || machine::is_listening(port))?;
        let admin = |arguments: &[&str]| {
            let arguments = [&["-C", &control, "--lld", "iscsi"], arguments].concat();
            machine.output_in_tree(ADMIN, &arguments).map(|_| ())
        };
        let target = ["--mode", "target", "--tid", "1"];
        admin(&[&["--op", "new"], &target[..], &["--targetname", IQN]].concat())?;
        for (name, value) in PARAMETERS {
            admin(&[&["--op", "update"], &target[..], &["--name", name, "--value", value]].concat())?;
        }
        for (at, lun) in luns.iter().enumerate() {
            let (number, file) = ((at + 1).to_string(), lun.file.to_string_lossy());
            let mut arguments = vec!["--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", &number];
            arguments.extend(["--backing-store", &file, "--bstype", lun.kind]);
            if lun.direct {
                arguments.extend(["--bsoflags", "direct"]);
            }
            admin(&arguments)?;
        }
        admin(&[&["--op", "bind"], &target[..], &["--initiator-address", "ALL"]].concat())?;
        Ok(Tgt { daemon, port })
    }

    /// The URL of the LUN at this place of the list.
    pub fn url(&self, at: usize) -> String {
        format!("iscsi://127.0.0.1:{}/{IQN}/{}", self.port, at + 1)
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }
}
