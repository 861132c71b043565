//! A guest's memory, as its client's DMA map says.
//!
//! Firmware takes all of the memory away and gives it back again and again while it shadows ROMs, and
//! each map comes with a descriptor of its own of the same file. So each file is mapped once, and its
//! mapping outlives the maps for a while.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use guest_memory::{Log, Memory, REGIONS_MAX, Region};
use host::given::{self, Kind};
use host::map::{Account, Mapping, Refused};
use vfio_user::MapState;
use vfio_user::numbers::{MAP_READ, MAP_WRITE};

/// Files that stay mapped without a map that names them.
const IDLE_MAX: usize = 4;

type Identity = (u64, u64);

/// What a descriptor is. It does not change: a map that becomes another brings another descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    File(Identity),
    Ours,
    Refused,
}

pub struct GuestMemory {
    files: HashMap<Identity, Arc<Mapping>>,
    /// By generation, so that a map that stays costs no system call when others change.
    known: HashMap<u32, Known>,
    account: Arc<Account>,
    /// All that the client lets us reach.
    mapped: Arc<Memory>,
    /// What a device sees that may not reach any.
    none: Arc<Memory>,
    /// Snapshots that were replaced, as long as somebody may hold them.
    retired: Vec<Weak<Memory>>,
    /// Where writes are noted, if they are.
    pub log: Option<Log>,
    /// Maps that cannot be memory: no file of that size, none in memory, more than one may have.
    pub unmapped: u64,
    /// Why the last of them.
    pub refused: Option<Refused>,
    /// The session's maps are others by now.
    pub is_stale: bool,
    /// A file that the client maps because we gave it: its map is no memory of the guest's.
    pub ours: Option<Identity>,
}

impl Default for GuestMemory {
    fn default() -> Self {
        let none = Memory::empty();
        Self {
            files: HashMap::new(),
            known: HashMap::new(),
            account: Arc::default(),
            mapped: Arc::clone(&none),
            none,
            retired: Vec::new(),
            log: None,
            unmapped: 0,
            refused: None,
            is_stale: false,
            ours: None,
        }
    }
}

impl GuestMemory {
    /// The snapshot that a device sees.
    pub fn seen(&self, bus_master: bool) -> Arc<Memory> {
        Arc::clone(if bus_master { &self.mapped } else { &self.none })
    }

    /// Makes the snapshot of these maps, but for those that touch `without`, which are about to go.
    pub fn rebuild(&mut self, maps: &[MapState], fds: &HashMap<u32, OwnedFd>, without: Option<(u64, u64)>) {
        let gone = |map: &MapState| {
            without.is_some_and(|(address, size)| {
                map.address < address.saturating_add(size) && address < map.address.saturating_add(map.size)
            })
        };
        let mut regions = Vec::new();
        let mut used = HashSet::new();
        let mut kept = HashMap::new();
        self.is_stale = false;
        for map in maps.iter().filter(|map| !gone(map)) {
            // ROMs come without a descriptor; so does what the client does not share.
            if map.fd == 0 || map.flags & (MAP_READ | MAP_WRITE) != MAP_READ | MAP_WRITE {
                continue;
            }
            let known = match self.known.get(&map.fd) {
                Some(known) => *known,
                None => self.look_at(map, fds.get(&map.fd)),
            };
            kept.insert(map.fd, known);
            let Known::File(file) = known else { continue };
            let Some(mapping) = self.files.get(&file).map(Arc::clone) else { continue };
            used.insert(file);
            if regions.len() < REGIONS_MAX {
                let (guest, len) = (map.address, map.size);
                // Addresses are the guest's own; nobody knows the client's.
                regions.push(Region { guest, len, user: guest, offset: map.offset, mapping });
            }
        }
        self.known = kept;
        let mut idle = 0;
        self.files.retain(|file, _| {
            let named = used.contains(file);
            idle += usize::from(!named);
            named || idle <= IDLE_MAX
        });
        let made = Memory::new(regions, self.log.clone()).unwrap_or_else(|_| {
            // The session lets no maps overlap, and the files are as long as they say.
            self.unmapped += 1;
            Memory::empty()
        });
        let old = std::mem::replace(&mut self.mapped, made);
        self.retired.retain(|snapshot| snapshot.strong_count() > 0);
        // Nothing of a snapshot without memory can be in use.
        if !old.regions().is_empty() {
            self.retired.push(Arc::downgrade(&old));
        }
    }

    fn look_at(&mut self, map: &MapState, fd: Option<&OwnedFd>) -> Known {
        // One that did not even become ours was of another kind.
        let found = fd.ok_or(Refused::NotMemory).and_then(|fd| self.map_file(map, fd));
        found.unwrap_or_else(|why| {
            self.unmapped += 1;
            self.refused = Some(why);
            Known::Refused
        })
    }

    fn map_file(&mut self, map: &MapState, fd: &OwnedFd) -> Result<Known, Refused> {
        // Of another file not even what it is may be asked.
        if given::kind(fd.as_fd()) != Kind::Memory {
            return Err(Refused::NotMemory);
        }
        let identity = host::memfd::identity(fd).map_err(Refused::Failed)?;
        if self.ours == Some(identity) {
            return Ok(Known::Ours);
        }
        let end = map.offset.saturating_add(map.size);
        if self.files.get(&identity).is_some_and(|mapping| mapping.len() as u64 >= end) {
            return Ok(Known::File(identity));
        }
        // A file that is shorter than it is said to be would be a trap to step into later.
        let len = host::memfd::size(fd).map_err(Refused::Failed)?;
        if len < end {
            return Err(Refused::Short);
        }
        let mapping = Mapping::of_given(fd.as_fd(), 0, len, &self.account)?;
        self.files.insert(identity, Arc::new(mapping));
        Ok(Known::File(identity))
    }

    /// Whether nobody but the slot holds the snapshot that there is now; `seen` is what its device has.
    pub fn is_unused(&self, seen: &Arc<Memory>) -> bool {
        Arc::strong_count(&self.mapped) == 1 + usize::from(Arc::ptr_eq(&self.mapped, seen))
    }

    /// Whether nobody holds a snapshot any more that was replaced.
    pub fn is_settled(&mut self) -> bool {
        self.retired.retain(|snapshot| snapshot.strong_count() > 0);
        self.retired.is_empty()
    }

    /// Whoever holds snapshots that were replaced is not waited for any longer.
    pub fn forget_retired(&mut self) {
        self.retired.clear();
    }

    pub fn clear(&mut self) {
        self.mapped = Arc::clone(&self.none);
        self.files.clear();
        self.known.clear();
        self.is_stale = false;
        self.retired.clear();
        self.ours = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use request::Address;

    fn map(address: u64, size: u64, offset: u64, fd: u32) -> MapState {
        MapState { address, size, offset, fd, flags: MAP_READ | MAP_WRITE }
    }

    #[test]
    fn one_file_is_mapped_once_however_often_it_comes() {
        let file = host::memfd::create("guest", 1 << 20).unwrap();
        let fds = HashMap::from([(1, file.try_clone().unwrap()), (2, file.try_clone().unwrap())]);
        let mut memory = GuestMemory::default();
        let maps = [map(0, 0xa0000, 0, 1), map(0xc0000, 0x40000, 0xc0000, 2)];
        memory.rebuild(&maps, &fds, None);
        let seen = memory.seen(true);
        assert!(Arc::ptr_eq(&seen.regions()[0].mapping, &seen.regions()[1].mapping));
        seen.window(Address(0xc0010), 4).unwrap().store_u32(0, 7);
        assert!(memory.seen(false).regions().is_empty());
        // Taken away and given back.
        memory.rebuild(&[], &fds, None);
        assert!(memory.seen(true).regions().is_empty() && !memory.is_settled());
        drop(seen);
        assert!(memory.is_settled());
        memory.rebuild(&maps[1..], &fds, None);
        assert_eq!(memory.seen(true).window(Address(0xc0010), 4).unwrap().load_u32(0), 7);
    }

    #[test]
    fn what_is_about_to_go_is_not_seen_by_new_requests() {
        let fds = HashMap::from([(1, host::memfd::create("guest", 1 << 20).unwrap())]);
        let mut memory = GuestMemory::default();
        let maps = [map(0, 0x1000, 0, 1), map(0x1000, 0x1000, 0x1000, 1)];
        memory.rebuild(&maps, &fds, None);
        let request = memory.seen(true);
        memory.rebuild(&maps, &fds, Some((0x1000, 0x1000)));
        assert_eq!(memory.seen(true).regions().len(), 1);
        assert!(!memory.is_settled());
        drop(request);
        assert!(memory.is_settled());
    }

    #[test]
    fn what_is_no_memory_is_left_out() {
        let fds = HashMap::from([
            (1, host::memfd::create("short", 0x1000).unwrap()),
            (2, host::event::Event::new().unwrap().into_fd()),
        ]);
        let mut memory = GuestMemory::default();
        let read_only = MapState { flags: MAP_READ, ..map(0, 0x1000, 0, 1) };
        let maps = [read_only, map(0x1000, 0x1000, 1, 1), map(0x2000, 8, 0, 2), map(0x3000, 8, 0, 0)];
        memory.rebuild(&maps, &fds, None);
        assert!(memory.seen(true).regions().is_empty());
        assert_eq!(memory.unmapped, 2);
        assert!(matches!(memory.refused, Some(Refused::NotMemory)));
        // A device cannot be made to write to its own doorbells.
        let fds = HashMap::from([
            (3, host::memfd::create("page", 0x1000).unwrap()),
            (4, host::memfd::create("guest", 0x1000).unwrap()),
        ]);
        memory.ours = Some(host::memfd::identity(&fds[&3]).unwrap());
        memory.rebuild(&[map(0, 0x1000, 0, 3), map(0x1000, 0x1000, 0, 4)], &fds, None);
        assert_eq!(memory.seen(true).regions()[0].guest, 0x1000);
        assert_eq!((memory.seen(true).regions().len(), memory.unmapped), (1, 2));
    }

    #[test]
    fn a_map_that_stays_is_not_looked_at_again() {
        let fds = HashMap::from([(1, host::memfd::create("guest", 1 << 20).unwrap())]);
        let mut memory = GuestMemory::default();
        let maps = [map(0, 0x1000, 0, 1), map(0x1000, 0x1000, 0x1000, 1)];
        memory.rebuild(&maps[..1], &fds, None);
        // What is known of a descriptor is known without it.
        memory.rebuild(&maps, &HashMap::new(), None);
        assert_eq!((memory.seen(true).regions().len(), memory.unmapped), (2, 0));
        // A descriptor that is no memory is counted once.
        let fds = HashMap::from([(2, host::event::Event::new().unwrap().into_fd())]);
        for _ in 0..3 {
            memory.rebuild(&[map(0x2000, 0x1000, 0, 2)], &fds, None);
        }
        assert_eq!(memory.unmapped, 1);
    }

    #[test]
    fn only_a_snapshot_that_others_hold_has_to_be_replaced_first() {
        let fds = HashMap::from([(1, host::memfd::create("guest", 1 << 20).unwrap())]);
        let mut memory = GuestMemory::default();
        memory.rebuild(&[map(0, 0x1000, 0, 1)], &fds, None);
        let (device, none) = (memory.seen(true), memory.seen(false));
        assert!(memory.is_unused(&device) && !memory.is_unused(&none));
        let request = Arc::clone(&device);
        assert!(!memory.is_unused(&device));
        drop((request, device));
        assert!(memory.is_unused(&none));
    }
}
