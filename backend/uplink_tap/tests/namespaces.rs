//! Two network namespaces with a TAP each, and between them nothing but this test, which carries
//! frames from one to the other as a lane would.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use guest_memory::Memory;
use request::{CHECKSUM_NONE, FrameFacts, Gso, Rewrite, Span};
use standpipe_uplink_tap::{Drop as Dropped, UplinkTap};

const ROLE: &str = "STANDPIPE_UPLINK_TEST_ROLE";
const STREAM_BYTES: usize = 24 << 20;

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// A namespace with one TAP in it; deleted at the end.
struct Namespace {
    name: String,
    interface: String,
    queues: Vec<UplinkTap>,
}

impl Namespace {
    fn new(which: &str, queues: u16, address: &str, mtu: u32) -> Result<Self, String> {
        let name = format!("standpipe-{}-{which}", std::process::id());
        ip(&format!("netns add {name}"))?;
        // From here on dropping it cleans up.
        let mut made = Self { name: name.clone(), interface: String::new(), queues: Vec::new() };
        // Two interfaces may come to one namespace, so that no two have one name.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let interface = format!("sp{}n{number}", std::process::id() % 1_000_000);
        let (opened, interface) =
            standpipe_uplink_tap::open(&interface, queues, mtu).map_err(|error| format!("TAP: {error}"))?;
        made.queues = opened;
        made.interface = interface.clone();
        ip(&format!("link set {interface} netns {name}"))?;
        let inside = |arguments: &str| ip(&format!("-n {name} {arguments}"));
        inside("link set lo up")?;
        inside(&format!("link set {interface} up"))?;
        if !address.is_empty() {
            inside(&format!("addr add {address} dev {interface}"))?;
        }
        Ok(made)
    }

    /// This test program again, within the namespace.
    fn run(&self, role: &str) -> Child {
        Command::new("ip")
            .args(["netns", "exec", &self.name])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "stream_peer", "--include-ignored", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.queues.clear();
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn byte(index: usize) -> u8 {
    (index / 7 % 253) as u8
}

/// One end of the stream: run by `Namespace::run` and not by itself.
#[test]
#[ignore = "a part of the other tests, run within a namespace"]
fn stream_peer() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (role, address) = role.split_once(' ').unwrap();
    let mut bytes = vec![0; STREAM_BYTES];
    if role == "listen" {
        let mut stream = TcpListener::bind(address).unwrap().accept().unwrap().0;
        stream.read_exact(&mut bytes).unwrap();
        assert!(bytes.iter().enumerate().all(|(index, &got)| got == byte(index)), "wrong bytes arrived");
        stream.write_all(b"ok").unwrap();
    } else {
        let begin = Instant::now();
        let mut stream = loop {
            match TcpStream::connect(address) {
                Ok(stream) => break stream,
                Err(error) if begin.elapsed() > Duration::from_secs(20) => panic!("{address}: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        bytes.iter_mut().enumerate().for_each(|(index, place)| *place = byte(index));
        stream.write_all(&bytes).unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"ok");
    }
}

#[derive(Default)]
struct Seen {
    frames: u64,
    segmented: u64,
    unsummed: u64,
    longest: usize,
}

/// Carries frames until both children have ended well.
fn carry(left: &mut Namespace, right: &mut Namespace, children: [Child; 2]) -> Seen {
    let memory: Arc<Memory> = Memory::anonymous(1 << 17);
    let mut seen = Seen::default();
    let mut children = children;
    let begin = Instant::now();
    let mut wait = host::wait::Wait::new(8).unwrap();
    for (token, queue) in left.queues.iter().chain(&right.queues).enumerate() {
        wait.add(queue.as_fd(), token as u64, host::wait::Interest::READ).unwrap();
    }
    loop {
        let done = children.each_mut().map(|child| child.try_wait().unwrap());
        if let [Some(one), Some(other)] = done {
            assert!(one.success() && other.success(), "a peer failed: {one} {other}");
            return seen;
        }
        if begin.elapsed() > Duration::from_secs(60) {
            children.iter_mut().for_each(|child| child.kill().unwrap());
            panic!("the stream did not end");
        }
        wait.wait(Some(20_000_000)).unwrap();
        carry_one_way(&mut left.queues, &mut right.queues, &memory, &mut seen);
        carry_one_way(&mut right.queues, &mut left.queues, &memory, &mut seen);
    }
}

fn carry_one_way(from: &mut [UplinkTap], to: &mut [UplinkTap], memory: &Memory, seen: &mut Seen) {
    for (index, queue) in from.iter_mut().enumerate() {
        forward(queue, to, index, memory, seen);
    }
}

fn forward(from: &mut UplinkTap, to: &mut [UplinkTap], index: usize, memory: &Memory, seen: &mut Seen) {
    let to_index = index % to.len();
    from.receive(64, &mut |facts: FrameFacts, frame: &[u8]| {
        seen.frames += 1;
        seen.segmented += u64::from(facts.gso == Gso::TcpV4);
        seen.unsummed += u64::from(facts.checksum_start != CHECKSUM_NONE);
        seen.longest = seen.longest.max(frame.len());
        // The header that the switch judges, and the rest in two pieces.
        let (header, rest) = frame.split_at(frame.len().min(60));
        let cut = rest.len().min(23);
        let spans = [
            Span { offset: 100, len: cut as u32, region: 0 },
            Span { offset: 4099, len: (rest.len() - cut) as u32, region: 0 },
        ];
        assert_eq!(memory.scatter(&spans, rest), rest.len());
        to[to_index].send(facts, header, memory, &spans, Rewrite::Keep).unwrap();
    })
    .unwrap();
}

/// `None`, with the reason on the terminal, where namespaces or TAPs cannot be made.
fn pair(name: &str, queues: u16, addresses: [&str; 2], mtu: u32) -> Option<(Namespace, Namespace)> {
    let left = Namespace::new(&format!("{name}-left"), queues, addresses[0], mtu);
    let both = left
        .and_then(|left| Ok((left, Namespace::new(&format!("{name}-right"), queues, addresses[1], mtu)?)));
    match both {
        Ok(both) => Some(both),
        Err(reason) => {
            println!("skipped: no network namespaces with a TAP here: {reason}");
            None
        }
    }
}

#[test]
fn a_stream_crosses_with_its_segmentation_and_checksums_undone() {
    let addresses = ["10.91.0.1/24", "10.91.0.2/24"];
    let Some((mut left, mut right)) = pair("stream", 2, addresses, 1500) else { return };
    let children = [right.run("listen 10.91.0.2:7001"), left.run("connect 10.91.0.2:7001")];
    let seen = carry(&mut left, &mut right, children);
    println!(
        "frames={} segmented={} longest={} unsummed={}",
        seen.frames, seen.segmented, seen.longest, seen.unsummed
    );
    assert!(seen.segmented > 0 && seen.unsummed > 0 && seen.longest > 1514);
    let frames = |queues: &[UplinkTap], of: fn(&UplinkTap) -> u64| queues.iter().map(of).sum::<u64>();
    let all = |of: fn(&UplinkTap) -> u64| frames(&left.queues, of) + frames(&right.queues, of);
    assert_eq!(all(|queue| queue.counters().received_frames), seen.frames);
    assert_eq!(all(|queue| queue.counters().sent_frames), seen.frames);
}

/// A bridge of the kernel's between two TAPs passes tagged and untagged frames as they are.
#[test]
fn tags_are_taken_out_and_put_in_on_the_way() {
    let Some((mut near, far)) = pair("tags", 1, ["", ""], 1500) else { return };
    // Both into one namespace, with a bridge.
    ip(&format!("-n {} link set {} netns {}", far.name, far.interface, near.name)).unwrap();
    let inside = |arguments: &str| ip(&format!("-n {} {arguments}", near.name));
    if let Err(reason) = inside("link add bridge type bridge") {
        println!("skipped: no bridge here: {reason}");
        return;
    }
    for interface in [&near.interface, &far.interface] {
        inside(&format!("link set {interface} master bridge")).unwrap();
        inside(&format!("link set {interface} up")).unwrap();
    }
    inside("link set bridge up").unwrap();

    // To everybody, from a local address, of the type for experiments (IEEE 802, 9.2.3).
    let mut plain = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7, 0x88, 0xb5];
    plain.extend((0..100).map(|index| index as u8));
    let tag = |tci: [u8; 2]| [&plain[..12], &[0x81, 0x00], &tci, &plain[12..]].concat();
    let (tagged, other) = (tag([0x60, 77]), tag([0, 5]));
    let mut far = far;
    let cases = [
        (&plain, Rewrite::Keep, &plain),
        (&plain, Rewrite::Insert(0x604d), &tagged),
        (&tagged, Rewrite::Strip, &plain),
        (&tagged, Rewrite::Keep, &tagged),
        (&other, Rewrite::Replace(0x604d), &tagged),
    ];
    for (sent, change, expected) in cases {
        let got = through(&mut near.queues[0], &mut far.queues[0], sent, change);
        assert_eq!(&got, expected, "{change:?}");
    }
}

/// Sends a frame until it has come out of the other end: a bridge's ports forward after a while.
fn through(near: &mut UplinkTap, far: &mut UplinkTap, frame: &[u8], change: Rewrite) -> Vec<u8> {
    let memory = Memory::anonymous(1 << 16);
    let (header, rest) = frame.split_at(20);
    let spans = [Span { offset: 1, len: rest.len() as u32, region: 0 }];
    assert_eq!(memory.scatter(&spans, rest), rest.len());
    let begin = Instant::now();
    let mut found = None;
    while found.is_none() {
        assert!(begin.elapsed() < Duration::from_secs(40), "{change:?}: the frame did not come out");
        near.send(FrameFacts::default(), header, &memory, &spans, change).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        far.receive(64, &mut |_, bytes| {
            let of_ours = bytes.ends_with(&frame[frame.len() - 100..]);
            found = found.take().or(of_ours.then(|| bytes.to_vec()));
        })
        .unwrap();
    }
    std::thread::sleep(Duration::from_millis(5));
    far.receive(1024, &mut |_, _| {}).unwrap();
    found.unwrap()
}

#[test]
fn what_cannot_be_sent_has_a_name_and_a_kept_queue_goes_on() {
    let Some((mut left, _right)) = pair("drops", 1, ["10.93.0.1/24", ""], 1500) else { return };
    let memory = Memory::anonymous(1 << 16);
    let queue = &mut left.queues[0];
    let whole = [Span { offset: 0, len: 60, region: 0 }];
    let good = FrameFacts::default();
    let header = [0; 20];
    queue.send(good, &header, &memory, &whole, Rewrite::Keep).unwrap();
    queue.send_bytes(good, &header, &[0; 40], Rewrite::Keep).unwrap();
    assert_eq!(queue.send(good, &header[..13], &memory, &whole, Rewrite::Keep), Err(Dropped::Runt));
    assert_eq!(queue.send(good, &header[..15], &memory, &whole, Rewrite::Strip), Err(Dropped::Runt));
    let foreign = [Span { offset: 0, len: 60, region: 9 }];
    assert_eq!(queue.send(good, &header, &memory, &foreign, Rewrite::Keep), Err(Dropped::BadSpan));
    let crumbs: Vec<Span> = (0..1100).map(|i| Span { offset: i * 2, len: 1, region: 0 }).collect();
    assert_eq!(queue.send(good, &header, &memory, &crumbs, Rewrite::Keep), Err(Dropped::TooManyPieces));
    let absurd = FrameFacts { checksum_start: 40_000, checksum_offset: 16, ..good };
    assert_eq!(queue.send(absurd, &header, &memory, &whole, Rewrite::Keep), Err(Dropped::Refused));

    // The keeper's copy of the descriptor is the same queue.
    let kept = queue.as_fd().try_clone_to_owned().unwrap();
    let mut queue = UplinkTap::adopt(kept).unwrap();
    left.queues.clear();
    assert_eq!(queue.name().unwrap(), left.interface);
    queue.send(good, &header, &memory, &whole, Rewrite::Keep).unwrap();

    ip(&format!("-n {} link set {} down", left.name, left.interface)).unwrap();
    assert_eq!(queue.send(good, &header, &memory, &whole, Rewrite::Keep), Err(Dropped::Down));
    let dropped: u64 = Dropped::ALL.iter().map(|&drop| queue.counters().dropped(drop)).sum();
    assert_eq!((dropped, queue.counters().sent_frames), (1, 1));
}
