//! `/token`: credentials in, a scoped token out (Docker token specification; OAuth 2.0, RFC 6749); and the public keys.

mod narrow;

use crate::app::random;
use crate::body::Body;
use crate::limits::Attempt;
use crate::pipeline::Visit;
use crate::pipeline::admit;
use crate::pipeline::identify::{WRONG_CREDENTIALS, living_projects, login, project_name};
use crate::pipeline::receive::Endpoint;
use crate::pipeline::respond::{self, Refusal};
use crate::pipeline::settle::Meter;
use crate::upstream::RequestBody;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use narrow::{Draft, Narrowed};
use portcullis_oci::challenge::{Authorization, parse_authorization};
use portcullis_oci::scope::{self, MAX_SCOPE_BYTES};
use portcullis_oci::{ErrorCode, ProtocolError, Scope};
use portcullis_tenancy::token::{Access, Bearer, Refresh, carry};
use portcullis_tenancy::{ProjectId, Robot, grant, random_id};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Longest form: all scopes and what goes along.
const MAX_FORM: usize = MAX_SCOPE_BYTES + 16 * 1024;

/// Most scopes of an anonymous token: as many as fit into the token itself at their longest. More would be kept in the
/// store, where nobody who is unknown may write.
const ANONYMOUS_SCOPES: usize = 3;

/// A token request, however it came.
#[derive(Default)]
struct Request {
    is_post: bool,
    service: Option<String>,
    scopes: Vec<String>,
    wants_refresh: bool,
    grant_type: Option<String>,
    username: Option<String>,
    password: Option<String>,
    refresh_token: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    token: String,
    access_token: String,
    expires_in: u64,
    issued_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// A robot and the secret that it showed, or nobody.
type Identity = Option<(Arc<Robot>, Box<str>)>;

/// Answers at the gateway's own endpoints.
pub async fn serve(visit: &Visit, endpoint: &Endpoint, meter: &mut Meter) -> Result<Response<Body>, Refusal> {
    match (endpoint, &visit.head.method) {
        (Endpoint::Jwks, &Method::GET) => {
            let keys = visit.worker.app.key_ring().await?.jwks(visit.now);
            Ok(respond::json(keys.to_string()))
        }
        (Endpoint::Token, &Method::GET) => issue(visit, from_query(visit)?, meter).await,
        (Endpoint::Token, &Method::POST) => issue(visit, from_form(visit).await?, meter).await,
        _ => {
            let message = "the token endpoint takes GET and POST, the key set GET alone";
            let allow = if matches!(endpoint, Endpoint::Token) { vec!["GET", "POST"] } else { vec!["GET"] };
            let error = ProtocolError::new(ErrorCode::Unsupported, message).with_status(StatusCode::METHOD_NOT_ALLOWED);
            Err(error.with_detail(serde_json::json!({"allow": allow})).into())
        }
    }
}

fn from_query(visit: &Visit) -> Result<Request, Refusal> {
    let query = visit.head.uri.query().unwrap_or_default();
    let mut request = Request::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "service" => request.service = Some(value.into_owned()),
            "scope" => request.scopes.push(value.into_owned()),
            "offline_token" => request.wants_refresh = value == "true",
            _ => {}
        }
    }
    if let Some(value) = visit.head.headers.get(header::AUTHORIZATION) {
        match parse_authorization(value) {
            Ok(Authorization::Basic { username, password }) => {
                request.username = Some(username);
                request.password = Some(password);
            }
            Ok(Authorization::Bearer(_)) => {
                return Err(Refusal::Login("the token endpoint wants Basic credentials, not a token".to_owned()));
            }
            Err(error) => return Err(Refusal::Login(error.to_string())),
        }
    }
    Ok(request)
}

async fn from_form(visit: &Visit) -> Result<Request, Refusal> {
    let media_type =
        visit.head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !media_type.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
        let message = "POST to the token endpoint is a form: `Content-Type: application/x-www-form-urlencoded`";
        return Err(ProtocolError::new(ErrorCode::Unsupported, message)
            .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            .into());
    }
    let sent = visit
        .body
        .as_ref()
        .map_or(RequestBody::Empty, |body| RequestBody::Client(body.stream(visit.worker.app.upstream.timeouts())));
    let patience = visit.settings.config.limits.head_timeout;
    let form = timeout(patience, Limited::new(sent, MAX_FORM).collect()).await.ok().and_then(Result::ok);
    let form = form.ok_or_else(|| {
        let message = format!(
            "the form did not arrive whole within {} s, or has more than {MAX_FORM} bytes; ask for fewer scopes at once",
            patience.as_secs()
        );
        Refusal::from(ProtocolError::new(ErrorCode::Unsupported, message).with_status(StatusCode::PAYLOAD_TOO_LARGE))
    })?;
    let mut request = Request { is_post: true, ..Request::default() };
    for (name, value) in form_urlencoded::parse(&form.to_bytes()) {
        let value = value.into_owned();
        match name.as_ref() {
            "service" => request.service = Some(value),
            "scope" => request.scopes.push(value),
            "access_type" => request.wants_refresh = value == "offline",
            "grant_type" => request.grant_type = Some(value),
            "username" => request.username = Some(value),
            "password" => request.password = Some(value),
            "refresh_token" => request.refresh_token = Some(value),
            _ => {}
        }
    }
    Ok(request)
}

async fn issue(visit: &Visit, request: Request, meter: &mut Meter) -> Result<Response<Body>, Refusal> {
    let app = &visit.worker.app;
    if app.store.is_stale() {
        return Err(Refusal::unavailable(
            "the gateway's store has not answered for a while, and nothing is issued unchecked",
        ));
    }
    let tokens = &visit.settings.config.tokens;
    if request.service.as_ref().is_some_and(|service| *service != tokens.service) {
        let message = format!("this gateway issues tokens for the service `{}` alone", tokens.service);
        return Err(ProtocolError::new(ErrorCode::Unsupported, message).with_status(StatusCode::BAD_REQUEST).into());
    }
    let asked = scope::parse_all(request.scopes.iter().map(String::as_str)).map_err(|error| {
        ProtocolError::new(ErrorCode::Unsupported, error.to_string()).with_status(StatusCode::BAD_REQUEST)
    })?;
    if let Some(username) = request.username.as_deref().or(request.refresh_token.as_deref().and(Some("refresh token")))
    {
        meter.claims(username);
    }
    let identity = identify(visit, &request).await;
    app.telemetry.login(match &identity {
        Ok(Some(_)) => "accepted",
        Ok(None) if !request.is_post && !request.scopes.is_empty() => "anonymous",
        Ok(None) | Err(Refusal::Login(_) | Refusal::Protocol(_)) => "refused",
        Err(Refusal::Limited(_)) => "limited",
        Err(_) => "failed",
    });
    let identity = identity?;
    if let Some((robot, _)) = &identity {
        meter.robot(robot);
        admit::admit_login(visit, robot).await?;
    }
    if identity.is_none() && (request.is_post || request.scopes.is_empty()) {
        return Err(Refusal::Login("log in with a robot's user name and token".to_owned()));
    }
    let robot = identity.as_ref().map(|(robot, _)| robot.as_ref());
    let living = living_projects(app, &asked).await?;
    let mut scopes = grant::narrow(&asked, robot, &|name| living.get(name).cloned());
    if robot.is_none() {
        scopes.truncate(ANONYMOUS_SCOPES);
    }
    let draft = Draft { visit, request: &request, robot, projects: &living, request_id: meter.request_id() };
    let Narrowed { scopes, life, warnings } = draft.narrow(&asked, scopes).await?;
    let projects: BTreeMap<Box<str>, ProjectId> = scopes
        .iter()
        .filter_map(project_name)
        .filter_map(|name| living.get(name).map(|project| (name.into(), project.id.clone())))
        .collect();
    let response = answer(visit, &request, identity, scopes, life, projects.into_iter().collect()).await?;
    Ok(respond::with_warnings(response, &warnings))
}

async fn identify(visit: &Visit, request: &Request) -> Result<Identity, Refusal> {
    let app = &visit.worker.app;
    match (request.is_post, request.grant_type.as_deref()) {
        (true, Some("refresh_token")) => {
            let token = request.refresh_token.as_deref().unwrap_or_default();
            match refresh(visit, token).await? {
                Ok(identity) => Ok(Some(identity)),
                // A right one is never made to wait: whose it is is only known afterwards.
                Err(message) => {
                    let rules = &visit.settings.config.limits.rates.logins;
                    app.limits.login_failed(rules, Attempt::Refresh, visit.peer).await?;
                    Err(Refusal::Login(message.to_owned()))
                }
            }
        }
        (true, grant_type) if grant_type != Some("password") => {
            let message = "grant_type is `password` or `refresh_token`";
            Err(ProtocolError::new(ErrorCode::Unsupported, message).with_status(StatusCode::BAD_REQUEST).into())
        }
        _ => match (&request.username, &request.password) {
            (None, None) => Ok(None),
            (username, password) => {
                let username = username.as_deref().unwrap_or_default();
                let password = password.as_deref().unwrap_or_default();
                let identity = login(app, username, password, visit.peer, visit.now).await?;
                identity.map(Some).ok_or_else(|| Refusal::Login(WRONG_CREDENTIALS.to_owned()))
            }
        },
    }
}

/// Whose refresh token it is; the inner error is for the client.
async fn refresh(visit: &Visit, token: &str) -> Result<Result<(Arc<Robot>, Box<str>), &'static str>, Refusal> {
    let app = &visit.worker.app;
    let Ok(Refresh { robot, secret }) = app.key_ring().await?.verify_refresh(token, visit.now) else {
        return Ok(Err("the refresh token is not valid; log in again"));
    };
    let robot = app.store.robot(&robot).await?.filter(|robot| robot.check_use(&secret, visit.peer, visit.now).is_ok());
    let robot = robot.map(|robot| (robot, secret));
    Ok(robot.ok_or("the refresh token's robot or secret is not valid any more; log in again"))
}

async fn answer(
    visit: &Visit,
    request: &Request,
    identity: Identity,
    scopes: Vec<Scope>,
    life: Duration,
    projects: Vec<(Box<str>, ProjectId)>,
) -> Result<Response<Body>, Refusal> {
    let app = &visit.worker.app;
    let grace = visit.settings.config.tokens.upload_grace;
    let after = |time: Duration| visit.now.checked_add(time).map_err(|error| Refusal::Internal(error.to_string()));
    let granted = scopes.iter().map(Scope::to_string).collect::<Vec<_>>().join(" ");
    // A set is looked at as long as a token that carries it may be: for its life, and for an upload's grace after that.
    let (carried, set) =
        carry(scopes, projects, after(life.saturating_add(grace).saturating_add(Duration::from_secs(3600)))?);
    if let Some(set) = set {
        app.store.run(|store| async move { store.add_scope_set(&set).await }).await?;
    }
    let ring = app.key_ring().await?;
    let refresh = match &identity {
        Some((robot, secret)) if request.wants_refresh => {
            Some(ring.sign_refresh(&Refresh { robot: robot.id.clone(), secret: secret.clone() }, visit.now, &random)?)
        }
        _ => None,
    };
    let bearer = match identity {
        None => Bearer::Anonymous,
        Some((robot, secret)) => Bearer::Robot { username: robot.username(), robot: robot.id.clone(), secret },
    };
    let access = Access {
        bearer,
        carried,
        issued_at: visit.now,
        expires_at: after(life)?,
        expired: false,
        id: random_id(&random),
    };
    let token = ring.sign_access(&access, visit.now)?;
    let answer = Answer {
        access_token: token.clone(),
        token,
        expires_in: life.as_secs(),
        issued_at: visit.now.to_string(),
        refresh_token: refresh,
        scope: request.is_post.then_some(granted),
    };
    let body = serde_json::to_vec(&answer).map_err(|error| Refusal::Internal(error.to_string()))?;
    let mut response = respond::json(body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
