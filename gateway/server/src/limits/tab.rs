//! The bytes of one request, charged to its robot and its project while they flow.

use super::{Limits, Name, Of};
use crate::app::App;
use portcullis_tenancy::limit::Rate;
use portcullis_tenancy::{Project, Robot};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many bytes are charged at once: often enough that others see a long transfer's debt while it grows.
const STEP: u64 = 1024 * 1024;

/// What has flowed and is not charged yet; the rest is charged when this is dropped.
pub struct Tab {
    app: Arc<App>,
    robot: Option<(Arc<Robot>, Rate)>,
    project: Option<(Arc<Project>, Rate)>,
    pending: AtomicU64,
}

impl Tab {
    /// A tab of whoever has a limit on bytes; none where nobody has.
    pub fn open(
        app: &Arc<App>,
        robot: Option<(Arc<Robot>, Rate)>,
        project: Option<(Arc<Project>, Rate)>,
    ) -> Option<Arc<Self>> {
        let counts = robot.is_some() || project.is_some();
        counts.then(|| Arc::new(Self { app: Arc::clone(app), robot, project, pending: AtomicU64::new(0) }))
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
        let limits: &Limits = &self.app.limits;
        if let Some((robot, rate)) = &self.robot {
            limits.charge(Name::BytesPerRobot, Of::Robot(robot), *rate, bytes);
        }
        if let Some((project, rate)) = &self.project {
            limits.charge(Name::BytesPerProject, Of::Project(project), *rate, bytes);
        }
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        self.charge();
    }
}
