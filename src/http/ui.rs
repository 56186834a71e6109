//! Serves the UI in `ui/`. Its files are embedded in the binary.
//!
//! A browser must revalidate a cached file before each use. The `ETag` of a file is the hash of its bytes, and the response
//! for an unchanged file is 304.

use std::borrow::Cow;
use std::sync::LazyLock;

use actix_web::http::header::{
    self, ETag, EntityTag, Header, HeaderName, HeaderValue, IfNoneMatch, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use super::plumbing::middleware::{accept_any_origin, accept_any_origin_and_share};

pub(super) mod docs;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

const INDEX: &str = include_str!("ui/index.html");

macro_rules! files {
    ($($name:literal: $content_type:ident),+ $(,)?) => {
        &[$(($name, $content_type, include_str!(concat!("ui/", $name)))),+]
    };
}

/// The name, the content type and the bytes of each file.
const FILES: &[(&str, &str, &str)] = files![
    "account.js": JS,
    "address.js": JS,
    "api.js": JS,
    "app.js": JS,
    "base.js": JS,
    "bell.js": JS,
    "dom.js": JS,
    "format.js": JS,
    "icon.svg": SVG,
    "icons.js": JS,
    "json.js": JS,
    "parts.js": JS,
    "query.js": JS,
    "row.js": JS,
    "sign-in.js": JS,
    "store.js": JS,
    "style.css": CSS,
    "task.js": JS,
    "tasks-frame.js": JS,
    "tasks.js": JS,
    "timeline.js": JS,
    "visible.js": JS,
    "who.js": JS,
];

/// Forbids inline scripts and styles, resources of other hosts, and the conversion of strings into code or markup.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
    (header::CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-cache"),
];

struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: Cow<'static, str>,
    etag: EntityTag,
}

impl Asset {
    fn new(name: &'static str, content_type: &'static str, bytes: impl Into<Cow<'static, str>>) -> Self {
        let bytes = bytes.into();
        let hash = blake3::hash(bytes.as_bytes()).to_hex();
        Self { name, content_type, bytes, etag: EntityTag::new_strong(hash[..32].to_owned()) }
    }

    fn respond(&self, request: &HttpRequest) -> HttpResponse {
        let is_unchanged = match IfNoneMatch::parse(request) {
            Ok(IfNoneMatch::Any) => true,
            Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|tag| tag.weak_eq(&self.etag)),
            Err(_) => false,
        };
        let mut response = if is_unchanged { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        for (name, value) in HEADERS {
            response.insert_header((name, HeaderValue::from_static(value)));
        }
        response.insert_header(ETag(self.etag.clone()));
        if is_unchanged { response.finish() } else { response.content_type(self.content_type).body(self.bytes.clone()) }
    }
}

/// The page for a server whose routes are below this prefix. All its routes return the same page, and its script chooses the
/// view by the address. Its links are absolute, because the script changes the address without a new page.
fn page_below(prefix: &str) -> Asset {
    match prefix {
        "" => Asset::new("index.html", HTML, INDEX),
        prefix => Asset::new("index.html", HTML, INDEX.replace("=\"/", &format!("=\"{prefix}/"))),
    }
}

static ASSETS: LazyLock<Vec<Asset>> =
    LazyLock::new(|| FILES.iter().map(|&(name, content_type, bytes)| Asset::new(name, content_type, bytes)).collect());

/// The paths of the page: the list of tasks, and one task.
const PAGE_PATHS: [&str; 2] = ["/", "/tasks/{id}"];
/// The path of the files of the page.
const FILE_PATH: &str = "/ui/{file}";

/// Returns the paths of the UI. Each supports `GET` and `HEAD`.
#[cfg(feature = "testing")]
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    PAGE_PATHS.into_iter().chain([FILE_PATH])
}

/// Registers the routes of the UI. `prefix` is that of the scope: empty, or like `/taskbell`.
pub fn configure(cfg: &mut ServiceConfig, prefix: &str) {
    let asset = web::Data::new(page_below(prefix));
    for path in PAGE_PATHS {
        let pages = web::resource(path).app_data(asset.clone()).route(web::get().to(page)).route(web::head().to(page));
        cfg.service(pages.wrap(from_fn(accept_any_origin)));
    }
    let files = web::resource(FILE_PATH).route(web::get().to(file)).route(web::head().to(file));
    cfg.service(files.wrap(from_fn(accept_any_origin_and_share)));
}

async fn page(asset: web::Data<Asset>, request: HttpRequest) -> HttpResponse {
    asset.respond(&request)
}

/// Serves the files of [`FILES`] only. The file system is never read.
async fn file(request: HttpRequest, name: web::Path<String>) -> HttpResponse {
    match ASSETS.iter().find(|asset| asset.name == name.as_str()) {
        Some(asset) => asset.respond(&request),
        None => HttpResponse::NotFound().finish(),
    }
}
