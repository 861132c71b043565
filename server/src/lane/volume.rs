//! Volumes as a lane has them open, and what a site's volume means in files and devices.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use control::Problem;
use control::step::{Backing, VolumeSpec};
use disk::{Data, Disk};
use disk_block_device::DiskBlockDevice;
use disk_file::DiskFile;
use disk_null::DiskNull;
use host::ring::Ring;
use request::{Atomic, Blocks, Discard, Facts, Identity, Instant, Operation, Status};
use scsi::{Allocation, Ending, Peer, TaskKey};

use super::unit::{Left, LogicalUnit, reservation_status};
use crate::engine::place_of;
use crate::vault::Vault;

/// How long a successor waits for the last requests of a killed worker, which hold the volume's lock.
/// Longer than a Linux guest's SCSI layer waits (30 s) would not help it.
const LOCK_PATIENCE: Duration = Duration::from_secs(25);
/// How long a fresh volume waits: somebody else has it, and will not let go soon.
/// The lane and its other guests wait as well, so it is short.
const LOCK_PATIENCE_FRESH: Duration = Duration::from_millis(20);

/// Places for volumes in a lane, and the part of a volume's number that says which place it has.
const PLACES_MAX: usize = 1 << 16;

/// An open volume.
pub struct Volume {
    pub spec: VolumeSpec,
    /// Its place, and above that how often the place was given away before: requests and copies go by
    /// it, and must not take what comes into the place of a closed volume for theirs.
    number: u32,
    disk: Box<dyn Disk>,
    /// As SCSI initiators see it, once there is one.
    unit: Option<Box<LogicalUnit>>,
    /// Slots and targets that have it open.
    users: u32,
    in_flight: u32,
    /// Something was submitted since the last poll.
    unpolled: bool,
    closing: bool,
    ends: [u64; Status::ALL.len()],
    cause: Option<String>,
}

impl Volume {
    pub fn facts(&self) -> &Facts {
        self.disk.facts()
    }
}

/// The volumes that one lane has open.
pub struct Volumes {
    ring: Rc<Ring>,
    table: Vec<Option<Volume>>,
    /// By place, the number of the next volume there.
    numbers: Vec<u32>,
    /// Volumes with requests in flight.
    busy: Vec<u32>,
    /// A volume that is to be closed has no request in flight any more.
    leaving: bool,
    /// Volumes whose units have a state that is not stored.
    changed: Vec<u32>,
    vault: Vault,
}

impl Volumes {
    pub fn new(ring: Rc<Ring>, vault: Vault) -> Self {
        Self {
            ring,
            table: Vec::new(),
            numbers: Vec::new(),
            busy: Vec::new(),
            leaving: false,
            changed: Vec::new(),
            vault,
        }
    }

    /// Opens a volume, or counts one more user of an open one. `resumed`: a killed worker may still
    /// have requests on it.
    pub fn open(&mut self, spec: &VolumeSpec, resumed: bool) -> Result<u32, Problem> {
        if let Some(index) = self.find(&spec.name)
            && let Some(volume) = self.get_mut(index)
        {
            volume.users += 1;
            return Ok(index);
        }
        let identity = Identity { naa: spec.naa.0, serial: spec.serial.clone(), name: spec.name.clone() };
        let disk =
            open(spec, identity, &self.ring, if resumed { LOCK_PATIENCE } else { LOCK_PATIENCE_FRESH })?;
        let free = self.table.iter().position(Option::is_none);
        let place = match free {
            Some(place) => place,
            None if self.table.len() < PLACES_MAX => {
                self.numbers.push(self.table.len() as u32);
                self.table.push(None);
                self.table.len() - 1
            }
            None => {
                return Err(Problem::conflict(format!("a lane has at most {PLACES_MAX} volumes"))
                    .at(format!("disk.{}", spec.name))
                    .hint("give the server more lanes"));
            }
        };
        let number = self.numbers[place];
        self.numbers[place] = number.wrapping_add(PLACES_MAX as u32);
        self.table[place] = Some(Volume {
            spec: spec.clone(),
            number,
            disk,
            unit: None,
            users: 1,
            in_flight: 0,
            unpolled: false,
            closing: false,
            ends: [0; Status::ALL.len()],
            cause: None,
        });
        Ok(number)
    }

    /// One user less. Closes the volume with the last, once its last request has ended.
    pub fn close(&mut self, index: u32) {
        let Some(place) = self.place(index) else { return };
        let Some(volume) = &mut self.table[place] else { return };
        volume.users = volume.users.saturating_sub(1);
        if volume.users > 0 {
            return;
        }
        if let Some(unit) = volume.unit.take() {
            unit.close(&self.vault);
        }
        volume.closing = true;
        if volume.in_flight == 0 {
            self.table[place] = None;
        }
    }

    /// The place of a volume. `None`: it was closed.
    fn place(&self, number: u32) -> Option<usize> {
        let place = number as usize % PLACES_MAX;
        self.table.get(place)?.as_ref().is_some_and(|volume| volume.number == number).then_some(place)
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut Volume> {
        let volume = self.table.get_mut(number as usize % PLACES_MAX)?.as_mut()?;
        (volume.number == number).then_some(volume)
    }

    /// Has the volume a unit? If not, it is made, with what is left of it.
    pub fn make_unit(&mut self, index: u32, left: &mut Left) -> Result<(), Problem> {
        let vault = self.vault.clone();
        let Some(volume) = self.get_mut(index) else { return Ok(()) };
        if volume.unit.is_none() {
            let facts = volume.disk.facts().clone();
            volume.unit = Some(Box::new(LogicalUnit::new(&volume.spec, facts, left, &vault)?));
            self.dirty(index);
        }
        Ok(())
    }

    pub fn unit(&mut self, index: u32) -> Option<&mut LogicalUnit> {
        self.get_mut(index)?.unit.as_deref_mut()
    }

    /// Takes the unit's descriptors away from the last user, for another lane.
    pub fn release_unit(&mut self, index: u32) -> Option<Left> {
        let volume = self.get_mut(index)?;
        if volume.users > 1 {
            return None;
        }
        Some(volume.unit.take()?.release())
    }

    /// The unit's state has changed.
    pub fn dirty(&mut self, index: u32) {
        if !self.changed.contains(&index) {
            self.changed.push(index);
        }
    }

    /// Stores what has changed, before initiators see it.
    pub fn save_changed(&mut self) -> Vec<u32> {
        let changed = std::mem::take(&mut self.changed);
        for index in &changed {
            if let Some(logical) = self.unit(*index) {
                logical.save();
            }
        }
        changed
    }

    /// Initiators see it.
    pub fn seen(&mut self, changed: Vec<u32>) {
        for index in &changed {
            if let Some(logical) = self.unit(*index) {
                logical.unit.seen();
                logical.save();
            }
        }
        if self.changed.is_empty() {
            self.changed = changed;
            self.changed.clear();
        }
    }

    /// GET LBA STATUS: what the store says of the blocks.
    pub fn find_allocation(
        &mut self,
        index: u32,
        task: TaskKey,
        wanted: &Allocation,
        reply: &mut Vec<u8>,
    ) -> Option<Ending> {
        let volume = self.get_mut(index)?;
        let disk = &mut volume.disk;
        let logical = volume.unit.as_mut()?;
        Some(logical.unit.finish_allocation(task, wanted, |lba| disk.allocation(lba), reply))
    }

    pub fn is_open(&self, index: u32) -> bool {
        self.get(index).is_some_and(|volume| !volume.closing)
    }

    pub fn get(&self, index: u32) -> Option<&Volume> {
        self.place(index).and_then(|place| self.table[place].as_ref())
    }

    /// The numbers of all volumes.
    pub fn indices(&self) -> Vec<u32> {
        self.iter().map(|volume| volume.number).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Volume> {
        self.table.iter().flatten()
    }

    pub fn find(&self, name: &str) -> Option<u32> {
        let same = |volume: &Option<Volume>| {
            volume.as_ref().is_some_and(|volume| volume.spec.name == name && !volume.closing)
        };
        self.table.iter().find(|volume| same(volume))?.as_ref().map(|volume| volume.number)
    }

    pub fn submit(&mut self, now: Instant, index: u32, tag: u32, operation: Operation, data: Data<'_>) {
        let Some(volume) = self.get_mut(index) else {
            unreachable!("a request names a volume that stays open until it ends");
        };
        volume.disk.submit(now, tag, operation, data);
        volume.unpolled = true;
        volume.in_flight += 1;
        if volume.in_flight == 1 {
            self.busy.push(index);
        }
    }

    /// Asks every busy disk which requests have ended.
    pub fn poll(&mut self, now: Instant, ended: &mut Vec<(u32, Status)>) {
        let mut at = 0;
        while at < self.busy.len() {
            let place = self.place(self.busy[at]);
            let Some(volume) = place.and_then(|place| self.table[place].as_mut()) else {
                self.busy.swap_remove(at);
                continue;
            };
            volume.unpolled = false;
            let (in_flight, ends) = (&mut volume.in_flight, &mut volume.ends);
            let mut failed = false;
            volume.disk.poll(now, &mut |tag, status| {
                *in_flight -= 1;
                ends[status as usize] += 1;
                failed |= status != Status::Good;
                ended.push((tag, status));
            });
            if failed && let Some(cause) = volume.disk.take_cause() {
                // Once for each cause, not for each request: a guest could fill the log otherwise.
                if volume.cause.as_ref() != Some(&cause) {
                    tracing::error!(volume = volume.spec.name, cause, "a disk request failed");
                }
                volume.cause = Some(cause);
            }
            if volume.in_flight > 0 {
                at += 1;
                continue;
            }
            self.leaving |= volume.closing;
            self.busy.swap_remove(at);
        }
    }

    /// Closes what was left open for the last steps of its requests.
    pub fn sweep(&mut self) {
        if std::mem::take(&mut self.leaving) {
            for place in &mut self.table {
                place.take_if(|volume| volume.closing && volume.in_flight == 0);
            }
        }
    }

    /// Something is at a disk.
    pub fn are_busy(&self) -> bool {
        self.iter().any(|volume| volume.in_flight > 0)
    }

    /// By volume, the tag of the task that waits for the end of an erasure.
    pub fn parked(&self) -> Vec<(u32, u32)> {
        let parked = |volume: &Volume| Some((volume.number, volume.unit.as_ref()?.unit.parked()?));
        self.iter().filter_map(parked).collect()
    }

    /// A disk was given something after it was polled last; it may have an end without asking anybody.
    pub fn has_unpolled(&self) -> bool {
        self.busy.iter().any(|index| self.get(*index).is_some_and(|volume| volume.unpolled))
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.busy.iter().filter_map(|index| self.get(*index)?.disk.next_deadline()).min()
    }

    /// What is known of an open volume is new; its backing is the same.
    pub fn respecify(&mut self, spec: &VolumeSpec) -> Option<u32> {
        let index = self.find(&spec.name)?;
        self.get_mut(index)?.spec = spec.clone();
        Some(index)
    }

    /// The backing may have grown. The new facts, if it has.
    pub fn resize(&mut self, spec: &VolumeSpec) -> Option<(u32, Facts)> {
        let index = self.find(&spec.name)?;
        let volume = self.get_mut(index)?;
        volume.spec = spec.clone();
        volume.disk.resize().then(|| (index, volume.disk.facts().clone()))
    }

    pub fn report(
        &self,
        slots: &BTreeMap<Peer, String>,
        into: &mut BTreeMap<String, control::status::VolumeStatus>,
    ) {
        for volume in self.iter() {
            let counters = Status::ALL
                .iter()
                .map(|status| (format!("ended_{}", status.name()), volume.ends[*status as usize]))
                .chain([("in_flight".to_owned(), u64::from(volume.in_flight))])
                .collect();
            let unit = volume.unit.as_ref();
            let status = control::status::VolumeStatus {
                reservation: unit.and_then(|logical| reservation_status(&logical.unit, slots)),
                fault: volume.cause.clone(),
                counters,
                ..control::status::VolumeStatus::default()
            };
            into.insert(volume.spec.name.clone(), status);
        }
    }
}

fn is_block_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device())
}

fn open(
    spec: &VolumeSpec,
    identity: Identity,
    ring: &Rc<Ring>,
    patience: Duration,
) -> Result<Box<dyn Disk>, Problem> {
    let problem = |error: String| {
        Problem::failed(format!("cannot open volume `{}`: {error}", spec.name)).at(place_of(spec)).hint(
            "a volume belongs to one server and one slot at a time, and its file must be there: mend that, then apply the site again",
        )
    };
    match &spec.backing {
        Backing::Null => {
            let block_size = spec.block_size;
            let blocks = Blocks(spec.size.unwrap_or(0) / u64::from(block_size));
            Ok(Box::new(DiskNull::new(Facts {
                block_size,
                blocks,
                // The site has only powers of two, and none below the block size.
                physical_exponent: spec
                    .physical_block_size
                    .map_or(0, |physical| (physical / block_size).max(1).trailing_zeros() as u8),
                optimal: Blocks(0),
                read_only: spec.read_only,
                rotational: false,
                write_cache: false,
                discard: Some(Discard { granularity: Blocks(1), zeroes: false }),
                // A power cut leaves nothing of any write.
                atomic: Some(Atomic {
                    max: Blocks((1 << 20) / u64::from(block_size)),
                    alignment: Blocks(1),
                    granularity: Blocks(1),
                }),
                identity,
            })))
        }
        Backing::Path { path } if is_block_device(path) => {
            let options = disk_block_device::Options {
                path: path.clone(),
                read_only: spec.read_only,
                // 512 is what a site says of nothing: then the device's own.
                block_size: Some(spec.block_size).filter(|bytes| *bytes != 512),
                physical_block_size: spec.physical_block_size,
                identity,
                patience,
            };
            DiskBlockDevice::open(Rc::clone(ring), options)
                .map(|disk| Box::new(disk) as Box<dyn Disk>)
                .map_err(|error| problem(error.to_string()))
        }
        Backing::Path { path } => {
            let options = disk_file::Options {
                path: path.clone(),
                read_only: spec.read_only,
                block_size: spec.block_size,
                physical_block_size: spec.physical_block_size,
                direct: true,
                identity,
                patience,
            };
            let disk =
                DiskFile::open(Rc::clone(ring), options).map_err(|error| problem(error.to_string()))?;
            if let Some(size) = spec.size
                && disk.facts().capacity_bytes() < size
            {
                return Err(Problem::failed(format!(
                    "volume `{}` is smaller than it was made: {} bytes instead of {size}",
                    spec.name,
                    disk.facts().capacity_bytes()
                ))
                .at(place_of(spec))
                .hint("its file was truncated: restore the file, or extend it with `truncate` if its end was empty; nothing was changed"));
            }
            Ok(Box::new(disk))
        }
    }
}

/// Makes a volume's file if it is missing. A file that is there is left as it is: making one longer
/// that lost its end would turn lost data into zeroes.
pub fn create(spec: &VolumeSpec) -> Result<(), Problem> {
    let Backing::Path { path } = &spec.backing else { return Ok(()) };
    let failed = |what: &str, error: std::io::Error| {
        Problem::failed(format!("{what} of volume `{}`: {error}", spec.name))
            .at(path.display().to_string())
            .hint("is the directory there, writable, and not full?")
    };
    match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_block_device() => Ok(()),
        Ok(found) if !found.is_file() => Err(Problem::invalid(format!("volume `{}` is neither a file nor a block device", spec.name))
            .at(path.display().to_string())
            .hint("give the path of a raw image or of a block device")),
        Ok(found) => match spec.size {
            Some(size) if found.len() < size => Err(Problem::conflict(format!(
                "the file of volume `{}` has {} bytes, and the volume {size}",
                spec.name,
                found.len()
            ))
            .at(path.display().to_string())
            .hint("if its end was lost, restore the file; if it was always this short, grow it with `truncate -s`, or give its size. Nothing was changed")),
            _ => Ok(()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let Some(size) = spec.size else {
                return Err(Problem::not_found(format!("the file of volume `{}` is missing", spec.name))
                    .at(path.display().to_string())
                    .hint("correct `path`, or add `size` and the file is made"));
            };
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(|error| failed("cannot make the directory", error))?;
            }
            host::file::create(path, size).map_err(|error| failed("cannot make the file", error))?;
            Ok(())
        }
        Err(error) => Err(failed("cannot look at the file", error)),
    }
}

/// Makes a volume's file longer.
pub fn grow(spec: &VolumeSpec) -> Result<(), Problem> {
    let (Backing::Path { path }, Some(size)) = (&spec.backing, spec.size) else { return Ok(()) };
    if is_block_device(path) {
        return Ok(());
    }
    let file = std::fs::OpenOptions::new().write(true).open(path);
    file.and_then(|file| host::file::grow(&file, size)).map_err(|error| {
        Problem::failed(format!("cannot grow the file of volume `{}`: {error}", spec.name))
            .at(path.display().to_string())
            .hint("is it there, writable, and has its file system room for a file of this size?")
    })
}

/// Size and allocated bytes, as they are now.
pub fn sizes(spec: &VolumeSpec) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    match &spec.backing {
        Backing::Null => (spec.size.unwrap_or(0), 0),
        Backing::Path { path } => match std::fs::metadata(path) {
            Ok(found) if found.is_file() => (found.len(), found.blocks() * 512),
            Ok(_) => {
                let size = std::fs::File::open(path).and_then(|file| host::file::size(&file)).unwrap_or(0);
                (size, size)
            }
            Err(_) => (0, 0),
        },
    }
}
