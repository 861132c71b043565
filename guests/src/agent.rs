//! The host's end of the agent channel: one line per message, as `guest/agent` describes it.

use crate::{During, Failure, Result, base64};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What a command left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub status: i32,
    /// Standard output and standard error, in the order they were written.
    pub stdout: String,
}

#[derive(Default)]
struct State {
    /// How often the agent said HELLO: once per boot.
    boots: u64,
    finished: HashMap<u64, Output>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

pub struct Agent {
    shared: Arc<Shared>,
    writer: Mutex<UnixStream>,
    next: std::sync::atomic::AtomicU64,
}

/// A command that runs in the guest.
pub struct Job {
    shared: Arc<Shared>,
    id: u64,
    boot: u64,
    command: String,
}

enum Message {
    Hello,
    Done(u64, Output),
}

/// A guest that dies in the middle of a line leaves a fragment before the next HELLO.
fn parse(line: &str) -> Option<Message> {
    if line.rfind("HELLO ").is_some() {
        return Some(Message::Hello);
    }
    let mut words = line.strip_prefix("DONE ")?.split(' ');
    let id = words.next()?.parse().ok()?;
    let status = words.next()?.parse().ok()?;
    let bytes = base64::decode(words.next().unwrap_or("").trim_end())?;
    Some(Message::Done(id, Output { status, stdout: String::from_utf8_lossy(&bytes).into_owned() }))
}

impl Agent {
    pub fn new(stream: UnixStream) -> Result<Agent> {
        let shared = Arc::new(Shared::default());
        let reader = stream.try_clone().during("cloning the agent's socket")?;
        let seen = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(reader);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(count) if count > 0) {
                let message = parse(String::from_utf8_lossy(&line).trim_end());
                line.clear();
                let mut state = seen.lock();
                match message {
                    Some(Message::Hello) => state.boots += 1,
                    Some(Message::Done(id, output)) => {
                        state.finished.insert(id, output);
                    }
                    None => {}
                }
                seen.changed.notify_all();
            }
            seen.lock().closed = true;
            seen.changed.notify_all();
        });
        Ok(Agent { shared, writer: Mutex::new(stream), next: std::sync::atomic::AtomicU64::new(1) })
    }

    pub fn boots(&self) -> u64 {
        self.shared.lock().boots
    }

    /// Waits until the agent has said HELLO `boots` times.
    pub fn wait_boots(&self, boots: u64, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            if state.boots >= boots {
                return Ok(());
            }
            if state.closed {
                return Err(Failure::new("the guest's QEMU ended before the guest was up"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::new(format!("the guest was not up within {} s", timeout.as_secs())));
            }
            state = self.shared.changed.wait_timeout(state, left).expect("no holder of this lock panics").0;
        }
    }

    pub fn spawn(&self, command: &str) -> Result<Job> {
        let id = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let boot = self.boots();
        let line = format!("RUN {id} {}\n", base64::encode(command.as_bytes()));
        self.writer
            .lock()
            .expect("no holder of this lock panics")
            .write_all(line.as_bytes())
            .during("sending a command to the guest")?;
        Ok(Job { shared: Arc::clone(&self.shared), id, boot, command: command.to_string() })
    }
}

impl Job {
    /// The command's output; an error when it takes longer, or when its guest ended or booted anew.
    pub fn wait(self, timeout: Duration) -> Result<Output> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            if let Some(output) = state.finished.remove(&self.id) {
                return Ok(output);
            }
            let told = self.command.lines().next().unwrap_or("");
            if state.closed {
                return Err(Failure::new(format!("the guest ended during: {told}")));
            }
            if state.boots != self.boot {
                return Err(Failure::new(format!("the guest booted anew during: {told}")));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::new(format!("not done within {} s: {told}", timeout.as_secs())));
            }
            state = self.shared.changed.wait_timeout(state, left).expect("no holder of this lock panics").0;
        }
    }

    pub fn finished(&self) -> bool {
        self.shared.lock().finished.contains_key(&self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next_line(peer: &mut BufReader<UnixStream>) -> String {
        let mut line = String::new();
        peer.read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn jobs_may_end_in_any_order_and_die_with_their_boot() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let agent = Agent::new(ours).unwrap();
        let mut guest = theirs.try_clone().unwrap();
        let mut commands = BufReader::new(theirs);
        guest.write_all(b"HELLO 1 5.0\n").unwrap();
        agent.wait_boots(1, Duration::from_secs(5)).unwrap();

        let first = agent.spawn("echo one").unwrap();
        let second = agent.spawn("false").unwrap();
        let third = agent.spawn("sleep 1000").unwrap();
        assert_eq!(next_line(&mut commands), "RUN 1 ZWNobyBvbmU=\n");
        assert_eq!(next_line(&mut commands), "RUN 2 ZmFsc2U=\n");
        guest.write_all(b"DONE 2 1 \nDONE 1 0 b25lCg==\n").unwrap();
        let second = second.wait(Duration::from_secs(5)).unwrap();
        assert_eq!(second, Output { status: 1, stdout: String::new() });
        assert_eq!(first.wait(Duration::from_secs(5)).unwrap().stdout, "one\n");

        guest.write_all(b"DONE 3 0 aGFHELLO 2 5.0\n").unwrap();
        agent.wait_boots(2, Duration::from_secs(5)).unwrap();
        let lost = third.wait(Duration::from_secs(5)).unwrap_err();
        assert_eq!(lost.to_string(), "the guest booted anew during: sleep 1000");
    }
}
