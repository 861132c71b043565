//! `cargo xtask bench`: ours beside the peers, in one run, taking turns.
//!
//! The server or the peer has one core, the load generator (`standpipe-load`) the other. Each
//! figure is the median over the rounds; within a round everybody is measured once. What is
//! printed and how to read it stands in docs/benchmarks.md.

mod attach;
mod disks;
mod emulated;
mod figures;
mod iscsi;
mod machine;
mod ours;
mod ovs;
mod qsd;
mod switch;
mod tgt;
mod volume;

use std::path::PathBuf;

use machine::Machine;

const USAGE: &str = "\
usage: cargo xtask bench NAME [OPTIONS]

  disks    virtio-blk and virtio-scsi against qemu-storage-daemon
  switch   virtio-net port to port against Open vSwitch with DPDK
  iscsi    the iSCSI target against tgt
  emulated emulated NICs and pvscsi against virtio outside of guests (--only ours),
           and against QEMU's own models in a guest (--only peer)
  attach   many VMs attached to one server

  --quick        one short round instead of five
  --rounds N     rounds (5)
  --secs S       seconds of one measurement (2)
  --only WHO     ours or peer
  --rows TEXT    only rows whose name contains this
  --vms N        attach: how many VMs (256)
  --server FILE  the server's program (target/release/standpipe, built first)
  --no-build     take the programs in target/release as they are

Results are key=value lines on stdout; what goes on is on stderr.";

/// What the command line asks for.
pub struct Options {
    name: String,
    rounds: usize,
    secs: f64,
    only: Option<Side>,
    rows: String,
    vms: usize,
    server: Option<PathBuf>,
    build: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Peer,
}

impl Options {
    fn parse(name: &str, arguments: &[String]) -> Result<Options, String> {
        let mut options = Options {
            name: name.to_owned(),
            rounds: 5,
            secs: 2.0,
            only: None,
            rows: String::new(),
            vms: 256,
            server: None,
            build: true,
        };
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--quick" => (options.rounds, options.secs) = (1, 1.0),
                "--rounds" => options.rounds = number(name, value()?)?,
                "--secs" => options.secs = number(name, value()?)?,
                "--vms" => options.vms = number(name, value()?)?,
                "--rows" => options.rows = value()?.clone(),
                "--server" => options.server = Some(PathBuf::from(value()?)),
                "--no-build" => options.build = false,
                "--only" => {
                    options.only = Some(match value()?.as_str() {
                        "ours" => Side::Ours,
                        "peer" => Side::Peer,
                        other => return Err(format!("--only {other}: ours or peer")),
                    });
                }
                other => return Err(format!("unknown option {other}\n\n{USAGE}")),
            }
        }
        if options.rounds == 0 || options.secs <= 0.0 {
            return Err("--rounds and --secs are above 0".into());
        }
        Ok(options)
    }

    /// Whether ours is measured at all; `emulated` has QEMU's models beside ours in a guest.
    fn needs_server(&self) -> bool {
        self.runs(Side::Ours) || self.name == "emulated"
    }

    fn runs(&self, side: Side) -> bool {
        self.only.is_none_or(|only| only == side)
    }
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name} {text}: a number is needed"))
}

pub fn run(arguments: &[String]) -> Result<(), String> {
    let Some((name, rest)) = arguments.split_first() else {
        return Err(format!("which one?\n\n{USAGE}"));
    };
    let benchmark: fn(&Machine, &Options) -> Result<(), String> = match name.as_str() {
        "disks" => disks::run,
        "switch" => switch::run,
        "iscsi" => iscsi::run,
        "emulated" => emulated::run,
        "attach" => attach::run,
        "-h" | "--help" => {
            println!("{USAGE}");
            return Ok(());
        }
        other => return Err(format!("unknown benchmark {other}\n\n{USAGE}")),
    };
    let options = Options::parse(name, rest)?;
    let machine = Machine::new(&options)?;
    machine.describe();
    benchmark(&machine, &options)
}
