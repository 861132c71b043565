//! What a TAP's frames leave the host by, and how fast that is.
//!
//! A TAP itself has no speed that means anything. One that is a port of a bridge has neighbours there:
//! the host's NICs, bonds of them, VLANs on them. The fastest that has a carrier is the uplink.

use std::fs;
use std::path::Path;

/// Megabits a second, of the host's fastest interface in the same bridge; `None`: there is none, as
/// where the host routes, or none that says its speed.
pub fn link_mbps(tap: &str) -> Option<u32> {
    link_mbps_in(Path::new("/sys/class/net"), tap)
}

fn link_mbps_in(interfaces: &Path, tap: &str) -> Option<u32> {
    let ports = fs::read_dir(interfaces.join(tap).join("master/brif")).ok()?;
    let names = ports.filter_map(|port| port.ok()?.file_name().into_string().ok());
    names
        .map(|name| interfaces.join(name))
        // Those of other guests.
        .filter(|interface| !interface.join("tun_flags").exists())
        // EINVAL of an interface that is down, -1 of one that does not know.
        .filter_map(|interface| fs::read_to_string(interface.join("speed")).ok()?.trim().parse().ok())
        .filter(|mbps| *mbps > 0)
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_fastest_neighbour_in_the_bridge_is_the_uplink() {
        let root = std::env::temp_dir().join(format!("standpipe-speed-{}", std::process::id()));
        let bridge = root.join("br0/brif");
        fs::create_dir_all(&bridge).unwrap();
        let interface = |name: &str, speed: &str, bridged: bool| {
            fs::create_dir_all(root.join(name)).unwrap();
            fs::write(root.join(name).join("speed"), speed).unwrap();
            if bridged {
                symlink(root.join("br0"), root.join(name).join("master")).unwrap();
                fs::create_dir_all(bridge.join(name)).unwrap();
            }
        };
        interface("tap0", "10000\n", true);
        interface("tap1", "40000\n", true);
        for tap in ["tap0", "tap1"] {
            fs::write(root.join(tap).join("tun_flags"), "0x1002\n").unwrap();
        }
        interface("routed0", "10000\n", false);
        assert_eq!(link_mbps_in(&root, "tap0"), None, "other guests are no uplink");
        interface("unknown0", "-1\n", true);
        interface("elsewhere0", "100000\n", false);
        assert_eq!(link_mbps_in(&root, "tap0"), None);
        interface("eth0", "1000\n", true);
        interface("bond0", "25000\n", true);
        assert_eq!(link_mbps_in(&root, "tap0"), Some(25_000));
        assert_eq!(link_mbps_in(&root, "routed0"), None);
        assert_eq!(link_mbps_in(&root, "gone0"), None);
        fs::remove_dir_all(&root).unwrap();
    }
}
