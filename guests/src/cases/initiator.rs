//! Linux's own initiator in a guest: open-iscsi and multipathd against the target on the host, over two
//! NICs and two portals.
//!
//! The settings that decide how long a cut lasts are in `ISCSID` and `MULTIPATH` below. A connection
//! that the target closes fails at once, and with a replacement time-out of zero its requests go to the
//! other path at once. A cable that is cut says nothing: the initiator asks after a second of silence
//! (`noop_out_interval`) and waits a second for the answer (`noop_out_timeout`); open-iscsi knows no
//! shorter times. TCP does: the second cut is with `Lab::impatient`.

use crate::cases::net::reach;
use crate::guest::{COMMAND_MAX, Guest};
use crate::load::VerifiedWrites;
use crate::place::in_tree;
use crate::site::{Portal, Target};
use crate::torture::{Probe, disturb};
use crate::uplink::HostSide;
use crate::world::{Against, Bench, World, eventually};
use crate::{During, Failure, Result, ensure};
use std::process::{Child, Stdio};
use std::time::Duration;

const IQN: &str = "iqn.2026-11.org.example:store";
const INITIATOR: &str = "iqn.2026-11.org.example:web1";
const USER: (&str, &str) = ("web1", "initiator-12ch");
const MUTUAL: (&str, &str) = ("store", "of-the-target-1");
const MIB_OF_VOLUME: u64 = 128;

/// A portal that is closed costs at most this.
const CLOSED_MS_MAX: f64 = 1000.0;
/// A cable that is cut: 2 s until the initiator knows, and what an emulated guest needs.
const SILENT_MS_MAX: f64 = 5000.0;
/// The same where TCP is told to give up early: 0.8 s, and what an emulated guest needs.
const IMPATIENT_MS_MAX: f64 = 2000.0;
/// The kernel's ISCSI_ERR_TCP_CONN_CLOSE. (1022 is the answer to a NOP-Out that did not come.)
const CLOSED_BY_TCP: &str = "detected conn error (1020)";

const ISCSID: &str = "node.startup = manual
node.session.auth.authmethod = CHAP
node.session.auth.username = USER
node.session.auth.password = SECRET
node.session.auth.username_in = TARGET
node.session.auth.password_in = ANSWER
node.session.timeo.replacement_timeout = 0
node.conn[0].timeo.login_timeout = 15
node.conn[0].timeo.noop_out_interval = 1
node.conn[0].timeo.noop_out_timeout = 1
node.session.err_timeo.abort_timeout = 2
node.session.err_timeo.lu_reset_timeout = 2
node.session.err_timeo.tgt_reset_timeout = 2
node.session.initial_login_retry_max = 4
node.session.reopen_max = 0
node.session.iscsi.InitialR2T = No
node.session.iscsi.ImmediateData = Yes
node.session.iscsi.FirstBurstLength = 65536
node.session.iscsi.MaxBurstLength = 262144
node.conn[0].iscsi.HeaderDigest = CRC32C
node.conn[0].iscsi.DataDigest = CRC32C
node.session.scan = auto
";

/// The other path takes over when one fails, and gives back when it is there again.
pub const MULTIPATH: &str = "defaults {
  find_multipaths no
  user_friendly_names yes
  polling_interval 1
  max_polling_interval 1
  path_checker tur
  checker_timeout 2
  POLICY
  failback immediate
  fast_io_fail_tmo 0
  no_path_retry 10
}
blacklist {
  devnode \"^(nvme|vd)\"
}
";

/// The two targets differ in what they say of their paths. Linux makes the other path optimized by SET
/// TARGET PORT GROUPS when it has to use it; what stays apart is the bit for the preferred one.
const ALUA: &str =
    "detect_prio no\n  prio alua\n  prio_args exclusive_pref_bit\n  path_grouping_policy group_by_prio";
const PLAIN: &str = "prio const\n  path_grouping_policy failover";

/// The peer: tgt in the tree.
struct Tgt {
    process: Child,
}

const TGT_CONTROL: &str = "91";

impl Tgt {
    fn start(world: &World, hosts: &[HostSide; 2]) -> Result<Tgt> {
        let process = in_tree("tgtd")
            .args(["-f", "-C", TGT_CONTROL, "--iscsi", &format!("portal={}:3260", hosts[0].address())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .during("starting tgtd")?;
        let tgt = Tgt { process };
        eventually("tgtd answers", COMMAND_MAX, || Ok(admin(&["--op", "show", "--mode", "target"]).is_ok()))?;
        admin(&[
            "--op",
            "new",
            "--mode",
            "portal",
            "--param",
            &format!("portal={}:3260", hosts[1].address()),
        ])?;
        admin(&["--op", "new", "--mode", "target", "--tid", "1", "-T", IQN])?;
        let file = world.site.file("data");
        admin(&[
            "--op",
            "new",
            "--mode",
            "logicalunit",
            "--tid",
            "1",
            "--lun",
            "1",
            "-b",
            &file.to_string_lossy(),
        ])?;
        admin(&["--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"])?;
        for digest in ["HeaderDigest", "DataDigest"] {
            let value = ["--name", digest, "--value", "CRC32C"];
            admin(&[&["--op", "update", "--mode", "target", "--tid", "1"], &value[..]].concat())?;
        }
        for ((user, secret), outgoing) in [(USER, false), (MUTUAL, true)] {
            admin(&["--op", "new", "--mode", "account", "--user", user, "--password", secret])?;
            let mut bind = vec!["--op", "bind", "--mode", "account", "--tid", "1", "--user", user];
            if outgoing {
                bind.push("--outgoing");
            }
            admin(&bind)?;
        }
        Ok(tgt)
    }
}

fn admin(arguments: &[&str]) -> Result<()> {
    let output = in_tree("tgtadm")
        .args(["-C", TGT_CONTROL, "--lld", "iscsi"])
        .args(arguments)
        .output()
        .during("starting tgtadm")?;
    ensure!(
        output.status.success(),
        "tgtadm {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

impl Drop for Tgt {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The host's side: the target, and a network for each of its two portals.
struct Lab {
    // Dropped before the server is.
    _tgt: Option<Tgt>,
    world: World,
    hosts: [HostSide; 2],
}

impl Lab {
    fn open(bench: &Bench, name: &str) -> Result<(Lab, Guest)> {
        let hosts = [HostSide::new("spa")?, HostSide::new("spb")?];
        let mut world = World::open(bench, name, |site| {
            (0..2).fold(site.volume("data", MIB_OF_VOLUME), |site, n| {
                let (network, nic) = (format!("san{n}"), format!("nic{n}"));
                let site = site.network(&network, 1500, Some(&hosts[n].tap));
                site.nic("web1", &nic, &network, n as u8 + 1, 1)
            })
        })?;
        let guest = world.start("web1")?;
        for host in &hosts {
            host.configure()?;
        }
        let tgt = if bench.against == Against::Qemu {
            Some(Tgt::start(&world, &hosts)?)
        } else {
            world.site.portals = hosts
                .iter()
                .zip(["a", "b"])
                .map(|(host, name)| Portal { name: name.into(), listen: format!("{}:3260", host.address()) })
                .collect();
            let secret = |name: &str, secret: &str| -> Result<std::path::PathBuf> {
                let file = world.scratch.files.join(name);
                std::fs::write(&file, secret).during("writing a secret")?;
                let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                std::fs::set_permissions(&file, owner_only).during("sealing a secret")?;
                Ok(file)
            };
            let chap = (USER.0.to_string(), secret("user.secret", USER.1)?);
            let mutual = (MUTUAL.0.to_string(), secret("target.secret", MUTUAL.1)?);
            world.site.target = Some(Target {
                iqn: IQN.into(),
                initiator: INITIATOR.into(),
                portals: vec![("a".into(), "active"), ("b".into(), "non-optimized")],
                luns: vec!["data".into()],
                chap,
                mutual,
            });
            world.server().apply(&world.site)?;
            None
        };
        guest.wait_ready()?;
        let lab = Lab { _tgt: tgt, world, hosts };
        for (n, host) in lab.hosts.iter().enumerate() {
            let address = host.guest_address(1);
            guest.check(&format!("ip addr add {address}/24 dev eth{n} && ip link set eth{n} up"))?;
            reach(&guest, &host.address())?;
        }
        Ok((lab, guest))
    }

    fn ours(&self) -> bool {
        self.world.bench.against == Against::Standpipe
    }

    /// Writes the settings and starts the daemons.
    fn daemons(&self, guest: &Guest) -> Result<()> {
        let iscsid = ISCSID
            .replace("USER", USER.0)
            .replace("SECRET", USER.1)
            .replace("TARGET", MUTUAL.0)
            .replace("ANSWER", MUTUAL.1);
        let multipath = MULTIPATH.replace("POLICY", if self.ours() { ALUA } else { PLAIN });
        guest.check(&format!(
            "mkdir -p /etc/iscsi /var/lib/iscsi /run/lock/iscsi /etc/multipath /run/udev
             echo InitiatorName={INITIATOR} >/etc/iscsi/initiatorname.iscsi
             cat >/etc/iscsi/iscsid.conf <<'END'\n{iscsid}END
             cat >/etc/multipath.conf <<'END'\n{multipath}END
             modprobe -a iscsi_tcp dm_multipath dm_service_time dm_round_robin scsi_dh_alua
             systemd-udevd --daemon && udevadm trigger && udevadm settle
             {{ iscsid -f -d 8 >/run/iscsid.log 2>&1 & }}; multipathd -v2"
        ))?;
        // A server with one NIC down is to answer by the other: no path of one network by the other NIC.
        guest.check("echo 1 >/proc/sys/net/ipv4/conf/all/arp_filter").map(drop)
    }

    /// Discovers the target by both portals and logs in, with wrong credentials first.
    fn log_in(&self, guest: &Guest) -> Result<()> {
        let discover = |host: &HostSide| {
            guest.check(&format!("iscsiadm -m discovery -t sendtargets -p {}:3260", host.address()))
        };
        let mut found = discover(&self.hosts[0])?;
        if !self.ours() {
            // tgt names the portal alone that is asked.
            found += &discover(&self.hosts[1])?;
        }
        for host in &self.hosts {
            ensure!(found.contains(&host.address()), "discovery does not name {}: {found}", host.address());
        }
        // open-iscsi's ISCSI_ERR_LOGIN_AUTH_FAILED is 24: the target refuses, or we do not trust it.
        let portal = format!("-T {IQN} -p {}:3260", self.hosts[0].address());
        for (key, good) in [("password", USER.1), ("password_in", MUTUAL.1)] {
            let output = guest.run(
                &format!(
                    "iscsiadm -m node {portal} -o update -n node.session.auth.{key} -v not-this-one-at-all
                     iscsiadm -m node {portal} --login; s=$?
                     iscsiadm -m node {portal} -o update -n node.session.auth.{key} -v {good}; exit $s"
                ),
                COMMAND_MAX,
            )?;
            ensure!(
                output.status != 0,
                "a login with a wrong {key} ended with {}: {}",
                output.status,
                output.stdout
            );
        }
        guest.check("iscsiadm -m session 2>&1 | grep -q 'No active' || exit 1")?;
        guest.check(
            "iscsiadm -m node --login || { grep -E '> |rror|status' /run/iscsid.log | tail -n 20; exit 1; }",
        )?;
        let session = guest.check("iscsiadm -m session -P 2")?;
        for words in
            ["HeaderDigest: CRC32C", "DataDigest: CRC32C", "ImmediateData: Yes", "username_in: store"]
        {
            ensure!(
                session.matches(words).count() == 2,
                "two sessions should have \"{words}\", and are:\n{session}"
            );
        }
        eventually("two paths are one disk", Duration::from_secs(60), || {
            Ok(self.paths(guest)?.iter().filter(|path| path.1 == "active").count() == 2)
        })
    }

    /// The paths of the disk: their block devices and what the device mapper makes of them.
    fn paths(&self, guest: &Guest) -> Result<Vec<(String, String)>> {
        let text =
            guest.run("multipathd show paths format '%d %t %o %T' 2>&1 | grep ^sd", COMMAND_MAX)?.stdout;
        Ok(text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                Some((words.next()?.to_string(), words.next()?.to_string()))
            })
            .collect())
    }

    /// Makes the guest's TCP give a connection up that has had no answer for some hundred milliseconds:
    /// a network of a storage's own retransmits sooner (`rto_min`), and `tcp_retries2` says after how
    /// many of these, as if each took 200 ms and twice as long as the one before.
    fn impatient(&self, guest: &Guest) -> Result<()> {
        for (n, host) in self.hosts.iter().enumerate() {
            let (network, own) = (host.network(), host.guest_address(1));
            guest.check(&format!(
                "ip route change {network} dev eth{n} proto kernel scope link src {own} rto_min 45ms"
            ))?;
        }
        guest.check("echo 1 >/proc/sys/net/ipv4/tcp_retries2").map(drop)
    }

    /// The SCSI disk behind a portal.
    fn disk_of(&self, guest: &Guest, host: &HostSide) -> Result<String> {
        let address = host.address();
        let text = guest.check(&format!(
            "for s in /sys/class/iscsi_session/session*; do
               [ \"$(cat $s/device/connection*/iscsi_connection/*/persistent_address)\" = {address} ] && ls $s/device/target*/*/block
             done; true"
        ))?;
        ensure!(!text.trim().is_empty(), "no disk is behind {address}");
        Ok(text.trim().to_string())
    }

    /// The target closes a portal (ours the optimized one, which is used), and its connections with it.
    fn close(&mut self, guest: &Guest, which: usize) -> Result<()> {
        let address = self.hosts[which].address();
        if !self.ours() {
            // tgt cannot: the guest's connection is reset, and no other is let through.
            return guest
                .check(&format!("ip route add unreachable {address}/32; ss -K dst {address}; true"))
                .map(drop);
        }
        let target = self.world.site.target.as_mut().expect("the rig has made it");
        target.portals.retain(|(name, _)| name != "a");
        self.world.site.portals.retain(|portal| portal.name != "a");
        self.world.server().apply(&self.world.site)
    }

    fn open_again(&mut self, guest: &Guest, which: usize) -> Result<()> {
        let address = self.hosts[which].address();
        if !self.ours() {
            return guest.check(&format!("ip route del unreachable {address}/32")).map(drop);
        }
        let target = self.world.site.target.as_mut().expect("the rig has made it");
        target.portals.insert(0, ("a".into(), "active"));
        self.world.site.portals.insert(0, Portal { name: "a".into(), listen: format!("{address}:3260") });
        self.world.server().apply(&self.world.site)
    }
}

impl Lab {
    /// The disk that has the load. Ours has said which: the one behind the first portal.
    fn one_used(&self, guest: &Guest, disks: &[String; 2]) -> Result<usize> {
        let first = if self.ours() { 0 } else { usize::from(used(guest, disks)? == [false, true]) };
        uses(guest, disks, first)?;
        Ok(first)
    }

    /// Both paths are there again, and ours goes back to the optimized one, within the time that a new
    /// login takes.
    fn back(&self, guest: &Guest, disks: &[String; 2]) -> Result<()> {
        eventually("the path that was cut is used again", Duration::from_secs(90), || {
            let both = self.paths(guest)?.iter().filter(|path| path.1 == "active").count() == 2;
            Ok(both && (!self.ours() || used(guest, disks)? == [true, false]))
        })?;
        no_errors_but_paths(guest)
    }
}

/// Sectors that have been read and written by a disk.
fn traffic(guest: &Guest, disk: &str) -> Result<u64> {
    let text = guest.check(&format!("awk '{{ print $3 + $7 }}' /sys/block/{disk}/stat"))?;
    text.trim().parse().during(format!("the statistics of {disk} say {text}"))
}

/// The disk that has the traffic now.
fn used(guest: &Guest, disks: &[String; 2]) -> Result<Vec<bool>> {
    let before = [traffic(guest, &disks[0])?, traffic(guest, &disks[1])?];
    std::thread::sleep(Duration::from_millis(500));
    let mut used = Vec::new();
    for (disk, before) in disks.iter().zip(before) {
        // multipathd's own checks read a few sectors a second.
        used.push(traffic(guest, disk)? > before + 64);
    }
    Ok(used)
}

pub fn initiator(bench: &Bench) -> Result<String> {
    let (mut lab, guest) = Lab::open(bench, "initiator")?;
    let guest = &guest;
    lab.daemons(guest)?;
    lab.log_in(guest)?;
    let worker = lab.world.worker()?;
    let disks = [lab.disk_of(guest, &lab.hosts[0])?, lab.disk_of(guest, &lab.hosts[1])?];
    let load = VerifiedWrites { device: "/dev/dm-0".into(), region_mib: 32, depth: 16, passes: 100_000 };
    let job = load.start(guest)?;

    // The portal closes, by the server's own command line.
    let first = lab.one_used(guest, &disks)?;
    let closed_ms = measure(guest, || lab.close(guest, first))?;
    uses(guest, &disks, 1 - first)?;
    ensure!(closed_ms < CLOSED_MS_MAX, "the fail-over took {closed_ms:.0} ms\n{}", recently(guest));
    lab.open_again(guest, first)?;
    lab.back(guest, &disks)?;

    // The cable is cut: no word from the target, nor to it.
    let silent_ms = cut(&lab, guest, &disks)?;
    ensure!(
        silent_ms < SILENT_MS_MAX,
        "the fail-over after a cut cable took {silent_ms:.0} ms\n{}",
        recently(guest)
    );
    lab.back(guest, &disks)?;
    lab.impatient(guest)?;
    let closed = |guest: &Guest| guest.check(&format!("dmesg | grep -c '{CLOSED_BY_TCP}' || true"));
    let before = closed(guest)?;
    let impatient_ms = cut(&lab, guest, &disks)?;
    ensure!(before != closed(guest)?, "TCP gave no connection up\n{}", recently(guest));
    ensure!(
        impatient_ms < IMPATIENT_MS_MAX,
        "with an impatient TCP the fail-over took {impatient_ms:.0} ms\n{}",
        recently(guest)
    );
    lab.back(guest, &disks)?;

    // The worker dies, and no session notices.
    let (mut kills, mut kill_ms) = (0, 0.0);
    if lab.ours() {
        lab.world.unmoved(worker)?;
        let noticed = || guest.check("dmesg | grep -c 'connection.*error' || true");
        let before = noticed()?;
        kill_ms = measure(guest, || {
            for _ in 0..3 {
                lab.world.server().kill_worker()?;
                kills += 1;
                std::thread::sleep(Duration::from_millis(700));
            }
            // The probe goes on after the last of them, so that it sees its end.
            std::thread::sleep(Duration::from_secs(3));
            Ok(())
        })?;
        ensure!(kill_ms < SILENT_MS_MAX, "after a kill of the worker a read took {kill_ms:.0} ms");
        ensure!(before == noticed()?, "a session noticed the death of the worker");
    }
    let verdict = load.stop(guest, job)?;
    ensure!(verdict.clean(), "fio found {verdict:?}");
    let last = VerifiedWrites { passes: 1, region_mib: 8, ..load }.run(guest, Duration::from_secs(120))?;
    ensure!(last.clean(), "after the cuts a pass came to {last:?}");
    guest.check("multipath -F; iscsiadm -m node --logout")?;
    let left = guest.run("iscsiadm -m session 2>&1", COMMAND_MAX)?.stdout;
    ensure!(left.contains("No active sessions"), "after the logout there are sessions: {left}");
    Ok(format!(
        "requests={} wrong_bytes=0 closed_portal_ms={closed_ms:.0} cut_cable_ms={silent_ms:.0} cut_impatient_ms={impatient_ms:.0} kills={kills} kill_ms={kill_ms:.0} digests=CRC32C chap=mutual",
        verdict.done + last.done
    ))
}

/// Cuts the cable that the load goes by, and plugs it in again when the other has the load. Gives the time
/// of the fail-over.
fn cut(lab: &Lab, guest: &Guest, disks: &[String; 2]) -> Result<f64> {
    let first = lab.one_used(guest, disks)?;
    let took = measure(guest, || lab.hosts[first].up(false))?;
    uses(guest, disks, 1 - first)?;
    lab.hosts[first].up(true)?;
    Ok(took)
}

/// The longest time that a read of 4 KiB took, of those that the action may have held up.
fn measure(guest: &Guest, act: impl FnOnce() -> Result<()>) -> Result<f64> {
    let probe = Probe::disk(guest, "/dev/dm-0", 96)?;
    let longest = disturb(&[guest], vec![probe], act)?;
    longest.first().copied().ok_or_else(|| Failure::new("the probe gave nothing"))
}

/// The load goes by this disk alone, or the sentence has what multipathd makes of them.
fn uses(guest: &Guest, disks: &[String; 2], expected: usize) -> Result<()> {
    let used = used(guest, disks)?;
    if used == [expected == 0, expected == 1] {
        return Ok(());
    }
    let shown = guest.run(
        &format!("multipath -ll; for d in {} {}; do sg_rtpg --decode /dev/$d; done", disks[0], disks[1]),
        COMMAND_MAX,
    )?;
    Err(Failure::new(format!(
        "of the paths {disks:?} number {expected} should be used, and these are: {used:?}\n{}",
        shown.stdout
    )))
}

/// What the guest's kernel has to say of a fail-over that took long.
fn recently(guest: &Guest) -> String {
    let command =
        "grep . /sys/class/iscsi_session/*/recovery_tmo; dmesg | tail -n 20; cut -d' ' -f1 /proc/uptime";
    guest.run(command, COMMAND_MAX).map_or_else(|error| error.to_string(), |output| output.stdout)
}

/// Paths fail, and the kernel says so; the disk above them does not.
fn no_errors_but_paths(guest: &Guest) -> Result<()> {
    let log = guest.check("dmesg | grep -E 'Buffer I/O error|dm-0.*error|BUG:|Call Trace' || true")?;
    ensure!(log.trim().is_empty(), "the guest's kernel says: {log}");
    Ok(())
}
