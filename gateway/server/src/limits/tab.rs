//! The bytes of one request, charged to its robot and its project, or the project's guests, while they flow.

use super::{GUESTS, Limits, Name, Of};
use crate::app::App;
use portcullis_tenancy::limit::Rate;
use portcullis_tenancy::{Project, Robot};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many bytes are charged at once: often enough that others see a long transfer's debt while it grows.
const STEP: u64 = 1024 * 1024;

/// What has flowed and is not charged yet; the rest is charged when this is dropped.
pub struct Tab {
    app: Arc<App>,
    robot: Option<(Arc<Robot>, Rate)>,
    project: Option<(Arc<Project>, Rate)>,
    guest: Option<IpAddr>,
    pending: AtomicU64,
}

impl Tab {
    /// A tab of whoever has a limit on bytes; none where nobody has. A guest of the project's pays from its address.
    pub fn open(
        app: &Arc<App>,
        robot: Option<(Arc<Robot>, Rate)>,
        project: Option<(Arc<Project>, Rate)>,
        guest: Option<IpAddr>,
    ) -> Option<Arc<Self>> {
        let counts = robot.is_some() || project.is_some();
        counts.then(|| Arc::new(Self { app: Arc::clone(app), robot, project, guest, pending: AtomicU64::new(0) }))
    }

    /// Bytes that have flowed.
    pub fn add(&self, bytes: usize) {
        let bytes = bytes as u64;
        if self.pending.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) >= STEP {
            self.charge();
        }
    }

    fn charge(&self) {
        let bytes = self.pending.swap(0, Ordering::Relaxed);
        if bytes == 0 {
            return;
        }
        let app = &self.app;
        if let Some((robot, rate)) = &self.robot {
            Limits::charge(app, Name::BytesPerRobot, Of::Robot(robot), *rate, bytes);
        }
        match (&self.project, self.guest) {
            (Some((project, rate)), Some(address)) => {
                Limits::charge(app, Name::GuestBytesPerAddress, Of::Guest(project, address), *rate, bytes);
                Limits::charge(app, Name::GuestBytesPerProject, Of::Project(project), rate.times(GUESTS), bytes);
            }
            (Some((project, rate)), None) => {
                Limits::charge(app, Name::BytesPerProject, Of::Project(project), *rate, bytes)
            }
            (None, _) => {}
        }
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        self.charge();
    }
}
