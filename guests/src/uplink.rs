//! The host's side of a TAP uplink: an address on the device that the server has made.

use crate::guest::tail;
use crate::place::in_tree;
use crate::{During, Failure, Result};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Networks of this process: one shows in the routes of the host only when it has been configured.
static GIVEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());

pub struct HostSide {
    pub tap: String,
    /// The third number of 10.213.x.0/24: one that no interface or route of the host uses.
    third: u8,
}

impl HostSide {
    /// Picks a free network and a device name that ends with our pid.
    pub fn new(prefix: &str) -> Result<HostSide> {
        let routes = ip(&["-4", "route", "show", "table", "all"])?;
        let mut given = GIVEN.lock().expect("no holder of this lock panics");
        let third = (7..=254u8)
            .find(|third| !given.contains(third) && !routes.contains(&format!("10.213.{third}.")))
            .during("all networks of 10.213.0.0/16 are in use on this host")?;
        given.push(third);
        // IFNAMSIZ leaves 15 characters.
        let tap = format!("{prefix}{}", std::process::id() % 1_000_000);
        Ok(HostSide { tap, third })
    }

    /// Plugs the cable in, or pulls it: the device passes nothing while it is down.
    pub fn up(&self, up: bool) -> Result<()> {
        ip(&["link", "set", &self.tap, if up { "up" } else { "down" }]).map(drop)
    }

    pub fn address(&self) -> String {
        format!("10.213.{}.1", self.third)
    }

    pub fn network(&self) -> String {
        format!("10.213.{}.0/24", self.third)
    }

    pub fn guest_address(&self, station: u8) -> String {
        format!("10.213.{}.{}", self.third, station + 10)
    }

    /// Waits for the device, and gives it its address.
    pub fn configure(&self) -> Result<()> {
        let device = format!("/sys/class/net/{}", self.tap);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !std::path::Path::new(&device).exists() {
            if Instant::now() > deadline {
                return Err(Failure::new(format!("the server made no TAP device {}", self.tap)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // No router advertisements of the host into a network that lives for a minute.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", self.tap), "1");
        ip(&["addr", "replace", &format!("{}/24", self.address()), "dev", &self.tap])?;
        ip(&["link", "set", &self.tap, "up"]).map(drop)
    }

    /// Frames for this address go to this MAC, without being asked for.
    pub fn neighbour(&self, address: &str, mac: &str) -> Result<()> {
        ip(&["neigh", "replace", address, "lladdr", mac, "dev", &self.tap, "nud", "permanent"]).map(drop)
    }

    /// Pings from the host.
    pub fn ping(&self, address: &str) -> Result<()> {
        let output = in_tree("ping")
            .args(["-n", "-q", "-c", "5", "-i", "0.1", "-W", "5", address])
            .output()
            .during("starting ping")?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !said.contains(" 0% packet loss") {
            return Err(Failure::new(format!("the host pings {address}: {}", tail(&said, 3))));
        }
        Ok(())
    }

    /// An iperf3 server on the host; the caller ends it.
    pub fn iperf3_server(&self) -> Result<Child> {
        let server = in_tree("iperf3")
            .args(["-s", "-B", &self.address()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .during("starting iperf3 on the host")?;
        let address = format!("{}:5201", self.address());
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpListener::bind(&address).is_ok() {
            if Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }
}

fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(arguments).output().during("starting ip: is iproute2 installed?")?;
    if !output.status.success() {
        return Err(Failure::new(format!(
            "ip {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
