//! Where things are: the repository, the cache of the scripts, and a scratch folder per run.

use crate::{During, Failure, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// The root of the repository that this crate was built from.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in a folder of the repository")
        .to_path_buf()
}

pub fn script(name: &str) -> PathBuf {
    repository().join("script").join(name)
}

/// The cache that `script/paths.sh` describes.
pub fn cache() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("STANDPIPE_CACHE") {
        return Ok(PathBuf::from(folder));
    }
    if let Some(folder) = std::env::var_os("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(folder).join("standpipe"));
    }
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
    Ok(PathBuf::from(home).join(".cache/standpipe"))
}

/// A command that will run in the Debian tree, under the pid that `spawn` reports. It is killed when
/// the thread that spawned it ends, so that a killed test run leaves no QEMU behind: spawn it from a
/// thread that outlives it.
pub fn in_tree(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(script("in-tree")).arg(program);
    command
}

/// Debian's kernels that guests can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    V6_1,
    V6_12,
    V7,
}

impl Kernel {
    pub const ALL: [Kernel; 3] = [Kernel::V6_1, Kernel::V6_12, Kernel::V7];

    /// As `script/guest-image` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::V6_1 => "6.1",
            Kernel::V6_12 => "6.12",
            Kernel::V7 => "7",
        }
    }
}

/// The guest's kernel, initramfs and root disk, and a CD that boots the same guest.
#[derive(Debug, Clone)]
pub struct Image {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub root: PathBuf,
    pub cd: PathBuf,
    /// A folder with `vmlinuz`, which firmware can load, and `initrd`.
    pub boot: PathBuf,
    /// What `uname -r` says in the guest.
    pub release: String,
}

impl Image {
    /// Asks `script/guest-image`, which makes the tree and the image when they are not there.
    pub fn get(kernel: Kernel) -> Result<Image> {
        tree()?;
        Image::made(&["--kernel", kernel.name()])
    }

    /// The same with DPDK in the guest, and Debian 13's kernel.
    pub fn with_dpdk() -> Result<Image> {
        run_script("tree", &["--dpdk"])?;
        Image::made(&["--dpdk"])
    }

    /// Linux 7.3 resumes without the virtio port that the agent speaks through, also with QEMU's own devices
    /// alone: the guest goes on, and cannot say so.
    pub fn agent_outlives_suspend(&self) -> bool {
        self.release.starts_with("6.")
    }

    fn made(arguments: &[&str]) -> Result<Image> {
        let answer = run_script("guest-image", arguments)?;
        let field = |name: &str| {
            answer
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .map(PathBuf::from)
                .during(format!("script/guest-image did not print {name}="))
        };
        Ok(Image {
            kernel: field("kernel")?,
            initrd: field("initrd")?,
            root: field("root")?,
            cd: field("cd")?,
            boot: field("boot")?,
            release: field("release")?.display().to_string(),
        })
    }
}

/// Makes the Debian tree, unless it is there.
pub fn tree() -> Result<()> {
    run_script("tree", &[]).map(drop)
}

/// Makes the Debian tree with the firmware that boots over networks and its servers, unless it is there, and
/// says where it is.
pub fn tree_with_firmware() -> Result<PathBuf> {
    run_script("tree", &["--firmware"]).map(|path| PathBuf::from(path.trim()))
}

/// An option ROM with a UEFI driver for PVSCSI, which is built when it is not there.
pub fn pvscsi_rom() -> Result<PathBuf> {
    run_script("pvscsi-rom", &[]).map(|path| PathBuf::from(path.trim()))
}

fn run_script(name: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(script(name))
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .during(format!("running script/{name}"))?;
    if !output.status.success() {
        return Err(Failure::new(format!("script/{name} failed; its message is above")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Two folders of one run: files under the cache (a real disk), sockets under /tmp (a socket's path
/// has at most 107 bytes). They are removed at the end; STANDPIPE_KEEP=1 keeps the files, with the
/// logs of the server, of QEMU and of the guests' consoles.
#[derive(Debug)]
pub struct Scratch {
    pub files: PathBuf,
    pub sockets: PathBuf,
    keep: AtomicBool,
}

impl Scratch {
    pub fn new(name: &str) -> Result<Scratch> {
        purge(&cache()?.join("run"));
        let pid = std::process::id();
        let files = cache()?.join("run").join(format!("{name}-{pid}"));
        let sockets = std::env::temp_dir().join(format!("standpipe-{pid}-{name}"));
        for folder in [&files, &sockets] {
            let _ = std::fs::remove_dir_all(folder);
            std::fs::create_dir_all(folder).during(format!("creating {}", folder.display()))?;
        }
        Ok(Scratch { files, sockets, keep: AtomicBool::new(std::env::var_os("STANDPIPE_KEEP").is_some()) })
    }

    /// Keeps the files when the scratch is dropped: the run failed, and somebody will want the logs.
    pub fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }
}

/// Removes what runs of more than a day ago have kept, or were killed before they could remove.
fn purge(runs: &Path) {
    const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
    for entry in std::fs::read_dir(runs).into_iter().flatten().flatten() {
        let age =
            entry.metadata().and_then(|facts| facts.modified()).ok().and_then(|when| when.elapsed().ok());
        if age.is_some_and(|age| age > DAY) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.sockets);
        if !self.keep.load(Ordering::Relaxed) {
            let _ = std::fs::remove_dir_all(&self.files);
        }
    }
}
