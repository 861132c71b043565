//! Doorbells that are memory of the guest: the page is given once, and outlives the worker.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use guest_memory::Window;
use rustix::process::Signal;

use crate::daemon::{Daemon, PATIENCE};
use crate::emulated::{CONFIG, Client};

const GET_REGION_INFO: u16 = 5;
const MMAP: u32 = 1 << 2;
const CAPS: u32 = 1 << 3;
/// VMXNET3's BAR 0: a mask for each vector, 8 bytes apart.
const VECTOR_1: u64 = 8;

fn site(model: &str, extra: &str) -> String {
    format!("[network.lan]\n[vm.web1.nic0]\nmodel = \"{model}\"\nnetwork = \"lan\"\n{extra}\n")
}

fn put_region_info(client: &mut Client, region: u32, argsz: u32) -> u16 {
    let mut payload = [argsz, 0, region, 0].map(u32::to_le_bytes).concat();
    payload.extend([0; 16]);
    client.put(GET_REGION_INFO, 0, &payload)
}

/// The next reply, and the descriptors that came with its head, which clients read by itself.
fn reply(client: &mut Client) -> (u16, Vec<u8>, Vec<OwnedFd>) {
    let since = Instant::now();
    let mut head = [0; 16];
    let fds = loop {
        if let Some(taken) = host::socket::take(client.stream.as_fd(), &mut head).unwrap() {
            assert_eq!(taken.len, head.len());
            break taken.fds;
        }
        assert!(since.elapsed() < PATIENCE, "no reply");
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!((word(&head, 8), word(&head, 12)), (1, 0), "not an answer without an error");
    let mut payload = vec![0; word(&head, 4) as usize - head.len()];
    client.stream.read_exact(&mut payload).unwrap();
    (u16::from_le_bytes([head[0], head[1]]), payload, fds)
}

fn word(payload: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(payload[at..at + 4].try_into().unwrap())
}

fn kill(daemon: &Daemon, client: &mut Client) {
    let before = daemon.status()["worker"]["restarts"].as_u64().unwrap();
    daemon.eventually("there is a worker to kill", || daemon.signal_worker(Signal::KILL).then_some(()));
    client.read(CONFIG, 0);
    daemon.eventually("another took over", || {
        (daemon.status()["worker"]["restarts"].as_u64().unwrap() > before).then_some(())
    });
}

#[test]
fn the_masks_of_a_vmxnet3_are_a_page_that_outlives_the_worker() {
    let daemon = Daemon::start(&site("vmxnet3", "doorbells = \"mapped\""));
    let mut client = Client::open(&daemon);
    // Several in a row: the descriptor comes with its own reply.
    let ids = [
        client.put_read(CONFIG, 0),
        put_region_info(&mut client, 0, 32),
        put_region_info(&mut client, 1, 64),
        put_region_info(&mut client, 0, 64),
        client.put_read(CONFIG, 0),
    ];
    client.flush();
    let replies: Vec<_> = (0..ids.len()).map(|_| reply(&mut client)).collect();
    assert_eq!(replies.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), ids);
    let given: Vec<usize> = replies.iter().map(|(.., fds)| fds.len()).collect();
    assert_eq!(given, [0, 0, 0, 1, 0]);
    let (short, other, whole) = (&replies[1].1, &replies[2].1, &replies[3].1);
    assert_eq!((word(short, 0), word(short, 4) & (MMAP | CAPS)), (64, MMAP));
    assert_eq!(word(other, 4) & (MMAP | CAPS), 0);
    assert_eq!(word(whole, 4) & (MMAP | CAPS), MMAP | CAPS);
    // 8 KiB, of which the first page may be mapped.
    assert_eq!((word(whole, 16), word(whole, 40)), (0x2000, 1));
    assert_eq!((word(whole, 48), word(whole, 56)), (0, 0x1000));
    let page = Window::of_file(replies[3].2[0].as_fd(), 0, 4096).unwrap();
    drop(replies);

    // As after power on everything is masked; what is stored there is the register.
    assert_eq!((page.load_u32(0), client.read(0, VECTOR_1)), (1, 1));
    page.store_release_u32(VECTOR_1 as usize, 0);
    assert_eq!(client.read(0, VECTOR_1), 0);
    kill(&daemon, &mut client);
    assert_eq!((client.read(0, VECTOR_1), client.read(0, 0)), (0, 1));
    page.store_release_u32(VECTOR_1 as usize, 1);
    assert_eq!(client.read(0, VECTOR_1), 1);
    client.put_write(0, VECTOR_1, 0);
    assert_eq!((client.read(0, VECTOR_1), page.load_u32(VECTOR_1 as usize)), (0, 0));

    // The successor gives the same page.
    put_region_info(&mut client, 0, 64);
    client.flush();
    let (_, _, fds) = reply(&mut client);
    let same = Window::of_file(fds[0].as_fd(), 0, 4096).unwrap();
    same.store_release_u32(0, 0);
    assert_eq!(page.load_u32(0), 0);
    assert_eq!(daemon.status()["slots"]["web1.nic0"]["counters"]["doorbells_mapped"], 1);

    // The next client gets another: the one before may have its own mapped still.
    drop(client);
    let mut client = Client::open(&daemon);
    assert_eq!(client.read(0, 0), 1);
    page.store_release_u32(VECTOR_1 as usize, 0);
    assert_eq!(client.read(0, VECTOR_1), 1);
}

#[test]
fn what_is_not_to_be_mapped_is_not() {
    for (model, extra) in [("vmxnet3", "doorbells = \"trapped\""), ("vmxnet3", ""), ("e1000", "")] {
        let daemon = Daemon::start(&site(model, extra));
        let mut client = Client::open(&daemon);
        put_region_info(&mut client, 0, 64);
        client.flush();
        let (_, payload, fds) = reply(&mut client);
        assert_eq!((word(&payload, 4) & (MMAP | CAPS), fds.len()), (0, 0), "{model}");
    }
}

#[test]
fn the_kicks_of_a_pvscsi_are_pages_if_the_site_says_so() {
    let disk = "[disk.v]\nstore = \"local\"\nsize = \"16MiB\"\n[vm.web1.disk0]\nmodel = \"pvscsi\"\nvolumes = [\"v\"]\n";
    for (extra, areas) in [("", 0), ("doorbells = \"mapped\"\n", 1)] {
        let daemon = Daemon::start(&format!("{}{extra}", disk));
        let mut client = Client::open_slot(&daemon, "web1.disk0");
        put_region_info(&mut client, 0, 64);
        client.flush();
        let (_, payload, fds) = reply(&mut client);
        assert_eq!(fds.len(), areas);
        if areas == 1 {
            assert_eq!((word(&payload, 48), word(&payload, 56)), (0x3000, 0x2000));
            // The file has them where the BAR has them.
            assert_eq!(host::memfd::size(&fds[0]).unwrap(), 0x5000);
        }
    }
}

/// A driver of PVSCSI that never kicks.
struct SilentDisk {
    /// As long as it is there the device is, too.
    _client: Client,
    memory: Window,
    posted: u32,
    ended: u32,
}

const DMA_MAP: u16 = 2;
const MEMORY: u64 = 64 << 10;
/// Of the guest: rings' state, requests, completions.
const STATE: usize = 0x1000;
const REQUESTS: usize = 0x2000;
const COMPLETIONS: usize = 0x3000;
const REQUESTS_A_PAGE: u32 = 32;
const COMPLETIONS_A_PAGE: u32 = 128;
const COMMAND: u64 = 0;
const COMMAND_DATA: u64 = 4;
const SETUP_RINGS: u32 = 3;

impl SilentDisk {
    fn open(daemon: &Daemon, slot: &str) -> SilentDisk {
        let mut client = Client::open_slot(daemon, slot);
        let file = host::memfd::create("guest", MEMORY).unwrap();
        let memory = Window::of_file(file.as_fd(), 0, MEMORY as usize).unwrap();
        let mut map = [32, 3u32].map(u32::to_le_bytes).concat();
        for field in [0, 0, MEMORY] {
            map.extend(u64::to_le_bytes(field));
        }
        client.put(DMA_MAP, 0, &map);
        host::socket::send(client.stream.as_fd(), &std::mem::take(&mut client.out), &[file.as_fd()]).unwrap();
        client.answer();
        // Memory and bus mastering.
        client.put_write(CONFIG, 4, 6);
        client.put_write(0, COMMAND, SETUP_RINGS);
        let mut words = vec![1, 1, (STATE >> 12) as u32, 0];
        for ring in [REQUESTS, COMPLETIONS] {
            words.push((ring >> 12) as u32);
            words.resize(words.len() + 63, 0);
        }
        for word in words {
            client.put_write(0, COMMAND_DATA, word);
        }
        client.read(0, 8);
        SilentDisk { _client: client, memory, posted: 0, ended: 0 }
    }

    /// TEST UNIT READY to target 0.
    fn post(&mut self) {
        let at = REQUESTS + (self.posted % REQUESTS_A_PAGE) as usize * 128;
        let mut request = [0; 128];
        request[..8].copy_from_slice(&u64::from(self.posted).to_le_bytes());
        // No data; a command of 6 bytes; a simple tag.
        request[36] = 1 << 2;
        (request[56], request[65]) = (6, 0x20);
        self.memory.write_bytes(at, &request);
        self.posted += 1;
        self.memory.store_release_u32(STATE, self.posted);
    }

    /// The next request ends, once and in its turn.
    fn end(&mut self) -> Duration {
        let since = Instant::now();
        while self.memory.load_acquire_u32(STATE + 12) == self.ended {
            assert!(since.elapsed() < PATIENCE, "request {} was not seen", self.ended);
            std::thread::sleep(Duration::from_micros(20));
        }
        let at = COMPLETIONS + (self.ended % COMPLETIONS_A_PAGE) as usize * 32;
        assert_eq!(self.memory.load_u64(at), u64::from(self.ended));
        self.ended += 1;
        self.memory.store_release_u32(STATE + 16, self.ended);
        since.elapsed()
    }
}

fn silent_site(slots: usize, doorbells: &str) -> String {
    let mut text = "# one lane\n[disk.v]\nnull = true\nsize = \"16MiB\"\nshared = true\n".to_owned();
    for vm in 0..slots {
        text += &format!(
            "[vm.web{vm}.disk0]\nmodel = \"pvscsi\"\nvolumes = [\"v\"]\ndoorbells = \"{doorbells}\"\n"
        );
    }
    text
}

#[test]
fn what_a_silent_driver_posts_is_found_although_the_worker_is_killed() {
    let daemon = Daemon::start(&silent_site(1, "mapped"));
    let mut disk = SilentDisk::open(&daemon, "web0.disk0");
    for round in 0..40u64 {
        disk.post();
        disk.end();
        // Sometimes the lane is awake still, sometimes it has slept for long.
        std::thread::sleep(Duration::from_micros(round * round * 20));
        if round % 8 == 3 {
            daemon.signal_worker(Signal::KILL);
        }
    }
    let counters = &daemon.status()["slots"]["web0.disk0"]["counters"];
    assert_eq!(counters["kicks"], 0);
    assert!(counters["looks_unasked"].as_u64().unwrap() > 0, "{counters}");
}

/// What slots cost that nobody uses: figures for docs/decisions/0008.
#[test]
#[ignore = "a measurement: cargo test -p standpipe-server --test site -- --ignored --nocapture at_rest"]
fn the_cost_at_rest() {
    for doorbells in ["trapped", "mapped"] {
        for slots in [1, 64, 256] {
            let daemon = Daemon::start(&silent_site(slots, doorbells));
            let mut disks: Vec<SilentDisk> =
                (0..slots).map(|vm| SilentDisk::open(&daemon, &format!("web{vm}.disk0"))).collect();
            let cpu = || daemon.status()["worker"]["lanes"][0]["cpu_microseconds"].as_u64().unwrap();
            std::thread::sleep(Duration::from_secs(2));
            let (before, since) = (cpu(), Instant::now());
            std::thread::sleep(Duration::from_secs(10));
            let share = (cpu() - before) as f64 / since.elapsed().as_micros() as f64;
            println!("{doorbells} {slots} slots: {:.3} % of a core at rest", share * 100.0);
            if doorbells == "mapped" && slots == 1 {
                for pause in [0, 100, 1000, 20_000] {
                    let mut waits: Vec<Duration> = (0..200)
                        .map(|_| {
                            std::thread::sleep(Duration::from_micros(pause));
                            disks[0].post();
                            disks[0].end()
                        })
                        .collect();
                    waits.sort();
                    println!("after {pause} us: median {:?}, worst {:?}", waits[100], waits[199]);
                }
            }
        }
    }
}

/// What the lane pays for a posted doorbell of an E1000 (TDT), alone and in rows.
#[test]
#[ignore = "a measurement: cargo test -p standpipe-server --test site -- --ignored --nocapture a_posted"]
fn the_cost_of_a_posted_doorbell() {
    const TDT: u64 = 0x3818;
    let daemon = Daemon::start(&format!("# one lane\n{}", site("e1000", "")));
    let mut client = Client::open(&daemon);
    for (row, rows) in [(0, 2000), (1, 2000), (4, 2000), (16, 2000)] {
        let cpu = |client: &mut Client| {
            client.read(CONFIG, 0);
            daemon.status()["worker"]["lanes"][0]["cpu_microseconds"].as_u64().unwrap()
        };
        let before = cpu(&mut client);
        for number in 0..rows {
            (0..row).for_each(|_| client.put_write(0, TDT, number));
            client.flush();
            // Less than the lane spins: it does not sleep in between.
            let since = Instant::now();
            while since.elapsed() < Duration::from_micros(40) {}
        }
        let spent = cpu(&mut client) - before;
        println!("{rows} rows of {row}: {spent} us of the lane");
    }
}
