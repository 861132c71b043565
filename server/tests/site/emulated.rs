//! An emulated adapter's connection, by a client of our own: messages in a row without waiting, and a
//! worker that is killed between any two of them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bench::load::random::Random;
use rustix::process::Signal;

use crate::daemon::{Daemon, PATIENCE};

const SITE: &str = "[network.lan]\n[vm.web1.nic0]\nmodel = \"e1000\"\nnetwork = \"lan\"\n";

/// Numbers of vfio-user's commands.
const VERSION: u16 = 1;
const GET_INFO: u16 = 4;
const GET_IRQ_INFO: u16 = 7;
const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;
const NO_REPLY: u32 = 1 << 4;
pub const CONFIG: u32 = 7;

/// 8254x SDM, 13.4.3: the pins of a serial EEPROM, whose state each edge of its clock changes.
const EECD: u64 = 0x10;
const CLOCK: u32 = 1 << 0;
const SELECT: u32 = 1 << 1;
const DATA_IN: u32 = 1 << 2;
const DATA_OUT: u32 = 1 << 3;
const REQUEST: u32 = 1 << 6;
/// Multicast table array: 128 registers that keep what is written.
const MTA: u64 = 0x5200;
pub struct Client {
    pub stream: UnixStream,
    next: u16,
    pub out: Vec<u8>,
}

impl Client {
    pub fn open(daemon: &Daemon) -> Client {
        Self::open_slot(daemon, "web1.nic0")
    }

    pub fn open_slot(daemon: &Daemon, slot: &str) -> Client {
        let path = daemon.socket(slot);
        let stream = daemon.eventually("the slot is offered", || UnixStream::connect(&path).ok());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client { stream, next: 1, out: Vec::new() };
        client.put(VERSION, 0, &[0, 0, 0, 0]);
        let version = client.answers(1).remove(0);
        assert_eq!(version[..4], [0, 0, 0, 0]);
        client
    }

    /// A message for the next flush; gives its id.
    pub fn put(&mut self, command: u16, flags: u32, payload: &[u8]) -> u16 {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.out.extend(id.to_le_bytes());
        self.out.extend(command.to_le_bytes());
        self.out.extend((16 + payload.len() as u32).to_le_bytes());
        self.out.extend(flags.to_le_bytes());
        self.out.extend(0u32.to_le_bytes());
        self.out.extend(payload);
        id
    }

    pub fn put_read(&mut self, region: u32, offset: u64) -> u16 {
        self.put(REGION_READ, 0, &access(offset, region, &[]))
    }

    pub fn put_write(&mut self, region: u32, offset: u64, value: u32) {
        self.put(REGION_WRITE, NO_REPLY, &access(offset, region, &value.to_le_bytes()));
    }

    pub fn flush(&mut self) {
        self.stream.write_all(&self.out).unwrap();
        self.out.clear();
    }

    /// The payloads of so many replies.
    pub fn answers(&mut self, count: usize) -> Vec<Vec<u8>> {
        self.flush();
        (0..count).map(|_| self.answer().1).collect()
    }

    pub fn answer(&mut self) -> (u16, Vec<u8>) {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head).unwrap();
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        assert_eq!((word(8), word(12)), (1, 0), "not an answer without an error");
        let mut payload = vec![0; word(4) as usize - 16];
        self.stream.read_exact(&mut payload).unwrap();
        (u16::from_le_bytes([head[0], head[1]]), payload)
    }

    pub fn read(&mut self, region: u32, offset: u64) -> u32 {
        let id = self.put_read(region, offset);
        self.flush();
        self.value_of(id)
    }

    pub fn value_of(&mut self, id: u16) -> u32 {
        let (answered, payload) = self.answer();
        assert_eq!(answered, id, "an answer is missing, or came twice");
        u32::from_le_bytes(payload[16..20].try_into().unwrap())
    }
}

fn access(offset: u64, region: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = offset.to_le_bytes().to_vec();
    bytes.extend(region.to_le_bytes());
    bytes.extend((data.len().max(4) as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn an_adapter_shows_what_it_is() {
    let daemon = Daemon::start(SITE);
    let mut client = Client::open(&daemon);
    client.put(GET_INFO, 0, &[16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let info = client.answers(1).remove(0);
    // Resettable, a PCI function; nine regions; five kinds of interrupt.
    assert_eq!(info[4..], [3, 0, 0, 0, 9, 0, 0, 0, 5, 0, 0, 0]);
    assert_eq!(client.read(CONFIG, 0), 0x100e_8086);
    let status = daemon.status();
    assert_eq!(status["slots"]["web1.nic0"]["model"], "e1000");
    assert_eq!(status["slots"]["web1.nic0"]["connected"], true);
    // The next client finds the adapter as after power on.
    client.put_write(0, MTA, 0x1234_5678);
    assert_eq!(client.read(0, MTA), 0x1234_5678);
    drop(client);
    assert_eq!(Client::open(&daemon).read(0, MTA), 0);
}

/// Capabilities by their numbers (1: power management, 5: MSI, 10h: PCI Express, 11h: MSI-X), and vectors of
/// MSI and MSI-X.
fn interrupts_of(client: &mut Client) -> (Vec<u8>, [u32; 2]) {
    let mut capabilities = Vec::new();
    let mut at = client.read(CONFIG, 0x34) as u8;
    while at != 0 {
        let [id, next, ..] = client.read(CONFIG, at.into()).to_le_bytes();
        capabilities.push(id);
        at = next;
    }
    let vectors = [1, 2].map(|index: u32| {
        let ask: Vec<u8> = [16, 0, index, 0].into_iter().flat_map(u32::to_le_bytes).collect();
        client.put(GET_IRQ_INFO, 0, &ask);
        let info = client.answers(1).remove(0);
        u32::from_le_bytes(info[12..16].try_into().unwrap())
    });
    (capabilities, vectors)
}

/// Three models have MSI-X, and a slot may go without: for good, whatever becomes of the worker.
#[test]
fn msix_is_there_unless_it_is_left_out() {
    let site = |key: &str| {
        let nic =
            |at: u8, model: &str| format!("[vm.web1.nic{at}]\nmodel = \"{model}\"\nnetwork = \"lan\"\n{key}");
        let disk = format!("[vm.web1.disk0]\nmodel = \"pvscsi\"\n{key}");
        format!("[network.lan]\n{}{}{disk}", nic(0, "e1000e"), nic(1, "vmxnet3"))
    };
    // In the order in which each is chained.
    let own: [(&str, &[u8], u32); 3] = [
        ("web1.nic0", &[0x01, 0x05, 0x10, 0x11], 5),
        ("web1.nic1", &[0x01, 0x10, 0x05, 0x11], 25),
        ("web1.disk0", &[0x01, 0x05, 0x11], 24),
    ];
    let daemon = Daemon::start(&site(""));
    for (slot, capabilities, vectors) in own {
        let found = interrupts_of(&mut Client::open_slot(&daemon, slot));
        assert_eq!(found, (capabilities.to_vec(), [1, vectors]), "{slot}");
    }
    let said = daemon.apply(&site("msix = false\n"));
    assert!(said.status.success(), "{}", said.err);
    let mut clients = own.map(|(slot, ..)| Client::open_slot(&daemon, slot));
    for round in 0..2 {
        for (client, (slot, capabilities, _)) in clients.iter_mut().zip(own) {
            let without = capabilities[..capabilities.len() - 1].to_vec();
            assert_eq!(interrupts_of(client), (without, [1, 0]), "{slot}, round {round}");
        }
        daemon.replace_worker(Signal::KILL);
    }
}

#[test]
fn nonsense_ends_the_connection_and_nothing_else() {
    let daemon = Daemon::start(SITE);
    let mut client = Client::open(&daemon);
    client.stream.write_all(&[0xff; 64]).unwrap();
    assert_eq!(client.stream.read(&mut [0; 16]).unwrap_or(0), 0);
    assert_eq!(Client::open(&daemon).read(CONFIG, 0), 0x100e_8086);
    assert_eq!(daemon.status()["worker"]["restarts"], 0);
}

/// A word of the EEPROM, read by its pins: opcode and address go in bit by bit, then the word comes out.
/// Nothing is waited for before all is sent. Gives the reads.
fn put_word(client: &mut Client, word: u32) -> Vec<u16> {
    let on = REQUEST | SELECT;
    client.put_write(0, EECD, on);
    for at in (0..9).rev() {
        let bit = if (0b110 << 6 | word) >> at & 1 == 0 { on } else { on | DATA_IN };
        for value in [bit, bit | CLOCK, bit] {
            client.put_write(0, EECD, value);
        }
    }
    let mut reads = Vec::new();
    for _ in 0..16 {
        client.put_write(0, EECD, on | CLOCK);
        reads.push(client.put_read(0, EECD));
        client.put_write(0, EECD, on);
    }
    client.put_write(0, EECD, REQUEST);
    client.put_write(0, EECD, 0);
    reads
}

fn word_of(client: &mut Client, reads: Vec<u16>) -> u32 {
    reads.into_iter().fold(0, |word, id| word << 1 | u32::from(client.value_of(id) & DATA_OUT != 0))
}

/// Writes and reads go on in rows while the worker is killed again and again. An edge of the clock
/// that were done twice, or not at all, would shift the word; each read is answered once, in its turn.
#[test]
fn each_access_happens_once_although_the_worker_is_killed() {
    const KILLS: u32 = 12;
    let daemon = Daemon::start(SITE);
    let mut client = Client::open(&daemon);
    let address: Vec<u32> = (0..3)
        .map(|word| {
            let reads = put_word(&mut client, word);
            client.flush();
            word_of(&mut client, reads)
        })
        .collect();
    assert!(address.iter().any(|word| *word != 0 && *word != 0xffff), "{address:x?}");
    let mut random = Random::new(41);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (daemon, over) = (&daemon, &over);
        let killer = scope.spawn(move || {
            let mut random = Random::new(42);
            let mut kills = 0;
            while kills < KILLS {
                std::thread::sleep(Duration::from_micros(random.below(250_000)));
                kills += u32::from(daemon.signal_worker(Signal::KILL));
            }
            over.store(true, Ordering::Relaxed);
        });
        let mut rows = 0u32;
        while !over.load(Ordering::Relaxed) || rows < 100 {
            let mut expected = Vec::new();
            for step in 0..1 + random.below(4) as u32 {
                let word = random.below(3) as u32;
                let bits = put_word(&mut client, word);
                let (register, value) = (MTA + 4 * u64::from(step), rows << 8 | step);
                client.put_write(0, register, value);
                expected.push((bits, word, client.put_read(0, register), value));
            }
            client.flush();
            for (bits, word, id, value) in expected {
                assert_eq!(word_of(&mut client, bits), address[word as usize], "in row {rows}");
                assert_eq!(client.value_of(id), value, "in row {rows}");
            }
            rows += 1;
        }
        killer.join().unwrap();
    });
    // A signal may meet a worker that is dying already.
    assert!(daemon.status()["worker"]["restarts"].as_u64().unwrap() >= u64::from(KILLS) / 2);
    assert_eq!(client.read(CONFIG, 0), 0x100e_8086);
}
