//! How many there may be at once, on each node by itself: requests under way of a robot and of a project, and those among them
//! that bring a part of a blob, of an address and of a project. An upload that waits for its client's next request holds no place
//! here; it holds room of the project's quota.

use super::{Limited, Limits, Name, Of};
use crate::app::App;
use crate::pipeline::respond::Refusal;
use portcullis_tenancy::limit::client_address;
use portcullis_tenancy::{ProjectId, RobotId};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// How many there are, by limit and owner. What is not there has none: nothing stays behind.
#[derive(Default)]
pub struct AtOnce(Mutex<HashMap<Key, u32>>);

type Key = (Name, Owner);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Owner {
    Address(IpAddr),
    Robot(RobotId),
    Project(ProjectId),
    Guest(ProjectId, IpAddr),
}

impl AtOnce {
    fn enter(&self, key: Key, most: u32) -> Result<(), u32> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        // Who is at the limit is counted already, so nothing empty stays behind: no limit is 0.
        if *count >= most {
            return Err(most);
        }
        *count = count.saturating_add(1);
        Ok(())
    }

    fn leave(&self, key: &Key) {
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

/// A place among those that there may be at once, until it is dropped.
pub struct Place {
    app: Arc<App>,
    key: Key,
}

impl Limits {
    /// Gives out a place, where there may be so many, or says that there is none. What has no limit needs none, and is not
    /// counted: a limit that is set begins with what comes then.
    pub fn begin(app: &Arc<App>, name: Name, of: Of<'_>, most: Option<u32>) -> Result<Option<Place>, Refusal> {
        let Some(most) = most else { return Ok(None) };
        let owner = match of {
            Of::Address(address) => Owner::Address(client_address(address)),
            Of::Robot(robot) => Owner::Robot(robot.id.clone()),
            Of::Project(project) => Owner::Project(project.id.clone()),
            Of::Guest(project, address) => Owner::Guest(project.id.clone(), client_address(address)),
        };
        let key = (name, owner);
        match app.limits.at_once.enter(key.clone(), most) {
            Ok(()) => Ok(Some(Place { app: Arc::clone(app), key })),
            Err(most) => Err(app.limits.refused(Limited::by_count(name, of, most))),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.app.limits.at_once.leave(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(name: Name, id: &str) -> Key {
        (name, Owner::Project(ProjectId(id.into())))
    }

    #[test]
    fn a_place_is_free_again_when_it_is_left_and_nothing_stays_behind() {
        let counts = AtOnce::default();
        let one = project(Name::UploadsPerProject, "one");
        assert_eq!(counts.enter(one.clone(), 2), Ok(()));
        assert_eq!(counts.enter(one.clone(), 2), Ok(()));
        assert_eq!(counts.enter(one.clone(), 2), Err(2));
        let others = [
            project(Name::UploadsPerProject, "other"),
            project(Name::UnderWayPerProject, "one"),
            (Name::UploadsPerProject, Owner::Robot(RobotId("one".into()))),
        ];
        for other in &others {
            assert_eq!(counts.enter(other.clone(), 1), Ok(()), "it has its own");
        }
        counts.leave(&one);
        assert_eq!(counts.enter(one.clone(), 2), Ok(()));
        assert_eq!(counts.enter(one.clone(), 1), Err(1), "a lower limit holds at once");
        (0..2).for_each(|_| counts.leave(&one));
        // Once more than there are: it is no place of anybody else.
        counts.leave(&one);
        others.iter().for_each(|other| counts.leave(other));
        assert!(counts.0.lock().unwrap().is_empty());
    }
}
