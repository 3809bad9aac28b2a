//! Uploads at once: requests under way that bring a part of a blob. An upload that waits for its client's next request holds no
//! place here; it holds room of the project's quota. They are counted on each node by itself.

use super::{Limited, Limits, Name, Of};
use crate::app::App;
use crate::pipeline::respond::Refusal;
use portcullis_tenancy::limit::client_address;
use portcullis_tenancy::{Project, ProjectId};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// How many there are, by address and by project. What is not there has none: nothing stays behind.
#[derive(Default)]
pub struct Uploads {
    addresses: Counts<IpAddr>,
    projects: Counts<ProjectId>,
}

struct Counts<K>(Mutex<HashMap<K, u32>>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Counts<K> {
    fn enter(&self, key: K, most: Option<u32>) -> Result<(), u32> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        // Who is at the limit is counted already, so nothing empty stays behind.
        if let Some(most) = most.filter(|most| *count >= *most) {
            return Err(most);
        }
        *count = count.saturating_add(1);
        Ok(())
    }

    fn leave(&self, key: &K) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = counts.get_mut(key).map(|count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == Some(0) {
            counts.remove(key);
        }
    }
}

/// One upload under way, until it is dropped.
pub struct Place {
    app: Arc<App>,
    address: IpAddr,
    project: Option<ProjectId>,
}

impl Limits {
    /// Gives an upload a place, or says that there is none. `per_address` and `per_project` are how many there may be.
    pub fn begin_upload(
        app: &Arc<App>,
        peer: IpAddr,
        project: &Project,
        per_address: Option<u32>,
        per_project: Option<u32>,
    ) -> Result<Place, Refusal> {
        let limits = &app.limits;
        let address = client_address(peer);
        limits
            .uploads
            .addresses
            .enter(address, per_address)
            .map_err(|most| limits.refused(Limited::by_uploads(Name::UploadsPerAddress, Of::Address(peer), most)))?;
        // From here on the address's place is given back whatever happens.
        let mut place = Place { app: Arc::clone(app), address, project: None };
        limits
            .uploads
            .projects
            .enter(project.id.clone(), per_project)
            .map_err(|most| limits.refused(Limited::by_uploads(Name::UploadsPerProject, Of::Project(project), most)))?;
        place.project = Some(project.id.clone());
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let uploads = &self.app.limits.uploads;
        uploads.addresses.leave(&self.address);
        if let Some(project) = &self.project {
            uploads.projects.leave(project);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_left_and_nothing_stays_behind() {
        let counts = Counts::<u8>::default();
        assert_eq!(counts.enter(1, Some(2)), Ok(()));
        assert_eq!(counts.enter(1, Some(2)), Ok(()));
        assert_eq!(counts.enter(1, Some(2)), Err(2));
        assert_eq!(counts.enter(2, Some(2)), Ok(()), "another key has its own");
        assert_eq!(counts.enter(1, None), Ok(()), "without a limit it is counted all the same");
        counts.leave(&1);
        assert_eq!(counts.enter(1, Some(3)), Ok(()));
        (0..3).for_each(|_| counts.leave(&1));
        counts.leave(&2);
        counts.leave(&2);
        assert!(counts.0.lock().unwrap().is_empty());
    }
}
