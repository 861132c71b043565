//! Who a volume is, for good: its NAA name and serial number.

use crate::problem::Problem;
use crate::site::{Naa, Site};
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
        Ok(())
    }
}
