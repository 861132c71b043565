//! The switch peer: Open vSwitch with DPDK, one forwarding thread, two vhost-user ports. It has a
//! database and sockets of its own and touches no other Open vSwitch on the machine.

use std::fs;
use std::path::PathBuf;

use super::machine::{Daemon, HugePages, Machine};

const DATABASE_SERVER: &str = "/usr/sbin/ovsdb-server";
const DATABASE_TOOL: &str = "/usr/bin/ovsdb-tool";
const CONTROL: &str = "/usr/bin/ovs-vsctl";
const SWITCH: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
pub const PROGRAMS: &[&str] = &[DATABASE_SERVER, DATABASE_TOOL, CONTROL, SWITCH, SCHEMA];

/// 2 MiB pages: DPDK's memory below, and some for its own tables.
const HUGE_PAGES: u64 = 320;
const DPDK_MEMORY_MIB: u32 = 512;

pub struct Ovs {
    // Dropped in this order: the switch, its database, the pages.
    switch: Daemon,
    _database: Daemon,
    _pages: HugePages,
    /// The two ports' sockets; the load listens, the switch connects.
    pub sockets: [PathBuf; 2],
}

impl Ovs {
    pub fn start(machine: &Machine) -> Result<Ovs, String> {
        let pages = HugePages::reserve(HUGE_PAGES)?;
        let home = machine.scratch.join("ovs");
        fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
        let place = |name: &str| home.join(name).display().to_string();
        machine.output_in_tree(DATABASE_TOOL, &["create", &place("conf.db"), SCHEMA])?;
        let mut words = machine.in_tree(DATABASE_SERVER);
        words.extend([
            place("conf.db"),
            format!("--remote=punix:{}", place("db.sock")),
            format!("--unixctl={}", place("db.ctl")),
            format!("--pidfile={}", place("db.pid")),
        ]);
        let mut database = machine.daemon("ovsdb-server", &words)?;
        database.wait_for("its socket", || home.join("db.sock").exists())?;
        let address = format!("--db=unix:{}", place("db.sock"));
        let control = |arguments: &[&str]| {
            let all: Vec<&str> =
                [address.as_str(), "--timeout=30"].iter().chain(arguments).copied().collect();
            machine.output_in_tree(CONTROL, &all)
        };
        control(&["--no-wait", "init"])?;
        let settings = [
            "other_config:dpdk-init=true".to_owned(),
            "other_config:dpdk-extra=--no-pci --in-memory".to_owned(),
            format!("other_config:dpdk-socket-mem={DPDK_MEMORY_MIB}"),
            format!("other_config:dpdk-lcore-mask={:#x}", 1 << machine.load_core),
            format!("other_config:pmd-cpu-mask={:#x}", 1 << machine.server_core),
        ];
        for setting in &settings {
            control(&["--no-wait", "set", "Open_vSwitch", ".", setting])?;
        }
        let log = home.join("switch.log");
        let mut words = machine.in_tree(SWITCH);
        words.extend([
            format!("unix:{}", place("db.sock")),
            format!("--unixctl={}", place("switch.ctl")),
            format!("--pidfile={}", place("switch.pid")),
            format!("--log-file={}", log.display()),
        ]);
        let mut switch = machine.daemon("ovs-vswitchd", &words)?;
        switch.wait_for("DPDK", || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains("DPDK Enabled - initialized"))
        })?;
        control(&["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"])?;
        let sockets = [home.join("port0.sock"), home.join("port1.sock")];
        for (at, socket) in sockets.iter().enumerate() {
            let port = format!("port{at}");
            let path = format!("options:vhost-server-path={}", socket.display());
            control(&[
                "add-port",
                "br0",
                &port,
                "--",
                "set",
                "Interface",
                &port,
                "type=dpdkvhostuserclient",
                &path,
            ])?;
        }
        Ok(Ovs { switch, _database: database, _pages: pages, sockets })
    }

    pub fn pid(&self) -> u32 {
        self.switch.pid()
    }

    /// Its forwarding thread polls without end: it is held while somebody else is measured.
    pub fn hold(&self, held: bool) -> Result<(), String> {
        self.switch.hold(held)
    }
}
