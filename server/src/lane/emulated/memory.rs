//! A guest's memory, as its client's DMA map says.
//!
//! Firmware takes all of the memory away and gives it back again and again while it shadows ROMs, and
//! each map comes with a descriptor of its own of the same file. So each file is mapped once, and its
//! mapping outlives the maps for a while.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use guest_memory::{Log, Memory, REGIONS_MAX, Region};
use host::map::Mapping;
use vfio_user::MapState;
use vfio_user::numbers::{MAP_READ, MAP_WRITE};

/// Files that stay mapped without a map that names them.
const IDLE_MAX: usize = 4;

struct File {
    mapping: Arc<Mapping>,
    len: u64,
}

pub struct GuestMemory {
    files: HashMap<(u64, u64), File>,
    /// All that the client lets us reach.
    mapped: Arc<Memory>,
    /// What a device sees that may not reach any.
    none: Arc<Memory>,
    /// Snapshots that were replaced, as long as somebody may hold them.
    retired: Vec<Weak<Memory>>,
    /// Where writes are noted, if they are.
    pub log: Option<Log>,
    /// Maps that cannot be memory: no descriptor, no file of that size, not to be written to.
    pub unmapped: u64,
    /// A file that the client maps because we gave it: its map is no memory of the guest's.
    pub ours: Option<(u64, u64)>,
}

impl Default for GuestMemory {
    fn default() -> Self {
        let none = Memory::empty();
        let (files, retired) = (HashMap::new(), Vec::new());
        Self { files, mapped: Arc::clone(&none), none, retired, log: None, unmapped: 0, ours: None }
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
        let mut used = Vec::new();
        for map in maps.iter().filter(|map| !gone(map)) {
            // ROMs come without a descriptor; so does what the client does not share.
            let Some(fd) =
                fds.get(&map.fd).filter(|_| map.flags & (MAP_READ | MAP_WRITE) == MAP_READ | MAP_WRITE)
            else {
                continue;
            };
            if self.ours.is_some() && host::memfd::identity(fd).ok() == self.ours {
                continue;
            }
            let Some((file, mapping)) = self.map_file(fd, map.offset.saturating_add(map.size)) else {
                self.unmapped += 1;
                continue;
            };
            used.push(file);
            if regions.len() < REGIONS_MAX {
                let (guest, len) = (map.address, map.size);
                // Addresses are the guest's own; nobody knows the client's.
                regions.push(Region { guest, len, user: guest, offset: map.offset, mapping });
            }
        }
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

    fn map_file(&mut self, fd: &OwnedFd, end: u64) -> Option<((u64, u64), Arc<Mapping>)> {
        let identity = host::memfd::identity(fd).ok()?;
        let known = self.files.get(&identity).filter(|file| file.len >= end);
        if let Some(file) = known {
            return Some((identity, Arc::clone(&file.mapping)));
        }
        // A file that is shorter than it is said to be would be a trap to step into later.
        let len = host::memfd::size(fd).ok().filter(|len| *len >= end)?;
        let mapping = Arc::new(Mapping::of_file(fd.as_fd(), 0, usize::try_from(len).ok()?).ok()?);
        self.files.insert(identity, File { mapping: Arc::clone(&mapping), len });
        Some((identity, mapping))
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
        // A device cannot be made to write to its own doorbells.
        let fds = HashMap::from([
            (1, host::memfd::create("page", 0x1000).unwrap()),
            (2, host::memfd::create("guest", 0x1000).unwrap()),
        ]);
        memory.ours = Some(host::memfd::identity(&fds[&1]).unwrap());
        memory.rebuild(&[map(0, 0x1000, 0, 1), map(0x1000, 0x1000, 0, 2)], &fds, None);
        assert_eq!(memory.seen(true).regions()[0].guest, 0x1000);
        assert_eq!((memory.seen(true).regions().len(), memory.unmapped), (1, 2));
    }
}
