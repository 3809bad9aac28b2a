//! The way of a request, stage by stage; this file is its table of contents.
//!
//! Each stage's value can be made by that stage alone and is what the next one takes, so that what skipped a check does
//! not compile. Stages never call each other.

pub mod admit;
pub mod authorize;
pub mod forward;
pub mod identify;
pub mod inspect;
pub mod receive;
pub mod reserve;
pub mod respond;
pub mod screen;
pub mod settle;

use crate::app::{Settings, Worker};
use crate::body::Body;
use crate::crowd::Place;
use crate::listen::Visitor;
use crate::telemetry::{RequestId, Stage};
use crate::token_endpoint;
use crate::trace::{self, Current};
use crate::upstream::Inbound;
use authorize::Granted;
use http::request::Parts;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use portcullis_oci::Operation;
use portcullis_policy::Generation;
use portcullis_tenancy::{StoreError, Timestamp};
use receive::Endpoint;
use respond::Refusal;
use settle::Meter;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

/// One request's surroundings: what every stage may look at.
pub struct Visit {
    /// The thread that serves it, and through it the shared state.
    pub worker: Arc<Worker>,
    /// The settings in force when it came.
    pub settings: Arc<Settings>,
    /// Its head.
    pub head: Parts,
    /// Where it came from: the client, as whom we believe says.
    pub peer: IpAddr,
    /// When it came.
    pub now: Timestamp,
    /// Its id.
    pub request_id: RequestId,
    /// What the client sends along, if it does.
    pub body: Option<Arc<Inbound>>,
    /// The policies in force when it came: a request is asked about by these alone, whatever is attached meanwhile.
    pub policies: Arc<Generation>,
    /// Its address's place among the requests under way: a write that goes on without its client keeps it.
    _place: Option<Arc<Place>>,
}

/// Serves one request.
pub async fn serve(
    worker: Arc<Worker>,
    visitor: Visitor,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let settings = worker.app.settings.load_full();
    let (head, body) = request.into_parts();
    let body = Inbound::new(body, head.version);
    let mut meter = Meter::start(&worker, &settings, &head, &visitor, body.as_ref());
    let policies = worker.app.policies.current();
    let Visitor { client: peer, shed, place, .. } = visitor;
    let (now, request_id) = (Timestamp::now(), meter.request_id().clone());
    let visit = Arc::new(Visit { worker, settings, head, peer, now, request_id, body, policies, _place: place });

    let answer = match shed {
        None => answer(&visit, &mut meter).await,
        Some(shed) => Err(Refusal::Shed(shed)),
    };
    meter.leave();
    let response = answer.unwrap_or_else(|refusal| respond::refuse(&visit, refusal, &mut meter));
    let response = if visit.head.method == Method::HEAD { respond::to_head(response) } else { response };
    meter.status(response.status());
    Ok(response.map(|body| body.metered(meter)))
}

/// The limit of the client's address, then whatever the request is for.
async fn answer(visit: &Arc<Visit>, meter: &mut Meter) -> Result<Response<Body>, Refusal> {
    admit::admit_address(visit).await?;
    match receive::receive(visit)? {
        Endpoint::Registry(operation) => {
            meter.operation(operation.name());
            let current = Current { operation: operation.name(), trace: meter.trace() };
            trace::on_behalf_of(current, walk(visit, operation, meter)).await
        }
        endpoint => {
            meter.operation(endpoint.name());
            meter.enter(Stage::Token);
            let current = Current { operation: endpoint.name(), trace: meter.trace() };
            trace::on_behalf_of(current, token_endpoint::serve(visit, &endpoint, meter)).await
        }
    }
}

/// Asks the first two stages once more, for the same project: a body may take long to come, and a tag's lock too, and what was
/// revoked, or deleted and made anew under the same name, meanwhile is not written to.
pub async fn confirm(visit: &Visit, granted: &Granted) -> Result<(), Refusal> {
    let caller = identify::identify(visit, granted.operation(), Timestamp::now()).await?;
    let again = authorize::authorize(visit, caller, granted.operation().clone()).await?;
    let id = |granted: &Granted| granted.project().map(|project| project.id.clone());
    if id(&again) == id(granted) { Ok(()) } else { Err(StoreError::Missing.into()) }
}

/// The stages, in order.
async fn walk(visit: &Arc<Visit>, operation: Operation, meter: &mut Meter) -> Result<Response<Body>, Refusal> {
    meter.enter(Stage::Identify);
    let caller = identify::identify(visit, &operation, visit.now).await?;
    meter.caller(&caller);
    meter.enter(Stage::Authorize);
    let granted = authorize::authorize(visit, caller, operation).await?;
    meter.granted(&granted);
    meter.enter(Stage::Admit);
    let admitted = admit::admit(visit, granted, meter).await?;
    let (pulls_left, places) = (admitted.pulls_left(), admitted.places());
    meter.enter(Stage::Inspect);
    let inspected = inspect::inspect(visit, admitted).await?;
    meter.enter(Stage::Screen);
    let screened = screen::screen(visit, inspected, meter).await?;
    if let Some(granted) = screened.granted_before_waiting() {
        confirm(visit, granted).await?;
    }
    meter.enter(Stage::Reserve);
    let cleared = reserve::reserve(visit, screened).await?;
    meter.enter(Stage::Forward);
    let response = forward::forward(visit, cleared).await?;
    let response = respond::with_pulls_left(response, pulls_left);
    Ok(response.map(|body| body.until_end(Box::new(places))))
}
