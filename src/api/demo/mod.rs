//! The demonstration page: a client of this API in one HTML document, without anything from elsewhere.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use custom_handler::Response;
use custom_handler::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue,
    IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use sha2::{Digest, Sha256};

use crate::store::ETag;

use super::entity_tags::EntityTags;
use super::reply::{insert, not_modified};

const HTML: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
/// Functions and constants of all these files share one scope, that of the page's only script.
const SCRIPT: &str = concat!(
    include_str!("calls.js"),
    include_str!("words.js"),
    include_str!("elements.js"),
    include_str!("diagram.js"),
    include_str!("plot.js"),
    include_str!("stampede.js"),
    include_str!("race.js"),
    include_str!("page.js"),
);

/// The page as it is sent.
struct Page {
    html: String,
    etag: ETag,
    policy: String,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let html = HTML.replace("/* style.css */", STYLE).replace("/* script */", SCRIPT);
    let etag = ETag::new(format!("\"{}\"", URL_SAFE_NO_PAD.encode(Sha256::digest(&html))));
    Page { html, etag, policy: policy() }
});

/// The Content-Security-Policy: the page runs its own script and style and nothing else, calls only the API
/// that served it, and its script cannot turn text into HTML.
fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
}

/// `200`: the page; or `304` if the client has it. Browsers ask each time, so that they never have the page of
/// another version of the handler.
pub(super) fn page(request: &HeaderMap) -> Response {
    let page: &'static Page = &PAGE;
    let mut response = match EntityTags::read(request, IF_NONE_MATCH) {
        Some(tags) if tags.match_weakly(&page.etag) => not_modified(&page.etag),
        _ => Response::new(page.html.as_str().into()),
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    insert(headers, ETAG, page.etag.as_str());
    insert(headers, CONTENT_SECURITY_POLICY, &page.policy);
    response
}
