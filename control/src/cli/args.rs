//! The command line as it is typed. Help, completions and the man pages all
//! come from these definitions.

use super::import::VmImport;
use crate::api::Threshold;
use crate::site::{IscsiName, Kind, Listen, LunAddress, Mac, Model, PathState, Percent, Size, SlotId};
use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// A virtual I/O server: disks and networks for QEMU guests, over vhost-user.
///
/// One daemon owns a host's storage and networks; every VM plugs into slots,
/// such as web1.disk0 and web1.nic0. The daemon may be restarted, upgraded or
/// killed while guests run; they do not notice.
#[derive(Debug, Parser)]
#[command(
    name = "standpipe",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = "Example:
  standpipe apply site.toml
  standpipe qemu-args web1 --memory 1G"
)]
pub struct Cli {
    /// The daemon's API socket
    #[arg(
        long,
        global = true,
        value_name = "SOCKET",
        env = "STANDPIPE_API",
        hide_env_values = true,
        default_value = crate::api::SOCKET_DEFAULT
    )]
    pub api: PathBuf,

    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    ///
    /// With --config, the site in the file is taken over at the first start
    /// and whenever the file has changed since; what the API and the command
    /// line change in between is kept.
    #[command(after_help = "Example:
  standpipe keep -- standpipe serve --config /etc/standpipe/site.toml")]
    Serve(Serve),

    /// Hold file descriptors for a daemon, and restart it when it dies
    ///
    /// A stand-in for systemd where there is none: it speaks the same
    /// protocol (fd store and LISTEN_FDS).
    #[command(after_help = "Example:
  standpipe keep -- standpipe serve --config site.toml")]
    Keep(Keep),

    /// Put the binary on disk in place of the running daemon
    #[command(after_help = "Example:
  standpipe upgrade")]
    Upgrade,

    /// Make the host offer what a file says, and nothing else
    ///
    /// Idempotent: applying the same file again changes nothing. Data of
    /// volumes that the file no longer has is kept.
    #[command(after_help = "Example:
  standpipe apply site.toml --dry-run
  standpipe apply site.toml")]
    Apply(Apply),

    /// VMs and their slots
    #[command(
        subcommand,
        arg_required_else_help = true,
        after_help = "Example:
  standpipe vm list"
    )]
    Vm(Vm),

    /// Volumes
    #[command(
        subcommand,
        arg_required_else_help = true,
        after_help = "Example:
  standpipe disk create web1-root --store local --size 20GiB"
    )]
    Disk(Disk),

    /// Addresses that iSCSI initiators connect to
    #[command(
        subcommand,
        arg_required_else_help = true,
        after_help = "Example:
  standpipe portal add a 192.0.2.1:3260"
    )]
    Portal(Portal),

    /// iSCSI targets: volumes for other hosts
    #[command(
        subcommand,
        arg_required_else_help = true,
        after_help = "Example:
  standpipe target add backup --iqn iqn.2026-11.org.example:backup --portal a --lun 0=backup"
    )]
    Target(Target),

    /// Networks
    #[command(
        subcommand,
        arg_required_else_help = true,
        after_help = "Example:
  standpipe network add lan --tap sp-lan"
    )]
    Network(Network),

    /// Ports of VMs on networks
    #[command(
        subcommand,
        arg_required_else_help = true,
        after_help = "Example:
  standpipe nic set web1.nic0 --vlan 20"
    )]
    Nic(Nic),

    /// Show what is going on
    #[command(after_help = "Example:
  standpipe status
  standpipe status --watch")]
    Status(Status),

    /// Print what to add to a QEMU command line for a VM
    ///
    /// Guest memory must be shared with the daemon: the first options say so,
    /// and take the place of a -m of your own.
    #[command(after_help = "Example:
  qemu-system-x86_64 -machine q35 -accel kvm $(standpipe qemu-args web1 --memory 1G)")]
    QemuArgs(QemuArgs),

    /// Print what to add to a libvirt domain for a VM
    #[command(after_help = "Example:
  standpipe libvirt-xml web1")]
    LibvirtXml(LibvirtXml),

    /// Print a completion script for a shell
    #[command(after_help = "Example:
  standpipe completions bash > /usr/share/bash-completion/completions/standpipe")]
    Completions(Completions),

    /// Print the man page, or write the pages of all commands
    #[command(after_help = "Example:
  standpipe man | man -l -
  standpipe man --directory /usr/local/share/man/man1")]
    Man(Man),
}

#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// A site to take over
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the daemon keeps what it must not forget
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/standpipe")]
    pub state_dir: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub struct Keep {
    /// The command to run
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct Apply {
    /// The site, in TOML
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum Vm {
    /// Add a VM with its slots
    #[command(after_help = "Example:
  standpipe vm add web1 --scsi web1-root,web1-data --nic lan,vlan=10
  standpipe vm add old1 --pvscsi old1-root --nic lan,model=vmxnet3")]
    Add(VmAdd),
    /// Make a VM, its volumes and its slots out of an appliance (OVA or OVF)
    ///
    /// What another hypervisor exported: VMware's and VirtualBox's packages
    /// with disks in VMDK or raw. The disks are written as volumes by this
    /// command, with your rights; the VM is there when all of them are whole.
    /// What cannot be served as it was is told, and replaced by what --disks
    /// and --nics say.
    #[command(after_help = "Example:
  standpipe vm import appliance.ova --network lan --dry-run
  standpipe vm import appliance.ova --name old1 --network \"VM Network=lan\" --disks pvscsi")]
    Import(VmImport),
    /// Remove a VM's slots; its volumes stay
    #[command(after_help = "Example:
  standpipe vm rm web1")]
    Rm {
        #[arg(value_name = "VM")]
        name: String,
    },
    /// List all VMs
    #[command(after_help = "Example:
  standpipe vm list")]
    List,
    /// Show a VM and its slots
    #[command(after_help = "Example:
  standpipe vm show web1")]
    Show {
        #[arg(value_name = "VM")]
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct VmAdd {
    #[arg(value_name = "VM")]
    pub name: String,
    /// The user that runs its QEMU and is to own the sockets
    #[arg(long)]
    pub user: Option<String>,
    /// The guest's memory, for `qemu-args`
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// The guest's processors, for `qemu-args`
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// A virtio-scsi slot with these volumes as LUN 0, 1, …; may be repeated
    #[arg(long, value_name = "VOLUME[,VOLUME…]")]
    pub scsi: Vec<String>,
    /// A virtio-blk slot with this volume; may be repeated
    #[arg(long, value_name = "VOLUME")]
    pub blk: Vec<String>,
    /// A pvscsi slot with these volumes as target 0, 1, …; may be repeated
    #[arg(long, value_name = "VOLUME[,VOLUME…]")]
    pub pvscsi: Vec<String>,
    /// A slot on this network, of model virtio-net if none is given; may be repeated
    #[arg(long, value_name = "NETWORK[,model=MODEL][,vlan=ID][,mac=ADDRESS]")]
    pub nic: Vec<String>,
    /// Queues of each slot whose model has a choice
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub queues: u16,
}

#[derive(Debug, Subcommand)]
pub enum Disk {
    /// Make a volume
    #[command(after_help = "Example:
  standpipe disk create web1-root --store local --size 20GiB
  standpipe disk create scratch --path /dev/sdb")]
    Create(DiskCreate),
    /// List all volumes
    #[command(after_help = "Example:
  standpipe disk list")]
    List,
    /// Grow a volume; a running guest sees it
    #[command(after_help = "Example:
  standpipe disk resize web1-root 40GiB")]
    Resize {
        #[arg(value_name = "VOLUME")]
        name: String,
        size: Size,
    },
    /// Change whether a volume is shared, or its threshold, while guests run
    #[command(after_help = "Example:
  standpipe disk set cluster-data --shared true
  standpipe disk set web1-root --thin-threshold 80%")]
    Set(DiskSet),
    /// Set how good the path through a SCSI slot to its volumes is
    ///
    /// For guests with more than one path to a volume (ALUA): they prefer an
    /// active path, and do not read and write by one on standby.
    #[command(after_help = "Example:
  standpipe disk path web1.disk0 standby
  standpipe disk path web1.disk0 active")]
    Path {
        #[arg(value_name = "VM.SLOT")]
        slot: SlotId,
        /// active, non-optimized or standby
        #[arg(value_name = "STATE")]
        state: PathState,
    },
    /// Take all reservations and registrations away from a volume
    ///
    /// For what a dead cluster left behind. A cluster that is alive loses the
    /// fence that keeps an expelled member from writing: shut it down first.
    #[command(after_help = "Example:
  standpipe disk clear-reservations cluster-data")]
    ClearReservations {
        #[arg(value_name = "VOLUME")]
        name: String,
    },
    /// Remove a volume; its data stays unless --delete-data is given
    #[command(after_help = "Example:
  standpipe disk rm old-root --delete-data")]
    Rm {
        #[arg(value_name = "VOLUME")]
        name: String,
        /// Also delete the volume's file
        #[arg(long)]
        delete_data: bool,
    },
    /// Replace a volume's bytes by a raw image or a VMDK
    #[command(after_help = "Example:
  standpipe disk import web1-root debian.raw
  standpipe disk import web1-root disk.vmdk
  qemu-img convert -O raw image.qcow2 /dev/stdout | standpipe disk import web1-root -")]
    Import {
        #[arg(value_name = "VOLUME")]
        name: String,
        /// A raw image or a VMDK; - for standard input, which has to be raw
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Let the daemon read the file: quicker for sparse images
        #[arg(long)]
        on_server: bool,
    },
    /// Copy a volume's bytes to a raw image
    #[command(after_help = "Example:
  standpipe disk export web1-root backup.raw
  standpipe disk export web1-root - | zstd > backup.raw.zst")]
    Export {
        #[arg(value_name = "VOLUME")]
        name: String,
        /// A file that does not exist yet; - for standard output
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Let the daemon write the file: quicker for sparse volumes
        #[arg(long)]
        on_server: bool,
    },
    /// Plug a volume into a virtio-scsi or pvscsi slot, also of a running guest
    #[command(after_help = "Example:
  standpipe disk attach web1.disk0 web1-data --lun 3
  standpipe disk attach web1.disk0 web1-log --lun 1:3")]
    Attach {
        #[arg(value_name = "VM.SLOT")]
        slot: SlotId,
        volume: String,
        /// LUN of target 0, or of another; by default the first of target 0 that is free
        #[arg(long, value_name = "[TARGET:]N")]
        lun: Option<LunAddress>,
    },
    /// Unplug a volume from a virtio-scsi or pvscsi slot, also of a running guest
    #[command(after_help = "Example:
  standpipe disk detach web1.disk0 web1-data")]
    Detach {
        #[arg(value_name = "VM.SLOT")]
        slot: SlotId,
        volume: String,
    },
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("place").required(true).args(["store", "path", "null"])))]
pub struct DiskCreate {
    #[arg(value_name = "VOLUME")]
    pub name: String,
    /// Keep it in this store
    #[arg(long)]
    pub store: Option<String>,
    /// A file or block device of the host; a missing file is made
    #[arg(long)]
    pub path: Option<PathBuf>,
    /// Reads give zeros, writes are forgotten; for benchmarks
    #[arg(long)]
    pub null: bool,
    /// Such as 20GiB; only for --path it can be left out
    #[arg(long)]
    pub size: Option<Size>,
    /// What guests see: a disk, or a CD-ROM with an ISO image in it
    #[arg(long, value_enum, default_value_t = Kind::Disk)]
    pub kind: Kind,
    /// 512 or 4096; 512 if nothing is said, and 2048 for a CD-ROM
    #[arg(long, value_name = "BYTES")]
    pub block_size: Option<u32>,
    /// 512 or 4096; by default what the store says
    #[arg(long, value_name = "BYTES")]
    pub physical_block_size: Option<u32>,
    /// Guests cannot write to it
    #[arg(long)]
    pub read_only: bool,
    /// Several SCSI slots and iSCSI targets may use it
    #[arg(long)]
    pub shared: bool,
    /// Guests see a medium that can be taken out
    #[arg(long)]
    pub removable: bool,
    /// Warn the users when so much of the size is allocated
    #[arg(long, value_name = "SHARE")]
    pub thin_threshold: Option<Percent>,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).multiple(true).args(["shared", "thin_threshold"])))]
pub struct DiskSet {
    #[arg(value_name = "VOLUME")]
    pub name: String,
    /// Whether several SCSI slots and iSCSI targets may use it
    #[arg(long, value_name = "true|false", action = ArgAction::Set)]
    pub shared: Option<bool>,
    /// A share such as 80%, or none
    #[arg(long, value_name = "SHARE")]
    pub thin_threshold: Option<Threshold>,
}

#[derive(Debug, Subcommand)]
pub enum Portal {
    /// Listen for initiators at an address
    #[command(after_help = "Example:
  standpipe portal add a 192.0.2.1:3260
  standpipe portal add all 0.0.0.0")]
    Add {
        #[arg(value_name = "PORTAL")]
        name: String,
        /// An IP address, and a port unless it is 3260
        #[arg(value_name = "ADDRESS")]
        listen: Listen,
    },
    /// List all portals
    #[command(after_help = "Example:
  standpipe portal list")]
    List,
    /// Give a portal another address; connections of the old one go on
    #[command(after_help = "Example:
  standpipe portal change a 192.0.2.2:3260")]
    Change {
        #[arg(value_name = "PORTAL")]
        name: String,
        #[arg(value_name = "ADDRESS")]
        listen: Listen,
    },
    /// Remove a portal that no target is at
    #[command(
        visible_alias = "remove",
        after_help = "Example:
  standpipe portal rm a"
    )]
    Rm {
        #[arg(value_name = "PORTAL")]
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Target {
    /// Add a target
    ///
    /// Nobody may log in until --allow or --open says who. Secrets are read
    /// by the daemon from files that others cannot read (chmod 600).
    #[command(after_help = "Example:
  standpipe target add backup --iqn iqn.2026-11.org.example:backup --portal a --portal b --lun 0=backup \\
    --allow iqn.1993-08.org.debian:01:abc --chap host1 --secret-file /etc/standpipe/host1.secret")]
    Add(TargetAdd),
    /// List all targets
    #[command(after_help = "Example:
  standpipe target list")]
    List,
    /// Show a target, who may log in, and its sessions
    #[command(after_help = "Example:
  standpipe target show backup")]
    Show {
        #[arg(value_name = "TARGET")]
        name: String,
    },
    /// Change a target; sessions that it still allows go on
    #[command(after_help = "Example:
  standpipe target change backup --lun 1=more
  standpipe target change backup --allow iqn.1993-08.org.debian:01:abc --mask 0,1
  standpipe target change backup --portal b=standby
  standpipe target change backup --disallow iqn.1993-08.org.debian:01:abc")]
    Change(TargetChangeArgs),
    /// Have a target read its secrets again, after their files were changed
    #[command(after_help = "Example:
  standpipe target reload backup")]
    Reload {
        #[arg(value_name = "TARGET")]
        name: String,
    },
    /// Remove a target; its sessions end, its volumes stay
    #[command(
        visible_alias = "remove",
        after_help = "Example:
  standpipe target rm backup"
    )]
    Rm {
        #[arg(value_name = "TARGET")]
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct TargetAdd {
    #[arg(value_name = "TARGET")]
    pub name: String,
    /// Its name for initiators: iqn., a year and month in which you had a
    /// domain, the domain from its end, a colon and what you like
    #[arg(long, value_name = "NAME")]
    pub iqn: IscsiName,
    #[command(flatten)]
    pub setting: TargetSetting,
}

#[derive(Debug, Args)]
pub struct TargetChangeArgs {
    #[arg(value_name = "TARGET")]
    pub name: String,
    #[command(flatten)]
    pub setting: TargetSetting,
    /// Leave this portal; may be repeated
    #[arg(long, value_name = "PORTAL")]
    pub leave: Vec<String>,
    /// Take this LUN away; may be repeated
    #[arg(long, value_name = "LUN")]
    pub detach: Vec<u16>,
    /// This initiator may log in no more; may be repeated
    #[arg(long, value_name = "NAME")]
    pub disallow: Vec<IscsiName>,
    /// Only initiators that are named may log in
    #[arg(long, conflicts_with = "open")]
    pub closed: bool,
    /// Initiators need not prove who they are, unless their own entry says so
    #[arg(long, conflicts_with = "chap")]
    pub no_chap: bool,
    /// The target does not prove itself, unless an entry says so
    #[arg(long, conflicts_with = "mutual")]
    pub no_mutual: bool,
}

#[derive(Debug, Args)]
pub struct TargetSetting {
    /// Be at this portal; may be repeated. The state of the path is active,
    /// non-optimized or standby
    #[arg(long, value_name = "PORTAL[=STATE]")]
    pub portal: Vec<String>,
    /// Offer this volume; may be repeated
    #[arg(long, value_name = "LUN=VOLUME")]
    pub lun: Vec<String>,
    /// Sessions at a time, 1 to 1024
    #[arg(long, value_name = "N")]
    pub sessions_max: Option<u16>,
    /// Also initiators that are not named may log in, to all LUNs
    #[arg(long)]
    pub open: bool,
    /// This initiator may log in; the options below are for it alone then
    #[arg(long, value_name = "NAME")]
    pub allow: Option<IscsiName>,
    /// The LUNs that it sees; by default all
    #[arg(long, value_name = "LUN,…", value_delimiter = ',', requires = "allow")]
    pub mask: Option<Vec<u16>>,
    /// The user name by which initiators prove who they are (CHAP)
    #[arg(long, value_name = "USER", requires = "secret_file")]
    pub chap: Option<String>,
    /// The file of that user's secret
    #[arg(long, value_name = "FILE", requires = "chap")]
    pub secret_file: Option<PathBuf>,
    /// The user name by which the target proves itself to them
    #[arg(long, value_name = "USER", requires = "mutual_secret_file")]
    pub mutual: Option<String>,
    /// The file of its secret
    #[arg(long, value_name = "FILE", requires = "mutual")]
    pub mutual_secret_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Network {
    /// Add a network
    #[command(after_help = "Example:
  standpipe network add lan --tap sp-lan
  standpipe network add storage --mtu 9000")]
    Add(NetworkAdd),
    /// List all networks
    #[command(after_help = "Example:
  standpipe network list")]
    List,
    /// Remove a network that no slot is on
    #[command(after_help = "Example:
  standpipe network rm lan")]
    Rm {
        #[arg(value_name = "NETWORK")]
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct NetworkAdd {
    #[arg(value_name = "NETWORK")]
    pub name: String,
    #[arg(long, default_value_t = 1500)]
    pub mtu: u32,
    /// Broadcast, multicast and unknown frames per second that a port may flood
    #[arg(long, value_name = "N")]
    pub flood_limit_pps: Option<u32>,
    /// Forget a silent address after this long
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub age_seconds: u32,
    /// Connect the host with this TAP device, as uplink `host`
    #[arg(long, value_name = "DEVICE")]
    pub tap: Option<String>,
    /// The uplink's access VLAN
    #[arg(long, value_name = "ID", requires = "tap")]
    pub vlan: Option<u16>,
}

#[derive(Debug, Subcommand)]
pub enum Nic {
    /// Change a slot's network or VLANs while the guest runs
    #[command(after_help = "Example:
  standpipe nic set web1.nic0 --vlan 20
  standpipe nic set web1.nic0 --trunk 10,20 --native 1")]
    Set(NicSet),
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true).args(["network", "vlan", "trunk", "native"])))]
pub struct NicSet {
    #[arg(value_name = "VM.SLOT")]
    pub slot: SlotId,
    /// Move it to this network
    #[arg(long)]
    pub network: Option<String>,
    /// Access VLAN
    #[arg(long, value_name = "ID", conflicts_with_all = ["trunk", "native"])]
    pub vlan: Option<u16>,
    /// VLANs that pass tagged
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub trunk: Option<Vec<u16>>,
    /// VLAN of untagged frames on a trunk
    #[arg(long, value_name = "ID")]
    pub native: Option<u16>,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Show it again every second, until interrupted
    #[arg(long)]
    pub watch: bool,
    /// Show every counter
    #[arg(long)]
    pub counters: bool,
}

#[derive(Debug, Args)]
pub struct QemuArgs {
    #[arg(value_name = "VM")]
    pub name: String,
    /// The guest's memory; without it what the site says, or 1G
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
}

#[derive(Debug, Args)]
pub struct LibvirtXml {
    #[arg(value_name = "VM")]
    pub name: String,
}

#[derive(Debug, Args)]
pub struct Completions {
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct Man {
    /// Write one page a command into this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

/// `NETWORK[,model=MODEL][,vlan=ID][,mac=ADDRESS]`.
#[derive(Debug, PartialEq, Eq)]
pub struct NicText {
    pub network: String,
    pub model: Model,
    pub vlan: Option<u16>,
    pub mac: Option<Mac>,
}

impl std::str::FromStr for NicText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let network = parts.next().unwrap_or_default().to_owned();
        let mut nic = NicText { network, model: Model::VirtioNet, vlan: None, mac: None };
        for part in parts {
            match part.split_once('=') {
                Some(("model", name)) => {
                    let mut nics = Model::ALL.into_iter().filter(|model| model.is_nic());
                    nic.model = nics.clone().find(|model| model.name() == name).ok_or_else(|| {
                        let known: Vec<&str> = nics.by_ref().map(Model::name).collect();
                        format!("`{name}` is not a model of a nic ({})", known.join(", "))
                    })?;
                }
                Some(("vlan", id)) => {
                    let id = id.parse().map_err(|_| format!("`{id}` is not a VLAN"))?;
                    nic.vlan = Some(id);
                }
                Some(("mac", mac)) => nic.mac = Some(mac.parse()?),
                _ => return Err(format!("`{part}` is none of model=MODEL, vlan=ID and mac=ADDRESS")),
            }
        }
        Ok(nic)
    }
}
