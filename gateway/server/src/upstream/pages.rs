//! How an upstream's list goes on: its `Link: <…>; rel="next"` (RFC 8288), which leads nowhere but to the same list.

use super::Upstream;
use crate::config::PublicUrl;
use http::header::{self, HeaderMap};
use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};

/// What an answer says of the list's next page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextPage {
    /// There is none.
    None,
    /// Where it is: path and query, to be asked of the upstream.
    At(String),
    /// There is one, and it is not to be asked for: its address is another origin's, another path, or the same page again.
    Elsewhere,
}

impl Upstream {
    /// Whether what an answer names is at the upstream's own origin.
    pub fn is_own(&self, uri: &Uri) -> bool {
        is_at(self.origin(), uri)
    }

    /// Where a list goes on that was asked for at `path`, query included: the same path with another query.
    pub fn next_page(&self, headers: &HeaderMap, path: &str) -> NextPage {
        next_page(self.origin(), headers, path)
    }
}

fn next_page(origin: &PublicUrl, headers: &HeaderMap, path: &str) -> NextPage {
    let values = headers.get_all(header::LINK).iter().filter_map(|value| HeaderValue::to_str(value).ok());
    let mut links = values.flat_map(links);
    let Some((target, _)) = links.find(|(_, parameters)| is_next(parameters)) else { return NextPage::None };
    let target = target.parse::<Uri>().ok().filter(|target| is_at(origin, target));
    let next = target.as_ref().and_then(Uri::path_and_query);
    match next {
        Some(next) if Some(next.path()) == path.split('?').next() && next.as_str() != path => {
            NextPage::At(PathAndQuery::as_str(next).to_owned())
        }
        _ => NextPage::Elsewhere,
    }
}

/// The links of one header: target and parameters.
fn links(value: &str) -> impl Iterator<Item = (&str, &str)> {
    value.split('<').skip(1).filter_map(|link| link.split_once('>'))
}

fn is_next(parameters: &str) -> bool {
    parameters.split([';', ',']).filter_map(|parameter| parameter.split_once('=')).any(|(name, value)| {
        let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
        name.trim().eq_ignore_ascii_case("rel") && relations.any(|relation| relation.eq_ignore_ascii_case("next"))
    })
}

fn is_at(origin: &PublicUrl, uri: &Uri) -> bool {
    uri.authority().is_none() || PublicUrl::of_uri(uri).is_some_and(|theirs| theirs == *origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/v2/acme/app/tags/list?n=2";

    fn next(links: &[&str]) -> NextPage {
        let origin = PublicUrl::of_uri(&Uri::from_static("http://127.0.0.1:5000")).unwrap();
        let values = links.iter().map(|link| (header::LINK, HeaderValue::from_str(link).unwrap()));
        next_page(&origin, &values.collect(), PATH)
    }

    #[test]
    fn the_next_page_is_the_same_path_at_the_same_origin() {
        let there = NextPage::At("/v2/acme/app/tags/list?n=2&last=b".to_owned());
        for link in [
            r#"</v2/acme/app/tags/list?n=2&last=b>; rel="next""#,
            "</v2/acme/app/tags/list?n=2&last=b>;rel=next",
            r#"</v2/acme/app/tags/list?n=2&last=b>; title="x"; REL="last Next""#,
            r#"<http://127.0.0.1:5000/v2/acme/app/tags/list?n=2&last=b>; rel="next""#,
            r#"</v2/acme/app/tags/list?n=2>; rel="first", </v2/acme/app/tags/list?n=2&last=b>; rel="next""#,
        ] {
            assert_eq!(next(&[link]), there, "{link}");
        }
        assert_eq!(next(&[r#"</>; rel="first""#, "</v2/acme/app/tags/list?n=2&last=b>; rel=next"]), there);
    }

    #[test]
    fn no_other_place_is_led_to() {
        for target in [
            "http://127.0.0.1:5001/v2/acme/app/tags/list?n=2&last=b",
            "https://127.0.0.1:5000/v2/acme/app/tags/list?n=2&last=b",
            "http://elsewhere/v2/acme/app/tags/list?n=2&last=b",
            "//elsewhere/v2/acme/app/tags/list?n=2&last=b",
            "/v2/globex/app/tags/list?n=2&last=b",
            "/v2/acme/app/tags/list/../../manifests/1.0",
            "/v2/acme/app/tags/list/?last=b",
            PATH,
            "list?last=b",
            "",
        ] {
            assert_eq!(next(&[&format!("<{target}>; rel=\"next\"")]), NextPage::Elsewhere, "{target}");
        }
    }

    #[test]
    fn without_a_link_to_the_next_page_the_list_is_at_its_end() {
        for link in ["", "next", r#"</v2/>; rel="prev""#, r#"</v2/next>; rel="nextish""#, "</v2/>; rev=next", "</v2/"] {
            assert_eq!(next(&[link]), NextPage::None, "{link}");
        }
        assert_eq!(next(&[]), NextPage::None);
    }
}
