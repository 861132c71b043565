//! `standpipe status`.

use super::args;
use super::show::{human, join, reservation_text, table, users};
use super::{Failure, Outcome, Screen};
use crate::client::Client;
use crate::problem::Kind;
use crate::status::Status;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PERIOD: Duration = Duration::from_secs(1);

pub(super) fn status(client: &Client, args: &args::Status, screen: &mut Screen<'_>) -> Outcome {
    loop {
        let answer: Result<Status, _> = client.get("/v1/status");
        let status = match answer {
            Ok(status) => status,
            // A worker that is being replaced is away for a moment.
            Err(problem) if args.watch && problem.kind == Kind::Unreachable => {
                writeln!(screen.out, "{}", problem.what)?;
                screen.out.flush()?;
                std::thread::sleep(PERIOD);
                continue;
            }
            Err(problem) => return Err(Failure::Problem(problem)),
        };
        if args.watch && !screen.json {
            // ECMA-48: cursor home, erase the display.
            write!(screen.out, "\x1b[H\x1b[2J")?;
        }
        screen.show(&status, |out, status| human_status(out, status, args.counters))?;
        if !args.watch {
            return Ok(());
        }
        std::thread::sleep(PERIOD);
    }
}

pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

fn counters(out: &mut dyn Write, owner: &str, counters: &BTreeMap<String, u64>) -> io::Result<()> {
    let counted = counters.iter().filter(|(_, value)| **value != 0);
    let rows: Vec<Vec<String>> =
        counted.map(|(name, value)| vec![format!("  {name}"), value.to_string()]).collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    table(out, &[owner, ""], &rows)
}

fn human_status(out: &mut dyn Write, status: &Status, every: bool) -> io::Result<()> {
    let worker = &status.worker;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let age = now.map_or(0, |now| now.as_secs().saturating_sub(worker.started));
    writeln!(
        out,
        "worker {}, version {}, up {}, {} restarts, {} lanes",
        worker.pid,
        worker.version,
        duration(age),
        worker.restarts,
        worker.lanes.len()
    )?;
    for lane in &worker.lanes {
        let seconds = lane.cpu_microseconds as f64 / 1e6;
        writeln!(out, "lane {}: {} slots, {seconds:.2} s CPU", lane.lane, lane.slots)?;
    }
    if !status.slots.is_empty() {
        let rows: Vec<Vec<String>> = status
            .slots
            .iter()
            .map(|(name, slot)| {
                let state = if slot.connected { "connected" } else { "waiting" };
                let set_aside = status.quarantined.iter().any(|q| q.slot.to_string() == *name);
                let state = if set_aside { "quarantined" } else { state };
                vec![name.clone(), slot.model.to_string(), state.to_owned(), slot.queues.to_string()]
            })
            .collect();
        writeln!(out)?;
        table(out, &["SLOT", "MODEL", "STATE", "QUEUES"], &rows)?;
    }
    if !status.volumes.is_empty() {
        let rows: Vec<Vec<String>> = status
            .volumes
            .iter()
            .map(|(name, volume)| {
                vec![
                    name.clone(),
                    human(volume.size),
                    human(volume.allocated),
                    join(users(&volume.used_by, &volume.targets)),
                    volume.fault.clone().unwrap_or_default(),
                ]
            })
            .collect();
        writeln!(out)?;
        table(out, &["VOLUME", "SIZE", "ALLOCATED", "USERS", ""], &rows)?;
    }
    let reserved: Vec<Vec<String>> = status
        .volumes
        .iter()
        .filter_map(|(name, volume)| Some(vec![name.clone(), reservation_text(volume.reservation.as_ref()?)]))
        .collect();
    if !reserved.is_empty() {
        writeln!(out)?;
        table(out, &["VOLUME", "RESERVATION"], &reserved)?;
    }
    if !status.targets.is_empty() {
        let rows: Vec<Vec<String>> = status
            .targets
            .iter()
            .map(|(name, target)| {
                let initiators = target.sessions.iter().map(|session| &session.initiator);
                vec![
                    name.clone(),
                    target.sessions.len().to_string(),
                    join(initiators),
                    target.fault.clone().unwrap_or_default(),
                ]
            })
            .collect();
        writeln!(out)?;
        table(out, &["TARGET", "SESSIONS", "INITIATORS", ""], &rows)?;
    }
    for (name, portal) in &status.portals {
        if let Some(fault) = &portal.fault {
            writeln!(out, "\nportal {name} is out of order: {fault}")?;
        }
    }
    if !status.networks.is_empty() {
        let rows: Vec<Vec<String>> = status
            .networks
            .iter()
            .map(|(name, network)| {
                vec![
                    name.clone(),
                    network.fdb_size.to_string(),
                    join(network.ports.iter().map(|port| &port.name)),
                ]
            })
            .collect();
        writeln!(out)?;
        table(out, &["NETWORK", "ADDRESSES", "PORTS"], &rows)?;
    }
    for quarantined in &status.quarantined {
        writeln!(out, "\nslot {} is in quarantine: {}", quarantined.slot, quarantined.reason)?;
    }
    if every {
        for lane in &worker.lanes {
            counters(out, &format!("lane {}", lane.lane), &lane.counters)?;
        }
        for (name, slot) in &status.slots {
            counters(out, name, &slot.counters)?;
        }
        for (name, volume) in &status.volumes {
            counters(out, name, &volume.counters)?;
        }
        for (name, portal) in &status.portals {
            counters(out, &format!("portal {name}"), &portal.counters)?;
        }
        for (name, target) in &status.targets {
            counters(out, &format!("target {name}"), &target.counters)?;
            for session in &target.sessions {
                let owner = format!("{name} {} {}", session.initiator, session.isid);
                counters(out, &owner, &session.counters)?;
            }
        }
        for (name, network) in &status.networks {
            counters(out, name, &network.counters)?;
            for port in &network.ports {
                counters(out, &format!("{name} {}", port.name), &port.counters)?;
            }
        }
    }
    Ok(())
}
