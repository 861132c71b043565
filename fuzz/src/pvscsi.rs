//! A guest that writes anything to a PVSCSI adapter's registers and into its rings, and a worker that
//! dies now and then.

use std::collections::BTreeSet;

use guest_memory::{Memory, Window};
use pci::{Bars, Function, IrqMode, Lasting, STATE_MAX, Signals};
use pvscsi::{Adapter, Answer, COMMANDS_MAX, Command, Config, HOT_BYTES, Hotplug, SPANS_MAX, Taken};
use request::{Instant, Span};

const MEMORY: usize = 64 << 10;
const STATE: u64 = 0x1000;
const REQUESTS: u64 = 0x2000;
const COMPLETIONS: u64 = 0x3000;
const MESSAGES: u64 = 0x4000;
const LIST: u64 = 0x5000;

const OPS: u8 = 16;

/// The input, from its front; zeroes behind its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let (head, rest) = self.0.split_at(N.min(self.0.len()));
        bytes[..head.len()].copy_from_slice(head);
        self.0 = rest;
        bytes
    }

    fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    fn half(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
}

fn put(memory: &Memory, at: u64, bytes: &[u8]) {
    let at = at.min((MEMORY - bytes.len()) as u64);
    memory.write(Span { offset: at, len: bytes.len() as u32, region: 0 }, bytes).expect("it is memory");
}

fn number(memory: &Memory, at: u64) -> u32 {
    let mut bytes = [0; 4];
    memory.read(Span { offset: at, len: 4, region: 0 }, &mut bytes).expect("it is memory");
    u32::from_le_bytes(bytes)
}

fn order(adapter: &mut Adapter, memory: &Memory, command: u32, words: &[u32]) {
    let now = Instant::from_nanos(1);
    adapter.write(now, memory, 0, 0, &command.to_le_bytes());
    for word in words {
        adapter.write(now, memory, 0, 4, &word.to_le_bytes());
    }
}

fn set_up_rings(adapter: &mut Adapter, memory: &Memory) {
    let mut words = vec![1, 1, (STATE >> 12) as u32, 0];
    for ring in [REQUESTS, COMPLETIONS] {
        words.extend([(ring >> 12) as u32, 0]);
        words.extend([0; 62]);
    }
    order(adapter, memory, 3, &words);
}

fn set_up_messages(adapter: &mut Adapter, memory: &Memory) {
    let mut words = vec![1, 0, (MESSAGES >> 12) as u32, 0];
    words.extend([0; 30]);
    order(adapter, memory, 8, &words);
}

fn successor(hot: &Window, state: &[u8], memory: &Memory, running: &mut BTreeSet<u64>) -> Adapter {
    let mut adapter = Adapter::new(Config::default(), hot.clone());
    adapter.set_irq_mode(IrqMode::MsiX);
    adapter.restore(state);
    adapter.resume(memory);
    running.clear();
    let mut command = Command::default();
    let mut before = 0;
    loop {
        match adapter.next_resumed(memory, &mut command) {
            Taken::Command => {
                check(&command, memory);
                assert!(command.resumed && command.id >> 16 > before, "resumed out of order");
                before = command.id >> 16;
                running.insert(command.id);
            }
            Taken::Ended => {}
            Taken::Empty => return adapter,
        }
    }
}

fn check(command: &Command, memory: &Memory) {
    assert!(command.data.len() <= SPANS_MAX);
    assert!(command.data.iter().all(|span| span.len > 0 && memory.pin(*span).is_some()));
    assert!(command.place.is_some() && (1..=16).contains(&command.cdb.len()));
    assert_eq!(request::total(&command.data), command.offered);
}

pub fn pvscsi(data: &[u8]) {
    let mut input = Input(data);
    let all = Memory::anonymous(MEMORY);
    let hot = Window::anonymous(HOT_BYTES);
    let mut memory = all.clone();
    let mut running = BTreeSet::new();
    let mut adapter = successor(&hot, &[], &memory, &mut running);
    let mut clock = 1_u64;
    while !input.0.is_empty() {
        clock += 50_000;
        let now = Instant::from_nanos(clock);
        match input.byte() % OPS {
            0 => {
                let at = u64::from(input.half());
                adapter.write(now, &memory, 0, at, &input.take::<4>());
            }
            1 => {
                let command = u32::from(input.byte() % 14);
                let words: Vec<u32> = (0..input.byte() % 8).map(|_| input.word()).collect();
                order(&mut adapter, &memory, command, &words);
            }
            2 => put(&all, u64::from(input.half() & !3), &input.take::<4>()),
            3 => set_up_rings(&mut adapter, &memory),
            4 => set_up_messages(&mut adapter, &memory),
            5 => {
                let producer = number(&all, STATE);
                put(&all, REQUESTS + 128 * u64::from(producer % 32), &input.take::<72>());
                put(&all, STATE, &producer.wrapping_add(1).to_le_bytes());
            }
            6 => {
                let mut command = Command::default();
                for _ in 0..input.byte() {
                    match adapter.next(&memory, &mut command) {
                        Taken::Command => {
                            check(&command, &memory);
                            assert!(running.insert(command.id), "one name for two commands");
                        }
                        Taken::Ended => {}
                        Taken::Empty => break,
                    }
                }
            }
            7 => {
                let (which, residual) = (input.byte(), u64::from(input.half()));
                let ended =
                    Answer::Ended { host_status: 0, scsi_status: which & 2, sense: &[7; 18], residual };
                let answer = if which & 1 == 0 { ended } else { Answer::Aborted };
                if let Some(id) = running.iter().nth(usize::from(which >> 2)).copied() {
                    running.remove(&id);
                    assert!(adapter.complete(&memory, id, &answer));
                    assert!(!adapter.complete(&memory, id, &answer), "it ended twice");
                }
            }
            8 => adapter.publish(now, &memory),
            9 => while adapter.take_task_management(&memory).is_some() {},
            10 => {
                let (target, lun) = (input.byte() % 64, input.half());
                adapter.post_message(Hotplug::Removed { target, lun });
            }
            11 => {
                memory = if input.byte() & 1 == 0 { Memory::empty() } else { all.clone() };
                adapter.memory_changed(&memory);
            }
            12 => adapter = successor(&hot, &adapter.state(), &memory, &mut running),
            13 => {
                let mut state = adapter.state();
                let at = usize::from(input.half()) % state.len();
                state[at] ^= input.byte();
                adapter = successor(&hot, &state, &memory, &mut running);
            }
            14 => {
                let at = LIST + 16 * u64::from(input.byte());
                let [flags, ..] = input.take::<1>();
                put(&all, at, &u64::from(input.half()).to_le_bytes());
                put(&all, at + 8, &u32::from(input.half()).to_le_bytes());
                put(&all, at + 12, &u32::from(flags).to_le_bytes());
            }
            _ => match input.byte() % 4 {
                0 => {
                    adapter.reset();
                    for id in std::mem::take(&mut running) {
                        assert!(!adapter.complete(&memory, id, &Answer::Aborted));
                    }
                }
                1 => adapter.want_kicks(now, &memory),
                2 => adapter.forgo_kicks(&memory),
                _ => adapter.expire(now, &memory),
            },
        }
        let _ = (adapter.interrupts(), adapter.deadline(), adapter.has_work(), adapter.settling());
        assert!(running.len() <= COMMANDS_MAX);
        assert!(adapter.state().len() <= STATE_MAX);
    }
    // Whatever it did, a reset and a set-up bring it back.
    adapter.memory_changed(&all);
    for id in running {
        assert!(adapter.complete(&all, id, &Answer::Aborted));
    }
    all.zero(Span { offset: STATE, len: 4096, region: 0 }).expect("it is memory");
    order(&mut adapter, &all, 1, &[]);
    set_up_rings(&mut adapter, &all);
    while adapter.take_task_management(&all).is_some() {}
    assert!(!adapter.settling());
    put(&all, REQUESTS, &descriptor(9, 0, 512));
    put(&all, STATE, &1_u32.to_le_bytes());
    let mut command = Command::default();
    assert_eq!(adapter.next(&all, &mut command), Taken::Command);
    assert!(adapter.complete(&all, command.id, &Answer::failure(0)));
    adapter.publish(Instant::from_nanos(clock), &all);
    assert_eq!(number(&all, STATE + 12), 1);
    assert_eq!(number(&all, COMPLETIONS), 9);
}

/// READ(10) into the page behind the rings, or along the list.
fn descriptor(context: u64, flags: u32, data_len: u64) -> [u8; 72] {
    let data: u64 = if flags & 1 == 0 { 0x8000 } else { LIST };
    let mut bytes = [0; 72];
    bytes[0..8].copy_from_slice(&context.to_le_bytes());
    bytes[8..16].copy_from_slice(&data.to_le_bytes());
    bytes[16..24].copy_from_slice(&data_len.to_le_bytes());
    bytes[24..32].copy_from_slice(&0xf000_u64.to_le_bytes());
    bytes[32] = 96;
    bytes[36..40].copy_from_slice(&(flags | 1 << 3).to_le_bytes());
    bytes[40] = 0x28;
    bytes[48] = 1;
    bytes[56] = 10;
    bytes[65] = 0x20;
    bytes
}

pub fn seeds() -> Vec<Vec<u8>> {
    // Set up and unmask.
    let mut start = vec![3, 4, 1, 10, 1, 1, 0, 0, 0, 0, 0x10, 0x20, 0xf, 0, 0, 0];
    start.extend([11, 1]);
    let request = |context, flags, len| {
        let mut op = vec![5];
        op.extend(descriptor(context, flags, len));
        op
    };
    let join = |parts: &[&[u8]]| [&start[..], &parts.concat()].concat();
    let one = request(1, 0, 4096);
    let listed = request(2, 1, 1024);
    let list = [14, 0, 0, 0, 0x80, 0, 2, 14, 1, 1, 0x20, 0x50, 0, 0, 14, 2, 0, 0, 0x90, 0, 2];
    let end = [7, 0, 0, 0, 7, 0, 0, 0, 8];
    let abort = [1, 6, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let reset_device = [1, 5, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let config = [
        &[1, 7, 6][..],
        &0xa000_u64.to_le_bytes(),
        &[0, 0, 0, 0, 0x20, 0x21, 0, 0, 0x58, 0x19, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let all = vec![
        join(&[&one, &[6, 9], &end]),
        join(&[&list, &listed, &one, &[6, 9], &end, &[12], &end]),
        join(&[&one, &one, &abort, &[6, 9, 9, 12], &end]),
        join(&[&one, &listed, &[6, 1], &reset_device, &[6, 1, 9, 7, 1, 0, 0, 8, 12], &end]),
        join(&[&one, &[6, 1, 1, 1, 0, 9], &end, &[3], &one, &[6, 1], &end]),
        join(&[&[10, 5, 0, 0, 10, 6, 0x2c, 1, 8, 12, 15, 1, 15, 2, 15, 3, 15, 0]]),
        join(&[&config, &one, &[11, 0, 6, 1, 11, 1, 6, 1, 12, 13, 40, 0, 1], &end]),
    ];
    [all, crate::kept(include_bytes!("../kept/pvscsi"))].concat()
}
