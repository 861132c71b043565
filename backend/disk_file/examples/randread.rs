//! Random reads of 4 KiB from a file, for comparison with another program on the same file:
//!
//! ```text
//! cargo run --release -p standpipe-disk-file --example randread -- FILE DEPTH [SECONDS]
//! fio --name=x --filename=FILE --rw=randread --bs=4k --direct=1 --ioengine=io_uring --iodepth=DEPTH
//! ```

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant as Clock};

use disk::{Data, Disk};
use guest_memory::Memory;
use host::ring::Ring;
use host::wait::{Interest, Wait};
use request::{Blocks, Identity, Instant, Lba, Operation, Span, Status};
use standpipe_disk_file::{DiskFile, Options};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(path), Some(depth)) = (arguments.first(), arguments.get(1).and_then(|n| n.parse().ok())) else {
        eprintln!("usage: randread FILE DEPTH [SECONDS]");
        std::process::exit(2);
    };
    let seconds = arguments.get(2).and_then(|n| n.parse().ok()).unwrap_or(3);
    if let Err(error) = measure(path.into(), depth, Duration::from_secs(seconds)) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn measure(path: PathBuf, depth: u32, time: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let ring = Rc::new(Ring::new(depth.max(1))?);
    let identity = Identity { naa: [0; 16], serial: String::new(), name: String::new() };
    let options = Options {
        path,
        read_only: true,
        block_size: 4096,
        physical_block_size: None,
        direct: true,
        identity,
        patience: Duration::ZERO,
    };
    let mut disk = DiskFile::open(Rc::clone(&ring), options)?;
    let blocks = disk.facts().blocks.0;
    let memory = Memory::anonymous(depth as usize * 4096);
    let mut wait = Wait::new(4)?;
    wait.add(ring.as_fd(), 0, Interest::READ)?;
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let now = Instant::default();
    let (mut free, mut ready): (Vec<u32>, Vec<_>) = ((0..depth).collect(), Vec::new());
    let (mut done, mut failed) = (0u64, 0u64);
    let begin = Clock::now();
    while begin.elapsed() < time {
        for tag in free.drain(..) {
            random ^= random >> 12;
            random ^= random << 25;
            random ^= random >> 27;
            let block = random.wrapping_mul(0x2545_f491_4f6c_dd1d) % blocks;
            let extent = disk.facts().extent(Lba(block), Blocks(1)).ok_or("the file is empty")?;
            let span = [Span { offset: u64::from(tag) * 4096, len: 4096, region: 0 }];
            disk.submit(now, tag, Operation::Read(extent), Data { memory: &memory, spans: &span });
        }
        ring.submit()?;
        ring.reap(&mut ready);
        if ready.is_empty() {
            wait.wait(None)?;
            ring.reap(&mut ready);
        }
        if !ready.is_empty() {
            ready.clear();
            disk.poll(now, &mut |tag, status| {
                done += 1;
                failed += u64::from(status != Status::Good);
                free.push(tag);
            });
        }
    }
    let iops = done as f64 / begin.elapsed().as_secs_f64();
    println!("depth={depth} direct={} failed={failed} iops={iops:.0}", disk.is_direct());
    Ok(())
}
