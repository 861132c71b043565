//! The seam to the daemon: what the control plane asks of it.

use crate::problem::Problem;
use crate::status::Status;
use crate::step::Step;

/// The part that owns devices, volumes and networks. The calls come from
/// several threads; [`Engine::perform`] never from two at once.
pub trait Engine: Send + Sync {
    /// Makes the step true, or says why it cannot be. A step whose outcome
    /// already holds succeeds. When it fails, it has changed nothing.
    fn perform(&self, step: &Step) -> Result<(), Problem>;

    /// What is going on. Called often (`status --watch`, metrics).
    fn status(&self) -> Status;

    /// Starts the binary on disk in place of the running worker. Returns when
    /// the change is on its way, so that the caller can be answered.
    fn upgrade(&self) -> Result<(), Problem>;

    /// Takes all reservations and registrations of a volume away, as CLEAR of
    /// PERSISTENT RESERVE OUT would (SPC-5, 5.13.11.2.7), also those that are
    /// kept for a loss of power. For what a dead cluster left behind.
    fn clear_reservations(&self, volume: &str) -> Result<(), Problem>;
}
