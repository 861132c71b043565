//! A connection that sends and receives PDUs, or any bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::pdu::{self, BHS_BYTES, Pdu};
use crate::driver::error::{Error, Result, doing};

/// One TCP connection. Receiving waits at most for the patience that it was made with.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    pub header_digest: bool,
    pub data_digest: bool,
    pub patience: Duration,
    /// What was received, up to `end`, and how much of it was taken.
    received: Vec<u8>,
    taken: usize,
}

impl Wire {
    /// `portal`: `host:port`.
    pub fn connect(portal: &str, patience: Duration) -> Result<Wire> {
        let addresses = portal.to_socket_addrs().map_err(doing("finding the portal's address"))?;
        let mut last = None;
        for address in addresses {
            match TcpStream::connect_timeout(&address, patience) {
                Ok(stream) => return Wire::over(stream, patience),
                Err(error) => last = Some(error),
            }
        }
        let source = last.unwrap_or_else(|| std::io::Error::other(format!("{portal} has no address")));
        Err(Error::System { doing: "connecting to the portal", source })
    }

    /// Over a connection that is there already.
    pub fn over(stream: TcpStream, patience: Duration) -> Result<Wire> {
        stream.set_nodelay(true).map_err(doing("setting TCP_NODELAY"))?;
        Ok(Wire {
            stream,
            header_digest: false,
            data_digest: false,
            patience,
            received: Vec::new(),
            taken: 0,
        })
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.set_write_timeout(Some(self.patience)).map_err(doing("setting a time-out"))?;
        self.stream.write_all(bytes).map_err(lost)
    }

    pub fn send(&mut self, pdu: &Pdu) -> Result<()> {
        self.send_bytes(&pdu.encode(self.header_digest, self.data_digest))
    }

    /// The next PDU. [`Error::Closed`]: there is none, the target has closed the connection.
    pub fn receive(&mut self) -> Result<Pdu> {
        let deadline = Instant::now() + self.patience;
        match self.receive_until(deadline)? {
            Some(pdu) => Ok(pdu),
            None => Err(Error::Stalled(format!("no PDU within {:?}", self.patience))),
        }
    }

    /// The next PDU, or `None` if it is not there, whole, at `deadline`.
    pub fn receive_until(&mut self, deadline: Instant) -> Result<Option<Pdu>> {
        loop {
            if let Some(pdu) = self.take()? {
                return Ok(Some(pdu));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.fill(left)? == 0 {
                return Ok(None);
            }
        }
    }

    /// Bytes of the stream as they are, at most so many; empty: none came in time.
    pub fn receive_bytes(&mut self, max: usize, patience: Duration) -> Result<Vec<u8>> {
        if self.taken == self.received.len() {
            self.fill(patience)?;
        }
        let end = self.received.len().min(self.taken + max);
        let bytes = self.received[self.taken..end].to_vec();
        self.taken = end;
        Ok(bytes)
    }

    /// Waits until the target has closed the connection, throwing away what it still sends.
    /// False: it has not, at the end of the time.
    pub fn is_closed_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            self.taken = self.received.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            match self.fill(left) {
                Ok(_) => {}
                Err(Error::Closed(_)) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Closes our half: nothing more will be sent.
    pub fn finish_sending(&mut self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write).map_err(lost)
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The connection alone, with what was received and not taken.
    pub fn into_stream(self) -> (TcpStream, Vec<u8>) {
        let Wire { stream, received, taken, .. } = self;
        (stream, received[taken..].to_vec())
    }

    /// Receives once; 0: nothing came in time.
    fn fill(&mut self, patience: Duration) -> Result<usize> {
        const CHUNK_BYTES: usize = 64 << 10;
        if self.taken == self.received.len() {
            self.received.clear();
            self.taken = 0;
        }
        // A time-out of zero would mean none.
        let timeout = patience.max(Duration::from_micros(1));
        self.stream.set_read_timeout(Some(timeout)).map_err(doing("setting a time-out"))?;
        let start = self.received.len();
        self.received.resize(start + CHUNK_BYTES, 0);
        let outcome = self.stream.read(&mut self.received[start..]);
        self.received.truncate(start + *outcome.as_ref().unwrap_or(&0));
        match outcome {
            Ok(0) => Err(Error::Closed("the target closed the connection".into())),
            Ok(count) => Ok(count),
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock
                | std::io::ErrorKind::TimedOut
                | std::io::ErrorKind::Interrupted => Ok(0),
                _ => Err(lost(error)),
            },
        }
    }

    /// A whole PDU from what was received.
    fn take(&mut self) -> Result<Option<Pdu>> {
        let bytes = &self.received[self.taken..];
        let Some(bhs) = bytes.first_chunk::<BHS_BYTES>() else { return Ok(None) };
        let head = BHS_BYTES + pdu::ahs_len(bhs);
        let data_at = head + 4 * usize::from(self.header_digest);
        let data_len = pdu::data_len(bhs);
        let data_end = data_at + pdu::padded(data_len);
        let end = data_end + 4 * usize::from(self.data_digest && data_len > 0);
        if bytes.len() < end {
            return Ok(None);
        }
        if self.header_digest && pdu::digest(&bytes[..head]) != bytes[head..data_at] {
            return Err(Error::Session("a header digest is wrong".into()));
        }
        if end > data_end && pdu::digest(&bytes[data_at..data_end]) != bytes[data_end..end] {
            return Err(Error::Session("a data digest is wrong".into()));
        }
        let pdu = Pdu {
            bhs: *bhs,
            ahs: bytes[BHS_BYTES..head].to_vec(),
            data: bytes[data_at..data_at + data_len].to_vec(),
        };
        self.taken += end;
        Ok(Some(pdu))
    }
}

fn lost(error: std::io::Error) -> Error {
    Error::Closed(error.to_string())
}
