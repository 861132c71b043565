//! Anything that a front end may send over its socket.

use arbitrary::{Result, Unstructured};
use vhost_user::{Device, Header, Request, Session, State, encode_reply};

const QUEUES: usize = 4;

pub fn vhost_user(data: &[u8]) {
    // Whatever lies in a ledger is read without a panic as well.
    let _ = State::decode(data);
    let _ = run(&mut Unstructured::new(data));
}

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let mut session = Session::new(QUEUES);
    let device = Device {
        features: input.arbitrary()?,
        protocol_features: 0,
        queues: QUEUES as u16,
        config: &[7; 60],
        base: &|index| index.is_multiple_of(2).then_some(index),
        inflight_bytes: &|size| u64::from(size) * 16 + 64,
    };
    while !input.is_empty() {
        let header = Header {
            request: if input.ratio(1, 16)? { input.arbitrary()? } else { input.int_in_range(0..=45)? },
            flags: 1 | if input.arbitrary()? { 8 } else { 0 },
            size: 0,
        };
        let len = *input.choose(&[0usize, 8, 8, 12, 16, 20, 24, 40, 72, 200])?;
        let payload = input.bytes(len.min(input.len()))?;
        let fds = input.int_in_range(0..=9)?;
        let request = Request::parse(header.request, payload);
        let _ = session.drain(&request);
        let before = session.clone();
        let outcome = session.apply(&device, &request, fds, header.wants_reply());
        assert!(outcome.kept.len() <= fds, "only descriptors that came are kept");
        if let Some(reply) = &outcome.reply {
            let bytes = encode_reply(&header, reply);
            assert!(bytes.len() >= 12);
        }
        // The worker may have died before it took the request from the socket: the successor
        // follows it again, and stands where this one does, but for newer descriptors.
        let mut again = Session::resume(
            State::decode(&session.state.encode()).expect("a state that was encoded just now"),
            QUEUES,
        );
        assert_eq!(again.state, session.state);
        let repeated = again.apply(&device, &request, fds, header.wants_reply());
        assert_eq!(outcome.kept.len(), repeated.kept.len());
        if outcome.fault.is_some() && session.state == before.state {
            assert_eq!(repeated.fault, outcome.fault);
        }
        for index in 0..QUEUES as u32 + 1 {
            let _ = session.is_running(index);
        }
        if input.ratio(1, 64)? {
            session.disconnected();
        }
    }
    Ok(())
}

pub fn seeds() -> Vec<Vec<u8>> {
    // Set-up as QEMU does it, request after request: choices, payload, number of descriptors.
    let message = |request: u8, choice: u8, payload: &[u8], fds: u8| {
        let mut bytes = vec![255, request, 1, choice];
        bytes.extend(payload);
        bytes.extend([fds, 255]);
        bytes
    };
    let mut memory = [0; 40];
    memory[0] = 1;
    memory[16] = 1;
    let mut address = [0; 40];
    address[9] = 0x10;
    let parts = [
        message(1, 0, &[], 0),
        message(15, 0, &[], 0),
        message(16, 1, &[0xff; 8], 0),
        message(3, 0, &[], 0),
        message(2, 1, &[0xff; 8], 0),
        message(5, 7, &memory, 1),
        message(31, 5, &[0; 20], 0),
        message(32, 5, &[1; 20], 1),
        message(8, 1, &[0, 0, 0, 0, 0, 1, 0, 0], 0),
        message(10, 1, &[0; 8], 0),
        message(9, 7, &address, 0),
        message(12, 1, &[0; 8], 1),
        message(13, 1, &[0; 8], 1),
        message(18, 1, &[0, 0, 0, 0, 1, 0, 0, 0], 0),
        message(24, 8, &[0; 72], 0),
        message(11, 1, &[0; 8], 0),
        message(34, 0, &[], 0),
    ];
    let whole: Vec<u8> = [0; 8].into_iter().chain(parts.concat()).collect();
    let mut seeds = vec![whole];
    seeds.extend(parts.iter().map(|part| [&[0; 8][..], part].concat()));
    seeds.push(State::new(QUEUES).encode());
    seeds
}
