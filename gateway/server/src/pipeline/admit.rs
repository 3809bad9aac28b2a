//! Rates and concurrency → [`Admitted`]. The limit by address is asked before anything else of a request is looked at; those of
//! robot and project once it is known whose it is.

use super::Visit;
use super::authorize::Granted;
use super::respond::Refusal;
use super::settle::Meter;
use crate::limits::{GUESTS, Limits, Lines, Name, Of, Place, PullsLeft, Tab};
use portcullis_oci::Operation;
use portcullis_tenancy::limit::{Ask, Rate};
use portcullis_tenancy::{Robot, grant};
use std::net::IpAddr;
use std::sync::Arc;

/// An upload that has moved so many bytes has begun, and may end whatever is owed. Less is no beginning: it would cost next to
/// nothing to begin a thousand of them while nothing is owed.
const BEGUN: u64 = 1024 * 1024;

/// A project's guests together may have one of so many parts at once of what its robots may.
const GUESTS_PART: u32 = 3;

/// The places that a request has among what may be under way at once. Its answer has them until its end, and so does what is
/// carried out for it, which may go on when the client has gone.
pub struct Places {
    _requests: [Option<Place>; 2],
    _uploads: [Option<Place>; 2],
}

/// An operation that its limits allow. Only this stage makes one.
pub struct Admitted {
    granted: Granted,
    places: Arc<Places>,
    pulls_left: Option<PullsLeft>,
}

impl Admitted {
    /// What was granted.
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// What a pull leaves of the limit on pulls that is nearest to its end.
    pub fn pulls_left(&self) -> Option<PullsLeft> {
        self.pulls_left
    }

    pub(super) fn granted_mut(&mut self) -> &mut Granted {
        &mut self.granted
    }

    /// Its places, which are given back when the last who shares them drops them.
    pub(super) fn places(&self) -> Arc<Places> {
        Arc::clone(&self.places)
    }

    /// What was granted, and its places.
    pub(super) fn into_parts(self) -> (Granted, Arc<Places>) {
        (self.granted, self.places)
    }
}

/// Asks the limit of the client's address. It costs no cryptography, and comes before all that does.
pub async fn admit_address(visit: &Visit) -> Result<(), Refusal> {
    let mut lines = Lines::default();
    let rate = visit.settings.config.limits.rates.requests_per_address;
    lines.add(Name::RequestsPerAddress, Of::Address(visit.peer), rate, Ask::ONE);
    visit.worker.app.limits.ask(&mut lines).await
}

/// Asks a robot's limit on requests about a login: it is the dearest of them.
pub async fn admit_login(visit: &Visit, robot: &Robot) -> Result<(), Refusal> {
    let mut lines = Lines::default();
    let rate = robot.limits.requests.over(visit.settings.config.limits.rates.requests_per_robot);
    lines.add(Name::RequestsPerRobot, Of::Robot(robot), rate, Ask::ONE);
    visit.worker.app.limits.ask(&mut lines).await
}

/// Admits an operation, or says which limit is in the way. Its bytes are charged from here on.
pub async fn admit(visit: &Visit, granted: Granted, meter: &mut Meter) -> Result<Admitted, Refusal> {
    let app = &visit.worker.app;
    let guest = guest(visit, &granted);
    let requests = under_way(visit, &granted, guest.is_some())?;
    let places = Arc::new(Places { _requests: requests, _uploads: upload_places(visit, &granted)? });
    let (robot, project) = (rates_of_robot(visit, &granted), rates_of_project(visit, &granted));
    let brings_from = visit.body.as_ref().and(granted.session()).map(|session| session.offset);
    let asks = Asks::of(granted.operation(), brings_from);
    let mut lines = Lines::default();
    if let Some((robot, rates)) = granted.caller().robot().zip(robot) {
        asks.add(&mut lines, OF_ROBOT, Of::Robot(robot), &rates);
        lines.add(Name::PushesPerRobot, Of::Robot(robot), rates.pushes.filter(|_| asks.is_push), Ask::ONE);
    }
    match (granted.project().zip(project), guest) {
        (Some((project, rates)), None) => {
            asks.add(&mut lines, OF_PROJECT, Of::Project(project), &rates);
            lines.add(Name::PushesPerProject, Of::Project(project), rates.pushes.filter(|_| asks.is_push), Ask::ONE);
        }
        // Guests never push.
        (Some((project, rates)), Some(address)) => {
            asks.add(&mut lines, OF_GUEST, Of::Guest(project, address), &rates);
            asks.add(&mut lines, OF_GUESTS, Of::Project(project), &rates.times(GUESTS));
        }
        (None, _) => {}
    }
    app.limits.ask(&mut lines).await?;
    let pulls_left = PullsLeft::among(&lines);
    let robot = granted.caller().robot().cloned().zip(robot.and_then(|rates| rates.bytes));
    let project = granted.project().cloned().zip(project.and_then(|rates| rates.bytes));
    if let Some(tab) = Tab::open(app, robot, project, guest) {
        if let Some(body) = &visit.body {
            body.charge_to(&tab);
        }
        meter.charge_to(tab);
    }
    Ok(Admitted { granted, places, pulls_left })
}

/// What an operation is to limits, beside being a request.
struct Asks {
    pulls: Option<Ask>,
    is_push: bool,
    /// Whether it waits while there is a debt of bytes. What goes on with an upload that has begun does not: that may end.
    bytes: bool,
}

impl Asks {
    /// `brings_from` is how much an upload has already that this brings more of.
    fn of(operation: &Operation, brings_from: Option<u64>) -> Self {
        let nothing = Self { pulls: None, is_push: false, bytes: false };
        match operation {
            Operation::ManifestPull { .. } => Self { pulls: Some(Ask::ONE), bytes: true, ..nothing },
            Operation::ManifestHead { .. } => Self { pulls: Some(Ask::LOOK), ..nothing },
            Operation::ManifestPush { .. } => Self { is_push: true, ..nothing },
            Operation::BlobPull { .. } | Operation::UploadStart { .. } => Self { bytes: true, ..nothing },
            Operation::UploadChunk { .. } | Operation::UploadFinish { .. } => {
                Self { bytes: brings_from.is_some_and(|offset| offset < BEGUN), ..nothing }
            }
            _ => nothing,
        }
    }

    /// Asks all of it but a push of one owner.
    fn add<'a>(&self, lines: &mut Lines<'a>, [requests, pulls, bytes]: [Name; 3], of: Of<'a>, rates: &InForce) {
        lines.add(requests, of, rates.requests, Ask::ONE);
        lines.add(pulls, of, rates.pulls.filter(|_| self.pulls.is_some()), self.pulls.unwrap_or(Ask::LOOK));
        lines.add(bytes, of, rates.bytes.filter(|_| self.bytes), Ask::ROOM);
    }
}

/// The limits on requests, pulls and bytes of one kind of owner.
const OF_ROBOT: [Name; 3] = [Name::RequestsPerRobot, Name::PullsPerRobot, Name::BytesPerRobot];
const OF_PROJECT: [Name; 3] = [Name::RequestsPerProject, Name::PullsPerProject, Name::BytesPerProject];
const OF_GUEST: [Name; 3] = [Name::GuestRequestsPerAddress, Name::GuestPullsPerAddress, Name::GuestBytesPerAddress];
const OF_GUESTS: [Name; 3] = [Name::GuestRequestsPerProject, Name::GuestPullsPerProject, Name::GuestBytesPerProject];

/// Whence a guest of the project's comes; none where the caller has a grant on it.
fn guest(visit: &Visit, granted: &Granted) -> Option<IpAddr> {
    let robot = granted.caller().robot().map(|robot| &**robot);
    granted.project().filter(|project| grant::is_guest(robot, project)).map(|_| visit.peer)
}

/// What is in force for one robot or project.
#[derive(Clone, Copy)]
struct InForce {
    requests: Option<Rate>,
    pulls: Option<Rate>,
    pushes: Option<Rate>,
    bytes: Option<Rate>,
}

impl InForce {
    fn times(&self, number: u64) -> Self {
        let times = |rate: Option<Rate>| rate.map(|rate| rate.times(number));
        Self {
            requests: times(self.requests),
            pulls: times(self.pulls),
            pushes: times(self.pushes),
            bytes: times(self.bytes),
        }
    }
}

fn rates_of_robot(visit: &Visit, granted: &Granted) -> Option<InForce> {
    let (own, rates) = (&granted.caller().robot()?.limits, &visit.settings.config.limits.rates);
    Some(InForce {
        requests: own.requests.over(rates.requests_per_robot),
        pulls: own.pulls.over(rates.pulls_per_robot),
        pushes: own.pushes.over(rates.pushes_per_robot),
        bytes: own.bytes.over(rates.bytes_per_robot),
    })
}

fn rates_of_project(visit: &Visit, granted: &Granted) -> Option<InForce> {
    let (own, rates) = (&granted.project()?.limits, &visit.settings.config.limits.rates);
    Some(InForce {
        requests: own.requests.over(rates.requests_per_project),
        pulls: own.pulls.over(rates.pulls_per_project),
        pushes: own.pushes.over(rates.pushes_per_project),
        bytes: own.bytes.over(rates.bytes_per_project),
    })
}

/// Places for a request of its robot and its project. A project's guests together have a third of what its robots have, and none
/// of theirs.
fn under_way(visit: &Visit, granted: &Granted, is_guest: bool) -> Result<[Option<Place>; 2], Refusal> {
    let (app, config) = (&visit.worker.app, &visit.settings.config);
    let robot = granted.caller().robot().map(|robot| {
        let most = robot.limits.under_way.over(config.limits.rates.under_way_per_robot);
        Limits::begin(app, Name::UnderWayPerRobot, Of::Robot(robot), most)
    });
    let robot = robot.transpose()?.flatten();
    let project = granted.project().map(|project| {
        let (name, most) = per_project(project.limits.under_way.over(config.under_way_per_project()), is_guest);
        Limits::begin(app, name, Of::Project(project), most)
    });
    Ok([robot, project.transpose()?.flatten()])
}

/// How many a project may have at once of those that its guests, or its robots, ask for, where its robots may have `most`.
fn per_project(most: Option<u32>, is_guest: bool) -> (Name, Option<u32>) {
    if is_guest {
        (Name::GuestUnderWayPerProject, most.map(|most| (most / GUESTS_PART).max(1)))
    } else {
        (Name::UnderWayPerProject, most)
    }
}

/// Places of its address and its project for what brings a part of a blob; none are needed for anything else.
fn upload_places(visit: &Visit, granted: &Granted) -> Result<[Option<Place>; 2], Refusal> {
    let brings = matches!(
        granted.operation(),
        Operation::UploadStart { .. } | Operation::UploadChunk { .. } | Operation::UploadFinish { .. }
    );
    let Some(project) = granted.project().filter(|_| brings && visit.body.is_some()) else { return Ok([None, None]) };
    let (app, rates) = (&visit.worker.app, &visit.settings.config.limits.rates);
    let address = Of::Address(visit.peer);
    let per_project = project.limits.uploads.over(rates.uploads_per_project);
    Ok([
        Limits::begin(app, Name::UploadsPerAddress, address, rates.uploads_per_address)?,
        Limits::begin(app, Name::UploadsPerProject, Of::Project(project), per_project)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_oci::RepositoryName;
    use portcullis_oci::route::SessionToken;

    #[test]
    fn guests_have_a_third_of_the_places_and_one_at_least() {
        for (most, guests) in [(96, 32), (5, 1), (2, 1), (1, 1)] {
            assert_eq!(per_project(Some(most), true), (Name::GuestUnderWayPerProject, Some(guests)));
            assert_eq!(per_project(Some(most), false), (Name::UnderWayPerProject, Some(most)));
        }
        assert_eq!(per_project(None, true).1, None);
    }

    #[test]
    fn an_upload_asks_for_room_until_it_has_begun_and_its_end_without_bytes_never_does() {
        let repository = RepositoryName::parse("acme/app").unwrap();
        let session = SessionToken("token".into());
        let digest = portcullis_oci::Digest::parse(&format!("sha256:{}", "0".repeat(64))).unwrap();
        for operation in [
            Operation::UploadChunk { repository: repository.clone(), session: session.clone() },
            Operation::UploadFinish { repository: repository.clone(), session: session.clone(), digest },
        ] {
            for (brings_from, asks) in
                [(None, false), (Some(0), true), (Some(1), true), (Some(BEGUN - 1), true), (Some(BEGUN), false)]
            {
                let name = operation.name();
                assert_eq!(Asks::of(&operation, brings_from).bytes, asks, "{name} from {brings_from:?}");
            }
        }
        let status = Operation::UploadStatus { repository, session };
        assert!(!Asks::of(&status, Some(0)).bytes);
    }
}
