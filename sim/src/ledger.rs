//! What a worker leaves to its successor of a unit.

use guest_memory::Window;

const STATE_MAX: usize = 64 << 10;

/// Two copies of a state, of which one store makes the valid one.
#[derive(Clone)]
pub struct Ledger(Window);

impl Ledger {
    pub fn new() -> Self {
        Self(Window::anonymous(64 + 2 * STATE_MAX))
    }

    /// Empty before the first `save`.
    pub fn load(&self) -> Vec<u8> {
        let at = 64 + self.0.load_acquire_u32(0) as usize * STATE_MAX;
        let mut bytes = vec![0; (self.0.load_u32(at) as usize).min(STATE_MAX - 8)];
        self.0.read_bytes(at + 8, &mut bytes);
        bytes
    }

    pub fn save(&self, bytes: &[u8]) {
        assert!(bytes.len() <= STATE_MAX - 8, "a state of {} bytes", bytes.len());
        let next = self.0.load_u32(0) ^ 1;
        let at = 64 + next as usize * STATE_MAX;
        self.0.store_u32(at, bytes.len() as u32);
        self.0.write_bytes(at + 8, bytes);
        self.0.store_release_u32(0, next);
    }
}
