//! A client of QEMU's machine protocol: one command at a time, events kept until asked for.

use crate::{During, Failure, Result};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A command of QEMU answers at once; a busy emulating QEMU may hold its lock for some seconds.
const ANSWER_MAX: Duration = Duration::from_secs(60);

pub struct Qmp {
    line: Mutex<(UnixStream, Receiver<Value>)>,
    events: Arc<(Mutex<Vec<Value>>, Condvar)>,
}

impl Qmp {
    pub fn new(stream: UnixStream) -> Result<Qmp> {
        let reader = stream.try_clone().during("cloning QEMU's socket")?;
        let (sender, replies) = channel();
        let events = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let kept = Arc::clone(&events);
        std::thread::spawn(move || receive(reader, &sender, &kept));
        let qmp = Qmp { line: Mutex::new((stream, replies)), events };
        qmp.call(json!({"execute": "qmp_capabilities"}))?;
        Ok(qmp)
    }

    /// Sends a command and gives back its `return` value.
    pub fn call(&self, command: Value) -> Result<Value> {
        let mut line = self.line.lock().expect("no holder of this lock panics");
        let name = command["execute"].as_str().unwrap_or("?").to_string();
        writeln!(line.0, "{command}").during(format!("sending {name} to QEMU"))?;
        let reply = line.1.recv_timeout(ANSWER_MAX).during(format!("waiting for QEMU's answer to {name}"))?;
        if let Some(error) = reply.get("error") {
            return Err(Failure::new(format!(
                "QEMU refused {name}: {}",
                error["desc"].as_str().unwrap_or("no reason given")
            )));
        }
        Ok(reply["return"].clone())
    }

    /// Waits for an event, also one that came before; events before it are dropped.
    pub fn wait_event(&self, name: &str, timeout: Duration) -> Result<Value> {
        let deadline = Instant::now() + timeout;
        let mut events = self.events.0.lock().expect("no holder of this lock panics");
        loop {
            if let Some(at) = events.iter().position(|event| event["event"] == name) {
                return Ok(events.drain(..=at).next_back().expect("the drained range is not empty"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::new(format!("QEMU reported no {name} within {} s", timeout.as_secs())));
            }
            events = self.events.1.wait_timeout(events, left).expect("no holder of this lock panics").0;
        }
    }
}

fn receive(reader: UnixStream, replies: &Sender<Value>, events: &(Mutex<Vec<Value>>, Condvar)) {
    for line in BufReader::new(reader).lines() {
        let Ok(line) = line else { return };
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        if message.get("event").is_some() {
            events.0.lock().expect("no holder of this lock panics").push(message);
            events.1.notify_all();
        } else if message.get("QMP").is_none() && replies.send(message).is_err() {
            return;
        }
    }
}
