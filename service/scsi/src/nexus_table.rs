//! The nexuses of a unit, by number.

use alloc::vec::Vec;

use crate::nexus::{NEXUS_MAX, Nexus, Peer};

#[derive(Clone, Debug)]
struct Place {
    peer: Peer,
    /// Somebody speaks for it. A place that nobody claims after a restart is given away when there is
    /// no other.
    claimed: bool,
}

/// Who is attached. A number stays with its peer until the peer is detached.
#[derive(Clone, Debug, Default)]
pub(crate) struct NexusTable {
    places: Vec<Option<Place>>,
}

impl NexusTable {
    pub fn find(&self, peer: &Peer) -> Option<Nexus> {
        let same = |place: &Option<Place>| place.as_ref().is_some_and(|place| place.peer == *peer);
        self.places.iter().position(same).map(|index| Nexus(index as u32))
    }

    pub fn peer(&self, nexus: Nexus) -> Option<&Peer> {
        self.places.get(nexus.0 as usize)?.as_ref().map(|place| &place.peer)
    }

    /// All, with their peers.
    pub fn iter(&self) -> impl Iterator<Item = (Nexus, &Peer)> {
        let numbered = self.places.iter().enumerate();
        numbered.filter_map(|(index, place)| Some((Nexus(index as u32), &place.as_ref()?.peer)))
    }

    /// Those that somebody speaks for.
    pub fn claimed(&self) -> impl Iterator<Item = Nexus> {
        let numbered = self.places.iter().enumerate();
        numbered
            .filter(|(_, place)| place.as_ref().is_some_and(|place| place.claimed))
            .map(|(index, _)| Nexus(index as u32))
    }

    /// Somebody speaks for it from now on.
    pub fn claim(&mut self, nexus: Nexus) {
        if let Some(Some(place)) = self.places.get_mut(nexus.0 as usize) {
            place.claimed = true;
        }
    }

    /// A number for a new peer. `None`: all are taken.
    pub fn add(&mut self, peer: Peer, claimed: bool) -> Option<Nexus> {
        let index = match self.places.iter().position(Option::is_none) {
            Some(free) => free,
            None if self.places.len() < NEXUS_MAX => {
                self.places.push(None);
                self.places.len() - 1
            }
            None => self.places.iter().flatten().position(|place| !place.claimed)?,
        };
        self.places[index] = Some(Place { peer, claimed });
        Some(Nexus(index as u32))
    }

    /// A peer under the number that it had before a restart. `None`: there is no such number, or the
    /// peer has another, which only a damaged ledger says.
    pub fn put(&mut self, nexus: Nexus, peer: Peer) -> Option<Nexus> {
        let index = usize::try_from(nexus.0).ok().filter(|index| *index < NEXUS_MAX)?;
        if self.find(&peer).is_some_and(|other| other != nexus) {
            return None;
        }
        if self.places.len() <= index {
            self.places.resize(index + 1, None);
        }
        self.places[index] = Some(Place { peer, claimed: false });
        Some(nexus)
    }

    pub fn remove(&mut self, nexus: Nexus) {
        if let Some(place) = self.places.get_mut(nexus.0 as usize) {
            *place = None;
        }
    }
}
