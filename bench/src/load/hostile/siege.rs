//! A healthy session that verifies its blocks, while hostile initiators work on the same target.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Hostile, HostileFigures, HostileLoad, Leash};
use crate::driver::error::{Error, Result};
use crate::driver::iscsi::{Initiator, Options};
use crate::load::disk::{DiskLoad, Pattern};
use crate::load::iscsi::{IscsiFigures, Lun, run};

/// The healthy session uses the lower half of its LUN, and no more than this of it.
const SPAN_MAX_BYTES: u64 = 64 << 20;

#[derive(Debug, Clone)]
pub struct SiegeLoad {
    /// The healthy session's login, and its LUN.
    pub healthy: Options,
    pub healthy_lun: u16,
    /// A login for hostile initiators, and theirs. On another LUN they may do anything to it.
    pub hostile: Options,
    pub hostile_lun: u16,
    pub seconds: f64,
    pub seed: u64,
    /// Hostile connections that are held open without an end.
    pub held: usize,
    /// Commands of the healthy session in flight.
    pub depth: u16,
}

pub struct Siege {
    pub healthy: IscsiFigures,
    pub hostile: HostileFigures,
    /// Why the hostile side could not go on.
    pub unreachable: Option<Error>,
    /// Why no further login succeeded afterwards.
    pub locked_out: Option<Error>,
}

impl Siege {
    /// The healthy session noticed nothing, every login that was right got its answer, and the next
    /// one gets in.
    pub fn is_unnoticed(&self) -> bool {
        self.healthy.is_faultless()
            && self.hostile.stalled == 0
            && self.unreachable.is_none()
            && self.locked_out.is_none()
    }
}

pub fn besiege(load: &SiegeLoad) -> Result<Siege> {
    let mut session = Initiator::login(&load.healthy)?;
    let lun = Lun::find(&mut session, load.healthy_lun)?;
    let span_bytes = (lun.bytes() / 2).min(SPAN_MAX_BYTES);
    let hostile = HostileLoad {
        // What they do against the rules is no fault of the target's.
        options: Options { tolerant: true, ..load.hostile.clone() },
        leash: Leash {
            lun: load.hostile_lun,
            healthy_lun: load.healthy_lun,
            first_block: (span_bytes / u64::from(lun.block_bytes)) as u32,
        },
        seed: load.seed,
        held: load.held,
    };
    let healthy = DiskLoad {
        pattern: Pattern::Verify,
        block_bytes: lun.block_bytes.max(4096),
        depth: load.depth,
        // It is stopped when the hostile ones are done.
        seconds: 1e6,
        poll: false,
        span_bytes,
        seed: load.seed,
        stall: Duration::from_secs(20),
    };
    let (progress, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (healthy, hostile, outcome) = std::thread::scope(|scope| {
        let worker = scope.spawn(|| run(session, &lun, &healthy, &progress, &stop));
        let mut hostile = Hostile::new(&hostile);
        let end = Instant::now() + Duration::from_secs_f64(load.seconds);
        let mut outcome = Ok(());
        while Instant::now() < end && outcome.is_ok() && !worker.is_finished() {
            outcome = hostile.strike();
        }
        stop.store(true, Ordering::Relaxed);
        let figures = worker.join().expect("a load thread does not panic");
        figures.map(|figures| (figures, hostile.figures, outcome))
    })?;
    let locked_out = Initiator::login(&load.healthy).err();
    Ok(Siege { healthy, hostile, unreachable: outcome.err(), locked_out })
}
