//! `bench iscsi`: our iSCSI target against tgt over the loopback, on nothing, on a file in memory
//! and on a file on a disk, with our initiator and with libiscsi's `iscsi-perf`.

use std::fs;
use std::path::{Path, PathBuf};

use super::figures::{Better, Figures, Key, Measured};
use super::machine::{self, Machine};
use super::ours::Server;
use super::tgt::{self, Lun, Tgt};
use super::volume::{DISK_BYTES, create, fill, only_file};
use super::{Options, Side};

const KEYS: &[Key] = &[
    Key { name: "iops", better: Better::Higher },
    Key { name: "mb_per_s", better: Better::Neither },
    Key { name: "p50_us", better: Better::Lower },
    Key { name: "p99_us", better: Better::Lower },
    Key { name: "server_us_per_io", better: Better::Lower },
];

const PERF: &str = "/usr/bin/iscsi-perf";
const IQN: &str = "iqn.2026-11.org.standpipe:bench";

enum Pattern {
    /// Arguments of `standpipe-load iscsi`.
    Load(&'static str, &'static [&'static str]),
    /// Random reads of 4 KiB, so many in flight, by libiscsi.
    Perf(&'static str, &'static str),
}

const PATTERNS: &[Pattern] = &[
    Pattern::Load("randread_4k_depth1", &["--rw", "randread", "--bs", "4k", "--depth", "1"]),
    Pattern::Load("randread_4k_depth32", &["--rw", "randread", "--bs", "4k", "--depth", "32"]),
    Pattern::Load("randwrite_4k_depth32", &["--rw", "randwrite", "--bs", "4k", "--depth", "32"]),
    Pattern::Load("read_128k_depth8", &["--rw", "read", "--bs", "128k", "--depth", "8"]),
    Pattern::Load("write_128k_depth8", &["--rw", "write", "--bs", "128k", "--depth", "8"]),
    Pattern::Perf("perf_randread_4k_depth32", "32"),
];

impl Pattern {
    fn name(&self) -> &'static str {
        match self {
            Pattern::Load(name, _) | Pattern::Perf(name, _) => name,
        }
    }

    fn measure(&self, machine: &Machine, url: &str, pid: u32, secs: f64) -> Result<Measured, String> {
        match self {
            Pattern::Load(_, words) => {
                let mut arguments: Vec<String> = ["iscsi", "--url", url, "--pid"].map(String::from).to_vec();
                arguments.extend([pid.to_string(), "--secs".into(), secs.to_string()]);
                arguments.extend(words.iter().map(|word| word.to_string()));
                Ok(Measured::parse(&machine.load(&arguments)?))
            }
            Pattern::Perf(_, depth) => {
                let mut words = machine.in_tree(PERF);
                // It counts whole seconds, and its first second is not full.
                let secs = (secs.ceil().max(1.0) + 1.0).to_string();
                let arguments = ["-b", "8", "-m", depth, "-r", "-t", &secs, url];
                words.extend(arguments.map(String::from));
                let output = machine.on_load_core(&words)?;
                let iops = perf_iops(&output).ok_or(format!("{PERF} printed no figures: {output}"))?;
                Ok(Measured::parse(&format!("iops={iops}\n")))
            }
        }
    }
}

/// The last average that `iscsi-perf` printed: `... iops average 46000 (180 MB/s) ...`.
fn perf_iops(output: &str) -> Option<u64> {
    let after = output.rsplit("iops average ").next().filter(|rest| rest.len() < output.len())?;
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after[..digits].parse().ok()
}

/// What the LUNs stand on, in their order, by the name that rows and volumes bear.
const STORES: &[&str] = &["null", "ram", "file"];

pub fn run(machine: &Machine, options: &Options) -> Result<(), String> {
    let rows: Vec<(usize, &Pattern)> = (0..STORES.len())
        .flat_map(|store| PATTERNS.iter().map(move |pattern| (store, pattern)))
        .filter(|(store, pattern)| row(*store, pattern).contains(&options.rows))
        .collect();
    let programs = [tgt::PROGRAM, PERF];
    let needed = if options.runs(Side::Peer) { &programs[..] } else { &programs[1..] };
    if options.runs(Side::Peer) || rows.iter().any(|(_, pattern)| matches!(pattern, Pattern::Perf(..))) {
        machine.need_tree(needed)?;
    }
    let folders = Folders::new(machine)?;
    let ours = if options.runs(Side::Ours) { Some(start_ours(machine, &folders)?) } else { None };
    let peer = if options.runs(Side::Peer) { Some(start_peer(machine, &folders)?) } else { None };
    let mut figures = Figures::default();
    for round in 1..=options.rounds {
        for (store, pattern) in &rows {
            let name = row(*store, pattern);
            eprintln!("round {round} of {}: {name}", options.rounds);
            let mut measure = |contender: &str, url: &str, pid: u32| -> Result<(), String> {
                let measured = pattern.measure(machine, url, pid, options.secs)?;
                figures.add(&name, contender, &measured, KEYS.iter().map(|key| key.name));
                Ok(())
            };
            if let Some((server, port)) = &ours {
                measure("ours", &format!("iscsi://127.0.0.1:{port}/{IQN}/{store}"), server.pid())?;
            }
            if let Some(tgt) = &peer {
                measure("tgt", &tgt.url(*store), tgt.pid())?;
            }
        }
    }
    for (store, pattern) in &rows {
        figures.print(&row(*store, pattern), &["ours"], "tgt", KEYS);
    }
    Ok(())
}

fn row(store: usize, pattern: &Pattern) -> String {
    format!("{}.{}", STORES[store], pattern.name())
}

/// Where the files are, ours and the peer's: the same kind of file for both, but never the same one,
/// because both write.
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
            for kind in ["ours", "tgt"] {
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

fn start_ours(machine: &Machine, folders: &Folders) -> Result<(Server, u16), String> {
    let port = machine::free_port()?;
    let (mut site, mut luns) = (format!("[portal.a]\nlisten = \"127.0.0.1:{port}\"\n"), String::new());
    for (lun, store) in STORES.iter().enumerate() {
        if *store == "null" {
            site += &format!("[disk.{store}]\nnull = true\nsize = \"{DISK_BYTES}\"\n");
        } else {
            let directory = folders.of(store).join("ours").display().to_string();
            site += &format!("[store.{store}]\ndirectory = {directory:?}\n");
            site += &format!("[disk.{store}]\nstore = \"{store}\"\nsize = \"{DISK_BYTES}\"\n");
        }
        luns += &format!("{lun} = \"{store}\"\n");
    }
    site += &format!("[target.bench]\niqn = \"{IQN}\"\nportals = [\"a\"]\nopen = true\n");
    site += &format!("[target.bench.luns]\n{luns}");
    let server = Server::start_at_port(machine, &site, port)?;
    for store in &STORES[1..] {
        fill(only_file(&folders.of(store).join("ours"))?)?;
    }
    Ok((server, port))
}

fn start_peer(machine: &Machine, folders: &Folders) -> Result<Tgt, String> {
    let mut luns = Vec::new();
    for store in STORES {
        let file = create(&folders.of(store).join(format!("tgt/{store}.img")))?;
        // Ours goes past the page cache; in memory there is nothing to go past.
        let (kind, direct) = if *store == "null" { ("null", false) } else { ("rdwr", *store == "file") };
        let file = if *store == "null" { file } else { fill(file)? };
        luns.push(Lun { file, kind, direct });
    }
    Tgt::start(machine, &luns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_average_of_iscsi_perf_is_taken() {
        let output = "\rfrom start: iops average 100 (1 MB/s) \rfrom start: iops average 46123 (180 MB/s)\n";
        assert_eq!(perf_iops(output), Some(46123));
        assert_eq!(perf_iops("error"), None);
    }
}
