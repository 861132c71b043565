//! A guest: a QEMU process in the Debian tree, an agent in the guest that runs commands, and QMP.

use crate::agent::Agent;
use crate::place::in_tree;
use crate::qmp::Qmp;
use crate::{During, Failure, Image, Result};
use serde_json::{Value, json};
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

pub use crate::agent::{Job, Output};

/// How the guest's processor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    Kvm,
    Tcg,
}

impl Accel {
    pub fn name(self) -> &'static str {
        match self {
            Accel::Kvm => "KVM",
            Accel::Tcg => "TCG",
        }
    }
}

/// What boots a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// QEMU enters our kernel, which finds our root disk.
    Kernel,
    /// Nothing of ours: SeaBIOS has to find something among the devices, which is also the root.
    Bios,
    /// The same with OVMF.
    Uefi,
    /// SeaBIOS has to find the kernel; the root disk is there.
    BiosRoot,
    /// OVMF has to find the kernel; the root disk is there.
    UefiRoot,
}

#[derive(Debug, Clone)]
pub struct GuestSpec {
    pub name: String,
    pub memory_mib: u32,
    /// Memory that can be plugged in while the guest runs, in further modules; 0 for none.
    pub pluggable_mib: u32,
    pub smp: u32,
    /// Further arguments of QEMU: the devices under test.
    pub qemu_args: Vec<String>,
    pub start: Start,
    pub accel: Accel,
    /// Where the console's and QEMU's output go.
    pub files: PathBuf,
    /// Where the guest's own sockets are made.
    pub sockets: PathBuf,
}

impl GuestSpec {
    pub fn new(name: &str, accel: Accel, files: &Path, sockets: &Path) -> GuestSpec {
        GuestSpec {
            name: name.to_string(),
            memory_mib: 256,
            pluggable_mib: 0,
            smp: 1,
            qemu_args: Vec::new(),
            start: Start::Kernel,
            accel,
            files: files.to_path_buf(),
            sockets: sockets.to_path_buf(),
        }
    }
}

/// A running guest. Dropping it kills its QEMU.
pub struct Guest {
    spec: GuestSpec,
    qemu: Mutex<Child>,
    agent: Agent,
    qmp: Qmp,
    started: Instant,
}

/// A guest boots in 5 s under TCG on an idle core; a machine that compiles meanwhile is slower.
pub const BOOT_MAX: Duration = Duration::from_secs(300);

/// Time for a small command, with the same allowance.
pub const COMMAND_MAX: Duration = Duration::from_secs(60);

impl Guest {
    /// Starts QEMU and returns at once, so that several guests can boot side by side.
    ///
    /// Call it from a thread that outlives the guest: QEMU is killed when that thread ends.
    pub fn start(image: &Image, spec: GuestSpec) -> Result<Guest> {
        let agent_socket = spec.sockets.join(format!("{}.agent", spec.name));
        let qmp_socket = spec.sockets.join(format!("{}.qmp", spec.name));
        for socket in [&agent_socket, &qmp_socket] {
            let _ = std::fs::remove_file(socket);
        }
        let log_path = spec.files.join(format!("{}.qemu.log", spec.name));
        let log = File::create(&log_path).during(format!("creating {}", log_path.display()))?;
        let errors = log.try_clone().during("cloning QEMU's log")?;

        let (accel, cpu) = match spec.accel {
            Accel::Kvm => ("kvm", "host"),
            // Five-level page tables cost an emulated walk more, and no guest of 256 MiB needs them.
            Accel::Tcg => ("tcg,thread=multi", "max,la57=off"),
        };
        let mut command = in_tree("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-name", &spec.name])
            .args(["-machine", "q35,hpet=off,vmport=off", "-accel", accel, "-cpu", cpu])
            .args(["-smp", &spec.smp.to_string()]);
        // `standpipe qemu-args` says how memory is shared; a guest without a server is told here.
        if !spec.qemu_args.iter().any(|word| word == "-m") {
            command
                .args(["-object", &format!("memory-backend-memfd,id=mem,size={}M,share=on", spec.memory_mib)])
                .args(["-machine", "memory-backend=mem", "-m", &format!("{}M", spec.memory_mib)]);
        }
        command.args(&spec.qemu_args);
        if spec.pluggable_mib > 0 {
            command.args(["-m", &format!("slots=4,maxmem={}M", spec.memory_mib + spec.pluggable_mib)]);
        }
        match spec.start {
            Start::Kernel => boot_ours(&mut command, image),
            Start::Bios | Start::Uefi => {
                command.args(["-boot", "order=d"]);
            }
            Start::BiosRoot | Start::UefiRoot => root_disk(&mut command, image),
        }
        if matches!(spec.start, Start::Uefi | Start::UefiRoot) {
            // What OVMF keeps in its variables ends with the guest.
            let flash = "if=pflash,format=raw,file=/usr/share/OVMF/OVMF";
            command
                .args(["-drive", &format!("{flash}_CODE_4M.fd,unit=0,readonly=on")])
                .args(["-drive", &format!("{flash}_VARS_4M.fd,unit=1,snapshot=on")]);
        }
        command
            .arg("-serial")
            .arg(format!("file:{}", spec.files.join(format!("{}.console", spec.name)).display()))
            .args(["-device", "virtio-serial-pci,id=agentbus"])
            .arg("-chardev")
            .arg(format!("socket,id=agent,path={},server=on,wait=off", agent_socket.display()))
            .args(["-device", "virtserialport,bus=agentbus.0,chardev=agent,name=standpipe.agent"])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", qmp_socket.display()))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        let mut qemu = command.spawn().during("starting QEMU")?;

        let connected =
            connect(&agent_socket, &mut qemu).and_then(|agent| Ok((agent, connect(&qmp_socket, &mut qemu)?)));
        let made = connected.and_then(|(agent, qmp)| Ok((Agent::new(agent)?, Qmp::new(qmp)?)));
        match made {
            Ok((agent, qmp)) => {
                Ok(Guest { spec, qemu: Mutex::new(qemu), agent, qmp, started: Instant::now() })
            }
            Err(error) => {
                let _ = qemu.kill();
                let _ = qemu.wait();
                let said = std::fs::read_to_string(&log_path).unwrap_or_default();
                Err(Failure::new(format!(
                    "QEMU of {} did not start: {error}\n{}",
                    spec.name,
                    tail(&said, 15)
                )))
            }
        }
    }

    /// Starts a guest and waits until its agent answers.
    pub fn boot(image: &Image, spec: GuestSpec) -> Result<Guest> {
        let guest = Guest::start(image, spec)?;
        guest.wait_ready()?;
        Ok(guest)
    }

    /// Waits for the first boot, and gives the time since QEMU's start.
    pub fn wait_ready(&self) -> Result<Duration> {
        self.wait_boots(1, BOOT_MAX)?;
        Ok(self.started.elapsed())
    }

    /// How often the guest has come up since QEMU was started.
    pub fn boots(&self) -> u64 {
        self.agent.boots()
    }

    pub fn wait_boots(&self, boots: u64, timeout: Duration) -> Result<()> {
        self.agent.wait_boots(boots, timeout).map_err(|error| {
            let console = self.console();
            let log = std::fs::read_to_string(self.spec.files.join(format!("{}.qemu.log", self.spec.name)))
                .unwrap_or_default();
            Failure::new(format!("{}: {error}\n{}\n{}", self.spec.name, tail(&console, 15), tail(&log, 5)))
        })
    }

    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// QEMU's process.
    pub fn pid(&self) -> u32 {
        self.qemu.lock().expect("no holder of this lock panics").id()
    }

    /// Starts a shell command in the guest.
    pub fn spawn(&self, command: &str) -> Result<Job> {
        self.agent.spawn(command)
    }

    /// Runs a shell command in the guest, whatever its exit status.
    pub fn run(&self, command: &str, timeout: Duration) -> Result<Output> {
        self.spawn(command)?.wait(timeout).during(&self.spec.name)
    }

    /// Runs a shell command that has to end with status 0, and gives its output.
    pub fn check(&self, command: &str) -> Result<String> {
        self.check_within(command, COMMAND_MAX)
    }

    pub fn check_within(&self, command: &str, timeout: Duration) -> Result<String> {
        let output = self.run(command, timeout)?;
        if output.status != 0 {
            return Err(Failure::new(format!(
                "in {}: status {} of: {}\n{}",
                self.spec.name,
                output.status,
                command.trim(),
                tail(&output.stdout, 20)
            )));
        }
        Ok(output.stdout)
    }

    /// A command of QEMU's machine protocol: `json!({"execute": .., "arguments": ..})`.
    pub fn qmp(&self, command: Value) -> Result<Value> {
        self.qmp.call(command).during(&self.spec.name)
    }

    pub fn wait_event(&self, name: &str, timeout: Duration) -> Result<Value> {
        self.qmp.wait_event(name, timeout).during(&self.spec.name)
    }

    /// QEMU runs and says that the virtual machine runs.
    pub fn alive(&self) -> bool {
        let exited = self.qemu.lock().expect("no holder of this lock panics").try_wait();
        matches!(exited, Ok(None))
            && self.qmp(json!({"execute": "query-status"})).is_ok_and(|status| status["status"] == "running")
    }

    /// All that the guest's kernel has printed.
    pub fn console(&self) -> String {
        let bytes =
            std::fs::read(self.spec.files.join(format!("{}.console", self.spec.name))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Powers the guest off in order, and kills it when it takes longer than `COMMAND_MAX`.
    pub fn shutdown(self) -> Result<()> {
        let _ = self.spawn("sync; poweroff -f");
        let deadline = Instant::now() + COMMAND_MAX;
        while Instant::now() < deadline {
            if matches!(self.qemu.lock().expect("no holder of this lock panics").try_wait(), Ok(Some(_))) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Failure::new(format!("{} did not power off within {} s", self.spec.name, COMMAND_MAX.as_secs())))
    }

    /// Ends QEMU at once, as a power cut does.
    pub fn kill(self) {}
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Ok(qemu) = self.qemu.get_mut() {
            let _ = qemu.kill();
            let _ = qemu.wait();
        }
    }
}

/// A panic boots the guest anew at once. The rest shortens the boot of an emulated guest.
pub const KERNEL_WORDS: &str = "console=ttyS0 loglevel=4 panic=-1 nokaslr mitigations=off \
     random.trust_cpu=on tsc=reliable no_timer_check memhp_default_state=online_movable cryptomgr.notests \
     raid=noautodetect net.ifnames=0";

/// The kernel and the root disk of the image.
fn boot_ours(command: &mut Command, image: &Image) {
    command
        .arg("-kernel")
        .arg(&image.kernel)
        .arg("-initrd")
        .arg(&image.initrd)
        .args(["-append", KERNEL_WORDS]);
    root_disk(command, image);
}

fn root_disk(command: &mut Command, image: &Image) {
    command
        .arg("-blockdev")
        .arg(format!(
            "driver=raw,node-name=root,read-only=on,file.driver=file,file.filename={}",
            image.root.display()
        ))
        .args(["-device", "nvme,drive=root,serial=root"]);
}

fn connect(socket: &Path, qemu: &mut Child) -> Result<UnixStream> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                if let Ok(Some(status)) = qemu.try_wait() {
                    return Err(Failure::new(format!("it ended with {status}")));
                }
                if Instant::now() > deadline {
                    return Err(error).during(format!("connecting to {}", socket.display()));
                }
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
