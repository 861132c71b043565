//! `bench disks`: virtio-blk and virtio-scsi of ours against qemu-storage-daemon's virtio-blk, on
//! nothing, on a file in memory and on a file on a disk.

use std::fs;
use std::path::{Path, PathBuf};

use super::figures::{Better, Figures, Key, Measured};
use super::machine::Machine;
use super::ours::Server;
use super::qsd::{self, Qsd, Store};
use super::volume::{DISK_BYTES, create, fill, only_file};
use super::{Options, Side};

const KEYS: &[Key] = &[
    Key { name: "iops", better: Better::Higher },
    Key { name: "mb_per_s", better: Better::Neither },
    Key { name: "p50_us", better: Better::Lower },
    Key { name: "p99_us", better: Better::Lower },
    Key { name: "server_us_per_io", better: Better::Lower },
];

struct Pattern {
    name: &'static str,
    arguments: &'static [&'static str],
}

const PATTERNS: &[Pattern] = &[
    Pattern { name: "randread_4k_depth1", arguments: &["--rw", "randread", "--bs", "4k", "--depth", "1"] },
    Pattern { name: "randread_4k_depth32", arguments: &["--rw", "randread", "--bs", "4k", "--depth", "32"] },
    Pattern {
        name: "randread_4k_depth128",
        arguments: &["--rw", "randread", "--bs", "4k", "--depth", "128"],
    },
    Pattern { name: "read_128k_depth8", arguments: &["--rw", "read", "--bs", "128k", "--depth", "8"] },
];

/// What the disks stand on, by the name that rows and volumes bear.
const STORES: &[&str] = &["null", "ram", "file"];

pub fn run(machine: &Machine, options: &Options) -> Result<(), String> {
    let rows: Vec<(&str, &Pattern)> = STORES
        .iter()
        .flat_map(|store| PATTERNS.iter().map(move |pattern| (*store, pattern)))
        .filter(|(store, pattern)| row(store, pattern).contains(&options.rows))
        .collect();
    if options.runs(Side::Peer) {
        machine.need_tree(&[qsd::PROGRAM])?;
    }
    let folders = Folders::new(machine)?;
    let mut used: Vec<&str> = rows.iter().map(|(store, _)| *store).collect();
    used.dedup();
    let ours = if options.runs(Side::Ours) { Some(start_ours(machine, &folders)?) } else { None };
    let mut peers = Vec::new();
    for store in used {
        // The peer reads the very file that our virtio-blk volume is, where there is one.
        let file = match (store, &ours) {
            ("null", _) => None,
            (_, Some(_)) => Some(fill(only_file(&folders.of(store).join("blk"))?)?),
            (_, None) => Some(fill(create(&folders.of(store).join("blk/peer.img"))?)?),
        };
        if ours.is_some() && store != "null" {
            fill(only_file(&folders.of(store).join("scsi"))?)?;
        }
        if options.runs(Side::Peer) {
            let on = file.as_deref().map_or(Store::Null { bytes: DISK_BYTES }, Store::File);
            peers.push((store, Qsd::start(machine, store, &on)?));
        }
    }
    let mut figures = Figures::default();
    for round in 1..=options.rounds {
        for (store, pattern) in &rows {
            let name = row(store, pattern);
            eprintln!("round {round} of {}: {name}", options.rounds);
            let mut measure = |contender: &str, kind: &str, socket: &Path, pid: u32| -> Result<(), String> {
                let mut arguments = vec!["disk".into(), "--kind".into(), kind.to_owned()];
                arguments.extend(["--socket".into(), socket.to_string_lossy().into_owned()]);
                arguments.extend([
                    "--pid".into(),
                    pid.to_string(),
                    "--secs".into(),
                    options.secs.to_string(),
                ]);
                arguments.extend(pattern.arguments.iter().map(|word| word.to_string()));
                let measured = Measured::parse(&machine.load(&arguments)?);
                figures.add(&name, contender, &measured, KEYS.iter().map(|key| key.name));
                Ok(())
            };
            if let Some(server) = &ours {
                measure("blk", "blk", &server.socket(&format!("{store}.disk0")), server.pid())?;
            }
            if let Some((_, qsd)) = peers.iter().find(|(of, _)| of == store) {
                measure("qsd", "blk", &qsd.socket, qsd.pid())?;
            }
            if let Some(server) = &ours {
                measure("scsi", "scsi", &server.socket(&format!("{store}.disk1")), server.pid())?;
            }
        }
    }
    for (store, pattern) in &rows {
        figures.print(&row(store, pattern), &["blk", "scsi"], "qsd", KEYS);
    }
    Ok(())
}

fn row(store: &str, pattern: &Pattern) -> String {
    format!("{store}.{}", pattern.name)
}

/// Where the volumes' files are: each in a folder of its own, so that it can be found whatever the
/// server calls it.
struct Folders {
    ram: PathBuf,
    file: PathBuf,
}

impl Folders {
    fn new(machine: &Machine) -> Result<Folders, String> {
        let folders = Folders {
            ram: Path::new("/dev/shm").join(format!("standpipe-bench-{}", std::process::id())),
            file: machine.scratch.join("volumes"),
        };
        for folder in [&folders.ram, &folders.file] {
            for kind in ["blk", "scsi"] {
                let path = folder.join(kind);
                fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        Ok(folders)
    }

    fn of(&self, store: &str) -> &Path {
        if store == "ram" { &self.ram } else { &self.file }
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.ram) {
            eprintln!("{} stays behind: {error}", self.ram.display());
        }
    }
}

fn start_ours(machine: &Machine, folders: &Folders) -> Result<Server, String> {
    let mut site = String::new();
    let mut slots = Vec::new();
    for store in STORES {
        for (slot, kind) in [(0, "blk"), (1, "scsi")] {
            if *store == "null" {
                site += &format!("[disk.{store}-{kind}]\nnull = true\nsize = \"{DISK_BYTES}\"\n");
            } else {
                let directory = folders.of(store).join(kind).display().to_string();
                site += &format!("[store.{store}-{kind}]\ndirectory = {directory:?}\n");
                site +=
                    &format!("[disk.{store}-{kind}]\nstore = \"{store}-{kind}\"\nsize = \"{DISK_BYTES}\"\n");
            }
            let volume = if kind == "blk" {
                format!("volume = \"{store}-{kind}\"")
            } else {
                format!("volumes = [\"{store}-{kind}\"]")
            };
            site += &format!("[vm.{store}.disk{slot}]\nmodel = \"virtio-{kind}\"\n{volume}\n");
            slots.push(format!("{store}.disk{slot}"));
        }
    }
    Server::start(machine, &site, &slots)
}
