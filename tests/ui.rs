//! The files of the web interface as the server sends them: contents, types, security headers, revalidation and size.

use actix_web::http::{Method, StatusCode, header};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, body::MessageBody, dev::ServiceResponse};
use taskbell::http::ui;

async fn send(request: TestRequest) -> ServiceResponse<impl MessageBody> {
    let app = init_service(App::new().configure(|config| ui::configure(config, ""))).await;
    call_service(&app, request.to_request()).await
}

fn header_of<B>(answer: &ServiceResponse<B>, name: header::HeaderName) -> String {
    answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

fn sources() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/ui");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension != "rs"));
    files.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())).collect()
}

#[actix_web::test]
async fn every_file_of_the_ui_is_served_byte_for_byte_with_its_type_and_the_security_headers() {
    for (name, bytes) in sources() {
        let path = if name == "index.html" { "/".to_owned() } else { format!("/ui/{name}") };
        let answer = send(TestRequest::get().uri(&path)).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let policy = header_of(&answer, header::CONTENT_SECURITY_POLICY);
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(policy.ends_with("require-trusted-types-for 'script'; trusted-types 'none'"), "{policy}");
        assert!(!policy.contains("  ") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(header_of(&answer, header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert_eq!(header_of(&answer, header::REFERRER_POLICY), "no-referrer");
        assert_eq!(header_of(&answer, header::CROSS_ORIGIN_OPENER_POLICY), "same-origin");
        assert_eq!(header_of(&answer, header::CROSS_ORIGIN_RESOURCE_POLICY), "same-origin");
        assert_eq!(header_of(&answer, header::CACHE_CONTROL), "no-cache");
        let kind = match name.rsplit_once('.').unwrap().1 {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            "html" => "text/html; charset=utf-8",
            other => panic!("a file of an unknown type: {other}"),
        };
        assert_eq!(header_of(&answer, header::CONTENT_TYPE), kind, "{path}");
        assert_eq!(read_body(answer).await, bytes, "{path}");
    }
}

#[actix_web::test]
async fn an_unchanged_file_is_answered_304() {
    let first = send(TestRequest::get().uri("/ui/bell.js")).await;
    let tag = header_of(&first, header::ETAG);
    assert!(tag.starts_with('"'), "a strong tag: {tag}");
    let again = send(TestRequest::get().uri("/ui/bell.js").insert_header((header::IF_NONE_MATCH, tag.clone()))).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(header_of(&again, header::ETAG), tag);
    assert!(!header_of(&again, header::CONTENT_SECURITY_POLICY).is_empty());
    assert!(read_body(again).await.is_empty());
    let other = send(TestRequest::get().uri("/ui/bell.js").insert_header((header::IF_NONE_MATCH, "\"else\""))).await;
    assert_eq!(other.status(), StatusCode::OK);
}

#[actix_web::test]
async fn the_page_of_a_task_is_the_same_document_and_head_is_answered() {
    let list = read_body(send(TestRequest::get().uri("/")).await).await;
    let task = read_body(send(TestRequest::get().uri("/tasks/0197aaaa-0000-7000-8000-000000000000")).await).await;
    assert_eq!(list, task);
    for path in ["/", "/tasks/x", "/ui/style.css"] {
        assert_eq!(
            send(TestRequest::default().method(Method::HEAD).uri(path)).await.status(),
            StatusCode::OK,
            "{path}"
        );
    }
}

#[actix_web::test]
async fn a_name_that_is_not_in_the_table_is_not_found() {
    for path in ["/ui/", "/ui/nothing.js", "/ui/..%2f..%2fCargo.toml", "/ui/%2e%2e/ui.rs", "/ui/index.html"] {
        assert_eq!(send(TestRequest::get().uri(path)).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[test]
fn the_ui_names_no_other_host_and_makes_no_markup_from_strings() {
    for (name, bytes) in sources() {
        let text = String::from_utf8(bytes).unwrap().replace("http://www.w3.org/2000/svg", "");
        for forbidden in
            ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
        {
            assert!(!text.contains(forbidden), "{name} holds {forbidden}");
        }
        let shows_text_by_itself = text.contains("textContent = ") || text.contains("createTextNode");
        assert!(
            name == "dom.js" || !shows_text_by_itself,
            "{name} shows text that may hide characters: dom.js marks them"
        );
        assert!(text.lines().count() <= 400, "{name} is too long");
    }
}
