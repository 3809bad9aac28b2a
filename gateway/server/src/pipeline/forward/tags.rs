//! `tags/list`: asked of the upstream, told under the public name, paged here where the upstream does not.

use super::Errand;
use super::mapping::refusal;
use crate::body::Body;
use crate::pipeline::respond::{self, Refusal};
use crate::upstream::{NextPage, UpstreamError};
use http::header::HeaderValue;
use http::{Response, StatusCode, Uri};
use portcullis_oci::route::Page;
use portcullis_oci::{Operation, Tag};
use serde::{Deserialize, Serialize};

/// Most pages of the upstream's that make one list.
const MAX_PAGES: usize = 1000;

#[derive(Deserialize)]
struct Theirs {
    /// `null` where an upstream has no tags (Distribution 2.x).
    tags: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Ours<'a> {
    name: &'a str,
    tags: Vec<&'a str>,
}

/// GET.
pub async fn tags(errand: &Errand, page: &Page) -> Result<Response<Body>, Refusal> {
    let limit = errand.visit.settings.config.limits.page_entries;
    let n = page.n.map_or(usize::MAX, |n| n.min(limit) as usize);
    let (mut tags, more) = collect(errand, page, n).await?;
    let more = more || tags.len() > n;
    tags.truncate(n);
    let link = tags
        .last()
        .filter(|_| more)
        .map(|last| next_link(&format!("/v2/{}/tags/list", errand.repository), n, last.as_str()));
    let tags = tags.iter().map(Tag::as_str).collect();
    let body = serde_json::to_vec(&Ours { name: errand.repository.as_str(), tags })
        .map_err(|error| Refusal::Internal(error.to_string()))?;
    Ok(respond::json_list(body, link))
}

/// The upstream's tags after a page's start, in order, its own pages joined until there are `n` at least; and whether it has
/// more.
pub async fn collect(errand: &Errand, page: &Page, n: usize) -> Result<(Vec<Tag>, bool), Refusal> {
    let limit = errand.visit.settings.config.limits.page_entries;
    let mut tags = Vec::new();
    let mut last = page.last.clone();
    let mut more = false;
    for _ in 0..MAX_PAGES {
        let ask = Page { n: page.n.map(|n| n.clamp(1, limit)), last: last.clone() };
        let (batch, goes_on) = ask_upstream(errand, ask).await?;
        // Distribution 2.x knows neither `n` nor `last`: what is before the position is left out here.
        let start = page.last.as_deref();
        tags.extend(batch.into_iter().filter(|tag| start.is_none_or(|start| tag.as_str() > start)));
        tags.sort();
        tags.dedup();
        more = goes_on;
        let reached = tags.last().map(|tag| tag.as_str().to_owned());
        if !goes_on || tags.len() >= n || reached == last {
            break;
        }
        last = reached;
    }
    Ok((tags, more))
}

async fn ask_upstream(errand: &Errand, page: Page) -> Result<(Vec<Tag>, bool), Refusal> {
    let operation = Operation::TagsList { repository: errand.repository.clone(), page };
    let path = operation.path_and_query(&errand.upstream_name);
    let answer = errand.send(errand.call_to(http::Method::GET, path.clone())).await?;
    if answer.head.status != StatusCode::OK {
        return Err(refusal(errand, answer).await);
    }
    let (parts, body) = answer.whole().await?;
    let theirs: Theirs =
        serde_json::from_slice(&body).map_err(|_| UpstreamError::Odd("its tags list is no tags list".to_owned()))?;
    let tags = theirs.tags.unwrap_or_default().iter().filter_map(|tag| Tag::parse(tag).ok()).collect();
    // Where it says that it goes on is not followed: the next page is asked for by the position reached.
    let goes_on = errand.visit.worker.app.upstream.next_page(&parts.headers, &path) != NextPage::None;
    Ok((tags, goes_on))
}

/// `</v2/…?n=…&last=…>; rel="next"` (RFC 8288)
pub fn next_link(path: &str, n: usize, last: &str) -> HeaderValue {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("n", &n.to_string())
        .append_pair("last", last)
        .finish();
    let uri: Uri = format!("{path}?{query}").parse().unwrap_or_default();
    HeaderValue::try_from(format!("<{uri}>; rel=\"next\"")).unwrap_or_else(|_| HeaderValue::from_static(""))
}
