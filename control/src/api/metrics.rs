//! The status as OpenMetrics text (the exposition format of OpenMetrics 1.0):
//! families in one piece each, counters with `_total`, `# EOF` at the end.

use crate::status::Status;
use std::collections::BTreeMap;
use std::fmt::Write;

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

struct Text(String);

/// A label's value, escaped as the format's ABNF asks.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Text {
    fn family(&mut self, name: &str, sort: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# TYPE standpipe_{name} {sort}");
        let _ = writeln!(self.0, "# HELP standpipe_{name} {help}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "standpipe_{name}{labels} {value}");
    }

    fn counters<'a>(
        &mut self,
        family: &str,
        help: &str,
        rows: impl Iterator<Item = (Vec<(&'a str, &'a str)>, &'a BTreeMap<String, u64>)>,
    ) {
        self.family(family, "counter", help);
        let name = format!("{family}_total");
        for (labels, counters) in rows {
            for (counter, value) in counters {
                let mut labels = labels.clone();
                labels.push(("name", counter));
                self.sample(&name, &labels, *value);
            }
        }
    }
}

pub fn render(status: &Status) -> String {
    let mut text = Text(String::new());
    let worker = &status.worker;
    let pid = worker.pid.to_string();
    text.family("worker", "info", "The running worker.");
    text.sample("worker_info", &[("version", &worker.version), ("pid", &pid)], 1);
    text.family("worker_start_time_seconds", "gauge", "When the worker started, Unix time.");
    text.sample("worker_start_time_seconds", &[], worker.started);
    text.family("worker_restarts", "counter", "Workers started before this one.");
    text.sample("worker_restarts_total", &[], worker.restarts);
    text.family("lane_cpu_microseconds", "counter", "CPU time of each lane.");
    let lanes: Vec<String> = worker.lanes.iter().map(|l| l.lane.to_string()).collect();
    for (lane, name) in worker.lanes.iter().zip(&lanes) {
        let labels = [("lane", name.as_str())];
        text.sample("lane_cpu_microseconds_total", &labels, lane.cpu_microseconds);
    }
    text.counters(
        "lane_events",
        "What each lane did, by name.",
        worker.lanes.iter().zip(&lanes).map(|(lane, name)| (vec![("lane", name.as_str())], &lane.counters)),
    );
    text.family("slot_connected", "gauge", "1 while a front end is connected.");
    for (slot, s) in &status.slots {
        text.sample("slot_connected", &[("slot", slot)], u64::from(s.connected));
    }
    text.family("slot_quarantined", "gauge", "1 for a slot that is left alone.");
    for q in &status.quarantined {
        text.sample("slot_quarantined", &[("slot", &q.slot.to_string())], 1);
    }
    let models: Vec<String> = status.slots.values().map(|s| s.model.to_string()).collect();
    text.counters(
        "slot_events",
        "Every end of a request or frame, by name.",
        status.slots.iter().zip(&models).map(|((slot, s), model)| {
            (vec![("slot", slot.as_str()), ("model", model.as_str())], &s.counters)
        }),
    );
    text.family("volume_size_bytes", "gauge", "Size of each volume.");
    for (name, volume) in &status.volumes {
        text.sample("volume_size_bytes", &[("volume", name)], volume.size);
    }
    text.family("volume_allocated_bytes", "gauge", "What each volume takes on its store.");
    for (name, volume) in &status.volumes {
        text.sample("volume_allocated_bytes", &[("volume", name)], volume.allocated);
    }
    text.counters(
        "volume_events",
        "Operations of each volume, by name.",
        status.volumes.iter().map(|(name, v)| (vec![("volume", name.as_str())], &v.counters)),
    );
    text.family("network_addresses", "gauge", "Learned addresses.");
    for (name, network) in &status.networks {
        text.sample("network_addresses", &[("network", name)], network.fdb_size);
    }
    text.counters(
        "network_events",
        "Frames of each network, by name.",
        status.networks.iter().map(|(name, n)| (vec![("network", name.as_str())], &n.counters)),
    );
    text.counters(
        "port_events",
        "Frames of each port, by name.",
        status.networks.iter().flat_map(|(name, n)| {
            n.ports.iter().map(move |port| {
                (vec![("network", name.as_str()), ("port", port.name.as_str())], &port.counters)
            })
        }),
    );
    text.family(
        "volume_registrants",
        "gauge",
        "I_T nexuses that are registered with a volume's reservations.",
    );
    for (name, volume) in &status.volumes {
        if let Some(reservation) = &volume.reservation {
            text.sample("volume_registrants", &[("volume", name)], u64::from(reservation.registrants));
        }
    }
    text.family("portal_connections", "gauge", "TCP connections of each iSCSI portal.");
    for (name, portal) in &status.portals {
        text.sample("portal_connections", &[("portal", name)], u64::from(portal.connections));
    }
    text.counters(
        "portal_events",
        "What happened at each iSCSI portal, by name.",
        status.portals.iter().map(|(name, p)| (vec![("portal", name.as_str())], &p.counters)),
    );
    text.family("target_sessions", "gauge", "Sessions of each iSCSI target.");
    for (name, target) in &status.targets {
        text.sample("target_sessions", &[("target", name)], target.sessions.len() as u64);
    }
    // Not by session: initiators come and go, and a family's labels should not grow with them.
    text.counters(
        "target_events",
        "Every end of a login or a request of each iSCSI target, by name.",
        status.targets.iter().map(|(name, t)| (vec![("target", name.as_str())], &t.counters)),
    );
    text.0.push_str("# EOF\n");
    text.0
}
