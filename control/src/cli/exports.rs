//! `standpipe portal` and `target`.

use super::args::{Portal, Target, TargetSetting};
use super::objects::absolute;
use super::show::{join, table};
use super::status::duration;
use super::{Outcome, Screen};
use crate::api::{NewPortal, NewTarget, PortalView, TargetChange, TargetView};
use crate::client::{Client, segment};
use crate::controller::Applied;
use crate::problem::Problem;
use crate::site::{self, Allow, Chap, LUN_MAX, Luns, PathState, TargetPortals};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) fn portal(client: &Client, command: Portal, screen: &mut Screen<'_>) -> Outcome {
    let path = |name: &str| format!("/v1/portals/{}", segment(name));
    let applied: Applied = match command {
        Portal::Add { name, listen } => {
            client.post("/v1/portals", &NewPortal { name, portal: site::Portal { listen } })?
        }
        Portal::Change { name, listen } => {
            // That there is one; PUT would make it.
            let _: PortalView = client.get(&path(&name))?;
            client.put(&path(&name), &site::Portal { listen })?
        }
        Portal::Rm { name } => client.delete(&path(&name))?,
        Portal::List => {
            let portals: BTreeMap<String, PortalView> = client.get("/v1/portals")?;
            return screen.show(&portals, |out, portals| {
                let rows: Vec<Vec<String>> = portals.values().map(portal_row).collect();
                table(out, &["PORTAL", "ADDRESS", "CONNECTIONS", "TARGETS", ""], &rows)
            });
        }
    };
    screen.applied(&applied)
}

fn portal_row(view: &PortalView) -> Vec<String> {
    let status = view.status.as_ref();
    vec![
        view.name.clone(),
        view.portal.listen.to_string(),
        status.map_or("-".to_owned(), |status| status.connections.to_string()),
        join(&view.targets),
        status.and_then(|status| status.fault.clone()).unwrap_or_default(),
    ]
}

pub(super) fn target(client: &Client, command: Target, screen: &mut Screen<'_>) -> Outcome {
    let path = |name: &str| format!("/v1/targets/{}", segment(name));
    let applied: Applied = match command {
        Target::Add(args) => {
            let setting = setting(args.setting)?;
            let mut target = site::Target::new(args.iqn);
            target.portals = setting.portals;
            target.luns = setting.attach;
            target.sessions_max = setting.sessions_max.unwrap_or(target.sessions_max);
            target.open = setting.open.unwrap_or(false);
            target.chap = setting.chap.flatten();
            target.mutual = setting.mutual.flatten();
            target.allow = setting.allow;
            client.post("/v1/targets", &NewTarget { name: args.name, target })?
        }
        Target::Change(args) => {
            let mut change = setting(args.setting)?;
            change.leave = args.leave;
            change.detach = args.detach;
            change.disallow = args.disallow;
            if args.closed {
                change.open = Some(false);
            }
            if args.no_chap {
                change.chap = Some(None);
            }
            if args.no_mutual {
                change.mutual = Some(None);
            }
            client.patch(&path(&args.name), &change)?
        }
        Target::Reload { name } => client.post(&format!("{}/reload", path(&name)), &())?,
        Target::Rm { name } => client.delete(&path(&name))?,
        Target::List => {
            let targets: BTreeMap<String, TargetView> = client.get("/v1/targets")?;
            return screen.show(&targets, |out, targets| {
                let rows: Vec<Vec<String>> = targets.values().map(target_row).collect();
                table(out, &["TARGET", "NAME", "PORTALS", "LUNS", "SESSIONS", ""], &rows)
            });
        }
        Target::Show { name } => {
            let view: TargetView = client.get(&path(&name))?;
            return screen.show(&view, show);
        }
    };
    screen.applied(&applied)
}

fn wrong(option: &str, text: &str, what: String, hint: &str) -> Problem {
    Problem::invalid(what).at(format!("{option} {text}")).hint(hint)
}

fn setting(args: TargetSetting) -> Result<TargetChange, Problem> {
    let mut portals = BTreeMap::new();
    for text in &args.portal {
        let (name, state) = text.split_once('=').unwrap_or((text, PathState::Active.name()));
        let state = state.parse().map_err(|what: String| {
            let (what, hint) = what.split_once("; ").unwrap_or((&what, ""));
            wrong("--portal", text, what.to_owned(), hint)
        })?;
        portals.insert(name.to_owned(), state);
    }
    let mut luns = BTreeMap::new();
    for text in &args.lun {
        let hint = "write --lun LUN=VOLUME, such as --lun 0=backup";
        let (lun, volume) = text
            .split_once('=')
            .ok_or_else(|| wrong("--lun", text, format!("`{text}` names no LUN"), hint))?;
        let number = lun.parse().ok().filter(|lun| *lun <= LUN_MAX);
        let number = number
            .ok_or_else(|| wrong("--lun", text, format!("`{lun}` is not a LUN (0 to {LUN_MAX})"), hint))?;
        if luns.insert(number, volume.to_owned()).is_some() {
            return Err(wrong("--lun", text, format!("LUN {number} is given twice"), hint));
        }
    }
    let chap = credentials(args.chap, args.secret_file)?;
    let mutual = credentials(args.mutual, args.mutual_secret_file)?;
    let mut change = TargetChange {
        portals: TargetPortals(portals),
        attach: Luns(luns),
        sessions_max: args.sessions_max,
        open: args.open.then_some(true),
        ..TargetChange::default()
    };
    match args.allow {
        Some(initiator) => change.allow.push(Allow { initiator, luns: args.mask, chap, mutual }),
        None => {
            change.chap = chap.map(Some);
            change.mutual = mutual.map(Some);
        }
    }
    Ok(change)
}

fn credentials(user: Option<String>, file: Option<PathBuf>) -> Result<Option<Chap>, Problem> {
    let (Some(user), Some(file)) = (user, file) else { return Ok(None) };
    Ok(Some(Chap { user, secret_file: Some(absolute(file)?), secret: None }))
}

fn portals_text(view: &TargetView) -> String {
    join(view.target.portals.0.iter().map(|(name, state)| match state {
        PathState::Active => name.clone(),
        state => format!("{name}={state}"),
    }))
}

fn luns_text(view: &TargetView) -> String {
    join(view.target.luns.0.iter().map(|(lun, volume)| format!("{lun}={volume}")))
}

fn target_row(view: &TargetView) -> Vec<String> {
    let status = view.status.as_ref();
    vec![
        view.name.clone(),
        view.target.iqn.to_string(),
        portals_text(view),
        luns_text(view),
        status.map_or("-".to_owned(), |status| status.sessions.len().to_string()),
        status.and_then(|status| status.fault.clone()).unwrap_or_default(),
    ]
}

fn proof(chap: Option<&Chap>, mutual: Option<&Chap>) -> String {
    match (chap, mutual) {
        (None, _) => "no proof asked for".to_owned(),
        (Some(chap), None) => format!("CHAP {}", chap.user),
        (Some(chap), Some(mutual)) => format!("CHAP {}, mutual {}", chap.user, mutual.user),
    }
}

fn show(out: &mut dyn Write, view: &TargetView) -> io::Result<()> {
    let target = &view.target;
    writeln!(out, "{}: {}", view.name, target.iqn)?;
    if let Some(fault) = view.status.as_ref().and_then(|status| status.fault.as_ref()) {
        writeln!(out, "out of order: {fault}")?;
    }
    writeln!(out, "LUNs: {}\n", luns_text(view))?;
    let ports = view.ports.iter();
    let rows: Vec<Vec<String>> = ports
        .map(|port| {
            vec![port.portal.clone(), port.tpgt.to_string(), port.port_id.to_string(), port.path.to_string()]
        })
        .collect();
    table(out, &["PORTAL", "TAG", "PORT", "PATH"], &rows)?;
    let mut rows: Vec<Vec<String>> = Vec::new();
    for entry in &target.allow {
        let chap = entry.chap.as_ref().or(target.chap.as_ref());
        let mutual = entry.mutual.as_ref().or(target.mutual.as_ref());
        let luns = entry.luns.as_ref().map_or("all".to_owned(), join);
        rows.push(vec![entry.initiator.to_string(), luns, proof(chap, mutual)]);
    }
    if target.open {
        let proof = proof(target.chap.as_ref(), target.mutual.as_ref());
        rows.push(vec!["everybody else".to_owned(), "all".to_owned(), proof]);
    }
    writeln!(out)?;
    if rows.is_empty() {
        writeln!(out, "nobody may log in: standpipe target change {} --allow NAME", view.name)?;
    } else {
        table(out, &["MAY LOG IN", "LUNS", ""], &rows)?;
    }
    let sessions = view.status.as_ref().map_or(&[][..], |status| &status.sessions);
    if sessions.is_empty() {
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let rows: Vec<Vec<String>> = sessions
        .iter()
        .map(|session| {
            vec![
                session.initiator.clone(),
                session.isid.clone(),
                session.portal.clone(),
                session.address.clone(),
                duration(now.saturating_sub(session.logged_in_since)),
            ]
        })
        .collect();
    writeln!(out)?;
    table(out, &["SESSION OF", "ISID", "PORTAL", "FROM", "FOR"], &rows)
}
