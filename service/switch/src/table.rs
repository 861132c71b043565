use alloc::boxed::Box;
use alloc::vec;

/// Set in every key in use, so that no key is zero.
const OCCUPIED: u64 = 1 << 63;

/// A learned entry is not placed further than this from its home. Reached only by an attacker
/// who knows the seed, or by bad luck that is negligible at half load; then the address is
/// flooded instead, so that nobody's lookups grow slow.
const PROBE_MAX: usize = 64;

/// An address in a VLAN: 48 bits of MAC (first byte lowest), 12 bits of VID.
pub(crate) fn key(mac: u64, vid: u16) -> u64 {
    mac & 0xffff_ffff_ffff | u64::from(vid) << 48 | OCCUPIED
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Zero: free.
    pub key: u64,
    /// Index of the port.
    pub port: u16,
    /// Told by configuration: never moves, never ages.
    pub fixed: bool,
    /// Seconds of the clock when the address last sent something.
    pub seen: u32,
}

impl Entry {
    pub fn vid(&self) -> u16 {
        (self.key >> 48) as u16 & 0xfff
    }

    pub fn mac(&self) -> [u8; 6] {
        let b = self.key.to_le_bytes();
        [b[0], b[1], b[2], b[3], b[4], b[5]]
    }
}

/// The forwarding database: open addressing with linear probing, at most half full, deletion by
/// backward shift, so that there are no tombstones and a miss ends at the first free slot.
///
/// The hash is seeded: a guest chooses its MAC addresses, but not where they land.
pub(crate) struct Table {
    slots: Box<[Entry]>,
    mask: usize,
    seed: u64,
}

impl Table {
    /// Room for `entries`, at most half full.
    pub fn new(entries: usize, seed: u64) -> Table {
        let slots = (entries * 2).next_power_of_two().max(2 * PROBE_MAX);
        Table { slots: vec![Entry::default(); slots].into_boxed_slice(), mask: slots - 1, seed }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    fn home(&self, key: u64) -> usize {
        let mixed = (key ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 29 ^ self.seed >> 7).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 32) as usize & self.mask
    }

    pub fn find(&self, key: u64) -> Option<usize> {
        let mut at = self.home(key);
        // At most half of the slots are in use, so that a free one ends the walk.
        loop {
            let found = self.slots[at].key;
            if found == key {
                return Some(at);
            }
            if found == 0 {
                return None;
            }
            at = (at + 1) & self.mask;
        }
    }

    pub fn get(&self, at: usize) -> Entry {
        self.slots[at]
    }

    pub fn get_mut(&mut self, at: usize) -> &mut Entry {
        &mut self.slots[at]
    }

    /// Adds an entry whose key is absent. `false`: it would lie too far from its home.
    pub fn insert(&mut self, entry: Entry) -> bool {
        let mut at = self.home(entry.key);
        let mut probes = 0;
        while self.slots[at].key != 0 {
            probes += 1;
            if probes == PROBE_MAX && !entry.fixed {
                return false;
            }
            at = (at + 1) & self.mask;
        }
        self.slots[at] = entry;
        true
    }

    /// Frees a slot and moves later entries of the run into the gap. The slot may hold another
    /// entry afterwards.
    pub fn remove(&mut self, at: usize) {
        let mut gap = at;
        let mut next = at;
        loop {
            next = (next + 1) & self.mask;
            let entry = self.slots[next];
            if entry.key == 0 {
                break;
            }
            // An entry may move back to the gap if its home is not between the gap and itself.
            let from_home = next.wrapping_sub(self.home(entry.key)) & self.mask;
            let from_gap = next.wrapping_sub(gap) & self.mask;
            if from_home >= from_gap {
                self.slots[gap] = entry;
                gap = next;
            }
        }
        self.slots[gap] = Entry::default();
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().filter(|entry| entry.key != 0)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// The clever table against the obvious one, with keys that collide often.
        #[test]
        fn agrees_with_a_map(seed: u64, steps in prop::collection::vec((0u64..80, any::<bool>(), 0u16..5), 1..400)) {
            let mut table = Table::new(64, seed);
            let mut map = BTreeMap::new();
            for (mac, add, port) in steps {
                let key = key(mac, 1);
                match (add, table.find(key)) {
                    (true, None) if map.len() < 64 => {
                        let placed = table.insert(Entry { key, port, fixed: true, seen: 0 });
                        prop_assert!(placed);
                        prop_assert!(map.insert(key, port).is_none());
                    }
                    (false, Some(at)) => {
                        table.remove(at);
                        prop_assert!(map.remove(&key).is_some());
                    }
                    (_, found) => prop_assert_eq!(found.map(|at| table.get(at).port), map.get(&key).copied()),
                }
                for (key, port) in &map {
                    prop_assert_eq!(table.find(*key).map(|at| table.get(at).port), Some(*port));
                }
                prop_assert_eq!(table.iter().count(), map.len());
            }
        }
    }

    #[test]
    fn an_entry_keeps_its_address() {
        let entry = Entry { key: key(0x0605_0403_0201, 4094), port: 7, fixed: false, seen: 0 };
        assert_eq!(entry.mac(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(entry.vid(), 4094);
    }
}
