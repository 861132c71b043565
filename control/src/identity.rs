//! Who a volume is, for good: its NAA name and serial number. And by which
//! number a port is known to initiators.

use crate::problem::Problem;
use crate::site::export::port_key;
use crate::site::{Naa, Site};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;

/// A fresh NAA name from the kernel's random numbers.
pub fn fresh() -> Result<Naa, Problem> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).map_err(|error| {
        Problem::failed(format!("cannot read random numbers: {error}"))
            .at("/dev/urandom")
            .hint("give the daemon a /dev with urandom")
    })?;
    Ok(Naa::from_random(bytes))
}

impl Site {
    /// Gives each volume that says nothing about its identity the one that it
    /// has in `known`, or a fresh one. A volume keeps its identity for life,
    /// because guests and multipath layers know it by that.
    pub fn assign_identities(
        &mut self,
        known: &Site,
        mut fresh: impl FnMut() -> Result<Naa, Problem>,
    ) -> Result<(), Problem> {
        for (name, volume) in &mut self.disk {
            let old = known.disk.get(name);
            if volume.naa.is_none() {
                volume.naa = match old.and_then(|old| old.naa) {
                    Some(naa) => Some(naa),
                    None => Some(fresh()?),
                };
            }
            if volume.serial.is_none() {
                volume.serial = match old.and_then(|old| old.serial.clone()) {
                    Some(serial) => Some(serial),
                    None => volume.naa.map(|naa| naa.serial()),
                };
            }
        }
        self.number_ports(known);
        Ok(())
    }

    /// What has a relative target port identifier.
    fn port_keys(&self) -> BTreeSet<String> {
        let slots = self.slots().filter(|(_, slot)| slot.model.is_scsi());
        let targets = self.target.iter().flat_map(|(target, declared)| {
            declared.portals.0.keys().map(move |portal| port_key(target, portal))
        });
        slots.map(|(id, _)| id.to_string()).chain(targets).collect()
    }

    /// Gives each port and portal the number that the site says, else the one that it has in
    /// `known`, else a new one. The numbers of what is gone are kept: it may come back, and
    /// registrations name the port by which they were made.
    pub(crate) fn number_ports(&mut self, known: &Site) {
        let ports = self.port_keys();
        number(&mut self.identity.port, &known.identity.port, &ports);
        let portals = self.portal.keys().cloned().collect();
        number(&mut self.identity.portal_group, &known.identity.portal_group, &portals);
    }
}

fn number(given: &mut BTreeMap<String, u16>, known: &BTreeMap<String, u16>, there: &BTreeSet<String>) {
    // What is there comes first, so that a number that the site gives away goes from what is gone.
    let (kept, gone): (Vec<_>, Vec<_>) = known.iter().partition(|(name, _)| there.contains(*name));
    let mut used: BTreeSet<u16> = given.values().copied().collect();
    for (name, id) in kept.into_iter().chain(gone) {
        if !given.contains_key(name) && used.insert(*id) {
            given.insert(name.clone(), *id);
        }
    }
    for name in there {
        if given.contains_key(name) {
            continue;
        }
        // Above all others, so that a number is not given twice for long; then what was never
        // given; then what something had that is gone.
        let last = used.last().copied().unwrap_or(0);
        let above = last.checked_add(1);
        let id = above.or_else(|| (1..=u16::MAX).find(|id| !used.contains(id))).or_else(|| {
            let old = given.iter().find(|(name, _)| !there.contains(*name));
            let (name, id) = old.map(|(name, id)| (name.clone(), *id))?;
            given.remove(&name);
            Some(id)
        });
        // More than 65,535 ports at a time: a problem that the check tells of.
        let Some(id) = id else { return };
        used.insert(id);
        given.insert(name.clone(), id);
    }
}
